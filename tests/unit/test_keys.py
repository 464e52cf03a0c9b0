"""Keys: prefixes that never meet, values that never run together, types that are checked."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from hindcast.catalog import Field, KeyType
from hindcast.online.keys import (
    entity_key_bytes,
    entity_key_head,
    entity_key_text,
    key_value_bytes,
    parse_entity_key,
    project_prefix,
    row_key,
    schema_key,
    sorted_names,
    view_prefix,
)
from hindcast.v1.value_pb2 import NULL_VALUE_UNSPECIFIED, Value
from strategies import INT32, composite_keys

# Names made of what keys and glob patterns are made of, prefixes of each other among them.
NAMES = st.text(alphabet="ab:{}*?[]\\%~ é_", min_size=1, max_size=4) | st.text(min_size=1, max_size=8)
ENTITY_KEYS = st.binary(max_size=12)


@given(NAMES, NAMES, NAMES, NAMES, ENTITY_KEYS)
def test_a_view_prefix_matches_the_views_own_keys_only(project, view, other_project, other_view, entity_key):
    """A key begins with a view's prefix exactly if it is a key of that view of that project."""
    key = row_key(view_prefix(project, view), entity_key)

    assert key.startswith(view_prefix(other_project, other_view)) == ((project, view) == (other_project, other_view))
    assert key.startswith(project_prefix(other_project)) == (project == other_project)


@given(NAMES, NAMES, st.binary(min_size=8, max_size=8), NAMES)
def test_a_schema_is_the_projects_but_no_views(project, view, schema_id, other_project):
    """Deleting a view leaves every schema, deleting a project takes its own."""
    key = schema_key(project, schema_id)

    assert not key.startswith(view_prefix(project, view))
    assert key.startswith(project_prefix(other_project)) == (project == other_project)


@given(NAMES, NAMES)
def test_a_prefix_holds_no_character_that_a_scan_pattern_reads(project, view):
    """SCAN takes a prefix literally: no glob character and no brace of a name stands in it."""
    assert set(view_prefix(project, view).decode()) & set("*?[]\\^}") == set()


@given(NAMES, NAMES, NAMES, ENTITY_KEYS)
def test_all_views_of_an_entity_share_a_cluster_slot(project, view, other_view, entity_key):
    """The braces make the entity key alone decide the slot, even one that holds braces."""
    one, other = (row_key(view_prefix(project, name), entity_key) for name in (view, other_view))

    # Redis hashes the whole key when nothing stands between its braces.
    if not entity_key.startswith(b"}") and entity_key:
        assert key_slot(one) == key_slot(other)


def test_a_readable_name_stays_readable():
    """A key says whose it is to somebody who looks with redis-cli."""
    assert row_key(view_prefix("payments", "account_profile"), b"KEY") == b"hc:payments:account_profile:{KEY}"


def bytes_of(parts):
    parts = sorted(parts, key=lambda part: part[0])
    return entity_key_bytes([name for name, _ in parts], [key_value_bytes(value, kind) for _, (kind, value) in parts])


def content(parts):
    return {name: (kind, value.SerializeToString()) for name, (kind, value) in parts}


@given(composite_keys(), composite_keys())
def test_different_keys_have_different_bytes(one, other):
    """No two entities share a key: ("1", "23") and ("12", "3") are two, so are the texts and bytes of one content."""
    assert (bytes_of(one) == bytes_of(other)) == (content(one) == content(other))


@pytest.mark.parametrize("null", [Value(), Value(null_val=NULL_VALUE_UNSPECIFIED)])
@pytest.mark.parametrize("declared", KeyType)
def test_a_null_has_no_key(null, declared):
    """Both ways to write a null match nothing, whatever the join key's type."""
    assert key_value_bytes(null, declared) is None


@given(INT32)
def test_an_int32_is_widened_to_an_int64(number):
    """A caller may send an int32 where an int64 is declared, since no digit is lost."""
    assert key_value_bytes(Value(int32_val=number), KeyType.INT64) == key_value_bytes(
        Value(int64_val=number), KeyType.INT64
    )


@pytest.mark.parametrize(
    ("value", "declared", "message"),
    [
        (Value(int64_val=7), KeyType.INT32, "is INT64, but the join key is INT32"),
        (Value(string_val="7"), KeyType.INT64, "is STRING, but the join key is INT64"),
        (Value(int64_val=7), KeyType.STRING, "is INT64, but the join key is STRING"),
        (Value(string_val="7"), KeyType.BYTES, "is STRING, but the join key is BYTES"),
        (Value(int64_val=7), KeyType.UNIX_TIMESTAMP, "is INT64, but the join key is UNIX_TIMESTAMP"),
        (Value(bool_val=True), KeyType.INT32, "is BOOL, but the join key is INT32"),
        (Value(double_val=7.0), KeyType.INT64, "is DOUBLE, but the join key is INT64"),
    ],
)
def test_no_other_type_is_converted(value, declared, message):
    """A value of another type is an error that names both types, never another key and never a null."""
    with pytest.raises(TypeError, match=message):
        key_value_bytes(value, declared)


def test_join_keys_are_sorted_by_code_point():
    """The order of a composite key is Python's order of names, which is Feast's."""
    fields = [Field(name, KeyType.STRING) for name in ("é", "b", "B", "a_id", "a")]

    assert sorted_names(fields) == ("B", "a", "a_id", "b", "é")


def test_names_are_percent_encoded():
    """The encoding is the one of URLs, so that any language can compute a key."""
    assert view_prefix("a:b", "50% {x}") == f"hc:{quote('a:b', safe='')}:50%25%20%7Bx%7D:{{".encode()


def entity_key_of(parts):
    """The entity key of drawn parts, its names, and its types."""
    typed = dict(parts)
    names = tuple(sorted(typed))
    key = entity_key_bytes(names, [key_value_bytes(typed[name][1], typed[name][0]) for name in names])
    return key, names, tuple(typed[name][0] for name in names)


@given(composite_keys(min_size=1), st.binary(max_size=12))
def test_an_entity_key_says_where_it_ends(parts, rest):
    """Whatever follows an entity key, it is found again with its names and types; cut anywhere, it is none."""
    key, names, kinds = entity_key_of(parts)
    parsed = parse_entity_key(key + rest)

    assert (entity_key_head(names), kinds, len(key)) == tuple(parsed)
    assert [None] * len(key) == [parse_entity_key(key[:at]) for at in range(len(key))]


@given(st.binary(max_size=40))
def test_any_bytes_are_an_entity_key_or_none(content):
    """Bytes that nobody made are parsed without an error, and never past their end."""
    parsed = parse_entity_key(content)

    assert parsed is None or parsed.end <= len(content)


def test_an_entity_key_for_people():
    """An entity key is shown as its names and values, and bytes that are none in hexadecimal."""
    key, _, _ = entity_key_of(
        [("b", (KeyType.INT64, Value(int64_val=-3))), ("a", (KeyType.STRING, Value(string_val="zo\u00eb")))]
    )

    assert "a='zo\u00eb', b=-3" == entity_key_text(key)
    assert "ff00" == entity_key_text(b"\xff\0")
