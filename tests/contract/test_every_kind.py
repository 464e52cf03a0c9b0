"""Every kind of value, from Feast's own writers into both layouts and out through the real server on both dialects: what
Feast's SDK and `feast listen` read from Feast's own store.
"""

import contextlib
import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import grpc
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource, PushSource
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest
from feast.protos.feast.types import Value_pb2
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.types import String
from feast.value_type import ValueType
from google.protobuf.descriptor import FieldDescriptor

from hindcast.v1 import value_pb2
from hindcast_client import Client
from kinds import KINDS
from services import run_feast_listen, run_hindcast, run_redis
from strategies import FEATURE_VALUES
from twins import answered, feast_type, twins, write

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
AN_HOUR_AGO = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
WAYS = ("rows", "frame", "push", "source")
"""How rows came to be: Feast's provider, `write_to_online_store`, `push`, `materialize`."""


def ways_of(kind):
    """The views that have this kind, and the accounts to ask each for: two with values, one with a null, one unknown."""
    has = {"rows": True, "frame": kind.frame is not None, "push": kind.frame is not None, "source": bool(kind.source)}
    return {way: [*(f"{way} {at}" for at in range(3)), "nobody"] for way in WAYS if has[way]}


def times():
    return [AN_HOUR_AGO] * 3


def source(folder):
    """A file with two rows of values and one of nulls, of the kinds that Feast can materialize."""
    columns = {"account_id": pa.array([f"source {at}" for at in range(3)])}
    columns |= {kind.name: pa.array([*kind.source[0], None], kind.source[1]) for kind in KINDS if kind.source}
    columns |= {name: pa.array(times(), pa.timestamp("us", "UTC")) for name in ("event_ts", "created_ts")}
    pq.write_table(pa.table(columns), folder / "source.parquet")
    return FileSource(
        name="source",
        path=str(folder / "source.parquet"),
        timestamp_field="event_ts",
        created_timestamp_column="created_ts",
    )


def view(name, pushes, kinds):
    """A view with a feature of each of these kinds, named as the kind."""
    return FeatureView(
        name=name,
        entities=[ACCOUNT],
        ttl=timedelta(0),
        schema=[Field(name="account_id", dtype=String), *(Field(name=kind.name, dtype=kind.dtype) for kind in kinds)],
        source=pushes,
    )


def frame(way):
    """The same rows as the SDK takes them."""
    columns = {kind.name: pd.Series([*kind.frame, None], dtype=object) for kind in KINDS if kind.frame is not None}
    accounts = [f"{way} {at}" for at in range(3)]
    return pd.DataFrame({"account_id": accounts, **columns, "event_ts": times(), "created_ts": times()})


def write_every_way(store):
    """Through each of Feast's ways."""
    protos = {kind.name: kind.protos() for kind in KINDS}
    rows = [
        (
            EntityKey(join_keys=["account_id"], entity_values=[Value_pb2.Value(string_val=f"rows {at}")]),
            {name: values[at] for name, values in protos.items()},
            AN_HOUR_AGO,
            None,
        )
        for at in range(3)
    ]
    write(store, "rows", rows)
    store.write_to_online_store("frame", df=frame("frame"))
    store.push("pushes", frame("push"))
    store.materialize(AN_HOUR_AGO - timedelta(days=1), AN_HOUR_AGO + timedelta(days=1), feature_views=["source"])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Both stores filled, a Hindcast server on each layout, and `feast listen` on Feast's."""
    root = tmp_path_factory.mktemp("kinds")
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(twins(root, stack.enter_context(run_redis())))
        framed = [kind for kind in KINDS if kind.frame is not None]
        file = source(root)
        pair.apply(
            [
                ACCOUNT,
                view("rows", file, KINDS),
                view("frame", file, framed),
                view("push", PushSource(name="pushes", batch_source=file), framed),
                view("source", file, [kind for kind in KINDS if kind.source is not None]),
            ]
        )
        for store in (pair.packed, pair.plain):
            write_every_way(store)
        feasts = root / "feasts"
        feasts.mkdir()
        shutil.copy(root / "registry.db", feasts)
        shutil.copy(root / "plain.yaml", feasts / "feature_store.yaml")
        servers = [stack.enter_context(run_hindcast(repo)) for repo in (root, feasts)]
        listening = stack.enter_context(run_feast_listen(feasts))
        yield SimpleNamespace(
            judge=pair.plain,
            packed_sdk=pair.packed,
            listen=GrpcFeatureServerStub(stack.enter_context(grpc.insecure_channel(listening))),
            stubs=[
                GrpcFeatureServerStub(stack.enter_context(grpc.insecure_channel(server.address))) for server in servers
            ],
            clients=[stack.enter_context(Client(server.address)) for server in servers],
        )


EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def fields(descriptor):
    """A message's fields as the wire has them, with those of the messages in them."""
    return {
        field.number: (
            field.name,
            field.type if field.type != FieldDescriptor.TYPE_ENUM else "enum",
            field.is_repeated,
            field.containing_oneof.name if field.containing_oneof else None,
            fields(field.message_type) if field.message_type and field.message_type not in _RECURSIVE else None,
        )
        for field in descriptor.fields
    }


_RECURSIVE = {
    module.DESCRIPTOR.message_types_by_name[name]
    for module in (Value_pb2, value_pb2)
    for name in ("Value", "Map", "StringMap", "RepeatedValue", "ValueColumn", "ScalarMap", "MapList", "StringMapArray")
    if name in module.DESCRIPTOR.message_types_by_name
}


def test_no_kind_is_forgotten():
    """Each field of Feast's Value has a case here and is drawn by the random repos, but the one that no type gives."""
    feasts = {field.name for field in Value_pb2.Value.DESCRIPTOR.oneofs_by_name["val"].fields}

    assert feasts - {"null_val"} == {kind.name for kind in KINDS}
    assert feasts - {"null_val"} == {
        feast_type(spelling).to_value_type().name.lower().removeprefix("value_") + "_val" for spelling in FEATURE_VALUES
    } - {"pdf_bytes_val", "image_bytes_val"}


PAIRS = {
    "Value": "Value",
    "ZonedTimestamp": "ZonedTimestamp",
    "Map": "StringMap",
    "MapList": "StringMapArray",
    "RepeatedValue": "ValueColumn",
    "MapKey": "MapKey",
    "ScalarMapEntry": "ScalarMapEntry",
    "ScalarMap": "ScalarMap",
}


@pytest.mark.parametrize(("feasts", "ours"), PAIRS.items())
def test_our_value_has_the_wire_form_of_feasts(feasts, ours):
    """Each message of hindcast.v1's values has Feast's numbers, names, types, repetition and choices."""
    theirs = Value_pb2.DESCRIPTOR.message_types_by_name[feasts]

    assert fields(theirs) == fields(value_pb2.DESCRIPTOR.message_types_by_name[ours])


@EVERY_KIND
def test_every_kind_is_served_as_feast_serves_it(served, kind):
    """Values and times, however they were written, are byte for byte those of Feast's SDK and `feast listen`."""
    for way, keys in ways_of(kind).items():
        refs = [f"{way}:{kind.name}"]
        expected = answered(served.judge.get_online_features(refs, {"account_id": keys}).proto)
        request = GetOnlineFeaturesRequest()
        request.features.val.extend(refs)
        request.entities["account_id"].val.extend(Value_pb2.Value(string_val=key) for key in keys)

        assert expected == answered(served.packed_sdk.get_online_features(refs, {"account_id": keys}).proto)
        assert expected == answered(served.listen.GetOnlineFeatures(request, timeout=60, wait_for_ready=True))
        for stub in served.stubs:
            assert expected == answered(stub.GetOnlineFeatures(request, timeout=10))
        kinds = [Value_pb2.Value.FromString(value).WhichOneof("val") for value, _ in expected[kind.name]]
        # Feast writes a null time of a frame or a source as a mark, which is a value.
        null = kind.name if kind.name == "unix_timestamp_val" and way != "rows" else None
        assert [kind.name, kind.name, null, None] == kinds


@EVERY_KIND
def test_the_client_reads_every_kind_as_feasts_sdk_does(served, kind):
    """Python values of the client are equal to those of Feast's SDK and of the same type, on both layouts."""
    for way, keys in ways_of(kind).items():
        refs = [f"{way}:{kind.name}"]
        expected = served.judge.get_online_features(refs, {"account_id": keys}).to_dict()[kind.name]
        for client in served.clients:
            result = client.get_online_features(features=refs, entities={"account_id": keys})
            values = result.to_dict()[kind.name]

            assert expected == values
            assert list(map(shape, expected)) == list(map(shape, values))
            told = [status.name for status in result.statuses[kind.name]]
            assert [told[0], told[1], told[3]] == ["PRESENT", "PRESENT", "NOT_FOUND"]


def shape(value):
    """The type of a value and of what is in it."""
    if isinstance(value, dict):
        return {key: (type(key), shape(item)) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, set):
        return {type(item) for item in value}
    return type(value), value.utcoffset() if isinstance(value, datetime) else None


@EVERY_KIND
def test_every_kind_is_a_column_of_frames(served, kind):
    """Pandas and Arrow hold every kind: pandas the client's Python values, Arrow a type of its own for all rows."""
    for way, keys in ways_of(kind).items():
        result = served.clients[0].get_online_features(features=[f"{way}:{kind.name}"], entities={"account_id": keys})
        values = result.to_dict()[kind.name]
        series, array = result.to_pandas()[kind.name], result.to_arrow()[kind.name]

        assert [value is None for value in values] == list(series.isna())
        assert [value is None for value in values] == array.is_null().to_pylist()
        assert values == [None if gone else value for value, gone in zip(series, series.isna(), strict=True)]
        # Feast's materialization makes doubles of a struct's whole numbers where another row has no struct.
        inexact = kind.name == "struct_val" and way == "source"
        assert (_INEXACT_STRUCT if inexact else ARROW[kind.name]) == array.type


_TIME = pa.timestamp("us", "UTC")
_ARROW = {
    "bytes": pa.binary(),
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
    "unix_timestamp": _TIME,
    "uuid": pa.string(),
    "time_uuid": pa.string(),
    "decimal": pa.string(),
    "json": pa.string(),
}
_STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
_INEXACT_STRUCT = pa.struct([("a", pa.float64()), ("b", pa.string())])
ARROW = {
    **{f"{name}_val": arrow for name, arrow in _ARROW.items()},
    **{f"{name}_{shape}_val": pa.list_(arrow) for name, arrow in _ARROW.items() for shape in ("list", "set")},
    "map_val": pa.map_(pa.string(), pa.string()),
    "map_list_val": pa.list_(pa.map_(pa.string(), pa.string())),
    "struct_val": _STRUCT,
    "struct_list_val": pa.list_(_STRUCT),
    "scalar_map_val": pa.map_(pa.int64(), pa.string()),
    "list_val": pa.list_(pa.list_(pa.int64())),
    "set_val": pa.list_(pa.list_(pa.string())),
    "zoned_timestamp_val": _TIME,
}
