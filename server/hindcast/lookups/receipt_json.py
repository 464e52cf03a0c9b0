"""Receipts as JSON, without loss: what stands there gives back the bytes that were served.

A value is `{"kind": …, "value": …}`, the kind that of `hindcast.v1.Value` without its `_val`; a null has neither. JSON has too few kinds
of its own, so by kind:

    double, float       a number by repr, which reads back as the same bits; text for "NaN", "Infinity" and "-Infinity"
    int64               a number, or text beyond 2^53, where readers of JSON round
    bytes               base64
    unix_timestamp      ISO 8601 in UTC; text of its seconds outside of the years 1 to 9999
    decimal, uuid, json text as stored
    lists and sets      lists, in the order stored; nested ones (`list`, `set`) hold values with kinds
    map, struct         objects of values with kinds
    scalar_map          a list of pairs of a key and a value, both with kinds

A value with a NaN in it has `bytes` besides, base64 of the serialized Value, since there are many NaNs.

Rows that were erased are in `erased_rows`, by their numbers from 0, and have no `features`.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from google.rpc import code_pb2

from hindcast.catalog import OnDemandView, Projection, View
from hindcast.clock import from_micros
from hindcast.lookups.reading import Summary
from hindcast.lookups.receipts import Answered, Column, Receipt, run_id_of
from hindcast.v1.feature_service_pb2 import FeatureStatus
from hindcast.v1.value_pb2 import MapKey, ScalarMap, StringMap, Value, ZonedTimestamp

_EXACT = 2**53
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_PREFIX = "FEATURE_STATUS_"


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """All of a receipt."""
    record, found = receipt.record, receipt.found
    return {
        "lookup_id": receipt.lookup_id,
        "request_id": record.request_id,
        "tags": dict(record.tags),
        "served_at": instant(record.served_at_micros),
        "rpc": record.rpc.value,
        "service": record.service or None,
        "refs": list(record.refs),
        "full_feature_names": receipt.full_feature_names,
        "status": _status(record.code, record.reason, record.message),
        "mode": record.mode,
        "catalog_version": record.catalog_version,
        "writer": {"slot": found.writer.slot, "epoch": str(found.writer.epoch), "sequence": found.sequence},
        "erased_rows": list(record.erased),
        "entity_rows": _rows(receipt.entities),
        "request_data": _rows(receipt.request_data),
        "features": [
            _cell(receipt, column, row)
            for row in range(receipt.entity_rows)
            if row not in receipt.erased
            for column in receipt.columns
        ],
        "computed_from": {
            view: {name: [value_json(value) for value in values] for name, values in columns.items()}
            for view, columns in record.computed.items()
        },
        "definitions": definitions(receipt),
        "request": base64.b64encode(record.request).decode(),
        "response": base64.b64encode(record.response).decode(),
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """A lookup in a list."""
    return {
        "lookup_id": str(UUID(bytes=summary.lookup_id)),
        "request_id": summary.request_id,
        "tags": dict(summary.tags),
        "served_at": instant(summary.served_at_micros),
        "rpc": summary.rpc.value,
        "service": summary.service or None,
        "refs": list(summary.refs),
        "status": _status(summary.code, summary.reason),
        "mode": summary.mode,
        "entity_rows": summary.entity_rows,
        "catalog_version": summary.catalog_version,
        "writer": {"slot": summary.writer.slot, "epoch": str(summary.writer.epoch), "sequence": summary.sequence},
    }


def instant(micros: int) -> str:
    """ISO 8601 in UTC, to the microsecond; the number where that is no time of the years 1 to 9999."""
    try:
        return from_micros(micros).isoformat(timespec="microseconds")
    except OverflowError:
        return str(micros)


def code_name(code: int) -> str:
    """The word of a google.rpc.Code."""
    try:
        return str(code_pb2.Code.Name(code))
    except ValueError:
        return str(code)


def status_name(status: int) -> str:
    """The word of a FeatureStatus."""
    try:
        return FeatureStatus.Name(status).removeprefix(_PREFIX)
    except ValueError:
        return str(status)


def value_json(serialized: bytes) -> dict[str, Any]:
    """A serialized Value; empty for a null."""
    value = Value.FromString(serialized)
    made = _typed(value)
    if made and _has_nan(made["value"]):
        made["bytes"] = base64.b64encode(serialized).decode()
    return made


def definitions(receipt: Receipt) -> dict[str, Any] | None:
    """What the definitions in force said of what was asked for; None where they are not kept."""
    catalog = receipt.catalog
    if catalog is None:
        return None
    return {
        "catalog_version": catalog.version,
        "project": catalog.project,
        "feast_version": catalog.feast_version,
        "views": [_definition(projection, view) for projection, view in receipt.projections()],
    }


def _definition(projection: Projection, view: View | OnDemandView | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": projection.name,
        "view": projection.view,
        "features": list(projection.features),
        "join_key_map": dict(projection.join_keys),
    }
    if isinstance(view, View):
        made |= {
            "kind": "feature view",
            "version": view.version,
            "ttl_seconds": view.ttl_micros / 1e6 if view.ttl_micros else None,
            "join_keys": {key.name: type_name(key.value_type) for key in view.join_keys},
            "fields": {field.name: type_name(field.value_type) for field in view.fields},
        }
    elif view is not None:
        made |= {
            "kind": "on-demand feature view",
            "mode": view.mode,
            "sources": msgspec.to_builtins(view.sources),
            "request_fields": {field.name: type_name(field.value_type) for field in view.request_fields},
            "fields": {field.name: type_name(field.value_type) for field in view.fields},
            "definition": base64.b64encode(view.definition).decode(),
        }
    return made


def type_name(value_type: int) -> str:
    """The word of a `feast.types.ValueType.Enum`, whose numbers are those of the fields of a Value."""
    field = Value.DESCRIPTOR.fields_by_number.get(value_type)
    word = str(value_type) if field is None else str(field.name).removesuffix("_val").upper()
    return f"VALUE_{word}" if word in {"LIST", "SET"} else word


def _status(code: int, reason: str, message: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"code": code_name(code), "number": code, "reason": reason}
    return made if message is None else {**made, "message": message}


def _rows(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """A row per row; where columns differ in length, which no lookup survives, the shorter ones have no value there."""
    return [
        {column.name: value_json(column.values[row]) for column in columns if row < len(column.values)}
        for row in range(max((len(column.values) for column in columns), default=0))
    ]


def _cell(receipt: Receipt, column: Answered, row: int) -> dict[str, Any]:
    header = receipt.row(column, row)
    run_id = run_id_of(header)
    made = {
        "row": row,
        "name": column.name,
        "view": column.view or None,
        "feature": column.feature,
        **value_json(column.values[row]),
        "status": status_name(column.statuses[row]),
    }
    if header is not None:
        made |= {
            "event_ts": instant(header.event_micros),
            "created_ts": None if header.created_micros is None else instant(header.created_micros),
            "age_seconds": (receipt.record.served_at_micros - header.event_micros) / 1e6,
            "run_id": run_id or None,
        }
    return made


def _has_nan(made: Any) -> bool:
    if isinstance(made, Mapping):
        return any(map(_has_nan, made.values()))
    return made is _NAN or (isinstance(made, list) and any(map(_has_nan, made)))


def _typed(value: Value) -> dict[str, Any]:
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return {}
    return {"kind": kind.removesuffix("_val"), "value": _BY_KIND[kind](getattr(value, kind))}


class _Text(str):
    __slots__ = ()


_NAN = _Text("NaN")
"""Another object than any text that was stored."""


def _number(number: float) -> float | str:
    if math.isnan(number):
        return _NAN
    return number if math.isfinite(number) else ("Infinity" if number > 0 else "-Infinity")


def _integer(number: int) -> int | str:
    return number if -_EXACT <= number <= _EXACT else str(number)


def _bytes(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _seconds(seconds: int) -> str:
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return str(seconds)
    return from_micros(seconds * 1_000_000).isoformat()


def _same(payload: Any) -> Any:
    return payload


def _each(item: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda payload: [item(one) for one in payload.val]


def _map(payload: StringMap) -> dict[str, Any]:
    return {key: _typed(value) for key, value in sorted(payload.val.items())}


def _scalar_map(payload: ScalarMap) -> list[list[Any]]:
    return [[_key(entry.key), _typed(entry.value)] for entry in payload.val]


def _key(key: MapKey) -> dict[str, Any]:
    kind = key.WhichOneof("key")
    if kind is None:
        return {}
    scalar = kind.removesuffix("_key")
    return {"kind": scalar, "value": _SCALARS[scalar](getattr(key, kind))}


def _zoned(payload: ZonedTimestamp) -> dict[str, str]:
    return {"instant": _seconds(payload.unix_timestamp), "zone": payload.zone}


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "bytes": _bytes,
    "string": _same,
    "int32": _same,
    "int64": _integer,
    "double": _number,
    "float": _number,
    "bool": _same,
    "unix_timestamp": _seconds,
    "uuid": _same,
    "time_uuid": _same,
    "decimal": _same,
    "json": _same,
}

_BY_KIND: dict[str, Callable[[Any], Any]] = {
    **{f"{scalar}_val": item for scalar, item in _SCALARS.items()},
    **{f"{scalar}_list_val": _each(item) for scalar, item in _SCALARS.items()},
    **{f"{scalar}_set_val": _each(item) for scalar, item in _SCALARS.items()},
    "map_val": _map,
    "map_list_val": _each(_map),
    "struct_val": _map,
    "struct_list_val": _each(_map),
    "scalar_map_val": _scalar_map,
    "list_val": _each(_typed),
    "set_val": _each(_typed),
    "zoned_timestamp_val": _zoned,
}
