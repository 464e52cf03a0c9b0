"""Every edit of one field of a manifest, generated from its JSON: each leaf with another value, each list and map with one entry less or more."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from hindcast.datasets.manifest import decoded
from hindcast.errors import DatasetError
from hindcast.shadow.v1.registry_pb2 import OnDemandFeatureView

FORMATS = Path(__file__).parents[1] / "docs/formats.md"
_TIMES_MIN = 10**12
_HEX = re.compile(r"(sha256:)?[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class Edit:
    """A manifest with one field changed.

    Attributes:
        path: of the field, as `sources[0].files[0].bytes`.
        said: the manifest, edited.
        files: what the file is called before and after the edit, where the field is of a file.
    """

    path: str
    said: Any
    files: frozenset[str]

    @property
    def pattern(self) -> str:
        """The path for every index."""
        starred = re.sub(r"^(libraries|lookups\.log\.modes)\..*", r"\1.*", self.path)
        return re.sub(r"\[\d+\]", "[]", starred)

    def is_named_by(self, problem: str) -> bool:
        """Whether what `verify` says begins with the field, one around it, or the file that it is of."""
        words = problem.split()
        count = next(at for at in range(len(words)) if words[2 * at + 1] != "or")
        heads = words[: 2 * count + 1 : 2]
        return any(
            head in self.files or self.path == head or self.path.startswith((f"{head}.", f"{head}[")) for head in heads
        )


def edits(manifest: Any, *, but: frozenset[str] = frozenset()) -> Iterator[Edit]:
    """All edits of a manifest's JSON that a reader takes for a manifest.

    Args:
        but: keys of the manifest that stay as they are.
    """
    whole = encoded(manifest)
    for path, place in _places({key: value for key, value in manifest.items() if key not in but}, ()):
        for value in _others(place):
            edited = json.loads(whole)
            _put(edited, path, value)
            if _is_read(edited):
                yield Edit(_text(path), edited, _files(manifest, path) | _files(edited, path))


def _places(of: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if path:
        yield path, of
    children = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
    for key, value in children:
        yield from _places(value, (*path, key))


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return [1, "1"] if value is None else [not value]
    if isinstance(value, int):
        return [value + 1, value - 1] if value > _TIMES_MIN else [value + 1]
    if isinstance(value, str):
        is_hex = _HEX.fullmatch(value) is not None
        return [value[:-1] + ("0" if value[-1] != "0" else "1")] if is_hex else [f"{value}x", *_repickled(value)]
    if isinstance(value, list):
        return [value[:-1], [*value, value[-1]]] if value else []
    return [{key: kept for key, kept in value.items() if key != gone} for gone in value]


def _repickled(text: str) -> list[str]:
    """Feast's form of an on-demand view with a byte of its pickled function changed; none of another text."""
    try:
        spec = OnDemandFeatureView.FromString(base64.b64decode(text, validate=True)).spec
    except (ValueError, DecodeError):
        return []
    body = spec.feature_transformation.user_defined_function.body
    if not body:
        return []
    other = body[:-2] + bytes([body[-2] ^ 1]) + body[-1:]
    return [base64.b64encode(base64.b64decode(text).replace(body, other)).decode()]


def _put(of: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        of = of[key]
    of[path[-1]] = value


def _is_read(edited: Any) -> bool:
    """Whether it is a manifest, and one that a build could have written: with all of its keys."""
    try:
        return decoded(encoded(edited), where="here").encoded() == encoded(edited)
    except DatasetError:
        return False


def _text(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _files(of: Any, path: tuple[str | int, ...]) -> frozenset[str]:
    """The paths of the files that a field is of, or has in it."""
    found = set()
    for key in path[:-1]:
        of = of[key]
    if isinstance(of, dict) and isinstance(of.get("path"), str):
        found.add(of["path"])
    of = of[path[-1]]
    entries = of if isinstance(of, list) else of.values() if isinstance(of, dict) else ()
    found |= {one["path"] for one in entries if isinstance(one, dict) and isinstance(one.get("path"), str)}
    return frozenset(found)


def encoded(manifest: Any) -> bytes:
    """A manifest as a build writes it."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def unproven() -> set[str]:
    """The fields which the documentation says that only the id or a signature proves."""
    text = FORMATS.read_text().split("<!-- unproven -->")[1]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {field for row in rows for field in re.findall(r"`([^`]+)`", row)}
