"""Canonical bytes of columns (docs/formats.md), without a copy where Arrow lays a column out in the same way.

A column of a few blocks is read into a `Column` once, and then written block by block. A block can lie in several pieces, where batches end
inside of it, so what writes takes pieces of one column after another.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.column_types import is_list
from hindcast.errors import InvalidArgument

_VALUE_BYTES_MAX = 2**32 - 1
_NO_NULLS, _NULLS = b"\x00", b"\x01"
_FULL_BYTE = b"\xff"


class Column(Protocol):
    """Rows of a column, ready to be written."""

    def write(self, pieces: "Sequence[Piece]", out: Callable[[Any], None]) -> None:
        """Hand out the canonical bytes of pieces of columns of this kind, as of one column."""


class Piece(NamedTuple):
    """Rows of a column."""

    column: Any
    start: int
    stop: int


Reader = Callable[[pa.Array], Column]


class _Bits:
    """A bit for each of n rows, least significant first."""

    def __init__(self, data: Any, offset: int, rows: int) -> None:
        """Take the bits of the rows from any bit of the data on."""
        taken = np.frombuffer(data, np.uint8)[offset // 8 : (offset + rows + 7) // 8]
        # Blocks then begin with a byte, in slices of batches too.
        self._data = _packed(_unpacked(taken)[offset % 8 :][:rows]) if offset % 8 or rows % 8 else taken.tobytes()

    def unpacked(self, start: int, stop: int) -> Any:
        """A byte for each row, 0 or 1."""
        return _unpacked(np.frombuffer(self._data, np.uint8)[start // 8 : (stop + 7) // 8])[start % 8 :][: stop - start]

    def packed(self, start: int, stop: int) -> bytes:
        """The rows' bits from the first bit of a byte on, zeros behind them."""
        if start % 8 or stop % 8:
            return _packed(self.unpacked(start, stop))
        return self._data[start // 8 : stop // 8]


def _packed(bits: Any) -> bytes:
    return bytes(np.packbits(bits, bitorder="little"))


def _unpacked(data: Any) -> Any:
    return np.unpackbits(data, bitorder="little")


def _joined(pieces: Sequence[tuple[_Bits | None, int, int]]) -> bytes:
    """The packed bits of pieces, as of one; all set where there are none."""
    if len(pieces) == 1 and pieces[0][0] is not None:
        bits, start, stop = pieces[0]
        return bits.packed(start, stop)
    unpacked = [
        np.ones(stop - start, np.uint8) if bits is None else bits.unpacked(start, stop) for bits, start, stop in pieces
    ]
    return _packed(np.concatenate(unpacked))


class _Valid:
    """Which rows have a value.

    Attributes:
        bits: None where all have.
    """

    def __init__(self, array: pa.Array) -> None:
        rows = len(array)
        self.bits = _Bits(array.buffers()[0], array.offset, rows) if array.null_count else None
        self._rows = rows

    def unpacked(self) -> Any:
        """A byte for each row, 0 or 1."""
        return np.ones(self._rows, np.uint8) if self.bits is None else self.bits.unpacked(0, self._rows)


def _write_valid(pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
    if all(column.valid.bits is None for column, _, _ in pieces):
        out(_NO_NULLS)
        return
    packed = _joined([(column.valid.bits, start, stop) for column, start, stop in pieces])
    rows = sum(stop - start for _, start, stop in pieces)
    full, left = divmod(rows, 8)
    is_full = packed.count(_FULL_BYTE) >= full and (not left or packed[-1] == (1 << left) - 1)
    out(_NO_NULLS if is_full else _NULLS + packed)


class _Nulls:
    """Of the type null: no bytes at all."""

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Nothing."""


class _Fixed:
    """Values of one width, zeros under nulls."""

    def __init__(self, array: pa.Array, width: int) -> None:
        self.valid, self.width = _Valid(array), width
        rows = len(array)
        data = array.buffers()[1]
        self.data: Any = memoryview(data or b"")[array.offset * width : (array.offset + rows) * width]
        if self.valid.bits is not None and width:
            values = np.frombuffer(self.data, np.uint8).copy()
            # Whole words are set to zero about eight times as fast as bytes.
            words = values.view(f"u{width}") if width in {1, 2, 4, 8} else values.reshape(rows, width)
            words[self.valid.unpacked() == 0] = 0
            self.data = memoryview(values)

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, then n times the width."""
        _write_valid(pieces, out)
        for column, start, stop in pieces:
            out(column.data[start * self.width : stop * self.width])


class _Bools:
    """A bit for each value, zero under nulls."""

    def __init__(self, array: pa.Array) -> None:
        self.valid = _Valid(array)
        rows = len(array)
        self.bits = _Bits(array.buffers()[1] or b"", array.offset, rows)
        if self.valid.bits is not None:
            self.bits = _Bits(_packed(self.bits.unpacked(0, rows) & self.valid.unpacked()), 0, rows)

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, then n bits."""
        _write_valid(pieces, out)
        out(_joined([(column.bits, start, stop) for column, start, stop in pieces]))


class _Texts:
    """Values of any length, none under nulls."""

    def __init__(self, array: pa.Array) -> None:
        self.valid = _Valid(array)
        ends = _offsets(array)
        lengths = np.diff(ends)
        if self.valid.bits is not None and lengths[self.valid.unpacked() == 0].any():
            array = pc.fill_null(array, pa.scalar(b"", pa.large_binary()).cast(array.type))
            ends = _offsets(array)
            lengths = np.diff(ends)
        self.ends = ends
        self.lengths = _lengths(lengths)
        self.data = memoryview(array.buffers()[2] or b"")

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, n lengths, and the bytes one after another."""
        _write_valid(pieces, out)
        for column, start, stop in pieces:
            out(column.lengths[start:stop])
        for column, start, stop in pieces:
            out(column.data[column.ends[start] : column.ends[stop]])


class _Nested:
    """Lists, maps and structs: the values of all rows that are no nulls, one after another, are columns of their own.

    Attributes:
        lengths: of lists; None where all rows have as many.
        ends: n + 1 places in the inner columns.
    """

    def __init__(self, valid: _Valid, lengths: Any, ends: Any, inner: Sequence[Column]) -> None:
        self.valid, self.lengths, self.ends, self.inner = valid, lengths, ends, inner

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, n lengths if they differ, and the inner columns."""
        _write_valid(pieces, out)
        if self.lengths is not None:
            for column, start, stop in pieces:
                out(column.lengths[start:stop])
        for place, inner in enumerate(self.inner):
            inner.write(
                [
                    Piece(column.inner[place], int(column.ends[start]), int(column.ends[stop]))
                    for column, start, stop in pieces
                ],
                out,
            )


def _offsets(array: pa.Array) -> Any:
    """The n + 1 offsets of an array of text, bytes, lists or maps."""
    kind = array.type
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_list(kind)
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros(len(array) + 1, np.int64)
    return np.frombuffer(data, np.int64 if is_large else np.int32)[array.offset : array.offset + len(array) + 1]


def _lengths(lengths: Any) -> Any:
    if len(lengths) and lengths.max() > _VALUE_BYTES_MAX:
        raise InvalidArgument.at("value", "has 4 GiB or more, which a training set cannot hold")
    return lengths.astype(np.uint32)


def _ends(counts: Any) -> Any:
    ends: Any = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends


def readers(schema: pa.Schema) -> list[Reader]:
    """What reads each column of a schema that `column_types.canonical_schema` knows."""
    return [_reader(kind) for kind in schema.types]


def _reader(kind: pa.DataType) -> Reader:  # noqa: C901, PLR0911 - one line a type
    """What reads arrays of a type that `_type_text` knows."""
    types = pa.types
    if types.is_null(kind):
        return lambda _: _Nulls()
    if types.is_boolean(kind):
        return _Bools
    if types.is_dictionary(kind):
        decoded = _reader(kind.value_type)
        return lambda array: decoded(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        decoded = _reader(kind.value_type)
        return lambda array: decoded(pc.run_end_decode(array))
    if isinstance(kind, pa.BaseExtensionType):
        stored = _reader(kind.storage_type)
        return lambda array: stored(array.storage)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        large = pa.large_string() if types.is_string_view(kind) else pa.large_binary()
        return lambda array: _Texts(array.cast(large))
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        return _Texts
    if types.is_struct(kind):
        return _struct_reader(kind)
    if types.is_map(kind):
        return _map_reader(kind)
    if types.is_fixed_size_list(kind):
        return _fixed_list_reader(kind)
    if is_list(kind):
        return _list_reader(kind)
    if types.is_decimal(kind):
        return _decimal_reader(kind)
    width = kind.byte_width if types.is_fixed_size_binary(kind) else kind.bit_width // 8
    return lambda array: _Fixed(array, width)


def _decimal_reader(kind: pa.DataType) -> Reader:
    """As many digits have as many bytes, whatever width they came in."""
    if kind.precision > 38:
        return lambda array: _Fixed(array, 32)
    wide = pa.decimal128(kind.precision, kind.scale)
    if kind.equals(wide):
        return lambda array: _Fixed(array, 16)
    return lambda array: _Fixed(array.cast(wide), 16)


def _struct_reader(kind: pa.DataType) -> Reader:
    readers = [_reader(field.type) for field in kind]

    def read(array: pa.Array) -> Column:
        valid = _Valid(array)
        inner = [array.field(place) for place in range(len(readers))]
        if valid.bits is None:
            ends = np.arange(len(array) + 1)
        else:
            is_there = valid.unpacked()
            ends = _ends(is_there)
            inner = [_kept(one, is_there) for one in inner]
        return _Nested(valid, None, ends, [read(one) for read, one in zip(readers, inner, strict=True)])

    return read


def _fixed_list_reader(kind: pa.DataType) -> Reader:
    reader, size = _reader(kind.value_type), kind.list_size

    def read(array: pa.Array) -> Column:
        valid = _Valid(array)
        inner = array.values.slice(array.offset * size, len(array) * size)
        if valid.bits is None:
            ends = np.arange(len(array) + 1) * size
        else:
            is_there = valid.unpacked()
            ends = _ends(is_there) * size
            inner = _kept(inner, np.repeat(is_there, size))
        return _Nested(valid, None, ends, [reader(inner)])

    return read


def _list_reader(kind: pa.DataType) -> Reader:
    reader = _reader(kind.value_type)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        plain = pa.large_list(kind.value_field)
        return lambda array: _lists(array.cast(plain), lambda lists: [lists.values], [reader])
    return lambda array: _lists(array, lambda lists: [lists.values], [reader])


def _map_reader(kind: pa.DataType) -> Reader:
    readers = [_reader(kind.key_type), _reader(kind.item_type)]
    return lambda array: _lists(array, lambda maps: [maps.keys, maps.items], readers)


def _lists(array: pa.Array, values: Callable[[pa.Array], list[pa.Array]], readers: Sequence[Reader]) -> Column:
    """Rows of lists or maps, whose values lie one after another from the first row's on."""
    valid = _Valid(array)
    offsets = _offsets(array)
    lengths = np.diff(offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    inner = [one.slice(first, last - first) for one in values(array)]
    if valid.bits is not None:
        is_there = valid.unpacked()
        if lengths[is_there == 0].any():
            inner = [_kept(one, np.repeat(is_there, lengths)) for one in inner]
        lengths = lengths * is_there
    columns = [read(one) for read, one in zip(readers, inner, strict=True)]
    return _Nested(valid, _lengths(lengths), _ends(lengths), columns)


def _kept(array: pa.Array, is_kept: Any) -> pa.Array:
    return array.filter(pa.array(is_kept.view(np.bool_)))
