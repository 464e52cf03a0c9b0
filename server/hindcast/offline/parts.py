"""Parts: the files that pushes append to a batch source. A part is whole and durable, or it is not there.

It is written under another name in its own directory, synced, renamed, and the directory is synced: a process that is killed
or a machine that loses power leaves a file that no reader takes for a part. Imports pyarrow (0.5 s), so a serving worker imports
this with its first offline push.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.durable import make_directory, sync
from hindcast.errors import StoreUnavailable
from hindcast.offline.location import parts_directory, source_files


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
    part = directory / f"{name}.parquet"
    try:
        make_directory(directory)
        if not part.exists():
            _write(table, part)
        sync(directory)
    except OSError as error:
        raise StoreUnavailable(
            "the source's directory did not take a part; check its rights and the space on its disk"
        ) from error
    return part


def _write(table: pa.Table, part: Path) -> None:
    # Hidden, and without the ending of a part: no reader of Parquet directories takes it for one.
    unfinished = part.with_name(f".{part.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with unfinished.open("xb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(part)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
