"""`hindcast.v1.Value` to Python values, as Feast's own client reads them. The way in is `_encoding`.

Times come back as aware datetimes, UUIDs and decimals as their classes, JSON parsed (text that does not parse stays
text), sets as set, maps and structs as dict. A nested set comes back as a list, since its items have no hash.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hindcast.v1.value_pb2 import MapKey, ScalarMap, StringMap, Value, ZonedTimestamp
from hindcast_client._encoding import EPOCH, NO_TIME

_FIXED_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})")


def decode_column(values: Sequence[Value], *, name: str) -> list[Any]:
    """One Python value per Value; None for a null.

    Raises:
        ValueError: a stored value is not what its type says, such as a UUID of three letters. Names column and row.
    """
    kind = first_kind(values)
    if kind in _PLAIN:
        # Asking each value for the one kind that the column has is half the cost of asking it which kind it has.
        take = attrgetter(kind)
        return [
            take(value) if value.HasField(kind) else _decode_in(value, name, row) for row, value in enumerate(values)
        ]
    return [_decode_in(value, name, row) for row, value in enumerate(values)]


def first_kind(values: Iterable[Value]) -> str | None:
    """The kind of the first value that is not null; a column has only one, unless its writer broke the rule."""
    kinds = (value.WhichOneof("val") for value in values)
    return next((kind for kind in kinds if kind not in (None, "null_val")), None)


def _decode_in(value: Value, name: str, row: int) -> Any:
    try:
        return decode(value)
    except (ValueError, OverflowError, ArithmeticError) as error:
        kind = value.WhichOneof("val")
        raise ValueError(f"column {name!r}, row {row} is stored as {kind} and is none: {error}") from error


def decode(value: Value) -> Any:
    """The Python value of one Value."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    return _BY_KIND[kind](getattr(value, kind))


def seconds_to_datetime(seconds: int) -> datetime | None:
    """An aware UTC datetime; None for the mark that Feast writes for a missing time.

    Raises:
        OverflowError: outside of the years 1 to 9999.
    """
    return None if seconds == NO_TIME else EPOCH + timedelta(seconds=seconds)


def _same(payload: Any) -> Any:
    return payload


def _null(_: object) -> None:
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _uuid(text: str) -> UUID | None:
    # Feast writes "" for a null inside a list of UUIDs or decimals.
    return UUID(text) if text else None


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _zoned(payload: ZonedTimestamp) -> datetime | None:
    """The instant in its zone. Seconds, as Feast 0.67 writes them (`int(datetime.timestamp())`)."""
    instant = seconds_to_datetime(payload.unix_timestamp)
    return None if instant is None else instant.astimezone(_zone(payload.zone))


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    """The zone of a name as Feast stores it: IANA, a fixed offset such as `UTC-07:00`, or "" for UTC.

    A name that this machine does not know (no tzdata, say) gives UTC: the instant is the same.
    """
    if not name or name in ("UTC", "GMT"):
        return UTC
    match = _FIXED_OFFSET.fullmatch(name.strip())
    if match:
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return _zone("")


def _each(item: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda payload: [item(one) for one in payload.val]


def _distinct(item: Callable[[Any], Any]) -> Callable[[Any], set[Any]]:
    return lambda payload: {item(one) for one in payload.val}


def _map(payload: StringMap) -> dict[str, Any]:
    return {key: decode(value) for key, value in payload.val.items()}


def _scalar_map(payload: ScalarMap) -> dict[Any, Any]:
    return {decode_key(entry.key): decode(entry.value) for entry in payload.val}


def decode_key(key: MapKey) -> Any:
    """The Python value of a scalar map's key; None for an unset one."""
    kind = key.WhichOneof("key")
    if kind is None:
        return None
    return _BY_KIND[f"{kind.removesuffix('_key')}_val"](getattr(key, kind))


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "bytes": _same,
    "string": _same,
    "int32": _same,
    "int64": _same,
    "double": _same,
    "float": _same,
    "bool": _same,
    "unix_timestamp": seconds_to_datetime,
    "uuid": _uuid,
    "time_uuid": _uuid,
    "decimal": _decimal,
}

# What protobuf gives for these is the Python value.
_PLAIN = frozenset(f"{scalar}_val" for scalar, item in _SCALARS.items() if item is _same)

_BY_KIND: dict[str, Callable[[Any], Any]] = {
    **{f"{scalar}_val": item for scalar, item in _SCALARS.items()},
    **{f"{scalar}_list_val": _each(item) for scalar, item in _SCALARS.items()},
    **{f"{scalar}_set_val": _distinct(item) for scalar, item in _SCALARS.items()},
    "null_val": _null,
    "json_val": _json,
    "json_list_val": _each(_json),
    "map_val": _map,
    "map_list_val": _each(_map),
    "struct_val": _map,
    "struct_list_val": _each(_map),
    "scalar_map_val": _scalar_map,
    "list_val": _each(decode),
    "set_val": _each(decode),
    "zoned_timestamp_val": _zoned,
}
