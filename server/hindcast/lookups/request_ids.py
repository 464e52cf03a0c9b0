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
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING

from hindcast.durable import make_directory, sync
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.table_files import table_files

if TYPE_CHECKING:
    import pyarrow as pa

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


def index_bytes(request_ids: Iterable[bytes], *, file_bytes: int) -> bytes:
    """The index of a file whose rows have these request ids; empty ones are left out.

    Args:
        request_ids: in UTF-8.
        file_bytes: the size of the file.
    """
    import numpy as np  # noqa: PLC0415 - as pyarrow

    ids = list(request_ids)
    rows = [row for row, request_id in enumerate(ids) if request_id]
    digests = b"".join([_digest(ids[row]) for row in rows])
    # As numbers they are in the order of their bytes; of two that are the same the earlier row comes first.
    numbers = np.frombuffer(digests, ">u8")
    order = numbers.argsort(kind="stable")
    content: bytes = numbers[order].tobytes() + np.array(rows, ">u4")[order].tobytes()
    return _HEAD.pack(MAGIC, _FORMAT, len(rows), file_bytes) + content


def digest_of(request_id: str) -> bytes:
    """Eight bytes that stand for a request id."""
    return _digest(request_id.encode())


def _digest(request_id: bytes) -> bytes:
    return hashlib.blake2b(request_id, digest_size=_DIGEST_BYTES).digest()


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
        request_ids = (request_id for batch in batches for request_id in _texts(batch.column(0)))
        content = index_bytes(request_ids, file_bytes=file.stat().st_size)
    make_directory(path.parent)
    written = path.with_suffix(".new")
    written.write_bytes(content)
    sync(written)
    written.replace(path)


def _texts(column: "pa.StringArray") -> Iterator[bytes]:
    """Strings in UTF-8, read from Parquet: without the objects that `to_pylist` makes it takes a third of the time.

    A null has the length 0 there.
    """
    _, ends, content = column.buffers()
    places = memoryview(ends).cast("i")[column.offset : column.offset + len(column) + 1].tolist()
    words = b"" if content is None else content.to_pybytes()
    return (words[begin:end] for begin, end in pairwise(places))
