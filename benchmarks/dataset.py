"""The data that is served: made from fixed seeds, applied by Feast, and written into Redis in both layouts.

100,000 accounts with 50 features in three views, and 2,000 merchants with 250 in five, for the widest request. Doubles,
integers and strings are mixed; of the strings some are shared by many rows (a category) and some are a row's own (an
identifier), and some doubles are null. Every row has an event time of its own within the last day.

Feast's own writer would take minutes, so rows of its layout are written here in pipelines, and a sample is written by Feast
first and must be the same bytes.
"""

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml
from redis import Redis

from failure import BenchmarkFailed
from hindcast.catalog import Catalog, KeyType, load_catalog, read_repo
from hindcast.clock import from_micros, system_clock
from hindcast.online.keys import entity_key_bytes, key_value_bytes, schema_key
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.writer import write_rows
from hindcast.v1.value_pb2 import Value
from services import RedisServer

PROJECT = "bench"
TTL = timedelta(days=7)
_DAY_MICROS = 86_400_000_000
_ENTITIES_PER_STEP = 2_000
_SAMPLE = 20
"""Entities that Feast writes itself, to compare with."""

PACKED_STORE = "hindcast.online.plugin.PackedRedisOnlineStore"


@dataclass(frozen=True, slots=True)
class Population:
    """Entities of one kind, numbered from 0, and the number of features in each of their views."""

    entity: str
    count: int
    views: Mapping[str, int]

    @property
    def join_key(self) -> str:
        """The name that a request gives their numbers under."""
        return f"{self.entity}_id"

    @property
    def references(self) -> list[str]:
        """Every feature as a request names it, view by view."""
        return [f"{view}:{name}" for view, count in self.views.items() for name in feature_names(view, count)]

    @property
    def services(self) -> dict[int, tuple[str, list[str]]]:
        """By number of features, a feature service of the first views: its name and theirs."""
        names, totals = list(self.views), list(accumulate(self.views.values()))
        return {total: (f"{self.entity}_{total}", names[: at + 1]) for at, total in enumerate(totals)}


ACCOUNTS = Population("account", 100_000, {"payments": 10, "profile": 10, "device": 30})
MERCHANTS = Population(
    "merchant", 2_000, {f"sales_{channel}": 50 for channel in ("web", "app", "shop", "phone", "post")}
)
POPULATIONS = ACCOUNTS, MERCHANTS


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of feature: what its name begins with, its type, and n values of it, serialized, b"" for a null."""

    name: str
    value_type: str
    values: Callable[[random.Random, int], list[bytes]]


def _value(**content: Any) -> bytes:
    return bytes(Value(**content).SerializeToString())


_COUNTS = [_value(int64_val=count) for count in range(500)]
_CATEGORIES = [
    _value(string_val=name)
    for name in (
        *("CH", "DE", "GB", "US", "EUR", "CHF", "gold", "standard", "groceries", "electronics", "travel and transport"),
        *("not assessed", "household and garden", "mobile / Android 16", "desktop / Firefox", "returning customer"),
    )
]
_NULL_SHARE = 0.02


def _amounts(rng: random.Random, count: int) -> list[bytes]:
    return [_value(double_val=rng.lognormvariate(3, 1)) for _ in range(count)]


def _counts(rng: random.Random, count: int) -> list[bytes]:
    return rng.choices(_COUNTS, k=count)


def _categories(rng: random.Random, count: int) -> list[bytes]:
    return rng.choices(_CATEGORIES, k=count)


def _ratios(rng: random.Random, count: int) -> list[bytes]:
    """Some are null: a ratio to nothing."""
    return [b"" if rng.random() < _NULL_SHARE else _value(double_val=rng.random()) for _ in range(count)]


def _instants(rng: random.Random, count: int) -> list[bytes]:
    return [_value(int64_val=rng.randrange(1_500_000_000_000, 1_800_000_000_000)) for _ in range(count)]


def _identifiers(rng: random.Random, count: int) -> list[bytes]:
    return [_value(string_val=f"{rng.getrandbits(128):032x}") for _ in range(count)]


KINDS = (
    Kind("amount", "Float64", _amounts),
    Kind("count", "Int64", _counts),
    Kind("category", "String", _categories),
    Kind("ratio", "Float64", _ratios),
    Kind("last", "Int64", _instants),
    Kind("identifier", "String", _identifiers),
)


def _kind(at: int) -> Kind:
    return KINDS[at % len(KINDS)]


def feature_names(view: str, count: int) -> list[str]:
    """Names of a view's features, in order."""
    return [f"{view}_{_kind(at).name}_{at}" for at in range(count)]


def make_repos(folder: Path, *, feast_redis: RedisServer, packed_redis: RedisServer) -> tuple[Path, Path]:
    """Apply the definitions with Feast; gives a repo on Feast's layout, and the same one on packed rows."""
    feast_repo = _repo(folder / "feast", "redis", feast_redis)
    _apply(feast_repo)
    packed_repo = _repo(folder / "packed", PACKED_STORE, packed_redis)
    shutil.copytree(feast_repo / "data", packed_repo / "data", dirs_exist_ok=True)
    return feast_repo, packed_repo


def _repo(root: Path, store: str, redis: RedisServer) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "feature_store.yaml").write_text(
        yaml.safe_dump(
            {
                "project": PROJECT,
                "provider": "local",
                "registry": "data/registry.db",
                "online_store": {"type": store, "connection_string": redis.connection_string},
                "offline_store": {"type": "dask"},
                "entity_key_serialization_version": 3,
            }
        )
    )
    return root


def _apply(root: Path) -> None:
    import feast  # noqa: PLC0415 - 6 s, and after the warnings are silenced
    from feast import types  # noqa: PLC0415

    objects: list[Any] = []
    for population in POPULATIONS:
        entity = feast.Entity(name=population.entity, join_keys=[population.join_key], value_type=feast.ValueType.INT64)
        objects.append(entity)
        views = {}
        for view, count in population.views.items():
            names = feature_names(view, count)
            fields = [feast.Field(name=population.join_key, dtype=types.Int64)]
            fields += [
                feast.Field(name=name, dtype=getattr(types, _kind(at).value_type)) for at, name in enumerate(names)
            ]
            source = feast.FileSource(path=f"data/{view}.parquet", timestamp_field="event_timestamp")
            views[view] = feast.FeatureView(name=view, entities=[entity], schema=fields, source=source, ttl=TTL)
        objects += views.values()
        for name, of_views in population.services.values():
            objects.append(feast.FeatureService(name=name, features=[views[view] for view in of_views]))
    feast.FeatureStore(repo_path=root).apply(objects)


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one view for a run of entities.

    Attributes:
        rows: per entity, a serialized value per feature.
    """

    view: str
    features: Sequence[str]
    entities: range
    event_micros: Sequence[int]
    rows: Sequence[Sequence[bytes]]


def _step(view: str, count: int, entities: range, now_micros: int) -> Step:
    names = feature_names(view, count)
    columns = [
        _kind(at).values(random.Random(f"{name} from {entities.start}"), len(entities)) for at, name in enumerate(names)
    ]
    times = random.Random(f"{view} from {entities.start}")
    events = [now_micros - times.randrange(_DAY_MICROS) for _ in entities]
    return Step(view, names, entities, events, list(zip(*columns, strict=True)))


def load(
    populations: Sequence[Population], feast_repo: Path, *, feast_redis: RedisServer, packed_redis: RedisServer
) -> None:
    """Write every row into both Redis servers.

    Raises:
        BenchmarkFailed: Feast itself writes other bytes than are written here.
    """
    catalog = load_catalog(read_repo(feast_repo))
    now = system_clock()
    with feast_redis.client() as feast_client, packed_redis.client() as packed_client:
        for population in populations:
            _prove_same_bytes(feast_repo, feast_client, population, now)
            writers = {view: _packed_writer(catalog, view, now) for view in population.views}
            for writer in writers.values():
                packed_client.set(schema_key(PROJECT, writer.schema.id), writer.schema.to_bytes())
            for start in range(0, population.count, _ENTITIES_PER_STEP):
                entities = range(start, min(start + _ENTITIES_PER_STEP, population.count))
                keys = _entity_keys(population, entities)
                for view, features in population.views.items():
                    step = _step(view, features, entities, now)
                    _write_feast(feast_client, keys, step)
                    _write_packed(packed_client, writers[view], keys, step)


def _entity_keys(population: Population, entities: Sequence[int]) -> list[bytes]:
    keys = []
    for number in entities:
        encoded = key_value_bytes(Value(int64_val=number), KeyType.INT64)
        assert encoded is not None
        keys.append(entity_key_bytes((population.join_key,), (encoded,)))
    return keys


def _packed_writer(catalog: Catalog, view: str, now_micros: int) -> ViewWriter:
    return ViewWriter(
        project=PROJECT,
        view=catalog.views[view].stored_name,
        fields=catalog.views[view].fields,
        ttl_micros=catalog.views[view].ttl_micros,
        run_id=bytes(16),
        now_micros=now_micros,
        policy=RowPolicy(),
    )


def _write_packed(client: Redis, writer: ViewWriter, keys: Sequence[bytes], step: Step) -> None:
    at = {name: position for position, name in enumerate(step.features)}
    order = [at[name] for name in writer.schema.names]
    rows = (
        Row(entity_key=key, event_micros=event, created_micros=event, values=[values[position] for position in order])
        for key, event, values in zip(keys, step.event_micros, step.rows, strict=True)
    )
    report = write_rows(client, writer.writes(rows))
    if report.written != len(keys):
        raise BenchmarkFailed(f"{len(keys)} packed rows of {step.view} went out, and {report.written} were written")


def _write_feast(client: Redis, keys: Sequence[bytes], step: Step) -> None:
    """A hash per entity: the view's event time, then its features, as RedisOnlineStore.online_write_batch does."""
    from feast.infra.online_stores.helpers import _mmh3  # noqa: PLC0415 - Feast takes 6 s
    from google.protobuf.timestamp_pb2 import Timestamp  # noqa: PLC0415

    fields = [_mmh3(f"{step.view}:{name}") for name in step.features]
    with client.pipeline(transaction=False) as pipe:
        for key, event, values in zip(keys, step.event_micros, step.rows, strict=True):
            written_at = Timestamp(seconds=event // 1_000_000, nanos=event % 1_000_000 * 1000)
            arguments: list[bytes] = [f"_ts:{step.view}".encode(), written_at.SerializeToString()]
            for field, value in zip(fields, values, strict=True):
                arguments += (field, value)
            pipe.execute_command("HSET", key + PROJECT.encode(), *arguments)
        pipe.execute()


def _prove_same_bytes(feast_repo: Path, client: Redis, population: Population, now_micros: int) -> None:
    """Write a sample by Feast's own writer, then by ours, and compare every hash; leaves none of them behind."""
    entities = range(_SAMPLE)
    keys = _entity_keys(population, entities)
    steps = [_step(view, count, entities, now_micros) for view, count in population.views.items()]

    def stored() -> list[list[tuple[bytes, bytes]]]:
        found = [list(client.hgetall(key + PROJECT.encode()).items()) for key in keys]
        client.delete(*(key + PROJECT.encode() for key in keys))
        return found

    for step in steps:
        _write_by_feast(feast_repo, population, step)
    expected = stored()
    for step in steps:
        _write_feast(client, keys, step)
    if not all(expected) or stored() != expected:
        raise BenchmarkFailed(f"rows of {population.entity} are not the bytes that Feast writes into its Redis layout")


def _write_by_feast(feast_repo: Path, population: Population, step: Step) -> None:
    import feast  # noqa: PLC0415 - 6 s
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: PLC0415
    from feast.protos.feast.types.Value_pb2 import Value as FeastValue  # noqa: PLC0415

    store = feast.FeatureStore(repo_path=feast_repo)
    data = [
        (
            EntityKey(join_keys=[population.join_key], entity_values=[FeastValue(int64_val=number)]),
            {name: FeastValue.FromString(value) for name, value in zip(step.features, values, strict=True)},
            from_micros(event),
            None,
        )
        for number, event, values in zip(step.entities, step.event_micros, step.rows, strict=True)
    ]
    view = store.get_feature_view(step.view)
    store.provider.online_write_batch(store.config, view, data, None)


def request(population: Population, *, entities: int, features: int, seed: int, by_list: bool = False) -> bytes:
    """A serialized `feast.serving.GetOnlineFeaturesRequest` for some entities, no two alike, and the first features.

    Args:
        by_list: name every feature, not a feature service.
    """
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest  # noqa: PLC0415 - Feast takes 6 s

    message = GetOnlineFeaturesRequest()
    if by_list:
        message.features.val.extend(population.references[:features])
    else:
        message.feature_service, _ = population.services[features]
    for number in random.Random(seed).sample(range(population.count), entities):
        message.entities[population.join_key].val.add(int64_val=number)
    return bytes(message.SerializeToString())
