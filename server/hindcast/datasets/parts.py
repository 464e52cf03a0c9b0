"""Rows as Parquet files whose bytes depend on the rows and the version of pyarrow alone: fixed options, fixed row groups, no metadata."""

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.datasets.delta_form import SCHEMA_KEY, noted_schema, schema_note
from hindcast.datasets.manifest import FileRecord
from hindcast.errors import DatasetError, InvalidArgument

GROUP_ROWS = 65_536
PART_GROUPS = 16
"""Row groups of a file: some 1,000,000 rows."""
_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "write_statistics": True,
    "store_schema": True,
}
_LEVEL = 1
_PLAIN_LEVEL = -1
"""Of zstd, of columns without a dictionary: 655,360 rows of 50 random doubles took 0.26 s and 271 MB, and 0.45 s and 254 MB by level 1; prices to the cent
are as small by both."""
_AHEAD = 2
"""Row groups that wait to be written: enough that neither side waits for the other, where both take as long."""
_BLOCK_BYTES = 2**20
_BLOCKS_AHEAD = 8
"""Blocks of a file that wait to be hashed and written."""
_SYNC_BYTES = 64 * 2**20
"""Synced as it is written, so that nobody waits for the whole file at its end: 0.1 s for 390 MB here."""


class PartsWriter:
    """Writes row groups into `part-00000.parquet` and so on of a directory, each synced when it is whole, in a thread of its own.

    A `with` block; after it `files` says what was written. There is at least one file.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        *,
        within: Path,
        groups: int | None = PART_GROUPS,
        read_as: pa.Schema | None = None,
        numbers: Sequence[str] = (),
    ) -> None:
        """Parts in a directory that is there.

        Args:
            schema: `stored_schema` of the rows'.
            within: what the paths of `files` are relative to.
            groups: row groups of a file; None for one file, however many.
            read_as: what the rows are when they are read here, where that is another schema.
            numbers: whole numbers that hardly repeat and lie close together, of which the differences are written. What is left is not compressed.
        """
        self._note = None if read_as is None or read_as.equals(schema) else schema_note(read_as)
        self._groups_max = groups
        self._directory = directory
        self._schema = schema.remove_metadata()
        self._within = within
        self._options = _options(schema, numbers)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hindcast-parts")
        self._waiting: deque[Future[None]] = deque()
        self._groups = 0
        self._open: _Open | None = None
        self.files: tuple[FileRecord, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        is_whole = kind is None
        try:
            if is_whole:
                self._wait(0)
                if not self.files and self._open is None:
                    self._begin()
        except BaseException:
            is_whole = False
            raise
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._end(is_whole=is_whole)

    def write(self, group: pa.Table) -> None:
        """Append a row group; it may be looked at after this returns, so nothing may write to its buffers.

        Args:
            group: of the writer's schema.
        Raises:
            OSError: the disk did not take one that came before; what it did not take of the last ones is raised at the end of the block.
        """
        self._wait(_AHEAD - 1)
        self._waiting.append(self._thread.submit(self._write, group))

    def _wait(self, waiting_max: int) -> None:
        while len(self._waiting) > waiting_max:
            self._waiting.popleft().result()

    def _write(self, group: pa.Table) -> None:
        if self._open is None:
            self._begin()
        assert self._open is not None  # noqa: S101 - for the type
        self._open.writer.write_table(group, row_group_size=GROUP_ROWS)
        self._groups += 1
        if self._groups == self._groups_max:
            self._end(is_whole=True)

    def _begin(self) -> None:
        path = self._directory / f"part-{len(self.files):05d}.parquet"
        file = _Hashed(path)
        # Python takes whole blocks, and not each page and each page's head, for which a thread would wait for its lock.
        sink = pa.BufferedOutputStream(pa.PythonFile(file, "w"), _BLOCK_BYTES)
        self._open = _Open(path, file, sink, pq.ParquetWriter(sink, self._schema, **self._options))

    def _end(self, *, is_whole: bool) -> None:
        if self._open is None:
            return
        path, file, sink, writer = self._open
        self._open, self._groups = None, 0
        try:
            if self._note is not None:
                writer.add_key_value_metadata({SCHEMA_KEY: self._note})
            writer.close()
            sink.flush()
        except (OSError, pa.ArrowException):
            # What broke it off is raised already.
            if is_whole:
                file.close()
                raise
        if not is_whole:
            file.close()
            return
        file.finish()
        record = FileRecord(path=str(path.relative_to(self._within)), bytes=file.bytes, sha256=file.sha256)
        self.files = (*self.files, record)


class _Open(NamedTuple):
    """A part that is being written."""

    path: Path
    file: "_Hashed"
    sink: pa.BufferedOutputStream
    writer: pq.ParquetWriter


class _Hashed(io.RawIOBase):
    """A new file that knows the SHA-256 of what was written to it. A thread of its own hashes and writes, while what comes next is encoded."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hindcast-file")
        self._running: deque[Future[None]] = deque()
        self._unsynced_bytes = 0
        self.bytes = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, some: Any) -> int:
        """Append bytes.

        Raises:
            OSError: the disk did not take some that came before.
        """
        # A copy where they are in a buffer of Arrow's, which it writes to again.
        block = bytes(some)
        self._wait(_BLOCKS_AHEAD - 1)
        self._running.append(self._thread.submit(self._append, block))
        self.bytes += len(block)
        return len(block)

    def _wait(self, running_max: int) -> None:
        while len(self._running) > running_max:
            self._running.popleft().result()

    def _append(self, block: bytes) -> None:
        self._digest.update(block)
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) :]
        self._unsynced_bytes += len(block)
        if self._unsynced_bytes >= _SYNC_BYTES:
            os.fdatasync(self._file.fileno())
            self._unsynced_bytes = 0

    def tell(self) -> int:
        """How many bytes there are."""
        return self.bytes

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def finish(self) -> None:
        """Sync and close the file.

        Raises:
            OSError: the disk did not take all of it.
        """
        try:
            self._wait(0)
            os.fsync(self._file.fileno())
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, whatever of it was written."""
        self._thread.shutdown(cancel_futures=True)
        self._file.close()
        super().close()

    @property
    def sha256(self) -> str:
        """Of all that was written, 64 hex digits."""
        return self._digest.hexdigest()


def row_groups(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, *, stored: pa.Schema | None = None
) -> Iterator[pa.Table]:
    """Rows in tables of 65,536, but for the last; none where there are no rows. Each column is one chunk, unless it is too large for that.

    Args:
        schema: of the batches.
        stored: of the tables, `stored_schema` of the other.
    """
    for pieces in in_groups(batches, GROUP_ROWS):
        table = _table(pieces, schema)
        yield table if stored is None or stored.equals(table.schema) else table.cast(stored)


def in_groups(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[Sequence[pa.RecordBatch]]:
    """Batches cut so that each group of them has so many rows, but for the last."""
    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        at = 0
        while count + batch.num_rows - at >= rows:
            pending.append(batch.slice(at, rows - count))
            at += rows - count
            yield pending
            pending, count = [], 0
        if at < batch.num_rows:
            pending.append(batch.slice(at))
            count += batch.num_rows - at
    if count:
        yield pending


def _table(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    bare = schema.remove_metadata()
    table = pa.Table.from_batches([batch.replace_schema_metadata() for batch in batches], bare)
    # Dictionaries of several chunks are made one: a file holds one for a column.
    return (table.unify_dictionaries() if len(batches) > 1 else table).combine_chunks()


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """What a schema is when it has been through Parquet, which has no seconds, for one. Rows are digested as they will be read.

    Raises:
        InvalidArgument: Parquet has no form for a column.
    """
    read: pa.Schema = _empty(schema).schema_arrow
    return read.remove_metadata()


def _empty(schema: pa.Schema) -> pq.ParquetFile:
    bare = schema.remove_metadata()
    sink = io.BytesIO()
    try:
        pq.write_table(bare.empty_table(), sink, **_OPTIONS)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidArgument.at(
            "entity_frame", f"has a column that Parquet has no form for; leave it out: {bare.to_string()}"
        ) from error
    return pq.ParquetFile(io.BytesIO(sink.getvalue()))


def _options(schema: pa.Schema, numbers: Sequence[str]) -> dict[str, Any]:
    stored = _empty(schema).schema
    paths = [stored.column(number).path for number in range(len(stored))]
    repeated = [path for path in _repeated(schema) if path not in numbers]
    return {
        **_OPTIONS,
        # A file without a dictionary takes no empty list of columns with one.
        "use_dictionary": repeated or False,
        "compression": {path: "none" if path in numbers else _OPTIONS["compression"] for path in paths},
        "compression_level": {
            path: _LEVEL if path in repeated else _PLAIN_LEVEL for path in paths if path not in numbers
        },
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED") or None,
    }


def _repeated(schema: pa.Schema) -> list[str]:
    """The columns that are written with a dictionary. Numbers with a fraction and times hardly repeat: 400,000 rows of 50 doubles took 0.9 s
    and 190 MB with dictionaries, 0.3 s and 155 MB without.
    """
    stored = _empty(schema).schema
    columns = [stored.column(number) for number in range(len(stored))]
    return [
        column.path
        for column in columns
        if column.physical_type not in {"FLOAT", "DOUBLE", "BOOLEAN"} and column.logical_type.type != "TIMESTAMP"
    ]


class Part:
    """A part that is open for reading: a `with` block."""

    def __init__(self, path: Path) -> None:
        """Args: path: of the file.

        Raises:
            DatasetError: it is gone or damaged.
        """
        self._path = path
        try:
            self._file = pq.ParquetFile(path)
            self._read_as = noted_schema(self._file.metadata.metadata)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _damaged(path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._file.close()

    @property
    def schema(self) -> pa.Schema:
        """Of what is read."""
        return self._file.schema_arrow if self._read_as is None else self._read_as

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        groups: int = self._file.num_row_groups
        return groups

    def read(self, groups: Sequence[int], *, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some row groups.

        Args:
            columns: which; None for all.
        Raises:
            DatasetError: the file is damaged.
        """
        try:
            names = None if columns is None else list(columns)
            table = self._file.read_row_groups(list(groups), columns=names, use_threads=True)
            if names is not None:
                # To pyarrow the name `a` stands for a column `a.b`, too.
                table = table.select(names)
            if self._read_as is None:
                return table
            return table.cast(pa.schema([self._read_as.field(name) for name in table.schema.names]))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise _damaged(self._path) from error


def read_parts(
    directory: Path, files: Sequence[FileRecord], *, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The row groups of some parts, in order.

    Args:
        columns: which; None for all.
    Raises:
        DatasetError: a file is gone or damaged.
    """
    for file in files:
        with Part(directory / file.path) as part:
            for number in range(part.groups):
                yield part.read([number], columns=columns)


def read_table(directory: Path, files: Sequence[FileRecord], *, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of some parts, all of them in memory; of no rows the columns.

    Args:
        columns: which; None for all.
    Raises:
        DatasetError: a file is gone or damaged.
    """
    with Part(directory / files[0].path) as part:
        nothing = part.read([], columns=columns)
    return pa.concat_tables([nothing, *read_parts(directory, files, columns=columns)])


def _damaged(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is gone or damaged; `hindcast dataset verify` says what else is, and rebuild makes it again"
    )
