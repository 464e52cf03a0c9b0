"""Rows of a frame against a source's rows in their total order: which row is the newest that each may see.

The source's rows come sorted by (key id, event_ts, created_ts, position), in batches of any size, and only a batch is held. A later
batch holds greater rows, so what it finds for a key that goes on there replaces what an earlier one found.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hindcast.offline.sources.instants import MICROS_MIN

NONE = -1
"""The position of no row."""
NO_TIME = MICROS_MIN - 1
"""A created time that is not there; it comes before every other."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Some rows of a source in their order, n arrays of one length.

    Attributes:
        ids: of their keys, ascending.
        events, created: microseconds; `NO_TIME` where a row has no created time.
        positions: in the source.
    """

    ids: np.ndarray
    events: np.ndarray
    created: np.ndarray
    positions: np.ndarray

    def without(self, deleted: np.ndarray) -> "Sorted":
        """The rows but for those at some positions, which are ascending."""
        at = np.minimum(np.searchsorted(deleted, self.positions), len(deleted) - 1)
        kept = deleted[at] != self.positions
        return Sorted(self.ids[kept], self.events[kept], self.created[kept], self.positions[kept])


@dataclass(frozen=True, slots=True)
class Asked:
    """What each of n rows of a frame asks about, sorted by key id; rows that can match nothing are left out.

    Attributes:
        rows: their numbers in the frame.
        ids: of their keys, ascending.
        as_of: microseconds.
        known_at: microseconds; None where nothing is cut off.
    """

    rows: np.ndarray
    ids: np.ndarray
    as_of: np.ndarray
    known_at: np.ndarray | None

    @classmethod
    def of(
        cls, ids: np.ndarray, as_of: np.ndarray, *, is_dated: np.ndarray | None, known_at: np.ndarray | None
    ) -> "Asked":
        """Sort n rows.

        Args:
            ids: -1 where a row has no key.
            is_dated: which rows have a time; None: all.
        """
        asks = ids >= 0 if is_dated is None else (ids >= 0) & is_dated
        rows = np.flatnonzero(asks)
        rows = rows[np.argsort(ids[rows], kind="stable")]
        return cls(rows, ids[rows], as_of[rows], None if known_at is None else known_at[rows])


@dataclass(frozen=True, slots=True)
class Newest:
    """For each of n rows of a frame the newest row that it may see.

    Attributes:
        positions: in the source; `NONE` for none.
        leaks: rows whose newest row was created after what they ask about.
        worst_leak_micros: by how much at most; 0 where there is none.
        events, created: of the rows found, anything where there is none; empty unless they were asked for.
    """

    positions: np.ndarray
    leaks: int
    worst_leak_micros: int
    events: np.ndarray
    created: np.ndarray


def newest(asked: Asked, batches: Iterable[Sorted], *, rows: int, ttl_micros: int, keeps_times: bool = False) -> Newest:
    """Merge the two sides.

    Args:
        rows: of the whole frame.
        ttl_micros: 0 for none; its edge is closed.
        keeps_times: of the rows found: 16 bytes more for each row of the frame.
    """
    times: np.ndarray = np.zeros((2, rows if keeps_times else 0), np.int64)
    found: np.ndarray = np.full(len(asked.rows), NONE, np.int64)
    late: np.ndarray = np.zeros(len(asked.rows), np.uint64)
    for batch in batches:
        if not len(batch.ids):
            continue
        first = int(np.searchsorted(asked.ids, batch.ids[0], "left"))
        last = int(np.searchsorted(asked.ids, batch.ids[-1], "right"))
        if first == last:
            continue
        begins, at = _last_seen(asked, slice(first, last), batch)
        is_found = at >= begins
        if ttl_micros:
            oldest = np.maximum(asked.as_of[first:last], MICROS_MIN + ttl_micros) - ttl_micros
            is_found &= batch.events[np.maximum(at, 0)] >= oldest
        chosen = np.flatnonzero(is_found)
        taken = at[chosen]
        chosen += first
        found[chosen] = batch.positions[taken]
        if keeps_times:
            times[0, asked.rows[chosen]] = batch.events[taken]
            times[1, asked.rows[chosen]] = batch.created[taken]
        # Unsigned: two times can lie further apart than 63 bits say.
        as_of = asked.as_of[chosen]
        late[chosen] = np.maximum(batch.created[taken], as_of).view(np.uint64) - as_of.view(np.uint64)
    positions: np.ndarray = np.full(rows, NONE, np.int64)
    positions[asked.rows] = found
    return Newest(positions, int(np.count_nonzero(late)), int(late.max(initial=0)), times[0], times[1])


def _last_seen(asked: Asked, some: slice, batch: Sorted) -> tuple[np.ndarray, np.ndarray]:
    """Where in the batch the rows of each one's key begin, and where the last is that it may see: before the begin if there is none."""
    changes: np.ndarray = np.flatnonzero(batch.ids[1:] != batch.ids[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(batch.ids)]])
    keys = batch.ids[edges[:-1]]
    ids = asked.ids[some]
    key = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
    begins = edges[key]
    ends = np.where(keys[key] == ids, edges[key + 1], begins)
    at = _last_before(batch.events, begins, ends, asked.as_of[some])
    if asked.known_at is not None:
        at = _last_known(batch.created, begins, at, asked.known_at[some])
    return begins, at


def _last_before(values: np.ndarray, begins: np.ndarray, ends: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The last place in [begin, end) whose value is at most the bound, values ascending there; begin - 1 for none. All rows by halves at once."""
    low, high = begins.copy(), ends.copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        is_open = low < high
        is_seen = is_open & (values[np.minimum(middle, len(values) - 1)] <= bounds)
        low = np.where(is_seen, middle + 1, low)
        high = np.where(is_open & ~is_seen, middle, high)
    return low - 1


def _last_known(created: np.ndarray, begins: np.ndarray, at: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The last place in [begin, at] that was created by the bound; before begin for none.

    Created times are in no order there. The least of each run of 2^k says whether all of it can be passed over, so a row takes as
    many steps as the logarithm of what it passes over, not as many as there are late rows.
    """
    at = at.copy()
    late = np.flatnonzero((at >= begins) & (created[np.maximum(at, 0)] > bounds))
    if not len(late):
        return at
    here, first, bound = at[late], begins[late], bounds[late]
    runs = [created]
    while 2 ** len(runs) <= int((here - first).max()) + 1:
        half = 2 ** (len(runs) - 1)
        run = runs[-1].copy()
        run[half:] = np.minimum(run[half:], runs[-1][:-half])
        runs.append(run)
    for power in range(len(runs) - 1, -1, -1):
        fits = here - first + 1 >= 2**power
        passes = fits & (runs[power][np.maximum(here, 0)] > bound)
        here = np.where(passes, here - 2**power, here)
    at[late] = here
    return at


def created_micros(created: np.ndarray, is_created: np.ndarray | None) -> np.ndarray:
    """Created times as they are compared: no time comes before every time."""
    if is_created is None:
        return created
    compared: np.ndarray = np.where(is_created, created, NO_TIME)
    return compared
