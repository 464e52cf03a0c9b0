"""The client reads a stored value as Feast's own client does. Feast takes seconds to import, so this stands apart."""

import json

from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from feast.type_map import feast_value_type_to_python_type
from hypothesis import given
from hypothesis import strategies as st

from hindcast.v1.value_pb2 import MapKey, NullValue, Value
from hindcast_client._decoding import decode

texts = st.text(max_size=8)
ints = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
seconds = st.integers(-62135596800, 253402300799)  # the years 1 to 9999

# How each type that a Value can hold is drawn; for lists and sets the items' types say the rest.
WIRE = {
    "bytes": st.binary(max_size=8),
    "string": texts,
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": ints,
    "double": doubles,
    "float": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
    "unix_timestamp": seconds,
    "uuid": st.uuids().map(str),
    "time_uuid": st.uuids().map(str),
    "decimal": decimals.map(str),
    "json": st.one_of(st.integers(), texts, st.none(), st.lists(texts)).map(json.dumps) | st.just("{no json"),
}


@given(st.data())
def test_every_kind_of_value_reads_as_feast_reads_it(data):
    """Each kind that a Value can hold decodes to what Feast's own client makes of the same bytes."""
    kind = data.draw(st.sampled_from(sorted(Value.DESCRIPTOR.fields_by_name)))
    value = Value()
    scalar_name = kind.removesuffix("_val").removesuffix("_list").removesuffix("_set")
    if kind == "null_val":
        value.null_val = NullValue.NULL_VALUE_UNSPECIFIED
        assert decode(value) is None  # Feast gives its enum's number here, which is no value
        return
    if kind == "zoned_timestamp_val":
        value.zoned_timestamp_val.unix_timestamp = data.draw(st.integers(0, 2**32))
        value.zoned_timestamp_val.zone = data.draw(
            st.sampled_from(["", "UTC", "Europe/Berlin", "America/St_Johns", "UTC-07:00", "+05:30"])
        )
    elif kind == "scalar_map_val":
        for name in data.draw(st.sets(st.sampled_from(sorted(MapKey.DESCRIPTOR.fields_by_name)))):
            entry = value.scalar_map_val.val.add(value=Value(string_val="x"))
            setattr(entry.key, name, data.draw(WIRE[name.removesuffix("_key")]))
    elif kind in ("map_val", "struct_val"):
        getattr(value, kind).val["a"].CopyFrom(Value(int64_val=data.draw(ints)))
        getattr(value, kind).val["b"].CopyFrom(Value())
    elif kind in ("map_list_val", "struct_list_val"):
        getattr(value, kind).val.add().val["a"].CopyFrom(Value(double_val=data.draw(doubles)))
    elif kind in ("list_val", "set_val"):
        getattr(value, kind).val.add().int32_list_val.val.extend(data.draw(st.lists(WIRE["int32"])))
    elif kind == f"{scalar_name}_val":
        setattr(value, kind, data.draw(WIRE[scalar_name]))
    else:
        getattr(value, kind).SetInParent()
        getattr(value, kind).val.extend(data.draw(st.lists(WIRE[scalar_name], max_size=3)))
    as_feast = feast_value_type_to_python_type(FeastValue.FromString(value.SerializeToString()))
    actual = decode(value)
    assert (as_feast, type(as_feast)) == (actual, type(actual))
