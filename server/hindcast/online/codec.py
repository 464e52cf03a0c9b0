"""The narrow waist: packed rows and answers, bytes in and bytes out. Nothing here knows Redis, gRPC or the catalog.

A packed row is a 42-byte header and a msgpack array (docs/formats.md):

    offset  bytes  content
    0       8      event_ts, microseconds since 1970, big-endian with the sign bit flipped
    8       8      created_ts, the same; all zero where it is null, so that null sorts first
    16      1      format version, 2
    17      1      1 if some value is a null, else 0
    18      8      schema id
    26      16     run id
    42      …      msgpack array: event_ts as a serialized google.protobuf.Timestamp, as it goes into answers, and then a
                   serialized `feast.types.Value`, or nil for a null, per field of the schema

The first 16 bytes compare as unsigned bytes like the total order `(event_ts, created_ts)`, which is all that the
newest-wins script looks at.

An answer is spliced from values as they are stored. Few rows are joined by hand, because a message a column would cost more than
its content (1 x 50: 6 us against 55); for many rows protobuf's C code frames the values (100 x 50: 160 us against 330).
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.errors import StoredDataError
from hindcast.shadow.v1 import shadow_pb2

_HEADER = struct.Struct(">QQBB8s16s")
_HEADER_BYTES = _HEADER.size
_FORMAT = 2
_SIGN = 1 << 63
_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_800_000_000

NULLS = frozenset({b"", b"\x98\x01\x00"})
"""A Value with nothing set, and one with `null_val` set, which some writers send."""

_DAMAGED = "a stored row is damaged; materialize its view again"

ORDER_BYTES = 16
"""Length of the part that the newest-wins script compares."""

_encode_entries = msgspec.msgpack.Encoder().encode
_decode_with_nulls = msgspec.msgpack.Decoder(list[bytes | None]).decode
_decode_values: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[bytes]).decode


class PackedRow(NamedTuple):
    """One row as stored.

    Attributes:
        event_micros: when the row was true.
        created_micros: when it became known; None where the source does not say.
        schema_id: 8 bytes, names the field list of `values`.
        run_id: 16 bytes, the materialization or push that wrote it.
        values: a serialized Value per field, None for a null.
    """

    event_micros: int
    created_micros: int | None
    schema_id: bytes
    run_id: bytes
    values: list[bytes | None]


class RowKind(NamedTuple):
    """What a reader must know of a row before its values: cut out of the header as it stands there."""

    has_nulls: bool
    schema_id: bytes


def pack_row(
    *, event_micros: int, created_micros: int | None, schema_id: bytes, run_id: bytes, values: Sequence[bytes | None]
) -> bytes:
    """Pack a row. A Value that is empty or says `null_val` is a null and is stored as one.

    Raises:
        OverflowError: event_ts is outside the years 1 to 9999.
        struct.error: created_ts is outside 64 bits of microseconds.
    """
    entries: list[bytes | None] = [_event_bytes(event_micros)]
    entries += [None if value in NULLS else value for value in values]
    return _HEADER.pack(
        event_micros + _SIGN,
        0 if created_micros is None else created_micros + _SIGN,
        _FORMAT,
        None in entries,
        schema_id,
        run_id,
    ) + _encode_entries(entries)


def unpack_row(packed: bytes) -> PackedRow:
    """Unpack what `pack_row` packed.

    Raises:
        StoredDataError: these bytes are not a packed row of a format this version knows.
    """
    (kind,) = row_kinds([packed])
    has_nulls, schema_id = read_kind(kind)
    ((time, *values),) = unpack_entries([packed], has_nulls=has_nulls)
    event, created, *_, run_id = _HEADER.unpack_from(packed)
    try:
        agrees = time == timestamp_bytes(event - _SIGN) and has_nulls == (None in values)
    except OverflowError as error:
        raise StoredDataError(_DAMAGED) from error
    if not agrees:
        raise StoredDataError(_DAMAGED)
    return PackedRow(event - _SIGN, created - _SIGN if created else None, schema_id, run_id, values)


def row_kinds(stored: Iterable[bytes]) -> list[bytes]:
    """Per row the part of its header that `read_kind` reads; rows of one view mostly share it."""
    return [packed[16:26] for packed in stored]


def read_kind(kind: bytes) -> RowKind:
    """What `row_kinds` cut out.

    Raises:
        StoredDataError: the row is damaged or of a format this version does not know.
    """
    if len(kind) != 10 or kind[1] > 1:
        raise StoredDataError(_DAMAGED)
    if kind[0] != _FORMAT:
        raise StoredDataError(
            f"a stored row has format {kind[0]}, this version reads {_FORMAT}; materialize its view again"
        )
    return RowKind(bool(kind[1]), kind[2:])


def unpack_entries(stored: Iterable[bytes], *, has_nulls: bool) -> list[list[Any]]:
    """Per row its event time as a serialized Timestamp, and then its values, None for a null.

    Args:
        has_nulls: whether a row among them says that it holds one.
    Raises:
        StoredDataError: a row is damaged.
    """
    decode = _decode_with_nulls if has_nulls else _decode_values
    try:
        return [decode(packed[_HEADER_BYTES:]) for packed in stored]
    except msgspec.DecodeError as error:
        raise StoredDataError(_DAMAGED) from error


def oldest_micros(stored: Iterable[bytes]) -> int:
    """The event time of the oldest of some rows, in microseconds since 1970: headers sort like time."""
    return int.from_bytes(min(stored)[:8], "big") - _SIGN


def timestamp_bytes(micros: int) -> bytes:
    """A serialized google.protobuf.Timestamp; never empty, so that 1970 can be told from no time at all.

    Raises:
        OverflowError: outside the years 1 to 9999, which are what one can say.
    """
    if not _EARLIEST <= micros < _LATEST:
        raise OverflowError("a time outside the years 1 to 9999")
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString() or EPOCH


EPOCH = b"\x08\x00"
"""1970-01-01T00:00:00Z, as a Timestamp that says its zero."""


@lru_cache(maxsize=4096)
def timestamp_micros(time: bytes) -> int:
    """Microseconds since 1970 of a serialized google.protobuf.Timestamp, rounded down.

    Raises:
        StoredDataError: it is not one.
    """
    try:
        parsed = Timestamp.FromString(time)
    except DecodeError as error:
        raise StoredDataError(_DAMAGED) from error
    return parsed.seconds * 1_000_000 + parsed.nanos // 1000


_event_bytes = lru_cache(maxsize=4096)(timestamp_bytes)
"""Rows of one batch often share their event time."""


class Block(NamedTuple):
    """Neighbouring columns of an answer that come from one place.

    Attributes:
        columns: n serialized Values each, b"" for a null.
        statuses: per column n statuses, a byte each; one entry if all columns have the same.
        times: n serialized Timestamps of the rows that they were read from; None for what was not stored.
        view_index: position among the answer's views; None for what was not stored.
    """

    names: Sequence[str]
    columns: Sequence[Sequence[bytes]]
    statuses: list[bytes]
    times: Sequence[bytes] | None
    view_index: int | None

    def statuses_by_column(self) -> list[bytes]:
        """One entry of statuses per column, even if all have the same."""
        return self.statuses if len(self.statuses) > 1 else self.statuses * len(self.columns)


class _Heads(dict[int, bytes]):
    """Tag and length of a length-delimited field, by the length; the usual lengths are remembered."""

    def __init__(self, field: int) -> None:
        super().__init__()
        self._tag = _varint(field << 3 | 2)

    def __missing__(self, length: int) -> bytes:
        head = self._tag + _varint(length)
        if length < _HEADS_MAX:
            self[length] = head
        return head


_HEADS_MAX = 16_384


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_JOINED_ROWS_MAX = 4
"""Up to this many rows a column is joined by hand; measured where the two ways cost the same."""

_FEAST_METADATA, _FEAST_RESULT, _FEAST_VALUE = _Heads(1), _Heads(2), _Heads(1)
_COLUMN, _COLUMN_NAME, _COLUMN_VALUE = _Heads(5), _Heads(1), _Heads(2)


def splice_feast(metadata: bytes, blocks: Iterable[Block], *, statuses: bytes) -> bytes:
    """A serialized `feast.serving.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        metadata: the serialized response metadata that names the columns.
        blocks: one column per name.
        statuses: 256 bytes, what each status becomes in Feast's words.
    """
    parts = [_FEAST_METADATA[len(metadata)], metadata]
    for block in blocks:
        tails = {
            of_column: shadow_pb2.FeastVector(
                statuses=of_column.translate(statuses),
                event_timestamps=[b""] * len(of_column) if block.times is None else block.times,
            ).SerializeToString()
            for of_column in dict.fromkeys(block.statuses)
        }
        if len(block.statuses) == 1 and len(block.statuses[0]) == 1:
            (tail,) = tails.values()
            heads = _one_value_heads(len(tail))
            parts += [part for (value,) in block.columns for part in (heads[len(value)], value, tail)]
            continue
        for column, of_column in zip(block.columns, block.statuses_by_column(), strict=True):
            tail = tails[of_column]
            if len(column) <= _JOINED_ROWS_MAX:
                values = _joined(_FEAST_VALUE, column)
            else:
                values = shadow_pb2.FeastVector(values=column).SerializeToString()
            parts += (_FEAST_RESULT[len(values) + len(tail)], values, tail)
    return b"".join(parts)


class _OneValueHeads(dict[int, bytes]):
    """What stands before the value of a result of one row, by the value's length."""

    def __init__(self, tail_bytes: int) -> None:
        super().__init__()
        self._tail_bytes = tail_bytes

    def __missing__(self, length: int) -> bytes:
        of_value = _FEAST_VALUE[length]
        head = _FEAST_RESULT[len(of_value) + length + self._tail_bytes] + of_value
        if length < _HEADS_MAX:
            self[length] = head
        return head


_one_value_heads = lru_cache(maxsize=64)(_OneValueHeads)
"""A tail of one row has a few lengths, that of its time decides."""


def splice_hindcast(
    *,
    lookup_id: str,
    catalog_version: str,
    served_at: bytes,
    views: Iterable[tuple[str, Sequence[bytes]]],
    blocks: Iterable[Block],
) -> bytes:
    """A serialized `hindcast.v1.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        served_at: a serialized Timestamp.
        views: name and n serialized Timestamps each.
    """
    answer = shadow_pb2.HindcastResponse(lookup_id=lookup_id, catalog_version=catalog_version, served_at=served_at)
    for view, times in views:
        answer.views.add(view=view, event_timestamps=times)
    parts = [answer.SerializeToString()]
    for block in blocks:
        tails = {
            of_column: shadow_pb2.HindcastColumn(statuses=of_column, view_index=block.view_index).SerializeToString()
            for of_column in dict.fromkeys(block.statuses)
        }
        for name, column, of_column in zip(block.names, block.columns, block.statuses_by_column(), strict=True):
            tail = tails[of_column]
            if len(column) <= _JOINED_ROWS_MAX:
                values = _joined(_COLUMN_VALUE, column)
            else:
                values = shadow_pb2.HindcastColumn(values=column).SerializeToString()
            named = _name_bytes(name)
            parts += (_COLUMN[len(named) + len(values) + len(tail)], named, values, tail)
    return b"".join(parts)


def _joined(heads: _Heads, values: Sequence[bytes]) -> bytes:
    return b"".join([part for value in values for part in (heads[len(value)], value)])


@lru_cache(maxsize=65_536)
def _name_bytes(name: str) -> bytes:
    encoded = name.encode()
    return _COLUMN_NAME[len(encoded)] + encoded
