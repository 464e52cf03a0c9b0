"""A view's rows replaced as a whole, by the real command: what is served meanwhile and afterwards, and what a run beside it does."""

import contextlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from commands import run_command
from faults.deployments import run_proxy
from faults.materializing import (
    END,
    PROJECT,
    START,
    VIEW,
    Ride,
    copy_repo,
    differences,
    make_repo,
    make_rides,
    newest,
    point,
    serials,
    stored,
    watermark,
    write_source,
)
from hindcast.online.generations import GenerationsOf
from hindcast_client import Client
from services import RedisServer, run_hindcast, wait_for

RIDES = make_rides()
ANEW = [replace(ride, serial=ride.serial + 1_000_000) for ride in RIDES if ride.key % 2]
"""Another history: half of the keys, and other values."""

ASKED = [1, 2, 3, 4]
OLD = [newest(RIDES)[key] for key in ASKED]
NEW = [newest(ANEW).get(key) for key in ASKED]


@pytest.fixture(scope="module")
def applied(tmp_path_factory, redis) -> Path:
    """A repo that is never materialized."""
    return make_repo(tmp_path_factory.mktemp("applied") / "repo", redis, RIDES)


@pytest.fixture
def repo(tmp_path, applied, redis, driver) -> Path:
    """A repo of the test's own, whose rows are the old ones, and whose source is the new one."""
    redis.client().flushall()
    repo = copy_repo(applied, tmp_path / "repo", redis)
    driver.materialize(repo).succeed()
    write_source(repo, ANEW)
    return repo


def served(address: str) -> list[int | None]:
    """The serials that a server answers."""
    with Client(address) as client:
        answer = client.get_online_features(features=[f"{VIEW}:serial"], entities={"driver_id": ASKED})
    return answer.to_dict()["serial"]


def of_hindcast(repo: Path, *arguments: str) -> str:
    """What a command of hindcast prints."""
    done = run_command("hindcast", *arguments, "--repo", repo)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def entry(repo: Path) -> dict:
    """What `hindcast generations` says of the view."""
    (shown,) = json.loads(of_hindcast(repo, "generations", "--view", VIEW, "--output", "json"))
    return shown


@contextlib.contextmanager
def held(command, repo: Path, redis: RedisServer, *, request_bytes: int):
    """A command that stands still after it has sent so much to Redis, until the block calls what it is given."""
    with run_proxy(redis.port) as proxy:
        proxy.request_bytes = request_bytes
        point(repo, proxy.port)
        run = command()
        wait_for(lambda: proxy.blocked.is_set() or run.has_ended, seconds=60, what="a write that waits")
        assert proxy.blocked.is_set(), run.errors_path.read_text()
        point(repo, redis.port)

        def let_go() -> None:
            proxy.request_bytes = None

        yield run, let_go


def test_a_replaced_view_is_served_at_once_and_can_go_back(driver, repo):
    """After a replace each lookup finds the new rows and none of the keys that are gone, after a rollback the old ones; both are on record."""
    with run_hindcast(repo, "--workers", "2") as server:
        assert OLD == served(server.address)
        driver.replace(repo).succeed()
        assert NEW == served(server.address)
        of_hindcast(repo, "materialize", "--rollback", VIEW)
        assert OLD == served(server.address)
        of_hindcast(repo, "materialize", "--rollback", VIEW)
        assert NEW == served(server.address)
    runs = json.loads(of_hindcast(repo, "runs", "ls", "--output", "json"))
    assert ["rollback", "rollback", "replace", "materialize"] == [run["kind"] for run in runs]
    assert {"succeeded"} == {run["outcome"] for run in runs}
    assert (len(newest(ANEW)), len(ANEW)) == (runs[2]["rows_written"], runs[2]["rows_read"])
    assert 1 == len(watermark(repo))


def test_a_replace_may_take_a_part_of_the_source(driver, repo, redis):
    """With a start, rows from before it are not in the new generation."""
    later = START + (END - START) / 2
    driver.replace(repo, "--start", later.isoformat(), "--end", END.isoformat()).succeed()

    assert newest(ANEW, start=later) == serials(redis, generation=1)


def test_an_incremental_run_after_a_rollback_leaves_no_hole(driver, repo, redis):
    """What came in before a replace and is in no served row after its rollback is found by the next incremental run."""
    driver.replace(repo).succeed()
    of_hindcast(repo, "materialize", "--rollback", VIEW)
    late = END + timedelta(minutes=1)
    write_source(repo, [*ANEW, Ride(2, late, late, serial=7_000_000)])
    driver.materialize_incremental(repo, end=END + timedelta(minutes=2)).succeed()

    assert 7_000_000 == serials(redis)[2]
    assert 7_000_000 == serials(redis, generation=1)[2]


def test_a_replace_that_ends_before_the_watermark_is_refused(driver, repo, redis):
    """Rows between the end and the watermark would be served no more and looked for no more."""
    before = stored(redis)
    run = driver.replace(repo, "--end", (END - timedelta(hours=1)).isoformat())

    assert 2 == run.wait()
    assert "is before" in run.last_words
    assert {} == differences(before, stored(redis))


def test_a_dead_replace_can_be_taken_over(driver, repo, redis):
    """Told to, a replace puts an end to another one, whose rows go."""
    with redis.client() as client:
        GenerationsOf(client, project=PROJECT).begin_build(VIEW, builder="a run that died")
    driver.replace(repo, "--take-over").succeed()

    assert (2, None) == (entry(repo)["serving"], entry(repo)["building"])
    assert newest(ANEW) == serials(redis, generation=2)
    assert {} == serials(redis, generation=1)


def test_a_replace_that_is_killed_changes_nothing_that_is_served(driver, repo, redis):
    """The old rows go on to be served, the next replace names the dead one, and once that is given up it succeeds."""
    with held(lambda: driver.replace(repo), repo, redis, request_bytes=200_000) as (run, _):
        run.kill()
    assert 0 < len(serials(redis, generation=1)) < len(newest(ANEW))
    assert newest(RIDES) == serials(redis)
    dead = entry(repo)
    assert (0, 1) == (dead["serving"], dead["building"])
    refused = driver.replace(repo)
    assert 1 == refused.wait()
    assert refused.last_words.startswith(f"hindcast: view '{VIEW}' is being replaced by run {dead['builder']}")
    of_hindcast(repo, "materialize", "--abandon", VIEW)
    assert {} == serials(redis, generation=1)
    driver.replace(repo).succeed()
    assert newest(ANEW) == serials(redis, generation=entry(repo)["serving"])
    outcomes = [run["outcome"] for run in json.loads(of_hindcast(repo, "runs", "ls", "--output", "json"))]
    assert ["succeeded", "failed", "interrupted", "succeeded"] == outcomes


def test_a_replace_that_fails_leaves_nothing(driver, repo, redis):
    """A source that cannot be read ends a replace with its name; what was begun is given up, and the watermark stays."""
    source = repo / "data" / "rides.parquet"
    source.write_bytes(source.read_bytes()[:100_000])
    before = stored(redis)
    run = driver.replace(repo)
    assert 1 == run.wait()
    assert "rides.parquet" in run.last_words
    assert (0, None) == (entry(repo)["serving"], entry(repo)["building"])
    assert {f"hc:{PROJECT}::generations".encode(): "should not be there"} == differences(before, stored(redis))
    assert 1 == len(watermark(repo))


def test_a_run_writes_to_a_generation_that_is_being_built(driver, repo, redis):
    """A materialization while a view is replaced writes its rows for whoever may be served: the old generation and the new one."""
    with redis.client() as client:
        generations = GenerationsOf(client, project=PROJECT)
        assert 1 == generations.begin_build(VIEW, builder="a run")
        driver.materialize(repo).succeed()
        assert {**newest(RIDES), **newest(ANEW)} == serials(redis)
        assert newest(ANEW) == serials(redis, generation=1)


def test_a_run_writes_to_a_generation_that_is_begun_meanwhile(driver, repo, redis):
    """A replace that begins in the midst of a materialization gets all of its rows, too."""
    with held(lambda: driver.materialize(repo), repo, redis, request_bytes=400_000) as (run, let_go):
        with redis.client() as client:
            GenerationsOf(client, project=PROJECT).begin_build(VIEW, builder="a run")
        let_go()
        run.succeed()
    assert newest(ANEW) == serials(redis, generation=1)
