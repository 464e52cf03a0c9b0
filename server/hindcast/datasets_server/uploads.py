"""Entity frames and labels that callers send: an Arrow IPC stream in pieces, set aside on disk and read from there."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from hindcast.errors import InvalidArgument, Overloaded, StoreUnavailable


class Upload:
    """Rows as they come in. They are written to a file, so that they are not in memory as a whole."""

    def __init__(self, path: Path, *, field: str, bytes_max: int) -> None:
        """Args: field: of the request, that has the pieces."""
        self._path = path
        self._field = field
        self._bytes_max = bytes_max
        self._bytes = 0
        self._file = path.open("xb")

    def add(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            Overloaded: these are more than the server takes.
            StoreUnavailable: the disk did not take them.
        """
        self._bytes += len(piece)
        if self._bytes > self._bytes_max:
            raise Overloaded(
                "frame",
                f"the rows that were sent have more than the {self._bytes_max:,} bytes that are taken here; put them where the server can read them, and give the path",
            )
        try:
            self._file.write(piece)
        except OSError as error:
            raise StoreUnavailable("the disk did not take the rows that were sent; check the space on it") from error

    def close(self) -> None:
        """There are no more, or they are not wanted any more."""
        self._file.close()

    def reader(self) -> pa.RecordBatchReader:
        """The rows, once it is closed.

        Raises:
            InvalidArgument: it is no Arrow IPC stream.
        """
        try:
            stream = pa.ipc.open_stream(pa.memory_map(str(self._path)))
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgument.at(
                self._field, "is no Arrow IPC stream; write it by pyarrow.ipc.new_stream, not as a file"
            ) from error
        return pa.RecordBatchReader.from_batches(stream.schema, _checked(stream))


def _checked(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches, each held against its own lengths and offsets: reading on behind a wrong one would crash the process."""
    for batch in stream:
        batch.validate(full=True)
        yield batch
