"""Values and texts as the type that a field declares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast.serving.fitting import fit, from_text, instant_of
from hindcast.v1.value_pb2 import (
    NULL_VALUE_UNSPECIFIED,
    BoolArray,
    DoubleArray,
    Int32Array,
    Int64Array,
    StringArray,
    StringMap,
    Value,
    ValueColumn,
)

BYTES, STRING, INT32, INT64, DOUBLE, FLOAT, BOOL, TIME = range(1, 9)
INT32_LIST, INT64_LIST, DOUBLE_LIST, BOOL_LIST = 13, 14, 15, 17
MAP, STRING_SET, INT64_SET, PDF, JSON, STRUCT, UUID, NESTED, DECIMAL = 20, 23, 25, 30, 32, 34, 36, 42, 44
ID = "0194fdc2-fa2f-7cc0-81d3-ff12045b73c8"


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (Value(int32_val=5), INT64, Value(int64_val=5)),
        (Value(int64_val=-5), INT32, Value(int32_val=-5)),
        (Value(int64_val=2**53), DOUBLE, Value(double_val=2.0**53)),
        (Value(int32_val=3), FLOAT, Value(float_val=3)),
        (Value(double_val=0.1), FLOAT, Value(float_val=0.1)),
        (Value(float_val=0.5), DOUBLE, Value(double_val=0.5)),
        (Value(int64_val=7), TIME, Value(unix_timestamp_val=7)),
        (Value(string_val="2026-01-01T00:00:00.9Z"), TIME, Value(unix_timestamp_val=1767225600)),
        (Value(int64_list_val=Int64Array(val=[1, 2])), INT32_LIST, Value(int32_list_val=Int32Array(val=[1, 2]))),
        (Value(int64_list_val=Int64Array(val=[1])), DOUBLE_LIST, Value(double_list_val=DoubleArray(val=[1.0]))),
        (Value(int64_list_val=Int64Array(val=[2, 1, 2])), INT64_SET, Value(int64_set_val=Int64Array(val=[2, 1]))),
        (Value(list_val=ValueColumn()), BOOL_LIST, Value(bool_list_val=BoolArray())),
        (
            Value(map_val=StringMap(val={"a": Value(bool_val=True)})),
            STRUCT,
            Value(struct_val=StringMap(val={"a": Value(bool_val=True)})),
        ),
        (Value(string_val=ID.upper()), UUID, Value(uuid_val=ID)),
        (Value(string_val="1.50"), DECIMAL, Value(decimal_val="1.50")),
        (Value(string_val="[1]"), JSON, Value(json_val="[1]")),
        (Value(bytes_val=b"%PDF"), PDF, Value(bytes_val=b"%PDF")),
        (Value(string_val="x"), 0, Value(string_val="x")),
    ],
)
def test_a_value_that_fits_becomes_the_declared_type(value, declared, expected):
    """A value of a type close to the declared one is stored as the declared one, with the same content."""
    assert expected == Value.FromString(fit(value.SerializeToString(), declared))


@pytest.mark.parametrize(
    ("value", "declared", "told"),
    [
        (Value(int64_val=2**31), INT32, "does not fit INT32"),
        (Value(int64_val=2**53 + 1), DOUBLE, "last digits"),
        (Value(int64_val=2**24 + 1), FLOAT, "last digits"),
        (Value(double_val=1e39), FLOAT, "does not fit FLOAT"),
        (Value(double_val=1.0), INT64, "is DOUBLE, but the field is INT64"),
        (Value(bool_val=True), INT64, "is BOOL, but the field is INT64"),
        (Value(string_val="1"), INT64, "is STRING, but the field is INT64"),
        (Value(int64_val=1), STRING, "is INT64, but the field is STRING"),
        (Value(int64_val=1), INT64_LIST, "is INT64, but the field is INT64_LIST"),
        (Value(int64_set_val=Int64Array(val=[1])), INT64_LIST, "is INT64_SET, but the field is INT64_LIST"),
        (Value(string_val="x"), UUID, "is not a UUID"),
        (Value(string_val="x"), DECIMAL, "is not a decimal number"),
        (Value(string_val="{"), JSON, "is not JSON"),
        (Value(string_val="soon"), TIME, "is not an ISO 8601 time"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value, declared, told):
    """A value that would lose something, or is of another type, is refused in words that name both."""
    with pytest.raises(ValueError, match=told):
        fit(value.SerializeToString(), declared)


@pytest.mark.parametrize("null", [Value(), Value(null_val=NULL_VALUE_UNSPECIFIED)])
@pytest.mark.parametrize("declared", [STRING, INT64, INT64_LIST, MAP, 0])
def test_nulls_fit_every_type(null, declared):
    """Both ways of saying null are a null of every type."""
    assert fit(null.SerializeToString(), declared) is None


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("", STRING, Value(string_val="")),
        (" 5", INT32, Value(int32_val=5)),
        ("-9223372036854775808", INT64, Value(int64_val=-(2**63))),
        ("1e3", DOUBLE, Value(double_val=1000.0)),
        ("0.1", FLOAT, Value(float_val=0.1)),
        ("True", BOOL, Value(bool_val=True)),
        ("0", BOOL, Value(bool_val=False)),
        ("2026-01-01 01:00:00+01:00", TIME, Value(unix_timestamp_val=1767225600)),
        ("1767225600", TIME, Value(unix_timestamp_val=1767225600)),
        ("[1, -1]", INT64_LIST, Value(int64_list_val=Int64Array(val=[1, -1]))),
        ("[true, false]", BOOL_LIST, Value(bool_list_val=BoolArray(val=[True, False]))),
        ('["a", "b", "a"]', STRING_SET, Value(string_set_val=StringArray(val=["a", "b"]))),
        ("[]", INT64_LIST, Value(int64_list_val=Int64Array())),
        (
            '{"a": 1, "b": [1.5], "c": {"d": null}, "e": [{"f": "x"}]}',
            MAP,
            Value(
                map_val=StringMap(
                    val={
                        "a": Value(int64_val=1),
                        "b": Value(double_list_val=DoubleArray(val=[1.5])),
                        "c": Value(map_val=StringMap(val={"d": Value()})),
                        "e": Value(map_list_val={"val": [StringMap(val={"f": Value(string_val="x")})]}),
                    }
                )
            ),
        ),
        (
            "[[1], [2]]",
            NESTED,
            Value(list_val=ValueColumn(val=[Value(int64_list_val=Int64Array(val=[at])) for at in (1, 2)])),
        ),
        ('{"a": 1}', JSON, Value(json_val='{"a": 1}')),
        (ID, UUID, Value(uuid_val=ID)),
        ("1.50", DECIMAL, Value(decimal_val="1.50")),
    ],
)
def test_text_becomes_the_declared_type(text, declared, expected):
    """Text is read as what the field declares: numbers, booleans, times, and JSON for what has parts."""
    assert expected == Value.FromString(from_text(text, declared))


@pytest.mark.parametrize(
    ("text", "declared", "told"),
    [
        ("5.0", INT64, "is not a whole number"),
        ("1_000", INT64, "is not a whole number"),
        ("", INT64, "is not a whole number"),
        ("2147483648", INT32, "does not fit INT32"),
        ("9" * 30, INT64, "does not fit INT64"),
        ("one", DOUBLE, "is not a number"),
        ("1e39", FLOAT, "does not fit FLOAT"),
        ("yes", BOOL, "is neither true nor false"),
        ("x", BYTES, "send it in typed_features"),
        ("5", INT64_LIST, "is not a JSON array"),
        ("[1", INT64_LIST, "is not JSON"),
        ("[1.5]", INT64_LIST, "is not a whole number"),
        ("[1]", MAP, "is not a JSON object"),
        ('{"a": 9223372036854775808}', MAP, "does not fit INT64"),
        ('{"a": "\\ud800"}', MAP, "a character that UTF-8 cannot"),
        ("[" * 100_000, JSON, "is not JSON"),
    ],
)
def test_text_that_is_not_of_the_type_is_refused(text, declared, told):
    """Text that is no value of the declared type is refused in words that say why."""
    with pytest.raises(ValueError, match=told):
        from_text(text, declared)


@given(content=st.binary(max_size=40), declared=st.integers(0, 60))
def test_any_bytes_are_a_value_a_null_or_refused(content, declared):
    """Whatever bytes stand for a value, they are taken or refused by ValueError, and what is taken parses."""
    try:
        fitted = fit(content, declared)
    except ValueError:
        return
    assert fitted is None or Value.FromString(fitted) is not None


@given(text=st.text(max_size=40), declared=st.integers(0, 60))
def test_any_text_is_a_value_or_refused(text, declared):
    """Whatever text stands for a value, it is taken or refused by ValueError."""
    try:
        Value.FromString(from_text(text, declared))
    except ValueError:
        return


def test_times_keep_microseconds():
    """An ISO 8601 time is read to the microsecond, finer digits are cut off, and one without a zone is UTC."""
    assert (
        1_767_225_600_123_456
        == instant_of("2026-01-01T00:00:00.123456789Z")
        == instant_of("2026-01-01 00:00:00.123456")
    )
