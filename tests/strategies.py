"""What Hypothesis draws for several suites: key values, values of every type, whole repos with rows and questions.

Nothing here imports Feast: values are `hindcast.v1.Value`, which has the wire form of Feast's, and repos are plain
descriptions that `twins.py` builds in Feast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hindcast.catalog import KeyType
from hindcast.v1 import value_pb2
from hindcast.v1.value_pb2 import Value

# One profile for every machine: a shared one is slow at times, which is no defect of what is tested.
settings.register_profile(
    "hindcast", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("hindcast")

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32)
DOUBLES = st.floats()
# Seconds that Python can show as a time: the years 1 to 9999.
SECONDS = st.integers(-62_135_596_800, 253_402_300_799)
# What keys are made of in Redis and in Feast's layout, so that a key that forgets a length or a quote meets another one.
TRICKY = st.text(alphabet="12{}:*[é\0", max_size=3)
TEXTS = TRICKY | st.text(max_size=8)
BYTES = st.binary(max_size=8) | TRICKY.map(str.encode)

KEY_VALUES: Mapping[KeyType, st.SearchStrategy[Value]] = {
    KeyType.STRING: TEXTS.map(lambda v: Value(string_val=v)),
    KeyType.BYTES: BYTES.map(lambda v: Value(bytes_val=v)),
    KeyType.INT32: INT32.map(lambda v: Value(int32_val=v)),
    KeyType.INT64: INT64.map(lambda v: Value(int64_val=v)),
    KeyType.UNIX_TIMESTAMP: SECONDS.map(lambda v: Value(unix_timestamp_val=v)),
}

TYPED_KEY_VALUES = st.sampled_from(sorted(KEY_VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), KEY_VALUES[kind]))
"""A key type and a value of it."""


def composite_keys(*, min_size: int = 0, max_size: int = 3):
    """Lists of (join key, (type, value)), in any order, each join key once."""
    names = TRICKY.filter(bool) | st.text(min_size=1, max_size=4)
    return st.lists(
        st.tuples(names, TYPED_KEY_VALUES), min_size=min_size, max_size=max_size, unique_by=lambda part: part[0]
    )


def _scalar(name, items):
    return items.map(lambda item: Value(**{name: item}))


def _many(name, message, items):
    return st.lists(items, max_size=3).map(lambda chosen: Value(**{name: message(val=chosen)}))


def _set(name, message, items):
    return st.lists(items, max_size=3, unique=True).map(lambda chosen: Value(**{name: message(val=chosen)}))


UUIDS = st.uuids().map(str)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).map(str)
JSON_TEXTS = st.sampled_from(["null", "[]", '{"a": [1, "é"]}', '"x"', "1.5"])
# Names, offsets, and Feast's mark of a time without a zone.
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "UTC-07:00", "UTC+05:45", ""]
SIMPLE_VALUES = st.one_of(
    _scalar("int64_val", INT64), _scalar("string_val", TEXTS), _scalar("bool_val", st.booleans()), st.just(Value())
)
STRING_MAPS = st.dictionaries(TEXTS, SIMPLE_VALUES, max_size=3).map(lambda items: value_pb2.StringMap(val=items))
STRUCTS = st.tuples(INT64, TEXTS).map(
    lambda pair: value_pb2.StringMap(val={"a": Value(int64_val=pair[0]), "b": Value(string_val=pair[1])})
)
MAP_KEY_VALUES = {
    "int32_key": INT32,
    "int64_key": INT64,
    "float_key": FLOATS,
    "double_key": DOUBLES,
    "bool_key": st.booleans(),
    "unix_timestamp_key": SECONDS,
    "bytes_key": BYTES,
    "uuid_key": UUIDS,
    "time_uuid_key": UUIDS,
    "decimal_key": DECIMALS,
}
MAP_KEYS = st.sampled_from(sorted(MAP_KEY_VALUES)).flatmap(
    lambda kind: MAP_KEY_VALUES[kind].map(lambda key: value_pb2.MapKey(**{kind: key}))
)
SCALAR_MAPS = st.lists(
    st.builds(lambda key, value: value_pb2.ScalarMapEntry(key=key, value=value), MAP_KEYS, SIMPLE_VALUES), max_size=2
).map(lambda entries: value_pb2.ScalarMap(val=entries))
INT_LISTS = st.lists(INT64, max_size=3).map(lambda v: Value(int64_list_val=value_pb2.Int64Array(val=v)))
INT_COLUMNS = st.lists(INT_LISTS, max_size=3).map(lambda v: value_pb2.ValueColumn(val=v))

FEATURE_VALUES: Mapping[str, st.SearchStrategy[Value]] = {
    "Bytes": _scalar("bytes_val", BYTES),
    "PdfBytes": _scalar("bytes_val", BYTES),
    "ImageBytes": _scalar("bytes_val", BYTES),
    "String": _scalar("string_val", TEXTS),
    "Int32": _scalar("int32_val", INT32),
    "Int64": _scalar("int64_val", INT64),
    "Float64": _scalar("double_val", DOUBLES),
    "Float32": _scalar("float_val", FLOATS),
    "Bool": _scalar("bool_val", st.booleans()),
    "UnixTimestamp": _scalar("unix_timestamp_val", SECONDS),
    "Map": _scalar("map_val", STRING_MAPS),
    "Json": _scalar("json_val", JSON_TEXTS),
    "Uuid": _scalar("uuid_val", UUIDS),
    "TimeUuid": _scalar("time_uuid_val", UUIDS),
    "Decimal": _scalar("decimal_val", DECIMALS),
    "ScalarMap": _scalar("scalar_map_val", SCALAR_MAPS),
    "ZonedTimestamp": st.tuples(st.integers(-(2**31), 2**32), st.sampled_from(ZONES)).map(
        lambda at: Value(zoned_timestamp_val=value_pb2.ZonedTimestamp(unix_timestamp=at[0], zone=at[1]))
    ),
    "Struct({'a': Int64, 'b': String})": _scalar("struct_val", STRUCTS),
    "Array(Struct({'a': Int64, 'b': String}))": _many("struct_list_val", value_pb2.StringMapArray, STRUCTS),
    "Array(Bytes)": _many("bytes_list_val", value_pb2.BytesArray, BYTES),
    "Array(String)": _many("string_list_val", value_pb2.StringArray, TEXTS),
    "Array(Int32)": _many("int32_list_val", value_pb2.Int32Array, INT32),
    "Array(Int64)": _many("int64_list_val", value_pb2.Int64Array, INT64),
    "Array(Float64)": _many("double_list_val", value_pb2.DoubleArray, DOUBLES),
    "Array(Float32)": _many("float_list_val", value_pb2.FloatArray, FLOATS),
    "Array(Bool)": _many("bool_list_val", value_pb2.BoolArray, st.booleans()),
    "Array(UnixTimestamp)": _many("unix_timestamp_list_val", value_pb2.Int64Array, SECONDS),
    "Array(Map)": _many("map_list_val", value_pb2.StringMapArray, STRING_MAPS),
    "Array(Json)": _many("json_list_val", value_pb2.StringArray, JSON_TEXTS),
    "Array(Uuid)": _many("uuid_list_val", value_pb2.StringArray, UUIDS),
    "Array(TimeUuid)": _many("time_uuid_list_val", value_pb2.StringArray, UUIDS),
    "Array(Decimal)": _many("decimal_list_val", value_pb2.StringArray, DECIMALS),
    "Array(Array(Int64))": _scalar("list_val", INT_COLUMNS),
    "Set(Bytes)": _set("bytes_set_val", value_pb2.BytesArray, BYTES),
    "Set(String)": _set("string_set_val", value_pb2.StringArray, TEXTS),
    "Set(Int32)": _set("int32_set_val", value_pb2.Int32Array, INT32),
    "Set(Int64)": _set("int64_set_val", value_pb2.Int64Array, INT64),
    "Set(Float64)": _set("double_set_val", value_pb2.DoubleArray, DOUBLES),
    "Set(Float32)": _set("float_set_val", value_pb2.FloatArray, FLOATS),
    "Set(Bool)": _set("bool_set_val", value_pb2.BoolArray, st.booleans()),
    "Set(UnixTimestamp)": _set("unix_timestamp_set_val", value_pb2.Int64Array, SECONDS),
    "Set(Uuid)": _set("uuid_set_val", value_pb2.StringArray, UUIDS),
    "Set(TimeUuid)": _set("time_uuid_set_val", value_pb2.StringArray, UUIDS),
    "Set(Decimal)": _set("decimal_set_val", value_pb2.StringArray, DECIMALS),
    "Set(Array(Int64))": _scalar("set_val", INT_COLUMNS),
}
"""By Feast's own spelling of a type: values of it."""


@dataclass(frozen=True)
class EntityDraft:
    """An entity; its join key is named apart from it."""

    name: str
    join_key: str
    key_type: KeyType


@dataclass(frozen=True)
class ViewDraft:
    """A feature view; `features` maps a name to a type in Feast's spelling."""

    name: str
    entities: tuple[EntityDraft, ...]
    features: Mapping[str, str]
    ttl_seconds: int

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Join keys in the order that the view lists them, which need not be sorted."""
        return tuple(entity.join_key for entity in self.entities)


@dataclass(frozen=True)
class RowDraft:
    """A row of a view: serialized key and feature values; ages in microseconds before the test's own now."""

    view: str
    key: tuple[bytes, ...]
    values: Mapping[str, bytes]
    age_micros: int
    created_age_micros: int | None


@dataclass(frozen=True)
class ProjectionDraft:
    """Some features of a view in the one feature service, perhaps under an alias and other join keys."""

    view: str
    features: tuple[str, ...]
    alias: str | None = None
    join_key_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its columns are named by."""
        return self.alias or self.view


@dataclass(frozen=True)
class RepoDraft:
    """A repo, its rows in the order they are written, and one question: columns of serialized keys."""

    views: tuple[ViewDraft, ...]
    rows: Sequence[RowDraft]
    projections: tuple[ProjectionDraft, ...]
    question: Mapping[str, Sequence[bytes]]


# Feast takes `:` and `@` in a name for parts of a reference, and `__` for its own border.
_NAMES = st.text(alphabet="ab1_ é.-*{}[%", min_size=1, max_size=5).filter(lambda name: "__" not in name)
# Up to two hours, so that a TTL of one hour divides them, and 30 years. None grows stale while the test runs.
_AGES = (st.integers(0, 7_200_000_000) | st.sampled_from([0, 1, 10**15])).filter(
    lambda age: not 3_540_000_000 <= age <= 3_600_000_000
)


# Feast's SDK takes a column of nothing but empty bytes for nulls, and fails.
_ASKED_KEYS = {**KEY_VALUES, KeyType.BYTES: KEY_VALUES[KeyType.BYTES].filter(lambda value: value.bytes_val)}


def _names(count: int, *, prefix: str):
    """Distinct names that differ in more than case, all beginning with a prefix of their kind."""
    return st.lists(_NAMES, min_size=count, max_size=count, unique_by=str.lower).map(
        lambda names: [prefix + name for name in names]
    )


@st.composite
def repos(draw):
    """Repos of 1 to 4 views over 0 to 3 entities, with every type there is, 0 to 6 rows a view and up to 5 entity rows asked.

    The service has each view, one perhaps a second time, under its name or an alias and by its join keys or others.
    """
    entities = [
        EntityDraft(f"entity {at}", join_key, draw(st.sampled_from(sorted(KEY_VALUES))))
        for at, join_key in enumerate(draw(_names(draw(st.integers(1, 3)), prefix="k")))
    ]
    # A few values a join key, so that rows meet, keys of one text meet, and questions hit.
    pools = {
        entity.join_key: [
            value.SerializeToString() for value in draw(st.lists(_ASKED_KEYS[entity.key_type], min_size=1, max_size=3))
        ]
        for entity in entities
    }
    views = []
    for name in draw(_names(draw(st.integers(1, 4)), prefix="v")):
        features = draw(_names(draw(st.integers(1, 4)), prefix="f"))
        views.append(
            ViewDraft(
                name=name,
                entities=tuple(draw(st.lists(st.sampled_from(entities), max_size=3, unique=True))),
                features={feature: draw(st.sampled_from(sorted(FEATURE_VALUES))) for feature in features},
                ttl_seconds=draw(st.sampled_from([0, 3600])),
            )
        )
    rows = []
    for view in views:
        ages = draw(st.lists(_AGES, max_size=6, unique=True))
        rows += [_row(draw, view, pools, age) for age in ages]
    twice = [draw(st.sampled_from(views))] if draw(st.booleans()) else []
    projections = tuple(
        _projection(draw, view, at, is_aliased=at >= len(views) or draw(st.booleans()))
        for at, view in enumerate([*views, *twice])
    )
    by_name = {view.name: view for view in views}
    asked = {
        projection.join_key_map.get(key, key): key
        for projection in projections
        for key in by_name[projection.view].join_keys
    }
    count = draw(st.integers(1, 5))
    question = {
        column: [draw(st.sampled_from(pools[key]) | _fresh(entities, key)) for _ in range(count)]
        for column, key in asked.items()
    }
    return RepoDraft(tuple(views), draw(st.permutations(rows)), projections, question)


def _fresh(entities, join_key):
    (key_type,) = {entity.key_type for entity in entities if entity.join_key == join_key}
    return _ASKED_KEYS[key_type].map(Value.SerializeToString)


def _row(draw, view, pools, age_micros):
    return RowDraft(
        view=view.name,
        key=tuple(draw(st.sampled_from(pools[key])) for key in view.join_keys),
        values={
            feature: draw(st.one_of(st.just(Value()), FEATURE_VALUES[kind])).SerializeToString()
            for feature, kind in view.features.items()
        },
        age_micros=age_micros,
        created_age_micros=draw(st.none() | st.just(age_micros)),
    )


def _projection(draw, view, at, *, is_aliased):
    features = draw(st.lists(st.sampled_from(sorted(view.features)), min_size=1, unique=True))
    if not is_aliased:
        return ProjectionDraft(view.name, tuple(features))
    mapped = draw(st.lists(st.sampled_from(view.join_keys), unique=True)) if view.join_keys else []
    names = {key: f"{draw(st.sampled_from(['other', 'third']))} {key}" for key in mapped}
    return ProjectionDraft(view.name, tuple(features), f"alias{at}", names)
