"""Entity keys: the bytes that the server computes are the bytes that Feast computes, version 3 of its serialization."""

import pytest
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from feast.value_type import ValueType
from hypothesis import example, given
from hypothesis import strategies as st

from hindcast.catalog import Field, KeyType
from hindcast.catalog.model import ENTITYLESS_JOIN_KEY
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_bytes, key_value_bytes, sorted_names
from hindcast.v1.value_pb2 import Value
from strategies import composite_keys


def by_feast(parts):
    """Feast's bytes of a key whose join keys are given in this order."""
    key = EntityKey(
        join_keys=[name for name, _ in parts],
        entity_values=[FeastValue.FromString(value.SerializeToString()) for _, (_, value) in parts],
    )
    return serialize_entity_key(key, entity_key_serialization_version=3)


def by_hindcast(parts):
    """The server's bytes: names sorted by the plan, values by their declared type."""
    names = sorted_names([Field(name, kind) for name, (kind, _) in parts])
    typed = dict(parts)
    return entity_key_bytes(names, [key_value_bytes(typed[name][1], typed[name][0]) for name in names])


def text(value):
    return KeyType.STRING, Value(string_val=value)


@given(composite_keys(min_size=1), st.randoms(use_true_random=False))
@example([("a", text("1")), ("b", text("23"))], None)
@example([("a", text("12")), ("b", text("3"))], None)
@example([("ab", text("}")), ("a", text("b}{"))], None)
@example([("é", text("zoe\u0308")), ("e\u0301", text("zo\u00eb"))], None)
@example([("k", (KeyType.BYTES, Value(bytes_val=b"\x00}\xff{")))], None)
@example([("k", (KeyType.INT64, Value(int64_val=-(2**63))))], None)
def test_entity_key_bytes_are_feasts(parts, order):
    """For every key type, any number of join keys and any order they are given in, both write the same bytes."""
    given_order = list(parts)
    if order is not None:
        order.shuffle(given_order)

    assert by_hindcast(parts) == by_feast(given_order)


@given(composite_keys(min_size=1))
def test_feast_reads_the_server_s_keys_back(parts):
    """Feast's own reader finds in the bytes the join keys and values that went in."""
    read = deserialize_entity_key(by_hindcast(parts), entity_key_serialization_version=3)

    # Feast's reader strips zero bytes from the end of a name.
    assert [
        (name, value.SerializeToString()) for name, value in zip(read.join_keys, read.entity_values, strict=True)
    ] == [
        (name.rstrip("\0"), value.SerializeToString()) for name, (_, value) in sorted(parts, key=lambda part: part[0])
    ]


def test_a_view_without_entities_has_feasts_dummy_key():
    """The one row of an entity-less view is where Feast puts it."""
    assert ENTITYLESS_JOIN_KEY == DUMMY_ENTITY_ID
    assert by_feast([(DUMMY_ENTITY_ID, text(DUMMY_ENTITY_VAL))]) == ENTITYLESS_KEY


def test_key_types_are_all_that_feast_can_serialize():
    """A type that Feast's serialization knows is a key type here, and no other is."""
    scalars = {
        "bytes_val": b"x",
        "string_val": "x",
        "int32_val": 1,
        "int64_val": 1,
        "double_val": 1.0,
        "float_val": 1.0,
        "bool_val": True,
        "unix_timestamp_val": 1,
        "json_val": "1",
        "uuid_val": "x",
        "time_uuid_val": "x",
        "decimal_val": "1",
    }
    known = set()
    for name, value in scalars.items():
        try:
            by = serialize_entity_key(EntityKey(join_keys=["k"], entity_values=[FeastValue(**{name: value})]))
        except ValueError:
            continue
        assert by
        known.add(ValueType[name.removesuffix("_val").upper()].value)

    assert known == set(KeyType)


@pytest.mark.parametrize("kind", KeyType)
def test_key_types_have_feasts_numbers(kind):
    """A key type's number, which is part of the bytes, is Feast's number of that type."""
    assert kind == ValueType[kind.name].value
