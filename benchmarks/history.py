"""What is materialized: a Parquet file with several rows per key, and the same definitions for Feast's store and for packed rows.

Rows are made by DuckDB from their own numbers, so that they are the same each time; only their times hang on the end of the
interval. Doubles, integers and strings are mixed as in `dataset.py`; one value in 50 of the ratios is null. Event times
lie in the 30 days before the end, in no order. Of every 50 keys, one has rows of equal event times, which their created times
tell apart, and one has equal rows, which nothing does: Feast takes one of them by chance.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import yaml

from services import RedisServer

PROJECT = "bench"
VIEW = "history"
KEY = "account_id"
DAYS = 30
TTL = timedelta(days=90)
"""Longer than the history, so that every row is stored, and expires."""

_KINDS = (
    ("amount", "Float64", "(hash(seed, {at}) % 10000000) / 997.0"),
    ("count", "Int64", "(hash(seed, {at}) % 500)::BIGINT"),
    ("category", "String", "'category ' || (hash(seed, {at}) % 16)::VARCHAR"),
    (
        "ratio",
        "Float64",
        "CASE WHEN hash(seed, {at}) % 50 = 0 THEN NULL ELSE (hash(seed, {at}) % 1000003) / 1000003.0 END",
    ),
    ("last", "Int64", "1500000000000 + (hash(seed, {at}) % 300000000000)::BIGINT"),
    ("identifier", "String", "printf('%016x%016x', hash(seed, {at}), hash(seed, -{at}))"),
)
"""Of features: what the name begins with, the type for Feast, and the value of a row in DuckDB's SQL."""

_STRIDE = 7919
"""Shares no factor with a number of keys, so that each has as many rows as all others, spread over the file."""


@dataclass(frozen=True, slots=True)
class History:
    """A file of rows: how many keys, features and rows; each key has rows / keys of them."""

    keys: int
    features: int
    rows: int

    def __str__(self) -> str:
        return f"{self.keys:,}x{self.features}"

    def scaled(self, scale: float) -> "History":
        """A smaller one."""
        keys = max(100, round(self.keys * scale))
        return History(keys, self.features, keys * (self.rows // self.keys))

    def feature_names(self) -> list[str]:
        """Names of the features, in order."""
        return [f"{_KINDS[at % len(_KINDS)][0]}_{at}" for at in range(self.features)]

    def write(self, path: Path, *, end: datetime) -> None:
        """Write the file."""
        names = self.feature_names()
        values = ", ".join(
            f"{_KINDS[at % len(_KINDS)][2].format(at=at + 1)} AS {name}" for at, name in enumerate(names)
        )
        micros = round(end.timestamp() * 1_000_000)
        query = f"""
            WITH numbered AS (SELECT i, (i * {_STRIDE}) % {self.keys} AS {KEY} FROM range({self.rows}) numbers(i)),
            seeded AS (
                SELECT {KEY}, i,
                    CASE WHEN {KEY} % 50 = 1 THEN {KEY} ELSE i END AS seed,
                    CASE WHEN {KEY} % 50 IN (0, 1) THEN {KEY} ELSE i END AS time_seed
                FROM numbered
            ),
            timed AS (
                SELECT *, {micros} - (hash(time_seed, 0) % {DAYS * 86_400_000_000})::BIGINT AS event FROM seeded
            )
            SELECT {KEY}, {values}, make_timestamptz(event) AS event_ts,
                make_timestamptz(event + CASE WHEN {KEY} % 50 = 1 THEN 0 ELSE i // {self.keys} * 1000000 END) AS created_ts
            FROM timed ORDER BY i
        """  # noqa: S608 - made of numbers and names of this file
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")

    def make_repo(self, root: Path, source: Path, redis: RedisServer, *, packed: bool) -> Path:
        """A repo with one view on that file, applied: on packed rows with our engine, else Feast's own of everything."""
        import feast  # noqa: PLC0415 - 6 s, and after the warnings are silenced
        from feast import types  # noqa: PLC0415

        root.mkdir()
        (root / "feature_store.yaml").write_text(yaml.safe_dump(_settings(redis, packed=packed)))
        entity = feast.Entity(name="account", join_keys=[KEY], value_type=feast.ValueType.INT64)
        fields = [feast.Field(name=KEY, dtype=types.Int64)]
        fields += [
            feast.Field(name=name, dtype=getattr(types, _KINDS[at % len(_KINDS)][1]))
            for at, name in enumerate(self.feature_names())
        ]
        rows = feast.FileSource(path=str(source), timestamp_field="event_ts", created_timestamp_column="created_ts")
        view = feast.FeatureView(name=VIEW, entities=[entity], schema=fields, source=rows, ttl=TTL)
        feast.FeatureStore(repo_path=root).apply([entity, view])
        return root


def _settings(redis: RedisServer, *, packed: bool) -> dict[str, Any]:
    types = (
        ("hindcast.materialize.plugin.StreamingEngine", "hindcast.offline.plugin.AsOfOfflineStore")
        if packed
        else ("local", "duckdb")
    )
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": "registry.db",
        "batch_engine": {"type": types[0]},
        "offline_store": {"type": types[1]},
        "online_store": {
            "type": "hindcast.online.plugin.PackedRedisOnlineStore" if packed else "redis",
            "connection_string": redis.connection_string,
        },
        "entity_key_serialization_version": 3,
    }
