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
        self._block, self._base, self._at = b"", HEADER_BYTES, 0

    def frames(self) -> Iterator[Frame]:
        """The records in order, each as it stands.

        Raises:
            OSError: the file cannot be read any further.
        """
        seed = self._header.seed
        while (frame := self._next()) is not None:
            gap = None
            if frame.head.is_gap:
                gap = read_gap(frame.head, frame.block[frame.begin : frame.end], seed=seed)
                if gap is None:
                    self._stop(End.BROKEN)
                    return
                self.gaps.append(gap)
            elif self._verifies and frame.payload(seed) is None:
                self._stop(End.BROKEN)
                return
            self._at = frame.end
            self.offset = self._base + self._at
            self.next_sequence = 1 + (frame.head.sequence if gap is None else gap.last_sequence or 0)
            if gap is None:
                self.records += 1
                yield frame

    def _next(self) -> Frame | None:
        """What stands next, if it is whole and in order; else the walk has ended."""
        if not self._has(RECORD_BYTES):
            self._stop(End.SHORT if self._block else End.LAST)
            return None
        head = read_head(self._block, self._at)
        if head.is_footer:
            self._stop(self._end_at(self._base + self._at))
        elif head.sequence != self.next_sequence:
            self._stop(End.BROKEN)
        elif not self._has(RECORD_BYTES + head.size):
            self._stop(End.SHORT)
        else:
            begin = self._at + RECORD_BYTES
            return Frame(self._block, begin, begin + head.size, head, self._base + self._at)
        return None

    def _has(self, size: int) -> bool:
        """Whether so many bytes stand here in the block, which is read anew from here if they do not."""
        if len(self._block) - self._at >= size:
            return True
        self._base, self._at, self._block = self._base + self._at, 0, b""
        # A damaged length may be one of a gigabyte.
        if size <= _BLOCK_BYTES or self._base + size <= os.fstat(self._handle).st_size:
            self._tick()
            self._block = os.pread(self._handle, max(_BLOCK_BYTES, size), self._base)
        return len(self._block) >= size

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
