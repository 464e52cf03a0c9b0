"""Rows as Feast's own Redis store writes them, without importing Feast: tests/contract/test_migrate.py holds them to Feast's bytes."""

import struct
from collections.abc import Iterable, Mapping, Sequence

import mmh3
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis
from redis.cluster import RedisCluster

from hindcast.catalog import KeyType, View
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_bytes, key_value_bytes
from hindcast.v1.value_pb2 import Value

FeastWrite = tuple[Sequence[Value], Mapping[str, Value], int]
"""Join key values (sorted by join key), values by feature, event time in microseconds."""


def hash_key(project: str, view: View, key: Sequence[Value]) -> bytes:
    """The hash of an entity key."""
    return entity_key_of(view, key) + project.encode()


def entity_key_of(view: View, key: Sequence[Value]) -> bytes:
    """An entity key of a view."""
    if not view.join_keys:
        return ENTITYLESS_KEY
    encoded = [key_value_bytes(value, KeyType(of.value_type)) for value, of in zip(key, view.join_keys, strict=True)]
    return entity_key_bytes([of.name for of in view.join_keys], encoded)


def hash_fields(view: View, values: Mapping[str, Value], event_micros: int) -> dict[bytes, bytes]:
    """What a hash holds of one row."""
    written_at = Timestamp()
    written_at.FromMicroseconds(event_micros)
    fields = {
        struct.pack("<I", mmh3.hash(f"{view.stored_name}:{name}", signed=False)): value.SerializeToString()
        for name, value in values.items()
    }
    return {f"_ts:{view.stored_name}".encode(): written_at.SerializeToString(), **fields}


def write_hashes(client: Redis | RedisCluster, project: str, view: View, rows: Iterable[FeastWrite]) -> None:
    """Write rows, whatever is there."""
    with client.pipeline(transaction=False) as pipe:
        for key, values, event_micros in rows:
            pipe.hset(hash_key(project, view, key), mapping=hash_fields(view, values, event_micros))
        pipe.execute()
