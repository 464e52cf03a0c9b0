"""Feast's push RPCs: the same request to `feast listen` and to `hindcast serve`, then the same lookup; and the rows that Hindcast
writes into Feast's own layout and into the batch source, read by Feast.

differences.md lists where they differ on purpose; the tests named there show both sides.
"""

import contextlib
import os
import subprocess
from datetime import UTC, datetime, timedelta

import feast.types as ft
import grpc
import pandas as pd
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.protos.feast.serving.GrpcServer_pb2 import PushRequest, WriteToOnlineStoreRequest
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest
from feast.protos.feast.types.Value_pb2 import (
    BoolList,
    BytesList,
    DoubleList,
    FloatList,
    Int32List,
    Int64List,
    Map,
    StringList,
    StringSet,
    Value,
)

from services import FEAST, held_port, run_hindcast, run_redis, wait_for
from twins import close

NOON = "2026-03-01T12:00:00.123456Z"
TYPES = {
    "text": ft.String,
    "small": ft.Int32,
    "large": ft.Int64,
    "double": ft.Float64,
    "single": ft.Float32,
    "flag": ft.Bool,
    "raw": ft.Bytes,
    "moment": ft.UnixTimestamp,
    "texts": ft.Array(ft.String),
    "smalls": ft.Array(ft.Int32),
    "larges": ft.Array(ft.Int64),
    "doubles": ft.Array(ft.Float64),
    "singles": ft.Array(ft.Float32),
    "flags": ft.Array(ft.Bool),
    "raws": ft.Array(ft.Bytes),
    "words": ft.Set(ft.String),
}
SETTINGS = """\
project: moving
provider: local
registry: registry.db
offline_store: {{type: {offline}}}
online_store: {{type: {online}, connection_string: "{redis}"{options}}}
entity_key_serialization_version: 3
"""
OURS = "hindcast.offline.plugin.AsOfOfflineStore"
PACKED = "hindcast.online.plugin.PackedRedisOnlineStore"


def objects():
    """An entity, a view of plain numbers whose source has columns of other names, and a view of every type."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    trips_source = FileSource(
        name="trips_source",
        path="data/trips.parquet",
        timestamp_field="event_ts",
        field_mapping={"raw_rating": "rating"},
    )
    kinds_source = FileSource(
        name="kinds_source", path="data/kinds", timestamp_field="event_ts", created_timestamp_column="created_ts"
    )
    stops_source = FileSource(name="stops_source", path="data/stops.parquet", timestamp_field="event_ts")
    maps_source = FileSource(name="maps_source", path="data/maps", timestamp_field="event_ts")
    return [
        driver,
        FeatureView(
            name="trips",
            entities=[driver],
            ttl=timedelta(0),
            schema=[
                Field(name="driver_id", dtype=ft.Int64),
                Field(name="count", dtype=ft.Int64),
                Field(name="rating", dtype=ft.Float64),
                Field(name="city", dtype=ft.String),
            ],
            source=PushSource(name="trips_push", batch_source=trips_source),
        ),
        FeatureView(
            name="kinds",
            entities=[driver],
            ttl=timedelta(0),
            schema=[Field(name="driver_id", dtype=ft.Int64)] + [Field(name=n, dtype=t) for n, t in TYPES.items()],
            source=PushSource(name="kinds_push", batch_source=kinds_source),
        ),
        FeatureView(
            name="stops",
            entities=[driver],
            ttl=timedelta(0),
            schema=[Field(name="driver_id", dtype=ft.Int64), Field(name="count", dtype=ft.Int64)],
            source=PushSource(name="stops_push", batch_source=stops_source),
        ),
        FeatureView(
            name="maps",
            entities=[driver],
            ttl=timedelta(0),
            schema=[Field(name="driver_id", dtype=ft.Int64), Field(name="map", dtype=ft.Map)],
            source=PushSource(name="maps_push", batch_source=maps_source),
        ),
    ]


@contextlib.contextmanager
def feast_listen(repo):
    """Feast's own gRPC server; gives its address."""
    with held_port() as port, (repo / "listen.log").open("wb") as log:
        address = f"127.0.0.1:{port}"
        server = subprocess.Popen(
            [FEAST, "listen", "--address", address],
            cwd=repo,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        try:
            # Left alone gRPC asks again after 1 s, 1.6 s, 2.6 s and so on: of a server that takes half a minute to start it hears after a minute.
            with grpc.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 1_000)]) as channel:
                ready = grpc.channel_ready_future(channel)
                wait_for(ready.done, what="feast listen")
            yield address
        finally:
            server.kill()
            server.wait()


def make_repo(root, redis, *, online, offline, options=""):
    """A repo applied by Feast, with one row in the file that has a source."""
    (root / "data").mkdir(parents=True)
    settings = SETTINGS.format(offline=offline, online=online, redis=redis.connection_string, options=options)
    (root / "feature_store.yaml").write_text(settings)
    frame = pd.DataFrame(
        {
            "driver_id": [1],
            "count": [1],
            "raw_rating": [1.0],
            "city": ["ulm"],
            "event_ts": pd.to_datetime(["2026-02-01T00:00:00Z"]),
        }
    )
    frame.to_parquet(root / "data" / "trips.parquet")
    frame[["driver_id", "count", "event_ts"]].to_parquet(root / "data" / "stops.parquet")
    store = FeatureStore(repo_path=str(root))
    store.apply(objects())
    close(store)
    return root


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Stubs of `feast listen`, of Hindcast on packed rows, and of Hindcast on a Redis that only Feast's layout is in."""
    root = tmp_path_factory.mktemp("pushes")
    with contextlib.ExitStack() as stack:
        addresses = {}
        for name, online in (("feast", "redis"), ("packed", PACKED), ("layout", "redis")):
            redis = stack.enter_context(run_redis())
            repo = make_repo(root / name, redis, online=online, offline="duckdb" if name == "feast" else OURS)
            if name == "feast":
                addresses[name] = stack.enter_context(feast_listen(repo))
            else:
                addresses[name] = stack.enter_context(run_hindcast(repo)).address
        channels = {name: stack.enter_context(grpc.insecure_channel(at)) for name, at in addresses.items()}
        yield {name: GrpcFeatureServerStub(channel) for name, channel in channels.items()}


def untyped(driver, **changed):
    """A push of text."""
    row = {"driver_id": str(driver), "count": "7", "rating": "4.5", "city": "köln", "event_ts": NOON}
    return PushRequest(stream_feature_view="trips_push", to="online", features={**row, **changed})


def typed(driver, **changed):
    """A push of Values of every type."""
    row = {
        "driver_id": Value(int64_val=driver),
        "text": Value(string_val="zwölf"),
        "small": Value(int32_val=-(2**31)),
        "large": Value(int64_val=2**62),
        "double": Value(double_val=1e300),
        "single": Value(float_val=0.5),
        "flag": Value(bool_val=True),
        "raw": Value(bytes_val=b"\x00\xff"),
        "moment": Value(unix_timestamp_val=1_700_000_000),
        "texts": Value(string_list_val=StringList(val=["a", "b"])),
        "smalls": Value(int32_list_val=Int32List(val=[1, -1])),
        "larges": Value(int64_list_val=Int64List(val=[2**60, 3])),
        "doubles": Value(double_list_val=DoubleList(val=[0.1, -3.0])),
        "singles": Value(float_list_val=FloatList(val=[0.5])),
        "flags": Value(bool_list_val=BoolList(val=[True, False])),
        "raws": Value(bytes_list_val=BytesList(val=[b"x", b""])),
        "words": Value(string_set_val=StringSet(val=["one"])),
        "event_ts": Value(string_val=NOON),
        "created_ts": Value(string_val=NOON),
    }
    return PushRequest(stream_feature_view="kinds_push", to="online", typed_features={**row, **changed})


def lookup(stub, view, features, driver):
    """Column -> value, and the event time, as a stub answers."""
    request = GetOnlineFeaturesRequest()
    request.features.val.extend(f"{view}:{name}" for name in features)
    request.entities["driver_id"].val.append(Value(int64_val=driver))
    response = stub.GetOnlineFeatures(request, timeout=20)
    columns = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
    return {
        name: (columns[name].values[0], columns[name].event_timestamps[0])  # noqa: PD011 - a protobuf field
        for name in features
    }


def outcome(stub, request):
    """Whether a stub took a request, or the code that it refused it with."""
    call = stub.Push if isinstance(request, PushRequest) else stub.WriteToOnlineStore
    try:
        return call(request, timeout=20).status
    except grpc.RpcError as error:
        return error.code().name


_drivers = iter(range(1_000, 1_000_000))  # the file has a row of driver 1


@pytest.fixture
def driver():
    """A driver of the test's own."""
    return next(_drivers)


TRIPS = ("count", "rating", "city")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"event_ts": "2026-03-01 12:00:00"},
        {"event_ts": "2026-03-01T12:00:00+02:00"},
        {"count": "-9223372036854775808"},
    ],
    ids=["plain", "a naive time", "a zoned time", "the least number"],
)
def test_a_typed_push_of_numbers_is_the_same_everywhere(stubs, driver, changed):
    """One typed push to all three gives the same values and event times, through Feast's own stubs."""
    features = untyped(driver, **changed).features
    values = {
        "driver_id": Value(int64_val=driver),
        "count": Value(int64_val=int(features["count"])),
        "rating": Value(double_val=4.5),
        "city": Value(string_val="köln"),
        "event_ts": Value(string_val=features["event_ts"]),
    }
    request = PushRequest(stream_feature_view="trips_push", to="online", typed_features=values)
    assert [True] * 3 == [outcome(stub, request) for stub in stubs.values()]
    judged, *others = (lookup(stub, "trips", TRIPS, driver) for stub in stubs.values())

    assert [judged] * 2 == others


def test_every_type_is_the_same_everywhere(stubs, driver):
    """One typed push of every type gives the same values to all three."""
    assert [True] * 3 == [outcome(stub, typed(driver)) for stub in stubs.values()]
    judged, *others = (lookup(stub, "kinds", list(TYPES), driver) for stub in stubs.values())

    assert [judged] * 2 == others


def test_nulls_are_the_same_everywhere(stubs, driver):
    """A null feature beside others is a null for all three, said either way."""
    request = typed(driver, text=Value(), large=Value(null_val=0), texts=Value())
    assert [True] * 3 == [outcome(stub, request) for stub in stubs.values()]
    judged, *others = (lookup(stub, "kinds", ["text", "large", "texts", "small"], driver) for stub in stubs.values())

    assert [judged] * 2 == others


def test_the_sources_names_are_taken_too(stubs, driver):
    """A column may be sent by the name that it has in the source, which Feast means to take, and fails on."""
    values = {
        "driver_id": Value(int64_val=driver),
        "count": Value(int64_val=3),
        "raw_rating": Value(double_val=2.5),
        "city": Value(string_val="ulm"),
        "event_ts": Value(string_val=NOON),
    }
    request = PushRequest(stream_feature_view="trips_push", to="online", typed_features=values)

    assert ["INTERNAL", True, True] == [outcome(stub, request) for stub in stubs.values()]
    assert [2.5, 2.5] == [
        lookup(stub, "trips", TRIPS, driver)["rating"][0].double_val for stub in list(stubs.values())[1:]
    ]


def test_a_map_is_taken(stubs, driver):
    """A typed map is stored as it is; Feast fails on the Values in it."""
    value = Value(map_val=Map(val={"a": Value(int64_val=1), "b": Value(string_val="x")}))
    values = {"driver_id": Value(int64_val=driver), "map": value, "event_ts": Value(string_val=NOON)}
    request = PushRequest(stream_feature_view="maps_push", to="online", typed_features=values)

    assert ["INTERNAL", True, True] == [outcome(stub, request) for stub in stubs.values()]
    assert [value, value] == [lookup(stub, "maps", ["map"], driver)["map"][0] for stub in list(stubs.values())[1:]]


def test_write_to_online_store_is_the_same_everywhere(stubs, driver):
    """`WriteToOnlineStore` by the view's name writes what a push does."""
    request = WriteToOnlineStoreRequest(feature_view_name="kinds", typed_features=typed(driver).typed_features)
    assert [True] * 3 == [outcome(stub, request) for stub in stubs.values()]
    judged, *others = (lookup(stub, "kinds", list(TYPES), driver) for stub in stubs.values())

    assert [judged] * 2 == others


def test_an_older_push_changes_nothing_anywhere(stubs, driver):
    """A push with an earlier event time is answered with true, and what is stored stays."""
    first = typed(driver)
    second = typed(driver, small=Value(int32_val=1), event_ts=Value(string_val="2026-03-01T11:00:00Z"))
    for stub in stubs.values():
        assert [True, True] == [outcome(stub, first), outcome(stub, second)]
    judged, *others = (lookup(stub, "kinds", ["small"], driver) for stub in stubs.values())

    assert -(2**31) == judged["small"][0].int32_val
    assert [judged] * 2 == others


def test_text_becomes_the_declared_type(stubs, driver):
    """Untyped features are text: Hindcast makes them numbers where numbers are declared, and Feast fails."""
    judged, *others = stubs.values()

    assert "INTERNAL" == outcome(judged, untyped(driver))
    for stub in others:
        assert outcome(stub, untyped(driver)) is True
        found = lookup(stub, "trips", TRIPS, driver)
        assert (7, 4.5, "köln") == (
            found["count"][0].int64_val,
            found["rating"][0].double_val,
            found["city"][0].string_val,
        )


def test_a_typed_time_in_seconds_is_read_in_seconds(stubs, driver):
    """A `unix_timestamp_val` as event time means its seconds; Feast takes them for nanoseconds and lands in 1970."""
    request = typed(driver, event_ts=Value(unix_timestamp_val=1_700_000_000), created_ts=Value(string_val=NOON))
    times = []
    for stub in stubs.values():
        assert outcome(stub, request) is True
        times.append(lookup(stub, "kinds", ["small"], driver)["small"][1].seconds)

    assert [1, 1_700_000_000, 1_700_000_000] == times


def test_a_row_without_a_created_time_became_known_now(stubs, driver):
    """Where the source has a created timestamp column, a push without one is taken; Feast fails."""
    request = typed(driver)
    del request.typed_features["created_ts"]

    assert ["INTERNAL", True, True] == [outcome(stub, request) for stub in stubs.values()]


def test_a_correction_lands(stubs, driver):
    """A second push with the same event time replaces the first on both layouts; Feast drops it and says true."""
    small = []
    for stub in stubs.values():
        assert outcome(stub, typed(driver)) is True
        assert outcome(stub, typed(driver, small=Value(int32_val=1))) is True
        small.append(lookup(stub, "kinds", ["small"], driver)["small"][0].int32_val)

    assert [-(2**31), 1, 1] == small


def test_a_row_of_nulls_is_stored(stubs, driver):
    """A push of nothing but nulls replaces the row before it; Feast says true and stores nothing."""
    nulls = {name: Value() for name in TYPES}
    later = {"event_ts": Value(string_val="2026-03-02T00:00:00Z")}
    small = []
    for stub in stubs.values():
        assert outcome(stub, typed(driver)) is True
        assert outcome(stub, typed(driver, **nulls, **later)) is True
        small.append(lookup(stub, "kinds", ["small"], driver)["small"][0].WhichOneof("val"))

    assert ["int32_val", None, None] == small


@pytest.mark.parametrize(
    ("request_", "feast_code", "code"),
    [
        (PushRequest(stream_feature_view="nobody", to="online"), "INVALID_ARGUMENT", "NOT_FOUND"),
        (WriteToOnlineStoreRequest(feature_view_name="nobody"), "INTERNAL", "NOT_FOUND"),
        (untyped(1, count="seven"), "INTERNAL", "INVALID_ARGUMENT"),
        (untyped(1, event_ts="yesterday"), "INTERNAL", "INVALID_ARGUMENT"),
        (PushRequest(stream_feature_view="trips_push", to="nowhere"), "INTERNAL", "INVALID_ARGUMENT"),
        (
            PushRequest(
                stream_feature_view="trips_push", to="online", features={"a": "1"}, typed_features={"a": Value()}
            ),
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
        ),
        (typed(1, driver_id=Value()), "INTERNAL", "INVALID_ARGUMENT"),
    ],
    ids=["source", "view", "number", "time", "mode", "both", "null key"],
)
def test_refusals_have_codes_that_programs_can_tell_apart(stubs, request_, feast_code, code):
    """What Feast answers with INTERNAL and an exception's text is INVALID_ARGUMENT or NOT_FOUND here."""
    assert [feast_code, code, code] == [outcome(stub, request_) for stub in stubs.values()]


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """Hindcast on Feast's layout with expiring keys, and Feast's SDK on the same repo."""
    with run_redis() as redis:
        root = tmp_path_factory.mktemp("beside") / "repo"
        repo = make_repo(root, redis, online="redis", offline=OURS, options=", key_ttl_seconds: 1000")
        with run_hindcast(repo) as server, grpc.insecure_channel(server.address) as channel:
            store = FeatureStore(repo_path=str(repo))
            yield repo, redis, GrpcFeatureServerStub(channel), store
            close(store)


def test_feasts_hashes_are_written_as_feast_writes_them(beside, driver):
    """A pushed row and a row that Feast's SDK writes are the same hash, byte for byte, and expire alike."""
    _, redis, stub, store = beside
    request = typed(driver)
    other = next(_drivers)
    frame = pd.DataFrame(
        {
            name: [list(raw.val) if hasattr(raw := getattr(value, value.WhichOneof("val")), "val") else raw]
            for name, value in request.typed_features.items()
        }
    ).assign(driver_id=other)
    assert outcome(stub, request) is True
    store.push("kinds_push", frame, to=PushMode.ONLINE)
    with contextlib.closing(redis.client()) as client:
        hashes = {
            int.from_bytes(key.removesuffix(b"moving")[-8:], "little"): (client.hgetall(key), client.ttl(key))
            for key in client.scan_iter()
        }

    pushed, by_feast = hashes[driver], hashes[other]
    assert by_feast[0] == pushed[0]
    assert 990 <= pushed[1] <= 1000


def test_feasts_sdk_reads_what_was_pushed(beside, driver):
    """Feast's own client of Feast's layout gives the values and times that were pushed."""
    _, _, stub, store = beside
    assert outcome(stub, typed(driver)) is True
    view = store.get_feature_view("kinds")
    answer = store.get_online_features([f"kinds:{name}" for name in TYPES], [{"driver_id": driver}])
    row = answer.to_dict()

    assert ["zwölf"] == row["text"]
    assert [[2**60, 3]] == row["larges"]
    assert [[b"x", b""]] == row["raws"]
    assert {feature.name for feature in view.features} <= row.keys()
    assert datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC) == answer.proto.results[1].event_timestamps[0].ToDatetime(
        tzinfo=UTC
    )


def test_feast_and_hindcast_write_one_row_in_turns(beside, driver):
    """Whoever writes, the newer row stays, whichever of the two wrote the older one."""
    _, _, stub, store = beside

    def by_feast(count, moment):
        frame = pd.DataFrame(
            {
                "driver_id": [driver],
                "count": [count],
                "rating": [0.0],
                "city": ["x"],
                "event_ts": [pd.Timestamp(moment)],
            }
        )
        store.push("trips_push", frame, to=PushMode.ONLINE)

    def by_hindcast(count, moment):
        assert outcome(stub, untyped(driver, count=str(count), event_ts=moment)) is True

    def stored():
        return store.get_online_features(["trips:count"], [{"driver_id": driver}]).to_dict()["count"]

    by_feast(1, "2026-03-01T12:00:00Z")
    by_hindcast(2, "2026-03-01T11:59:59.999999Z")
    assert [1] == stored()
    by_hindcast(3, "2026-03-01T12:00:00.000001Z")
    assert [3] == stored()
    by_feast(4, "2026-03-01T12:00:00Z")
    assert [3] == stored()
    by_feast(5, "2026-03-01T12:00:01Z")
    assert [5] == stored()


def test_pushed_rows_are_in_training_sets(beside, driver):
    """Rows appended beside a file are seen by historical retrieval, with the rows of the file."""
    repo, _, stub, store = beside
    for count, moment in ((1, "2026-03-01T10:00:00Z"), (2, "2026-03-01T11:00:00Z")):
        request = untyped(driver, count=str(count), event_ts=moment)
        request.to = "offline"
        assert outcome(stub, request) is True
    asked = pd.DataFrame(
        {
            "driver_id": [driver, driver, driver, 1],
            "event_timestamp": pd.to_datetime(
                ["2026-03-01T09:00:00Z", "2026-03-01T10:30:00Z", "2026-03-01T12:00:00Z", "2026-02-02T00:00:00Z"]
            ),
        }
    )
    joined = store.get_historical_features(asked, ["trips:count", "trips:rating"]).to_df()
    by_time = joined.sort_values("event_timestamp")
    assert [1, None, 1, 2] == [None if pd.isna(count) else int(count) for count in by_time["count"]]
    assert 4.5 == by_time["rating"].iloc[-1]
    assert 1 == pq.read_table(repo / "data" / "trips.parquet").num_rows


def test_pushed_rows_are_materialized(beside, driver):
    """Materialization brings rows that were pushed offline online, and those of the file with them."""
    _, _, stub, store = beside
    for count, moment in (("2", "2026-03-01T11:00:00Z"), ("1", "2026-03-01T10:00:00Z")):
        row = {"driver_id": str(driver), "count": count, "event_ts": moment}
        assert outcome(stub, PushRequest(stream_feature_view="stops_push", to="offline", features=row)) is True
    asked = [{"driver_id": driver}, {"driver_id": 1}]
    assert [None, None] == store.get_online_features(["stops:count"], asked).to_dict()["count"]
    store.materialize(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC), feature_views=["stops"])

    assert [2, 1] == store.get_online_features(["stops:count"], asked).to_dict()["count"]


def test_the_sdk_appends_too(beside, driver):
    """`store.push(to=OFFLINE)` and `write_to_offline_store` append parts and leave the file as it is."""
    repo, _, _, store = beside
    file = repo / "data" / "trips.parquet"
    before, parts = file.read_bytes(), set((repo / "data").glob("trips.parquet.parts/*.parquet"))
    frame = pd.DataFrame(
        {
            "driver_id": [driver],
            "count": [8],
            "raw_rating": [1.5],
            "city": ["bonn"],
            "event_ts": [pd.Timestamp("2026-03-01T12:00:00Z")],
        }
    )
    store.push("trips_push", frame, to=PushMode.OFFLINE)
    store.write_to_offline_store("trips", frame.assign(count=9))
    added = sorted(set((repo / "data").glob("trips.parquet.parts/*.parquet")) - parts)
    asked = pd.DataFrame({"driver_id": [driver], "event_timestamp": [pd.Timestamp("2026-03-01T13:00:00Z")]})

    assert [8, 9] == [pq.read_table(part).column("count")[0].as_py() for part in added]
    assert before == file.read_bytes()
    assert [1.5] == store.get_historical_features(asked, ["trips:rating"]).to_df()["rating"].tolist()


def test_a_directory_of_parts_is_a_source(beside, driver):
    """Where the source's path is a directory, parts go there and are read from there, with times as they were pushed."""
    repo, _, stub, store = beside
    request = typed(driver)
    request.to = "offline"
    assert outcome(stub, request) is True
    asked = pd.DataFrame({"driver_id": [driver], "event_timestamp": [pd.Timestamp("2026-03-01T13:00:00Z")]})
    row = store.get_historical_features(asked, [f"kinds:{name}" for name in TYPES]).to_df().iloc[0]

    assert list((repo / "data" / "kinds").glob("*.parquet"))
    assert ("zwölf", -(2**31), 2**62, [2**60, 3]) == (row["text"], row["small"], row["large"], list(row["larges"]))
    assert 1_700_000_000 == int(row["moment"].timestamp())


def test_columns_of_the_file_alone_are_stored_or_refused(beside, driver):
    """Offline, a column that no view has is stored where the file has it, and refused where it has not; never dropped."""
    _, _, stub, _ = beside
    request = untyped(driver, note="x")
    request.to = "offline"

    assert "INVALID_ARGUMENT" == outcome(stub, request)
