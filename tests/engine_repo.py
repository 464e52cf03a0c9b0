"""Feast repos on files of a test's own whose views the streaming engine materializes, and what Redis holds afterwards.

Importing this imports Feast (5 s).
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from feast import FeatureStore
from feast.infra.key_encoding_utils import deserialize_entity_key
from redis import Redis

from hindcast.catalog import read_repo
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Run
from hindcast.online.codec import PackedRow, unpack_row
from hindcast.online.keys import ENTITYLESS_KEY, schema_key, view_prefix
from hindcast.online.schemas import read_schema
from hindcast.v1.value_pb2 import Value
from twins import close

NOW = datetime.now(UTC).replace(microsecond=0)
START, END = NOW - timedelta(days=30), NOW
UTC_MICROS = pa.timestamp("us", "UTC")
STREAMING = {"type": "hindcast.materialize.plugin.StreamingEngine"}
AS_OF = {"type": "hindcast.offline.plugin.AsOfOfflineStore"}
PACKED = "hindcast.online.plugin.PackedRedisOnlineStore"


def hours_ago(hours: float) -> datetime:
    """An instant in the interval that the tests materialize."""
    return NOW - timedelta(hours=hours)


@dataclass(frozen=True, slots=True)
class Stored:
    """A row in Redis.

    Attributes:
        values: by feature; None for a null.
        expires_at_ms: since 1970; None for never.
    """

    packed: PackedRow
    values: Mapping[str, bytes | None]
    expires_at_ms: int | None

    def python(self) -> dict[str, Any]:
        """The values as Python's."""
        return {name: None if value is None else python_value(value) for name, value in self.values.items()}


def python_value(value_bytes: bytes) -> Any:
    """What a serialized value holds, for kinds that are one scalar."""
    value = Value.FromString(value_bytes)
    return getattr(value, value.WhichOneof("val"))


@dataclass
class EngineRepo:
    """A repo, and a Feast store on it."""

    root: Path
    project: str
    store: FeatureStore
    redis: Redis

    def write(self, path: str, rows: Mapping[str, Any] | pa.Table) -> str:
        """Make a Parquet file below the repo; gives the path."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows if isinstance(rows, pa.Table) else table(**rows), self.root / path)
        return path

    def apply(self, *objects: object) -> None:
        """`feast apply` of these objects and no other."""
        self.store.apply(list(objects))

    def materialize(self, *views: str, start: datetime = START, end: datetime = END) -> None:
        """Views by name; all of them if none is named."""
        self.store.materialize(start, end, feature_views=list(views) or None)

    def rows(self, stored_name: str) -> dict[Any, Stored]:
        """What Redis holds of a view: by key, a tuple if it has several columns, () if none."""
        prefix = view_prefix(self.project, stored_name)
        found = {}
        for key in sorted(self.redis.scan_iter(match=prefix + b"*", count=1000)):
            packed, ttl_ms = unpack_row(self.redis.get(key)), self.redis.pttl(key)
            schema = read_schema(packed.schema_id, self.redis.get(schema_key(self.project, packed.schema_id)))
            found[_python_key(key.removeprefix(prefix)[:-1])] = Stored(
                packed,
                dict(zip(schema.names, packed.values, strict=True)),
                None if ttl_ms < 0 else round(time.time() * 1000) + ttl_ms,
            )
        return found

    def values(self, stored_name: str) -> dict[Any, dict[str, Any]]:
        """By key the values, for views whose features are scalars."""
        return {key: row.python() for key, row in self.rows(stored_name).items()}

    def runs(self, view: str | None = None) -> list[Run]:
        """What the ledger has, newest first."""
        return Ledger.of_repo(read_repo(self.root)).runs(view)

    def watermark(self, view: str) -> list[tuple[datetime, datetime]]:
        """The intervals that the registry calls materialized."""
        self.store.refresh_registry()
        return list(self.store.registry.get_any_feature_view(view, self.project).materialization_intervals)


def _python_key(entity_key: bytes) -> Any:
    if entity_key == ENTITYLESS_KEY:
        return ()
    values = [python_value(v.SerializeToString()) for v in deserialize_entity_key(entity_key, 3).entity_values]
    return values[0] if len(values) == 1 else tuple(values)


def table(**columns: Any) -> pa.Table:
    """A table; lists of datetimes are UTC in microseconds."""
    return pa.table(
        {
            name: column
            if isinstance(column, pa.Array) or not any(isinstance(cell, datetime) for cell in column)
            else pa.array(column, UTC_MICROS)
            for name, column in columns.items()
        }
    )


@contextlib.contextmanager
def engine_repo(root: Path, connection_string: str, redis: Redis, **settings: Any) -> Iterator[EngineRepo]:
    """An empty repo in a folder of its own, under a project that no other repo has, on a Redis that may be shared.

    Args:
        settings: blocks of `feature_store.yaml` that are not the usual ones.
    """
    root.mkdir(parents=True, exist_ok=True)
    project = f"p{uuid4().hex[:12]}"
    blocks = {
        "project": project,
        "provider": "local",
        "registry": "registry.db",
        "batch_engine": STREAMING,
        "offline_store": AS_OF,
        "online_store": {"type": PACKED, "connection_string": connection_string},
        "entity_key_serialization_version": 3,
    }
    (root / "feature_store.yaml").write_text(yaml.safe_dump({**blocks, **settings}))
    store = FeatureStore(repo_path=str(root))
    try:
        yield EngineRepo(root, project, store, redis)
    finally:
        close(store)
