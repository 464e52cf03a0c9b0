"""Point-in-time reads: time, CPU and memory of Hindcast's offline store, against Feast's DuckDB store and Polars' `join_asof`.

Three views of 10, 10 and 30 doubles over 100,000 keys, with 10 and with 60 rows a key, are joined to entity frames of 1,000 to 1,000,000
rows (`views.py` says what is in them). Feast and Hindcast are asked the same, by `FeatureStore.get_historical_features` of a feature service,
with the same pandas frame, for an Arrow table; Polars reads the same files with a lazy query. Each retrieval has a process of its own, which
has imported all and read its frame before it begins. The engines take turns, and the middle of three runs counts; Feast's at 1,000,000 rows is one.

Every result that is timed is compared in every cell: Polars' and Hindcast's as they are, in the frame's order; Feast's, which loses that order,
sorted by a label that differs in all rows. Rows equal in both times have equal values, since Feast takes one by chance.

Last, 10,000,000 entity rows are written to a Parquet file, by Hindcast alone, with a memory limit. Their labels must be the frame's in
order, and every 1,000th row must be what Feast gives for it.

Feast takes minutes and many gigabytes for 1,000,000 rows at 60 rows a key: HINDCAST_BENCH_FEAST_SECONDS is how long it may (600, since floors hang
on it; 0 leaves it out). HINDCAST_BENCH_SCALE makes keys and frames fewer, for trying this out.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import ipc

from apart import started
from failure import BenchmarkFailed
from floors import Floor
from views import AS_OF, FEATURES, KEY, LABEL, VIEWS, frame_rows, make_repo, write_frame, write_source

FEAST, POLARS, HINDCAST = "Feast", "Polars", "Hindcast"
ENGINES = FEAST, POLARS, HINDCAST

SCALE = float(os.environ.get("HINDCAST_BENCH_SCALE", "1"))
LONGEST_FEAST_SECONDS = float(os.environ.get("HINDCAST_BENCH_FEAST_SECONDS", "600"))

LIMIT_SECONDS = 900.0
"""A run of any other kind that takes longer is a failure of the benchmark."""

KEYS = 100_000
ROUNDS = 3
SAMPLE_EVERY = 1_000

MEMORY_LIMIT_MB = 4_096  # of the frame that is written to Parquet, in the units of `memory_limit_mb`
LARGE_MB_LIMIT = 5_000.0

_SCRIPT = Path(__file__).resolve().with_name("retrieving.py")
_STORES: Mapping[str, dict[str, Any]] = {
    FEAST: {"type": "duckdb"},
    HINDCAST: {"type": "hindcast.offline.plugin.AsOfOfflineStore"},
}


@dataclass(frozen=True, slots=True)
class Point:
    """How many rows the frame has, and the views for each key."""

    rows: int
    depth: int

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.depth}"

    @property
    def entity_rows(self) -> int:
        """Rows of the frame at the scale that is asked for."""
        return max(100, round(self.rows * SCALE))


DEPTHS = 10, 60
FRAMES = 1_000, 10_000, 100_000, 1_000_000
DEEP, LONGEST = Point(100_000, 60), Point(1_000_000, 60)
LARGE = Point(10_000_000, 60)

FEAST_FLOORS = {DEEP: 2.5, LONGEST: 8.0}  # times Feast's speed; at all other points it is 1
FEAST_MEMORY_LIMIT = 0.5  # of Feast's peak, at the longest
POLARS_FLOOR_ROWS = 100_000  # and more: not slower than Polars


@dataclass(frozen=True, slots=True)
class Run:
    """What a retrieval took.

    Attributes:
        cpu_seconds: of its process, all threads and children.
        before_mb: the most resident memory of its process before it began, with everything imported and the frame read.
        peak_mb: the same, after it ended.
    """

    seconds: float
    cpu_seconds: float
    before_mb: float
    peak_mb: float

    @classmethod
    def middle(cls, runs: Sequence["Run"]) -> "Run":
        """The run of the middle time, with the most memory of all."""
        middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        return cls(middle.seconds, middle.cpu_seconds, middle.before_mb, max(run.peak_mb for run in runs))


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured at a point.

    Attributes:
        runs: by engine; an engine has none where it was not asked, or was not done in time.
        ended_after: how long Feast was waited for in vain, seconds; zero if it was not.
    """

    point: Point
    runs: Mapping[str, Sequence[Run]]
    ended_after: float

    def of(self, engine: str) -> Run | None:
        """What counts of an engine's runs."""
        runs = self.runs[engine]
        return Run.middle(runs) if runs else None

    @property
    def ours(self) -> Run:
        """What counts of Hindcast's runs."""
        return Run.middle(self.runs[HINDCAST])

    def speed(self, engine: str) -> float | None:
        """How many times faster ours is; at least so many, where theirs was ended."""
        theirs = self.of(engine)
        if theirs is not None:
            return theirs.seconds / self.ours.seconds
        return self.ended_after / self.ours.seconds if engine == FEAST and self.ended_after else None

    def memory(self, engine: str) -> float | None:
        """Our peak over theirs."""
        theirs = self.of(engine)
        return None if theirs is None else self.ours.peak_mb / theirs.peak_mb

    def figures(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "entity_rows": self.point.entity_rows,
            "runs": {engine: [asdict(run) for run in runs] for engine, runs in self.runs.items()},
            "feast_ended_after_seconds": self.ended_after or None,
            "times_faster_than": {engine: self.speed(engine) for engine in (FEAST, POLARS)},
            "memory_over": {engine: self.memory(engine) for engine in (FEAST, POLARS)},
        }


@dataclass(frozen=True, slots=True)
class Large:
    """What the frame took that is written to Parquet."""

    entity_rows: int
    run: Run
    file_mb: float

    @property
    def rows_per_second(self) -> float:
        """Entity rows, with all features."""
        return self.entity_rows / self.run.seconds

    def figures(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "entity_rows": self.entity_rows,
            "memory_limit_mb": MEMORY_LIMIT_MB,
            "file_mb": self.file_mb,
            "rows_per_second": self.rows_per_second,
            **asdict(self.run),
        }


def run() -> dict[str, Any]:
    """Measure everything, print the table, return the figures.

    Raises:
        BenchmarkFailed: a run failed, or the engines do not agree on a value.
    """
    warnings.simplefilter("ignore")
    _print_head()
    measured = []
    for depth in DEPTHS:
        with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
            sources = _write_sources(Path(name), depth)
            for at_point in _measure_all(Path(name), sources, depth):
                _print_point(at_point)
                measured.append(at_point)
            if depth == LARGE.depth:
                large = _measure_large(Path(name), sources)
    floors = _floors(measured, large)
    unjudged = _unjudged(measured)
    _print_rest(large, floors, unjudged)
    return {
        "scale": SCALE,
        "points": {str(at.point): at.figures() for at in measured},
        "to_parquet": large.figures(),
        "floors": [floor.figures() for floor in floors],
        "floors_not_judged": unjudged,
    }


def _keys() -> int:
    return max(1_000, round(KEYS * SCALE))


def _write_sources(folder: Path, depth: int) -> dict[str, Path]:
    sources = {view.name: folder / f"{view.name}.parquet" for view in VIEWS}
    for view in VIEWS:
        write_source(view, sources[view.name], keys=_keys(), depth=depth)
    return sources


def _measure_all(folder: Path, sources: dict[str, Path], depth: int) -> Iterator[Measured]:
    """Every frame on views of one depth."""
    repos = {engine: make_repo(folder / engine, sources, block) for engine, block in _STORES.items()}
    for rows in FRAMES:
        point = Point(rows, depth)
        frame = folder / f"frame-{rows}.parquet"
        write_frame(frame, rows=point.entity_rows, keys=_keys(), depth=depth)
        yield _measure(point, repos, frame)


def _measure(point: Point, repos: Mapping[str, Path], frame: Path) -> Measured:
    """One frame; what the first of our runs gave is what all others' results must be."""
    runs: dict[str, list[Run]] = {engine: [] for engine in ENGINES}
    ended_after = 0.0
    first = frame.with_suffix(".first.arrow")
    for number in range(ROUNDS):
        # Ours is the first to run, so that the others' results have something to be compared with; then each is first in turn.
        for engine in (HINDCAST, FEAST, POLARS)[number:] + (HINDCAST, FEAST, POLARS)[:number]:
            limit = _limit_seconds(engine, point, number)
            if not limit or (engine == FEAST and ended_after):
                continue
            result = first if engine == HINDCAST and number == 0 else frame.with_suffix(".arrow")
            way, repo = ("polars", repos[FEAST]) if engine == POLARS else ("store", repos[engine])
            taken = _retrieve(way, repo, frame, result, what=f"{point}: {engine}", limit_seconds=limit)
            if taken is None:
                if engine != FEAST or point != LONGEST:
                    raise BenchmarkFailed(f"{point}: {engine} was not done after {limit:.0f} s")
                ended_after = limit
                continue
            runs[engine].append(taken)
            _check(point, engine, frame, _read(result), _read(first))
    first.unlink()
    return Measured(point, runs, ended_after)


def _limit_seconds(engine: str, point: Point, number: int) -> float:
    """How long a run of a round may take; zero if it is not to be."""
    if engine == FEAST and point.rows == LONGEST.rows and number > 0:
        return 0
    return LONGEST_FEAST_SECONDS if engine == FEAST and point == LONGEST else LIMIT_SECONDS


def _retrieve(way: str, repo: Path, frame: Path, out: Path, *, what: str, limit_seconds: float) -> Run | None:
    out.unlink(missing_ok=True)
    with started(_SCRIPT, way, repo, frame, out, what=what, log_path=repo / f"{way}.log") as process:
        report = process.work(limit_seconds=limit_seconds)
    return None if report is None else Run(**report)


def _read(result: Path) -> pa.Table:
    with ipc.open_file(pa.memory_map(str(result))) as file:
        return file.read_all()


def _check(point: Point, engine: str, frame: Path, result: pa.Table, expected: pa.Table) -> None:
    """Compare a result with the frame, and with the first of ours.

    Raises:
        BenchmarkFailed: rows, columns, order or values differ.
    """
    by_label = engine == FEAST
    of_frame = pq.read_table(frame)
    what = f"{point}: the result of {engine}"
    _compare(f"{what} and the entity frame", result, of_frame, [KEY, AS_OF, LABEL], by_label=by_label)
    _compare(f"{what} and that of {HINDCAST}", result, expected, FEATURES, by_label=by_label)
    if nothing := [name for name in FEATURES if result[name].null_count == result.num_rows]:
        raise BenchmarkFailed(f"{point}: no row has a value of {nothing[:5]}")


def _compare(what: str, result: pa.Table, expected: pa.Table, columns: Sequence[str], *, by_label: bool) -> None:
    """Compare some columns of two tables: row by row, or row by row of equal labels."""
    if result.column_names != [KEY, AS_OF, LABEL, *FEATURES]:
        raise BenchmarkFailed(f"{what} differ: the columns are {result.column_names}")
    if result.num_rows != expected.num_rows:
        raise BenchmarkFailed(f"{what} differ: they have {result.num_rows:,} and {expected.num_rows:,} rows")
    orders = [pc.sort_indices(table[LABEL]) if by_label else None for table in (result, expected)]
    for name in columns:
        ones, others = (
            table[name].take(order) if order is not None else table[name]
            for table, order in zip((result, expected), orders, strict=True)
        )
        if not ones.cast(others.type).equals(others):
            raise BenchmarkFailed(f"{what} differ in {name}")


def _measure_large(folder: Path, sources: dict[str, Path]) -> Large:
    """The frame that is written to Parquet under a memory limit."""
    frame, out = folder / "large.parquet", folder / "training.parquet"
    write_frame(frame, rows=LARGE.entity_rows, keys=_keys(), depth=LARGE.depth)
    repo = make_repo(folder / "large", sources, {**_STORES[HINDCAST], "memory_limit_mb": MEMORY_LIMIT_MB})
    what = f"{LARGE} to Parquet"
    taken = _retrieve("parquet", repo, frame, out, what=what, limit_seconds=LIMIT_SECONDS)
    if taken is None:
        raise BenchmarkFailed(f"{what} was not done after {LIMIT_SECONDS:.0f} s")
    labels, expected = (pq.read_table(path, columns=[LABEL]) for path in (out, frame))
    if not labels.equals(expected):
        raise BenchmarkFailed(f"{what}: the rows are not those of the frame, in its order")
    sample, answer = folder / "sample.parquet", folder / "sample.arrow"
    pq.write_table(pa.Table.from_batches(frame_rows(frame, every=SAMPLE_EVERY)), sample)
    feast = folder / FEAST
    if _retrieve("store", feast, sample, answer, what=f"{what}: Feast", limit_seconds=LIMIT_SECONDS) is None:
        raise BenchmarkFailed(f"{what}: Feast was not done with a sample after {LIMIT_SECONDS:.0f} s")
    written = pa.Table.from_batches(frame_rows(out, every=SAMPLE_EVERY))
    columns = [KEY, AS_OF, LABEL, *FEATURES]
    _compare(f"{what}: a sample and what Feast gives for it", written, _read(answer), columns, by_label=True)
    return Large(LARGE.entity_rows, taken, out.stat().st_size / 1e6)


def _floors(measured: Sequence[Measured], large: Large) -> list[Floor]:
    floors = []
    for at in measured:
        if (speed := at.speed(FEAST)) is not None:
            waited = f" (it was ended after {at.ended_after:g} s)" if at.ended_after else ""
            name = f"speed, Hindcast / Feast{waited}, {at.point}"
            floors.append(Floor(name, speed, FEAST_FLOORS.get(at.point, 1.0), "times", at_least=True))
        if at.point == LONGEST and (memory := at.memory(FEAST)) is not None:
            name = f"peak memory, Hindcast / Feast, {at.point}"
            floors.append(Floor(name, memory, FEAST_MEMORY_LIMIT, "times", at_least=False))
    floors.extend(
        Floor(f"speed, Hindcast / Polars, {at.point}", speed, 1.0, "times", at_least=True)
        for at in measured
        if at.point.rows >= POLARS_FLOOR_ROWS and (speed := at.speed(POLARS)) is not None
    )
    what = f"peak memory, {LARGE} to Parquet with memory_limit_mb {MEMORY_LIMIT_MB}"
    floors.append(Floor(what, large.run.peak_mb, LARGE_MB_LIMIT, "MB", at_least=False))
    return floors


def _unjudged(measured: Sequence[Measured]) -> list[str]:
    """What floors there is no figure for."""
    longest = next(at for at in measured if at.point == LONGEST)
    names = [f"speed, Hindcast / Feast, {LONGEST}"] if longest.speed(FEAST) is None else []
    return names + ([f"peak memory, Hindcast / Feast, {LONGEST}"] if longest.memory(FEAST) is None else [])


def _print_head() -> None:
    if SCALE != 1:
        print(f"\nKeys and frames at {SCALE:g} of their number: the figures say nothing of what is promised.")
    print(
        "\npoint-in-time reads of 50 features of three views, each run in a process of its own; ratios are their wall time over ours and\n"
        "our memory over theirs; memory is the most of the whole process, with everything imported (before) and at the end (peak)\n"
    )
    print(
        f"{'frame x depth':<15} {'engine':<9} {'runs':>4} {'wall s':>8} {'spread':>13} {'ratio':>6} {'CPU s':>8} "
        f"{'before MB':>10} {'peak MB':>8} {'ratio':>6}",
        flush=True,
    )


def _print_point(at: Measured) -> None:
    for engine in ENGINES:
        counted = at.of(engine)
        head = f"{at.point!s:<15} {engine:<9}"
        if counted is None:
            print(
                f"{head} not done after {at.ended_after:g} s, and ended there: ours is at least {at.speed(engine):.1f} times faster"
                if at.ended_after
                else f"{head} not asked for (HINDCAST_BENCH_FEAST_SECONDS=600 runs it, for so long at most)"
            )
            continue
        speed, memory = (None, None) if engine == HINDCAST else (at.speed(engine), at.memory(engine))
        times = [run.seconds for run in at.runs[engine]]
        print(
            f"{head} {len(times):>4} {counted.seconds:>8.2f} {f'{min(times):.2f}-{max(times):.2f}':>13} "
            f"{'' if speed is None else format(speed, '.2f'):>6} {counted.cpu_seconds:>8.2f} {counted.before_mb:>10,.0f} "
            f"{counted.peak_mb:>8,.0f} {'' if memory is None else format(memory, '.2f'):>6}",
            flush=True,
        )


def _print_rest(large: Large, floors: Sequence[Floor], unjudged: Sequence[str]) -> None:
    ours = large.run
    print(
        f"\n{large.entity_rows:,} entity rows x 3 views, {LARGE.depth} rows a key, to Parquet with memory_limit_mb {MEMORY_LIMIT_MB}: "
        f"{large.rows_per_second:,.0f} rows/s, {ours.seconds:.1f} s, {ours.cpu_seconds:.1f} s of CPU, peak {ours.peak_mb:,.0f} MB "
        f"({ours.before_mb:,.0f} before), a file of {large.file_mb:,.0f} MB"
    )
    print("\nfloors")
    for floor in floors:
        print(f"  {floor}")
    for name in unjudged:
        print(f"  {'no word':<8}{name}: Feast gave no figure")
