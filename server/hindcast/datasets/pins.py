"""Sources as they are: every file with its size and SHA-256, and what has become of files that were pinned before."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hindcast.datasets.known_digests import read_sha256
from hindcast.datasets.manifest import FileRecord, SourceRecord
from hindcast.errors import SourceError
from hindcast.offline.sources.objects import ObjectPin
from hindcast.offline.sources.source import DeltaTable, FilePin, SourceFiles, files_of

_AT_ONCE = 2
"""Files that are hashed side by side, while others read them too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file of a source that is not as it was pinned.

    Attributes:
        how: `changed`, `removed`, `renamed` or `appended`.
        path: as it was pinned; of an appended file its own.
        new_path: of a renamed file; empty for others.
    """

    source: str
    how: str
    path: str
    new_path: str = ""
    views: tuple[str, ...]

    @property
    def now(self) -> str:
        """Where the file is now."""
        return self.new_path or self.path


def file_record(pin: FilePin | ObjectPin, *, root: Path, hashed: Callable[[Path], str] = read_sha256) -> FileRecord:
    """A pinned file with its digest.

    Args:
        hashed: gives the SHA-256 of a file.
    Raises:
        SourceError: it is gone, cannot be read, or is another one by now.
    """
    if isinstance(pin, ObjectPin):
        return FileRecord(path=str(pin.path), bytes=pin.size_bytes, tag=pin.tag)
    try:
        digest = hashed(pin.path)
        is_same = pin.is_current()
    except OSError as error:
        raise SourceError(
            f"{str(pin.path)!r} cannot be read for its digest; check that it is there, and its rights"
        ) from error
    if not is_same:
        raise SourceError(f"{str(pin.path)!r} changed while it was read; run again, when nobody writes to it")
    return FileRecord(path=_path_of(pin, root), bytes=pin.size_bytes, sha256=digest)


def shown_path(path: Path, *, root: Path) -> str:
    """A path as manifests have it: relative to the repo where it is in it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def source_record(
    source: SourceFiles | DeltaTable,
    *,
    name: str,
    path: str,
    views: Sequence[str],
    root: Path,
    hashed: Callable[[Path], str] = read_sha256,
) -> SourceRecord:
    """A source that was pinned, with the digests of its files.

    Args:
        hashed: as in `file_record`; threads share it.
    Raises:
        SourceError: as `file_record`.
    """
    pins = [file.pin for file in files_of(source).files]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        files = tuple(pool.map(partial(file_record, root=root, hashed=hashed), pins))
    version = source.version if isinstance(source, DeltaTable) else None
    return SourceRecord(name=name, path=path, views=tuple(views), version=version, files=files)


def file_changes(before: SourceRecord, after: SourceRecord | None) -> Iterator[FileChange]:
    """What has become of the files of a source, those that were pinned first and in their order, then those that came.

    Args:
        after: None where the source cannot be found any more.
    """
    then = {file.path: file for file in before.files}
    now = {file.path: file for file in after.files} if after is not None else {}
    came = [path for path in now if path not in then]
    moved: dict[str, str] = {}
    for path, file in then.items():
        if path not in now:
            to = next((new for new in came if new not in moved.values() and _is_same(now[new], file)), None)
            if to is not None:
                moved[path] = to
    change = partial(FileChange, source=before.path, views=before.views)
    for path, file in then.items():
        if path in moved:
            yield change(how="renamed", path=path, new_path=moved[path])
        elif path not in now:
            yield change(how="removed", path=path)
        elif not _is_same(now[path], file):
            yield change(how="changed", path=path)
    for path in came:
        if path not in moved.values():
            yield change(how="appended", path=path)


def found_elsewhere(changes: Iterable[FileChange], record: SourceRecord, *, root: Path) -> Iterator[FileChange]:
    """The changes of a source that cannot be found; of a file that is still in its folder under another name it says so.

    Of a Delta table whose version is gone some files can be as they were: these are left out, unless all are.
    """
    known = {file.path: file for file in record.files}
    gone = list(changes)
    changed = [change for change in gone if not _is_there(known[change.path], root)]
    for change in changed or gone:
        to = _moved_within_folder(known[change.path], root) if changed else None
        yield change if to is None else replace(change, how="renamed", new_path=to)


def _is_there(file: FileRecord, root: Path) -> bool:
    path = absolute_path(file.path, root=root)
    if not file.sha256 or not path.is_file():
        return False
    with contextlib.suppress(OSError, SourceError):
        return _is_same(file_record(FilePin.of(path), root=root), file)
    return False


def _moved_within_folder(file: FileRecord, root: Path) -> str | None:
    if not file.sha256:
        return None
    folder = absolute_path(file.path, root=root).parent
    with contextlib.suppress(OSError):
        for other in sorted(folder.iterdir()):
            if other.is_file() and other.stat().st_size == file.bytes:
                found = file_record(FilePin.of(other), root=root)
                if found.sha256 == file.sha256:
                    return found.path
    return None


def _is_same(one: FileRecord, other: FileRecord) -> bool:
    return replace(one, path="") == replace(other, path="")


def only_pinned(source: SourceFiles, record: SourceRecord, changes: Sequence[FileChange], *, root: Path) -> SourceFiles:
    """The files of a source that were pinned, in that order, wherever they are now; others and those that are gone are left out."""
    here = {_path_of(file.pin, root): file for file in source.files}
    moved = {change.path: change.new_path for change in changes if change.how == "renamed"}
    places = [moved.get(file.path, file.path) for file in record.files]
    return replace(source, files=tuple(here[place] for place in places if place in here))


def _path_of(pin: FilePin | ObjectPin, root: Path) -> str:
    if isinstance(pin, ObjectPin):
        return str(pin.path)
    return pin.stands_for or shown_path(pin.path, root=root)


def file_names(pins: Sequence[FilePin | ObjectPin], *, root: Path) -> list[str]:
    """What manifests call some files."""
    return [_path_of(pin, root) for pin in pins]


def absolute_path(shown: str, *, root: Path) -> Path:
    """Where a file of a manifest is."""
    return Path(os.path.normpath(root / shown))


def by_view(records: Sequence[SourceRecord]) -> Mapping[str, SourceRecord]:
    """View -> the record of its source."""
    return {view: record for record in records for view in record.views}
