"""One Feast repo, two offline stores: the repo as it is (DuckDB), and with its `offline_store` block changed (Spark).

Importing this imports Feast and PySpark (8 s); the Spark session is started by the first read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String

T = datetime(2025, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
UTC_MICROS = pa.timestamp("us", "UTC")

QUIET = [
    pytest.mark.filterwarnings("ignore:The spark (data source API|offline store) is an experimental:RuntimeWarning"),
    # PySpark leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]
"""What Feast's Spark store and PySpark warn of, whatever is read."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Two stores on one registry and the same files."""

    root: Path
    duckdb: FeatureStore
    spark: FeatureStore


def spark_block(folder: Path) -> dict[str, Any]:
    """An `offline_store` block for Spark in this process, which leaves nothing outside the folder."""
    return {
        "type": "hindcast.offline.spark.SparkOfflineStore",
        "spark_conf": {
            "spark.master": "local[2]",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(folder),
            "spark.log.level": "ERROR",
            "spark.sql.artifact.isolation.enabled": "false",
            # Few rows: 200 partitions of nothing take a minute.
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.ui.enabled": "false",
        },
    }


def both(root: Path, settings: Mapping[str, Any], spark: Mapping[str, Any]) -> Stores:
    """Write the repo's settings twice, with one block changed, and open both."""
    (root / "feature_store.yaml").write_text(yaml.safe_dump(dict(settings)))
    (root / "spark.yaml").write_text(yaml.safe_dump({**settings, "offline_store": dict(spark)}))
    return Stores(root, FeatureStore(repo_path=root), FeatureStore(repo_path=root, fs_yaml_file=root / "spark.yaml"))


def small_repo(
    root: Path,
    spark: Mapping[str, Any],
    rows: pa.Table,
    *,
    ttl: timedelta = timedelta(0),
    created: str | None = "created_ts",
    names: Sequence[str] = ("v",),
) -> Stores:
    """A repo of one view `w` with the key `k`, whole-number features, and one file."""
    stores = both(
        root,
        {
            "project": "small",
            "provider": "local",
            "registry": str(root / "registry.db"),
            "offline_store": {"type": "hindcast.offline.plugin.AsOfOfflineStore"},
            "online_store": {"type": "sqlite", "path": str(root / "online.db")},
            "entity_key_serialization_version": 3,
        },
        spark,
    )
    pq.write_table(rows, root / "rows.parquet")
    source = FileSource(
        name="rows", path="rows.parquet", timestamp_field="event_ts", created_timestamp_column=created or ""
    )
    key = Entity(name="key", join_keys=["k"], value_type=ValueType.STRING)
    schema = [Field(name="k", dtype=String), *(Field(name=name, dtype=Int64) for name in names)]
    stores.duckdb.apply([key, FeatureView(name="w", entities=[key], ttl=ttl, schema=schema, source=source)])
    return stores


def rows(*given: tuple[str | None, timedelta, timedelta | None, int | None]) -> pa.Table:
    """A source: key, event time and created time (after `T`), value."""
    keys, events, created, values = zip(*given, strict=True)
    return pa.table(
        {
            "k": pa.array(keys, pa.string()),
            "event_ts": pa.array([T + event for event in events], UTC_MICROS),
            "created_ts": pa.array([None if known is None else T + known for known in created], UTC_MICROS),
            "v": pa.array(values, pa.int64()),
        }
    )


def entities(*given: tuple[str | None, timedelta]) -> pd.DataFrame:
    """An entity frame: key and time (after `T`), and a number for each row."""
    keys, times = zip(*given, strict=True)
    return pd.DataFrame(
        {
            "k": list(keys),
            "event_timestamp": pd.to_datetime([T + time for time in times], utc=True),
            "row": range(len(given)),
        }
    )


def values_by_row(frame: pd.DataFrame, name: str = "v") -> dict[int, list[Any]]:
    """For each row of the entity frame all values that a result has for it, in order."""
    found: dict[int, list[Any]] = {}
    for row, value in zip(frame["row"], frame[name], strict=True):
        found.setdefault(int(row), []).append(plain(value))
    return {row: sorted(values, key=repr) for row, values in found.items()}


def cells_by_row(frame: pd.DataFrame) -> dict[int, Counter[tuple[Any, ...]]]:
    """For each row of the entity frame how often a result has which cells for it."""
    found: dict[int, Counter[tuple[Any, ...]]] = {}
    columns = [[plain(value) for value in frame[name]] for name in frame.columns if name != "row"]
    for row, *cells in zip(frame["row"], *columns, strict=True):
        found.setdefault(int(row), Counter())[tuple(cells)] += 1
    return found


def plain(value: Any) -> Any:
    """A cell as something that can be compared: None for each kind of nothing, tuples for lists, UTC for times."""
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(plain(item) for item in value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if value is None or pd.isna(value):
        return None
    if isinstance(value, datetime | np.datetime64):
        time = pd.Timestamp(value)
        return (time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")).isoformat()
    return value.item() if isinstance(value, np.generic) else value
