from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from hindcast.v1 import feature_service_pb2 as _feature_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingSetsBuildRequest(_message.Message):
    __slots__ = ("spec", "entity_frame_bytes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    spec: TrainingSetSpec
    entity_frame_bytes: bytes
    def __init__(self, spec: _Optional[_Union[TrainingSetSpec, _Mapping]] = ..., entity_frame_bytes: _Optional[bytes] = ...) -> None: ...

class TrainingSetSpec(_message.Message):
    __slots__ = ("name", "feature_service", "feature_list", "uploaded", "text", "all_keys", "known_at_time", "known_at_column", "known_at_own", "time_splits", "key_splits", "full_feature_names", "snapshot", "threads", "format", "git", "register")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LIST_FIELD_NUMBER: _ClassVar[int]
    UPLOADED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ALL_KEYS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_COLUMN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_OWN_FIELD_NUMBER: _ClassVar[int]
    TIME_SPLITS_FIELD_NUMBER: _ClassVar[int]
    KEY_SPLITS_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    GIT_FIELD_NUMBER: _ClassVar[int]
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    feature_service: str
    feature_list: _feature_service_pb2.FeatureList
    uploaded: UploadedFrame
    text: str
    all_keys: KeysBetween
    known_at_time: _timestamp_pb2.Timestamp
    known_at_column: str
    known_at_own: bool
    time_splits: TimeSplits
    key_splits: KeySplits
    full_feature_names: bool
    snapshot: bool
    threads: int
    format: str
    git: bool
    register: bool
    def __init__(self, name: _Optional[str] = ..., feature_service: _Optional[str] = ..., feature_list: _Optional[_Union[_feature_service_pb2.FeatureList, _Mapping]] = ..., uploaded: _Optional[_Union[UploadedFrame, _Mapping]] = ..., text: _Optional[str] = ..., all_keys: _Optional[_Union[KeysBetween, _Mapping]] = ..., known_at_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., known_at_column: _Optional[str] = ..., known_at_own: bool = ..., time_splits: _Optional[_Union[TimeSplits, _Mapping]] = ..., key_splits: _Optional[_Union[KeySplits, _Mapping]] = ..., full_feature_names: bool = ..., snapshot: bool = ..., threads: _Optional[int] = ..., format: _Optional[str] = ..., git: bool = ..., register: bool = ...) -> None: ...

class TrainingSetsFromLookupsRequest(_message.Message):
    __slots__ = ("spec", "labels_bytes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LABELS_BYTES_FIELD_NUMBER: _ClassVar[int]
    spec: LookupSetSpec
    labels_bytes: bytes
    def __init__(self, spec: _Optional[_Union[LookupSetSpec, _Mapping]] = ..., labels_bytes: _Optional[bytes] = ...) -> None: ...

class LookupSetSpec(_message.Message):
    __slots__ = ("name", "feature_service", "uploaded", "text", "since", "until", "on_id", "on_keys", "window", "label_time", "pick", "keep_unlabeled", "feature_list", "fill", "statuses", "ages", "full_feature_names", "time_splits", "key_splits", "snapshot", "seal", "threads", "format", "git", "register")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    UPLOADED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ON_ID_FIELD_NUMBER: _ClassVar[int]
    ON_KEYS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LABEL_TIME_FIELD_NUMBER: _ClassVar[int]
    PICK_FIELD_NUMBER: _ClassVar[int]
    KEEP_UNLABELED_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LIST_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    AGES_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    TIME_SPLITS_FIELD_NUMBER: _ClassVar[int]
    KEY_SPLITS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    GIT_FIELD_NUMBER: _ClassVar[int]
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    feature_service: str
    uploaded: UploadedFrame
    text: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    on_id: str
    on_keys: ColumnNames
    window: _duration_pb2.Duration
    label_time: str
    pick: str
    keep_unlabeled: bool
    feature_list: _feature_service_pb2.FeatureList
    fill: str
    statuses: bool
    ages: bool
    full_feature_names: bool
    time_splits: TimeSplits
    key_splits: KeySplits
    snapshot: bool
    seal: bool
    threads: int
    format: str
    git: bool
    register: bool
    def __init__(self, name: _Optional[str] = ..., feature_service: _Optional[str] = ..., uploaded: _Optional[_Union[UploadedFrame, _Mapping]] = ..., text: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., on_id: _Optional[str] = ..., on_keys: _Optional[_Union[ColumnNames, _Mapping]] = ..., window: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., label_time: _Optional[str] = ..., pick: _Optional[str] = ..., keep_unlabeled: bool = ..., feature_list: _Optional[_Union[_feature_service_pb2.FeatureList, _Mapping]] = ..., fill: _Optional[str] = ..., statuses: bool = ..., ages: bool = ..., full_feature_names: bool = ..., time_splits: _Optional[_Union[TimeSplits, _Mapping]] = ..., key_splits: _Optional[_Union[KeySplits, _Mapping]] = ..., snapshot: bool = ..., seal: bool = ..., threads: _Optional[int] = ..., format: _Optional[str] = ..., git: bool = ..., register: bool = ...) -> None: ...

class TrainingSetsFromLookupsResponse(_message.Message):
    __slots__ = ("progress", "training_set", "not_registered")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SET_FIELD_NUMBER: _ClassVar[int]
    NOT_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    progress: BuildProgress
    training_set: TrainingSet
    not_registered: str
    def __init__(self, progress: _Optional[_Union[BuildProgress, _Mapping]] = ..., training_set: _Optional[_Union[TrainingSet, _Mapping]] = ..., not_registered: _Optional[str] = ...) -> None: ...

class UploadedFrame(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KeysBetween(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    def __init__(self, start: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TimeSplits(_message.Message):
    __slots__ = ("splits",)
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    splits: _containers.RepeatedCompositeFieldContainer[TimeSplit]
    def __init__(self, splits: _Optional[_Iterable[_Union[TimeSplit, _Mapping]]] = ...) -> None: ...

class TimeSplit(_message.Message):
    __slots__ = ("name", "end")
    NAME_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    name: str
    end: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., end: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class KeySplits(_message.Message):
    __slots__ = ("splits", "by", "seed")
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    splits: _containers.RepeatedCompositeFieldContainer[KeySplit]
    by: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    def __init__(self, splits: _Optional[_Iterable[_Union[KeySplit, _Mapping]]] = ..., by: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ...) -> None: ...

class KeySplit(_message.Message):
    __slots__ = ("name", "parts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    parts: int
    def __init__(self, name: _Optional[str] = ..., parts: _Optional[int] = ...) -> None: ...

class TrainingSetsBuildResponse(_message.Message):
    __slots__ = ("progress", "training_set", "not_registered")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SET_FIELD_NUMBER: _ClassVar[int]
    NOT_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    progress: BuildProgress
    training_set: TrainingSet
    not_registered: str
    def __init__(self, progress: _Optional[_Union[BuildProgress, _Mapping]] = ..., training_set: _Optional[_Union[TrainingSet, _Mapping]] = ..., not_registered: _Optional[str] = ...) -> None: ...

class BuildProgress(_message.Message):
    __slots__ = ("phase", "done", "total")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    phase: str
    done: int
    total: int
    def __init__(self, phase: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class TrainingSet(_message.Message):
    __slots__ = ("name", "version", "id", "manifest_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    id: str
    manifest_json: bytes
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., id: _Optional[str] = ..., manifest_json: _Optional[bytes] = ...) -> None: ...

class TrainingSetsGetRequest(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: str
    def __init__(self, ref: _Optional[str] = ...) -> None: ...

class TrainingSetsGetResponse(_message.Message):
    __slots__ = ("training_set",)
    TRAINING_SET_FIELD_NUMBER: _ClassVar[int]
    training_set: TrainingSet
    def __init__(self, training_set: _Optional[_Union[TrainingSet, _Mapping]] = ...) -> None: ...

class TrainingSetsListRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class TrainingSetsListResponse(_message.Message):
    __slots__ = ("training_sets", "next_page_token")
    TRAINING_SETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    training_sets: _containers.RepeatedCompositeFieldContainer[TrainingSet]
    next_page_token: str
    def __init__(self, training_sets: _Optional[_Iterable[_Union[TrainingSet, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class TrainingSetsRebuildRequest(_message.Message):
    __slots__ = ("ref", "as_recorded", "threads")
    REF_FIELD_NUMBER: _ClassVar[int]
    AS_RECORDED_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    ref: str
    as_recorded: bool
    threads: int
    def __init__(self, ref: _Optional[str] = ..., as_recorded: bool = ..., threads: _Optional[int] = ...) -> None: ...

class TrainingSetsRebuildResponse(_message.Message):
    __slots__ = ("progress", "report")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    progress: BuildProgress
    report: RebuildReport
    def __init__(self, progress: _Optional[_Union[BuildProgress, _Mapping]] = ..., report: _Optional[_Union[RebuildReport, _Mapping]] = ...) -> None: ...

class RebuildReport(_message.Message):
    __slots__ = ("ref", "id", "identical", "expected", "digest", "files_identical", "rows", "changes", "as_recorded", "trouble")
    REF_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    IDENTICAL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILES_IDENTICAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    AS_RECORDED_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    ref: str
    id: str
    identical: bool
    expected: str
    digest: str
    files_identical: bool
    rows: int
    changes: _containers.RepeatedCompositeFieldContainer[InputChange]
    as_recorded: bool
    trouble: str
    def __init__(self, ref: _Optional[str] = ..., id: _Optional[str] = ..., identical: bool = ..., expected: _Optional[str] = ..., digest: _Optional[str] = ..., files_identical: bool = ..., rows: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[InputChange, _Mapping]]] = ..., as_recorded: bool = ..., trouble: _Optional[str] = ...) -> None: ...

class InputChange(_message.Message):
    __slots__ = ("kind", "name", "what", "before", "after", "has_effect", "rows", "columns", "reasons", "cells", "views")
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    HAS_EFFECT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    what: str
    before: str
    after: str
    has_effect: bool
    rows: int
    columns: _containers.ScalarMap[str, int]
    reasons: _containers.ScalarMap[str, int]
    cells: _containers.RepeatedCompositeFieldContainer[CellChange]
    views: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., what: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., has_effect: bool = ..., rows: _Optional[int] = ..., columns: _Optional[_Mapping[str, int]] = ..., reasons: _Optional[_Mapping[str, int]] = ..., cells: _Optional[_Iterable[_Union[CellChange, _Mapping]]] = ..., views: _Optional[_Iterable[str]] = ...) -> None: ...

class CellChange(_message.Message):
    __slots__ = ("row", "keys", "column", "before", "after", "reason")
    ROW_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    row: int
    keys: _containers.RepeatedCompositeFieldContainer[KeyValue]
    column: str
    before: str
    after: str
    reason: str
    def __init__(self, row: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., column: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("column", "value")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    column: str
    value: str
    def __init__(self, column: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class TrainingSetsVerifyRequest(_message.Message):
    __slots__ = ("ref", "public_key")
    REF_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    ref: str
    public_key: bytes
    def __init__(self, ref: _Optional[str] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class TrainingSetsVerifyResponse(_message.Message):
    __slots__ = ("ref", "id", "problems", "signed_by")
    REF_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    ref: str
    id: str
    problems: _containers.RepeatedScalarFieldContainer[str]
    signed_by: str
    def __init__(self, ref: _Optional[str] = ..., id: _Optional[str] = ..., problems: _Optional[_Iterable[str]] = ..., signed_by: _Optional[str] = ...) -> None: ...

class TrainingSetsDiffRequest(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class TrainingSetsDiffResponse(_message.Message):
    __slots__ = ("before", "after", "identical", "keys", "rows_before", "rows_after", "rows_both", "only_before", "only_after", "added", "dropped", "retyped", "columns", "inputs")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    IDENTICAL_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ROWS_AFTER_FIELD_NUMBER: _ClassVar[int]
    ROWS_BOTH_FIELD_NUMBER: _ClassVar[int]
    ONLY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ONLY_AFTER_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    RETYPED_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    identical: bool
    keys: _containers.RepeatedScalarFieldContainer[str]
    rows_before: int
    rows_after: int
    rows_both: int
    only_before: _containers.RepeatedCompositeFieldContainer[RowKeys]
    only_after: _containers.RepeatedCompositeFieldContainer[RowKeys]
    added: _containers.RepeatedScalarFieldContainer[str]
    dropped: _containers.RepeatedScalarFieldContainer[str]
    retyped: _containers.RepeatedCompositeFieldContainer[RetypedColumn]
    columns: _containers.RepeatedCompositeFieldContainer[ColumnDiff]
    inputs: _containers.RepeatedCompositeFieldContainer[InputChange]
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ..., identical: bool = ..., keys: _Optional[_Iterable[str]] = ..., rows_before: _Optional[int] = ..., rows_after: _Optional[int] = ..., rows_both: _Optional[int] = ..., only_before: _Optional[_Iterable[_Union[RowKeys, _Mapping]]] = ..., only_after: _Optional[_Iterable[_Union[RowKeys, _Mapping]]] = ..., added: _Optional[_Iterable[str]] = ..., dropped: _Optional[_Iterable[str]] = ..., retyped: _Optional[_Iterable[_Union[RetypedColumn, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[ColumnDiff, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[InputChange, _Mapping]]] = ...) -> None: ...

class RowKeys(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[KeyValue]
    def __init__(self, keys: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ...) -> None: ...

class RetypedColumn(_message.Message):
    __slots__ = ("column", "before", "after")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    column: str
    before: str
    after: str
    def __init__(self, column: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class ColumnDiff(_message.Message):
    __slots__ = ("column", "rows", "reasons", "cells")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    column: str
    rows: int
    reasons: _containers.ScalarMap[str, int]
    cells: _containers.RepeatedCompositeFieldContainer[CellChange]
    def __init__(self, column: _Optional[str] = ..., rows: _Optional[int] = ..., reasons: _Optional[_Mapping[str, int]] = ..., cells: _Optional[_Iterable[_Union[CellChange, _Mapping]]] = ...) -> None: ...

class TrainingSetsReadRequest(_message.Message):
    __slots__ = ("ref", "split", "columns", "batch_rows")
    REF_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    ref: str
    split: str
    columns: ColumnNames
    batch_rows: int
    def __init__(self, ref: _Optional[str] = ..., split: _Optional[str] = ..., columns: _Optional[_Union[ColumnNames, _Mapping]] = ..., batch_rows: _Optional[int] = ...) -> None: ...

class ColumnNames(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class TrainingSetsReadResponse(_message.Message):
    __slots__ = ("arrow_bytes",)
    ARROW_BYTES_FIELD_NUMBER: _ClassVar[int]
    arrow_bytes: bytes
    def __init__(self, arrow_bytes: _Optional[bytes] = ...) -> None: ...

class TrainingSetsRemoveRequest(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: str
    def __init__(self, ref: _Optional[str] = ...) -> None: ...

class TrainingSetsRemoveResponse(_message.Message):
    __slots__ = ("not_registered",)
    NOT_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    not_registered: str
    def __init__(self, not_registered: _Optional[str] = ...) -> None: ...
