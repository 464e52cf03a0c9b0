"""What types of columns have in common: two files of a source, and a source and who asks of it, lay one thing out differently."""

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A dictionary's entries stand for it: dictionaries differ between the batches of one file."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def agreed_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """One type for both: they are the same, one is of nulls only, or they differ in how text, bytes and lists are laid out."""
    if pa.types.is_null(one):
        return other
    return one if pa.types.is_null(other) or _family(one) == _family(other) else None


def finer_time(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Of two instants the one of the finer unit, which holds both; None for anything else.

    Feast writes the event times of its logs in milliseconds, and Hindcast in microseconds.
    """
    if not (pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz == other.tz):
        return None
    return max(one, other, key=lambda kind: _UNITS.index(kind.unit))


def _family(kind: pa.DataType) -> object:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return ("list", _family(plain_type(kind.value_type)))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text, in any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_time(kind: pa.DataType) -> bool:
    """Whether it is an instant or a date."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
