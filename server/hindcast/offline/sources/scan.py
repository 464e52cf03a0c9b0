"""Columns of a source's files, row group by row group: which groups matter, what type each column has, and the rows in small batches."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.errors import HindcastError, SourceError
from hindcast.offline.location import is_part
from hindcast.offline.sources.arrow_types import agreed_type, finer_time, plain_type
from hindcast.offline.sources.instants import check_time_type, to_micros
from hindcast.offline.sources.objects import ObjectPin, trouble
from hindcast.offline.sources.source import FilePin, SourceFile, SourceFiles

SCAN_ROWS = 16_384
"""Rows of a batch. Of 1,000,000 rows x 50 in one row group, 65,536 held 280 MB and 16,384 held 190 MB, in no more time."""
_BUFFER_BYTES = 65_536
"""Read from disk at once, for each column. Without it, and with Arrow's read-ahead, all of a row group is in memory."""
_FOOTERS_AT_ONCE = 16
"""Of objects: the time for one is spent on waiting, 50 ms or so."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is known of a column in some rows, from statistics: nulls, least and greatest time; None where it is not."""

    null_count: int | None
    least: int | None
    greatest: int | None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file.

    Attributes:
        file: its `partition` has only what the rows do have by the file's place.
        number: in its file.
        first_position: of its first row in the source: rows are numbered through all files, in their order.
    """

    file: SourceFile
    number: int
    first_row: int
    first_position: int
    rows: int
    event: Span
    created: Span


@dataclass(frozen=True, slots=True)
class SourceScan:
    """What the files' footers say.

    Attributes:
        groups: of all files, in order; one without rows is left out.
        types: of the columns that are read, one for all files; a time column that is nothing else has none.
        stored: what columns each file holds itself, by its path.
    """

    source: SourceFiles
    groups: Sequence[RowGroup]
    types: Mapping[str, pa.DataType]
    stored: Mapping[str, pa.Schema]

    @property
    def rows(self) -> int:
        """How many rows the source has, deleted ones too."""
        return self.groups[-1].first_position + self.groups[-1].rows if self.groups else 0


def scan_source(
    source: SourceFiles, *, values: Sequence[str], event: str, created: str | None, features: Collection[str] = ()
) -> SourceScan:
    """Read every file's footer, and check that all have the columns.

    Args:
        values: columns that must have one type in all files.
        features: those of `values` that a part of a push may lack, because the source has them since: its rows have nulls there.
    Raises:
        SourceError: a file is damaged, lacks a column, has it twice, in another type, or as no time where one is needed.
    """
    groups: list[RowGroup] = []
    types: dict[str, pa.DataType] = {}
    seen_in: dict[str, str] = {}
    stored: dict[str, pa.Schema] = {}
    position = 0
    times = [event] if created is None else [event, created]
    for found, parquet in _footers(source.files):
        file = found if source.schema is not None else _without_own(found, parquet.schema_arrow.names)
        stored[str(file.pin.path)] = parquet.schema_arrow.remove_metadata()
        schema = file_schema(parquet, file, source)
        where = repr(str(file.pin.path))
        # No push appends to an object store.
        is_pushed = isinstance(file.pin, FilePin) and is_part(file.pin.path.name)
        lacked = set(features).difference(schema.names) if is_pushed else set()
        held = [column for column in values if column not in lacked]
        _check_has(schema, [*held, *times], where=where)
        for column in times:
            check_time_type(schema.field(column).type, column=column, where=where)
        # A table with a schema of its own gives its old files that type; else the unit of a time is each file's own matter.
        for column in held if source.schema is None else [*held, *times]:
            kind = schema.field(column).type
            known = types.setdefault(column, plain_type(kind))
            seen_in.setdefault(column, where)
            agreed = agreed_type(known, plain_type(kind))
            if agreed is None:
                raise SourceError(
                    f"column {column!r} is {kind} in {where}, but {known} in {seen_in[column]}; write all files of the source with one type"
                )
            if agreed != known:
                seen_in[column] = where
            types[column] = agreed
        first = 0
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            if group.num_rows:
                spans = [_span(group, parquet.schema_arrow, file, column) for column in (event, created)]
                groups.append(RowGroup(file, number, first, position, group.num_rows, spans[0], spans[1]))
            first += group.num_rows
            position += group.num_rows
    if source.files:
        _check_has(schema, [column for column in values if column not in types], where=where)
    elif source.schema is not None:
        # A table whose rows are all deleted has columns all the same.
        _check_has(source.schema, [*values, *times], where=repr(source.name))
        types = {column: plain_type(source.schema.field(column).type) for column in values}
    return SourceScan(source, groups, types, stored)


def source_schema(source: SourceFiles) -> pa.Schema:
    """The columns of a source as its first file has them; one that is nothing but nulls there has the type of a later file.

    Raises:
        SourceError: a file that was looked at is damaged.
    """
    if source.schema is not None:
        return pa.schema([(field.name, plain_type(field.type)) for field in source.schema])
    types: dict[str, pa.DataType] = {}
    for file in source.files:
        with open_file(file.pin) as parquet:
            found = {field.name: plain_type(field.type) for field in file_schema(parquet, file, source)}
        types = {
            name: found.get(name, kind) if pa.types.is_null(kind) else kind for name, kind in types.items()
        } or found
        if not any(pa.types.is_null(kind) for kind in types.values()):
            break
    return pa.schema(types)


def with_all_columns(source: SourceFiles) -> SourceFiles:
    """The source as a table of all columns that any of its files has; a file that lacks one has nulls there, and times are of the finest
    unit of any.

    Raises:
        SourceError: a file is damaged, or a column has two types that do not go together.
    """
    if source.schema is not None:
        return source
    types: dict[str, pa.DataType] = {}
    for file in source.files:
        with open_file(file.pin) as parquet:
            for field in file_schema(parquet, file, source):
                kind = plain_type(field.type)
                known = types.get(field.name, kind)
                agreed = finer_time(known, kind) or agreed_type(known, kind)
                if agreed is None:
                    raise SourceError(
                        f"column {field.name!r} is {kind} in {str(file.pin.path)!r}, but {types[field.name]} in a file before it; "
                        "write all files of the source with one type"
                    )
                types[field.name] = agreed
    return replace(source, schema=pa.schema(types))


def _check_has(schema: pa.Schema, columns: Sequence[str], *, where: str) -> None:
    missing = next((column for column in columns if column not in schema.names), None)
    if missing is not None:
        raise SourceError(
            f"{where} has no column {missing!r}, only {', '.join(map(repr, schema.names))}; check the view's fields and the source's "
            "field_mapping, or write the file anew"
        )


def _footers(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, Any]]:
    """Each file with what its footer says, as a `ParquetFile` of which nothing else can be read any more."""

    def footer(file: SourceFile) -> Any:
        with open_file(file.pin) as parquet:
            return parquet

    if not any(isinstance(file.pin, ObjectPin) for file in files):
        yield from ((file, footer(file)) for file in files)
        return
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        for first in range(0, len(files), _FOOTERS_AT_ONCE):
            few = files[first : first + _FOOTERS_AT_ONCE]
            yield from zip(few, pool.map(footer, few), strict=True)


def _without_own(file: SourceFile, names: Sequence[str]) -> SourceFile:
    """A file without the columns of its place that it has itself, which count."""
    placed = {name: value for name, value in file.partition.items() if name not in names}
    return file if len(placed) == len(file.partition) else replace(file, partition=placed)


def read_groups(
    groups: Iterable[RowGroup], columns: Sequence[str], *, types: Mapping[str, pa.DataType]
) -> Iterator[tuple[RowGroup, int, pa.RecordBatch]]:
    """The rows of groups in batches, each with its group and the position of its first row. A group is asked for when its turn comes.

    Args:
        columns: of the source, each once; those that `types` has come in that type, others as they stand in their file.
    Raises:
        SourceError: a file changed since it was pinned, or is damaged.
    """
    for file, of_file in groupby(groups, key=lambda group: group.file):
        with open_file(file.pin) as parquet, _damage(file.pin):
            stored = set(parquet.schema_arrow.names)
            # A batch of no column would not say how many rows it has.
            asked = [column for column in columns if column in stored] or parquet.schema_arrow.names[:1]
            for group in of_file:
                position = group.first_position
                for batch in parquet.iter_batches(SCAN_ROWS, row_groups=[group.number], columns=asked):
                    yield group, position, _as_asked(batch, columns, file=file, types=types)
                    position += batch.num_rows
            check_current(file.pin)


def is_kept(group: RowGroup, position: int, rows: int) -> np.ndarray | None:
    """Which of some rows of a group are not deleted; None where all are there."""
    if group.file.deleted is None:
        return None
    first = position - group.first_position + group.first_row
    deleted = group.file.deleted.to_numpy()
    there: np.ndarray = np.ones(rows, dtype=bool)
    there[deleted[np.searchsorted(deleted, first) : np.searchsorted(deleted, first + rows)] - first] = False
    return there


@contextmanager
def open_file(pin: FilePin | ObjectPin) -> Iterator[Any]:
    """A pinned file as a `pyarrow.parquet.ParquetFile`, open while the block runs.

    Of a file in an object store, what is asked for of a row group is fetched at once, in few ranges: it is in memory, compressed, while
    the group is read.

    Raises:
        SourceError: it is gone, another one by now, no whole Parquet file, or cannot be reached.
    """
    if pin.size_bytes == 0:
        raise SourceError(f"{str(pin.path)!r} is empty (0 bytes); whoever wrote it broke off, so write it anew")
    is_remote = isinstance(pin, ObjectPin)
    with _damage(pin):
        file = pin.open()
    with file:
        with _damage(pin):
            # INT96 times as microseconds: in nanoseconds, years after 2262 would turn into others.
            parquet = pq.ParquetFile(
                file,
                buffer_size=0 if is_remote else _BUFFER_BYTES,
                pre_buffer=is_remote,
                coerce_int96_timestamp_unit="us",
            )
            if not pin.is_of(file):
                raise _changed(pin)
        yield parquet


def file_schema(parquet: Any, file: SourceFile, source: SourceFiles) -> pa.Schema:
    """What columns the rows of a file have: its own, those of its place, and those that its table has had since.

    Raises:
        SourceError: it has two columns of one name.
    """
    schema = parquet.schema_arrow.remove_metadata()
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise SourceError(f"{str(file.pin.path)!r} has two columns of the name {twice!r}; write it anew with one")
    if source.schema is not None:
        return source.schema
    placed = [pa.field(name, value.type) for name, value in file.partition.items() if name not in schema.names]
    return pa.schema([*schema, *placed])


def _as_asked(
    batch: pa.RecordBatch, columns: Sequence[str], *, file: SourceFile, types: Mapping[str, pa.DataType]
) -> pa.RecordBatch:
    arrays = []
    for column in columns:
        at = batch.schema.get_field_index(column)
        kind = types.get(column)
        if at < 0:
            value = file.partition.get(column)
            array = pa.nulls(batch.num_rows, kind) if value is None else pa.repeat(value, batch.num_rows)
        else:
            array = batch.column(at)
        arrays.append(array if kind in {None, array.type} else array.cast(kind))
    return pa.record_batch(arrays, names=list(columns))


def _span(group: Any, schema: pa.Schema, file: SourceFile, column: str | None) -> Span:
    """What a group's statistics say of its times."""
    if column is None:
        return Span(group.num_rows, None, None)
    if column not in schema.names:
        value = file.partition.get(column)
        if value is None or not value.is_valid:
            return Span(group.num_rows, None, None)
        micros = int(to_micros(pa.array([value.as_py()], value.type))[0][0])
        return Span(0, micros, micros)
    kind = schema.field(column).type
    found = next(
        (group.column(at) for at in range(group.num_columns) if group.column(at).path_in_schema == column), None
    )
    statistics = found.statistics if found is not None and found.physical_type in {"INT64", "INT32"} else None
    if statistics is None:
        return Span(None, None, None)
    nulls = statistics.null_count if statistics.has_null_count else None
    if not statistics.has_min_max:
        return Span(nulls, None, None)
    ends = pa.array([statistics.min_raw, statistics.max_raw], pa.int32() if pa.types.is_date32(kind) else pa.int64())
    least, greatest = to_micros(ends.cast(kind))[0].tolist()
    return Span(nulls, least, greatest)


def check_current(pin: FilePin | ObjectPin) -> None:
    """Refuse a file that is another one by now than it was when it was pinned.

    Raises:
        SourceError: it is.
    """
    if not pin.is_current():
        raise _changed(pin)


def _changed(pin: FilePin | ObjectPin) -> SourceError:
    return SourceError(f"{str(pin.path)!r} changed while it was read; run again, when nobody writes to it")


@contextmanager
def _damage(pin: FilePin | ObjectPin) -> Iterator[None]:
    """Turns what reading a file may raise into our own words."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{str(pin.path)!r} is gone; run again, when nobody removes files of the source") from error
    except PermissionError as error:
        raise SourceError(f"{str(pin.path)!r} may not be read; check its rights") from error
    except (OSError, pa.ArrowException, UnicodeError) as error:
        said = trouble(error, repr(str(pin.path))) if isinstance(pin, ObjectPin) else ""
        raise SourceError(
            said
            or f"{str(pin.path)!r} is no whole Parquet file: damaged, cut short, or of another format; write it anew"
        ) from error
    except Exception as error:
        # What reads the web raises what it likes; what reads the disk does not get here.
        if not isinstance(pin, ObjectPin) or isinstance(error, HindcastError):
            raise
        raise SourceError(
            trouble(error, repr(str(pin.path)))
            or f"{str(pin.path)!r} cannot be read by ranges; copy it here, or put it where range requests are answered"
        ) from error
