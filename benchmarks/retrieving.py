"""The process of a retrieval: WAY REPO FRAME OUT, `ready` on standard output, a line to begin, then a line of JSON.

Ways are `store`, the repo's own offline store, asked with a pandas frame for an Arrow table; `polars`, `join_asof` on the files that REPO's
views name, from a polars frame to one; `parquet`, the repo's own store, asked with the frame's path and writing OUT itself. The
frame is read before it begins. The results of the first two go to OUT, an Arrow file, after time and memory are taken.

Each way imports what it needs and no more, so that its memory is its own.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usage import measured

SERVICE = "training"
"""The feature service that has all features."""


def main() -> None:
    """Import, wait, retrieve, report; what Feast prints goes to standard error."""
    way, repo, frame, out = sys.argv[1:]
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        retrieve, keep = _WAYS[way](Path(repo), frame, out)
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        result, report = measured(retrieve)
        keep(result)
    print(json.dumps(report), file=answers, flush=True)


Way = tuple[Callable[[], Any], Callable[[Any], None]]
"""What is measured, and what is done with its result afterwards."""


def _from_store(repo: Path, frame: str, out: str) -> Way:
    import pandas as pd  # noqa: PLC0415
    from pyarrow import ipc  # noqa: PLC0415

    def keep(table: Any) -> None:
        with ipc.new_file(out, table.schema) as file:
            file.write_table(table)

    ask = _asker(repo)
    entity_df = pd.read_parquet(frame)
    return lambda: ask(entity_df).to_arrow(), keep


def _to_parquet(repo: Path, frame: str, out: str) -> Way:
    ask = _asker(repo)
    return lambda: ask(frame).to_parquet(out), lambda _: None


def _asker(repo: Path) -> Callable[[Any], Any]:
    """From an entity frame to a job, with everything imported that the store is made of."""
    import feast  # noqa: PLC0415

    store = feast.FeatureStore(repo_path=repo)
    service = store.get_feature_service(SERVICE)
    _ = store._get_provider().offline_store  # noqa: SLF001 - there is no other way to have the plug-in imported
    return lambda entity_df: store.get_historical_features(entity_df=entity_df, features=service)


def _with_polars(repo: Path, frame: str, out: str) -> Way:
    """How Polars' documentation joins: each side sorted by time, by the key; the rows then back in the frame's order."""
    import polars as pl  # noqa: PLC0415

    views = json.loads((repo / "views.json").read_text())
    rows = pl.read_parquet(frame)

    def retrieve() -> pl.DataFrame:
        joined = rows.lazy().with_row_index("position").sort("event_timestamp")
        for view in views:
            source = pl.scan_parquet(view["path"]).select(view["key"], "event_ts", *view["features"])
            joined = joined.join_asof(
                source.sort("event_ts", maintain_order=True),  # files are in order of arrival: of equal times the later
                left_on="event_timestamp",
                right_on="event_ts",
                by=view["key"],
                strategy="backward",
                tolerance=f"{view['ttl_seconds']}s" if view["ttl_seconds"] else None,
            ).drop("event_ts")
        return joined.sort("position").drop("position").collect()

    return retrieve, lambda result: result.write_ipc(out)


_WAYS: dict[str, Callable[[Path, str, str], Way]] = {
    "store": _from_store,
    "polars": _with_polars,
    "parquet": _to_parquet,
}

if __name__ == "__main__":
    main()
