"""The ledger when its writer is killed, others write at once, the disk is full, or what it wrote is damaged."""

import contextlib
import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deltalake import DeltaTable

from faults.cycles import CYCLES
from hindcast.errors import LedgerError
from hindcast.materialize import table as table_module
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Outcome
from ledgers import PROJECT, ended, new_run, record
from services import wait_for

RUNS = 100
TESTS = Path(__file__).parents[1]
HEAD = f"""
import os, resource, sys
from pathlib import Path
import hindcast.materialize.records
from hindcast.errors import LedgerError
from hindcast.materialize.ledger import Ledger
from ledgers import ended, new_run, record
ledger = Ledger(Path(sys.argv[1]), project={PROJECT!r}, retention_hours=0)
"""
ONE_AFTER_THE_OTHER = """
for number in range(int(sys.argv[2])):
    run = new_run(f"view{number % 3}")
    ledger.begin(run)
    print("began", run.run_id, flush=True)
    ledger.end(ended(run))
    print("ended", run.run_id, flush=True)
"""
BEGINS_AND_WAITS = """
run = new_run()
ledger.begin(run)
print(run.run_id, flush=True)
sys.stdin.read()
"""
TELLS_WHAT_FAILS = """
try:
    record(ledger, new_run())
except LedgerError as error:
    print(error)
"""


@contextlib.contextmanager
def program(text, ledger, *arguments):
    """A program that has the ledger, as a process of its own; killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + text, str(ledger.path), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def ledger(tmp_path):
    """A ledger without a run; what is compacted away is removed at once."""
    return Ledger(tmp_path / "runs", project=PROJECT, retention_hours=0)


def data_files(ledger):
    """The Parquet files in the table's folder, whether the table still names them or not."""
    return [path for path in ledger.path.iterdir() if path.suffix == ".parquet"]


def log_entries(ledger):
    """The files of the table's log."""
    return sorted((ledger.path / "_delta_log").glob("*.json"))


def test_two_processes_lose_no_run_and_leave_few_files(ledger):
    """Of 200 runs that two processes record at once every one is there, ended, in a few files."""
    with program(ONE_AFTER_THE_OTHER, ledger, RUNS) as first, program(ONE_AFTER_THE_OTHER, ledger, RUNS) as second:
        outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
        assert [0, 0] == [first.returncode, second.returncode]
    told = {line.split()[1] for output in outputs for line in output.splitlines() if line.startswith("ended")}
    found = ledger.runs()
    assert 2 * RUNS == len(told) == len(found)
    assert told == {run.run_id for run in found}
    assert {Outcome.SUCCEEDED} == {run.outcome for run in found}
    assert 4 * RUNS == DeltaTable(ledger.path).to_pyarrow_table().num_rows
    assert len(data_files(ledger)) <= table_module._FILES_MAX
    assert len(log_entries(ledger)) <= 2 * table_module._FILES_MAX


def test_a_killed_writer_leaves_a_ledger_that_others_go_on_with(ledger):
    """However often a writer is killed, what it told of is there, a run it had begun is interrupted, and others go on."""
    began, over = set(), set()
    rng = random.Random(7)
    for _ in range(4 * CYCLES):
        with program(ONE_AFTER_THE_OTHER, ledger, 1000) as writer:
            lines = [writer.stdout.readline() for _ in range(rng.randint(1, 12))]
            with contextlib.suppress(subprocess.TimeoutExpired):
                writer.wait(rng.random() * 0.05)  # until another point of its work
            writer.kill()
            lines += writer.stdout.readlines()
        began |= {line.split()[1] for line in lines if line.startswith("began")}
        over |= {line.split()[1] for line in lines if line.startswith("ended")}
        found = {run.run_id: run.outcome for run in ledger.runs()}
        assert began <= set(found)
        assert {Outcome.SUCCEEDED} == {found[run_id] for run_id in over}
        assert Outcome.RUNNING not in found.values()
    last = record(ledger, new_run())
    assert last == ledger.find(last.run_id)


def test_a_run_whose_process_is_killed_was_interrupted(ledger):
    """A run is running while its process lives, and interrupted once that was killed, with a note."""
    with program(BEGINS_AND_WAITS, ledger) as process:
        run_id = process.stdout.readline().strip()
        assert (Outcome.RUNNING, "") == (ledger.find(run_id).outcome, ledger.find(run_id).note)
        process.send_signal(signal.SIGKILL)
        process.wait()
        run = ledger.find(run_id)
    assert Outcome.INTERRUPTED is run.outcome
    assert f"its process {process.pid} has ended without recording how" == run.note
    assert run.ended_at is None


def test_a_reader_under_way_reads_on_while_files_are_compacted(tmp_path):
    """A reader that opened the table before a compaction finds all its files, however old they are."""
    ledger = Ledger(tmp_path / "runs", project=PROJECT)
    while not ledger.path.exists() or len(DeltaTable(ledger.path).file_uris()) < table_module._FILES_MAX:
        record(ledger, new_run())
    reader = DeltaTable(ledger.path)
    for path in (*data_files(ledger), *log_entries(ledger)):
        os.utime(path, (0, 0))
    record(ledger, new_run())
    assert len(DeltaTable(ledger.path).file_uris()) < table_module._FILES_MAX
    assert table_module._FILES_MAX == reader.to_pyarrow_table().num_rows
    assert table_module._FILES_MAX // 2 + 1 == len(ledger.runs())
    record(ledger, new_run())
    assert table_module._FILES_MAX // 2 + 2 == len(ledger.runs())


@pytest.mark.parametrize("bytes_max", [50, 600])
def test_a_disk_that_is_full_is_a_clear_error_and_no_damage(ledger, bytes_max):
    """Where no file can grow a run does not begin, the words say what to look at, and the ledger stays as it was."""
    before = record(ledger, new_run())
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_max}, {bytes_max}))\n"
    with program(limit + TELLS_WHAT_FAILS, ledger) as process:
        output, _ = process.communicate(timeout=60)
        assert 0 == process.returncode
    assert (
        f"the run ledger {ledger.path} cannot be written; check the rights of its folder and the space on its disk\n"
        == output
    )
    assert [before] == ledger.runs()
    after = record(ledger, new_run())
    assert [after, before] == ledger.runs()


def test_a_folder_that_may_only_be_read_is_a_clear_error():
    """Whoever may read the ledger but not write can list runs, and cannot begin one."""
    # A run is recorded first, by the owner: what Python imports for it may be closed to the other user.
    other_user = """
record(ledger, new_run())
for path in (ledger.path, *ledger.path.rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(len(ledger.runs()))
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own folders are closed to other users
        ledger = Ledger(Path(folder) / "runs", project=PROJECT)
        with program(other_user + TELLS_WHAT_FAILS, ledger) as process:
            output, _ = process.communicate(timeout=60)
            assert 0 == process.returncode
        for path in (ledger.path, ledger.path / "_delta_log"):
            path.chmod(0o755)
        assert (
            "1\n"
            f"the run ledger {ledger.path} cannot be written; check the rights of its folder and the space on its disk\n"
        ) == output
        assert 1 == len(ledger.runs())


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    """Where a file stands in the way of the ledger's folder, no run begins, and there are no runs."""
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "runs", project=PROJECT)
    with pytest.raises(LedgerError, match=r"file/runs cannot be written; check the rights"):
        ledger.begin(new_run())


def test_an_end_that_cannot_be_recorded_leaves_the_run_begun(ledger, monkeypatch):
    """When the disk fails between a run's beginning and its end, the end is an error and the run stays."""
    run = new_run()
    ledger.begin(run)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _handle: os.close(-1))
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.end(ended(run))
    assert [run.run_id] == [found.run_id for found in ledger.runs()]


def test_a_folder_that_cannot_be_locked_is_a_clear_error(ledger, monkeypatch):
    """Where the file system has no locks (NFS without its lock service), a run does not begin, and the error says what to do."""

    def without_locks(_handle, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(LedgerError, match="cannot be locked"):
        ledger.begin(new_run())


def test_a_compaction_that_fails_does_not_fail_the_run(ledger, monkeypatch, caplog):
    """A run is recorded though the files cannot be compacted; the log says so."""
    monkeypatch.setattr(table_module, "_FILES_MAX", 2)
    record(ledger, new_run())
    run = new_run()
    ledger.begin(run)

    def fail(*_arguments, **_options):
        raise OSError

    monkeypatch.setattr(DeltaTable, "vacuum", fail)
    ledger.end(ended(run))
    assert [(run.run_id, Outcome.SUCCEEDED)] == [(found.run_id, found.outcome) for found in ledger.runs(limit=1)]
    assert "the run is recorded, but the ledger's files were not compacted" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "empty", "gap", "data"])
def test_a_damaged_ledger_is_a_clear_error(ledger, damage):
    """A log entry that is cut off, empty or missing, and a data file that is cut off, are told, and nothing is written."""
    for _ in range(3):
        record(ledger, new_run())
    entries = log_entries(ledger)
    if damage == "cut":
        os.truncate(entries[-1], entries[-1].stat().st_size // 2)
    elif damage == "empty":
        os.truncate(entries[-1], 0)
    elif damage == "gap":
        entries[2].unlink()
    else:
        for file in data_files(ledger):
            os.truncate(file, 100)
    expected = (
        f"the run ledger {ledger.path} is damaged; restore it, or move it away and a new one begins. Online rows and Feast's own "
        "records of what is materialized do not depend on it"
    )
    with pytest.raises(LedgerError) as caught:
        ledger.runs()
    assert expected == str(caught.value)
    if damage != "data":  # which a writer does not read
        with pytest.raises(LedgerError) as caught:
            ledger.begin(new_run())
        assert expected == str(caught.value)
        assert len(entries) - (damage == "gap") == len(log_entries(ledger))


def test_a_writer_that_was_killed_at_the_first_version(ledger):
    """A folder with an empty log, as a writer leaves it that was killed too early, is a ledger without runs."""
    (ledger.path / "_delta_log").mkdir(parents=True)
    assert [] == ledger.runs()
    run = record(ledger, new_run())
    assert [run] == ledger.runs()


def test_a_ledger_that_another_process_holds_is_waited_for_and_then_told(ledger, monkeypatch):
    """A writer that is stuck does not make others wait for ever, and what it holds can be looked up."""
    record(ledger, new_run())
    monkeypatch.setattr(table_module, "_LOCK_SECONDS", 0.1)
    holder = os.open(ledger.path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="is held by another process"):
            ledger.begin(new_run())
    finally:
        os.close(holder)
    record(ledger, new_run())
    assert 2 == len(ledger.runs())


def test_a_commit_is_synced_before_it_is_told(ledger, monkeypatch):
    """When a record is told of, its data file, its log entry and both folders have been synced, and a new folder's parent."""
    synced = set()
    real = os.fsync

    def fsync(handle):
        synced.add(Path(f"/proc/self/fd/{handle}").resolve())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.begin(new_run())
    assert {ledger.path.parent, ledger.path, ledger.path / "_delta_log"} <= synced
    assert {*data_files(ledger), *log_entries(ledger)} <= synced
    wait_for(lambda: not list(ledger.path.rglob("*.tmp")))
