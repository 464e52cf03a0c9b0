"""A source's rows for the keys that are asked about, narrow and in their total order: key id, times and position, nothing else.

DuckDB joins and sorts them, and spills what does not fit under its limit. It reads plain Parquet files itself; what it would take for
something else it is given by our own scan (`stored` says which is which).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import duckdb
import numpy as np
import pyarrow as pa

from hindcast.offline.asof.merge import NO_TIME, Sorted, created_micros
from hindcast.offline.connection import batches_table, duckdb_errors, streamed
from hindcast.offline.sources.instants import MICROS_MAX, to_micros
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.keyforms import key_form
from hindcast.offline.sources.scan import RowGroup, SourceScan, check_current, is_kept, read_groups
from hindcast.offline.sources.stored import (
    PLACE,
    ROWS,
    StoredFiles,
    are_stored,
    between_sql,
    is_plain_key,
    micros_sql,
)
from hindcast.quoting import quoted_name

_SORTED_ROWS = 262_144
"""Rows of a batch. The merge holds some twenty numbers for each of them, 40 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """Which rows of a source are read.

    Attributes:
        groups: those that can hold some.
        keys: columns of the source; none for a view without entities, whose one id is 0.
        wanted: the k keys in the source's types, `k0`, `k1`, …, row i that of id i, null for one that no row can have.
        earliest, latest: k microseconds: what rows of each key lie between, closed at both ends.
        created: None where the source has no such column.
        known_at: rows created after it are left out; None: none are.
    """

    scan: SourceScan
    groups: Sequence[RowGroup]
    keys: Sequence[str]
    wanted: pa.Table
    earliest: np.ndarray
    latest: np.ndarray
    event: str
    created: str | None
    known_at: int | None

    @property
    def interval(self) -> tuple[int, int]:
        """The earliest and the latest time of any key."""
        return int(self.earliest.min()), int(self.latest.max())


def touched_groups(scan: SourceScan, earliest: int, latest: int) -> Sequence[RowGroup]:
    """The row groups that can hold rows of some times, closed at both ends."""
    interval = Interval(start_micros=earliest, end_micros=latest, future_after_micros=MICROS_MAX)
    return [group for group in scan.groups if group.event.null_count != group.rows and interval.touches(group.event)]


def sorted_rows(narrow: Narrow, connection: duckdb.DuckDBPyConnection) -> Iterator[Sorted]:
    """The rows in their order, in batches.

    Raises:
        SourceError: a file changed since it was pinned, or is damaged; or the memory limit is too small.
        StoreUnavailable: the disk did not take what was spilled.
    """
    if not narrow.groups or not len(narrow.latest):
        return
    stored = StoredFiles.of(narrow.groups)
    found = _from_files(narrow, connection, stored)
    if found is None:
        yield from _from_scan(narrow, connection)
        return
    deleted = stored.deleted_positions()
    with duckdb_errors():
        for batch in found:
            rows = _as_sorted(batch, stored.positions(batch.column("p").to_numpy()))
            yield rows if deleted is None else rows.without(deleted)


def _from_files(
    narrow: Narrow, connection: duckdb.DuckDBPyConnection, stored: StoredFiles
) -> Iterator[pa.RecordBatch] | None:
    """What DuckDB reads itself, `p` being the rows' places; None where it cannot, or had better not."""
    relation = _stored_relation(narrow, stored)
    if relation is None:
        return None
    connection.register("wanted", _wanted(narrow, narrow.wanted))
    with duckdb_errors():
        try:
            batches = _batches(connection, _statement(narrow, relation), [stored.paths])
            # All of the files is read and sorted before the first batch is there.
            first = list(islice(batches, 1))
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            # Text that is none, a damaged file: our own scan can read it, or says what is wrong.
            return None
    for file in stored.files:
        check_current(file.pin)
    return chain(first, batches)


def _from_scan(narrow: Narrow, connection: duckdb.DuckDBPyConnection) -> Iterator[Sorted]:
    forms = [key_form(narrow.scan.types[key], column=key) for key in narrow.keys]
    wanted_forms = [
        key_form(column.type, column=key) for key, column in zip(narrow.keys, narrow.wanted.columns, strict=True)
    ]
    columns = [form.form(_whole(column)) for form, column in zip(wanted_forms, narrow.wanted.columns, strict=True)]
    connection.register("wanted", _wanted(narrow, pa.table(columns, names=narrow.wanted.column_names)))
    schema = pa.schema(
        [*((f"k{at}", form.kind) for at, form in enumerate(forms)), *((name, pa.int64()) for name in "ecp")]
    )
    with duckdb_errors(), batches_table(connection, "scanned", schema, _scanned(narrow, schema)):
        for batch in _batches(connection, _statement(narrow, "SELECT * FROM scanned"), []):
            yield _as_sorted(batch, batch.column("p").to_numpy())


def _scanned(narrow: Narrow, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in the interval by our own scan: keys as DuckDB compares them, microseconds, positions."""
    earliest, latest = narrow.interval
    created_column = [] if narrow.created is None else [narrow.created]
    columns = list(dict.fromkeys([*narrow.keys, narrow.event, *created_column]))
    at = {column: number for number, column in enumerate(columns)}
    forms = [key_form(narrow.scan.types[key], column=key) for key in narrow.keys]
    for group, position, batch in read_groups(narrow.groups, columns, types=narrow.scan.types):
        events, is_dated = to_micros(batch.column(at[narrow.event]))
        chosen = (events >= earliest) & (events <= latest)
        for there in (is_dated, is_kept(group, position, batch.num_rows)):
            if there is not None:
                chosen &= there
        rows = np.flatnonzero(chosen)
        if not len(rows):
            continue
        taken = batch.take(pa.array(rows))
        created: np.ndarray = np.full(len(rows), NO_TIME, np.int64)
        if narrow.created is not None:
            created = created_micros(*to_micros(taken.column(at[narrow.created])))
        keys = [form.form(taken.column(at[key])) for form, key in zip(forms, narrow.keys, strict=True)]
        yield pa.record_batch([*keys, *map(pa.array, (events[rows], created, position + rows))], schema=schema)


def _stored_relation(narrow: Narrow, stored: StoredFiles) -> str | None:
    """The SQL for the files' rows as `k0`, …, `e`, `c`, `p`; one parameter, their paths."""
    times = [narrow.event] if narrow.created is None else [narrow.event, narrow.created]
    if not are_stored(narrow.scan, stored.files, [*narrow.keys, *times]):
        return None
    if not all(is_plain_key(narrow.scan.types[key]) for key in narrow.keys):
        return None
    event = micros_sql(narrow.scan, narrow.groups, narrow.event, [group.event for group in narrow.groups])
    created: str | None = str(NO_TIME)
    if narrow.created is not None:
        created = micros_sql(narrow.scan, narrow.groups, narrow.created, [group.created for group in narrow.groups])
    if event is None or created is None:
        return None
    keys = "".join(f"{quoted_name(key)} AS k{at}, " for at, key in enumerate(narrow.keys))
    kind = narrow.scan.stored[str(stored.files[0].pin.path)].field(narrow.event).type
    bounds = between_sql(narrow.event, kind, *narrow.interval)
    return (
        f"SELECT {keys}{event} AS e, coalesce({created}, {NO_TIME})::BIGINT AS c, {PLACE} AS p "  # noqa: S608 - quoted
        f"FROM {ROWS} WHERE {bounds}"
    )


def _statement(narrow: Narrow, relation: str) -> str:
    on = " AND ".join(f"r.k{at} = w.k{at}" for at in range(len(narrow.keys))) or "true"
    known = "" if narrow.known_at is None else f"AND c <= {narrow.known_at}"
    return (
        f"SELECT id, e, c, p FROM ({relation}) r JOIN wanted w ON {on} "  # noqa: S608 - quoted
        f"WHERE e >= earliest AND e <= latest {known} ORDER BY id, e, c, p"
    )


def _wanted(narrow: Narrow, keys: pa.Table) -> pa.Table:
    """The table of keys that DuckDB joins, with their ids and bounds."""
    ids: np.ndarray = np.arange(len(narrow.latest), dtype=np.int32)
    bounds: Mapping[str, np.ndarray] = {"id": ids, "earliest": narrow.earliest, "latest": narrow.latest}
    return pa.table([*keys.columns, *map(pa.array, bounds.values())], names=[*keys.column_names, *bounds])


def _batches(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: list[object]
) -> Iterator[pa.RecordBatch]:
    reader = connection.execute(statement, parameters).fetch_record_batch(_SORTED_ROWS)
    yield from streamed(reader)


def _as_sorted(batch: pa.RecordBatch, positions: np.ndarray) -> Sorted:
    ids, events, created = (batch.column(name).to_numpy() for name in ("id", "e", "c"))
    return Sorted(ids, events, created, positions)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
