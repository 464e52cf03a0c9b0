"""Columns of Values as pandas, Arrow and NumPy. Each library is imported by the function that makes its type."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from math import nan
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from hindcast.v1.value_pb2 import Value
from hindcast_client._decoding import decode, decode_column, decode_key, first_kind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

_NUMBERS = frozenset({"int32_val", "int64_val", "float_val", "double_val", "bool_val"})

# pandas' dtype without and with nulls.
_PANDAS = {
    "int32_val": ("int32", "Int32"),
    "int64_val": ("int64", "Int64"),
    "float_val": ("float32", "float32"),
    "double_val": ("float64", "float64"),
    "bool_val": ("bool", "boolean"),
    "unix_timestamp_val": ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}

# Arrow's name of the type; text for what Arrow has no type of its own for, as in Feast's mapping.
_ARROW = {
    "bytes": "binary",
    "string": "string",
    "int32": "int32",
    "int64": "int64",
    "double": "float64",
    "float": "float32",
    "bool": "bool_",
    "json": "string",
    "uuid": "string",
    "time_uuid": "string",
    "decimal": "string",
}
_TEXT = frozenset({"json", "uuid", "time_uuid", "decimal"})
_MAPS = ("map_val", "struct_val", "map_list_val", "struct_list_val")


def to_numpy(columns: Sequence[tuple[str, Sequence[Value]]], *, rows: int) -> "np.ndarray":
    """A rows x columns float64 matrix; NaN for a null."""
    numpy = load("numpy")
    matrix = numpy.full((rows, len(columns)), numpy.nan)
    for at, (name, values) in enumerate(columns):
        kind = first_kind(values)
        if kind is None:
            continue
        probe = kind if kind in _NUMBERS else "double_val"
        take = attrgetter(probe)
        matrix[:, at] = [
            take(value) if value.HasField(probe) else _number(value, name, row) for row, value in enumerate(values)
        ]
    return matrix  # type: ignore[no-any-return]


def _number(value: Value, name: str, row: int) -> float:
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return nan
    if kind in _NUMBERS:
        return float(getattr(value, kind))
    raise TypeError(
        f"feature {name!r} is {kind.removesuffix('_val')}, not a number, in row {row}; leave it out of the lookup, "
        "or take to_dict(), to_pandas() or to_arrow()"
    )


def to_pandas(columns: Mapping[str, Sequence[Value]]) -> "pd.DataFrame":
    """One Series per column, of the dtype of its kind."""
    pandas = load("pandas")
    return pandas.DataFrame(
        {
            name: pandas.Series(decoded := decode_column(values, name=name), dtype=_pandas_dtype(values, decoded))
            for name, values in columns.items()
        }
    )


def _pandas_dtype(values: Sequence[Value], decoded: Sequence[Any]) -> str:
    kinds = _kinds(values)
    dtypes = _PANDAS.get(kinds[0]) if len(kinds) == 1 else None
    return "object" if dtypes is None else dtypes[None in decoded]


def to_arrow(columns: Mapping[str, Sequence[Value]]) -> "pa.Table":
    """One array per column, of the type of its kind."""
    arrow = load("pyarrow")
    arrays = {}
    for name, values in columns.items():
        try:
            kind = _arrow_type(arrow, values)
            arrays[name] = arrow.array([_arrow_cell(arrow, value, kind) for value in values], type=kind)
        except TypeError as error:
            raise TypeError(f"column {name!r} {error}; take to_dict()") from None
        except (ValueError, OverflowError) as error:
            raise ValueError(f"column {name!r} cannot be an Arrow array: {error}; take to_dict()") from error
    return arrow.table(arrays)


def _arrow_type(arrow: Any, values: Iterable[Value]) -> Any:
    """The one Arrow type of all these values; `null` where none has a value."""
    values = list(values)
    kinds = _kinds(values)
    if not kinds:
        return arrow.null()
    if _NUMBERS.issuperset(kinds) and len(kinds) > 1:
        return _arrow_number_type(arrow, kinds)
    if len(kinds) > 1:
        raise _mixed(kinds)
    kind = kinds[0]
    payloads = [getattr(value, kind) for value in values if value.WhichOneof("val") == kind]
    if kind in _MAPS:
        maps = [item for payload in payloads for item in payload.val] if kind.endswith("_list_val") else payloads
        item = _arrow_map_type(arrow, maps, struct=kind.startswith("struct"))
        return arrow.list_(item) if kind.endswith("_list_val") else item
    if kind == "scalar_map_val":
        entries = [entry for payload in payloads for entry in payload.val]
        keys = _arrow_type(arrow, (_as_value(entry.key) for entry in entries))
        return arrow.map_(keys, _arrow_type(arrow, (entry.value for entry in entries)))
    if kind in ("list_val", "set_val"):
        return arrow.list_(_arrow_type(arrow, (item for payload in payloads for item in payload.val)))
    scalar = _scalar(kind)
    if scalar in ("unix_timestamp", "zoned_timestamp"):
        item = arrow.timestamp("us", "UTC")
    else:
        item = getattr(arrow, _ARROW[scalar])()
    return item if kind == f"{scalar}_val" else arrow.list_(item)


def _arrow_number_type(arrow: Any, kinds: Sequence[str]) -> Any:
    """The type of numbers of several kinds; a whole number that is no double exactly then fails as a cell.

    Feast writes a struct's whole numbers as doubles wherever another row of the same batch has no struct.
    """
    if "bool_val" in kinds:
        raise _mixed(kinds)
    return arrow.int64() if {"int32_val", "int64_val"}.issuperset(kinds) else arrow.float64()


def _mixed(kinds: Sequence[str]) -> TypeError:
    return TypeError(f"mixes {' and '.join(kind.removesuffix('_val') for kind in kinds[:2])}")


def _arrow_map_type(arrow: Any, maps: Sequence[Any], *, struct: bool) -> Any:
    """A struct of all fields seen, or a map where the values agree on one type."""
    if not struct:
        try:
            return arrow.map_(arrow.string(), _arrow_type(arrow, (value for one in maps for value in one.val.values())))
        except TypeError:
            # Values of several types under one map: only a struct holds them.
            pass
    fields: dict[str, list[Value]] = {}
    for one in maps:
        for key, value in one.val.items():
            fields.setdefault(key, []).append(value)
    return arrow.struct([(key, _arrow_type(arrow, fields[key])) for key in sorted(fields)])


def _arrow_cell(arrow: Any, value: Value, kind: Any) -> Any:
    """What pyarrow.array takes for one value of this type."""
    field = value.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    payload = getattr(value, field)
    if field in ("map_val", "struct_val"):
        return _arrow_map_cell(arrow, payload, kind)
    if field in ("map_list_val", "struct_list_val"):
        return [_arrow_map_cell(arrow, one, kind.value_type) for one in payload.val]
    if field == "scalar_map_val":
        return [
            (_arrow_cell(arrow, _as_value(entry.key), kind.key_type), _arrow_cell(arrow, entry.value, kind.item_type))
            for entry in payload.val
        ]
    if field in ("list_val", "set_val"):
        return [_arrow_cell(arrow, item, kind.value_type) for item in payload.val]
    return _arrow_flat_cell(value, field)


def _arrow_flat_cell(value: Value, field: str) -> Any:
    """The same for a scalar, and for a list or set of scalars."""
    payload = getattr(value, field)
    scalar = _scalar(field)
    if scalar in _TEXT:
        # "" is how Feast writes a null inside a list.
        return (payload or None) if field == f"{scalar}_val" else [text or None for text in payload.val]
    decoded = decode(value)
    return list(decoded) if isinstance(decoded, set) else decoded


def _arrow_map_cell(arrow: Any, payload: Any, kind: Any) -> Any:
    if arrow.types.is_struct(kind):
        return {key: _arrow_cell(arrow, value, kind.field(key).type) for key, value in payload.val.items()}
    return [(key, _arrow_cell(arrow, value, kind.item_type)) for key, value in sorted(payload.val.items())]


def _scalar(field: str) -> str:
    """`int64` for `int64_val`, `int64_list_val` and `int64_set_val`."""
    return field.removesuffix("_val").removesuffix("_list").removesuffix("_set")


def _as_value(key: Any) -> Value:
    """A map's key as the Value it would be elsewhere."""
    field = key.WhichOneof("key")
    if field is None:
        raise TypeError(f"has a map with the key {decode_key(key)}")
    return Value(**{f"{field.removesuffix('_key')}_val": getattr(key, field)})


def _kinds(values: Iterable[Value]) -> list[str]:
    """The kinds among these values in order of appearance, nulls aside."""
    found = dict.fromkeys(value.WhichOneof("val") for value in values)
    return [kind for kind in found if kind not in (None, "null_val")]


def load(module: str) -> Any:
    """A module that only some results need.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}; install it with: pip install 'hindcast[frames]'", name=module
        ) from error
