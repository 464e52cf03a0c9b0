"""Walks a segment's file from record to record, in blocks, while its writer may go on writing.

By pread, not by a memory map: a writer cuts its file back when a write has failed, and whoever then touches the part of a map that
is no longer there, or one on a bad sector, is ended by the kernel. A server must not die of a look at its log.
"""

import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from hindcast.lookups.segment import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RECORD_BYTES,
    Footer,
    Gap,
    Head,
    RecoveryMode,
    SegmentHeader,
    is_intact,
    read_footer,
    read_gap,
    read_head,
    scan,
)

_BLOCK_BYTES = 1 << 18
"""Some hundred records. The interpreter's lock is given back for each block, so that a worker's loop goes on between them."""

_ZEROS_BYTES_MAX = 4096
"""At the end of a payload."""


class End(StrEnum):
    """Where a walk ended."""

    FOOTER = "footer"
    """At the segment's own end."""
    LAST = "last"
    """Behind a whole record, where the file ends."""
    SHORT = "short"
    """In a record that is not all there: it is being written, or was cut off."""
    BROKEN = "broken"
    """Before something that is no record of this segment."""


class Frame(NamedTuple):
    """A record where it stands: its payload is `block[begin:end]`, and nothing of that is verified.

    Attributes:
        offset: of its head in the file.
    """

    block: bytes
    begin: int
    end: int
    head: Head
    offset: int

    def payload(self, seed: int) -> bytes | None:
        """The payload, copied; None where it is damaged."""
        payload = self.block[self.begin : self.end]
        return payload if is_intact(self.head, payload, seed=seed) else None


class Walk:
    """One way through a segment; after `frames` its attributes say what was met.

    Attributes:
        gaps: gap records, in order.
        footer: None where the walk did not come to one.
        records: how many there were.
        next_sequence: which the next record would have.
        offset: up to where all is records.
        size_bytes: of the file when the walk ended.
    """

    def __init__(
        self, handle: int, header: SegmentHeader, *, verifies: bool = False, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Args:
        verifies: whether every record's sum is looked at, and the walk ends before one that is damaged.
        tick: called for each block; what it raises ends the walk.
        """
        self.gaps: list[Gap] = []
        self.footer: Footer | None = None
        self.records = 0
        self.next_sequence = header.first_sequence
        self.offset = self.size_bytes = HEADER_BYTES
        self.end = End.LAST
        self._handle, self._header, self._verifies, self._tick = handle, header, verifies, tick

    def frames(self) -> Iterator[Frame]:
        """The records in order, each as it stands.

        Raises:
            OSError: the file cannot be read any further.
        """
        seed = self._header.seed
        block, base, at = b"", HEADER_BYTES, 0
        while True:
            if len(block) - at < RECORD_BYTES:
                base, at = base + at, 0
                block = self._read(base, _BLOCK_BYTES)
                if len(block) < RECORD_BYTES:
                    self._stop(End.SHORT if block else End.LAST)
                    return
            head = read_head(block, at)
            if head.is_footer:
                self._stop(self._end_at(base + at))
                return
            if head.sequence != self.next_sequence:
                self._stop(End.BROKEN)
                return
            if at + RECORD_BYTES + head.size > len(block):
                base, at = base + at, 0
                if base + RECORD_BYTES + head.size > os.fstat(self._handle).st_size:
                    self._stop(End.SHORT)
                    return
                block = self._read(base, max(_BLOCK_BYTES, RECORD_BYTES + head.size))
                if RECORD_BYTES + head.size > len(block):
                    self._stop(End.SHORT)
                    return
            begin = at + RECORD_BYTES
            end = begin + head.size
            if head.is_gap:
                gap = read_gap(head, block[begin:end], seed=seed)
                if gap is None or gap.last_sequence is None:
                    self._stop(End.BROKEN)
                    return
                self.gaps.append(gap)
                self.next_sequence = gap.last_sequence + 1
            else:
                frame = Frame(block, begin, end, head, base + at)
                if self._verifies and frame.payload(seed) is None:
                    self._stop(End.BROKEN)
                    return
                self.records += 1
                self.next_sequence += 1
                yield frame
            at = end
            self.offset = base + at

    def _read(self, offset: int, size: int) -> bytes:
        self._tick()
        return os.pread(self._handle, size, offset)

    def _end_at(self, offset: int) -> End:
        self.footer = read_footer(os.pread(self._handle, FOOTER_BYTES, offset), seed=self._header.seed)
        if self.footer is None:
            return End.SHORT if os.fstat(self._handle).st_size < offset + FOOTER_BYTES else End.BROKEN
        told = (self.footer.records, self.footer.last_sequence, self.footer.size_bytes)
        if told != (self.records, self.next_sequence - 1, offset):
            return End.BROKEN
        self.offset = offset + FOOTER_BYTES
        return End.FOOTER if os.fstat(self._handle).st_size == self.offset else End.BROKEN

    def _stop(self, end: End) -> None:
        self.end = end
        self.size_bytes = os.fstat(self._handle).st_size


def records_behind(path: Path, sequence: int) -> list[tuple[int, bytes]]:
    """The records of a broken segment from a sequence on that can be verified, in memory all at once.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    # A power cut can leave megabytes of zeros, each of which may be the beginning of a record.
    end = len(data.rstrip(b"\0")) + _ZEROS_BYTES_MAX
    found = scan(data[:end], mode=RecoveryMode.SALVAGE)
    return [(record.sequence, record.payload) for record in found.records if record.sequence >= sequence]
