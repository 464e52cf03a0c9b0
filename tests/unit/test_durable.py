"""What is synced, and when: nothing else stands between a commit and a power cut."""

import json
import os
from pathlib import Path

import pytest

from hindcast import durable
from hindcast.durable import exchange, make_directory, rename_new, sync, sync_delta_table


@pytest.fixture
def synced(monkeypatch):
    """The paths that were synced, in order."""
    paths = []
    monkeypatch.setattr(os, "fsync", lambda handle: paths.append(Path(f"/proc/self/fd/{handle}").resolve()))
    return paths


def make_table(folder, versions, *, checkpoint=None):
    """A Delta table's files, with one data file per version."""
    log = folder / "_delta_log"
    log.mkdir(parents=True)
    for version, name in versions.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
        lines = [{"commitInfo": {}}, {"add": {"path": name.replace(" ", "%20")}}]
        (log / f"{version:020d}.json").write_text("\n".join(map(json.dumps, lines)))
    if checkpoint is not None:
        (log / f"{checkpoint:020d}.checkpoint.parquet").write_bytes(b"x")
        (log / "_last_checkpoint").write_text("{}")
    return folder


def test_a_directory_is_made_and_each_one_above_it_is_synced(tmp_path, synced):
    """Every directory that was made has its name synced in the one above it, from the top."""
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert [tmp_path, tmp_path / "a"] == synced
    assert (tmp_path / "a" / "b").is_dir()


def test_what_is_not_there_is_not_synced(tmp_path):
    """Syncing a missing file is an error, not a success."""
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")


def test_every_commit_is_synced_with_its_files_and_both_folders(tmp_path, synced):
    """Log entries, the files that they add, the log's folder and the table's are synced, and the folders come last."""
    table = make_table(tmp_path / "t", {0: "a.parquet", 1: "b.parquet"})
    sync_delta_table(table)
    log = table / "_delta_log"
    files = {table / "a.parquet", table / "b.parquet", log / f"{0:020d}.json", log / f"{1:020d}.json"}
    assert files == set(synced[:4])
    assert {log, table} == set(synced[4:])


def test_what_a_checkpoint_covers_is_not_synced_again(tmp_path, synced):
    """Only what came with or after the last checkpoint is synced, the checkpoint too."""
    table = make_table(tmp_path / "t", {0: "a.parquet", 1: "b.parquet", 2: "c.parquet"}, checkpoint=1)
    sync_delta_table(table)
    log = table / "_delta_log"
    checkpoint = {log / f"{1:020d}.checkpoint.parquet", log / "_last_checkpoint"}
    assert checkpoint <= set(synced)
    assert {table / "b.parquet", table / "c.parquet"} == {
        path for path in synced if path.suffix == ".parquet" and path.parent == table
    }


def test_what_the_caller_has_synced_is_not_synced_again(tmp_path, synced):
    """From the version that the caller names only what is newer is synced, and the newest version is given for the next time."""
    table = make_table(tmp_path / "t", {0: "a.parquet", 1: "b.parquet", 2: "c.parquet"})
    assert 2 == sync_delta_table(table)
    synced.clear()
    assert 2 == sync_delta_table(table, since=2)
    assert table / "b.parquet" not in synced
    assert table / "c.parquet" in synced


def test_another_table_in_the_same_place_is_synced_from_its_beginning(tmp_path, synced):
    """A table that has fewer versions than the caller had synced is not the one that was synced."""
    table = make_table(tmp_path / "t", {0: "a.parquet", 1: "b.parquet"})
    assert 1 == sync_delta_table(table, since=7)
    assert {table / "a.parquet", table / "b.parquet"} <= set(synced)


def test_folders_of_partitions_are_synced(tmp_path, synced):
    """A file of a partition is found by its encoded name, and the partition's folder is synced as well."""
    table = make_table(tmp_path / "t", {0: "day=1 2/a.parquet"})
    sync_delta_table(table)
    assert {table / "day=1 2" / "a.parquet", table / "day=1 2", table} <= set(synced)


def test_a_file_that_was_compacted_away_is_passed_over(tmp_path, synced):
    """An entry whose file is gone is synced itself, and is no error."""
    table = make_table(tmp_path / "t", {0: "a.parquet"})
    (table / "a.parquet").unlink()
    sync_delta_table(table)
    assert table / "_delta_log" / f"{0:020d}.json" in synced


def test_a_file_that_is_compacted_away_at_this_moment_is_passed_over(tmp_path, monkeypatch):
    """A file that was there when it was looked for, and is gone when it is opened, is no error, and the entries are synced."""
    table = make_table(tmp_path / "t", {0: "day=1/a.parquet"})
    opened, real_open = [], os.open

    def removed_before(path, flags):
        if Path(path).name == "a.parquet":
            Path(path).unlink()
        opened.append(Path(path).name)
        return real_open(path, flags)

    monkeypatch.setattr(durable.os, "open", removed_before)
    assert 0 == sync_delta_table(table)
    assert {"a.parquet", f"{0:020d}.json", "day=1", "t"} <= set(opened)


@pytest.mark.parametrize("has_step", [True, False], ids=["in one step", "in two"])
@pytest.mark.parametrize("there", ["a file", "a directory", "a link to nowhere"])
def test_a_name_that_is_taken_is_not_given_again(tmp_path, monkeypatch, has_step, there):
    """What has a name keeps it, and what was to get it stays where it is; a free name is given."""
    if not has_step:
        monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_args, **_options: object())
    new, taken = tmp_path / "new", tmp_path / "taken"
    new.touch()
    {"a file": taken.touch, "a directory": taken.mkdir, "a link to nowhere": lambda: taken.symlink_to("x")}[there]()
    with pytest.raises(FileExistsError):
        rename_new(new, taken)
    assert ["new", "taken"] == sorted(path.name for path in tmp_path.iterdir())
    rename_new(new, tmp_path / "free")
    assert ["free", "taken"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("has_step", [True, False], ids=["in one step", "in three"])
def test_two_paths_change_places(tmp_path, monkeypatch, has_step):
    """Files and directories change places, with the system's own step and without it, and nothing is left beside them."""
    if not has_step:
        monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_args, **_options: object())
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "new").touch()
    (tmp_path / "other").mkdir()
    exchange(tmp_path / "one", tmp_path / "other")

    assert ["one", "other", "other/new"] == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "nowhere", tmp_path / "other")
    assert ["one", "other", "other/new"] == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
