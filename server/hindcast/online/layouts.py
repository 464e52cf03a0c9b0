"""Layouts: how the rows of views lie in Redis, and how features are got out of them.

Packed rows are Hindcast's own (docs/formats.md). Feast's layout, one hash per entity key with a field per feature, is read
as it is, so that a server can be put in front of a store that Feast writes.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from hindcast.clock import Deadline
from hindcast.errors import StoredDataError
from hindcast.online.codec import EPOCH, NULLS, oldest_micros, read_kind, row_kinds, timestamp_micros, unpack_entries
from hindcast.online.commands import HashFields
from hindcast.online.keys import event_field, feature_field, row_key, schema_key, view_prefix
from hindcast.online.reader import RedisReader
from hindcast.online.schemas import WRONG_LENGTH, Schema, read_schema


class LayoutName(StrEnum):
    """Which layout an online store has."""

    PACKED = "packed"
    FEAST = "feast"


class RowsOf(NamedTuple):
    """Some features of one view; `view` is the name that its rows are stored under."""

    view: str
    features: tuple[str, ...]


class FoundRows(NamedTuple):
    """The n rows of one view, in the order asked, by column.

    Attributes:
        times: when each was true, a serialized Timestamp; b"" where the store has no row.
        columns: per feature asked for, n serialized Values; b"" for a null and where the store has no row.
        missing: how many rows the store does not have.
        has_nulls: whether a row that is there may hold a null.
        oldest_micros: the event time of the oldest row; None where there is none.
    """

    times: Sequence[bytes]
    columns: Sequence[Sequence[bytes]]
    missing: int
    has_nulls: bool
    oldest_micros: int | None


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
        keys: list[bytes] = []
        for rows_of, entity_keys in asked:
            prefix = view_prefix(self._project, rows_of.view)
            keys += [row_key(prefix, entity_key) for entity_key in entity_keys if entity_key is not None]
        stored = await self._reader.read_values(keys, deadline=deadline)
        found, start = [], 0
        for rows_of, entity_keys in asked:
            asked_here = len(entity_keys) - entity_keys.count(None)
            of_view: Sequence[bytes | None] = stored[start : start + asked_here]
            start += asked_here
            if asked_here < len(entity_keys):
                present = iter(of_view)
                of_view = [None if entity_key is None else next(present) for entity_key in entity_keys]
            found.append(await self._read(of_view, rows_of, deadline))
        return found

    async def _read(self, stored: Sequence[bytes | None], rows_of: RowsOf, deadline: Deadline) -> FoundRows:
        """The wanted features of stored rows, each row read by the schema that it was written under."""
        present = [packed for packed in stored if packed is not None]
        missing = len(stored) - len(present)
        if not present:
            return _nothing(missing, len(rows_of.features))
        kinds = row_kinds(present)
        readings = {}
        for kind in set(kinds):
            readings[kind] = self._readings.get((kind, rows_of)) or await self._reading(kind, rows_of, deadline)
        reading = _common(readings.values())
        has_nulls = any(reading.has_nulls for reading in readings.values())
        rows: Sequence[Sequence[bytes | None]] = unpack_entries(present, has_nulls=has_nulls)
        if reading is None:
            rows = [readings[kind].aligned(row) for kind, row in zip(kinds, rows, strict=True)]
            reading = _Reading(1 + len(rows_of.features), None, has_nulls)
        if missing:
            nothing, of_present = [b""] * reading.entries, iter(rows)
            rows = [nothing if packed is None else next(of_present) for packed in stored]
        times, columns = reading.columns(rows)
        return FoundRows(times, columns, missing, has_nulls, oldest_micros(present))

    async def _reading(self, kind: bytes, rows_of: RowsOf, deadline: Deadline) -> "_Reading":
        has_nulls, schema_id = read_kind(kind)
        schema = self._schemas.get(schema_id)
        if schema is None:
            (stored,) = await self._reader.read_values([schema_key(self._project, schema_id)], deadline=deadline)
            schema = self._schemas[schema_id] = read_schema(schema_id, stored)
        if len(self._readings) >= _READINGS_MAX:
            self._readings.clear()
        reading = self._readings[kind, rows_of] = _reading(schema.names, rows_of.features, has_nulls=has_nulls)
        return reading


class _Reading(NamedTuple):
    """How rows of one kind are read for one question.

    Attributes:
        entries: how many each must have: its time, and a value per field of its schema.
        positions: where the wanted features stand among the fields, None for one that is newer than the row; None if
            they stand in the order wanted.
        has_nulls: whether a row may hold a null among what is wanted, or at all.
    """

    entries: int
    positions: tuple[int | None, ...] | None
    has_nulls: bool

    def columns(self, rows: Sequence[Sequence[bytes | None]]) -> tuple[Sequence[bytes], list[Sequence[bytes]]]:
        """The rows' times, and their values by wanted column, b"" for a null.

        Raises:
            StoredDataError: a row has another number of values than its schema, or no time.
        """
        times: tuple[Any, ...]
        columns: list[tuple[Any, ...]]
        try:
            times, *columns = zip(*rows, strict=True)
        except ValueError as error:
            raise StoredDataError(WRONG_LENGTH) from error
        if len(columns) + 1 != self.entries or None in times:
            raise StoredDataError(WRONG_LENGTH)
        if self.positions is not None:
            nulls = (b"",) * len(rows)
            columns = [nulls if position is None else columns[position] for position in self.positions]
        return times, [_without_none(column) for column in columns] if self.has_nulls else list(columns)

    def aligned(self, row: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """One row's time, and its values in the order wanted.

        Raises:
            StoredDataError: as `columns`.
        """
        (time,), columns = self.columns([row])
        return [time, *(value for (value,) in columns)]


def _common(readings: Collection[_Reading]) -> _Reading | None:
    """How all rows are read if they differ in nothing but that some have nulls; else None."""
    first, *others = readings
    if not others:
        return first
    alike = all(other[:2] == first[:2] for other in others)
    return first._replace(has_nulls=True) if alike else None


def _reading(stored: Sequence[str], wanted: Sequence[str], *, has_nulls: bool) -> _Reading:
    if tuple(stored) == tuple(wanted):
        return _Reading(1 + len(stored), None, has_nulls)
    at = {name: position for position, name in enumerate(stored)}
    positions = tuple(at.get(name) for name in wanted)
    return _Reading(1 + len(stored), positions, has_nulls or None in positions)


_READINGS_MAX = 4096


def _nothing(rows: int, features: int) -> FoundRows:
    empty = (b"",) * rows
    return FoundRows(empty, [empty] * features, rows, has_nulls=False, oldest_micros=None)


def _without_none(column: Sequence[bytes | None]) -> Sequence[bytes]:
    return [value or b"" for value in column] if None in column else column  # type: ignore[return-value]


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
        hashes: list[tuple[bytes, HashFields]] = []
        for positions in groups.values():
            fields = _fields(tuple(asked[position][0] for position in positions))
            hashes += [(key + self._project, fields) for key in asked[positions[0]][1] if key is not None]
        read = iter(await self._reader.read_hashes(hashes, deadline=deadline))
        found: dict[int, FoundRows] = {}
        for positions in groups.values():
            entity_keys = asked[positions[0]][1]
            nothing = (None,) * sum(1 + len(asked[position][0].features) for position in positions)
            rows: list[Sequence[bytes | None]] = [nothing if key is None else next(read) for key in entity_keys]
            columns = list(zip(*rows, strict=True))
            start = 0
            for position in positions:
                end = start + len(asked[position][0].features)
                found[position] = _feast_rows(columns[start:end], columns[end])
                start = end + 1
        return [found[position] for position in range(len(asked))]


@lru_cache(maxsize=1024)
def _fields(of_views: tuple[RowsOf, ...]) -> HashFields:
    """Hash fields of some views: of each its features, then its event time."""
    names: list[bytes] = []
    for view, features in of_views:
        names += [feature_field(view, feature) for feature in features]
        names.append(event_field(view))
    return HashFields(names)


_NOT_A_VALUE = frozenset({*NULLS, None})


def _feast_rows(columns: Sequence[Sequence[bytes | None]], written_at: Sequence[bytes | None]) -> FoundRows:
    """The rows of one view out of hashes: per feature a column, and the event times."""
    times = [EPOCH if time == b"" else time or b"" for time in written_at]
    missing = times.count(b"")
    if missing == len(times):
        return _nothing(missing, len(columns))
    values: list[Sequence[bytes]] = []
    has_nulls = False
    for column in columns:
        if _NOT_A_VALUE.isdisjoint(column):
            values.append(column)  # type: ignore[arg-type]
            continue
        plain = [b"" if value in _NOT_A_VALUE else value for value in column]
        has_nulls = has_nulls or plain.count(b"") > missing
        values.append(plain)  # type: ignore[arg-type]
    if missing:
        # A row without its event time is not there, whatever else its hash holds.
        values = [[value if time else b"" for value, time in zip(column, times, strict=True)] for column in values]
        has_nulls = True
    return FoundRows(times, values, missing, has_nulls, min(map(timestamp_micros, filter(None, times))))


LAYOUTS: Mapping[LayoutName, type[PackedLayout] | type[FeastLayout]] = {
    LayoutName.PACKED: PackedLayout,
    LayoutName.FEAST: FeastLayout,
}
