"""What `feast materialize` shows while it runs, a bar on a terminal and a summary in any case; what it takes; and what becomes of a Ctrl-C."""

import contextlib
import os
import pty
import re
import signal
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults.materializing import (
    END,
    KEYS,
    SOURCE,
    START,
    VIEW,
    copy_repo,
    make_repo,
    make_rides,
    run_driver,
    serials,
    watermark,
)
from hindcast.catalog import read_repo
from hindcast.clock import to_micros
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Outcome
from services import wait_for

RIDES = make_rides()
INTERVAL = [f"{instant:%Y-%m-%dT%H:%M:%S}" for instant in (START, END)]
PEAK_FACTOR = 1.25
"""What is promised."""

PRESSES = 2
"""Python drops a Ctrl-C that comes while it clears an object away, and a person presses once more."""

CTRL_C_SECONDS = 20.0
"""More than the time after which a connection to Redis gives up."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Starts `feast` commands without their import."""
    with run_driver(tmp_path_factory.mktemp("runs")) as driver:
        yield driver


@pytest.fixture(scope="module")
def applied(tmp_path_factory, redis):
    """A repo that was never materialized."""
    return make_repo(tmp_path_factory.mktemp("applied") / "repo", redis, RIDES)


@pytest.fixture
def repo(tmp_path, applied, redis):
    """A repo of the test's own, and nothing in Redis."""
    redis.client().flushall()
    return copy_repo(applied, tmp_path / "repo", redis)


@contextlib.contextmanager
def terminal():
    """A pseudo-terminal: its path, and what was written to it, which is whole once the block has ended."""
    ours, theirs = pty.openpty()
    # tqdm hides its bars on a terminal without lines.
    termios.tcsetwinsize(theirs, (40, 120))
    written = bytearray()

    def read():
        # Linux says that nobody has the other side any more by an error.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65_536):
                written.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield Path(os.ttyname(theirs)), written
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def test_a_terminal_gets_a_bar(driver, repo):
    """On a terminal a bar counts the view's rows to the last one, with rows a second and the time that is left, and the summary follows."""
    with terminal() as (path, written):
        run = driver.start(repo, "materialize", *INTERVAL, "--views", VIEW, terminal=path)
        assert 0 == run.wait()

    shown = written.decode()
    assert re.search(rf"{VIEW}: 100%.*5\.00k/5\.00k \[00:\d\d<00:00, .*rows/s\]", shown), shown
    assert re.search(
        rf"{VIEW}: 5,000 rows written; read [\d,]+ in \d+\.\d s, [\d,]+ keys a second; run [\da-f-]{{36}}", shown
    ), shown
    assert shown.index("100%") < shown.index("rows written")


def test_a_file_gets_the_summary_and_no_bar(driver, repo):
    """Where output is no terminal there is neither a bar nor a carriage return, and the summary stands on standard output."""
    run = driver.start(repo, "materialize", *INTERVAL, "--views", VIEW)
    assert 0 == run.wait()

    output, errors = run.output_path.read_text(), run.errors_path.read_text()
    assert f"\n{VIEW}: {KEYS:,} rows written; read " in output
    assert "\r" not in output + errors
    assert "rows/s" not in output + errors


def test_a_ctrl_c_ends_a_run_and_is_on_record(driver, repo, redis):
    """A run that is interrupted while Redis does not answer ends soon, says so in its record, leaves the watermark, and can be repeated."""
    ledger = Ledger.of_repo(read_repo(repo))
    redis.pause()
    try:
        run = driver.start(repo, "materialize", *INTERVAL, "--views", VIEW)
        wait_for(lambda: ledger.runs(VIEW), seconds=30, what="a run on record")
        for _ in range(PRESSES):
            os.kill(run.process_id, signal.SIGINT)
            pressed = time.monotonic()
            wait_for(lambda pressed=pressed: run.has_ended or time.monotonic() - pressed > CTRL_C_SECONDS, seconds=60)
            if run.has_ended:
                break
        assert run.has_ended
        assert 0 < run.wait()
    finally:
        redis.resume()

    (stopped,) = ledger.runs(VIEW)
    assert (Outcome.FAILED, "stopped by KeyboardInterrupt") == (stopped.outcome, stopped.error)
    assert [] == watermark(repo)
    assert 0 == driver.materialize(repo).wait()
    assert KEYS == len(serials(redis))


def write_history(repo, keys):
    """Ten rows of each of so many keys, in no order, in one file as another writer lays it out by default."""
    chance = np.random.default_rng(keys)
    count = 10 * keys
    span = round((END - START).total_seconds()) * 1_000_000
    times = pa.array(to_micros(START) + chance.integers(0, span, count), pa.timestamp("us", "UTC"))
    columns = {
        "driver_id": chance.permutation(np.repeat(np.arange(keys), 10)),
        "serial": np.arange(count),
        "rating": chance.random(count),
        "city": pa.array(chance.integers(0, 40, count)).cast(pa.string()),
        "active": chance.integers(0, 2, count).astype(bool),
        "note": pa.array(chance.integers(0, 2**40, count)).cast(pa.string()),
        "event_ts": times,
        "created_ts": times,
    }
    pq.write_table(pa.table(columns), repo / SOURCE)


def test_memory_does_not_grow_with_the_range(driver, repo, redis):
    """A run over 2,000,000 rows of 200,000 keys takes at most a quarter more memory than one over a quarter of both, which fills all queues."""
    peaks_kb = []
    for keys in (50_000, 200_000):
        write_history(repo, keys)
        redis.client().flushall()
        run = driver.materialize(repo)
        run.succeed()
        assert f"{VIEW}: {keys:,} rows written; read {10 * keys:,} in " in run.output_path.read_text()
        peaks_kb.append(run.peak_kb)

    small, large = peaks_kb
    assert large <= PEAK_FACTOR * small, f"{large:,} kB against {small:,} kB"
