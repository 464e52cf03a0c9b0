"""Entity frames that somebody sent as an Arrow IPC stream, in a file here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hindcast.errors import InvalidArgument, Overloaded
from hindcast.offline.frames.bounds import bounded, bounded_memory, check_shape
from hindcast.offline.frames.held import SpooledRows
from hindcast.offline.frames.ipc_sizes import message_sizes

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
            with pa.memory_map(str(sent.path)) as file:
                _check_sizes(file, bytes_max=min(memory_bytes, sent.bytes_max))
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


def _check_sizes(file: Any, *, bytes_max: int) -> None:
    """Refuse what would come to more than a batch may have: 50 kB of zstd were 1.5 GB."""
    dictionaries = 0
    for size in message_sizes(file):
        dictionaries += size.bytes if size.stays else 0
        if max(size.bytes, dictionaries) > bytes_max:
            raise Overloaded(
                "memory",
                f"the rows that were sent have compressed buffers that come to more than {bytes_max:,} bytes of memory in one batch, or in "
                "dictionaries; send smaller batches",
            )


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
