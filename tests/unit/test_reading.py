"""Finding records in hand-made segments."""

import random
from types import SimpleNamespace

import pytest

from hindcast.errors import DeadlineExceeded
from hindcast.lookups.directory import WriterId
from hindcast.lookups.reading import Matching, Page, Position, SegmentRecords
from hindcast.lookups.record import GLANCE_BYTES, Glance, encode, glance
from hindcast.lookups.segment import HEADER_BYTES, RECORD_BYTES, Gap, GapReason, frame, read_header
from lookup_segments import NOON, SECOND, damage, lookup_id, make_record, set_written, write_segment

ALL = Matching()


def served(number, **more):
    """The lookup of a second."""
    return make_record(NOON + number * SECOND, number, **more)


def id_of(number):
    """Its id."""
    return served(number).lookup_id


def found(records, number):
    """The number of the record that is found by this id; None where none is."""
    hit = records.by_lookup_id(id_of(number))
    return None if hit is None else (hit.record.served_at_micros - NOON) // SECOND


def listed(records, wanted=ALL, *, limit=100, before=None):
    """The numbers of the lookups of a page."""
    return [(s.served_at_micros - NOON) // SECOND for s in page_of(records, wanted, limit=limit, before=before)]


def page_of(records, wanted=ALL, *, limit, before=None):
    """The lookups of a page."""
    page = Page(wanted, limit=limit, before=before)
    records.offer_to(page)
    return page.newest_first()


@pytest.fixture
def two_writers(tmp_path):
    """Lookups 0 to 19 of two writers, odd and even, in four segments of which two are sealed."""
    for slot in (0, 1):
        numbers = range(slot, 20, 2)
        first, last = numbers[:5], numbers[5:]
        write_segment(tmp_path, [served(n) for n in first], slot=slot, sealed=True)
        write_segment(
            tmp_path, [served(n) for n in last], slot=slot, first=6, created=NOON + last[0] * SECOND - 500_000
        )
    return tmp_path


def test_every_record_is_found_by_its_id(two_writers):
    """In open segments and sealed ones, with its writer and its sequence."""
    records = SegmentRecords(two_writers)
    hits = [records.by_lookup_id(id_of(number)) for number in range(20)]

    assert [served(number) for number in range(20)] == [hit.record for hit in hits]
    assert [(WriterId(n % 2, NOON), n // 2 + 1) for n in range(20)] == [(hit.writer, hit.sequence) for hit in hits]
    assert None is records.by_lookup_id(lookup_id(NOON, 77))
    assert [] == records.damage


def test_a_log_that_is_not_there_holds_nothing(tmp_path):
    """No folder is no error."""
    records = SegmentRecords(tmp_path / "nowhere")

    assert (None, []) == (found(records, 1), listed(records))


def test_all_are_listed_newest_first_whoever_wrote_them(two_writers):
    """The order is that of served_at, over all segments."""
    assert list(range(19, -1, -1)) == listed(SegmentRecords(two_writers))


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_pages_hold_every_record_once(two_writers, size):
    """Each page begins where the one before ended, whatever its size."""
    records, pages, before = SegmentRecords(two_writers), [], None
    while page := page_of(records, limit=size, before=before):
        pages += [(summary.served_at_micros - NOON) // SECOND for summary in page]
        before = page[-1].position

    assert list(range(19, -1, -1)) == pages


def test_lookups_of_one_instant_are_paged_by_id(tmp_path):
    """Equal times never lose or repeat a lookup."""
    write_segment(tmp_path, [make_record(NOON, number) for number in random.Random(1).sample(range(30), 30)])
    records, numbers, before = SegmentRecords(tmp_path), [], None
    while page := page_of(records, limit=7, before=before):
        numbers += [int.from_bytes(summary.lookup_id[9:], "big") for summary in page]
        before = page[-1].position

    assert list(range(29, -1, -1)) == numbers


def test_an_order_that_is_not_that_of_time_costs_nothing(tmp_path):
    """Lookups that ended in another order than they were answered in, and a segment that was written late, are in their places."""
    numbers = random.Random(7).sample(range(40), 40)
    write_segment(tmp_path, [served(number) for number in numbers[:30]], created=NOON)
    write_segment(tmp_path, [served(number) for number in numbers[30:]], first=31, created=NOON + 3600 * SECOND)

    assert list(range(39, 29, -1)) == listed(SegmentRecords(tmp_path), limit=10)
    assert list(range(40)) == [found(SegmentRecords(tmp_path), number) for number in range(40)]


def test_filters_are_all_looked_at(tmp_path):
    """Time, service, request id, tags and codes each leave out what is not wanted."""
    write_segment(
        tmp_path,
        [
            served(1),
            served(2, service="pair"),
            served(3, service="", refs=["driver:trips"]),
            served(4, request_id="mine"),
            served(5, tags={"model": "fraud", "version": "7"}),
            served(6, tags={"model": "fraud"}),
            served(7, tags={"fraud": "model"}),
            served(8, code=0, reason=""),
            served(9, request=b"mine fraud model pair"),
        ],
    )
    records = SegmentRecords(tmp_path)

    assert [2] == listed(records, Matching(service="pair"))
    assert [3] == listed(records, Matching(service=""))
    assert [4] == listed(records, Matching(request_id="mine"))
    assert [6, 5] == listed(records, Matching(tags={"model": "fraud"}))
    assert [5] == listed(records, Matching(tags={"model": "fraud", "version": "7"}))
    assert [8] == listed(records, Matching(codes=frozenset([0])))
    assert [4, 3] == listed(records, Matching(since_micros=NOON + 3 * SECOND, until_micros=NOON + 5 * SECOND))
    assert [] == listed(records, Matching(tags={"model": "fraud"}, service="pair"))


@pytest.mark.parametrize("cut", range(1, 80))
def test_a_record_that_is_half_written_is_not_there_yet(tmp_path, cut):
    """At whatever byte the file ends, the records before are found, and nothing is damaged."""
    whole = write_segment(tmp_path, [served(1), served(2)])
    size = whole.stat().st_size
    content = whole.read_bytes() + write_segment(tmp_path / "other", [served(3)]).read_bytes()[HEADER_BYTES:][:cut]
    whole.write_bytes(content)
    records = SegmentRecords(tmp_path)

    assert [2, 1] == listed(records)
    assert [1, 2, None] == [found(records, number) for number in (1, 2, 3)]
    if cut < RECORD_BYTES:
        assert [] == records.damage
    assert size < whole.stat().st_size


def test_a_segment_that_has_just_been_begun_is_empty(tmp_path):
    """Without a header, or with a part of it, there is nothing to read and nothing is wrong."""
    path = write_segment(tmp_path, [])
    for size in (0, 10, HEADER_BYTES):
        path.write_bytes(path.read_bytes()[:size])
        records = SegmentRecords(tmp_path)
        assert ([], []) == (listed(records), records.damage)


def test_a_damaged_record_costs_only_itself(tmp_path):
    """A flipped bit in a payload is told with its place; the records before and behind it are found."""
    path = write_segment(tmp_path, [served(1), served(2), served(3)], sealed=True)
    damage(path, path.read_bytes().find(id_of(2)) + 30)
    records = SegmentRecords(tmp_path)

    assert [1, None, 3] == [found(records, number) for number in (1, 2, 3)]
    assert [3, 1] == listed(records)
    assert ["has a damaged record"] == [place.what for place in records.damage]


def test_a_record_of_another_format_is_told(tmp_path):
    """A whole record that another version wrote is no record of ours, and readers say where it is; those beside it are found."""
    path = write_segment(tmp_path, [])
    header = read_header(path.read_bytes())
    parts = frame(1, (b"\xdc\x00\x12\x01" + bytes(40),), seed=header.seed)
    path.write_bytes(path.read_bytes()[:HEADER_BYTES] + b"".join(parts))
    records = SegmentRecords(tmp_path)

    assert [] == listed(records)
    assert ["has a record of a format that this version does not read"] == [place.what for place in records.damage]


@pytest.mark.parametrize("offset", [0, 1, 3, 8, 15], ids=lambda offset: f"byte {offset} of a head")
def test_records_behind_a_damaged_head_are_found(tmp_path, offset):
    """A length or a sequence that was flipped loses its own record; what can be verified behind it is still found."""
    path = write_segment(tmp_path, [served(1), served(2), served(3), served(4)], sealed=True)
    head = path.read_bytes().find(id_of(2)) - (len(b"\xdc\x00\x11\x01\xc4\x10")) - RECORD_BYTES
    damage(path, head + offset)
    records = SegmentRecords(tmp_path)

    assert [1, None, 3, 4] == [found(records, number) for number in (1, 2, 3, 4)]
    assert [4, 3, 1] == listed(records)
    assert "is damaged" in {place.what for place in records.damage}


def test_a_damaged_segment_does_not_hide_others(tmp_path):
    """One without a readable header is told; the rest is read."""
    damage(write_segment(tmp_path, [served(1)], sealed=True), 20)
    write_segment(tmp_path, [served(2)], slot=1)
    records = SegmentRecords(tmp_path)

    assert [2] == listed(records)
    assert ["segment 0000-" in str(place) for place in records.damage] == [True]


def test_zeros_of_a_power_cut_are_no_records(tmp_path):
    """Megabytes of zeros at the end of a segment are passed over at once."""
    path = write_segment(tmp_path, [served(1), served(2)])
    path.write_bytes(path.read_bytes() + bytes(8 << 20))
    records = SegmentRecords(tmp_path)

    assert [2, 1] == listed(records)
    assert ["is damaged"] == [place.what for place in records.damage]


def test_gap_records_are_passed_over(tmp_path):
    """Records behind a gap have the sequences that follow it."""
    gap = Gap(first_sequence=2, last_sequence=9, reason=GapReason.OVERFLOW)
    write_segment(tmp_path, [served(1), gap, served(10)])
    hit = SegmentRecords(tmp_path).by_lookup_id(id_of(10))

    assert (10, served(10)) == (hit.sequence, hit.record)


def test_a_record_that_is_there_twice_counts_once(tmp_path):
    """While a segment is recovered its sealed copy stands beside it."""
    write_segment(tmp_path, [served(1), served(2)])
    write_segment(tmp_path, [served(1), served(2)], sealed=True)

    assert [2, 1] == listed(SegmentRecords(tmp_path))


def test_segments_that_ended_before_a_lookup_began_are_not_opened(tmp_path):
    """By its id's time they cannot hold it: a broken one is not even noticed."""
    damage(write_segment(tmp_path, [served(1)], sealed=True), 3)
    write_segment(tmp_path, [served(60)], first=2, created=NOON + 50 * SECOND)
    records = SegmentRecords(tmp_path)

    assert 60 == found(records, 60)
    assert [] == records.damage


def test_segments_before_a_full_page_are_not_opened(tmp_path):
    """Once a page is full, older segments cannot change it."""
    damage(write_segment(tmp_path, [served(1)], sealed=True), 3)
    write_segment(tmp_path, [served(60), served(61)], first=2, created=NOON + 50 * SECOND)
    records = SegmentRecords(tmp_path)

    assert [61, 60] == listed(records, limit=2)
    assert [60] == listed(
        records, Matching(since_micros=NOON + 30 * SECOND), limit=5, before=Position(NOON + 61 * SECOND, bytes(16))
    )
    assert [] == records.damage


def test_a_lookup_that_waited_for_the_disk_is_found_by_its_id(tmp_path):
    """A record can be in a segment that began long after its lookup did."""
    write_segment(tmp_path, [served(1)], created=NOON + 7200 * SECOND, written=NOON + 7201 * SECOND)

    assert 1 == found(SegmentRecords(tmp_path), 1)


def test_a_coarse_clock_of_the_file_system_hides_nothing(tmp_path):
    """A file that says it was last written a little before its last record is read all the same."""
    set_written(write_segment(tmp_path, [served(1)]), NOON + SECOND - 10_000)
    records = SegmentRecords(tmp_path)

    assert (1, [1]) == (found(records, 1), listed(records, Matching(since_micros=NOON + SECOND)))


@pytest.mark.parametrize("between", [0, 1], ids=["in the next segment", "in the one after that"])
def test_what_a_caller_was_told_in_the_end_is_found(tmp_path, between):
    """Of a durable lookup whose answer could not be synced, the receipt is the failure, and not the answer that nobody got."""
    answer = served(1, mode="durable", code=0, reason="", response=b"answer")
    failure = make_record(NOON + 2 * SECOND, lookup_id=answer.lookup_id, mode="durable", code=14)
    write_segment(tmp_path, [answer])
    write_segment(tmp_path, [served(3)] * between, first=2, created=NOON + 2 * SECOND)
    write_segment(tmp_path, [failure], first=2 + between, created=NOON + 2 * SECOND)

    assert failure == SegmentRecords(tmp_path).by_lookup_id(answer.lookup_id).record
    again = write_segment(tmp_path / "one", [answer, served(2), failure])
    assert failure == SegmentRecords(tmp_path / "one").by_lookup_id(answer.lookup_id).record
    again.unlink()


def test_records_larger_than_a_block_are_read(tmp_path):
    """A record of a megabyte stands between small ones, and all are found."""
    large = served(2, response=random.Random(3).randbytes(1 << 20))
    write_segment(tmp_path, [served(1), large, served(3)], sealed=True)
    records = SegmentRecords(tmp_path)

    assert large == records.by_lookup_id(large.lookup_id).record
    assert [3, 2, 1] == listed(records)


def test_reading_ends_when_it_is_told_to(tmp_path):
    """What `tick` raises comes out, after a block at the most."""
    write_segment(tmp_path, [served(number, response=bytes(100_000)) for number in range(20)])
    seen = SimpleNamespace(ticks=0)

    def tick():
        seen.ticks += 1
        if seen.ticks > 2:
            raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        listed(SegmentRecords(tmp_path, tick=tick))
    assert 3 == seen.ticks


def test_a_glance_is_what_the_record_says():
    """The id and the time in a record's first bytes are those that decoding gives."""
    record = served(5)
    payload = b"".join(encode(record))

    assert Glance(record.lookup_id, record.served_at_micros) == glance(payload)
    assert Glance(record.lookup_id, record.served_at_micros) == glance(b"before" + payload, 6)
    assert None is glance(payload[: GLANCE_BYTES - 1])
    assert None is glance(b"\xdd" + payload[1:])
    assert None is glance(b"".join(encode(make_record(1000))))
