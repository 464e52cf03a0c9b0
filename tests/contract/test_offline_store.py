"""Hindcast's offline store and Feast's DuckDB store, asked the same of the same files; where they differ on purpose, both sides are shown."""

import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.feature_logging import LOG_TIMESTAMP_FIELD
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from hindcast.offline.plugin import AsOfOfflineStore
from offline_repo import NOON, hours, offline_repo, source, trips, write

STORES = pytest.mark.parametrize("judge", [AsOfOfflineStore, DuckDBOfflineStore], ids=["hindcast", "feast"])


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repo, and its source of 500 rows of 20 drivers."""
    root = tmp_path_factory.mktemp("offline")
    rows = [(n * 7 % 20, n / 10, None if n % 11 == 0 else n) for n in range(500)]
    created = pa.array([hours(600 - n) for n in range(500)], pa.timestamp("us", "UTC"))
    city = [None if n % 13 == 0 else f"c{n % 5}" for n in range(500)]
    rating = [None if n % 17 == 0 else n / 3 for n in range(500)]
    path = write(root / "t.parquet", trips(*rows, created=created, city=city, rating=rating), row_group_size=50)
    with offline_repo(root) as store:
        yield store, source(str(path))


def as_rows(job):
    """The rows of a job in an order of their own, times as instants."""
    found = job.to_arrow()
    return found.column_names, sorted(tuple(map(str, row.values())) for row in found.to_pylist())


@pytest.mark.parametrize("start", [None, hours(5), hours(49.9)])
@pytest.mark.parametrize("end", [hours(30), hours(49.9)])
def test_pulls_give_the_rows_of_feasts_store(repo, start, end):
    """`pull_all` and `pull_latest` have the columns and the rows of Feast's DuckDB store, whatever the interval."""
    store, of = repo
    asked = (store.config, of, ["driver_id"], ["rating", "trips", "city"], "event_timestamp", "created")

    assert as_rows(DuckDBOfflineStore.pull_all_from_table_or_query(*asked, start, end)) == as_rows(
        AsOfOfflineStore.pull_all_from_table_or_query(*asked, start, end)
    )
    between = (start or hours(0), end)
    assert as_rows(DuckDBOfflineStore.pull_latest_from_table_or_query(*asked, *between)) == as_rows(
        AsOfOfflineStore.pull_latest_from_table_or_query(*asked, *between)
    )


def test_figures_are_those_of_feasts_store(repo):
    """Figures about columns are those of Feast's DuckDB store, but for the order of values that are as frequent."""
    store, of = repo
    columns = [("trips", "numeric"), ("rating", "numeric"), ("city", "categorical")]
    ours, theirs = (
        judge.compute_monitoring_metrics(store.config, of, columns, "event_timestamp", hours(5), hours(40))
        for judge in (AsOfOfflineStore, DuckDBOfflineStore)
    )
    histograms = [[metric.pop("histogram") for metric in metrics] for metrics in (theirs, ours)]
    for histogram in (*histograms[0], *histograms[1]):
        histogram.get("values", []).sort(key=str)

    # Sums come in the order of DuckDB's threads.
    assert [pytest.approx(metric) for metric in theirs] == ours
    assert histograms[0] == histograms[1]
    assert {hours(49.9)} == {
        judge.get_monitoring_max_timestamp(store.config, of, "event_timestamp")
        for judge in (AsOfOfflineStore, DuckDBOfflineStore)
    }


@STORES
def test_naive_ends_are_utc_and_not_local(repo, monkeypatch, judge):
    """Feast takes a naive end for local time, Hindcast for UTC, as both take the times of a source."""
    store, of = repo
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        noon = NOON.replace(tzinfo=None)
        job = judge.pull_all_from_table_or_query(store.config, of, [], ["trips"], "event_timestamp", None, noon, noon)
        found = job.to_arrow().num_rows
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()

    assert (1 if judge is AsOfOfflineStore else 0) == found


@STORES
def test_a_directory_is_replaced_and_not_added_to(repo, tmp_path, judge):
    """Feast writes new files beside the old ones of a saved data set that is overwritten, Hindcast puts the new ones in their place."""
    store, of = repo
    storage = SavedDatasetFileStorage(str(tmp_path / "set"))
    for end in (hours(1), hours(0)):
        job = judge.pull_all_from_table_or_query(
            store.config, of, ["driver_id"], ["trips"], "event_timestamp", None, None, end
        )
        job.persist(storage, allow_overwrite=True)

    assert (1 if judge is AsOfOfflineStore else 12) == pq.read_table(tmp_path / "set").num_rows


@STORES
def test_the_date_of_logs_is_read(repo, tmp_path, judge):
    """Feast leaves the column `__log_date` out of what it reads, Hindcast does not."""
    store, _ = repo
    logs = pa.table(
        {LOG_TIMESTAMP_FIELD: pa.array([NOON], pa.timestamp("us", "UTC")), "__log_date": [NOON.date()], "n": [1]}
    )
    of = source(str(write(tmp_path / "logs.parquet", logs)), timestamp_field="")
    start, end = datetime(2026, 1, 1, tzinfo=UTC), NOON + timedelta(days=1)
    job = judge.pull_all_from_table_or_query(
        store.config, of, [], ["__log_date", "n"], LOG_TIMESTAMP_FIELD, None, start, end
    )

    assert (["__log_date"] if judge is AsOfOfflineStore else []) + [
        "n",
        LOG_TIMESTAMP_FIELD,
    ] == job.to_arrow().column_names
