"""What a training set of 1,000,000 rows costs over the query that it is made by, how fast it is made again, and that its digest is one.

The data is the point-in-time benchmark's: three views of 6,000,000 rows, 50 features. What "the bare query" is depends on what is done with its rows, so
there are four of them, from the same entity frame by Feast's own call: thrown away batch by batch, held as an Arrow table, written by our job's `to_parquet`
(which syncs the file, as a build does), and held and then written by `pyarrow.parquet.write_table`. The floor is over the second: whoever asks for rows wants
them, and it is of a build that knows the digests of its sources, which are 3.4 GB, because an earlier one hashed them; beside it stands one of sources
that were never hashed. A rebuild always hashes them.

Each run has a process of its own, which has imported everything before it begins; they take turns, and the middle of the runs counts.
"""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from apart import started
from building import KNOWN_AT, NAME
from failure import BenchmarkFailed
from floors import Floor
from hindcast.datasets.known_digests import FILE, SETTLED_SECONDS
from hindcast.settings import state_dir
from hindcast_client import TrainingSets
from point_in_time import Run
from retrieving import SERVICE
from services import run_training_sets
from views import VIEWS, make_repo, write_frame, write_source

SCALE = float(os.environ.get("HINDCAST_BENCH_SCALE", "1"))
ROWS = max(1_000, round(1_000_000 * SCALE))
KEYS = max(1_000, round(100_000 * SCALE))
DEPTH = 60
ROUNDS = 5
LIMIT_SECONDS = 600.0
OVERHEAD_PERCENT = 35.0

QUERIES = {
    "stream": "query, rows thrown away",
    "arrow": "query, rows held as an Arrow table",
    "parquet": "query, written by to_parquet",
    "pyarrow": "query, held and written by pyarrow",
}
BUILD, KNOWN, REBUILD = "build", "known", "rebuild"
BUILDS = {BUILD: "build, sources never hashed before", KNOWN: "build, sources hashed by an earlier one"}
WAYS = {**QUERIES, **BUILDS, REBUILD: "rebuild and compare"}

SETTINGS = (
    ("1", {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"}),
    ("2", {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"}),
    ("4", {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"}),
)
"""Threads of DuckDB, and the environment, of the builds that must have one digest."""

_SCRIPT = Path(__file__).resolve().with_name("building.py")


@dataclass(frozen=True, slots=True)
class Place:
    """What sets are made of.

    Attributes:
        given: a directory of sets with `bench@v1`.
        digests: what builds keep of their sources.
    """

    folder: Path
    repo: Path
    frame: Path
    given: Path
    digests: Path


def run() -> dict[str, Any]:
    """Measure everything, print it, return the figures.

    Raises:
        BenchmarkFailed: a run failed, or a digest is another one.
    """
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
        folder = Path(name)
        sources = {view.name: folder / f"{view.name}.parquet" for view in VIEWS}
        for view in VIEWS:
            write_source(view, sources[view.name], keys=KEYS, depth=DEPTH)
        repo = make_repo(folder / "repo", sources, {"type": "hindcast.offline.plugin.AsOfOfflineStore"})
        place = Place(folder, repo, folder / "frame.parquet", folder / "given", state_dir(repo) / FILE)
        write_frame(place.frame, rows=ROWS, keys=KEYS, depth=DEPTH)
        digest = _one_digest(place)
        known_bytes = _known_digests(place, list(sources.values()))
        runs = _measure(place, digest, known_bytes)
    middles = {way: Run.middle(of_way) for way, of_way in runs.items()}
    floor = Floor(
        f"the time of a build whose sources an earlier one hashed, over that of the query whose rows are held, {ROWS:,} rows",
        _over(middles[KNOWN], middles["arrow"]),
        OVERHEAD_PERCENT,
        "%",
        at_least=False,
    )
    _print(runs, middles, floor)
    return {
        "rows": ROWS,
        "digest": digest,
        "runs": {way: [asdict(run) for run in of_way] for way, of_way in runs.items()},
        "build_percent_over": {
            build: {way: _over(middles[build], middles[way]) for way in QUERIES} for build in BUILDS
        },
        "rebuild_rows_per_second": ROWS / middles[REBUILD].seconds,
        "floors": [floor.figures()],
    }


def _one_digest(place: Place) -> str:
    """Build the set with each number of threads and each environment; gives the one digest."""
    print(f"\none digest of {ROWS:,} rows, each build in a process of its own")
    ids = {}
    for threads, env in SETTINGS:
        directory = place.given if not ids else place.folder / "other"
        _, found = _one(BUILD, place, directory, threads, env=env)
        shown = ", ".join(f"{name} {value}" for name, value in env.items())
        print(f"  {threads} threads, {shown}: {found['digest']}", flush=True)
        ids[threads] = (found["digest"], found["id"])
        if directory != place.given:
            shutil.rmtree(directory)
    if len(set(ids.values())) != 1:
        raise BenchmarkFailed(f"a training set has several digests or ids, by threads: {ids}")
    digest = str(ids["1"][0])
    remote = _remote_digest(place)
    print(f"  by gRPC, the entity frame sent as rows: {remote}", flush=True)
    if remote != digest:
        raise BenchmarkFailed("a training set that is built from elsewhere has another digest")
    return digest


def _remote_digest(place: Place) -> str:
    with (
        run_training_sets(place.repo, "--dir", str(place.folder / "remote")) as server,
        TrainingSets(server.address) as sets,
    ):
        frame = pq.read_table(place.frame)
        known_at = datetime.fromisoformat(KNOWN_AT)
        digest = sets.build(NAME, features=SERVICE, entity_frame=frame, known_at=known_at).digest
    shutil.rmtree(place.folder / "remote")
    return digest


def _known_digests(place: Place, sources: Sequence[Path]) -> bytes:
    """What a build keeps of sources that nobody has written to for so long that their digests are kept."""
    written = max(path.stat().st_ctime for path in sources)
    time.sleep(max(0.0, written + SETTLED_SECONDS + 1 - time.time()))
    directory = place.folder / "other"
    _one(BUILD, place, directory)
    shutil.rmtree(directory)
    return place.digests.read_bytes()


def _measure(place: Place, digest: str, known_bytes: bytes) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    ways = list(WAYS)
    for number in range(ROUNDS):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            directory = place.given if way == REBUILD else place.folder / "other"
            directory.mkdir(exist_ok=True)
            place.digests.write_bytes(known_bytes if way == KNOWN else b"")
            run, found = _one(way, place, directory)
            if found["rows"] != ROWS or found.get("digest", digest) != digest or not found.get("identical", True):
                raise BenchmarkFailed(f"{WAYS[way]} gave other rows: {found}")
            runs[way].append(run)
            if directory != place.given:
                shutil.rmtree(directory)
            os.sync()  # what one run left to be written is not for the next one to wait for
    return runs


def _one(
    way: str, place: Place, directory: Path, *threads: str, env: Mapping[str, str] | None = None
) -> tuple[Run, dict[str, Any]]:
    what, log = WAYS[way], place.folder / f"{way}.log"
    arguments = (way, place.repo, place.frame, directory, *threads)
    with started(_SCRIPT, *arguments, what=what, log_path=log, env=env) as process:
        report = process.work(limit_seconds=LIMIT_SECONDS)
    if report is None:
        raise BenchmarkFailed(f"{what} was not done after {LIMIT_SECONDS:.0f} s")
    return Run(**report["run"]), report["found"]


def _over(ours: Run, bare: Run) -> float:
    return (ours.seconds / bare.seconds - 1) * 100


def _print(runs: Mapping[str, Sequence[Run]], middles: Mapping[str, Run], floor: Floor) -> None:
    if SCALE != 1:
        print(f"\nKeys and rows at {SCALE:g} of their number: the figures say nothing of what is promised.")
    print(
        f"\n{ROWS:,} rows, 50 features of three views of {KEYS * DEPTH:,} rows; the middle of {ROUNDS} runs of each\n"
    )
    print(f"{'':<40}{'wall s':>8}{'spread':>14}{'CPU s':>8}{'peak MB':>9}{'build over it: first':>22}{'again':>8}")
    for way, what in WAYS.items():
        middle, times = middles[way], [run.seconds for run in runs[way]]
        first, again = (f"{_over(middles[build], middle):.0f} %" if way in QUERIES else "" for build in BUILDS)
        print(
            f"{what:<40}{middle.seconds:>8.2f}{f'{min(times):.2f}-{max(times):.2f}':>14}{middle.cpu_seconds:>8.2f}"
            f"{middle.peak_mb:>9,.0f}{first:>22}{again:>8}"
        )
    print(f"\nrebuilt and compared: {ROWS / middles[REBUILD].seconds:,.0f} rows/s\n  {floor}", flush=True)
