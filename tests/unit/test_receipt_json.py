"""Values of receipts as JSON, and back."""

import base64
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from feast.protos.feast.types import Value_pb2 as feast_values
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from hindcast.lookups.receipt_json import type_name, value_json
from hindcast.lookups.receipt_text import age, shown
from hindcast.v1.value_pb2 import DoubleArray, Int64Array, MapKey, ScalarMapEntry, StringMap, Value
from strategies import FEATURE_VALUES

ANY_VALUE = st.one_of(*FEATURE_VALUES.values())


def back(made):
    """The Value of a value's JSON, by what the module's docstring says of each kind."""
    if not made:
        return Value()
    if "bytes" in made:
        return Value.FromString(base64.b64decode(made["bytes"]))
    kind, content = made["kind"], made["value"]
    value = Value()
    field = f"{kind}_val"
    if Value.DESCRIPTOR.fields_by_name[field].message_type is None:
        setattr(value, field, scalar(kind, content))
        return value
    target = getattr(value, field)
    target.SetInParent()
    if kind in {"map", "struct"}:
        fill(target, content)
    elif kind == "zoned_timestamp":
        target.unix_timestamp = scalar("unix_timestamp", content["instant"])
        target.zone = content["zone"]
    else:
        target.val.extend(item_of(kind, one) for one in content)
    return value


def item_of(kind, content):
    """What a list or set of a kind holds."""
    if kind in {"map_list", "struct_list"}:
        return fill(StringMap(), content)
    if kind in {"list", "set"}:
        return back(content)
    if kind == "scalar_map":
        key, item = content
        made = MapKey(**{f"{key['kind']}_key": scalar(key["kind"], key["value"])})
        return ScalarMapEntry(key=made, value=back(item))
    return scalar(kind.rsplit("_", 1)[0], content)


def fill(target: StringMap, content):
    """The entries of a map."""
    for key, item in content.items():
        target.val[key].CopyFrom(back(item))
    return target


def scalar(kind, content):
    """A scalar's content."""
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "int64":
        return int(content)
    if kind in {"double", "float"}:
        return float(content)
    if kind == "unix_timestamp":
        try:
            return int(content)
        except ValueError:
            return (datetime.fromisoformat(content) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return content


@given(ANY_VALUE)
def test_json_loses_nothing(value):
    """A value of any kind, through the text of its JSON and back, has the bytes that it had."""
    serialized = value.SerializeToString(deterministic=True)
    read = back(json.loads(json.dumps(value_json(serialized), allow_nan=False)))

    assert serialized == read.SerializeToString(deterministic=True)


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], ids=hex)
@pytest.mark.parametrize("kind", ["double_val", "double_list_val"])
def test_every_nan_keeps_its_bits(kind, bits):
    """There are many NaNs; the one that was served is the one that is told, in a list too."""
    number = bits.to_bytes(8, "little")
    serialized = b"\x29" + number if kind == "double_val" else b"\x7a\x0a\x0a\x08" + number
    made = json.loads(json.dumps(value_json(serialized), allow_nan=False))

    assert serialized == base64.b64decode(made["bytes"])
    assert made["value"] in ("NaN", ["NaN"])


def test_text_that_says_nan_is_text():
    """No bytes stand beside it."""
    assert {"kind": "string", "value": "NaN"} == value_json(Value(string_val="NaN").SerializeToString())


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (Value(), {}),
        (Value(int64_val=2**53), {"kind": "int64", "value": 2**53}),
        (Value(int64_val=2**53 + 1), {"kind": "int64", "value": str(2**53 + 1)}),
        (Value(double_val=0.1), {"kind": "double", "value": 0.1}),
        (Value(double_val=-math.inf), {"kind": "double", "value": "-Infinity"}),
        (Value(bytes_val=b"\x00\xff"), {"kind": "bytes", "value": "AP8="}),
        (Value(unix_timestamp_val=0), {"kind": "unix_timestamp", "value": "1970-01-01T00:00:00+00:00"}),
        (Value(unix_timestamp_val=-(2**63)), {"kind": "unix_timestamp", "value": str(-(2**63))}),
        (Value(int64_list_val=Int64Array(val=[1, 2**60])), {"kind": "int64_list", "value": [1, str(2**60)]}),
    ],
    ids=str,
)
def test_a_value_looks_like_this(value, made):
    """The form that the docs describe."""
    assert made == value_json(value.SerializeToString())


def test_types_have_feasts_words():
    """Each number of `feast.types.ValueType.Enum` has the word that it has there."""
    numbers = feast_values.Value.DESCRIPTOR.fields_by_number
    told = {kind.name: type_name(kind.value) for kind in ValueType if kind.value in numbers}

    assert 30 < len(told)
    assert {name: name for name in told} == told


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(), "null"),
        (Value(double_val=0.5), "0.5"),
        (Value(string_val="a\nb"), "a·b"),
        (Value(string_val="x" * 100), "x" * 39 + "…"),
        (Value(map_val=StringMap(val={"a": Value(int64_val=1), "b": Value()})), '{"a": 1, "b": null}'),
        (Value(map_val=StringMap()), "{}"),
        (Value(double_list_val=DoubleArray(val=[1.5])), "[1.5]"),
        (Value(bool_val=True), "true"),
    ],
    ids=str,
)
def test_a_value_in_a_table_is_short(value, text):
    """One line without kinds, cut where it is long, without letters that a terminal would obey."""
    assert text == shown(value_json(value.SerializeToString()))


def test_ages_have_a_unit_that_fits():
    """Seconds up to two minutes, then minutes, hours and days."""
    assert ["0.2 s", "119.0 s", "2.0 min", "5.0 h", "3.5 d", "-10.0 s"] == [
        age(seconds) for seconds in (0.2, 119, 120, 18_000, 302_400, -10)
    ]
