"""Materialization: rows per second, CPU and memory of Hindcast's engine, against Feast's local engine and its own Redis store.

Both read one and the same Parquet file; each has a Redis of its own, of the same build. A run goes into an empty Redis
(cold), and then once more (repeated), where every row meets itself and the newest-wins check decides each; each in a process
of its own. Rows are keys that come to be in Redis, which is counted. Afterwards some keys are read from both through Feast's
SDK and must be equal. Last, the same rows are written as bare SETs of ready-made bytes: what Redis itself can take.

On the largest history Feast takes minutes and gigabytes, so it is left out unless it is asked for:
HINDCAST_BENCH_FEAST_SECONDS is how long it may then take. HINDCAST_BENCH_SCALE makes all histories smaller, for trying this out.
"""

import contextlib
import json
import os
import random
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hiredis
from redis import Redis

from engine import Run, materialize
from failure import BenchmarkFailed
from floors import Floor
from hindcast.online.keys import view_prefix
from history import DAYS, KEY, PROJECT, VIEW, History
from services import HINDCAST, RedisServer, run_redis

FEAST, HINDCAST_ENGINE = "Feast", "Hindcast"
COLD, REPEATED = "cold", "repeated"

SMALL, WIDE, LARGE = (
    History(100_000, 10, 1_000_000),
    History(100_000, 50, 1_000_000),
    History(1_000_000, 10, 10_000_000),
)
HISTORIES = SMALL, WIDE, LARGE

SCALE = float(os.environ.get("HINDCAST_BENCH_SCALE", "1"))
LARGE_FEAST_SECONDS = float(os.environ.get("HINDCAST_BENCH_FEAST_SECONDS", "0"))

LIMIT_SECONDS = 600.0
"""A run of any other kind that takes longer is a failure of the benchmark."""

SAMPLE = 200
"""Keys whose values are compared."""

RATE_FLOOR = 15.0  # times Feast's rows/s, on the first two
MEMORY_RATIO_LIMIT = 1.25  # the largest history's over the smallest's
MEMORY_MB_LIMIT = 700.0

_STAGES = ("read", "encode", "pack", "write")
_SETS_PER_SEND = 1_000
_KEYS_PER_SCAN = 10_000


@dataclass(frozen=True, slots=True)
class Bare:
    """The same rows written as SETs of ready-made bytes, over one connection."""

    rows_per_second: float
    redis_cpu_us_per_row: float
    bytes_per_row: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured of one history.

    Attributes:
        runs: by engine, its runs, cold and repeated; None where it was not done in time; an engine not asked for has none.
        feast_seconds: how long a run of Feast's could take; zero if it was not asked for.
        stages: seconds of the cold run by stage, where the run ledger has them.
    """

    history: History
    feast_seconds: float
    runs: Mapping[str, Mapping[str, Run | None]]
    stages: Mapping[str, float]
    bare: Bare

    def rate(self, engine: str, kind: str) -> float | None:
        """Rows per second of a run, None if there was none."""
        run = self.runs.get(engine, {}).get(kind)
        return None if run is None else self.history.keys / run.seconds

    def ratio(self, kind: str) -> float | None:
        """How many times Feast's rate ours is."""
        ours, theirs = self.rate(HINDCAST_ENGINE, kind), self.rate(FEAST, kind)
        return None if ours is None or theirs is None else ours / theirs

    @property
    def peak_mb(self) -> float:
        """The most memory of our engine's process, of both runs."""
        return max(run.peak_mb for run in self.runs[HINDCAST_ENGINE].values() if run is not None)

    def figures(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "rows": self.history.rows,
            "keys": self.history.keys,
            "features": self.history.features,
            "runs": {
                engine: {
                    kind: "not done in time"
                    if run is None
                    else {**asdict(run), "rows_per_second": self.rate(engine, kind)}
                    for kind, run in of_engine.items()
                }
                for engine, of_engine in self.runs.items()
            },
            "ratios": {kind: self.ratio(kind) for kind in (COLD, REPEATED)},
            "stage_seconds": self.stages,
            "bare_sets": asdict(self.bare),
        }


def run() -> dict[str, Any]:
    """Measure everything, print the table, return the figures.

    Raises:
        BenchmarkFailed: a run failed, keys are missing, or the engines do not agree on a value.
    """
    warnings.simplefilter("ignore")
    _print_head()
    measured = []
    for history in HISTORIES:
        with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
            of_history = _measure(history, Path(name))
        _print_history(of_history)
        measured.append(of_history)
    floors = _floors(*measured)
    _print_rest(measured, floors)
    return {
        "scale": SCALE,
        "histories": {str(of.history): of.figures() for of in measured},
        "floors": [floor.figures() for floor in floors],
    }


def _measure(full: History, folder: Path) -> Measured:
    """One history, at the scale that is asked for."""
    history = full.scaled(SCALE)
    feast_seconds = LARGE_FEAST_SECONDS if full is LARGE else LIMIT_SECONDS
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    interval = {"start": end - timedelta(days=DAYS + 1), "end": end}
    source = folder / "history.parquet"
    history.write(source, end=end)
    runs: dict[str, dict[str, Run | None]] = {}
    with run_redis() as feast_redis, run_redis() as packed_redis:
        feast_repo = history.make_repo(folder / "feast", source, feast_redis, packed=False)
        packed_repo = history.make_repo(folder / "hindcast", source, packed_redis, packed=True)
        runs[HINDCAST_ENGINE] = {}
        for kind in (COLD, REPEATED):
            ours = materialize(packed_repo, VIEW, redis=packed_redis, limit_seconds=LIMIT_SECONDS, **interval)
            if ours is None:
                raise BenchmarkFailed(f"{history}: our engine was not done after {LIMIT_SECONDS:.0f} s")
            runs[HINDCAST_ENGINE][kind] = ours
            _check_count(history, packed_redis, view_prefix(PROJECT, VIEW) + b"*", HINDCAST_ENGINE)
        stages = _stages(packed_repo)
        if feast_seconds:
            runs[FEAST] = _feast_runs(history, feast_repo, feast_redis, limit_seconds=feast_seconds, **interval)
            if None not in runs[FEAST].values():
                _compare(history, feast_repo, packed_repo)
        feast_redis.client().flushall()
        bare = _bare_sets(packed_redis, history)
    return Measured(history, feast_seconds, runs, stages, bare)


def _feast_runs(
    history: History, repo: Path, redis: RedisServer, *, limit_seconds: float, start: datetime, end: datetime
) -> dict[str, Run | None]:
    """Feast's runs; there is no repeated one where the cold one was not done in time."""
    runs: dict[str, Run | None] = {}
    for kind in (COLD, REPEATED):
        runs[kind] = materialize(repo, VIEW, start=start, end=end, redis=redis, limit_seconds=limit_seconds)
        if runs[kind] is None:
            break
        _check_count(history, redis, b"*" + PROJECT.encode(), FEAST)
    return runs


def _check_count(history: History, redis: RedisServer, pattern: bytes, engine: str) -> None:
    with contextlib.closing(redis.client()) as client:
        found = sum(len(keys) for keys in _scanned(client, pattern))
    if found != history.keys:
        raise BenchmarkFailed(f"{history}: {engine} wrote {found:,} keys of {history.keys:,}")


def _scanned(client: Redis, pattern: bytes) -> Iterator[list[bytes]]:
    """Keys in Redis that match; none comes twice as long as nobody writes."""
    cursor = None
    while cursor != 0:
        cursor, keys = client.scan(cursor or 0, match=pattern, count=_KEYS_PER_SCAN)
        yield keys


def _compare(history: History, feast_repo: Path, packed_repo: Path) -> None:
    """Read some keys from both through Feast's SDK.

    Raises:
        BenchmarkFailed: the values differ.
    """
    import feast  # noqa: PLC0415 - 6 s, and after the warnings are silenced

    keys = random.Random(history.features).sample(range(history.keys), min(SAMPLE, history.keys))
    theirs, ours = (
        feast.FeatureStore(repo_path=repo)
        .get_online_features(
            features=[f"{VIEW}:{name}" for name in history.feature_names()], entity_rows=[{KEY: key} for key in keys]
        )
        .to_dict()
        for repo in (feast_repo, packed_repo)
    )
    if differing := [name for name in theirs if theirs[name] != ours.get(name)]:
        raise BenchmarkFailed(f"{history}: the engines do not give the same values of {differing[:5]}")
    if nothing := [name for name in history.feature_names() if not any(ours[name])]:
        raise BenchmarkFailed(f"{history}: no key of {len(keys)} has a value of {nothing[:5]}")


def _stages(repo: Path) -> dict[str, float]:
    """Seconds of the first run by stage, as the ledger has them; nothing where there is no ledger."""
    done = subprocess.run(
        [HINDCAST, "runs", "ls", "--repo", repo, "--output", "json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {}
    runs = json.loads(done.stdout)  # newest first
    seconds = runs[-1]["seconds"] if runs else {}
    return {stage: float(seconds[stage]) for stage in _STAGES if stage in seconds}


def _bare_sets(packed: RedisServer, history: History) -> Bare:
    """Write what is in a Redis into an empty one, as SETs with the same expiry, their bytes made beforehand."""
    sends, size = [], 0
    with contextlib.closing(packed.client()) as client:
        for keys in _scanned(client, view_prefix(PROJECT, VIEW) + b"*"):
            for at in range(0, len(keys), _SETS_PER_SEND):
                some = keys[at : at + _SETS_PER_SEND]
                rows = client.mget(some)
                expiry = round(time.time() * 1000) + 86_400_000
                sends.append(
                    b"".join(
                        hiredis.pack_command((b"SET", key, row, b"PXAT", b"%d" % expiry))
                        for key, row in zip(some, rows, strict=True)
                    )
                )
                size += sum(map(len, rows))
    with run_redis() as empty, contextlib.closing(empty.client(single_connection_client=True)) as client:
        client.ping()
        before = _cpu_seconds(client)
        began = time.perf_counter()
        _send(client, sends, replies=history.keys)
        seconds = time.perf_counter() - began
        used = _cpu_seconds(client) - before
        if client.dbsize() != history.keys:
            raise BenchmarkFailed(f"{history}: bare SETs left {client.dbsize():,} keys of {history.keys:,}")
    return Bare(history.keys / seconds, used / history.keys * 1e6, size / history.keys)


def _send(client: Redis, sends: Sequence[bytes], *, replies: int) -> None:
    """Send ready-made commands as fast as they are taken, and read their replies meanwhile."""
    connection = client.connection
    socket = connection._sock  # noqa: SLF001 - redis-py would make the bytes anew

    def send() -> None:
        for some in sends:
            socket.sendall(some)

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(replies):
        connection.read_response()
    sender.join()


def _cpu_seconds(client: Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _floors(small: Measured, wide: Measured, large: Measured) -> list[Floor]:
    floors = [
        Floor(f"rows/s, Hindcast / Feast, {of.history}, {kind}", ratio, RATE_FLOOR, "times", at_least=True)
        for of in (small, wide)
        for kind in (COLD, REPEATED)
        if (ratio := of.ratio(kind)) is not None
    ]
    grown = large.peak_mb / small.peak_mb
    of_what = f"memory of the engine's process, {large.history}"
    floors.append(Floor(f"{of_what} / {small.history}", grown, MEMORY_RATIO_LIMIT, "times", at_least=False))
    floors.append(Floor(of_what, large.peak_mb, MEMORY_MB_LIMIT, "MB", at_least=False))
    return floors


def _print_head() -> None:
    if SCALE != 1:
        print(f"\nHistories at {SCALE:g} of their size: the figures say nothing of what is promised.")
    print(
        "\nmaterialization, each run in a process of its own; rows/s are keys written per second of wall time, ratios are our "
        "rate over Feast's,\nmemory is the most of the whole process, with everything imported (before) and at the end (peak)\n"
    )
    print(
        f"{'keys x features':<15} {'rows':>10} {'engine':<9} {'run':<9} {'wall s':>7} {'rows/s':>8} {'ratio':>6} "
        f"{'CPU s':>7} {'Redis s':>8} {'before MB':>10} {'peak MB':>8}",
        flush=True,
    )


def _print_history(of: Measured) -> None:
    head = f"{of.history!s:<15} {of.history.rows:>10,}"
    for engine in (FEAST, HINDCAST_ENGINE):
        if engine not in of.runs:
            print(f"{head} {engine:<9} not asked for (HINDCAST_BENCH_FEAST_SECONDS=600 runs it, for so long at most)")
            continue
        for kind, one in of.runs[engine].items():
            if one is None:
                print(f"{head} {engine:<9} {kind:<9} not done after {of.feast_seconds:g} s, and ended there")
                continue
            ratio = of.ratio(kind) if engine == HINDCAST_ENGINE else None
            print(
                f"{head} {engine:<9} {kind:<9} {one.seconds:>7.2f} {of.rate(engine, kind):>8,.0f} "
                f"{'' if ratio is None else format(ratio, '.1f'):>6} {one.cpu_seconds:>7.2f} {one.redis_cpu_seconds:>8.2f} "
                f"{one.before_mb:>10,.0f} {one.peak_mb:>8,.0f}",
                flush=True,
            )


def _print_rest(measured: Sequence[Measured], floors: Sequence[Floor]) -> None:
    print("\nRedis's own limit: the same rows as bare SETs of ready-made bytes, one connection")
    for of in measured:
        ours = of.rate(HINDCAST_ENGINE, COLD)
        assert ours is not None
        print(
            f"{of.history!s:<15} {of.bare.rows_per_second:,.0f} rows/s, {of.bare.redis_cpu_us_per_row:.1f} us of Redis's CPU and "
            f"{of.bare.bytes_per_row:.0f} bytes a row; ours is {ours / of.bare.rows_per_second:.0%} of it"
        )
    if any(of.stages for of in measured):
        print("\ntime of the cold run by stage, which overlap, seconds")
        for of in measured:
            print(f"{of.history!s:<15} {', '.join(f'{stage} {seconds:.2f}' for stage, seconds in of.stages.items())}")
    print("\nfloors")
    for floor in floors:
        print(f"  {floor}")
