"""Answers that were written and could not be synced, in mode `durable`: their callers were told a failure, and that is the lookup's record.

The writer tells in `gaps/` which sequences a failed sync leaves in doubt. Of these, every answer that was to be durable was refused; what
was logged in another mode was answered, and counts if it is there.
"""

from collections.abc import Iterable

from hindcast.lookups.directory import LogDirectory, WriterId
from hindcast.lookups.disk import Disk
from hindcast.lookups.gaps import GapLine, read_lines
from hindcast.lookups.record import LookupRecord, decode
from hindcast.lookups.segment import GapReason
from hindcast.lookups.sequences import Sequences
from hindcast.settings import LogMode


class Refused:
    """Which answers were refused."""

    def __init__(self, lines: Iterable[GapLine]) -> None:
        ranges: dict[WriterId, list[tuple[int, int]]] = {}
        for line in lines:
            if line.gap.reason is GapReason.SYNC_FAILED and line.gap.last_sequence is not None:
                ranges.setdefault(line.writer, []).append((line.gap.first_sequence, line.gap.last_sequence))
        self._doubtful = {writer: Sequences.of(found) for writer, found in ranges.items()}

    @classmethod
    def told(cls, directory: LogDirectory, writer: WriterId | None = None, *, disk: Disk) -> "Refused":
        """As a log tells, of one writer or all.

        Raises:
            OSError: `gaps/` cannot be read.
        """
        return cls(read_lines(directory, writer, disk=disk))

    def doubts(self, writer: WriterId, sequence: int) -> bool:
        """Whether a record may be of a refused answer: it is worth to decode it."""
        return writer in self._doubtful and sequence in self._doubtful[writer]

    def has_payload(self, writer: WriterId, sequence: int, payload: bytes) -> bool:
        """As `has`, of a record that is decoded only where that is in doubt.

        Raises:
            StoredDataError: that is none, or one of a format that this version does not know.
        """
        return self.doubts(writer, sequence) and self.has(writer, sequence, decode(payload))

    def has(self, writer: WriterId, sequence: int, record: LookupRecord) -> bool:
        """Whether a record is of a refused answer."""
        return not record.code and record.mode == LogMode.DURABLE and self.doubts(writer, sequence)
