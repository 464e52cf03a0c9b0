"""Serving: CPU of the server process and latency per request, `hindcast serve` against `feast listen`, one process each.

Both answer the same requests through the same client, `GrpcFeatureServer.GetOnlineFeatures`, from a Redis of their own with the
same rows; that the values are equal is checked first. 1,000 entities, three views, 50 features.
"""

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psutil
import yaml

from services import FEAST, free_port, run_hindcast, run_redis, wait_for

ENTITIES = 1_000
VIEWS = {"payments": 20, "profile": 20, "device": 10}
SHAPES = ((1, 10), (1, 50), (10, 50), (100, 50))
SECONDS_PER_POINT = 4.0
CALLERS = 8
METHOD = "/GrpcFeatureServer/GetOnlineFeatures"


@dataclass(frozen=True)
class Point:
    """One server under one shape of request. Times in microseconds; CPU is of the server process alone."""

    requests: int
    cpu_us: float
    p50_us: float
    p99_us: float
    requests_per_second: float


def run() -> list[dict[str, Any]]:
    """Measure every shape, print the table, return the figures."""
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as folder, run_redis() as redis_feast, run_redis() as redis_hindcast:
        feast_repo = make_repo(Path(folder) / "feast", "redis", redis_feast.connection_string)
        hindcast_repo = make_repo(
            Path(folder) / "hindcast", "hindcast.online.plugin.PackedRedisOnlineStore", redis_hindcast.connection_string
        )
        with feast_listen(feast_repo) as (feast_address, feast_pid), run_hindcast(hindcast_repo) as server:
            (worker_pid,) = server.worker_ids()
            print("\nserving: CPU us per request of the server process, one process each, closed loop of 8 callers")
            print(
                f"{'shape':>9} {'feast cpu':>10} {'hindcast':>9} {'ratio':>6}   {'feast p50/p99':>17} {'hindcast p50/p99':>17}"
            )
            for entities, features in SHAPES:
                check_equal(feast_address, server.address, entities, features)
                # Turn about, so that a slow moment of the machine meets both.
                feast_a = measure(feast_address, feast_pid, entities, features)
                ours_a = measure(server.address, worker_pid, entities, features)
                ours_b = measure(server.address, worker_pid, entities, features)
                feast_b = measure(feast_address, feast_pid, entities, features)
                theirs, ours = better(feast_a, feast_b), better(ours_a, ours_b)
                ratio = theirs.cpu_us / ours.cpu_us
                print(
                    f"{entities:>4} x {features:<3}{theirs.cpu_us:>10,.0f} {ours.cpu_us:>9,.0f} {ratio:>6.1f}   "
                    f"{theirs.p50_us:>8,.0f}/{theirs.p99_us:>8,.0f} {ours.p50_us:>8,.0f}/{ours.p99_us:>8,.0f}"
                )
                rows.append(
                    {
                        "shape": f"{entities}x{features}",
                        "feast": asdict(theirs),
                        "hindcast": asdict(ours),
                        "ratio": ratio,
                    }
                )
    return rows


def better(a: Point, b: Point) -> Point:
    """The less disturbed of two measurements."""
    return min(a, b, key=lambda point: point.cpu_us)


def make_repo(root: Path, store: str, connection_string: str) -> Path:
    """A Feast repo whose online store holds every entity."""
    import feast  # noqa: PLC0415 - after the warnings are silenced
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: PLC0415
    from feast.protos.feast.types.Value_pb2 import Value  # noqa: PLC0415
    from feast.types import Float64, Int64  # noqa: PLC0415

    (root / "data").mkdir(parents=True)
    (root / "feature_store.yaml").write_text(
        yaml.safe_dump(
            {
                "project": "bench",
                "provider": "local",
                "registry": "data/registry.db",
                "online_store": {"type": store, "connection_string": connection_string},
                "offline_store": {"type": "dask"},
                "entity_key_serialization_version": 3,
            }
        )
    )
    store_ = feast.FeatureStore(repo_path=root)
    account = feast.Entity(name="account", join_keys=["account_id"], value_type=feast.ValueType.INT64)
    now = datetime.now(UTC)
    views = [
        feast.FeatureView(
            name=name,
            entities=[account],
            schema=[
                feast.Field(name="account_id", dtype=Int64),
                *(feast.Field(name=f"{name}_{at}", dtype=Int64 if at % 2 else Float64) for at in range(features)),
            ],
            source=feast.FileSource(path=f"data/{name}.parquet", timestamp_field="event_timestamp"),
        )
        for name, features in VIEWS.items()
    ]
    store_.apply([account, *views])
    for view in store_.list_feature_views():
        data = [
            (
                EntityKey(join_keys=["account_id"], entity_values=[Value(int64_val=entity)]),
                {
                    field.name: Value(int64_val=entity) if field.dtype == Int64 else Value(double_val=entity / 7)
                    for field in view.features
                },
                now,
                now,
            )
            for entity in range(ENTITIES)
        ]
        store_._provider.online_write_batch(store_.config, view, data, lambda _: None)  # noqa: SLF001 - Feast's public form wants a frame
    return root


@contextlib.contextmanager
def feast_listen(repo: Path) -> Iterator[tuple[str, int]]:
    """Feast's own gRPC server; gives its address and process id."""
    address = f"127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [FEAST, "listen", "--address", address],
        cwd=repo,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        channel = grpc.insecure_channel(address)
        wait_for(lambda: _ready(channel), seconds=60, what="feast listen")
        channel.close()
        yield address, server.pid
    finally:
        server.kill()
        server.wait()


def _ready(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=1)
    except grpc.FutureTimeoutError:
        return False
    return True


def question(entities: int, features: int, *, first: int = 0) -> bytes:
    """A serialized request for some entities and the first features of all views in turn."""
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest  # noqa: PLC0415

    names = [f"{view}:{view}_{at}" for view, count in VIEWS.items() for at in range(count)]
    request = GetOnlineFeaturesRequest()
    request.features.val.extend(names[:features])
    for at in range(entities):
        request.entities["account_id"].val.add(int64_val=(first + 17 * at) % ENTITIES)
    return bytes(request.SerializeToString())


def check_equal(feast_address: str, hindcast_address: str, entities: int, features: int) -> None:
    """Fail unless both servers give the same values."""
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse  # noqa: PLC0415

    def answer(address: str) -> dict[str, list[bytes]]:
        with grpc.insecure_channel(address) as channel:
            reply = GetOnlineFeaturesResponse.FromString(channel.unary_unary(METHOD)(question(entities, features)))
        names = reply.metadata.feature_names.val
        return {n: [v.SerializeToString() for v in r.values] for n, r in zip(names, reply.results, strict=True)}

    assert answer(feast_address) == answer(hindcast_address), "the two servers do not give the same values"


def measure(address: str, server_pid: int, entities: int, features: int) -> Point:
    """Ask in a closed loop for a while; CPU is what the server process used meanwhile."""
    questions = [question(entities, features, first=first) for first in range(0, ENTITIES, 50)]
    latencies: list[float] = []

    async def load(seconds: float) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for _ in range(2)]
            calls = [channel.unary_unary(METHOD) for channel in channels]
            until = time.perf_counter() + seconds

            async def caller(number: int) -> None:
                at = number
                while time.perf_counter() < until:
                    began = time.perf_counter()
                    await calls[number % len(calls)](questions[at % len(questions)])
                    latencies.append(time.perf_counter() - began)
                    at += 1

            await asyncio.gather(*(caller(number) for number in range(CALLERS)))

    asyncio.run(load(0.5))  # warm
    latencies.clear()
    process = psutil.Process(server_pid)
    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    asyncio.run(load(SECONDS_PER_POINT))
    took = time.perf_counter() - began
    cpu = sum(process.cpu_times()[:2]) - before
    latencies.sort()
    return Point(
        requests=len(latencies),
        cpu_us=cpu / len(latencies) * 1e6,
        p50_us=latencies[len(latencies) // 2] * 1e6,
        p99_us=latencies[int(len(latencies) * 0.99)] * 1e6,
        requests_per_second=len(latencies) / took,
    )
