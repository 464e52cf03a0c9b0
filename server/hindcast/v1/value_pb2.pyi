from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NullValue(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NULL_VALUE_UNSPECIFIED: _ClassVar[NullValue]
NULL_VALUE_UNSPECIFIED: NullValue

class Value(_message.Message):
    __slots__ = ("bytes_val", "string_val", "int32_val", "int64_val", "double_val", "float_val", "bool_val", "unix_timestamp_val", "bytes_list_val", "string_list_val", "int32_list_val", "int64_list_val", "double_list_val", "float_list_val", "bool_list_val", "unix_timestamp_list_val", "null_val", "map_val", "map_list_val", "bytes_set_val", "string_set_val", "int32_set_val", "int64_set_val", "double_set_val", "float_set_val", "bool_set_val", "unix_timestamp_set_val", "json_val", "json_list_val", "struct_val", "struct_list_val", "uuid_val", "time_uuid_val", "uuid_list_val", "time_uuid_list_val", "uuid_set_val", "time_uuid_set_val", "list_val", "set_val", "decimal_val", "decimal_list_val", "decimal_set_val", "scalar_map_val", "zoned_timestamp_val")
    BYTES_VAL_FIELD_NUMBER: _ClassVar[int]
    STRING_VAL_FIELD_NUMBER: _ClassVar[int]
    INT32_VAL_FIELD_NUMBER: _ClassVar[int]
    INT64_VAL_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VAL_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VAL_FIELD_NUMBER: _ClassVar[int]
    BOOL_VAL_FIELD_NUMBER: _ClassVar[int]
    UNIX_TIMESTAMP_VAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    STRING_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    INT32_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    INT64_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    FLOAT_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    BOOL_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    UNIX_TIMESTAMP_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    NULL_VAL_FIELD_NUMBER: _ClassVar[int]
    MAP_VAL_FIELD_NUMBER: _ClassVar[int]
    MAP_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    STRING_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    INT32_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    INT64_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    FLOAT_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    BOOL_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    UNIX_TIMESTAMP_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    JSON_VAL_FIELD_NUMBER: _ClassVar[int]
    JSON_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    STRUCT_VAL_FIELD_NUMBER: _ClassVar[int]
    STRUCT_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    UUID_VAL_FIELD_NUMBER: _ClassVar[int]
    TIME_UUID_VAL_FIELD_NUMBER: _ClassVar[int]
    UUID_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    TIME_UUID_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    UUID_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    TIME_UUID_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    SET_VAL_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_VAL_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_LIST_VAL_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_SET_VAL_FIELD_NUMBER: _ClassVar[int]
    SCALAR_MAP_VAL_FIELD_NUMBER: _ClassVar[int]
    ZONED_TIMESTAMP_VAL_FIELD_NUMBER: _ClassVar[int]
    bytes_val: bytes
    string_val: str
    int32_val: int
    int64_val: int
    double_val: float
    float_val: float
    bool_val: bool
    unix_timestamp_val: int
    bytes_list_val: BytesArray
    string_list_val: StringArray
    int32_list_val: Int32Array
    int64_list_val: Int64Array
    double_list_val: DoubleArray
    float_list_val: FloatArray
    bool_list_val: BoolArray
    unix_timestamp_list_val: Int64Array
    null_val: NullValue
    map_val: StringMap
    map_list_val: StringMapArray
    bytes_set_val: BytesArray
    string_set_val: StringArray
    int32_set_val: Int32Array
    int64_set_val: Int64Array
    double_set_val: DoubleArray
    float_set_val: FloatArray
    bool_set_val: BoolArray
    unix_timestamp_set_val: Int64Array
    json_val: str
    json_list_val: StringArray
    struct_val: StringMap
    struct_list_val: StringMapArray
    uuid_val: str
    time_uuid_val: str
    uuid_list_val: StringArray
    time_uuid_list_val: StringArray
    uuid_set_val: StringArray
    time_uuid_set_val: StringArray
    list_val: ValueColumn
    set_val: ValueColumn
    decimal_val: str
    decimal_list_val: StringArray
    decimal_set_val: StringArray
    scalar_map_val: ScalarMap
    zoned_timestamp_val: ZonedTimestamp
    def __init__(self, bytes_val: _Optional[bytes] = ..., string_val: _Optional[str] = ..., int32_val: _Optional[int] = ..., int64_val: _Optional[int] = ..., double_val: _Optional[float] = ..., float_val: _Optional[float] = ..., bool_val: bool = ..., unix_timestamp_val: _Optional[int] = ..., bytes_list_val: _Optional[_Union[BytesArray, _Mapping]] = ..., string_list_val: _Optional[_Union[StringArray, _Mapping]] = ..., int32_list_val: _Optional[_Union[Int32Array, _Mapping]] = ..., int64_list_val: _Optional[_Union[Int64Array, _Mapping]] = ..., double_list_val: _Optional[_Union[DoubleArray, _Mapping]] = ..., float_list_val: _Optional[_Union[FloatArray, _Mapping]] = ..., bool_list_val: _Optional[_Union[BoolArray, _Mapping]] = ..., unix_timestamp_list_val: _Optional[_Union[Int64Array, _Mapping]] = ..., null_val: _Optional[_Union[NullValue, str]] = ..., map_val: _Optional[_Union[StringMap, _Mapping]] = ..., map_list_val: _Optional[_Union[StringMapArray, _Mapping]] = ..., bytes_set_val: _Optional[_Union[BytesArray, _Mapping]] = ..., string_set_val: _Optional[_Union[StringArray, _Mapping]] = ..., int32_set_val: _Optional[_Union[Int32Array, _Mapping]] = ..., int64_set_val: _Optional[_Union[Int64Array, _Mapping]] = ..., double_set_val: _Optional[_Union[DoubleArray, _Mapping]] = ..., float_set_val: _Optional[_Union[FloatArray, _Mapping]] = ..., bool_set_val: _Optional[_Union[BoolArray, _Mapping]] = ..., unix_timestamp_set_val: _Optional[_Union[Int64Array, _Mapping]] = ..., json_val: _Optional[str] = ..., json_list_val: _Optional[_Union[StringArray, _Mapping]] = ..., struct_val: _Optional[_Union[StringMap, _Mapping]] = ..., struct_list_val: _Optional[_Union[StringMapArray, _Mapping]] = ..., uuid_val: _Optional[str] = ..., time_uuid_val: _Optional[str] = ..., uuid_list_val: _Optional[_Union[StringArray, _Mapping]] = ..., time_uuid_list_val: _Optional[_Union[StringArray, _Mapping]] = ..., uuid_set_val: _Optional[_Union[StringArray, _Mapping]] = ..., time_uuid_set_val: _Optional[_Union[StringArray, _Mapping]] = ..., list_val: _Optional[_Union[ValueColumn, _Mapping]] = ..., set_val: _Optional[_Union[ValueColumn, _Mapping]] = ..., decimal_val: _Optional[str] = ..., decimal_list_val: _Optional[_Union[StringArray, _Mapping]] = ..., decimal_set_val: _Optional[_Union[StringArray, _Mapping]] = ..., scalar_map_val: _Optional[_Union[ScalarMap, _Mapping]] = ..., zoned_timestamp_val: _Optional[_Union[ZonedTimestamp, _Mapping]] = ...) -> None: ...

class ValueColumn(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, val: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class ZonedTimestamp(_message.Message):
    __slots__ = ("unix_timestamp", "zone")
    UNIX_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    unix_timestamp: int
    zone: str
    def __init__(self, unix_timestamp: _Optional[int] = ..., zone: _Optional[str] = ...) -> None: ...

class BytesArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, val: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StringArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, val: _Optional[_Iterable[str]] = ...) -> None: ...

class Int32Array(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, val: _Optional[_Iterable[int]] = ...) -> None: ...

class Int64Array(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, val: _Optional[_Iterable[int]] = ...) -> None: ...

class DoubleArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, val: _Optional[_Iterable[float]] = ...) -> None: ...

class FloatArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, val: _Optional[_Iterable[float]] = ...) -> None: ...

class BoolArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, val: _Optional[_Iterable[bool]] = ...) -> None: ...

class StringMap(_message.Message):
    __slots__ = ("val",)
    class ValEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.MessageMap[str, Value]
    def __init__(self, val: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class StringMapArray(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedCompositeFieldContainer[StringMap]
    def __init__(self, val: _Optional[_Iterable[_Union[StringMap, _Mapping]]] = ...) -> None: ...

class MapKey(_message.Message):
    __slots__ = ("int32_key", "int64_key", "float_key", "double_key", "bool_key", "unix_timestamp_key", "bytes_key", "uuid_key", "time_uuid_key", "decimal_key")
    INT32_KEY_FIELD_NUMBER: _ClassVar[int]
    INT64_KEY_FIELD_NUMBER: _ClassVar[int]
    FLOAT_KEY_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_KEY_FIELD_NUMBER: _ClassVar[int]
    BOOL_KEY_FIELD_NUMBER: _ClassVar[int]
    UNIX_TIMESTAMP_KEY_FIELD_NUMBER: _ClassVar[int]
    BYTES_KEY_FIELD_NUMBER: _ClassVar[int]
    UUID_KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_UUID_KEY_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_KEY_FIELD_NUMBER: _ClassVar[int]
    int32_key: int
    int64_key: int
    float_key: float
    double_key: float
    bool_key: bool
    unix_timestamp_key: int
    bytes_key: bytes
    uuid_key: str
    time_uuid_key: str
    decimal_key: str
    def __init__(self, int32_key: _Optional[int] = ..., int64_key: _Optional[int] = ..., float_key: _Optional[float] = ..., double_key: _Optional[float] = ..., bool_key: bool = ..., unix_timestamp_key: _Optional[int] = ..., bytes_key: _Optional[bytes] = ..., uuid_key: _Optional[str] = ..., time_uuid_key: _Optional[str] = ..., decimal_key: _Optional[str] = ...) -> None: ...

class ScalarMapEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: MapKey
    value: Value
    def __init__(self, key: _Optional[_Union[MapKey, _Mapping]] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class ScalarMap(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedCompositeFieldContainer[ScalarMapEntry]
    def __init__(self, val: _Optional[_Iterable[_Union[ScalarMapEntry, _Mapping]]] = ...) -> None: ...
