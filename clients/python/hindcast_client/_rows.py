"""The rows of a training set as they come in: an Arrow IPC stream in pieces."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client._frames import load

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH_ROWS = 65_536


def read_request(
    ref: str, *, split: str | None, columns: Sequence[str] | None, rows: int
) -> pb.TrainingSetsReadRequest:
    """The request for some rows.

    Raises:
        ValueError: `rows` is no number above 0.
    """
    if rows < 1:
        raise ValueError(f"rows of a batch are {rows!r}; give a whole number above 0")
    request = pb.TrainingSetsReadRequest(ref=ref, batch_rows=rows)
    if split is not None:
        request.split = split
    if columns is not None:
        request.columns.SetInParent()
        request.columns.names.extend(columns)
    return request


class Pieces:
    """A file that is read as its pieces come in.

    Attributes:
        failure: what the call failed with; Arrow has words of its own for it.
    """

    def __init__(self, take: Callable[[], bytes | None]) -> None:
        """Args: take gives the next piece, None after the last."""
        self.failure: Exception | None = None
        self.closed = False
        self._take = take
        self._rest = memoryview(b"")

    def read(self, count: int = -1) -> bytes:
        """So many bytes, or fewer at the end."""
        found = bytearray()
        while count < 0 or len(found) < count:
            if not self._rest:
                piece = self._next()
                if piece is None:
                    break
                self._rest = memoryview(piece)
            taken = self._rest if count < 0 else self._rest[: count - len(found)]
            found += taken
            self._rest = self._rest[len(taken) :]
        return bytes(found)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def _next(self) -> bytes | None:
        try:
            return self._take()
        except Exception as error:
            self.failure = error
            raise


class Rows:
    """Rows as they come in, batch by batch."""

    def __init__(self, pieces: Pieces) -> None:
        """Read the schema.

        Raises:
            What the call fails with.
        """
        self._pieces = pieces
        self._arrow = load("pyarrow")
        self._reader = self._ask(lambda: self._arrow.ipc.open_stream(self._arrow.PythonFile(pieces, "r")))

    @property
    def schema(self) -> "pa.Schema":
        """Of the rows, in whatever batches."""
        return self._reader.schema

    def next(self) -> "pa.RecordBatch | None":
        """The next batch; None after the last."""
        return self._ask(lambda: next(self._reader, None))

    def rest(self) -> "pa.Table":
        """All that are left."""
        batches = []
        while (batch := self.next()) is not None:
            batches.append(batch)
        return self._arrow.Table.from_batches(batches, self.schema)

    def _ask(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception:
            if self._pieces.failure is not None:
                raise self._pieces.failure from None
            raise


def in_order(table: "pa.Table", shuffle_seed: int | None) -> "pa.Table":
    """The rows as they are, or shuffled."""
    if shuffle_seed is None:
        return table
    return table.take(load("pyarrow").array(shuffled(table.num_rows, seed=shuffle_seed)))


def shuffled(rows: int, *, seed: int) -> "np.ndarray":
    """The numbers from 0 to `rows` in the order that `hindcast.datasets` gives for a seed, on every machine.

    Each number is sorted by 64 bits of a SHA-256 keyed by the seed, taken four at a time.
    """
    numpy = load("numpy")
    key = hashlib.sha256(b"hindcast shuffle %d" % seed)
    blocks = []
    for number in range(-(-rows // 4)):
        block = key.copy()
        block.update(number.to_bytes(8, "big"))
        blocks.append(block.digest())
    words = numpy.frombuffer(b"".join(blocks), dtype=">u8")[:rows]
    return numpy.argsort(words, kind="stable")  # type: ignore[no-any-return]
