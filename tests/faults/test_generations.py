"""Generations under load, and under kills: no answer mixes two, a flip is seen at once, and a dead replace is cleared away."""

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace

import grpc
from redis.backoff import NoBackoff
from redis.retry import Retry

from faults.load import METHOD
from faults.repos import PROJECT, make_repo, store_rows, views
from hindcast.clock import Deadline, system_clock
from hindcast.online.codec import unpack_row
from hindcast.online.connection import RedisTarget, parse_target
from hindcast.online.generations import Dropped, GenerationsOf
from hindcast.online.keys import entity_key_bytes, key_value_bytes, project_prefix, row_key, view_prefix
from hindcast.online.layouts import PackedLayout, RowsOf
from hindcast.online.reader import RedisReader
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.sinks import PackedSink
from hindcast.online.writer import write_rows
from hindcast.serving.drops import Drops
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from services import run_hindcast, run_redis, wait_for

DRIVERS = range(200)
FLIPS = 12


def fill(redis, generation, marker):
    """Give every row of a generation one marker, in every feature."""
    values = {
        "trips": Value(int64_val=marker),
        "city": Value(string_val=str(marker)),
        "rating": Value(double_val=float(marker)),
    }
    rows = [(Value(int64_val=driver), values) for driver in DRIVERS]
    store_rows(redis.connection_string, "driver", rows, generation=generation)


def rows_left(client):
    """How many rows of the project there are, of any generation."""
    keys = client.scan_iter(match=project_prefix(PROJECT) + b"*", count=1000)
    return sum(1 for key in keys if b"::" not in key)


@dataclass
class Markers:
    """Callers that ask for many rows at once.

    Attributes:
        seen: of each answer when it was asked for and came, and the markers in it.
    """

    seen: list[tuple[float, float, frozenset[int]]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def ask(self, address):
        """Ask until told to stop; whatever fails ends the caller, and the test finds too few answers."""
        request = GetOnlineFeaturesRequest(feature_service="everything")
        for driver in DRIVERS:
            request.entities["driver_id"].val.add(int64_val=driver)
        sent = request.SerializeToString()
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(METHOD)
            while not self.stopping.is_set():
                began = time.monotonic()
                answer = GetOnlineFeaturesResponse.FromString(call(sent, timeout=10))
                markers = {
                    int(float(getattr(value, value.WhichOneof("val"))))
                    for column in answer.columns
                    if column.name in {"trips", "city", "rating"}
                    for value in column.values
                }
                self.seen.append((began, time.monotonic(), frozenset(markers)))

    def answered_since(self, instant, callers):
        """Whether as many answers as there are callers were asked for after an instant."""
        return sum(began > instant for began, _, _ in self.seen[-100:]) > callers


def test_no_answer_mixes_generations_and_a_flip_is_seen_at_once(tmp_path):
    """Under load, every answer of 200 rows is of one generation, and of none but the served one if it began after a flip."""
    with run_redis() as redis, redis.client() as client:
        fill(redis, 0, 0)
        repo = make_repo(tmp_path / "repo", redis.connection_string)
        generations = GenerationsOf(client, project=PROJECT)
        served = [(time.monotonic(), 0)]
        with run_hindcast(repo, "--workers", "2") as server:
            markers = Markers()
            callers = [threading.Thread(target=markers.ask, args=(server.address,)) for _ in range(4)]
            for caller in callers:
                caller.start()
            try:
                wait_for(lambda: markers.answered_since(served[-1][0], len(callers)), what="answers before a flip")
                for number in range(1, FLIPS + 1):
                    if number % 4:
                        generation = generations.begin_build("driver", builder=str(number))
                        fill(redis, generation, generation)
                        generations.flip("driver", generation)
                    else:
                        generation = generations.roll_back("driver")
                    served.append((time.monotonic(), generation))
                    wait_for(lambda: markers.answered_since(served[-1][0], len(callers)), what="answers after a flip")
            finally:
                markers.stopping.set()
                for caller in callers:
                    caller.join()
    assert [] == [answer for answer in markers.seen if len(answer[2]) != 1]
    wrong = []
    for (since, marker), (until, _) in itertools.pairwise([*served, (time.monotonic(), None)]):
        inside = [answer for answer in markers.seen if since < answer[0] and answer[1] < until]
        # A flip that was under way when this answer came may be the one that it shows.
        later = {marker for flipped_at, marker in served if flipped_at == until}
        wrong += [answer for answer in inside if answer[2] - {marker} - later]
        assert inside
    assert [] == wrong


def test_a_server_deletes_what_is_due(tmp_path):
    """What a replace left behind is deleted by the supervisor, which says so; what is served and kept stays."""
    with run_redis() as redis, redis.client() as client:
        fill(redis, 0, 0)
        long_ago = GenerationsOf(client, project=PROJECT, clock=lambda: system_clock() - 7_200_000_000)
        for builder in ("a", "b"):
            generation = long_ago.begin_build("driver", builder=builder)
            fill(redis, generation, generation)
            long_ago.flip("driver", generation)
        assert 3 * len(DRIVERS) == rows_left(client)
        with run_hindcast(make_repo(tmp_path / "repo", redis.connection_string)) as server:
            wait_for(lambda: rows_left(client) == len(DRIVERS), what="the deletion of what is due")
            wait_for(lambda: sum("is gone, with 200 rows" in line for line in server.output) == 2, what="two lines")
        entry = long_ago.read().of("driver")
        assert (2, 2, None, ()) == (entry.last, entry.serving, entry.previous, entry.going)


def test_a_deletion_that_is_told_to_stop_goes_on_the_next_time(redis_server):
    """A deletion stops after a batch of a thousand rows, keeps its entry until no row is left, and finds the rest the next time."""
    with redis_server.client() as client:
        generations = GenerationsOf(client, project="p")
        generation = generations.begin_build("v", builder="a")
        client.mset({row_key(view_prefix("p", "v", generation), b"%d" % at): b"" for at in range(2500)})
        generations.abandon("v", generation)
        assert [] == generations.drop_due(should_stop=lambda: True)
        assert 1500 == client.dbsize() - 1
        assert [generation] == [one.generation for one in generations.read().of("v").going]
        assert [Dropped("v", generation, 1500)] == generations.drop_due()
        assert () == generations.read().of("v").going


def test_a_redis_that_is_away_costs_one_line(caplog):
    """While Redis is away nothing is deleted and one line says so, however often it is tried; when it is back, deleting goes on."""
    with run_redis("--appendonly", "yes", "--appendfsync", "always") as redis:
        with redis.client() as client:
            fill(redis, 0, 0)
            long_ago = GenerationsOf(client, project=PROJECT, clock=lambda: system_clock() - 7_200_000_000)
            long_ago.flip("driver", long_ago.begin_build("driver", builder="a"))
            fill(redis, 1, 1)
        redis.kill()
        asked = itertools.count()
        target = parse_target(f"{redis.connection_string},socket_connect_timeout=0.2")
        once = replace(target, options={**target.options, "retry": Retry(NoBackoff(), 0)})

        def give_target():
            next(asked)
            return once

        drops = Drops(give_target, project=PROJECT, every_seconds=0.01)
        drops.start()
        try:
            wait_for(lambda: next(asked) > 20, what="many tries")
            redis.restart()
            with redis.client() as client:
                wait_for(lambda: rows_left(client) == len(DRIVERS), what="the deletion of what is due")
        finally:
            drops.stop()
    lines = [record for record in caplog.records if "old generations of views are not deleted" in record.message]
    assert 1 == len(lines)


@dataclass
class Race:
    """Pushes by several writers, and a view that is replaced again and again meanwhile.

    Attributes:
        offline: every row pushed, in the order in which it became known; replaces read it.
        acknowledged: how many pushes have returned.
        lost: the drivers and event times of rows that a lookup right after their push did not have.
    """

    target: RedisTarget
    offline: list[Row] = field(default_factory=list)
    acknowledged: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    async def push(self, number):
        """Every fourth push, offline first and then online, and a lookup of its rows."""
        sink, reader = PackedSink(self.target, project=PROJECT, policy=RowPolicy()), RedisReader(self.target)
        layout = PackedLayout(reader, project=PROJECT)
        try:
            for event in range(number, 600, 4):
                drivers = range(event % 7, 20, 7)
                rows = [driver_row(driver, event) for driver in drivers]
                self.offline.extend(rows)
                await sink.write(
                    views()["driver"], rows, run_id=bytes(16), now_micros=system_clock(), deadline=Deadline(20)
                )
                keys = [row.entity_key for row in rows]
                (found,) = await layout.find([(RowsOf("driver", ("trips",)), keys)], deadline=Deadline(20))
                served = [Value.FromString(value).int64_val if value else -1 for value in found.column(0)]
                self.lost += [(driver, event) for driver, trips in zip(drivers, served, strict=True) if trips < event]
                self.acknowledged += 1
        finally:
            await sink.close()
            await reader.close()

    async def push_all(self):
        """All of them, four writers at once."""
        await asyncio.gather(*(self.push(number) for number in range(4)))

    def replace(self):
        """Replace and now and then roll back, each time after some push, until all have ended."""
        now = [system_clock()]
        with contextlib.closing(self.target.client()) as client:
            generations = GenerationsOf(client, project=PROJECT, clock=lambda: now[0])
            for number in itertools.count():
                before = self.acknowledged
                generation = generations.begin_build("driver", builder=str(number))
                write_rows(client, generation_writer(generation).writes(self.newest().values()))
                generations.flip("driver", generation)
                if number % 3 == 0:
                    generations.roll_back("driver")
                now[0] += 1_800_000_000  # half of what old rows are kept
                generations.drop_due()
                wait_for(lambda before=before: self.ended.is_set() or self.acknowledged > before, what="a push")
                if self.ended.is_set():
                    return

    def newest(self):
        """The newest row of each key that went offline so far."""
        return {row.entity_key: row for row in sorted(self.offline, key=lambda row: row.event_micros)}


def driver_row(driver, event):
    """A row whose first value is its event time."""
    key = entity_key_bytes(("driver_id",), (key_value_bytes(Value(int64_val=driver), 4),))
    return Row(key, event, None, [Value(int64_val=event).SerializeToString(), None, None])


def generation_writer(generation):
    """For rows of one generation alone, as a replace fills it."""
    view = views()["driver"]
    return ViewWriter(
        project=PROJECT,
        view=view.stored_name,
        fields=view.fields,
        ttl_micros=0,
        run_id=bytes(16),
        now_micros=system_clock(),
        policy=RowPolicy(),
        generation=generation,
    )


def test_pushes_that_race_flips_are_served(redis_server):
    """While a view is replaced, rolled back and cleared of old rows again and again, no push is lost: a lookup after it has it, and at the end the newest is served."""
    race = Race(parse_target(redis_server.connection_string))
    replacing = threading.Thread(target=race.replace)
    replacing.start()
    try:
        asyncio.run(race.push_all())
    finally:
        race.ended.set()
        replacing.join()
    assert [] == race.lost
    expected = {key: row.event_micros for key, row in race.newest().items()}
    with redis_server.client() as client:
        document = GenerationsOf(client, project=PROJECT).read()
        stored = client.mget([row_key(document.prefix("driver"), key) for key in expected])
    assert expected == dict(zip(expected, (unpack_row(packed).event_micros for packed in stored), strict=True))
    assert document.of("driver").last > 3


REPLACE = """
import os, signal, sys
from redis import Redis
from hindcast.clock import system_clock
from hindcast.online.generations import Dropped, GenerationsOf

port, left, builder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Dying(Redis):
    def execute_command(self, *arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_command(*arguments, **options)

client = Dying(port=port)
now = [system_clock()]
generations = GenerationsOf(client, project="p", clock=lambda: now[0])
generation = generations.begin_build("v", builder=builder, take_over=True)
for at in range(3):
    client.set(b"hc:p:v@%d:{%d}" % (generation, at), builder)
generations.flip("v", generation)
now[0] += 3_600_000_000
generations.drop_due()
"""


def test_a_replace_killed_between_any_two_steps_is_cleared_away(redis_server):
    """Whichever command to Redis a replace dies at, one generation is served whole, and the next replace leaves no other row behind."""
    with redis_server.client() as client:
        for number in itertools.count(1):
            client.flushall()
            for at in range(3):
                client.set(b"hc:p:v:{%d}" % at, "first")
            died = replace_once(redis_server, number, "dying")
            prefix = GenerationsOf(client, project="p").read().prefix("v")
            served = client.mget([row_key(prefix, b"%d" % at) for at in range(3)])
            assert served in ([b"first"] * 3, [b"dying"] * 3), f"killed at command {number}"
            assert -signal.SIGKILL == died or [b"dying"] * 3 == served
            assert 0 == replace_once(redis_server, 10_000, "next")
            generations = GenerationsOf(client, project="p")
            entry = generations.read().of("v")
            prefix = view_prefix("p", "v", entry.serving)
            expected = {row_key(prefix, b"%d" % at) for at in range(3)} | {b"hc:p::generations"}
            assert expected == set(client.scan_iter()), f"killed at command {number}"
            assert ((entry.serving,), ()) == (entry.targets, entry.going)
            if died == 0:
                break
        assert number > 10


def replace_once(redis, dies_at, builder):
    """Replace a view in a process of its own, which dies by SIGKILL at a command to Redis; its exit code."""
    return subprocess.run(
        [sys.executable, "-c", REPLACE, str(redis.port), str(dies_at), builder], check=False
    ).returncode
