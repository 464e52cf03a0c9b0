"""Saved data sets: what a retrieval is persisted to, and how Feast gets it back."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.data_format import AvroFormat, DeltaFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalMetadata

from hindcast.errors import InvalidArgument, StoreUnavailable
from hindcast.offline.plugin.jobs import Destinations
from hindcast.offline.plugin.pulls import PulledJob
from hindcast.offline.writing import outputs
from hindcast.offline.writing.outputs import write_directory, write_file
from hindcast.offline.writing.parts import append_part
from offline_repo import DRIVER, elsewhere, hours, offline_of, offline_repo, source, trips, view, write

pytestmark = pytest.mark.filterwarnings(
    "ignore:(Saving dataset is|Retrieving datasets is) an experimental feature:RuntimeWarning"
)

PLACES = {
    "file": lambda path="saved/set.parquet": SavedDatasetFileStorage(path),
    "directory": lambda path="saved/set": SavedDatasetFileStorage(path),
    "delta": lambda path="saved/lake": SavedDatasetFileStorage(path, file_format=DeltaFormat()),
}


@pytest.fixture
def store(tmp_path):
    """A repo with the view `trips` of three drivers."""
    with offline_repo(tmp_path / "repo") as opened:
        write(tmp_path / "repo/t.parquet", trips((1, 0, 10), (1, 2, 11), (2, 0, 20), (3, 9, 30)))
        opened.apply([DRIVER, view(source("t.parquet"))])
        yield opened


def pulled(store, start=None, end=None):
    """A job of the rows of the source."""
    return offline_of(store).pull_all_from_table_or_query(
        store.config, source("t.parquet"), ["driver_id"], ["trips"], "event_timestamp", None, start, end
    )


def read(root, kind):
    """The `trips` of what is saved, as another reader sees them."""
    if kind == "delta":
        return pa.table(deltalake.DeltaTable(str(root / "saved/lake")).to_pyarrow_table())["trips"].to_pylist()
    return pq.read_table(root / ("saved/set.parquet" if kind == "file" else "saved/set"))["trips"].to_pylist()


@pytest.mark.parametrize("kind", PLACES)
def test_a_saved_data_set_comes_back_through_feast(store, tmp_path, kind):
    """`create_saved_dataset` and `get_saved_dataset` give the rows of a retrieval, of whichever form, from any working directory."""
    about = RetrievalMetadata(["trips:trips"], ["driver_id"], hours(0), hours(2))
    with elsewhere(tmp_path):
        job = PulledJob(pulled(store)._opened, Destinations.of(store.config), metadata=about)
        created = store.create_saved_dataset(job, "set", PLACES[kind]())
        found = store.get_saved_dataset("set").to_arrow()
    rows = sorted(tuple(row.values()) for row in found.to_pylist())

    assert [(1, 10, hours(0)), (1, 11, hours(2)), (2, 20, hours(0))] == rows
    assert found == created.to_arrow()


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_is_overwritten_only_where_that_was_said(store, tmp_path, kind):
    """What is there is refused by Feast's own error, and replaced as a whole where `allow_overwrite` is said."""
    pulled(store).persist(PLACES[kind]())
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        pulled(store).persist(PLACES[kind]())
    assert [10, 11, 20, 30] == sorted(read(tmp_path / "repo", kind))
    pulled(store, start=hours(1)).persist(PLACES[kind](), allow_overwrite=True)

    assert [11, 30] == sorted(read(tmp_path / "repo", kind))
    assert [PLACES[kind]().file_options.uri] == [f"saved/{entry.name}" for entry in (tmp_path / "repo/saved").iterdir()]


@pytest.mark.parametrize("kind", PLACES)
def test_a_retrieval_that_fails_leaves_what_was_there(store, tmp_path, kind):
    """Where the rows cannot be read to their end, the old ones stay and nothing is left beside them."""
    pulled(store).persist(PLACES[kind]())
    write(tmp_path / "repo/t.parquet", trips(*[(n, n, n) for n in range(50)]), row_group_size=10, compression="none")
    content = bytearray((tmp_path / "repo/t.parquet").read_bytes())
    content[2000:2600] = bytes(600)
    (tmp_path / "repo/t.parquet").write_bytes(content)
    with pytest.raises(Exception, match="no whole Parquet file"):
        pulled(store).persist(PLACES[kind](), allow_overwrite=True)

    assert [10, 11, 20, 30] == sorted(read(tmp_path / "repo", kind))
    assert 1 == len(list((tmp_path / "repo/saved").iterdir()))


def test_a_data_set_can_replace_the_one_that_it_is_read_from(store, tmp_path):
    """A data set is persisted to its own place: it is read to its end before it is replaced."""
    for kind in ("file", "directory"):
        storage = PLACES[kind]()
        pulled(store).persist(storage)
        own = offline_of(store).pull_all_from_table_or_query(
            store.config, storage.to_data_source(), ["driver_id"], ["trips"], "event_timestamp", start_date=hours(1)
        )
        own.persist(storage, allow_overwrite=True)

        assert [11, 30] == read(tmp_path / "repo", kind)


def test_what_is_no_data_set_is_not_replaced(store, tmp_path):
    """A directory with other files, a file in a directory's place, a file with parts and a folder that is no Delta table stay, whatever is said."""
    saved = tmp_path / "repo/saved"
    write(saved / "set/notes.txt.parquet", trips())
    (saved / "set/notes.txt").write_text("mine")
    append_part(trips(), write(saved / "set.parquet", trips()), name="a")
    (saved / "lake").mkdir()
    (saved / "lake/notes.txt").write_text("mine")
    write(saved / "plain", trips())
    (saved / "folder.parquet").mkdir()
    before = sorted(saved.rglob("*"))
    places = {
        "holds more than Parquet files": PLACES["directory"](),
        "has parts beside it": PLACES["file"](),
        "is no Delta table": PLACES["delta"](),
        "is a file, and cannot be replaced by a directory": SavedDatasetFileStorage("saved/plain"),
        "is a directory, and cannot be replaced by a file": SavedDatasetFileStorage("saved/folder.parquet"),
        "is not one place of this machine": SavedDatasetFileStorage("s3://bucket/set"),
        "has the format AvroFormat": SavedDatasetFileStorage("saved/x", file_format=AvroFormat("{}")),
    }
    for words, storage in places.items():
        with pytest.raises(InvalidArgument, match=words):
            pulled(store).persist(storage, allow_overwrite=True)

    assert before == sorted(saved.rglob("*"))


def test_columns_without_a_form_are_refused_by_name(store, tmp_path):
    """A type that Delta does not have is refused before anything is written; times are cut to its microseconds."""
    spans = pa.array([1, 2], pa.duration("s"))
    moments = pa.array([1_999, -1], pa.timestamp("ns", "UTC"))
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10), (2, 0, 20), spans=spans, moments=moments))

    def job(*columns):
        return offline_of(store).pull_all_from_table_or_query(
            store.config, source("t.parquet"), ["driver_id"], list(columns), "event_timestamp"
        )

    with pytest.raises(InvalidArgument, match="Delta has no form for 'spans'"):
        job("spans").persist(PLACES["delta"]())
    assert not (tmp_path / "repo/saved").exists()
    job("moments").persist(PLACES["delta"]())
    stored = pa.table(deltalake.DeltaTable(str(tmp_path / "repo/saved/lake")).to_pyarrow_table())
    assert [1, -1] == stored["moments"].cast(pa.int64()).to_pylist()


@pytest.mark.parametrize("rows", [0, -1, 0.5, None])
def test_batches_have_at_least_one_row(store, rows):
    """A number of rows that no batch can have is refused at once, not answered with nothing."""
    for batched in (pulled(store).to_arrow_batches, pulled(store).to_pandas_batches):
        with pytest.raises(InvalidArgument, match=r"rows: of a batch are .*; give a whole number above 0"):
            batched(rows)
    assert [1] * 4 == [len(batch) for batch in pulled(store).to_pandas_batches(1)]


@pytest.mark.parametrize("wrong", ["2026-03-01", pd.NaT, 5])
def test_an_end_of_an_interval_that_is_no_time_is_refused_by_name(store, wrong):
    """Dates and NumPy's times are times; text, numbers and NaT are not."""
    day = pulled(store, start=hours(0).date(), end=np.datetime64("2026-03-01T13:00:00", "s")).to_arrow()
    assert [10, 20] == day.column("trips").to_pylist()
    with pytest.raises(InvalidArgument, match=r"start_date: is .*; give a datetime"):
        pulled(store, start=wrong).to_arrow()
    with pytest.raises(InvalidArgument, match=r"end_date: is .*; give a datetime"):
        pulled(store, end=wrong).to_arrow()
    with pytest.raises(InvalidArgument, match=r"end_date: is .*; give a datetime"):
        offline_of(store).compute_monitoring_metrics(
            store.config, source("t.parquet"), [("trips", "numeric")], "event_timestamp", end_date=wrong
        )


def batches(count, *, rows=1000):
    """A stream of numbers, and a list of how many batches were asked for."""
    schema, asked = pa.schema([("n", pa.int64())]), []

    def given():
        for number in range(count):
            asked.append(number)
            yield pa.record_batch([pa.array(range(number * rows, (number + 1) * rows))], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, given()), asked


def test_large_results_become_several_files_of_large_row_groups(tmp_path):
    """A directory has files of at most 983,040 rows, whose row groups do not depend on how the rows came."""
    write_directory(batches(1100)[0], tmp_path / "set", replace=False)
    files = sorted((tmp_path / "set").iterdir())

    assert ["part-00000.parquet", "part-00001.parquet"] == [file.name for file in files]
    assert [983_040, 116_960] == [pq.read_metadata(file).num_rows for file in files]
    assert 9 == pq.read_metadata(files[0]).num_row_groups + pq.read_metadata(files[1]).num_row_groups
    assert list(range(1_100_000)) == pq.read_table(tmp_path / "set")["n"].to_pylist()


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, monkeypatch, failing):
    """Where a step fails, the old rows stay, and nothing is left beside them."""
    write_file(batches(1)[0], tmp_path / "set.parquet", replace=False)

    def full(*_args, **_options):
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(*{"fsync": (os, "fsync"), "rename": (outputs, "exchange")}[failing], full)
        with pytest.raises(StoreUnavailable, match="space on its disk"):
            write_file(batches(2)[0], tmp_path / "set.parquet", replace=True)

    assert 1000 == pq.read_metadata(tmp_path / "set.parquet").num_rows
    assert ["set.parquet"] == [entry.name for entry in tmp_path.iterdir()]


@pytest.mark.parametrize("write", [write_file, write_directory])
def test_of_two_who_save_at_once_one_is_told_that_the_place_is_taken(tmp_path, write):
    """One of them has saved its rows; where all may replace what is there, all have; and nothing is left beside the place."""
    name = "set.parquet" if write is write_file else "set"
    # Of 42 attempts 2 with files and 8 with directories failed where it was looked before the renaming.
    for attempt in range(40):
        place = tmp_path / str(attempt) / name
        assert ["saved", "taken", "taken"] == sorted(_saved_at_once(write, place, replace=False))
        assert ["saved", "saved", "saved"] == _saved_at_once(write, place.with_name(f"new-{name}"), replace=True)
    assert {name, f"new-{name}"} == {entry.name for entry in tmp_path.glob("*/*")}


def _saved_at_once(write, place, *, replace):
    """What three hear who save to one place at the same time."""
    barrier = Barrier(3)

    def save(_number):
        barrier.wait()
        try:
            write(batches(1)[0], place, replace=replace)
        except FileExistsError:
            return "taken"
        return "saved"

    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(save, range(3)))


WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from hindcast.offline.writing.outputs import write_directory, write_file
table = pa.table({"n": range(200_000)})
write = write_file if sys.argv[1].endswith(".parquet") else write_directory
while True:
    write(table.to_reader(), Path(sys.argv[1]), replace=True)
    print("written", flush=True)
"""


@pytest.mark.parametrize("name", ["set.parquet", "set"])
def test_a_killed_writer_leaves_a_whole_data_set(tmp_path, name):
    """However often a process is killed while it replaces a data set, and at whatever time it is looked at, the data set is there, and whole."""
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        ) as writer:
            writer.stdout.readline()
            for _ in range(20):
                assert (
                    200_000 == pq.ParquetDataset(tmp_path / name).read().num_rows
                    if name == "set.parquet"
                    else (tmp_path / name).is_dir()
                )
            writer.send_signal(signal.SIGKILL)

        assert 200_000 == pq.read_table(tmp_path / name).num_rows
