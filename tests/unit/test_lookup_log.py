"""A worker's log while nothing fails: what is appended is there, in order, in files of the right size and age."""

import asyncio
import errno
import shutil
import threading
import time

import pytest

from hindcast.errors import LogUnavailable, LookupTooLarge
from hindcast.lookups.directory import LogDirectory, SegmentName
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gaps import read_lines
from hindcast.lookups.segment import Gap, GapReason, RecoveryMode, scan
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode
from services import Stopwatch, wait_for


@pytest.fixture
def new_log(tmp_path):
    """Begins logs in one directory, and ends those that the test did not."""
    logs = []

    def begin(mode=LogMode.BATCHED, **options):
        logs.append(LookupLog(tmp_path, slot=len(logs), mode=mode, **options))
        return logs[-1]

    yield begin
    for log in logs:
        log.end()


def sealed(root):
    """All sealed segments, by name."""
    paths = sorted((root / "segments").glob("*.sealed"))
    return [scan(path.read_bytes(), sealed=True, mode=RecoveryMode.STRICT) for path in paths]


def records(root):
    """Sequence and payload of all sealed records."""
    return [tuple(record) for segment in sealed(root) for record in segment.records]


def test_what_is_appended_is_there_in_order(new_log, tmp_path):
    """Records are sealed under sequences from 1 on in the order of the calls, their parts joined, whatever their sizes."""
    log = new_log()
    parts = [(b"a", b"b"), (), (b"",), [b"x"] * 2_500, (b"y" * 300_000, b"z")]
    for each in parts:
        assert log.append(each, mode=LogMode.BATCHED) is None
    log.end()
    assert list(enumerate((b"".join(each) for each in parts), start=1)) == records(tmp_path)
    assert (5, 5, 0, 5) == (log.counters.written, log.counters.synced, log.counters.lost, log.counters.last_sequence)
    assert [] == [*(tmp_path / "synced").iterdir(), *(tmp_path / "segments").glob("*.open")]


def test_a_record_of_batched_is_in_its_file_before_append_returns(new_log, tmp_path):
    """Whoever reads the open segment finds a record as soon as it is appended."""
    log = new_log()
    for number in range(3):
        log.append((b"%d" % number,), mode=LogMode.BATCHED)
        (path,) = (tmp_path / "segments").glob("*.open")
        assert b"%d" % number == scan(path.read_bytes()).records[-1].payload


def test_a_record_of_batched_is_synced_within_a_second(new_log):
    """What is appended is on the disk a second later at the most, without anything that asks for it."""
    log = new_log()
    watch = Stopwatch()
    log.append((b"x",), mode=LogMode.BATCHED)
    wait_for(lambda: log.counters.synced == 1)
    assert watch.seconds < 1.0


def test_records_of_durable_share_a_sync(new_log):
    """Many that wait at once are answered by few syncs, each after one that covers it."""
    syncs = []

    class Counting(type(REAL_DISK)):
        @staticmethod
        def fdatasync(handle):
            syncs.append(handle)
            REAL_DISK.fdatasync(handle)

    async def ask():
        log = new_log(LogMode.DURABLE, disk=Counting(), sync_seconds=60)
        syncs.clear()
        waiting = [log.append((b"x",), mode=LogMode.DURABLE) for _ in range(500)]
        await asyncio.gather(*waiting)
        assert 500 == log.counters.synced

    asyncio.run(ask())
    assert 0 < len(syncs) < 50


def test_a_full_segment_is_sealed_and_the_next_one_goes_on(new_log, tmp_path):
    """Segments end when they are large enough, and no sequence is missing or doubled between them."""
    log = new_log(segment_bytes_max=2_000)
    for number in range(400):
        log.append((b"%03d" % number, bytes(97)), mode=LogMode.BATCHED)
        if number % 40 == 39:
            wait_for(lambda due=number // 40: len(list((tmp_path / "segments").glob("*.sealed"))) > due)
    log.end()
    found = sealed(tmp_path)
    assert 10 <= len(found) < 30
    assert list(range(1, 401)) == [record.sequence for segment in found for record in segment.records]
    names = sorted(SegmentName.parse(path.name).first_sequence for path in (tmp_path / "segments").iterdir())
    assert names == [segment.header.first_sequence for segment in found]


def test_an_old_segment_is_sealed_and_an_empty_one_stays(new_log, tmp_path):
    """A segment with records is sealed when it is old enough; one without goes on, and is removed at the end."""
    log = new_log(segment_seconds_max=0.1, sync_seconds=0.05)
    wait_for(lambda: time.monotonic() - log._segment.began > 0.3)
    (empty,) = (tmp_path / "segments").iterdir()
    log.append((b"x",), mode=LogMode.BATCHED)
    wait_for(lambda: empty.with_suffix(".sealed").exists())
    log.end()
    assert [empty.with_suffix(".sealed")] == list((tmp_path / "segments").iterdir())


def test_best_effort_waits_in_memory_and_then_is_written(new_log, tmp_path):
    """Records of `best_effort` are written by the thread soon after, with sequences of their own, beside those of other modes."""
    log = new_log(LogMode.BEST_EFFORT)
    for number in range(100):
        assert log.append((b"%d" % number,), mode=LogMode.BEST_EFFORT) is None
    wait_for(lambda: log.counters.written == 100)
    log.append((b"batched",), mode=LogMode.BATCHED)
    log.end()
    assert [*(b"%d" % number for number in range(100)), b"batched"] == [payload for _, payload in records(tmp_path)]


def test_best_effort_without_room_is_counted_and_a_gap(new_log, tmp_path):
    """What does not fit into the memory that it may take is lost, counted, and a gap in the segment and in `gaps/`."""
    gate, held = threading.Event(), threading.Event()
    gate.set()

    class Slow(type(REAL_DISK)):
        @staticmethod
        def fdatasync(handle):
            if not gate.is_set():
                held.set()
                gate.wait(10)
            REAL_DISK.fdatasync(handle)

    log = new_log(queue_bytes_max=1_000, clock=lambda: 77, disk=Slow(), sync_seconds=0.01)
    gate.clear()
    log.append((b"x",), mode=LogMode.BATCHED)
    wait_for(held.is_set)
    for _ in range(8):
        log.append((bytes(300),), mode=LogMode.BEST_EFFORT)
    assert 3 == log.counters.waiting
    gate.set()
    log.end()
    (segment,) = sealed(tmp_path)
    gap = segment.gaps[0]
    assert (4, 5, 5) == (log.counters.written, log.counters.lost, gap.last_sequence - gap.first_sequence + 1)
    assert (GapReason.OVERFLOW, 77, 77) == (gap.reason, gap.since_micros, gap.until_micros)
    assert [gap] == [line.gap for line in read_lines(LogDirectory(tmp_path), log.writer, disk=REAL_DISK)]
    assert 9 == log.counters.last_sequence == segment.footer.last_sequence


@pytest.mark.parametrize("mode", [LogMode.BATCHED, LogMode.BEST_EFFORT])
def test_what_is_too_large_is_counted_and_a_gap(new_log, tmp_path, mode):
    """A lookup of which the log would have to keep more than it takes is served, counted as lost and told of; the next one is kept."""
    log = new_log(record_bytes_max=100)
    for size in (100, 101, 5_000, 7):
        assert log.append((bytes(size - 1), b"x"), mode=mode) is None
    log.end()
    (segment,) = sealed(tmp_path)

    assert [100, 7] == [len(payload) for _, payload in segment.records]
    assert [(GapReason.TOO_LARGE, 2)] == [
        (gap.reason, gap.last_sequence - gap.first_sequence + 1) for gap in segment.gaps
    ]
    assert (2, 2, 4) == (log.counters.written, log.counters.lost, log.counters.last_sequence)
    assert segment.gaps == [line.gap for line in read_lines(LogDirectory(tmp_path), log.writer, disk=REAL_DISK)]


def test_what_is_too_large_is_refused_where_it_must_be_durable(new_log, tmp_path):
    """The error says how much it is and how much there may be; nothing is lost by it, and the log goes on."""

    async def story():
        log = new_log(LogMode.DURABLE, record_bytes_max=1_000)
        with pytest.raises(
            LookupTooLarge, match=r"keep 1,001 bytes of this lookup, and takes 1,000 at the most; ask for fewer"
        ):
            log.append((bytes(1_001),), mode=LogMode.DURABLE)
        await log.append((bytes(1_000),), mode=LogMode.DURABLE)
        await log.close()
        return log.counters

    counters = asyncio.run(story())
    assert (1, 0, 1) == (counters.written, counters.lost, counters.last_sequence)


def test_off_leaves_nothing(new_log, tmp_path):
    """With `off` there is no file and no thread, until something is to be kept after all."""
    log = new_log(LogMode.OFF)
    assert log.append((b"x",), mode=LogMode.OFF) is None
    log.check(LogMode.OFF)
    assert [] == list(tmp_path.iterdir())
    log.append((b"kept",), mode=LogMode.BATCHED)
    log.end()
    assert [(1, b"kept")] == records(tmp_path)


def test_a_closed_log_keeps_nothing_and_says_so(new_log, tmp_path):
    """After `close` a `durable` record is refused, others are counted as lost, and closing again does nothing."""

    async def story():
        log = new_log()
        await log.append((b"x",), mode=LogMode.DURABLE)
        await log.close()
        await log.close()
        for call in (lambda: log.check(LogMode.DURABLE), lambda: log.append((b"y",), mode=LogMode.DURABLE)):
            with pytest.raises(LogUnavailable, match="the server is stopping"):
                call()
        log.append((b"z",), mode=LogMode.BATCHED)
        log.append((b"z",), mode=LogMode.BEST_EFFORT)
        return log

    assert 2 == asyncio.run(story()).counters.lost
    assert [(1, b"x")] == records(tmp_path)


def test_two_logs_of_one_slot_and_moment_are_two_writers(tmp_path):
    """A log that begins in the same microsecond as another one of its slot takes a later epoch, and no file of the other."""
    logs = [LookupLog(tmp_path, slot=0, mode=LogMode.BATCHED, clock=lambda: 5) for _ in range(3)]
    for log in logs:
        log.append((b"%d" % log.writer.epoch,), mode=LogMode.BATCHED)
    for log in logs:
        log.end()
    assert [5, 6, 7] == [log.writer.epoch for log in logs]
    assert [(1, b"5"), (1, b"6"), (1, b"7")] == records(tmp_path)


def test_files_are_for_their_owner_alone(new_log, tmp_path):
    """What people asked is no other user's business: no file of the log can be read by the group or by others."""
    log = new_log()
    log.append((b"x",), mode=LogMode.BATCHED)
    modes = {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*") if path.is_file()}
    assert {0} == modes


def test_a_disk_that_does_not_answer_is_an_alarm_and_durable_is_refused(new_log):
    """While a sync has taken longer than a second, `check` refuses `durable` and the counters show an alarm; others go on."""
    gate, hang = threading.Event(), threading.Event()

    class Hanging(type(REAL_DISK)):
        @staticmethod
        def fdatasync(handle):
            if hang.is_set():
                gate.wait(10)
            REAL_DISK.fdatasync(handle)

    log = new_log(disk=Hanging(), sync_seconds=0.01)
    hang.set()
    try:
        log.append((b"x",), mode=LogMode.BATCHED)
        wait_for(lambda: log.counters.alarm)
        with pytest.raises(LogUnavailable, match="does not answer"):
            log.check(LogMode.DURABLE)
        log.append((b"y",), mode=LogMode.BATCHED)
        assert 2 == log.counters.written
    finally:
        gate.set()
    wait_for(lambda: not log.counters.alarm)
    log.check(LogMode.DURABLE)


def test_a_torn_line_of_gaps_is_left_out(tmp_path):
    """A line that a power cut tore or filled with other bytes, and one of a later version, are passed over, and a gap told twice is given once."""
    folder = tmp_path / "gaps"
    folder.mkdir()
    line = (
        b'{"slot":1,"epoch":2,"first_sequence":3,"last_sequence":null,"reason":"torn",'
        b'"since_micros":0,"until_micros":9,"found_micros":10}\n'
    )
    (folder / "0001-0000000000000002-0000000000000000.jsonl").write_bytes(
        line[:50] + b"\n" + line.replace(b"torn", b"t\xfern") + line.replace(b"torn", b"new") + line
    )
    (folder / "0001-0000000000000002-0000000000000001.jsonl").write_bytes(line.replace(b"10}", b"11}"))
    (told,) = read_lines(LogDirectory(tmp_path), disk=REAL_DISK)
    assert Gap(first_sequence=3, last_sequence=None, reason=GapReason.TORN, until_micros=9) == told.gap


def test_who_cannot_be_told_of_an_alarm_does_not_end_the_log(tmp_path, caplog):
    """A listener that fails is noted in the server's log, and lookups are logged all the same when the cause is gone."""

    def fails(_message):
        raise RuntimeError

    blocked = tmp_path / "log"
    blocked.write_text("a file where the directory should be")
    log = LookupLog(blocked, slot=0, mode=LogMode.BATCHED, on_alarm=fails)
    log.append((b"lost",), mode=LogMode.BATCHED)
    blocked.unlink()
    wait_for(lambda: not log.counters.alarm)
    log.append((b"kept",), mode=LogMode.BATCHED)
    log.end()
    assert [(2, b"kept")] == records(blocked)
    assert "could not tell of an alarm" in caplog.text


def test_a_directory_that_was_removed_is_made_again(new_log, tmp_path):
    """When somebody removes the directory of a running log, the next segment is begun in a new one, and it stays an alarm."""
    log = new_log(segment_seconds_max=0.2, sync_seconds=0.02)
    # While its segment is empty, which then is not sealed however old it is: else the log's thread goes on to the next one meanwhile.
    shutil.rmtree(tmp_path / "segments")
    log.append((b"gone",), mode=LogMode.BATCHED)
    wait_for(lambda: list(tmp_path.glob("segments/*.open")))
    wait_for(lambda: log.counters.alarm)
    log.append((b"kept",), mode=LogMode.BATCHED)
    log.end()
    assert [(2, b"kept")] == records(tmp_path)


def room_of(path):
    """Bytes that a file has on the disk."""
    return path.stat().st_blocks * 512


def test_a_segment_has_room_ahead_of_it_and_gives_back_what_it_did_not_need(new_log, tmp_path):
    """An open segment has room for a megabyte more than it holds, which its length does not show; a sealed one has none."""
    log = new_log()
    log.append((b"x" * 5_000,), mode=LogMode.BATCHED)
    (path,) = (tmp_path / "segments").glob("*.open")
    size_bytes, room = path.stat().st_size, room_of(path)
    log.end()
    (path,) = (tmp_path / "segments").glob("*.sealed")

    assert size_bytes < 6_000
    assert room >= 1 << 20
    assert room_of(path) < 1 << 17


def test_a_disk_that_keeps_no_room_takes_records_all_the_same(new_log, tmp_path):
    """Where the file system cannot reserve, records are written as without it."""

    class Unreserved(type(REAL_DISK)):
        def reserve(self, _handle, _size_bytes):
            raise OSError(errno.EOPNOTSUPP, "not here")

    log = new_log(disk=Unreserved())
    log.append((b"x",), mode=LogMode.BATCHED)
    log.end()

    assert [(1, b"x")] == records(tmp_path)
    assert (1, 0, False) == (log.counters.written, log.counters.lost, log.counters.alarm)
