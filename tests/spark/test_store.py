"""What the Spark store does beside Feast's: files, parts, saved data sets, settings."""

import contextlib
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureView, FileSource
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from hindcast.errors import NotWritable, SourceError
from hindcast.offline.spark import SparkOfflineStore, SparkOfflineStoreConfig
from spark.stores import QUIET, SECOND, T, entities, rows, small_repo, values_by_row

pytestmark = QUIET

ZERO = timedelta(0)


def test_a_session_is_in_utc_unless_it_is_told_otherwise():
    """The settings of a session that the store starts say UTC, with or without other settings, and can say something else."""
    zone = "spark.sql.session.timeZone"
    assert {zone: "UTC"} == SparkOfflineStoreConfig().spark_conf
    assert {zone: "UTC"} == SparkOfflineStoreConfig(spark_conf=None).spark_conf
    assert {zone: "UTC", "a": "b"} == SparkOfflineStoreConfig(spark_conf={"a": "b"}).spark_conf
    assert {zone: "Asia/Tokyo"} == SparkOfflineStoreConfig(spark_conf={zone: "Asia/Tokyo"}).spark_conf


def test_a_job_leaves_no_views_in_the_session(tmp_path, spark):
    """What a source is to the session goes with the last job that reads it; a frame of Spark's that the job gave is read on."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    source = stores.spark.get_feature_view("w").batch_source

    def ours(session):
        return [table.name for table in session.catalog.listTables() if table.name.startswith("hindcast_")]

    job = stores.spark.get_historical_features(entities(("a", SECOND)), ["w:v"])
    session = job.spark_session
    pulled = SparkOfflineStore.pull_all_from_table_or_query(stores.spark.config, source, ["k"], ["v"], "event_ts")
    assert [1] == pulled.to_df()["v"].tolist()
    before = len(ours(session))
    frame = job.to_spark_df()
    del job, pulled
    assert before - 2 == len(ours(session))
    assert [1] == [row["v"] for row in frame.collect()]
    SparkOfflineStore.get_monitoring_max_timestamp(stores.spark.config, source, "event_ts")
    assert before - 2 == len(ours(session))


@pytest.mark.parametrize(("zone", "is_utc"), [("GMT", True), ("Etc/UTC", True), ("Europe/London", False)])
def test_a_session_in_a_zone_that_is_utc_is_taken(tmp_path, spark, zone, is_utc):
    """GMT is UTC by another name; London is not, for half of the year."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    session = stores.spark.get_historical_features(entities(("a", SECOND)), ["w:v"]).spark_session
    session.conf.set("spark.sql.session.timeZone", zone)
    try:
        with contextlib.nullcontext() if is_utc else pytest.raises(SourceError, match="is 'Europe/London'"):
            found = stores.spark.get_historical_features(entities(("a", SECOND)), ["w:v"]).to_df()
            assert {0: [1]} == values_by_row(found)
    finally:
        session.conf.set("spark.sql.session.timeZone", "UTC")


def test_appended_rows_are_read_by_both(tmp_path, spark):
    """Rows written through the Spark store become a part beside the file, and both stores read them from then on."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    before = (tmp_path / "rows.parquet").read_bytes()
    times = pd.to_datetime([T + SECOND], utc=True)
    stores.spark.write_to_offline_store(
        "w", pd.DataFrame({"k": ["a"], "event_ts": times, "created_ts": times, "v": [2]})
    )
    assert before == (tmp_path / "rows.parquet").read_bytes()
    for store in (stores.duckdb, stores.spark):
        found = store.get_historical_features(entities(("a", ZERO), ("a", 2 * SECOND)), ["w:v"]).to_df()
        assert {0: [1], 1: [2]} == values_by_row(found)


def test_a_source_may_be_a_folder(tmp_path, spark):
    """A folder of Parquet files is one source on both."""
    (tmp_path / "folder").mkdir()
    pa.parquet.write_table(rows(("a", ZERO, ZERO, 1)), tmp_path / "folder" / "1.parquet")
    pa.parquet.write_table(rows(("b", ZERO, ZERO, 2)), tmp_path / "folder" / "2.parquet")
    stores = small_repo(tmp_path, spark, rows(("c", ZERO, ZERO, 3)))
    view = stores.duckdb.get_feature_view("w")
    view.batch_source.file_options.uri = "folder"
    stores.duckdb.apply([view.batch_source, view])
    stores.spark.refresh_registry()
    for store in (stores.duckdb, stores.spark):
        found = store.get_historical_features(entities(("a", SECOND), ("b", SECOND)), ["w:v"]).to_df()
        assert {0: [1], 1: [2]} == values_by_row(found)


@pytest.mark.filterwarnings("ignore:(Saving|Retrieving) datasets? is an experimental:RuntimeWarning")
def test_a_saved_data_set_is_files(tmp_path, spark):
    """A training set is saved to the storage that a repo of files has, and read back by either store."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    job = stores.spark.get_historical_features(entities(("a", SECOND)), ["w:v"])
    stores.spark.create_saved_dataset(from_=job, name="set", storage=SavedDatasetFileStorage(path="saved"))
    stores.duckdb.refresh_registry()
    for store in (stores.duckdb, stores.spark):
        saved = store.get_saved_dataset("set").to_df()
        assert [("a", 1)] == list(zip(saved["k"], saved["v"], strict=True))


@pytest.mark.parametrize(
    "source",
    [
        FileSource(name="table", path="table", timestamp_field="event_ts", file_format=DeltaFormat()),
        FileSource(name="bucket", path="s3://bucket/rows.parquet", timestamp_field="event_ts"),
    ],
)
def test_rows_are_appended_to_parquet_here_only(tmp_path, spark, source):
    """A Delta table and a path in an object store take no rows, and the message says so."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    view = FeatureView(name="elsewhere", entities=[], schema=[], source=source)
    with pytest.raises(NotWritable, match="'elsewhere' is not a Parquet FileSource"):
        SparkOfflineStore.offline_write_batch(stores.spark.config, view, rows(("a", ZERO, ZERO, 1)), None)


def test_statistics_come_from_the_files(tmp_path, spark):
    """Feast's monitoring reads a FileSource: its newest time and a column's least and greatest value."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1), ("a", SECOND, SECOND, 5)))
    source = stores.spark.get_feature_view("w").batch_source
    config = stores.spark.config
    assert T + SECOND == SparkOfflineStore.get_monitoring_max_timestamp(config, source, "event_ts")
    (found,) = SparkOfflineStore.compute_monitoring_metrics(config, source, [("v", "numeric")], "event_ts")
    assert (2, 1.0, 5.0) == (found["row_count"], found["min_val"], found["max_val"])


def test_keys_between_two_times(tmp_path, spark):
    """Without an entity frame Spark reads every key that has a row between two times, as of the second."""
    table = rows(("a", ZERO, ZERO, 1), ("a", SECOND, SECOND, 2), ("b", 9 * SECOND, 9 * SECOND, 3))
    stores = small_repo(tmp_path, spark, table)
    found = stores.spark.get_historical_features(features=["w:v"], start_date=T, end_date=T + 5 * SECOND).to_df()
    assert [("a", 2)] == list(zip(found["k"], found["v"], strict=True))
