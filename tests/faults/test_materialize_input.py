"""Input that cannot be materialized: the command fails, its last line says in our own words what to look at, and the watermark stays."""

import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.protos.feast.core.Registry_pb2 import Registry

from faults.materializing import (
    END,
    SOURCE,
    START,
    VIEW,
    Run,
    copy_repo,
    make_repo,
    make_rides,
    newest,
    rides_table,
    serials,
    watermark,
)
from services import FEAST

RIDES = make_rides()[:400]
SENTENCE = re.compile(r"hindcast\.errors\.\w+: \S.{20,500}")
"""What a Python process says last of an error of ours, with one line of message."""


@pytest.fixture(scope="module")
def applied(tmp_path_factory, redis) -> Path:
    """A repo that is good, never materialized."""
    return make_repo(tmp_path_factory.mktemp("applied") / "repo", redis, RIDES)


@pytest.fixture
def repo(tmp_path, applied, redis) -> Path:
    """A repo of the test's own, and nothing in Redis."""
    redis.client().flushall()
    return copy_repo(applied, tmp_path / "repo", redis)


def judge(run: Run, repo: Path, *named: str) -> None:
    """The run failed, said so in one sentence that names what is wrong, and the watermark is where it was."""
    assert 0 < run.wait()
    assert SENTENCE.fullmatch(run.last_words), run.last_words
    assert [] == [name for name in named if name not in run.last_words], run.last_words
    assert [] == watermark(repo)


def remove(source: Path) -> None:
    """No file."""
    source.unlink()


def empty(source: Path) -> None:
    """No bytes."""
    source.write_bytes(b"")


def truncate(source: Path) -> None:
    """Half the bytes, as a copy leaves them that broke off."""
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])


def overwrite(source: Path) -> None:
    """A file of another kind."""
    source.write_text("driver_id,serial\n1,2\n")


@pytest.mark.parametrize("spoil", [remove, empty, truncate, overwrite])
def test_a_source_file_that_cannot_be_read(driver, repo, redis, spoil: Callable[[Path], None]):
    """A source file that is missing, empty, truncated or no Parquet fails the run, is named, and nothing is written."""
    spoil(repo / SOURCE)
    judge(driver.materialize(repo), repo, Path(SOURCE).name)
    assert {} == serials(redis)


def test_a_source_file_of_no_rows(driver, repo, redis):
    """A good file that holds no rows yet, as under a view that only pushes feed, is a run that writes nothing."""
    pq.write_table(pq.read_table(repo / SOURCE).slice(0, 0), repo / SOURCE)

    run = driver.materialize(repo)

    assert 0 == run.wait()
    assert f"{VIEW}: 0 rows written" in run.output_path.read_text()
    assert {} == serials(redis)
    assert 1 == len(watermark(repo))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("serial", "12a"),
        ("rating", "4.5"),
        ("active", "no"),
        ("driver_id", "abc"),
        ("driver_id", 1.5),
        ("event_ts", "yesterday"),
        ("created_ts", "yesterday"),
    ],
)
def test_a_column_of_another_type(driver, repo, column, value):
    """A column of a type that cannot be what the view declares fails the run and is named."""
    table = pq.read_table(repo / SOURCE)
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, pa.array([value] * len(table))), repo / SOURCE)
    judge(driver.materialize(repo), repo, column)


@pytest.mark.parametrize("column", ["driver_id", "serial", "event_ts", "created_ts"])
def test_a_column_that_is_missing(driver, repo, redis, column):
    """A source without a column that the view needs fails the run, the column is named, and nothing is written."""
    pq.write_table(pq.read_table(repo / SOURCE).drop_columns([column]), repo / SOURCE)
    judge(driver.materialize(repo), repo, column)
    assert {} == serials(redis)


def test_a_view_without_a_timestamp_field(driver, repo, redis):
    """A view whose source names no timestamp field fails the run, the view is named, and nothing is written."""
    registry = Registry.FromString((repo / "registry.db").read_bytes())
    for view in registry.feature_views:
        view.spec.batch_source.ClearField("timestamp_field")
        view.spec.stream_source.batch_source.ClearField("timestamp_field")
    (repo / "registry.db").write_bytes(registry.SerializeToString())
    judge(driver.materialize(repo), repo, VIEW, "timestamp_field")
    assert {} == serials(redis)


def test_an_end_in_the_future(driver, repo, redis):
    """An interval that ends tomorrow is refused: its rows are not all there yet, and the next run would begin after them."""
    judge(driver.materialize(repo, end=datetime.now(UTC) + timedelta(days=1)), repo, "future")
    assert {} == serials(redis)


def test_an_end_that_a_clock_is_ahead_by(driver, repo, redis):
    """An interval that ends a minute ahead is taken, since the clocks of two machines may differ by as much."""
    run = driver.materialize(repo, end=datetime.now(UTC) + timedelta(minutes=1))
    run.succeed()
    assert newest(RIDES) == serials(redis)


def test_an_interval_without_rows(driver, repo, redis):
    """An interval that no row lies in is done at once: nothing is written, and the watermark moves."""
    start, end = START - timedelta(days=9), START - timedelta(days=8)
    driver.materialize(repo, start=start, end=end).succeed()
    assert {} == serials(redis)
    assert [(start, end)] == watermark(repo)


def test_a_run_after_a_failed_one(driver, repo, redis):
    """Once the source is good again, the same command succeeds, and leaves the newest row of each key."""
    content = (repo / SOURCE).read_bytes()
    truncate(repo / SOURCE)
    assert 0 < driver.materialize(repo).wait()
    (repo / SOURCE).write_bytes(content)
    driver.materialize(repo).succeed()
    assert newest(RIDES) == serials(redis)
    assert [(START, END)] == watermark(repo)


def test_the_installed_command_says_the_same(driver, repo, redis):
    """The command as it is installed succeeds and fails as the forked one does, and says the same."""
    command = [FEAST, "materialize", f"{START:%Y-%m-%dT%H:%M:%S}", f"{END:%Y-%m-%dT%H:%M:%S}", "--views", VIEW]
    assert 0 == subprocess.run(command, cwd=repo, capture_output=True, check=False).returncode
    assert newest(RIDES) == serials(redis)
    pq.write_table(rides_table(RIDES).drop_columns(["serial"]), repo / SOURCE)
    done = subprocess.run(command, cwd=repo, capture_output=True, check=False, text=True)
    run = driver.materialize(repo)
    assert run.wait() == done.returncode
    assert run.last_words == done.stderr.strip().splitlines()[-1].strip()
    assert [(START, END)] == watermark(repo)
