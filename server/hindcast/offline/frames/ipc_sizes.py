"""What the compressed buffers of an Arrow IPC stream come to, told before anything is decompressed.

Arrow takes as much memory as a buffer says that it needs. The format: a message is a flatbuffer (Message.fbs) that says where its buffers are, and
a compressed buffer begins with its length when it is not (https://arrow.apache.org/docs/format/Columnar.html#compression).
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

_DICTIONARY, _BATCH = 2, 3
"""Kinds of headers."""
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_DATA = 1
_BUFFERS, _COMPRESSION = 2, 3
"""Numbers of fields, in the order in which the tables declare them."""
_IS_PLAIN = -1
"""Instead of a length: the buffer is not compressed."""


class MessageSize(NamedTuple):
    """What a message's compressed buffers come to.

    Attributes:
        stays: it is a dictionary, which is in memory until the stream ends or another takes its place.
        bytes: 0 where nothing is compressed.
    """

    stays: bool
    bytes: int


def message_sizes(file: Any) -> Iterator[MessageSize]:
    """The sizes of a stream's messages, in their order.

    Args:
        file: the stream, from its beginning; of each buffer 8 bytes are read.
    Raises:
        pa.ArrowException, OSError: it is no stream; Arrow has checked of each message that its flatbuffer is one.
        ValueError: its buffers are not where it says.
    """
    reader = pa.ipc.MessageReader.open_stream(file)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        try:
            yield _size(memoryview(message.metadata), message.body)
        except (struct.error, IndexError) as error:
            raise ValueError("a message of the stream points behind its own end") from error


def _size(metadata: memoryview, body: pa.Buffer | None) -> MessageSize:
    root = _Table.at(metadata, 0)
    kind = root.byte(_HEADER_TYPE)
    if body is None or kind not in {_DICTIONARY, _BATCH}:
        return MessageSize(stays=False, bytes=0)
    batch = root.table(_HEADER)
    if batch is not None and kind == _DICTIONARY:
        batch = batch.table(_DICTIONARY_DATA)
    if batch is None or batch.place(_COMPRESSION) is None:
        return MessageSize(stays=False, bytes=0)
    content = memoryview(body)
    count = 0
    for offset, length in batch.pairs(_BUFFERS):
        if length > 0:
            (plain,) = struct.unpack_from("<q", content, offset)
            if plain < _IS_PLAIN:
                raise ValueError("a compressed buffer has no length that can be")
            count += length if plain == _IS_PLAIN else plain
    return MessageSize(stays=kind == _DICTIONARY, bytes=count)


class _Table(NamedTuple):
    """A table of a flatbuffer: its fields are where a list of offsets says."""

    content: memoryview
    begin: int

    @classmethod
    def at(cls, content: memoryview, place: int) -> "_Table":
        """The table that a reference points to."""
        return cls(content, place + struct.unpack_from("<I", content, place)[0])

    def place(self, field: int) -> int | None:
        """Where a field is; None where it is not given."""
        fields = self.begin - struct.unpack_from("<i", self.content, self.begin)[0]
        at = 4 + 2 * field
        if at >= struct.unpack_from("<H", self.content, fields)[0]:
            return None
        offset = struct.unpack_from("<H", self.content, fields + at)[0]
        return self.begin + int(offset) if offset else None

    def byte(self, field: int) -> int:
        """A field of one byte; 0 where it is not given."""
        place = self.place(field)
        return 0 if place is None else self.content[place]

    def table(self, field: int) -> "_Table | None":
        """A field that is a table."""
        place = self.place(field)
        return None if place is None else _Table.at(self.content, place)

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """A field that is a list of two numbers of 8 bytes each."""
        place = self.place(field)
        if place is not None:
            begin = place + struct.unpack_from("<I", self.content, place)[0]
            count = struct.unpack_from("<I", self.content, begin)[0]
            yield from struct.iter_unpack("<qq", self.content[begin + 4 : begin + 4 + 16 * count])
