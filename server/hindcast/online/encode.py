"""Columns of a source as serialized Values and as entity keys, without a Python object per value.

What a column becomes is what Feast makes of it (feast/type_map.py, `python_values_to_proto_values`), byte by byte, for the types
that sources mostly have; Feast's own functions make the rest, one value after the other. Where the two differ on purpose says
tests/contract/differences.md.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.catalog import KeyType
from hindcast.errors import SHOWN_MAX, InvalidArgument
from hindcast.online import pieces
from hindcast.online.keys import entity_key_head, key_column_bytes
from hindcast.online.pieces import Numbers
from hindcast.v1.value_pb2 import Value

Unusual: TypeAlias = Callable[[pa.Array, int], Sequence[bytes | None]]
"""Serialized Values of a column of a declared type, an empty one or None for a null, by Feast's own functions; raises what those raise."""

_BYTES, _STRING, _INT32, _INT64, _DOUBLE, _FLOAT, _BOOL, _UNIX_TIMESTAMP = range(1, 9)
_PDF_BYTES, _IMAGE_BYTES, _UUID, _TIME_UUID, _DECIMAL = 30, 31, 36, 37, 44
"""Numbers of `feast.types.ValueType.Enum`; those of the fields of a Value are the same, but for the two kinds of bytes."""

_ITEMS = {
    **{item + 10: item for item in (_BYTES, _STRING, _INT32, _INT64, _DOUBLE, _FLOAT, _BOOL)},
    38: _UUID,
    39: _TIME_UUID,
    45: _DECIMAL,
}
"""By the number of a type of lists, what its items are; lists of times are left to Feast."""

_BYTES_TYPES = frozenset({_BYTES, _PDF_BYTES, _IMAGE_BYTES})

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""

_ITEM_TAG = b"\x0a"
"""Before the items of a list, all of them where they are numbers, or each."""


def encode_column(array: pa.Array, value_type: int, *, column: str, unusual: Unusual) -> pa.Array:
    """One serialized `feast.types.Value` per row, null for a null, which NaN is too where a number is declared.

    Args:
        array: n values as the source has them.
        value_type: what the feature is declared as, a number of `feast.types.ValueType.Enum`.
        column: the name that an error says.
        unusual: makes the Values of types that this module does not know.
    Returns:
        A binary array of n; a large one where it takes more than 2 GiB.
    Raises:
        InvalidArgument: the column is of a type that cannot become the declared one, or holds a value that cannot.
    """
    array = _plain(array)
    try:
        content = _list_content(array, value_type) if value_type in _ITEMS else _content(array, value_type)
        # A Value that is empty is how Feast writes a null.
        values = [value or None for value in unusual(array, value_type)] if content is None else []
    except Exception as error:  # whatever Feast's assertions and Python's constructors raise
        raise _misfit(array, value_type, column) from error
    if content is None:
        return pa.array(values, pa.binary())
    return _lists(content, value_type) if value_type in _ITEMS else _values(content, value_type)


def encode_keys(
    columns: Sequence[pa.Array], key_types: Sequence[int], names: Sequence[str], *, unusual: Unusual
) -> pa.Array:
    """One entity key per row in Feast's serialization, version 3 (`keys.entity_key_bytes`), null where a join key is null.

    Args:
        columns: at least one join key's values, n each, sorted by the names of the join keys. (The one row of a view without
            entities has `keys.ENTITYLESS_KEY`.)
        key_types: what each is declared as.
        names: of the join keys, sorted.
        unusual: as in `encode_column`.
    Raises:
        InvalidArgument: a column is of a type that cannot become the declared one, or holds a value that cannot, or what is declared
            is no type of a key. A number with a fraction is no whole one here: it would be the key of something else.
    """
    parts: list[pa.Array | bytes] = [entity_key_head(tuple(names))]
    for array, key_type, name in zip(columns, key_types, names, strict=True):
        parts += _key_parts(_plain(array), key_type, name, unusual)
    return pieces.join_or_null(*parts)


def row_keys(prefix: bytes, entity_keys: pa.Array) -> pa.Array:
    """Where rows lie (`keys.row_key`), null for a null; `prefix` is the view's."""
    return pieces.join_or_null(prefix, entity_keys, b"}")


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Numbers of a declared type, zero where there is none; `valid` as in `pieces.valid_rows`."""

    numbers: Numbers
    valid: Numbers | None


def _plain(array: pa.Array) -> pa.Array:
    """Without a dictionary, runs, views or a name for the type: the same values in the form that the others have."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    return array


def _content(array: pa.Array, value_type: int) -> "pa.Array | _Numbers | None":
    """What the Values of a column of a usual type hold: a binary array, or numbers. None for other types.

    Raises:
        pa.ArrowInvalid, TypeError, OverflowError: a value cannot become one of the declared type.
    """
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.binary())
    read = _READERS.get(value_type)
    return None if read is None else read(array)


def _values(content: "pa.Array | _Numbers", value_type: int) -> pa.Array:
    if isinstance(content, pa.Array):
        if content.null_count == len(content):
            return content
        tag = _tag(_BYTES if value_type in _BYTES_TYPES else value_type, _SIZED)
        return pieces.join_or_null(pieces.varints(tag, pc.binary_length(content).fill_null(0).to_numpy()), content)
    if value_type in {_DOUBLE, _FLOAT}:
        tag = _tag(value_type, _FIXED64 if value_type == _DOUBLE else _FIXED32)
        return pieces.fixed(pieces.cells(tag, content.numbers), content.valid)
    return pieces.varints(_tag(value_type, _VARINT), content.numbers, content.valid)


def _list_content(array: pa.Array, value_type: int) -> pa.Array | None:
    """What the lists of a column's Values hold, null for a null; None where Feast's own functions must decide.

    Raises:
        pa.ArrowInvalid: an item cannot become one of the declared type.
    """
    kind = array.type
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.binary())
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    items = array.flatten()
    encoded = None if items.null_count else _items(items, _ITEMS[value_type])
    if encoded is None:
        return None
    counts = pc.list_value_length(array).fill_null(0).to_numpy()
    return pieces.grouped(encoded, counts, pieces.valid_rows(array))


def _items(items: pa.Array, item_type: int) -> pa.Array | None:
    """Each item as it stands in a list; None for a type that is not the items' own."""
    kind = items.type
    if item_type in {_FLOAT, _DOUBLE}:
        if not (pa.types.is_float32(kind) or pa.types.is_float64(kind)):
            return None
        with np.errstate(over="ignore"):
            numbers: Numbers = items.to_numpy().astype(np.float32 if item_type == _FLOAT else np.float64)
        return pieces.fixed(pieces.cells(b"", numbers))
    if item_type in {_INT32, _INT64}:
        target = pa.int32() if item_type == _INT32 else pa.int64()
        return pieces.varints(b"", items.cast(target).to_numpy()) if pa.types.is_integer(kind) else None
    if item_type == _BOOL:
        return pieces.varints(b"", items.cast(pa.uint8()).to_numpy()) if pa.types.is_boolean(kind) else None
    content = _bytes(items) if item_type == _BYTES else _text(items)
    if content is None:
        return None
    return pieces.join(pieces.varints(_ITEM_TAG, pc.binary_length(content).to_numpy()), content)


def _lists(content: pa.Array, value_type: int) -> pa.Array:
    tag = _tag(value_type, _SIZED)
    is_packed = _ITEMS[value_type] in {_INT32, _INT64, _DOUBLE, _FLOAT, _BOOL}

    def head(length: int | None) -> bytes:
        size = length or 0
        inner = _ITEM_TAG + pieces.varint(size) if is_packed and size else b""
        return tag + pieces.varint(len(inner) + size) + inner

    return pieces.join_or_null(pieces.by_length(pc.binary_length(content), head), content)


def _key_parts(array: pa.Array, key_type: int, name: str, unusual: Unusual) -> "Sequence[pa.Array | bytes]":
    """Type, length and value of one join key inside an entity key, null for a null."""
    try:
        declared = KeyType(key_type)
    except ValueError:
        wrong = (
            f"is declared {_declared(key_type)}, which no join key can be; declare {', '.join(map(_declared, KeyType))}"
        )
        raise InvalidArgument.at(name, wrong) from None
    try:
        if declared in {KeyType.INT32, KeyType.INT64} and pa.types.is_floating(array.type):
            _refuse_fractions(array)
        content = _content(array, declared)
        if content is None:
            values = unusual(array, declared)
            encoded = iter(key_column_bytes([value for value in values if value], declared))
            return [pa.array([next(encoded) if value else None for value in values], pa.binary())]
    except Exception as error:  # see `encode_column`
        raise _misfit(array, key_type, name) from error
    if isinstance(content, pa.Array):
        lengths = pc.binary_length(content).fill_null(0).to_numpy().astype("<u4")
        return pieces.fixed(pieces.cells(struct.pack("<I", declared), lengths)), content
    numbers: Numbers = content.numbers.astype("<i4" if declared == KeyType.INT32 else "<i8", copy=False)
    head = struct.pack("<II", declared, numbers.itemsize)
    return [pieces.fixed(pieces.cells(head, numbers), content.valid)]


def _bytes(array: pa.Array) -> pa.Array | None:
    kind = array.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return array
    return array.cast(pa.binary()) if pa.types.is_fixed_size_binary(kind) else None


def _text(array: pa.Array) -> pa.Array | None:
    kind = array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    array.validate(full=True)  # that it is UTF-8
    return array.cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())


def _text_or_whole(array: pa.Array) -> pa.Array | None:
    return _text(array.cast(pa.string()) if pa.types.is_integer(array.type) else array)


def _bools(array: pa.Array) -> _Numbers | None:
    if not (pa.types.is_boolean(array.type) or pa.types.is_int64(array.type)):
        return None
    return _filled(array.cast(pa.bool_()).cast(pa.uint8()))


def _doubles(array: pa.Array) -> _Numbers | None:
    return _floating(array) if pa.types.is_float64(array.type) or pa.types.is_integer(array.type) else None


def _floats(array: pa.Array) -> _Numbers | None:
    if not _is_number(array.type):
        return None
    found = _floating(array)
    with np.errstate(over="ignore"):  # protobuf makes infinity of what is too large
        return _Numbers(found.numbers.astype(np.float32), found.valid)


def _int32s(array: pa.Array) -> _Numbers | None:
    return _whole(array, pa.int32()) if _is_number(array.type) else None


def _int64s(array: pa.Array) -> _Numbers | None:
    return _whole(array, pa.int64()) if _is_number(array.type) else None


def _filled(array: pa.Array) -> _Numbers:
    return _Numbers(array.fill_null(0).to_numpy(), pieces.valid_rows(array))


def _floating(array: pa.Array) -> _Numbers:
    """As doubles, rounded to the nearest as Python rounds; NaN is a null."""
    found = _filled(array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array)
    numbers: Numbers = found.numbers.astype(np.float64, copy=False)
    numbered = ~np.isnan(numbers)
    if numbered.all():
        return _Numbers(numbers, found.valid)
    return _Numbers(numbers, numbered if found.valid is None else numbered & found.valid)


def _whole(array: pa.Array, target: pa.DataType) -> _Numbers:
    """As whole numbers: of doubles, as Python's int() does, what stands before the point."""
    if not pa.types.is_floating(array.type):
        return _filled(array.cast(target))
    found = _floating(array)
    numbers = np.trunc(found.numbers if found.valid is None else np.where(found.valid, found.numbers, 0.0))
    bits = target.bit_width - 1
    if not (-(2.0**bits) <= numbers.min() and numbers.max() < 2.0**bits):
        raise OverflowError
    return _Numbers(numbers.astype(np.int64), found.valid)


def _refuse_fractions(array: pa.Array) -> None:
    numbers = _floating(array).numbers
    if (np.trunc(numbers) != numbers)[~np.isnan(numbers)].any():
        raise TypeError


def _seconds(array: pa.Array) -> _Numbers | None:
    """Of times and dates the seconds since 1970, rounded down; whole numbers are seconds already."""
    kind = array.type
    if pa.types.is_float64(kind):
        raise TypeError("Feast makes its mark for a null of every double")
    if pa.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        found = _filled(array.cast(pa.int64()))
        return _Numbers(found.numbers // per_second, found.valid)
    if pa.types.is_date32(kind):
        found = _filled(array.cast(pa.int32()))
        return _Numbers(found.numbers.astype(np.int64) * 86_400, found.valid)
    if pa.types.is_date64(kind):
        found = _filled(array.cast(pa.int64()))
        return _Numbers(found.numbers // 1000, found.valid)
    return _filled(array.cast(pa.int64())) if pa.types.is_integer(kind) else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


_READERS: Mapping[int, "Callable[[pa.Array], pa.Array | _Numbers | None]"] = {
    **dict.fromkeys(_BYTES_TYPES, _bytes),
    _STRING: _text_or_whole,
    **dict.fromkeys((_UUID, _TIME_UUID, _DECIMAL), _text),
    _INT32: _int32s,
    _INT64: _int64s,
    _DOUBLE: _doubles,
    _FLOAT: _floats,
    _BOOL: _bools,
    _UNIX_TIMESTAMP: _seconds,
}


def _tag(field: int, wire_type: int) -> bytes:
    return pieces.varint(field << 3 | wire_type)


def _misfit(array: pa.Array, value_type: int, column: str) -> InvalidArgument:
    return InvalidArgument.at(
        column,
        f"is {str(array.type)[:SHOWN_MAX]} in its source and declared {_declared(value_type)}, and its type or a value that it "
        "holds cannot become that; declare what it is, or convert it in the source",
    )


def _declared(value_type: int) -> str:
    """A type as a feature repo spells it: `Array(Int64)`."""
    if value_type in _BYTES_TYPES:
        return {_PDF_BYTES: "PdfBytes", _IMAGE_BYTES: "ImageBytes"}.get(value_type, "Bytes")
    field = Value.DESCRIPTOR.fields_by_number.get(value_type)
    if field is None:
        return f"type {value_type}"
    item = str(field.name).removesuffix("_val")
    for ending, collection in (("_list", "Array"), ("_set", "Set")):
        if item.endswith(ending):
            return f"{collection}({_spelled(item.removesuffix(ending))})"
    return _spelled(item)


def _spelled(item: str) -> str:
    return {"double": "Float64", "float": "Float32"}.get(item) or item.title().replace("_", "")
