"""Join keys of an entity frame as small numbers, and in the form that a source has them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument
from hindcast.offline.sources.arrow_types import is_text, plain_type

_EXACT_MAX = 2**53
"""Up to here a double says exactly which whole number it stands for."""


@dataclass(frozen=True, slots=True)
class KeyIds:
    """Which key each row of a frame has.

    Attributes:
        ids: n int32, from 0 on; -1 where a column is null, or NaN.
        distinct: the k keys, row i that of id i, under the frame's column names.
    """

    ids: np.ndarray
    distinct: pa.Table

    @classmethod
    def of(cls, columns: pa.Table) -> "KeyIds":
        """The keys of n rows, one column at least.

        Raises:
            InvalidArgument: a column is of a type that no join key has.
        """
        plain = [_plain(column, name=name) for name, column in zip(columns.column_names, columns.columns, strict=True)]
        ids, first = _ids(plain)
        keys = [column.take(pa.array(first)) for column in plain]
        return cls(ids, pa.table(keys, names=columns.column_names))


def _ids(columns: Sequence[pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """The ids of n rows, and for each id the first row that has it."""
    is_null: np.ndarray = np.zeros(len(columns[0]), bool)
    for column in columns:
        is_null |= column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(~is_null)
    codes: np.ndarray = np.zeros(len(rows), np.int64)
    count = 0
    for column in columns:
        encoded = (column if len(rows) == len(column) else column.take(pa.array(rows))).dictionary_encode()
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        # Numbered anew, so that the product of two counts of rows always fits.
        numbered = pa.array(codes).dictionary_encode()
        codes, count = numbered.indices.to_numpy().astype(np.int64), len(numbered.dictionary)
    first: np.ndarray = np.empty(count, np.int64)
    first[codes[::-1]] = rows[::-1]
    ids: np.ndarray = np.full(len(is_null), -1, np.int32)
    ids[rows] = codes
    return ids, first


def _plain(column: pa.ChunkedArray, *, name: str) -> pa.Array:
    """A column in one piece, of a type that can be compared."""
    kind = _stored(column.type)
    kind = plain_type(kind)
    if not (
        pa.types.is_null(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_temporal(kind)
        or any(is_one(kind) for is_one, _ in _CONVERSIONS)
    ):
        raise InvalidArgument.at(
            name, f"is {column.type}, which no join key is; give text, bytes, whole numbers, bools or times"
        )
    if column.num_chunks > 1 and (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        # All of it in one piece can be more than 31 bits count.
        kind = pa.large_string() if pa.types.is_string(kind) else pa.large_binary()
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    chunks = [chunk if chunk.type == kind else chunk.cast(kind) for chunk in chunks]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], kind)])


def source_keys(distinct: pa.Table, *, keys: Mapping[str, str], kinds: Mapping[str, pa.DataType]) -> pa.Table:
    """Keys in the types of a source; a key that no row there can have is null.

    Args:
        distinct: one column for each key, in the order of `keys`.
        keys: column of the source -> column of the frame.
        kinds: of the source's columns.
    Returns:
        As many rows, columns `k0`, `k1`, … in the order of `keys`.
    Raises:
        InvalidArgument: the frame's column is of another kind than the source's.
    """
    arrays = [
        _converted(_plain(distinct.column(at), name=name), _stored(kinds[column]), name=name)
        for at, (column, name) in enumerate(keys.items())
    ]
    return pa.table(arrays, names=[f"k{at}" for at in range(len(arrays))])


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _converted(array: pa.Array, kind: pa.DataType, *, name: str) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_null(array.type) or pa.types.is_null(kind):
        return pa.nulls(len(array), kind)
    for is_family, convert in _CONVERSIONS:
        if is_family(kind) and (is_family(array.type) or _are_whole(array, kind)):
            return convert(array, kind)
    raise InvalidArgument.at(
        name,
        f"is {array.type}, but the join key is {kind} in the source; give the column that type, for instance with "
        f"{_hint(kind)}",
    )


def _are_whole(array: pa.Array, kind: pa.DataType) -> bool:
    """Whether these are whole numbers in a column of floats, which is what pandas makes of integers with a null among them."""
    if not (pa.types.is_integer(kind) and pa.types.is_floating(array.type)):
        return False
    numbers = array.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return bool(np.all((np.abs(numbers) <= _EXACT_MAX) & (numbers == np.floor(numbers))))


def _hint(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "astype('Int64') in pandas"
    return "astype('string') in pandas" if is_text(kind) else f"cast({kind}) in Arrow"


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _integers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Those that the type holds, by value; the others are null."""
    if pa.types.is_floating(array.type):
        numbers = array.fill_null(float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)
        is_null = np.isnan(numbers)
        array = pa.array(np.where(is_null, 0, numbers).astype(np.int64), mask=is_null)
    least, greatest = _bounds(kind)
    held, most = _bounds(array.type)
    if least > held:
        array = pc.if_else(pc.less(array, pa.scalar(least, array.type)), None, array)
    if greatest < most:
        array = pc.if_else(pc.greater(array, pa.scalar(greatest, array.type)), None, array)
    return array.cast(kind)


def _bounds(kind: pa.DataType) -> tuple[int, int]:
    bits = kind.bit_width
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pa.types.is_signed_integer(kind) else (0, 2**bits - 1)


def _same(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array.cast(kind)


def _fixed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Bytes, of the one length that the source has where it has one."""
    array = array.cast(pa.large_binary())
    if not pa.types.is_fixed_size_binary(kind):
        return array.cast(kind)
    fits = pc.equal(pc.binary_length(array), kind.byte_width)
    return pc.if_else(fits, array, None).cast(pa.binary()).cast(kind)


def _instants(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times that the source's unit can say; without a zone they are UTC."""
    return _each(array, kind, lambda scalar: scalar.cast(pa.timestamp("ns")).cast(pa.timestamp(kind.unit)).cast(kind))


def _decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return _each(array, kind, lambda scalar: pa.scalar(Decimal(str(scalar.as_py())), kind))


def _each(array: pa.Array, kind: pa.DataType, convert: Callable[[pa.Scalar], pa.Scalar]) -> pa.Array:
    """One at a time, so that what does not fit is null and the others are not."""
    try:
        return array.cast(kind)
    except pa.ArrowException:
        return pa.array([_or_null(scalar, convert) for scalar in array], kind)


def _or_null(scalar: pa.Scalar, convert: Callable[[pa.Scalar], pa.Scalar]) -> object:
    try:
        return convert(scalar).as_py() if scalar.is_valid else None
    except pa.ArrowException:
        return None


_CONVERSIONS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array, pa.DataType], pa.Array]]] = (
    (pa.types.is_integer, _integers),
    (is_text, _same),
    (_is_bytes, _fixed),
    (pa.types.is_boolean, _same),
    (pa.types.is_timestamp, _instants),
    (pa.types.is_date, _same),
    (pa.types.is_float64, _same),
    (pa.types.is_decimal, _decimals),
)
"""Families of types within which keys are compared by value, and how each becomes the source's type."""
