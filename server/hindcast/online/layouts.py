"""Layouts: how the rows of views lie in Redis, and how features are got out of them.

Packed rows are Hindcast's own (docs/formats.md). Feast's layout, one hash per entity key with a field per feature, is read
as it is, so that a server can be put in front of a store that Feast writes.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from hindcast.clock import Deadline
from hindcast.errors import StoreUnavailable
from hindcast.online.codec import Cells, RowReader, UnknownSchema, cells_of_hashes, framed
from hindcast.online.commands import HashFields
from hindcast.online.generations import FLIPS_MAX, Generations, KnownGenerations
from hindcast.online.keys import event_field, feature_field, row_keys, schema_key
from hindcast.online.reader import RedisReader
from hindcast.online.schemas import Schema, read_schema


class LayoutName(StrEnum):
    """Which layout an online store has."""

    PACKED = "packed"
    FEAST = "feast"


class RowsOf(NamedTuple):
    """Some features of one view; `view` is the name that its rows are stored under."""

    view: str
    features: tuple[str, ...]


class Layout(Protocol):
    """Finds rows of one project."""

    async def find(self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline) -> list[Cells]:
        """Find rows of several views in one go.

        Args:
            asked: per view, what is wanted and n entity keys; None is a key that matches nothing. Views of one entity
                share one sequence of keys.
        Returns:
            Per view, the cells of n rows, not yet judged.
        Raises:
            StoreUnavailable, DeadlineExceeded: as `RedisReader`.
            StoredDataError: a stored row cannot be read.
        """


class PackedLayout:
    """Packed rows, one key per view, generation and entity."""

    def __init__(self, reader: RedisReader, *, project: str) -> None:
        self._reader = reader
        self._project = project
        self._generations = KnownGenerations(project)
        self._schemas: dict[bytes, Schema] = {}
        self._readers: dict[RowsOf, RowReader] = {}

    async def find(self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline) -> list[Cells]:
        """See `Layout.find`."""
        stored = await self._stored(asked, deadline)
        found, start = [], 1
        for rows_of, entity_keys in asked:
            stop = start + len(entity_keys)
            found.append(await self._read(stored[start:stop], rows_of, deadline))
            start = stop
        return found

    async def _stored(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], deadline: Deadline
    ) -> list[bytes | None]:
        """The document of generations, and after it the rows of all views, each of the generation that it calls serving."""
        for _ in range(FLIPS_MAX):
            known = self._generations.now
            keys: list[bytes | None] = [self._generations.key]
            for rows_of, entity_keys in asked:
                keys += row_keys(known.prefix(rows_of.view), entity_keys)
            stored = await self._values(keys, deadline)
            # Another lookup may have followed the document meanwhile: what counts is what these keys were made from.
            if stored[0] == known.stored or _agree(known, self._generations.follow(stored[0]), asked):
                return stored
        raise StoreUnavailable("the generations of a view keep changing; try again")

    async def _values(self, keys: Sequence[bytes | None], deadline: Deadline) -> list[bytes | None]:
        """One entry per key, None where it is; Redis is not asked where there is none but the first."""
        present = [key for key in keys if key is not None]
        if len(present) == 1:
            return [self._generations.now.stored, *keys[1:]]
        stored = await self._reader.read_values(present, deadline=deadline)
        if len(present) == len(keys):
            return stored
        values = iter(stored)
        return [None if key is None else next(values) for key in keys]

    async def _read(self, stored: list[bytes | None], rows_of: RowsOf, deadline: Deadline) -> Cells:
        """The wanted features of stored rows, each row read by the schema that it was written under."""
        reader = self._readers.get(rows_of)
        if reader is None:
            if len(self._readers) >= _READERS_MAX:
                self._readers.clear()
            reader = self._readers[rows_of] = RowReader(len(rows_of.features))
        while True:
            try:
                return reader.read(stored)
            except UnknownSchema as unknown:
                names = (await self._schema(unknown.schema_id, deadline)).names
                at = {name: position for position, name in enumerate(names)}
                reader.learn(unknown.schema_id, len(names), [at.get(feature) for feature in rows_of.features])

    async def _schema(self, schema_id: bytes, deadline: Deadline) -> Schema:
        schema = self._schemas.get(schema_id)
        if schema is None:
            (stored,) = await self._reader.read_values([schema_key(self._project, schema_id)], deadline=deadline)
            schema = self._schemas[schema_id] = read_schema(schema_id, stored)
        return schema


def _agree(before: Generations, after: Generations, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]]) -> bool:
    """Whether all views that are asked for serve the same generation in both."""
    return all(before.prefix(rows_of.view) == after.prefix(rows_of.view) for rows_of, _ in asked)


_READERS_MAX = 4096


class FeastLayout:
    """Feast's own: a hash per entity key and project, a field per feature and one for the view's event time.

    The names of keys and fields are those of feast/infra/online_stores/redis.py and helpers.py, held by tests/contract.
    """

    def __init__(self, reader: RedisReader, *, project: str) -> None:
        self._reader = reader
        self._project = project.encode()

    async def find(self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline) -> list[Cells]:
        """See `Layout.find`. Views that share their entity keys are read by one command per entity."""
        groups: dict[int, list[int]] = {}
        for position, (_, entity_keys) in enumerate(asked):
            groups.setdefault(id(entity_keys), []).append(position)
        found: dict[int, Cells] = {}
        for of_group in await _together([self._found(asked, positions, deadline) for positions in groups.values()]):
            found |= of_group
        return [found[position] for position in range(len(asked))]

    async def _found(
        self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], positions: Sequence[int], deadline: Deadline
    ) -> dict[int, Cells]:
        """Views that share their entity keys, by their positions."""
        fields = _fields(tuple([asked[position][0] for position in positions]))
        keys = framed(b"", asked[positions[0]][1], self._project)
        rows: list[Any] = await self._reader.read_hashes(
            [key for key in keys if key is not None], fields, deadline=deadline
        )
        if len(rows) < len(keys):
            present = iter(rows)
            rows = [None if key is None else next(present) for key in keys]
        found, start = {}, 0
        for position in positions:
            width = len(asked[position][0].features)
            found[position] = cells_of_hashes(rows, start, width)
            start += width + 1
        return found


async def _together(reads: Sequence[Coroutine[Any, Any, dict[int, Cells]]]) -> list[dict[int, Cells]]:
    """What reads give that go on at once; one alone needs no task of its own."""
    return [await reads[0]] if len(reads) == 1 else await asyncio.gather(*reads)


@lru_cache(maxsize=1024)
def _fields(of_views: tuple[RowsOf, ...]) -> HashFields:
    """Hash fields of some views: of each its features, then its event time."""
    names: list[bytes] = []
    for view, features in of_views:
        names += [feature_field(view, feature) for feature in features]
        names.append(event_field(view))
    return HashFields(names)


LAYOUTS: Mapping[LayoutName, type[PackedLayout] | type[FeastLayout]] = {
    LayoutName.PACKED: PackedLayout,
    LayoutName.FEAST: FeastLayout,
}
