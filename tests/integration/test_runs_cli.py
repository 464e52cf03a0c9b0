"""`hindcast runs`: what a person reads, what a program reads, and what is said when there is nothing."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from hindcast.catalog import read_repo
from hindcast.cli.main import cli
from hindcast.clock import from_micros, system_clock
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Kind, Outcome, Source
from ledgers import PROJECT, at, new_run, record


@pytest.fixture
def repo(tmp_path):
    """A repo without a run."""
    (tmp_path / "feature_store.yaml").write_text(f"project: {PROJECT}\nregistry: data/registry.db\n")
    return tmp_path


@pytest.fixture
def ledger(repo):
    """Its ledger."""
    return Ledger.of_repo(read_repo(repo))


def runs(repo, *arguments):
    """Exit code, output and error output of `hindcast runs`, called in the repo."""
    with contextlib.chdir(repo):
        done = CliRunner().invoke(cli, ["runs", *arguments], prog_name="hindcast")
    return done.exit_code, done.stdout, done.stderr


def test_no_runs_yet(repo, ledger):
    """Before the first run the list is empty, with a hint for people and without for programs."""
    hint = "`feast materialize` records them, with the engine hindcast.materialize.plugin.StreamingEngine"
    assert (0, f"no runs in {ledger.path}; {hint}\n", "") == runs(repo, "ls")
    assert (0, f"no runs of view 'driver' in {ledger.path}; {hint}\n", "") == runs(repo, "ls", "--view", "driver")
    assert (0, "[]\n", "") == runs(repo, "ls", "--output", "json")


def test_the_list_is_a_table(repo, ledger):
    """Runs stand below each other, the newest first: words to the left, numbers to the right."""
    day = {"start": at(1), "end": at(2)}
    record(
        ledger,
        new_run(run_id="01a214ed-9b77-7eea-b062-919949bcd879", began_at=at(2, 1), **day),
        rows_written=1_234_567,
        rows_unchanged=890,
        rows_older=12,
        rows_null_key=3,
        rows_quarantined=4,
    )
    record(
        ledger,
        new_run("account_merchant", run_id="01a214ed-9b77-7eea-c062-919949bcd879", began_at=at(2, 2), **day),
        Outcome.FAILED,
        error="said why",
    )
    record(
        ledger,
        new_run(
            run_id="01a214ee-9b77-7eea-b062-919949bcd879",
            began_at=at(2, 3),
            kind=Kind.REPLACE,
            start=datetime(1, 1, 1, tzinfo=UTC),
            end=at(2),
        ),
    )
    record(
        ledger,
        new_run(
            run_id="01a214ef-9b77-7eea-b062-919949bcd879", began_at=at(2, 4), kind=Kind.ROLLBACK, start=None, end=None
        ),
    )
    # fmt: off
    expected = (
        "run                   view              outcome    began                  took    written  unchanged  older  skipped  quarantined  interval\n"
        "01a214ef-9b77         driver            succeeded  2026-11-02 04:00:00  2.50 s          0          0      0        0            0  rollback\n"
        "01a214ee-9b77         driver            succeeded  2026-11-02 03:00:00  2.50 s          0          0      0        0            0  replace all up to 2026-11-02 00:00\n"
        "01a214ed-9b77-7eea-c  account_merchant  failed     2026-11-02 02:00:00  2.50 s          0          0      0        0            0  2026-11-01 00:00 to 2026-11-02 00:00\n"
        "01a214ed-9b77-7eea-b  driver            succeeded  2026-11-02 01:00:00  2.50 s  1,234,567        890     12        3            4  2026-11-01 00:00 to 2026-11-02 00:00\n"
    )
    # fmt: on
    assert (0, expected, "") == runs(repo, "ls")
    lines = expected.splitlines()
    code, output, _ = runs(repo, "ls", "--limit", "2")
    assert (0, [line.split()[0] for line in lines[:3]]) == (code, [line.split()[0] for line in output.splitlines()])
    code, output, _ = runs(repo, "ls", "--view", "account_merchant")
    assert (0, ["run", "01a214ed-9b77"]) == (code, [line.split()[0] for line in output.splitlines()])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.034, "0.03 s"), (59.96, "60.0 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (90_000, "25 h 0 min")],
)
def test_durations_are_short(repo, ledger, seconds, expected):
    """A run's duration is written in one or two units."""
    run = new_run()
    ledger.begin(run)
    ledger.end(replace(run, outcome=Outcome.SUCCEEDED, ended_at=run.began_at + timedelta(seconds=seconds)))
    assert f"\ntook              {expected}\n" in runs(repo, "show", run.run_id)[1]


def test_runs_that_have_not_ended(repo, ledger):
    """A run that goes on says for how long, one whose process is gone is interrupted, and one elsewhere has a note."""
    began = from_micros(system_clock()) - timedelta(minutes=5)
    working, gone, elsewhere = (new_run(view, began_at=began) for view in ("working", "gone", "elsewhere"))
    ledger.begin(working)
    ledger.begin(replace(gone, process=replace(gone.process, started_seconds=0.0)))
    ledger.begin(replace(elsewhere, process=replace(elsewhere.process, host="another")))
    lines = {line.split()[1]: line for line in runs(repo, "ls")[1].splitlines()}
    assert "  running  " in lines["working"]
    assert "5 min" in lines["working"]
    assert " s so far  " in lines["working"]
    assert "  interrupted  " in lines["gone"]
    assert "so far" not in lines["gone"]
    assert "  running  " in lines["elsewhere"]
    process_id = elsewhere.process.process_id
    note = f"whether it still runs can be seen on its host 'another' (process {process_id}) only"
    assert f"\nnote              {note}\n" in runs(repo, "show", elsewhere.run_id)[1]


def test_one_run_is_shown_whole(repo, ledger):
    """Everything that is known of a run is shown, by the beginning of its id."""
    run = record(
        ledger,
        new_run(run_id="01a214ed-9b77-7eea-b062-919949bcd879", start=at(1), end=at(2, 12), began_at=at(3)),
        Outcome.FAILED,
        error="the disk is full; make room",
        rows_read=20,
        rows_written=1_000,
        rows_unchanged=2_000,
        rows_older=2,
        rows_null_key=3,
        rows_quarantined=4,
        quarantine="/data/quarantine.parquet",
        seconds={"read": 0.5, "write": 12.0},
        sources=(
            Source(path="/data/a.parquet", bytes=1_234, sha256="ab" * 32),
            Source(path="/data/t", delta_version=3),
        ),
    )
    expected = f"""\
run               01a214ed-9b77-7eea-b062-919949bcd879
project           tiny
view              driver
kind              materialize
outcome           failed
error             the disk is full; make room
interval          2026-11-01 00:00 to 2026-11-02 12:00
began             2026-11-03 00:00:00 UTC
ended             2026-11-03 00:00:02 UTC
took              2.50 s
stages            read 0.50 s, write 12.0 s
rows read         20
rows written      1,000
rows unchanged    2,000 (stored already, by an earlier writer)
rows older        2 (the store has newer ones)
rows skipped      3 (a key is null)
rows quarantined  4 (dated too far ahead)
quarantine        /data/quarantine.parquet
definitions       sha256:0
versions          hindcast {run.hindcast_version}, feast {run.feast_version}
process           {run.process.process_id} on {run.process.host}
source            /data/a.parquet  1,234 bytes  sha256:{"ab" * 32}
source            /data/t  version 3
"""
    assert (0, expected, "") == runs(repo, "show", "01a2")


def test_json_has_every_field(repo, ledger):
    """Programs get all fields of a run, the same from the list and from one run, with times in ISO 8601."""
    run = record(ledger, new_run(began_at=at(3), start=None), sources=(Source(path="/d", delta_version=3),))
    code, output, _ = runs(repo, "show", run.run_id, "--output", "json")
    shown = json.loads(output)
    assert 0 == code
    assert [shown] == json.loads(runs(repo, "ls", "--output", "json")[1])
    assert set(run.__dataclass_fields__) == set(shown)
    assert (run.run_id, "2026-11-03T00:00:00+00:00", None) == (shown["run_id"], shown["began_at"], shown["start"])
    assert 3 == shown["sources"][0]["delta_version"]
    assert run.process.host == shown["process"]["host"]


def test_an_unknown_run(repo, ledger):
    """An id that no run has is an error with exit code 1, with and without a ledger."""
    expected = (1, "", "hindcast: run 'nope' does not exist; `hindcast runs ls` lists those that there are\n")
    assert expected == runs(repo, "show", "nope")
    record(ledger, new_run())
    assert expected == runs(repo, "show", "nope")


def test_a_damaged_ledger(repo, ledger):
    """A ledger that cannot be read is one line and exit code 1."""
    record(ledger, new_run())
    for entry in (ledger.path / "_delta_log").iterdir():
        entry.write_text("{")
    code, output, error = runs(repo, "ls")
    assert (1, "") == (code, output)
    assert error.startswith(f"hindcast: the run ledger {ledger.path} is damaged; ")
    assert 1 == error.count("\n")


@pytest.mark.parametrize("arguments", [("ls", "--limit", "0"), ("show",), ("ls", "--output", "yaml")])
def test_bad_usage(repo, arguments):
    """Options out of range and missing arguments are bad usage: exit code 2."""
    code, output, error = runs(repo, *arguments)
    assert (2, "") == (code, output)
    assert error.startswith("Usage: hindcast runs ")
