"""Where the values of a point-in-time read came from: for each row of the frame the row of a source, with its times, and those rows themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from hindcast.offline.asof.merge import NONE, Newest
from hindcast.offline.asof.wide import needed_groups
from hindcast.offline.sources.instants import to_micros
from hindcast.offline.sources.objects import ObjectPin
from hindcast.offline.sources.scan import SourceScan, read_groups
from hindcast.offline.sources.source import FilePin
from hindcast.offline.sources.stored import StoredFiles

_MICROS = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Origins:
    """For each of n rows of a frame the source's row that answered it.

    Attributes:
        scan: of the source.
        positions: of the rows in the scan, -1 for none.
        events, created: microseconds; of a row without a created time `hindcast.offline.asof.merge.NO_TIME`.
    """

    scan: SourceScan
    positions: np.ndarray
    events: np.ndarray
    created: np.ndarray

    @classmethod
    def of(cls, scan: SourceScan, found: Newest) -> "Origins":
        """The origins of what was found in a source."""
        return cls(scan, found.positions, found.events, found.created)

    @cached_property
    def _files(self) -> StoredFiles:
        return StoredFiles.of(self.scan.groups)

    @property
    def pins(self) -> Sequence[FilePin | ObjectPin]:
        """The files that have rows, which `places` counts."""
        return [file.pin for file in self._files.files]

    def places(self, some: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """For some rows of the frame: the number of the file in `pins`, -1 for none, and the number of the row in its file, from 0."""
        positions = self.positions[some]
        files: np.ndarray = np.full(len(positions), NONE, np.int32)
        rows: np.ndarray = np.zeros(len(positions), np.int64)
        there = np.flatnonzero(positions >= 0)
        if len(there):
            files[there], rows[there] = self._files.rows(positions[there])
        return files, rows

    def source_rows(self, columns: Sequence[str]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The source's rows that answered, each once and in the source's order: a source that gives the same answers.

        Args:
            columns: of the source, each once. Those that no view takes values of are times, and come in microseconds.
        Returns:
            The schema of the batches, and the batches, which raise SourceError where a file is another one by now.
        """
        types = self.scan.types
        schema = pa.schema([pa.field(column, types.get(column, _MICROS)) for column in columns])
        needed = np.unique(self.positions)
        return schema, self._read(schema, needed[needed >= 0])

    def _read(self, schema: pa.Schema, needed: np.ndarray) -> Iterator[pa.RecordBatch]:
        for _, first, batch in read_groups(needed_groups(self.scan, needed), schema.names, types=self.scan.types):
            begin, end = int(np.searchsorted(needed, first)), int(np.searchsorted(needed, first + batch.num_rows))
            if begin < end:
                taken = batch.take(pa.array(needed[begin:end] - first))
                columns = [
                    column if column.type == field.type else _micros(column)
                    for column, field in zip(taken.columns, schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _micros(column: pa.Array) -> pa.Array:
    micros, is_there = to_micros(column)
    return pa.array(micros, mask=None if is_there is None else ~is_there).cast(_MICROS)
