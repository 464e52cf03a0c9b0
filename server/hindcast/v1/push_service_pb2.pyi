from google.protobuf import timestamp_pb2 as _timestamp_pb2
from hindcast.v1 import value_pb2 as _value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PushDestination(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUSH_DESTINATION_UNSPECIFIED: _ClassVar[PushDestination]
    PUSH_DESTINATION_ONLINE: _ClassVar[PushDestination]
    PUSH_DESTINATION_OFFLINE: _ClassVar[PushDestination]
    PUSH_DESTINATION_ONLINE_AND_OFFLINE: _ClassVar[PushDestination]
PUSH_DESTINATION_UNSPECIFIED: PushDestination
PUSH_DESTINATION_ONLINE: PushDestination
PUSH_DESTINATION_OFFLINE: PushDestination
PUSH_DESTINATION_ONLINE_AND_OFFLINE: PushDestination

class PushRequest(_message.Message):
    __slots__ = ("push_source", "feature_view", "entities", "features", "event_timestamps", "created_timestamps", "destination", "run_id")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _value_pb2.ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_value_pb2.ValueColumn, _Mapping]] = ...) -> None: ...
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _value_pb2.ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_value_pb2.ValueColumn, _Mapping]] = ...) -> None: ...
    PUSH_SOURCE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    push_source: str
    feature_view: str
    entities: _containers.MessageMap[str, _value_pb2.ValueColumn]
    features: _containers.MessageMap[str, _value_pb2.ValueColumn]
    event_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    created_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    destination: PushDestination
    run_id: str
    def __init__(self, push_source: _Optional[str] = ..., feature_view: _Optional[str] = ..., entities: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., features: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., event_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., created_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., destination: _Optional[_Union[PushDestination, str]] = ..., run_id: _Optional[str] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("run_id", "catalog_version", "rows", "views", "rows_appended")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_APPENDED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    catalog_version: str
    rows: int
    views: _containers.RepeatedCompositeFieldContainer[ViewWrites]
    rows_appended: int
    def __init__(self, run_id: _Optional[str] = ..., catalog_version: _Optional[str] = ..., rows: _Optional[int] = ..., views: _Optional[_Iterable[_Union[ViewWrites, _Mapping]]] = ..., rows_appended: _Optional[int] = ...) -> None: ...

class ViewWrites(_message.Message):
    __slots__ = ("view", "rows_written", "rows_older", "rows_ahead", "rows_keyless")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ROWS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_OLDER_FIELD_NUMBER: _ClassVar[int]
    ROWS_AHEAD_FIELD_NUMBER: _ClassVar[int]
    ROWS_KEYLESS_FIELD_NUMBER: _ClassVar[int]
    view: str
    rows_written: int
    rows_older: int
    rows_ahead: int
    rows_keyless: int
    def __init__(self, view: _Optional[str] = ..., rows_written: _Optional[int] = ..., rows_older: _Optional[int] = ..., rows_ahead: _Optional[int] = ..., rows_keyless: _Optional[int] = ...) -> None: ...

class PushStreamRequest(_message.Message):
    __slots__ = ("push",)
    PUSH_FIELD_NUMBER: _ClassVar[int]
    push: PushRequest
    def __init__(self, push: _Optional[_Union[PushRequest, _Mapping]] = ...) -> None: ...

class PushStreamResponse(_message.Message):
    __slots__ = ("run_id", "catalog_version", "requests", "rows", "views", "rows_appended")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_APPENDED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    catalog_version: str
    requests: int
    rows: int
    views: _containers.RepeatedCompositeFieldContainer[ViewWrites]
    rows_appended: int
    def __init__(self, run_id: _Optional[str] = ..., catalog_version: _Optional[str] = ..., requests: _Optional[int] = ..., rows: _Optional[int] = ..., views: _Optional[_Iterable[_Union[ViewWrites, _Mapping]]] = ..., rows_appended: _Optional[int] = ...) -> None: ...
