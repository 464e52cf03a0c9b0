"""Point-in-time reads as the tests ask for them: a frame, views, and what came out, all in memory."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hindcast.offline.asof.reading import AsOfQuery, AsOfView, Limits, read_as_of
from hindcast.offline.frames.frame import entity_frame
from hindcast.offline.sources.source import find_source
from oracle import Leaks


@dataclass(frozen=True)
class Found:
    """What a read gave: the table in the frame's order, and the leaks by view."""

    table: pa.Table
    leaks: Mapping[str, Leaks]


def view_of(
    path: Path | str,
    *,
    keys: Mapping[str, str],
    fields: Mapping[str, str],
    name: str = "view",
    event: str = "event_ts",
    created: str | None = "created_ts",
    ttl_micros: int = 0,
    file_format: str = "parquet",
) -> AsOfView:
    """A view on a source at an absolute path."""
    return AsOfView(
        name=name,
        source=find_source(str(path), file_format, repo_root=Path("/")),
        keys={column: name for name, column in keys.items()},
        fields=fields,
        event_column=event,
        created_column=created,
        ttl_micros=ttl_micros,
    )


def read(
    frame: Any,
    views: Sequence[AsOfView],
    *,
    root: Path,
    as_of: str | None = None,
    known_at: int | str | None = None,
    threads: int | None = 1,
    memory_bytes: int = 256 * 2**20,
    batch_rows: int = 1000,
) -> Found:
    """Read, and see that batches are as long as was asked for, that nothing is left on disk, and that the schema was told before."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        spill = Path(folder)
        with entity_frame(frame, as_of=as_of, spill_dir=spill, repo_root=root) as entities:
            query = AsOfQuery(
                frame=entities,
                views=views,
                known_at=known_at,
                limits=Limits(memory_bytes=memory_bytes, threads=threads, spill_dir=spill),
            )
            with read_as_of(query) as result:
                schema = result.schema
                batches = list(result.batches(batch_rows))
                leaks = {name: Leaks(one.rows, one.worst_micros) for name, one in result.leaks.items()}
        assert [] == list(spill.iterdir())
    assert all(batch.num_rows == batch_rows for batch in batches[:-1])
    return Found(pa.Table.from_batches(batches, schema), leaks)
