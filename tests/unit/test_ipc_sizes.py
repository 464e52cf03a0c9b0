"""What compressed buffers of an Arrow stream come to."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast.offline.frames.ipc_sizes import MessageSize, message_sizes


def stream(codec: str | None) -> bytes:
    """A batch of numbers, text and a dictionary, twice."""
    rows = pa.record_batch(
        {
            "number": pa.array([0] * 10_000, pa.int64()),
            "text": pa.array(["x"] * 10_000),
            "word": pa.array(["yes", "no"] * 5_000).dictionary_encode(),
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write(rows)
        writer.write(rows)
    return sink.getvalue()


# Of numbers, of offsets and of text, and of the dictionary's places.
BATCH_BYTES = 8 * 10_000 + 4 * 10_001 + 10_000 + 4 * 10_000
DICTIONARY_BYTES = 4 * 3 + len("yesno")


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_told_by_what_they_come_to(codec):
    """Each message has the bytes of its buffers when they are not compressed, and a dictionary stays."""
    batch = MessageSize(stays=False, bytes=BATCH_BYTES)
    assert [
        MessageSize(stays=False, bytes=0),
        MessageSize(stays=True, bytes=DICTIONARY_BYTES),
        batch,
        batch,
    ] == list(message_sizes(pa.BufferReader(stream(codec))))


def test_plain_buffers_come_to_nothing_more():
    """A stream without compression has nothing that could become larger."""
    assert {0} == {size.bytes for size in message_sizes(pa.BufferReader(stream(None)))}


COMPRESSED = stream("zstd")


@given(at=st.integers(0, len(COMPRESSED) - 1), byte=st.integers(0, 255))
def test_a_damaged_stream_has_sizes_or_is_refused(at, byte):
    """Whatever one byte of a stream is changed to, there are sizes, or an error that says it is none."""
    damaged = bytearray(COMPRESSED)
    damaged[at] = byte
    try:
        sizes = list(message_sizes(pa.BufferReader(bytes(damaged))))
    except (pa.ArrowException, OSError, ValueError):
        return
    assert all(size.bytes >= 0 for size in sizes)
