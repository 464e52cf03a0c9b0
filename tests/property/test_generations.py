"""Pushes, replaces, rollbacks and deletions in any interleaving, step by step against a real Redis.

Every actor is a generator that does one thing to Redis between two yields, and Hypothesis says whose turn it is. Pushes take the steps
of the real writer, cut in two between the rows and the look.
"""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from hindcast.catalog import Field
from hindcast.errors import GenerationConflict
from hindcast.online.codec import unpack_row
from hindcast.online.generations import GenerationsOf, KnownGenerations
from hindcast.online.keys import entity_key_bytes, key_value_bytes, row_key, view_prefix
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.writer import AS_CARRIED, ViewTargets, _sent, _steps, write_rows
from hindcast.v1.value_pb2 import Value
from services import run_redis

NOW = 1_800_000_000_000_000
KEYS = range(3)
KEEP_SECONDS = 60
FAR_SECONDS = 10_000
ANY_TIE = (b"", AS_CARRIED)


@pytest.fixture(scope="module")
def client():
    """One Redis for all examples, emptied before each."""
    with run_redis() as server, server.client() as client:
        yield client


@dataclass
class World:
    """What the actors share.

    Attributes:
        offline: rows as (key, event), in the order in which they became known.
        acknowledged: the newest event of each key whose push has returned.
        now: the clock of all, in microseconds.
        lost: generations whose replace has died.
    """

    client: Redis
    offline: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: dict[int, int] = field(default_factory=dict)
    now: int = NOW
    builders: count = field(default_factory=count)
    lost: set[int] = field(default_factory=set)

    @property
    def generations(self) -> GenerationsOf:
        """By the clock of all."""
        return GenerationsOf(self.client, project="p", clock=lambda: self.now)

    def writer(self, generation: int = 0) -> ViewWriter:
        """Of the one view, for one of its generations."""
        return ViewWriter(
            project="p",
            view="v",
            fields=[Field("f", 4)],
            ttl_micros=0,
            run_id=bytes(16),
            now_micros=NOW,
            policy=RowPolicy(),
            generation=generation,
        )

    def served(self) -> dict[int, int]:
        """The event of each key that a lookup would answer now."""
        prefix = self.generations.read().prefix("v")
        stored = self.client.mget([row_key(prefix, key_of(key)) for key in KEYS])
        return {key: unpack_row(packed).event_micros for key, packed in zip(KEYS, stored, strict=True) if packed}

    def judge(self) -> None:
        """A row that is acknowledged is served, or a newer one is."""
        served = self.served()
        for key, event in self.acknowledged.items():
            assert event <= served.get(key, -1), f"key {key}: acknowledged {event}, served {served}"


Actor = Generator[None, None, None]


def key_of(key: int) -> bytes:
    return entity_key_bytes(("id",), (key_value_bytes(Value(int64_val=key), 4),))


def row_of(key: int, event: int) -> Row:
    return Row(key_of(key), event, None, [Value(int64_val=event).SerializeToString()])


def pusher(world: World, pushes: list[tuple[int, int]]) -> Actor:
    """Offline first, then online, one push after another, by what this process knew of generations the time before."""
    known = KnownGenerations("p")
    for key, event in pushes:
        world.offline.append((key, event))
        yield
        steps = _steps(list(world.writer().writes([row_of(key, event)])), ViewTargets(known, "v"))
        step = next(steps)
        try:
            while True:
                written, _ = _sent(world.client, step._replace(document=None), ANY_TIE)
                yield
                document = None if step.document is None else world.client.get(step.document)
                yield
                step = steps.send((written, document))
        except StopIteration:
            world.acknowledged[key] = max(event, world.acknowledged.get(key, event))


def replacer(world: World, *, takes_over: bool) -> Actor:
    """Fills a generation with what was offline when its build had begun, and flips to it."""
    generations, builder = world.generations, str(next(world.builders))
    try:
        generation = generations.begin_build("v", builder=builder, take_over=takes_over)
    except GenerationConflict:
        return
    try:
        yield
        source = list(world.offline)
        yield
        for key, event in source:
            write_rows(world.client, world.writer(generation).writes([row_of(key, event)]))
            yield
        try:
            generations.flip("v", generation, keep_seconds=KEEP_SECONDS)
        except GenerationConflict:
            yield
            generations.abandon("v", generation)
        yield
        generations.drop_due()
    except GeneratorExit:
        world.lost.add(generation)
        raise


def operator(world: World) -> Actor:
    """Rolls back, lets time go by, and drops."""
    while True:
        with contextlib.suppress(GenerationConflict):
            world.generations.roll_back("v")
        yield
        world.now += KEEP_SECONDS * 1_000_000 // 2
        world.generations.drop_due()
        yield
        world.generations.expire_previous("v")
        yield


pushes_drawn = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 8)), min_size=1, max_size=4)


@given(
    pushes=st.lists(pushes_drawn, min_size=1, max_size=3),
    replaces=st.lists(st.booleans(), min_size=1, max_size=4),
    turns=st.lists(st.integers(0, 99), min_size=30, max_size=150),
    deaths=st.sets(st.integers(0, 60), max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_the_newest_row_of_each_key_is_served_whatever_the_interleaving(client, pushes, replaces, turns, deaths):
    """At every moment an acknowledged row, or a newer one, is served, and once all is quiet the newest and no other row is left."""
    # A replace can die between any two steps, and the next one takes over. Only what it wrote after that, before it died, may stay.
    client.flushall()
    world = World(client)
    pushers = [pusher(world, of_one) for of_one in pushes]
    replacers = [replacer(world, takes_over=takes_over) for takes_over in replaces]
    actors = [*pushers, *replacers, operator(world)]
    for at, turn in enumerate(turns):
        actor = actors[turn % len(actors)]
        if at in deaths and actor in replacers:
            actor.close()
        next(actor, None)
        world.judge()
    for actor in [*pushers, *replacers, replacer(world, takes_over=True)]:
        for _ in actor:
            world.judge()

    world.generations.expire_previous("v")
    world.now += FAR_SECONDS * 1_000_000
    world.generations.drop_due()
    newest = {key: max(event for of, event in world.offline if of == key) for key in {key for key, _ in world.offline}}
    assert newest == world.served()
    entry = world.generations.read().of("v")
    assert ((entry.serving,), ()) == (entry.targets, entry.going)
    for generation in range(entry.last + 1):
        if generation not in world.lost:
            rows = newest if generation == entry.serving else {}
            assert len(rows) == sum(1 for _ in client.scan_iter(match=view_prefix("p", "v", generation) + b"*"))
