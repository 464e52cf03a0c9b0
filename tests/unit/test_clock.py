"""Ids and instants: what sorts by time sorts by time, whichever form it is written in."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from hindcast.clock import uuid7, uuid7_text

MICROS = st.integers(0, 2**48 * 1000 - 1)
RANDOM = st.binary(min_size=10, max_size=10)


@given(MICROS, RANDOM)
def test_an_id_is_a_uuid_of_version_7(micros, random_bytes):
    """Version, variant and milliseconds stand where RFC 9562 has them, and both forms are one id."""
    made = uuid7(micros, lambda _: random_bytes)

    assert (7, uuid.RFC_4122) == (made.version, made.variant)
    assert micros // 1000 == made.int >> 80
    assert str(made) == uuid7_text(micros, lambda _: random_bytes)


@given(MICROS, MICROS, RANDOM, RANDOM)
def test_ids_of_later_milliseconds_sort_later(one, other, first_bytes, second_bytes):
    """As bytes and as text, ids order by the millisecond they were made in."""
    first, second = uuid7(one, lambda _: first_bytes), uuid7(other, lambda _: second_bytes)
    if one // 1000 != other // 1000:
        assert (one < other) == (first.bytes < second.bytes) == (str(first) < str(second))
