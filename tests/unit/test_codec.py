"""Packed rows: what goes in comes out, the header sorts like time, and damage is always said to be damage."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hindcast.errors import StoredDataError
from hindcast.online.codec import PackedRow, pack_row, unpack_row
from hindcast.online.row_format import NULLS
from hindcast.online.rows import Row, RowPolicy, ViewWriter

HEADER_BYTES = 42
ORDER_BYTES = FORMAT_AT = 16
# The years 1 to 9999, which are what an answer can say.
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
# The least created_ts is how a null one is written; 290,000 years before our era nobody knew a row.
CREATED = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
ROWS = st.builds(
    PackedRow,
    event_micros=MICROS,
    created_micros=CREATED,
    schema_id=st.binary(min_size=8, max_size=8),
    run_id=st.binary(min_size=16, max_size=16),
    values=st.lists(st.none() | st.binary(min_size=1, max_size=40).filter(lambda v: v not in NULLS), max_size=8),
)
ROW = PackedRow(1_700_000_000_123_456, None, b"schema-8", b"run-id-of-16-byt", [b"\x12\x02hi", None, b"\x20\x07"])


def pack(row: PackedRow) -> bytes:
    return pack_row(**row._asdict())


@given(ROWS)
def test_an_unpacked_row_is_the_row_that_was_packed(row):
    """Every row comes back as it was, whatever its times and values."""
    assert unpack_row(pack(row)) == row


@given(ROWS)
def test_an_empty_value_is_a_null(row):
    """An empty Value, which is how protobuf writes a null, is stored as the null that it is."""
    empty = row._replace(values=[*row.values, b""])

    assert unpack_row(pack(empty)) == row._replace(values=[*row.values, None])


@given(ROWS, ROWS)
@example(ROW._replace(event_micros=-1), ROW._replace(event_micros=0))
@example(ROW._replace(created_micros=None), ROW._replace(created_micros=-(2**63) + 1))
@example(ROW._replace(created_micros=-1), ROW._replace(created_micros=0))
def test_the_first_bytes_sort_like_event_then_created_time(one, other):
    """The bytes that the newest-wins script compares order rows by event_ts, then created_ts, a null one first."""

    def order(row):
        return row.event_micros, row.created_micros is not None, row.created_micros or 0

    def head(row):
        return pack(row)[:ORDER_BYTES]

    assert (order(one) < order(other)) == (head(one) < head(other))
    assert (order(one) == order(other)) == (head(one) == head(other))


@settings(max_examples=40)
@given(ROWS)
def test_every_truncation_is_damage(row):
    """A row that lost its end is never read as a shorter row."""
    packed = pack(row)
    for length in range(len(packed)):
        with pytest.raises(StoredDataError):
            unpack_row(packed[:length])


@given(ROWS, st.binary(min_size=1, max_size=9))
def test_bytes_after_the_row_are_damage(row, more):
    """Two rows run together are not one."""
    with pytest.raises(StoredDataError):
        unpack_row(pack(row) + more)


@pytest.mark.parametrize("bit", range(8))
def test_another_format_is_refused_by_name(bit):
    """A row of a format that this version does not know is refused, and the message names both."""
    packed = bytearray(pack(ROW))
    packed[FORMAT_AT] ^= 1 << bit

    with pytest.raises(StoredDataError, match=f"format {2 ^ 1 << bit}, this version reads 2"):
        unpack_row(bytes(packed))


def test_a_flipped_bit_is_damage_or_another_row_but_never_another_exception():
    """Wherever one bit flips, a row unpacks or is said to be damaged; it never unpacks to what it was."""
    packed = pack(ROW)
    for at in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[at // 8] ^= 1 << at % 8
        try:
            unpacked = unpack_row(bytes(flipped))
        except StoredDataError:
            # The event time (it stands there twice), the format, the flag for nulls, or the values.
            assert at // 8 < ORDER_BYTES // 2 or at // 8 in {FORMAT_AT, FORMAT_AT + 1} or at // 8 >= HEADER_BYTES
        else:
            assert unpacked != ROW


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damage_or_a_row(stored):
    """Bytes that somebody else stored under a row's key raise nothing but StoredDataError."""
    try:
        row = unpack_row(stored)
    except StoredDataError:
        return
    assert all(value is None or isinstance(value, bytes) for value in row.values)


@pytest.mark.parametrize("micros", [-62_135_596_800_000_001, 253_402_300_800_000_000])
def test_a_time_that_no_answer_can_say_is_not_packed(micros):
    """An event time outside the years 1 to 9999 is refused when it is written."""
    with pytest.raises(OverflowError):
        pack(ROW._replace(event_micros=micros))


def writer(*, ttl_micros=0, **policy):
    """A view's writer at 1970-01-02."""
    return ViewWriter(
        project="p",
        view="v",
        fields=[],
        ttl_micros=ttl_micros,
        run_id=bytes(16),
        now_micros=86_400_000_000,
        policy=RowPolicy(**policy),
    )


def test_a_row_lives_by_its_own_time_and_the_views_ttl_and_grace():
    """A key expires when its row has been stale for the grace time, in milliseconds since 1970."""
    of_view = writer(ttl_micros=3_600_000_000, ttl_grace_seconds=60)

    (write,) = of_view.writes([Row(b"k", 86_400_000_000, None, [])])

    assert write.expires_at_ms == 86_400_000 + 3_600_000 + 60_000


def test_a_row_without_a_ttl_lives_for_ever():
    """No TTL, no expiry."""
    (write,) = writer().writes([Row(b"k", 0, None, [])])

    assert write.expires_at_ms == 0


def test_the_stores_own_cap_shortens_a_life_but_never_lengthens_it():
    """`key_ttl_seconds` counts from the write, and the earlier of the two ends is taken."""
    short = writer(ttl_micros=3_600_000_000, ttl_grace_seconds=0, key_ttl_seconds=10)
    long = writer(ttl_micros=3_600_000_000, ttl_grace_seconds=0, key_ttl_seconds=10**9)

    assert [next(iter(w.writes([Row(b"k", 86_400_000_000, None, [])]))).expires_at_ms for w in (short, long)] == [
        86_410_000,
        90_000_000,
    ]


def test_a_row_before_1970_with_a_ttl_expires_at_once_rather_than_never():
    """Redis reads 0 as never here, so a time before 1970 becomes the first millisecond after."""
    (write,) = writer(ttl_micros=1, ttl_grace_seconds=0).writes([Row(b"k", -(10**15), None, [])])

    assert write.expires_at_ms == 1


def test_rows_that_cannot_be_stored_are_counted():
    """A row dated too far ahead and a row without its key are not written, and counted apart."""
    of_view = writer(future_seconds=5)
    now = 86_400_000_000

    written = list(
        of_view.writes(
            [
                Row(b"edge", now + 5_000_000, None, []),
                Row(b"late", now + 5_000_001, None, []),
                Row(None, now, None, []),
            ]
        )
    )

    assert (len(written), of_view.future, of_view.keyless) == (1, 1, 1)
