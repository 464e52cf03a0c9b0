"""Tables and views of a DuckDB database as sources: applied by the real command, read, materialized and served."""

import contextlib
import logging
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from feast import Entity, FeatureView, Field
from feast.data_source import DataSource, PushMode, PushSource
from feast.types import Int64
from feast.value_type import ValueType

from commands import feast_command
from engine_repo import END, NOW, PACKED, START, STREAMING, engine_repo, hours_ago
from hindcast.catalog import load_catalog, read_repo
from hindcast.errors import NotWritable, SourceError
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.settings import state_dir
from hindcast_client import Client
from offline_repo import NOON, hours, offline_of, offline_repo, trips, view
from services import run_hindcast, run_redis

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)

DEFINITIONS = """\
from datetime import timedelta

from feast import Entity, FeatureView
from feast.value_type import ValueType

from hindcast.offline.plugin.duckdb_source import DuckDBSource

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
trips = DuckDBSource(
    name="trips",
    path="data/rides.duckdb",
    table="sales.trips",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
    field_mapping={"n": "trips"},
)
view = FeatureView(name="trips", entities=[driver], ttl=timedelta(days=90), source=trips)
"""


@pytest.fixture
def store(tmp_path):
    """An empty repo."""
    with offline_repo(tmp_path / "repo") as opened:
        yield opened


def fill(store, *statements, file="rides.duckdb"):
    """Run SQL in a database of the repo."""
    with duckdb.connect(store.config.repo_path / file) as connection:
        for statement in statements:
            connection.execute(statement)


def fill_trips(store, *rows, table="trips", file="rides.duckdb"):
    """Write a table of trips anew."""
    with duckdb.connect(store.config.repo_path / file) as connection:
        connection.register("given", trips(*rows))
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM given")


def duck(table="trips", **options):
    """A source in that database."""
    usual = {"name": "trips", "path": "rides.duckdb", "timestamp_field": "event_timestamp"}
    return DuckDBSource(**usual | options, table=table)


def read(store, *asked, features=("trips:trips",), **options):
    """`get_historical_features` of (driver, hours after noon); the rows without the asked columns."""
    frame = pd.DataFrame(
        {"driver_id": [driver for driver, _ in asked], "event_timestamp": [hours(hour) for _, hour in asked]}
    )
    job = store.get_historical_features(frame, list(features), **options)
    return [tuple(row.values())[2:] for row in job.to_arrow().to_pylist()]


def exports(store):
    """The exported files."""
    return sorted(state_dir(store.config.repo_path).glob("exports/*/*"))


def refused(store, source):
    """What is said of a source that cannot be read."""
    with pytest.raises(SourceError) as caught:
        source.pinned(store.config)
    return str(caught.value)


def test_the_real_command_applies_infers_and_materializes_and_the_server_answers(tmp_path):
    """From `feast apply` to an answer of `hindcast serve`: the features are inferred, and the view is served."""
    root = tmp_path / "repo"
    (root / "data").mkdir(parents=True)
    with duckdb.connect(root / "data/rides.duckdb") as connection:
        connection.execute(
            "CREATE SCHEMA sales; CREATE TABLE sales.trips (driver_id BIGINT, event_ts TIMESTAMP, created_ts TIMESTAMPTZ, n BIGINT, "
            "towns VARCHAR[], note JSON)"
        )
        connection.executemany(
            "INSERT INTO sales.trips VALUES (?, ?, ?, ?, ?, ?)",
            [
                (1, hours_ago(9).replace(tzinfo=None), hours_ago(9), 5, ["Ulm"], None),
                (1, hours_ago(5).replace(tzinfo=None), hours_ago(3), 7, ["Ulm", "Kiel"], '{"a": 1}'),
                (2, hours_ago(5).replace(tzinfo=None), hours_ago(4), 8, None, None),
            ],
        )
    (root / "definitions.py").write_text(DEFINITIONS)
    with run_redis() as redis:
        blocks = {
            "project": "rides",
            "provider": "local",
            "registry": "registry.db",
            "batch_engine": STREAMING,
            "offline_store": {"type": "hindcast.offline.plugin.AsOfOfflineStore"},
            "online_store": {"type": PACKED, "connection_string": redis.connection_string},
            "entity_key_serialization_version": 3,
        }
        (root / "feature_store.yaml").write_text(yaml.safe_dump(blocks))
        feast_command(root, "apply")
        catalog = load_catalog(read_repo(root))
        assert ["note", "towns", "trips"] == sorted(field.name for field in catalog.views["trips"].fields)
        feast_command(root, "materialize", START.isoformat(), END.isoformat())
        with run_hindcast(root) as server, Client(server.address) as client:
            answer = client.get_online_features(
                features=["trips:trips", "trips:towns"], entities={"driver_id": [1, 2, 3]}
            ).to_dict()
    assert [7, 8, None] == answer["trips"]
    assert [["Ulm", "Kiel"], None, None] == answer["towns"]


def test_a_source_comes_back_from_the_registry_as_it_was_applied(store):
    """All that a source says is in its message, and two sources are equal where all of it is."""
    given = duck(
        "a.b",
        created_timestamp_column="created",
        field_mapping={"n": "trips"},
        description="d",
        tags={"a": "b"},
        owner="o",
    )
    assert given == DataSource.from_proto(given.to_proto())
    assert hash(given) == hash(DataSource.from_proto(given.to_proto()))
    assert given != duck("a.c")
    assert given != duck("a.b", path="other.duckdb")
    fill_trips(store, (1, 0, 5))
    store.apply([DRIVER, duck(), view(duck())])
    assert duck() == store.get_data_source("trips")


def test_the_row_of_each_time_is_found(store):
    """A point-in-time read of a table: the newest row not after the time, with ties to the row that was inserted later."""
    fill_trips(store, (1, -2, 5), (1, -1, 6), (1, -1, 7), (2, 0, 8), (2, 1, 9))
    store.apply([DRIVER, view(duck())])
    assert [(5,), (7,), (8,), (None,)] == read(store, (1, -1.5), (1, 0), (2, 0), (3, 0))


def test_created_times_and_mapped_columns_are_read(store):
    """`filter_by_created_timestamp` and a field mapping mean the same as for files."""
    fill(
        store,
        "CREATE TABLE t (driver_id BIGINT, seen TIMESTAMP, known TIMESTAMP, n BIGINT)",
        "INSERT INTO t VALUES (1, '2026-03-01 10:00', '2026-03-01 10:00', 5), (1, '2026-03-01 11:00', '2026-03-01 14:00', 6)",
    )
    source = duck("t", timestamp_field="seen", created_timestamp_column="known", field_mapping={"n": "trips"})
    store.apply([DRIVER, view(source)])
    frame = pd.DataFrame({"driver_id": [1, 1], "event_timestamp": [hours(1), hours(3)]})
    job = store.get_historical_features(frame, ["trips:trips"])
    assert [6, 6] == job.to_df()["trips"].tolist()
    assert (1, 3_600_000_000) == (job.leaks()["trips"].rows, job.leaks()["trips"].worst_micros)
    assert [5, 6] == job.known_at("event_timestamp").to_df()["trips"].tolist()


def test_a_view_answers_in_the_order_of_its_sql(store):
    """Of rows of equal times the one that the view's SQL puts last wins."""
    fill_trips(store, (1, 0, 5), (1, 0, 9), (1, 0, 7))
    fill(
        store,
        "CREATE VIEW up AS FROM trips ORDER BY trips",
        "CREATE VIEW down AS FROM rides.main.trips ORDER BY trips DESC",
    )
    for table, expected in (("trips", 7), ("up", 9), ("down", 5)):
        store.apply([DRIVER, view(duck(table))])
        assert [(expected,)] == read(store, (1, 0)), table


def test_all_keys_between_two_times_are_read_without_a_frame(store):
    """Entity-less retrieval takes its frame from the table."""
    fill_trips(store, (1, -2, 5), (1, 1, 6), (2, 0, 7), (2, 9, 8))
    store.apply([DRIVER, view(duck())])
    job = store.get_historical_features(None, ["trips:trips"], start_date=hours(-1), end_date=hours(2))
    assert [(2, 7), (1, 6)] == [(row["driver_id"], row["trips"]) for row in job.to_arrow().to_pylist()]


def test_pulls_and_the_newest_time_are_those_of_the_table(store):
    """`pull_all`, `pull_latest` and the monitoring hooks read the table as they read a file."""
    fill_trips(store, (2, 0, 7), (1, -2, 5), (1, 1, 6))
    offline = offline_of(store)
    given = (store.config, duck(), ["driver_id"], ["trips"], "event_timestamp", None)
    everything = offline.pull_all_from_table_or_query(*given, None, None).to_arrow()
    assert [7, 5, 6] == everything["trips"].to_pylist()
    newest = offline.pull_latest_from_table_or_query(*given, hours(-9), hours(9)).to_arrow()
    assert [(1, 6), (2, 7)] == sorted(zip(*(newest[name].to_pylist() for name in ("driver_id", "trips")), strict=True))
    assert hours(1) == offline.get_monitoring_max_timestamp(store.config, duck(), "event_timestamp")
    metrics = offline.compute_monitoring_metrics(store.config, duck(), [("trips", "numeric")], "event_timestamp")
    assert [(3, 6.0)] == [(metric["row_count"], metric["mean"]) for metric in metrics]


def test_a_table_is_exported_once_per_state_of_its_database(store):
    """A second read takes the export of the first; a change of the database makes a new one, and the old one goes."""
    fill_trips(store, (1, 0, 5))
    store.apply([DRIVER, view(duck())])
    assert [(5,)] == read(store, (1, 0))
    (first,) = exports(store)
    pinned = first.stat()
    assert [(5,)] == read(store, (1, 0))
    assert (pinned.st_ino, pinned.st_mtime_ns) == (
        exports(store)[0].stat().st_ino,
        exports(store)[0].stat().st_mtime_ns,
    )
    fill_trips(store, (1, 0, 6))
    assert [(6,)] == read(store, (1, 0))
    (second,) = exports(store)
    assert first != second


def test_an_export_has_the_rights_of_its_database(store):
    """Who may not read the database may not read its export."""
    fill_trips(store, (1, 0, 5))
    (store.config.repo_path / "rides.duckdb").chmod(0o600)
    assert 0o600 == stat.S_IMODE(duck().pinned(store.config).files[0].pin.path.stat().st_mode)


def test_readers_that_come_at_once_share_one_export(store):
    """Who comes while an export is written waits for it, and reads the same file."""
    fill_trips(store, *((1, 0, count) for count in range(100_000)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: duck().pinned(store.config), range(4)))
    assert 1 == len({pinned.files[0].pin for pinned in found})
    assert 1 == len(exports(store))


def test_rows_keep_their_order_over_many_row_groups(store):
    """Several threads export a table, and its rows stay in the order in which they were inserted."""
    fill(
        store,
        "CREATE TABLE trips AS SELECT 1::BIGINT AS driver_id, TIMESTAMPTZ '2026-03-01 12:00:00+00' AS event_timestamp, "
        "(range * 7919) % 500_000 AS trips FROM range(500_000)",
    )
    given = (store.config, duck(), ["driver_id"], ["trips"], "event_timestamp", None, None, None)
    pulled = offline_of(store).pull_all_from_table_or_query(*given).to_arrow()["trips"]
    assert [at * 7919 % 500_000 for at in range(500_000)] == pulled.to_pylist()


def test_applying_exports_nothing(store):
    """Inference and validation look at columns only."""
    fill_trips(store, (1, 0, 5))
    store.apply([DRIVER, duck(), FeatureView(name="trips", entities=[DRIVER], source=duck())])
    assert ["trips"] == [field.name for field in store.get_feature_view("trips").features]
    assert [] == exports(store)


def test_rows_of_a_writer_that_was_killed_are_seen(store):
    """What a database has in its write-ahead log only is part of its state."""
    fill_trips(store, (1, 0, 5))
    store.apply([DRIVER, view(duck())])
    assert [(5,)] == read(store, (1, 0))
    with writer(store, "UPDATE trips SET trips = 6"):
        pass
    assert (store.config.repo_path / "rides.duckdb.wal").exists()
    assert [(6,)] == read(store, (1, 0))


@contextlib.contextmanager
def writer(store, statement):
    """Another process that has run a statement and keeps the database open; it is killed at the end."""
    code = f"import duckdb, sys\nc = duckdb.connect({str(store.config.repo_path / 'rides.duckdb')!r})\nc.execute({statement!r})\n"
    code += "print('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "done\n" == process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_database_that_is_open_for_writing_is_refused_and_says_what_to_do(store):
    """Another process, or this one, may not have it open for writing."""
    fill_trips(store, (1, 0, 5))
    with writer(store, "INSERT INTO trips VALUES (1, '2026-03-01', 1)"):
        said = refused(store, duck())
    assert said.startswith("the database 'rides.duckdb' is open for writing in another process; close it there")
    with duckdb.connect(store.config.repo_path / "rides.duckdb"):
        said = refused(store, duck())
    assert said.startswith("the database 'rides.duckdb' is open for writing in this process; close it there")


def test_a_database_that_somebody_reads_is_read(store):
    """Readers do not shut each other out, in this process neither."""
    fill_trips(store, (1, 0, 5))
    with duckdb.connect(store.config.repo_path / "rides.duckdb", read_only=True):
        assert 1 == len(duck().pinned(store.config).files)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (duck(path="none.duckdb"), "the database 'none.duckdb' does not exist"),
        (duck(path="."), "the database '.' does not exist"),
        (duck(path="s3://bucket/rides.duckdb"), "is not on this machine"),
        (duck(path="junk.duckdb"), "'junk.duckdb' is no database that DuckDB"),
        (duck("nope"), "has no table or view 'nope', only 'broken', 'outside', 'stale', 'totals', 'trips'"),
        (duck('trips" --'), "has no table or view 'trips\" --'"),
        (duck("outside"), "the view 'outside of rides.duckdb' reads what is not in its database"),
        (duck("broken"), "'broken of rides.duckdb' cannot be read: DuckDB has a CatalogException for it"),
        (duck("stale"), "'stale of rides.duckdb' cannot be read: DuckDB has a ConversionException for it"),
        (duck("totals"), "column 'sum' of 'totals of rides.duckdb' is HUGEINT, which Parquet cannot hold"),
    ],
)
def test_what_cannot_be_read_is_said(store, source, said):
    """Each error names what is wrong in words of our own."""
    fill_trips(store, (1, 0, 5))
    fill(
        store,
        "CREATE TABLE gone (a INT)",
        "CREATE VIEW broken AS FROM gone",
        "DROP TABLE gone",
        f"COPY trips TO '{store.config.repo_path}/out.parquet'",
        f"CREATE VIEW outside AS FROM '{store.config.repo_path}/out.parquet'",
        "CREATE VIEW totals AS SELECT driver_id, event_timestamp, sum(trips) AS sum FROM trips GROUP BY ALL",
        "CREATE VIEW stale AS SELECT * REPLACE ((trips || 'x')::INT AS trips) FROM trips",
    )
    (store.config.repo_path / "junk.duckdb").write_bytes(b"no database" * 1000)
    assert said in refused(store, source)
    assert [] == exports(store)


def test_a_missing_time_column_is_warned_of_and_refused_when_it_is_read(store, caplog):
    """`validate` raises; `feast apply` goes on with a warning, as for files; and a read names the column."""
    fill_trips(store, (1, 0, 5))
    source = duck(timestamp_field="at")
    with pytest.raises(SourceError, match="the source 'trips' has no column 'at', only"):
        source.validate(store.config)
    with caplog.at_level(logging.WARNING):
        offline_of(store).validate_data_source(store.config, source)
    assert "the source 'trips' has no column 'at'" in caplog.text
    store.apply([DRIVER, view(source)])
    with pytest.raises(SourceError, match="no column 'at'"):
        read(store, (1, 0))


def test_a_source_whose_database_comes_later_can_be_applied(store, caplog):
    """Where the schema is declared nothing has to be there."""
    store.apply([DRIVER, duck(), view(duck())])
    with caplog.at_level(logging.WARNING):
        offline_of(store).validate_data_source(store.config, duck())
    assert "the database 'rides.duckdb' does not exist" in caplog.text
    fill_trips(store, (1, 0, 5))
    assert [(5,)] == read(store, (1, 0))


@pytest.mark.parametrize(
    ("asked", "stored", "file"),
    [
        ("TRIPS", "trips", "rides.duckdb"),
        ("sales.trips", "sales.sales.trips", "sales.duckdb"),
        ("main.trips", "sales.main.trips", "sales.duckdb"),
        ('odd "name".with dots', '"odd ""name"".with dots"', "it's.duckdb"),
        ("trips", "trips", "memory.duckdb"),
    ],
)
def test_odd_names_of_tables_and_files_are_read(store, asked, stored, file):
    """Names in any case, with quotes and dots, schemas called like their database, files called like DuckDB's own."""
    with duckdb.connect(store.config.repo_path / file) as connection:
        connection.execute("CREATE SCHEMA sales")
        connection.register("given", trips((1, 0, 5)))
        connection.execute(f"CREATE TABLE {stored} AS FROM given")
    store.apply([DRIVER, view(duck(asked, path=file))])
    assert [(5,)] == read(store, (1, 0))


def test_a_name_that_two_tables_have_is_refused(store):
    """A dot can be part of a name, or end that of a schema."""
    fill(store, 'CREATE SCHEMA a; CREATE TABLE a.b (n INT); CREATE TABLE "a.b" (n INT)')
    assert "has two tables that 'a.b' can mean" in refused(store, duck("a.b"))


def test_types_come_as_feast_names_them(store):
    """Lists and JSON have Feast's types, UUIDs are text; a type that Feast has no word for is named."""
    fill(store, "CREATE TABLE t (a INT[], b VARCHAR[], c JSON, d UUID, e TIMESTAMP, f DATE, g ENUM('x'), h FLOAT[3])")
    kinds = dict(duck("t").get_table_column_names_and_types(store.config))
    known = DuckDBSource.source_datatype_to_feast_value_type()
    assert ["INT32_LIST", "STRING_LIST", "JSON", "STRING", "UNIX_TIMESTAMP", "STRING", "FLOAT_LIST"] == [
        known(kinds[name]).name for name in "abcdegh"
    ]
    with pytest.raises(SourceError, match="Feast knows no type for date32"):
        known(kinds["f"])


def test_vectors_and_uuids_with_nulls_are_read(store):
    """Arrays of a fixed length are read as lists, and UUIDs as text."""
    fill(
        store,
        'CREATE TABLE trips (driver_id BIGINT, event_timestamp TIMESTAMP, "a ""vector""" FLOAT[2], id UUID)',
        "INSERT INTO trips VALUES (1, '2026-03-01', [1, 2], '6f0ff1a2-7d0a-4f0e-9d0c-1b2f3c4d5e6f'), (2, '2026-03-01', NULL, NULL)",
    )
    store.apply([DRIVER, FeatureView(name="trips", entities=[DRIVER], source=duck())])
    found = read(store, (1, 0), (2, 0), features=['trips:a "vector"', "trips:id"])
    assert [([1.0, 2.0], "6f0ff1a2-7d0a-4f0e-9d0c-1b2f3c4d5e6f"), (None, None)] == found


def test_a_nested_type_that_parquet_cannot_hold_is_refused(store):
    """Types are looked at inside of lists, structs and maps too."""
    for at, kind in enumerate(
        ["HUGEINT[]", "STRUCT(a INTERVAL)", "MAP(VARCHAR, BIT)", "STRUCT(a INT[2])", "HUGEINT[3]"]
    ):
        fill(store, f"CREATE TABLE t{at} (n {kind})")
        assert "which Parquet cannot hold" in refused(store, duck(f"t{at}"))


def test_what_would_be_written_is_refused(store):
    """Pushes to the offline store and appended batches say that a database is only read."""
    fill_trips(store, (1, 0, 5))
    pushed = PushSource(name="pushed", batch_source=duck())
    store.apply([DRIVER, duck(), pushed, view(pushed)])
    row = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON], "trips": [6]})
    with pytest.raises(NotWritable, match="the source 'trips' is a DuckDB database, which is only read"):
        store.push("pushed", row, to=PushMode.OFFLINE)
    with pytest.raises(NotWritable, match="is a DuckDB database"):
        store.write_to_offline_store("trips", row)


def test_materialization_is_on_record_and_streamed(tmp_path):
    """The engine streams a table: counts are on record, rows dated ahead go to quarantine, and a failed run is recorded as such."""
    with (
        run_redis() as redis,
        contextlib.closing(redis.client()) as client,
        engine_repo(tmp_path / "repo", redis.connection_string, client) as repo,
    ):
        rows = pa.table(
            {
                "driver_id": [1, 1, 2, 3],
                "event_timestamp": pa.array(
                    [hours_ago(9), hours_ago(5), hours_ago(4), NOW + timedelta(days=9)], pa.timestamp("us", "UTC")
                ),
                "trips": [5, 6, 7, 8],
            }
        )
        with duckdb.connect(repo.root / "rides.duckdb") as connection:
            connection.register("given", rows)
            connection.execute("CREATE TABLE trips AS FROM given")
        repo.apply(
            DRIVER,
            FeatureView(name="trips", entities=[DRIVER], schema=[Field(name="trips", dtype=Int64)], source=duck()),
        )
        repo.materialize("trips")
        assert {1: {"trips": 6}, 2: {"trips": 7}} == repo.values("trips")
        (run,) = repo.runs("trips")
        assert (3, 2, 1) == (run.rows_read, run.rows_written, len(run.sources))
        (repo.root / "rides.duckdb").unlink()
        with pytest.raises(SourceError, match="does not exist"):
            repo.materialize("trips")
        assert ["failed", "succeeded"] == [run.outcome.value for run in repo.runs("trips")]
