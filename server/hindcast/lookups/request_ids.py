"""Which rows of the table of all lookups have a caller's request id: a small file beside each of the table's files.

A request id says nothing of its lookup's time, so without this every record would have to be read for it. An index file is made from a
file of the table, which never changes, and holds digests of request ids in order, each with its row (docs/formats.md). It is there to
save time only: where it is missing, not yet made, or of another file, the file of the table is read instead.

Needs no pyarrow to look something up.
"""

import contextlib
import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from struct import Struct

from hindcast.durable import make_directory, sync
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.table_files import table_files

MAGIC = b"HCREQIDS"
_HEAD = Struct(">8sHxxIQ8x")
"""Magic, format, how many digests, and the size of the table's file."""
_FORMAT = 1
_DIGEST_BYTES, _ROW_BYTES = 8, 4
_BATCH_ROWS = 10_000


def index_path(log_directory: Path, file: Path) -> Path:
    """Where the index of a file of the table of all lookups is."""
    return TablePlaces(log_directory).root / "_request_ids" / file.parent.name / f"{file.name}.ids"


def rows_with(log_directory: Path, file: Path, request_id: str) -> Sequence[int] | None:
    """The rows of a file of the table that may have a request id, in any order; None where there is no index of it.

    Raises:
        FileNotFoundError: there is no such file of the table any more.
        OSError: the index cannot be read.
    """
    size_bytes = file.stat().st_size
    try:
        handle = os.open(index_path(log_directory, file), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(handle, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        magic, version, count, indexed_bytes = _HEAD.unpack(head)
        if (magic, version, indexed_bytes) != (MAGIC, _FORMAT, size_bytes):
            return None
        if os.fstat(handle).st_size != _HEAD.size + count * (_DIGEST_BYTES + _ROW_BYTES):
            return None

        def digest_at(at: int) -> bytes:
            return os.pread(handle, _DIGEST_BYTES, _HEAD.size + at * _DIGEST_BYTES)

        wanted = digest_of(request_id)
        first = bisect_left(range(count), wanted, key=digest_at)
        last = bisect_right(range(count), wanted, lo=first, key=digest_at)
        rows_at = _HEAD.size + count * _DIGEST_BYTES
        rows = os.pread(handle, (last - first) * _ROW_BYTES, rows_at + first * _ROW_BYTES)
        return [int.from_bytes(rows[at : at + _ROW_BYTES], "big") for at in range(0, len(rows), _ROW_BYTES)]
    finally:
        os.close(handle)


def index_bytes(request_ids: Iterable[str], *, file_bytes: int) -> bytes:
    """The index of a file whose rows have these request ids; empty ones are left out.

    Args:
        file_bytes: the size of the file.
    """
    entries = sorted(
        digest_of(request_id) + row.to_bytes(_ROW_BYTES, "big")
        for row, request_id in enumerate(request_ids)
        if request_id
    )
    digests = b"".join(entry[:_DIGEST_BYTES] for entry in entries)
    rows = b"".join(entry[_DIGEST_BYTES:] for entry in entries)
    return _HEAD.pack(MAGIC, _FORMAT, len(entries), file_bytes) + digests + rows


def digest_of(request_id: str) -> bytes:
    """Eight bytes that stand for a request id."""
    return hashlib.blake2b(request_id.encode(), digest_size=_DIGEST_BYTES).digest()


def keep_indexes(log_directory: Path) -> None:
    """Make the indexes that are missing, and remove those whose file is no part of the table any more. For who holds `sealing_lock`.

    Raises:
        StoredDataError: the table's log cannot be read.
        OSError: a file cannot be read or written.
    """
    files = [file.path for file in table_files(TablePlaces(log_directory).of(RECORDS))]
    wanted = {index_path(log_directory, file): file for file in files}
    there = {path for folder in _folders(log_directory) for path in folder.iterdir()}
    for path in there - wanted.keys():
        path.unlink()
    for path in sorted(wanted.keys() - there):
        _make(path, wanted[path])
    for folder in _folders(log_directory):
        with contextlib.suppress(OSError):
            folder.rmdir()  # which refuses where something is in it


def _folders(log_directory: Path) -> list[Path]:
    root = TablePlaces(log_directory).root / "_request_ids"
    return sorted(root.iterdir()) if root.is_dir() else []


def _make(path: Path, file: Path) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415 - the sealer has it, and nobody else comes here

    with pq.ParquetFile(file) as table:
        batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=["request_id"])
        request_ids = (request_id for batch in batches for request_id in batch.column(0).to_pylist())
        content = index_bytes(request_ids, file_bytes=file.stat().st_size)
    make_directory(path.parent)
    written = path.with_suffix(".new")
    written.write_bytes(content)
    sync(written)
    written.replace(path)
