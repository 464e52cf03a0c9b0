"""The manifest of a training set as Python reads it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

_MAPPINGS = frozenset({"snapshots", "definition_digests", "code_digests", "libraries", "field_mapping"})
"""Fields whose names are the set's own and not the format's; they are read-only mappings."""


class Record:
    """A part of a manifest: its fields are attributes, under the names of docs/formats.md. Nothing of it can be set.

    Fields that a newer server adds are there too.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_fields", fields)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"a manifest has no {name!r} here; there are {', '.join(self._fields)}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: a manifest says what was")

    def __dir__(self) -> Iterator[str]:
        return iter(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self._fields,)


def read_manifest(manifest_json: bytes) -> Record:
    """The manifest in its bytes: objects are records, lists are tuples."""
    return _record(json.loads(manifest_json))


def id_of(manifest_json: bytes) -> str:
    """The id of the set that has this manifest."""
    return f"sha256:{hashlib.sha256(manifest_json).hexdigest()}"


def _record(given: Mapping[str, Any]) -> Record:
    return Record({name: _value(value, is_mapping=name in _MAPPINGS) for name, value in given.items()})


def _value(given: Any, *, is_mapping: bool = False) -> Any:
    if isinstance(given, dict):
        if is_mapping:
            return MappingProxyType({name: _value(value) for name, value in given.items()})
        return _record(given)
    return tuple(map(_value, given)) if isinstance(given, list) else given
