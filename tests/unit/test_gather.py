"""Columns of serialized Values as Arrow arrays: the fast way gives what Feast's own messages say, of every type."""

import math
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.lookups.gather import INSTANT, arrow_type, gather, value_type_of
from hindcast.v1.value_pb2 import Value

NULLS = st.sampled_from([b"", b"\x98\x01\x00"])
SECONDS_MAX = (2**63 - 1) // 1_000_000
KINDS = {
    1: ("bytes_val", st.binary(max_size=300)),
    2: ("string_val", st.text(max_size=200)),
    3: ("int32_val", st.integers(-(2**31), 2**31 - 1)),
    4: ("int64_val", st.integers(-(2**63), 2**63 - 1)),
    5: ("double_val", st.floats()),
    6: ("float_val", st.floats(width=32)),
    7: ("bool_val", st.booleans()),
    8: ("unix_timestamp_val", st.integers(-SECONDS_MAX, SECONDS_MAX)),
}


def plain(value: bytes, value_type: int) -> Any:
    """What a message says, as an array would."""
    message = Value.FromString(value)
    name = KINDS[value_type][0]
    if message.WhichOneof("val") != name:
        return None
    content = getattr(message, name)
    return content * 1_000_000 if value_type == 8 else content


def bits(content: Any) -> Any:
    """A value that equals another one only if it is the same, bit for bit."""
    return struct.pack("<d", content) if isinstance(content, float) else content


@pytest.mark.parametrize("value_type", KINDS)
@settings(deadline=None)  # the first conversion loads a library
@given(st.data())
def test_a_column_is_what_its_messages_say(value_type, data):
    """Numbers are the same bit for bit, texts too, and nulls of both kinds are null, with and without them in a column."""
    name, contents = KINDS[value_type]
    values = contents.map(lambda content: Value(**{name: content}).SerializeToString())
    column = data.draw(st.lists(values | NULLS if data.draw(st.booleans()) else values | st.just(b""), max_size=20))
    array = gather(column, value_type)
    read = array.cast(pa.int64()) if value_type == 8 else array

    array.validate(full=True)
    assert arrow_type(value_type) == array.type
    assert [bits(plain(value, value_type)) for value in column] == [bits(one) for one in read.to_pylist()]


@pytest.mark.parametrize(("value_type", "content"), [(5, 0.5), (6, 0.5), (4, 7), (3, 7), (8, 7)])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_numbers_are_aligned(value_type, content, rows):
    """Arrow's engine finds each column's numbers at an address that their width divides; otherwise it warns on standard error."""
    column = [Value(**{KINDS[value_type][0]: content}).SerializeToString()] * rows
    array = gather(column, value_type)

    assert 0 == array.buffers()[1].address % (array.type.bit_width // 8)


def test_a_value_of_another_type_is_null():
    """What is not of its column's type is null, alone or among others, and never another number."""
    strange = [
        Value(string_val="7").SerializeToString(),
        b"\xff",
        Value(int64_val=2**40).SerializeToString(),
        Value(int64_val=7).SerializeToString(),
    ]
    assert [None, None, None, 7] == gather(strange, 3).to_pylist()
    assert [None, None, 2**40, 7] == gather(strange, 4).to_pylist()
    assert ["7", None, None, None] == gather(strange, 2).to_pylist()


def test_what_callers_send_for_a_type_is_taken():
    """A request's integers of either width stand for each other, and for a float."""
    assert [1, 2] == gather(
        [Value(int32_val=1).SerializeToString(), Value(int64_val=2).SerializeToString()], 4
    ).to_pylist()
    assert [1.0, 2.5] == gather(
        [Value(int64_val=1).SerializeToString(), Value(float_val=2.5).SerializeToString()], 5
    ).to_pylist()


def test_a_time_that_no_table_can_hold_is_null():
    """Seconds whose microseconds have more than 64 bits are null, and those before and after are not."""
    times = [
        Value(unix_timestamp_val=seconds).SerializeToString() for seconds in (SECONDS_MAX + 1, 1, -SECONDS_MAX - 2)
    ]
    assert [None, 1_000_000, None] == gather(times, 8).cast(pa.int64()).to_pylist()


def test_lists_and_texts_have_their_types():
    """Lists are lists of what they hold, with empty ones apart from nulls; JSON and decimals are text; maps stay serialized."""
    listed = Value()
    listed.int64_list_val.val.extend([1, 2])
    empty = Value()
    empty.int64_list_val.SetInParent()
    mapped = Value()
    mapped.map_val.val["a"].int64_val = 1
    assert [[1, 2], [], None] == gather([listed.SerializeToString(), empty.SerializeToString(), b""], 14).to_pylist()
    assert pa.list_(INSTANT) == arrow_type(18)
    assert ["{}"] == gather([Value(json_val="{}").SerializeToString()], 32).to_pylist()
    assert [mapped.SerializeToString()] == gather([mapped.SerializeToString()], 20).to_pylist()


def test_the_type_of_a_column_is_that_of_its_first_value():
    """Values tell their type, those with numbers above 15 too; nulls tell nothing."""
    assert 5 == value_type_of([b"", b"\x98\x01\x00", Value(double_val=math.nan).SerializeToString()])
    assert 44 == value_type_of([Value(decimal_val="1.5").SerializeToString()])
    assert 0 == value_type_of([b"", b"\x98\x01\x00"])
