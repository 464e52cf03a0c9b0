"""How far a build or a rebuild is, for whoever waits for it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        phase: `frame` (the entity frame is read and kept), `read` (sources are pinned and joined), `write` (rows are digested and written) or
            `evidence` (where each value came from is written, and the manifest). A rebuild that differs goes through `read` and `write`
            once for each input that changed.
        done, total: rows of the set, in this phase. `total` is 0 while it is not known.
    """

    phase: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]
"""Is called in the thread that builds, once for each phase and each row group. What it raises ends the build, and nothing of it is left."""


def silent(progress: Progress) -> None:
    """Tells nobody."""
