"""What it costs a server to log its lookups: CPU and latency in each mode of the log, against `off`.

The servers run beside each other on one Redis, and are measured turn about in short windows. A round has one window per mode with
the same requests, so that what the machine does meanwhile meets all of them, and each round gives a ratio; what counts is the
median of the rounds, and how sure it is.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from load import Body, ask, closed_loop, open_loop, write_body
from servers import FEAST_METHOD, Server

OFF, BATCHED, BEST_EFFORT, DURABLE = MODES = ("off", "batched", "best_effort", "durable")
CLIENTS = 16
"""Of the closed loop: connections with one request under way each."""

CPU_WINDOW_SECONDS = 0.4
LATENCY_WINDOW_SECONDS = 1.0
_PROBE_REQUESTS = 200
_RESAMPLES = 400
_CONFIDENCE = 0.95

_Latencies: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Load:
    """A size of request.

    Attributes:
        bodies: distinct requests; a round takes one of them.
        rate: requests a second of the open loop, less than half of what one worker can answer.
    """

    name: str
    bodies: Sequence[bytes]
    rate: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The median of a figure over the rounds, or a percentile over all of them, and the interval that it lies in (95 %)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (
            f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.1f}" for figure in (self.value, self.low, self.high)
        )
        return f"{value} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class ModeCost:
    """One mode under one load.

    Attributes:
        cpu_us: of the worker, user and system, per request of the closed loop.
        more_cpu_percent: than `off`, in the same rounds.
        p50_us, p99_us: in the open loop.
        p99_more_percent: than `off`.
        closed_p50_us, closed_p99_us: with 16 clients.
        closed_p50_more_us, closed_p99_more_us: than `off`.
    """

    cpu_us: float
    more_cpu_percent: Estimate
    p50_us: Estimate
    p99_us: Estimate
    p99_more_percent: Estimate
    closed_p50_us: Estimate
    closed_p99_us: Estimate
    closed_p50_more_us: Estimate
    closed_p99_more_us: Estimate

    def figures(self) -> dict[str, Any]:
        """As they are kept."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Window:
    cpu_us: float
    closed: _Latencies
    open: _Latencies


def cost_of_modes(load: Load, servers: Mapping[str, Server], folder: Path, *, rounds: int) -> dict[str, ModeCost]:
    """Measure every server under one load.

    Args:
        servers: by mode.
    Raises:
        BenchmarkFailed: a call failed.
    """
    off = servers[OFF]
    bodies = [
        write_body(folder / f"{load.name}-{at}.bin", request, answer=ask(off.address, FEAST_METHOD, request))
        for at, request in enumerate(load.bodies)
    ]
    requests = max(CLIENTS, round(CPU_WINDOW_SECONDS * _per_second(servers, bodies[0])))
    windows: dict[str, list[_Window]] = {mode: [] for mode in servers}
    modes = list(servers)
    for at in range(rounds):
        body = bodies[at % len(bodies)]
        for mode in modes:
            windows[mode].append(_window(servers[mode], body, load, requests))
        # Each mode follows each other one as often as it goes before it.
        modes = modes[1:] + modes[:1] if at % 2 else modes[::-1]
    return {mode: _cost(of_mode, windows[OFF]) for mode, of_mode in windows.items()}


def _per_second(servers: Mapping[str, Server], body: Body) -> float:
    """How many requests a second the slowest server answers, all of them warm then."""
    rates = []
    for server in servers.values():
        for _ in range(2):
            replies = closed_loop(
                server.address, FEAST_METHOD, [body], requests=_PROBE_REQUESTS, connections=CLIENTS, streams=1
            )
        rates.append(_PROBE_REQUESTS / replies.seconds)
    return min(rates)


def _window(server: Server, body: Body, load: Load, requests: int) -> _Window:
    before = server.worker_cpu_seconds()
    closed = closed_loop(server.address, FEAST_METHOD, [body], requests=requests, connections=CLIENTS, streams=1)
    used = server.worker_cpu_seconds() - before
    paced = open_loop(server.address, FEAST_METHOD, [body], rate=load.rate, seconds=LATENCY_WINDOW_SECONDS)
    return _Window(used / requests * 1e6, np.array(closed.latencies_us), np.array(paced.latencies_us))


def _cost(of_mode: Sequence[_Window], off: Sequence[_Window]) -> ModeCost:
    rounds = list(zip(of_mode, off, strict=True))
    draw = np.random.default_rng(0)
    drawings = [draw.integers(0, len(rounds), len(rounds)) for _ in range(_RESAMPLES)]

    def estimate(figure: Callable[[Sequence[tuple[_Window, _Window]]], float]) -> Estimate:
        """Rounds are drawn again and again, each as often as chance has it."""
        found = [figure([rounds[at] for at in drawn]) for drawn in drawings]
        low, high = np.percentile(found, [50 * (1 - _CONFIDENCE), 50 * (1 + _CONFIDENCE)])
        return Estimate(figure(rounds), float(low), float(high))

    def percentile(of: Callable[[_Window], _Latencies], share: float) -> Estimate:
        return estimate(lambda drawn: _percentile([of(window) for window, _ in drawn], share))

    def more(of: Callable[[_Window], _Latencies], share: float) -> Estimate:
        return estimate(
            lambda drawn: (
                _percentile([of(window) for window, _ in drawn], share)
                - _percentile([of(other) for _, other in drawn], share)
            )
        )

    def more_percent(of: Callable[[_Window], _Latencies], share: float) -> Estimate:
        return estimate(
            lambda drawn: (
                100
                * _percentile([of(window) for window, _ in drawn], share)
                / _percentile([of(other) for _, other in drawn], share)
                - 100
            )
        )

    return ModeCost(
        cpu_us=statistics.median(window.cpu_us for window in of_mode),
        more_cpu_percent=estimate(
            lambda drawn: statistics.median(100 * window.cpu_us / other.cpu_us - 100 for window, other in drawn)
        ),
        p50_us=percentile(_open, 0.5),
        p99_us=percentile(_open, 0.99),
        p99_more_percent=more_percent(_open, 0.99),
        closed_p50_us=percentile(_closed, 0.5),
        closed_p99_us=percentile(_closed, 0.99),
        closed_p50_more_us=more(_closed, 0.5),
        closed_p99_more_us=more(_closed, 0.99),
    )


def _open(window: _Window) -> _Latencies:
    return window.open


def _closed(window: _Window) -> _Latencies:
    return window.closed


def _percentile(latencies: Sequence[_Latencies], share: float) -> float:
    return float(np.quantile(np.concatenate(latencies), share))
