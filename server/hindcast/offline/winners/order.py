"""The total order of rows as one number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hindcast.errors import SourceError
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.scan import RowGroup

PACKED = pa.decimal128(38, 0)
_BITS_MAX = 126
"""A whole number of 126 bits is a decimal of 38 digits."""
_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Packing:
    """How (event_ts, created_ts, position) is one number that sorts in the same way.

    DuckDB then takes the greatest of plain numbers: 1.9 s for 10,000,000 rows, against 3.1 s and 215 MB more by structs of three.

    Attributes:
        event_least, created_least: what is subtracted. A null created time is 0, the least one 1.
        event_span, created_span: the greatest that is left.
    """

    event_least: int
    event_span: int
    created_least: int
    created_span: int
    position_bits: int

    @classmethod
    def of(cls, groups: Sequence[RowGroup], interval: Interval, rows: int) -> "Packing | None":
        """The packing for these groups; None where their statistics do not say enough, or the times lie too far apart.

        Args:
            rows: of the whole source.
        """
        created = _created_ends(groups)
        if created is None:
            return None
        first = [interval.start_micros if group.event.least is None else group.event.least for group in groups]
        last = [interval.last_micros if group.event.greatest is None else group.event.greatest for group in groups]
        least = max(interval.start_micros, min(first, default=0))
        greatest = min(interval.last_micros, max(last, default=0))
        packing = cls(least, max(greatest - least, 0), created[0], created[1] - created[0], rows.bit_length())
        bits = packing.event_span.bit_length() + packing._created_bits + packing.position_bits
        return packing if bits <= _BITS_MAX and packing._created_bits < _WORD_BITS else None

    @property
    def _created_bits(self) -> int:
        return (self.created_span + 1).bit_length()

    def pack(
        self, events: np.ndarray, created: np.ndarray, is_created: np.ndarray | None, positions: np.ndarray
    ) -> pa.Array:
        """One number for each of n rows, n at least 1.

        Args:
            is_created: which rows have a created time; None: all.
        Raises:
            SourceError: a time lies outside of what the statistics said.
        """
        event, rank = _above(events, self.event_least), _above(created, self.created_least)
        if is_created is not None:
            rank[~is_created] = 0
        if int(event.max()) > self.event_span or int(rank.max()) > self.created_span:
            raise SourceError("the statistics of the source's files do not fit their rows; write the files anew")
        rank += np.uint64(1)
        if is_created is not None:
            rank[~is_created] = 0
        words: np.ndarray = np.empty((len(events), 2), np.uint64)
        low, high = words[:, 0], words[:, 1]
        low[:], high[:] = positions, 0
        for number, shift in ((rank, self.position_bits), (event, self.position_bits + self._created_bits)):
            if shift < _WORD_BITS:
                low |= number << np.uint64(shift)
                high |= number >> np.uint64(_WORD_BITS - shift)
            else:
                high |= number << np.uint64(shift - _WORD_BITS)
        return pa.Array.from_buffers(PACKED, len(events), [None, pa.py_buffer(words)])


def _created_ends(groups: Sequence[RowGroup]) -> tuple[int, int] | None:
    """Least and greatest created time; (0, 0) where there is none, None where it is not known."""
    spans = [group.created for group in groups if group.created.null_count != group.rows]
    if any(span.least is None for span in spans):
        return None
    least = [span.least for span in spans if span.least is not None]
    greatest = [span.greatest for span in spans if span.greatest is not None]
    return (min(least), max(greatest)) if spans else (0, 0)


def _above(numbers: np.ndarray, least: int) -> np.ndarray:
    """How far above the least they are; what is below it comes out huge."""
    difference: np.ndarray = numbers.view(np.uint64) - np.uint64(least % 2**_WORD_BITS)
    return difference
