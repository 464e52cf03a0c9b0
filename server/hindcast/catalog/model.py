"""The catalog: an immutable, compiled form of a Feast registry. No Feast type appears in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

ENTITYLESS_JOIN_KEY = "__dummy_id"
"""Join key under which Feast stores the one row of a view without entities; its value is the empty string."""


ENTITYLESS_ENTITY = "__dummy"
"""The entity that Feast gives a view without one."""


class KeyType(IntEnum):
    """Value types that an entity key can have; numbers as in `feast.types.ValueType.Enum`.

    Feast's key serialization knows no other (feast/infra/key_encoding_utils.py, `_serialize_val`).
    """

    BYTES = 1
    STRING = 2
    INT32 = 3
    INT64 = 4
    UNIX_TIMESTAMP = 8


def version_name(view: str, number: int | str) -> str:
    """What a view is called under one of its version numbers. No name of a view holds an `@`."""
    return f"{view}@v{number}"


@dataclass(frozen=True, slots=True)
class Field:
    """A named column; `value_type` is a number of `feast.types.ValueType.Enum`."""

    name: str
    value_type: int


@dataclass(frozen=True, slots=True)
class View:
    """A feature view that has rows of its own in the online store.

    Attributes:
        name: its own, or `view@v2` for what it was under one of its version numbers.
        join_keys: sorted by name, as in the entity key's bytes; empty for a view without entities.
        fields: the features, in the registry's order.
        ttl_micros: 0 for a view whose rows never grow stale.
        version: Feast's number of this definition, 0 for the first.
        stored_name: the name that its rows are stored under; differs where Feast's online versioning is on.
    """

    name: str
    join_keys: tuple[Field, ...]
    fields: tuple[Field, ...]
    ttl_micros: int
    version: int
    stored_name: str


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Where a view's rows come from offline, as far as writing to it needs.

    Attributes:
        path: as the repo writes it; empty where the source is no file.
        file_format: `parquet` or `delta`; empty where the source is no file.
        timestamp_field, created_timestamp_column: by the names that they have after `field_mapping`; the second is empty
            where the source has no such column.
        field_mapping: column of the source -> name of the field, where the two differ.
    """

    name: str
    path: str
    file_format: str
    timestamp_field: str
    created_timestamp_column: str = ""
    field_mapping: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Projection:
    """Some features of one view, under the name and join keys that a service or an on-demand view gives them.

    Attributes:
        view: the catalog's name of it, with its version where one is pinned.
        name: the view's name, or its alias, with the version.
        join_keys: view's join key -> the column of the request that holds it, where the two differ.
    """

    view: str
    name: str
    features: tuple[str, ...]
    join_keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnDemandView:
    """A view computed at request time by Feast's own transformation classes.

    Attributes:
        sources: what it reads from stored views.
        request_fields: what the caller must send along.
        mode: Feast's word for how its function is called: `python`, `pandas`, `substrait`.
        definition: the serialized `feast.core.OnDemandFeatureView`. Loading it can run code from the registry.
    """

    name: str
    sources: tuple[Projection, ...]
    request_fields: tuple[Field, ...]
    fields: tuple[Field, ...]
    mode: str
    definition: bytes


@dataclass(frozen=True, slots=True)
class Logging:
    """How the lookups of a feature service are to be logged: Feast's `LoggingConfig`.

    Attributes:
        sample_rate: the share that is kept, 0 to 1.
        destination: Feast's word for where to: `file`, `bigquery`, `custom`, …
        path: of a `file` destination, as the repo writes it; empty for others.
        partition_by: of a `file` destination.
    """

    sample_rate: float
    destination: str
    path: str = ""
    partition_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A feature service: projections of views and on-demand views, in order.

    Attributes:
        logging: None where the repo says nothing of it.
    """

    name: str
    projections: tuple[Projection, ...]
    logging: Logging | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that serving needs to know of a registry.

    Attributes:
        version: digest of the definitions below; the same definitions give the same version on every machine.
        entities: entity name -> join key, for callers that still send entity names.
        unservable: view name -> why a request for it is refused.
        sources: view name -> its batch source; views without one are missing, and cannot be written to.
        push_sources: name of a push source -> the views that it feeds, by name, the unservable ones included.
    """

    project: str
    version: str
    feast_version: str
    views: Mapping[str, View]
    on_demand_views: Mapping[str, OnDemandView]
    services: Mapping[str, Service]
    entities: Mapping[str, str]
    unservable: Mapping[str, str]
    sources: Mapping[str, BatchSource] = field(default_factory=dict)
    push_sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InputColumn:
    """One input of a transformation: n serialized Values (b"" for null), and their declared type."""

    values: Sequence[bytes]
    value_type: int
