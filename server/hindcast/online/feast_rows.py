"""All rows that Feast's own Redis store holds of a project: which keys are the project's, and what they hold of which view.

A key is an entity key followed by the project's name. An entity key says its own length, so `prod` never takes a key of
`nonprod` for its own. The names of keys and fields are those of feast/infra/online_stores/redis.py and helpers.py, held by
tests/contract/test_migrate.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hindcast.catalog import View
from hindcast.catalog.model import ENTITYLESS_JOIN_KEY, KeyType
from hindcast.errors import StoredDataError
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_head, event_field, feature_field, parse_entity_key
from hindcast.online.row_format import NULLS
from hindcast.online.sweep import Command, RedisSweep
from hindcast.online.times import timestamp_micros

_GLOB = frozenset(b"*?[]\\^-")
_GONE = -2
"""PTTL of a key that is not there."""


class SourceRow(NamedTuple):
    """One row of a view as Feast wrote it; a tuple because a sweep makes millions.

    Attributes:
        event_micros: None where the stored time is damaged.
        values: in the order of the view's fields, a serialized Value each, None for a null.
        expires_in_ms: when Redis lets the whole hash go; None for never.
    """

    entity_key: bytes
    event_micros: int | None
    values: list[bytes | None]
    expires_in_ms: int | None


class SourceBatch(NamedTuple):
    """Some keys of a sweep.

    Attributes:
        rows: by the name that a view's rows are stored under.
        unclaimed: keys of the project that fit no view.
        share: how much of the Redis was gone through, from 0 to 1.
    """

    rows: Mapping[str, list[SourceRow]]
    keys: int
    unclaimed: int
    share: float


@dataclass(frozen=True, slots=True)
class _Shape:
    """The names and types of an entity key, which decide the views whose rows lie in its hash."""

    head: bytes
    kinds: tuple[int, ...]


def _shape(view: View) -> _Shape:
    if not view.join_keys:
        return _Shape(entity_key_head((ENTITYLESS_JOIN_KEY,)), (KeyType.STRING,))
    return _Shape(
        entity_key_head(tuple(key.name for key in view.join_keys)), tuple(key.value_type for key in view.join_keys)
    )


def stored_views(views: Iterable[View]) -> tuple[list[View], dict[str, str]]:
    """Views whose rows can be told apart in Feast's hashes, one per stored name; and why others cannot, by stored name.

    A feature's field is a 32-bit hash, so two features of one hash can share a field: then the one that was written last is
    read for both, by Feast as well.
    """
    by_name: dict[str, View] = {}
    refused: dict[str, str] = {}
    for view in views:
        known = by_name.setdefault(view.stored_name, view)
        if replace(known, name="", version=0) != replace(view, name="", version=0):
            refused[view.stored_name] = f"views {known.name!r} and {view.name!r} store their rows under one name"
    holders: dict[tuple[_Shape, bytes], list[tuple[View, str]]] = defaultdict(list)
    for view in by_name.values():
        for field in view.fields:
            holders[_shape(view), feature_field(view.stored_name, field.name)].append((view, field.name))
    for sharing in holders.values():
        for view, _ in sharing if len(sharing) > 1 else ():
            names = " and ".join(f"{of.name}:{feature}" for of, feature in sharing)
            refused.setdefault(view.stored_name, f"Feast stores {names} in one hash field; rename one, and materialize")
    return [view for name, view in by_name.items() if name not in refused], refused


class FeastRows:
    """The rows of some views of one project, in one Redis."""

    def __init__(self, sweep: RedisSweep, *, project: str, views: Sequence[View], known: Iterable[View]) -> None:
        """Args: views: whose rows are read; known: all of the project's, so that their keys are not called unclaimed."""
        self._sweep = sweep
        self._project = project.encode()
        self._known = {_shape(view) for view in known}
        self._views: dict[_Shape, list[View]] = defaultdict(list)
        for view in views:
            self._views[_shape(view)].append(view)
        self._fields = {view.stored_name: _fields(view) for view in views}

    def batches(self) -> Iterator[SourceBatch]:
        """Every row that is there all the time, in bounded batches and no order.

        Raises:
            StoreUnavailable: as `RedisSweep`.
        """
        pattern = b"*" + b"".join(b"\\%c" % byte if byte in _GLOB else b"%c" % byte for byte in self._project)
        for batch in self._sweep.keys(pattern, kind="hash"):
            by_shape: dict[_Shape, list[bytes]] = defaultdict(list)
            unclaimed = 0
            for key in batch.keys:
                shape = self._shape_of(key)
                if shape in self._views:
                    by_shape[shape].append(key[: -len(self._project)])
                elif shape is not None and shape not in self._known:
                    unclaimed += 1
            yield SourceBatch(self._read(by_shape), sum(map(len, by_shape.values())), unclaimed, batch.share)

    def row(self, view: View, entity_key: bytes) -> SourceRow | None:
        """One row as it is now."""
        rows = self._read({_shape(view): [entity_key]})[view.stored_name]
        return rows[0] if rows else None

    def present(self, asked: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Whether each (stored name, entity key) has a row."""
        replies = self._sweep.ask([("HEXISTS", key + self._project, event_field(name)) for name, key in asked])
        return [reply == 1 for reply in replies]

    def _shape_of(self, key: bytes) -> _Shape | None:
        """The shape of a key of this project, None for any other."""
        parsed = parse_entity_key(key)
        if parsed is None or key[parsed.end :] != self._project:
            return None
        shape = _Shape(parsed.head, parsed.kinds)
        if parsed.head == _ENTITYLESS.head and key[: parsed.end] != ENTITYLESS_KEY:
            return _Shape(b"", ())  # nobody asks for it
        return shape

    def _read(self, by_shape: Mapping[_Shape, Sequence[bytes]]) -> dict[str, list[SourceRow]]:
        """The rows of every view in the hashes of these entity keys."""
        commands: list[Command] = []
        for shape, entity_keys in by_shape.items():
            words = [word for view in self._views[shape] for word in self._fields[view.stored_name]]
            for entity_key in entity_keys:
                key = entity_key + self._project
                commands += (("HMGET", key, *words), ("PTTL", key))
        replies = iter(self._sweep.ask(commands))
        rows: dict[str, list[SourceRow]] = defaultdict(list)
        for shape, entity_keys in by_shape.items():
            slices, start = [], 0
            for view in self._views[shape]:
                slices.append((rows[view.stored_name], start, start + len(view.fields)))
                start += len(view.fields) + 1
            for entity_key in entity_keys:
                stored, left_ms = next(replies), next(replies)
                if not isinstance(stored, list) or left_ms == _GONE:
                    continue  # it has become a key of another kind, or has just expired
                expires_in_ms = left_ms if left_ms >= 0 else None
                for of_view, first, last in slices:
                    written_at = stored[last]
                    if written_at is not None:
                        values = [None if value in NULLS else value for value in stored[first:last]]
                        of_view.append(SourceRow(entity_key, _micros(written_at), values, expires_in_ms))
        return rows


_ENTITYLESS = _Shape(entity_key_head((ENTITYLESS_JOIN_KEY,)), (KeyType.STRING,))


def _fields(view: View) -> tuple[Any, ...]:
    return (*(feature_field(view.stored_name, field.name) for field in view.fields), event_field(view.stored_name))


def _micros(written_at: bytes) -> int | None:
    """Microseconds of a stored Timestamp; an empty one is 1970 to the second."""
    try:
        return timestamp_micros(written_at)
    except StoredDataError:
        return None
