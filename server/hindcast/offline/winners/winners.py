"""The newest row of each key in an interval, in memory that does not grow with the interval.

First the keys, times and positions of all candidates are read, of which one position a key is kept: by NumPy where one row a key
fits into memory (`few`), else by DuckDB; then the rows at those positions are read with all their columns. DuckDB sees numbers and
keys only, no name and no path of the user's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hindcast.offline.connection import open_duckdb
from hindcast.offline.sources.instants import as_instants
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.keyforms import key_form
from hindcast.offline.sources.scan import RowGroup, SourceScan, read_groups, scan_source
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of
from hindcast.offline.winners.candidates import Candidates, Counts
from hindcast.offline.winners.few import find_newest_of_few
from hindcast.offline.winners.newest import count_newest, find_newest, newest_positions
from hindcast.offline.winners.order import Packing
from hindcast.offline.winners.quarantine import write_quarantine

_FIRST_SHARE = 8
"""Of `batch_rows`, the first batch is an eighth, the next a quarter, then a half."""
_INSTANTS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersQuery:
    """What is asked of a source. All times are microseconds since 1970.

    Attributes:
        keys: join key as the view names it -> column of the source; empty for a view without entities.
        fields: feature -> column of the source.
        created_column: None where the source has none.
        start_micros, end_micros: the interval of event times, closed at both ends.
        future_after_micros: rows of the source that are dated after this are no candidates.
        quarantine: a Parquet file for those rows, which is written only if there are any.
        memory_limit_bytes: for keys, times and positions. Where they need more they go through DuckDB, which may spill; where the keys
            alone need more, the source is passed over several times, a part of the keys each.
        threads: DuckDB's; None for one per core.
        spill_dir: for what does not fit into memory; nothing is left there.
    """

    source: SourceFiles | DeltaTable
    keys: Mapping[str, str]
    fields: Mapping[str, str]
    event_column: str
    created_column: str | None
    start_micros: int
    end_micros: int
    future_after_micros: int
    quarantine: Path
    memory_limit_bytes: int
    threads: int | None
    spill_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersReport:
    """What was read, and what was left out.

    Attributes:
        rows_read: candidates: rows in the interval that are not dated ahead, those with a null key among them.
        null_keys: candidates with a null, or NaN, in a join key; none of them wins.
        quarantined: rows of the source that are dated ahead.
    """

    rows_read: int
    null_keys: int
    quarantined: int


@contextmanager
def read_winners(query: WinnersQuery, *, batch_rows: int) -> Iterator["Winners"]:
    """Find the winners; when this returns they are counted, and rows dated ahead are in quarantine.

    The winner of a key is the candidate with the greatest (event_ts, created_ts, source position); a null created_ts sorts first,
    and the position is (file, row number in the file), files in the order of the source.

    Args:
        batch_rows: rows of a batch, but for the last.
    Raises:
        SourceError: a file is missing, damaged, changed meanwhile, or lacks a column; or the limit is too small.
        StoreUnavailable: the disk did not take what was spilled, or the quarantine.
    """
    source = files_of(query.source)
    values = list(dict.fromkeys([*query.keys.values(), *query.fields.values()]))
    features = set(query.fields.values()).difference(query.keys.values())
    scan = scan_source(source, values=values, event=query.event_column, created=query.created_column, features=features)
    with _find(_candidates(query, scan), query) as newest:
        counts = newest.counts
        if counts.ahead:
            write_quarantine(
                query.quarantine,
                scan=scan,
                groups=counts.ahead,
                event=query.event_column,
                future_after_micros=query.future_after_micros,
            )
        report = WinnersReport(
            rows_read=counts.read,
            null_keys=counts.null_keys,
            quarantined=sum(counts.ahead.values()),
        )
        yield Winners(query, scan, newest, report, batch_rows=batch_rows)


@dataclass(frozen=True, slots=True)
class _Newest:
    """What was found.

    Attributes:
        count: of keys.
        positions: the newest rows' positions, ascending, some at a time; from the beginning each time it is called.
    """

    counts: Counts
    count: int
    positions: Callable[[], Iterator[np.ndarray]]


@contextmanager
def _find(candidates: Candidates, query: WinnersQuery) -> Iterator[_Newest]:
    few = find_newest_of_few(candidates, limit_bytes=query.memory_limit_bytes)
    if few is not None:
        positions, counts = few
        yield _Newest(counts, len(positions), lambda: iter([positions]))
        return
    with open_duckdb(
        memory_limit_bytes=query.memory_limit_bytes, threads=query.threads, spill_dir=query.spill_dir
    ) as connection:
        counts = find_newest(candidates, connection, limit_bytes=query.memory_limit_bytes)
        yield _Newest(counts, count_newest(connection), lambda: newest_positions(connection))


class Winners:
    """The winners of a query, while its `with` block lasts.

    Attributes:
        count: how many there are.
        report: what was read to find them.
    """

    def __init__(
        self,
        query: WinnersQuery,
        scan: SourceScan,
        newest: _Newest,
        report: WinnersReport,
        *,
        batch_rows: int,
    ) -> None:
        self._query = query
        self._scan = scan
        self._newest = newest
        self._batch_rows = batch_rows
        self.report = report
        self.count = newest.count

    @property
    def schema(self) -> pa.Schema:
        """Of the batches."""
        query, types = self._query, self._scan.types
        fields = [pa.field(*column) for columns in (query.keys, query.fields) for column in _typed(columns, types)]
        return pa.schema([*fields, pa.field("event_ts", _INSTANTS), pa.field("created_ts", _INSTANTS)])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The winners, each once, in the order of their positions.

        Returns:
            Batches of the keys and the features, in the source's types (a dictionary's entries stand for it), then event_ts and
            created_ts as `timestamp[us, tz=UTC]`. All of `batch_rows` rows, but for the last, and for the first few, which are
            smaller, so that there is work early for whoever takes them.
        Raises:
            SourceError: a file changed since the winners were found, or is damaged.
        """
        pending: list[pa.RecordBatch] = []
        rows, due = 0, -(-self._batch_rows // _FIRST_SHARE)
        for batch in self._taken():
            pending.append(batch)
            rows += batch.num_rows
            while rows >= due:
                whole = _joined(pending)
                yield whole.slice(0, due)
                pending = [whole.slice(due)]
                rows -= due
                due = min(2 * due, self._batch_rows)
        if rows:
            yield _joined(pending)

    def _taken(self) -> Iterator[pa.RecordBatch]:
        query = self._query
        created = [] if query.created_column is None else [query.created_column]
        columns = list(dict.fromkeys([*query.keys.values(), *query.fields.values(), query.event_column, *created]))
        wanted = _Positions(self._newest.positions())
        for _, first, batch in read_groups(wanted.groups(self._scan), columns, types=self._scan.types):
            chosen = wanted.before(first + batch.num_rows)
            if len(chosen):
                is_whole = len(chosen) == batch.num_rows
                yield self._as_answer(batch if is_whole else batch.take(pa.array(chosen - first)), columns)

    def _as_answer(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        query = self._query
        arrays = [batch.column(columns.index(column)) for column in (*query.keys.values(), *query.fields.values())]
        arrays.append(as_instants(batch.column(columns.index(query.event_column))))
        if query.created_column is None:
            arrays.append(pa.nulls(batch.num_rows, _INSTANTS))
        else:
            arrays.append(as_instants(batch.column(columns.index(query.created_column))))
        return pa.record_batch(arrays, names=[*query.keys, *query.fields, "event_ts", "created_ts"])


class _Positions:
    """The winners' positions, ascending, a few at a time."""

    def __init__(self, some: Iterator[np.ndarray]) -> None:
        self._some = some
        self._rest: np.ndarray = np.empty(0, np.int64)
        self._is_over = False

    def groups(self, scan: SourceScan) -> Iterator[RowGroup]:
        """The groups that hold winners, each when the ones before it are read."""
        for group in scan.groups:
            if self._next() is None:
                return
            if self._rest[0] < group.first_position + group.rows:
                yield group

    def before(self, end: int) -> np.ndarray:
        """Those that are left below a position."""
        pieces = []
        while self._next() is not None:
            at = int(np.searchsorted(self._rest, end))
            pieces.append(self._rest[:at])
            self._rest = self._rest[at:]
            if len(self._rest):
                break
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.int64), *pieces])

    def _next(self) -> int | None:
        while not len(self._rest) and not self._is_over:
            some = next(self._some, None)
            if some is None:
                self._is_over = True
            else:
                self._rest = some
        return int(self._rest[0]) if len(self._rest) else None


def _candidates(query: WinnersQuery, scan: SourceScan) -> Candidates:
    """The candidates, in the groups that can have some, or rows dated ahead."""
    interval = Interval(
        start_micros=query.start_micros, end_micros=query.end_micros, future_after_micros=query.future_after_micros
    )
    groups = [
        group
        for group in scan.groups
        if group.event.null_count != group.rows
        and (interval.touches(group.event) or interval.is_exceeded_by(group.event))
    ]
    keys = list(query.keys.values())
    return Candidates(
        scan=scan,
        keys=keys,
        event=query.event_column,
        created=query.created_column,
        interval=interval,
        groups=groups,
        packing=Packing.of(groups, interval, scan.rows),
        key_forms={key: key_form(scan.types[key], column=key) for key in keys},
    )


def _typed(columns: Mapping[str, str], types: Mapping[str, pa.DataType]) -> Iterator[tuple[str, pa.DataType]]:
    return ((name, types[column]) for name, column in columns.items())


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
