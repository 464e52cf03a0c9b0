"""Serving: what a request costs `hindcast serve`, on packed rows and on Feast's layout, and what it costs `feast listen`.

One worker each, on one host, with the same data and the same requests, whose answers are compared first. Feast and Hindcast
on Feast's layout read one and the same Redis; packed rows have another. CPU is counted for the whole process tree of a server,
and for its Redis apart. The servers are measured turn about, there and back, and the better of the two counts, so that a slow
moment of the machine does not decide.
"""

import contextlib
import math
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dataset
from dataset import ACCOUNTS, MERCHANTS, POPULATIONS, Population
from failure import BenchmarkFailed
from floors import Floor
from load import CONNECTIONS, STREAMS, Body, ask, closed_loop, open_loop, write_body
from servers import EMPTY_METHOD, FEAST_METHOD, Server, feast_server, first_answer_seconds, hindcast_server
from services import run_redis

FEAST, PACKED, FEAST_LAYOUT = "Feast", "packed rows", "Feast's layout"
"""The servers: `feast listen`, and Hindcast on either layout."""

BODIES = 16
"""Distinct requests of a shape, each for entities of its own."""

CPU_SECONDS = 1.6
"""What a server works for one measurement: CPU times tick in 10 ms, so this is exact to one percent."""

_PROBE_CPU_SECONDS = 0.2
STARTS = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of request.

    Attributes:
        rate: requests a second of the open loop: one that Feast can sustain too.
        seconds: how long the open loop lasts, each time.
        cpu_floors: by server, how many times less CPU than Feast it must need; none where it is only measured.
    """

    population: Population
    entities: int
    features: int
    rate: int
    seconds: float
    cpu_floors: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.entities}x{self.features}"

    def request(self, seed: int, *, by_list: bool = False) -> bytes:
        """One request of this size, for a feature service or for a list of features."""
        return dataset.request(
            self.population, entities=self.entities, features=self.features, seed=seed, by_list=by_list
        )


SHAPES = (
    Shape(ACCOUNTS, 1, 10, 100, 3, {PACKED: 4.5, FEAST_LAYOUT: 4.5}),
    Shape(ACCOUNTS, 1, 50, 100, 5, {PACKED: 13, FEAST_LAYOUT: 13}),
    Shape(ACCOUNTS, 10, 50, 50, 3, {PACKED: 15, FEAST_LAYOUT: 15}),
    Shape(ACCOUNTS, 100, 50, 10, 5, {PACKED: 27, FEAST_LAYOUT: 20}),
    Shape(MERCHANTS, 100, 250, 2, 4, {}),
)

LISTED_SHAPES = SHAPES[:3]
"""Measured once more by a list of features, which costs Feast less: it builds a feature service anew for each request."""

REDIS_CPU_FLOOR = 15.0  # at 100x50, packed rows
P99_MS_LIMIT = 3.0  # at 1x50
FIRST_ANSWER_SECONDS_LIMIT = 1.5
WORKER_MB_LIMIT = 80.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs in a closed loop: CPU of the server's processes, and of its Redis."""

    requests: int
    cpu_us: float
    redis_cpu_us: float
    requests_per_second: float


@dataclass(frozen=True, slots=True)
class Latency:
    """What a caller waits at a fixed rate."""

    rate: int
    requests: int
    p50_us: int
    p99_us: int


@dataclass(frozen=True, slots=True)
class Point:
    """One server under one shape of request."""

    cost: Cost
    latency: Latency


def run() -> dict[str, Any]:
    """Measure everything, print the table, return the figures."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers, packed_repo = _start(folder, stack)
        feast, packed, _ = servers
        _print_head()
        points, by_list = {}, {}
        for shape in SHAPES:
            points[str(shape)] = _measure(shape, servers, folder)
            _print_shape(shape, points[str(shape)])
        for shape in LISTED_SHAPES:
            by_list[str(shape)] = _measure_list(shape, (feast, packed), folder)
        rss_mb = {server.name: server.worker_rss_bytes() / 1e6 for server in servers}
        empty = write_body(folder / "empty.bin", b"", answer=ask(packed.address, EMPTY_METHOD, b""))
        empty_requests = _requests_for(packed, [empty], method=EMPTY_METHOD)
        empty_rpc = _cost(packed, [empty], empty_requests, method=EMPTY_METHOD)
        starts = [first_answer_seconds(packed_repo, request=SHAPES[0].request(0)) for _ in range(STARTS)]
        redis_version = feast.redis.client().info("server")["redis_version"]
    floors = _floors(points, rss_mb, statistics.median(starts))
    _print_rest(by_list, empty_rpc, rss_mb, starts, floors)
    return {
        "redis": redis_version,
        "closed_loop": {"connections": CONNECTIONS, "streams": STREAMS},
        "shapes": {shape: {server: asdict(point) for server, point in of.items()} for shape, of in points.items()},
        "ratios": {shape: {name: _ratios(of, name) for name in (PACKED, FEAST_LAYOUT)} for shape, of in points.items()},
        "by_list": {shape: {server: asdict(cost) for server, cost in of.items()} for shape, of in by_list.items()},
        "empty_rpc": asdict(empty_rpc),
        "worker_rss_mb": rss_mb,
        "first_answer_seconds": starts,
        "floors": [floor.figures() for floor in floors],
    }


def _start(folder: Path, stack: contextlib.ExitStack) -> tuple[list[Server], Path]:
    """Everything that is measured, loaded and answering: Feast, Hindcast on packed rows and on Feast's layout."""
    feast_redis, packed_redis = stack.enter_context(run_redis()), stack.enter_context(run_redis())
    print("applying the definitions with Feast, and loading 100,000 entities into both layouts", flush=True)
    feast_repo, packed_repo = dataset.make_repos(folder, feast_redis=feast_redis, packed_redis=packed_redis)
    dataset.load(POPULATIONS, feast_repo, feast_redis=feast_redis, packed_redis=packed_redis)
    first = SHAPES[0].request(0)
    contexts = (
        feast_server(FEAST, feast_repo, feast_redis, request=first),
        hindcast_server(PACKED, packed_repo, packed_redis, request=first),
        hindcast_server(FEAST_LAYOUT, feast_repo, feast_redis, request=first),
    )
    return [stack.enter_context(context) for context in contexts], packed_repo


def _measure(shape: Shape, servers: Sequence[Server], folder: Path) -> dict[str, Point]:
    """Every server under one shape.

    Raises:
        BenchmarkFailed: they do not give the same answers, or a call failed.
    """
    bodies = _bodies(shape, servers, folder)
    requests = {server.name: _requests_for(server, bodies[server.name]) for server in servers}
    costs: dict[str, list[Cost]] = {server.name: [] for server in servers}
    latencies: dict[str, list[Latency]] = {server.name: [] for server in servers}
    for server in (*servers, *reversed(servers)):
        of_server = bodies[server.name]
        costs[server.name].append(_cost(server, of_server, requests[server.name], method=FEAST_METHOD))
        latencies[server.name].append(_latency(server, of_server, shape))
    return {
        server.name: Point(
            min(costs[server.name], key=_cpu_us),
            min(latencies[server.name], key=lambda latency: latency.p99_us),
        )
        for server in servers
    }


def _measure_list(shape: Shape, servers: Sequence[Server], folder: Path) -> dict[str, Cost]:
    """As `_measure`, by a list of features, and only what it costs."""
    bodies = _bodies(shape, servers, folder, by_list=True)
    requests = {server.name: _requests_for(server, bodies[server.name]) for server in servers}
    costs: dict[str, list[Cost]] = {server.name: [] for server in servers}
    for server in (*servers, *reversed(servers)):
        costs[server.name].append(_cost(server, bodies[server.name], requests[server.name], method=FEAST_METHOD))
    return {name: min(of_server, key=_cpu_us) for name, of_server in costs.items()}


def _cpu_us(cost: Cost) -> float:
    return cost.cpu_us


def _bodies(shape: Shape, servers: Sequence[Server], folder: Path, *, by_list: bool = False) -> dict[str, list[Body]]:
    """The requests of a shape, by server since its answers' lengths are its own; fails unless all answer alike."""
    bodies: dict[str, list[Body]] = {server.name: [] for server in servers}
    for seed in range(BODIES):
        request = shape.request(seed, by_list=by_list)
        answers = {server.name: ask(server.address, FEAST_METHOD, request) for server in servers}
        for name, answer in answers.items():
            if answer != answers[FEAST] and (differing := _differing(answers[FEAST], answer)):
                raise BenchmarkFailed(f"{shape}: {name} and Feast do not give the same values of {differing[:5]}")
            path = folder / f"{shape}-{'list' if by_list else 'service'}-{seed}.bin"
            bodies[name].append(write_body(path, request, answer=answer))
    return bodies


def _differing(expected: bytes, answer: bytes) -> list[str]:
    """The features that two answers do not agree on, whatever the order of their columns."""
    theirs, ours = _readable(expected), _readable(answer)
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def _readable(answer: bytes) -> dict[str, list[tuple[bytes, int, bytes]]]:
    """Value, status and event time per row, by feature."""
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse  # noqa: PLC0415 - Feast takes 6 s

    message = GetOnlineFeaturesResponse.FromString(answer)
    return {
        name: [
            (value.SerializeToString(), status, time.SerializeToString())
            for value, status, time in zip(column.values, column.statuses, column.event_timestamps, strict=True)
        ]
        for name, column in zip(message.metadata.feature_names.val, message.results, strict=True)
    }


def _requests_for(server: Server, bodies: Sequence[Body], *, method: str = FEAST_METHOD) -> int:
    """Warm a server up, and find how many requests keep it busy for as long as a measurement takes."""
    requests = CONNECTIONS * STREAMS
    while True:
        before = server.cpu_seconds()
        with _blaming(server):
            closed_loop(server.address, method, bodies, requests=requests)
        if (used := server.cpu_seconds() - before) >= _PROBE_CPU_SECONDS:
            return math.ceil(requests * CPU_SECONDS / used)
        requests *= 4


def _cost(server: Server, bodies: Sequence[Body], requests: int, *, method: str) -> Cost:
    before, redis_before = server.cpu_seconds(), server.redis_cpu_seconds()
    with _blaming(server):
        replies = closed_loop(server.address, method, bodies, requests=requests)
    answered = len(replies.latencies_us)
    return Cost(
        requests=answered,
        cpu_us=(server.cpu_seconds() - before) / answered * 1e6,
        redis_cpu_us=(server.redis_cpu_seconds() - redis_before) / answered * 1e6,
        requests_per_second=answered / replies.seconds,
    )


def _latency(server: Server, bodies: Sequence[Body], shape: Shape) -> Latency:
    with _blaming(server):
        replies = open_loop(server.address, FEAST_METHOD, bodies, rate=shape.rate, seconds=shape.seconds)
    return Latency(
        rate=shape.rate,
        requests=len(replies.latencies_us),
        p50_us=replies.percentile_us(0.5),
        p99_us=replies.percentile_us(0.99),
    )


@contextlib.contextmanager
def _blaming(server: Server) -> Iterator[None]:
    """Say of a failure which server it was."""
    try:
        yield
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{server.name}: {failure}") from failure


def _ratios(of_shape: Mapping[str, Point], name: str) -> dict[str, float]:
    """How many times less than Feast's a server's costs are."""
    theirs, ours = of_shape[FEAST].cost, of_shape[name].cost
    return {
        "cpu": theirs.cpu_us / ours.cpu_us,
        "redis_cpu": theirs.redis_cpu_us / ours.redis_cpu_us,
        "requests_per_second": ours.requests_per_second / theirs.requests_per_second,
    }


def _floors(points: Mapping[str, Mapping[str, Point]], rss_mb: Mapping[str, float], first_answer: float) -> list[Floor]:
    floors = [
        Floor(f"CPU, Feast / {name}, {shape}", _ratios(points[str(shape)], name)["cpu"], limit, "times", at_least=True)
        for shape in SHAPES
        for name, limit in shape.cpu_floors.items()
    ]
    redis_cpu = _ratios(points["100x50"], PACKED)["redis_cpu"]
    floors.append(Floor(f"Redis CPU, Feast / {PACKED}, 100x50", redis_cpu, REDIS_CPU_FLOOR, "times", at_least=True))
    for name in (PACKED, FEAST_LAYOUT):
        latency = points["1x50"][name].latency
        p99_ms = latency.p99_us / 1000
        floors.append(Floor(f"p99 of {name}, 1x50 at {latency.rate}/s", p99_ms, P99_MS_LIMIT, "ms", at_least=False))
        floors.append(Floor(f"memory of a worker, {name}", rss_mb[name], WORKER_MB_LIMIT, "MB", at_least=False))
        answered = points["100x250"][name].cost.requests
        floors.append(Floor(f"answers of {name}, 100x250, without a failure", answered, 1, "requests", at_least=True))
    floors.append(
        Floor(f"first answer, median of {STARTS}", first_answer, FIRST_ANSWER_SECONDS_LIMIT, "s", at_least=False)
    )
    return floors


def _print_head() -> None:
    print(
        "\nserving by feature service, one worker each; CPU of the server's process tree and of its Redis in a closed loop "
        f"({CONNECTIONS} connections x {STREAMS} streams),\nlatency in an open loop; times in us, ratios are Feast's cost over ours\n"
    )
    print(
        f"{'shape':<8} {'server':<15} {'CPU':>8} {'ratio':>6} {'Redis':>7} {'ratio':>6} {'requests/s':>11}   "
        f"{'rate/s':>6} {'p50':>8} {'p99':>8}"
    )


def _print_shape(shape: Shape, of_shape: Mapping[str, Point]) -> None:
    for name, point in of_shape.items():
        cost, latency, ratios = point.cost, point.latency, _ratios(of_shape, name)
        print(
            f"{shape!s:<8} {name:<15} {cost.cpu_us:>8,.0f} {ratios['cpu']:>6.1f} {cost.redis_cpu_us:>7,.0f} "
            f"{ratios['redis_cpu']:>6.1f} {cost.requests_per_second:>11,.0f}   "
            f"{latency.rate:>6} {latency.p50_us:>8,} {latency.p99_us:>8,}",
            flush=True,
        )


def _print_rest(
    by_list: Mapping[str, Mapping[str, Cost]],
    empty_rpc: Cost,
    rss_mb: Mapping[str, float],
    starts: Sequence[float],
    floors: Sequence[Floor],
) -> None:
    print("\nCPU by a list of features instead of a feature service")
    for shape, costs in by_list.items():
        theirs, ours = costs[FEAST].cpu_us, costs[PACKED].cpu_us
        print(f"{shape:<8} {FEAST} {theirs:,.0f}, {PACKED} {ours:,.0f}: ratio {theirs / ours:.1f}")
    memory = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in rss_mb.items())
    print(
        f"\nempty RPC (GetFeastServingInfo), packed rows: {empty_rpc.cpu_us:,.0f} us of CPU: no gRPC call here costs less"
    )
    print(f"resident memory after the load: {memory}")
    print(
        f"first answer after starting `hindcast serve`: {', '.join(f'{seconds:.2f}' for seconds in sorted(starts))} s"
    )
    print("\nfloors")
    for floor in floors:
        print(f"  {floor}")
