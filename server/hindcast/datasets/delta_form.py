"""What a table is in Delta's types, and back: the rows of a set that is a Delta table are digested, loaded and compared in their own types.

Delta has fewer types than Arrow. Where a column's is none of them, its files hold another that every value fits in, and in each file's
footer stands the schema that the rows have when they are read here (docs/formats.md).
"""

import base64
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from hindcast.datasets.column_types import is_list
from hindcast.errors import InvalidArgument

SCHEMA_KEY = b"hindcast.schema"
"""In a Parquet footer: the rows' own schema, as an Arrow IPC message in base64. Only where the file's columns have other types."""

_DECIMAL_DIGITS = 38

_SAME: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_date32,
    pa.types.is_string,
    pa.types.is_binary,
)

_OTHERS: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    # delta-rs would make signed ones of the same width of them.
    (pa.types.is_uint8, pa.int16()),
    (pa.types.is_uint16, pa.int32()),
    (pa.types.is_uint32, pa.int64()),
    (pa.types.is_uint64, pa.decimal128(20, 0)),
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)


def delta_schema(schema: pa.Schema) -> pa.Schema:
    """A schema in Delta's types.

    Args:
        schema: `stored_schema` of the rows'.
    Raises:
        InvalidArgument: Delta has no form for a column, or does not tell two apart.
    """
    kinds = [delta_type(field.type) for field in schema]
    wrong = [field for field, kind in zip(schema, kinds, strict=True) if not _comes_back(field.type, kind)]
    if wrong:
        named = ", ".join(f"{field.name!r} ({field.type})" for field in wrong)
        raise InvalidArgument.at(
            "format", f"is delta, which has no form for {named}; cast or drop them, or take parquet"
        )
    folded: dict[str, str] = {}
    for name in schema.names:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise InvalidArgument.at(
                "format",
                f"is delta, which does not tell the columns {other!r} and {name!r} apart; rename one, or take parquet",
            )
    return pa.schema(list(zip(schema.names, kinds, strict=True)))


def delta_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of Delta that holds all values of a type, and gives them back; None where there is none."""
    if pa.types.is_timestamp(kind):
        # One with a zone is an instant in Delta.
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if pa.types.is_dictionary(kind):
        return delta_type(kind.value_type)
    if pa.types.is_decimal(kind) and kind.precision <= _DECIMAL_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_nested(kind):
        return _nested(kind)
    if any(is_same(kind) for is_same in _SAME):
        return kind
    return next((other for is_such, other in _OTHERS if is_such(kind)), None)


def _nested(kind: pa.DataType) -> pa.DataType | None:
    fields = (
        [kind.key_field, kind.item_field] if pa.types.is_map(kind) else list(map(kind.field, range(kind.num_fields)))
    )
    inner = [delta_type(field.type) for field in fields]
    if None in inner or not inner:
        return None
    if pa.types.is_map(kind):
        return pa.map_(*inner)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, one) for field, one in zip(fields, inner, strict=True)])
    return pa.list_(pa.field("element", *inner)) if is_list(kind) or pa.types.is_fixed_size_list(kind) else None


def _comes_back(kind: pa.DataType, there: pa.DataType | None) -> bool:
    if there is None:
        return False
    try:
        pa.array([], kind).cast(there).cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def as_delta(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in Delta's types.

    Args:
        schema: `delta_schema` of the rows'.
    Raises:
        InvalidArgument: a value does not fit: a time that is finer than a microsecond.
    """
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidArgument.at(
                field.name,
                f"holds a value that Delta's type {field.type} cannot hold, such as a time finer than a microsecond; round it, or take "
                "the format parquet",
            ) from error
    return pa.table(columns, schema=schema)


def schema_note(schema: pa.Schema) -> bytes:
    """What stands in a footer for a schema."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes())


def noted_schema(metadata: Any) -> pa.Schema | None:
    """The schema that a footer names; None where the file's own is meant.

    Args:
        metadata: key -> value, or None.
    Raises:
        ArrowInvalid, ValueError: it is damaged.
    """
    note = (metadata or {}).get(SCHEMA_KEY)
    return None if note is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(note, validate=True)))
