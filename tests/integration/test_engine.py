"""Materialization through Feast with the streaming engine: from files of every sort into a real Redis, and back out."""

import contextlib
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import deltalake
import pandas as pd
import pyarrow as pa
import pytest
from feast import BatchFeatureView, Entity, FeatureStore, FeatureView, Field, FileSource, KafkaSource, RepoConfig
from feast.aggregation import Aggregation
from feast.batch_feature_view import batch_feature_view
from feast.data_format import DeltaFormat, JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.stream_feature_view import StreamFeatureView
from feast.types import Array, Float64, Int64, String
from feast.value_type import ValueType
from redis.cluster import RedisCluster

from engine_repo import AS_OF, END, NOW, PACKED, START, STREAMING, UTC_MICROS, engine_repo, hours_ago, table
from faults.deployments import run_cluster
from hindcast.clock import to_micros
from hindcast.errors import HindcastError, InvalidArgument, LedgerError
from hindcast.materialize.runs import Outcome
from hindcast.offline.location import source_files
from hindcast.online.embedded import EmbeddedRedis
from hindcast_client import Client
from services import run_hindcast, run_redis, wait_for
from twins import close

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
BY_KEY = Entity(name="driver_id", join_keys=["driver_id"], value_type=ValueType.INT64)
"""Named as its join key: Feast groups by the names of entities."""

CITY = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)
TTL = timedelta(days=90)

pytestmark = pytest.mark.filterwarnings("ignore:(Batch|Stream) feature views are experimental:RuntimeWarning")


@pytest.fixture(scope="module")
def client(redis):
    """A client of it."""
    with contextlib.closing(redis.client()) as client:
        yield client


@pytest.fixture
def new_repo(tmp_path, redis, client):
    """Makes repos on that Redis, by name and settings."""
    with contextlib.ExitStack() as stack:

        def make(name="repo", **settings):
            return stack.enter_context(engine_repo(tmp_path / name, redis.connection_string, client, **settings))

        yield make


@pytest.fixture
def repo(new_repo):
    """One with the usual settings."""
    return new_repo()


def source(path, name=None, **options):
    """A file with the usual columns of time."""
    usual = {"timestamp_field": "event_ts", "created_timestamp_column": "created_ts"}
    return FileSource(name=name or Path(path).stem, path=str(path), **{**usual, **options})


def view(name, data, *, entities=(DRIVER,), features=None, kind=FeatureView, **options):
    """A view of whole numbers by driver, unless told otherwise."""
    keys = {entity.name: Field(name="driver_id", dtype=Int64) for entity in (DRIVER, BY_KEY)}
    keys |= {"city": Field(name="city", dtype=String)}
    schema = [keys[entity.name] for entity in entities]
    schema += [Field(name=feature, dtype=dtype) for feature, dtype in (features or {"trips": Int64}).items()]
    return kind(name=name, entities=list(entities), schema=schema, source=data, **{"ttl": TTL, **options})


def kafka(batch_source):
    """A stream that nothing reads, whose past is in a file."""
    return KafkaSource(
        name="kafka",
        kafka_bootstrap_servers="127.0.0.1:1",
        topic="rides",
        timestamp_field="event_ts",
        batch_source=batch_source,
        message_format=JsonFormat("driver_id long"),
        watermark_delay_threshold=timedelta(minutes=5),
    )


def trips(*rows):
    """Rows of (driver, trips, hours since it was true)."""
    drivers, counts, hours = zip(*rows, strict=True)
    events = [hours_ago(hour) for hour in hours]
    return {"driver_id": drivers, "trips": counts, "event_ts": events, "created_ts": events}


def applied(repo, *rows, name="ride", path="rides.parquet", **options):
    """A view of such rows, applied."""
    repo.write(path, trips(*rows))
    repo.apply(DRIVER, view(name, source(path), **options))


def doubling(path):
    """A view that Feast computes in pandas."""

    @batch_feature_view(
        entities=[BY_KEY],
        schema=[Field(name="driver_id", dtype=Int64), Field(name="doubled_trips", dtype=Int64)],
        mode="pandas",
        source=source(path),
        offline=False,
        ttl=TTL,
    )
    def doubled(frame):
        frame["doubled_trips"] = frame["trips"] * 2
        return frame

    return doubled


# What a source may look like


@pytest.mark.parametrize("timestamp_field", ["at", "event_ts"])
def test_columns_go_by_other_names_in_the_source(repo, timestamp_field):
    """Keys, features and both times are found under the source's names for them, whichever name the source gives its own times."""
    path = repo.write(
        "s.parquet",
        {
            "id": [1, 1, 2],
            "n": [10, 11, 20],
            "at": [hours_ago(2), hours_ago(2), hours_ago(3)],
            "known": [hours_ago(1), hours_ago(1.5), hours_ago(1)],
            "trips": [-1, -1, -1],
        },
    )
    mapping = {"id": "driver_id", "n": "rides", "at": "event_ts", "known": "created_ts"}
    created = "known" if timestamp_field == "at" else "created_ts"
    data = source(path, timestamp_field=timestamp_field, created_timestamp_column=created, field_mapping=mapping)
    repo.apply(DRIVER, view("ride", data, features={"rides": Int64}))
    repo.materialize()

    assert {1: {"rides": 10}, 2: {"rides": 20}} == repo.values("ride")
    assert to_micros(hours_ago(1)) == repo.rows("ride")[1].packed.created_micros


def test_a_view_without_entities_has_one_row(repo):
    """Without entities the newest row of all is stored."""
    applied(repo, (1, 10, 5), (2, 20, 1), (3, 30, 2), entities=())
    repo.materialize()

    assert {(): {"trips": 20}} == repo.values("ride")


def test_composite_keys_are_told_apart_and_null_ones_counted(repo, capsys):
    """Rows are by the whole key, in whatever order the view names its entities; a null in any part is skipped, counted and printed."""
    path = repo.write(
        "s.parquet",
        {
            "city": ["a", "a", "b", None, "b", "a"],
            "driver_id": pa.array([1, 2, 1, 1, None, 1]),
            "trips": [1, 2, 3, 4, 5, 6],
            "event_ts": [hours_ago(hour) for hour in (9, 8, 7, 6, 5, 4)],
        },
    )
    repo.apply(DRIVER, CITY, view("ride", source(path, created_timestamp_column=""), entities=(DRIVER, CITY)))
    repo.materialize()

    assert {("a", 1): 6, ("a", 2): 2, ("b", 1): 3} == {key: row["trips"] for key, row in repo.values("ride").items()}
    (run,) = repo.runs("ride")
    assert (2, 3, 0) == (run.rows_null_key, run.rows_written, run.rows_older)
    assert "ride: 3 rows written, 2 skipped for a null join key" in capsys.readouterr().out
    asked = repo.store.get_online_features(["ride:trips"], {"driver_id": [1, 2], "city": ["b", "b"]})
    assert [3, None] == asked.to_dict()["trips"]


def test_a_key_that_pandas_left_out_is_a_null_one(repo):
    """A join key column that pandas made floating, with NaN for a null, is stored by its whole numbers; the others are skipped and counted."""
    path = repo.write(
        "s.parquet",
        {
            "driver_id": pa.array([1.0, float("nan"), 2.0]),
            "trips": [1, 2, 3],
            "event_ts": [hours_ago(hour) for hour in (3, 2, 1)],
        },
    )
    repo.apply(DRIVER, view("ride", source(path, created_timestamp_column="")))
    repo.materialize()

    assert {1: {"trips": 1}, 2: {"trips": 3}} == repo.values("ride")
    (run,) = repo.runs("ride")
    assert (1, 2) == (run.rows_null_key, run.rows_written)


def test_a_run_repeated_leaves_its_rows_alone(repo, capsys):
    """Rows that are stored already are counted as unchanged and name the run that wrote them, and a new TTL moves their expiry."""
    applied(repo, (1, 10, 1), (2, 20, 2), ttl=TTL)
    repo.materialize()
    before = repo.rows("ride")
    repo.write("rides.parquet", trips((1, 11, 0.5), (2, 20, 2), (3, 30, 3)))
    repo.apply(DRIVER, view("ride", source("rides.parquet"), ttl=2 * TTL))
    capsys.readouterr()
    repo.materialize()

    again, first = repo.runs("ride")
    assert (2, 1, 0) == (again.rows_written, again.rows_unchanged, again.rows_older)
    assert "ride: 2 rows written, 1 unchanged; read 3 in " in capsys.readouterr().out
    after = repo.rows("ride")
    wrote = {key: row.packed.run_id.hex() for key, row in after.items()}
    assert {1: again.run_id, 2: first.run_id, 3: again.run_id} == {key: str(UUID(wrote[key])) for key in wrote}
    assert before[2].packed == after[2].packed
    assert TTL.total_seconds() == pytest.approx((after[2].expires_at_ms - before[2].expires_at_ms) / 1000, abs=5)


def test_views_of_one_call_have_runs_of_their_own(repo):
    """Each view has its own record, its rows carry that record's id, and all watermarks move."""
    repo.write("s.parquet", trips((1, 10, 1), (2, 20, 2)))
    repo.apply(DRIVER, *(view(f"v{at}", source("s.parquet"), features={"trips": Int64}) for at in range(3)))
    repo.materialize()

    runs = {run.view: run for run in repo.runs()}
    assert {"v0", "v1", "v2"} == runs.keys()
    assert 3 == len({run.run_id for run in runs.values()})
    for name, run in runs.items():
        assert {run.run_id.replace("-", "")} == {row.packed.run_id.hex() for row in repo.rows(name).values()}
        assert (Outcome.SUCCEEDED, START, END) == (run.outcome, run.start, run.end)
        assert [(START, END)] == repo.watermark(name)


def test_versions_of_a_view_have_rows_of_their_own(new_repo):
    """Each version is materialized where its rows lie, by its own fields, and an old one can be, by number."""
    repo = new_repo(registry={"path": "registry.db", "enable_online_feature_view_versioning": True})
    path = repo.write("s.parquet", {**trips((1, 10, 1)), "more": ["x"]})
    repo.apply(DRIVER, view("ride", source(path)))
    repo.apply(DRIVER, view("ride", source(path), features={"trips": Int64, "more": String}))
    repo.materialize()

    assert {} == repo.values("ride")
    assert {1: {"trips": 10, "more": "x"}} == repo.values("ride_v1")
    repo.store.materialize(START, END, feature_views=["ride"], version="v0")
    assert {1: {"trips": 10}} == repo.values("ride")
    assert {"ride"} == {run.view for run in repo.runs()}
    asked = repo.store.get_online_features(["ride@v0:trips", "ride@v1:more"], [{"driver_id": 1}]).to_dict()
    assert ([10], ["x"]) == (asked["trips"], asked["more"])


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("us"), pa.timestamp("ms", "America/New_York"), pa.timestamp("ns", "Asia/Kolkata"), pa.timestamp("s")],
    ids=str,
)
def test_times_are_instants(repo, kind):
    """Naive times are UTC and zoned ones what they are, in rows and in the interval, both of whose ends are in it."""
    moments = [hours_ago(hour) for hour in (6, 5, 4)]
    events = pa.array(moments, UTC_MICROS).cast(
        pa.timestamp(kind.unit, kind.tz) if kind.tz else pa.timestamp("us", "UTC")
    )
    events = events if kind.tz else events.cast(pa.timestamp("us")).cast(kind)
    path = repo.write("s.parquet", {"driver_id": [1, 2, 3], "trips": [10, 20, 30], "event_ts": events})
    repo.apply(DRIVER, view("ride", source(path, created_timestamp_column="")))
    repo.materialize(start=hours_ago(5).replace(tzinfo=None), end=hours_ago(4).astimezone())

    expected = {2: (20, to_micros(hours_ago(5))), 3: (30, to_micros(hours_ago(4)))}
    rows = repo.rows("ride")
    assert expected == {key: (row.python()["trips"], row.packed.event_micros) for key, row in rows.items()}
    assert [None, None] == [row.packed.created_micros for row in rows.values()]


def test_sources_of_many_files_are_served(repo):
    """A folder, a pattern, hive partitions and a Delta table come out of `hindcast serve` with their newest rows, without entities too."""
    repo.write("folder/a.parquet", trips((1, 10, 5), (2, 20, 5)))
    repo.write("folder/deep/b.parquet", trips((1, 11, 4)))
    repo.write("pattern/x1.parquet", trips((1, 12, 5)))
    repo.write("pattern/x2.parquet", trips((2, 22, 5)))
    repo.write("pattern/y.parquet", trips((2, 23, 4)))
    repo.write("hive/region=north/year=2024/a.parquet", trips((1, 13, 5), (2, 24, 3)))
    repo.write("hive/region=south/year=2025/a.parquet", trips((1, 14, 4)))
    deltalake.write_deltalake(str(repo.root / "delta"), table(**trips((1, 15, 5), (2, 25, 5))))
    deltalake.write_deltalake(str(repo.root / "delta"), table(**trips((1, 16, 4))), mode="append")
    regions = {"trips": Int64, "region": String, "year": Int64}
    repo.apply(
        DRIVER,
        view("folder", source("folder")),
        view("pattern", source("pattern/x*.parquet", name="pattern")),
        view("hive", source("hive"), features=regions),
        view("delta", source("delta", file_format=DeltaFormat())),
        view("total", source("folder", name="total"), entities=()),
    )
    repo.materialize()

    features = ["folder:trips", "pattern:trips", "hive:trips", "hive:region", "hive:year", "delta:trips", "total:trips"]
    with run_hindcast(repo.root) as server, Client(server.address) as client:
        found = client.get_online_features(
            features=features, entities={"driver_id": [1, 2]}, full_feature_names=True
        ).to_dict()
    assert {
        "driver_id": [1, 2],
        "folder__trips": [11, 20],
        "pattern__trips": [12, 22],
        "hive__trips": [14, 24],
        "hive__region": ["south", "north"],
        "hive__year": [2025, 2024],
        "delta__trips": [16, 25],
        "total__trips": [11, 11],
    } == {name: found[name] for name in found if name == "driver_id" or "__" in name}
    assert {"folder": 2, "pattern": 2, "hive": 2, "delta": 1, "total": 2} == {
        run.view: len(run.sources) for run in repo.runs()
    }
    assert [1] == [source.delta_version for run in repo.runs("delta") for source in run.sources]


# What is left out


def test_rows_dated_ahead_are_quarantined(repo, capsys):
    """Rows dated ahead are kept in a file that the record and the printed summary name and count, and the older rows win."""
    applied(repo, (1, 10, 1), (1, 11, -2), (2, 21, -3), (3, 30, 2))
    repo.materialize()

    (run,) = repo.runs("ride")
    assert {1: {"trips": 10}, 3: {"trips": 30}} == repo.values("ride")
    assert (2, 2) == (run.rows_quarantined, run.rows_written)
    assert [11, 21] == sorted(pd.read_parquet(run.quarantine)["trips"])
    assert f"2 dated too far ahead, kept in {run.quarantine}" in capsys.readouterr().out


@pytest.mark.parametrize("look_back", [0, 7200])
def test_a_late_row_is_found_by_looking_back(new_repo, look_back):
    """A row that came after a run, dated before its end, is found by the next incremental run if that looks back, and only then."""
    repo = new_repo(batch_engine={**STREAMING, "look_back_seconds": look_back})
    applied(repo, (1, 10, 4), (2, 20, 4))
    repo.store.materialize_incremental(hours_ago(2))
    repo.write("rides.parquet", trips((1, 10, 4), (2, 20, 4), (1, 11, 3), (2, 21, 1)))
    repo.store.materialize_incremental(NOW)

    assert {1: {"trips": 11 if look_back else 10}, 2: {"trips": 21}} == repo.values("ride")
    newest, _ = repo.runs("ride")
    assert hours_ago(2) - timedelta(seconds=look_back) == newest.start
    assert hours_ago(2) == max(start for start, _ in repo.watermark("ride"))


def test_a_view_that_is_not_online_is_not_stored(repo):
    """A view with online=False and offline=True, which Feast lets materialize, has no row in Redis."""
    applied(repo, (1, 10, 4), online=False, offline=True)
    repo.materialize("ride")

    assert {} == repo.values("ride")
    assert [Outcome.SUCCEEDED] == [run.outcome for run in repo.runs("ride")]


@pytest.mark.parametrize("length", [3, 0])
def test_vectors_of_another_length_are_refused(repo, length):
    """A vector of another length than declared, or than the others where none is, ends the run, which says so in its record."""
    path = repo.write("s.parquet", {**trips((1, 10, 4), (2, 20, 3)), "place": [[1.0, 2.0, 3.0], [1.0, 2.0]]})
    ride = view("ride", source(path), features={"trips": Int64})
    ride.schema.append(place := Field(name="place", dtype=Array(Float64), vector_index=True, vector_length=length))
    ride.features.append(place)
    repo.apply(DRIVER, ride)

    with pytest.raises(InvalidArgument, match="place: holds a vector of another length"):
        repo.materialize()
    assert ["place: holds a vector of another length"] == [run.error[:39] for run in repo.runs()]
    assert {} == repo.rows("ride")


def test_a_view_that_feast_computes_looks_back_too(new_repo):
    """Views that go Feast's own way begin as far back as streamed ones, as their records say."""
    repo = new_repo(batch_engine={**STREAMING, "look_back_seconds": 7200})
    path = repo.write("s.parquet", trips((1, 10, 4), (2, 20, 4)))
    repo.apply(BY_KEY, doubling(path))
    repo.store.materialize_incremental(hours_ago(2))
    repo.write(path, trips((1, 10, 4), (2, 20, 4), (1, 11, 3)))
    repo.store.materialize_incremental(NOW)

    assert {1: {"doubled_trips": 22}, 2: {"doubled_trips": 40}} == repo.values("doubled")
    assert hours_ago(4) == repo.runs("doubled")[0].start


# Kinds of views


def test_a_view_that_is_offline_too_is_not_appended_to_its_own_source(new_repo):
    """With offline=True Feast's engine appends the newest rows to the file that they come from, and fails; here the file stays as it is."""
    options = {"feasts": {"batch_engine": {"type": "local"}, "offline_store": {"type": "duckdb"}}, "ours": {}}
    for name, settings in options.items():
        repo = new_repo(name, **settings)
        path = repo.write("rides.parquet", trips((1, 10, 4), (1, 11, 3), (2, 20, 4)))
        before = (repo.root / path).read_bytes()
        repo.apply(DRIVER, view("ride", source(repo.root / path), offline=True))
        with pytest.raises(ValueError, match="incorrect columns") if settings else contextlib.nullcontext():
            repo.materialize()

    assert {1: {"trips": 11}, 2: {"trips": 20}} == repo.values("ride")
    assert before == (repo.root / path).read_bytes()
    assert ["rides.parquet"] == [source.name for source in source_files(repo.root / path)]


def test_batch_and_stream_views_without_transformation_are_streamed(repo):
    """A batch view and a stream view that transform nothing are streamed: their records have counts and sources."""
    path = repo.write("s.parquet", trips((1, 10, 4), (1, 11, 3), (2, 20, 4)))
    repo.apply(
        DRIVER,
        view("batch", source(path), kind=BatchFeatureView, online=True),
        view("stream", kafka(source(path)), kind=StreamFeatureView),
    )
    repo.materialize()

    for name in ("batch", "stream"):
        (run,) = repo.runs(name)
        # Feast counts the keys of a stream view among its features.
        assert {1: 11, 2: 20} == {key: values["trips"] for key, values in repo.values(name).items()}
        assert (3, 2, 1) == (run.rows_read, run.rows_written, len(run.sources))


def test_views_that_compute_go_feasts_way_and_are_on_record(repo):
    """A view with a transformation in pandas and one with aggregations are computed by Feast, stored, and on record without counts."""
    path = repo.write("s.parquet", trips((1, 10, 4), (1, 11, 3), (2, 20, 4)))

    doubled = doubling(path)
    sums = [
        Aggregation(column="trips", function="sum", name="trips"),
        Aggregation(column="event_ts", function="max", name="event_ts"),
        Aggregation(column="created_ts", function="max", name="created_ts"),
    ]
    summed = view(
        "summed",
        kafka(source(path)),
        entities=(BY_KEY,),
        kind=StreamFeatureView,
        aggregations=sums,
        timestamp_field="event_ts",
    )
    repo.apply(BY_KEY, doubled, summed)
    repo.materialize()

    assert {1: {"doubled_trips": 22}, 2: {"doubled_trips": 40}} == repo.values("doubled")
    assert {1: 21, 2: 20} == {key: values["trips"] for key, values in repo.values("summed").items()}
    for name in ("doubled", "summed"):
        (run,) = repo.runs(name)
        assert (Outcome.SUCCEEDED, 0, 0, ()) == (run.outcome, run.rows_read, run.rows_written, run.sources)
        assert {run.run_id.replace("-", "")} == {row.packed.run_id.hex() for row in repo.rows(name).values()}
        assert [(START, END)] == repo.watermark(name)


def test_an_on_demand_view_that_is_stored_is_served_as_by_feast(new_repo, redis):
    """What Feast stores of an on-demand view after it is read back as from Feast's own engine and store."""
    answers = []
    for name, settings in (
        ("ours", {}),
        (
            "feasts",
            {
                "batch_engine": {"type": "local"},
                "online_store": {"type": "redis", "connection_string": f"{redis.connection_string},db=3"},
            },
        ),
    ):
        repo = new_repo(name, **settings)
        path = repo.write("rides.parquet", trips((1, 10, 4), (1, 11, 3), (2, 20, 4)))
        ride = view("ride", source(repo.root / path))

        @on_demand_feature_view(
            sources=[ride],
            entities=[DRIVER],
            schema=[Field(name="half", dtype=Float64)],
            mode="pandas",
            write_to_online_store=True,
        )
        def halved(inputs):
            return pd.DataFrame({"half": inputs["trips"] / 2})

        repo.apply(DRIVER, ride, halved)
        repo.materialize()
        asked = repo.store.get_online_features(["halved:half", "ride:trips"], {"driver_id": [1, 2, 3]}).to_dict()
        answers.append(asked)

    assert [5.5, 10.0, None] == answers[1]["half"]
    assert answers[1] == answers[0]


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_feasts_own_stores_work_with_this_engine(new_repo, redis, kind):
    """With an online store of Feast's the engine materializes Feast's way, from Feast's own offline store too, and keeps a record."""
    online = {
        "redis": {"type": "redis", "connection_string": f"{redis.connection_string},db=2"},
        "sqlite": {"type": "sqlite", "path": "online.db"},
    }[kind]
    repo = new_repo(online_store=online, offline_store={"type": "duckdb"})
    path = repo.write("rides.parquet", trips((1, 10, 4), (1, 11, 3), (2, 20, 4)))
    repo.apply(DRIVER, view("ride", source(repo.root / path)))
    repo.materialize()

    asked = repo.store.get_online_features(["ride:trips"], {"driver_id": [1, 2]}).to_dict()
    assert [11, 20] == asked["trips"]
    assert [Outcome.SUCCEEDED] == [run.outcome for run in repo.runs("ride")]
    assert {} == repo.rows("ride")


# The ledger


def test_without_a_ledger_nothing_is_written(repo):
    """Where the run cannot be put on record at its beginning, nothing is written, and the watermark stays."""
    applied(repo, (1, 10, 4))
    (repo.root / "runs").write_text("a file where the ledger should be")

    with pytest.raises(LedgerError, match=str(repo.root / "runs")):
        repo.materialize()
    assert {} == repo.rows("ride")
    assert [] == repo.watermark("ride")


def test_a_run_whose_end_is_not_on_record_has_failed(tmp_path):
    """Where the ledger is gone by the end of a run, the error says so and the watermark stays; run again, all is well."""
    with (
        run_redis() as redis,
        contextlib.closing(redis.client()) as client,
        engine_repo(tmp_path / "repo", redis.connection_string, client) as repo,
    ):
        applied(repo, (1, 10, 4))
        errors = []

        def run():
            try:
                repo.materialize()
            except HindcastError as error:
                errors.append(error)

        redis.pause()
        running = threading.Thread(target=run)
        running.start()
        wait_for(lambda: repo.runs("ride"), what="a run on record")
        (repo.root / "runs").rename(repo.root / "aside")
        (repo.root / "runs").write_text("a file where the ledger should be")
        redis.resume()
        running.join(60)

        assert [LedgerError] == [type(error) for error in errors]
        assert str(repo.root / "runs") in str(errors[0])
        assert [] == repo.watermark("ride")
        (repo.root / "runs").unlink()
        (repo.root / "aside").rename(repo.root / "runs")
        repo.materialize()
        assert {1: {"trips": 10}} == repo.values("ride")
        assert [(START, END)] == repo.watermark("ride")


# Where it runs


def test_a_repo_without_a_file_of_settings(tmp_path, redis, client):
    """A RepoConfig that was made in Python, with no feature_store.yaml anywhere, is enough, with or without a path of a repo."""
    for at, repo_path in enumerate((tmp_path / "a", None)):
        root = tmp_path / "abc"[at]
        root.mkdir()
        config = RepoConfig(
            project=f"python{at}",
            provider="local",
            registry=str(root / "registry.db"),
            batch_engine=STREAMING,
            offline_store=AS_OF,
            online_store={"type": PACKED, "connection_string": redis.connection_string},
            entity_key_serialization_version=3,
            repo_path=repo_path,
        )
        with contextlib.chdir(root):
            store = FeatureStore(config=config)
            pa.parquet.write_table(table(**trips((1, 10, 4))), root / "rides.parquet")
            store.apply([DRIVER, view("ride", source(root / "rides.parquet"))])
            store.materialize(START, END)
            assert [10] == store.get_online_features(["ride:trips"], [{"driver_id": 1}]).to_dict()["trips"]
            assert 1 == len(list(client.scan_iter(match=f"hc:python{at}:ride:*")))
            assert (root / "runs").is_dir()
            close(store)


def test_a_registry_in_sql(new_repo):
    """With a registry in a SQL database the watermark moves there, and the ledger lies in the state directory."""
    repo = new_repo(registry={"registry_type": "sql", "path": "sqlite:///registry.sqlite"})
    with contextlib.chdir(repo.root):
        applied(repo, (1, 10, 4))
        repo.materialize()

        assert {1: {"trips": 10}} == repo.values("ride")
        assert [(START, END)] == repo.watermark("ride")
        assert [Outcome.SUCCEEDED] == [run.outcome for run in repo.runs()]
    assert (repo.root / ".hindcast" / "runs").is_dir()


def test_the_embedded_redis_is_filled(new_repo):
    """With the embedded Redis the engine starts it, and its rows are read back."""
    repo = new_repo(online_store={"type": PACKED})
    applied(repo, (1, 10, 4))
    try:
        repo.materialize()
        asked = repo.store.get_online_features(["ride:trips"], [{"driver_id": 1}]).to_dict()
    finally:
        EmbeddedRedis.of_repo(repo.root).stop()

    assert [10] == asked["trips"]


def test_a_cluster_gets_the_rows_that_one_server_gets(new_repo, tmp_path):
    """The same run leaves on a Redis Cluster, over all of its nodes, the rows that it leaves on one server."""
    rows = [(driver, driver * 10 + hour, hour) for driver in range(200) for hour in (3, 5)]
    alone = new_repo("alone")
    applied(alone, *rows)
    alone.materialize()
    with run_cluster() as cluster:
        client = RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
        online = {"type": PACKED, "redis_type": "redis_cluster", "connection_string": cluster.connection_string}
        with engine_repo(tmp_path / "over", "", client, online_store=online) as over:
            applied(over, *rows)
            over.materialize()
            stored = {key: (row.python(), row.packed.event_micros) for key, row in over.rows("ride").items()}
            counts = [node.dbsize() for node in cluster.clients]
        client.close()

    assert {key: (row.python(), row.packed.event_micros) for key, row in alone.rows("ride").items()} == stored
    assert 200 == len(stored)
    assert min(counts) > 0


HOLDER = """
import sys
from pathlib import Path
from uuid import UUID
from hindcast.offline.spill import spill_directory
with spill_directory(Path(sys.argv[1]), prefix="run-") as spilled:
    (spilled / "keys.tmp").write_text("spilled")
    print(spilled.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_spilled_is_cleared(repo):
    """What runs left whose processes are gone is cleared by the next run; what a living one has, or somebody else, is not."""
    applied(repo, (1, 10, 4))
    spill = repo.root / ".hindcast" / "spill"
    (spill / "somebody's").mkdir(parents=True)
    command, pipes = [sys.executable, "-c", HOLDER, str(spill)], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as living, subprocess.Popen(command, **pipes) as killed:
        names = [holder.stdout.readline().decode().strip() for holder in (living, killed)]
        assert sorted([*names, "somebody's"]) == sorted(path.name for path in spill.iterdir())
        killed.kill()
        killed.wait()
        repo.materialize()
        assert sorted([names[0], "somebody's"]) == sorted(path.name for path in spill.iterdir())
        assert "spilled" == (spill / names[0] / "keys.tmp").read_text()
