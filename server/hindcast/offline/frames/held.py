"""Rows that can be read more than once: in memory, or set aside on disk as Arrow has them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hindcast.errors import StoreUnavailable
from hindcast.offline.frames.layouts import settled, settled_schema

SPOOL_ROWS = 65_536
SPOOL_BYTES = 2**24
"""A batch on disk, which is what is read at once, ends where it has so many rows or bytes."""
READ_ROWS = 8_192
"""Asked at once of what is spooled. Of rows of 4 kB, 65,536 are 260 MB."""


class HeldRows(Protocol):
    """n rows in an order that stays."""

    @property
    def schema(self) -> pa.Schema:
        """Of all columns."""

    @property
    def rows(self) -> int:
        """How many."""

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns in memory, n rows."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, in batches of any size."""


class TableRows:
    """Rows that the caller has in memory anyway."""

    def __init__(self, table: pa.Table) -> None:
        self._table = settled(table)

    @property
    def schema(self) -> pa.Schema:
        """Of all columns."""
        return self._table.schema

    @property
    def rows(self) -> int:
        """How many."""
        return int(self._table.num_rows)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns, n rows; nothing is copied."""
        return self._table.select(list(names))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, as the table is cut; nothing is copied."""
        yield from self._table.to_batches()


class SpooledRows:
    """Rows in an Arrow stream on disk, which whoever made it removes."""

    def __init__(self, path: Path, schema: pa.Schema, rows: int) -> None:
        self._path = path
        self.schema = schema
        self.rows = rows

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> "SpooledRows":
        """Write rows as they come, a batch at a time.

        Args:
            schema: of the batches.
            path: is made.
        Raises:
            StoreUnavailable: the disk did not take them. What the batches raise is raised as it is.
        """
        kept = settled_schema(schema)
        rows = 0
        with _disk(path):
            file = pa.OSFile(str(path), "wb")
        with file:
            with _disk(path):
                writer = pa.ipc.new_stream(file, kept)
            for batch in rebatched((settled(batch) for batch in batches), SPOOL_ROWS, bytes_max=SPOOL_BYTES):
                rows += batch.num_rows
                with _disk(path):
                    writer.write_batch(batch)
            with _disk(path):
                writer.close()
        return cls(path, kept, rows)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns, n rows. They are mapped from the disk, so memory that is short can be had back from them."""
        with pa.memory_map(str(self._path)) as file, pa.ipc.open_stream(file) as stream:
            batches = [batch.select(list(names)) for batch in stream]
        schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
        return pa.Table.from_batches(batches, schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, one batch in memory at a time."""
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def rebatched(
    batches: Iterable[pa.RecordBatch], rows: int, *, bytes_max: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows` rows, but for the last, and for those that end early because they have `bytes_max`.

    Where Arrow cannot put pieces together (their dictionaries, or their text, are too large for one) they come as they are.
    """
    pending: list[pa.RecordBatch] = []
    count = 0
    size = 0
    for batch in batches:
        for piece in [batch] if bytes_max is None else _cut(batch, bytes_max):
            at = 0
            while count + piece.num_rows - at >= rows:
                end = at + rows - count
                yield from _joined([*pending, piece.slice(at, end - at)])
                pending, count, size, at = [], 0, 0, end
            if at < piece.num_rows:
                pending.append(piece.slice(at))
                count += piece.num_rows - at
                size += pending[-1].nbytes if bytes_max is not None else 0
            if bytes_max is not None and size >= bytes_max:
                yield from _joined(pending)
                pending, count, size = [], 0, 0
    if pending:
        yield from _joined(pending)


def _cut(batch: pa.RecordBatch, bytes_max: int) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of about so many bytes, and one row at least."""
    step = max(batch.num_rows * bytes_max // max(batch.nbytes, 1), 1)
    return (batch.slice(at, step) for at in range(0, batch.num_rows, step))


def _joined(pieces: Sequence[pa.RecordBatch]) -> Sequence[pa.RecordBatch]:
    if len(pieces) == 1:
        return pieces
    try:
        return [pa.concat_batches(pieces)]
    except pa.ArrowException:
        return pieces


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {str(path.parent)!r} did not take the rows of the entity frame; check the space on its disk"
        ) from error
