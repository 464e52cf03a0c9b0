"""Pushes that race: whatever the order, the newest row stays, on both layouts."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.catalog import Field, View
from hindcast.clock import Deadline, uuid7
from hindcast.online.connection import parse_target
from hindcast.online.keys import entity_key_bytes, key_value_bytes
from hindcast.online.layouts import LAYOUTS, LayoutName, RowsOf
from hindcast.online.reader import RedisReader
from hindcast.online.rows import Row, RowPolicy
from hindcast.online.sinks import SINKS
from hindcast.online.times import timestamp_micros
from hindcast.v1.value_pb2 import Value
from services import run_redis

NOW = 1_800_000_000_000_000
VIEW = View(
    name="trips",
    join_keys=(Field("driver_id", 4),),
    fields=(Field("count", 4), Field("city", 2)),
    ttl_micros=0,
    version=0,
    stored_name="trips",
)


@pytest.fixture(scope="module")
def redis():
    """One Redis for all examples, emptied before each."""
    with run_redis() as server, server.client() as client:
        yield server, client


def key_of(driver):
    return entity_key_bytes(("driver_id",), (key_value_bytes(Value(int64_val=driver), 4),))


def row(number, driver, event, created):
    """A row whose two values name it, so that a mix of two rows would show."""
    values = (Value(int64_val=number).SerializeToString(), Value(string_val=str(number)).SerializeToString())
    return Row(key_of(driver), event, created, values)


# Around 1970 and now, with digits below a second, so that ties and neighbours by a microsecond are drawn.
instants = st.one_of(
    st.integers(-3, 3), st.integers(NOW - 3, NOW), st.sampled_from([-62_135_596_800_000_000, -1_000_000, 999_999])
)
rows_drawn = st.lists(
    st.tuples(st.integers(0, 2), instants, st.one_of(st.none(), instants)), min_size=1, max_size=12
).map(lambda drawn: [row(number, *parts) for number, parts in enumerate(drawn)])


@pytest.mark.parametrize("layout", list(LayoutName))
@given(rows=rows_drawn, writers=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_racing_pushes_leave_the_newest_row(redis, layout, rows, writers):
    """Several writers at once leave, for each key, whole and unmixed, a row than which none is newer."""
    server, client = redis
    client.flushall()
    target = parse_target(server.connection_string)

    async def run():
        sinks = [SINKS[layout](target, project="p", policy=RowPolicy()) for _ in range(writers)]
        reader = RedisReader(target)
        try:
            reports = await asyncio.gather(
                *(
                    sink.write(VIEW, rows[at::writers], run_id=uuid7(NOW).bytes, now_micros=NOW, deadline=Deadline(10))
                    for at, sink in enumerate(sinks)
                )
            )
            keys = [key_of(driver) for driver in range(3)]
            found = await LAYOUTS[layout](reader, project="p").find(
                [(RowsOf("trips", ("count", "city")), keys)], deadline=Deadline(10)
            )
        finally:
            await reader.close()
            for sink in sinks:
                await sink.close()
        return reports, found[0]

    reports, found = asyncio.run(run())

    assert len(rows) == sum(report.written + report.older for report in reports)
    for driver in range(3):
        of_driver = [number for number, one in enumerate(rows) if one.entity_key == key_of(driver)]
        if not of_driver:
            assert not found.times[driver]
            continue
        count, city = (Value.FromString(found.column(at)[driver]) for at in range(2))
        kept = rows[count.int64_val]
        assert str(count.int64_val) == city.string_val
        assert kept.event_micros == timestamp_micros(found.times[driver])
        assert max(order(rows[number], layout) for number in of_driver) == order(kept, layout)


def order(one, layout):
    """What is compared: event time, and created time where the layout keeps it."""
    created = () if layout is LayoutName.FEAST else (one.created_micros is not None, one.created_micros or 0)
    return (one.event_micros, *created)


def test_a_damaged_time_stands_in_no_rows_way(redis):
    """Where Feast's field of the event time holds no Timestamp, the next row replaces it."""
    server, client = redis
    client.flushall()
    client.hset(key_of(1) + b"p", "_ts:trips", b"\xff\xff")

    async def run():
        sink = SINKS[LayoutName.FEAST](parse_target(server.connection_string), project="p", policy=RowPolicy())
        try:
            return await sink.write(VIEW, [row(0, 1, 5, None)], run_id=bytes(16), now_micros=NOW, deadline=Deadline(10))
        finally:
            await sink.close()

    assert 1 == asyncio.run(run()).written


@pytest.mark.parametrize("layout", list(LayoutName))
def test_a_view_of_very_many_features_is_written(redis, layout):
    """A row of 5,000 features is written whole, more than Redis's Lua passes to one call."""
    server, client = redis
    client.flushall()
    wide = replace(VIEW, fields=tuple(Field(f"f{at}", 4) for at in range(5_000)))
    values = [Value(int64_val=at).SerializeToString() for at in range(5_000)]
    target = parse_target(server.connection_string)

    async def run():
        sink, reader = SINKS[layout](target, project="p", policy=RowPolicy()), RedisReader(target)
        try:
            await sink.write(
                wide, [Row(key_of(1), NOW, None, values)], run_id=bytes(16), now_micros=NOW, deadline=Deadline(10)
            )
            wanted = RowsOf("trips", tuple(field.name for field in wide.fields))
            return await LAYOUTS[layout](reader, project="p").find([(wanted, [key_of(1)])], deadline=Deadline(10))
        finally:
            await reader.close()
            await sink.close()

    cells = asyncio.run(run())[0]
    assert [[value] for value in values] == [cells.column(at) for at in range(len(values))]
