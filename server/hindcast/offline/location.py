"""Where a batch source lies on this machine: a directory of Parquet parts, or one file and the parts beside it.

Rows are appended as further parts and nothing is rewritten (docs/formats.md). Needs neither Feast nor pyarrow.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote, unquote

from hindcast.catalog import BatchSource
from hindcast.errors import NotWritable

OUR_STORE = "hindcast.offline.plugin.AsOfOfflineStore"
"""The offline store that a repo should have."""

_READ_PARTS = frozenset({OUR_STORE, "hindcast.offline.spark.SparkOfflineStore"})
"""The offline stores that read the parts beside a file."""

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The folder of rows that have a null in the column that it names."""

_PARTS = ".parts"
_PART_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{6,}-[0-9a-f]{16}\.parquet")
_PATTERN = frozenset("*?[")


def writable_path(source: BatchSource, *, store_type: str, repo_root: Path) -> Path:
    """Where the rows of a source are, if they can be appended to.

    Args:
        store_type: `offline_store.type` of the repo.
    Raises:
        NotWritable: they cannot; the message says what to change.
    """
    if store_type not in _READ_PARTS:
        raise NotWritable(
            f"the repo's offline_store.type is {store_type!r}, which rows cannot be appended to; change it to {OUR_STORE}, "
            "or push online only"
        )
    if source.file_format != "parquet":
        what = "a Delta table" if source.file_format == "delta" else "no file"
        raise NotWritable(
            f"source {source.name!r} is {what}, and rows are appended to Parquet files only so far; make it a FileSource with a "
            "directory or a .parquet file as its path, or push online only"
        )
    path = local_path(source.path, repo_root=repo_root)
    if path is None or is_pattern(source.path):
        raise NotWritable(
            f"the path of source {source.name!r} is not one directory or .parquet file of this machine, and rows are appended to "
            "no other; change its path, or push online only"
        )
    return path


def local_path(path: str, *, repo_root: Path) -> Path | None:
    """A source's path on this machine, relative ones from the repo; None where it is elsewhere (an object store)."""
    if "://" in path and not path.startswith("file://"):
        return None
    return repo_root / path.removeprefix("file://")


def is_pattern(path: str) -> bool:
    """Whether a path stands for those that match it."""
    return bool(_PATTERN & set(path))


def folder_columns(path: Path) -> Sequence[str]:
    """The columns that the folders below a source's directory name (`country=DE/day=2026-01-01`), outermost first.

    Those of its first file: a source whose folders differ has no one answer.
    """
    folders = (file.relative_to(path).parent.parts for file in source_files(path) if file.is_relative_to(path))
    return [
        unquote(folder.partition("=")[0]) for folder in next((parts for parts in folders if parts), ()) if "=" in folder
    ]


def folder_name(column: str, value: object) -> str:
    """The folder of a value of a column, as Hive, Spark and DuckDB write it."""
    return f"{quote(column, safe=' ')}={HIVE_NULL if value is None else quote(str(value), safe=' ')}"


def parts_directory(path: Path) -> Path:
    """Where parts of a source go: the source's own directory, or one beside its single file."""
    is_file = path.is_file() or (not path.exists() and path.suffix == ".parquet")
    return path.with_name(parts_name(path.name)) if is_file else path


def parts_name(name: str) -> str:
    """What the folder is called that has the parts of a single file of that name."""
    return name + _PARTS


def is_part(name: str) -> bool:
    """Whether a push has appended the file of this name (docs/formats.md)."""
    return _PART_NAME.fullmatch(name) is not None


def source_files(path: Path) -> Sequence[Path]:
    """All files of a source, in the order in which they were written: its single file, then the parts.

    Hidden ones are no parts. Empty where there is nothing, and where `path` is a pattern.
    """
    single = [path] if path.is_file() else []
    directory = parts_directory(path)
    parts = (part for part in directory.rglob("*.parquet") if part.is_file())
    return single + sorted(part for part in parts if not is_hidden(part.relative_to(directory).parts))


def is_hidden(names: Sequence[str], pattern: Sequence[str] = ()) -> bool:
    """Whether a file or folder is, or is in, what `source_files` passes over.

    Args:
        names: its path from where the source's fixed beginning ends.
        pattern: the names of the rest of the source's path; what it itself names with a dot or underscore is not hidden.
    """
    named = [name for name in pattern if _begins_hidden(name)]
    return any(_begins_hidden(name) and not any(fnmatchcase(name, given) for given in named) for name in names)


def fixed_names(names: Sequence[str]) -> int:
    """How many names a pattern begins with that are no patterns."""
    return sum(1 for _ in takewhile(lambda name: not is_pattern(name), names))


def _begins_hidden(name: str) -> bool:
    # The rule is Spark's. A folder that names a column is no such: Feast's logs have `__log_date=2026-03-01`.
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
