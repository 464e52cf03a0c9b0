"""Training sets: what one costs over the query it is made by (`set_cost.py`), what sets of lookups do (`served_sets.py`), and what digests and statistics
cost by themselves.

The last at 1,000,000 rows of 53 columns: 50 doubles, one in 50 of every fifth's null, a key of text, a time and a label, in batches of 65,536 rows. Both
are measured by themselves and together, since a build takes them together, with the threads of a build. HINDCAST_BENCH_SCALE makes rows fewer, for trying
this out.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import served_sets
import set_cost
from hindcast.datasets.canonical import GROUP_ROWS, Hasher
from hindcast.datasets.statistics import Statistics

SCALE = float(os.environ.get("HINDCAST_BENCH_SCALE", "1"))
ROWS = 1_000_000
DOUBLES = 50
ROUNDS = 3

TAKERS: dict[str, Sequence[Callable[[pa.Schema], Any]]] = {
    "digest": (Hasher,),
    "statistics": (Statistics,),
    "both": (Hasher, Statistics),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking them took.

    Attributes:
        cpu_seconds: of all threads.
    """

    seconds: float
    cpu_seconds: float
    mb_per_second: float


def table(rows: int) -> pa.Table:
    """A training set's columns."""
    random = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {
        f"feature_{number}": pa.array(random.random(rows), mask=random.random(rows) < 0.02 if number % 5 == 0 else None)
        for number in range(DOUBLES)
    }
    columns["account_id"] = pa.array(random.integers(0, 100_000, rows)).cast(pa.string())
    columns["event_timestamp"] = pa.array(random.integers(0, 10**15, rows), pa.timestamp("us", "UTC"))
    columns["label"] = pa.array(np.arange(rows))
    return pa.table(columns)


def summaries() -> dict[str, Any]:
    """Measure digest and statistics, print a table, return the figures."""
    given = table(max(GROUP_ROWS, round(ROWS * SCALE)))
    batches = given.to_batches(max_chunksize=GROUP_ROWS)
    print(
        f"\n{given.num_rows:,} rows x {given.num_columns} columns, {given.nbytes / 1e6:.0f} MB, the fastest of {ROUNDS}"
    )
    print(f"{'':<12}{'seconds':>10}{'CPU':>10}{'MB/s':>10}")
    figures = {}
    for name, makers in TAKERS.items():
        runs = [_taken(makers, batches, given) for _ in range(ROUNDS)]
        best = min(runs, key=lambda run: run.seconds)
        print(f"{name:<12}{best.seconds:>10.3f}{best.cpu_seconds:>10.3f}{best.mb_per_second:>10.0f}")
        figures[name] = asdict(best)
    return {"rows": given.num_rows, "columns": given.num_columns, "bytes": given.nbytes, "taken": figures}


PARTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "cost": set_cost.run,
    "summaries": summaries,
    "from_lookups": served_sets.run,
}
"""Each prints its table and returns its figures, floors among them."""


def run() -> dict[str, Any]:
    """Measure all parts."""
    return {name: part() for name, part in PARTS.items()}


def _taken(makers: Sequence[Callable[[pa.Schema], Any]], batches: Sequence[pa.RecordBatch], given: pa.Table) -> Taken:
    began, began_cpu = time.perf_counter(), time.process_time()
    takers = [make(given.schema) for make in makers]
    for batch in batches:
        for taker in takers:
            taker.update(batch)
    for taker in takers:
        taker.finish()
    seconds = time.perf_counter() - began
    return Taken(seconds, time.process_time() - began_cpu, given.nbytes / seconds / 1e6)
