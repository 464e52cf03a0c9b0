"""Drawn histories of a log: whatever was done to it, each sequence is accounted for, in one place."""

import errno
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from faults.disks import FailingDisk
from hindcast.lookups.erase import erase
from hindcast.lookups.gap_report import gap_report
from hindcast.lookups.record import encode
from hindcast.lookups.recovery import recover
from hindcast.lookups.sealer import Sealer
from hindcast.settings import LogMode
from sealing import DAY, NOON, keep, make_catalog, make_record
from stepped_log import SteppedLog

PERSON = 13
KEPT_DAYS = 3
NOW = NOON + 6 * DAY
ASKED = {"others": [1, 2], "with": [1, PERSON], "person": [PERSON]}
SLOTS = st.sampled_from([0, 1])
STEPS = st.one_of(
    st.tuples(st.just("write"), SLOTS, st.sampled_from(list(ASKED)), st.sampled_from([NOON, NOW])),
    st.tuples(st.just("write"), SLOTS, st.sampled_from(list(ASKED)), st.sampled_from([NOON, NOW])),
    st.tuples(st.sampled_from(["turn", "close", "end", "kill", "tear", "lose"]), SLOTS),
    st.tuples(st.sampled_from(["recover", "seal", "erase", "drop"])),
)


@dataclass
class Writer:
    """What is known of one epoch of a worker.

    Attributes:
        log: None once it is gone.
        asked, served: of each record.
        lost: whose record is not there.
        may_be_open_ended: whether a torn end leaves it unknown how many records there were.
    """

    log: SteppedLog | None
    asked: dict[int, str] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    erased: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    may_be_open_ended: bool = False

    @property
    def there(self) -> set[int]:
        """Records that must be in a segment or a table."""
        return self.asked.keys() - self.lost - self.erased - self.dropped

    def closed(self) -> set[int]:
        """Of these, those that are in no open segment of a living writer."""
        return {at for at in self.there if self.log is None or at < self.log.open_from}


class History:
    """A log, and what must be true of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = FailingDisk()
        self.writers: dict[tuple[int, int], Writer] = {}
        self._living: dict[int, tuple[int, int]] = {}
        self._epoch = NOON
        keep(root, make_catalog())

    def writer(self, slot: int) -> Writer:
        """The one that lives in a slot."""
        if slot not in self._living:
            self._epoch += 1
            log = SteppedLog(self.root, slot=slot, mode=LogMode.BATCHED, clock=lambda: self._epoch, disk=self.disk)
            key = (slot, log.writer.epoch)
            self._living[slot] = key
            self.writers[key] = Writer(log)
        return self.writers[self._living[slot]]

    def step(self, name: str, *drawn) -> None:
        """Do something."""
        getattr(self, f"_{name}")(*drawn)

    def _write(self, slot: int, asked: str, served: int) -> None:
        writer = self.writer(slot)
        sequence = writer.log._next
        drivers = ASKED[asked]
        columns = {"trips": drivers, "rating": [1.0] * len(drivers), "city": ["x"] * len(drivers)}
        writer.log.append(encode(make_record(drivers, columns, served_at_micros=served)), mode=LogMode.BATCHED)
        writer.asked[sequence], writer.served[sequence] = asked, served

    def _turn(self, slot: int) -> None:
        self.writer(slot).log.turn()

    def _close(self, slot: int) -> None:
        self.writer(slot).log.turn(closes=True)

    def _end(self, slot: int) -> None:
        writer = self.writer(slot)
        writer.log.finish()
        self._bury(slot)

    def _kill(self, slot: int) -> None:
        writer = self.writer(slot)
        writer.log.die()
        self._bury(slot)

    def _tear(self, slot: int) -> None:
        """A power cut, more or less: the last record is cut off, which may have been synced."""
        writer = self.writer(slot)
        last, holds = writer.log._next - 1, writer.log._segment.records
        path = writer.log.die()
        self._bury(slot)
        if holds:
            os.truncate(path, path.stat().st_size - 3)
            writer.lost.add(last)
            writer.may_be_open_ended = True

    def _lose(self, slot: int) -> None:
        """Two records meet a full disk, whose gap is told as soon as there is room."""
        writer = self.writer(slot)
        self.disk.failing = {"writev": errno.ENOSPC}
        first = writer.log._next
        for _ in range(2):
            writer.log.append((b"lost",), mode=LogMode.BATCHED)
        writer.log.turn()
        self.disk.failing = {}
        writer.log.turn()
        writer.lost |= {first, first + 1}

    def _recover(self) -> None:
        recover(self.root)

    def _seal(self) -> None:
        Sealer(self.root, clock=lambda: NOW).seal()

    def _erase(self) -> None:
        for slot in self._living:
            self.writer(slot).log.turn(closes=True)
        erase(self.root, key="driver_id", value=str(PERSON), wait_seconds=0, clock=lambda: NOW)
        for writer in self.writers.values():
            writer.erased |= {at for at in writer.closed() if writer.asked[at] == "person"}

    def _drop(self) -> None:
        Sealer(self.root, keep_days=KEPT_DAYS, clock=lambda: NOW).seal()
        for writer in self.writers.values():
            writer.dropped |= {at for at in writer.closed() if writer.served[at] == NOON}

    def _bury(self, slot: int) -> None:
        self.writers[self._living.pop(slot)].log = None

    def check(self) -> None:
        """Look whether the report says what is true."""
        reports = {(report.writer.slot, report.writer.epoch): report for report in gap_report(self.root)}
        for key, writer in self.writers.items():
            report = reports.pop(key, None)
            if report is None:
                assert not writer.asked | dict.fromkeys(writer.lost)
                continue
            counts = (report.in_segments, report.sealed, report.erased, report.dropped, report.lost)
            assert report.last_sequence == sum(counts)
            assert len(writer.there) == report.in_segments + report.sealed == report.written
            assert (len(writer.erased), len(writer.dropped)) == (report.erased, report.dropped)
            told = {
                at
                for part in report.missing
                for at in range(part.first_sequence, (part.last_sequence or part.first_sequence) + 1)
            }
            told |= {at for at in writer.lost for torn in report.torn if report.last_sequence < at and torn}
            assert writer.lost <= told
            assert writer.may_be_open_ended or told == writer.lost
            assert report.is_whole == (not writer.lost)
        assert {} == reports

    def end(self) -> None:
        """Kill who lives."""
        for slot in list(self._living):
            self._kill(slot)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(st.lists(STEPS, min_size=4, max_size=12))
@example([("write", 0, "person", NOON), ("erase",), ("drop",), ("write", 0, "with", NOW), ("kill", 0), ("erase",)])
@example([("write", 0, "with", NOON), ("lose", 0), ("write", 0, "person", NOW), ("tear", 0), ("erase",), ("drop",)])
def test_every_sequence_is_accounted_for(steps):
    """Through writing, losses, kills, torn ends, recovery, sealing, erasure and drops for age each sequence is counted once, and what is missing is told."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "log")
        try:
            for step in steps:
                history.step(*step)
                history.check()
        finally:
            history.end()
