"""Fitting: a pushed value as the type that its field declares, from a Value of a type close to it, or from text.

Numbers become wider, and narrower where they fit, because a caller's language may have one integer and one float; nothing else is
converted where it could lose something.
"""

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError

from hindcast.clock import to_micros
from hindcast.serving.values import in_answer
from hindcast.v1.value_pb2 import Value

_BYTES_KINDS = frozenset({30, 31})
"""Feast's types for PDF and image bytes, whose values are bytes."""

_SHAPES = ("_list_val", "_set_val", "_val")
_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
_EXACT_IN_DOUBLE, _EXACT_IN_FLOAT = 2**53, 2**24
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_TRUE_FALSE = {"true": True, "1": True, "false": False, "0": False}


def declared_kind(value_type: int) -> str:
    """Kind of the Values of a field by its number in `feast.types.ValueType.Enum`; empty for a type that takes any."""
    if value_type in _BYTES_KINDS:
        return "bytes_val"
    field = Value.DESCRIPTOR.fields_by_number.get(value_type)
    return "" if field is None or field.name == "null_val" else str(field.name)


def fit(serialized: bytes, value_type: int) -> bytes | None:
    """A serialized Value as its field's type, None for a null. A Value of that type is not made anew.

    Raises:
        ValueError: it is damaged, of another type, or out of range; the message reads on from the field's path.
    """
    try:
        (value,) = in_answer([serialized])
    except DecodeError as error:
        raise ValueError("is not a serialized Value") from error
    kind, declared = value.WhichOneof("val"), declared_kind(value_type)
    if kind is None or kind == "null_val":
        return None
    if kind == declared or not declared:
        return serialized
    fitted = Value()
    source, shape = _split(kind)
    target, target_shape = _split(declared)
    content = getattr(value, kind)
    if (kind, declared) in _SAME_FORM:
        getattr(fitted, declared).CopyFrom(content)
    elif kind in {"list_val", "set_val"} and target_shape != "_val" and not content.val:
        # An empty collection of no item type.
        getattr(fitted, declared).SetInParent()
    elif (convert := _conversion(source, target)) is None or shape not in {target_shape, _LIST_FOR.get(target_shape)}:
        raise ValueError(f"is {_shown(kind)}, but the field is {_shown(declared)}")
    elif shape == "_val":
        setattr(fitted, declared, convert(content))
    else:
        items = [convert(item) for item in content.val]
        column = getattr(fitted, declared)
        column.SetInParent()
        column.val.extend(dict.fromkeys(items) if target_shape == "_set_val" else items)
    return fitted.SerializeToString()


def from_text(text: str, value_type: int) -> bytes:
    """Text as a serialized Value of its field's type: a number, `true`, an ISO 8601 time, JSON for lists, sets and maps.

    Raises:
        ValueError: the text is not one; the message reads on from the field's path.
    """
    try:
        return _from_text(text, declared_kind(value_type) or "string_val")
    except UnicodeEncodeError as error:
        raise ValueError("holds a character that UTF-8 cannot") from error


def _from_text(text: str, declared: str) -> bytes:
    target, shape = _split(declared)
    value = Value()
    if declared in _OF_JSON:
        _OF_JSON[declared](value, _json(text, declared))
    elif target not in _OF_ITEM:
        raise ValueError(f"is text, and the field is {_shown(declared)}; send it in typed_features")
    elif shape == "_val":
        setattr(value, declared, _OF_ITEM[target](text))
    else:
        items = _json(text, declared)
        if not isinstance(items, list):
            raise ValueError(f"is not a JSON array, and the field is {_shown(declared)}")
        column = getattr(value, declared)
        column.SetInParent()
        converted = [_OF_ITEM[target](item if isinstance(item, str) else json.dumps(item)) for item in items]
        column.val.extend(dict.fromkeys(converted) if shape == "_set_val" else converted)
    return value.SerializeToString()


def instant_of(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time; one without a zone is UTC, finer digits are cut off.

    Raises:
        ValueError: it is none; the message reads on from the field's path.
    """
    try:
        return to_micros(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError) as error:
        raise ValueError("is not an ISO 8601 time, such as 2026-03-01T12:00:00Z") from error


def _split(kind: str) -> tuple[str, str]:
    shape = next(shape for shape in _SHAPES if f"_{kind}".endswith(shape))
    return kind.removesuffix(shape), shape


def _shown(kind: str) -> str:
    return kind.removesuffix("_val").upper()


def _conversion(source: str, target: str) -> Callable[[Any], Any] | None:
    """How an item of one kind becomes one of another; None if it does not."""
    if source == target:
        return lambda item: item
    return _CONVERSIONS.get((source, target))


def _in(allowed: range, name: str) -> Callable[[int], int]:
    def check(number: int) -> int:
        if number not in allowed:
            raise ValueError(f"is {number}, which does not fit {name}")
        return number

    return check


def _exact(limit: int, name: str) -> Callable[[int], float]:
    def check(number: int) -> float:
        if abs(number) > limit:
            raise ValueError(f"is {number}, whose last digits a {name} would lose")
        return float(number)

    return check


def _float(number: float) -> float:
    """The nearest number of 32 bits, which is what the field was declared to hold."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError as error:
        raise ValueError(f"is {number}, which does not fit FLOAT") from error


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise ValueError("is not a UUID") from error


def _decimal(text: str) -> str:
    try:
        return str(Decimal(text))
    except InvalidOperation as error:
        raise ValueError("is not a decimal number") from error


def _json_text(text: str) -> str:
    _json(text, "json_val")
    return text


def _json(text: str, declared: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON, and the field is {_shown(declared)}") from error


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text.strip()) or len(text) > 30:
        raise ValueError("is not a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("is not a number") from error


def _bool(text: str) -> bool:
    try:
        return _TRUE_FALSE[text.strip().lower()]
    except KeyError as error:
        raise ValueError("is neither true nor false") from error


def _seconds(text: str) -> int:
    if _WHOLE.fullmatch(text.strip()):
        return _in(_INT64, "seconds of 64 bits")(_whole(text))
    return instant_of(text) // 1_000_000


def _set_map(value: Value, found: Any, *, declared: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"is not a JSON object, and the field is {_shown(declared)}")  # noqa: TRY004 - the caller's text
    entries = getattr(value, declared)
    entries.SetInParent()
    for key, item in found.items():
        entries.val[key].CopyFrom(_of_json(item))


def _set_maps(value: Value, found: Any, *, declared: str) -> None:
    if not (isinstance(found, list) and all(isinstance(entry, dict) for entry in found)):
        raise ValueError(f"is not a JSON array of objects, and the field is {_shown(declared)}")
    entries = getattr(value, declared)
    entries.SetInParent()
    for entry in found:
        entries.val.add().CopyFrom(_of_json(entry).map_val)


def _of_json(found: Any) -> Value:
    """A Value of JSON, with the kinds that Feast gives to the same Python values."""
    value = Value()
    if found is None:
        return value
    if isinstance(found, dict):
        _set_map(value, found, declared="map_val")
    elif isinstance(found, list) and found and all(isinstance(entry, dict) for entry in found):
        _set_maps(value, found, declared="map_list_val")
    elif isinstance(found, list):
        _set_list(value, found)
    else:
        kind = next(kind for of, kind in _JSON_KINDS if isinstance(found, of))
        setattr(value, kind, _in(_INT64, "INT64")(found) if kind == "int64_val" else found)
    return value


def _set_list(value: Value, found: Sequence[Any]) -> None:
    for of, kind in _JSON_KINDS:
        if found and all(isinstance(item, of) and isinstance(item, bool) == (of is bool) for item in found):
            checked = map(_in(_INT64, "INT64"), found) if of is int else found
            getattr(value, kind.replace("_val", "_list_val")).val.extend(checked)
            return
    value.list_val.SetInParent()
    value.list_val.val.extend(_of_json(item) for item in found)


_JSON_KINDS = ((bool, "bool_val"), (int, "int64_val"), (float, "double_val"), (str, "string_val"))

_LIST_FOR = {"_set_val": "_list_val"}
"""A list is taken where a set is declared: not every caller has sets."""

_SAME_FORM = frozenset(
    {
        *(("map_val", "struct_val"), ("struct_val", "map_val")),
        *(("map_list_val", "struct_list_val"), ("struct_list_val", "map_list_val")),
    }
)

_CONVERSIONS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("int64", "int32"): _in(_INT32, "INT32"),
    ("int32", "int64"): int,
    ("int32", "double"): float,
    ("int64", "double"): _exact(_EXACT_IN_DOUBLE, "double"),
    ("int32", "float"): _exact(_EXACT_IN_FLOAT, "float"),
    ("int64", "float"): _exact(_EXACT_IN_FLOAT, "float"),
    ("float", "double"): float,
    ("double", "float"): _float,
    ("int32", "unix_timestamp"): int,
    ("int64", "unix_timestamp"): int,
    ("int32", "decimal"): str,
    ("int64", "decimal"): str,
    ("string", "decimal"): _decimal,
    ("string", "json"): _json_text,
    ("string", "uuid"): _uuid,
    ("string", "time_uuid"): _uuid,
    ("uuid", "time_uuid"): str,
    ("time_uuid", "uuid"): str,
    ("string", "unix_timestamp"): lambda text: instant_of(text) // 1_000_000,
}

_OF_ITEM: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "int32": lambda text: _in(_INT32, "INT32")(_whole(text)),
    "int64": lambda text: _in(_INT64, "INT64")(_whole(text)),
    "double": _number,
    "float": lambda text: _float(_number(text)),
    "bool": _bool,
    "unix_timestamp": _seconds,
    "json": _json_text,
    "uuid": _uuid,
    "time_uuid": _uuid,
    "decimal": _decimal,
}

_OF_JSON: Mapping[str, Callable[[Value, Any], None]] = {
    "map_val": lambda value, found: _set_map(value, found, declared="map_val"),
    "struct_val": lambda value, found: _set_map(value, found, declared="struct_val"),
    "map_list_val": lambda value, found: _set_maps(value, found, declared="map_list_val"),
    "struct_list_val": lambda value, found: _set_maps(value, found, declared="struct_list_val"),
    "list_val": lambda value, found: _set_nested(value, found, "list_val"),
    "set_val": lambda value, found: _set_nested(value, found, "set_val"),
}


def _set_nested(value: Value, found: Any, declared: str) -> None:
    if not isinstance(found, list):
        raise ValueError(f"is not a JSON array, and the field is {_shown(declared)}")  # noqa: TRY004 - the caller's text
    getattr(value, declared).SetInParent()
    getattr(value, declared).val.extend(_of_json(item) for item in found)
