"""Feast's online store on packed rows: `online_store: {type: hindcast.online.plugin.PackedRedisOnlineStore}`.

Everything that Feast's own Redis store does, with the semantics of docs/semantics.md: newest wins by
`(event_ts, created_ts)` inside Redis, deletion by exact prefix, rows that expire by their own view's TTL.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID
from weakref import WeakKeyDictionary

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from google.protobuf.message import DecodeError
from pydantic import NonNegativeInt, PositiveInt, StrictStr
from redis import Redis
from redis import asyncio as redis_asyncio
from redis.cluster import RedisCluster

from hindcast.catalog import Field
from hindcast.clock import from_micros, system_clock, to_micros, uuid7
from hindcast.errors import StoredDataError, StoreUnavailable
from hindcast.online.codec import PackedRow, unpack_row
from hindcast.online.connection import (
    DEFAULT_FUTURE_SECONDS,
    DEFAULT_TTL_GRACE_SECONDS,
    EMBEDDED,
    RedisTarget,
    Topology,
    close_client,
    failing_as,
    read_target,
)
from hindcast.online.generations import FLIPS_MAX, GenerationsOf, KnownGenerations, delete_prefix
from hindcast.online.keys import project_prefix, row_key, schema_key
from hindcast.online.row_format import DAMAGED, WRONG_LENGTH
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.schemas import Schema, read_schema
from hindcast.online.writer import RowWrite, ViewTargets, WriteReport, write_rows, write_rows_async

logger = logging.getLogger(__name__)

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""What Feast writes: entity key, values by feature, event time, created time; a naive time is UTC."""

ReadRow = tuple[datetime | None, dict[str, Value] | None]
"""What Feast reads: event time and values, or twice None where the store has no row."""

_AWAY = "Redis does not answer; check that it runs, and online_store.connection_string"

_RUN_ID: ContextVar[bytes | None] = ContextVar("run_id", default=None)
"""Of the run on record that Feast's own code is doing, which has no way to hand it over."""


class PackedRedisOnlineStoreConfig(FeastConfigBaseModel):
    """The `online_store` block of `feature_store.yaml`. The names that Feast's Redis store has mean the same here."""

    type: Literal["hindcast.online.plugin.PackedRedisOnlineStore"] = "hindcast.online.plugin.PackedRedisOnlineStore"

    redis_type: Topology = Topology.STANDALONE
    """`redis`, `redis_cluster` or `redis_sentinel`."""

    sentinel_master: StrictStr = "mymaster"

    connection_string: StrictStr = EMBEDDED
    """`embedded`, or Feast's format: `host:port[,host:port…][,db=0][,password=…][,ssl=true]…`."""

    key_ttl_seconds: PositiveInt | None = None
    """No row outlives its last write by more than this. Unset: rows live by their view's TTL alone."""

    ttl_grace_seconds: NonNegativeInt = DEFAULT_TTL_GRACE_SECONDS
    """How long a row outlives its view's TTL, so that stale can be told from missing."""

    future_seconds: NonNegativeInt = DEFAULT_FUTURE_SECONDS
    """Rows dated further ahead than this are not written, and counted in a warning."""

    full_scan_for_deletion: bool = True
    """Whether `feast apply` deletes the rows of views that are gone; it scans the keys of the whole Redis."""

    path: str | None = None
    """Not used. `feast init` writes it for SQLite; it is allowed so that changing `type` is enough."""


class PackedRedisOnlineStore(OnlineStore):
    """Feast's online store interface on packed rows in Redis (standalone, Sentinel or Cluster)."""

    def __init__(self) -> None:
        self._client: Redis | RedisCluster | None = None
        self._async_clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, redis_asyncio.Redis | redis_asyncio.RedisCluster
        ] = WeakKeyDictionary()
        self._schemas: dict[bytes, Schema] = {}
        self._generations: dict[str, KnownGenerations] = {}

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reads and writes have asyncio forms."""
        return SupportedAsyncMethods(read=True, write=True)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows, newest wins.

        Raises:
            StoreUnavailable: Redis failed; some rows may be written, and writing all again gives the same state.
        """
        client = self._get_client(config)
        writer = _view_writer(config, table)
        with failing_as(_AWAY):
            client.set(_schema_key(config, writer.schema), writer.schema.to_bytes())
        report = write_rows(client, _row_writes(writer, data), into=self._targets(config, table))
        _finish(table, writer, data, report, progress)

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """As `online_write_batch`, for the running loop."""
        client = await self._get_async_client(config)
        writer = _view_writer(config, table)
        with failing_as(_AWAY):
            await client.set(_schema_key(config, writer.schema), writer.schema.to_bytes())
        report = await write_rows_async(client, _row_writes(writer, data), into=self._targets(config, table))
        _finish(table, writer, data, report, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """One entry per entity key, in order. Rows past their TTL are returned, as Feast's own stores do.

        Raises:
            StoreUnavailable: Redis did not answer.
            StoredDataError: a stored row cannot be read.
        """
        client = self._get_client(config)
        with failing_as(_AWAY):
            reading = self._reading(config, table, entity_keys)
            keys = next(reading)
            try:
                while True:
                    keys = reading.send(_mget(client, keys))
            except StopIteration as done:
                stored: list[bytes | None] = done.value
            rows = [None if row is None else unpack_row(row) for row in stored]
            for schema_id in self._unknown_schemas(rows):
                self._schemas[schema_id] = read_schema(schema_id, client.get(schema_key(config.project, schema_id)))
        return self._feast_rows(rows, _requested(table, requested_features))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """As `online_read`, for the running loop."""
        client = await self._get_async_client(config)
        with failing_as(_AWAY):
            reading = self._reading(config, table, entity_keys)
            keys = next(reading)
            try:
                while True:
                    keys = reading.send(await _mget_async(client, keys))
            except StopIteration as done:
                stored: list[bytes | None] = done.value
            rows = [None if row is None else unpack_row(row) for row in stored]
            for schema_id in self._unknown_schemas(rows):
                stored_schema = await client.get(schema_key(config.project, schema_id))
                self._schemas[schema_id] = read_schema(schema_id, stored_schema)
        return self._feast_rows(rows, _requested(table, requested_features))

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],  # noqa: ARG002 - Feast's interface
        entities_to_delete: Sequence[Entity],  # noqa: ARG002
        entities_to_keep: Sequence[Entity],  # noqa: ARG002
        partial: bool,  # noqa: ARG002, FBT001
    ) -> None:
        """Delete the rows of views that are gone, of every generation, and no other key.

        Raises:
            StoreUnavailable: Redis failed before all rows were gone. Feast keeps the view in the registry then, so
                running `feast apply` again finishes the deletion.
        """
        if not config.online_store.full_scan_for_deletion:
            return
        generations = GenerationsOf(self._get_client(config), project=config.project)
        for table in tables_to_delete:
            generations.delete_view(stored_name(config, table))

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],  # noqa: ARG002 - Feast's interface
        entities: Sequence[Entity],  # noqa: ARG002
    ) -> None:
        """Delete every key of the project, and no other key.

        Raises:
            StoreUnavailable: Redis failed; run it again.
        """
        client = self._get_client(config)
        with failing_as(_AWAY):
            delete_prefix(client, project_prefix(config.project))

    def _is_versioned_read_supported(self) -> bool:
        """`view@v2:feature` works here: each version's rows have keys of their own."""
        return True

    def _get_client(self, config: RepoConfig) -> "Redis | RedisCluster":
        if self._client is None:
            with failing_as(_AWAY):
                self._client = redis_target(config).client()
        return self._client

    async def _get_async_client(self, config: RepoConfig) -> "redis_asyncio.Redis | redis_asyncio.RedisCluster":
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            # Starting an embedded Redis blocks for a moment; the loop goes on meanwhile.
            target = await loop.run_in_executor(None, redis_target, config)
            self._async_clients[loop] = target.async_client()
        return self._async_clients[loop]

    async def close(self) -> None:
        """Close the connections of the running loop; the store can be used again after."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await close_client(client)
        if self._client is not None:
            self._client.close()
            self._client = None

    def _known(self, config: RepoConfig) -> KnownGenerations:
        return self._generations.setdefault(config.project, KnownGenerations(config.project))

    def _targets(self, config: RepoConfig, table: FeatureView) -> ViewTargets:
        return ViewTargets(self._known(config), stored_name(config, table))

    def _reading(
        self, config: RepoConfig, table: FeatureView, entity_keys: Iterable[EntityKey]
    ) -> Generator[list[bytes | None], list[bytes | None], list[bytes | None]]:
        """The keys to read next, each time sent what lies under them; gives the rows, all of one generation."""
        known, view = self._known(config), stored_name(config, table)
        entity_bytes = [_entity_key_bytes(entity_key) for entity_key in entity_keys]
        for _ in range(FLIPS_MAX):
            prefix = known.now.prefix(view)
            keys = [None if key is None else row_key(prefix, key) for key in entity_bytes]
            document, *rows = yield [known.key, *keys]
            if known.follow(document).prefix(view) == prefix:
                return rows
        raise StoreUnavailable(f"the generations of view {table.name!r} keep changing; try again")

    def _unknown_schemas(self, rows: Iterable[PackedRow | None]) -> set[bytes]:
        return {row.schema_id for row in rows if row is not None} - self._schemas.keys()

    def _feast_rows(self, rows: Iterable[PackedRow | None], features: Sequence[str]) -> list[ReadRow]:
        return [(None, None) if row is None else self._feast_row(row, features) for row in rows]

    def _feast_row(self, row: PackedRow, features: Sequence[str]) -> ReadRow:
        names = self._schemas[row.schema_id].names
        if len(names) != len(row.values):
            raise StoredDataError(WRONG_LENGTH)
        stored = dict(zip(names, row.values, strict=True))
        try:
            values = {name: Value.FromString(stored.get(name) or b"") for name in features}
            return from_micros(row.event_micros), values
        except (DecodeError, OverflowError) as error:
            raise StoredDataError(DAMAGED) from error


def redis_target(config: RepoConfig) -> RedisTarget:
    """Where the repo's online store is; starts the embedded one."""
    return read_target(config.online_store.model_dump(), repo_root=Path(config.repo_path or "."))


@contextmanager
def written_by(run_id: str) -> Iterator[None]:
    """Have the rows that this thread writes in a block carry the id of a run on record; others are given an id a batch."""
    token = _RUN_ID.set(UUID(run_id).bytes)
    try:
        yield
    finally:
        _RUN_ID.reset(token)


def stored_name(config: RepoConfig, table: FeatureView) -> str:
    """The name that a view's rows are stored under."""
    return str(compute_versioned_name(table, config.registry.enable_online_feature_view_versioning))


def _schema_key(config: RepoConfig, schema: Schema) -> bytes:
    return schema_key(config.project, schema.id)


def _requested(table: FeatureView, requested_features: list[str] | None) -> Sequence[str]:
    return requested_features or [feature.name for feature in table.features]


def _view_writer(config: RepoConfig, table: FeatureView) -> ViewWriter:
    now = system_clock()
    ttl = getattr(table, "ttl", None)
    return ViewWriter(
        project=config.project,
        view=stored_name(config, table),
        fields=[Field(feature.name, feature.dtype.to_value_type().value) for feature in table.features],
        ttl_micros=ttl // timedelta(microseconds=1) if ttl else 0,
        run_id=_RUN_ID.get() or uuid7(now).bytes,
        now_micros=now,
        policy=row_policy(config),
    )


def row_policy(config: RepoConfig) -> RowPolicy:
    """How long rows live, and how far ahead they may be dated."""
    settings = config.online_store
    return RowPolicy(
        ttl_grace_seconds=settings.ttl_grace_seconds,
        key_ttl_seconds=settings.key_ttl_seconds,
        future_seconds=settings.future_seconds,
    )


def _row_writes(writer: ViewWriter, data: Iterable[FeastRow]) -> Iterable[RowWrite]:
    names = writer.schema.names
    return writer.writes(
        Row(
            entity_key=_entity_key_bytes(entity_key),
            event_micros=to_micros(event_ts),
            created_micros=_created_micros(created_ts),
            values=[values[name].SerializeToString() if name in values else None for name in names],
        )
        for entity_key, values, event_ts, created_ts in data
    )


def _entity_key_bytes(entity_key: EntityKey) -> bytes | None:
    if any(value.WhichOneof("val") in {None, "null_val"} for value in entity_key.entity_values):
        return None
    return bytes(serialize_entity_key(entity_key, entity_key_serialization_version=3))


def _created_micros(created_ts: datetime | None) -> int | None:
    """None for None, and for pandas' NaT, which alone among times differs from itself."""
    if created_ts is None or created_ts != created_ts:  # noqa: PLR0124
        return None
    return to_micros(created_ts)


def _finish(
    table: FeatureView,
    writer: ViewWriter,
    data: Sequence[FeastRow],
    report: WriteReport,
    progress: Callable[[int], Any] | None,
) -> None:
    logger.debug("view %s: %d rows written, %d older than stored", table.name, report.written, report.older)
    if writer.future:
        logger.warning(
            "view %s: %d rows dated too far into the future were not written; correct their event time, or raise "
            "online_store.future_seconds",
            table.name,
            writer.future,
        )
    if writer.keyless:
        logger.warning("view %s: %d rows with a null join key were not written", table.name, writer.keyless)
    if progress:
        progress(len(data))


def _mget(client: "Redis | RedisCluster", keys: Sequence[bytes | None]) -> list[bytes | None]:
    """One entry per key, in order; None where the key is None or is not stored. One key at the least is not None."""
    asked = [key for key in keys if key is not None]
    found = iter(client.mget_nonatomic(asked) if isinstance(client, RedisCluster) else client.mget(asked))
    return [None if key is None else next(found) for key in keys]


async def _mget_async(
    client: "redis_asyncio.Redis | redis_asyncio.RedisCluster", keys: Sequence[bytes | None]
) -> list[bytes | None]:
    asked = [key for key in keys if key is not None]
    is_cluster = isinstance(client, redis_asyncio.RedisCluster)
    found = iter(await (client.mget_nonatomic(asked) if is_cluster else client.mget(asked)))
    return [None if key is None else next(found) for key in keys]
