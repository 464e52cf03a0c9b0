from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ValueColumn(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, val: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FeatureRefs(_message.Message):
    __slots__ = ("val",)
    VAL_FIELD_NUMBER: _ClassVar[int]
    val: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, val: _Optional[_Iterable[str]] = ...) -> None: ...

class FeastRequest(_message.Message):
    __slots__ = ("feature_service", "features", "entities", "full_feature_names", "request_context", "include_feature_view_version_metadata")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    class RequestContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FEATURE_VIEW_VERSION_METADATA_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    features: FeatureRefs
    entities: _containers.MessageMap[str, ValueColumn]
    full_feature_names: bool
    request_context: _containers.MessageMap[str, ValueColumn]
    include_feature_view_version_metadata: bool
    def __init__(self, feature_service: _Optional[str] = ..., features: _Optional[_Union[FeatureRefs, _Mapping]] = ..., entities: _Optional[_Mapping[str, ValueColumn]] = ..., full_feature_names: bool = ..., request_context: _Optional[_Mapping[str, ValueColumn]] = ..., include_feature_view_version_metadata: bool = ...) -> None: ...

class FeastResponse(_message.Message):
    __slots__ = ("metadata", "results", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: bytes
    results: _containers.RepeatedCompositeFieldContainer[FeastVector]
    status: bool
    def __init__(self, metadata: _Optional[bytes] = ..., results: _Optional[_Iterable[_Union[FeastVector, _Mapping]]] = ..., status: bool = ...) -> None: ...

class FeastVector(_message.Message):
    __slots__ = ("values", "statuses", "event_timestamps")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    statuses: bytes
    event_timestamps: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, values: _Optional[_Iterable[bytes]] = ..., statuses: _Optional[bytes] = ..., event_timestamps: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FeastMetadata(_message.Message):
    __slots__ = ("feature_names", "feature_view_metadata")
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_METADATA_FIELD_NUMBER: _ClassVar[int]
    feature_names: FeatureRefs
    feature_view_metadata: _containers.RepeatedCompositeFieldContainer[FeastViewMetadata]
    def __init__(self, feature_names: _Optional[_Union[FeatureRefs, _Mapping]] = ..., feature_view_metadata: _Optional[_Iterable[_Union[FeastViewMetadata, _Mapping]]] = ...) -> None: ...

class FeastViewMetadata(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class FeastServingInfo(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class HindcastRequest(_message.Message):
    __slots__ = ("feature_service", "feature_list", "entities", "request_data", "full_feature_names", "request_id", "tags")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    class RequestDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
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
    feature_list: FeatureRefs
    entities: _containers.MessageMap[str, ValueColumn]
    request_data: _containers.MessageMap[str, ValueColumn]
    full_feature_names: bool
    request_id: str
    tags: _containers.ScalarMap[str, str]
    def __init__(self, feature_service: _Optional[str] = ..., feature_list: _Optional[_Union[FeatureRefs, _Mapping]] = ..., entities: _Optional[_Mapping[str, ValueColumn]] = ..., request_data: _Optional[_Mapping[str, ValueColumn]] = ..., full_feature_names: bool = ..., request_id: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class HindcastResponse(_message.Message):
    __slots__ = ("lookup_id", "catalog_version", "served_at", "views", "columns")
    LOOKUP_ID_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVED_AT_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    lookup_id: str
    catalog_version: str
    served_at: bytes
    views: _containers.RepeatedCompositeFieldContainer[HindcastViewRows]
    columns: _containers.RepeatedCompositeFieldContainer[HindcastColumn]
    def __init__(self, lookup_id: _Optional[str] = ..., catalog_version: _Optional[str] = ..., served_at: _Optional[bytes] = ..., views: _Optional[_Iterable[_Union[HindcastViewRows, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[HindcastColumn, _Mapping]]] = ...) -> None: ...

class HindcastViewRows(_message.Message):
    __slots__ = ("view", "event_timestamps")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    view: str
    event_timestamps: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, view: _Optional[str] = ..., event_timestamps: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HindcastColumn(_message.Message):
    __slots__ = ("name", "values", "statuses", "view_index")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VIEW_INDEX_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[bytes]
    statuses: bytes
    view_index: int
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ..., statuses: _Optional[bytes] = ..., view_index: _Optional[int] = ...) -> None: ...

class HindcastStreamRequest(_message.Message):
    __slots__ = ("lookup", "timeout")
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    lookup: bytes
    timeout: _duration_pb2.Duration
    def __init__(self, lookup: _Optional[bytes] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HindcastStreamResponse(_message.Message):
    __slots__ = ("answer", "failure")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    failure: bytes
    def __init__(self, answer: _Optional[bytes] = ..., failure: _Optional[bytes] = ...) -> None: ...

class FeastPush(_message.Message):
    __slots__ = ("features", "stream_feature_view", "allow_registry_cache", "to", "typed_features")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TypedFeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    STREAM_FEATURE_VIEW_FIELD_NUMBER: _ClassVar[int]
    ALLOW_REGISTRY_CACHE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    TYPED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.ScalarMap[str, str]
    stream_feature_view: str
    allow_registry_cache: bool
    to: str
    typed_features: _containers.ScalarMap[str, bytes]
    def __init__(self, features: _Optional[_Mapping[str, str]] = ..., stream_feature_view: _Optional[str] = ..., allow_registry_cache: bool = ..., to: _Optional[str] = ..., typed_features: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class FeastWrite(_message.Message):
    __slots__ = ("features", "feature_view_name", "allow_registry_cache", "typed_features")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TypedFeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOW_REGISTRY_CACHE_FIELD_NUMBER: _ClassVar[int]
    TYPED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.ScalarMap[str, str]
    feature_view_name: str
    allow_registry_cache: bool
    typed_features: _containers.ScalarMap[str, bytes]
    def __init__(self, features: _Optional[_Mapping[str, str]] = ..., feature_view_name: _Optional[str] = ..., allow_registry_cache: bool = ..., typed_features: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class FeastWritten(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bool
    def __init__(self, status: bool = ...) -> None: ...

class HindcastPush(_message.Message):
    __slots__ = ("push_source", "feature_view", "entities", "features", "event_timestamps", "created_timestamps", "destination", "run_id")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
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
    entities: _containers.MessageMap[str, ValueColumn]
    features: _containers.MessageMap[str, ValueColumn]
    event_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    created_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    destination: int
    run_id: str
    def __init__(self, push_source: _Optional[str] = ..., feature_view: _Optional[str] = ..., entities: _Optional[_Mapping[str, ValueColumn]] = ..., features: _Optional[_Mapping[str, ValueColumn]] = ..., event_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., created_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., destination: _Optional[int] = ..., run_id: _Optional[str] = ...) -> None: ...

class HindcastPushItem(_message.Message):
    __slots__ = ("push",)
    PUSH_FIELD_NUMBER: _ClassVar[int]
    push: bytes
    def __init__(self, push: _Optional[bytes] = ...) -> None: ...

class HindcastReceipt(_message.Message):
    __slots__ = ("entities", "request_data", "columns", "computed_from", "request_bytes", "response_bytes")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    class RequestDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    class ComputedFromEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: HindcastReceiptInputs
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[HindcastReceiptInputs, _Mapping]] = ...) -> None: ...
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_FROM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.MessageMap[str, ValueColumn]
    request_data: _containers.MessageMap[str, ValueColumn]
    columns: _containers.RepeatedCompositeFieldContainer[HindcastReceiptColumn]
    computed_from: _containers.MessageMap[str, HindcastReceiptInputs]
    request_bytes: bytes
    response_bytes: bytes
    def __init__(self, entities: _Optional[_Mapping[str, ValueColumn]] = ..., request_data: _Optional[_Mapping[str, ValueColumn]] = ..., columns: _Optional[_Iterable[_Union[HindcastReceiptColumn, _Mapping]]] = ..., computed_from: _Optional[_Mapping[str, HindcastReceiptInputs]] = ..., request_bytes: _Optional[bytes] = ..., response_bytes: _Optional[bytes] = ...) -> None: ...

class HindcastReceiptColumn(_message.Message):
    __slots__ = ("name", "view", "feature", "values", "statuses", "view_index")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VIEW_INDEX_FIELD_NUMBER: _ClassVar[int]
    name: str
    view: str
    feature: str
    values: _containers.RepeatedScalarFieldContainer[bytes]
    statuses: bytes
    view_index: int
    def __init__(self, name: _Optional[str] = ..., view: _Optional[str] = ..., feature: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ..., statuses: _Optional[bytes] = ..., view_index: _Optional[int] = ...) -> None: ...

class HindcastReceiptInputs(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ValueColumn, _Mapping]] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.MessageMap[str, ValueColumn]
    def __init__(self, columns: _Optional[_Mapping[str, ValueColumn]] = ...) -> None: ...

class HindcastReceiptAnswer(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    def __init__(self, receipt: _Optional[bytes] = ...) -> None: ...
