"""Columns that records are gathered in, as bytes: of their heads, and of the answers of a feature service.

This form says what the compiled one (`_plain`) means, and is what a machine without a C compiler runs. It reads no record by itself:
all of them go through `record.decode` and protobuf's messages.
"""

import struct
from collections.abc import Sequence
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np

from hindcast.lookups.record import HEADER_BYTES

Content: TypeAlias = bytes | memoryview
"""What was gathered, read only; the compiled form gives views of its memory."""


class Frames:
    """The records of a segment from its beginning on, as far as each is intact and of the sequence that must follow.

    The compiled form copies nothing: it keeps the segment.

    Attributes:
        count: how many there are.
        first_sequence: of the first one, from which those of the others go on.
        end: where the last one ends, or `begin`.
    """

    count: int
    first_sequence: int
    end: int

    def __init__(self, content: Content | mmap, *, seed: int, first_sequence: int, begin: int) -> None:  # noqa: ARG002 - reads none
        """Args:
        content: the segment.
        seed: `SegmentHeader.seed`.
        begin: where the first record stands.
        """
        self.count, self.first_sequence, self.end = 0, first_sequence, begin

    def payload(self, at: int) -> bytes:
        """What a record holds.

        Raises:
            IndexError: there are not so many.
        """
        raise IndexError(at)


class Reader:
    """Reads records of the plain form that workers write, and numbers what many of them have in common.

    Attributes:
        kinds: what records say from `catalog_version` to `message`, by number: a byte for the place of `rpc` in `Rpc`, and then
            the msgpack of these elements.
        tags: the msgpack of records' tags, by number.
        served_at_micros, has_answer: of the record read last.
        stored_rows: how many headers its first view has; -1 without one.
    """

    served_at_micros: int
    has_answer: bool
    stored_rows: int

    def __init__(self) -> None:
        self.kinds: list[bytes] = []
        self.tags: list[bytes] = []
        self._kind_numbers: dict[bytes, int] = {}
        self._tags_numbers: dict[bytes, int] = {}

    def read(self, payload: bytes) -> int:
        """Read a record.

        Returns:
            The number of its kind; -1 where it is not of the plain form, which says nothing about whether it can be read. Here no
            record is.
        """
        del payload
        return -1

    def read_frame(self, frames: Frames, at: int) -> int:
        """As `read`, of a record that stands in a segment.

        Raises:
            IndexError: there are not so many.
        """
        return self.read(frames.payload(at))

    def kind_number(self, kind: bytes) -> int:
        """The number of a kind, a new one if it has none."""
        return _number_of(kind, self._kind_numbers, self.kinds)

    def tags_number(self, tags: bytes) -> int:
        """The number of some tags, a new one if they have none."""
        return _number_of(tags, self._tags_numbers, self.tags)


def _number_of(key: bytes, numbers: dict[bytes, int], keys: list[bytes]) -> int:
    if key not in numbers:
        numbers[key] = len(keys)
        keys.append(key)
    return numbers[key]


class Heads:
    """What records say of themselves, by column.

    Attributes:
        count: how many there are.
    """

    def __init__(self, *, keeps_payloads: bool) -> None:
        self.count = 0
        self._keeps_payloads = keeps_payloads
        self._columns = {
            name: bytearray()
            for name in (
                *("lookup_ids", "served", "sequences", "rows", "stored", "kinds", "tags"),
                *("request_ends", "request_ids"),
            )
        }
        self._views, self._copies = bytearray(), bytearray()
        self._put(request_ends=0)

    def add_plain(self, reader: Reader, sequence: int, rows: int) -> None:  # noqa: ARG002 - there is nothing to add
        """Add the record that was read last.

        Raises:
            ValueError: none was, or it was not of the plain form.
        """
        raise ValueError("nothing was read")

    def add(
        self,
        *,
        lookup_id: bytes,
        served_at_micros: int,
        sequence: int,
        rows: int,
        stored_rows: int,
        kind: int,
        tags: int,
        request_id: bytes,
        payload: bytes,
    ) -> None:
        """Add a record.

        Args:
            stored_rows: as a `Reader` says it.
            kind, tags: their numbers with a `Reader`.
            request_id: in UTF-8.
        Raises:
            ValueError: the lookup's id has not 16 bytes.
        """
        if len(lookup_id) != 16:
            raise ValueError("a lookup's id has 16 bytes")
        columns = self._columns
        columns["lookup_ids"] += lookup_id
        columns["served"] += struct.pack("=q", served_at_micros)
        columns["sequences"] += struct.pack("=q", sequence)
        columns["request_ids"] += request_id
        self._put(rows=rows, stored=stored_rows, kinds=kind, tags=tags, request_ends=len(columns["request_ids"]))
        if self._keeps_payloads:
            self._views += _view(payload, len(self._copies))
            if len(payload) > _VIEW_INLINE_MAX:
                self._copies += payload
        self.count += 1

    def _put(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self._columns[name] += struct.pack("=i", number)

    def take(self) -> dict[str, Content]:
        """The columns, of n records; nothing can be added after that.

        Returns:
            `lookup_ids`, 16 bytes each; `served` and `sequences`, numbers of 64 bits in the machine's order; `rows`, `stored`, `kinds`
            and `tags`, numbers of 32 bits; `request_ids`, one behind the other, with `request_ends`, 0 and then where each ends, as
            numbers of 32 bits.
        """
        return {name: bytes(column) for name, column in self._columns.items()}

    def take_payloads(self) -> tuple[Content, Sequence[Content | mmap]]:
        """The payloads as Arrow's views of binaries, and the buffers that these are of: the compiled form's are of segments too."""
        return bytes(self._views), [bytes(self._copies)]


_VIEW_INLINE_MAX = 12


def _view(payload: bytes, at: int) -> bytes:
    if len(payload) <= _VIEW_INLINE_MAX:
        return struct.pack("=i12s", len(payload), payload)
    return struct.pack("=i4sii", len(payload), payload[:4], 0, at)


class _Column:
    __slots__ = ("lengths", "statuses", "values")

    def __init__(self) -> None:
        self.values = bytearray()
        self.lengths = bytearray()
        self.statuses = bytearray()

    def put(self, values: Sequence[bytes]) -> None:
        self.values += b"".join(values)
        self.lengths += struct.pack(f"={len(values)}i", *map(len, values))


class Answers:
    """Answers of a feature service, by column.

    Attributes:
        rows: entity rows that there are.
    """

    def __init__(
        self, features: int, *, views: list[bytes], inputs: list[bytes], aliases: list[tuple[bytes, int]]
    ) -> None:
        """Args:
        features: columns that an answer has, at least one; more that stand before them do not count.
        views: names of views, in UTF-8.
        inputs: names of join keys and request data.
        aliases: other names of inputs, and the places of these; where an input was not sent the first alias that was stands for it.
        """
        if features < 1:
            raise ValueError("an answer has columns")
        for _, at in aliases:
            if not 0 <= at < len(inputs):
                raise IndexError(at)
        self.rows = 0
        self._features = [_Column() for _ in range(features)]
        self._inputs = [_Column() for _ in inputs]
        self._headers = [bytearray() for _ in views]

    def add_plain(self, reader: Reader) -> int:  # noqa: ARG002 - there is nothing to add
        """Add the answer of the record that was read last.

        Returns:
            Its entity rows; -1 where it is not of the plain form or has not these columns, and nothing was added.
        Raises:
            ValueError: no record was read, or it was not of the plain form.
        """
        raise ValueError("nothing was read")

    def add_run(
        self, reader: Reader, frames: Frames, at: int, *, heads: Heads, records: Heads, payload_bytes_max: int
    ) -> tuple[int, int, int]:
        """Add a record's answer, and those of the records behind it that are of its kind and day.

        Args:
            at: the first one's place.
            heads, records: what the records say of themselves is added to both.
            payload_bytes_max: no further one is added to records that have so many bytes.
        Returns:
            How many records that were, the entity rows of their answers, and their bytes: 0 of each where the first one is not to be
            read so (`add_plain`).
        """
        del reader, frames, at, heads, records, payload_bytes_max
        return 0, 0, 0

    def add(
        self,
        rows: int,
        *,
        values: Sequence[Sequence[bytes]],
        statuses: Sequence[bytes],
        inputs: Sequence[Sequence[bytes]],
        headers: Sequence[bytes],
    ) -> None:
        """Add an answer.

        Args:
            values, statuses: per feature a serialized Value and a number for each row.
            inputs: per input a serialized Value for each row.
            headers: per view 42 bytes for each row.
        Raises:
            ValueError: there are not as many of something; nothing was added.
        """
        if not len(values) == len(statuses) == len(self._features) or (len(inputs), len(headers)) != (
            len(self._inputs),
            len(self._headers),
        ):
            raise ValueError("an answer has not the columns of these")
        if any(len(one) != rows for columns in (values, statuses, inputs) for one in columns):
            raise ValueError("columns of one answer differ in length")
        if any(len(one) != rows * HEADER_BYTES for one in headers):
            raise ValueError("a view has not a header for each row")
        for column, of_feature, of_column in zip(self._features, values, statuses, strict=True):
            column.put(of_feature)
            column.statuses += of_column
        for column, of_input in zip(self._inputs, inputs, strict=True):
            column.put(of_input)
        for into, of_view in zip(self._headers, headers, strict=True):
            into.extend(of_view)
        self.rows += rows

    def take_feature(self, at: int) -> tuple[Content, Content, Content]:
        """A feature's values one behind the other, the length of each as a number of 32 bits in the machine's order, and its statuses.

        Nothing can be added after that, and it is there once.
        """
        column = self._features[at]
        self._features[at] = _Column()
        return bytes(column.values), bytes(column.lengths), bytes(column.statuses)

    def take_input(self, at: int) -> tuple[Content, Content]:
        """As `take_feature`, of an input, which has no statuses."""
        column = self._inputs[at]
        self._inputs[at] = _Column()
        return bytes(column.values), bytes(column.lengths)

    def take_headers(self, at: int) -> Content:
        """The headers of a view, 42 bytes for each row."""
        headers, self._headers[at] = self._headers[at], bytearray()
        return bytes(headers)


_SHORT_MAX = 0x7F
"""Content of at most so many bytes has one byte of length before it; a byte of more is not the last one of a varint."""
_VARINT_BYTES_MAX = 10


def integers(content: Content, lengths: Content, *, tag: int) -> Content | None:
    """Serialized Values that are a tag and a varint, as numbers.

    Args:
        content: the Values, one behind the other.
        lengths: of each, as a number of 32 bits in the machine's order; 0 for none.
    Returns:
        Numbers of 64 bits in the machine's order, 0 for no Value; None where some Value is of another form.
    """
    data, sizes = np.frombuffer(content, np.uint8), np.frombuffer(lengths, np.int32).astype(np.int64)
    there = sizes > 0
    starts, of_there = (np.cumsum(sizes) - sizes)[there], sizes[there] - 1
    read: Any = np.zeros(len(sizes), np.uint64)
    if of_there.size:
        longest = int(of_there.max())
        if int(of_there.min()) < 1 or longest > _VARINT_BYTES_MAX or not bool((data[starts] == tag).all()):
            return None
        found: Any = np.zeros(len(of_there), np.uint64)
        for at in range(longest):
            has = of_there > at
            part = data[starts[has] + 1 + at]
            if not bool(((part > _SHORT_MAX) == (of_there[has] - 1 > at)).all()):
                return None
            found[has] |= (part & _SHORT_MAX).astype(np.uint64) << np.uint64(7 * at)
        read[there] = found
    packed: bytes = read.tobytes()
    return packed


def texts(content: Content, lengths: Content, *, tag: int) -> tuple[Content, Content] | None:
    """Serialized Values that are a tag, a byte of length and so many bytes, as these bytes.

    Args:
        content, lengths: as of `integers`.
    Returns:
        0 and where each ends, as numbers of 32 bits in the machine's order, and the bytes, one behind the other; None where some Value
        is of another form.
    """
    data, sizes = np.frombuffer(content, np.uint8), np.frombuffer(lengths, np.int32).astype(np.int64)
    there = sizes > 0
    starts, of_there = (np.cumsum(sizes) - sizes)[there], sizes[there] - 2
    if not bool(((of_there >= 0) & (of_there <= _SHORT_MAX)).all()):
        return None
    if not bool((data[starts] == tag).all() and (data[starts + 1] == of_there).all()):
        return None
    is_content: Any = np.ones(len(data), np.bool_)
    is_content[starts] = is_content[starts + 1] = False
    ends: Any = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(np.where(there, sizes - 2, 0), out=ends[1:])
    return ends.tobytes(), data[is_content].tobytes()
