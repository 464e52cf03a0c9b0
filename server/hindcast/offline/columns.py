"""Columns of pushed values as the Arrow table that a source's files hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hindcast.errors import FieldViolation, InvalidArgument
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

_FIRST_TIME = {_UTC_SECONDS: _UTC_MICROS, pa.list_(_UTC_SECONDS): pa.list_(_UTC_MICROS)}
"""Seconds have no Parquet form; a new source gets microseconds."""

_SHAPES = ("_list_val", "_set_val", "_val")
_MAPS = frozenset({"map_val", "struct_val", "map_list_val", "struct_list_val"})
_NO_FORM = frozenset({"scalar_map_val", "zoned_timestamp_val"})


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


def arrow_table(columns: Sequence[PushedColumn], schema: pa.Schema | None) -> pa.Table:
    """The rows in the form of the source's schema, or of the columns themselves where there is none yet.

    Columns of the schema that are not pushed are null. Times are cut to the schema's unit (rounded down).

    Raises:
        InvalidArgument: a column is not one of the schema's, or its values do not fit there.
    """
    violations = []
    arrays: dict[str, pa.Array] = {}
    for column in columns:
        if schema is not None and column.name not in schema.names:
            violations.append(
                FieldViolation(
                    column.field,
                    f"the source's files have no column {column.name!r}; add it to them, or push online only",
                )
            )
            continue
        target = None if schema is None else schema.field(column.name).type
        try:
            arrays[column.name] = _array(column, _plain(target))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            told = "has no form in a Parquet file yet" if target is None else f"does not fit the source's {target}"
            violations.append(
                FieldViolation(column.field, f"{told} column {column.name!r}; send other values, or push online only")
            )
    if violations:
        raise InvalidArgument(violations)
    if schema is None:
        return pa.table(arrays)
    rows = len(columns[0].values)
    fields = [pa.field(field.name, _plain(field.type)) for field in schema]
    return pa.table(
        [arrays[field.name] if field.name in arrays else pa.nulls(rows, field.type) for field in fields],
        schema=pa.schema(fields),
    )


def _plain(target: pa.DataType | None) -> pa.DataType | None:
    """What a dictionary's entries are: the dictionary itself is a file's own matter."""
    return target.value_type if target is not None and pa.types.is_dictionary(target) else target


def _array(column: PushedColumn, target: pa.DataType | None) -> pa.Array:
    if column.values and isinstance(column.values[0], int):
        return _cast(pa.array(column.values, _UTC_MICROS), target or _UTC_MICROS)
    values = [Value.FromString(value) if isinstance(value, bytes) else None for value in column.values]
    kinds = {column.kind} if column.kind else {str(value.WhichOneof("val")) for value in values if value is not None}
    if kinds & _NO_FORM or len(kinds) > 1:
        raise TypeError
    kind = kinds.pop() if kinds else ""
    items = [None if value is None else _python(value) for value in values]
    if kind in _MAPS and (target is None or _is_text(target)):
        # Feast reads a map from JSON text as well, and text has one type whatever the keys.
        texts = [None if item is None else json.dumps(item) for item in items]
        return pa.array(texts, target or pa.string())
    if target is not None and (kind in _MAPS or pa.types.is_decimal(target)):
        return pa.array([_shaped(item, target) for item in items], target)
    shape = next((shape for shape in _SHAPES if kind.endswith(shape)), "")
    item_type = _NATURAL.get(kind.removesuffix(shape))
    natural = item_type if item_type is None or shape == "_val" else pa.list_(item_type)
    array = pa.array(items, natural)
    return _cast(array, target if target is not None else _FIRST_TIME.get(natural, array.type))


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    """To the target type: without loss, but for times, whose finer digits are cut off."""
    return array.cast(target, safe=not pa.types.is_timestamp(array.type))


def _is_text(target: pa.DataType) -> bool:
    return bool(pa.types.is_string(target) or pa.types.is_large_string(target))


def _shaped(item: Any, target: pa.DataType) -> Any:
    """A dict as Arrow's maps take it, and decimal text as a number, at any depth."""
    if item is None:
        return None
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
