"""Keys in Redis (docs/formats.md). A view's or a project's keys share a prefix that no other's can begin with.

`hc:<project>:<view>:{<entity key>}` holds a packed row, `hc:<project>:<view>@<n>:{<entity key>}` one of a later generation of the
view's rows, `hc:<project>::generations` says which generation is served, `hc:<project>::schema:<hex>` is a field list. Names
are percent-encoded, so neither `:` nor `@` nor `{` nor a glob character of SCAN can stand in one. The braces put all views of an
entity into one slot of a Redis Cluster.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

import mmh3
from google.protobuf.message import DecodeError

from hindcast.catalog import Field, KeyType
from hindcast.catalog.model import ENTITYLESS_JOIN_KEY
from hindcast.online.codec import framed, usual_int64s, usual_strings
from hindcast.v1.value_pb2 import Value

_U32 = struct.Struct("<I")
_U32_PAIR = struct.Struct("<II")
_NO_NAME = "~"

ENTITY_KEY_VERSION = 3
"""Feast's `entity_key_serialization_version`; the earlier ones cannot be told apart when keys run together."""


def project_prefix(project: str) -> bytes:
    """What every key of a project begins with, and no key of another."""
    return b"hc:" + _encoded(project) + b":"


def view_prefix(project: str, view: str, generation: int = 0) -> bytes:
    """What the key of every row of one generation of a view begins with, and no other key."""
    of_generation = b"@%d" % generation if generation else b""
    return project_prefix(project) + _encoded(view) + of_generation + b":{"


def later_generations_prefix(project: str, view: str) -> bytes:
    """What the key of every row of a view's generations from 1 on begins with, and no other key."""
    return project_prefix(project) + _encoded(view) + b"@"


def generations_key(project: str) -> bytes:
    """Where the project's document of generations is stored (online/generations.py). No view's prefix matches, as below."""
    return project_prefix(project) + b":generations"


def schema_key(project: str, schema_id: bytes) -> bytes:
    """Where the field list of a schema id is stored. A view's name is never empty, so no view's prefix matches."""
    return project_prefix(project) + b":schema:" + schema_id.hex().encode()


def row_key(prefix: bytes, entity_key: bytes) -> bytes:
    """The key of one packed row; `prefix` is the view's."""
    return prefix + entity_key + b"}"


def row_keys(prefix: bytes, entity_keys: Sequence[bytes | None]) -> list[bytes | None]:
    """The key of each entity's packed row, None where its entity key is."""
    return framed(prefix, entity_keys, b"}")


def feature_field(view: str, feature: str) -> bytes:
    """In Feast's hashes, the field of a feature: four bytes of a hash of its name. `view` is the name that rows are stored under."""
    return _U32.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def event_field(view: str) -> bytes:
    """In Feast's hashes, the field of a view's event time."""
    return f"_ts:{view}".encode()


@cache
def _encoded(name: str) -> bytes:
    return quote(name, safe="").encode() or _NO_NAME.encode()


@cache
def entity_key_head(join_keys: tuple[str, ...]) -> bytes:
    """The part of an entity key that its values follow: the join keys' names, which must be sorted.

    Feast's key serialization, version 3 (feast/infra/key_encoding_utils.py), held by tests/contract/test_entity_keys.py.
    """
    parts = [_U32.pack(len(join_keys))]
    for name in join_keys:
        encoded = name.encode()
        parts += [_U32_PAIR.pack(KeyType.STRING, len(encoded)), encoded]
    return b"".join(parts)


def entity_key_bytes(join_keys: Sequence[str], values: Sequence[bytes]) -> bytes:
    """An entity key: sorted join keys, and their values as `key_value_bytes` gives them."""
    return entity_key_head(tuple(join_keys)) + b"".join(values)


def key_value_bytes(value: Value, declared: KeyType) -> bytes | None:
    """One join key's value inside an entity key; None for a null, which matches nothing.

    An int32 is widened where an int64 is declared; nothing else is converted.

    Raises:
        TypeError: the value is of another type than declared. The message names both.
    """
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    encode = _ENCODERS.get((kind, declared))
    if encode is None:
        raise TypeError(f"is {kind.removesuffix('_val').upper()}, but the join key is {declared.name}")
    return encode(getattr(value, kind))


def key_column_bytes(values: Sequence[bytes], declared: KeyType) -> list[bytes | None]:
    """What `key_value_bytes` gives for each of n serialized Values.

    Raises:
        WrongKey: the first value that is damaged or of another type than declared.
    """
    usual = _USUAL.get(declared)
    nothing: list[bytes | None] = [None] * len(values)
    encoded = nothing if usual is None else usual(values, declared)
    for position, (value, key) in enumerate(zip(values, encoded, strict=True)):
        if key is None:
            try:
                encoded[position] = key_value_bytes(Value.FromString(value), declared)
            except DecodeError as error:
                raise WrongKey(position, "is not a serialized Value") from error
            except TypeError as error:
                raise WrongKey(position, str(error)) from error
    return encoded


class WrongKey(Exception):
    """A join key's value that cannot be one, at a position of its column; never leaves the process.

    Attributes:
        reason: what is wrong with it.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


class ParsedKey(NamedTuple):
    """An entity key found at the start of some bytes.

    Attributes:
        head: as `entity_key_head` gives it for the key's names.
        kinds: the type of each value.
        end: where the key ends in those bytes.
    """

    head: bytes
    kinds: tuple[int, ...]
    end: int


def parse_entity_key(key: bytes) -> ParsedKey | None:
    """The entity key that bytes begin with, None if they begin with none. A key says its own length, so there is one at most."""
    try:
        (names,) = _U32.unpack_from(key)
        at = 4
        for _ in range(names):
            kind, size = _U32_PAIR.unpack_from(key, at)
            if kind != KeyType.STRING:
                return None
            at += 8 + size
        head_end = at
        kinds = []
        for _ in range(names):
            kind, size = _U32_PAIR.unpack_from(key, at)
            if kind not in _SIZES or _SIZES[kind] not in {None, size}:
                return None
            kinds.append(kind)
            at += 8 + size
    except struct.error:
        return None
    return ParsedKey(key[:head_end], tuple(kinds), at) if at <= len(key) else None


def entity_key_text(entity_key: bytes) -> str:
    """An entity key for people: `account_id='12', merchant_id=3`. Hexadecimal where it is none."""
    parsed = parse_entity_key(entity_key)
    if parsed is None:
        return entity_key.hex()
    parts, at = [], 4
    for _ in range(2 * len(parsed.kinds)):
        kind, size = _U32_PAIR.unpack_from(entity_key, at)
        parts.append(_DECODERS[kind](entity_key[at + 8 : at + 8 + size]))
        at += 8 + size
    names, values = parts[: len(parsed.kinds)], parts[len(parsed.kinds) :]
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, values, strict=True))


def _sized(kind: KeyType, content: bytes) -> bytes:
    return _U32_PAIR.pack(kind, len(content)) + content


_INT32_HEAD = _U32_PAIR.pack(KeyType.INT32, 4)
_INT64_HEAD = _U32_PAIR.pack(KeyType.INT64, 8)
_TIMESTAMP_HEAD = _U32_PAIR.pack(KeyType.UNIX_TIMESTAMP, 8)
_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")

_ENCODERS: Mapping[tuple[str, KeyType], Callable[..., bytes]] = {
    ("string_val", KeyType.STRING): lambda text: _sized(KeyType.STRING, text.encode()),
    ("bytes_val", KeyType.BYTES): lambda content: _sized(KeyType.BYTES, content),
    ("int32_val", KeyType.INT32): lambda number: _INT32_HEAD + _INT32.pack(number),
    ("int64_val", KeyType.INT64): lambda number: _INT64_HEAD + _INT64.pack(number),
    ("int32_val", KeyType.INT64): lambda number: _INT64_HEAD + _INT64.pack(number),
    ("unix_timestamp_val", KeyType.UNIX_TIMESTAMP): lambda seconds: _TIMESTAMP_HEAD + _INT64.pack(seconds),
}

_USUAL: Mapping[KeyType, Callable[[Sequence[bytes], int], list[bytes | None]]] = {
    KeyType.STRING: usual_strings,
    KeyType.INT64: usual_int64s,
}
"""Encoders that need no protobuf object for values as nearly all callers send them, and leave the others."""


_SIZES: Mapping[int, int | None] = {
    KeyType.BYTES: None,
    KeyType.STRING: None,
    KeyType.INT32: 4,
    KeyType.INT64: 8,
    KeyType.UNIX_TIMESTAMP: 8,
}
"""Bytes of a value of each type, None where the key says."""

_DECODERS: Mapping[int, Callable[[bytes], Any]] = {
    KeyType.BYTES: bytes,
    KeyType.STRING: lambda content: content.decode(errors="replace"),
    KeyType.INT32: lambda content: _INT32.unpack(content)[0],
    KeyType.INT64: lambda content: _INT64.unpack(content)[0],
    KeyType.UNIX_TIMESTAMP: lambda content: _INT64.unpack(content)[0],
}

ENTITYLESS_KEY = entity_key_bytes((ENTITYLESS_JOIN_KEY,), (_sized(KeyType.STRING, b""),))
"""The entity key of the one row of a view without entities, as Feast writes it."""


def sorted_names(join_keys: Sequence[Field]) -> tuple[str, ...]:
    """Names of a view's join keys, in the order that the entity key has them."""
    return tuple(sorted(key.name for key in join_keys))
