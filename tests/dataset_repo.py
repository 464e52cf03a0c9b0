"""A Feast repo for training sets: a view whose source has no created column, one whose source has, and an on-demand view over both.

Importing this imports Feast (5 s).
"""

import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from hindcast.datasets import TrainingSets
from offline_repo import DRIVER, UTC_MICROS, hours, offline_repo, trips, write
from twins import close

TRIPS = [(1, 0, 10), (1, 2, 12), (2, 1, 20), (3, 0, None)]
RATINGS = [(1, 0, 4.5, 0), (1, 2, 4.0, 2), (2, 1, 3.5, 1), (2, 1, 3.0, 5)]
AMOUNT = RequestSource(name="asked", schema=[Field(name="amount", dtype=Float64)])


def ratings(*rows) -> pa.Table:
    """A table of (driver, hours after noon, rating, created hours after noon)."""
    drivers, at, values, created = zip(*rows, strict=True)
    return pa.table(
        {
            "driver_id": pa.array(drivers, pa.int64()),
            "event_timestamp": pa.array(map(hours, at), UTC_MICROS),
            "created": pa.array(map(hours, created), UTC_MICROS),
            "rating": pa.array(values, pa.float64()),
        }
    )


def frame() -> pd.DataFrame:
    """Five rows that ask, with an amount and a label."""
    return pd.DataFrame(
        {
            "driver_id": [1, 2, 3, 1, 4],
            "event_timestamp": [hours(at) for at in (1, 3, 1, 9, 2)],
            "amount": [1.0, 2.0, 3.0, 4.0, 5.0],
            "is_late": [True, False, True, None, False],
        }
    )


def definitions(*, trips_ttl=timedelta(hours=5), edited=False, rating_field="rating"):
    """All that is applied, with what a test wants to be another."""
    trips_source = FileSource(name="trips", path="data/trips.parquet", timestamp_field="event_timestamp")
    ratings_source = FileSource(
        name="ratings",
        path="data/ratings.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    trips_view = FeatureView(
        name="trips", entities=[DRIVER], ttl=trips_ttl, schema=[Field(name="trips", dtype=Int64)], source=trips_source
    )
    ratings_view = FeatureView(
        name="ratings",
        entities=[DRIVER],
        ttl=timedelta(0),
        schema=[Field(name=rating_field, dtype=Float64)],
        source=ratings_source,
    )
    on_demand = on_demand_feature_view(
        sources=[AMOUNT, trips_view], schema=[Field(name="per_trip", dtype=Float64)], mode="pandas"
    )

    def checks(inputs: pd.DataFrame) -> pd.DataFrame:
        """The amount for each trip."""
        return pd.DataFrame({"per_trip": inputs["amount"] / inputs["trips"]})

    def edited_checks(inputs: pd.DataFrame) -> pd.DataFrame:
        """The amount for each trip, and one more."""
        return pd.DataFrame({"per_trip": inputs["amount"] / (inputs["trips"] + 1)})

    edited_checks.__name__ = "checks"
    checks_view = on_demand(edited_checks if edited else checks)
    service = FeatureService(name="rides", features=[trips_view, ratings_view, checks_view])
    return [DRIVER, trips_source, ratings_source, trips_view, ratings_view, checks_view, service]


def make_repo(root: Path) -> None:
    """Write the sources and apply the definitions."""
    write(root / "data/trips.parquet", trips(*TRIPS))
    write(root / "data/ratings.parquet", ratings(*RATINGS))
    with offline_repo(root) as store:
        store.apply(definitions())


def reapply(root: Path, **changed) -> None:
    """Apply definitions that are other ones."""
    store = FeatureStore(repo_path=str(root))
    try:
        store.apply(definitions(**changed))
    finally:
        close(store)


def copied(repo: Path, to: Path) -> TrainingSets:
    """The sets of a repo of a test's own, a copy of another one with all its sets."""
    shutil.copytree(repo, to)
    return TrainingSets(to)
