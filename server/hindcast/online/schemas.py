"""Schemas: the ordered field list of a packed row, stored beside the rows so that no change of a view misreads one.

A schema's id is a digest of its content, so a field list never changes under an id, and two writers agree without asking.
"""

import hashlib
from dataclasses import dataclass

import msgspec

from hindcast.catalog import Field
from hindcast.errors import StoredDataError

_ID_BYTES = 8
"""A project has tens of schemas, not millions: 64 bits do not collide."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Field names and value types, in the order of a packed row's array."""

    fields: tuple[Field, ...]

    @property
    def id(self) -> bytes:
        """8 bytes, a digest of the field list."""
        return hashlib.sha256(self.to_bytes()).digest()[:_ID_BYTES]

    @property
    def names(self) -> tuple[str, ...]:
        """Field names in order."""
        return tuple(field.name for field in self.fields)

    def to_bytes(self) -> bytes:
        """Canonical JSON: a list of [name, value type]."""
        return msgspec.json.encode([(field.name, field.value_type) for field in self.fields])


def read_schema(schema_id: bytes, stored: bytes | None) -> Schema:
    """The schema that `Schema.to_bytes` stored under an id.

    Raises:
        StoredDataError: it is missing, damaged, or not the one of this id.
    """
    if stored is None:
        raise StoredDataError(f"schema {schema_id.hex()} is missing from the online store; materialize the view again")
    try:
        pairs = msgspec.json.decode(stored, type=list[tuple[str, int]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoredDataError(f"schema {schema_id.hex()} is damaged; materialize the view again") from error
    schema = Schema(tuple(Field(name, value_type) for name, value_type in pairs))
    if schema.id != schema_id:
        raise StoredDataError(f"schema {schema_id.hex()} holds another field list; materialize the view again")
    return schema
