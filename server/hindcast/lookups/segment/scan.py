"""Reads a segment that is all in memory, and says how it ends; behind damaged places too, where that is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hindcast.errors import StoredDataError
from hindcast.lookups.segment.format import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RECORD_BYTES,
    Footer,
    Gap,
    GapReason,
    Placed,
    Record,
    SegmentHeader,
    read_footer,
    read_head,
    read_header,
    read_placed,
)


class RecoveryMode(StrEnum):
    """What is made of a segment that does not end as a segment should."""

    TOLERATE_TAIL = "tolerate-tail"
    """The longest valid prefix counts; what follows it is reported."""
    STRICT = "strict"
    """Nothing but a whole segment will do; another one is refused and left as it is."""
    SALVAGE = "salvage"
    """Every record that can be verified counts, those behind a damaged place too."""


class State(StrEnum):
    """How a segment ends.

    A cut-off record is a torn tail in a part of the file that was never synced, and damage in one that was.
    """

    WHOLE = "whole"
    TORN = "torn"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a segment holds.

    Attributes:
        header: None where it cannot be read; then there are no records.
        records, gaps: in order; behind a damaged place only with `salvage`.
        footer: None where the segment has none in its valid part.
        valid_end: length of the longest valid prefix, with the footer.
        data_end: the same without the footer.
        size_bytes: of all that was scanned.
        last_sequence: of the last record or gap; one less than the header's first where there is none, 0 without a header.
        cut_short: whether what follows the valid prefix can be the beginning of one record, and nothing else.
        skipped: with `salvage`, the places (begin, end) that are no records.
    """

    header: SegmentHeader | None
    records: list[Record]
    gaps: list[Gap]
    footer: Footer | None
    valid_end: int
    data_end: int
    size_bytes: int
    last_sequence: int
    state: State
    cut_short: bool
    skipped: list[tuple[int, int]]


def scan(
    data: bytes, *, synced_end: int = 0, sealed: bool = False, mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL
) -> Scan:
    """Read a segment, and say how it ends.

    Args:
        data: the whole file, as bytes or a memory map.
        synced_end: how much of the file is known to have been synced.
        sealed: whether the file is called sealed, so that all of it was synced and it must have a footer.
    Raises:
        StoredDataError: the segment is of another format, or with `strict` not whole.
    """
    header = read_header(data)
    reading = Reading(data, header)
    if header is not None:
        reading.run()
    valid_end, data_end = reading.offset, reading.data_end
    cut_short = _is_cut_short(data, valid_end)
    whole = header is not None and valid_end == len(data) and (reading.footer is not None or not sealed)
    if whole:
        state = State.WHOLE
    elif sealed or reading.footer is not None or valid_end < synced_end:
        state = State.DAMAGED
    else:
        state = State.TORN
    if state is not State.WHOLE and mode is RecoveryMode.STRICT:
        raise StoredDataError(f"a segment of the log is {state} at byte {valid_end} of {len(data)}")
    footer = reading.footer
    skipped = []
    if state is not State.WHOLE and header is not None and mode is RecoveryMode.SALVAGE:
        skipped = reading.salvage()
    return Scan(
        header=header,
        records=reading.records,
        gaps=reading.gaps,
        footer=footer,
        valid_end=valid_end,
        data_end=data_end,
        size_bytes=len(data),
        last_sequence=reading.next_sequence - 1 if header else 0,
        state=state,
        cut_short=cut_short,
        skipped=skipped,
    )


class Reading:
    """How far a segment has been read."""

    def __init__(self, data: bytes, header: SegmentHeader | None) -> None:
        self.records: list[Record] = []
        self.gaps: list[Gap] = []
        self.footer: Footer | None = None
        self.offset = self.data_end = HEADER_BYTES if header else 0
        self.next_sequence = header.first_sequence if header else 0
        self._data = data
        self._seed = header.seed if header else 0

    def run(self) -> None:
        """Read on to the end of the valid part."""
        while self.footer is None:
            found = read_placed(self._data, self.offset, seed=self._seed)
            if found is None or found.sequence != self.next_sequence:
                self.footer = self._footer_here()
                if self.footer is not None:
                    self.offset += FOOTER_BYTES
                return
            self.take(found)

    def salvage(self) -> list[tuple[int, int]]:
        """Read what can be verified behind a damaged place, and give the places that cannot."""
        skipped = []
        while self.offset < len(self._data):
            begin = self.offset
            found = self._next()
            if found is None:
                skipped.append((begin, len(self._data)))
                return skipped
            skipped.append((begin, found.begin))
            if found.sequence > self.next_sequence:
                lost = Gap(
                    first_sequence=self.next_sequence,
                    last_sequence=found.sequence - 1,
                    reason=GapReason.DAMAGED,
                )
                self.gaps.append(lost)
            self.take(found)
            self.footer = None
            self.run()
        return skipped

    def take(self, found: Placed) -> None:
        """Count what stands at the offset."""
        if isinstance(found.content, Record):
            self.records.append(found.content)
        else:
            self.gaps.append(found.content)
        self.offset = self.data_end = found.end
        self.next_sequence = found.last_sequence + 1

    def _footer_here(self) -> Footer | None:
        there = bytes(self._data[self.offset : self.offset + FOOTER_BYTES])
        footer = read_footer(there, seed=self._seed)
        if footer is None:
            return None
        read = (self.next_sequence - 1, len(self.records), self.offset)
        return footer if (footer.last_sequence, footer.records, footer.size_bytes) == read else None

    def _next(self) -> Placed | None:
        """The first record or gap of this segment from here on, of a sequence that can be."""
        for at in _likely_places(self._data, self.offset, self.next_sequence):
            found = read_placed(self._data, at, seed=self._seed)
            if found is not None and found.sequence >= self.next_sequence:
                return found
        return None


def _likely_places(data: bytes, begin: int, sequence: int) -> Iterator[int]:
    """Where the upper bytes of a sequence stand as they must in a record, in order: far fewer places than all."""
    last = sequence + len(data)
    prefixes = {number.to_bytes(8, "big")[:4] for number in (sequence, last)}
    at = begin
    while True:
        there = [found for found in (data.find(prefix, at + 8) for prefix in prefixes) if found >= 0]
        if not there:
            return
        at = min(there) - 8
        yield at
        at += 1


def _is_cut_short(data: bytes, offset: int) -> bool:
    if offset + RECORD_BYTES > len(data):
        return True
    head = read_head(data, offset)
    return offset + (FOOTER_BYTES if head.is_footer else RECORD_BYTES + head.size) > len(data)
