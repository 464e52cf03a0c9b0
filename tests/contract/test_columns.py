"""Columns of a source become the bytes that Feast's own conversion makes of them, or are refused as there."""

import struct
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from hindcast.catalog import KeyType
from hindcast.errors import InvalidArgument
from hindcast.online.encode import encode_column, encode_keys, row_keys
from hindcast.online.keys import row_key
from kinds import BEFORE_1970, KINDS, NOON

SCALARS = (
    *("BYTES", "STRING", "INT32", "INT64", "DOUBLE", "FLOAT", "BOOL", "UNIX_TIMESTAMP"),
    *("PDF_BYTES", "IMAGE_BYTES", "UUID", "TIME_UUID", "DECIMAL", "JSON"),
)


def feasts(array, value_type):
    """What Feast's materialization makes of a column."""
    protos = python_values_to_proto_values(array.to_numpy(zero_copy_only=False), ValueType(value_type))
    return [proto.SerializeToString() for proto in protos]


def by_feast(array, value_type):
    """The same, None for a null; or that it is refused."""
    try:
        return [value or None for value in feasts(array, value_type)]
    except (ArithmeticError, AssertionError, TypeError, ValueError):
        return "refused"


def by_hindcast(array, value_type):
    """A column's values, or that it is refused."""
    try:
        return encode_column(array, value_type, column="c", unusual=feasts).to_pylist()
    except InvalidArgument:
        return "refused"


def no_unusual(array, value_type):
    """For columns that must not take the slow way."""
    raise AssertionError(f"{array.type} as {value_type} is not vectorized")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.source is not None], ids=lambda kind: kind.name)
def test_every_kind_is_encoded_as_by_feast(kind):
    """Every kind of value that a source can hold becomes the bytes that Feast would have written."""
    values, arrow_type = kind.source
    array = pa.array(values, arrow_type)
    number = kind.dtype.to_value_type().value

    assert by_feast(array, number) == encode_column(array, number, column="c", unusual=feasts).to_pylist()


COLUMNS = {
    **{str(kind): pa.array([1, 0, 100], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): pa.array([1, 0, 100], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "negative": pa.array([-1, -(2**31), -(2**63)]),
    "beyond int32": pa.array([2**31, 0]),
    "beyond int64": pa.array([2**63], pa.uint64()),
    "halves": pa.array(np.array([1.5, -0.0], np.float16)),
    "float": pa.array([1.5, -0.0, 3.4e38, 2.0**62], pa.float32()),
    "double": pa.array([1.5, -0.0, -1e18]),
    "double, NaN": pa.array([float("nan"), 1.5]),
    "double beyond float": pa.array([1e39, -1e39, 1e-50, float("inf")]),
    "double beyond int64": pa.array([2.0**63]),
    "bool": pa.array([False, True]),
    "bool, null": pa.array([None, True]),
    "string": pa.array(["é{}:*", "", "x" * 300]),
    "large string": pa.array(["é{}:*", ""], pa.large_string()),
    "string of numbers": pa.array(["12", "-3"]),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "dictionary of numbers": pa.array([7, 8, 7]).dictionary_encode(),
    "binary": pa.array([b"\x00\xff", b""]),
    "large binary": pa.array([b"\x00\xff", b""], pa.large_binary()),
    "fixed size binary": pa.array([b"ab", b"cd"], pa.binary(2)),
    "decimal": pa.array([Decimal("1.10")], pa.decimal128(30, 2)),
    **{
        f"timestamp {unit}": pa.array([NOON, BEFORE_1970], pa.timestamp(unit, "UTC"))
        for unit in ("s", "ms", "us", "ns")
    },
    "timestamp just before 1970": pa.array([-1, 1], pa.timestamp("ns")),
    "timestamp, no zone": pa.array([NOON, BEFORE_1970], pa.timestamp("us")),
    "timestamp, Berlin": pa.array([NOON.astimezone(ZoneInfo("Europe/Berlin"))], pa.timestamp("us", "Europe/Berlin")),
    "date32": pa.array([date(2024, 7, 1), date(1960, 1, 1)], pa.date32()),
    "date64": pa.array([date(2024, 7, 1), date(1960, 1, 1)], pa.date64()),
    "nulls": pa.nulls(2),
    "nulls of text": pa.nulls(2, pa.string()),
    "list": pa.array([[1], [], None, [2, -1]]),
    "list, beyond int32": pa.array([[2**31]]),
    "list with a null": pa.array([[1, None], [2]]),
    "list of floats": pa.array([[1.5, float("nan")], [], [-0.0, 1e30]], pa.list_(pa.float32())),
    "list of doubles": pa.array([[1.5, 1e39], None], pa.list_(pa.float64())),
    "list of two": pa.array([[1.5, 2.5], None, [3.5, 4.5]], pa.list_(pa.float32(), 2)),
    "large list": pa.array([["a"], ["", "é" * 200]], pa.large_list(pa.large_string())),
    "list of text": pa.array([["a"], None, ["", "é" * 200], []]),
    "list of text with a null": pa.array([["a", None]]),
    "list of bytes": pa.array([[b"\xff", b""], [b"x" * 200]]),
    "list of bools": pa.array([[True, False], []]),
    "list of times": pa.array([[NOON], []], pa.list_(pa.timestamp("us", "UTC"))),
    "list of lists": pa.array([[[1]], []]),
    "empty lists": pa.array([[], []], pa.list_(pa.int64())),
    "empty": pa.array([], pa.int64()),
}
TAKEN_HERE_ALONE = {
    *{(f"{sign}{bits}", "DOUBLE") for sign in ("int", "uint") for bits in (8, 16, 32)},
    ("uint64", "DOUBLE"),
    ("beyond int64", "DOUBLE"),
}
"""Whole numbers narrower than 64 bits, or without a sign, which Feast takes only beside a null."""


LISTS = ("BYTES_LIST", "STRING_LIST", "INT32_LIST", "INT64_LIST", "DOUBLE_LIST", "FLOAT_LIST", "BOOL_LIST", "UUID_LIST")


@pytest.mark.parametrize("declared", [*SCALARS, *LISTS, "UNIX_TIMESTAMP_LIST", "STRING_SET"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_becomes_what_feast_makes_of_it(name, declared):
    """For each type of column and each declared one the bytes are Feast's, or both refuse."""
    array, number = COLUMNS[name], ValueType[declared].value
    if (name, declared) in TAKEN_HERE_ALONE:
        assert by_feast(array, number) == "refused"
        beside_a_null = pa.concat_arrays([array, pa.nulls(1, array.type)])
        assert by_feast(beside_a_null, number) == by_hindcast(beside_a_null, number)
    elif (name.startswith("double"), declared) == (True, "UNIX_TIMESTAMP"):
        assert by_hindcast(array, number) == "refused"
    else:
        assert by_feast(array, number) == by_hindcast(array, number)


DRAWN = [
    (pa.float64(), "DOUBLE", st.floats()),
    (pa.float64(), "FLOAT", st.floats()),
    (pa.float32(), "FLOAT", st.floats(width=32)),
    (pa.float64(), "INT64", st.floats(-(2.0**62), 2.0**62)),
    (pa.float64(), "INT32", st.floats(-(2.0**31), 2.0**31 - 1)),
    (pa.int32(), "INT32", st.integers(-(2**31), 2**31 - 1)),
    (pa.int32(), "INT64", st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), "INT64", st.integers(-(2**53), 2**53)),
    (pa.int64(), "DOUBLE", st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), "FLOAT", st.integers(-(2**63), 2**63 - 1)),
    (pa.bool_(), "BOOL", st.booleans()),
    (pa.bool_(), "INT64", st.booleans()),
    (pa.string(), "STRING", st.text()),
    (pa.large_string(), "STRING", st.text()),
    (pa.list_(pa.float32()), "FLOAT_LIST", st.lists(st.floats(width=32))),
    (pa.list_(pa.float64()), "FLOAT_LIST", st.lists(st.floats())),
    (pa.large_list(pa.float64()), "DOUBLE_LIST", st.lists(st.floats())),
    (pa.list_(pa.float32(), 3), "FLOAT_LIST", st.lists(st.floats(width=32), min_size=3, max_size=3)),
    (pa.list_(pa.int64()), "INT64_LIST", st.lists(st.integers(-(2**63), 2**63 - 1))),
    (pa.list_(pa.int32()), "INT32_LIST", st.lists(st.integers(-(2**31), 2**31 - 1))),
    (pa.list_(pa.bool_()), "BOOL_LIST", st.lists(st.booleans())),
    (pa.list_(pa.string()), "STRING_LIST", st.lists(st.text())),
    (pa.list_(pa.binary()), "BYTES_LIST", st.lists(st.binary())),
    (pa.list_(pa.string()), "DECIMAL_LIST", st.lists(st.decimals(allow_nan=False).map(str))),
    (pa.binary(), "BYTES", st.binary(min_size=1)),
    (pa.binary(), "IMAGE_BYTES", st.binary(min_size=1)),
]


@pytest.mark.parametrize(
    ("arrow_type", "declared", "values"), DRAWN, ids=lambda part: str(part) if isinstance(part, str) else None
)
@given(data=st.data())
def test_usual_columns_are_encoded_as_by_feast_without_it(arrow_type, declared, values, data):
    """Any values and nulls of a usual type, a part of a longer column too, become Feast's bytes, and Feast is not asked."""
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=12)), arrow_type)
    first = data.draw(st.integers(0, len(column)))
    part = column[first : data.draw(st.integers(first, len(column)))]
    number = ValueType[declared].value

    encoded = encode_column(part, number, column="c", unusual=no_unusual)

    assert by_feast(part, number) == encoded.to_pylist()
    encoded.validate(full=True)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_times_are_seconds_rounded_down(numbers, unit):
    """Any time of any unit, before 1970 too, becomes the seconds that Feast makes of it."""
    array = pa.array(numbers, pa.timestamp(unit, "UTC"))

    assert by_feast(array, 8) == encode_column(array, 8, column="c", unusual=no_unusual).to_pylist()


def test_a_null_time_is_a_null():
    """Feast writes a null among times as the least number of seconds there is; here it is the null that it is."""
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.date32(), pa.date64()):
        array = pa.array([0, None], kind)
        assert [b"\x40\x00", Value(unix_timestamp_val=-(2**63)).SerializeToString()] == by_feast(array, 8)
        assert [b"\x40\x00", None] == by_hindcast(array, 8)


def test_a_null_beside_a_whole_number_changes_no_digit_of_it():
    """Feast makes doubles of a column of whole numbers with a null; here they stay what they are, as text and as seconds too."""
    array = pa.array([2**53 + 1, None])
    exact = {
        "INT64": Value(int64_val=2**53 + 1),
        "STRING": Value(string_val=str(2**53 + 1)),
        "UNIX_TIMESTAMP": Value(unix_timestamp_val=2**53 + 1),
    }
    for declared, value in exact.items():
        number = ValueType[declared].value
        assert by_feast(array, number) != [value.SerializeToString(), None]
        assert by_hindcast(array, number) == [value.SerializeToString(), None]


def test_nothing_but_empty_bytes_are_empty_bytes():
    """Feast takes a column of nothing but empty bytes for nulls; here a value does not depend on the rows beside it."""
    array = pa.array([b"", None])

    assert [None, None] == by_feast(array, 1)
    assert [Value(bytes_val=b"").SerializeToString(), None] == by_hindcast(array, 1)


def test_seconds_in_doubles_are_refused():
    """Feast makes its mark for a null of every double that is declared a time; here the column is refused."""
    array = pa.array([1.7e9])

    assert [Value(unix_timestamp_val=-(2**63)).SerializeToString()] == by_feast(array, 8)
    assert "refused" == by_hindcast(array, 8)


def test_what_a_refusal_says():
    """It names the column, what it is, what it is declared as, and what to do."""
    for array, declared, wrong in (
        (pa.array(["x"]), "INT64", "is string in its source and declared Int64"),
        (pa.array([2**40]), "INT32", "is int64 in its source and declared Int32"),
        (pa.array([1.0], pa.float32()), "DOUBLE", "is float in its source and declared Float64"),
        (pa.array([1]), "FLOAT_LIST", "is int64 in its source and declared Array(Float32)"),
        (pa.array([1]), "UNIX_TIMESTAMP_SET", "is int64 in its source and declared Set(UnixTimestamp)"),
        (pa.array([b"x"]), "IMAGE_BYTES", None),
        (pa.array(["x"]), "IMAGE_BYTES", "is string in its source and declared ImageBytes"),
    ):
        number = ValueType[declared].value
        if wrong is None:
            assert "refused" != by_hindcast(array, number)
            continue
        with pytest.raises(InvalidArgument) as refused:
            encode_column(array, number, column="trips", unusual=feasts)
        assert (
            f"trips: {wrong}, and its type or a value that it holds cannot become that; declare what it is, or convert it in "
            "the source"
        ) == str(refused.value)


def test_text_that_is_not_utf8_is_refused():
    """Bytes that a file calls text, and that are none, are not written."""
    offsets, content = pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")
    array = pa.Array.from_buffers(pa.string(), 1, [None, offsets, content])

    with pytest.raises(InvalidArgument, match="is string in its source and declared String"):
        encode_column(array, 2, column="c", unusual=no_unusual)


KEY_COLUMNS = {
    KeyType.STRING: st.text(max_size=5),
    KeyType.BYTES: st.binary(max_size=5),
    KeyType.INT32: st.integers(-(2**31), 2**31 - 1),
    KeyType.INT64: st.integers(-(2**53), 2**53),
    KeyType.UNIX_TIMESTAMP: st.integers(0, 2**40),
}
KEY_ARROW = {
    KeyType.STRING: pa.string(),
    KeyType.BYTES: pa.binary(),
    KeyType.INT32: pa.int32(),
    KeyType.INT64: pa.int64(),
    KeyType.UNIX_TIMESTAMP: pa.timestamp("s", "UTC"),
}


def feasts_key(names, values):
    """Feast's key of one row, None if a value is null."""
    protos = [Value.FromString(value or b"") for value in values]
    if not all(proto.WhichOneof("val") for proto in protos):
        return None
    return serialize_entity_key(EntityKey(join_keys=names, entity_values=protos), entity_key_serialization_version=3)


@given(st.data())
def test_keys_are_feasts(data):
    """Of any join keys of any types, and a null among them, a key is what Feast serializes, or null."""
    names = sorted(data.draw(st.lists(st.text(max_size=4), min_size=1, max_size=3, unique=True)))
    types = [data.draw(st.sampled_from(sorted(KEY_COLUMNS))) for _ in names]
    rows = data.draw(st.integers(0, 5))
    columns = [
        pa.array(data.draw(st.lists(st.none() | KEY_COLUMNS[kind], min_size=rows, max_size=rows)), KEY_ARROW[kind])
        for kind in types
    ]
    values = [
        encode_column(column, kind, column="k", unusual=no_unusual).to_pylist()
        for column, kind in zip(columns, types, strict=True)
    ]

    keys = encode_keys(columns, types, names, unusual=no_unusual)

    expected = [feasts_key(names, row) for row in zip(*values, strict=True)]
    assert expected == keys.to_pylist()
    prefix = b"hc:p:v:{"
    assert [None if key is None else row_key(prefix, key) for key in expected] == row_keys(prefix, keys).to_pylist()


@pytest.mark.parametrize(
    ("array", "declared"),
    [
        (pa.array([1, None, -5], pa.int32()), "INT64"),
        (pa.array([1, -5]), "INT32"),
        (pa.array([1.0, float("nan"), -7.0]), "INT64"),
        (pa.array(["a", None]).dictionary_encode(), "STRING"),
        (pa.array(["a", ""], pa.large_string()), "STRING"),
        (pa.array([5, 6]), "STRING"),
        (pa.array(["5", "6"]), "INT64"),
        (pa.array(["5", None]), "INT64"),
        (pa.array([Decimal(5), None], pa.decimal128(5, 0)), "INT32"),
        (pa.nulls(2), "STRING"),
    ],
)
def test_a_key_column_of_another_type_becomes_feasts_key(array, declared):
    """A key column that is close to the declared type gives the key that Feast makes of it."""
    number = ValueType[declared].value

    assert [feasts_key(["k"], [value]) for value in feasts(array, number)] == encode_keys(
        [array], [number], ["k"], unusual=feasts
    ).to_pylist()


@pytest.mark.parametrize(
    ("array", "declared", "wrong"),
    [
        (pa.array([1.5]), "INT64", "is double in its source and declared Int64"),
        (pa.array([2**40]), "INT32", "is int64 in its source and declared Int32"),
        (pa.array(["x"]), "INT64", "is string in its source and declared Int64"),
        (
            pa.array(["x"]),
            "DOUBLE",
            "is declared Float64, which no join key can be; declare Bytes, String, Int32, Int64, UnixTimestamp",
        ),
    ],
)
def test_a_key_column_that_is_none_is_refused(array, declared, wrong):
    """Nothing is rounded or cut to a key; the message says the column and both types."""
    with pytest.raises(InvalidArgument) as refused:
        encode_keys([array], [ValueType[declared].value], ["driver_id"], unusual=feasts)
    assert str(refused.value).startswith(f"driver_id: {wrong}")
