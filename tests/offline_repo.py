"""Feast repos on files of a test's own, with Hindcast's offline store and nothing online that needs a server.

Importing this imports Feast (5 s).
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.types import Int64
from feast.value_type import ValueType

from twins import close

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
UTC_MICROS = pa.timestamp("us", "UTC")
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def hours(number: float) -> datetime:
    """So many hours after noon."""
    return NOON + timedelta(hours=number)


def trips(*rows, **more) -> pa.Table:
    """A table of (driver, hours after noon, trips), with further columns."""
    drivers, at, counts = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "driver_id": pa.array(drivers, pa.int64()),
            "event_timestamp": pa.array([None if hour is None else hours(hour) for hour in at], UTC_MICROS),
            "trips": pa.array(counts, pa.int64()),
            **more,
        }
    )


def write(path: Path, table: pa.Table, **options) -> Path:
    """Make a Parquet file; gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def source(path: str, *, delta: bool = False, **options) -> FileSource:
    """A file source of that path."""
    form = DeltaFormat() if delta else ParquetFormat()
    return FileSource(
        **{"name": "trips", "path": path, "timestamp_field": "event_timestamp", "file_format": form} | options
    )


def view(of: FileSource, *fields: Field, **options) -> FeatureView:
    """The view `trips` of a source."""
    given = {
        "name": "trips",
        "entities": [DRIVER],
        "ttl": timedelta(0),
        "schema": list(fields) or [Field(name="trips", dtype=Int64)],
    }
    return FeatureView(**given | options, source=of)


@contextlib.contextmanager
def offline_repo(root: Path, **offline) -> Iterator[FeatureStore]:
    """An empty repo in a folder of its own.

    Args:
        offline: further settings of the `offline_store` block.
    """
    root.mkdir(parents=True, exist_ok=True)
    blocks = {
        "project": "rides",
        "provider": "local",
        "registry": "registry.db",
        "offline_store": {"type": "hindcast.offline.plugin.AsOfOfflineStore", **offline},
        "online_store": {"type": "sqlite", "path": "online.db"},
        "entity_key_serialization_version": 3,
    }
    (root / "feature_store.yaml").write_text(yaml.safe_dump(blocks))
    store = FeatureStore(repo_path=str(root))
    try:
        yield store
    finally:
        close(store)


def offline_of(store: FeatureStore):
    """The offline store as Feast's provider has it."""
    return store._get_provider().offline_store


@contextlib.contextmanager
def elsewhere(directory: Path) -> Iterator[None]:
    """With another working directory."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
