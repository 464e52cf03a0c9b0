"""Join keys as DuckDB compares them: all bytes and all digits, so that what is different in the source stays different."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from hindcast.errors import SourceError


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How a column's values are given to DuckDB, so that it tells apart what is different there: all digits, all bytes."""

    kind: pa.DataType
    form: Callable[[pa.Array], pa.Array]


def key_form(kind: pa.DataType, *, column: str) -> KeyForm:
    """How join keys of a type are compared.

    Raises:
        SourceError: they cannot be.
    """
    if isinstance(kind, pa.BaseExtensionType):
        inner = key_form(kind.storage_type, column=column)
        return KeyForm(inner.kind, lambda array: inner.form(array.storage))
    if _is_one_of(kind, _is_number, pa.types.is_boolean):
        return KeyForm(kind, lambda array: array)
    target = next((target for target, tests in _CASTS if _is_one_of(kind, *tests)), None)
    if target is None:
        raise SourceError(
            f"the join key column {column!r} is {kind}, which keys cannot be made from; write it as text, bytes, a whole number "
            "or a time"
        )
    return KeyForm(target, lambda array: array.cast(target))


def key_values(formed: pa.Array, kind: pa.DataType) -> pa.Array:
    """Keys as they were before `key_form`: the same bytes and digits, in the type `kind`."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(key_values(formed, kind.storage_type))
    if pa.types.is_null(kind):
        return pa.nulls(len(formed))
    for text, stored in _TEXT:
        if kind == text:
            # Not a cast, which would refuse bytes that are no text.
            return formed.cast(stored).view(text)
    return formed.cast(kind)


def _is_one_of(kind: pa.DataType, *tests: Callable[[pa.DataType], bool]) -> bool:
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    return _is_one_of(kind, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_decimal128)


_TEXT = ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary()))
_CASTS = (
    (pa.binary(), (pa.types.is_string, pa.types.is_binary, pa.types.is_fixed_size_binary)),
    (
        pa.large_binary(),
        (pa.types.is_large_string, pa.types.is_large_binary, pa.types.is_string_view, pa.types.is_binary_view),
    ),
    (pa.int64(), (pa.types.is_timestamp, pa.types.is_date64, pa.types.is_time64, pa.types.is_duration)),
    (pa.int32(), (pa.types.is_date32, pa.types.is_time32, pa.types.is_null)),
)
"""What keys of other types are compared as. Text as bytes, since its bytes may be no text; times as numbers, since DuckDB has none finer
than microseconds with a zone."""
