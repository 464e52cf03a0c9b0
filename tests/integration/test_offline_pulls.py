"""What Feast reads from a source as such, through the offline store: every row, or the newest of each key."""

from datetime import datetime, timedelta

import deltalake
import pyarrow as pa
import pytest
from feast import BatchFeatureView, BigQuerySource, Field
from feast.types import Int64

from hindcast.errors import SourceError
from hindcast.offline.writing.parts import append_part
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

pytestmark = pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")


EARLY, LATE = hours(-99), hours(99)


@pytest.fixture
def store(tmp_path):
    """An empty repo."""
    with offline_repo(tmp_path / "repo") as opened:
        yield opened


def pull_all(
    store, of, features=("trips",), *, keys=("driver_id",), event="event_timestamp", created=None, start=None, end=None
):
    """The job of `pull_all_from_table_or_query`."""
    return offline_of(store).pull_all_from_table_or_query(
        store.config, of, list(keys), list(features), event, created, start, end
    )


def pull_latest(
    store,
    of,
    features=("trips",),
    *,
    keys=("driver_id",),
    event="event_timestamp",
    created=None,
    start=EARLY,
    end=LATE,
):
    """The job of `pull_latest_from_table_or_query`."""
    return offline_of(store).pull_latest_from_table_or_query(
        store.config, of, list(keys), list(features), event, created, start, end
    )


def rows(job):
    """The rows as tuples."""
    return [tuple(row.values()) for row in job.to_arrow().to_pylist()]


SOURCES = {
    "file": ("data/trips.parquet", ["data/trips.parquet"]),
    "directory": ("data/trips", ["data/trips/a.parquet", "data/trips/below/b.parquet"]),
    "pattern": ("data/*/trips.parquet", ["data/a/trips.parquet", "data/b/trips.parquet"]),
    "folders": ("data/trips", ["data/trips/day=1/a.parquet", "data/trips/day=2/a.parquet"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_parquet_source_is_pulled(store, tmp_path, kind):
    """A file, a directory, a pattern and folders that name columns give all their rows in order, and the newest of each driver, from any working directory."""
    path, files = SOURCES[kind]
    halves = [trips((1, 0, 10), (2, 1, 20)), trips((1, 2, 11), (3, -1, 30))]
    for file, half in zip(files, halves if len(files) == 2 else [pa.concat_tables(halves)], strict=True):
        write(tmp_path / "repo" / file, half)
    found = [(1, 10, hours(0)), (2, 20, hours(1)), (1, 11, hours(2)), (3, 30, hours(-1))]
    with elsewhere(tmp_path):
        assert found == rows(pull_all(store, source(path)))
        assert found[1:] == rows(pull_latest(store, source(path)))


def test_columns_that_folders_name_are_pulled(store, tmp_path):
    """A column that only the folders name is pulled like any other, and is one of all columns."""
    write(tmp_path / "repo/data/day=1/a.parquet", trips((1, 0, 10)))
    write(tmp_path / "repo/data/day=2/a.parquet", trips((1, 1, 11)))

    assert [(1, 1, hours(0)), (1, 2, hours(1))] == rows(pull_all(store, source("data"), ["day"]))
    assert [(1, 11, 2, hours(1))] == rows(pull_latest(store, source("data"), []))


def test_parts_that_were_pushed_are_pulled(store, tmp_path):
    """Parts beside a file come after it, and win a tie."""
    append_part(trips((1, 0, 99)), write(tmp_path / "repo/trips.parquet", trips((1, 0, 10))), name="a")

    assert [10, 99] == [row[1] for row in rows(pull_all(store, source("trips.parquet")))]
    assert [(1, 99, hours(0))] == rows(pull_latest(store, source("trips.parquet")))


def test_rows_that_a_delta_table_deleted_are_not_pulled(store, tmp_path):
    """A Delta table is read at its newest version."""
    path = tmp_path / "repo/lake"
    deltalake.write_deltalake(str(path), trips((1, 0, 10), (1, 1, 11), (2, 0, 20)))
    deltalake.DeltaTable(str(path)).delete("trips = 11")

    assert [10, 20] == sorted(row[1] for row in rows(pull_all(store, source("lake", delta=True))))
    assert {(1, 10, hours(0)), (2, 20, hours(0))} == set(rows(pull_latest(store, source("lake", delta=True))))


def test_both_ends_are_closed_to_the_microsecond(store, tmp_path):
    """A row at either end of the interval is in it, and one a microsecond beyond is not; an end that is not given is open."""
    micro = timedelta(microseconds=1) / timedelta(hours=1)
    write(tmp_path / "repo/t.parquet", trips((1, -micro, 1), (2, 0, 2), (3, 5, 3), (4, 5 + micro, 4), (5, None, 5)))
    of = source("t.parquet")

    assert [2, 3] == [row[1] for row in rows(pull_all(store, of, start=NOON, end=hours(5)))]
    assert [2, 3] == [row[1] for row in rows(pull_latest(store, of, start=NOON, end=hours(5)))]
    assert [2, 3, 4] == [row[1] for row in rows(pull_all(store, of, start=NOON))]
    assert [1, 2, 3] == [row[1] for row in rows(pull_all(store, of, end=hours(5)))]
    assert [1, 2, 3, 4, 5] == [row[1] for row in rows(pull_all(store, of))]


def test_times_without_a_zone_are_utc(store, tmp_path):
    """Naive times of the source, and naive ends of the interval, are UTC; the answer's times have the zone, rounded down to microseconds."""
    naive = pa.array([1_772_366_400_000_000_999, -1, None], pa.timestamp("ns"))
    write(tmp_path / "repo/t.parquet", pa.table({"driver_id": [1, 2, 3], "at": naive, "trips": [1, 2, 3]}))
    noon = NOON.replace(tzinfo=None)
    found = pull_all(store, source("t.parquet"), event="at", start=noon, end=noon).to_arrow()

    assert UTC_MICROS == found.schema.field("at").type
    assert [(1, 1, NOON)] == [tuple(row.values()) for row in found.to_pylist()]
    before = datetime(1969, 12, 31)  # noqa: DTZ001 - it is what is tested
    assert [2] == [
        row[0]
        for row in rows(pull_latest(store, source("t.parquet"), event="at", start=before, end=noon - timedelta(1)))
    ]


def test_the_newest_is_decided_by_a_total_order(store, tmp_path):
    """Of equal event times the later created time wins, then the later row; null created times come first; null keys have no newest."""
    created = pa.array([hours(3), None, hours(2), hours(3), hours(9)], UTC_MICROS)
    write(tmp_path / "repo/t.parquet", trips((1, 0, 1), (1, 0, 2), (1, 0, 3), (1, 0, 4), (None, 5, 5), created=created))

    assert [(1, 4, hours(0), hours(3))] == rows(pull_latest(store, source("t.parquet"), created="created"))


def test_a_view_without_entities_has_feasts_stand_in_for_a_key(store, tmp_path):
    """Feast's dummy key is a column of the answer for a view, whether it is asked for or not, and not where the source names no time: of a saved data set."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10), (2, 1, 20)))
    of = source("t.parquet")

    assert [{"trips": 20, "event_timestamp": hours(1), "__dummy_id": ""}] == pull_latest(
        store, of, keys=["__dummy_id"]
    ).to_arrow().to_pylist()
    assert ["trips", "event_timestamp", "__dummy_id"] == pull_all(
        store, of, keys=["__dummy_id"]
    ).to_arrow().column_names
    assert ["trips", "event_timestamp", "__dummy_id"] == pull_all(store, of, keys=[]).to_arrow().column_names
    saved = source("t.parquet", timestamp_field="")
    assert ["trips", "event_timestamp"] == pull_all(store, saved, keys=[]).to_arrow().column_names


def test_of_no_feature_means_of_all_columns(store, tmp_path):
    """A transformation that may read any column is given all of them, in the source's order, the times at the end."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10), **{'odd "name"': ["x"], "event_ts": [7], "created": [NOON]}))
    found = pull_latest(store, source("t.parquet"), [], created="created").to_arrow()

    assert ["driver_id", "trips", 'odd "name"', "event_ts", "event_timestamp", "created"] == found.column_names
    assert (1, 10, "x", 7, hours(0), NOON) == tuple(found.to_pylist()[0].values())
    assert found.column_names == pull_all(store, source("t.parquet"), [], created="created").to_arrow().column_names


def test_columns_may_go_by_the_views_names(store, tmp_path):
    """Where the source maps a column, some of Feast's callers say the column's name and some the field's: both are found, under the name that was asked."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)).rename_columns(["driver_id", "at", "n"]))
    of = source("t.parquet", field_mapping={"n": "trips", "at": "event_timestamp"})

    assert [{"driver_id": 1, "trips": 10, "event_timestamp": hours(0)}] == pull_all(store, of).to_arrow().to_pylist()
    assert [{"driver_id": 1, "n": 10, "at": hours(0)}] == pull_latest(
        store, of, ["n"], event="at"
    ).to_arrow().to_pylist()


def test_row_groups_outside_of_the_interval_are_not_read(store, tmp_path):
    """A damaged row group whose statistics put it outside of the interval is not met."""
    path = write(
        tmp_path / "repo/t.parquet", trips(*[(n, n, n) for n in range(4)]), row_group_size=1, compression="none"
    )
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(content)

    assert [2, 3] == [row[1] for row in rows(pull_all(store, source("t.parquet"), start=hours(2)))]
    with pytest.raises(SourceError, match="no whole Parquet file"):
        pull_all(store, source("t.parquet")).to_arrow()


def test_rows_come_in_batches_and_into_a_file(store, tmp_path):
    """A job gives its rows as Arrow batches, as frames, and as a Parquet file that appears whole and is not overwritten unasked."""
    write(tmp_path / "repo/t.parquet", trips(*[(n, n, n) for n in range(10)]))
    job = pull_all(store, source("t.parquet"))
    job.to_parquet(tmp_path / "out.parquet")

    assert [4, 4, 2] == [batch.num_rows for batch in job.to_arrow_batches(4)]
    assert list(range(10)) == [n for frame in job.to_pandas_batches(3) for n in frame["trips"]]
    assert job.to_arrow() == pa.parquet.read_table(tmp_path / "out.parquet")
    assert list(range(10)) == job.to_df()["trips"].tolist()
    with pytest.raises(FileExistsError):
        job.to_parquet(tmp_path / "out.parquet")
    pull_all(store, source("t.parquet"), start=hours(8)).to_parquet(tmp_path / "out.parquet", allow_overwrite=True)
    assert [8, 9] == pa.parquet.read_table(tmp_path / "out.parquet")["trips"].to_pylist()
    assert ["out.parquet", "repo"] == sorted(entry.name for entry in tmp_path.iterdir())


def test_an_interval_without_rows_has_columns(store, tmp_path):
    """Where nothing is in the interval, the answer has the columns and no row."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    for job in (
        pull_all(store, source("t.parquet"), start=hours(5)),
        pull_latest(store, source("t.parquet"), start=hours(5)),
    ):
        assert (0, ["driver_id", "trips", "event_timestamp"]) == (job.to_arrow().num_rows, job.to_df().columns.tolist())
        assert [0] == [batch.num_rows for batch in job.to_arrow_batches()]


def test_rows_are_exported_to_the_staging_location(tmp_path):
    """Feast's remote engines get Parquet files under `staging_location`; without one the store says that it has none."""
    with offline_repo(tmp_path / "repo", staging_location=str(tmp_path / "staging")) as store:
        write(tmp_path / "repo/t.parquet", trips((1, 0, 10), (1, 1, 11), (2, 0, 20)))
        job = pull_latest(store, source("t.parquet"))
        first, second = job.to_remote_storage(), job.to_remote_storage()
    with offline_repo(tmp_path / "other") as store:
        assert pull_latest(store, source("t.parquet")).supports_remote_storage_export() is False

    assert job.supports_remote_storage_export() is True
    assert 1 == len(first) == len(second)
    assert first != second
    assert {11, 20} == set(pa.parquet.read_table(first[0])["trips"].to_pylist())


def test_other_sources_are_refused_by_name(store):
    """A source that is no file, is of another format, or is missing, is refused in words that say what to do."""
    asked = {
        "is a BigQuerySource, and this offline store reads FileSources and DuckDBSources": BigQuerySource(
            name="b", query="SELECT 1", timestamp_field="event_timestamp"
        ),
        "does not exist": source("nowhere.parquet"),
        "names no timestamp_field": source("nowhere.parquet", timestamp_field=""),
    }
    for words, of in asked.items():
        with pytest.raises(SourceError, match=words):
            pull_all(store, of, event=of.timestamp_field).to_arrow()


@pytest.mark.parametrize("entities", [[DRIVER], []], ids=["keyed", "entityless"])
def test_feasts_local_engine_materializes_what_is_pulled(store, tmp_path, entities):
    """`feast materialize` by Feast's own engine reads a view's source, mapped names and parts among it."""
    path = write(
        tmp_path / "repo/t.parquet", trips((1, 0, 10), (1, 1, 11)).rename_columns(["driver_id", "event_timestamp", "n"])
    )
    append_part(trips((1, 2, 12)).rename_columns(["driver_id", "event_timestamp", "n"]), path, name="a")
    store.apply([DRIVER, view(source("t.parquet", field_mapping={"n": "trips"}), entities=entities)])
    store.materialize(hours(-1), hours(3))

    assert [12] == store.get_online_features(["trips:trips"], [{"driver_id": 1}]).to_dict()["trips"]


def test_a_transformation_reads_any_column(store, tmp_path):
    """A batch view with a transformation of Feast's is given all columns of the source."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10), tip=pa.array([5], pa.int64())))

    def with_tip(frame):
        frame["trips"] = frame["trips"] + frame["tip"]
        return frame[["driver_id", "event_timestamp", "trips"]]

    store.apply([DRIVER, BatchFeatureView(name="trips", entities=[DRIVER], ttl=timedelta(0), mode="pandas", udf=with_tip, udf_string="", schema=[Field(name="trips", dtype=Int64)], source=source("t.parquet"), online=True)])  # fmt: skip
    store.materialize(hours(-1), hours(3))

    assert [15] == store.get_online_features(["trips:trips"], [{"driver_id": 1}]).to_dict()["trips"]
