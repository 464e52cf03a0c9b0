"""All packed rows that a Redis holds of some views, each read as a server would read it: by the schema that it names."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hindcast.catalog import View
from hindcast.errors import StoredDataError, StoreUnavailable
from hindcast.online.codec import unpack_row
from hindcast.online.generations import FLIPS_MAX, Generations, KnownGenerations
from hindcast.online.keys import project_prefix, row_key, schema_key
from hindcast.online.schemas import read_schema
from hindcast.online.sweep import RedisSweep


class TargetRow(NamedTuple):
    """One packed row; `event_micros` and `values` (in the order of the view's fields) are None where it cannot be read."""

    packed: bytes
    event_micros: int | None
    values: list[bytes | None] | None


class TargetBatch(NamedTuple):
    """Some rows of a sweep, by the name that a view's rows are stored under, and how much was gone through."""

    rows: Mapping[str, Sequence[tuple[bytes, TargetRow]]]
    share: float


class PackedRows:
    """The packed rows of some views of one project that one Redis serves.

    Attributes:
        generations: which rows of each view those are, as last seen.
    """

    def __init__(self, sweep: RedisSweep, *, project: str, views: Sequence[View]) -> None:
        self._sweep = sweep
        self._project = project
        self._views = views
        self.generations = KnownGenerations(project)
        self._readings: dict[tuple[bytes, str], _Reading] = {}

    def batches(self) -> Iterator[TargetBatch]:
        """Every row that is there all the time, in bounded batches and no order.

        Raises:
            StoreUnavailable: as `RedisSweep`; or a view got other rows altogether meanwhile, by a replace or a rollback.
        """
        project = project_prefix(self._project)
        serving = self._look()
        views = {serving.prefix(view.stored_name): view for view in self._views}
        shared = next(iter(views)) if len(views) == 1 else project
        for batch in self._sweep.keys(shared + b"*", kind="string"):
            entity_keys: dict[bytes, list[bytes]] = defaultdict(list)
            for key in batch.keys:
                prefix_end = key.find(b":{", len(project)) + 2
                if key[:prefix_end] in views and key.endswith(b"}"):
                    entity_keys[key[:prefix_end]].append(key[prefix_end:-1])
            rows = {}
            for prefix, of_view in entity_keys.items():
                view = views[prefix]
                found = zip(of_view, self.read(view, of_view), strict=True)
                rows[view.stored_name] = [(entity_key, row) for entity_key, row in found if row is not None]
            yield TargetBatch(rows, batch.share)
        left = self._look()
        if any(serving.prefix(view.stored_name) != left.prefix(view.stored_name) for view in self._views):
            raise StoreUnavailable("the rows of a view were replaced while they were compared; run it again")

    def read(self, view: View, entity_keys: Sequence[bytes]) -> list[TargetRow | None]:
        """One entry per entity key, in order; None where there is no row.

        Raises:
            StoreUnavailable: as `RedisSweep`; or the view got other rows altogether again and again meanwhile.
        """
        if not self.generations.is_read:
            self._look()
        for _ in range(FLIPS_MAX):
            prefix = self.generations.now.prefix(view.stored_name)
            keys = [row_key(prefix, entity_key) for entity_key in entity_keys]
            *stored, document = self._sweep.strings([*keys, self.generations.key])
            if self.generations.follow(document).prefix(view.stored_name) == prefix:
                return [None if packed is None else self._row(packed, view) for packed in stored]
        raise StoreUnavailable(f"the generations of view {view.name!r} keep changing; run it again")

    def _look(self) -> Generations:
        (document,) = self._sweep.strings([self.generations.key])
        return self.generations.follow(document)

    def _row(self, packed: bytes, view: View) -> TargetRow:
        try:
            row = unpack_row(packed)
        except StoredDataError:
            return TargetRow(packed, None, None)
        fields, positions = self._reading(row.schema_id, view)
        if len(row.values) != fields:
            return TargetRow(packed, None, None)
        if positions is None:
            return TargetRow(packed, row.event_micros, row.values)
        aligned = [None if position is None else row.values[position] for position in positions]
        return TargetRow(packed, row.event_micros, aligned)

    def _reading(self, schema_id: bytes, view: View) -> "_Reading":
        reading = self._readings.get((schema_id, view.stored_name))
        if reading is None:
            reading = self._readings[schema_id, view.stored_name] = self._new_reading(schema_id, view)
        return reading

    def _new_reading(self, schema_id: bytes, view: View) -> "_Reading":
        (stored,) = self._sweep.strings([schema_key(self._project, schema_id)])
        try:
            schema = read_schema(schema_id, stored)
        except StoredDataError:
            return _UNREADABLE
        names = tuple(field.name for field in view.fields)
        if schema.names == names:
            return len(names), None
        at = {name: position for position, name in enumerate(schema.names)}
        return len(schema.fields), [at.get(name) for name in names]


_Reading = tuple[int, Sequence[int | None] | None]
"""How rows of one schema are read for one view: how many values each must have, and where each field is, None if in order."""

_UNREADABLE: _Reading = (-1, None)
