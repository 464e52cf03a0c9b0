"""What counting costs a worker, against prometheus_client in its multiprocess mode, which is how Feast's server counts."""

import asyncio
import os
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time

from hindcast.serving.metrics import Metrics, WorkerMetrics

_TIMES = 200_000
_VIEWS = 3
_CALLS = 1000
_ROW = bytes([1])
_MIXED = [bytes([status]) for status in (1, 2, 3, 4)]

_THEIRS = """
import timeit
from prometheus_client import Counter, Histogram
total = Counter("requests", "Requests", ["endpoint", "status"])
latency = Histogram("latency_seconds", "Latency", ["endpoint"])
bare = Histogram("read_seconds", "Read")
def call():
    latency.labels(endpoint="/get-online-features").observe(0.0004)
    total.labels(endpoint="/get-online-features", status="success").inc()
for step in (lambda: bare.observe(0.0004), call):
    print(min(timeit.repeat(step, number=20_000, repeat=3)) / 20_000)
"""


class _Context:
    """As much of a gRPC context as a call that ends well touches."""


async def _answer(request: bytes, _context: object) -> bytes:
    return request


def run() -> Mapping[str, float]:
    """Print nanoseconds per observation; the figures by name."""
    with tempfile.TemporaryDirectory() as folder:
        figures = _ours(Path(folder)) | _theirs(folder)
    print("\ncounting, nanoseconds of CPU (flush: microseconds, every 250 ms)")
    for name, figure in figures.items():
        print(f"  {name:<58}{figure:>9,.0f}")
    return figures


def _ours(folder: Path) -> dict[str, float]:
    worker, off = WorkerMetrics(folder, slot=0), Metrics()

    def read() -> None:
        worker.rows_read("driver", [_ROW], columns=50, oldest_age_seconds=90.0)

    bare = _of_calls(_answer)
    figures = {
        "one latency": _of(lambda: worker.store_waited(0.0004)),
        "rows of a lookup": _of(lambda: worker.lookup_asked(rows=10)),
        "values and age of one view": _of(read),
        "one latency, metrics off": _of(lambda: off.store_waited(0.0004)),
        "a call: started, ended by code, latency, messages": _of_calls(
            worker.counted("s", "GetOnlineFeatures", _answer)
        )
        - bare,
        "a call, metrics off": _of_calls(off.counted("s", "GetOnlineFeatures", _answer)) - bare,
    }
    worker.flush()
    for _ in range(_CALLS):
        for view in range(_VIEWS):
            worker.rows_read(f"view_{view}", _MIXED, columns=4, oldest_age_seconds=90.0)
        worker.store_waited(0.0004)
    worker.flush()
    for name, view in (("after nothing", None), (f"after lookups of {_VIEWS} views", "view_")):
        for at in range(_VIEWS if view else 0):
            worker.rows_read(f"{view}{at}", _MIXED, columns=4, oldest_age_seconds=90.0)
        start = perf_counter()
        worker.flush()
        figures[f"flush {name} (us)"] = (perf_counter() - start) * 1e6
    return figures


def _of(step: Callable[[], object]) -> float:
    return min(timeit.repeat(step, timer=process_time, number=_TIMES, repeat=3)) / _TIMES * 1e9


def _of_calls(handler: Callable[..., object]) -> float:
    async def calls() -> float:
        context, start = _Context(), process_time()
        for _ in range(_TIMES):
            await handler(b"", context)  # type: ignore[misc]
        return (process_time() - start) / _TIMES * 1e9

    return min(asyncio.run(calls()) for _ in range(3))


def _theirs(folder: str) -> dict[str, float]:
    # The variable is read at import, so theirs run in a process of their own.
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
    done = subprocess.run([sys.executable, "-c", _THEIRS], env=environment, capture_output=True, text=True, check=True)
    latency, call = (float(line) * 1e9 for line in done.stdout.split())
    return {"prometheus_client: one latency": latency, "prometheus_client: a call, by code and latency": call}
