"""Rows packed by column are the rows that are packed one by one, and leave Redis when those do."""

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hindcast.catalog import Field
from hindcast.online import pieces
from hindcast.online.codec import pack_row
from hindcast.online.packing import _array_head, expiries, pack_rows
from hindcast.online.rows import Row, RowPolicy, ViewWriter

EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999
MICROS = st.integers(EARLIEST, LATEST) | st.sampled_from([0, -1, 1, 999_999, 1_000_000, -1_000_000])
CREATED = st.none() | st.integers(-(2**63), 2**63 - 1)
NULL_VALUE = b"\x98\x01\x00"
VALUES = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from([b"", NULL_VALUE, b"abc"])
    | st.sampled_from([31, 255, 256, 65_535, 65_536]).map(bytes)
)
UTC_MICROS = pa.timestamp("us", "UTC")
DRAWN = settings(deadline=None)  # the first of all arrays imports pandas
IDS = {"schema_id": b"schema-8", "run_id": b"run-id-of-16-byt"}


@st.composite
def batches(draw):
    """Rows as (event time, created time, values), all of one width, some beyond the short form of a msgpack array."""
    width = draw(st.sampled_from([0, 1, 2, 3, 14, 15, 16]))
    row = st.tuples(MICROS, CREATED, st.lists(VALUES, min_size=width, max_size=width))
    return width, draw(st.lists(row, max_size=6))


def pack(width, rows, kind=None):
    """Packed by column."""
    events = pa.array([event for event, _, _ in rows], UTC_MICROS)
    created = pa.array([created for _, created, _ in rows], pa.int64()).cast(UTC_MICROS)
    columns = [pa.array([values[at] for *_, values in rows], kind or pa.binary()) for at in range(width)]
    return pack_rows(events, created, columns, **IDS)


def pack_singly(rows):
    """Packed one by one."""
    return [
        pack_row(event_micros=event, created_micros=created, values=values, **IDS) for event, created, values in rows
    ]


@DRAWN
@given(batches())
@example((1, [(0, None, [None]), (0, 0, [b""]), (-1, -1, [NULL_VALUE])]))
def test_rows_packed_by_column_are_those_packed_singly(batch):
    """Any times, values, nulls and widths give the bytes that `pack_row` gives."""
    width, rows = batch
    packed = pack(width, rows)

    assert pack_singly(rows) == packed.to_pylist()
    packed.validate(full=True)


@DRAWN
@given(batches(), st.integers(0, 6), st.integers(0, 6))
def test_a_part_of_a_batch_is_packed_as_the_whole(batch, first, end):
    """Columns that are parts of longer ones, as a reader's batches are, give the same rows."""
    width, rows = batch
    events = pa.array([event for event, _, _ in rows], UTC_MICROS)
    created = pa.array([created for _, created, _ in rows], pa.int64()).cast(UTC_MICROS)
    columns = [pa.array([values[at] for *_, values in rows], pa.binary()) for at in range(width)]
    part = slice(first, end)

    assert (
        pack_singly(rows[part])
        == pack_rows(events[part], created[part], [column[part] for column in columns], **IDS).to_pylist()
    )


@DRAWN
@given(batches())
def test_wide_offsets_give_the_same_rows(batch):
    """Values in large arrays, and rows too many bytes for the offsets of a plain one, are packed alike."""
    width, rows = batch
    expected = pack_singly(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_NARROW_BYTES_MAX", 100)
        packed = pack(width, rows, pa.large_binary())

    assert expected == packed.to_pylist()
    # What a null covers is counted too, so that fewer bytes may have wide offsets.
    assert sum(map(len, expected)) <= 100 or pa.types.is_large_binary(packed.type)


@pytest.mark.parametrize("entries", [1, 15, 16, 65_535, 65_536])
def test_an_array_of_any_length_has_the_head_that_msgpack_gives_it(entries):
    """Rows of few and of very many fields begin with the shortest form that says their number."""
    head = _array_head(entries)

    assert msgspec.msgpack.encode([None] * entries) == head + b"\xc0" * entries


@pytest.mark.parametrize("micros", [EARLIEST - 1, LATEST + 1])
def test_a_time_that_no_answer_can_say_is_not_packed(micros):
    """An event time outside the years 1 to 9999 is refused, as it is row by row."""
    with pytest.raises(OverflowError):
        pack(0, [(0, None, []), (micros, None, [])])


@DRAWN
@given(
    st.lists(MICROS, min_size=1),
    st.sampled_from([0, 1, 3_600_000_000, 10**15]),
    st.integers(0, 10**16),
    st.builds(RowPolicy, ttl_grace_seconds=st.integers(0, 10**6), key_ttl_seconds=st.none() | st.integers(0, 10**6)),
)
def test_rows_expire_as_those_written_singly(events, ttl_micros, now_micros, policy):
    """By any TTL, grace and cap a row goes when `ViewWriter` would have it go."""
    writer = ViewWriter(
        project="p",
        view="v",
        fields=[Field("f", 4)],
        ttl_micros=ttl_micros,
        run_id=IDS["run_id"],
        now_micros=now_micros,
        policy=policy,
    )
    writer._latest_micros = LATEST
    writes = writer.writes(Row(b"k", event, None, [None]) for event in events)

    assert [write.expires_at_ms for write in writes] == expiries(
        pa.array(events, UTC_MICROS), ttl_micros=ttl_micros, now_micros=now_micros, policy=policy
    ).tolist()
