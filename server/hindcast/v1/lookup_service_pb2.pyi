from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from hindcast.v1 import feature_service_pb2 as _feature_service_pb2
from hindcast.v1 import value_pb2 as _value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReceiptApi(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECEIPT_API_UNSPECIFIED: _ClassVar[ReceiptApi]
    RECEIPT_API_FEAST: _ClassVar[ReceiptApi]
    RECEIPT_API_HINDCAST: _ClassVar[ReceiptApi]
    RECEIPT_API_STREAM: _ClassVar[ReceiptApi]
RECEIPT_API_UNSPECIFIED: ReceiptApi
RECEIPT_API_FEAST: ReceiptApi
RECEIPT_API_HINDCAST: ReceiptApi
RECEIPT_API_STREAM: ReceiptApi

class GetReceiptRequest(_message.Message):
    __slots__ = ("lookup_id", "request_id", "include_messages")
    LOOKUP_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    lookup_id: str
    request_id: str
    include_messages: bool
    def __init__(self, lookup_id: _Optional[str] = ..., request_id: _Optional[str] = ..., include_messages: bool = ...) -> None: ...

class GetReceiptResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class ListReceiptsRequest(_message.Message):
    __slots__ = ("since", "until", "feature_service", "tags", "codes", "request_id", "page_size", "page_token")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    feature_service: str
    tags: _containers.ScalarMap[str, str]
    codes: _containers.RepeatedScalarFieldContainer[int]
    request_id: str
    page_size: int
    page_token: str
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., feature_service: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., codes: _Optional[_Iterable[int]] = ..., request_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReceiptsResponse(_message.Message):
    __slots__ = ("receipts", "next_page_token", "damaged_places")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_PLACES_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[ReceiptSummary]
    next_page_token: str
    damaged_places: int
    def __init__(self, receipts: _Optional[_Iterable[_Union[ReceiptSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., damaged_places: _Optional[int] = ...) -> None: ...

class ReceiptSummary(_message.Message):
    __slots__ = ("lookup_id", "request_id", "tags", "served_at", "feature_service", "feature_refs", "code", "reason", "rows", "catalog_version")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LOOKUP_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    SERVED_AT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_REFS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    lookup_id: str
    request_id: str
    tags: _containers.ScalarMap[str, str]
    served_at: _timestamp_pb2.Timestamp
    feature_service: str
    feature_refs: _containers.RepeatedScalarFieldContainer[str]
    code: int
    reason: str
    rows: int
    catalog_version: str
    def __init__(self, lookup_id: _Optional[str] = ..., request_id: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., served_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., feature_service: _Optional[str] = ..., feature_refs: _Optional[_Iterable[str]] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., rows: _Optional[int] = ..., catalog_version: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("summary", "message", "api", "full_feature_names", "log_mode", "position", "entities", "request_data", "views", "columns", "computed_from", "definitions", "request_bytes", "response_bytes", "erased_rows")
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
    class ComputedFromEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ReceiptInputs
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ReceiptInputs, _Mapping]] = ...) -> None: ...
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    LOG_MODE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_FROM_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERASED_ROWS_FIELD_NUMBER: _ClassVar[int]
    summary: ReceiptSummary
    message: str
    api: ReceiptApi
    full_feature_names: bool
    log_mode: str
    position: ReceiptPosition
    entities: _containers.MessageMap[str, _value_pb2.ValueColumn]
    request_data: _containers.MessageMap[str, _value_pb2.ValueColumn]
    views: _containers.RepeatedCompositeFieldContainer[ReceiptRows]
    columns: _containers.RepeatedCompositeFieldContainer[ReceiptColumn]
    computed_from: _containers.MessageMap[str, ReceiptInputs]
    definitions: ReceiptDefinitions
    request_bytes: bytes
    response_bytes: bytes
    erased_rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, summary: _Optional[_Union[ReceiptSummary, _Mapping]] = ..., message: _Optional[str] = ..., api: _Optional[_Union[ReceiptApi, str]] = ..., full_feature_names: bool = ..., log_mode: _Optional[str] = ..., position: _Optional[_Union[ReceiptPosition, _Mapping]] = ..., entities: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., request_data: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ..., views: _Optional[_Iterable[_Union[ReceiptRows, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[ReceiptColumn, _Mapping]]] = ..., computed_from: _Optional[_Mapping[str, ReceiptInputs]] = ..., definitions: _Optional[_Union[ReceiptDefinitions, _Mapping]] = ..., request_bytes: _Optional[bytes] = ..., response_bytes: _Optional[bytes] = ..., erased_rows: _Optional[_Iterable[int]] = ...) -> None: ...

class ReceiptPosition(_message.Message):
    __slots__ = ("slot", "epoch", "sequence")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    slot: int
    epoch: int
    sequence: int
    def __init__(self, slot: _Optional[int] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ReceiptRows(_message.Message):
    __slots__ = ("view", "event_timestamps", "created_timestamps", "run_ids", "found")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    view: str
    event_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    created_timestamps: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    run_ids: _containers.RepeatedScalarFieldContainer[str]
    found: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, view: _Optional[str] = ..., event_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., created_timestamps: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., run_ids: _Optional[_Iterable[str]] = ..., found: _Optional[_Iterable[bool]] = ...) -> None: ...

class ReceiptColumn(_message.Message):
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
    values: _containers.RepeatedCompositeFieldContainer[_value_pb2.Value]
    statuses: _containers.RepeatedScalarFieldContainer[_feature_service_pb2.FeatureStatus]
    view_index: int
    def __init__(self, name: _Optional[str] = ..., view: _Optional[str] = ..., feature: _Optional[str] = ..., values: _Optional[_Iterable[_Union[_value_pb2.Value, _Mapping]]] = ..., statuses: _Optional[_Iterable[_Union[_feature_service_pb2.FeatureStatus, str]]] = ..., view_index: _Optional[int] = ...) -> None: ...

class ReceiptInputs(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _value_pb2.ValueColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_value_pb2.ValueColumn, _Mapping]] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.MessageMap[str, _value_pb2.ValueColumn]
    def __init__(self, columns: _Optional[_Mapping[str, _value_pb2.ValueColumn]] = ...) -> None: ...

class ReceiptDefinitions(_message.Message):
    __slots__ = ("project", "feast_version", "views")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEAST_VERSION_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    project: str
    feast_version: str
    views: _containers.RepeatedCompositeFieldContainer[ReceiptView]
    def __init__(self, project: _Optional[str] = ..., feast_version: _Optional[str] = ..., views: _Optional[_Iterable[_Union[ReceiptView, _Mapping]]] = ...) -> None: ...

class ReceiptView(_message.Message):
    __slots__ = ("name", "view", "features", "on_demand", "ttl", "join_keys", "fields", "version")
    class JoinKeysEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    JOIN_KEYS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    view: str
    features: _containers.RepeatedScalarFieldContainer[str]
    on_demand: bool
    ttl: _duration_pb2.Duration
    join_keys: _containers.ScalarMap[str, str]
    fields: _containers.ScalarMap[str, str]
    version: int
    def __init__(self, name: _Optional[str] = ..., view: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., on_demand: bool = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., join_keys: _Optional[_Mapping[str, str]] = ..., fields: _Optional[_Mapping[str, str]] = ..., version: _Optional[int] = ...) -> None: ...
