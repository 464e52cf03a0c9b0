"""The gap report of hand-made logs."""

import fcntl
import os

import pytest

from hindcast.lookups.directory import LogDirectory, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gap_report import Missing, gap_report
from hindcast.lookups.gaps import GapLine, append_lines
from hindcast.lookups.marks import Mark, mark_bytes
from hindcast.lookups.segment import Gap, GapReason
from lookup_segments import NOON, SECOND, damage, make_record, write_segment

WRITER = WriterId(0, NOON)


def some(count, first=1):
    """So many records, one a second."""
    return [make_record(NOON + number * SECOND, number) for number in range(first, first + count)]


def told(log, first, last, reason):
    """Tell of a gap, as writers and recovery do."""
    gap = Gap(first_sequence=first, last_sequence=last, reason=reason)
    append_lines(LogDirectory(log), [GapLine(writer=WRITER, gap=gap, found_micros=NOON)], number=1, disk=REAL_DISK)


def mark(log, **values):
    """A writer's mark."""
    usual = {"first_sequence": 1, "synced_end": 0, "written_sequence": 0, "due_sequence": 0, "at_micros": NOON}
    path = LogDirectory(log).marks(WRITER)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mark_bytes(Mark(**{**usual, **values})))
    return path


def report_of(log):
    """The one writer's."""
    (report,) = gap_report(log)
    return report


def test_nothing_is_missing_of_a_whole_log(tmp_path):
    """Sealed and open segments that follow one another are whole; what is sealed is synced."""
    write_segment(tmp_path, some(3), sealed=True)
    write_segment(tmp_path, some(2, 4), first=4)
    report = report_of(tmp_path)

    assert report.is_whole
    assert (5, 3, 0, 1, 5, 2) == (
        report.written,
        report.synced,
        report.lost,
        report.first_sequence,
        report.last_sequence,
        report.segments,
    )


def test_a_log_that_is_not_there_has_no_writers(tmp_path):
    """No folder is no error."""
    assert [] == gap_report(tmp_path / "nowhere")


def test_a_segment_that_was_removed_is_missing(tmp_path):
    """The holes that it leaves, in the middle and at the beginning, are told by their sequences, though nobody told of them."""
    write_segment(tmp_path, some(2, 3), first=3, sealed=True)
    write_segment(tmp_path, some(2, 8), first=8, sealed=True)
    report = report_of(tmp_path)

    assert (Missing(1, 2, "untold"), Missing(5, 7, "untold")) == report.missing
    assert (5, False) == (report.lost, report.is_whole)


def test_a_last_segment_that_was_removed_is_missing(tmp_path):
    """A writer's mark says how many records there should be."""
    write_segment(tmp_path, some(2), sealed=True)
    mark(tmp_path, first_sequence=3, written_sequence=6, due_sequence=8)

    assert (Missing(3, 8, "untold"),) == report_of(tmp_path).missing


def test_what_waits_in_a_living_writers_memory_is_not_missing(tmp_path):
    """Its lock says that it lives: only what it has said to have written must be there."""
    write_segment(tmp_path, some(6), sealed=True)
    handle = os.open(mark(tmp_path, written_sequence=6, due_sequence=8), os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        report = report_of(tmp_path)
    finally:
        os.close(handle)

    assert (True, True, 6) == (report.lives, report.is_whole, report.last_sequence)
    assert not report_of(tmp_path).is_whole


def test_gap_records_say_why(tmp_path):
    """What a segment says is missing is missing, for the reason that it says."""
    gaps = [
        Gap(first_sequence=3, last_sequence=5, reason=GapReason.WRITE_FAILED),
        Gap(first_sequence=6, last_sequence=6, reason=GapReason.OVERFLOW),
    ]
    write_segment(tmp_path, [*some(2), *gaps, *some(1, 7)], sealed=True)
    report = report_of(tmp_path)

    assert (Missing(3, 5, "write_failed"), Missing(6, 6, "overflow")) == report.missing
    assert (3, 4, 7) == (report.written, report.lost, report.last_sequence)


def test_lines_of_gaps_say_why(tmp_path):
    """What recovery told of a torn end is the reason for a hole between segments."""
    write_segment(tmp_path, some(2), sealed=True)
    write_segment(tmp_path, some(2, 6), first=6, sealed=True)
    told(tmp_path, 3, 4, GapReason.KILLED)

    assert (Missing(3, 4, "killed"), Missing(5, 5, "untold")) == report_of(tmp_path).missing


def test_records_that_a_failed_sync_left_are_not_missing(tmp_path):
    """A gap that may not be one is none where the records are there."""
    write_segment(tmp_path, some(4), sealed=True)
    told(tmp_path, 3, 4, GapReason.SYNC_FAILED)

    assert report_of(tmp_path).is_whole


def test_a_gap_without_an_end_is_missing(tmp_path):
    """After a power cut nobody knows how many there were, and the report says so."""
    write_segment(tmp_path, some(2), sealed=True)
    told(tmp_path, 3, None, GapReason.TORN)
    report = report_of(tmp_path)

    assert ((Missing(3, None, "torn"),), 0, False) == (report.missing, report.lost, report.is_whole)


def test_what_was_erased_is_not_missing(tmp_path):
    """It is counted by itself."""
    gap = Gap(first_sequence=2, last_sequence=4, reason=GapReason.ERASED)
    write_segment(tmp_path, [*some(1), gap, *some(1, 5)], sealed=True)
    report = report_of(tmp_path)

    assert (True, 3, 0) == (report.is_whole, report.erased, report.lost)
    assert (2, 5) == (report.in_segments, report.last_sequence)


@pytest.mark.parametrize("where", ["header", "head", "payload", "footer"])
def test_a_flipped_bit_is_damage(tmp_path, where):
    """Wherever it is, the report names the segment, and says up to where it is whole."""
    path = write_segment(tmp_path, some(3), sealed=True)
    size = path.stat().st_size
    damage(path, {"header": 9, "head": 64, "payload": 64 + 16 + 50, "footer": size - 30}[where])
    report = report_of(tmp_path)

    (place,) = report.damage
    assert path.name == str(place.segment)
    assert {"header": 0, "head": 64, "payload": 64, "footer": size - 40}[where] == place.offset
    assert not report.is_whole


def test_a_torn_end_of_a_writer_that_is_gone_is_told(tmp_path):
    """While its writer lives an unfinished record is being written."""
    path = write_segment(tmp_path, some(3))
    path.write_bytes(path.read_bytes()[:-5])
    report = report_of(tmp_path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        living = report_of(tmp_path)

    assert ([path.name], (), 2) == ([str(place.segment) for place in report.torn], report.damage, report.written)
    assert ((), True) == (living.torn, living.is_whole)


def test_records_are_synced_up_to_the_writers_mark(tmp_path):
    """Of an open segment as many records are certain as end before the mark."""
    size = write_segment(tmp_path / "first", some(2)).stat().st_size
    write_segment(tmp_path, some(4))
    mark(tmp_path, synced_end=size, written_sequence=4, due_sequence=4)

    assert 2 == report_of(tmp_path).synced


def test_writers_are_told_apart(tmp_path):
    """Each has its own sequences."""
    write_segment(tmp_path, some(3), sealed=True)
    write_segment(tmp_path, some(2, 4), slot=1, first=4, sealed=True)

    assert [(WRITER, True), (WriterId(1, NOON), False)] == [
        (report.writer, report.is_whole) for report in gap_report(tmp_path)
    ]
