from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Registry(_message.Message):
    __slots__ = ("entities", "feature_views", "feature_services", "on_demand_feature_views", "stream_feature_views", "projects", "feature_view_version_history", "label_views")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICES_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FEATURE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    STREAM_FEATURE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_VERSION_HISTORY_FIELD_NUMBER: _ClassVar[int]
    LABEL_VIEWS_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    feature_views: _containers.RepeatedCompositeFieldContainer[FeatureView]
    feature_services: _containers.RepeatedCompositeFieldContainer[FeatureService]
    on_demand_feature_views: _containers.RepeatedScalarFieldContainer[bytes]
    stream_feature_views: _containers.RepeatedCompositeFieldContainer[StreamFeatureView]
    projects: _containers.RepeatedCompositeFieldContainer[Project]
    feature_view_version_history: FeatureViewVersionHistory
    label_views: _containers.RepeatedCompositeFieldContainer[LabelView]
    def __init__(self, entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., feature_views: _Optional[_Iterable[_Union[FeatureView, _Mapping]]] = ..., feature_services: _Optional[_Iterable[_Union[FeatureService, _Mapping]]] = ..., on_demand_feature_views: _Optional[_Iterable[bytes]] = ..., stream_feature_views: _Optional[_Iterable[_Union[StreamFeatureView, _Mapping]]] = ..., projects: _Optional[_Iterable[_Union[Project, _Mapping]]] = ..., feature_view_version_history: _Optional[_Union[FeatureViewVersionHistory, _Mapping]] = ..., label_views: _Optional[_Iterable[_Union[LabelView, _Mapping]]] = ...) -> None: ...

class FeatureViewVersionHistory(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[FeatureViewVersionRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[FeatureViewVersionRecord, _Mapping]]] = ...) -> None: ...

class FeatureViewVersionRecord(_message.Message):
    __slots__ = ("feature_view_name", "project_id", "version_number", "feature_view_type", "feature_view_proto")
    FEATURE_VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_TYPE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_PROTO_FIELD_NUMBER: _ClassVar[int]
    feature_view_name: str
    project_id: str
    version_number: int
    feature_view_type: str
    feature_view_proto: bytes
    def __init__(self, feature_view_name: _Optional[str] = ..., project_id: _Optional[str] = ..., version_number: _Optional[int] = ..., feature_view_type: _Optional[str] = ..., feature_view_proto: _Optional[bytes] = ...) -> None: ...

class Project(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: ProjectSpec
    def __init__(self, spec: _Optional[_Union[ProjectSpec, _Mapping]] = ...) -> None: ...

class ProjectSpec(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Entity(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: EntitySpec
    def __init__(self, spec: _Optional[_Union[EntitySpec, _Mapping]] = ...) -> None: ...

class EntitySpec(_message.Message):
    __slots__ = ("name", "value_type", "join_key", "project")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    JOIN_KEY_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value_type: int
    join_key: str
    project: str
    def __init__(self, name: _Optional[str] = ..., value_type: _Optional[int] = ..., join_key: _Optional[str] = ..., project: _Optional[str] = ...) -> None: ...

class FeatureView(_message.Message):
    __slots__ = ("spec", "meta")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    spec: FeatureViewSpec
    meta: FeatureViewMeta
    def __init__(self, spec: _Optional[_Union[FeatureViewSpec, _Mapping]] = ..., meta: _Optional[_Union[FeatureViewMeta, _Mapping]] = ...) -> None: ...

class FeatureViewSpec(_message.Message):
    __slots__ = ("name", "project", "entities", "features", "ttl", "batch_source", "stream_source", "entity_columns", "disabled")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    BATCH_SOURCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    ttl: _duration_pb2.Duration
    batch_source: DataSource
    stream_source: DataSource
    entity_columns: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    disabled: bool
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., batch_source: _Optional[_Union[DataSource, _Mapping]] = ..., stream_source: _Optional[_Union[DataSource, _Mapping]] = ..., entity_columns: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., disabled: bool = ...) -> None: ...

class FeatureViewMeta(_message.Message):
    __slots__ = ("materialization_intervals", "current_version_number")
    MATERIALIZATION_INTERVALS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    materialization_intervals: _containers.RepeatedCompositeFieldContainer[MaterializationInterval]
    current_version_number: int
    def __init__(self, materialization_intervals: _Optional[_Iterable[_Union[MaterializationInterval, _Mapping]]] = ..., current_version_number: _Optional[int] = ...) -> None: ...

class MaterializationInterval(_message.Message):
    __slots__ = ("end_time",)
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StreamFeatureView(_message.Message):
    __slots__ = ("spec", "meta")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    spec: StreamFeatureViewSpec
    meta: FeatureViewMeta
    def __init__(self, spec: _Optional[_Union[StreamFeatureViewSpec, _Mapping]] = ..., meta: _Optional[_Union[FeatureViewMeta, _Mapping]] = ...) -> None: ...

class StreamFeatureViewSpec(_message.Message):
    __slots__ = ("name", "project", "entities", "features", "entity_columns", "ttl", "batch_source", "stream_source", "disabled")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    BATCH_SOURCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_SOURCE_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    entity_columns: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    ttl: _duration_pb2.Duration
    batch_source: DataSource
    stream_source: DataSource
    disabled: bool
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., entity_columns: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., batch_source: _Optional[_Union[DataSource, _Mapping]] = ..., stream_source: _Optional[_Union[DataSource, _Mapping]] = ..., disabled: bool = ...) -> None: ...

class LabelView(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: LabelViewSpec
    def __init__(self, spec: _Optional[_Union[LabelViewSpec, _Mapping]] = ...) -> None: ...

class LabelViewSpec(_message.Message):
    __slots__ = ("name", "project", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    source: DataSource
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., source: _Optional[_Union[DataSource, _Mapping]] = ...) -> None: ...

class FeatureSpec(_message.Message):
    __slots__ = ("name", "value_type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value_type: int
    def __init__(self, name: _Optional[str] = ..., value_type: _Optional[int] = ...) -> None: ...

class OnDemandFeatureView(_message.Message):
    __slots__ = ("spec", "meta")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    spec: OnDemandFeatureViewSpec
    meta: OnDemandFeatureViewMeta
    def __init__(self, spec: _Optional[_Union[OnDemandFeatureViewSpec, _Mapping]] = ..., meta: _Optional[_Union[OnDemandFeatureViewMeta, _Mapping]] = ...) -> None: ...

class OnDemandFeatureViewSpec(_message.Message):
    __slots__ = ("name", "project", "features", "sources", "user_defined_function", "feature_transformation", "mode", "write_to_online_store", "entities", "entity_columns", "singleton", "aggregations", "disabled")
    class SourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: OnDemandSource
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[OnDemandSource, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    USER_DEFINED_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    FEATURE_TRANSFORMATION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WRITE_TO_ONLINE_STORE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SINGLETON_FIELD_NUMBER: _ClassVar[int]
    AGGREGATIONS_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    sources: _containers.MessageMap[str, OnDemandSource]
    user_defined_function: UserDefinedFunction
    feature_transformation: FeatureTransformation
    mode: str
    write_to_online_store: bool
    entities: _containers.RepeatedScalarFieldContainer[str]
    entity_columns: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    singleton: bool
    aggregations: _containers.RepeatedScalarFieldContainer[bytes]
    disabled: bool
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., sources: _Optional[_Mapping[str, OnDemandSource]] = ..., user_defined_function: _Optional[_Union[UserDefinedFunction, _Mapping]] = ..., feature_transformation: _Optional[_Union[FeatureTransformation, _Mapping]] = ..., mode: _Optional[str] = ..., write_to_online_store: bool = ..., entities: _Optional[_Iterable[str]] = ..., entity_columns: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., singleton: bool = ..., aggregations: _Optional[_Iterable[bytes]] = ..., disabled: bool = ...) -> None: ...

class OnDemandFeatureViewMeta(_message.Message):
    __slots__ = ("current_version_number",)
    CURRENT_VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    current_version_number: int
    def __init__(self, current_version_number: _Optional[int] = ...) -> None: ...

class OnDemandSource(_message.Message):
    __slots__ = ("feature_view", "request_data_source", "feature_view_projection")
    FEATURE_VIEW_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_SOURCE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_PROJECTION_FIELD_NUMBER: _ClassVar[int]
    feature_view: FeatureView
    request_data_source: DataSource
    feature_view_projection: FeatureViewProjection
    def __init__(self, feature_view: _Optional[_Union[FeatureView, _Mapping]] = ..., request_data_source: _Optional[_Union[DataSource, _Mapping]] = ..., feature_view_projection: _Optional[_Union[FeatureViewProjection, _Mapping]] = ...) -> None: ...

class DataSource(_message.Message):
    __slots__ = ("type", "field_mapping", "timestamp_field", "created_timestamp_column", "file_options", "request_data_options", "name")
    class FieldMappingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    FIELD_MAPPING_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIMESTAMP_COLUMN_FIELD_NUMBER: _ClassVar[int]
    FILE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type: int
    field_mapping: _containers.ScalarMap[str, str]
    timestamp_field: str
    created_timestamp_column: str
    file_options: FileOptions
    request_data_options: RequestDataOptions
    name: str
    def __init__(self, type: _Optional[int] = ..., field_mapping: _Optional[_Mapping[str, str]] = ..., timestamp_field: _Optional[str] = ..., created_timestamp_column: _Optional[str] = ..., file_options: _Optional[_Union[FileOptions, _Mapping]] = ..., request_data_options: _Optional[_Union[RequestDataOptions, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class FileOptions(_message.Message):
    __slots__ = ("file_format", "uri")
    FILE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    file_format: FileFormat
    uri: str
    def __init__(self, file_format: _Optional[_Union[FileFormat, _Mapping]] = ..., uri: _Optional[str] = ...) -> None: ...

class FileFormat(_message.Message):
    __slots__ = ("parquet_format", "delta_format")
    PARQUET_FORMAT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FORMAT_FIELD_NUMBER: _ClassVar[int]
    parquet_format: bytes
    delta_format: bytes
    def __init__(self, parquet_format: _Optional[bytes] = ..., delta_format: _Optional[bytes] = ...) -> None: ...

class RequestDataOptions(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    def __init__(self, schema: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ...) -> None: ...

class FeatureTransformation(_message.Message):
    __slots__ = ("user_defined_function", "substrait_transformation")
    USER_DEFINED_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SUBSTRAIT_TRANSFORMATION_FIELD_NUMBER: _ClassVar[int]
    user_defined_function: UserDefinedFunction
    substrait_transformation: bytes
    def __init__(self, user_defined_function: _Optional[_Union[UserDefinedFunction, _Mapping]] = ..., substrait_transformation: _Optional[bytes] = ...) -> None: ...

class UserDefinedFunction(_message.Message):
    __slots__ = ("name", "body", "body_text", "mode")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    BODY_TEXT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    body: bytes
    body_text: str
    mode: str
    def __init__(self, name: _Optional[str] = ..., body: _Optional[bytes] = ..., body_text: _Optional[str] = ..., mode: _Optional[str] = ...) -> None: ...

class FeatureService(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: FeatureServiceSpec
    def __init__(self, spec: _Optional[_Union[FeatureServiceSpec, _Mapping]] = ...) -> None: ...

class FeatureServiceSpec(_message.Message):
    __slots__ = ("name", "project", "features", "logging_config")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LOGGING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureViewProjection]
    logging_config: LoggingConfig
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureViewProjection, _Mapping]]] = ..., logging_config: _Optional[_Union[LoggingConfig, _Mapping]] = ...) -> None: ...

class LoggingConfig(_message.Message):
    __slots__ = ("sample_rate", "file_destination", "bigquery_destination", "redshift_destination", "snowflake_destination", "custom_destination", "athena_destination", "couchbase_columnar_destination")
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    FILE_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    BIGQUERY_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    REDSHIFT_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    SNOWFLAKE_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    ATHENA_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    COUCHBASE_COLUMNAR_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    sample_rate: float
    file_destination: LogFiles
    bigquery_destination: bytes
    redshift_destination: bytes
    snowflake_destination: bytes
    custom_destination: bytes
    athena_destination: bytes
    couchbase_columnar_destination: bytes
    def __init__(self, sample_rate: _Optional[float] = ..., file_destination: _Optional[_Union[LogFiles, _Mapping]] = ..., bigquery_destination: _Optional[bytes] = ..., redshift_destination: _Optional[bytes] = ..., snowflake_destination: _Optional[bytes] = ..., custom_destination: _Optional[bytes] = ..., athena_destination: _Optional[bytes] = ..., couchbase_columnar_destination: _Optional[bytes] = ...) -> None: ...

class LogFiles(_message.Message):
    __slots__ = ("path", "partition_by")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    path: str
    partition_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., partition_by: _Optional[_Iterable[str]] = ...) -> None: ...

class FeatureViewProjection(_message.Message):
    __slots__ = ("feature_view_name", "feature_columns", "feature_view_name_alias", "join_key_map", "version_tag")
    class JoinKeyMapEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FEATURE_VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_NAME_ALIAS_FIELD_NUMBER: _ClassVar[int]
    JOIN_KEY_MAP_FIELD_NUMBER: _ClassVar[int]
    VERSION_TAG_FIELD_NUMBER: _ClassVar[int]
    feature_view_name: str
    feature_columns: _containers.RepeatedCompositeFieldContainer[FeatureSpec]
    feature_view_name_alias: str
    join_key_map: _containers.ScalarMap[str, str]
    version_tag: int
    def __init__(self, feature_view_name: _Optional[str] = ..., feature_columns: _Optional[_Iterable[_Union[FeatureSpec, _Mapping]]] = ..., feature_view_name_alias: _Optional[str] = ..., join_key_map: _Optional[_Mapping[str, str]] = ..., version_tag: _Optional[int] = ...) -> None: ...
