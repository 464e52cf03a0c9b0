"""Files that are left out by what their folders, or a Delta log, say of all their rows, and those that must not be."""

import datetime as dt

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hindcast.offline.sources.pruning import pruned, pruned_files
from hindcast.offline.sources.scan import scan_source
from hindcast.offline.sources.source import files_of, find_source
from source_queries import UTC_MICROS, rows

DAY = 86_400_000_000


def scanned(root, *, event="at"):
    """What the footers of source `s` say."""
    return scan_source(find_source("s", "parquet", repo_root=root), values=[], event=event, created=None)


def written(root, column, *values, **more):
    """A folder for each value, with one file in it, whose feature is the number of the folder."""
    for number, value in enumerate(values):
        folder = root / "s" / f"{column}={value}"
        folder.mkdir(parents=True)
        pq.write_table(rows((1, 5, number), **more), folder / "a.parquet")


def left(scan):
    """The folders of the groups that are left."""
    return [group.file.pin.path.parent.name.partition("=")[2] for group in scan.groups]


@pytest.mark.parametrize(
    ("folders", "wanted", "expected"),
    [
        (["1", "2", "3"], pa.array([3, None, 1], pa.int32()), ["1", "3"]),
        (["1", "2", "3"], pa.array([3.0, None, 2.5]), ["3"]),
        (["1", "2"], pa.array([2**64 - 1], pa.uint64()), ["1", "2"]),
        (["1", "2"], pa.array([], pa.int64()), []),
        (["1", "2"], pa.array(["1"]), ["1", "2"]),
        (["DE", "FR", "__HIVE_DEFAULT_PARTITION__"], pa.array(["FR", None]), ["FR"]),
        (["DE", "a%2Fb"], pa.array(["a/b", "a/b"]).dictionary_encode(), ["a%2Fb"]),
        (["DE", "FR"], pa.chunked_array([["DE"], ["IT"]]).cast(pa.large_string()), ["DE"]),
        (["DE", "FR"], pa.array([b"DE"]), ["DE", "FR"]),
        (["1970-01-02", "1970-01-03"], pa.array([DAY], UTC_MICROS), ["1970-01-02"]),
        (["1970-01-02", "1970-01-03"], pa.array([DAY + 1], UTC_MICROS), []),
        (["1970-01-02", "1970-01-03"], pa.array([dt.date(1970, 1, 3)]), ["1970-01-03"]),
    ],
)
def test_files_without_a_wanted_key_are_left_out(tmp_path, folders, wanted, expected):
    """A file stays if its folder's value is one of those wanted, by value, or of a type that cannot be compared with theirs."""
    written(tmp_path, "c", *folders)

    assert sorted(expected) == sorted(left(pruned(scanned(tmp_path), keys={"c": wanted}, times={})))


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, DAY - 1, []),
        (None, DAY, ["1970-01-02"]),
        (DAY, DAY, ["1970-01-02"]),
        (DAY + 1, 9 * DAY, ["1970-01-03"]),
        (None, 9 * DAY, ["1970-01-02", "1970-01-03"]),
    ],
)
def test_files_of_other_days_are_left_out(tmp_path, first, last, expected):
    """Where folders name the event time, a file stays if that lies in the interval, whose ends are both in it; no time never does."""
    written(tmp_path, "day", "1970-01-02", "1970-01-03", "__HIVE_DEFAULT_PARTITION__")
    scan = scanned(tmp_path, event="day")

    assert expected == left(pruned(scan, keys={}, times={"day": (first, last)}))
    assert ["1970-01-02", "1970-01-03", "__HIVE_DEFAULT_PARTITION__"] == left(pruned(scan, keys={}, times={}))


def test_a_file_with_a_column_of_its_own_stays(tmp_path):
    """What a folder says of a column counts for nothing in a file that has the column, and only there."""
    written(tmp_path, "c", "DE", "FR")
    pq.write_table(rows((1, 5, 1), c=pa.array(["DE"])), tmp_path / "s" / "c=FR" / "b.parquet")
    scan = pruned(scanned(tmp_path), keys={"c": pa.array(["DE"])}, times={})

    assert ["c=DE/a.parquet", "c=FR/b.parquet"] == [
        str(group.file.pin.path.relative_to(tmp_path / "s")) for group in scan.groups
    ]


def test_a_file_must_match_in_all_columns(tmp_path):
    """Keys and times are judged together, and positions stay those of the whole source."""
    for number, folder in enumerate(["c=DE/d=1970-01-02", "c=DE/d=1970-01-03", "c=FR/d=1970-01-03"]):
        (tmp_path / "s" / folder).mkdir(parents=True)
        pq.write_table(rows((1, 5, number)), tmp_path / "s" / folder / "a.parquet")
    whole = scanned(tmp_path, event="d")

    scan = pruned(whole, keys={"c": pa.array(["DE"])}, times={"d": (2 * DAY, 9 * DAY)})

    assert [1] == [group.first_position for group in scan.groups]
    assert whole.types == scan.types


def test_files_of_a_delta_table_are_left_out_unopened(tmp_path):
    """The log of a Delta table says which files can match, in the table's types, so that the others need not be opened."""
    table = rows((1, 5, 10), (2, 5, 20), (3, 5, 30), c=["DE", None, "FR"], n=pa.array([1, 2, 3], pa.int32()))
    deltalake.write_deltalake(str(tmp_path / "s"), table, partition_by=["c", "n"])
    source = files_of(find_source("s", "delta", repo_root=tmp_path))

    by_text = pruned_files(source, keys={"c": pa.array(["FR", None])}, times={})
    by_number = pruned_files(source, keys={"n": pa.array([1.0, 2.0])}, times={})

    assert ["FR"] == [file.partition["c"].as_py() for file in by_text.files]
    assert {1, 2} == {file.partition["n"].as_py() for file in by_number.files}
    assert source.schema == by_text.schema


def test_folders_alone_leave_nothing_out_unopened(tmp_path):
    """Before its footers are read, a source that is no table keeps all of its files."""
    written(tmp_path, "c", "DE", "FR")
    source = find_source("s", "parquet", repo_root=tmp_path)

    assert source == pruned_files(source, keys={"c": pa.array(["DE"])}, times={})
