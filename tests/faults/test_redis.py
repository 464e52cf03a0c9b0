"""A Redis that dies and comes back, or stands still, under load: what callers see, by a record of every call."""

import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from faults.cycles import CYCLES
from faults.load import Load, client_load, fill, raw_load
from faults.repos import make_repo
from services import HindcastServer, RedisServer, run_hindcast, run_redis, wait_for

GOOD_SECONDS = 2.0
SERVER_SECONDS = 0.5
"""The server's own deadline, for the raw callers, who bring none: a call that hangs there hangs for ever."""

ALLOWED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that has the rows of all drivers on disk before it answers a write."""
    with run_redis("--appendonly", "yes", "--appendfsync", "always") as redis:
        fill(redis)
        yield redis


@pytest.fixture
def server(tmp_path, redis) -> Iterator[HindcastServer]:
    """A server of two workers on that Redis."""
    repo = make_repo(tmp_path / "repo", redis.connection_string)
    with run_hindcast(repo, "--workers", "2", "--timeout-ms", str(int(SERVER_SECONDS * 1000))) as server:
        yield server


def disturb(server: HindcastServer, away: Callable[[], None], back: Callable[[], None]) -> list[Load]:
    """Take Redis away under load, let every caller see it, bring it back, wait for answers, again and again."""
    with (
        raw_load(server.address, server_seconds=SERVER_SECONDS) as raw,
        client_load(server.address, seconds=1.0) as ours,
    ):
        loads = [raw, ours]
        for _ in range(CYCLES):
            gone_at = time.monotonic()
            away()
            wait_for(lambda gone_at=gone_at: all(saw_failure(load, gone_at) for load in loads), what="failing calls")
            back()
            since_back = server.stopwatch()
            for load in loads:
                load.wait_until_good()
            assert since_back.seconds < GOOD_SECONDS
    return loads


def saw_failure(load: Load, since: float) -> bool:
    """Whether every caller has had a failing call since an instant."""
    return len(load.callers) == len({call.caller for call in load.failures if call.sent_at > since})


def test_redis_killed_and_started_again(server, redis):
    """While Redis is dead calls fail at once with UNAVAILABLE or in time, none hangs or is wrong, and answers come back."""
    for load in disturb(server, redis.kill, redis.restart):
        load.judge()
        assert {call.code for call in load.failures} <= ALLOWED
    assert 2 == len(server.worker_ids())


def test_redis_paused(server, redis):
    """While Redis stands still calls end by their deadlines, none hangs or is wrong, and answers come back."""
    for load in disturb(server, redis.pause, redis.resume):
        load.judge()
        assert {call.code for call in load.failures} <= ALLOWED
    assert 2 == len(server.worker_ids())
