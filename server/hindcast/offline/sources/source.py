"""What a Feast FileSource means: which files, on this machine or elsewhere, under which pins, and what their folders' names say.

A source is pinned when a run begins: files by size, time and inode, objects by size, time and tag, a Delta table by its version. What
comes later, a push's part for one, belongs to the next run.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from hindcast.errors import SourceError
from hindcast.offline.location import fixed_names, is_hidden, is_pattern, local_path, source_files
from hindcast.offline.sources.delta import DeltaFile, delta_files, pinned_version
from hindcast.offline.sources.folders import folder_columns
from hindcast.offline.sources.objects import (
    ObjectPath,
    ObjectPin,
    check_bucket,
    in_our_words,
    is_folder,
    object_pins,
    shown,
    source_objects,
)
from hindcast.offline.sources.stores import object_path


@dataclass(frozen=True, slots=True)
class FilePin:
    """A file as it was found; a file whose pin differs is another one.

    Attributes:
        path: absolute.
        stands_for: what it was made of, as people know that; empty for a file that is nobody's copy.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int
    stands_for: str = field(default="", compare=False, repr=False)

    @classmethod
    def of(cls, path: Path) -> "FilePin":
        """The pin of a file as it is now.

        Raises:
            OSError: it is not there.
        """
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def open(self) -> Any:
        """The file as one of Arrow's."""
        return pa.OSFile(str(self.path))

    def is_of(self, file: Any) -> bool:  # noqa: ARG002 - what an open file says of itself is for objects
        """Whether a file that was opened by this path is the one that was pinned."""
        return self.is_current()

    def is_current(self) -> bool:
        """Whether the file is still as it was pinned."""
        return FilePin.of(self.path) == self


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        partition: columns that its rows have by the place of the file, one value each.
        deleted: row numbers, ascending, that the source has deleted since; an int64 array, or None.
    """

    pin: FilePin | ObjectPin
    partition: Mapping[str, pa.Scalar] = field(default_factory=dict)
    deleted: pa.Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """The Parquet files of a source, in the order that decides between rows of equal times.

    Attributes:
        name: what messages call the source: its path as the repo writes it.
        schema: of a table that has one apart from its files, whose older files may lack a column; None otherwise.
    """

    name: str
    files: tuple[SourceFile, ...]
    schema: pa.Schema | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaTable:
    """A Delta table at one version.

    Attributes:
        path: of its directory, absolute.
    """

    name: str
    path: Path | ObjectPath
    version: int


def find_source(
    uri: str, file_format: str, *, repo_root: Path, storage_options: Mapping[str, str] | None = None
) -> SourceFiles | DeltaTable:
    """Pin a source as it is now.

    Args:
        uri: of the FileSource, as the repo writes it: a file (with the parts that pushes appended beside it), a directory, a
            pattern, or the directory of a Delta table; on this machine, or where `stores` can reach.
        file_format: `parquet` or `delta`, as in `hindcast.catalog.BatchSource`.
        repo_root: where relative paths begin.
        storage_options: settings for reaching a source elsewhere (`stores`), which come before those of the environment.
    Raises:
        SourceError: there is no such file, it cannot be reached, or it is of another format.
    """
    path = local_path(uri, repo_root=repo_root.absolute()) or object_path(uri, storage_options or {})
    name = shown(uri)
    if file_format == "delta":
        return DeltaTable(name=name, path=path, version=pinned_version(path, name=name))
    if file_format != "parquet":
        raise SourceError(
            f"the source {name!r} has the format {file_format!r}; write it as Parquet files or as a Delta table"
        )
    pins: Sequence[FilePin | ObjectPin] = (
        _object_pins(path, name) if isinstance(path, ObjectPath) else _file_pins(path, name)
    )
    partitions = folder_columns([pin.path.parts[:-1] for pin in pins])
    files = tuple(SourceFile(pin, partition) for pin, partition in zip(pins, partitions, strict=True))
    return SourceFiles(name=name, files=files)


def source_pins(source: SourceFiles | DeltaTable) -> Sequence[FilePin | ObjectPin | DeltaTable]:
    """What a run reads, for its record: every file, or the Delta table with its version."""
    return [source] if isinstance(source, DeltaTable) else [file.pin for file in source.files]


def files_of(source: SourceFiles | DeltaTable) -> SourceFiles:
    """The files of a source; those of a table at its pinned version.

    Raises:
        SourceError: the version cannot be read any more.
    """
    if isinstance(source, SourceFiles):
        return source
    schema, found = delta_files(source.path, source.version, name=source.name)
    try:
        pins = _delta_pins(found, name=source.name)
    except FileNotFoundError as error:
        raise SourceError(
            f"a file of version {source.version} of the Delta table {source.name!r} is gone; it was vacuumed, so run again"
        ) from error
    files = tuple(SourceFile(pin, file.partition, file.deleted) for pin, file in zip(pins, found, strict=True))
    return SourceFiles(name=source.name, files=files, schema=schema)


def _delta_pins(files: Sequence[DeltaFile], *, name: str) -> Sequence[FilePin | ObjectPin]:
    objects = [(file.path, None) for file in files if isinstance(file.path, ObjectPath)]
    if not objects:
        return [FilePin.of(file.path) for file in files if isinstance(file.path, Path)]
    with in_our_words(f"the Delta table {name!r}", passing=FileNotFoundError):
        return object_pins(objects)


def _file_pins(path: Path, uri: str) -> Sequence[FilePin]:
    found = _files(path)
    if not found:
        raise _no_files(uri, is_there=path.is_dir())
    try:
        return [FilePin.of(file) for file in found]
    except OSError as error:
        raise _went_away(uri) from error


def _object_pins(path: ObjectPath, uri: str) -> Sequence[ObjectPin]:
    what = f"the source {uri!r}"
    with in_our_words(what):
        found = source_objects(path)
        if not found:
            check_bucket(path, what=what)
            raise _no_files(uri, is_there=is_folder(path))
        try:
            return object_pins(found)
        except FileNotFoundError as error:
            raise _went_away(uri) from error


def _no_files(uri: str, *, is_there: bool) -> SourceError:
    without = "holds no" if is_there else "matches no"
    there = f"{without} Parquet file" if is_there or is_pattern(uri) else "does not exist"
    return SourceError(f"the source {uri!r} {there}; check the path of the FileSource, or write the files first")


def _went_away(uri: str) -> SourceError:
    return SourceError(f"a file of the source {uri!r} went away while it was listed; run again")


def _files(path: Path) -> Sequence[Path]:
    """The files of a path in their order: those of a pattern by path, those of a directory or a file as `source_files` has them."""
    files = source_files(path)
    if files or path.exists() or not is_pattern(str(path)):
        return files
    fixed = fixed_names(path.parts)
    found = (Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob has no absolute patterns
    matches = [match for match in found if not is_hidden(match.parts[fixed:], path.parts[fixed:])]
    # A folder stands for what is in it, and nothing is read twice.
    below = {file for match in matches if match.is_dir() for file in source_files(match)}
    return sorted(below | {match for match in matches if match.suffix == ".parquet" and match.is_file()})
