"""The log of lookups when the power is cut, its process is killed, or its disk fails: what was acknowledged is there, the rest is told."""

import asyncio
import contextlib
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.cycles import CYCLES
from faults.disks import FailingDisk, MemoryDisk, PowerCutError
from hindcast.errors import LogUnavailable
from hindcast.lookups.directory import LogDirectory, SegmentName
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gap_report import gap_report
from hindcast.lookups.gaps import read_lines
from hindcast.lookups.marks import read_marks
from hindcast.lookups.recovery import recover
from hindcast.lookups.segment import GapReason, RecoveryMode, State, scan
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode
from services import Stopwatch
from stepped_log import SteppedLog

CUTS = 500 * CYCLES
"""10,000 by `make faults`."""
KILLS = 50 * CYCLES
"""1,000 by `make faults`."""
ROOT = Path("/log")
MODES = [LogMode.DURABLE, LogMode.BATCHED]


@dataclass
class Story:
    """What was appended, and what of it was acknowledged or had been synced."""

    appended: dict = field(default_factory=dict)
    acknowledged: set = field(default_factory=set)
    synced: set = field(default_factory=set)

    async def turn(self, log, disk, waiting):
        """Take a turn; what had been written by then is synced, if the power stays on."""
        written = set(self.acknowledged)
        log._synced_at = 0.0  # the turn is due
        log._turn()
        await asyncio.sleep(0)
        self.acknowledged |= {at for at, future in waiting.items() if future.done() and future.exception() is None}
        if not disk.off:
            self.synced |= written


async def tell(story, disk, rng, mode):
    """Append and take turns until the power is cut or the story ends."""
    log = SteppedLog(ROOT, slot=1, mode=mode, clock=lambda: 1_000_000, disk=disk, segment_bytes_max=600)
    for step in range(12):
        waiting = {}
        for number in range(rng.randint(0, 5)):
            if disk.off:
                return
            payload = b"%d-%d-" % (step, number) + rng.randbytes(rng.randint(0, 150))
            sequence, lost = log._next, log.counters.lost
            story.appended[sequence] = payload  # a record whose append was cut may be there
            with contextlib.suppress(LogUnavailable):
                future = log.append((payload[:2], payload[2:]), mode=mode)
                if future is not None:
                    waiting[sequence] = future
                elif not disk.off and lost == log.counters.lost:
                    story.acknowledged.add(sequence)
        await story.turn(log, disk, waiting)
    if rng.random() < 0.3:
        log._turn()
        log._finish()


def recovered_from(disk, rng):
    """Recover, now and then with another power cut in its midst; the disk at the end, and the last recovery's report."""
    while True:
        try:
            return disk, recover(ROOT, disk=disk, clock=lambda: 2_000_000)
        except PowerCutError:
            disk = disk.after_power_is_back(calls_max=rng.choice([None, 3, 10, 30]))


def sealed_records(disk, root=ROOT):
    """The records of all sealed segments, each of which must be whole, by sequence."""
    found, directory = {}, LogDirectory(root)
    for name in disk.names(directory.segments):
        segment = SegmentName.parse(name)
        if segment is None:
            continue
        assert ".sealed" == segment.suffix
        read = scan(disk.read(directory.segments / name), sealed=True, mode=RecoveryMode.STRICT)
        for sequence, payload in read.records:
            assert sequence not in found
            found[sequence] = payload
    return found


def told_missing(sequences, lines):
    """Those of the sequences that a gap tells of."""
    return {
        at
        for at in sequences
        for line in lines
        if line.gap.first_sequence <= at and (line.gap.last_sequence is None or at <= line.gap.last_sequence)
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_power_cut_loses_nothing_synced_and_tells_of_the_rest(mode):
    """Cut at any call, torn in any way: `durable` loses nothing acknowledged, `batched` what came since the last sync, and tells of it."""
    cuts = with_loss = 0
    for seed in range(CUTS):
        rng, story = random.Random(seed), Story()
        disk = MemoryDisk(rng, calls_max=rng.randint(8, 110))
        asyncio.run(tell(story, disk, rng, mode))
        cuts += disk.off
        after, _ = recovered_from(disk.after_power_is_back(calls_max=rng.choice([None, None, 5, 20])), rng)
        found = sealed_records(after)
        lines = read_lines(LogDirectory(ROOT), disk=after)
        kept = story.acknowledged if mode is LogMode.DURABLE else story.synced
        missing = story.acknowledged - set(found)
        with_loss += bool(missing)

        assert found.items() <= story.appended.items(), seed
        assert set() == kept - set(found), seed
        assert missing == told_missing(missing, lines), seed
    assert cuts > CUTS // 2
    assert (mode is LogMode.BATCHED) == (with_loss > 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_dies_at_any_call_loses_nothing_acknowledged(mode):
    """Whatever call is its last, and however far that came, what was acknowledged is there, and nothing else than what was appended."""
    for seed in range(CUTS // 2):
        rng, story = random.Random(-1 - seed), Story()
        disk = MemoryDisk(rng, calls_max=rng.randint(1, 110))
        asyncio.run(tell(story, disk, rng, mode))
        found, reports = {}, []
        after = disk.after_a_kill(calls_max=rng.choice([None, 4, 12]))
        while True:
            try:
                reports += recover(ROOT, disk=after, clock=lambda: 2_000_000)
                break
            except PowerCutError:
                after = after.after_a_kill()
        found = sealed_records(after)

        assert found.items() <= story.appended.items(), seed
        assert set() == story.acknowledged - set(found), seed
        assert [] == [report for report in reports if report.state is State.DAMAGED], seed
        assert [] == after.names(LogDirectory(ROOT).synced), seed


def test_damage_in_a_synced_place_is_found_and_the_file_is_kept():
    """After a kill and a flipped bit: the longest valid prefix is sealed, the rest told of, and the file is put aside as it was."""
    damaged = 0
    for seed in range(CUTS // 5):
        rng, story = random.Random(seed), Story()
        disk = MemoryDisk(rng, calls_max=rng.randint(40, 110))
        asyncio.run(tell(story, disk, rng, LogMode.DURABLE))
        after = disk.after_a_kill()
        (path,) = [path for path in after.files() if path.suffix == ".open"][-1:] or [None]
        if path is None:
            continue
        name, directory = SegmentName.parse(path.name), LogDirectory(ROOT)
        marks = read_marks(after.read(directory.marks(name.writer)))
        synced_end = max((mark.synced_end for mark in marks if mark.first_sequence == name.first_sequence), default=0)
        if synced_end == 0:
            continue
        damaged += 1
        before = after.read(path)
        whole = scan(before)
        after.flip(path, rng.randrange(8 * synced_end))
        (report,) = [found for found in recover(ROOT, disk=after) if name == found.name]
        found = sealed_records(after)

        lost = {record.sequence for record in whole.records} - set(found)
        assert (State.DAMAGED, directory.damaged / path.name) == (report.state, report.kept)
        assert len(before) == len(after.read(report.kept))
        assert found.items() <= story.appended.items()
        assert lost == told_missing(lost, read_lines(directory, disk=after))
        assert path not in after.files()
    assert damaged > CUTS // 10


CHILD = """
import asyncio, os, sys
from pathlib import Path
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode

async def serve(directory, mode, number):
    log = LookupLog(directory, slot=number % 4, mode=mode, segment_bytes_max=200_000, sync_seconds=0.05)
    async def caller(which):
        count = 0
        while True:
            name = b"%d-%d-%d" % (number, which, count)
            waiting = log.append((name, b" " * (count * 7919 % 9000)), mode=mode)
            if waiting is not None:
                await waiting
            os.write(1, name + b"\\n")
            count += 1
            if waiting is None and count % 8 == 0:
                await asyncio.sleep(0)
    await asyncio.gather(*(caller(which) for which in range(4)))

for line in sys.stdin:
    mode, number = line.split()
    child = os.fork()
    if not child:
        asyncio.run(serve(Path(sys.argv[1]), LogMode(mode), int(number)))
    os.write(1, b"pid %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"over\\n")
"""


def test_a_killed_process_loses_nothing_acknowledged(tmp_path):
    """However often a writer is killed under load, in `durable` and in `batched`, every record that it told of is there, once."""
    rng, told = random.Random(5), []
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    found = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as driver:
        try:
            for number in range(KILLS):
                driver.stdin.write(f"{MODES[number % 2]} {number}\n")
                driver.stdin.flush()
                child, lines = None, []
                moment = rng.randint(1, 400)
                for line in driver.stdout:
                    if line.startswith("pid"):
                        child = int(line.split()[1])
                    elif line.startswith("over"):
                        break
                    else:
                        lines.append(line.strip())
                    if child and len(lines) >= moment:
                        os.kill(child, signal.SIGKILL)
                        moment = sys.maxsize
                told += lines
                if number % 10 == 9 or number == KILLS - 1:
                    reports = recover(tmp_path)
                    assert [] == [report for report in reports if report.state is State.DAMAGED or report.refused]
                    found |= taken(tmp_path)
        finally:
            driver.kill()
    assert KILLS <= len(told)
    assert set() == set(told) - found


def taken(root):
    """The names of all records in sealed segments, which are removed, as a sealer does."""
    found = []
    for path in (root / "segments").iterdir():
        assert ".sealed" == path.suffix
        read = scan(path.read_bytes(), sealed=True, mode=RecoveryMode.STRICT)
        found += [record.payload.rstrip(b" ").decode() for record in read.records]
        path.unlink()
    assert len(found) == len(set(found))
    return set(found)


@dataclass
class Alarms:
    """What a log told, and when."""

    told: list = field(default_factory=list)

    def __call__(self, message):
        """Be told, from any thread."""
        self.told.append((time.monotonic(), message))

    @property
    def last(self):
        """What is wrong now, or None."""
        return self.told[-1][1] if self.told else None


async def until(condition):
    """Let the event loop run until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the log's thread sets no event
            await asyncio.sleep(0.01)


async def seconds_until(condition):
    """The time that it takes until a condition holds."""
    watch = Stopwatch()
    await until(condition)
    return watch.seconds


FAULTS = {
    "full disk": {"writev": errno.ENOSPC},
    "full disk, found when it is synced": {"fdatasync": errno.ENOSPC},
    "failed sync": {"fdatasync": errno.EIO},
    "read-only": {"writev": errno.EROFS, "open": errno.EROFS, "truncate": errno.EROFS},
    "failed write that cannot be undone": {"writev": errno.EIO, "truncate": errno.EIO},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_disk_is_an_alarm_and_is_told_of(tmp_path, fault):
    """While the disk fails `durable` is refused before its work and others are counted; alarm within 1 s, back within 2 s, a gap first."""

    async def story():
        disk, alarms = FailingDisk(), Alarms()
        log = LookupLog(tmp_path, slot=1, mode=LogMode.BATCHED, disk=disk, sync_seconds=0.5, on_alarm=alarms)
        names = []

        def append(name):
            before = log.counters.lost
            log.append((name.encode(),), mode=LogMode.BATCHED)
            if log.counters.lost == before:
                names.append(name)

        for number in range(5):
            append(f"before-{number}")
        await log.append((b"durably",), mode=LogMode.DURABLE)
        disk.failing = dict(FAULTS[fault])
        append("at-the-fault")
        assert await seconds_until(lambda: alarms.last is not None) < 1.0
        assert errno.errorcode[next(iter(FAULTS[fault].values()))] in alarms.last
        assert log.counters.alarm
        await until(lambda: log._segment is None)
        with pytest.raises(LogUnavailable):
            log.check(LogMode.DURABLE)
        with pytest.raises(LogUnavailable):
            log.append((b"refused",), mode=LogMode.DURABLE)
        log.check(LogMode.BATCHED)
        lost = log.counters.lost
        for number in range(3):
            append(f"lost-{number}")
        assert lost + 3 == log.counters.lost
        disk.failing = {}
        assert await seconds_until(lambda: alarms.last is None) < 2.0
        log.check(LogMode.DURABLE)
        await log.append((b"again",), mode=LogMode.DURABLE)
        append("after")
        await log.close()
        return names, log.counters, disk

    names, counters, disk = asyncio.run(story())
    recover(tmp_path)
    found = sealed_records(REAL_DISK, tmp_path)
    payloads = [payload.decode() for _, payload in sorted(found.items())]
    lines = read_lines(LogDirectory(tmp_path), disk=REAL_DISK)
    gaps = [line.gap for line in lines if line.gap.reason is GapReason.WRITE_FAILED]
    torn = [line.gap for line in lines if line.gap.reason is GapReason.TORN]

    assert set() == disk.synced_again
    # The disk that takes writes and no syncs has it all the same, and recovery finds it.
    assert {*names, "durably", "again"} == set(payloads)
    assert ["again", "after"] == payloads[-2:]
    assert counters.lost == sum(gap.last_sequence - gap.first_sequence + 1 for gap in gaps) > 0
    assert counters.last_sequence == len(found) + counters.lost + len(torn)
    assert ("truncate" in FAULTS[fault]) == bool(torn)
    assert set() == told_missing(found, [line for line in lines if line.gap.reason is GapReason.WRITE_FAILED])
    assert [] == list((tmp_path / "synced").iterdir())


@pytest.mark.parametrize("fault", FAULTS)
def test_best_effort_waits_in_memory_while_the_disk_fails(tmp_path, fault):
    """No lookup is refused or waits: what fits into memory is written when the disk is back, the rest counted and a gap; alarm within 1 s, back within 2 s."""

    async def story():
        disk, alarms = FailingDisk(), Alarms()
        options = {"mode": LogMode.BEST_EFFORT, "disk": disk, "sync_seconds": 0.2, "on_alarm": alarms}
        log = LookupLog(tmp_path, slot=1, queue_bytes_max=2_000, **options)
        log.append((b"before",), mode=LogMode.BEST_EFFORT)
        await until(lambda: log.counters.synced == 1)
        disk.failing = dict(FAULTS[fault])
        log.append((b"at-the-fault",), mode=LogMode.BEST_EFFORT)
        assert await seconds_until(lambda: alarms.last is not None) < 1.0
        await until(lambda: log._segment is None)
        log.check(LogMode.BEST_EFFORT)
        for number in range(30):
            log.append((b"%03d" % number, bytes(97)), mode=LogMode.BEST_EFFORT)
        before = log.counters
        disk.failing = {}
        assert await seconds_until(lambda: alarms.last is None) < 2.0
        await until(lambda: log.counters.waiting == 0)
        await log.close()
        return before, log.counters

    before, counters = asyncio.run(story())
    recover(tmp_path)
    payloads = [payload for _, payload in sorted(sealed_records(REAL_DISK, tmp_path).items())]
    lines = [line.gap for line in read_lines(LogDirectory(tmp_path), disk=REAL_DISK)]
    overflown = [gap for gap in lines if gap.reason is GapReason.OVERFLOW]

    assert before.lost in {10, 11}  # one place may be taken by the record at the fault
    assert before.lost == counters.lost == sum(gap.last_sequence - gap.first_sequence + 1 for gap in overflown)
    assert [b"before", b"at-the-fault"] == payloads[:2]
    assert [b"%03d" % number for number in range(30 - before.lost)] == [payload[:3] for payload in payloads[2:]]
    (report,) = gap_report(tmp_path)
    assert report.last_sequence == report.in_segments + report.lost
    assert len(payloads) == report.in_segments


@pytest.mark.parametrize("failure", [errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("mode", [*MODES, LogMode.BEST_EFFORT])
def test_where_no_file_can_be_opened_the_open_one_goes_on(tmp_path, mode, failure):
    """Of a directory that is read-only, or without descriptors, nothing is lost in any mode; it is an alarm within 1 s, gone within 2 s after the cause."""

    async def story():
        disk, alarms = FailingDisk(), Alarms()
        options = {"disk": disk, "sync_seconds": 0.2, "segment_bytes_max": 500, "on_alarm": alarms}
        log = LookupLog(tmp_path, slot=1, mode=mode, **options)
        disk.failing = {"open": failure}
        for number in range(10):
            log.check(mode)
            if kept := log.append((b"%d" % number, bytes(100)), mode=mode):
                await kept
        assert await seconds_until(lambda: alarms.last is not None) < 1.0
        disk.failing = {}
        assert await seconds_until(lambda: alarms.last is None) < 2.0
        await log.close()
        return alarms, log.counters

    alarms, counters = asyncio.run(story())
    assert f"cannot begin a new file ({errno.errorcode[failure]})" in alarms.told[0][1]
    assert (0, 10, 10) == (counters.lost, counters.synced, len(sealed_records(REAL_DISK, tmp_path)))
    assert [True] == [report.is_whole for report in gap_report(tmp_path)]


@pytest.mark.parametrize("mode", [*MODES, LogMode.BEST_EFFORT])
def test_a_log_that_begins_without_descriptors_recovers(tmp_path, mode):
    """From its first moment `durable` is refused and others are counted or wait, and two seconds after there are some all is as ever."""

    async def story():
        disk, alarms = FailingDisk(), Alarms()
        disk.failing = {"open": errno.EMFILE}
        log = LookupLog(tmp_path, slot=1, mode=mode, disk=disk, on_alarm=alarms)
        assert await seconds_until(lambda: alarms.last is not None) < 1.0
        with contextlib.suppress(LogUnavailable):
            log.check(mode)
            log.append((b"meanwhile",), mode=mode)
        disk.failing = {}
        assert await seconds_until(lambda: alarms.last is None) < 2.0
        if kept := log.append((b"after",), mode=mode):
            await kept
        await log.close()
        return log.counters

    counters = asyncio.run(story())
    found = sealed_records(REAL_DISK, tmp_path)
    assert {LogMode.DURABLE: [b"after"], LogMode.BATCHED: [b"after"], LogMode.BEST_EFFORT: [b"meanwhile", b"after"]}[
        mode
    ] == list(found.values())
    assert (mode is LogMode.BATCHED) == counters.lost
    assert counters.last_sequence == len(found) + counters.lost


def test_those_who_wait_for_a_sync_that_fails_are_told(tmp_path):
    """A `durable` record whose sync fails is refused, with the words for its caller, and counted as lost."""
    gate = threading.Event()

    class Slow(FailingDisk):
        def fdatasync(self, handle):
            assert gate.wait(10)
            FailingDisk.__getattr__(self, "fdatasync")(handle)

    async def story():
        gate.set()
        disk = Slow()
        log = LookupLog(tmp_path, slot=1, mode=LogMode.DURABLE, disk=disk)
        gate.clear()
        waiting = [log.append((b"x",), mode=LogMode.DURABLE) for _ in range(3)]
        disk.failing = {"fdatasync": errno.EIO}
        gate.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        counters = log.counters
        disk.failing = {}
        await log.close()
        return answers, counters

    answers, counters = asyncio.run(story())
    assert [LogUnavailable] * 3 == [type(answer) for answer in answers]
    assert "could not be synced" in str(answers[0])
    assert (3, 0, True) == (counters.lost, counters.at_risk, counters.alarm)


def test_a_log_in_a_directory_that_cannot_be_written_starts_and_recovers(tmp_path):
    """A log whose directory cannot be made refuses `durable`, counts what it loses, and works as soon as the cause is gone."""

    async def story():
        blocked = tmp_path / "log"
        blocked.write_text("a file where the directory should be")
        log = LookupLog(blocked, slot=0, mode=LogMode.DURABLE)
        assert log.counters.alarm
        with pytest.raises(LogUnavailable, match="cannot be written"):
            log.check(LogMode.DURABLE)
        log.append((b"lost",), mode=LogMode.BATCHED)
        blocked.unlink()
        assert await seconds_until(lambda: not log.counters.alarm) < 2.0
        await log.append((b"kept",), mode=LogMode.DURABLE)
        await log.close()
        return log.counters

    counters = asyncio.run(story())
    assert (1, 1, 2) == (counters.lost, counters.written, counters.last_sequence)
    assert {2: b"kept"} == sealed_records(REAL_DISK, tmp_path / "log")


def test_a_log_goes_on_when_descriptors_run_out(tmp_path):
    """Without descriptors no next segment is begun: the old one goes on, nothing is lost, it is an alarm, and it passes."""
    alarms = Alarms()

    async def story():
        log = LookupLog(tmp_path, slot=0, mode=LogMode.BATCHED, segment_bytes_max=1000, on_alarm=alarms)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken_up = []
        try:
            while True:
                try:
                    taken_up.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            for number in range(40):
                log.append((b"%d" % number, bytes(100)), mode=LogMode.BATCHED)
            await until(lambda: alarms.last is not None)
            await log.append((b"durably",), mode=LogMode.DURABLE)
            log.check(LogMode.DURABLE)
        finally:
            for handle in taken_up:
                os.close(handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "cannot begin a new file (EMFILE)" in alarms.told[0][1]
        assert await seconds_until(lambda: alarms.last is None) < 2.0
        await log.close()
        return log.counters

    counters = asyncio.run(story())
    assert (0, 41, 41) == (counters.lost, counters.synced, len(sealed_records(REAL_DISK, tmp_path)))


LIMITED = """
import asyncio, json, resource, sys
from pathlib import Path
from hindcast.errors import LogUnavailable
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

async def main():
    log = LookupLog(Path(sys.argv[1]), slot=0, mode=LogMode.BATCHED)
    for number in range(100):
        log.append((b"%d" % number, bytes(3_000)), mode=LogMode.BATCHED)
    alarm = log.counters.alarm
    while log.counters.alarm:
        await asyncio.sleep(0.01)
    await log.append((b"100",), mode=LogMode.DURABLE)
    await log.close()
    print(json.dumps([alarm, log.counters.written, log.counters.lost]))

asyncio.run(main())
"""


def test_a_file_that_cannot_grow_is_cut_to_its_last_record(tmp_path):
    """At the system's own limit a record is written in part: it is cut off, what is lost is a gap, and the next file begins with it."""
    process = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, check=True, timeout=60
    )
    alarm, written, lost = json.loads(process.stdout)
    found = sealed_records(REAL_DISK, tmp_path)
    names = [int(payload.rstrip(b"\0")) for _, payload in sorted(found.items())]

    assert (True, 101) == (alarm, written + lost)
    assert lost > 0
    assert [*range(written - 1), 100] == names
    assert [] == recover(tmp_path)
