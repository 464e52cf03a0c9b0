"""A small Feast repo whose registry is written here, so that no test waits for Feast, and rows for its views."""

import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from hindcast.catalog import KeyType, View, load_catalog, read_repo
from hindcast.clock import system_clock
from hindcast.online.connection import parse_target
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_bytes, key_value_bytes, schema_key
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.writer import write_rows
from hindcast.shadow.v1.registry_pb2 import (
    Entity,
    EntitySpec,
    FeatureService,
    FeatureServiceSpec,
    FeatureSpec,
    FeatureView,
    FeatureViewProjection,
    FeatureViewSpec,
    Registry,
)
from hindcast.v1.value_pb2 import Value

PROJECT = "tiny"
_STRING, _INT64, _DOUBLE = 2, 4, 5


def _entity(name: str, join_key: str, value_type: int) -> Entity:
    return Entity(spec=EntitySpec(name=name, join_key=join_key, value_type=value_type, project=PROJECT))


def _view(name: str, entities: Iterable[str], features: Mapping[str, int], *, disabled: bool = False) -> FeatureView:
    columns = [FeatureSpec(name=feature, value_type=value_type) for feature, value_type in features.items()]
    spec = FeatureViewSpec(
        name=name, project=PROJECT, entities=entities, features=columns, ttl=Duration(), disabled=disabled
    )
    return FeatureView(spec=spec)


def _service(name: str, *features: FeatureViewProjection) -> FeatureService:
    return FeatureService(spec=FeatureServiceSpec(name=name, project=PROJECT, features=features))


def _projection(view: str, *features: str, alias: str = "", **join_key_map: str) -> FeatureViewProjection:
    columns = [FeatureSpec(name=feature) for feature in features]
    return FeatureViewProjection(
        feature_view_name=view,
        feature_columns=columns,
        feature_view_name_alias=alias,
        join_key_map=join_key_map,
    )


def registry() -> Registry:
    """The views `driver`, `platform` (no entity), `asleep` (disabled) and one per type that a join key can have."""
    kinds = [(kind.name.lower(), kind) for kind in KeyType]
    return Registry(
        entities=[
            _entity("driver", "driver_id", _INT64),
            *(_entity(f"{name}_entity", f"{name}_key", kind) for name, kind in kinds),
        ],
        feature_views=[
            _view("driver", ["driver"], {"trips": _INT64, "city": _STRING, "rating": _DOUBLE}),
            _view("driver_week", ["driver"], {"trips": _INT64}),
            _view("platform", ["__dummy"], {"surge": _DOUBLE}),
            _view("asleep", ["driver"], {"trips": _INT64}, disabled=True),
            *(_view(f"by_{name}", [f"{name}_entity"], {"seen": _INT64}) for name, _ in kinds),
        ],
        feature_services=[
            _service("ride", _projection("driver", "trips", "city")),
            _service("everything", _projection("driver", "trips", "city", "rating"), _projection("platform", "surge")),
            _service("clash", _projection("driver", "trips"), _projection("driver_week", "trips")),
            _service(
                "pair",
                _projection("driver", "trips", alias="first", driver_id="first_id"),
                _projection("driver", "trips", alias="second", driver_id="second_id"),
            ),
        ],
    )


def make_repo(root: Path, connection_string: str, *, redis_type: str = "redis") -> Path:
    """Make an applied repo on some Redis; gives its folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: registry.db\nonline_store:\n"
        f"  type: hindcast.online.plugin.PackedRedisOnlineStore\n  redis_type: {redis_type}\n"
        f"  connection_string: '{connection_string}'\nentity_key_serialization_version: 3\n"
    )
    (root / "registry.db").write_bytes(registry().SerializeToString())
    return root


@cache
def views() -> Mapping[str, View]:
    """The repo's views, as the server reads them."""
    with tempfile.TemporaryDirectory() as folder:
        return load_catalog(read_repo(make_repo(Path(folder), "127.0.0.1:1"))).views


def store_rows(
    connection_string: str,
    view_name: str,
    rows: Iterable[tuple[Value | None, Mapping[str, Value]]],
    *,
    generation: int = 0,
) -> None:
    """Store rows of a view, by join key value (None for a view without entities), true as of now."""
    view = views()[view_name]
    writer = ViewWriter(
        project=PROJECT,
        view=view.stored_name,
        fields=view.fields,
        ttl_micros=view.ttl_micros,
        run_id=bytes(16),
        now_micros=system_clock(),
        policy=RowPolicy(),
        generation=generation,
    )
    client = parse_target(connection_string).client()
    try:
        client.set(schema_key(PROJECT, writer.schema.id), writer.schema.to_bytes())
        write_rows(
            client,
            writer.writes(
                Row(
                    entity_key=_entity_key(view, key),
                    event_micros=system_clock(),
                    created_micros=None,
                    values=[_bytes(values.get(field.name)) for field in view.fields],
                )
                for key, values in rows
            ),
        )
    finally:
        client.close()


def _entity_key(view: View, key: Value | None) -> bytes | None:
    if key is None:
        return ENTITYLESS_KEY
    (join_key,) = view.join_keys
    encoded = key_value_bytes(key, KeyType(join_key.value_type))
    return None if encoded is None else entity_key_bytes((join_key.name,), (encoded,))


def _bytes(value: Value | None) -> bytes | None:
    return None if value is None else value.SerializeToString()
