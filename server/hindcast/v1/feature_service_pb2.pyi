from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from hindcast.v1 import value_pb2 as _value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_STATUS_UNSPECIFIED: _ClassVar[FeatureStatus]
    FEATURE_STATUS_PRESENT: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NULL_VALUE: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NOT_FOUND: _ClassVar[FeatureStatus]
    FEATURE_STATUS_OUTSIDE_MAX_AGE: _ClassVar[FeatureStatus]
FEATURE_STATUS_UNSPECIFIED: FeatureStatus
FEATURE_STATUS_PRESENT: FeatureStatus
FEATURE_STATUS_NULL_VALUE: FeatureStatus
FEATURE_STATUS_NOT_FOUND: FeatureStatus
FEATURE_STATUS_OUTSIDE_MAX_AGE: FeatureStatus

class GetOnlineFeaturesRequest(_message.Message):
    __slots__ = ("feature_service", "feature_list", "entities", "request_data", "full_feature_names", "request_id", "tags")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _value_pb2.ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_value_pb2.ValueColumn, _Mapping]] = ...) -> None: ...
    class RequestDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _value_pb2.ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_value_pb2.ValueColumn, _Mapping]] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LIST_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    feature_list: FeatureList
    entities: _containers.MessageMap[str, _value_pb2.ValueColumn]
    request_data: _containers.MessageMap[str, _value_pb2.ValueColumn]
    full_feature_names: bool
    request_id: str
    tags: _containers.ScalarMap[str, str]
    def __init__(self, feature_service: _Optional[str] = ..., feature_list: _Optional[_Union[FeatureList, _Mapping]] = ..., entities: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., request_data: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., full_feature_names: bool = ..., request_id: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FeatureList(_message.Message):
    __slots__ = ("refs",)
    REFS_FIELD_NUMBER: _ClassVar[int]
    refs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, refs: _Optional[_Iterable[str]] = ...) -> None: ...

class GetOnlineFeaturesResponse(_message.Message):
    __slots__ = ("lookup_id", "catalog_version", "served_at", "views", "columns")
    LOOKUP_ID_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVED_AT_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    lookup_id: str
    catalog_version: str
    served_at: _timestamp_pb2.Timestamp
    views: _containers.RepeatedCompositeFieldContainer[ViewRows]
    columns: _containers.RepeatedCompositeFieldContainer[FeatureColumn]
    def __init__(self, lookup_id: _Optional[str] = ..., catalog_version: _Optional[str] = ..., served_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., views: _Optional[_Iterable[_Union[ViewRows, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[FeatureColumn, _Mapping]]] = ...) -> None: ...

class ViewRows(_message.Message):
    __slots__ = ("view", "event_timestamps")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    view: str
    event_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    def __init__(self, view: _Optional[str] = ..., event_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ...) -> None: ...

class FeatureColumn(_message.Message):
    __slots__ = ("name", "values", "statuses", "view_index")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VIEW_INDEX_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedCompositeFieldContainer[_value_pb2.Value]
    statuses: _containers.RepeatedScalarFieldContainer[FeatureStatus]
    view_index: int
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[_Union[_value_pb2.Value, _Mapping]]] = ..., statuses: _Optional[_Iterable[_Union[FeatureStatus, str]]] = ..., view_index: _Optional[int] = ...) -> None: ...

class StreamOnlineFeaturesRequest(_message.Message):
    __slots__ = ("lookup", "timeout")
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    lookup: GetOnlineFeaturesRequest
    timeout: _duration_pb2.Duration
    def __init__(self, lookup: _Optional[_Union[GetOnlineFeaturesRequest, _Mapping]] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StreamOnlineFeaturesResponse(_message.Message):
    __slots__ = ("answer", "failure")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    answer: GetOnlineFeaturesResponse
    failure: LookupFailure
    def __init__(self, answer: _Optional[_Union[GetOnlineFeaturesResponse, _Mapping]] = ..., failure: _Optional[_Union[LookupFailure, _Mapping]] = ...) -> None: ...

class LookupFailure(_message.Message):
    __slots__ = ("lookup_id", "code", "reason", "message", "field_violations", "retry_delay")
    LOOKUP_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    lookup_id: str
    code: int
    reason: str
    message: str
    field_violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    retry_delay: _duration_pb2.Duration
    def __init__(self, lookup_id: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field_violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ..., retry_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "feast_version", "project", "catalog_version", "started_at", "feature_services", "feature_views")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FEAST_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    version: str
    feast_version: str
    project: str
    catalog_version: str
    started_at: _timestamp_pb2.Timestamp
    feature_services: _containers.RepeatedScalarFieldContainer[str]
    feature_views: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., feast_version: _Optional[str] = ..., project: _Optional[str] = ..., catalog_version: _Optional[str] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., feature_services: _Optional[_Iterable[str]] = ..., feature_views: _Optional[_Iterable[str]] = ...) -> None: ...
