"""A segment's bytes: what is framed is read, what is not whole is told, and nothing is read that was not framed."""

import dataclasses

import google_crc32c
import pytest

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import SegmentName, WriterId, marks_writer
from hindcast.lookups.marks import MARK_BYTES, Mark, mark_bytes, read_marks
from hindcast.lookups.segment import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES,
    Gap,
    GapReason,
    RecoveryMode,
    State,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
    read_header,
    rewritten,
    scan,
)
from segments import HEADER, segment_of

LOST = Gap(first_sequence=8, last_sequence=10, reason=GapReason.OVERFLOW, since_micros=5, until_micros=-6)
CONTENTS = [b"one", LOST, b"", b"three" * 10]
READ = [(7, b"one"), (11, b""), (12, b"three" * 10)]


def test_a_header_is_read_as_it_was_written():
    """A header of 64 bytes says whose segment it is."""
    assert 64 == HEADER_BYTES == len(header_bytes(HEADER))
    assert HEADER == read_header(header_bytes(HEADER))


def test_records_and_gaps_are_read_in_order():
    """A segment gives its payloads with their sequences, and its gaps, and a sealed one its footer."""
    data, _ = segment_of(CONTENTS, sealed=True)
    found = scan(data, sealed=True)
    assert (READ, [LOST], State.WHOLE) == (found.records, found.gaps, found.state)
    assert (12, 3, True) == (found.footer.last_sequence, found.footer.records, found.footer.gaps)
    assert (len(data), len(data) - 40, 12) == (found.valid_end, found.data_end, found.last_sequence)


def test_an_open_segment_is_whole_without_a_footer():
    """A segment that ends with a record, or with its header, is whole as long as it is not called sealed."""
    for contents in ([], CONTENTS):
        data, _ = segment_of(contents)
        assert (State.WHOLE, None) == (scan(data).state, scan(data).footer)
        assert State.DAMAGED is scan(data, sealed=True).state


def test_a_payload_in_parts_is_not_copied():
    """The parts of a payload go into writev as the objects they are, and read as one payload."""
    parts = [b"request", b"", b"response"]
    head, *rest = frame(7, parts, seed=HEADER.seed)
    assert (True, RECORD_BYTES) == (all(a is b for a, b in zip(parts, rest, strict=True)), len(head))
    assert [(7, b"requestresponse")] == scan(header_bytes(HEADER) + head + b"".join(rest)).records


def test_a_payload_that_is_too_long_is_refused():
    """More than 1 GiB is no record."""

    class Long(bytes):
        __slots__ = ()

        def __len__(self):
            return PAYLOAD_BYTES_MAX + 1

    with pytest.raises(ValueError, match="too long"):
        frame(1, [Long()], seed=0)


def test_a_gap_without_an_end_is_no_record():
    """Nothing can follow a gap whose end nobody knows, so none is framed."""
    with pytest.raises(ValueError, match="without an end"):
        gap_bytes(dataclasses.replace(LOST, last_sequence=None), seed=0)


@pytest.mark.parametrize("contents", [[CONTENTS[0], CONTENTS[0]], [], CONTENTS])
def test_a_record_of_another_segment_is_none(contents):
    """What was framed for another segment, under the sequence that is due, ends the valid prefix and is never a record."""
    data, _ = segment_of(contents)
    due = scan(data).last_sequence + 1
    other = dataclasses.replace(HEADER, segment_id=bytes(16))
    alien = b"".join(frame(due, [b"alien"], seed=other.seed))
    for mode in (RecoveryMode.TOLERATE_TAIL, RecoveryMode.SALVAGE):
        found = scan(data + alien, mode=mode)
        assert (scan(data).records, len(data), State.TORN) == (found.records, found.valid_end, found.state)


@pytest.mark.parametrize("sequence", [6, 7, 14, 2**64 - 1])
def test_a_record_out_of_turn_is_none(sequence):
    """A record that was written twice, or whose predecessor is missing, ends the valid prefix."""
    data, _ = segment_of(CONTENTS)
    found = scan(data + b"".join(frame(sequence, [b"x"], seed=HEADER.seed)), synced_end=len(data) + 1)
    assert (READ, State.DAMAGED) == (found.records, found.state)


def test_a_torn_tail_is_told_from_damage_by_the_synced_offset():
    """The same bytes are torn where they were not synced, and damaged where they were."""
    data, ends = segment_of(CONTENTS)
    cut = data[:-3]
    states = [scan(cut, synced_end=synced).state for synced in (0, HEADER_BYTES, ends[-2], ends[-2] + 1, ends[-1])]
    assert [State.TORN] * 3 + [State.DAMAGED] * 2 == states
    assert [True, False] == [scan(cut).cut_short, scan(data + bytes(100)).cut_short]


def test_strict_refuses_all_that_is_not_whole():
    """With `strict` a torn tail is an error that says where, and a whole segment is none."""
    data, ends = segment_of(CONTENTS)
    with pytest.raises(StoredDataError, match=f"torn at byte {ends[-2]} of {len(data) - 1}"):
        scan(data[:-1], mode=RecoveryMode.STRICT)
    assert READ == scan(data, mode=RecoveryMode.STRICT).records


def test_salvage_reads_behind_a_damaged_place():
    """With `salvage` the records behind a damaged one are read, and the missing sequences are a gap."""
    data, ends = segment_of([b"a", b"bb" * 20, b"c", b"d"], sealed=True)
    damaged = bytearray(data)
    damaged[ends[0] + RECORD_BYTES + 1] ^= 1
    found = scan(bytes(damaged), sealed=True, mode=RecoveryMode.SALVAGE)
    assert [(7, b"a"), (9, b"c"), (10, b"d")] == found.records
    assert [Gap(first_sequence=8, last_sequence=8, reason=GapReason.DAMAGED)] == found.gaps
    assert (State.DAMAGED, [(ends[0], ends[1]), (ends[-1], len(data))]) == (found.state, found.skipped)
    assert (10, ends[0]) == (found.last_sequence, found.valid_end)


def test_salvage_takes_no_record_out_of_a_payload():
    """A caller who sends bytes that are framed like a record has no receipt forged by them, when the file is searched."""
    forged = b"".join(frame(9, [b"forged"], seed=0)) * 3
    data, ends = segment_of([b"a", forged, b"c"])
    damaged = bytearray(data)
    damaged[ends[0]] ^= 1
    found = scan(bytes(damaged), synced_end=len(data), mode=RecoveryMode.SALVAGE)
    assert [(7, b"a"), (9, b"c")] == found.records


def change_of(changes):
    """Another payload, or None, for some of the payloads."""
    return lambda record: changes.get(record.payload, record.payload)


def test_records_are_changed_in_their_places():
    """A segment stays whole: others are as they were, one that was erased is a gap, and all have the sequences that they had."""
    data, _ = segment_of(CONTENTS, sealed=True)
    found = scan(rewritten(data, change_of({b"one": None, b"": b"another"})).content, sealed=True)

    assert (State.WHOLE, [(11, b"another"), (12, b"three" * 10)]) == (found.state, found.records)
    assert [Gap(first_sequence=7, last_sequence=7, reason=GapReason.ERASED), LOST] == found.gaps
    assert (2, True, 12) == (found.footer.records, found.footer.gaps, found.last_sequence)


def test_a_segment_without_a_footer_is_changed_too():
    """What a writer left is changed as it stands, its last record too."""
    data, _ = segment_of(CONTENTS)
    found = scan(rewritten(data, change_of({b"three" * 10: b"3"})).content)

    assert (State.WHOLE, [*READ[:2], (12, b"3")]) == (found.state, found.records)


def test_nothing_is_written_where_nothing_changes():
    """The payload that was given back says so."""
    for sealed in (True, False):
        data, _ = segment_of(CONTENTS, sealed=sealed)
        assert (None, []) == (rewritten(data, change_of({})).content, rewritten(data, change_of({})).unread)


def test_behind_a_damaged_place_records_are_changed_too():
    """What cannot be read is told, and stays as it is; zeros tell of nobody."""
    data, ends = segment_of([b"a", b"bb" * 20, b"c", b"d"], sealed=True)
    damaged = bytearray(data)
    damaged[ends[0] + RECORD_BYTES + 1] ^= 1
    found = rewritten(bytes(damaged), change_of({b"c": None, b"a": b"A"}))
    after = scan(found.content, sealed=True, mode=RecoveryMode.SALVAGE)

    assert [(7, b"A"), (10, b"d")] == after.records
    assert GapReason.ERASED in {gap.reason for gap in after.gaps}
    assert (ends[0], ends[1]) == found.unread[0]
    assert bytes(damaged[ends[0] : ends[1]]) in found.content
    assert [] == rewritten(segment_of([b"a"])[0] + bytes(100), change_of({})).unread


@pytest.mark.parametrize("header", [b"", b"HCLOOKUP" + bytes(30), header_bytes(HEADER)[:-1] + b"\0"])
def test_of_a_file_without_a_header_all_is_unread(header):
    """Its records cannot be told from other bytes."""
    data = header + segment_of(CONTENTS)[0][HEADER_BYTES:]
    assert (None, [(0, len(data))]) == (rewritten(data, change_of({})).content, rewritten(data, change_of({})).unread)


def test_a_newer_format_is_told_and_is_no_damage():
    """A segment of a later version is an error that says to upgrade."""
    data = bytearray(header_bytes(HEADER))
    data[9] = 2
    data[-4:] = google_crc32c.value(bytes(data[:-4])).to_bytes(4, "big")
    with pytest.raises(StoredDataError, match="has format 2, this version reads 1; upgrade"):
        scan(bytes(data))


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_file_without_a_header_has_no_records(size):
    """A file that ends within its header is torn, or damaged if that was synced."""
    data = header_bytes(HEADER)[:size]
    assert (State.TORN, [], None) == (scan(data).state, scan(data).records, scan(data).header)
    assert State.DAMAGED is scan(data, synced_end=HEADER_BYTES).state


def test_a_footer_that_does_not_fit_is_none():
    """A footer that counts other records than there are, or is followed by anything, does not make a segment whole."""
    data, _ = segment_of(CONTENTS)
    footer = scan(segment_of(CONTENTS, sealed=True)[0]).footer
    for wrong in (
        dataclasses.replace(footer, records=4),
        dataclasses.replace(footer, last_sequence=13),
        dataclasses.replace(footer, size_bytes=1),
    ):
        assert State.DAMAGED is scan(data + footer_bytes(wrong, seed=HEADER.seed), sealed=True).state
    assert State.DAMAGED is scan(data + footer_bytes(footer, seed=HEADER.seed) + b"\0", sealed=True).state


def test_names_of_files_say_whose_they_are():
    """A segment's name is read as it is written, sorts by writer and sequence, and others are none."""
    name = SegmentName(WriterId(3, 2**50), 255)
    assert "0003-0004000000000000-00000000000000ff.open" == str(name)
    assert name == SegmentName.parse(str(name))
    assert WriterId(3, 2**50) == marks_writer("0003-0004000000000000.synced")
    others = ["", "x.open", "0003-0004000000000000.open", "0003-0004000000000000-00000000000000ff.tmp"]
    assert [None] * 4 == [SegmentName.parse(other) for other in others]
    assert [None] * 5 == [marks_writer(other) for other in [*others, str(name)]]


def test_a_torn_mark_is_left_out():
    """Marks are read as they were written, and one whose sum does not fit is as if it were not there."""
    marks = [
        Mark(first_sequence=at, synced_end=64, written_sequence=5, due_sequence=6, at_micros=-1) for at in (1, 2, 3)
    ]
    content = b"".join(map(mark_bytes, marks))
    assert (48, marks) == (MARK_BYTES, read_marks(content))
    damaged = bytearray(content)
    damaged[MARK_BYTES + 3] ^= 4
    assert [marks[0], marks[2]] == read_marks(bytes(damaged))
    assert marks[:2] == read_marks(content[:-1])
