"""A stream of rows written to a place of its own: one Parquet file, a directory of them, or a version of a Delta table.

What was there before stays until the new rows are whole and synced, and then is exchanged for them in one step: no reader meets half of
them, and a process that is killed leaves the old ones. Rows are written as they come; a row group is in memory, never all of them.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.durable import exchange, make_directory, rename_new, sync
from hindcast.errors import InvalidArgument, StoreUnavailable
from hindcast.offline.location import parts_directory, source_files

_GROUP_ROWS = 122_880
"""Rows of a row group: as many as DuckDB writes, so that its threads share them evenly."""
_GROUP_BYTES = 64 * 2**20
"""A row group of wide rows ends earlier."""
_PART_ROWS = 8 * _GROUP_ROWS


def write_file(rows: pa.RecordBatchReader, path: Path, *, replace: bool) -> None:
    """Write one Parquet file; when this returns it survives a power cut.

    Raises:
        FileExistsError: there is something at `path`, and it is not to be replaced.
        InvalidArgument: it is to be, and is no file or has parts beside it; or Parquet has no form for a column.
        StoreUnavailable: the disk did not take the rows; what was there is untouched.
    """
    check_place(path, is_file=True, replace=replace)
    with _aside(path) as written:
        with _parquet(rows.schema, written) as writer:
            for batch in row_groups(rows):
                writer.write_batch(batch)
        _settle(written, path, replace=replace)


def write_directory(rows: pa.RecordBatchReader, path: Path, *, replace: bool) -> None:
    """Write a directory of Parquet files, `part-00000.parquet` and so on; when this returns it survives a power cut.

    Raises:
        FileExistsError: there is something at `path`, and it is not to be replaced.
        InvalidArgument: it is to be, and holds other things than Parquet files; or Parquet has no form for a column.
        StoreUnavailable: the disk did not take the rows; what was there is untouched.
    """
    check_place(path, is_file=False, replace=replace)
    with _aside(path) as written:
        written.mkdir()
        write_parts(rows, lambda number: _parquet(rows.schema, written / f"part-{number:05d}.parquet"))
        sync(written)
        _settle(written, path, replace=replace)


def write_parts(rows: pa.RecordBatchReader, opened: Callable[[int], AbstractContextManager["BatchWriter"]]) -> int:
    """Write a stream as Parquet files of at most 983,040 rows, at least one; gives how many.

    Args:
        opened: gives the writer of the file of a number, from 0.
    """
    groups = row_groups(rows)
    number, batch = 0, next(groups, None)
    while True:
        with opened(number) as writer:
            number += 1
            written = 0
            while batch is not None and (not written or written + batch.num_rows <= _PART_ROWS):
                writer.write_batch(batch)
                written += batch.num_rows
                batch = next(groups, None)
        if batch is None:
            return number


def row_groups(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The rows in batches of the size of a row group; batches without rows are left out."""
    pending: list[pa.RecordBatch] = []
    count = size = 0
    for batch in rows:
        if not batch.num_rows:
            continue
        pending.append(batch)
        count += batch.num_rows
        size += batch.nbytes
        while count >= _GROUP_ROWS:
            whole = pending[0] if len(pending) == 1 else pa.concat_batches(pending)
            yield whole.slice(0, _GROUP_ROWS)
            rest = whole.slice(_GROUP_ROWS)
            pending, count, size = [rest], rest.num_rows, rest.nbytes
        if size >= _GROUP_BYTES:
            yield pa.concat_batches(pending)
            pending, count, size = [], 0, 0
    if count:
        yield pa.concat_batches(pending)


def check_place(path: Path, *, is_file: bool, replace: bool) -> None:
    """Refuse a place that Parquet files cannot be written to.

    Args:
        is_file: one file, not a directory of them.
    Raises:
        FileExistsError: there is something, and it is not to be replaced.
        InvalidArgument: there is something that is not replaced by this.
    """
    beside = parts_directory(path) if is_file else None
    if beside is not None and beside != path and source_files(path.with_name(beside.name)):
        if not replace:
            raise FileExistsError(str(path))
        raise InvalidArgument.at(
            "storage",
            f"{str(path)!r} has parts beside it that would be read with the new rows; move {beside.name!r} away first",
        )
    if not os.path.lexists(path):
        return
    if not replace:
        raise FileExistsError(str(path))
    if is_file != path.is_file():
        there, wanted = ("a file", "a directory") if path.is_file() else ("a directory", "a file")
        raise InvalidArgument.at(
            "storage", f"{str(path)!r} is {there}, and cannot be replaced by {wanted}; choose another path"
        )
    foreign = [] if is_file else [entry for entry in path.rglob("*") if entry.is_file() and not _is_ours(entry)]
    if foreign:
        raise InvalidArgument.at(
            "storage",
            f"{str(path)!r} holds more than Parquet files ({str(foreign[0].relative_to(path))!r}), so it is not replaced; choose another path",
        )


def _is_ours(entry: Path) -> bool:
    """Whether a file is what a directory of Parquet files has: the files, and what other writers leave beside them."""
    return entry.suffix in {".parquet", ".crc", ".tmp"} or entry.name in {"_SUCCESS", "_metadata", "_common_metadata"}


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A hidden path beside another, and nothing there at the end."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        make_directory(path.parent)
        yield unfinished
    except OSError as error:
        if isinstance(error, FileExistsError) and error.args == (str(path),):
            raise
        raise StoreUnavailable(
            f"the rows cannot be written to {str(path)!r}; check the rights of its directory and the space on its disk"
        ) from error
    finally:
        _remove(unfinished)


def _settle(written: Path, path: Path, *, replace: bool) -> None:
    """Put what was written into its place, where somebody else may put something at this moment."""
    while True:
        try:
            rename_new(written, path)
        except FileExistsError:
            if not replace:
                raise FileExistsError(str(path)) from None
            with contextlib.suppress(FileNotFoundError):  # what was there is gone by now
                exchange(written, path)
                break
        else:
            break
    sync(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def _parquet(schema: pa.Schema, path: Path) -> Iterator["BatchWriter"]:
    with path.open("xb") as file:
        with parquet_writer(schema, file) as writer:
            yield writer
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def parquet_writer(schema: pa.Schema, file: object) -> Iterator["BatchWriter"]:
    """A writer of Parquet into a file, which is whole when the block ends.

    Raises:
        InvalidArgument: Parquet has no form for a column.
    """
    try:
        opened = pq.ParquetWriter(file, schema)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidArgument.at(
            "storage", f"Parquet has no form for all of these columns; leave some out: {schema.to_string()}"
        ) from error
    with opened as writer, ThreadPoolExecutor(1, thread_name_prefix="hindcast-parquet") as thread:
        batches = BatchWriter(writer, thread)
        yield batches
        batches.wait()


class BatchWriter:
    """Writes row groups in a thread, each while the next one is read."""

    def __init__(self, writer: pq.ParquetWriter, thread: ThreadPoolExecutor) -> None:
        self._writer = writer
        self._thread = thread
        self._writing: Future[None] | None = None

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a row group.

        Raises:
            OSError: the disk did not take the one before.
        """
        self.wait()
        self._writing = self._thread.submit(self._writer.write_batch, batch)

    def wait(self) -> None:
        """Until all is written.

        Raises:
            OSError: the disk did not take the last one.
        """
        if self._writing is not None:
            self._writing.result()
