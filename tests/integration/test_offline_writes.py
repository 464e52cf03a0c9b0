"""What Feast appends to sources and to logs: `write_to_offline_store`, `push`, `write_logged_features`, and how it is read again."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, Field, PushSource
from feast.data_format import FileFormat
from feast.data_source import PushMode
from feast.dqm.profilers.profiler import Profile, Profiler, ValidationReport
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.saved_dataset import ValidationReference
from feast.types import Float64, Int64, String

from hindcast.errors import InvalidArgument, NotWritable, SourceError, StoreUnavailable
from hindcast.offline.writing import parts
from hindcast.offline.writing.parts import append_parts
from offline_repo import (
    DRIVER,
    NOON,
    UTC_MICROS,
    elsewhere,
    hours,
    offline_of,
    offline_repo,
    source,
    trips,
    view,
    write,
)

LATER = NOON + timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    """An empty repo."""
    with offline_repo(tmp_path / "repo") as opened:
        yield opened


def frame(*rows, **more):
    """Rows as `trips` has them, in pandas."""
    return trips(*rows, **more).to_pandas()


def read(store, of, *features):
    """The rows of a source by Feast's own reading of it."""
    job = offline_of(store).pull_all_from_table_or_query(
        store.config, of, ["driver_id"], list(features or ["trips"]), "event_timestamp"
    )
    return [tuple(row.values()) for row in job.to_arrow().to_pylist()]


def contents(path):
    """Every file below a path, with its bytes."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("path", "file"),
    [("t.parquet", "t.parquet"), ("data", "data/a.parquet"), ("lake", None)],
    ids=["file", "directory", "delta"],
)
def test_rows_are_appended_and_nothing_is_written_anew(store, tmp_path, path, file):
    """`write_to_offline_store` and an offline push add rows from any working directory, and leave every file that is there as it is."""
    of = source(path, delta=file is None)
    if file is None:
        deltalake.write_deltalake(str(tmp_path / "repo/lake"), trips((1, 0, 10)))
    else:
        write(tmp_path / "repo" / file, trips((1, 0, 10)))
    push = PushSource(name="trips_push", batch_source=of)
    store.apply([DRIVER, push, view(push)])
    root = tmp_path / "repo"
    before = {name: content for name, content in contents(root).items() if name.name != "registry.db"}
    with elsewhere(tmp_path):
        store.write_to_offline_store("trips", frame((2, 1, 20), (3, 2, 30)))
        store.push("trips_push", frame((4, 3, 40)), to=PushMode.OFFLINE)

    assert [10, 20, 30, 40] == sorted(row[1] for row in read(store, of))
    assert before.items() <= contents(root).items()
    assert not list(tmp_path.rglob("*.tmp"))


def test_rows_go_into_the_sources_own_columns_and_types(store, tmp_path):
    """Rows come by the view's names and as pandas has them, index and nanoseconds too, and are stored by the source's, cut to its unit."""
    stored = pa.table(
        {
            "driver_id": pa.array([1], pa.int32()),
            "at": pa.array([NOON], pa.timestamp("ms")),
            "n": pa.array([10], pa.int16()),
        }
    )
    write(tmp_path / "repo/t.parquet", stored)
    of = source("t.parquet", field_mapping={"n": "trips"}, timestamp_field="at")
    store.apply([DRIVER, view(of)])
    rows = pd.DataFrame({"driver_id": [2, 3], "at": pd.to_datetime([1_999_999, -1], utc=True), "n": [20, 30]})
    store.write_to_offline_store("trips", rows[rows["driver_id"] > 1].set_axis([7, 9]))
    (part,) = (tmp_path / "repo/t.parquet.parts").iterdir()

    assert stored.schema == pq.read_schema(part)
    assert [1, -1] == pq.read_table(part)["at"].cast(pa.int64()).to_pylist()


def test_what_does_not_fit_is_refused_and_nothing_is_appended(store, tmp_path):
    """A value that the source's type does not hold, and a column that it has not, are refused in its own words, for Parquet and Delta."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    deltalake.write_deltalake(str(tmp_path / "repo/lake"), trips((1, 0, 10)))
    for of in (source("t.parquet"), source("lake", delta=True)):
        batch = view(of)
        for rows, words in (
            (
                trips((2, 0, 20)).set_column(2, "trips", pa.array(["many"])),
                "column 'trips' is string, and is int64 there",
            ),
            (trips((2, 0, 20)).drop_columns(["trips"]), "the source's files have"),
            (trips((2, 0, 20), more=["x"]), "the source's files have"),
        ):
            with pytest.raises(InvalidArgument, match=words):
                offline_of(store).offline_write_batch(store.config, batch, rows, None)
        assert [(1, 10, NOON)] == read(store, of)


def test_a_delta_tables_own_constraint_is_kept(store, tmp_path):
    """Rows that a constraint of a Delta table refuses are the caller's error, and no version is made."""
    path = str(tmp_path / "repo/lake")
    deltalake.write_deltalake(path, trips((1, 0, 10)))
    deltalake.DeltaTable(path).alter.add_constraint({"few": "trips < 100"})
    version = deltalake.DeltaTable(path).version()
    with pytest.raises(InvalidArgument, match="breaks a constraint"):
        offline_of(store).offline_write_batch(store.config, view(source("lake", delta=True)), trips((1, 1, 1000)), None)

    assert version == deltalake.DeltaTable(path).version()


def test_writers_of_a_delta_table_at_once_lose_no_row(store):
    """Those who append to one table at the same time each have their commit."""
    of = source("lake", delta=True)
    append = partial(offline_of(store).offline_write_batch, store.config, view(of))
    append(trips((0, 0, 0)), None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: append(trips((number, 0, number)), None), range(1, 13)))

    assert list(range(13)) == sorted(row[1] for row in read(store, of))


def test_the_first_writers_of_a_delta_table_at_once_lose_no_row(store):
    """Of several who write to a table that is not there yet one makes it, and the others append to it."""
    for attempt in range(3):  # of 17 attempts all failed where the others found a folder without a log
        of = source(f"lake{attempt}", delta=True)
        with ThreadPoolExecutor(3) as pool:
            barrier = Barrier(3)

            def write_first(number, of=of, barrier=barrier):
                barrier.wait()
                offline_of(store).offline_write_batch(store.config, view(of), trips((number, 0, number)), None)

            list(pool.map(write_first, range(3)))
        assert [0, 1, 2] == sorted(row[1] for row in read(store, of))


def test_a_delta_table_of_another_engine_is_refused(store, tmp_path):
    """A table that asks its writers for a feature that deltalake does not have, or that has other names in its files, is not appended to."""
    of, log = source("lake", delta=True), tmp_path / "repo/lake/_delta_log"
    offline_of(store).offline_write_batch(store.config, view(of), trips((1, 0, 10)), None)
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["icebergCompatV2"]}
    (log / f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}))
    with pytest.raises(NotWritable, match="only its own engine"):
        offline_of(store).offline_write_batch(store.config, view(of), trips((1, 1, 11)), None)
    assert [(1, 10, NOON)] == read(store, of)
    (of_before, *_) = (
        json.loads(line) for line in (log / f"{0:020d}.json").read_text().splitlines() if "metaData" in line
    )
    of_before["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
    (log / f"{1:020d}.json").write_text(json.dumps(of_before))
    with pytest.raises(NotWritable, match="only its own engine"):
        offline_of(store).offline_write_batch(store.config, view(of), trips((1, 1, 11)), None)


def test_a_delta_table_has_a_checkpoint_now_and_then(store, tmp_path):
    """Of a table that is appended to a hundred times, the log is read from a checkpoint, and no row is lost."""
    of = source("lake", delta=True)
    for number in range(102):
        offline_of(store).offline_write_batch(store.config, view(of), trips((number, number, number)), None)

    assert (tmp_path / "repo/lake/_delta_log/00000000000000000100.checkpoint.parquet").exists()
    assert list(range(102)) == sorted(row[1] for row in read(store, of))


def test_partitions_of_a_source_are_kept(store, tmp_path):
    """Rows of a source whose folders name columns go into their folders, in Parquet and in Delta."""
    table = trips((1, 0, 10), (2, 0, 20), city=["Köln", "Bonn"])
    append_parts(table, tmp_path / "repo/data", by=["city"], name="first")
    deltalake.write_deltalake(str(tmp_path / "repo/lake"), table, partition_by=["city"])
    for of in (source("data"), source("lake", delta=True)):
        store.apply([DRIVER, view(of, Field(name="trips", dtype=Int64), Field(name="city", dtype=String))])
        store.write_to_offline_store("trips", frame((3, 1, 30), (4, 1, 40), (5, 1, 50), city=["Bonn", None, "a/b=c"]))
        found = {(1, 10, "Köln"), (2, 20, "Bonn"), (3, 30, "Bonn"), (4, 40, None), (5, 50, "a/b=c")}

        assert found == {row[:3] for row in read(store, of, "trips", "city")}
    folders = {folder.name for folder in (tmp_path / "repo/data").iterdir()}
    assert {"city=K%C3%B6ln", "city=Bonn", "city=__HIVE_DEFAULT_PARTITION__", "city=a%2Fb%3Dc"} == folders


def test_the_first_rows_of_a_source_make_it(store):
    """What is appended to a source that is not there yet is its first part, or its first version."""
    for of in (source("t.parquet"), source("data"), source("lake", delta=True)):
        told = []
        offline_of(store).offline_write_batch(store.config, view(of), trips((1, 0, 10), (2, 0, 20)), told.append)

        assert [2] == told
        assert [10, 20] == [row[1] for row in read(store, of)]


class OrcFormat(FileFormat):
    """A format that nobody reads here."""

    def to_proto(self):
        """It is stored nowhere."""


def test_places_that_cannot_be_appended_to_are_refused(store, tmp_path):
    """A pattern, an object store and another format are refused in words that say what to change."""
    asked = {
        "is a pattern": source("data/*.parquet"),
        "is not on this machine": source("s3://bucket/data"),
        "has the format OrcFormat": source("t.orc", file_format=OrcFormat()),
    }
    for words, of in asked.items():
        with pytest.raises(NotWritable, match=words):
            offline_of(store).offline_write_batch(store.config, view(of), trips((1, 0, 10)), None)
    (tmp_path / "repo/lake").mkdir()
    (tmp_path / "repo/lake/theirs").touch()
    with pytest.raises(SourceError, match="is no Delta table"):
        offline_of(store).offline_write_batch(store.config, view(source("lake", delta=True)), trips((1, 0, 10)), None)


def test_a_disk_that_is_full_leaves_no_folder_with_rows(tmp_path, monkeypatch):
    """Where one part of several cannot be written, none of them is seen."""
    writes = []

    def full(table, file):
        writes.append(pq.write_table(table, file))
        if len(writes) == 2:
            raise OSError(28, "no space left")

    monkeypatch.setattr(parts, "pq", type("full", (), {"write_table": staticmethod(full)}))
    with pytest.raises(StoreUnavailable):
        append_parts(trips((1, 0, 1), (2, 0, 2), (3, 0, 3), day=[1, 2, 3]), tmp_path, by=["day"], name="one")

    assert not [entry for entry in tmp_path.rglob("*") if entry.is_file()]


def logs(*rows, **changes):
    """Logs of the service `rides`: (driver, trips, time, request)."""
    drivers, counts, times, requests = zip(*rows, strict=True)
    columns = {
        "driver_id": pa.array(drivers, pa.int64()),
        "trips__trips": pa.array(counts, pa.int64()),
        "trips__trips__timestamp": pa.array([NOON] * len(rows), UTC_MICROS),
        "trips__trips__status": pa.array([1] * len(rows), pa.int32()),
        "__log_timestamp": pa.array(times, UTC_MICROS),
        "__log_date": pa.array([time.date() for time in times]),
        "__request_id": pa.array(requests),
    }
    return pa.table(columns | changes)


def logged_service(store, *fields, **destination):
    """The service `rides` of the view `trips`, with that destination of logs."""
    of = source("t.parquet")
    config = LoggingConfig(destination=FileLoggingDestination(**{"path": "logs"} | destination))
    trips_view = view(of, *fields)
    service = FeatureService(name="rides", features=[trips_view], logging_config=config)
    store.apply([DRIVER, trips_view, service])
    return service


def logged(store, service, start=NOON, end=LATER):
    """What Feast retrieves of a service's logs."""
    provider = store._get_provider()
    return provider.retrieve_feature_service_logs(service, start, end, store.config, store.registry).to_arrow()


@pytest.mark.parametrize(
    "by", [None, ["__log_date"], ["__log_date", "driver_id"]], ids=["plain", "by day", "by day and driver"]
)
@pytest.mark.parametrize("path", ["logs", "logs.parquet"])
def test_logs_come_back_through_feast(store, tmp_path, by, path):
    """Logs from a table and from a folder of files, flush after flush, come back whole by Feast's own retrieval, partitioned or not."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    service = logged_service(store, path=path, partition_by=by)
    write(tmp_path / "flushed/one.parquet", logs((3, 30, hours(3), "c")))
    write(tmp_path / "flushed/two.parquet", logs((4, 40, LATER, "d")))
    with elsewhere(tmp_path):
        store.write_logged_features(logs((1, 10, hours(1), "a"), (2, None, hours(2), "b")), service)
        store.write_logged_features(tmp_path / "flushed", service)
        found = logged(store, service).select(["driver_id", "trips__trips", "__log_date", "__request_id"]).to_pylist()

    day, next_day = NOON.date(), LATER.date()
    expected = [(1, 10, day, "a"), (2, None, day, "b"), (3, 30, day, "c"), (4, 40, next_day, "d")]
    assert expected == sorted(tuple(row.values()) for row in found)
    assert ["a", "b", "c"] == sorted(logged(store, service, end=hours(3))["__request_id"].to_pylist())
    folders = {folder.name for folder in (tmp_path / "repo" / path).iterdir()}
    assert by is None or {"__log_date=2026-03-01", "__log_date=2026-03-02"} == folders


def test_a_feature_that_came_later_is_null_in_older_logs(store, tmp_path):
    """Logs from before a service had a feature are read with nulls in it, as are all while none has it; what it lost stays in the files."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    store.write_logged_features(logs((1, 10, hours(1), "a")), logged_service(store))
    longer = logged_service(store, Field(name="trips", dtype=Int64), Field(name="rating", dtype=Float64))
    assert [None] == logged(store, longer)["trips__rating"].to_pylist()
    store.write_logged_features(logs((2, 20, hours(2), "b"), trips__rating=[4.5]), longer)
    store.write_logged_features(logs((3, 30, hours(3), "c")), longer)

    assert [("a", None), ("b", 4.5), ("c", None)] == [
        (row["__request_id"], row["trips__rating"]) for row in logged(store, longer).to_pylist()
    ]


def test_logs_that_do_not_fit_are_refused(store, tmp_path):
    """Logs without a time, of another type, by a column that they do not have, or to a place that is not here, are refused."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    given = logs((1, 10, NOON, "a"))
    with pytest.raises(InvalidArgument, match="no column '__log_timestamp'"):
        store.write_logged_features(given.drop_columns(["__log_timestamp"]), logged_service(store))
    with pytest.raises(InvalidArgument, match="column 'trips__trips' is string"):
        store.write_logged_features(given.set_column(1, "trips__trips", pa.array(["x"])), logged_service(store))
    with pytest.raises(InvalidArgument, match="names 'town'"):
        store.write_logged_features(given, logged_service(store, partition_by=["town"]))
    with pytest.raises(NotWritable, match="is not on this machine"):
        store.write_logged_features(given, logged_service(store, path="s3://bucket/logs"))
    with pytest.raises(SourceError, match="no Parquet files of logs"):
        store.write_logged_features(tmp_path / "repo" / "nothing", logged_service(store))
    assert not (tmp_path / "repo/logs").exists()


class Few(Profile):
    """Says that there are at most so many rows."""

    def validate(self, dataset):
        """Whether that holds."""
        return Verdict(len(dataset) <= 2)

    def to_proto(self):
        """Nothing is stored."""

    @classmethod
    def from_proto(cls, proto):
        """Nothing was."""


class FewRows(Profiler):
    """Profiles nothing."""

    def analyze_dataset(self, dataset):
        """The one profile."""
        return Few()

    def to_proto(self):
        """Nothing is stored."""

    @classmethod
    def from_proto(cls, proto):
        """Nothing was."""


class Verdict(ValidationReport):
    """Whether a profile held."""

    def __init__(self, is_success):
        self._is_success = is_success

    @property
    def is_success(self):
        """Whether it did."""
        return self._is_success

    @property
    def errors(self):
        """None are told."""
        return []


@pytest.mark.filterwarnings("ignore:(Logged features|Dataset) validation is an experimental feature:RuntimeWarning")
def test_logs_are_validated_by_feast(store, tmp_path, capsys):
    """`validate_logged_features` reads the logs of an interval, and gives the reference's verdict on them."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    service = logged_service(store, partition_by=["__log_date"])
    store.write_logged_features(logs(*[(n, n, hours(n), str(n)) for n in range(4)]), service)
    reference = ValidationReference("few", "nothing", FewRows())
    reference._profile = Few()

    def verdict(end):
        return store.validate_logged_features(service, NOON, end, reference, throw_exception=False, cache_profile=False)

    assert verdict(hours(1)) is None
    assert "2 rows were validated.\n" == capsys.readouterr().out
    assert verdict(hours(2)) is not None


def test_sources_are_described_and_looked_at(store, tmp_path, caplog):
    """Columns and types are told of every kind of source from any working directory, and `feast apply` infers a view from them; what is wrong is a warning."""
    table = trips((1, 0, 10), kind=pa.array(["x"]).dictionary_encode(), nothing=pa.nulls(1))
    write(tmp_path / "repo/data/day=2026-03-01/a.parquet", table)
    write(tmp_path / "repo/data/day=2026-03-02/b.parquet", table.set_column(4, "nothing", pa.array([1.5])))
    deltalake.write_deltalake(str(tmp_path / "repo/lake"), trips((1, 0, 10)))
    inferred = source("data/*/*.parquet", name="inferred")
    plain = {"driver_id": "int64", "event_timestamp": "timestamp[us, tz=UTC]", "trips": "int64"}
    columns = {**plain, "kind": "string", "nothing": "double", "day": "date32[day]"}
    with elsewhere(tmp_path):
        for of, expected in ((source("data"), columns), (inferred, columns), (source("lake", delta=True), plain)):
            described = offline_of(store).get_table_column_names_and_types_from_data_source(store.config, of)
            assert expected == dict(described)
            offline_of(store).validate_data_source(store.config, of)
        assert [] == [record for record in caplog.records if record.name.startswith("hindcast")]
        offline_of(store).validate_data_source(store.config, source("nowhere.parquet"))
        offline_of(store).validate_data_source(store.config, source("lake", delta=True, timestamp_field="when"))
        store.apply([DRIVER, view(source("lake", delta=True, name="lake"), schema=[])])

    told = [record.getMessage() for record in caplog.records if record.name.startswith("hindcast")]
    assert ["does not exist" in told[0], "has no column 'when'" in told[1], len(told)] == [True, True, 2]
    assert ["trips"] == [field.name for field in store.get_feature_view("trips").features]
