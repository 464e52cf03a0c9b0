"""The ledger as its users see it: runs that begin, end and are found again."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from delta_tables import asked_while_cleaned_up
from hindcast.catalog import read_repo
from hindcast.errors import InvalidArgument, LedgerError, UnknownName
from hindcast.materialize.digests import digest_files
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.records import SCHEMA, to_record
from hindcast.materialize.runs import Kind, Outcome, Source, ledger_path
from hindcast.settings import state_dir
from ledgers import PROJECT, at, ended, new_run, record

EVERYTHING = {
    "sources": (
        Source(path="/data/a.parquet", bytes=12, sha256="a" * 64, mtime_ns=10**18, inode=7),
        Source(path="/data/table", delta_version=3),
        Source(path="s3://bucket/b.parquet", bytes=34, mtime_ns=10**18, tag='"0f"'),
    ),
    "rows_read": 10,
    "rows_written": 4,
    "rows_unchanged": 5,
    "rows_older": 3,
    "rows_null_key": 2,
    "rows_quarantined": 1,
    "quarantine": "/data/quarantine.parquet",
    "seconds": {"read": 0.5, "encode": 0.25, "pack": 0.125, "write": 1.0},
}


@pytest.fixture
def ledger(tmp_path):
    """A ledger without a run."""
    return Ledger(tmp_path / "data" / "runs", project=PROJECT)


def test_before_the_first_run_there_is_nothing_and_nothing_is_made(ledger):
    """Asking a ledger that is not there yet gives nothing, and leaves nothing behind."""
    assert ([], {}, {}) == (ledger.runs(), ledger.sources(), ledger.summary())
    assert not ledger.path.parent.exists()


def test_a_run_is_there_from_its_beginning(ledger):
    """A run that has begun is found as running, and has no end."""
    run = new_run()
    ledger.begin(run)
    assert [run] == ledger.runs()
    assert (Outcome.RUNNING, None) == (ledger.runs()[0].outcome, ledger.runs()[0].ended_at)


def test_a_run_that_ended_is_found_whole(ledger):
    """Every field of a run comes back as it was given, once, however often it is asked."""
    run = record(ledger, new_run(kind=Kind.REPLACE), **EVERYTHING)
    assert [run] == ledger.runs()
    assert run == ledger.find(run.run_id)


def test_a_run_that_failed_says_why(ledger):
    """The error of a run that failed is kept."""
    run = record(ledger, new_run(), Outcome.FAILED, error="the column 'trips' is text; change the source")
    assert [run] == ledger.runs()


def test_a_run_without_an_interval(ledger):
    """A run need not have a start or an end of event times."""
    run = record(ledger, new_run(kind=Kind.ROLLBACK, start=None, end=None))
    assert [run] == ledger.runs()


def test_runs_are_listed_newest_first_by_view_and_up_to_a_limit(ledger):
    """Runs come by when they began, the newest first, of one view if asked, and not more than asked."""
    names = ["driver", "rider", "driver", 'o\'hara {x} "y"']
    made = [record(ledger, new_run(view, began_at=at(4 - number))) for number, view in enumerate(names)]
    assert made == ledger.runs()
    assert made[:2] == ledger.runs(limit=2)
    assert [made[0], made[2]] == ledger.runs("driver")
    assert [made[3]] == ledger.runs(names[3])
    assert [] == ledger.runs("x' OR 'a' = 'a")


def test_projects_that_share_a_registry_see_their_own_runs(ledger):
    """Runs of another project in the same ledger are not seen, though their view has the same name."""
    record(ledger, new_run())
    other = Ledger(ledger.path, project="it's another")
    theirs = record(other, new_run(project="it's another"))
    assert [theirs] == other.runs()
    assert 1 == len(ledger.runs())


def test_a_run_is_found_by_the_beginning_of_its_id(ledger):
    """A beginning that only one id has will do; a whole id is found though another one begins with it."""
    first = record(ledger, new_run(run_id="0192-aa"))
    second = record(ledger, new_run(run_id="0192-ab"))
    longer = record(ledger, new_run(run_id="0192-ab-c"))
    assert first == ledger.find("0192-aa")
    assert second == ledger.find("0192-ab")
    assert longer == ledger.find("0192-ab-")


def test_a_beginning_of_several_ids_names_them(ledger):
    """Several runs are not one: the error names some of them."""
    for number in range(5):
        record(ledger, new_run(run_id=f"0192-{number}", began_at=at(1, number)))
    with pytest.raises(InvalidArgument) as caught:
        ledger.find("0192")
    assert "RUN_ID: '0192' begins more than one run's id (0192-4, 0192-3, 0192-2, …); give more of it" == str(
        caught.value
    )


def test_an_id_that_no_run_has(ledger):
    """An unknown id, and one of wildcards, are said to be unknown, with what to do."""
    record(ledger, new_run())
    for unknown in ("nope", "%", "_"):
        with pytest.raises(UnknownName) as caught:
            ledger.find(unknown)
        assert f"run {unknown!r} does not exist; `hindcast runs ls` lists those that there are" == str(caught.value)


def test_what_the_last_runs_read_is_known(ledger, tmp_path):
    """The digests of the last runs are given, the newest for each path, so that an unchanged file is not read again."""
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"rows")
    os.utime(file, ns=(10**18, 10**18))
    sources = digest_files([file], known={})
    record(ledger, new_run(began_at=at(1)), sources=(replace(sources[0], sha256="0" * 64),))
    record(ledger, new_run("rider", began_at=at(2)), sources=sources)
    assert {str(file): sources[0]} == ledger.sources()
    file.write_bytes(b"ROWS")
    os.utime(file, ns=(10**18, 10**18))
    assert sources == digest_files([file], known=ledger.sources())


def test_a_file_written_just_before_its_run_is_read_again(ledger, tmp_path):
    """A digest that was taken within two seconds of the file's writing is not given: the file may have changed since."""
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"rows")
    record(ledger, new_run(), sources=digest_files([file], known={}))
    assert {} == ledger.sources()


def test_the_summary_of_a_view(ledger):
    """Metrics show the last success, the last run that ended and counts by outcome, of each view."""
    record(ledger, new_run(began_at=at(3), end=at(3)), rows_written=1)
    record(ledger, new_run(began_at=at(4), end=at(2)), rows_written=2, rows_older=3, rows_null_key=4)
    record(ledger, new_run(began_at=at(5), end=at(5)), Outcome.FAILED, rows_unchanged=8, rows_quarantined=7)
    running = new_run(began_at=at(6))
    ledger.begin(running)
    summary = ledger.summary()["driver"]
    assert at(4).timestamp() + 2.5 == summary.last_success
    assert at(3).timestamp() == summary.fresh_until
    assert 2.5 == summary.last.seconds
    assert {"written": 0, "unchanged": 8, "older": 0, "keyless": 0, "quarantined": 7} == summary.last.rows
    assert {"succeeded": 2, "failed": 1} == summary.runs
    assert (running.process,) == summary.running


@pytest.mark.parametrize("kind", [Kind.REPLACE, Kind.ROLLBACK])
def test_a_replacement_decides_anew_how_fresh_a_view_is(ledger, kind):
    """After a replacement or a rollback, what had been materialized before it no longer counts; what came after does."""
    record(ledger, new_run(began_at=at(5), end=at(5)))
    record(ledger, new_run(began_at=at(6), end=at(2), kind=kind))
    assert at(2).timestamp() == ledger.summary()["driver"].fresh_until
    record(ledger, new_run(began_at=at(7), end=at(3)))
    assert at(3).timestamp() == ledger.summary()["driver"].fresh_until


def test_a_view_whose_every_run_failed_was_never_fresh(ledger):
    """Without a success there is no time of one."""
    record(ledger, new_run(), Outcome.FAILED)
    summary = ledger.summary()["driver"]
    assert (None, None) == (summary.last_success, summary.fresh_until)


def test_versions_with_more_and_fewer_columns_share_a_ledger(ledger):
    """Records of a newer version, with a column that this one does not know, are read, and written after."""
    first = record(ledger, new_run(began_at=at(1)))
    rows = DeltaTable(ledger.path).to_pyarrow_table().slice(0, 1)
    newer = rows.set_column(0, "run_id", pa.array(["newer"])).append_column("more", pa.array(["x"]))
    write_deltalake(ledger.path, newer, mode="append", schema_mode="merge")
    second = record(ledger, new_run(began_at=at(2)))
    assert {"newer", first.run_id, second.run_id} == {run.run_id for run in ledger.runs()}


def test_what_a_source_has_gained_goes_into_a_ledger_of_before(ledger):
    """A ledger whose sources had no tag is read, and takes runs that have one."""
    kept = [field for field in SCHEMA.field("sources").type.value_type if field.name != "tag"]
    at_sources = SCHEMA.get_field_index("sources")
    before = SCHEMA.set(at_sources, pa.field("sources", pa.list_(pa.struct(kept))))
    old = replace(ended(new_run(began_at=at(1))), sources=(Source(path="/data/old.parquet", bytes=1, sha256="a" * 64),))
    rows = to_record(old, record="end").to_pylist()
    ledger.path.mkdir(parents=True)
    write_deltalake(ledger.path, pa.Table.from_pylist(rows, schema=before))

    new = record(ledger, new_run(began_at=at(2)), **EVERYTHING)

    assert [new.sources, old.sources] == [run.sources for run in ledger.runs()]
    assert old.sources[0] == ledger.sources()["/data/old.parquet"]


def test_a_table_from_before_rows_were_left_alone(ledger):
    """Runs of a version that wrote every row again have none unchanged, before the table has that column and once it has."""
    old = ended(new_run(began_at=at(1)), rows_written=3)
    rows = to_record(old, record="end").drop_columns("rows_unchanged")
    ledger.path.mkdir(parents=True)
    write_deltalake(ledger.path, rows)

    def seen():
        last = ledger.summary()["driver"].last.rows
        return [(run.rows_written, run.rows_unchanged) for run in ledger.runs()], last["written"], last["unchanged"]

    assert ([(3, 0)], 3, 0) == seen()
    record(ledger, new_run("rider", began_at=at(2)), rows_unchanged=4)
    assert ([(0, 4), (3, 0)], 3, 0) == seen()


def test_the_table_is_one_that_others_read(ledger):
    """Any Delta reader finds two records of a run that ended, and may not delete from the table."""
    run = record(ledger, new_run(), **EVERYTHING)
    table = DeltaTable(ledger.path)
    rows = sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["record"])
    assert ["begin", "end"] == [row["record"] for row in rows]
    assert (run.run_id, run.start, 4) == (rows[1]["run_id"], rows[1]["interval_start"], rows[1]["rows_written"])
    assert "true" == table.metadata().configuration["delta.appendOnly"]


@pytest.mark.parametrize("content", ["file", "folder", "table"])
def test_something_else_of_that_name_is_left_alone(ledger, content):
    """A file, a folder or another table where the ledger should be is neither read nor written into."""
    ledger.path.parent.mkdir()
    if content == "file":
        ledger.path.write_text("mine")
    elif content == "folder":
        ledger.path.mkdir()
        (ledger.path / "mine").write_text("mine")
    else:
        write_deltalake(ledger.path, pa.table({"mine": [1]}))
    before = sorted(ledger.path.rglob("*"))
    expected = f"{ledger.path} is not a run ledger, and the ledger must be there; move it to another place"
    with pytest.raises(LedgerError) as caught:
        ledger.runs()
    assert expected == str(caught.value)
    with pytest.raises(LedgerError):
        ledger.begin(new_run())
    assert before == sorted(ledger.path.rglob("*"))


def test_a_ledger_that_is_asked_while_its_table_is_made(tmp_path):
    """Who asks again and again while the first run begins is told of no run, and then of that one."""
    with ThreadPoolExecutor() as pool:
        for attempt in range(40):  # of 100 attempts 81 failed where a reader looked twice
            ledger = Ledger(tmp_path / str(attempt) / "runs", project=PROJECT)
            found = pool.submit(_first_found, ledger)
            run = new_run()
            ledger.begin(run)
            assert [run] == found.result(timeout=30)


def _first_found(ledger: Ledger) -> list:
    while not (runs := ledger.runs()):
        pass
    return runs


def test_a_ledger_that_is_asked_while_its_log_is_cleaned_up(ledger):
    """Who asks while entries of the table's log are removed, a day after they were made, is told of all runs."""
    run = new_run()
    ledger.begin(run)
    answers = asked_while_cleaned_up(ledger.path, lambda: ledger.find(run.run_id), lambda: ledger.begin(new_run()))
    assert {run.run_id} == {found.run_id for found in answers}


def test_a_run_that_is_ended_twice_is_as_it_ended_last(ledger):
    """The newest word of a run counts."""
    run = new_run()
    ledger.begin(run)
    ledger.end(ended(run))
    ledger.end(replace(ended(run, Outcome.FAILED), ended_at=run.began_at + timedelta(seconds=9)))
    assert [Outcome.FAILED] == [found.outcome for found in ledger.runs()]


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("data/registry.db", "data/runs"),
        ("{registry_type: file, path: registry.db}", "runs"),
        ("{registry_type: sql, path: 'sqlite:///r.db'}", None),
        ("s3://bucket/registry.db", None),
    ],
)
def test_where_a_ledger_is(tmp_path, registry, expected):
    """It is beside a registry file, and in the state directory where the registry is no file of this machine."""
    (tmp_path / "feature_store.yaml").write_text(f"project: p\nregistry: {registry}\n")
    path = ledger_path(read_repo(tmp_path))
    assert (state_dir(tmp_path) / "runs" if expected is None else tmp_path / expected) == path


def test_readers_load_no_pyarrow(ledger):
    """Listing runs needs a Delta reader only: `hindcast runs ls` and the summary for metrics stay quick."""
    record(ledger, new_run())
    program = (
        "import sys; from pathlib import Path; from hindcast.materialize.ledger import Ledger\n"
        f"assert Ledger(Path({str(ledger.path)!r}), project='{PROJECT}').runs()\n"
        "print(sorted({'pyarrow', 'pandas', 'feast'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert "[]\n" == done.stdout
