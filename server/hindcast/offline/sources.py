"""What a Feast FileSource means on this machine: which files, under which pins, and what their folders' names say.

A source is pinned when a run begins: files by size, time and inode, a Delta table by its version. What comes later, a push's part
for one, belongs to the next run.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from hindcast.errors import SourceError
from hindcast.offline.delta import delta_files, pinned_version
from hindcast.offline.location import HIVE_NULL, is_hidden, is_pattern, local_path, source_files

_HIVE_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class FilePin:
    """A file as it was found; a file whose pin differs is another one.

    Attributes:
        path: absolute.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FilePin":
        """The pin of a file as it is now.

        Raises:
            OSError: it is not there.
        """
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        partition: columns that its rows have by the place of the file, one value each.
        deleted: row numbers, ascending, that the source has deleted since; an int64 array, or None.
    """

    pin: FilePin
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
    path: Path
    version: int


def find_source(uri: str, file_format: str, *, repo_root: Path) -> SourceFiles | DeltaTable:
    """Pin a source as it is now.

    Args:
        uri: of the FileSource, as the repo writes it: a file (with the parts that pushes appended beside it), a directory, a
            pattern, or the directory of a Delta table.
        file_format: `parquet` or `delta`, as in `hindcast.catalog.BatchSource`.
        repo_root: where relative paths begin.
    Raises:
        SourceError: there is no such file, it is elsewhere, or it is of another format.
    """
    path = local_path(uri, repo_root=repo_root.absolute())
    if path is None:
        raise SourceError(
            f"the source {uri!r} is not on this machine; copy it here, or mount it, and name a path in the FileSource"
        )
    if file_format == "delta":
        return DeltaTable(name=uri, path=path, version=pinned_version(path, name=uri))
    if file_format != "parquet":
        raise SourceError(
            f"the source {uri!r} has the format {file_format!r}; write it as Parquet files or as a Delta table"
        )
    found = _files(path)
    if not found:
        without = "holds no" if path.is_dir() else "matches no"
        there = f"{without} Parquet file" if path.is_dir() or is_pattern(uri) else "does not exist"
        raise SourceError(f"the source {uri!r} {there}; check the path of the FileSource, or write the files first")
    partitions = _hive_partitions(found)
    try:
        files = tuple(
            SourceFile(FilePin.of(file), partition) for file, partition in zip(found, partitions, strict=True)
        )
    except OSError as error:
        raise SourceError(f"a file of the source {uri!r} went away while it was listed; run again") from error
    return SourceFiles(name=uri, files=files)


def source_pins(source: SourceFiles | DeltaTable) -> Sequence[FilePin | DeltaTable]:
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
        files = tuple(SourceFile(FilePin.of(file.path), file.partition, file.deleted) for file in found)
    except OSError as error:
        raise SourceError(
            f"a file of version {source.version} of the Delta table {source.name!r} is gone; it was vacuumed, so run again"
        ) from error
    return SourceFiles(name=source.name, files=files, schema=schema)


def _files(path: Path) -> Sequence[Path]:
    """The files of a path in their order: those of a pattern by path, those of a directory or a file as `source_files` has them."""
    files = source_files(path)
    if files or path.exists() or not is_pattern(str(path)):
        return files
    found = (Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob has no absolute patterns
    matches = [match for match in found if not _is_passed_over(match, path)]
    # A folder stands for what is in it, and nothing is read twice.
    below = {file for match in matches if match.is_dir() for file in source_files(match)}
    return sorted(below | {match for match in matches if match.suffix == ".parquet" and match.is_file()})


def _is_passed_over(match: Path, pattern: Path) -> bool:
    """Whether a file or folder is, or is in, what `source_files` passes over, unless the pattern names that itself."""
    fixed = sum(1 for _ in takewhile(lambda part: not is_pattern(part), pattern.parts))
    named = [part for part in pattern.parts[fixed:] if is_hidden(part)]
    return any(is_hidden(part) and not any(fnmatchcase(part, name) for name in named) for part in match.parts[fixed:])


def _hive_partitions(files: Sequence[Path]) -> Sequence[Mapping[str, pa.Scalar]]:
    """For each file the columns that its folders name, as in `country=DE/day=2026-01-01`; a column has one type for all files."""
    texts = [_folder_values(file) for file in files]
    names = {name for values in texts for name in values}
    types = {name: _hive_type([values.get(name) for values in texts]) for name in names}
    return [
        {name: pa.scalar(values.get(name)).cast(types[name]) for name in types} if types else {} for values in texts
    ]


def _folder_values(file: Path) -> Mapping[str, str | None]:
    matches = (_HIVE_FOLDER.fullmatch(folder) for folder in file.parent.parts)
    return {
        unquote(match[1]): None if match[2] == HIVE_NULL else unquote(match[2])
        for match in matches
        if match is not None
    }


def _hive_type(texts: Sequence[str | None]) -> pa.DataType:
    """The narrowest that gives every text back: whole numbers, dates, or text."""
    there = [text for text in texts if text is not None]
    if there and all(_WHOLE_NUMBER.fullmatch(text) for text in there):
        return pa.int64()
    if there and all(_DATE.fullmatch(text) for text in there):
        try:
            pa.array(there).cast(pa.date32())
        except pa.ArrowInvalid:
            return pa.string()
        return pa.date32()
    return pa.string()
