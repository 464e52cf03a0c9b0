"""One Feast registry over two online stores: Feast's own Redis store, which is the judge, and the packed one.

Importing this imports Feast (5 s): only suites that hold Hindcast against Feast do.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import feast.types
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.value_type import ValueType

from hindcast.catalog import load_catalog, read_repo
from hindcast.catalog.transforms import Transformer
from hindcast.clock import Deadline, from_micros, system_clock
from hindcast.online.connection import parse_target
from hindcast.online.layouts import LAYOUTS, LayoutName
from hindcast.online.reader import RedisReader
from hindcast.serving.answer import feast_bytes, hindcast_bytes
from hindcast.serving.question import read_feast, read_hindcast
from hindcast.v1 import value_pb2
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest as HindcastRequest
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse as HindcastResponse
from lookups import make_lookup
from services import RedisServer
from strategies import RepoDraft

FEAST_DB = 1
SERVICE = "all of it"
PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 2, 3, 4
SOURCE = FileSource(
    name="nothing", path="nothing.parquet", timestamp_field="event_ts", created_timestamp_column="created_ts"
)

_SETTINGS = """\
project: {project}
provider: local
registry: {registry}
offline_store:
  type: hindcast.offline.plugin.AsOfOfflineStore
online_store: {online_store}
entity_key_serialization_version: 3
"""

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


@dataclass
class Twins:
    """Two Feast stores that share a registry and a Redis: `packed` is ours, `plain` is Feast's own."""

    root: Path
    redis: RedisServer
    packed: FeatureStore
    plain: FeatureStore

    def apply(self, objects: Sequence[object]) -> None:
        """`feast apply` of objects, seen by both stores."""
        self.packed.apply(objects)
        for store in (self.packed, self.plain):
            store.refresh_registry()

    def write(self, view_name: str, rows: Sequence[FeastRow]) -> None:
        """Write rows into both stores through Feast."""
        for store in (self.packed, self.plain):
            write(store, view_name, rows)

    def lookup(
        self, *requests: GetOnlineFeaturesRequest | HindcastRequest, layout: LayoutName = LayoutName.PACKED
    ) -> list:
        """What the server's core answers from the rows of one of the stores, in the dialect of each request."""
        return asyncio.run(self._lookup(requests, layout))

    async def _lookup(
        self, requests: Sequence[GetOnlineFeaturesRequest | HindcastRequest], layout_name: LayoutName
    ) -> list:
        catalog = load_catalog(read_repo(self.root))
        database = FEAST_DB if layout_name is LayoutName.FEAST else 0
        reader = RedisReader(parse_target(f"{self.redis.connection_string},db={database}"))
        layout = LAYOUTS[layout_name](reader, project=catalog.project)
        transformer = (
            Transformer(catalog.on_demand_views.values(), repo_root=self.root) if catalog.on_demand_views else None
        )
        lookup = make_lookup(catalog, layout, transformer=transformer)
        try:
            answers = []
            for request in requests:
                deadline = Deadline(10)
                if isinstance(request, HindcastRequest):
                    answer = await lookup.answer(read_hindcast(request.SerializeToString()), deadline=deadline)
                    answered = hindcast_bytes(
                        answer, lookup_id="id", catalog_version=catalog.version, served_at_micros=system_clock()
                    )
                    answers.append(HindcastResponse.FromString(answered))
                else:
                    question = read_feast(request.SerializeToString(), lookup.renamed)
                    answer = await lookup.answer(question, deadline=deadline)
                    answered = feast_bytes(question, answer, join_keys=lookup.join_keys)
                    answers.append(GetOnlineFeaturesResponse.FromString(answered))
            return answers
        finally:
            await reader.close()


@contextlib.contextmanager
def twins(
    root: Path, redis: RedisServer, *, project: str = "twins", options: str = "", registry: str = "registry.db"
) -> Iterator[Twins]:
    """Two stores on an emptied Redis in an empty folder.

    Args:
        options: go into the packed store's block.
        registry: as `feature_store.yaml` has it.
    """
    redis.client().flushall()
    packed = f'{{type: hindcast.online.plugin.PackedRedisOnlineStore, connection_string: "{redis.connection_string}"'
    plain = f'{{type: redis, connection_string: "{redis.connection_string},db={FEAST_DB}"}}'
    for name, online_store in (("feature_store.yaml", f"{packed}{options}}}"), ("plain.yaml", plain)):
        settings = _SETTINGS.format(project=project, registry=registry, online_store=online_store)
        (root / name).write_text(settings)
    stores = [FeatureStore(repo_path=str(root), fs_yaml_file=root / n) for n in ("feature_store.yaml", "plain.yaml")]
    try:
        yield Twins(root, redis, *stores)
    finally:
        for store in stores:
            close(store)


def close(store: FeatureStore) -> None:
    """Close a store's blocking client; Feast has no way to."""
    client = getattr(store._get_provider().online_store, "_client", None)
    if client is not None:
        client.close()


def write(store: FeatureStore, view_name: str, rows: Sequence[FeastRow]) -> None:
    """Write rows of a view as Feast's materialization does."""
    view = store.get_feature_view(view_name)
    store._get_provider().online_write_batch(store.config, view, list(rows), None)


async def write_async(store: FeatureStore, view_name: str, rows: Sequence[FeastRow]) -> None:
    """The same, for the running loop."""
    view = store.get_feature_view(view_name)
    await store._get_provider().online_write_batch_async(store.config, view, list(rows), None)


def feast_type(spelling: str):
    """A type by Feast's own spelling of it."""
    return eval(spelling, vars(feast.types))  # noqa: S307 - spellings are constants of strategies.py


def feast_value(value: bytes) -> Value:
    """Feast's form of a serialized value."""
    return Value.FromString(value)


def column(values: Sequence[bytes]) -> RepeatedValue:
    """Feast's form of a column."""
    return RepeatedValue(val=[feast_value(value) for value in values])


def native(values: Sequence[bytes]) -> list:
    """The Python values of a column: Feast's SDK takes no protobuf of a bytes or timestamp key."""
    return [getattr(value, value.WhichOneof("val")) for value in map(feast_value, values)]


def build(draft: RepoDraft) -> list:
    """The Feast objects of a drawn repo: entities, views, a service for each projection and one over all of them."""
    entities = {
        entity.name: Entity(name=entity.name, join_keys=[entity.join_key], value_type=ValueType(int(entity.key_type)))
        for view in draft.views
        for entity in view.entities
    }
    views = {
        view.name: FeatureView(
            name=view.name,
            entities=[entities[entity.name] for entity in view.entities],
            ttl=timedelta(seconds=view.ttl_seconds),
            schema=[
                *(Field(name=e.join_key, dtype=feast_type(_KEY_SPELLING[e.key_type.name])) for e in view.entities),
                *(Field(name=name, dtype=feast_type(spelling)) for name, spelling in view.features.items()),
            ],
            source=SOURCE,
        )
        for view in draft.views
    }
    projections = []
    for projection in draft.projections:
        chosen = views[projection.view][list(projection.features)]
        if projection.alias:
            chosen = chosen.with_name(projection.alias)
        if projection.join_key_map:
            chosen = chosen.with_join_key_map(dict(projection.join_key_map))
        projections.append(chosen)
    alone = [FeatureService(name=f"{SERVICE} {at}", features=[chosen]) for at, chosen in enumerate(projections)]
    return [*entities.values(), *views.values(), *alone, FeatureService(name=SERVICE, features=projections)]


_KEY_SPELLING = {
    "STRING": "String",
    "BYTES": "Bytes",
    "INT32": "Int32",
    "INT64": "Int64",
    "UNIX_TIMESTAMP": "UnixTimestamp",
}


def feast_rows(draft: RepoDraft, *, now_micros: int) -> Iterator[tuple[str, FeastRow]]:
    """View and row, in the order to write them."""
    keys = {view.name: view.join_keys or ("__dummy_id",) for view in draft.views}
    for row in draft.rows:
        values = row.key or (Value(string_val="").SerializeToString(),)
        yield (
            row.view,
            (
                EntityKey(join_keys=keys[row.view], entity_values=[feast_value(value) for value in values]),
                {name: feast_value(value) for name, value in row.values.items()},
                from_micros(now_micros - row.age_micros),
                None if row.created_age_micros is None else from_micros(now_micros - row.created_age_micros),
            ),
        )


def asked_of_feast(
    features: str | Sequence[str], entities: Mapping[str, Sequence[bytes]], *, full_names: bool
) -> GetOnlineFeaturesRequest:
    """A request on Feast's services; a text names a feature service."""
    request = GetOnlineFeaturesRequest(
        full_feature_names=full_names, entities={name: column(values) for name, values in entities.items()}
    )
    if isinstance(features, str):
        request.feature_service = features
    else:
        request.features.val.extend(features)
    return request


def asked_of_hindcast(
    features: str | Sequence[str], entities: Mapping[str, Sequence[bytes]], *, full_names: bool
) -> HindcastRequest:
    """The same question on hindcast.v1."""
    request = HindcastRequest(full_feature_names=full_names)
    if isinstance(features, str):
        request.feature_service = features
    else:
        request.feature_list.refs.extend(features)
    for name, values in entities.items():
        request.entities[name].val.extend(value_pb2.Value.FromString(value) for value in values)
    return request


def plain_bytes(message) -> bytes:
    """Bytes to compare by: the same for equal messages, unlike `==`, which NaN breaks."""
    return message.SerializeToString(deterministic=True)


def answered(response: GetOnlineFeaturesResponse) -> dict[str, list[tuple[bytes, bytes]]]:
    """Of a Feast answer: column name to (value, time) pairs, as bytes."""
    names = response.metadata.feature_names.val
    assert len(set(names)) == len(names) == len(response.results)
    return {
        name: [
            (plain_bytes(value), plain_bytes(moment))
            for value, moment in zip(vector.values, vector.event_timestamps, strict=True)
        ]
        for name, vector in zip(names, response.results, strict=True)
    }
