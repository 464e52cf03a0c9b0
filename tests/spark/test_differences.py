"""Where a training set on Spark differs from one on DuckDB: the rows of docs/scale.md. A row goes when Feast no longer behaves so."""

import re
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.errors import InvalidEntityType
from feast.types import Int64, String
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession

from hindcast.errors import SourceError
from spark.stores import QUIET, SECOND, UTC_MICROS, T, entities, rows, small_repo, values_by_row

pytestmark = QUIET

ZERO = timedelta(0)


def ask(stores, frame, features=("w:v",), **options):
    """The results of both stores, DuckDB's first."""
    return tuple(
        store.get_historical_features(frame.copy(), list(features), **options).to_df()
        for store in (stores.duckdb, stores.spark)
    )


def test_the_page_and_the_tests_agree():
    """Each row of the page's table of differences names a test of this folder, and each test of this module is named by a row."""
    here = Path(__file__)
    page = (here.parents[2] / "docs" / "scale.md").read_text()
    table = page.split("## What changes in the values")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]
    named = [re.findall(r"`(test_\w+)`", line.rsplit(" | ", 1)[-1]) for line in lines]
    tests = {
        name
        for file in here.parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert [] == [line for line, names in zip(lines, named, strict=True) if not names or set(names) - tests]
    defined = set(re.findall(r"^def (test_\w+)", here.read_text(), re.MULTILINE))
    assert {"test_the_page_and_the_tests_agree"} == defined - {name for names in named for name in names}


@pytest.mark.parametrize("created", ["created_ts", None])
def test_rows_of_equal_times_are_all_taken(tmp_path, spark, created):
    """Two rows of one key that tie in both times, or in event time where there is no created time, are two rows on Spark and one on DuckDB."""
    table = rows(("a", ZERO, ZERO, 1), ("a", ZERO, ZERO, 2))
    duckdb, on_spark = ask(small_repo(tmp_path, spark, table, created=created), entities(("a", SECOND)))
    assert {0: [1, 2]} == values_by_row(on_spark)
    assert 1 == len(duckdb)


def test_keys_that_run_together_meet(tmp_path, spark):
    """Two entity rows of one instant whose keys make one text when joined, ("1", "23") and ("12", "3"), each get the other's row too on Spark."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    table = pa.table(
        {
            "left": ["1", "12"],
            "right": ["23", "3"],
            "event_ts": pa.array([T, T], UTC_MICROS),
            "both": pa.array([123, 999], pa.int64()),
        }
    )
    pa.parquet.write_table(table, tmp_path / "pairs.parquet")
    keys = [Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in ("left", "right")]
    schema = [Field(name="left", dtype=String), Field(name="right", dtype=String), Field(name="both", dtype=Int64)]
    source = FileSource(name="pairs", path="pairs.parquet", timestamp_field="event_ts")
    stores.duckdb.apply([*keys, FeatureView(name="pairs", entities=keys, ttl=ZERO, schema=schema, source=source)])
    stores.spark.refresh_registry()
    frame = pd.DataFrame(
        {"left": ["1", "12"], "right": ["23", "3"], "event_timestamp": pd.Timestamp(T + SECOND), "row": [0, 1]}
    )
    duckdb, on_spark = ask(stores, frame, ["pairs:both"])
    assert {0: [123], 1: [999]} == values_by_row(duckdb, "both")
    assert {0: [123, 999], 1: [123, 999]} == values_by_row(on_spark, "both")


def test_a_winner_without_a_created_time_is_lost(tmp_path, spark):
    """A newest row whose created time is null is not seen by Spark, which takes an older one or nothing."""
    table = rows(("a", ZERO, ZERO, 1), ("a", SECOND, None, 2), ("b", ZERO, None, 3))
    stores = small_repo(tmp_path, spark, table)
    duckdb, on_spark = ask(stores, entities(("a", 2 * SECOND), ("b", 2 * SECOND)))
    assert {0: [2], 1: [3]} == values_by_row(duckdb)
    assert {0: [1], 1: [None]} == values_by_row(on_spark)


@pytest.mark.parametrize(
    ("ttl_ms", "age_ms", "on_duckdb", "on_spark"), [(1500, 1200, [1], [None]), (500, 9000, [None], [1])]
)
def test_parts_of_a_second_of_a_ttl_are_dropped(tmp_path, spark, ttl_ms, age_ms, on_duckdb, on_spark):
    """Spark cuts a TTL to whole seconds, so one of 1.5 s ends at 1 s, and one of half a second never ends."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)), ttl=timedelta(milliseconds=ttl_ms))
    duckdb, found = ask(stores, entities(("a", timedelta(milliseconds=age_ms))))
    assert ({0: on_duckdb}, {0: on_spark}) == (values_by_row(duckdb), values_by_row(found))


def test_nanosecond_times_are_refused(tmp_path, spark):
    """Spark does not read a Parquet file whose times are in nanoseconds, which is what pandas writes."""
    table = rows(("a", ZERO, ZERO, 1))
    table = table.set_column(1, "event_ts", table["event_ts"].cast(pa.timestamp("ns", "UTC")))
    stores = small_repo(tmp_path, spark, table)
    frame = entities(("a", SECOND))
    assert {0: [1]} == values_by_row(stores.duckdb.get_historical_features(frame.copy(), ["w:v"]).to_df())
    with pytest.raises(AnalysisException, match="PARQUET_TYPE_ILLEGAL"):
        stores.spark.get_historical_features(frame, ["w:v"])


@pytest.mark.parametrize("name", ["two words", "a.b", "größe"])
def test_names_that_sql_would_quote_are_refused(tmp_path, spark, name):
    """A feature whose name is no plain identifier fails on Spark, whose query does not quote names."""
    table = rows(("a", ZERO, ZERO, 1)).append_column(name, pa.array([4]))
    stores = small_repo(tmp_path, spark, table, names=["v", name])
    frame = entities(("a", SECOND))
    asked = stores.duckdb.get_historical_features(frame.copy(), [f"w:{name}"]).to_df()
    assert {0: [4]} == values_by_row(asked, name)
    with pytest.raises(AnalysisException):
        stores.spark.get_historical_features(frame, [f"w:{name}"]).to_df()


def test_columns_of_the_frame_are_not_quoted_either(tmp_path, spark):
    """An extra column of the entity frame whose name is no plain identifier fails on Spark."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    frame = entities(("a", SECOND)).assign(**{"the label": True})
    asked = stores.duckdb.get_historical_features(frame.copy(), ["w:v"]).to_df()
    assert {0: [True]} == values_by_row(asked, "the label")
    with pytest.raises(AnalysisException):
        stores.spark.get_historical_features(frame, ["w:v"]).to_df()


def test_an_empty_frame_is_refused(tmp_path, spark):
    """An entity frame without rows fails on Spark and gives a table without rows on DuckDB."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    frame = entities(("a", SECOND)).head(0)
    assert 0 == len(stores.duckdb.get_historical_features(frame.copy(), ["w:v"]).to_df())
    with pytest.raises(PySparkException, match="CANNOT_INFER_EMPTY_SCHEMA"):
        stores.spark.get_historical_features(frame, ["w:v"]).to_df()


def test_frames_are_of_pandas_or_of_spark(tmp_path, spark):
    """Spark takes the entity frame from pandas, as a Spark frame or as text of its own SQL, and no Arrow table."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    frame = entities(("a", SECOND))
    stores.spark.get_historical_features(frame.copy(), ["w:v"])
    text = "SELECT 'a' AS k, TIMESTAMP '2025-01-01 00:00:01' AS event_timestamp, 0 AS row"
    for given in (text, SparkSession.getActiveSession().createDataFrame(frame)):
        assert {0: [1]} == values_by_row(stores.spark.get_historical_features(given, ["w:v"]).to_df())
    with pytest.raises(InvalidEntityType):
        stores.spark.get_historical_features(pa.Table.from_pandas(frame), ["w:v"])


def test_another_time_zone_is_refused(tmp_path, spark):
    """A session whose time zone is not UTC is refused before anything is read, and the message names the setting."""
    stores = small_repo(tmp_path, spark, rows(("a", ZERO, ZERO, 1)))
    frame = entities(("a", SECOND))
    stores.spark.get_historical_features(frame.copy(), ["w:v"])
    session = SparkSession.getActiveSession()
    session.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        with pytest.raises(SourceError, match=r"spark\.sql\.session\.timeZone .*'Europe/Berlin'"):
            stores.spark.get_historical_features(frame, ["w:v"])
    finally:
        session.conf.set("spark.sql.session.timeZone", "UTC")
