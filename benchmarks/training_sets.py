"""Training sets: what their digests and statistics cost, at 1,000,000 rows of 53 columns, and what sets of lookups do.

50 doubles, one in 50 of every fifth's null, a key of text, a time and a label, in batches of 65,536 rows. Both are measured by themselves and
together, since a build takes them together, with the threads of a build. Sets of lookups are built of 1,000,000 sealed rows. HINDCAST_BENCH_SCALE makes rows fewer, for trying this out.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from failure import BenchmarkFailed
from hindcast.datasets.canonical import GROUP_ROWS, Hasher
from hindcast.datasets.statistics import Statistics
from seal_speed import Shape, seal, write_log

SCALE = float(os.environ.get("HINDCAST_BENCH_SCALE", "1"))
ROWS = 1_000_000
DOUBLES = 50
ROUNDS = 3
SERVED_FEATURES = 10
_ROWS_OF_A_LOOKUP = 10
_SETTINGS = """
project: bench
provider: local
registry: registry.db
offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""

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


@dataclass(frozen=True, slots=True)
class FromLookups:
    """What a set of lookups took, from the tables of the log to its files, with its digest and statistics.

    Attributes:
        cpu_seconds: of all threads.
    """

    rows: int
    features: int
    seconds: float
    cpu_seconds: float
    rows_per_second: float


def from_lookups_rate() -> dict[str, Any]:
    """Build sets of lookups of a service with 10 features, by each way to join labels, print a table, return the figures.

    The log is written as a server writes it, and sealed by the real sealer, before anything is measured.
    """
    from hindcast.datasets import TrainingSets  # noqa: PLC0415 - Feast, which takes 5 s

    rows = max(GROUP_ROWS, round(ROWS * SCALE))
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
        root = Path(name)
        (root / "feature_store.yaml").write_text(_SETTINGS)
        log = root / ".hindcast" / "lookups"
        write_log(log, Shape(_ROWS_OF_A_LOOKUP), entity_rows=rows, views={"payments": SERVED_FEATURES})
        seal(log)
        asked = pads.dataset(sorted(map(str, (log / "tables" / "accounts").glob("*/*.parquet"))))
        asked = asked.to_table(columns=["hc_lookup_id", "hc_row", "account_id", "__log_timestamp"])
        label = pa.array(np.random.default_rng(0).random(rows) < 0.1)
        late = pc.add(asked.column("__log_timestamp"), pa.scalar(5_000_000, pa.duration("us")))
        labels: dict[str, Any] = {
            "lookup id and row": {"labels": asked.select(["hc_lookup_id", "hc_row"]).append_column("label", label)},
            "key and window": {
                "labels": pa.table({"account_id": asked.column("account_id"), "at": late, "label": label}),
                "on": ["account_id"],
                "window": timedelta(seconds=60),
            },
        }
        sets = TrainingSets(root)
        print(f"\nsets of lookups, {rows:,} sealed rows of {SERVED_FEATURES} features, the faster of 2")
        print(f"{'labels by':<20}{'seconds':>10}{'CPU':>10}{'rows/s':>12}")
        figures = {}
        for way, given in labels.items():
            runs = [_built(sets, f"{way.split()[0]}-{number}", given, rows) for number in range(2)]
            best = min(runs, key=lambda run: run.seconds)
            print(f"{way:<20}{best.seconds:>10.2f}{best.cpu_seconds:>10.2f}{best.rows_per_second:>12,.0f}")
            figures[way] = asdict(best)
    return figures


def _built(sets: Any, name: str, given: dict[str, Any], rows: int) -> FromLookups:
    began, began_cpu = time.perf_counter(), time.process_time()
    made = sets.from_lookups(name, service="accounts", **given)
    seconds = time.perf_counter() - began
    if made.rows != rows:
        raise BenchmarkFailed(f"of {rows:,} rows that were served {made.rows:,} are in the set")
    return FromLookups(rows, SERVED_FEATURES, seconds, time.process_time() - began_cpu, rows / seconds)


if __name__ == "__main__":
    summaries()
    from_lookups_rate()
