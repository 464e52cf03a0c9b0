"""Entity frames in Parquet files: a file, a directory of them, or a Delta table."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from hindcast.errors import InvalidArgument, SourceError
from hindcast.offline.frames.layouts import settled_schema
from hindcast.offline.location import is_pattern
from hindcast.offline.sources.arrow_types import agreed_type, plain_type
from hindcast.offline.sources.scan import (
    RowGroup,
    Span,
    file_schema,
    is_kept,
    open_file,
    read_groups,
)
from hindcast.offline.sources.source import SourceFiles, files_of, find_source

_UNKNOWN = Span(None, None, None)


def frame_path(given: "str | os.PathLike[str]", *, repo_root: Path) -> SourceFiles | None:
    """The files that a path names, as they are now; None for a text that is no path, which is SQL then.

    Args:
        given: a path object, or a text that ends in `.parquet` or is the path of a directory; relative to the working directory, and if
            nothing is there to `repo_root`.
    Raises:
        InvalidArgument: nothing is there.
        SourceError: it is a Delta table whose newest version cannot be read.
    """
    text = os.fspath(given)
    places = [Path.cwd(), repo_root.absolute()]
    # An empty text would be the working directory.
    is_path = text.endswith(".parquet") or (text and any(_is_there(at / text, Path.is_dir) for at in places))
    if isinstance(given, str) and not is_path:
        return None
    if "://" in text and not text.startswith("file://"):
        raise InvalidArgument.at("entity_df", f"is the path {text!r}, which is not on this machine; copy it here first")
    for place in places:
        path = place / text.removeprefix("file://")
        if _is_there(path, Path.exists) or is_pattern(text):
            is_delta = (path / "_delta_log").is_dir()
            try:
                found = find_source(text, "delta" if is_delta else "parquet", repo_root=place)
            except SourceError:
                if is_delta:
                    raise
                continue
            return files_of(found)
    raise InvalidArgument.at(
        "entity_df",
        f"is the path {text!r}, and no Parquet file is there, neither from the working directory nor from the repo; check the path (SQL text does not end in .parquet)",
    )


def _is_there(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except (OSError, ValueError):
        # SQL text may be longer than a path can be.
        return False


class ParquetRows:
    """Rows in files, in the files' order and the order within each; read again each time, and in small batches."""

    def __init__(self, groups: Sequence[RowGroup], schema: pa.Schema) -> None:
        self._groups = groups
        self.schema = schema
        deleted = {id(group.file): group.file.deleted for group in groups}
        self.rows = sum(group.rows for group in groups) - sum(
            len(rows) for rows in deleted.values() if rows is not None
        )

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns in memory, n rows; no others are read."""
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(self._read(schema), schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns."""
        return self._read(self.schema)

    def _read(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        types = {field.name: field.type for field in schema}
        for group, position, batch in read_groups(self._groups, schema.names, types=types):
            kept = is_kept(group, position, batch.num_rows)
            rows = batch if kept is None else batch.filter(pa.array(kept))
            yield pa.RecordBatch.from_arrays(rows.columns, schema=schema)


def parquet_rows(source: SourceFiles) -> ParquetRows:
    """The rows of files that all have the same columns.

    Raises:
        SourceError: a file is damaged, or has other columns than the first, or one in another type.
    """
    groups: list[RowGroup] = []
    schema: pa.Schema | None = None
    position = 0
    for file in source.files:
        with open_file(file.pin) as parquet:
            of_file = file_schema(parquet, file, source)
            schema = of_file if schema is None else _agreed(schema, of_file, where=repr(str(file.pin.path)))
            first = 0
            for number in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(number).num_rows
                if rows:
                    groups.append(RowGroup(file, number, first, position, rows, _UNKNOWN, _UNKNOWN))
                first += rows
                position += rows
    if schema is None:
        schema = source.schema or pa.schema([])
    return ParquetRows(groups, settled_schema(schema))


def _agreed(one: pa.Schema, other: pa.Schema, *, where: str) -> pa.Schema:
    """One schema for both, with the columns of the first in its order."""
    if set(one.names) != set(other.names):
        differing = ", ".join(map(repr, sorted(set(one.names) ^ set(other.names))))
        raise SourceError(
            f"the files of the entity frame have different columns: {differing} is in {where} or in those before it, but not in both; "
            "write all with the same columns"
        )
    fields = []
    for field in one:
        kind = other.field(field.name).type
        if kind != field.type:
            agreed = agreed_type(plain_type(field.type), plain_type(kind))
            if agreed is None:
                raise SourceError(
                    f"column {field.name!r} of the entity frame is {kind} in {where}, but {field.type} in the files before it; write all "
                    "with one type"
                )
            kind = agreed
        fields.append(field.with_type(kind).with_nullable(field.nullable or other.field(field.name).nullable))
    return pa.schema(fields)
