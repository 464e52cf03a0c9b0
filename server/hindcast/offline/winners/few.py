"""NumPy's part: the position of the newest row of each key, where one row a key fits into memory.

Of 1,000,000 candidates of 100,000 keys DuckDB takes 0.11 s of CPU to find them, most of it to compare times of 128 bits, and NumPy
0.02 s; Redis has nothing to do meanwhile (docs/decisions/0020-materialize-by-column.md).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce

import numpy as np
import pyarrow as pa

from hindcast.offline.winners.candidates import Candidates, Counts

_ROW_BYTES = 80
"""Of the limit, for each row that is held: key, times and position, twice while one column is laid together, and the key's number."""
_HELD_ROWS = 262_144
"""Read before the newest of them are kept, where half of so many are newest: memory that is used again costs no page faults."""
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
    keys = len(candidates.keys)
    rows_max, bytes_max = limit_bytes // _ROW_BYTES, limit_bytes * _KEYS_SHARE
    held, read = _Held(keys), _Held(keys)

    def is_crowded() -> bool:
        return held.rows > rows_max * _WINNERS_SHARE or held.size > bytes_max * _WINNERS_SHARE

    due_rows, due_bytes = min(_HELD_ROWS, rows_max / 2), bytes_max / 2
    with ThreadPoolExecutor(1) as beside:
        keeping = beside.submit(held.keep_newest)
        for batch in replace(candidates, packing=None).batches(counts):
            read.add(batch.columns)
            if read.rows < due_rows and read.size < due_bytes:
                continue
            keeping.result()
            if is_crowded():
                return None
            due_rows = min(max(_HELD_ROWS, 2 * held.rows), (rows_max - held.rows) / 2)
            due_bytes = (bytes_max - held.size) / 2
            held.take_over(read)
            # While more are read.
            keeping = beside.submit(held.keep_newest)
        keeping.result()
    if is_crowded():
        return None
    held.take_over(read)
    held.keep_newest()
    return held.positions, counts


class _Held:
    """Some candidates, in the order of their positions: their keys, times and positions, by column."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self.columns: list[list[pa.Array]] = [[] for _ in range(keys + 3)]
        self.rows = self.size = 0

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Hold some more."""
        for parts, column in zip(self.columns, columns, strict=True):
            parts.append(column)
            self.size += column.nbytes
        self.rows += len(columns[-1])

    def take_over(self, other: "_Held") -> None:
        """Hold what another has held, after what is held here."""
        for columns in zip(*other.columns, strict=True):
            self.add(columns)
        other.clear()

    def clear(self) -> None:
        """Hold nothing."""
        for parts in self.columns:
            parts.clear()
        self.rows = self.size = 0

    @property
    def positions(self) -> np.ndarray:
        """Of the rows that are held, once the newest are kept."""
        (column,) = self.columns[-1] or [pa.array([], pa.int64())]
        positions: np.ndarray = column.to_numpy()
        return positions

    def keep_newest(self) -> None:
        """Hold one row a key, that with the greatest (event_ts, created_ts, position)."""
        if not self.rows:
            return
        whole = []
        for parts in self.columns:
            whole.append(pa.concat_arrays(parts))
            parts.clear()  # one at a time, so that no more than one is there twice
        numbers = _key_numbers(whole[: self._keys], rows=self.rows)
        newest: np.ndarray | None = None
        for column in whole[self._keys :]:
            order = column.to_numpy()
            if newest is None:
                newest = np.flatnonzero(_are_greatest(numbers, order))
            else:
                newest = newest[_are_greatest(numbers[newest], order[newest])]
        self.clear()
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
