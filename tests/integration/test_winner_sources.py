"""Winners out of every kind of source, Delta tables among them, and what is said of sources that cannot be read."""

import json
import math
import os
from contextlib import closing
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delta_tables import actions_of, commit, delete_rows, protocol
from hindcast.errors import SourceError, StoreUnavailable
from hindcast.offline.sources.source import DeltaTable, FilePin, find_source, source_pins
from hindcast.offline.winners.winners import read_winners
from hindcast.offline.writing.parts import append_part, part_name
from source_queries import FUTURE, UTC_MICROS, asked, rows, won


def refused(root, uri="s", file_format="parquet", **changes):
    """What is said of a source that cannot be read."""
    with pytest.raises(SourceError) as caught:
        won(asked(find_source(uri, file_format, repo_root=root), root, **changes))
    assert not (root / "spill").exists() or [] == list((root / "spill").iterdir())
    return str(caught.value).replace(str(root), "")


def test_a_file_and_its_pushed_parts_are_one_source(tmp_path):
    """The parts that pushes appended beside a file are read after it, and win a tie with it."""
    pq.write_table(rows((1, 5, 10), (2, 5, 20)), tmp_path / "s.parquet")
    append_part(rows((2, 5, 21)), tmp_path / "s.parquet", name="a")
    (tmp_path / "s.parquet.parts" / ".b.tmp").write_bytes(b"unfinished")

    assert {1: 10, 2: 21} == won(asked(find_source("s.parquet", "parquet", repo_root=tmp_path), tmp_path))


def test_parts_pushed_before_the_source_had_a_column_have_nulls_there(tmp_path):
    """A pushed part may lack a feature that the source has by now; nothing else may, a part no key, and one file must have the feature."""
    path = tmp_path / "s.parquet"
    name = part_name("019b0c5e-8a00-7000-8000-000000000000", number=0, content=b"")
    pq.write_table(rows((1, 5, 10), (2, 5, 20), g=[3, 4]), path)
    append_part(rows((2, 6, 21)), path, name=name)
    fields = {"f": "f", "g": "g"}
    query = asked(find_source("s.parquet", "parquet", repo_root=tmp_path), tmp_path, fields=fields)

    assert {1: (10, 3), 2: (21, None)} == won(query)
    assert f"{name}.parquet' has no column 'g', only" in refused(tmp_path, "s.parquet.parts", fields=fields)
    assert "has no column 'g', only 'k'" in refused(tmp_path, "s.parquet", keys={"key": "g"})
    append_part(rows((2, 7, 22)), path, name="of-somebody-else")
    assert "of-somebody-else.parquet' has no column 'g', only" in refused(tmp_path, "s.parquet", fields=fields)


def test_ties_are_decided_by_the_path_and_then_by_the_row(tmp_path):
    """Of rows with equal times, the later row of the later file wins, whatever order the files were written in."""
    (tmp_path / "s").mkdir()
    for name, feature in (("b", 3), ("a", 1)):
        pq.write_table(rows((1, 5, feature), (1, 5, feature + 1)), tmp_path / "s" / f"{name}.parquet")

    assert {1: 4} == won(asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/country=*", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/*/*/*.parquet", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/**/*.parquet", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/country=DE", {1: (10, "DE", 7)}),
    ],
)
def test_folders_and_patterns_name_files_and_columns(tmp_path, uri, expected):
    """A directory, or a pattern of files or folders, is read with the columns that the folders' names say, in their types."""
    for folder, row in (("country=DE/n=7", (1, 5, 10)), ("country=__HIVE_DEFAULT_PARTITION__/n=8", (2, 5, 20))):
        (tmp_path / "s" / folder).mkdir(parents=True)
        pq.write_table(rows(row), tmp_path / "s" / folder / "a.parquet")
    query = asked(
        find_source(uri, "parquet", repo_root=tmp_path), tmp_path, fields={"f": "f", "c": "country", "n": "n"}
    )

    assert expected == won(query)


@pytest.mark.parametrize("uri", ["s/**/*.parquet", "s/**", "s/*", "s/*/*", "s/*/*.parquet"])
def test_patterns_pass_over_what_is_no_part(tmp_path, uri):
    """What begins with a dot or an underscore below a pattern's fixed beginning, and what does not end in .parquet, is not read."""
    for path in ("a/1.parquet", "_temporary/0/2.parquet", "_delta_log/3.parquet", "a/_old/4.parquet", "a/_5.parquet"):
        (tmp_path / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows((int(path[-9]), 5, 10)), tmp_path / "s" / path)
    for path in ("_SUCCESS", "notes.txt", "a/schema.json"):
        (tmp_path / "s" / path).write_text("no Parquet")

    assert {1: 10} == won(asked(find_source(uri, "parquet", repo_root=tmp_path), tmp_path))


@pytest.mark.parametrize("uri", ["s/_old/*.parquet", "s/*/_*/*.parquet", "s/_old"])
def test_a_hidden_folder_that_is_named_is_read(tmp_path, uri):
    """A name with an underscore that the path itself gives is meant, fixed or as a pattern."""
    for folder in ("_old", "a/_old"):
        (tmp_path / "s" / folder).mkdir(parents=True)
        pq.write_table(rows((1, 5, 10)), tmp_path / "s" / folder / "1.parquet")

    assert {1: 10} == won(asked(find_source(uri, "parquet", repo_root=tmp_path), tmp_path))


def test_a_folder_can_name_the_time_and_the_key(tmp_path):
    """Dates and whole numbers in folders' names serve as event times and join keys."""
    for day, key in (("1970-01-01", 4), ("1970-01-02", 4), ("1970-01-02", 5)):
        (tmp_path / "s" / f"day={day}" / f"k={key}").mkdir(parents=True)
        pq.write_table(pa.table({"f": [day]}), tmp_path / "s" / f"day={day}" / f"k={key}" / "a.parquet")
    query = asked(
        find_source("s", "parquet", repo_root=tmp_path), tmp_path, event_column="day",
        end_micros=2**50, future_after_micros=2**50,
    )  # fmt: skip

    assert {4: "1970-01-02", 5: "1970-01-02"} == won(query)


def test_paths_and_names_are_never_read_as_code(tmp_path):
    """Quotes, brackets, spaces and percent signs in a path are characters, and a file of that name is meant before a pattern."""
    folder = tmp_path / 'it\'s "a" [b] %20;--é'
    folder.mkdir()
    pq.write_table(rows((1, 5, 10)), folder / "x[1].parquet")
    source = find_source(f"file://{folder}/x[1].parquet", "parquet", repo_root=tmp_path)

    assert {1: 10} == won(asked(source, tmp_path))
    assert [FilePin.of(folder / "x[1].parquet")] == list(source_pins(source))


def test_types_that_lay_out_alike_are_one(tmp_path):
    """Text as a dictionary, as text and as large text is one type over files, and a column of nothing but nulls goes with any."""
    (tmp_path / "s").mkdir()
    texts = [pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string()), pa.nulls(1), pa.array(["d"])]
    for at, column in enumerate(texts):
        pq.write_table(rows((at, 5, 0)).set_column(2, "f", column), tmp_path / "s" / f"{at}.parquet")

    assert {0: "a", 1: "b", 2: None, 3: "d"} == won(asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_a_key_that_is_no_number_is_a_null(tmp_path, kind):
    """NaN in a join key, which is how pandas writes a null there, does not win and is counted as one; in a feature it is a value."""
    keys = pa.array([1.0, math.nan, None, math.nan, 2.0], pa.float64()).cast(kind)
    table = pa.table({"k": keys, "at": pa.array([5] * 5, UTC_MICROS), "f": [math.nan, 2.0, 3.0, 4.0, 5.0]})
    pq.write_table(table, tmp_path / "s")
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)
    with read_winners(query, batch_rows=10) as winners:
        report = winners.report
    found = won(query)

    assert (5, 3) == (report.rows_read, report.null_keys)
    assert {1.0, 2.0} == found.keys()
    assert math.isnan(found[1.0])


def test_a_view_without_entities_has_one_winner(tmp_path):
    """Without join keys the newest row of all wins, and where there is none, none does."""
    pq.write_table(rows((1, 5, 10), (2, 6, 20)), tmp_path / "s")
    source = find_source("s", "parquet", repo_root=tmp_path)
    found = []
    for end in (FUTURE, 4):
        with read_winners(asked(source, tmp_path, keys={}, end_micros=end), batch_rows=10) as winners:
            found.append((winners.count, [row["f"] for batch in winners.batches() for row in batch.to_pylist()]))

    assert [(1, [20]), (0, [])] == found


def test_int96_times_are_read_to_the_end_of_the_calendar(tmp_path):
    """Times as Spark used to write them are read, and those beyond the reach of nanoseconds are ahead and no others."""
    table = rows((1, 5, 10), (2, 253_402_300_799_000_000, 20))
    pq.write_table(table, tmp_path / "s", use_deprecated_int96_timestamps=True)
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)

    assert {1: 10} == won(query)
    assert [2] == pq.read_table(query.quarantine)["k"].to_pylist()


def test_rows_ahead_go_to_quarantine_as_they_stand(tmp_path):
    """Rows dated after the bound are in one file with all their columns, those of other files and folders as nulls, and do not win."""
    (tmp_path / "s" / "c=x").mkdir(parents=True)
    pq.write_table(rows((1, 5, 10), (1, FUTURE + 1, 11), more=pa.array([[1], [2]])), tmp_path / "s" / "a.parquet")
    pq.write_table(
        rows((2, FUTURE, 20), (None, FUTURE + 2, 21), more=pa.array(["p", "q"])), tmp_path / "s" / "c=x" / "b.parquet"
    )
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)

    assert {1: 10, 2: 20} == won(query)
    expected = rows((1, FUTURE + 1, 11), (None, FUTURE + 2, 21), more=pa.array(["[2]", "q"]), c=pa.array([None, "x"]))
    assert expected.to_pylist() == pq.read_table(query.quarantine).select(expected.column_names).to_pylist()
    assert ["ahead.parquet"] == [path.name for path in query.quarantine.parent.iterdir()]


def test_a_quarantine_survives_a_power_cut(tmp_path, monkeypatch):
    """The names of the file and of every folder that was made for it are synced, from the top."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").resolve()))
    pq.write_table(rows((1, FUTURE + 1, 10)), tmp_path / "s")
    won(asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path, quarantine=tmp_path / "a" / "b" / "c.parquet"))

    folders = [path for path in synced if path.suffix != ".tmp"]
    assert [tmp_path, tmp_path / "a", tmp_path / "a" / "b"] == folders


def test_a_quarantine_that_cannot_be_written_fails_before_any_winner(tmp_path):
    """Where the disk does not take the rows dated ahead, the error names their file, and nothing is left of it."""
    pq.write_table(rows((1, FUTURE + 1, 10)), tmp_path / "s")
    (tmp_path / "q").write_text("a file where a directory should be")

    with pytest.raises(StoreUnavailable, match="the rows dated ahead cannot be written to"):
        won(asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path))
    assert [] == list((tmp_path / "spill").glob("*"))


def test_no_rows_are_no_winners(tmp_path):
    """A whole file without rows gives no winner and no error."""
    pq.write_table(rows(), tmp_path / "s")
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)

    assert {} == won(query)
    assert not query.quarantine.exists()


def test_nothing_is_left_when_the_reader_stops_early(tmp_path):
    """After one batch of many, closing the batches and the block leaves no file behind."""
    pq.write_table(rows(*((at, at, at) for at in range(1000))), tmp_path / "s", row_group_size=100)
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)
    with read_winners(query, batch_rows=7) as winners, closing(winners.batches()) as batches:
        first = next(batches)

    assert 1 == first.num_rows
    assert [] == list(query.spill_dir.glob("*"))


def test_a_file_that_changes_between_the_passes_is_noticed(tmp_path):
    """A file that is replaced after the winners were found ends the run: their positions would mean other rows."""
    pq.write_table(rows((1, 5, 10), (2, 5, 20)), tmp_path / "s")
    query = asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path)
    with read_winners(query, batch_rows=10) as winners:
        pq.write_table(rows((3, 5, 30), (1, 5, 10)), tmp_path / "other")
        (tmp_path / "other").rename(tmp_path / "s")
        with pytest.raises(SourceError, match="changed while it was read"):
            list(winners.batches())

    assert [] == list(query.spill_dir.glob("*"))


def test_keys_longer_than_thought_are_found_in_more_passes(tmp_path):
    """Where the keys of a pass do not fit into memory after all, it becomes two, and the winners are the same."""
    count, length = 60_000, 2_000
    keys = pa.array([f"{at % (count // 2):0{length}d}" for at in range(count)])
    table = pa.table({"k": keys, "at": pa.array(range(count), UTC_MICROS), "f": range(count)})
    pq.write_table(table, tmp_path / "s", row_group_size=10_000, use_dictionary=False)
    query = asked(
        find_source("s", "parquet", repo_root=tmp_path), tmp_path,
        end_micros=count, future_after_micros=count, memory_limit_bytes=48 * 2**20, fields={"f": "f"}, threads=1,
    )  # fmt: skip
    with read_winners(query, batch_rows=10_000) as winners:
        found = [feature for batch in winners.batches() for feature in batch.column(1).to_pylist()]

    assert list(range(count // 2, count)) == found
    assert count == winners.report.rows_read


def test_what_is_wrong_with_a_source_is_said(tmp_path):
    """Each source that cannot be read is refused with the file and with what to do."""
    assert "the source 's' does not exist; check the path" in refused(tmp_path)
    assert "the source 's*' matches no Parquet file" in refused(tmp_path, "s*")
    assert "has an address that cannot be read (ftp://); read are s3" in refused(tmp_path, "ftp://host/s")
    assert "has the format 'orc'" in refused(tmp_path, "s", "orc")
    (tmp_path / "s").mkdir()
    assert "holds no Parquet file" in refused(tmp_path)
    part = tmp_path / "s" / "a.parquet"
    part.touch()
    assert "'/s/a.parquet' is empty (0 bytes)" in refused(tmp_path)
    part.write_text("k,at,f\n1,2,3\n")
    assert "'/s/a.parquet' is no whole Parquet file" in refused(tmp_path)
    pq.write_table(rows((1, 5, 10)), part)
    part.write_bytes(part.read_bytes()[:-20])
    assert "'/s/a.parquet' is no whole Parquet file" in refused(tmp_path)


def test_pages_that_are_damaged_are_noticed(tmp_path):
    """A file whose footer is whole and whose pages are not ends the run with its name."""
    path = tmp_path / "s.parquet"
    pq.write_table(rows(*((at, at, at) for at in range(1000))), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[20:400] = bytes(380)
    path.write_bytes(content)

    assert "'/s.parquet' is no whole Parquet file: damaged" in refused(tmp_path, "s.parquet")


@pytest.mark.parametrize("event", [None, FUTURE - 1])
def test_rows_that_cannot_win_are_not_read(tmp_path, event):
    """A row group without event times, or with none in the interval, is passed over: not even its damage is noticed."""
    path = tmp_path / "s.parquet"
    pq.write_table(rows((1, 5, 10), (2, event, 20)), path, row_group_size=1, use_dictionary=False, compression="none")
    group = pq.read_metadata(path).row_group(1)
    content = bytearray(path.read_bytes())
    first, end = group.column(0).data_page_offset, group.column(2).data_page_offset
    content[first:end] = bytes(end - first)
    path.write_bytes(content)

    assert {1: 10} == won(asked(find_source("s.parquet", "parquet", repo_root=tmp_path), tmp_path, end_micros=9))


def test_what_is_wrong_with_a_column_is_said(tmp_path):
    """A column that is missing, there twice, of two types, or no time or key is named with its file."""
    pq.write_table(rows((1, 5, 10), text=["5"], deep=[{"a": 1}]), tmp_path / "s")
    assert "'/s' has no column 'g', only 'k', 'at', 'f', 'text', 'deep'" in refused(tmp_path, fields={"g": "g"})
    assert "'/s' has no column 'created'" in refused(tmp_path, created_column="created")
    assert "column 'text' of '/s' is string, which is no time" in refused(tmp_path, event_column="text")
    assert "column 'f' of '/s' is int64, which is no time" in refused(tmp_path, created_column="f")
    assert "join key column 'deep' is struct<a: int64>" in refused(tmp_path, keys={"d": "deep"})
    (tmp_path / "t").mkdir()
    pq.write_table(rows((1, 5, 10)), tmp_path / "t" / "a.parquet")
    pq.write_table(rows((1, 5, 10)).set_column(2, "f", pa.array([1.5])), tmp_path / "t" / "b.parquet")
    assert "column 'f' is double in '/t/b.parquet', but int64 in '/t/a.parquet'" in refused(tmp_path, "t")
    pq.write_table(pa.table([[1], [2]], names=["f", "f"]), tmp_path / "u")
    assert "'/u' has two columns of the name 'f'" in refused(tmp_path, "u")


def test_memory_that_is_too_small_is_said(tmp_path):
    """A limit that DuckDB cannot work in is an error that says what to raise."""
    pq.write_table(rows(*((at, at, at) for at in range(2000))), tmp_path / "s")

    assert "raise the engine's memory limit" in refused(tmp_path, memory_limit_bytes=100_000)


# Delta tables


def test_a_delta_table_is_read_at_its_pinned_version(tmp_path):
    """What is written to a Delta table, and deleted from it, after it was pinned, is not seen."""
    path = str(tmp_path / "s")
    deltalake.write_deltalake(path, rows((1, 5, 10), (2, 5, 20), (3, 5, 30)))
    deltalake.DeltaTable(path).delete("k = 2")
    pinned = find_source("s", "delta", repo_root=tmp_path)
    deltalake.write_deltalake(path, rows((1, 6, 11), (4, 6, 40)), mode="append")
    deltalake.DeltaTable(path).delete("k = 3")

    assert [DeltaTable(name="s", path=tmp_path / "s", version=1)] == list(source_pins(pinned))
    assert {1: 10, 3: 30} == won(asked(pinned, tmp_path))
    assert {1: 11, 4: 40} == won(asked(find_source("s", "delta", repo_root=tmp_path), tmp_path))


def test_partitions_of_a_delta_table_are_columns(tmp_path):
    """Partition columns of a Delta table have the table's types and values, odd characters and nulls too."""
    table = rows((1, 5, 10), (2, 5, 20), (3, 5, 30), c=["a/b %20=é", None, "x y"], n=pa.array([1, 2, 3], pa.int32()))
    deltalake.write_deltalake(str(tmp_path / "s"), table, partition_by=["c", "n"])
    query = asked(find_source("s", "delta", repo_root=tmp_path), tmp_path, fields={"c": "c", "n": "n", "f": "f"})

    assert {1: ("a/b %20=é", 1, 10), 2: (None, 2, 20), 3: ("x y", 3, 30)} == won(query)


def test_a_column_that_a_delta_table_has_had_since_is_null_in_older_files(tmp_path):
    """Rows from before a column was added to a Delta table have a null there."""
    path = str(tmp_path / "s")
    deltalake.write_deltalake(path, rows((1, 5, 10)))
    deltalake.write_deltalake(path, rows((2, 5, 20), g=["new"]), mode="append", schema_mode="merge")
    query = asked(find_source("s", "delta", repo_root=tmp_path), tmp_path, fields={"g": "g"})

    assert {1: None, 2: "new"} == won(query)


def test_rows_that_a_deletion_vector_names_are_deleted(tmp_path):
    """A deleted row neither wins nor is counted, although its file still holds it."""
    path = tmp_path / "s"
    table = rows((1, 5, 10), (1, 6, 11), (2, 5, 20), (2, FUTURE + 1, 21), (3, 5, 30))
    deltalake.write_deltalake(str(path), table)
    delete_rows(path, [1, 3])
    query = asked(find_source("s", "delta", repo_root=tmp_path), tmp_path)
    with read_winners(query, batch_rows=10) as winners:
        report = winners.report

    assert {1: 10, 2: 20, 3: 30} == won(query)
    assert (3, 0) == (report.rows_read, report.quarantined)


def test_what_is_wrong_with_a_delta_table_is_said(tmp_path):
    """A table that is missing, is none, has lost files or is written in a way that is not read here is refused with a reason."""
    assert "the source 's' does not exist" in refused(tmp_path, "s", "delta")
    (tmp_path / "s").mkdir()
    assert "the source 's' is no Delta table" in refused(tmp_path, "s", "delta")
    path = str(tmp_path / "t")
    deltalake.write_deltalake(path, rows((1, 5, 10)))
    commit(tmp_path / "t", 1, protocol("columnMapping"), mapped_metadata(tmp_path / "t"))
    assert "uses columnMapping, which is not read here" in refused(tmp_path, "t", "delta")
    deltalake.write_deltalake(str(tmp_path / "u"), rows((1, 5, 10)))
    next((tmp_path / "u").glob("*.parquet")).unlink()
    assert "a file of version 0 of the Delta table 'u' is gone" in refused(tmp_path, "u", "delta")
    (tmp_path / "u" / "_delta_log" / f"{0:020}.json").write_text("{")
    assert "the Delta table 'u' cannot be read" in refused(tmp_path, "u", "delta")


def mapped_metadata(path):
    """The metadata of a table under which its columns have other names in the files."""
    metadata = actions_of(path, "metaData")[0]
    schema = json.loads(metadata["schemaString"])
    for at, column in enumerate(schema["fields"]):
        column["metadata"] = {"delta.columnMapping.id": at, "delta.columnMapping.physicalName": f"col-{at}"}
    configuration = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": str(len(schema["fields"]))}
    return {"metaData": metadata | {"schemaString": json.dumps(schema), "configuration": configuration}}
