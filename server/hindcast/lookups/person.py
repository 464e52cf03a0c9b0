"""Whose data is to be erased, and where it is: in the records of lookups that asked for the person, row by row."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hindcast.catalog import Catalog
from hindcast.lookups.messages import plain_value, sent
from hindcast.lookups.record import LookupRecord, decode, encode
from hindcast.lookups.redaction import without_rows
from hindcast.v1.value_pb2 import Value


@dataclass(frozen=True, slots=True)
class Redacted:
    """A record that asked for the person.

    Attributes:
        payload: what stays of it; None where that is nothing.
        rows: how many of the person's rows were answered in it.
        served_at_micros: of its lookup.
    """

    payload: bytes | None
    rows: int
    served_at_micros: int


class Person:
    """Somebody, by the value of a join key."""

    def __init__(self, names: frozenset[str], value: str) -> None:
        """Args:
        names: what callers may call the join key.
        value: as text; of bytes, base64.
        """
        self.names = names
        self.value = value
        self._needles = _serialized(value)

    def redacted(self, payload: bytes) -> Redacted | None:
        """What a record is to be without the person; None where it did not ask for the person.

        Raises:
            StoredDataError: the payload is no record that this version knows.
        """
        record = decode(payload)
        try:
            rows = self._rows_of(record)
            if not rows:
                return None
            left = without_rows(record, rows)
        except DecodeError:
            # A request that was refused because it is none, or an answer of another version.
            if not any(needle in record.request or needle in record.response for needle in self._needles):
                return None
            rows, left = frozenset(), None
        kept = None if left is None else b"".join(encode(left))
        return Redacted(kept, len(rows) if record.response else 0, record.served_at_micros)

    def is_meant(self, plain: object) -> bool:
        """Whether a value of the key, as JSON has it, is the person's."""
        return _text(plain) == self.value

    def _rows_of(self, record: LookupRecord) -> frozenset[int]:
        columns = sent(record)
        rows: set[int] = set()
        for name in self.names & columns.keys():
            column = columns[name]
            theirs = {value for value in set(column) if self.is_meant(plain_value(value))}
            rows.update(row for row, value in enumerate(column) if value in theirs)
        return frozenset(rows)


def person_of(catalogs: Sequence[Catalog], *, key: str, value: str) -> Person:
    """Somebody by a join key, or by the name of its entity, under what it is called in any of these definitions."""
    names = {key}
    for join_key in _join_keys(catalogs, key):
        names.add(join_key)
        for catalog in catalogs:
            names |= {entity for entity, its_key in catalog.entities.items() if its_key == join_key}
            services = (projection for service in catalog.services.values() for projection in service.projections)
            sources = (projection for view in catalog.on_demand_views.values() for projection in view.sources)
            names |= {
                projection.join_keys[join_key]
                for projection in (*services, *sources)
                if join_key in projection.join_keys
            }
    return Person(frozenset(names), value)


def _join_keys(catalogs: Sequence[Catalog], key: str) -> set[str]:
    """The key itself where it is a join key of any definitions, else those of entities of that name."""
    if any(key in catalog.entities.values() for catalog in catalogs):
        return {key}
    return {catalog.entities[key] for catalog in catalogs if key in catalog.entities} or {key}


def _text(plain: object) -> str | None:
    if plain is None:
        return None
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _serialized(value: str) -> tuple[bytes, ...]:
    """What a request that cannot be read may hold of a value."""
    found = [value.encode()] if value else []
    with contextlib.suppress(ValueError):
        number = int(value)
        if -(1 << 31) <= number < 1 << 31:
            found.append(Value(int32_val=number).SerializeToString())
        if -(1 << 63) <= number < 1 << 63:
            found += [
                message.SerializeToString() for message in (Value(int64_val=number), Value(unix_timestamp_val=number))
            ]
    return tuple(found)
