"""Parts: the files that pushes append to a batch source. A part is whole and durable, or it is not there.

It is written under another name in its own directory, synced, renamed, and the directory is synced: a process that is killed
or a machine that loses power leaves a file that no reader takes for a part. Imports pyarrow (0.5 s), so a serving worker imports
this with its first offline push.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.durable import make_directory, sync
from hindcast.errors import StoreUnavailable
from hindcast.offline.location import folder_name, parts_directory, source_files


def part_name(run_id: str, *, number: int, content: bytes) -> str:
    """Name of a part, without its ending: names sort by time, as the run's ids do, and then by `number`.

    Args:
        run_id: a UUIDv7 in its canonical text form.
        content: what the part is made from: the same content of the same run is the same part.
    """
    return f"{run_id}-{number:06d}-{hashlib.sha256(content).hexdigest()[:16]}"


def stored_schema(path: Path) -> pa.Schema | None:
    """The schema of a source's rows, without metadata; None where it has no file yet.

    Raises:
        StoreUnavailable: its first file cannot be read.
    """
    files = source_files(path)
    if not files:
        return None
    try:
        return pq.read_schema(files[0]).remove_metadata()
    except (OSError, pa.ArrowException) as error:
        raise StoreUnavailable("a file of the source cannot be read as Parquet; check it and its rights") from error


def append_part(table: pa.Table, path: Path, *, name: str) -> Path:
    """Append rows to the source at `path`; when this returns they survive a power cut. A part that is there stays as it is.

    Raises:
        StoreUnavailable: the disk did not take them; no reader sees any of them.
    """
    directory = parts_directory(path)
    _append({directory / f"{name}.parquet": table})
    return directory / f"{name}.parquet"


def append_parts(table: pa.Table, directory: Path, *, by: Sequence[str], name: str) -> Sequence[Path]:
    """Append rows to a directory: one part, or, where its folders name columns (`country=DE/day=2026-01-01`), one for each folder.

    Every part is whole and synced before the first of them can be seen. A process that is killed in the moment when they are
    renamed can leave some of them, each whole.

    Args:
        by: the columns that folders name, outermost first; the parts do not hold them, and hold one other at least.
    Raises:
        StoreUnavailable: the disk did not take them; no reader sees any of them.
    """
    parts = {
        directory.joinpath(*folders, f"{name}.parquet"): rows.drop_columns(list(by))
        for folders, rows in _split(table, by)
    }
    _append(parts)
    return list(parts)


def _split(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[Sequence[str], pa.Table]]:
    """The rows of each folder in their order, with the folder's names."""
    if not by:
        yield [], table
    if not by or not table.num_rows:
        return
    columns = [table[column].combine_chunks().dictionary_encode() for column in by]
    codes: np.ndarray = np.stack([column.indices.fill_null(-1).to_numpy(zero_copy_only=False) for column in columns])
    groups, group_of_row = np.unique(codes, axis=1, return_inverse=True)
    order = np.argsort(group_of_row, kind="stable")
    ends = np.cumsum(np.bincount(group_of_row.ravel()))
    for group, end, start in zip(groups.T, ends, [0, *ends[:-1]], strict=True):
        values = [
            column.dictionary[int(code)].as_py() if code >= 0 else None
            for column, code in zip(columns, group, strict=True)
        ]
        yield (
            [folder_name(name, value) for name, value in zip(by, values, strict=True)],
            table.take(pa.array(order[start:end])),
        )


def _append(parts: Mapping[Path, pa.Table]) -> None:
    """Write parts that are not there yet. Nobody sees any of them before all are on the disk."""
    unfinished: dict[Path, Path] = {}
    try:
        for part, table in parts.items():
            make_directory(part.parent)
            if not part.exists():
                # Hidden, and without the ending of a part: no reader of Parquet directories takes it for one.
                unfinished[part] = part.with_name(f".{part.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
                _write(table, unfinished[part])
        for part, written in unfinished.items():
            written.rename(part)
        for directory in {part.parent for part in parts}:
            sync(directory)
    except BaseException as error:
        for written in unfinished.values():
            with contextlib.suppress(OSError):
                written.unlink()
        if isinstance(error, OSError):
            raise StoreUnavailable(
                "the source's directory did not take a part; check its rights and the space on its disk"
            ) from error
        raise


def _write(table: pa.Table, path: Path) -> None:
    with path.open("xb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
