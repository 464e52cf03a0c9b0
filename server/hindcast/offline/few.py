"""NumPy's part: of candidates that fit into memory as they are, the position of the newest row of each key.

DuckDB takes 0.11 s of CPU for the same 1,000,000 candidates of 100,000 whole numbers that take 0.02 s here, most of it to compare
times of 128 bits, and Redis has nothing to do meanwhile (docs/decisions/0020-materialize-by-column.md).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from hindcast.offline.candidates import Candidates, Counts

_ROW_BYTES = 80
"""Of the limit, for each row: its key, its times and its position, its key's number, and a table of keys that are all different."""
_KEYS_SHARE = 0.5
"""Of the limit, what batches may take before keys longer than numbers are DuckDB's."""


def find_newest_of_few(candidates: Candidates, *, limit_bytes: int) -> tuple[np.ndarray, Counts] | None:
    """The positions of the newest candidates of all keys, ascending, and what was met; None where they do not fit into the limit.

    Raises:
        SourceError: a file is damaged.
    """
    if sum(group.rows for group in candidates.groups) * _ROW_BYTES > limit_bytes:
        return None
    narrow = replace(candidates, packing=None)
    counts = Counts()
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in narrow.batches(counts):
        size += batch.nbytes
        if size > limit_bytes * _KEYS_SHARE:
            return None
        batches.append(batch)
    table = pa.Table.from_batches(batches, narrow.schema).combine_chunks()
    batches.clear()
    *keys, events, created, positions = table.columns
    numbers = _key_numbers(keys, rows=table.num_rows)
    newest: np.ndarray = np.arange(table.num_rows)
    for order in (events, created, positions):
        newest = newest[_are_greatest(numbers[newest], order.to_numpy()[newest])]
    return positions.to_numpy()[newest], counts


def _key_numbers(keys: Sequence[pa.ChunkedArray], *, rows: int) -> np.ndarray:
    """A number from 0 on for each row, the same for those of one key; not much greater than there are rows."""
    numbers: np.ndarray = np.zeros(rows, np.int64)
    for key in keys:
        more = _numbers(key)
        if rows and numbers.any():
            # Both are below twice the number of rows, of which there are at most so many as memory holds.
            more = _numbers(pa.chunked_array([pa.array(numbers * (more.max() + 1) + more)]))
        numbers = more
    return numbers


def _numbers(key: pa.ChunkedArray) -> np.ndarray:
    """As `_key_numbers`, of one column without nulls."""
    if pa.types.is_integer(key.type) and len(key):
        whole = key.to_numpy()
        least, greatest = whole.min(), whole.max()
        if int(greatest) - int(least) < 2 * len(key):
            above: np.ndarray = (whole - least if whole.dtype == np.uint64 else whole.astype(np.int64) - least).astype(
                np.int64
            )
            return above
    if pa.types.is_floating(key.type):
        key = pa.chunked_array([pa.array(key.to_numpy() + 0.0)])  # no zero is less than nothing
    found: np.ndarray = key.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return found


def _are_greatest(numbers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Which rows have the greatest order of all with their number."""
    greatest: np.ndarray = np.full(int(numbers.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(greatest, numbers, order)
    found: np.ndarray = order == greatest[numbers]
    return found
