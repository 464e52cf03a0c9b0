"""The rows that a run may take, narrow: keys, order and position, batch by batch, and a count of those that it leaves out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from hindcast.offline.sources.instants import MICROS_MIN, to_micros
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.keyforms import KeyForm
from hindcast.offline.sources.scan import RowGroup, SourceScan, is_kept, read_groups
from hindcast.offline.winners.order import PACKED, Packing


@dataclass(slots=True)
class Counts:
    """What one reading of the candidates met.

    Attributes:
        read: rows in the interval.
        null_keys: those of them that have a null in a join key, or NaN, which is how pandas writes one.
        ahead: rows of the source dated after the bound, by their group.
    """

    read: int = 0
    null_keys: int = 0
    ahead: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The candidates of a source, as often as they are read.

    Attributes:
        keys: columns of the source.
        key_forms: what DuckDB is given for each, and how.
    """

    scan: SourceScan
    keys: Sequence[str]
    event: str
    created: str | None
    interval: Interval
    groups: Sequence[RowGroup]
    packing: Packing | None
    key_forms: Mapping[str, KeyForm]

    @property
    def schema(self) -> pa.Schema:
        """Of the batches: `k0`, `k1`, …, then `o`, or, where the order cannot be packed, `e` and `c`; and `p`, the position."""
        order = [("o", PACKED)] if self.packing else [(name, pa.int64()) for name in "ec"]
        return pa.schema([*self.key_schema, *(pa.field(*column) for column in order), ("p", pa.int64())])

    @property
    def key_schema(self) -> pa.Schema:
        """Of `key_batches`: `k0`, `k1`, …"""
        return pa.schema([(f"k{at}", self.key_forms[key].kind) for at, key in enumerate(self.keys)])

    def batches(self, counts: Counts) -> Iterator[pa.RecordBatch]:
        """The candidates that have a key, narrow; counted as they are read."""
        created = [] if self.created is None else [self.created]
        columns = list(dict.fromkeys([*self.keys, self.event, *created]))
        at = {column: number for number, column in enumerate(columns)}
        for group, position, batch in read_groups(self.groups, columns, types=self.scan.types):
            events, is_dated = to_micros(batch.column(at[self.event]))
            kept = is_kept(group, position, batch.num_rows)
            chosen = self._chosen(group, events, is_dated, kept, counts)
            in_interval = int(np.count_nonzero(chosen))
            for key in self.keys:
                has_key = _has_key(batch.column(at[key]))
                if has_key is not None:
                    chosen &= has_key
            rows = np.flatnonzero(chosen)
            counts.read += in_interval
            counts.null_keys += in_interval - len(rows)
            if not len(rows):
                continue
            is_whole = len(rows) == batch.num_rows
            taken = batch if is_whole else batch.take(pa.array(rows))
            order = self._order(taken, events if is_whole else events[rows], at, position + rows)
            arrays = [self.key_forms[key].form(taken.column(at[key])) for key in self.keys]
            yield pa.record_batch([*arrays, *order], schema=self.schema)

    def key_batches(self) -> Iterator[pa.RecordBatch]:
        """The keys alone of all rows of the groups, in the interval or not."""
        schema = self.key_schema
        columns = list(dict.fromkeys(self.keys))
        for _, _, batch in read_groups(self.groups, columns, types=self.scan.types):
            yield pa.record_batch(
                [self.key_forms[key].form(batch.column(columns.index(key))) for key in self.keys], schema=schema
            )

    def _chosen(
        self,
        group: RowGroup,
        events: np.ndarray,
        is_dated: np.ndarray | None,
        kept: np.ndarray | None,
        counts: Counts,
    ) -> np.ndarray:
        """Which rows are in the interval; the others are counted where that is called for."""
        there = np.ones(len(events), dtype=bool) if kept is None else kept
        if is_dated is not None:
            there &= is_dated
        if self.interval.is_exceeded_by(group.event):
            ahead = int(np.count_nonzero(there & (events > self.interval.future_after_micros)))
            if ahead:
                counts.ahead[group.first_position] = counts.ahead.get(group.first_position, 0) + ahead
        chosen: np.ndarray = there & (events >= self.interval.start_micros) & (events <= self.interval.last_micros)
        return chosen

    def _order(
        self, batch: pa.RecordBatch, events: np.ndarray, at: Mapping[str, int], positions: np.ndarray
    ) -> Sequence[pa.Array]:
        created: np.ndarray
        is_created: np.ndarray | None
        if self.created is None:
            created, is_created = np.zeros(len(events), np.int64), np.zeros(len(events), dtype=bool)
        else:
            created, is_created = to_micros(batch.column(at[self.created]))
        if self.packing is not None:
            return [self.packing.pack(events, created, is_created, positions), pa.array(positions)]
        if is_created is not None:
            created = np.where(is_created, created, MICROS_MIN - 1)
        return [pa.array(events), pa.array(created), pa.array(positions)]


def _has_key(array: pa.Array) -> np.ndarray | None:
    """Which rows have a value, as NaN is none; None where all have one."""
    stored = array.storage if isinstance(array, pa.ExtensionArray) else array
    if not stored.null_count and not pa.types.is_floating(stored.type):
        return None
    is_null = stored.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    has_key: np.ndarray = ~is_null
    return has_key
