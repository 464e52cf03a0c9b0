"""NumPy's part: the position of the newest row of each key, where one row a key fits into memory.

Of 1,000,000 candidates of 100,000 keys DuckDB takes 0.11 s of CPU to find them, most of it to compare times of 128 bits, and NumPy
0.02 s; Redis has nothing to do meanwhile (docs/decisions/0020-materialize-by-column.md).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import pyarrow as pa

from hindcast.offline.winners.candidates import Candidates, Counts

_ROW_BYTES = 80
"""Of the limit, for each row that is held: key, times and position, twice while one column is laid together, and the key's number."""
_HELD_ROWS = 262_144
"""Held before the newest of them are kept, where a third of so many are newest: memory that is used again costs no page faults."""
_KEYS_SHARE = 0.5
"""Of the limit, what the rows that are held may take by themselves: keys can be long."""
_WINNERS_SHARE = 0.5
"""Of what may be held, the newest rows: with more of them, so few others fit beside them that DuckDB is as quick, and it has threads."""


def find_newest_of_few(candidates: Candidates, *, limit_bytes: int) -> tuple[np.ndarray, Counts] | None:
    """The positions of the newest candidates of all keys, ascending, and what was met; None where the keys do not fit into the limit.

    Raises:
        SourceError: a file is damaged.
    """
    counts = Counts()
    held = _Held(len(candidates.keys))
    rows_max, bytes_max = limit_bytes // _ROW_BYTES, limit_bytes * _KEYS_SHARE
    due = min(_HELD_ROWS, rows_max)
    for batch in replace(candidates, packing=None).batches(counts):
        held.add(batch.columns)
        if held.rows >= due or held.size >= bytes_max:
            held.keep_newest()
            due = min(max(_HELD_ROWS, 3 * held.rows), rows_max)
            if held.rows > rows_max * _WINNERS_SHARE or held.size > bytes_max * _WINNERS_SHARE:
                return None
    held.keep_newest()
    return held.positions, counts


class _Held:
    """Some candidates, in the order of their positions: their keys, times and positions, by column."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._columns: list[list[pa.Array]] = [[] for _ in range(keys + 3)]
        self.rows = self.size = 0

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Hold some more."""
        for parts, column in zip(self._columns, columns, strict=True):
            parts.append(column)
            self.size += column.nbytes
        self.rows += len(columns[-1])

    @property
    def positions(self) -> np.ndarray:
        """Of the rows that are held, once the newest are kept."""
        (column,) = self._columns[-1] or [pa.array([], pa.int64())]
        positions: np.ndarray = column.to_numpy()
        return positions

    def keep_newest(self) -> None:
        """Hold one row a key, that with the greatest (event_ts, created_ts, position)."""
        if not self.rows:
            return
        whole = []
        for parts in self._columns:
            whole.append(pa.concat_arrays(parts))
            parts.clear()
        numbers = _key_numbers(whole[: self._keys], rows=self.rows)
        newest: np.ndarray | None = None
        for column in whole[self._keys :]:
            order = column.to_numpy()
            if newest is None:
                newest = np.flatnonzero(_are_greatest(numbers, order))
            else:
                newest = newest[_are_greatest(numbers[newest], order[newest])]
        self.rows = self.size = 0
        self.add([column.take(pa.array(newest)) for column in whole])


def _key_numbers(keys: Sequence[pa.Array], *, rows: int) -> np.ndarray:
    """A number from 0 on for each row, the same for those of one key, and none as great as twice the number of rows."""
    if not keys:
        return np.zeros(rows, np.int64)
    return reduce(lambda one, other: _numbers(pa.array(one * (other.max() + 1) + other)), map(_numbers, keys))


def _numbers(key: pa.Array) -> np.ndarray:
    """As `_key_numbers`, of one column without nulls."""
    if pa.types.is_integer(key.type):
        whole = key.to_numpy()
        least, greatest = whole.min(), whole.max()
        if int(greatest) - int(least) < 2 * len(whole):
            above: np.ndarray = (whole if whole.dtype == np.uint64 else whole.astype(np.int64, copy=False)) - least
            return above.astype(np.int64, copy=False)
    if pa.types.is_floating(key.type):
        key = pa.array(key.to_numpy() + key.type.to_pandas_dtype()(0))  # the zero below nothing is the one above
    found: np.ndarray = key.dictionary_encode().indices.to_numpy().astype(np.int64)
    return found


def _are_greatest(numbers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Which rows have the greatest order of all with their number."""
    greatest: np.ndarray = np.full(int(numbers.max()) + 1, np.iinfo(np.int64).min)
    np.maximum.at(greatest, numbers, order)
    found: np.ndarray = order == greatest[numbers]
    return found
