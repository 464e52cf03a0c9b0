"""Redis as people deploy it: on each, the plug-in, the reader and the writer do the same."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64
from redis.crc import key_slot

from faults.deployments import (
    Cluster,
    SentinelPair,
    make_certificates,
    run_cluster,
    run_node,
    run_proxy,
    run_sentinel,
    server_tls,
)
from hindcast.catalog import Field as StoredField
from hindcast.catalog import KeyType, View
from hindcast.clock import Deadline, system_clock, to_micros
from hindcast.errors import DeadlineExceeded, GenerationConflict, StoreUnavailable
from hindcast.online.codec import pack_row, unpack_row
from hindcast.online.connection import RedisTarget, close_client, parse_target
from hindcast.online.generations import Dropped, GenerationsOf
from hindcast.online.keys import (
    entity_key_bytes,
    generations_key,
    key_value_bytes,
    project_prefix,
    row_key,
    schema_key,
    view_prefix,
)
from hindcast.online.layouts import LAYOUTS, LayoutName, RowsOf
from hindcast.online.plugin import PackedRedisOnlineStore
from hindcast.online.reader import RedisReader
from hindcast.online.rows import Row, RowPolicy
from hindcast.online.schemas import Schema
from hindcast.online.sinks import SINKS
from hindcast.online.stream import RowStream
from hindcast.online.writer import RowWrite, WriteReport, write_rows, write_rows_async
from hindcast.v1.value_pb2 import Value as ProtoValue
from services import RedisServer, run_redis, wait_for

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECOVERY_SECONDS = 15.0
MINIMAL_RIGHTS = (
    *("~hc:*", "-@all", "+ping", "+mget", "+get", "+set", "+getrange", "+eval", "+evalsha", "+script|load"),
    *("+scan", "+unlink", "+select", "+info"),
)
"""What Hindcast needs of a user of its own."""


@dataclass(frozen=True)
class Deployment:
    """A Redis as feature_store.yaml names it."""

    connection_string: str
    redis_type: str = "redis"

    @property
    def target(self) -> RedisTarget:
        """As the server reads it."""
        return parse_target(self.connection_string, redis_type=self.redis_type)

    def config(self, project: str) -> RepoConfig:
        """As Feast reads it."""
        return RepoConfig(
            project=project,
            provider="local",
            registry="registry.db",
            online_store={
                "type": "hindcast.online.plugin.PackedRedisOnlineStore",
                "redis_type": self.redis_type,
                "connection_string": self.connection_string,
            },
            entity_key_serialization_version=3,
        )


@pytest.fixture(scope="module")
def standalone() -> Iterator[RedisServer]:
    """One Redis, which also stands behind the password, the database and the TLS of the others."""
    with run_redis() as server:
        yield server


@pytest.fixture(scope="module")
def by_user(standalone) -> Deployment:
    """A user with a password and no right that is not needed; its password looks like a number and holds an `=`."""
    with contextlib.closing(standalone.client()) as client:
        client.execute_command("ACL", "SETUSER", "hindcast", "on", ">1e5=0", *MINIMAL_RIGHTS)
        client.execute_command("ACL", "SETUSER", "digits", "on", ">007", *MINIMAL_RIGHTS)
    return Deployment(f"{standalone.connection_string},username=hindcast,password=1e5=0")


@pytest.fixture(scope="module")
def by_database(standalone) -> Deployment:
    """A database that is not the first."""
    return Deployment(f"{standalone.connection_string},db=2")


@pytest.fixture(scope="module")
def by_tls(standalone, tmp_path_factory) -> Iterator[Deployment]:
    """TLS with an authority of its own."""
    certificates = make_certificates(tmp_path_factory.mktemp("tls"))
    with run_proxy(standalone.port, tls=server_tls(certificates)) as proxy:
        yield Deployment(f"127.0.0.1:{proxy.port},ssl=true,ssl_ca_certs={certificates.ca}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Cluster of three."""
    with run_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def by_cluster(cluster) -> Deployment:
    """A Cluster, by one of its nodes."""
    return Deployment(cluster.nodes[0].connection_string, "redis_cluster")


@pytest.fixture(scope="module")
def by_sentinel() -> Iterator[Deployment]:
    """What a Sentinel says is the primary."""
    with run_sentinel() as pair:
        yield Deployment(pair.connection_string, "redis_sentinel")


@pytest.fixture(params=["by_user", "by_database", "by_tls", "by_cluster", "by_sentinel"])
def deployment(request) -> Deployment:
    """Each of the above."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"p{uuid4().hex}"


ROW_KEYS = 60
SCHEMA = Schema((StoredField("trips", 4),))


def key_of(project: str, at: int) -> bytes:
    """A row's key; the keys of a project spread over all slots."""
    return project_prefix(project) + b"v:{%d}" % at


def row(project: str, at: int, *, second: int, trips: int) -> RowWrite:
    """A row write of one int64 feature."""
    packed = pack_row(
        event_micros=second * 1_000_000,
        created_micros=None,
        schema_id=SCHEMA.id,
        run_id=bytes(16),
        values=[Value(int64_val=trips).SerializeToString()],
    )
    return RowWrite(key_of(project, at), packed)


def rows(project: str, *, second: int, trips: int) -> list[RowWrite]:
    """One row per key."""
    return [row(project, at, second=second, trips=trips) for at in range(ROW_KEYS)]


def write(target: RedisTarget, writes: list[RowWrite]) -> WriteReport:
    """Write by a blocking client."""
    with contextlib.closing(target.client()) as client:
        return write_rows(client, writes)


async def write_async(target: RedisTarget, writes: list[RowWrite]) -> WriteReport:
    """Write by an asyncio client."""
    client = target.async_client()
    try:
        return await write_rows_async(client, writes)
    finally:
        await close_client(client)


@contextlib.asynccontextmanager
async def reading(target: RedisTarget, project: str):
    """A reader, closed at the end."""
    reader = RedisReader(target)
    try:
        yield reader
    finally:
        await reader.close()


async def read_trips(reader: RedisReader, project: str, *, seconds: float = 5.0) -> list[int | None]:
    """The feature of every key of a project, None without a row."""
    keys = [key_of(project, at) for at in range(ROW_KEYS)]
    found = await reader.read_values(keys, deadline=Deadline(seconds))
    return [None if packed is None else trips_in(packed) for packed in found]


def trips_in(packed: bytes) -> int:
    """The feature of a packed row."""
    (value,) = unpack_row(packed).values
    return Value.FromString(value).int64_val


def test_what_the_writer_wrote_the_reader_reads(deployment, project):
    """Rows written by a blocking and by an asyncio client are read, each by its key, and missing ones as missing."""

    async def run() -> None:
        async with reading(deployment.target, project) as reader:
            await reader.ping(deadline=Deadline(5))
            assert [None] * ROW_KEYS == await read_trips(reader, project)
            first = [row(project, at, second=1, trips=at) for at in range(0, ROW_KEYS, 2)]
            second = [row(project, at, second=1, trips=at) for at in range(1, ROW_KEYS, 2)]
            assert WriteReport(ROW_KEYS // 2, 0) == await asyncio.to_thread(write, deployment.target, first)
            assert WriteReport(ROW_KEYS // 2, 0) == await write_async(deployment.target, second)
            assert list(range(ROW_KEYS)) == await read_trips(reader, project)

    asyncio.run(run())


def test_newest_row_wins_whoever_writes_it_last(deployment, project):
    """An older row changes nothing and is counted, a row of the same time replaces, by either client."""

    async def run() -> None:
        target = deployment.target
        async with reading(target, project) as reader:
            await write_async(target, rows(project, second=10, trips=1))
            assert WriteReport(0, ROW_KEYS) == await asyncio.to_thread(write, target, rows(project, second=9, trips=2))
            assert WriteReport(0, ROW_KEYS) == await write_async(target, rows(project, second=9, trips=3))
            assert [1] * ROW_KEYS == await read_trips(reader, project)
            assert WriteReport(ROW_KEYS, 0) == await asyncio.to_thread(write, target, rows(project, second=10, trips=4))
            assert [4] * ROW_KEYS == await read_trips(reader, project)

    asyncio.run(run())


driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def view(name: str) -> FeatureView:
    """A tiny feature view."""
    return FeatureView(
        name=name,
        entities=[driver],
        ttl=timedelta(0),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)],
        source=FileSource(path="trips.parquet", timestamp_field="event_ts"),
    )


def entity_key(driver_id: int) -> EntityKey:
    """Feast's key of one driver."""
    return EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver_id)])


def feast_rows(trips: int, *, at: datetime = NOON) -> list[tuple]:
    """One row per driver, as Feast hands it to an online store."""
    return [(entity_key(number), {"trips": Value(int64_val=trips + number)}, at, None) for number in range(ROW_KEYS)]


def test_plugin_writes_reads_and_deletes(deployment, project):
    """Feast's store reads what it wrote, sync and async; deleting a view or a project deletes its own rows alone."""
    config, neighbour = deployment.config(project), deployment.config(f"non{project}")
    kept, gone = view("kept"), view("gone")
    keys = [entity_key(number) for number in range(ROW_KEYS + 1)]
    expected = [(NOON, {"trips": Value(int64_val=number)}) for number in range(ROW_KEYS)] + [(None, None)]
    empty = [(None, None)] * (ROW_KEYS + 1)

    async def run() -> None:
        store = PackedRedisOnlineStore()
        try:
            store.online_write_batch(config, kept, feast_rows(0), None)
            await store.online_write_batch_async(config, gone, feast_rows(0), None)
            store.online_write_batch(neighbour, kept, feast_rows(0), None)
            for table in (kept, gone):
                assert expected == await store.online_read_async(config, table, keys)
                assert expected == await asyncio.to_thread(store.online_read, config, table, keys)
            store.update(config, [gone], [kept], [], [], partial=False)
            assert empty == await store.online_read_async(config, gone, keys)
            assert expected == await store.online_read_async(config, kept, keys)
            store.teardown(config, [kept], [driver])
            assert empty == await store.online_read_async(config, kept, keys)
            assert expected == await store.online_read_async(neighbour, kept, keys)
            store.teardown(neighbour, [kept], [driver])
        finally:
            await store.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("deployment", "layout"),
    [
        ("by_user", LayoutName.PACKED),  # whose rights end where Feast's keys begin
        *product(("by_database", "by_tls", "by_cluster", "by_sentinel"), LayoutName),
    ],
    indirect=["deployment"],
)
def test_pushed_rows_are_read_again(deployment, project, layout):
    """What a sink of either layout writes, over many slots where there are any, the layout of its name reads; older rows do not land."""
    view = View("v", (StoredField("id", 4),), (StoredField("trips", 4),), 0, 0, "v")
    keys = [entity_key_bytes(("id",), (key_value_bytes(ProtoValue(int64_val=at), KeyType.INT64),)) for at in range(300)]

    def pushed(trips: int, event_micros: int) -> list[Row]:
        return [Row(key, event_micros, None, [ProtoValue(int64_val=trips).SerializeToString()]) for key in keys]

    async def run() -> None:
        sink = SINKS[layout](deployment.target, project=project, policy=RowPolicy())
        try:
            async with reading(deployment.target, project) as reader:
                for trips, event_micros, report in ((1, 10, WriteReport(300, 0)), (2, 9, WriteReport(0, 300))):
                    assert report == await sink.write(
                        view, pushed(trips, event_micros), run_id=bytes(16), now_micros=10, deadline=Deadline(10)
                    )
                (found,) = await LAYOUTS[layout](reader, project=project).find(
                    [(RowsOf("v", ("trips",)), keys)], deadline=Deadline(10)
                )
                assert [ProtoValue(int64_val=1).SerializeToString()] * 300 == found.column(0)
        finally:
            await sink.close()

    asyncio.run(run())


def test_streamed_rows_are_read(deployment, project):
    """A stream writes to each deployment, with an expiry too; older rows are counted and do not land."""

    def report(second: int, trips: int, expires_ms: int = 0) -> WriteReport:
        with RowStream(deployment.target, run_id=bytes(16)) as stream:
            for part in (slice(0, 7), slice(7, None)):
                writes = rows(project, second=second, trips=trips)[part]
                keys, packed = pa.array([w.key for w in writes]), pa.array([w.packed for w in writes])
                stream.write(keys, packed, np.full(len(writes), expires_ms))
            return stream.flush()

    async def run() -> None:
        async with reading(deployment.target, project) as reader:
            assert WriteReport(ROW_KEYS, 0) == await asyncio.to_thread(report, 10, 1)
            assert WriteReport(0, ROW_KEYS) == await asyncio.to_thread(report, 9, 2)
            assert [1] * ROW_KEYS == await read_trips(reader, project)
            assert WriteReport(ROW_KEYS, 0) == await asyncio.to_thread(report, 10, 3, 1)
            assert [None] * ROW_KEYS == await read_trips(reader, project)

    asyncio.run(run())


def test_a_view_is_replaced_and_rolled_back(deployment, project):
    """Rows pushed and written by the SDK land in every generation that may be served; flips and rollbacks are seen at once; what is due goes."""
    config, table = deployment.config(project), view("v")
    pushed_to = View("v", (StoredField("driver_id", 4),), (StoredField("trips", 4),), 0, 0, "v")
    feast_keys = [entity_key(number) for number in range(ROW_KEYS)]
    keys = [
        entity_key_bytes(("driver_id",), (key_value_bytes(ProtoValue(int64_val=at), KeyType.INT64),))
        for at in range(ROW_KEYS)
    ]

    def packed(trips: int, *, generation: int) -> list[RowWrite]:
        writes = rows(project, second=1, trips=trips)
        return [
            RowWrite(row_key(view_prefix(project, "v", generation), key), write.packed)
            for key, write in zip(keys, writes, strict=True)
        ]

    async def run() -> None:
        with contextlib.closing(deployment.target.client()) as client:
            now = [system_clock()]
            generations = GenerationsOf(client, project=project, clock=lambda: now[0])
            store = PackedRedisOnlineStore()
            sink = SINKS[LayoutName.PACKED](deployment.target, project=project, policy=RowPolicy())
            async with reading(deployment.target, project) as reader:
                layout = LAYOUTS[LayoutName.PACKED](reader, project=project)

                async def all_serve(expected: list[int]) -> None:
                    (found,) = await layout.find([(RowsOf("v", ("trips",)), keys)], deadline=Deadline(10))
                    assert expected == [ProtoValue.FromString(value).int64_val for value in found.column(0)]
                    for answer in (
                        await store.online_read_async(config, table, feast_keys),
                        await asyncio.to_thread(store.online_read, config, table, feast_keys),
                    ):
                        assert expected == [values["trips"].int64_val for _, values in answer]

                async def push(number: int, *, trips: int) -> WriteReport:
                    pushed = [
                        Row(keys[number], to_micros(NOON), None, [ProtoValue(int64_val=trips).SerializeToString()])
                    ]
                    return await sink.write(
                        pushed_to, pushed, run_id=bytes(16), now_micros=now[0], deadline=Deadline(10)
                    )

                before = [at - ROW_KEYS for at in range(ROW_KEYS)]
                await asyncio.to_thread(store.online_write_batch, config, table, feast_rows(-ROW_KEYS, at=EPOCH), None)
                await all_serve(before)
                generation = await asyncio.to_thread(generations.begin_build, "v", builder="a run")
                assert WriteReport(ROW_KEYS, 0) == await asyncio.to_thread(
                    write, deployment.target, packed(5, generation=generation)
                )
                assert WriteReport(1, 0) == await push(0, trips=100)
                await store.online_write_batch_async(config, table, feast_rows(200)[1:2], None)
                await all_serve([100, 201, *before[2:]])
                await asyncio.to_thread(generations.flip, "v", generation)
                await all_serve([100, 201, *[5] * (ROW_KEYS - 2)])
                assert WriteReport(1, 0) == await push(2, trips=102)
                await asyncio.to_thread(store.online_write_batch, config, table, feast_rows(200)[3:4], None)
                assert 0 == await asyncio.to_thread(generations.roll_back, "v")
                await all_serve([100, 201, 102, 203, *before[4:]])
                assert generation == await asyncio.to_thread(generations.roll_back, "v")
                await all_serve([100, 201, 102, 203, *[5] * (ROW_KEYS - 4)])
                assert [] == await asyncio.to_thread(generations.drop_due)
                now[0] += 3_600_000_000
                assert [Dropped("v", 0, ROW_KEYS)] == await asyncio.to_thread(generations.drop_due)
                await all_serve([100, 201, 102, 203, *[5] * (ROW_KEYS - 4)])
                with pytest.raises(GenerationConflict, match="no earlier generation"):
                    await asyncio.to_thread(generations.roll_back, "v")
                await asyncio.to_thread(generations.begin_build, "v", builder="another run")
                await push(4, trips=104)
                neighbour = row(project, 0, second=1, trips=1)
                await write_async(
                    deployment.target, [RowWrite(neighbour.key.replace(b":v:", b":v1:"), neighbour.packed)]
                )
                store.update(config, [table], [], [], [], partial=False)
                left = set(client.scan_iter(match=project_prefix(project) + b"*"))
                kept = {neighbour.key.replace(b":v:", b":v1:"), schema_key(project, SCHEMA.id)}
                assert {*kept, generations_key(project)} == left
            await sink.close()
            await store.close()

    asyncio.run(run())


def test_rows_land_in_the_database_that_is_named(standalone, by_database, project):
    """With `db=2`, no other database has a key of the project."""
    write(by_database.target, rows(project, second=1, trips=1))
    pattern = project_prefix(project) + b"*"
    for database in range(4):
        with contextlib.closing(standalone.client(db=database)) as client:
            count = sum(1 for _ in client.scan_iter(match=pattern, count=1000))
        assert (ROW_KEYS if database == 2 else 0) == count


def test_password_of_digits_stays_as_written(standalone, by_user, project):
    """A password that would be another text as a number still logs in, blocking and asyncio."""
    target = parse_target(f"{standalone.connection_string},username=digits,password=007")
    assert WriteReport(ROW_KEYS, 0) == write(target, rows(project, second=1, trips=1))
    assert WriteReport(ROW_KEYS, 0) == asyncio.run(write_async(target, rows(project, second=2, trips=1)))


def test_tls_server_of_another_authority_is_refused(by_tls, project):
    """Without the authority that signed it, a TLS server is not read."""
    stranger = parse_target(by_tls.connection_string.split(",ssl_ca_certs")[0])

    async def run() -> None:
        async with reading(stranger, project) as reader:
            with pytest.raises(StoreUnavailable):
                await read_trips(reader, project)

    asyncio.run(run())


def test_lost_script_is_loaded_again(standalone, project):
    """After Redis has lost its scripts, as by a restart, writes go on, blocking and asyncio."""
    target = parse_target(standalone.connection_string)
    with contextlib.closing(standalone.client()) as client:
        client.script_flush()
        assert WriteReport(ROW_KEYS, 0) == write(target, rows(project, second=1, trips=1))
        client.script_flush()
    assert WriteReport(ROW_KEYS, 0) == asyncio.run(write_async(target, rows(project, second=2, trips=2)))


def test_slot_moves_while_rows_are_read_and_written(cluster, by_cluster, project):
    """Before, in the midst of and after a slot's move, rows of it are read, written and judged as ever, by old clients too."""
    in_slot = [project_prefix(project) + b"v%d:{shared}" % at for at in range(20)]
    slot = key_slot(in_slot[0])
    to = (cluster.owner_of(slot) + 1) % 3
    target = by_cluster.target

    def writes(second: int) -> list[RowWrite]:
        packed = row(project, 0, second=second, trips=second).packed
        return [RowWrite(key, packed) for key in in_slot]

    async def run() -> None:
        client, old_client = target.async_client(), target.client()
        try:
            async with reading(target, project) as reader:
                second = 10

                async def step() -> None:
                    nonlocal second
                    second += 2
                    assert WriteReport(20, 0) == await asyncio.to_thread(write_rows, old_client, writes(second))
                    assert WriteReport(20, 0) == await write_rows_async(client, writes(second + 1))
                    assert WriteReport(0, 20) == await asyncio.to_thread(write_rows, old_client, writes(second))
                    found = await reader.read_values([*in_slot, in_slot[0]], deadline=Deadline(5))
                    assert [second + 1] * 21 == [trips_in(packed) for packed in found]

                await step()
                source = cluster.begin_move(slot, to=to)
                await step()
                assert 7 == len(cluster.move_keys(slot, 7, source=source, to=to))
                await step()
                assert 13 == len(cluster.move_keys(slot, 100, source=source, to=to))
                await step()
                cluster.end_move(slot, to=to)
                await step()
                assert to == cluster.owner_of(slot)
        finally:
            await close_client(client)
            old_client.close()

    asyncio.run(run())


def test_missing_rows_of_a_moving_slot_are_missing(cluster, by_cluster, project):
    """In the midst of a move, a key that no node has is answered as missing, not refused."""
    key = project_prefix(project) + b"v:{absent}"
    slot = key_slot(key)
    to = (cluster.owner_of(slot) + 1) % 3
    source = cluster.begin_move(slot, to=to)

    async def run() -> list[bytes | None]:
        async with reading(by_cluster.target, project) as reader:
            return await reader.read_values([key, key], deadline=Deadline(5))

    try:
        assert [None, None] == asyncio.run(run())
    finally:
        cluster.end_move(slot, to=source)


async def comes_back(reader: RedisReader, project: str, expected: list[int | None]) -> None:
    """Read until an answer comes, which must be the expected one."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            assert expected == await read_trips(reader, project, seconds=1.0)
        except (StoreUnavailable, DeadlineExceeded):
            assert time.monotonic() < deadline, "reads did not come back"
            await asyncio.sleep(0.02)
        else:
            return


def comes_back_for_writes(target: RedisTarget, writes: list[RowWrite]) -> None:
    """Write until it is taken."""

    def taken() -> bool:
        try:
            write(target, writes)
        except StoreUnavailable:
            return False
        return True

    wait_for(taken, seconds=RECOVERY_SECONDS, what="a write that is taken")


def wait_for_copy(pair: SentinelPair, project: str) -> None:
    """Wait until the replica has a project's rows."""
    with contextlib.closing(pair.servers[1].client()) as replica:
        wait_for(lambda: replica.exists(key_of(project, ROW_KEYS - 1)), what="the replica's copy")


def test_reads_and_writes_come_back_after_a_failover(project):
    """A primary is killed: calls fail by UNAVAILABLE in the meantime, then the replica's rows are read and new ones taken."""
    with run_sentinel() as pair:
        deployment = Deployment(pair.connection_string, "redis_sentinel")
        target = deployment.target
        write(target, rows(project, second=1, trips=1))
        wait_for_copy(pair, project)

        async def run() -> None:
            async with reading(target, project) as reader:
                assert [1] * ROW_KEYS == await read_trips(reader, project)
                pair.servers[0].kill()
                with pytest.raises(StoreUnavailable):
                    await read_trips(reader, project)
                await comes_back(reader, project, [1] * ROW_KEYS)
                await asyncio.to_thread(comes_back_for_writes, target, rows(project, second=2, trips=2))
                assert [2] * ROW_KEYS == await read_trips(reader, project)

        asyncio.run(run())
        assert pair.servers[1] is pair.primary()


def test_paused_primary_that_comes_back_is_not_written_to(project):
    """A primary is paused until it was replaced: when it goes on, reads and writes stay with its successor."""
    with run_sentinel() as pair:
        target = Deployment(pair.connection_string, "redis_sentinel").target
        write(target, rows(project, second=1, trips=1))
        wait_for_copy(pair, project)

        async def run() -> None:
            async with reading(target, project) as reader:
                assert [1] * ROW_KEYS == await read_trips(reader, project)
                pair.servers[0].pause()
                await asyncio.to_thread(
                    wait_for, lambda: pair.primary() is pair.servers[1], seconds=RECOVERY_SECONDS, what="a failover"
                )
                await asyncio.to_thread(comes_back_for_writes, target, rows(project, second=2, trips=2))
                await comes_back(reader, project, [2] * ROW_KEYS)
                pair.servers[0].resume()
                write_again = rows(project, second=3, trips=3)
                assert WriteReport(ROW_KEYS, 0) == await asyncio.to_thread(write, target, write_again)
                await comes_back(reader, project, [3] * ROW_KEYS)

        asyncio.run(run())


def test_cluster_node_that_is_replaced_is_found(project):
    """A Cluster's node is killed and its replica takes over: reads and writes of its slots come back by themselves."""
    with run_cluster() as cluster, run_node() as replica:
        target = Deployment(cluster.connection_string, "redis_cluster").target
        cluster.add_replica(replica, of=1)
        write(target, rows(project, second=1, trips=1))
        with contextlib.closing(replica.client()) as copy:
            wait_for(lambda: cluster.clients[1].dbsize() == copy.dbsize(), what="the replica's copy")

        async def run() -> None:
            async with reading(target, project) as reader:
                assert [1] * ROW_KEYS == await read_trips(reader, project)
                cluster.nodes[1].kill()
                with pytest.raises((StoreUnavailable, DeadlineExceeded)):
                    await read_trips(reader, project, seconds=1.0)
                with contextlib.closing(replica.client()) as client:
                    client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
                await comes_back(reader, project, [1] * ROW_KEYS)
                await reader.ping(deadline=Deadline(5))
                await asyncio.to_thread(comes_back_for_writes, target, rows(project, second=2, trips=2))
                assert [2] * ROW_KEYS == await read_trips(reader, project)

        asyncio.run(run())


def test_cluster_that_is_not_there_is_unavailable(project):
    """No node of a Cluster answers: reads and writes fail by UNAVAILABLE, by no error of another kind."""
    target = Deployment("127.0.0.1:1,127.0.0.1:2", "redis_cluster").target

    async def run() -> None:
        async with reading(target, project) as reader:
            with pytest.raises(StoreUnavailable):
                await read_trips(reader, project)
            with pytest.raises(StoreUnavailable):
                await reader.ping(deadline=Deadline(5))

    asyncio.run(run())
    store = PackedRedisOnlineStore()
    config = Deployment("127.0.0.1:1", "redis_cluster").config(project)
    for call in (
        lambda: store.online_read(config, view("v"), [entity_key(1)]),
        lambda: store.online_write_batch(config, view("v"), feast_rows(1), None),
        lambda: asyncio.run(store.online_read_async(config, view("v"), [entity_key(1)])),
    ):
        with pytest.raises(StoreUnavailable):
            call()
