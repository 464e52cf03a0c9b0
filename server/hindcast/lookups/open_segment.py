"""A segment's file while it is written: it grows by whole records, or stays as it was."""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName
from hindcast.lookups.disk import Disk, write_all
from hindcast.lookups.segment import Footer, SegmentHeader, footer_bytes, header_bytes

_PROBE = bytes(1 << 16)
"""A disk that has no room for this much is still full: the next record would fail again."""


@dataclass(slots=True, eq=False)
class OpenSegment:
    """A file that one writer appends to, and holds the lock of.

    Attributes:
        seed: see `SegmentHeader`.
        folder: a descriptor of the directory of segments, so that no other one is needed for as long as the file is written.
        began: by the monotonic clock.
        size_bytes, records, last_sequence, gaps: of what was written.
        reserved_bytes: up to where the disk was asked to keep room.
        synced_bytes, synced_records, synced_sequence: of what is known to be on the disk.
        named: whether its name is on the disk as well.
        torn: whether it ends in the midst of a record, and could not be cut.
        footed: whether it has its footer.
        waiters: who waits for a sync, in the order of their records.
    """

    name: SegmentName
    handle: int
    seed: int
    began: float
    path: Path
    folder: int
    disk: Disk
    last_sequence: int
    synced_sequence: int
    size_bytes: int = 0
    records: int = 0
    gaps: bool = False
    reserved_bytes: int = 0
    synced_bytes: int = 0
    synced_records: int = 0
    named: bool = False
    torn: bool = False
    footed: bool = False
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @classmethod
    def begin(cls, directory: LogDirectory, header: SegmentHeader, name: SegmentName, *, disk: Disk) -> "OpenSegment":
        """A file with its header.

        Raises:
            OSError: there is none.
        """
        path = directory.segment(name)
        handle = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            folder = disk.open(directory.segments, os.O_RDONLY)
        except OSError:
            disk.close(handle)
            raise
        before = header.first_sequence - 1
        segment = cls(name, handle, header.seed, time.monotonic(), path, folder, disk, before, before)
        try:
            if not disk.lock(handle, path):
                # A recovery has it, and takes it for one that was left.
                raise BlockingIOError(errno.EBUSY, os.strerror(errno.EBUSY))
            # One of this sequence that was left is the writer's own, and no record of it was ever acknowledged.
            disk.truncate(handle, 0)
        except OSError:
            segment.close()
            raise
        try:
            segment.put((header_bytes(header),))
        except OSError:
            segment.discard()
            raise
        return segment

    def put(self, buffers: Sequence[bytes]) -> int:
        """Append bytes, and give their number.

        Raises:
            OSError: the file is as it was, or `torn` says that even that failed.
        """
        size_bytes = sum(map(len, buffers))
        try:
            done = self.disk.writev(self.handle, buffers)
            if done != size_bytes:
                # A disk that is full says so at the second attempt.
                write_all(self.disk, self.handle, b"".join(buffers)[done:])
        except OSError:
            self._cut()
            raise
        self.size_bytes += size_bytes
        return size_bytes

    def reserve(self, size_bytes: int) -> None:
        """Ask the disk to keep room up to a size: a write that needs none found for it takes half the time. It is not needed."""
        if size_bytes > self.reserved_bytes:
            self.reserved_bytes = size_bytes
            with contextlib.suppress(OSError):
                self.disk.reserve(self.handle, size_bytes)

    def probe(self) -> None:
        """Look whether the disk takes more than a header.

        Raises:
            OSError: it does not.
        """
        write_all(self.disk, self.handle, _PROBE)
        self.disk.fdatasync(self.handle)
        self.disk.truncate(self.handle, self.size_bytes)

    def put_footer(self) -> bool:
        """Write the footer; false where it could not be written, which is worth another try."""
        if self.torn:
            return False
        if not self.footed:
            footer = Footer(
                last_sequence=self.last_sequence, records=self.records, size_bytes=self.size_bytes, gaps=self.gaps
            )
            with contextlib.suppress(OSError):
                self.put((footer_bytes(footer, seed=self.seed),))
                self.footed = True
                if self.reserved_bytes > self.size_bytes:
                    self.disk.truncate(self.handle, self.size_bytes)
        return self.footed

    def sync(self) -> None:
        """Wait until what was written, and the file's name, are on the disk.

        Raises:
            OSError: nothing can be said of what was written since the last sync, and a second attempt would not tell the truth.
        """
        self.disk.fdatasync(self.handle)
        if not self.named:
            self.disk.fsync(self.folder)
            self.named = True

    def rename(self) -> bool:
        """Call it sealed, and close it; false where that failed, which is worth another try."""
        try:
            self.disk.rename(self.path, self.path.with_suffix(SEALED))
        except OSError:
            return False
        with contextlib.suppress(OSError):  # under its old name recovery seals it once more
            self.disk.fsync(self.folder)
        self.close()
        return True

    def discard(self) -> None:
        """Remove a file without records. Whoever removes a file has its lock, so it is closed last."""
        with contextlib.suppress(OSError):
            self.disk.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Give the descriptors back, and the lock with them."""
        for handle in (self.handle, self.folder):
            with contextlib.suppress(OSError):
                self.disk.close(handle)

    def _cut(self) -> None:
        try:
            self.disk.truncate(self.handle, self.size_bytes)
        except OSError:
            self.torn = True
