"""Python values to `hindcast.v1.Value`. The way back is `_decoding`.

A column has one kind. Nulls fit every kind; a mix of 32 and 64 bits becomes 64, and whole numbers among fractions
become doubles as long as no digit is lost. Anything else that is mixed is an error, as a server's column is typed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hindcast.v1.value_pb2 import MapKey, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How Feast writes a missing time: the bits of NumPy's NaT.
NO_TIME = -(2**63)

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# Every whole number up to here is a double exactly.
_EXACT_DOUBLE_MAX = 2**53

_VALUE_FIELDS = frozenset(Value.DESCRIPTOR.fields_by_name)
_KEY_FIELDS = frozenset(MapKey.DESCRIPTOR.fields_by_name)
# Longest first, so that `int64_list_val` is not read as an `int64_list` scalar.
_SHAPES = ("_list_val", "_set_val", "_val")


def encode_column(values: Iterable[object], *, name: str) -> list[Value]:
    """One Value per entry, all of one kind.

    Args:
        values: Python values, NumPy or pandas scalars, Values.
        name: what the column is called in an error, such as `entities['driver_id']`.

    Raises:
        TypeError: an entry is of a type that has no Value, or the entries do not agree on one.
        ValueError: an entry is out of its type's range.
    """
    encoded = []
    for row, value in enumerate(values):
        try:
            encoded.append(encode(value))
        except (TypeError, ValueError) as error:
            raise _like(error)(f"{name}, row {row}: {error}") from None
    try:
        return _agree(encoded, entry="row")
    except (TypeError, ValueError) as error:
        raise _like(error)(f"{name}: {error}") from None


def narrow(column: list[Value]) -> list[Value]:
    """A join key's column with int64 made int32 where every value fits.

    A Python int does not say which of the two it is, and a server widens a join key but never narrows one: an int32 fits
    both kinds of key.
    """
    whole = [value.int64_val for value in column if _kind(value) == "int64_val"]
    fits = len(whole) == sum(_kind(value) is not None for value in column)
    if not fits or not all(_INT32_MIN <= number <= _INT32_MAX for number in whole):
        return column
    return [Value(int32_val=value.int64_val) if _kind(value) else value for value in column]


def encode(value: Any) -> Value:
    """One Value; a Value passes as it is, None becomes the null Value."""
    if value is None:
        return Value()
    if isinstance(value, Value):
        return value
    encoder = _BY_TYPE.get(type(value))
    return encoder(value) if encoder is not None else _encoder_of(value)(value)


def _encoder_of(value: Any) -> Callable[[Any], Value]:
    """The encoder of a value whose exact type is not in the table: NumPy's, pandas' and subclasses."""
    library, name = type(value).__module__.partition(".")[0], type(value).__name__
    if library == "numpy" and name in _BY_NUMPY_NAME:
        return _BY_NUMPY_NAME[name]
    if library == "pandas" and name in ("NaTType", "NAType"):
        return _null
    for kind, encoder in _BY_TYPE.items():
        if isinstance(value, kind):
            return encoder
    if isinstance(value, Mapping):
        return _map
    if isinstance(value, date):
        raise TypeError("a date is not an instant; give a datetime, such as datetime(2024, 5, 1, tzinfo=UTC)")
    raise TypeError(
        f"{type(value).__qualname__} is no feature type; give bool, int, float, str, bytes, datetime, UUID, Decimal, "
        "None, lists, sets or dicts of these, a NumPy scalar or array, or a hindcast.v1.value_pb2.Value",
    )


def _null(_: object) -> Value:
    return Value()


def _int(value: Any) -> Value:
    number = int(value)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise ValueError(f"{number} does not fit 64 bits; give it as str or Decimal if the feature is one")
    return Value(int64_val=number)


def _datetime(value: datetime) -> Value:
    """Whole seconds, as Feast stores times: a fraction is dropped towards 1970, a naive datetime is read as UTC."""
    instant = value.replace(tzinfo=UTC) if value.utcoffset() is None else value
    # Timestamp subclasses carry nanoseconds; integer arithmetic on their microseconds drops no whole second.
    since = instant.astimezone(UTC) - EPOCH
    seconds = abs(since) // timedelta(seconds=1)
    return Value(unix_timestamp_val=-seconds if since < timedelta() else seconds)


def _numpy_time(value: Any) -> Value:
    seconds = int(value.astype("datetime64[s]").astype("int64"))
    return Value() if seconds == NO_TIME else Value(unix_timestamp_val=seconds)


def _numpy_array(value: Any) -> Value:
    if value.ndim == 0:
        return encode(value.item())
    return _list(list(value))


def _list(items: Sequence[Any]) -> Value:
    return _collection(items, shape="list")


def _set(items: Iterable[Any]) -> Value:
    return _collection(list(items), shape="set")


def _collection(items: Sequence[Any], *, shape: str) -> Value:
    """A typed list or set of scalars, or `list_val` / `set_val` of whatever else has one kind."""
    encoded = []
    for position, item in enumerate(items):
        try:
            encoded.append(encode(item))
        except (TypeError, ValueError) as error:
            raise _like(error)(f"item {position}: {error}") from None
        if _kind(encoded[-1]) is None:
            raise ValueError(f"item {position} is null, which a {shape} cannot hold; leave it out")
    encoded = _agree(encoded, entry="item")
    value = Value()
    kind = encoded[0].WhichOneof("val") if encoded else None
    typed = f"{str(kind).removesuffix('_val')}_{shape}_val"
    if kind is not None and typed in _VALUE_FIELDS:
        getattr(value, typed).val.extend(getattr(item, kind) for item in encoded)
        return value
    # No item type to be had: an empty collection takes that of the column it stands in (`_agree`).
    column = getattr(value, f"{shape}_val")
    column.SetInParent()
    column.val.extend(encoded)
    return value


def _map(value: Mapping[Any, Any]) -> Value:
    """`map_val` where all keys are str, else `scalar_map_val`."""
    result = Value()
    if all(isinstance(key, str) for key in value):
        result.map_val.SetInParent()
        for key, item in value.items():
            result.map_val.val[key].CopyFrom(_entry(key, item))
        return result
    for key, item in value.items():
        encoded = encode(key)
        kind = str(encoded.WhichOneof("val"))
        field = f"{kind.removesuffix('_val')}_key"
        if field not in _KEY_FIELDS:
            raise TypeError(f"key {key!r} cannot stand in a map; keys are all str, or all of another scalar type")
        entry = result.scalar_map_val.val.add(value=_entry(key, item))
        setattr(entry.key, field, getattr(encoded, kind))
    return result


def _entry(key: object, item: object) -> Value:
    try:
        return encode(item)
    except (TypeError, ValueError) as error:
        raise _like(error)(f"key {key!r}: {error}") from None


def _agree(values: list[Value], *, entry: str) -> list[Value]:
    """The same values, brought to one kind; `entry` is what one of them is called in an error."""
    kinds = [_kind(value) for value in values]
    firsts: dict[str, int] = {}
    for position, kind in enumerate(kinds):
        if kind is not None and not kind.startswith("empty_"):
            firsts.setdefault(kind, position)
    if not firsts:
        return values
    target = _wider(firsts, entry=entry)
    agreed = []
    for position, (value, kind) in enumerate(zip(values, kinds, strict=True)):
        try:
            agreed.append(value if kind is None or kind == target else _brought(value, kind, target))
        except (TypeError, ValueError) as error:
            raise _like(error)(f"{entry} {position} {error}") from None
    return agreed


def _kind(value: Value) -> str | None:
    """The field that is set; None for a null, `empty_list_val` or `empty_set_val` for a collection of no item type."""
    kind: str | None = value.WhichOneof("val")
    if kind == "null_val":
        return None
    if kind in ("list_val", "set_val") and not getattr(value, kind).val:
        return f"empty_{kind}"
    return kind


def _wider(firsts: Mapping[str, int], *, entry: str) -> str:
    """The one kind that holds all of these without loss."""
    suffixes = {_shape(kind) for kind in firsts}
    scalars = {kind.removesuffix(_shape(kind)) for kind in firsts}
    if len(suffixes) == 1:
        suffix = suffixes.pop()
        if len(scalars) == 1:
            return next(iter(firsts))
        if scalars <= {"int32", "int64"}:
            return f"int64{suffix}"
        if scalars <= {"int32", "int64", "float", "double"}:
            return f"double{suffix}"
    (kind, position), (other_kind, other_position) = list(firsts.items())[:2]
    raise TypeError(
        f"{entry} {position} is {kind.removesuffix('_val')} and {entry} {other_position} is "
        f"{other_kind.removesuffix('_val')}; give one type for all",
    )


def _brought(value: Value, kind: str, target: str) -> Value:
    """The value as `target`, which is wider than its kind."""
    result = Value()
    if kind.startswith("empty_"):
        if _shape(kind) != _shape(target):
            raise TypeError(f"is an empty collection, among {target.removesuffix('_val')}; give one type for all")
        getattr(result, target).SetInParent()
        return result
    payload = getattr(value, kind)
    numbers = [payload] if _shape(kind) == "_val" else payload.val
    if target.startswith("double"):
        for number in numbers:
            if isinstance(number, int) and abs(number) > _EXACT_DOUBLE_MAX:
                raise ValueError(f"holds {number} among fractions, and a double would lose its last digits")
    if _shape(target) == "_val":
        setattr(result, target, payload)
    else:
        getattr(result, target).val.extend(numbers)
    return result


def _shape(kind: str) -> str:
    return next(suffix for suffix in _SHAPES if f"_{kind}".endswith(suffix))


def _like(error: Exception) -> type[TypeError] | type[ValueError]:
    """The plain class of an error; UnicodeEncodeError, a ValueError, cannot be made from a message."""
    return TypeError if isinstance(error, TypeError) else ValueError


# In the order in which subclasses are tried: bool before int.
_BY_TYPE: dict[type, Callable[[Any], Value]] = {
    bool: lambda value: Value(bool_val=value),
    int: _int,
    float: lambda value: Value(double_val=value),
    str: lambda value: Value(string_val=value),
    bytes: lambda value: Value(bytes_val=value),
    bytearray: lambda value: Value(bytes_val=bytes(value)),
    memoryview: lambda value: Value(bytes_val=bytes(value)),
    datetime: _datetime,
    UUID: lambda value: Value(uuid_val=str(value)),
    Decimal: lambda value: Value(decimal_val=str(value)),
    list: _list,
    tuple: _list,
    set: _set,
    frozenset: _set,
    dict: _map,
}

# By name, so that NumPy need not be there. Unsigned ones go to the signed kind that holds them all, as in Feast.
_BY_NUMPY_NAME: dict[str, Callable[[Any], Value]] = {
    "bool": lambda value: Value(bool_val=bool(value)),
    "bool_": lambda value: Value(bool_val=bool(value)),
    **dict.fromkeys(
        ("int8", "int16", "int32", "uint8", "uint16"),
        lambda value: Value(int32_val=int(value)),
    ),
    **dict.fromkeys(("int64", "longlong", "uint32", "uint64", "ulonglong"), _int),
    **dict.fromkeys(("float16", "float32"), lambda value: Value(float_val=float(value))),
    "datetime64": _numpy_time,
    "ndarray": _numpy_array,
}
