"""Columns of serialized Values as Arrow arrays, numbers without a Python object each. Imports pyarrow.

A value that is not of its column's type is null in the array: the record that it came from has it as it was sent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.message import DecodeError

from hindcast.lookups.arrays import bitmap, numbers
from hindcast.lookups.plain import integers, texts
from hindcast.lookups.python_plain import Content
from hindcast.v1.value_pb2 import Value

INSTANT = pa.timestamp("us", tz="UTC")

_NULLS = (b"", b"\x98\x01\x00")
"""No Value at all, and one that says `null_val`."""

_SCALARS: Mapping[int, pa.DataType] = {
    1: pa.binary(),
    2: pa.string(),
    3: pa.int32(),
    4: pa.int64(),
    5: pa.float64(),
    6: pa.float32(),
    7: pa.bool_(),
    8: INSTANT,
}
_LIST = 10
"""The number of a list type is that of its items and this."""
_TEXTS = frozenset({32, 36, 37, 44})
"""JSON, the two kinds of UUID, and decimals: text on the wire."""

_FIXED: Mapping[int, tuple[int, str]] = {5: (0x29, "<f8"), 6: (0x35, "<f4")}
_VARINTS: Mapping[int, int] = {3: 0x18, 4: 0x20, 7: 0x38, 8: 0x40}
_LENGTHS: Mapping[int, int] = {1: 0x0A, 2: 0x12}
_INTEGERS = ("int32_val", "int64_val")
_NUMBERS_FOR: Mapping[int, tuple[str, ...]] = {
    3: _INTEGERS,
    4: _INTEGERS,
    5: ("double_val", "float_val", *_INTEGERS),
    6: ("float_val", "double_val", *_INTEGERS),
}
"""What callers may send for a join key or as request data of a type."""
_SHORT_MAX = 0x7F

_Bytes: TypeAlias = npt.NDArray[np.uint8]


def arrow_type(value_type: int) -> pa.DataType:
    """The type of a column; serialized Values for what Feast's logging schema has no type for (maps, sets, structs, nested lists).

    Args:
        value_type: a number of `feast.types.ValueType.Enum`.
    """
    if value_type in _SCALARS:
        return _SCALARS[value_type]
    if value_type - _LIST in _SCALARS:
        return pa.list_(_SCALARS[value_type - _LIST])
    return pa.string() if value_type in _TEXTS else pa.binary()


def value_type_of(values: Sequence[bytes]) -> int:
    """The type that the first value of a column has, which no definition says; 0 where all are null."""
    for value in values:
        if value not in _NULLS:
            # The tag of a field, in one byte or two; the fields of a Value have the numbers of the types.
            tag = value[0] & 0x7F | (value[1] << 7 if value[0] > _SHORT_MAX and len(value) > 1 else 0)
            return tag >> 3
    return 0


def gather(values: Sequence[bytes], value_type: int) -> pa.Array:
    """A column of serialized Values as an array of `arrow_type(value_type)`."""
    lengths = np.fromiter(map(len, values), np.int32, len(values)).tobytes()
    fast = _fast(b"".join(values), lengths, value_type)
    return fast if fast is not None else _slow(values, value_type)


def gathered(content: Content, lengths: Content, value_type: int) -> pa.Array:
    """As `gather`, of values that stand one behind the other; their lengths are numbers of 32 bits in the machine's order."""
    fast = _fast(content, lengths, value_type)
    if fast is not None:
        return fast
    sizes = np.frombuffer(lengths, np.int32).astype(np.int64)
    ends, copied = np.cumsum(sizes), bytes(content)
    return _slow(
        [copied[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)], value_type
    )


def _fast(content: Content, lengths: Content, value_type: int) -> pa.Array | None:
    """None where some value is not in the plain form that writers give it."""
    sizes = np.frombuffer(lengths, np.int32)
    valid = sizes > 0
    if value_type in _FIXED:
        return _fixed(np.frombuffer(content, np.uint8), sizes, valid, value_type)
    if value_type in _VARINTS:
        read = integers(content, lengths, tag=_VARINTS[value_type])
        return None if read is None else _of_integers(np.frombuffer(read, np.int64), valid, value_type)
    if value_type in _LENGTHS:
        found = texts(content, lengths, tag=_LENGTHS[value_type])
        return None if found is None else _of_texts(*found, valid, value_type)
    return None


def _fixed(
    data: _Bytes, lengths: npt.NDArray[np.int32], valid: npt.NDArray[np.bool_], value_type: int
) -> pa.Array | None:
    tag, kind = _FIXED[value_type]
    size = np.dtype(kind).itemsize + 1
    if not bool((lengths[valid] == size).all()):
        return None
    rows = data.reshape(-1, size)
    if not bool((rows[:, 0] == tag).all()):
        return None
    # A copy also of one row, which is contiguous as it stands, behind its tag: Arrow says aloud where numbers are not aligned.
    read = rows[:, 1:].copy().view(kind)[:, 0]
    if len(read) < len(lengths):
        every: Any = np.zeros(len(lengths), kind)
        every[valid] = read
        read = every
    return numbers(read, _SCALARS[value_type], valid)


def _of_integers(every: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], value_type: int) -> pa.Array:
    if value_type == 8:
        limit = np.iinfo(np.int64).max // 1_000_000
        fits = (every <= limit) & (every >= -limit)
        return numbers(np.where(fits, every, 0) * 1_000_000, INSTANT, valid & fits)
    if value_type == 7:
        return numbers(every != 0, pa.bool_(), valid)
    if value_type == 3:
        # A negative int32 is ten bytes on the wire; what is more than 32 bits of it does not count.
        return numbers(every.astype(np.int32), pa.int32(), valid)
    return numbers(every, pa.int64(), valid)


def _of_texts(ends: Content, content: Content, valid: npt.NDArray[np.bool_], value_type: int) -> pa.Array | None:
    array = pa.Array.from_buffers(
        _SCALARS[value_type], len(valid), [bitmap(valid), *map(pa.py_buffer, (ends, content))]
    )
    if value_type == 2:
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return None
    return array


def serialized(values: Sequence[bytes]) -> pa.Array:
    """A column of Values as they were sent; null for no Value at all."""
    sizes = np.fromiter(map(len, values), np.int32, len(values))
    ends: Any = np.zeros(len(values) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    buffers = [bitmap(sizes > 0), pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def status_numbers(statuses: Content | bytearray) -> pa.Array:
    """The statuses of a column, a byte each."""
    return numbers(np.frombuffer(statuses, np.uint8).astype(np.int32), pa.int32())


def _slow(values: Sequence[bytes], value_type: int) -> pa.Array:
    kind = arrow_type(value_type)
    read = _reader(value_type, kind)
    return pa.array([None if value in _NULLS else read(value) for value in values], kind)


def _reader(value_type: int, kind: pa.DataType) -> Callable[[bytes], Any]:
    if value_type in _SCALARS:
        convert = _converter(value_type)
    elif value_type - _LIST in _SCALARS:
        item = _converter(value_type - _LIST)
        convert = lambda content: [item(one) for one in content.val]  # noqa: E731 - beside the others
    elif pa.types.is_string(kind):
        convert = str
    else:
        return lambda value: value
    kinds = _NUMBERS_FOR.get(value_type, (_field_name(value_type),))

    def read(value: bytes) -> Any:
        try:
            message = Value.FromString(value)
            found = message.WhichOneof("val")
            return convert(getattr(message, found)) if found is not None and found in kinds else None
        except (DecodeError, TypeError, ValueError, OverflowError):
            return None

    return read


def _field_name(value_type: int) -> str:
    return str(Value.DESCRIPTOR.fields_by_number[value_type].name)


def _converter(value_type: int) -> Callable[[Any], Any]:
    if value_type == 8:
        return lambda seconds: _within(seconds * 1_000_000, 63)
    if value_type == 3:
        return lambda number: _within(number, 31)
    return lambda value: value


def _within(number: int, bits: int) -> int | None:
    return number if -(1 << bits) <= number < 1 << bits else None
