"""What is missing from a worker's log: counted until a gap record stands for it, and noted until it is told in `gaps/`."""

import time
from dataclasses import dataclass

from hindcast.clock import Clock
from hindcast.lookups.directory import LogDirectory, WriterId
from hindcast.lookups.disk import Disk
from hindcast.lookups.gaps import GapLine, append_lines
from hindcast.lookups.segment import Gap, GapReason


@dataclass(slots=True)
class _Lost:
    """Records that were lost for one reason, and have no gap record yet."""

    since_micros: int
    count: int = 0
    until_micros: int = 0


class Missing:
    """The records that are missing from one log. All but `tell` is called with the log's lock held.

    Args:
        sync_seconds: how often gaps are told at the most.

    Attributes:
        total: how many there have been.
        unwritten: of those, the ones that no gap record stands for yet.
    """

    def __init__(self, directory: LogDirectory, *, clock: Clock, disk: Disk, sync_seconds: float) -> None:
        self.total = self.unwritten = 0
        self._directory, self._clock, self._disk, self._sync_seconds = directory, clock, disk, sync_seconds
        self._by_reason: dict[GapReason, _Lost] = {}
        self._untold: list[GapLine] = []
        self._told_at = 0.0
        self._files = 0

    @property
    def are_left(self) -> bool:
        """Whether some have no gap record, or were not told of."""
        return bool(self.unwritten or self._untold)

    def add(self, reason: GapReason) -> None:
        """A record was lost now."""
        now = self._clock()
        lost = self._by_reason.setdefault(reason, _Lost(since_micros=now))
        lost.count += 1
        lost.until_micros = now
        self.total += 1
        self.unwritten += 1

    def next_gap(self, sequence: int) -> Gap | None:
        """What is to be written next as a gap record, with this as its first sequence; None where nothing is missing."""
        for reason, lost in self._by_reason.items():
            return Gap(
                first_sequence=sequence,
                last_sequence=sequence + lost.count - 1,
                reason=reason,
                since_micros=lost.since_micros,
                until_micros=lost.until_micros,
            )
        return None

    def settle(self, gap: Gap, writer: WriterId) -> int:
        """The gap record of `next_gap` stands in a segment; gives for how many records."""
        count = self._by_reason.pop(gap.reason).count
        self.unwritten -= count
        self.note(gap, writer)
        return count

    def note(self, gap: Gap, writer: WriterId) -> None:
        """Let a gap be told, the next time that any are."""
        self._untold.append(GapLine(writer=writer, gap=gap, found_micros=self._clock()))

    def tell(self, *, at_once: bool) -> None:
        """Tell of the gaps that were noted, if some were and it is time; where that fails they wait for the next time."""
        lines, now = list(self._untold), time.monotonic()
        is_due = at_once or now - self._told_at >= self._sync_seconds
        if not lines or not is_due:
            return
        self._told_at = now
        try:
            append_lines(self._directory, lines, number=self._files, disk=self._disk)
        except OSError:
            self._files += 1
        else:
            del self._untold[: len(lines)]
