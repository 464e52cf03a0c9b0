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
from hindcast.online.codec import NULLS, unpack_rows
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


class FoundRows(NamedTuple):
    """The n rows of one view, in the order asked.

    Attributes:
        event_micros: when each was true; None where the store has no row.
        values: a serialized Value per feature asked for, None for a null; None where the store has no row.
    """

    event_micros: Sequence[int | None]
    values: Sequence[Sequence[bytes | None] | None]


class Layout(Protocol):
    """Finds rows of one project."""

    async def find(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline
    ) -> list[FoundRows]:
        """Find rows of several views in one go.

        Args:
            asked: per view, what is wanted and n entity keys; None is a key that matches nothing. Views of one entity
                share one sequence of keys.
        Returns:
            Per view, n rows.
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
        self._readings: dict[tuple[bytes, RowsOf], _Reading] = {}

    async def find(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline
    ) -> list[FoundRows]:
        """See `Layout.find`."""
        keys = []
        for rows_of, entity_keys in asked:
            prefix = view_prefix(self._project, rows_of.view)
            keys += [row_key(prefix, entity_key) for entity_key in entity_keys if entity_key is not None]
        stored = await self._reader.read_values(keys, deadline=deadline)
        found, start = [], 0
        for rows_of, entity_keys in asked:
            if None in entity_keys:
                present = iter(stored[start:])
                of_view = [None if entity_key is None else next(present) for entity_key in entity_keys]
            else:
                of_view = stored[start : start + len(entity_keys)]
            start += len(entity_keys) - entity_keys.count(None)
            found.append(await self._aligned(of_view, rows_of, deadline))
        return found

    async def _aligned(self, stored: Sequence[bytes | None], rows_of: RowsOf, deadline: Deadline) -> FoundRows:
        """Rows with the wanted features only, each read by the schema that it was written under."""
        events, schema_ids, rows = unpack_rows(stored)
        readings: dict[bytes, _Reading] = {}
        for schema_id in set(schema_ids) - {None}:
            known = self._readings.get((schema_id, rows_of))
            readings[schema_id] = known or await self._reading(schema_id, rows_of, deadline)
        for at, row in enumerate(rows):
            if row is None:
                continue
            fields, align = readings[schema_ids[at]]
            if len(row) != fields:
                raise StoredDataError(WRONG_LENGTH)
            if align is not None:
                rows[at] = align(row)
        return FoundRows(events, rows)

    async def _reading(self, schema_id: bytes, rows_of: RowsOf, deadline: Deadline) -> "_Reading":
        schema = self._schemas.get(schema_id)
        if schema is None:
            (stored,) = await self._reader.read_values([schema_key(self._project, schema_id)], deadline=deadline)
            schema = self._schemas[schema_id] = read_schema(schema_id, stored)
        if len(self._readings) >= _READINGS_MAX:
            self._readings.clear()
        reading = self._readings[schema_id, rows_of] = len(schema.fields), _aligner(schema.names, rows_of.features)
        return reading


_Aligner = Callable[[Sequence[bytes | None]], Sequence[bytes | None]]
_Reading = tuple[int, _Aligner | None]
"""How rows of one schema are read for one question: how many fields each must have, and how to put them in order."""

_READINGS_MAX = 4096


def _aligner(stored: Sequence[str], wanted: Sequence[str]) -> _Aligner | None:
    """Puts a stored row's values into the order wanted, None if they stand in it.

    A feature that is newer than the row is a null.
    """
    if tuple(stored) == tuple(wanted):
        return None
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
    ) -> list[FoundRows]:
        """See `Layout.find`. Views that share their entity keys are read by one command per entity."""
        groups: dict[int, list[int]] = {}
        for position, (_, entity_keys) in enumerate(asked):
            groups.setdefault(id(entity_keys), []).append(position)
        hashes: list[tuple[bytes, Sequence[bytes]]] = []
        for positions in groups.values():
            fields = [field for position in positions for field in _fields(asked[position][0])]
            hashes += [(key + self._project, fields) for key in asked[positions[0]][1] if key is not None]
        read = iter(await self._reader.read_hashes(hashes, deadline=deadline))
        found: dict[int, FoundRows] = {}
        for positions in groups.values():
            stored = [None if key is None else next(read) for key in asked[positions[0]][1]]
            start = 0
            for position in positions:
                end = start + len(asked[position][0].features)
                found[position] = _feast_rows(stored, start, end)
                start = end + 1
        return [found[position] for position in range(len(asked))]


@lru_cache(maxsize=4096)
def _fields(rows_of: RowsOf) -> tuple[bytes, ...]:
    """Hash fields of a view: its features, then its event time."""
    hashed = [mmh3.hash(f"{rows_of.view}:{feature}", signed=False) for feature in rows_of.features]
    return (*(struct.pack("<I", number) for number in hashed), f"_ts:{rows_of.view}".encode())


def _feast_rows(stored: Sequence[Sequence[bytes | None] | None], start: int, end: int) -> FoundRows:
    """The rows of one view out of hashes: values from `start` to `end`, and then the event time."""
    events: list[int | None] = []
    rows: list[Sequence[bytes | None] | None] = []
    for fields in stored:
        written_at = None if fields is None else fields[end]
        # Empty is a time too: 1970 to the nanosecond.
        if fields is None or written_at is None:
            events.append(None)
            rows.append(None)
            continue
        events.append(_micros(written_at))
        rows.append([None if value in NULLS else value for value in fields[start:end]])
    return FoundRows(events, rows)


@lru_cache(maxsize=65_536)
def _micros(written_at: bytes) -> int:
    try:
        time = Timestamp.FromString(written_at)
    except DecodeError as error:
        raise StoredDataError("a row that Feast wrote has a damaged event time; materialize its view again") from error
    return time.seconds * 1_000_000 + time.nanos // 1000


LAYOUTS: Mapping[LayoutName, type[PackedLayout] | type[FeastLayout]] = {
    LayoutName.PACKED: PackedLayout,
    LayoutName.FEAST: FeastLayout,
}
