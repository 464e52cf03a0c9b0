"""What a segment is made of, bytes in and bytes out (docs/formats.md): a header, records, and a footer once it is sealed.

    header  64 bytes  magic, format, slot, epoch, first sequence, created_at, segment id, boot id, CRC32C
    record  16 bytes  length of the payload, CRC32C, sequence; then the payload
    footer  40 bytes  0xFFFFFFFF, CRC32C, last sequence, count of records, bytes before the footer, flags

All numbers are big-endian. The CRC32C of a record begins with the segment's id and goes over length, sequence and payload: a
payload is what callers send, and none of them can write one that reads as a record where a damaged file is searched.

Sequences of a segment have no holes. What was lost is a gap record, which stands for all sequences from its own to the one that
it names; its length has the highest bit set.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
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
    return _gap_of(head.sequence, payload) if head.is_gap and is_intact(head, payload, seed=seed) else None


def _gap_of(sequence: int, payload: bytes) -> Gap | None:
    if len(payload) != _GAP.size:
        return None
    last_sequence, since_micros, until_micros, reason = _GAP.unpack(payload)
    if last_sequence < sequence or reason not in _REASONS:
        return None
    return Gap(
        first_sequence=sequence,
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


class Placed(NamedTuple):
    """A record or a gap where it stands.

    Attributes:
        begin, end: of it in the segment, with its head.
        sequence, last_sequence: the sequences that it stands for; a record has one.
    """

    begin: int
    end: int
    sequence: int
    last_sequence: int
    content: Record | Gap


def read_placed(data: bytes, offset: int, *, seed: int) -> Placed | None:
    """The record or gap at an offset; None where none stands, or a damaged one."""
    begin = offset + RECORD_BYTES
    if begin > len(data):
        return None
    length, crc, sequence = _RECORD.unpack_from(data, offset)
    end = begin + (length & ~_IS_GAP)
    if length == _IS_FOOTER or end > len(data):
        return None
    payload = bytes(data[begin:end])
    # Not by `read_head` and `is_intact`: damaged places are searched by this at every byte.
    if crc != _extend(_extend(seed, _SUMMED.pack(length, sequence)), payload):
        return None
    if not length & _IS_GAP:
        return Placed(offset, end, sequence, sequence, Record(sequence, payload))
    gap = _gap_of(sequence, payload)
    return None if gap is None else Placed(offset, end, sequence, gap.last_sequence or sequence, gap)
