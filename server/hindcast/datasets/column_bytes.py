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

    def taken(self, places: Any) -> "Column":
        """The rows at these places. Arrow's own selection does not know all types."""


class Piece(NamedTuple):
    """Rows of a column."""

    column: Any
    start: int
    stop: int


Reader = Callable[[pa.Array], Column]


def readers(schema: pa.Schema) -> list[Reader]:
    """What reads each column of a schema that `column_types.canonical_schema` knows."""
    return [_reader(kind) for kind in schema.types]


def column_bytes(array: pa.Array) -> bytes:
    """The canonical bytes of a column, in one piece.

    Raises:
        InvalidArgument: one value has 4 GiB or more.
    """
    parts: list[bytes] = []
    column = _reader(array.type)(array)
    column.write([Piece(column, 0, len(array))], lambda part: parts.append(bytes(part)))
    return b"".join(parts)


class _Bits:
    """A bit for each row, least significant first."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    @classmethod
    def of(cls, data: Any, offset: int, rows: int) -> "_Bits":
        """The bits of the rows from any bit of a buffer on."""
        taken = np.frombuffer(data, np.uint8)[offset // 8 : (offset + rows + 7) // 8]
        # Blocks then begin with a byte, in slices of batches too.
        return cls(_packed(_unpacked(taken)[offset % 8 :][:rows]) if offset % 8 or rows % 8 else taken.tobytes())

    def unpacked(self, start: int, stop: int) -> Any:
        """A byte for each row, 0 or 1."""
        data = np.frombuffer(self._packed, np.uint8)[start // 8 : (stop + 7) // 8]
        return _unpacked(data)[start % 8 :][: stop - start]

    def packed(self, start: int, stop: int) -> bytes:
        """The rows' bits from the first bit of a byte on, zeros behind them."""
        if start % 8 or stop % 8:
            return _packed(self.unpacked(start, stop))
        return self._packed[start // 8 : stop // 8]

    def taken(self, places: Any) -> "_Bits":
        """The bits at these places."""
        return _Bits(_packed(_unpacked(np.frombuffer(self._packed, np.uint8))[places]))


def _packed(bits: Any) -> bytes:
    return bytes(np.packbits(bits, bitorder="little"))


def _unpacked(data: Any) -> Any:
    return np.unpackbits(data, bitorder="little")


def _joined(pieces: Sequence[tuple[_Bits | None, int, int]]) -> bytes:
    """The packed bits of pieces, as of one; all set where there are none."""
    bits, start, stop = pieces[0]
    if len(pieces) == 1 and bits is not None:
        return bits.packed(start, stop)
    unpacked = [
        np.ones(stop - start, np.uint8) if bits is None else bits.unpacked(start, stop) for bits, start, stop in pieces
    ]
    return _packed(np.concatenate(unpacked))


def _valid(array: pa.Array) -> _Bits | None:
    """Which rows have a value; None where all have."""
    return _Bits.of(array.buffers()[0], array.offset, len(array)) if array.null_count else None


def _write_valid(pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
    column, start, stop = pieces[0]
    if len(pieces) == 1:
        # Nearly always, and once for each column of each block: by the way of several pieces, 1,000,000 rows x 50 take half as long again to digest.
        packed, rows = None if column.valid is None else column.valid.packed(start, stop), stop - start
    else:
        is_whole = all(column.valid is None for column, _, _ in pieces)
        packed = None if is_whole else _joined([(column.valid, start, stop) for column, start, stop in pieces])
        rows = sum(stop - start for _, start, stop in pieces)
    if packed is None:
        out(_NO_NULLS)
        return
    full, left = divmod(rows, 8)
    is_full = packed.count(_FULL_BYTE) == full and (not left or packed[-1] == (1 << left) - 1)
    out(_NO_NULLS if is_full else _NULLS + packed)


class _Nulls:
    """Of the type null: no bytes at all."""

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Nothing."""

    def taken(self, places: Any) -> "_Nulls":  # noqa: ARG002 - a column's interface
        """The same."""
        return self


class _Fixed:
    """Values of one width, zeros under nulls."""

    def __init__(self, valid: _Bits | None, width: int, data: Any) -> None:
        self.valid, self.width, self.data = valid, width, memoryview(data)

    @classmethod
    def of(cls, array: pa.Array, width: int) -> "_Fixed":
        """The array's own values where it has no nulls."""
        rows, valid = len(array), _valid(array)
        data = memoryview(array.buffers()[1] or b"")[array.offset * width : (array.offset + rows) * width]
        if valid is not None and width:
            values = np.frombuffer(data, np.uint8).copy()
            # Whole words are set to zero about eight times as fast as bytes.
            words = values.view(f"u{width}") if width in {1, 2, 4, 8} else values.reshape(rows, width)
            words[valid.unpacked(0, rows) == 0] = 0
            data = memoryview(values)
        return cls(valid, width, data)

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, then n times the width."""
        _write_valid(pieces, out)
        for column, start, stop in pieces:
            out(column.data[start * self.width : stop * self.width])

    def taken(self, places: Any) -> "_Fixed":
        """The rows at these places."""
        values = np.frombuffer(self.data, np.uint8).reshape(-1, self.width) if self.width else None
        data = b"" if values is None else values[places].ravel()
        return _Fixed(self.valid and self.valid.taken(places), self.width, data)


class _Bools:
    """A bit for each value, zero under nulls."""

    def __init__(self, valid: _Bits | None, bits: _Bits) -> None:
        self.valid, self.bits = valid, bits

    @classmethod
    def of(cls, array: pa.Array) -> "_Bools":
        """The array's values."""
        rows, valid = len(array), _valid(array)
        bits = _Bits.of(array.buffers()[1] or b"", array.offset, rows)
        if valid is not None:
            bits = _Bits(_packed(bits.unpacked(0, rows) & valid.unpacked(0, rows)))
        return cls(valid, bits)

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, then n bits."""
        _write_valid(pieces, out)
        out(_joined([(column.bits, start, stop) for column, start, stop in pieces]))

    def taken(self, places: Any) -> "_Bools":
        """The rows at these places."""
        return _Bools(self.valid and self.valid.taken(places), self.bits.taken(places))


class _Texts:
    """Values of any length, none under nulls.

    Attributes:
        lengths: n.
        ends: n + 1 places in the data.
    """

    def __init__(self, valid: _Bits | None, lengths: Any, ends: Any, data: Any) -> None:
        self.valid, self.lengths, self.ends, self.data = valid, lengths, ends, memoryview(data)

    @classmethod
    def of(cls, array: pa.Array) -> "_Texts":
        """The array's own bytes where none are under nulls."""
        valid, ends, data = _valid(array), offsets_of(array), array.buffers()[2] or b""
        lengths, is_cut = _without_nulls(np.diff(ends), valid)
        if is_cut:
            data = np.frombuffer(data, np.uint8)[_places(ends[:-1], lengths)]
            ends = _ends(lengths)
        return cls(valid, _lengths(lengths), ends, data)

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, n lengths, and the bytes one after another."""
        _write_valid(pieces, out)
        for column, start, stop in pieces:
            out(column.lengths[start:stop])
        for column, start, stop in pieces:
            out(column.data[column.ends[start] : column.ends[stop]])

    def taken(self, places: Any) -> "_Texts":
        """The rows at these places."""
        lengths = self.lengths[places]
        data = np.frombuffer(self.data, np.uint8)[_places(self.ends[:-1][places], lengths)]
        return _Texts(self.valid and self.valid.taken(places), lengths, _ends(lengths), data)


class _Nested:
    """Lists, maps and structs: the values of all rows that are no nulls, one after another, are columns of their own.

    Attributes:
        lengths: of lists; None where all rows have as many.
        ends: n + 1 places in the inner columns.
    """

    def __init__(self, valid: _Bits | None, lengths: Any, ends: Any, inner: Sequence[Column]) -> None:
        self.valid, self.lengths, self.ends, self.inner = valid, lengths, ends, inner

    def write(self, pieces: Sequence[Piece], out: Callable[[Any], None]) -> None:
        """Validity, n lengths if they differ, and the inner columns."""
        _write_valid(pieces, out)
        if self.lengths is not None:
            for column, start, stop in pieces:
                out(column.lengths[start:stop])
        for place, inner in enumerate(self.inner):
            inner_pieces = [
                Piece(column.inner[place], int(column.ends[start]), int(column.ends[stop]))
                for column, start, stop in pieces
            ]
            inner.write(inner_pieces, out)

    def taken(self, places: Any) -> "_Nested":
        """The rows at these places."""
        counts = np.diff(self.ends)[places]
        inner_places = _places(self.ends[:-1][places], counts)
        inner = [column.taken(inner_places) for column in self.inner]
        lengths = None if self.lengths is None else self.lengths[places]
        return _Nested(self.valid and self.valid.taken(places), lengths, _ends(counts), inner)


def offsets_of(array: pa.Array) -> Any:
    """The n + 1 offsets of an array of text, bytes, lists or maps, none of them views."""
    kind = array.type
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_list(kind)
    data = array.buffers()[1]
    # Arrow allows no offsets at all where there are no rows.
    if data is None or not len(array):
        return np.zeros(len(array) + 1, np.int64)
    return np.frombuffer(data, np.int64 if is_large else np.int32)[array.offset : array.offset + len(array) + 1]


def _without_nulls(lengths: Any, valid: _Bits | None) -> tuple[Any, bool]:
    """Lengths, of nulls 0; and whether a null had another."""
    if valid is None:
        return lengths, False
    kept = lengths * valid.unpacked(0, len(lengths))
    return kept, bool((kept != lengths).any())


def _lengths(lengths: Any) -> Any:
    if len(lengths) and lengths.max() > _VALUE_BYTES_MAX:
        raise InvalidArgument.at("value", "has 4 GiB or more, which a training set cannot hold")
    return lengths.astype(np.uint32)


def _ends(counts: Any) -> Any:
    ends: Any = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends


def _places(starts: Any, counts: Any) -> Any:
    """All places of ranges, one range after another."""
    ends = _ends(counts)
    return np.repeat(starts.astype(np.int64) - ends[:-1], counts) + np.arange(ends[-1])


def _reader(kind: pa.DataType) -> Reader:  # noqa: C901, PLR0911 - one line a type
    """What reads arrays of a type that `column_types` knows."""
    types = pa.types
    if types.is_null(kind):
        return lambda _: _Nulls()
    if types.is_boolean(kind):
        return _Bools.of
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
        return lambda array: _Texts.of(array.cast(large))
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        return _Texts.of
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
    return lambda array: _Fixed.of(array, width)


def _decimal_reader(kind: pa.DataType) -> Reader:
    """As many digits have as many bytes, whatever width they came in."""
    if kind.precision > 38:
        return lambda array: _Fixed.of(array, 32)
    wide = pa.decimal128(kind.precision, kind.scale)
    if kind.equals(wide):
        return lambda array: _Fixed.of(array, 16)
    return lambda array: _Fixed.of(array.cast(wide), 16)


def _struct_reader(kind: pa.DataType) -> Reader:
    field_readers = [_reader(field.type) for field in kind]

    def read(array: pa.Array) -> Column:
        inner = [reader(array.field(place)) for place, reader in enumerate(field_readers)]
        return _of_one_size(array, 1, inner)

    return read


def _fixed_list_reader(kind: pa.DataType) -> Reader:
    reader, size = _reader(kind.value_type), kind.list_size

    def read(array: pa.Array) -> Column:
        return _of_one_size(array, size, [reader(array.values.slice(array.offset * size, len(array) * size))])

    return read


def _of_one_size(array: pa.Array, size: int, inner: Sequence[Column]) -> Column:
    """Rows that each have so many rows of the inner columns, nulls too."""
    valid, rows = _valid(array), len(array)
    starts: Any = np.arange(rows + 1) * size
    if valid is None:
        return _Nested(None, None, starts, inner)
    counts = valid.unpacked(0, rows) * np.int64(size)
    places = _places(starts[:-1], counts)
    return _Nested(valid, None, _ends(counts), [column.taken(places) for column in inner])


def _list_reader(kind: pa.DataType) -> Reader:
    reader = _reader(kind.value_type)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        number = np.int32 if pa.types.is_list_view(kind) else np.int64
        return lambda array: _list_views(array, number, reader)
    return lambda array: _lists(array, lambda lists: [lists.values], [reader])


def _map_reader(kind: pa.DataType) -> Reader:
    entry_readers = [_reader(kind.key_type), _reader(kind.item_type)]
    return lambda array: _lists(array, lambda maps: [maps.keys, maps.items], entry_readers)


def _lists(array: pa.Array, values: Callable[[pa.Array], list[pa.Array]], value_readers: Sequence[Reader]) -> Column:
    """Rows of lists or maps, whose values lie one after another from the first row's on."""
    valid, offsets = _valid(array), offsets_of(array)
    first, last = int(offsets[0]), int(offsets[-1])
    inner = [read(one.slice(first, last - first)) for read, one in zip(value_readers, values(array), strict=True)]
    lengths, is_cut = _without_nulls(np.diff(offsets), valid)
    if is_cut:
        places = _places(offsets[:-1] - first, lengths)
        inner = [column.taken(places) for column in inner]
    return _Nested(valid, _lengths(lengths), _ends(lengths), inner)


def _list_views(array: pa.Array, number: type, reader: Reader) -> Column:
    """Rows of lists that can lie anywhere in the values."""
    offsets, sizes = (
        np.frombuffer(data or b"", number)[array.offset : array.offset + len(array)] for data in array.buffers()[1:3]
    )
    valid = _valid(array)
    lengths, _ = _without_nulls(sizes, valid)
    inner = reader(array.values).taken(_places(offsets, lengths))
    return _Nested(valid, _lengths(lengths), _ends(lengths), [inner])
