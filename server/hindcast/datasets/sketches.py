"""What is kept of a column that is too long to keep: each sketch has a bound in memory, and does not depend on threads or batches.

They are our own, of a few lines each, because the libraries that have them draw lots (quantiles in `datasketches`), depend on the order in
which threads come (DuckDB's `approx_quantile`), or take a value at a time from Python; a manifest must be the same twice.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

CHUNK = 32_768
"""Values looked at at once: what is made of them stays in the cache, and calls are long enough to be worth giving up Python's lock."""

DISTINCT_KEPT = 4_096
SAMPLE_KEPT = 16_384
COUNTERS = 1_024

_SHARED = 4
"""Sets of rows without nulls that are kept for the columns to come: those of a view stand together, and some threads take them in turn."""
_LANES = 128
_LONG_BYTES = 4_096
_SPREAD_BYTES = 2**20
_FACTOR = 0x9E3779B97F4A7C15
_WORD = 2**64


def mixed(words: Any) -> Any:
    """Numbers of 64 bits for n others, by a mixing function that has an inverse (the last step of MurmurHash3)."""
    out: Any = np.empty(len(words), np.uint64)
    for start in range(0, len(words), CHUNK):
        part = out[start : start + CHUNK]
        np.right_shift(words[start : start + CHUNK], np.uint64(33), out=part)
        part ^= words[start : start + CHUNK]
        part *= np.uint64(0xFF51AFD7ED558CCD)
        part ^= part >> np.uint64(33)
        part *= np.uint64(0xC4CEB9FE1A85EC53)
        part ^= part >> np.uint64(33)
    return out


def hashes_of_bytes(data: Any, offsets: Any) -> Any:
    """A number of 64 bits for each of n values, which lie one after another in the data: a polynomial of its bytes, mixed."""
    lengths = np.diff(offsets)
    out: Any = np.empty(len(lengths), np.uint64)
    powers = np.cumprod(np.full(_LONG_BYTES, _FACTOR, np.uint64))
    for start, stop in _spans(offsets):
        spread = lengths[start:stop]
        short = np.where(spread > _LONG_BYTES, 0, spread)
        ends: Any = np.zeros(len(short) + 1, np.int64)
        np.cumsum(short, out=ends[1:])
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], short)
        places = np.repeat(offsets[start:stop].astype(np.int64), short) + within
        sums: Any = np.zeros(len(places) + 1, np.uint64)
        np.cumsum((data[places].astype(np.uint64) + np.uint64(1)) * powers[within], out=sums[1:])
        out[start:stop] = (sums[ends[1:]] - sums[ends[:-1]]) ^ spread.astype(np.uint64)
    for place in np.flatnonzero(lengths > _LONG_BYTES):
        value = data[offsets[place] : offsets[place + 1]]
        out[place] = int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")
    return mixed(out)


def _spans(offsets: Any) -> Iterator[tuple[int, int]]:
    """Ranges of values with some 1 MiB each, since what is made of a byte takes some 30; a longer value is one by itself."""
    start, last = 0, len(offsets) - 1
    while start < last:
        stop = int(np.searchsorted(offsets, offsets[start] + _SPREAD_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), last)
        yield start, stop
        start = stop


class Distinct:
    """How many different values there are, by the smallest 4,096 of their hashes: exact up to so many.

    Beyond that the standard error is 1/sqrt(4,094), that is 1.6 per cent (Bar-Yossef et al. 2002, "Counting distinct elements in a data
    stream").
    """

    def __init__(self) -> None:
        self._kept: Any = np.empty(0, np.uint64)
        self._waiting: list[Any] = []
        self._waits = 0
        self._limit = np.uint64(_WORD - 1)

    def add_words(self, words: Any) -> None:
        """Add values of 64 bits."""
        for start in range(0, len(words), CHUNK):
            self.add(mixed(words[start : start + CHUNK]))

    def add(self, hashes: Any) -> None:
        """Add the values with these hashes."""
        # In pieces, so that the limit sinks before most of the first values are sorted.
        for start in range(0, len(hashes), CHUNK):
            part = hashes[start : start + CHUNK]
            below = part[part <= self._limit]
            if len(below):
                self._waiting.append(below)
                self._waits += len(below)
                if self._waits >= DISTINCT_KEPT:
                    self._sort()

    def _sort(self) -> None:
        # Not numpy.unique, whose hash table took five times as long.
        ordered = np.concatenate([self._kept, *self._waiting])
        ordered.sort()
        is_first: Any = np.empty(len(ordered), np.bool_)
        is_first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
        self._kept = ordered[is_first][:DISTINCT_KEPT]
        self._waiting, self._waits = [], 0
        if len(self._kept) == DISTINCT_KEPT:
            self._limit = self._kept[-1]

    def count(self) -> tuple[int, bool]:
        """How many, and whether it is exact."""
        self._sort()
        if len(self._kept) < DISTINCT_KEPT:
            return len(self._kept), True
        return (DISTINCT_KEPT - 1) * _WORD // (int(self._kept[-1]) + 1), False


class Positions:
    """Rows of which a sample is drawn: a number for each, no two equal, that says nothing of the values.

    Columns without nulls draw the same rows, so what one has found the next ones are given.
    """

    def __init__(self, hashes: Any) -> None:
        self.hashes = hashes
        self._limit: Any = None
        self._drawn: tuple[Any, Any, Any] | None = None
        self._there: dict[tuple[int, int], tuple[pa.Buffer, Any, Positions]] = {}

    @classmethod
    def of(cls, first: int, rows: int) -> "Positions":
        """Of rows one after another."""
        return cls(mixed(np.arange(first + 1, first + 1 + rows, dtype=np.uint64)))

    def chosen(self, is_chosen: Any) -> "Positions":
        """Of those rows where the array is true."""
        return Positions(self.hashes[is_chosen])

    def there(self, array: pa.Array) -> "tuple[Any, Positions]":
        """Which rows of an array that has nulls have none, true or false for each, and the positions of those.

        Columns of one view are often null together, and then share Arrow's buffer.
        """
        bits = array.buffers()[0]
        key = bits.address, array.offset
        # The buffer is held, so no other one comes to its place.
        found = self._there.get(key)
        if found is None:
            if len(self._there) >= _SHARED:
                self._there.clear()
            is_there = _is_there(bits, array.offset, len(array))
            found = self._there[key] = bits, is_there, self.chosen(is_there)
        return found[1:]

    def limit(self) -> Any:
        """What the hashes of 16,384 rows are below."""
        if self._limit is None:
            self._limit = np.partition(self.hashes, SAMPLE_KEPT)[SAMPLE_KEPT]
        return self._limit

    def below(self, limit: Any) -> tuple[Any, Any]:
        """Which rows are below a limit, and their hashes."""
        drawn = self._drawn
        if drawn is None or drawn[0] != limit:
            places = np.flatnonzero(self.hashes < limit)
            self._drawn = drawn = (limit, places, self.hashes[places])
        return drawn[1], drawn[2]


def _is_there(bits: pa.Buffer, offset: int, rows: int) -> Any:
    """True for each row that is not null."""
    of_rows = np.frombuffer(bits, np.uint8)[offset // 8 :]
    unpacked = np.unpackbits(of_rows, bitorder="little", count=offset % 8 + rows)
    return unpacked[offset % 8 :].view(np.bool_)


class Sample:
    """16,384 values, those whose positions have the smallest hashes: all of them if there are no more."""

    def __init__(self) -> None:
        self._hashes: list[Any] = []
        self._values: list[Any] = []
        self._held = 0
        self._limit: Any = None

    def add(self, positions: Positions, values: Any) -> None:
        """Add values, each at its position."""
        if self._limit is None and len(values) > SAMPLE_KEPT:
            self._limit = positions.limit()
        if self._limit is None:
            # Copies: a view would keep the whole batch.
            hashes, values = positions.hashes.copy(), values.copy()
        else:
            places, hashes = positions.below(self._limit)
            values = values[places]
        self._hashes.append(hashes)
        self._values.append(values)
        self._held += len(values)
        if self._held >= 2 * SAMPLE_KEPT:
            self._cut()

    def sorted(self) -> Any:
        """The values, in their order."""
        self._cut()
        return np.sort(self._values[0]) if self._values else np.empty(0)

    def _cut(self) -> None:
        if not self._held:
            return
        hashes, values = np.concatenate(self._hashes), np.concatenate(self._values)
        if len(hashes) > SAMPLE_KEPT:
            self._limit = np.partition(hashes, SAMPLE_KEPT)[SAMPLE_KEPT]
            kept = hashes < self._limit
            hashes, values = hashes[kept], values[kept]
        self._hashes, self._values, self._held = [hashes], [values], len(values)


class Counters:
    """The most frequent values, with at most 1,024 counters (Misra and Gries 1982, merged as Agarwal et al. 2012).

    A value's true count is what `most` says or up to `error` more; `error` is at most a 1,025th of all values, and 0 if no more than
    1,024 differ.
    """

    def __init__(self) -> None:
        self._counts: dict[Any, int] = {}
        self.error = 0

    def add(self, values: Any, counts: Any) -> None:
        """Add different values and how often each came.

        Args:
            values: maps an array of places to a list of values.
        """
        if len(counts) > COUNTERS:
            # Whatever is subtracted here, no tie has to be decided.
            cut = int(np.partition(counts, len(counts) - COUNTERS - 1)[len(counts) - COUNTERS - 1])
            self.error += cut
            counts = counts - cut
        places = np.flatnonzero(counts > 0)
        for value, count in zip(values(places), counts[places].tolist(), strict=True):
            self._counts[value] = self._counts.get(value, 0) + count
        if len(self._counts) > COUNTERS:
            cut = sorted(self._counts.values(), reverse=True)[COUNTERS]
            self.error += cut
            self._counts = {value: count - cut for value, count in self._counts.items() if count > cut}

    def most(self, most: int) -> list[tuple[Any, int]]:
        """The most frequent, of equal ones the smaller first."""
        return sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))[:most]


class Moments:
    """Count, mean and deviation, by deviations from the mean of each 8,192 values (Chan, Golub and LeVeque 1979).

    Sums are of a fixed order of plain additions, so that they are the same on every processor.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, values: Any) -> None:
        """Add finite numbers."""
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK].astype(np.float64)
            count = len(part)
            mean = ordered_sum(part) / count
            part -= mean
            part *= part
            total = self.count + count
            step = mean - self._mean
            self._squares += ordered_sum(part) + step * step * (self.count * count / total)
            self._mean += step * (count / total)
            self.count = total

    def mean(self) -> float | None:
        """None without values, and where it is beyond a double."""
        return self._mean if self.count and math.isfinite(self._mean) else None

    def deviation(self) -> float | None:
        """Of a sample (n - 1); None for fewer than two values, and where it is beyond a double."""
        if self.count < 2 or not math.isfinite(self._squares):
            return None
        return math.sqrt(self._squares / (self.count - 1))


def ordered_sum(values: Any) -> float:
    """The sum of doubles: of every 128th one after another, and then of these sums, exactly rounded."""
    whole = len(values) // _LANES * _LANES
    # Along this axis row is added to row; the sum of one row, and `numpy.sum`, may come in an order of the processor's.
    lanes = np.add.reduce(values[:whole].reshape(-1, _LANES), axis=0)
    lanes[: len(values) - whole] += values[whole:]
    try:
        return math.fsum(lanes.tolist())
    except (OverflowError, ValueError):
        return math.inf
