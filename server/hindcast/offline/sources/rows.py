"""All rows of a source in an interval, as a stream: the rows of one row group's batch are in memory, whatever the source holds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hindcast.offline.sources.instants import MICROS_MAX, MICROS_MIN, as_instants, to_micros
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.scan import RowGroup, SourceScan, is_kept, read_groups, scan_source
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of

INSTANTS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsQuery:
    """What is asked of a source.

    Attributes:
        columns: column of the result -> column of the source, in the result's order.
        created_column: None where the source has none.
        start_micros, end_micros: ends of the interval of event times, both closed; None: open to that side.
    """

    source: SourceFiles | DeltaTable
    columns: Mapping[str, str]
    event_column: str
    created_column: str | None = None
    start_micros: int | None = None
    end_micros: int | None = None


@contextmanager
def read_rows(query: RowsQuery) -> Iterator[pa.RecordBatchReader]:
    """The rows in the order of the source. Row groups that their statistics put outside of the interval are not read.

    A row without an event time is in no interval; it is there only where both ends are open. The times come as
    `timestamp[us, tz=UTC]`, rounded down, other columns in the source's types (a dictionary's entries stand for it).

    Raises:
        SourceError: a file is missing, damaged, changed meanwhile, or lacks a column. Also while the rows are read.
    """
    scan = _scan(query)
    times = {query.event_column, query.created_column}
    schema = pa.schema(
        [(name, INSTANTS if column in times else scan.types[column]) for name, column in query.columns.items()]
    )
    with pa.RecordBatchReader.from_batches(schema, _batches(query, scan, schema)) as reader:
        yield reader


def newest_event(source: SourceFiles | DeltaTable, event_column: str) -> int | None:
    """The greatest event time of a source in microseconds; None where no row has one.

    Row groups that cannot hold it, by their statistics, are not read.

    Raises:
        SourceError: as `read_rows`.
    """
    scan = scan_source(files_of(source), values=[], event=event_column, created=None)
    newest: int | None = None
    for group in sorted(scan.groups, key=_greatest, reverse=True):
        if newest is not None and _greatest(group) <= newest:
            break
        for _, position, batch in read_groups([group], [event_column], types=scan.types):
            micros, is_dated = to_micros(batch.column(0))
            there = _there(group, position, batch.num_rows, is_dated)
            found = micros if there is None else micros[there]
            if len(found):
                newest = max(int(found.max()), MICROS_MIN if newest is None else newest)
    return newest


def _greatest(group: RowGroup) -> int:
    if group.event.greatest is not None:
        return group.event.greatest
    return MICROS_MIN if group.event.null_count == group.rows else MICROS_MAX


def _scan(query: RowsQuery) -> SourceScan:
    times = {query.event_column, query.created_column}
    values = [column for column in dict.fromkeys(query.columns.values()) if column not in times]
    return scan_source(
        files_of(query.source),
        values=values,
        event=query.event_column,
        created=query.created_column,
        features=values,
    )


def _batches(query: RowsQuery, scan: SourceScan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    is_bounded = query.start_micros is not None or query.end_micros is not None
    start = MICROS_MIN if query.start_micros is None else query.start_micros
    end = MICROS_MAX if query.end_micros is None else query.end_micros
    interval = Interval(start_micros=start, end_micros=end, future_after_micros=MICROS_MAX)
    groups = [group for group in scan.groups if not is_bounded or _can_touch(interval, group)]
    columns = list(dict.fromkeys([*query.columns.values(), query.event_column]))
    event = columns.index(query.event_column)
    for group, position, batch in read_groups(groups, columns, types=scan.types):
        chosen: np.ndarray | None
        if is_bounded:
            micros, is_dated = to_micros(batch.column(event))
            chosen = (micros >= start) & (micros <= end)
            there = _there(group, position, batch.num_rows, is_dated)
            if there is not None:
                chosen &= there
        else:
            chosen = is_kept(group, position, batch.num_rows)
        taken = batch if chosen is None or chosen.all() else batch.filter(pa.array(chosen))
        if taken.num_rows:
            arrays = [taken.column(columns.index(column)) for column in query.columns.values()]
            yield pa.record_batch(
                [
                    as_instants(array) if kind == INSTANTS else array
                    for array, kind in zip(arrays, schema.types, strict=True)
                ],
                schema=schema,
            )


def _can_touch(interval: Interval, group: RowGroup) -> bool:
    return group.event.null_count != group.rows and interval.touches(group.event)


def _there(group: RowGroup, position: int, rows: int, is_dated: np.ndarray | None) -> np.ndarray | None:
    """Which rows have a time and are not deleted; None where all do."""
    kept = is_kept(group, position, rows)
    if kept is None or is_dated is None:
        return is_dated if kept is None else kept
    both: np.ndarray = kept & is_dated
    return both
