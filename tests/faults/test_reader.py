"""The multiplexed reader when Redis, the network and its callers misbehave: no reply ever belongs to another key."""

import asyncio
import contextlib
import random
import time

import pytest
from redis import Redis

from faults.deployments import run_proxy
from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, StoreUnavailable
from hindcast.online.connection import parse_target
from hindcast.online.reader import RedisReader
from services import Stopwatch, held_port, run_redis, wait_for

KEYS = [b"hc:p:v:{%d}" % at for at in range(500)]
RECOVERY_SECONDS = 10.0
CANARY = "c4n4ry"


def value_of(key: bytes) -> bytes:
    """What the store holds under a key: the key itself, long enough to arrive in many pieces."""
    return (b"<" + key + b">") * 9


def fill(client: Redis) -> None:
    """Store every key."""
    with contextlib.closing(client):
        client.mset({key: value_of(key) for key in KEYS})


@pytest.fixture
def redis(redis_server):
    """A Redis that holds every key."""
    fill(redis_server.client())
    return redis_server


@contextlib.asynccontextmanager
async def reading(port: int, **options: object):
    """A reader of the Redis at a port."""
    written = "".join(f",{name}={value}" for name, value in options.items())
    reader = RedisReader(parse_target(f"127.0.0.1:{port}{written}"))
    try:
        yield reader
    finally:
        await reader.close()


async def read(reader: RedisReader, *keys: bytes, seconds: float = 5.0) -> list[bytes | None]:
    """One read with a deadline."""
    return await reader.read_values(keys or KEYS[:3], deadline=Deadline(seconds))


async def recovers(reader: RedisReader) -> float:
    """Read until an answer comes; it must be right. Gives the seconds it took."""
    watch = Stopwatch()
    while True:
        try:
            assert [value_of(KEYS[7])] == await read(reader, KEYS[7], seconds=1.0)
        except (StoreUnavailable, DeadlineExceeded):
            assert watch.seconds < RECOVERY_SECONDS, "reads did not come back"
            await asyncio.sleep(0.01)
        else:
            return watch.seconds


def test_cancelled_calls_never_leave_their_reply_for_another(redis):
    """Of thousands of reads through a slow and fragmenting network, half cancelled midway, each answer is of its keys."""
    chance = random.Random(20)

    async def one(reader: RedisReader) -> str:
        keys = chance.choices([*KEYS, b"hc:p:v:{absent}"], k=chance.randint(1, 6))
        found = await read(reader, *keys, seconds=chance.choice([0.002, 0.01, 5.0, 5.0]))
        assert [value_of(key) if key in KEYS else None for key in keys] == found
        return "read"

    async def ended(task: asyncio.Task) -> str:
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"
        except DeadlineExceeded:
            return "late"

    async def run() -> list[str]:
        outcomes: list[str] = []
        with run_proxy(redis.port, seed=7) as proxy:
            proxy.piece_bytes, proxy.delay_seconds = 700, 0.0005
            async with reading(proxy.port) as reader:
                for _ in range(40):
                    tasks = [asyncio.create_task(one(reader)) for _ in range(100)]
                    for task in chance.sample(tasks, 50):
                        asyncio.get_running_loop().call_later(chance.random() * 0.04, task.cancel)
                    outcomes += await asyncio.gather(*(ended(task) for task in tasks))
                assert 1 == proxy.accepted
        return outcomes

    outcomes = asyncio.run(run())
    assert 4000 == len(outcomes)
    assert outcomes.count("cancelled") > 500
    assert outcomes.count("late") > 100
    assert outcomes.count("read") > 1000


def test_every_split_of_a_reply_gives_the_same_answer(redis):
    """A reply that arrives byte by byte, nulls, repeats and empties included, is put together as it was."""
    keys = [KEYS[0], b"hc:p:v:{absent}", KEYS[1], KEYS[0], b"hc:p:v:{empty}"]
    with contextlib.closing(redis.client()) as client:
        client.set(b"hc:p:v:{empty}", b"")

    async def run() -> list[bytes | None]:
        with run_proxy(redis.port) as proxy:
            proxy.piece_bytes = 1
            async with reading(proxy.port) as reader:
                return await read(reader, *keys)

    assert [value_of(KEYS[0]), None, value_of(KEYS[1]), value_of(KEYS[0]), b""] == asyncio.run(run())


def test_ten_thousand_keys_are_read_in_order(redis):
    """A read that is longer than one command can be gives its rows in the order asked."""
    keys = random.Random(1).choices(KEYS, k=10_000)

    async def run() -> list[bytes | None]:
        async with reading(redis.port) as reader:
            return await read(reader, *keys)

    assert [value_of(key) for key in keys] == asyncio.run(run())


def test_callers_share_one_connection(redis):
    """Two hundred callers at once, the first ones included, open one connection."""

    async def run() -> int:
        with run_proxy(redis.port) as proxy:
            async with reading(proxy.port) as reader:
                await asyncio.gather(*(read(reader, KEYS[at % 500]) for at in range(200)))
                return proxy.accepted

    assert 1 == asyncio.run(run())


def test_first_caller_may_be_cancelled_while_it_connects(redis):
    """Cancelling the caller who began to connect does not take the connection from those who wait for it too."""

    async def run() -> list[bytes | None]:
        with run_proxy(redis.port) as proxy:
            proxy.held = True
            async with reading(proxy.port) as reader:
                first = asyncio.create_task(read(reader, KEYS[0]))
                second = asyncio.create_task(read(reader, KEYS[1]))
                await asyncio.to_thread(wait_for, lambda: proxy.accepted)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                proxy.held = False
                return await second

    assert [value_of(KEYS[1])] == asyncio.run(run())


def test_paused_redis_is_late_by_the_deadline_and_comes_back(redis):
    """A paused Redis costs a call its deadline and no more, and after it goes on every answer is right."""

    async def run() -> list[float]:
        async with reading(redis.port) as reader:
            await read(reader)
            redis.pause()
            waited = []
            try:
                for seconds in (0.05, 0.3):
                    watch = Stopwatch()
                    with pytest.raises(DeadlineExceeded, match=r"^the deadline passed while Redis was asked$"):
                        await read(reader, seconds=seconds)
                    waited.append(watch.seconds - seconds)
            finally:
                redis.resume()
            await recovers(reader)
            return waited

    assert max(asyncio.run(run())) < 0.25


def test_paused_redis_is_unavailable_to_those_with_time_left(redis):
    """A caller with time left hears within about two seconds that a paused Redis does not answer."""

    async def run() -> tuple[float, float]:
        async with reading(redis.port) as reader:
            await read(reader)
            redis.pause()
            try:
                watch, begin = Stopwatch(), time.monotonic()
                with pytest.raises(StoreUnavailable, match=r"^Redis does not answer; try again$"):
                    await read(reader, seconds=30)
                assert time.monotonic() - begin > 1.5
                waited = watch.seconds
            finally:
                redis.resume()
            return waited, await recovers(reader)

    waited, recovered = asyncio.run(run())
    assert waited < 3.0
    assert recovered < 3.0


def test_redis_paused_before_the_first_connection_is_late_too(redis):
    """A Redis that takes the connection and says nothing costs the deadline and no more."""
    redis.pause()

    async def run() -> float:
        async with reading(redis.port) as reader:
            watch = Stopwatch()
            with pytest.raises(DeadlineExceeded):
                await read(reader, seconds=0.3)
            waited = watch.seconds
            redis.resume()
            await recovers(reader)
            return waited

    try:
        assert asyncio.run(run()) < 0.6
    finally:
        redis.resume()


def test_killed_redis_is_unavailable_at_once_and_comes_back(redis):
    """Calls in flight and calls after it hear within half a second that Redis was killed; a new one is found."""

    async def run() -> None:
        with contextlib.ExitStack() as stack:
            async with reading(redis.port) as reader:
                await read(reader)
                redis.pause()
                flying = [asyncio.create_task(read(reader, key, seconds=20)) for key in KEYS[:20]]
                await asyncio.sleep(0)
                redis.kill()
                watch = Stopwatch()
                outcomes = await asyncio.gather(*flying, return_exceptions=True)
                assert {StoreUnavailable} == {type(outcome) for outcome in outcomes}
                for _ in range(5):
                    with pytest.raises(StoreUnavailable):
                        await read(reader)
                assert watch.seconds < 0.5
                again = stack.enter_context(run_redis(port=redis.port))
                fill(again.client())
                assert await recovers(reader) < 1.0

    asyncio.run(run())


def test_refused_connection_is_unavailable_at_once():
    """Where nothing listens, a call hears so at once, however long its deadline."""

    async def run() -> float:
        with held_port() as port:
            async with reading(port) as reader:
                watch = Stopwatch()
                with pytest.raises(StoreUnavailable, match=r"^Redis does not answer; try again$"):
                    await read(reader, seconds=30)
                return watch.seconds

    assert asyncio.run(run()) < 0.5


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another-protocol"),
        pytest.param(lambda data: b"\x00\xff" * 100, id="noise"),
        pytest.param(lambda data: b"$-7\r\n", id="impossible-length"),
        pytest.param(lambda data: b"*3\r\n$5\r\nab\r\n" + data, id="wrong-length"),
        pytest.param(lambda data: data + b"*1\r\n$5\r\nextra\r\n", id="one-reply-too-many"),
        pytest.param(lambda data: b"*1\r\n$5\r\nother\r\n", id="too-few-rows"),
        pytest.param(lambda data: b"+OK\r\n", id="another-kind"),
        pytest.param(lambda data: b"*2\r\n*1\r\n:1\r\n:2\r\n:3\r\n", id="numbers-for-rows"),
    ],
)
def test_garbage_replies_are_refused_and_the_connection_with_them(redis, garbage):
    """Garbage in place of a reply makes calls fail by UNAVAILABLE, and once it ends every answer is right again."""

    async def run() -> None:
        with run_proxy(redis.port) as proxy:
            async with reading(proxy.port) as reader:
                await read(reader)
                proxy.mangle = garbage
                for _ in range(2):
                    with contextlib.suppress(StoreUnavailable):
                        # A reply too many is only seen after the reply: the answer before it stands.
                        assert [value_of(key) for key in KEYS[:3]] == await read(reader, seconds=5)
                proxy.mangle = None
                await recovers(reader)
                for at in range(50):
                    assert [value_of(KEYS[at])] == await read(reader, KEYS[at])

    asyncio.run(run())


def test_refused_read_names_no_vendor_words(redis_server):
    """A user without the right to read makes reads fail by UNAVAILABLE, in words that are not Redis's."""
    with contextlib.closing(redis_server.client()) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", f">{CANARY}", "~*", "+ping")

    async def run() -> None:
        async with reading(redis_server.port, username="reader", password=CANARY) as reader:
            await reader.ping(deadline=Deadline(5))
            with pytest.raises(StoreUnavailable) as caught:
                await read(reader)
            assert ("Redis refused a read; check the user's rights, and that the keys are a feature store's") == str(
                caught.value
            )

    asyncio.run(run())


def test_ping_that_is_answered_by_an_error_is_no_sign_of_life(redis_server):
    """A Redis that refuses even a PING does not count as alive."""
    with contextlib.closing(redis_server.client()) as client:
        client.execute_command("ACL", "SETUSER", "mute", "on", f">{CANARY}", "~*", "+mget")

    async def run() -> None:
        async with reading(redis_server.port, username="mute", password=CANARY) as reader:
            with pytest.raises(StoreUnavailable):
                await reader.ping(deadline=Deadline(5))

    asyncio.run(run())


def test_wrong_password_is_unavailable_without_repeating_it(redis_server):
    """A refused login makes reads fail by UNAVAILABLE, and the password is in no message."""
    with contextlib.closing(redis_server.client()) as client:
        client.config_set("requirepass", "right")

    async def run() -> str:
        async with reading(redis_server.port, password=CANARY) as reader:
            with pytest.raises(StoreUnavailable) as caught:
                await read(reader)
            return str(caught.value)

    assert CANARY not in asyncio.run(run())


def test_closing_ends_the_calls_that_wait(redis):
    """Closing the reader answers those who wait with UNAVAILABLE instead of leaving them to their deadlines."""

    async def run() -> float:
        with run_proxy(redis.port) as proxy:
            async with reading(proxy.port) as reader:
                await read(reader)
                proxy.held = True
                waiting = asyncio.create_task(read(reader, seconds=30))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                watch = Stopwatch()
                await reader.close()
                with pytest.raises(StoreUnavailable):
                    await waiting
                return watch.seconds

    assert asyncio.run(run()) < 0.5
