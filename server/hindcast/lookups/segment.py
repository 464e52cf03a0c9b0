"""The segments of the log, bytes in and bytes out (docs/formats.md): a header, records, and a footer once it is sealed.

    header  64 bytes  magic, format, slot, epoch, first sequence, created_at, segment id, boot id, CRC32C
    record  16 bytes  length of the payload, CRC32C, sequence; then the payload
    footer  40 bytes  0xFFFFFFFF, CRC32C, last sequence, count of records, bytes before the footer, flags

All numbers are big-endian. The CRC32C of a record begins with the segment's id and goes over length, sequence and payload: a
payload is what callers send, and none of them can write one that reads as a record where a damaged file is searched.

Sequences of a segment have no holes. What was lost is a gap record, which stands for all sequences from its own to the one that
it names; its length has the highest bit set.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import NamedTuple

import google_crc32c

from hindcast.errors import StoredDataError

MAGIC = b"HCLOOKUP"
FORMAT = 1
PAYLOAD_BYTES_MAX = 1 << 30
"""A gRPC message has 16 MiB at most, and what cannot be right need not be summed up."""

_HEADER = struct.Struct(">8sHHQQq16s8sI")
_RECORD = struct.Struct(">IIQ")
_SUMMED = struct.Struct(">IQ")
_FOOTER = struct.Struct(">IIQQQB7x")
_GAP = struct.Struct(">QqqB")
HEADER_BYTES = _HEADER.size
RECORD_BYTES = _RECORD.size
FOOTER_BYTES = _FOOTER.size
_IS_GAP = 1 << 31
_IS_FOOTER = 0xFFFF_FFFF
_HAS_GAPS = 1

_extend = google_crc32c.extend


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


class GapReason(IntEnum):
    """Why records are not there; the numbers are stored."""

    WRITE_FAILED = 1
    """The log could not be written: a full disk, for instance."""
    OVERFLOW = 2
    """`best_effort` had no more room in memory."""
    SYNC_FAILED = 3
    """They were written and the disk did not take them; they may be there."""
    KILLED = 4
    """The process ended with records that were only in its memory."""
    TORN = 5
    """The file ends in the midst of a record, or a power cut may have taken its end."""
    DAMAGED = 6
    """The file was damaged after it was synced."""
    ERASED = 7
    """Somebody's data was erased; see the tombstones."""
    TOO_LARGE = 8
    """They were larger than the log takes."""


_REASONS = frozenset(GapReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """Whose segment it is.

    Attributes:
        slot: of the worker, 0 to 65535.
        epoch: microseconds since 1970 when the worker's log began; it tells apart who had the slot before.
        first_sequence: of the segment's first record, or of the one that would have been it; sequences of an epoch begin at 1.
        segment_id: 16 random bytes.
        boot_id: 8 bytes that tell one run of the kernel from the next; zeros where that is not known.
    """

    slot: int
    epoch: int
    first_sequence: int
    created_micros: int
    segment_id: bytes
    boot_id: bytes = bytes(8)
    seed: int = field(init=False, compare=False, repr=False)
    """CRC32C of the segment's id, with which the sums of its records begin."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", google_crc32c.value(self.segment_id))


class Record(NamedTuple):
    """One record of a segment."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records that are not there.

    Attributes:
        last_sequence: None where nobody knows how far it goes; then `first_sequence` is the first that may be missing.
        since_micros, until_micros: when they would have been written, as far as is known; else both zero.
    """

    first_sequence: int
    last_sequence: int | None
    reason: GapReason
    since_micros: int = 0
    until_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The end of a sealed segment.

    Attributes:
        last_sequence: of the last record or gap; one less than the first of the segment where it has none.
        records: how many, gap records not counted.
        size_bytes: of the segment before the footer.
    """

    last_sequence: int
    records: int
    size_bytes: int
    gaps: bool


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


def header_bytes(header: SegmentHeader) -> bytes:
    """The first 64 bytes of a segment."""
    unsummed: bytes = _HEADER.pack(
        MAGIC,
        FORMAT,
        header.slot,
        header.epoch,
        header.first_sequence,
        header.created_micros,
        header.segment_id,
        header.boot_id,
        0,
    )
    crc: int = google_crc32c.value(unsummed[:-4])
    return unsummed[:-4] + crc.to_bytes(4, "big")


def frame(sequence: int, parts: Sequence[bytes], *, seed: int) -> tuple[bytes, ...]:
    """A record's bytes, for `writev`: the head, then the parts of its payload as they are, none of them copied.

    Args:
        seed: `SegmentHeader.seed` of the segment that it goes into.
    Raises:
        ValueError: the payload is longer than 1 GiB.
    """
    length = sum(map(len, parts))
    if length > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a record of {length} bytes is too long; the limit is {PAYLOAD_BYTES_MAX}")
    crc = _extend(seed, _SUMMED.pack(length, sequence))
    for part in parts:
        crc = _extend(crc, part)
    return (_RECORD.pack(length, crc, sequence), *parts)


def gap_bytes(gap: Gap, *, seed: int) -> bytes:
    """The gap record of a gap whose end is known; the next record has the sequence after its last.

    Raises:
        ValueError: its end is not known.
    """
    if gap.last_sequence is None:
        raise ValueError("a gap without an end has no record: nothing can follow it")
    payload = _GAP.pack(gap.last_sequence, gap.since_micros, gap.until_micros, gap.reason)
    length = _IS_GAP | len(payload)
    crc = _extend(_extend(seed, _SUMMED.pack(length, gap.first_sequence)), payload)
    return _RECORD.pack(length, crc, gap.first_sequence) + payload


def footer_bytes(footer: Footer, *, seed: int) -> bytes:
    """The last 40 bytes of a sealed segment."""
    flags = _HAS_GAPS if footer.gaps else 0
    unsummed = _FOOTER.pack(_IS_FOOTER, 0, footer.last_sequence, footer.records, footer.size_bytes, flags)
    crc: int = _extend(seed, unsummed[:4] + unsummed[8:])
    return unsummed[:4] + crc.to_bytes(4, "big") + unsummed[8:]


def read_header(data: bytes) -> SegmentHeader | None:
    """The header at the beginning of a segment; None where it is not whole.

    Raises:
        StoredDataError: it is whole, and of a format that this version does not know.
    """
    if len(data) < HEADER_BYTES:
        return None
    magic, number, slot, epoch, first_sequence, created_micros, segment_id, boot_id, crc = _HEADER.unpack_from(data)
    if magic != MAGIC or crc != google_crc32c.value(bytes(data[: HEADER_BYTES - 4])):
        return None
    if number != FORMAT:
        raise StoredDataError(
            f"a segment of the log has format {number}, this version reads {FORMAT}; upgrade Hindcast"
        )
    return SegmentHeader(
        slot=slot,
        epoch=epoch,
        first_sequence=first_sequence,
        created_micros=created_micros,
        segment_id=segment_id,
        boot_id=boot_id,
    )


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
    reading = _Reading(data, header)
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


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A segment of which records were changed.

    Attributes:
        content: the file as it is to be; None where no record was changed.
        unread: the places (begin, end) that are no records and no footer, and were left as they are; not those of zeros alone.
    """

    content: bytes | None
    unread: list[tuple[int, int]]


def rewritten(data: bytes, change: Callable[[Record], bytes | None]) -> Rewritten:
    """Change records of a segment in their places, under their sequences; behind damaged places too.

    Args:
        change: gives the payload that a record is to have, the same object where it stays, and None where it is to be erased: then a
            gap record stands for it.
    Raises:
        StoredDataError: the segment is of another format.
    """
    header = read_header(data)
    if header is None:
        return Rewritten(None, _with_content(data, [(0, len(data))]))
    reading = _Noting(data, header)
    reading.run()
    footer = reading.footer
    unread = reading.salvage() if footer is None else [(reading.offset, len(data))]
    content: list[bytes] = []
    at = erased = 0
    for begin, end, record in reading.places:
        payload = change(record)
        if payload is record.payload:
            continue
        content.append(data[at:begin])
        if payload is None:
            gap = Gap(first_sequence=record.sequence, last_sequence=record.sequence, reason=GapReason.ERASED)
            content.append(gap_bytes(gap, seed=header.seed))
            erased += 1
        else:
            content += frame(record.sequence, (payload,), seed=header.seed)
        at = end
    if not content:
        return Rewritten(None, _with_content(data, unread))
    if footer is None:
        content.append(data[at:])
    else:
        content.append(data[at : reading.data_end])
        footer = replace(
            footer,
            records=footer.records - erased,
            size_bytes=sum(map(len, content)),
            gaps=footer.gaps or erased > 0,
        )
        content += (footer_bytes(footer, seed=header.seed), data[reading.offset :])
    return Rewritten(b"".join(content), _with_content(data, unread))


def _with_content(data: bytes, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(begin, end) for begin, end in places if data.count(0, begin, end) < end - begin]


class Head(NamedTuple):
    """What stands before a payload, for those who read a segment piece by piece; nothing of it is verified yet.

    Attributes:
        size: of the payload.
        is_gap, is_footer: what it is the head of; a footer has no payload and is longer than a head.
    """

    size: int
    crc: int
    sequence: int
    is_gap: bool
    is_footer: bool


def read_head(data: bytes, offset: int) -> Head:
    """The head at an offset, behind which there are 16 bytes at least."""
    length, crc, sequence = _RECORD.unpack_from(data, offset)
    return Head(length & ~_IS_GAP, crc, sequence, length >= _IS_GAP, length == _IS_FOOTER)


def is_intact(head: Head, payload: bytes, *, seed: int) -> bool:
    """Whether a payload is the one that was written behind its head, into the segment of this seed."""
    length = head.size | _IS_GAP if head.is_gap else head.size
    return bool(head.crc == _extend(_extend(seed, _SUMMED.pack(length, head.sequence)), payload))


def read_gap(head: Head, payload: bytes, *, seed: int) -> Gap | None:
    """The gap of a gap record; None where it is none, or damaged."""
    if not head.is_gap or len(payload) != _GAP.size or not is_intact(head, payload, seed=seed):
        return None
    last_sequence, since_micros, until_micros, reason = _GAP.unpack(payload)
    if last_sequence < head.sequence or reason not in _REASONS:
        return None
    return Gap(
        first_sequence=head.sequence,
        last_sequence=last_sequence,
        reason=GapReason(reason),
        since_micros=since_micros,
        until_micros=until_micros,
    )


def read_footer(data: bytes, *, seed: int) -> Footer | None:
    """The footer in these 40 bytes; None where they are none, or damaged."""
    if len(data) != FOOTER_BYTES:
        return None
    length, crc, last_sequence, records, size_bytes, flags = _FOOTER.unpack(data)
    if length != _IS_FOOTER or crc != _extend(seed, data[:4] + data[8:]):
        return None
    return Footer(last_sequence=last_sequence, records=records, size_bytes=size_bytes, gaps=bool(flags & _HAS_GAPS))


class _Frame(NamedTuple):
    end: int
    sequence: int
    last_sequence: int
    content: Record | Gap


class _Reading:
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
            found = _frame_at(self._data, self.offset, self._seed)
            if found is None or found.sequence != self.next_sequence:
                self.footer = self._footer_here()
                if self.footer is not None:
                    self.offset += FOOTER_BYTES
                return
            self._take(found)

    def salvage(self) -> list[tuple[int, int]]:
        """Read what can be verified behind a damaged place, and give the places that cannot."""
        skipped = []
        while self.offset < len(self._data):
            begin = self.offset
            found = self._next_frame(begin)
            if found is None:
                skipped.append((begin, len(self._data)))
                return skipped
            at, frame_there = found
            skipped.append((begin, at))
            if frame_there.sequence > self.next_sequence:
                lost = Gap(
                    first_sequence=self.next_sequence,
                    last_sequence=frame_there.sequence - 1,
                    reason=GapReason.DAMAGED,
                )
                self.gaps.append(lost)
            self._take(frame_there)
            self.footer = None
            self.run()
        return skipped

    def _take(self, found: _Frame) -> None:
        if isinstance(found.content, Record):
            self.records.append(found.content)
        else:
            self.gaps.append(found.content)
        self.offset = self.data_end = found.end
        self.next_sequence = found.last_sequence + 1

    def _footer_here(self) -> Footer | None:
        data, offset = self._data, self.offset
        if len(data) - offset < FOOTER_BYTES:
            return None
        length, crc, last_sequence, records, size_bytes, flags = _FOOTER.unpack_from(data, offset)
        there = bytes(data[offset : offset + FOOTER_BYTES])
        if length != _IS_FOOTER or crc != _extend(self._seed, there[:4] + there[8:]):
            return None
        footer = Footer(
            last_sequence=last_sequence, records=records, size_bytes=size_bytes, gaps=bool(flags & _HAS_GAPS)
        )
        read = (self.next_sequence - 1, len(self.records), offset)
        return footer if (footer.last_sequence, footer.records, footer.size_bytes) == read else None

    def _next_frame(self, begin: int) -> tuple[int, _Frame] | None:
        """The first place from `begin` on where a record of this segment stands, of a sequence that can be."""
        for at in _likely_places(self._data, begin, self.next_sequence):
            found = _frame_at(self._data, at, self._seed)
            if found is not None and found.sequence >= self.next_sequence:
                return at, found
        return None


class _Noting(_Reading):
    """A reading that notes where each record stands."""

    def __init__(self, data: bytes, header: SegmentHeader) -> None:
        super().__init__(data, header)
        self.places: list[tuple[int, int, Record]] = []

    def _take(self, found: _Frame) -> None:
        if isinstance(found.content, Record):
            begin = found.end - RECORD_BYTES - len(found.content.payload)
            self.places.append((begin, found.end, found.content))
        super()._take(found)


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


def _frame_at(data: bytes, offset: int, seed: int) -> _Frame | None:
    body = offset + RECORD_BYTES
    if body > len(data):
        return None
    length, crc, sequence = _RECORD.unpack_from(data, offset)
    end = body + (length & ~_IS_GAP)
    if length == _IS_FOOTER or end > len(data):
        return None
    payload = bytes(data[body:end])
    if crc != _extend(_extend(seed, _SUMMED.pack(length, sequence)), payload):
        return None
    if length & _IS_GAP:
        return _gap_frame(end, sequence, payload)
    return _Frame(end, sequence, sequence, Record(sequence, payload))


def _gap_frame(end: int, sequence: int, payload: bytes) -> _Frame | None:
    if len(payload) != _GAP.size:
        return None
    last_sequence, since_micros, until_micros, reason = _GAP.unpack(payload)
    if last_sequence < sequence or reason not in _REASONS:
        return None
    gap = Gap(
        first_sequence=sequence,
        last_sequence=last_sequence,
        reason=GapReason(reason),
        since_micros=since_micros,
        until_micros=until_micros,
    )
    return _Frame(end, sequence, last_sequence, gap)


def _is_cut_short(data: bytes, offset: int) -> bool:
    if offset + RECORD_BYTES > len(data):
        return True
    length, _, _ = _RECORD.unpack_from(data, offset)
    if length == _IS_FOOTER:
        return offset + FOOTER_BYTES > len(data)
    return bool(offset + RECORD_BYTES + (length & ~_IS_GAP) > len(data))
