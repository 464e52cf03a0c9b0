"""Training sets whose rows are a Delta table."""

import json
import os
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import deltalake
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from dataset_repo import TRIPS, copied, frame, make_repo
from hindcast.datasets import KeySplits, TrainingSets
from hindcast.datasets import delta_table as module
from hindcast.datasets.canonical import digest_of
from hindcast.datasets.proven import proven
from hindcast.errors import DatasetError, InvalidArgument
from offline_repo import hours, trips, write
from twins import close

FEATURES = ["trips:trips", "ratings:rating"]
LATER = hours(24 * 365)

pytestmark = pytest.mark.filterwarnings("ignore:Retrieving datasets is an experimental feature:RuntimeWarning")


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo; tests copy it, or give their sets names of their own."""
    root = tmp_path_factory.mktemp("delta") / "repo"
    make_repo(root)
    return root


@pytest.fixture
def sets(repo):
    """Its training sets."""
    return TrainingSets(repo)


def build(sets, name, **options):
    return sets.build(name, **{"features": FEATURES, "entity_frame": frame(), "known_at": LATER, **options})


def many(count):
    """A frame of many rows, in no order of its keys."""
    return pa.table(
        {
            "driver_id": pa.array([(n * 7) % 5 for n in range(count)], pa.int64()),
            "event_timestamp": pa.array([hours(1)] * count, pa.timestamp("us", "UTC")),
            "number": pa.array(range(count), pa.int64()),
        }
    )


def wide():
    """A frame with a column of every kind that Delta has not, and values at their ends."""
    at = datetime(2026, 3, 1, 13, tzinfo=UTC)
    columns = {
        "driver_id": pa.array([1, 2, None], pa.int64()),
        "event_timestamp": pa.array([at] * 3, pa.timestamp("ns", "Europe/Berlin")),
        "u8": pa.array([0, 255, None], pa.uint8()),
        "u16": pa.array([0, 2**16 - 1, None], pa.uint16()),
        "u32": pa.array([0, 2**32 - 1, None], pa.uint32()),
        "u64": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "local": pa.array([datetime(1700, 1, 1), datetime(2200, 1, 1), None], pa.timestamp("ms")),  # noqa: DTZ001
        "kind": pa.array(["a", "b", None]).dictionary_encode(),
        "large": pa.array(["x", "", None], pa.large_string()),
        "fixed": pa.array([b"ab", b"cd", None], pa.binary(2)),
        "day": pa.array([datetime(2026, 3, 1), None, datetime(1960, 1, 1)], pa.date64()),  # noqa: DTZ001
        "pair": pa.array([[1, 2], [3, None], None], pa.list_(pa.uint8(), 2)),
        "some": pa.array([[at], [], None], pa.list_(pa.timestamp("ns", "UTC"))),
        "inner": pa.array([{"n": 1}, {"n": None}, None], pa.struct([("n", pa.uint32())])),
        "by_name": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.uint16())),
        "price": pa.array([Decimal("1.50"), None, Decimal("-1.00")], pa.decimal256(20, 2)),
        "float": pa.array([float("nan"), -0.0, None], pa.float32()),
        "naïve name": pa.array([True, False, None]),
    }
    return pa.table(columns)


def test_a_delta_set_is_the_set_of_the_other_form(sets):
    """The two forms of a set have one logical digest, and the same rows in the same order in whatever form they are loaded."""
    options = {"splits": KeySplits({"train": 3, "test": 1}, "driver_id"), "features": "rides"}
    plain, delta = build(sets, "plain", **options), build(sets, "delta", format="delta", **options)
    assert (None, 0, plain.digest) == (plain.manifest.delta_version, delta.manifest.delta_version, delta.digest)
    assert plain.to_arrow().equals(delta.to_arrow())
    assert plain.splits == delta.splits
    assert plain.to_arrow(split="train", shuffle_seed=1).equals(delta.to_arrow(split="train", shuffle_seed=1))
    assert list(plain.batches(2)) == list(delta.batches(2))
    assert (True, ()) == (sets.rebuild(delta.ref).identical, sets.verify(delta.ref).problems)
    assert True is sets.diff(plain.ref, delta.ref).identical


def test_any_reader_of_delta_reads_it(sets, repo):
    """deltalake, Polars, DuckDB over Arrow, and Feast by the registered set, find the rows of the set in the table."""
    made = build(sets, "readers", entity_frame=many(100), format="delta")
    place, expected = str(made.path / "data"), made.to_arrow()["number"].to_pylist()
    table = deltalake.DeltaTable(place)
    store = FeatureStore(repo_path=str(repo))
    try:
        saved = store.get_saved_dataset(made.ref)
        by_feast = saved.to_df()
    finally:
        close(store)
    assert ("readers", "delta", {"delta.appendOnly": "true"}) == (
        table.metadata().name,
        saved.tags["hindcast.format"],
        table.metadata().configuration,
    )
    assert expected == sorted(pl.read_delta(place)["number"].to_list())
    assert [(100, 4_950)] == duckdb.from_arrow(table.to_pyarrow_dataset()).aggregate("count(*), sum(number)").fetchall()
    assert made.to_arrow()["driver_id"].to_pylist() == by_feast["driver_id"].tolist()


def test_two_builds_have_one_id_and_the_same_files(sets):
    """A Delta set is made again under the same id with the same bytes in every Parquet file; its log alone says when that was."""
    one, two = (build(sets, "twice", format="delta", threads=n) for n in (1, 3))
    assert (one.id, one.manifest.files) == (two.id, two.manifest.files)
    assert (True, True) == (sets.rebuild(one.ref).identical, sets.rebuild(one.ref).files_identical)


def test_types_that_delta_has_not_come_back(sets):
    """Columns of types that Delta has not are in the table as types that hold their values, and come back as they were, with one digest."""
    plain = build(sets, "wide-plain", entity_frame=wide())
    delta = build(sets, "wide-delta", entity_frame=wide(), format="delta")
    assert (plain.digest, plain.schema) == (delta.digest, delta.schema)
    assert plain.digest == str(digest_of(delta.schema, delta.to_arrow().to_batches()))
    table = pa.table(deltalake.DeltaTable(str(delta.path / "data")).to_pyarrow_table())
    assert [0, 255, None] == table["u8"].to_pylist()
    assert [0, 2**64 - 1, None] == [None if n is None else int(n) for n in table["u64"].to_pylist()]
    assert [datetime(2026, 3, 1, 13, tzinfo=UTC)] * 3 == table["event_timestamp"].to_pylist()
    rebuilt = sets.rebuild(delta.ref)
    assert (True, True, ()) == (rebuilt.identical, rebuilt.files_identical, sets.verify(delta.ref).problems)


def test_an_empty_set_is_a_table_too(sets):
    """A set without rows is a Delta table with its columns, intact, and rebuilds."""
    made = build(sets, "empty", entity_frame=many(0), format="delta")
    table = deltalake.DeltaTable(str(made.path / "data"))
    assert (0, True) == (pa.table(table.to_pyarrow_table()).num_rows, sets.rebuild(made.ref).identical)
    assert () == sets.verify(made.ref).problems


def test_rows_of_several_files_keep_their_order(sets):
    """Of a set that is larger than a file the parts are in the table in their order, and a row group at a time is read."""
    count = 65_536 * 16 + 10
    made = build(sets, "large", features=["trips:trips"], entity_frame=many(count), format="delta", register=False)
    files = deltalake.DeltaTable(str(made.path / "data")).file_uris()
    assert ["part-00000.parquet", "part-00001.parquet"] == sorted(Path(file).name for file in files)
    assert made.to_arrow()["number"].equals(pa.chunked_array([pa.array(range(count), pa.int64())]))


def test_a_changed_source_is_named_for_a_delta_set(repo, tmp_path):
    """After a source row changed the rebuild of a Delta set names the file, the rows and the reason, as of the other form."""
    sets = copied(repo, tmp_path / "repo")
    made = build(sets, "rides", format="delta")
    write(tmp_path / "repo/data/trips.parquet", trips((1, 0, 11), *TRIPS[1:]))
    report = sets.rebuild(made.ref)
    first = report.first_change
    assert (False, "source", "data/trips.parquet", "changed", 1) == (
        report.identical,
        first.kind,
        first.name,
        first.what,
        first.rows,
    )


def test_a_source_that_delta_has_no_form_for_is_compared_all_the_same(repo, tmp_path):
    """Where a source got times finer than a microsecond, the rebuild of a Delta set says so, and does not fail."""
    sets = copied(repo, tmp_path / "repo")
    labels = pa.Table.from_pandas(frame(), preserve_index=False).replace_schema_metadata()
    path = write(tmp_path / "repo/data/labels.parquet", labels)
    made = build(sets, "fine", entity_frame="data/labels.parquet", format="delta")
    finer = pd.Series(pd.to_datetime([1] * 5, unit="ns", utc=True))
    write(path, labels.append_column("finer", pa.array(finer)))
    report = sets.rebuild(made.ref)
    assert (False, "entity_frame") == (report.identical, report.first_change.kind)


def test_verify_says_what_is_wrong_with_the_table(repo, tmp_path):
    """A table that others wrote to, whose log is gone, or tells of other files, is not intact."""
    sets = copied(repo, tmp_path / "repo")
    made = build(sets, "rides", format="delta")
    place = made.path / "data"
    log = place / "_delta_log/00000000000000000000.json"
    whole = log.read_text()
    log.write_text(whole.replace('\\"numRecords\\":5', '\\"numRecords\\":6'))
    assert "numbers of rows" in sets.verify(made.ref).problems[0]
    log.write_text(whole)
    deltalake.write_deltalake(str(place), pa.table(deltalake.DeltaTable(str(place)).to_pyarrow_table()), mode="append")
    assert "has version 1, and the manifest says 0" in sets.verify(made.ref).problems[0]
    assert 5 == made.to_arrow().num_rows
    shutil.rmtree(place / "_delta_log")
    assert "cannot be read" in sets.verify(made.ref).problems[0]


WRONG = {
    "a column without a form": ({"entity_frame": frame().assign(at=pd.to_timedelta(1, "s"))}, "'at'"),
    "a column of nothing": ({"entity_frame": frame().assign(nothing=None)}, "'nothing'"),
    "two columns that differ by capitals": ({"entity_frame": frame().assign(Amount=1)}, "'amount' and 'Amount'"),
    "a time finer than a microsecond": (
        {"entity_frame": frame().assign(fine=pd.to_datetime([1] * 5, unit="ns", utc=True))},
        "finer than a microsecond",
    ),
    "a format that is none": ({"format": "csv"}, "parquet or delta"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_delta_cannot_hold_is_refused(sets, what):
    """What Delta has no form for is refused by the name of the column, and leaves no set."""
    options, words = WRONG[what]
    with pytest.raises(InvalidArgument, match=words):
        build(sets, "wrong", **{"format": "delta", **options})
    assert [] == [one for one in sets.list() if one.name == "wrong"]


def test_all_of_the_table_is_synced_before_the_set_is_there(sets, monkeypatch):
    """The log and the files of the table, and their folders, are synced before the set is moved into place: delta-rs syncs none."""
    synced = []
    real = os.fsync

    def noted(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    made = build(sets, "synced", format="delta", register=False)
    needed = {"part-00000.parquet", "00000000000000000000.json", "_delta_log", "data", "set"}
    assert set() == needed - set(synced)
    assert ["synced", True] == [synced[-1], made.path.is_dir()]


def test_a_table_that_cannot_be_made_leaves_no_set(sets, monkeypatch):
    """Where the disk does not take the table, the build fails in our own words, and nothing is visible."""

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "create_table_with_add_actions", full)
    with pytest.raises(DatasetError, match="did not take"):
        build(sets, "full", format="delta")
    assert [] == [one for one in sets.list() if one.name == "full"]


def test_the_note_in_a_footer_is_the_schema(sets):
    """Where columns have other types in the table, each file's footer names the rows' own schema; otherwise there is none, and the bytes are those of the other form."""
    noted = build(
        sets, "noted", entity_frame=many(3).append_column("u", pa.array([1, 2, 3], pa.uint8())), format="delta"
    )
    plain = build(sets, "not-noted", entity_frame=many(3))
    bare = build(sets, "not-noted", entity_frame=many(3), format="delta")
    keys = [pq.read_metadata(one.path / one.manifest.files[0].path).metadata.keys() for one in (noted, bare)]
    assert [True, False] == [b"hindcast.schema" in one for one in keys]
    assert plain.manifest.files == bare.manifest.files
    assert "u" in json.loads(noted.manifest.encoded())["columns"][-3]["name"]


def test_a_delta_set_whose_files_are_gone_is_made_again(repo, sets):
    """Who was told the digest of a Delta set gets its rows as a Delta table again, where its files are gone."""
    made = build(sets, "gone", format="delta")
    rows = made.to_arrow()
    shutil.rmtree(made.path / "data")
    found = proven(made.ref, set_id=made.id, digest=made.digest, directory=sets.directory, repo=repo)
    table = deltalake.DeltaTable(found.path / "data").to_pyarrow_table()
    assert (rows, rows.to_pylist()) == (found.to_arrow(), table.to_pylist())
