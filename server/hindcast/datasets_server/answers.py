"""What callers are told: sets, progress, reports and rows as messages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hindcast.datasets.causes import Cell, Change
from hindcast.datasets.diff import Diff
from hindcast.datasets.progress import Progress
from hindcast.datasets.store import MANIFEST
from hindcast.datasets.training_set import TrainingSet
from hindcast.datasets.verify import Verification
from hindcast.errors import DatasetError
from hindcast.v1 import training_sets_pb2 as pb

if TYPE_CHECKING:
    from hindcast.datasets.again import Rebuild

PIECE_BYTES = 2**20
"""Of the rows of a set, in one message: a fourth of what gRPC takes unless told otherwise."""


def training_set(one: TrainingSet) -> pb.TrainingSet:
    """A set, with its manifest byte for byte, so that the caller can hold it against the id.

    Raises:
        DatasetError: it is gone.
    """
    try:
        manifest_json = (one.path / MANIFEST).read_bytes()
    except OSError as error:
        raise DatasetError(
            f"the manifest of {one.ref} cannot be read; the set was removed meanwhile, or its files are damaged"
        ) from error
    return pb.TrainingSet(name=one.name, version=one.version, id=one.id, manifest_json=manifest_json)


def progress(given: Progress) -> pb.BuildProgress:
    """How far a build is."""
    return pb.BuildProgress(phase=given.phase, done=given.done, total=given.total)


def rebuild_report(report: "Rebuild") -> pb.RebuildReport:
    """What came of making a set again."""
    return pb.RebuildReport(
        ref=report.ref,
        id=report.id,
        identical=report.identical,
        expected=report.expected,
        digest=report.digest,
        files_identical=report.files_identical,  # type: ignore[arg-type]  # None leaves it unset
        rows=report.rows,
        changes=map(_change, report.changes),
        as_recorded=report.as_recorded,
        trouble=report.trouble,
    )


def verification(found: Verification) -> pb.TrainingSetsVerifyResponse:
    """What came of verifying a set."""
    return pb.TrainingSetsVerifyResponse(ref=found.ref, id=found.id, problems=found.problems, signed_by=found.signed_by)


def diff(found: Diff) -> pb.TrainingSetsDiffResponse:
    """What differs between two sets."""
    return pb.TrainingSetsDiffResponse(
        before=found.before,
        after=found.after,
        identical=found.identical,
        keys=found.keys,
        rows_before=found.rows_before,
        rows_after=found.rows_after,
        rows_both=found.rows_both,
        only_before=[pb.RowKeys(keys=_keys(row)) for row in found.only_before],
        only_after=[pb.RowKeys(keys=_keys(row)) for row in found.only_after],
        added=found.added,
        dropped=found.dropped,
        retyped=[pb.RetypedColumn(column=one.column, before=one.before, after=one.after) for one in found.retyped],
        columns=[
            pb.ColumnDiff(column=one.column, rows=one.rows, reasons=dict(one.reasons), cells=map(_cell, one.cells))
            for one in found.columns
        ],
        inputs=map(_change, found.inputs),
    )


def _change(change: Change) -> pb.InputChange:
    return pb.InputChange(
        kind=change.kind,
        name=change.name,
        what=change.what,
        before=change.before,
        after=change.after,
        has_effect=change.has_effect,  # type: ignore[arg-type]  # None leaves it unset
        rows=change.rows,
        columns=dict(change.columns),
        reasons=dict(change.reasons),
        cells=map(_cell, change.cells),
        views=change.views,
    )


def _cell(cell: Cell) -> pb.CellChange:
    return pb.CellChange(
        row=cell.row,
        keys=_keys(cell.keys),
        column=cell.column,
        before=cell.before,
        after=cell.after,
        reason=cell.reason,
    )


def _keys(keys: Mapping[str, str | None]) -> Sequence[pb.KeyValue]:
    return [pb.KeyValue(column=column, value=value) for column, value in keys.items()]


def arrow_pieces(reader: pa.RecordBatchReader) -> Iterator[bytes]:
    """Rows as an Arrow IPC stream, in pieces; a batch is in memory, and the next is read when its pieces were taken."""
    sink = _Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield from sink.pieces()
    yield from sink.pieces(rest=True)


class _Sink:
    """A file that is written, and read in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.closed = False

    def write(self, content: bytes) -> int:
        self._buffer += memoryview(content)
        return len(content)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def pieces(self, *, rest: bool = False) -> Iterator[bytes]:
        """What was written and not yet taken, in pieces of one size.

        Args:
            rest: also what is too little for one.
        """
        whole = len(self._buffer) if rest else len(self._buffer) - len(self._buffer) % PIECE_BYTES
        for begin in range(0, whole, PIECE_BYTES):
            yield bytes(self._buffer[begin : min(begin + PIECE_BYTES, whole)])
        del self._buffer[:whole]
