"""What somebody may have meant who wrote a name that there is not."""

from collections.abc import Iterable
from difflib import get_close_matches

_NAME_MAX = 100
"""Characters of a name that are compared: difflib takes quadratic time."""

_NAMES_MAX = 10_000
_CLOSE_MAX = 3
_LISTED_MAX = 10


def hint_of(name: str, names: Iterable[str], *, none: str) -> str:
    """The names nearest to one that there is not; where none is near, those that there are.

    Args:
        names: those that there are; at most 10,000 are looked at.
        none: what to say where there are none at all.
    """
    known = sorted(set(names))
    near = get_close_matches(name[:_NAME_MAX], known[:_NAMES_MAX], n=_CLOSE_MAX)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    more = f" and {len(known) - _LISTED_MAX:,} more" if len(known) > _LISTED_MAX else ""
    return f"there are {', '.join(known[:_LISTED_MAX])}{more}" if known else none
