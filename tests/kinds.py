"""Every kind of value that Feast has: a type that gives it, values of it, and the ways in which Feast's SDK can write them.

Importing this imports Feast.
"""

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    ScalarMap,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)

NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
BEFORE_1970 = datetime(1960, 2, 29, 0, 0, 1, tzinfo=UTC)
_IDS = [str(UUID(int=7)), "c232ab00-9414-11ec-b3c8-9f6bdeced846"]


@dataclass(frozen=True)
class Kind:
    """A field of `feast.types.Value`.

    Attributes:
        name: the field.
        values: Python values that Feast's own conversion takes.
        frame: what a frame holds that `push` and `write_to_online_store` take; None where they take none.
        source: what the column of a source holds, and its type; None where Feast materializes none.
    """

    name: str
    dtype: FeastType
    values: Sequence[Any]
    frame: Sequence[Any] | None
    source: tuple[Sequence[Any], pa.DataType] | None

    def protos(self) -> list[Value]:
        """The values and a null, as Feast's own conversion gives them."""
        return python_values_to_proto_values([*self.values, None], self.dtype.to_value_type())


def _plain(name: str, dtype: FeastType, values: Sequence[Any], arrow: pa.DataType) -> Kind:
    """A kind whose values stand in frames and sources as they are."""
    return Kind(name, dtype, values, values, (values, arrow))


_SCALARS = (
    ("bytes", Bytes, [b"\x00\xff}", b""], pa.binary()),
    ("string", String, ["é{}:*", ""], pa.string()),
    ("int32", Int32, [-(2**31), 2**31 - 1], pa.int32()),
    ("int64", Int64, [-(2**63), 2**63 - 1], pa.int64()),
    ("double", Float64, [0.1, -0.0], pa.float64()),
    ("float", Float32, [0.5, -1.25], pa.float32()),
    ("bool", Bool, [True, False], pa.bool_()),
    ("unix_timestamp", UnixTimestamp, [NOON, BEFORE_1970], pa.timestamp("us", "UTC")),
    # Feast's way through Arrow takes UUIDs as text only.
    ("uuid", Uuid, _IDS, pa.string()),
    ("time_uuid", TimeUuid, _IDS, pa.string()),
    ("decimal", Decimal, [decimal.Decimal("1.10"), decimal.Decimal("-12345678901234567890.5")], pa.decimal128(30, 2)),
)
# A null among them makes them doubles on Feast's way, so that greater ones lose digits or fail.
_EXACT = [2**53, -1]
_MAPS = [{"a": "1", "é": ""}, {}]
_ROWS = [{"a": 1, "b": "x"}, {"a": -(2**40), "b": ""}]
_JSON = ['{"a": [1, null, "é"]}', "[]"]
_STRUCT = Struct({"a": Int64, "b": String})
_ARROW_STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
_LISTS = [[[1, 2], [3]], []]

KINDS = (
    *(
        Kind("int64_val", dtype, values, _EXACT, (_EXACT, arrow))
        if name == "int64"
        else _plain(f"{name}_val", dtype, values, arrow)
        for name, dtype, values, arrow in _SCALARS
    ),
    *(
        _plain(f"{name}_list_val", Array(dtype), [values, []], pa.list_(arrow))
        for name, dtype, values, arrow in _SCALARS
    ),
    *(
        Kind(
            f"{name}_set_val",
            Set(dtype),
            [set(values), set()],
            [set(values), set()],
            ([values, []], pa.list_(arrow)),
        )
        for name, dtype, values, arrow in _SCALARS
    ),
    Kind("map_val", Map, _MAPS, _MAPS, None),
    Kind("map_list_val", Array(Map), [_MAPS, []], None, None),
    _plain("json_val", Json, _JSON, pa.string()),
    _plain("json_list_val", Array(Json), [_JSON, []], pa.list_(pa.string())),
    _plain("struct_val", _STRUCT, _ROWS, _ARROW_STRUCT),
    _plain("struct_list_val", Array(_STRUCT), [_ROWS, []], pa.list_(_ARROW_STRUCT)),
    _plain("list_val", Array(Array(Int64)), _LISTS, pa.list_(pa.list_(pa.int64()))),
    _plain("set_val", Set(Set(String)), [[["a"], ["b", "c"]], []], pa.list_(pa.list_(pa.string()))),
    Kind("scalar_map_val", ScalarMap, [{1: "a", 2**40: "b"}, {-1: None}], None, None),
    Kind(
        "zoned_timestamp_val",
        ZonedTimestamp,
        [NOON.astimezone(ZoneInfo("Europe/Berlin")), BEFORE_1970],
        None,
        None,
    ),
)
"""All but `null_val`, which no type gives: of a null no field is set."""
