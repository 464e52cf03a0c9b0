"""Rows that can be read more than once: in memory, or set aside on disk as Arrow has them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hindcast.errors import StoreUnavailable
from hindcast.offline.layouts import settled, settled_schema

SPOOL_ROWS = 65_536
"""Rows of a batch on disk: what is read at once."""


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
            for batch in rebatched((settled(batch) for batch in batches), SPOOL_ROWS):
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


def rebatched(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows` rows, but for the last.

    Where Arrow cannot put pieces together (their dictionaries, or their text, are too large for one) they come as they are.
    """
    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        at = 0
        while count + batch.num_rows - at >= rows:
            end = at + rows - count
            yield from _joined([*pending, batch.slice(at, end - at)])
            pending, count, at = [], 0, end
        if at < batch.num_rows:
            pending.append(batch.slice(at))
            count += batch.num_rows - at
    if pending:
        yield from _joined(pending)


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
