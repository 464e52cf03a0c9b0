"""The marks of a writer (`synced/`): how much of its segments is certain, and how many records there should be.

A mark that is missing or old makes recovery say less, and never something wrong, so a failure here is no alarm.
"""

import contextlib
import os
import struct
import time
from dataclasses import dataclass, replace

import google_crc32c

from hindcast.lookups.directory import LogDirectory, WriterId
from hindcast.lookups.disk import Disk

_MARK = struct.Struct(">QQQQqI4x")
_SUMMED_BYTES = 40
MARK_BYTES = _MARK.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a writer knew of a segment.

    Attributes:
        first_sequence: of the segment.
        synced_end: bytes of the segment that were synced.
        written_sequence: the last sequence that was given when the mark was made.
        due_sequence: the last that there would be if nothing were lost: records in memory and lost ones count.
        at_micros: when the mark was made.
    """

    first_sequence: int
    synced_end: int
    written_sequence: int
    due_sequence: int
    at_micros: int


def mark_bytes(mark: Mark) -> bytes:
    """The 48 bytes of a mark."""
    values = (mark.first_sequence, mark.synced_end, mark.written_sequence, mark.due_sequence, mark.at_micros)
    crc = google_crc32c.value(_MARK.pack(*values, 0)[:_SUMMED_BYTES])
    return _MARK.pack(*values, crc)


def read_marks(content: bytes) -> list[Mark]:
    """The marks of a writer, one for each segment that it gave up and one for its newest; a torn one is left out."""
    marks = []
    for at in range(0, len(content) - MARK_BYTES + 1, MARK_BYTES):
        first_sequence, synced_end, written_sequence, due_sequence, at_micros, crc = _MARK.unpack_from(content, at)
        if crc == google_crc32c.value(content[at : at + _SUMMED_BYTES]):
            mark = Mark(
                first_sequence=first_sequence,
                synced_end=synced_end,
                written_sequence=written_sequence,
                due_sequence=due_sequence,
                at_micros=at_micros,
            )
            marks.append(mark)
    return marks


class MarksFile:
    """A living writer's file of marks. Its lock says that the writer lives, and that no other one has its name.

    Args:
        sync_seconds: how often the file is synced at the most: a sync beside each of the segment's would cost as much as those.
    """

    def __init__(self, directory: LogDirectory, writer: WriterId, *, disk: Disk, sync_seconds: float) -> None:
        """Raises: OSError where the file cannot be made."""
        self._directory, self._disk, self._sync_seconds = directory, disk, sync_seconds
        self._place = 0
        self._last: Mark | None = None
        self._synced_at = 0.0
        self._syncs = True
        while True:
            path = directory.marks(writer)
            try:
                self._handle = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                # The clock was set back to when another one began in this slot.
                writer = WriterId(writer.slot, writer.epoch + 1)
                continue
            if disk.lock(self._handle, path):
                break
            disk.close(self._handle)
        self.writer = writer

    @property
    def keeps_others(self) -> bool:
        """Whether there are marks of segments that were given up."""
        return self._place > 0

    def write(self, mark: Mark) -> None:
        """Put the newest mark in the place of the one before."""
        if self._last is not None and replace(mark, at_micros=self._last.at_micros) == self._last:
            return
        with contextlib.suppress(OSError):
            self._disk.pwrite(self._handle, mark_bytes(mark), self._place)
            self._last = mark
            now = time.monotonic()
            if self._syncs and now - self._synced_at >= self._sync_seconds:
                self._syncs = False  # and never again, should this one fail
                self._disk.fdatasync(self._handle)
                self._syncs = True
                self._synced_at = now

    def keep(self) -> None:
        """Leave the newest mark where it is, because its segment is left for recovery; the next one gets another place."""
        self._place += MARK_BYTES
        self._last = None

    def close(self, *, remove: bool) -> None:
        """End; the file goes where nothing is left for recovery."""
        with contextlib.suppress(OSError):
            if remove:
                self._disk.unlink(self._directory.marks(self.writer))
        with contextlib.suppress(OSError):
            self._disk.close(self._handle)
