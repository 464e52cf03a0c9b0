"""Training sets of every kind of source: built, made again, and the input named that changed."""

import shutil
from datetime import UTC, datetime

import duckdb
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake
from feast import Field
from feast.types import Int64, String

from dataset_repo import frame
from hindcast.datasets import TrainingSets
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from object_store import run_object_server
from offline_repo import DRIVER, offline_repo, source, trips, view, write

ROWS = [(1, 0, 10), (1, 2, 12), (2, 1, 20), (3, 0, None)]
EXPECTED = {"trips": [10, 20, None, 12, None]}


@pytest.fixture(scope="module")
def server():
    """One object store for all tests here."""
    with run_object_server() as server:
        yield server


def applied(root, of, *fields, **offline):
    """A repo with the view `trips` of a source."""
    with offline_repo(root, **offline) as store:
        store.apply([DRIVER, of, view(of, *fields)])


def build(root, features=("trips:trips",)):
    return TrainingSets(root).build("rides", features=list(features), entity_frame=frame(), register=False)


def first(root):
    """The first change of a rebuild in short, and whether it is identical."""
    report = TrainingSets(root).rebuild("rides@v1")
    change = report.first_change
    return report.identical, None if change is None else (change.kind, change.name, change.what, change.rows)


def test_hive_partitions(tmp_path):
    """A set of a partitioned folder has the columns that folders name, is made again, and a file that changed, came or moved to another partition is named."""
    root = tmp_path / "repo"
    fields = Field(name="trips", dtype=Int64), Field(name="region", dtype=String)
    write(root / "data/region=north/year=2025/a.parquet", trips(*ROWS[:2]))
    write(root / "data/region=south/year=2026/b.parquet", trips(*ROWS[2:]))
    applied(root, source("data"), *fields)
    made = build(root, ("trips:trips", "trips:region"))
    assert {**EXPECTED, "region": ["north", "south", "south", "north", None]} == made.to_arrow(
        columns=["trips", "region"]
    ).to_pydict()
    assert (True, None) == first(root)

    write(root / "data/region=south/year=2026/b.parquet", trips((2, 1, 21), *ROWS[3:]))
    assert (False, ("source", "data/region=south/year=2026/b.parquet", "changed", 1)) == first(root)
    write(root / "data/region=south/year=2026/b.parquet", trips(*ROWS[2:]))
    write(root / "data/region=east/c.parquet", trips((1, 0.5, 99)))
    assert (False, ("source", "data/region=east/c.parquet", "appended", 1)) == first(root)
    shutil.rmtree(root / "data/region=east")
    assert True is first(root)[0]
    (root / "data/region=south").rename(root / "data/region=west")
    assert (False, ("source", "data/region=south/year=2026/b.parquet", "renamed", 2)) == first(root)


def test_a_duckdb_table(tmp_path):
    """A set of a table of a DuckDB database is made again after another table came, and names the table after one of its rows changed."""
    root = tmp_path / "repo"
    root.mkdir()
    fill_database(root, *ROWS)
    applied(root, DuckDBSource(name="trips", path="rides.duckdb", table="trips", timestamp_field="event_timestamp"))
    made = build(root)
    (pinned,) = made.manifest.sources
    assert (EXPECTED, "rides.duckdb:trips", ["rides.duckdb:trips"]) == (
        made.to_arrow(columns=["trips"]).to_pydict(),
        pinned.path,
        [file.path for file in pinned.files],
    )
    assert (True, None) == first(root)
    with duckdb.connect(root / "rides.duckdb") as connection:
        connection.execute("CREATE TABLE other AS SELECT 1")
    assert (True, None) == first(root)
    fill_database(root, (1, 0, 11), *ROWS[1:])
    assert (False, ("source", "rides.duckdb:trips", "changed", 1)) == first(root)


def fill_database(root, *rows):
    with duckdb.connect(root / "rides.duckdb") as connection:
        connection.register("given", trips(*rows))
        connection.execute("CREATE OR REPLACE TABLE trips AS FROM given")


FORMS = {
    "parquet": (lambda root, *rows: write(root / "rides.parquet", trips(*rows)), lambda: source("rides.parquet")),
    "delta": (
        lambda root, *rows: write_deltalake(root / "rides", trips(*rows)),
        lambda: source("rides", delta=True),
    ),
    "duckdb": (
        fill_database,
        lambda: DuckDBSource(name="trips", path="rides.duckdb", table="trips", timestamp_field="event_timestamp"),
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "attribute"),
    [
        ("delta", "parquet", "source path"),
        ("parquet", "duckdb", "source kind"),
        ("duckdb", "parquet", "source kind"),
    ],
)
def test_a_source_of_another_kind_is_named_with_what_it_did(tmp_path, old, new, attribute):
    """A view whose source is of another kind now is made again of that, though nothing on the way from one to the other could be read."""
    root = tmp_path / "repo"
    root.mkdir()
    FORMS[old][0](root, *ROWS)
    FORMS[new][0](root, (1, 0, 11), *ROWS[1:])
    applied(root, FORMS[old][1]())
    build(root)
    applied(root, FORMS[new][1]())
    assert (False, ("definition", "trips", attribute, 1)) == first(root)


def test_a_folder_that_became_a_delta_table_is_read_as_one(tmp_path):
    """A folder of Parquet files that the repo calls a Delta table now is read as that, and not as the files that lie in it."""
    root = tmp_path / "repo"
    write(root / "rides/0.parquet", trips(*ROWS))
    applied(root, source("rides"))
    build(root)
    convert_to_deltalake(root / "rides")
    DeltaTable(root / "rides").delete("driver_id = 2")
    applied(root, source("rides", delta=True))
    report = TrainingSets(root).rebuild("rides@v1")
    twin = TrainingSets(root).build(
        "twin",
        features=["trips:trips"],
        entity_frame=frame(),
        known_at=datetime(2027, 1, 1, tzinfo=UTC),
        register=False,
    )
    assert (False, twin.digest) == (report.identical, report.digest)
    assert {"source file format": {"trips": 1}} == {
        change.what: dict(change.columns) for change in report.changes if change.kind == "definition"
    }


def test_sources_that_moved_together_are_followed(tmp_path):
    """Where the sources of two views moved, and their definitions followed, the set is made again of where they are now."""
    root = tmp_path / "repo"

    def apply_to(folder):
        sources = [source(f"{folder}/{name}.parquet", name=name) for name in ("trips", "rides")]
        views = [view(of, Field(name=of.name, dtype=Int64), name=of.name) for of in sources]
        with offline_repo(root) as store:
            store.apply([DRIVER, *sources, *views])

    for name in ("trips", "rides"):
        write(root / f"old/{name}.parquet", trips(*ROWS).rename_columns(["driver_id", "event_timestamp", name]))
    apply_to("old")
    build(root, ["trips:trips", "rides:rides"])
    (root / "old").rename(root / "new")
    apply_to("new")
    report = TrainingSets(root).rebuild("rides@v1")
    expected = [
        ("source", "old/trips.parquet", "removed"),
        ("source", "old/rides.parquet", "removed"),
        ("definition", "trips", "source path"),
        ("definition", "rides", "source path"),
    ]
    assert (True, expected) == (report.identical, [(one.kind, one.name, one.what) for one in report.changes])


def test_of_a_delta_table_whose_version_is_gone_the_files_that_are_gone_are_named(tmp_path):
    """Where some files of a Delta table's version were vacuumed, these are named, and not those that are as they were."""
    root = tmp_path / "repo"
    write_deltalake(root / "rides", trips(*ROWS[2:]))
    write_deltalake(root / "rides", trips(*ROWS[:2]), mode="append")
    applied(root, source("rides", delta=True))
    made = build(root)
    table = DeltaTable(root / "rides")
    before = {file.path for file in made.manifest.sources[0].files}
    table.delete("driver_id = 2")
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    gone = [path for path in before if not (root / path).exists()]
    report = TrainingSets(root).rebuild("rides@v1")
    found = [(one.name, one.what, dict(one.reasons)) for one in report.changes]
    assert [(gone[0], "removed", {"deleted row": 1})] == found
    assert 1 == len(gone)


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_an_object_store(server, tmp_path, form):
    """A set of Parquet, or of a Delta table, in an object store is made again; an object that was written anew is named, and rows that are appended to the table change nothing."""
    storage, root = server.bucket(), tmp_path / "repo"
    if form == "parquet":
        storage.write("trips/a.parquet", trips(*ROWS[:2]))
        storage.write("trips/b.parquet", trips(*ROWS[2:]))
    else:
        write_deltalake(tmp_path / "table", trips(*ROWS))
        storage.upload(tmp_path / "table", "trips")
    applied(root, source(storage.uri("trips"), delta=form == "delta"), storage_options=storage.options)
    made = build(root)
    (pinned,) = made.manifest.sources
    assert EXPECTED == made.to_arrow(columns=["trips"]).to_pydict()
    assert (True, None) == first(root)
    if form == "parquet":
        assert {""} == {file.sha256 for file in pinned.files}
        storage.write("trips/b.parquet", trips((2, 1, 21), *ROWS[3:]))
        assert (False, ("source", storage.uri("trips/b.parquet"), "changed", 1)) == first(root)
    else:
        storage.append_delta("trips", trips((1, 0.5, 99)))
        assert (0, (True, None)) == (pinned.version, first(root))
        storage.delete(pinned.files[0].path.removeprefix(storage.uri("")))
        assert "removed" == first(root)[1][2]


def test_rows_pushed_offline_beside_a_file(tmp_path):
    """A part that is pushed beside a source of one file is an appended file of the source."""
    root = tmp_path / "repo"
    write(root / "data/trips.parquet", trips(*ROWS))
    applied(root, source("data/trips.parquet"))
    build(root)
    write(root / "data/trips.parquet.parts/0001.parquet", trips((1, 0.5, 99)))
    assert (False, ("source", "data/trips.parquet.parts/0001.parquet", "appended", 1)) == first(root)
    assert 99 == build(root).to_arrow()["trips"][0].as_py()
