"""Layouts: how the rows of views lie in Redis, and how features are got out of them.

Packed rows are Hindcast's own (docs/formats.md). Feast's layout, one hash per entity key with a field per feature, is read
as it is, so that a server can be put in front of a store that Feast writes.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, Protocol

import mmh3
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.clock import Deadline
from hindcast.errors import StoredDataError
from hindcast.online.codec import NULLS, PackedRow, unpack_row
from hindcast.online.keys import row_key, schema_key, view_prefix
from hindcast.online.reader import RedisReader
from hindcast.online.schemas import WRONG_LENGTH, Schema, read_schema


class LayoutName(StrEnum):
    """Which layout an online store has."""

    PACKED = "packed"
    FEAST = "feast"


@dataclass(frozen=True, slots=True)
class RowsOf:
    """Some features of one view; `view` is the name that its rows are stored under."""

    view: str
    features: tuple[str, ...]


class FoundRow(NamedTuple):
    """One row as found; a tuple because a lookup makes thousands.

    Attributes:
        event_micros: when the row was true.
        values: a serialized Value per feature asked for, None for a null.
    """

    event_micros: int
    values: Sequence[bytes | None]


class Layout(Protocol):
    """Finds rows of one project."""

    async def find(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline
    ) -> list[list[FoundRow | None]]:
        """Find rows of several views in one go.

        Args:
            asked: per view, what is wanted and n entity keys; None is a key that matches nothing. Views of one entity
                share one sequence of keys.
        Returns:
            Per view, n entries in order; None where the store has no row.
        Raises:
            StoreUnavailable, DeadlineExceeded: as `RedisReader`.
            StoredDataError: a stored row cannot be read.
        """


class PackedLayout:
    """Packed rows, one key per view and entity."""

    def __init__(self, reader: RedisReader, *, project: str) -> None:
        self._reader = reader
        self._project = project
        self._schemas: dict[bytes, Schema] = {}

    async def find(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline
    ) -> list[list[FoundRow | None]]:
        """See `Layout.find`."""
        keys = []
        for rows_of, entity_keys in asked:
            prefix = view_prefix(self._project, rows_of.view)
            keys += [row_key(prefix, entity_key) for entity_key in entity_keys if entity_key is not None]
        stored = iter(await self._reader.read_values(keys, deadline=deadline))
        found = []
        for rows_of, entity_keys in asked:
            rows = [
                None if entity_key is None or (packed := next(stored)) is None else unpack_row(packed)
                for entity_key in entity_keys
            ]
            found.append(await self._aligned(rows, rows_of, deadline))
        return found

    async def _aligned(
        self, rows: Sequence[PackedRow | None], rows_of: RowsOf, deadline: Deadline
    ) -> list[FoundRow | None]:
        """Rows with the wanted features only, each read by the schema that it was written under."""
        read_as = {
            schema_id: await self._reading(schema_id, rows_of, deadline)
            for schema_id in {row.schema_id for row in rows if row is not None}
        }
        found: list[FoundRow | None] = []
        for row in rows:
            if row is None:
                found.append(None)
                continue
            fields, align = read_as[row.schema_id]
            if len(row.values) != fields:
                raise StoredDataError(WRONG_LENGTH)
            found.append(FoundRow(row.event_micros, align(row.values)))
        return found

    async def _reading(self, schema_id: bytes, rows_of: RowsOf, deadline: Deadline) -> "tuple[int, _Aligner]":
        schema = self._schemas.get(schema_id)
        if schema is None:
            (stored,) = await self._reader.read_values([schema_key(self._project, schema_id)], deadline=deadline)
            schema = self._schemas[schema_id] = read_schema(schema_id, stored)
        return len(schema.fields), _aligner(schema.names, rows_of.features)


_Aligner = Callable[[Sequence[bytes | None]], Sequence[bytes | None]]


def _aligner(stored: Sequence[str], wanted: Sequence[str]) -> _Aligner:
    """Puts a stored row's values into the order wanted; None for a feature that is newer than the row."""
    at = {name: position for position, name in enumerate(stored)}
    positions = [at.get(name) for name in wanted]
    if None in positions or len(positions) == 1:
        return lambda values: [None if position is None else values[position] for position in positions]
    return itemgetter(*positions)


class FeastLayout:
    """Feast's own: a hash per entity key and project, a field per feature and one for the view's event time.

    The names of keys and fields are those of feast/infra/online_stores/redis.py and helpers.py, held by tests/contract.
    """

    def __init__(self, reader: RedisReader, *, project: str) -> None:
        self._reader = reader
        self._project = project.encode()

    async def find(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline
    ) -> list[list[FoundRow | None]]:
        """See `Layout.find`. Views that share their entity keys are read by one command per entity."""
        groups: dict[int, list[int]] = {}
        for position, (_, entity_keys) in enumerate(asked):
            groups.setdefault(id(entity_keys), []).append(position)
        hashes: list[tuple[bytes, Sequence[bytes]]] = []
        for positions in groups.values():
            fields = [field for position in positions for field in _fields(asked[position][0])]
            hashes += [(key + self._project, fields) for key in asked[positions[0]][1] if key is not None]
        read = iter(await self._reader.read_hashes(hashes, deadline=deadline))
        found: dict[int, list[FoundRow | None]] = {position: [] for position in range(len(asked))}
        for positions in groups.values():
            for key in asked[positions[0]][1]:
                stored = None if key is None else next(read)
                start = 0
                for position in positions:
                    end = start + len(asked[position][0].features) + 1
                    found[position].append(None if stored is None else _feast_row(stored[start:end]))
                    start = end
        return [found[position] for position in range(len(asked))]


@lru_cache(maxsize=4096)
def _fields(rows_of: RowsOf) -> tuple[bytes, ...]:
    """Hash fields of a view: its features, then its event time."""
    hashed = [mmh3.hash(f"{rows_of.view}:{feature}", signed=False) for feature in rows_of.features]
    return (*(struct.pack("<I", number) for number in hashed), f"_ts:{rows_of.view}".encode())


def _feast_row(stored: Sequence[bytes | None]) -> FoundRow | None:
    *values, written_at = stored
    if not written_at:
        return None
    try:
        time = Timestamp.FromString(written_at)
    except DecodeError as error:
        raise StoredDataError("a row that Feast wrote has a damaged event time; materialize its view again") from error
    return FoundRow(
        time.seconds * 1_000_000 + time.nanos // 1000, [None if value in NULLS else value for value in values]
    )


LAYOUTS: Mapping[LayoutName, type[PackedLayout] | type[FeastLayout]] = {
    LayoutName.PACKED: PackedLayout,
    LayoutName.FEAST: FeastLayout,
}
