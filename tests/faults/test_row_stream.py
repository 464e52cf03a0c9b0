"""A stream of rows, and a Redis that dies, stands still, is full, or is somebody's replica."""

import collections
import contextlib
import threading

import numpy as np
import pyarrow as pa
import pytest

from faults.cycles import CYCLES
from hindcast.errors import StoreUnavailable
from hindcast.online.connection import parse_target
from hindcast.online.packing import pack_rows
from hindcast.online.stream import RowStream
from hindcast.online.writer import WriteReport
from services import RedisServer, run_redis, wait_for

ROWS, BATCH_ROWS = 40_000, 2_000
IMPATIENT = ",socket_timeout=0.5,socket_connect_timeout=0.5"
"""For a Redis that stands still: one that is only busy may take longer."""

RUN_ID = bytes(16)


def stream(redis: RedisServer, connection: str = "", *, run_id: bytes = RUN_ID, **options) -> RowStream:
    """A stream to it, by a connection with such options."""
    return RowStream(parse_target(redis.connection_string + connection), run_id=run_id, **options)


def batches(*, second: int = 1, padding: int = 200, run_id: bytes = RUN_ID):
    """All rows of a run, batch by batch."""
    for first in range(0, ROWS, BATCH_ROWS):
        keys = pa.array([b"key %d" % at for at in range(first, first + BATCH_ROWS)])
        times = pa.array(np.full(BATCH_ROWS, second * 1_000_000), pa.timestamp("us", "UTC"))
        values = pa.array([b"%d" % at + bytes(padding) for at in range(first, first + BATCH_ROWS)])
        rows = pack_rows(times, times, [values], schema_id=bytes(8), run_id=run_id)
        yield keys, rows, np.zeros(BATCH_ROWS, np.int64)


def write(rows: RowStream, given) -> WriteReport:
    """Write batches, and wait for the answers."""
    for batch in given:
        rows.write(*batch)
    return rows.flush()


def run(redis: RedisServer, **options) -> WriteReport:
    """A whole run."""
    with stream(redis) as rows:
        return write(rows, batches(**options))


def content(redis: RedisServer) -> dict[bytes, bytes]:
    """All that it has."""
    with contextlib.closing(redis.client()) as client:
        keys = client.keys()
        return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}


@pytest.fixture
def clean() -> dict[bytes, bytes]:
    """What a run leaves that nothing befell."""
    with run_redis() as redis:
        assert WriteReport(ROWS, 0) == run(redis)
        return content(redis)


def test_redis_killed_in_the_middle(clean):
    """The run fails in our own words, what is written by then is whole rows of it, and to run again gives the state of a clean run."""
    with run_redis("--appendonly", "yes", "--appendfsync", "no") as redis:
        for cycle in range(CYCLES):
            with stream(redis) as rows, contextlib.closing(redis.client()) as client:
                given = iter(batches())
                for _ in range(1 + cycle % 15):
                    rows.write(*next(given))
                wait_for(client.dbsize, what="a row")
                redis.kill()
                with pytest.raises(StoreUnavailable, match="Redis did not take the rows"):
                    write(rows, given)
                with pytest.raises(StoreUnavailable, match="Redis did not take the rows"):
                    rows.flush()
            redis.restart()
            before = content(redis)
            assert before.items() <= clean.items()
            assert WriteReport(ROWS - len(before), 0, len(before)) == run(redis)
            assert clean == content(redis)
            with contextlib.closing(redis.client()) as client:
                client.flushall()


@pytest.mark.parametrize("after", [0, 1])
def test_redis_that_restarts_may_have_lost_rows(after):
    """Acknowledged rows are gone with a Redis that keeps nothing: the run fails, with or without batches after the restart."""
    with run_redis() as redis, stream(redis) as rows:
        first, second, *_ = batches()
        rows.write(*first)
        with contextlib.closing(redis.client()) as client:
            wait_for(lambda: client.dbsize() == BATCH_ROWS, what="all rows")
        redis.kill()
        redis.restart()
        with pytest.raises(StoreUnavailable):
            write(rows, [second][:after])
        assert {} == content(redis)


def test_redis_that_restarts_after_a_flush_is_connected_to_again():
    """What was flushed was answered for; the stream goes on with a Redis that knows neither connection nor script."""
    with run_redis() as redis, stream(redis) as rows:
        for batch in list(batches())[:3]:
            assert WriteReport(BATCH_ROWS, 0) == write(rows, [batch])
            redis.kill()
            redis.restart()


def test_lost_script_is_loaded_again(clean):
    """Somebody flushes the scripts during a run, more than once: no row is lost or counted twice."""
    with run_redis() as redis, stream(redis) as rows, contextlib.closing(redis.client()) as client:
        for at, batch in enumerate(batches()):
            if at % 5 == 1:
                client.script_flush()
            rows.write(*batch)
        assert WriteReport(ROWS, 0) == rows.flush()
        assert clean == content(redis)


def test_lost_script_among_rows_that_are_stored(clean):
    """The same in a run of a new id over rows that are stored, by which every second one is older or missing: each is counted once."""
    with run_redis() as redis, contextlib.closing(redis.client()) as client:
        client.mset(
            {key: row for at, (key, row) in enumerate(clean.items()) if at % 4}
            | {key: bytes(16) + row[16:] for at, (key, row) in enumerate(clean.items()) if at % 8 == 0}
        )
        with stream(redis, run_id=b"the second run..") as rows:
            for at, batch in enumerate(batches(run_id=b"the second run..")):
                if at % 5 == 1:
                    client.script_flush()
                rows.write(*batch)
            assert WriteReport(ROWS // 4, 0, ROWS * 3 // 4) == rows.flush()
        by_run = collections.Counter(row[26:42] for row in content(redis).values())
        assert {RUN_ID: ROWS * 3 // 4, b"the second run..": ROWS // 4} == by_run


def test_paused_redis_is_unavailable_and_bounds_what_waits():
    """While Redis stands still no more is taken than may be unanswered, and then the run fails in time."""
    with run_redis() as redis, stream(redis, IMPATIENT, unanswered_bytes_max=4_000_000) as rows:
        given = batches(padding=2_000)
        write(rows, [next(given)])
        redis.pause()
        most = 0

        def watched():
            nonlocal most
            for batch in given:
                yield batch
                most = max(most, rows._unanswered_bytes)

        with pytest.raises(StoreUnavailable):
            write(rows, watched())
        assert most == 0 or most <= 4_000_000
        redis.resume()


def test_redis_that_goes_on_is_written_to(clean):
    """A pause that is shorter than the time-out delays the run and does nothing else."""
    with (
        run_redis() as redis,
        RowStream(parse_target(redis.connection_string), run_id=RUN_ID, unanswered_bytes_max=1_000_000) as rows,
    ):
        given = list(batches())
        writing = threading.Thread(target=lambda: [rows.write(*batch) for batch in given])
        redis.pause()
        writing.start()
        wait_for(lambda: rows._unanswered_bytes > 500_000, what="rows that wait")
        redis.resume()
        writing.join()
        assert WriteReport(ROWS, 0) == rows.flush()
        assert clean == content(redis)


def test_full_redis_is_said_to_be_full():
    """At its maxmemory Redis refuses rows; the error says so and what to do."""
    with run_redis("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as redis:
        with pytest.raises(StoreUnavailable, match=r"^Redis is out of memory \(its maxmemory is reached\)"):
            run(redis)
        with contextlib.closing(redis.client()) as client:
            client.config_set("maxmemory", "0")
        stored = len(content(redis))
        assert WriteReport(ROWS - stored, 0, stored) == run(redis)


def test_replica_is_said_to_be_one():
    """A read-only replica takes nothing; the error says so and what to do."""
    at_once = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
    with run_redis(*at_once) as primary, run_redis("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        with contextlib.closing(replica.client()) as client:
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", what="the replica")
        with pytest.raises(StoreUnavailable, match=r"^Redis is a replica, which takes no writes"):
            run(replica)


def test_redis_that_is_not_there_is_unavailable():
    """A stream to nowhere fails at the first answer that is waited for."""
    with (
        RowStream(parse_target("127.0.0.1:1"), run_id=RUN_ID) as rows,
        pytest.raises(StoreUnavailable, match="check that it runs"),
    ):
        write(rows, [next(batches())])


def test_older_rows_do_not_land():
    """Of two runs the newer rows stay, whichever came first, and the older ones are counted."""
    with run_redis() as redis:
        assert WriteReport(ROWS, 0) == run(redis, second=2)
        newer = content(redis)
        assert WriteReport(0, ROWS) == run(redis, second=1)
        assert newer == content(redis)
        assert WriteReport(0, 0, ROWS) == run(redis, second=2)


def test_two_runs_at_once_leave_the_newest_row_of_each_key(clean):
    """Two streams write every key at the same time: each row of the newer one lands, and no other stays."""
    with run_redis() as redis:
        reports: dict[int, WriteReport] = {}
        writers = [
            threading.Thread(target=lambda second=second: reports.update({second: run(redis, second=second)}))
            for second in (0, 1)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert WriteReport(ROWS, 0) == reports[1]
        assert ROWS == reports[0].written + reports[0].older
        assert clean == content(redis)


def test_close_gives_up_what_waits():
    """Closing a stream to a Redis that stands still ends in time, and does not wait for rows."""
    with run_redis() as redis:
        redis.pause()
        with stream(redis, IMPATIENT) as rows:
            rows.write(*next(batches()))
        assert not rows._thread.is_alive()
        redis.resume()
