"""Python values to wire values and back."""

import math
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hindcast.v1.value_pb2 import Value
from hindcast_client._decoding import decode, decode_column
from hindcast_client._encoding import encode, encode_column

SECONDS_MIN, SECONDS_MAX = -62135596800, 253402300799  # the years 1 and 9999

texts = st.text(max_size=8)
ints = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False)
seconds = st.integers(SECONDS_MIN, SECONDS_MAX)
instants = seconds.map(lambda second: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second))
decimals = st.decimals(allow_nan=False, allow_infinity=False)

scalars = [
    st.booleans(),
    ints,
    doubles,
    texts,
    st.binary(max_size=8),
    instants,
    st.uuids(),
    decimals,
]
scalar = st.one_of(scalars)
lists = st.one_of([st.lists(item, max_size=3) for item in scalars])
# Not the empty set: it has no item type, and an untyped set reads as a list, as in Feast.
sets = st.one_of([st.sets(item, min_size=1, max_size=3) for item in scalars])
maps = st.dictionaries(texts, st.none() | scalar | lists, max_size=3)
scalar_maps = st.one_of(
    [st.dictionaries(key, st.none() | scalar, min_size=1, max_size=3) for key in scalars if key is not texts]
)
nested = st.one_of([st.lists(st.lists(item, min_size=1, max_size=2), max_size=2) for item in scalars])
map_lists = st.lists(maps, max_size=2)


class Colour(StrEnum):
    """A str in a coat."""

    RED = "red"


class Size(IntEnum):
    """An int in a coat."""

    SMALL = 1


@given(st.one_of(st.none(), scalar, lists, sets, maps, scalar_maps, nested, map_lists))
@example([])
@example({})
@example({1: None})
@example([[], [1]])
@example([{1}, set()])
def test_what_was_encoded_decodes_to_the_same(value):
    """A Python value comes back from the wire equal and of its own type."""
    came_back = decode(Value.FromString(encode(value).SerializeToString()))
    if isinstance(value, list) and value and isinstance(value[0], set):
        value = [set(item) for item in value]
    assert (value, type(value)) == (came_back, type(came_back))


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("Europe/Berlin", datetime(2024, 7, 1, 14, tzinfo=ZoneInfo("Europe/Berlin"))),
        ("UTC-07:00", datetime(2024, 7, 1, 5, tzinfo=timezone(timedelta(hours=-7)))),
        ("", datetime(2024, 7, 1, 12, tzinfo=UTC)),
        ("No/Such", datetime(2024, 7, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_zoned_timestamp_keeps_its_zone(zone, expected):
    """A zoned timestamp is its instant on the clock of its zone, and UTC where the zone is unknown here."""
    value = Value()
    value.zoned_timestamp_val.unix_timestamp = 1719835200
    value.zoned_timestamp_val.zone = zone
    actual = decode(value)
    assert (expected, expected.utcoffset()) == (actual, actual.utcoffset())


def test_feasts_marks_for_a_null_inside_a_list_read_as_none():
    """The stand-ins that Feast writes for a null in a list of times, UUIDs or decimals read as None."""
    value = Value()
    value.unix_timestamp_list_val.val.extend([0, -(2**63)])
    assert [datetime(1970, 1, 1, tzinfo=UTC), None] == decode(value)
    for kind in ("uuid_list_val", "decimal_list_val"):
        value = Value()
        getattr(value, kind).val.append("")
        expected = [None]
        assert expected == decode(value)


def test_a_stored_value_that_is_not_what_it_says_is_named():
    """A UUID or time that cannot be one fails with its column and row."""
    for value in (Value(uuid_val="abc"), Value(unix_timestamp_val=2**62), Value(decimal_val="one")):
        with pytest.raises(ValueError, match="column 'x', row 1 is stored as"):
            decode_column([Value(), value], name="x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int32(7), Value(int32_val=7)),
        (np.int8(-7), Value(int32_val=-7)),
        (np.uint16(7), Value(int32_val=7)),
        (np.uint32(2**32 - 1), Value(int64_val=2**32 - 1)),
        (np.int64(7), Value(int64_val=7)),
        (np.float32(0.5), Value(float_val=0.5)),
        (np.float64(0.5), Value(double_val=0.5)),
        (np.bool_(True), Value(bool_val=True)),
        (np.str_("a"), Value(string_val="a")),
        (np.bytes_(b"a"), Value(bytes_val=b"a")),
        (np.datetime64("2024-05-01T00:00:01.9"), Value(unix_timestamp_val=1714521601)),
        (np.datetime64("NaT"), Value()),
        (np.array(7, dtype=np.int64), Value(int64_val=7)),
        (pd.NaT, Value()),
        (pd.NA, Value()),
        (pd.Timestamp("2024-05-01", tz="UTC"), Value(unix_timestamp_val=1714521600)),
        (Colour.RED, Value(string_val="red")),
        (Size.SMALL, Value(int64_val=1)),
        (bytearray(b"a"), Value(bytes_val=b"a")),
        (uuid.UUID(int=1), Value(uuid_val="00000000-0000-0000-0000-000000000001")),
        (Decimal("1.10"), Value(decimal_val="1.10")),
        (Value(json_val="{}"), Value(json_val="{}")),
    ],
)
def test_scalars_keep_their_width(value, expected):
    """NumPy's, pandas' and subclassed scalars go out as the kind that holds them, no wider."""
    assert expected == encode(value)


def test_arrays_go_out_as_lists_of_their_dtype():
    """An array inside a column is a list of the array's own width."""
    for dtype, kind in ((np.float32, "float_list_val"), (np.int32, "int32_list_val"), (np.int64, "int64_list_val")):
        expected = [1, 2]
        assert expected == list(getattr(encode(np.array([1, 2], dtype=dtype)), kind).val)


@pytest.mark.parametrize(
    ("moment", "expected_seconds"),
    [
        (datetime(2024, 5, 1), 1714521600),  # noqa: DTZ001 - naive is the case
        (datetime(2024, 5, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), 1714521600),
        (datetime(2024, 5, 1, 0, 0, 0, 999_999, tzinfo=UTC), 1714521600),
        (datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC), -1),
    ],
)
def test_times_go_out_as_feasts_whole_seconds(moment, expected_seconds):
    """A datetime is whole seconds since 1970, its fraction dropped towards 1970, a naive one read as UTC."""
    assert Value(unix_timestamp_val=expected_seconds) == encode(moment)


def test_nan_is_a_number_not_a_null():
    """A float NaN in plain Python stays a NaN on the wire."""
    assert math.isnan(encode(math.nan).double_val)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, 2.5], "double_val", [1.0, None, 2.5]),
        ([np.int32(1), 2**40], "int64_val", [1, 2**40]),
        ([np.float32(0.5), 0.1], "double_val", [0.5, 0.1]),
        ([[], [1], None], "int64_list_val", [[], [1], None]),
        ([[1], [2.5]], "double_list_val", [[1.0], [2.5]]),
        ([set(), {"a"}], "string_set_val", [set(), {"a"}]),
        ([[], []], "list_val", [[], []]),
    ],
)
def test_a_column_comes_to_one_kind(values, kind, expected):
    """Entries that agree without loss are widened to one kind; nulls and empty lists take the column's."""
    column = encode_column(values, name="x")
    assert {kind} == {value.WhichOneof("val") for value in column} - {None}
    assert expected == [decode(value) for value in column]


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ([1, "a"], TypeError, "x: row 0 is int64 and row 1 is string; give one type"),
        ([True, 1], TypeError, "x: row 0 is bool and row 1 is int64"),
        ([2**53 + 1, 0.5], ValueError, "x: row 0 holds 9007199254740993 among fractions"),
        ([1, []], TypeError, "x: row 1 is an empty collection, among int64"),
        ([[1], set()], TypeError, "x: row 1 is an empty collection, among int64_list"),
        ([0, 2**63], ValueError, "x, row 1: 9223372036854775808 does not fit 64 bits"),
        ([[1, None]], ValueError, "x, row 0: item 1 is null, which a list cannot hold"),
        ([[1, "a"]], TypeError, "x, row 0: item 0 is int64 and item 1 is string"),
        ([[object()]], TypeError, "x, row 0: item 0: object is no feature type"),
        ([{"a": 1j}], TypeError, "x, row 0: key 'a': complex is no feature type"),
        ([{"a": 1, 2: 1}], TypeError, "x, row 0: key 'a' cannot stand in a map"),
        ([datetime(2024, 5, 1, tzinfo=UTC).date()], TypeError, "x, row 0: a date is not an instant"),
        ([timedelta(1)], TypeError, "x, row 0: timedelta is no feature type"),
        (["\ud800"], ValueError, "x, row 0: .*surrogates not allowed"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named(values, error, told):
    """What has no place in a column is refused with the column, the row and what to give."""
    with pytest.raises(error, match=told):
        encode_column(values, name="x")
