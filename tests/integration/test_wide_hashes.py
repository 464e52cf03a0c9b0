"""Many fields of Feast's hashes: read whole where that is cheaper, and never another's value."""

import asyncio
import random

import pytest

from hindcast.clock import Deadline
from hindcast.online.commands import HashFields
from hindcast.online.connection import parse_target
from hindcast.online.reader import RedisReader

WIDE = [b"%04d" % number for number in range(300)]


def value(key: bytes, field: bytes) -> bytes:
    """What a field of a hash holds."""
    return key + b":" + field


@pytest.fixture
def redis(redis_server):
    """A client of an empty Redis."""
    with redis_server.client() as client:
        yield client


def read(redis_server, keys, fields: HashFields):
    """The wanted fields of hashes."""

    async def run():
        reader = RedisReader(parse_target(redis_server.connection_string))
        try:
            return [row.values() for row in await reader.read_hashes(keys, fields, deadline=Deadline(5))]
        finally:
            await reader.close()

    return asyncio.run(run())


def calls(redis, command: str) -> int:
    """How often Redis has had a command."""
    return redis.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


@pytest.mark.parametrize("wanted", [1, 127, 128, 300])
def test_every_field_has_its_own_value_in_the_order_asked(redis, redis_server, wanted):
    """However many fields are asked for, each row has its own hash's values, in order, and None where there is none."""
    draw = random.Random(wanted)
    for key in (b"one", b"two", b"three"):
        order = draw.sample(WIDE, len(WIDE) - 20)  # written in an order of its own, with holes of its own
        redis.hset(key, mapping={field: value(key, field) for field in order})
    fields = draw.sample([*WIDE, *(b"absent %d" % number for number in range(10))], wanted)
    keys = [b"one", b"nobody", b"two", b"one", b"three"]

    stored = {key: redis.hgetall(key) for key in keys}
    assert [[stored[key].get(field) for field in fields] for key in keys] == read(
        redis_server, keys, HashFields(fields)
    )


def test_a_wide_hash_is_read_whole(redis, redis_server):
    """Redis is asked for the whole hash once per row, not for each of its fields."""
    redis.hset(b"one", mapping={field: value(b"one", field) for field in WIDE})
    before = calls(redis, "hgetall"), calls(redis, "hmget")

    read(redis_server, [b"one"] * 3, HashFields(WIDE[:200]))

    assert (before[0] + 3, before[1]) == (calls(redis, "hgetall"), calls(redis, "hmget"))


def test_a_hash_of_many_other_fields_is_read_whole_once(redis, redis_server):
    """Where most of a hash is not wanted, what is wanted is asked for by name from then on."""
    redis.hset(b"one", mapping={b"%05d" % number: b"x" for number in range(1_000)})
    fields = HashFields([b"%05d" % number for number in range(130)])
    read(redis_server, [b"one"], fields)
    before = calls(redis, "hgetall")

    assert [[b"x"] * 130] == read(redis_server, [b"one"], fields)
    assert before == calls(redis, "hgetall")
