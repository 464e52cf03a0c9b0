"""Making training sets again: the same bytes, or the input that changed, and what it did."""

import json
import shutil
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from feast import FeatureService, FeatureStore, Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from commands import run_command
from dataset_repo import AMOUNT, RATINGS, TRIPS, copied, definitions, frame, make_repo, ratings, reapply
from hindcast.cli.dataset_text import rebuild_text
from hindcast.datasets import KeySplits, TrainingSets, environment
from hindcast.errors import DatasetError
from offline_repo import DRIVER, elsewhere, offline_repo, source, trips, view, write
from twins import close

SPLITS = KeySplits({"train": 3, "test": 1}, "driver_id", seed=3)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repo with the set `rides@v1`, not to be changed, and its digest."""
    root = tmp_path_factory.mktemp("built") / "repo"
    make_repo(root)
    labels = write(root / "data/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    with elsewhere(root):
        made = TrainingSets(root).build("rides", features="rides", entity_frame=labels, splits=SPLITS, snapshot=True)
    return root, made.digest


def first(report):
    """The first change of a report, in short."""
    change = report.first_change
    return None if change is None else (change.kind, change.name, change.what, change.has_effect)


def test_a_rebuild_gives_the_same_bytes(built, tmp_path):
    """A rebuild with nothing changed gives the same digest and the same bytes of all files, and reports no change."""
    report = copied(built[0], tmp_path / "repo").rebuild("rides@v1")
    assert (True, True, (), built[1]) == (report.identical, report.files_identical, report.changes, report.digest)


def rewrite_trips(root, rows):
    write(root / "data/trips.parquet", trips(*rows))


def rewrite_ratings(root, rows):
    write(root / "data/ratings.parquet", ratings(*rows))


def relabel(root):
    table = pq.read_table(root / "data/labels.parquet")
    write(root / "data/labels.parquet", table.set_column(2, "amount", [[1.0, 2.0, 3.0, 4.0, 6.0]]))


MUTATIONS = {
    "a value changed": (
        lambda root: rewrite_trips(root, [(1, 0, 11), *TRIPS[1:]]),
        ("source", "data/trips.parquet", "changed", True),
        {"changed value": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a column has another type": (
        lambda root: write(
            root / "data/ratings.parquet",
            ratings(*RATINGS).set_column(3, "rating", ratings(*RATINGS)["rating"].cast("float32")),
        ),
        ("source", "data/ratings.parquet", "changed", True),
        {"other type": 5},
        {"rating": 5},
    ),
    "a row came late": (
        lambda root: rewrite_trips(root, [*TRIPS, (2, 2, 25)]),
        ("source", "data/trips.parquet", "changed", True),
        {"late row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row came late in a part of its own": (
        lambda root: write(root / "data/trips.parquet.parts/1.parquet", trips((2, 2, 25))),
        ("source", "data/trips.parquet.parts/1.parquet", "appended", True),
        {"late row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row was corrected by a part of its own": (
        lambda root: write(root / "data/trips.parquet.parts/1.parquet", trips((2, 1, 25))),
        ("source", "data/trips.parquet.parts/1.parquet", "appended", True),
        {"correction": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row was removed": (
        lambda root: rewrite_trips(root, [TRIPS[0], *TRIPS[2:]]),
        ("source", "data/trips.parquet", "changed", False),
        {},
        {},
    ),
    "the row that answered was removed": (
        lambda root: rewrite_trips(root, TRIPS[1:]),
        ("source", "data/trips.parquet", "changed", True),
        {"deleted row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a correction that was known already": (
        lambda root: rewrite_ratings(root, [*RATINGS, (1, 0, 4.75, 1)]),
        ("source", "data/ratings.parquet", "changed", True),
        {"correction": 1},
        {"rating": 1},
    ),
    "a file was renamed": (
        lambda root: (root / "data/trips.parquet").rename(root / "data/moved.parquet"),
        ("source", "data/trips.parquet", "renamed", None),
        {},
        {},
    ),
    "a file was removed": (
        lambda root: (root / "data/ratings.parquet").unlink(),
        ("source", "data/ratings.parquet", "removed", None),
        {},
        {},
    ),
    "the entity frame": (
        relabel,
        ("entity_frame", "data/labels.parquet", "changed", True),
        {"entity frame": 1},
        {"amount": 1},
    ),
    "a TTL": (
        lambda root: reapply(root, trips_ttl=timedelta(hours=1)),
        ("definition", "trips", "ttl", True),
        {"definition": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "code of an on-demand view": (
        lambda root: reapply(root, edited=True),
        ("transform", "checks", "code", True),
        {"code": 2},
        {"per_trip": 2},
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_changed_input_is_named(built, tmp_path, what):
    """Whichever input is another one, a rebuild names it, and the cells that it changed with the reason."""
    mutate, expected, reasons, columns = MUTATIONS[what]
    sets = copied(built[0], tmp_path / "repo")
    mutate(tmp_path / "repo")
    report = sets.rebuild("rides@v1")
    assert (expected[-1] is False, expected) == (report.identical, first(report))
    change = report.first_change
    assert (reasons, columns) == (dict(change.reasons), dict(change.columns))


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_snapshot_outlasts_every_change_of_sources_and_definitions(built, tmp_path, what):
    """With its snapshot a set is made again as recorded, whatever became of its sources and of the repo's definitions."""
    sets = copied(built[0], tmp_path / "repo")
    MUTATIONS[what][0](tmp_path / "repo")
    report = sets.rebuild("rides@v1", as_recorded=True)
    assert (True, True, built[1]) == (report.identical, report.files_identical, report.digest)


def test_appended_rows_change_nothing_where_the_source_has_a_created_column(built, tmp_path):
    """Rows that came after the set's time change nothing, in parts or in the file itself, and the file is named as without effect."""
    sets = copied(built[0], tmp_path / "repo")
    later = (1, 0.5, 1.0, 24 * 365 * 100)
    write(tmp_path / "repo/data/ratings.parquet.parts/1.parquet", ratings(later))
    rewrite_ratings(tmp_path / "repo", [*RATINGS, later])
    report = sets.rebuild("rides@v1")
    found = [(change.name, change.what, change.has_effect) for change in report.changes]
    expected = [
        ("data/ratings.parquet", "changed", False),
        ("data/ratings.parquet.parts/1.parquet", "appended", False),
    ]
    assert (True, built[1], expected) == (report.identical, report.digest, found)
    assert [("ratings",)] * 2 == [change.views for change in report.changes]
    assert "source file data/ratings.parquet was changed (read by ratings)" in rebuild_text(report)


def test_a_library_of_another_version_is_named(built, tmp_path, monkeypatch):
    """A library whose version is another one is named with both versions, and equal bytes are not promised then."""
    sets = copied(built[0], tmp_path / "repo")
    real = environment.version
    monkeypatch.setattr(environment, "version", lambda name: "99.0" if name == "duckdb" else real(name))
    report = sets.rebuild("rides@v1")
    change = report.first_change
    assert (True, None) == (report.identical, report.files_identical)
    assert ("library", "duckdb", real("duckdb"), "99.0") == (change.kind, change.name, change.before, change.after)


def test_several_changes_are_told_apart(built, tmp_path):
    """Of several changed inputs each has the cells that it changed, the first one first, and those without effect come last."""
    sets = copied(built[0], tmp_path / "repo")
    rewrite_ratings(tmp_path / "repo", [(1, 0, 4.25, 0), *RATINGS[1:]])
    write(tmp_path / "repo/data/trips.parquet.parts/1.parquet", trips((9, 0, 1)))
    write(tmp_path / "repo/data/trips.parquet.parts/2.parquet", trips((1, 0.5, 8)))
    reapply(tmp_path / "repo", trips_ttl=timedelta(hours=1), edited=True)
    report = sets.rebuild("rides@v1")
    found = [(change.name, change.what, dict(change.reasons), dict(change.columns)) for change in report.changes]
    expected = [
        ("data/ratings.parquet", "changed", {"changed value": 1}, {"rating": 1}),
        ("data/trips.parquet.parts/2.parquet", "appended", {"late row": 2}, {"trips": 1, "per_trip": 1}),
        ("trips", "ttl", {"definition": 2}, {"trips": 1, "per_trip": 1}),
        ("checks", "code", {"code": 1}, {"per_trip": 1}),
        ("data/trips.parquet.parts/1.parquet", "appended", {}, {}),
    ]
    assert sorted(expected, key=str) == sorted(found, key=str)
    assert ("data/trips.parquet.parts/1.parquet", False) == (report.changes[-1].name, report.changes[-1].has_effect)
    assert "source" == report.first_change.kind


def test_a_feature_that_was_renamed_is_named(built, tmp_path):
    """Where the features of the service are other ones, the service is named, and the columns that are gone and new."""
    sets = copied(built[0], tmp_path / "repo")
    table = ratings(*RATINGS)
    write(tmp_path / "repo/data/ratings.parquet", table.append_column("stars", table.column("rating")))
    reapply(tmp_path / "repo", rating_field="stars")
    change = sets.rebuild("rides@v1").first_change
    assert ("definition", "rides", "features") == (change.kind, change.name, change.what)
    assert ("ratings:rating", "ratings:stars") == (change.before, change.after)
    assert {"rating", "stars"} == set(change.columns)


def test_a_damaged_set_is_not_taken_for_a_changed_input(built, tmp_path):
    """Where the entity frame that was kept is another one, the set is said to be damaged, and no input is blamed."""
    sets = copied(built[0], tmp_path / "repo")
    kept = sets.build("kept", features=["trips:trips"], entity_frame=frame())
    path = kept.path / "entity_frame/part-00000.parquet"
    table = pq.read_table(path)
    write(path, table.slice(1))
    with pytest.raises(DatasetError, match="entity frame of kept@v1"):
        sets.rebuild("kept")


def test_a_changed_set_is_not_put_down_to_an_input(built, tmp_path):
    """Where a value of the stored set was changed, a changed source is named, and that value is not put down to it."""
    sets = copied(built[0], tmp_path / "repo")
    part = sets.get("rides").path / "data/part-00000.parquet"
    table = pq.read_table(part)
    write(part, table.set_column(table.schema.get_field_index("trips"), "trips", [[1, 2, 3, 4, 5]]))
    rewrite_trips(tmp_path / "repo", [(1, 0, 11), *TRIPS[1:]])
    assert ("source", "data/trips.parquet", "changed", None) == first(sets.rebuild("rides"))


def test_a_manifest_with_another_digest_is_not_taken_for_code(built, tmp_path):
    """Where only the digest in the manifest is another one, the set is named as damaged, and no input."""
    sets = copied(built[0], tmp_path / "repo")
    manifest = sets.get("rides").path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(built[1].encode(), b"sha256:" + b"0" * 64))
    with pytest.raises(DatasetError, match="its manifest has another digest"):
        sets.rebuild("rides")


def test_a_frame_with_its_columns_in_another_order_is_said(built, tmp_path):
    """A frame whose columns stand in another order gives another set, and the report says that."""
    sets = copied(built[0], tmp_path / "repo")
    labels = tmp_path / "repo/data/labels.parquet"
    table = pq.read_table(labels)
    write(labels, table.select(table.column_names[::-1]))
    change = sets.rebuild("rides").first_change
    assert ("entity_frame", True, {"other order of columns": 5}) == (change.kind, change.has_effect, change.reasons)


def test_a_set_of_no_rows_is_compared(built, tmp_path):
    """A set without rows equals itself, and a frame that has rows now is named for it as for any other."""
    root = tmp_path / "repo"
    sets = copied(built[0], root)
    rows = pa.Table.from_pandas(frame(), preserve_index=False)
    sets.build("none", features="rides", entity_frame=write(root / "data/none.parquet", rows.slice(0, 0)))
    assert sets.diff("none", "none").identical is True
    write(root / "data/none.parquet", rows)
    assert ("entity_frame", "data/none.parquet", "changed", True) == first(sets.rebuild("none"))


def test_a_definition_of_which_nothing_can_be_made_is_named(built, tmp_path):
    """A feature that was renamed while its source has the old name is named, and why nothing could be made again is said."""
    root = tmp_path / "repo"
    sets = copied(built[0], root)
    reapply(root, rating_field="stars")
    report = sets.rebuild("rides")
    assert (("definition", "rides", "features", None), False) == (first(report), report.identical)
    assert "has no column 'stars'" in report.trouble


def reapply_broken(root):
    """The same with a function that fails, and another TTL before it."""
    objects = definitions(trips_ttl=timedelta(hours=1))
    amount_view = objects[3]

    @on_demand_feature_view(
        sources=[AMOUNT, amount_view], schema=[Field(name="per_trip", dtype=Float64)], mode="pandas"
    )
    def checks(inputs):
        # Not of the one row by which Feast tries it.
        return pd.DataFrame({"per_trip": [{1: 0.0}[len(inputs)]] * len(inputs)})

    objects[5] = checks
    objects[6] = FeatureService(name="rides", features=[*objects[3:5], checks])
    store = FeatureStore(repo_path=str(root))
    try:
        store.apply(objects)
    finally:
        close(store)


UNMAKEABLE = {
    "a frame without a key": (
        lambda root: write(
            root / "data/labels.parquet", pq.read_table(root / "data/labels.parquet").drop(["driver_id"])
        ),
        ["entity_frame data/labels.parquet changed"],
        "driver_id",
    ),
    "a frame without request data": (
        lambda root: write(root / "data/labels.parquet", pq.read_table(root / "data/labels.parquet").drop(["amount"])),
        ["entity_frame data/labels.parquet changed"],
        "amount",
    ),
    "a key of another type": (
        lambda root: write(
            root / "data/trips.parquet",
            trips(*TRIPS).set_column(0, "driver_id", [["1", "1", "2", "3"]]),
        ),
        ["source data/trips.parquet changed"],
        "string",
    ),
    "a function that fails": (
        reapply_broken,
        ["definition trips ttl", "transform checks code"],
        "failed",
    ),
}


@pytest.mark.parametrize("what", UNMAKEABLE)
def test_an_input_of_which_nothing_can_be_made_is_named(built, tmp_path, what):
    """An input of which no set can be made is named all the same, without its rows, and why is said."""
    change, expected, said = UNMAKEABLE[what]
    sets = copied(built[0], tmp_path / "repo")
    change(tmp_path / "repo")
    report = sets.rebuild("rides")
    assert expected == [f"{one.kind} {one.name} {one.what}" for one in report.changes]
    assert {None} == {one.has_effect for one in report.changes}
    assert said in report.trouble


def test_a_kept_frame_that_is_gone_is_named(built, tmp_path):
    """A set whose kept entity frame is gone cannot be made again, and the error says so, not that of a path that nobody gave."""
    sets = copied(built[0], tmp_path / "repo")
    made = sets.build("kept", features="rides", entity_frame=frame())
    shutil.rmtree(made.path / "entity_frame")
    with pytest.raises(DatasetError, match="the entity frame of kept@v1 is gone"):
        sets.rebuild("kept")


def test_a_delta_table_is_read_at_its_version(tmp_path):
    """A set of a Delta table is the same after rows were appended, and says so when its version is gone."""
    root = tmp_path / "repo"
    with offline_repo(root) as store:
        write_deltalake(root / "trips", trips(*TRIPS))
        of = source("trips", delta=True)
        store.apply([DRIVER, of, view(of)])
    sets = TrainingSets(root)
    made = sets.build("rides", features=["trips:trips"], entity_frame=frame())
    write_deltalake(root / "trips", trips((2, 2, 25)), mode="append")
    report = sets.rebuild("rides")
    assert (0, True, ()) == (made.manifest.sources[0].version, report.identical, report.changes)
    for file in made.manifest.sources[0].files:
        (root / file.path).unlink()
    change = sets.rebuild("rides").first_change
    assert ("source", made.manifest.sources[0].files[0].path, "removed") == (change.kind, change.name, change.what)


def test_the_command_line_says_it_by_exit_code_and_json(built, tmp_path):
    """`hindcast dataset rebuild` exits with 0 for an identical set and with 3 for another one, and names the first change in JSON."""
    copied(built[0], tmp_path / "repo")
    same = _run(tmp_path / "repo", "rebuild", "rides@v1", "--output", "json")
    rewrite_trips(tmp_path / "repo", [*TRIPS, (2, 2, 25)])
    other = _run(tmp_path / "repo", "rebuild", "rides@v1", "--output", "json")
    change = json.loads(other.stdout)["first_change"]
    assert (0, True, built[1]) == (
        same.returncode,
        json.loads(same.stdout)["identical"],
        json.loads(same.stdout)["logical_digest"],
    )
    assert (3, "source", "data/trips.parquet") == (other.returncode, change["kind"], change["name"])
    assert ["trips"] == change["views"]


def _run(root, *arguments):
    return run_command("hindcast", "dataset", *arguments, "--repo", root)
