"""Entity frames: the rows that a training set is asked for, in whatever form the caller has them.

In comes a pandas or Polars frame, Arrow data of any kind, a path of Parquet files, or SQL text; out goes an `EntityFrame`, which has the same
rows in the same order and can be read more than once. What is no table in memory already is read as a stream, never whole.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from hindcast.errors import InvalidArgument
from hindcast.offline.frames.from_pandas import pandas_table
from hindcast.offline.frames.held import READ_ROWS, HeldRows, SpooledRows, TableRows, rebatched
from hindcast.offline.frames.paths import frame_path, parquet_rows
from hindcast.offline.frames.query import ConfinedQuery, spooled_query
from hindcast.offline.frames.sent import SentRows, spooled_sent
from hindcast.offline.frames.timetext import text_micros
from hindcast.offline.sources.arrow_types import plain_type
from hindcast.offline.sources.instants import to_micros
from hindcast.offline.spill import spill_directory

AS_OF = "event_timestamp"
"""Feast's name for the column with the time that a row asks about."""
ARGUMENT = "entity_df"
"""Feast's name for the argument, which messages begin with."""
_TIMES = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_null)
_FORMS = (
    "a pandas or Polars frame, an Arrow table, batch, reader or dataset, a DuckDB relation, an object with __arrow_c_stream__, "
    "the path of a .parquet file or of a directory of them, or SQL text"
)


class EntityFrame:
    """n rows in the caller's order, as often as they are read while the `with` block of `entity_frame` lasts.

    Attributes:
        schema: of all columns as the caller has them; views of text, binaries and lists are plain ones. A pandas frame's says how
            pandas had them (its metadata).
        rows: n; may be 0.
        as_of: the column with the time that each row asks about: timestamps, dates, text in ISO 8601, or nothing but nulls.
    """

    def __init__(self, held: HeldRows, *, as_of: str) -> None:
        self._held = held
        self.as_of = as_of

    @property
    def schema(self) -> pa.Schema:
        """Of all columns."""
        return self._held.schema

    @property
    def rows(self) -> int:
        """How many."""
        return self._held.rows

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns in memory.

        Args:
            names: of columns that are there.
        Returns:
            A table of n rows, its columns in the order asked, in any number of chunks.
        """
        return self._held.columns(names)

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """All columns.

        Args:
            rows: of a batch; the last one has fewer, and so do some whose dictionaries or text are too large to be put together.
        """
        return rebatched(self._held.batches(), rows)


@contextmanager
def entity_frame(
    given: Any,
    *,
    as_of: str | None = None,
    spill_dir: Path,
    repo_root: Path,
    memory_bytes: int = 2**30,
    threads: int | None = None,
) -> Iterator[EntityFrame]:
    """The rows of an entity frame, in any of its forms.

    A path is relative to the working directory, and if nothing is there to the repo; files within SQL are relative to the repo. Streams, and what
    SQL answers, are set aside in `spill_dir` first; nothing is left there.

    Args:
        as_of: the column with the times; None: `event_timestamp`, or the only timestamp column.
        memory_bytes, threads: of DuckDB, where it runs SQL text; None is one thread per core.
    Raises:
        InvalidArgument: it is nothing of this kind, has no columns or two of one name, or which column has the times is not clear; or SQL failed.
        SourceError: a Parquet file is damaged, or changed meanwhile.
        StoreUnavailable: the disk did not take the rows.
    """
    with held_rows(
        given,
        times=as_of or AS_OF,
        spill_dir=spill_dir,
        repo_root=repo_root,
        memory_bytes=memory_bytes,
        threads=threads,
    ) as held:
        yield EntityFrame(held, as_of=_as_of_column(held.schema, as_of))


@contextmanager
def held_rows(
    given: Any,
    *,
    times: str = AS_OF,
    spill_dir: Path,
    repo_root: Path,
    memory_bytes: int = 2**30,
    threads: int | None = None,
) -> Iterator[HeldRows]:
    """Rows in any form of an entity frame, whether they have times or not; as `entity_frame`.

    Args:
        times: of a pandas frame: the column that may hold Python's own times.
    """
    with spill_directory(spill_dir, prefix="frame-") as spilled:
        if _is_of("pandas", "DataFrame", given):
            held: HeldRows = TableRows(pandas_table(given, times=times))
        else:
            held = _held_rows(given, spilled=spilled, repo_root=repo_root, memory_bytes=memory_bytes, threads=threads)
        check_columns(held.schema)
        yield held


def as_of_micros(frame: EntityFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """The times that the rows ask about: `frame_micros` of that column."""
    return frame_micros(frame, frame.as_of)


def frame_micros(frame: EntityFrame, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The times of a column, cut down to microseconds since 1970.

    Args:
        name: of a column of timestamps, dates, text in ISO 8601, or nothing but nulls.
    Returns:
        n int64, any number where there is none, and n bools that say where there is one (None: everywhere).
    Raises:
        InvalidArgument: there is no such column, it has no times, or a text is no time; the message says which row.
    """
    _check_times(frame.schema, name)
    column = frame.columns([name]).column(0)
    kind = plain_type(column.type)
    times: list[np.ndarray] = []
    valid: list[np.ndarray | None] = []
    micros: np.ndarray
    there: np.ndarray | None
    row = 0
    for chunk in column.chunks:
        plain = chunk if chunk.type == kind else chunk.cast(kind)
        if pa.types.is_null(kind):
            micros, there = np.zeros(len(plain), np.int64), np.zeros(len(plain), dtype=bool)
        elif _is_text(kind):
            micros, there = text_micros(plain, column=name, first_row=row)
        else:
            micros, there = to_micros(plain)
        times.append(micros)
        valid.append(there)
        row += len(plain)
    all_times = np.concatenate([np.empty(0, np.int64), *times])
    if all(there is None for there in valid):
        return all_times, None
    masks = [np.ones(len(at), dtype=bool) if there is None else there for at, there in zip(times, valid, strict=True)]
    return all_times, np.concatenate(masks)


def check_columns(schema: pa.Schema) -> None:
    """Refuse a frame that has no columns, or two of one name.

    Raises:
        InvalidArgument: it has.
    """
    if not schema.names:
        raise InvalidArgument.at(ARGUMENT, f"has no columns; give it the join keys and a column {AS_OF!r}")
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument.at(ARGUMENT, f"has two columns of the name {twice!r}; rename one, or leave it out")


def _held_rows(given: Any, *, spilled: Path, repo_root: Path, memory_bytes: int, threads: int | None) -> HeldRows:
    if isinstance(given, str | os.PathLike):
        path = frame_path(given, repo_root=repo_root)
        if path is not None:
            return parquet_rows(path)
        given = str(given)
    if isinstance(given, str | ConfinedQuery):
        return spooled_query(given, spilled=spilled, repo_root=repo_root, memory_bytes=memory_bytes, threads=threads)
    if isinstance(given, SentRows):
        return spooled_sent(given, spilled=spilled, memory_bytes=memory_bytes)
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if _is_of("polars", "LazyFrame", given):
        given = given.collect()
    if _is_of("polars", "DataFrame", given):
        given = given.to_arrow()
    if isinstance(given, pa.Table):
        return TableRows(given.replace_schema_metadata())
    return _spooled(_reader(given), spilled)


def _reader(given: Any) -> Any:
    """A `pa.RecordBatchReader` over what is read once."""
    if isinstance(given, pa.RecordBatchReader):
        return given
    with _reading():
        if _is_of("pyarrow.dataset", "Dataset", given):
            # What Arrow reads ahead by itself is gigabytes of wide rows.
            return given.scanner(batch_size=READ_ROWS, batch_readahead=1, fragment_readahead=1).to_reader()
        if isinstance(given, duckdb.DuckDBPyRelation):
            # A relation that somebody fetched from goes on where they stopped; one of its own begins anew.
            return given.filter("true").fetch_record_batch(READ_ROWS)
    if not hasattr(given, "__arrow_c_stream__"):
        raise InvalidArgument.at(ARGUMENT, f"is a {type(given).__name__}; give it as {_FORMS}")
    try:
        return pa.RecordBatchReader.from_stream(given)
    except (pa.ArrowException, OSError) as error:
        raise InvalidArgument.at(
            ARGUMENT, f"is a {type(given).__name__}, and gives no Arrow stream of rows; give it as {_FORMS}"
        ) from error


def _spooled(reader: Any, spilled: Path) -> SpooledRows:
    check_columns(reader.schema)
    with reader:
        return SpooledRows.of(_read(reader), reader.schema.remove_metadata(), spilled / "rows.arrow")


def _read(reader: Any) -> Iterator[pa.RecordBatch]:
    while True:
        with _reading():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch.replace_schema_metadata()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, duckdb.Error) as error:
        raise InvalidArgument.at(
            ARGUMENT, "could not be read to its end; what it reads from failed, or it was closed, so make it anew"
        ) from error


def _as_of_column(schema: pa.Schema, asked: str | None) -> str:
    if asked is not None or AS_OF in schema.names:
        name = AS_OF if asked is None else asked
        _check_times(schema, name)
        return name
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if len(times) == 1:
        return str(times[0])
    found = f"the timestamp columns {', '.join(map(repr, times))}" if times else "no timestamp column"
    raise InvalidArgument.at(
        ARGUMENT,
        f"has no column {AS_OF!r}, and {found}; name the column with the time that each row asks about {AS_OF!r}",
    )


def _check_times(schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        raise InvalidArgument.at(
            ARGUMENT, f"has no column {name!r} for the times, only {', '.join(map(repr, schema.names))}"
        )
    kind = plain_type(schema.field(name).type)
    if not (any(is_such(kind) for is_such in _TIMES) or _is_text(kind)):
        raise InvalidArgument.at(
            ARGUMENT,
            f"has times in the column {name!r}, but it is {kind}; make it a timestamp (without a zone it is UTC), a date or ISO 8601 text",
        )


def _is_text(kind: pa.DataType) -> bool:
    return any(is_such(kind) for is_such in (pa.types.is_string, pa.types.is_large_string))


def _is_of(module: str, name: str, given: Any) -> bool:
    """Whether it is of a class whose module nobody need have: what is not imported has no instances."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(given, kind)
