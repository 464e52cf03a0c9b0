"""A Feast repo that can be pushed to, applied without Feast, and ways to push to it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from hindcast.catalog import KeyType
from hindcast.shadow.v1.registry_pb2 import (
    DataSource,
    Entity,
    EntitySpec,
    FeatureSpec,
    FeatureView,
    FeatureViewSpec,
    FileFormat,
    FileOptions,
    LabelView,
    LabelViewSpec,
    Registry,
)

PROJECT = "moving"
STRING, INT32, INT64, DOUBLE = 2, 3, 4, 5
PACKED, FEAST = "hindcast.online.plugin.PackedRedisOnlineStore", "redis"
OFFLINE = "hindcast.offline.plugin.AsOfOfflineStore"
KINDS = {
    "bytes": 1,
    "string": 2,
    "int32": 3,
    "int64": 4,
    "double": 5,
    "float": 6,
    "bool": 7,
    "unix_timestamp": 8,
    "bytes_list": 11,
    "string_list": 12,
    "int32_list": 13,
    "int64_list": 14,
    "double_list": 15,
    "float_list": 16,
    "bool_list": 17,
    "unix_timestamp_list": 18,
    "map": 20,
    "map_list": 21,
    "bytes_set": 22,
    "string_set": 23,
    "int32_set": 24,
    "int64_set": 25,
    "double_set": 26,
    "float_set": 27,
    "bool_set": 28,
    "unix_timestamp_set": 29,
    "json": 32,
    "json_list": 33,
    "struct": 34,
    "struct_list": 35,
    "uuid": 36,
    "uuid_list": 38,
    "decimal": 44,
}
"""Features of the view `kinds`: what its values are, and the number of `feast.types.ValueType.Enum`."""

_FILE, _PUSH = 1, 9


def _file(
    name: str, path: str, *, created: str = "created_ts", delta: bool = False, **field_mapping: str
) -> DataSource:
    file_format = FileFormat(delta_format=b"") if delta else FileFormat(parquet_format=b"")
    return DataSource(
        name=name,
        type=_FILE,
        timestamp_field="event_ts",
        created_timestamp_column=created,
        field_mapping=field_mapping,
        file_options=FileOptions(uri=path, file_format=file_format),
    )


def _view(
    name: str,
    entities: Iterable[str],
    features: Mapping[str, int],
    source: DataSource | None,
    *,
    push: str = "",
    disabled: bool = False,
) -> FeatureView:
    return FeatureView(
        spec=FeatureViewSpec(
            name=name,
            project=PROJECT,
            entities=entities,
            features=[FeatureSpec(name=feature, value_type=kind) for feature, kind in features.items()],
            ttl=Duration(),
            batch_source=source,
            stream_source=DataSource(name=push, type=_PUSH) if push else None,
            disabled=disabled,
        )
    )


def _entity(name: str, join_key: str, value_type: int) -> Entity:
    return Entity(spec=EntitySpec(name=name, join_key=join_key, value_type=value_type, project=PROJECT))


def registry() -> Registry:
    """Views of one key, of two, of none and of every type, fed by push sources or not at all."""
    drivers = _file("drivers", "data/drivers.parquet", rating_raw="rating")
    return Registry(
        entities=[
            _entity("driver", "driver_id", INT64),
            _entity("city", "city_id", STRING),
            *(_entity(f"{kind.name.lower()}_entity", f"{kind.name.lower()}_key", kind) for kind in KeyType),
        ],
        feature_views=[
            _view("driver", ["driver"], {"trips": INT64, "rating": DOUBLE}, drivers, push="driver_push"),
            _view("driver_city", ["driver", "city"], {"fares": INT32}, drivers, push="driver_push"),
            _view("kinds", ["city"], KINDS, _file("kinds", "data/kinds"), push="kinds_push"),
            _view(
                "platform",
                ["__dummy"],
                {"surge": DOUBLE},
                _file("platform", "data/platform", created=""),
                push="all_push",
            ),
            _view("weekly", ["driver"], {"trips": INT64}, _file("weekly", "data/weekly.parquet"), push="weekly_push"),
            _view("lake", ["driver"], {"trips": INT64}, _file("lake", "data/lake", delta=True), push="lake_push"),
            _view("far", ["driver"], {"trips": INT64}, _file("far", "s3://bucket/far.parquet"), push="far_push"),
            _view("table", ["driver"], {"trips": INT64}, DataSource(name="table", timestamp_field="event_ts")),
            _view("bare", ["driver"], {"trips": INT64}, None),
            _view("asleep", ["driver"], {"trips": INT64}, drivers, push="asleep_push", disabled=True),
            *(
                _view(
                    f"by_{kind.name.lower()}", [f"{kind.name.lower()}_entity"], {"seen": INT64}, _file("by", "data/by")
                )
                for kind in KeyType
            ),
        ],
        label_views=[
            LabelView(
                spec=LabelViewSpec(name="labels", project=PROJECT, source=DataSource(name="label_push", type=_PUSH))
            )
        ],
    )


def make_repo(
    root: Path,
    connection_string: str,
    *,
    store: str = PACKED,
    redis_type: str = "redis",
    options: str = "",
    offline: str = OFFLINE,
) -> Path:
    """Make an applied repo on some Redis; gives its folder.

    Args:
        options: further lines of the `online_store` block.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: registry.db\nonline_store:\n"
        f"  type: {store}\n  redis_type: {redis_type}\n  connection_string: '{connection_string}'\n{options}"
        f"offline_store:\n  type: {offline}\nentity_key_serialization_version: 3\n"
    )
    (root / "registry.db").write_bytes(registry().SerializeToString())
    return root
