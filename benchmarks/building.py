"""The process of a training set: WAY REPO FRAME DIRECTORY [THREADS], `ready` on standard output, a line to begin, then a line of JSON.

Ways are `build` and `known`, the set `bench` from the frame's path, where `known` is of sources whose digests the state directory has; `rebuild`, of
`bench@v1` in DIRECTORY; `stream`, `arrow`, `parquet` and `pyarrow`, the same read by Feast's own call from the frame's path: thrown away batch by batch, held
as an Arrow table, written by our job's `to_parquet`, and held and then written by `pyarrow.parquet.write_table`, which is what Feast's own users do.
Everything is imported before it begins.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieving import SERVICE
from usage import measured

KNOWN_AT = "2030-01-01T00:00:00+00:00"
NAME = "bench"


def main() -> None:
    """Import, wait, work, report; what Feast prints goes to standard error."""
    way, repo, frame, directory, *threads = sys.argv[1:]
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        of_way = _reading if way in _READS else _making
        work = of_way(way, Path(repo), frame, Path(directory), int(threads[0]) if threads else None)
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        found, report = measured(work)
    print(json.dumps({"run": report, "found": found}), file=answers, flush=True)


def _making(way: str, repo: Path, frame: str, directory: Path, threads: int | None) -> Callable[[], dict[str, Any]]:
    from datetime import datetime  # noqa: PLC0415

    import hindcast.datasets.build  # noqa: PLC0415
    import hindcast.datasets.rebuild  # noqa: F401, PLC0415
    from hindcast.datasets import TrainingSets  # noqa: PLC0415

    _asker(repo)
    sets = TrainingSets(repo, directory)

    def build() -> dict[str, Any]:
        known_at = datetime.fromisoformat(KNOWN_AT)
        made = sets.build(NAME, features=SERVICE, entity_frame=frame, known_at=known_at, threads=threads)
        return {"id": made.id, "digest": made.digest, "rows": made.rows}

    def rebuild() -> dict[str, Any]:
        report = sets.rebuild(f"{NAME}@v1", threads=threads)
        is_same = report.identical and bool(report.files_identical)
        return {"id": report.id, "digest": report.digest, "rows": report.rows, "identical": is_same}

    return rebuild if way == "rebuild" else build


def _reading(way: str, repo: Path, frame: str, directory: Path, _: int | None) -> Callable[[], dict[str, Any]]:
    ask, read = _asker(repo), _READS[way]
    return lambda: {"rows": read(ask(frame), directory / "rows.parquet")}


def _asker(repo: Path) -> Callable[[str], Any]:
    """From the path of an entity frame to a job, with everything imported that the store is made of."""
    import feast  # noqa: PLC0415

    store = feast.FeatureStore(repo_path=repo)
    service = store.get_feature_service(SERVICE)
    _ = store._get_provider().offline_store  # noqa: SLF001 - there is no other way to have the plug-in imported
    return lambda frame: store.get_historical_features(entity_df=frame, features=service)


def _thrown_away(job: Any, _: Path) -> int:
    return sum(batch.num_rows for batch in job.to_arrow_batches())


_held: list[Any] = []
"""What is held until the work is measured: freeing it is no part of a read."""


def _held_rows(job: Any, _: Path) -> int:
    _held.append(job.to_arrow())
    return int(_held[0].num_rows)


def _written(job: Any, out: Path) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415

    job.to_parquet(out)
    return int(pq.read_metadata(out).num_rows)


def _written_by_pyarrow(job: Any, out: Path) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415

    pq.write_table(job.to_arrow(), out)
    return int(pq.read_metadata(out).num_rows)


_READS: dict[str, Callable[[Any, Path], int]] = {
    "stream": _thrown_away,
    "arrow": _held_rows,
    "parquet": _written,
    "pyarrow": _written_by_pyarrow,
}

if __name__ == "__main__":
    main()
