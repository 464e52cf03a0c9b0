"""What becomes of segments whose writers are gone, by how they end, and that living writers are left alone."""

import dataclasses
import errno
from pathlib import Path

import google_crc32c
import pytest

from hindcast.lookups.directory import LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gaps import read_lines
from hindcast.lookups.marks import Mark, mark_bytes
from hindcast.lookups.recovery import recover
from hindcast.lookups.segment import Gap, GapReason, RecoveryMode, State, scan
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode
from segments import HEADER, segment_of
from services import wait_for

RUNNING = dataclasses.replace(HEADER, boot_id=REAL_DISK.boot_id())
"""Of a writer whose kernel still runs, so that all that it wrote is there."""
REBOOTED = HEADER
"""Of one whose kernel is gone."""
WRITER = WriterId(HEADER.slot, HEADER.epoch)
PAYLOADS = [b"a", b"bb" * 50, b"c"]


@pytest.fixture
def log(tmp_path):
    """Puts files where a writer leaves them."""

    class Left:
        directory = LogDirectory(tmp_path)

        def segment(self, data, *, first=HEADER.first_sequence):
            path = self.directory.segment(SegmentName(WRITER, first))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            return path

        def marks(self, *marks):
            path = self.directory.marks(WRITER)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"".join(map(mark_bytes, marks)))
            return path

        def recover(self, mode=RecoveryMode.TOLERATE_TAIL):
            return recover(tmp_path, mode=mode, clock=lambda: 99)

        def told(self):
            return [line.gap for line in read_lines(self.directory, disk=REAL_DISK)]

        def sealed(self):
            paths = sorted(self.directory.segments.glob("*.sealed"))
            return [scan(path.read_bytes(), sealed=True, mode=RecoveryMode.STRICT) for path in paths]

    return Left()


def mark(synced_end, *, due=9, written=9, first=HEADER.first_sequence):
    return Mark(first_sequence=first, synced_end=synced_end, written_sequence=written, due_sequence=due, at_micros=50)


def test_a_killed_writer_has_lost_nothing(log):
    """A segment that ends with a record, under a kernel that ran on, is sealed as it is, without a gap, and its marks go."""
    data, _ = segment_of(PAYLOADS, header=RUNNING)
    path, marks = log.segment(data), log.marks(mark(64))
    (report,) = log.recover()
    assert (State.WHOLE, 3, 0, ()) == (report.state, report.records, report.rest_bytes, report.gaps)
    assert data == report.sealed.read_bytes()[:-40]
    assert (False, False, []) == (path.exists(), marks.exists(), log.told())
    assert [] == log.recover()


def test_a_segment_that_has_its_footer_is_sealed_as_it_is(log):
    """A writer that was killed between the footer and the new name leaves a segment that recovery only names."""
    data, _ = segment_of(PAYLOADS, header=RUNNING, sealed=True)
    log.segment(data)
    (report,) = log.recover()
    assert (data, ()) == (report.sealed.read_bytes(), report.gaps)


def test_a_record_that_was_cut_off_is_told_of(log):
    """A killed writer's last record, that was being written, is not sealed, and is a gap of one."""
    data, ends = segment_of(PAYLOADS, header=RUNNING)
    log.segment(data[:-1])
    (report,) = log.recover()
    gap = Gap(first_sequence=9, last_sequence=9, reason=GapReason.TORN)
    assert (State.TORN, 2, ends[2] - 1 - ends[1], (gap,)) == (
        report.state,
        report.records,
        report.rest_bytes,
        report.gaps,
    )
    assert ([gap], None) == (log.told(), report.kept)
    assert log.sealed()[0].footer.gaps


def test_after_a_power_cut_the_end_may_be_missing(log):
    """After a power cut nobody knows how many records followed the last one, and the gap says from which on."""
    data, _ = segment_of(PAYLOADS, header=REBOOTED)
    log.segment(data)
    log.marks(mark(len(data)))
    log.recover()
    assert [Gap(first_sequence=10, last_sequence=None, reason=GapReason.TORN, until_micros=50)] == log.told()


def test_what_stands_behind_a_hole_of_a_power_cut_is_kept(log):
    """Where pages reached the disk out of order, the prefix is sealed and the file kept, for `salvage` by hand."""
    data, ends = segment_of(PAYLOADS, header=REBOOTED)
    holed = data[: ends[0]] + bytes(ends[1] - ends[0]) + data[ends[1] :]
    log.segment(holed)
    (report,) = log.recover()
    assert (State.TORN, 1, holed) == (report.state, report.records, report.kept.read_bytes())
    assert [line.kept for line in read_lines(log.directory, disk=REAL_DISK)] == [report.kept.name]


@pytest.mark.parametrize("tail", [b"", bytes(5_000)], ids=["nothing", "zeros"])
def test_a_torn_tail_of_zeros_is_not_worth_keeping(log, tail):
    """A length that reached the disk without its content is nothing that anybody could read."""
    data, _ = segment_of(PAYLOADS, header=REBOOTED)
    log.segment(data + tail)
    (report,) = log.recover()
    assert (None, 3, len(tail)) == (report.kept, report.records, report.rest_bytes)
    assert not log.directory.damaged.exists()


def damaged_log(log):
    """A segment whose second record was damaged after it was synced."""
    data, ends = segment_of(PAYLOADS, header=RUNNING)
    damaged = bytearray(data)
    damaged[ends[0] + 20] ^= 8
    log.marks(mark(len(data)))
    return log.segment(bytes(damaged)), bytes(damaged)


def test_damage_costs_what_follows_it_and_the_file_is_kept(log):
    """With `tolerate-tail` the prefix before a damaged place is sealed, the gap is open, and the file is put aside as it was."""
    _, damaged = damaged_log(log)
    (report,) = log.recover()
    assert (State.DAMAGED, 1, damaged) == (report.state, report.records, report.kept.read_bytes())
    assert [Gap(first_sequence=8, last_sequence=None, reason=GapReason.DAMAGED, until_micros=50)] == log.told()


def test_salvage_seals_what_follows_the_damage_too(log):
    """With `salvage` the damaged record alone is missing, the sealed copy has a gap record in its place, and the file is kept."""
    damaged_log(log)
    (report,) = log.recover(RecoveryMode.SALVAGE)
    hole = Gap(first_sequence=8, last_sequence=8, reason=GapReason.DAMAGED)
    (segment,) = log.sealed()
    assert [(7, b"a"), (9, b"c")] == segment.records
    assert [hole] == segment.gaps
    assert hole in log.told()
    assert (2, 9, True) == (report.records, report.last_sequence, report.kept.exists())


def test_strict_leaves_what_is_not_whole(log):
    """With `strict` a damaged or torn segment is refused and left as it is, with its marks, and a whole one is sealed."""
    path, damaged = damaged_log(log)
    whole, _ = segment_of([b"x"], header=dataclasses.replace(RUNNING, first_sequence=10))
    log.segment(whole, first=10)
    refused, sealed = log.recover(RecoveryMode.STRICT)
    assert (f"it is damaged at byte 81 of {len(damaged)}", None) == (refused.refused, refused.sealed)
    assert (damaged, "", 1) == (path.read_bytes(), sealed.refused, sealed.records)
    assert (True, []) == (log.directory.marks(WRITER).exists(), log.told())


def test_garbage_under_a_kernel_that_ran_on_is_damage(log):
    """Without a power cut a file can end in the midst of a record, and not in anything else."""
    data, _ = segment_of(PAYLOADS, header=RUNNING)
    log.segment(data + bytes(64))
    (report,) = log.recover()
    assert (State.DAMAGED, 3, True) == (report.state, report.records, report.kept.exists())


def test_a_header_that_cannot_be_read_costs_the_segment(log):
    """A segment with a damaged header has no records; it is kept, and the gap ends before the writer's next segment."""
    data, _ = segment_of(PAYLOADS, header=RUNNING)
    log.segment(b"\0" + data[1:])
    log.marks(mark(len(data)))
    following, _ = segment_of([b"x"], header=dataclasses.replace(RUNNING, first_sequence=10))
    log.segment(following, first=10)
    report, _ = log.recover()
    assert (State.DAMAGED, 0, None) == (report.state, report.records, report.sealed)
    assert [Gap(first_sequence=7, last_sequence=9, reason=GapReason.DAMAGED)] == log.told()
    assert b"\0" + data[1:] == report.kept.read_bytes()


def test_a_newer_format_is_left_alone(log):
    """A segment of a later version is refused with the words to upgrade, and stays where it is."""
    data = bytearray(segment_of(PAYLOADS, header=RUNNING)[0])
    data[9] = 2
    data[60:64] = google_crc32c.value(bytes(data[:60])).to_bytes(4, "big")
    path = log.segment(bytes(data))
    (report,) = log.recover()
    assert "upgrade Hindcast" in report.refused
    assert path.exists()


def test_a_renamed_segment_is_left_alone(log):
    """A file whose header names another segment is refused: its sequences would be told wrongly."""
    path = log.segment(segment_of(PAYLOADS, header=RUNNING)[0], first=8)
    (report,) = log.recover()
    assert "somebody renamed it" in report.refused
    assert path.exists()


def test_a_file_that_was_only_begun_goes(log):
    """A writer that was killed before its first record leaves nothing, and has lost nothing."""
    for data in (b"", segment_of([], header=RUNNING)[0]):
        path = log.segment(data)
        (report,) = log.recover()
        assert (None, (), False) == (report.sealed, report.gaps, path.exists())
    assert [] == list(log.directory.segments.iterdir())


def test_records_that_were_only_in_memory_are_counted(log):
    """What a killed writer of `best_effort` had accepted by its last mark, and not written, is a gap with a count."""
    log.segment(segment_of(PAYLOADS, header=RUNNING)[0])
    log.marks(mark(64, due=14))
    log.recover()
    assert [Gap(first_sequence=10, last_sequence=14, reason=GapReason.KILLED, until_micros=50)] == log.told()


def test_losses_of_a_writer_without_a_segment_are_counted(log):
    """What a writer lost while its disk was full, and was killed before it could say so, is told from its mark alone."""
    log.marks(mark(64, due=12))
    log.directory.segments.mkdir()
    assert [] == log.recover()
    assert [Gap(first_sequence=10, last_sequence=12, reason=GapReason.KILLED, until_micros=50)] == log.told()
    assert not log.directory.marks(WRITER).exists()


def test_a_living_writer_is_left_alone(tmp_path):
    """Beside a writer that is at work recovery changes nothing, and the writer goes on as if it had not been."""
    log = LookupLog(tmp_path, slot=0, mode=LogMode.BATCHED)
    log.append((b"a",), mode=LogMode.BATCHED)
    before = sorted(tmp_path.rglob("*"))
    assert [] == recover(tmp_path)
    assert before == sorted(tmp_path.rglob("*"))
    log.append((b"b",), mode=LogMode.BATCHED)
    log.end()
    (path,) = (tmp_path / "segments").iterdir()
    assert [(1, b"a"), (2, b"b")] == scan(path.read_bytes(), sealed=True, mode=RecoveryMode.STRICT).records


def test_a_segment_that_a_living_writer_gave_up_is_sealed(tmp_path):
    """After a failed sync the writer goes on in another file, and the one before can be recovered at once, from a copy."""
    failing = []

    class Failing(type(REAL_DISK)):
        @staticmethod
        def fdatasync(handle):
            if failing and Path(f"/proc/self/fd/{handle}").readlink().suffix == ".open":
                raise OSError(failing.pop(), "failed")
            REAL_DISK.fdatasync(handle)

    log = LookupLog(tmp_path, slot=0, mode=LogMode.BATCHED, disk=Failing(), sync_seconds=0.02)
    failing.append(errno.EIO)
    log.append((b"a",), mode=LogMode.BATCHED)
    wait_for(lambda: log.counters.at_risk == 1 and log._segment is not None)
    log.append((b"b",), mode=LogMode.BATCHED)
    (report,) = recover(tmp_path)
    assert (1, ()) == (report.records, report.gaps)
    log.end()
    found = [scan(path.read_bytes(), sealed=True) for path in sorted((tmp_path / "segments").glob("*.sealed"))]
    assert [(1, b"a"), (2, b"b")] == [tuple(record) for segment in found for record in segment.records]
    assert [GapReason.SYNC_FAILED] == [line.gap.reason for line in read_lines(LogDirectory(tmp_path), disk=REAL_DISK)]
