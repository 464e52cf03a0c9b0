"""Columns of pushed values as the Arrow table that a source's files hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
from google.protobuf.message import Message

from hindcast.errors import FieldViolation, InvalidArgument
from hindcast.offline.sources.arrow_types import plain_type
from hindcast.v1.value_pb2 import Value

_UTC_MICROS = pa.timestamp("us", tz="UTC")
_UTC_SECONDS = pa.timestamp("s", tz="UTC")
_NATURAL: Mapping[str, pa.DataType] = {
    "bytes": pa.binary(),
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
    "unix_timestamp": _UTC_SECONDS,
    **dict.fromkeys(("json", "uuid", "time_uuid", "decimal"), pa.string()),
}
"""What the items of a Value are in Arrow, by the Value's kind, as Feast maps them (feast/type_map.py)."""

_SHAPES = ("_list_val", "_set_val", "_val")
_MAPS = frozenset({"map", "struct"})


@dataclass(frozen=True, slots=True)
class PushedColumn:
    """One column on its way into a source.

    Attributes:
        name: in the source.
        field: where the caller sent it; empty for what the server added.
        kind: kind of its Values (`int64_val`); empty where each says its own.
        values: a serialized Value each, None for a null; or microseconds since 1970.
    """

    name: str
    field: str
    kind: str
    values: Sequence[bytes | None] | Sequence[int]


def first_schema(fields: Mapping[str, str], times: Sequence[str]) -> pa.Schema:
    """The schema of a source that has no file yet.

    Args:
        fields: column of the source -> kind of its Values. Those that have no form in a Parquet file are left out.
        times: its timestamp columns.
    """
    types = {name: _first_type(kind) for name, kind in fields.items()} | dict.fromkeys(times, _UTC_MICROS)
    return pa.schema({name: kind for name, kind in types.items() if kind is not None})


def arrow_table(columns: Sequence[PushedColumn], schema: pa.Schema) -> pa.Table:
    """The rows in the form of the source's schema.

    Columns of the schema that are not pushed are null. Times are cut to the schema's unit (rounded down).

    Raises:
        InvalidArgument: a column is not one of the schema's, or its values do not fit there.
    """
    violations = []
    arrays: dict[str, pa.Array] = {}
    for column in columns:
        if column.name not in schema.names:
            wrong = f"the source's files have no column {column.name!r}; add it to them, or push online only"
            violations.append(FieldViolation(column.field, wrong))
            continue
        target = plain_type(schema.field(column.name).type)
        try:
            arrays[column.name] = _array(column, target)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            wrong = f"does not fit column {column.name!r} of the source's files, which is {target}"
            violations.append(FieldViolation(column.field, wrong))
    if violations:
        raise InvalidArgument(violations)
    rows = len(columns[0].values)
    fields = [pa.field(field.name, plain_type(field.type)) for field in schema]
    return pa.table(
        [arrays[field.name] if field.name in arrays else pa.nulls(rows, field.type) for field in fields],
        schema=pa.schema(fields),
    )


def _first_type(kind: str) -> pa.DataType | None:
    item, shape = _split(kind)
    if item in _MAPS:
        # Feast reads a map from JSON text as well, and text has one type whatever the keys.
        return pa.string()
    # Parquet has no seconds.
    natural = _UTC_MICROS if item == "unix_timestamp" else _NATURAL.get(item)
    return natural if natural is None or shape == "_val" else pa.list_(natural)


def _split(kind: str) -> tuple[str, str]:
    shape = next((shape for shape in _SHAPES if f"_{kind}".endswith(shape)), "")
    return kind.removesuffix(shape), shape


def _array(column: PushedColumn, target: pa.DataType) -> pa.Array:
    if column.values and isinstance(column.values[0], int):
        return _cast(pa.array(column.values, _UTC_MICROS), target)
    values = [Value.FromString(value) if isinstance(value, bytes) else None for value in column.values]
    kinds = {column.kind} if column.kind else {str(value.WhichOneof("val")) for value in values if value is not None}
    if len(kinds) > 1:
        raise TypeError
    item, shape = _split(kinds.pop() if kinds else "")
    items = [None if value is None else _python(value) for value in values]
    if item in _MAPS and _is_text(target):
        return pa.array([None if entry is None else json.dumps(entry, sort_keys=True) for entry in items], target)
    natural = _NATURAL.get(item)
    if natural is None or pa.types.is_decimal(target):
        return pa.array([_shaped(entry, target) for entry in items], target)
    array = pa.array(items, natural if shape == "_val" else pa.list_(natural))
    if column.kind and not _are_close(array.type, target):
        raise TypeError
    return _cast(array, target)


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    """To the target type: without loss, but for times, whose finer digits are cut off."""
    return array.cast(target, safe=not pa.types.is_timestamp(array.type))


def _are_close(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether the two types are of one family; Arrow itself would make a number true, or a time."""
    if any(all(is_one(kind) for kind in (one, other)) for is_one in _FAMILIES):
        return True
    return pa.types.is_list(one) and hasattr(other, "value_type") and _are_close(one.value_type, other.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(target: pa.DataType) -> bool:
    return bool(pa.types.is_string(target) or pa.types.is_large_string(target))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


_FAMILIES = (_is_number, _is_text, _is_bytes, pa.types.is_boolean, pa.types.is_timestamp)


def _shaped(item: Any, target: pa.DataType) -> Any:
    """An item as Arrow takes it for a type: maps as pairs, and decimal text as a number, at any depth."""
    if item is None:
        return None
    if isinstance(item, Message):
        raise TypeError
    if pa.types.is_map(target):
        return [(key, _shaped(value, target.item_type)) for key, value in item.items()]
    if pa.types.is_struct(target):
        known = {field.name: field.type for field in target}
        if item.keys() - known.keys():
            raise ValueError
        return {key: _shaped(value, known[key]) for key, value in item.items()}
    if isinstance(item, list):
        return [_shaped(value, target.value_type) for value in item]
    return Decimal(item) if pa.types.is_decimal(target) else item


def _python(value: Value) -> Any:
    """A Value as plain Python: lists for lists and sets, dicts for maps."""
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    content = getattr(value, kind)
    if kind in {"map_val", "struct_val"}:
        return {key: _python(item) for key, item in content.val.items()}
    if kind in {"map_list_val", "struct_list_val"}:
        return [{key: _python(item) for key, item in entry.val.items()} for entry in content.val]
    if kind in {"list_val", "set_val"}:
        return [_python(item) for item in content.val]
    return list(content.val) if kind.endswith(("_list_val", "_set_val")) else content
