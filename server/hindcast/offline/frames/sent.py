"""Entity frames that somebody sent as an Arrow IPC stream, in a file here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hindcast.errors import InvalidArgument
from hindcast.offline.frames.bounds import bounded, bounded_memory, check_shape
from hindcast.offline.frames.held import SpooledRows

_SPARE_BYTES = 2**30
"""Beside the memory of a read: a batch, and the plain form of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRows:
    """Rows as they were sent, of which nothing is known yet.

    Attributes:
        path: of the stream.
        field: of the request, that had it.
        bytes_max: of its rows, as Arrow has them.
    """

    path: Path
    field: str
    bytes_max: int


def spooled_sent(sent: SentRows, *, spilled: Path, memory_bytes: int) -> SpooledRows:
    """Sent rows, checked and set aside in the directory `spilled`.

    Raises:
        InvalidArgument: they are no Arrow IPC stream, or are not what it says.
        Overloaded: they come to more bytes than they may, or reading a batch of them takes more memory than it may: compressed
            buffers and run ends can be small and become large.
        StoreUnavailable: the disk did not take them.
    """
    with bounded_memory(memory_bytes + _SPARE_BYTES):
        try:
            with pa.memory_map(str(sent.path)) as file, pa.ipc.open_stream(file) as stream:
                check_shape(stream.schema)
                batches = bounded(_checked(stream, sent), sent.bytes_max, what="the rows that were sent have")
                return SpooledRows.of(batches, stream.schema.remove_metadata(), spilled / "rows.arrow")
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InvalidArgument.at(
                sent.field, "is no Arrow IPC stream; write it by pyarrow.ipc.new_stream, not as a file"
            ) from error


def _checked(stream: pa.RecordBatchReader, sent: SentRows) -> Iterator[pa.RecordBatch]:
    """The batches, each held against its own lengths and offsets: reading on behind a wrong one would crash the process."""
    while True:
        try:
            batch = stream.read_next_batch()
            batch.validate(full=True)
        except StopIteration:
            return
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InvalidArgument.at(
                sent.field,
                "breaks off, or has lengths and offsets that are not its rows'; send it anew as pyarrow wrote it",
            ) from error
        yield batch.replace_schema_metadata()
