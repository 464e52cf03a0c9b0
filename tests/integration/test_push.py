"""Pushes over gRPC to a real server, on both layouts of the online store: what is stored, counted, refused, and acknowledged."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.clock import system_clock, uuid7
from hindcast.shadow.v1.shadow_pb2 import FeastPush
from hindcast.v1.push_service_pb2 import (
    PUSH_DESTINATION_OFFLINE,
    PUSH_DESTINATION_ONLINE,
    PUSH_DESTINATION_ONLINE_AND_OFFLINE,
    PushRequest,
    PushResponse,
    PushStreamRequest,
    PushStreamResponse,
)
from hindcast.v1.value_pb2 import NULL_VALUE_UNSPECIFIED, Value
from hindcast_client import AsyncClient, Client, FeatureStatus, InvalidRequest, ViewWrites
from hindcast_client._encoding import encode
from hindcast_client._errors import error_of
from pushable import FEAST, KINDS, PACKED, make_repo
from services import HindcastServer, RedisServer, Stopwatch, run_hindcast, run_redis

ONLINE, OFFLINE, BOTH = PUSH_DESTINATION_ONLINE, PUSH_DESTINATION_OFFLINE, PUSH_DESTINATION_ONLINE_AND_OFFLINE
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICE = "/hindcast.v1.PushService"


@dataclass
class Pushed:
    """A server that can be pushed to, and what is beside it."""

    root: Path
    server: HindcastServer
    redis: RedisServer
    channel: grpc.Channel
    client: Client

    def push(self, request, *, timeout=20):
        """The answer to a push."""
        call = self.channel.unary_unary(f"{SERVICE}/Push")
        return PushResponse.FromString(call(request.SerializeToString(), timeout=timeout))

    def stream(self, requests, *, timeout=20):
        """The answer to a stream of pushes."""
        call = self.channel.stream_unary(f"{SERVICE}/PushStream")
        items = (PushStreamRequest(push=request).SerializeToString() for request in requests)
        return PushStreamResponse.FromString(call(items, timeout=timeout))

    def fails(self, request, *, call=None):
        """The error that a push ends with."""
        with pytest.raises(grpc.RpcError) as caught:
            (call or self.push)(request)
        return error_of(caught.value)

    def read(self, view, features, **entities):
        """What the server now answers."""
        refs = [f"{view}:{feature}" for feature in features]
        return self.client.get_online_features(features=refs, entities=entities)

    def parts(self, path):
        """The rows in the parts of a source, in order."""
        return [pq.read_table(part) for part in sorted((self.root / "data" / path).glob("*.parquet"))]


@contextlib.contextmanager
def pushed_to(root, redis, **options):
    """A server on a repo of its own."""
    make_repo(root, redis.connection_string, **options)
    with (
        run_hindcast(root) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        yield Pushed(root, server, redis, channel, client)


@pytest.fixture(scope="module", params=[PACKED, FEAST], ids=["packed", "feast"])
def running(request, tmp_path_factory):
    """One server per layout for the whole module; tests take keys of their own."""
    with (
        run_redis() as redis,
        pushed_to(tmp_path_factory.mktemp("moving") / "repo", redis, store=request.param) as pushed,
    ):
        yield pushed


@pytest.fixture
def fresh(redis_server, tmp_path):
    """A server on packed rows and an empty offline store."""
    with pushed_to(tmp_path / "repo", redis_server) as pushed:
        yield pushed


_numbers = iter(range(1, 1_000_000))


@pytest.fixture
def driver():
    """A driver of the test's own."""
    return next(_numbers)


def stamp(moment):
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def drivers(*rows, to=ONLINE, created=None, view="driver", run_id=""):
    """A push of `(driver, event time, trips, rating)`."""
    request = PushRequest(
        feature_view=view,
        destination=to,
        event_timestamps=[stamp(row[1]) for row in rows],
        created_timestamps=[stamp(moment) for moment in created or []],
        run_id=run_id,
    )
    request.entities["driver_id"].val.extend(encode(row[0]) for row in rows)
    request.features["trips"].val.extend(encode(row[2]) for row in rows)
    request.features["rating"].val.extend(encode(row[3]) for row in rows)
    return request


def counts(response):
    """View -> (written, older, ahead, keyless)."""
    return {
        view.view: (view.rows_written, view.rows_older, view.rows_ahead, view.rows_keyless) for view in response.views
    }


def test_a_pushed_row_is_served(running, driver):
    """What was pushed is answered by the next lookup, with its event time, and the answer says under which run it is."""
    before = system_clock()
    response = running.push(drivers((driver, NOON, 3, 4.5)))
    found = running.read("driver", ["trips", "rating"], driver_id=[driver])

    assert {"driver_id": [driver], "trips": [3], "rating": [4.5]} == found.to_dict()
    assert [NOON] == found.event_timestamps["trips"]
    assert {"driver": (1, 0, 0, 0)} == counts(response)
    assert (1, 0) == (response.rows, response.rows_appended)
    assert running.client.get_server_info().catalog_version == response.catalog_version
    assert UUID(response.run_id).version == 7
    assert before // 1000 <= UUID(response.run_id).int >> 80 <= system_clock() // 1000


def test_an_older_row_does_not_replace_a_newer_one(running, driver):
    """Newest wins by event time whichever order pushes come in, and the answer counts what was older."""
    running.push(drivers((driver, NOON, 2, 2.0)))
    response = running.push(drivers((driver, NOON - timedelta(seconds=1), 1, 1.0)))

    assert {"driver": (0, 1, 0, 0)} == counts(response)
    assert [2] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]


def test_a_correction_with_the_same_event_time_lands(running, driver):
    """A row with the event time of what is stored, pushed later, replaces it."""
    running.push(drivers((driver, NOON, 1, 1.0)))
    response = running.push(drivers((driver, NOON, 2, 2.0)))

    assert {"driver": (1, 0, 0, 0)} == counts(response)
    assert [2] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]


def test_of_one_push_the_newest_row_stays(running, driver):
    """Rows of one key in one push are compared like any others: by event time, then by created time."""
    later, sooner = NOON + timedelta(hours=1), NOON - timedelta(hours=1)
    rows = [(driver, NOON, 1, None), (driver, later, 2, None), (driver, later, 3, None), (driver, sooner, 4, None)]
    running.push(drivers(*rows, created=[later, later, sooner, later]))

    assert [2] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]


def test_times_before_1970_are_ordered(running, driver):
    """Of two rows from before 1970 the newer one stays."""
    old = datetime(1931, 5, 4, 3, 2, 1, 654321, tzinfo=UTC)
    running.push(drivers((driver, old, 2, None)))
    running.push(drivers((driver, old - timedelta(microseconds=1), 1, None)))
    found = running.read("driver", ["trips"], driver_id=[driver])

    assert ([2], [old]) == (found.to_dict()["trips"], found.event_timestamps["trips"])


def test_a_row_dated_ahead_is_refused_and_counted(running, driver):
    """A row further ahead than 300 s is stored nowhere and counted; one within the bound is written."""
    now = datetime.now(UTC)
    ahead = (driver, now + timedelta(seconds=400), 1, None)
    response = running.push(drivers(ahead, (driver, now + timedelta(seconds=200), 2, None), to=BOTH))

    assert {"driver": (1, 0, 1, 0)} == counts(response)
    assert 1 == response.rows_appended
    assert [2] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]


def test_a_keyless_row_is_refused_and_counted(running, driver):
    """A row with a null join key is stored nowhere and counted; the rows beside it are written."""
    response = running.push(drivers((None, NOON, 1, None), (driver, NOON, 2, None), to=BOTH))

    assert {"driver": (1, 0, 0, 1)} == counts(response)
    assert 1 == response.rows_appended


def test_a_push_source_writes_every_view_that_it_feeds(running, driver):
    """A push to a source is one push to each of its views, whose rows are counted apart."""
    request = PushRequest(push_source="driver_push", destination=BOTH, event_timestamps=[stamp(NOON)] * 2)
    request.entities["driver_id"].val.extend([encode(driver)] * 2)
    request.entities["city_id"].val.extend([encode("ulm"), Value()])
    request.features["trips"].val.extend([encode(5), encode(6)])
    request.features["rating"].val.extend([Value(), encode(0.5)])
    request.features["fares"].val.extend([encode(7), encode(8)])
    response = running.push(request)
    city = running.read("driver_city", ["fares"], driver_id=[driver], city_id=["ulm"])

    assert {"driver": (2, 0, 0, 0), "driver_city": (1, 0, 0, 1)} == counts(response)
    assert 2 == response.rows_appended
    assert [6] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]
    assert [7] == city.to_dict()["fares"]


def test_a_view_without_entities_takes_rows(running):
    """A push to a view without entities has no entity columns."""
    request = PushRequest(push_source="all_push", destination=BOTH, event_timestamps=[stamp(NOON)])
    request.features["surge"].val.append(encode(1.25))
    response = running.push(request)

    assert {"platform": (1, 0, 0, 0)} == counts(response)
    assert [1.25] == running.client.get_online_features(features=["platform:surge"], entities={}).to_dict()["surge"]


NAMES = {
    "bytes": [b"", b"\x00\xff"],
    "string": ["", "zwölf"],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "double": [-0.0, 1e308],
    "float": [0.5, -3.0],
    "bool": [False, True],
    "unix_timestamp": [0, -1],
}
TEXTS = {"json": ['{"a": [1, null]}', "7"], "uuid": ["0194fdc2-fa2f-7cc0-81d3-ff12045b73c8"], "decimal": ["1.50", "-7"]}


def one_value(kind, at):
    """A value of a kind; the second differs from the first where the kind allows."""
    value = Value()
    field = f"{kind}_val"
    base = kind.removesuffix("_list").removesuffix("_set")
    if base in ("map", "struct"):
        entries = getattr(value, field)
        entries.SetInParent()
        inner = entries.val.add() if kind.endswith("_list") else entries
        inner.val["a"].int64_val = at
        inner.val["b"].string_val = "x"
    elif base == kind:
        samples = {**NAMES, **TEXTS}[base]
        setattr(value, field, samples[at % len(samples)])
    else:
        column = getattr(value, field)
        column.SetInParent()
        if at:
            column.val.extend({**NAMES, **TEXTS}[base])
    return value


def kinds(rows, *, to):
    """A push of one value of every kind per row; the last row is all nulls, in both ways of saying null."""
    request = PushRequest(push_source="kinds_push", destination=to, event_timestamps=[stamp(NOON)] * len(rows))
    for number, city in enumerate(rows):
        request.entities["city_id"].val.append(encode(city))
        for at, kind in enumerate(KINDS):
            null = Value() if at % 2 else Value(null_val=NULL_VALUE_UNSPECIFIED)
            request.features[kind].val.append(null if number == 2 else one_value(kind, number))
    return request


def test_every_type_comes_back_as_it_was_pushed(running):
    """Scalars, arrays, sets, maps, structs, JSON, UUIDs and decimals are answered as they were sent, nulls as nulls."""
    cities = ["first", "second", "null"]
    request = kinds(cities, to=BOTH)
    running.push(request)
    found = running.read("kinds", list(KINDS), city_id=cities)
    answered = {column.name: column for column in found._response.columns}

    for kind in KINDS:
        assert list(request.features[kind].val)[:2] == list(answered[kind].values)[:2], kind
        assert Value() == answered[kind].values[2]
        assert FeatureStatus.NULL_VALUE == found.statuses[kind][2]


def test_every_type_of_join_key_takes_rows(running):
    """Rows are found again by the keys that they were pushed with, of each type that a join key can have."""
    keys = {
        "bytes": Value(bytes_val=b"\x00{}"),
        "string": Value(string_val="ä"),
        "int32": Value(int32_val=-5),
        "int64": Value(int64_val=2**40),
        "unix_timestamp": Value(unix_timestamp_val=1_700_000_000),
    }
    for name, key in keys.items():
        request = PushRequest(feature_view=f"by_{name}", destination=ONLINE, event_timestamps=[stamp(NOON)])
        request.entities[f"{name}_key"].val.append(key)
        request.features["seen"].val.append(encode(1))
        running.push(request)
        assert [1] == running.read(f"by_{name}", ["seen"], **{f"{name}_key": [key]}).to_dict()["seen"], name


def test_numbers_become_the_declared_type_where_they_fit(running, driver):
    """An int32 is stored where an int64 or a double is declared, and an int64 where an int32 is and it fits."""
    request = drivers((driver, NOON, None, None))
    request.features["trips"].val[0].int32_val = 7
    request.features["rating"].val[0].int32_val = 4
    running.push(request)
    found = running.read("driver", ["trips", "rating"], driver_id=[driver])

    assert [Value(int64_val=7), Value(double_val=4.0)] == [column.values[0] for column in found._response.columns]


def test_rows_go_offline_and_are_durable_before_the_answer(fresh):
    """Offline, a push is one Parquet part by the source's own names, whole when the answer is there, and online nothing."""
    created = NOON + timedelta(minutes=5)
    response = fresh.push(drivers((1, NOON, 3, 4.5), (2, NOON, None, None), to=OFFLINE, created=[created, created]))
    (part,) = fresh.parts("drivers.parquet.parts")

    assert {"driver": (0, 0, 0, 0)} == counts(response)
    assert 2 == response.rows_appended
    assert {
        "driver_id": [1, 2],
        "trips": [3, None],
        "rating_raw": [4.5, None],
        # Of the other view over this source: its pushes find their columns in every part.
        "city_id": [None, None],
        "fares": [None, None],
        "event_ts": [NOON, NOON],
        "created_ts": [created, created],
    } == part.to_pydict()
    assert [FeatureStatus.NOT_FOUND] == fresh.read("driver", ["trips"], driver_id=[1]).statuses["trips"]


def test_the_created_time_is_now_unless_said(fresh):
    """Where the source has a created timestamp column and the caller says nothing, the rows became known now."""
    before = datetime.now(UTC)
    fresh.push(drivers((1, NOON, 3, 4.5), to=OFFLINE))
    (part,) = fresh.parts("drivers.parquet.parts")

    assert before <= part.to_pydict()["created_ts"][0] <= datetime.now(UTC)


def test_parts_take_the_schema_of_the_file(fresh):
    """Beside an existing file, parts have its columns, order and types; columns that no view has are null; the file stays."""
    path = fresh.root / "data" / "drivers.parquet"
    schema = pa.schema(
        {
            "note": pa.string(),
            "event_ts": pa.timestamp("ms"),
            "driver_id": pa.int32(),
            "rating_raw": pa.float32(),
            "trips": pa.int64(),
            "created_ts": pa.timestamp("ns", tz="UTC"),
        }
    )
    pq.write_table(schema.empty_table(), path)
    written = path.read_bytes()
    fresh.push(drivers((1, NOON + timedelta(microseconds=1999), 3, 4.5), to=BOTH, created=[NOON]))
    (part,) = fresh.parts("drivers.parquet.parts")

    assert schema == part.schema
    assert [None, NOON.replace(tzinfo=None, microsecond=1000), 1, 4.5, 3] == [
        part.column(name)[0].as_py() for name in schema.names[:-1]
    ]
    assert written == path.read_bytes()


@pytest.mark.parametrize(
    ("column", "kind", "field"),
    [("trips", pa.bool_(), 'features["trips"]'), ("driver_id", pa.timestamp("us"), 'entities["driver_id"]')],
)
def test_a_file_of_other_types_is_refused_before_anything_is_stored(fresh, column, kind, field):
    """Values that do not fit the source's column are INVALID_ARGUMENT with the field, and neither store has the rows."""
    types = {"driver_id": pa.int64(), "trips": pa.int64(), "rating_raw": pa.float64()} | {column: kind}
    times = {"event_ts": pa.timestamp("us"), "created_ts": pa.timestamp("us")}
    pq.write_table(pa.schema(types | times).empty_table(), fresh.root / "data" / "drivers.parquet")
    error = fresh.fails(drivers((1, NOON, 3, 4.5), to=BOTH))

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code
    assert [field] == [violation.field for violation in error.violations]
    assert [] == fresh.parts("drivers.parquet.parts")
    assert [FeatureStatus.NOT_FOUND] == fresh.read("driver", ["trips"], driver_id=[1]).statuses["trips"]


def test_every_type_goes_into_a_part(fresh):
    """A source without files takes every type that Parquet has a form for, nulls and empty collections included."""
    fresh.push(kinds(["first", "second", "null"], to=OFFLINE))
    fresh.push(kinds(["again"], to=OFFLINE))
    first, second = fresh.parts("kinds")
    rows = first.to_pylist()

    assert first.schema == second.schema
    assert (-(2**31), 2**31 - 1, None) == tuple(row["int32"] for row in rows)
    assert ([], [b"", b"\x00\xff"], None) == tuple(row["bytes_list"] for row in rows)
    assert '{"a": 1, "b": "x"}' == rows[1]["map"]
    assert datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC) == rows[1]["unix_timestamp"]
    assert "-7" == rows[1]["decimal"]


def test_a_repeated_run_appends_nothing_twice(fresh):
    """A push sent again under its run id is the same push: one part, one row online; under another id it is another."""
    run_id = str(uuid7(system_clock()))
    answers = [fresh.push(drivers((1, NOON, 3, 4.5), to=BOTH, run_id=run_id)) for _ in range(2)]
    other = fresh.push(drivers((1, NOON, 4, 4.5), to=BOTH, run_id=run_id))

    assert [run_id] * 3 == [answer.run_id for answer in (*answers, other)]
    assert [3, 4] == sorted(part.to_pydict()["trips"][0] for part in fresh.parts("drivers.parquet.parts"))


def test_a_stream_stores_each_request_and_counts_them_all(fresh):
    """A stream answers with the sums over its requests, and all of its rows carry one run."""
    requests = [drivers((at, NOON, at, None), (at, NOON - timedelta(1), 0, None), to=BOTH) for at in range(5)]
    response = fresh.stream(requests)

    assert (5, 10, 10) == (response.requests, response.rows, response.rows_appended)
    assert {"driver": (5, 5, 0, 0)} == counts(response)
    assert list(range(5)) == fresh.read("driver", ["trips"], driver_id=list(range(5))).to_dict()["trips"]
    names = sorted(part.name for part in (fresh.root / "data" / "drivers.parquet.parts").iterdir())
    assert [f"{response.run_id}-{at:06d}" for at in range(5)] == [name.rsplit("-", 1)[0] for name in names]


def test_an_empty_stream_stores_nothing(fresh):
    """A stream without a request is answered, with zeros."""
    response = fresh.stream([])

    assert (0, 0, []) == (response.requests, response.rows, list(response.views))


def test_a_stream_says_where_it_went_wrong_and_what_is_stored(fresh):
    """The requests before a wrong one are stored, the wrong one is named, and those after it are not stored."""
    wrong = drivers((2, NOON, 2, None))
    wrong.features["trips"].val[0].string_val = "two"
    requests = [drivers((1, NOON, 1, None)), wrong, drivers((3, NOON, 3, None))]
    error = fresh.fails(requests, call=fresh.stream)

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code
    assert ['requests[1].features["trips"].val[0]'] == [violation.field for violation in error.violations]
    assert [1, None, None] == fresh.read("driver", ["trips"], driver_id=[1, 2, 3]).to_dict()["trips"]


def test_without_redis_the_offline_rows_are_named(fresh):
    """Where Redis does not take what the offline store has taken, the call is UNAVAILABLE and says so."""
    fresh.redis.kill()
    error = fresh.fails(drivers((1, NOON, 3, 4.5), to=BOTH))

    assert grpc.StatusCode.UNAVAILABLE == error.code
    assert "1 rows in the offline store" in error.message
    assert "sending the push again is safe" in error.message
    assert 1 == len(fresh.parts("drivers.parquet.parts"))


def test_a_disk_that_takes_nothing_leaves_nothing_online(fresh):
    """Where the offline store fails first, the row is not served either: the call is UNAVAILABLE."""
    (fresh.root / "data" / "drivers.parquet.parts").write_text("in the way")
    error = fresh.fails(drivers((1, NOON, 3, 4.5), to=BOTH))

    assert grpc.StatusCode.UNAVAILABLE == error.code
    assert [FeatureStatus.NOT_FOUND] == fresh.read("driver", ["trips"], driver_id=[1]).statuses["trips"]


def test_the_deadline_of_a_push_is_kept(fresh):
    """A paused Redis ends a push at its own deadline, not later."""
    fresh.redis.pause()
    watch = Stopwatch()
    error = fresh.fails(drivers((1, NOON, 3, 4.5)), call=lambda request: fresh.push(request, timeout=0.5))
    fresh.redis.resume()

    assert grpc.StatusCode.DEADLINE_EXCEEDED == error.code
    assert watch.seconds < 2


def test_ten_thousand_rows_go_at_once(fresh):
    """The largest push is stored whole, every row once."""
    rows = [(at, NOON, at, at / 2) for at in range(10_000)]
    response = fresh.push(drivers(*rows, to=BOTH))

    assert {"driver": (10_000, 0, 0, 0)} == counts(response)
    assert 10_000 == fresh.parts("drivers.parquet.parts")[0].num_rows
    assert [7, 9_999] == fresh.read("driver", ["trips"], driver_id=[7, 9_999]).to_dict()["trips"]


def test_columns_that_only_the_file_has_are_stored(fresh):
    """In Feast's dialect a column that no view has goes into the part as the file's type, from text or from a Value."""
    schema = pa.schema(
        {
            "driver_id": pa.int64(),
            "trips": pa.int64(),
            "note": pa.int32(),
            "event_ts": pa.timestamp("us"),
            "created_ts": pa.timestamp("us"),
        }
    )
    pq.write_table(schema.empty_table(), fresh.root / "data" / "weekly.parquet")
    call = fresh.channel.unary_unary("/GrpcFeatureServer/Push")
    row = {"driver_id": "1", "trips": "2", "note": "7", "event_ts": "2026-03-01T12:00:00"}
    call(FeastPush(stream_feature_view="weekly_push", to="offline", features=row).SerializeToString(), timeout=20)
    values = {name: Value(int64_val=int(text)).SerializeToString() for name, text in list(row.items())[:3]}
    values["event_ts"] = Value(string_val=row["event_ts"]).SerializeToString()
    call(
        FeastPush(stream_feature_view="weekly_push", to="offline", typed_features=values).SerializeToString(),
        timeout=20,
    )
    first, second = fresh.parts("weekly.parquet.parts")

    assert schema == first.schema == second.schema
    assert [7, 7] == [part.to_pydict()["note"][0] for part in (first, second)]


def column(request, part, name):
    """The values of one column of a request."""
    return getattr(request, part)[name].val


def without(part, name):
    return lambda request: getattr(request, part).pop(name)


def also(part, name):
    return lambda request: getattr(request, part)[name].val.append(encode(1))


def valued(part, name, **value):
    return lambda request: column(request, part, name)[0].CopyFrom(Value(**value))


WRONG = {
    "no target": (lambda request: request.ClearField("feature_view"), "target"),
    "no destination": (lambda request: request.ClearField("destination"), "destination"),
    "an unknown destination": (lambda request: setattr(request, "destination", 9), "destination"),
    "no rows": (lambda request: request.ClearField("event_timestamps"), "event_timestamps"),
    "too many rows": (
        lambda request: request.event_timestamps.extend([stamp(NOON)] * 10_000),
        "event_timestamps",
    ),
    "a time that is none": (lambda request: setattr(request.event_timestamps[0], "nanos", -1), "event_timestamps[0]"),
    "a time after 9999": (
        lambda request: setattr(request.event_timestamps[0], "seconds", 253_402_300_800),
        "event_timestamps[0]",
    ),
    "a column that is longer": (also("features", "trips"), 'features["trips"]'),
    "a join key less": (without("entities", "driver_id"), 'entities["driver_id"]'),
    "a feature less": (without("features", "rating"), 'features["rating"]'),
    "a feature of another view": (also("features", "fares"), 'features["fares"]'),
    "a join key of another view": (also("entities", "city_id"), 'entities["city_id"]'),
    "a text for a number": (valued("features", "trips", string_val="5"), 'features["trips"].val[0]'),
    "a fraction for a whole number": (valued("features", "trips", double_val=5.0), 'features["trips"].val[0]'),
    "digits that a double loses": (valued("features", "rating", int64_val=2**53 + 1), 'features["rating"].val[0]'),
    "a join key of another type": (valued("entities", "driver_id", string_val="5"), 'entities["driver_id"].val[0]'),
    "created times in part": (
        lambda request: request.created_timestamps.extend([stamp(NOON)] * 2),
        "created_timestamps",
    ),
    "a run id that is none": (lambda request: setattr(request, "run_id", "x"), "run_id"),
    "a run id of version 4": (
        lambda request: setattr(request, "run_id", "7d444840-9dc0-41d1-b245-5ffdce74fad2"),
        "run_id",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_push_names_its_field_and_stores_nothing(running, driver, wrong):
    """Every way in which a push can be wrong is INVALID_ARGUMENT with the path of the field, and stores nothing."""
    request = drivers((driver, NOON, 1, 1.0))
    change, field = WRONG[wrong]
    change(request)
    error = running.fails(request)

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code
    assert field in {violation.field for violation in error.violations}
    assert [FeatureStatus.NOT_FOUND] == running.read("driver", ["trips"], driver_id=[driver]).statuses["trips"]


def test_created_times_need_a_column(running):
    """Created times for a source that has no column for them are INVALID_ARGUMENT, since they could not be kept."""
    request = PushRequest(
        feature_view="platform",
        destination=ONLINE,
        event_timestamps=[stamp(NOON)],
        created_timestamps=[stamp(NOON)],
    )
    request.features["surge"].val.append(encode(1.0))

    assert ["created_timestamps"] == [violation.field for violation in running.fails(request).violations]


def one_of(view):
    request = PushRequest(feature_view=view, destination=OFFLINE, event_timestamps=[stamp(NOON)])
    request.entities["driver_id"].val.append(encode(1))
    request.features["trips"].val.append(encode(1))
    return request


@pytest.mark.parametrize(
    ("request_", "code", "told"),
    [
        (PushRequest(push_source="nobody", destination=ONLINE), "NOT_FOUND", "push source 'nobody' does not exist"),
        (PushRequest(feature_view="nobody", destination=ONLINE), "NOT_FOUND", "feature view 'nobody' does not exist"),
        (PushRequest(push_source="asleep_push", destination=ONLINE), "FAILED_PRECONDITION", "it is disabled"),
        (PushRequest(push_source="label_push", destination=ONLINE), "FAILED_PRECONDITION", "it is a label view"),
        (one_of("bare"), "FAILED_PRECONDITION", "has no batch source"),
        (one_of("lake"), "FAILED_PRECONDITION", "is a Delta table"),
        (one_of("far"), "FAILED_PRECONDITION", "of this machine"),
        (one_of("table"), "FAILED_PRECONDITION", "is no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_written_to_is_said(running, request_, code, told):
    """Unknown names are NOT_FOUND; views and sources that take no rows are FAILED_PRECONDITION, with what to change."""
    error = running.fails(request_)

    assert (code, True) == (error.code.name, told in error.message)


def test_another_offline_store_is_not_appended_to(redis_server, tmp_path):
    """Under an offline store that would not read the parts, an offline push is FAILED_PRECONDITION, an online one goes on."""
    with pushed_to(tmp_path / "repo", redis_server, offline="duckdb") as pushed:
        error = pushed.fails(drivers((1, NOON, 3, 4.5), to=BOTH))
        response = pushed.push(drivers((1, NOON, 3, 4.5)))

    assert grpc.StatusCode.FAILED_PRECONDITION == error.code
    assert "offline_store.type is 'duckdb'" in error.message
    assert {"driver": (1, 0, 0, 0)} == counts(response)


@pytest.mark.parametrize(
    "method", ["hindcast.v1.PushService/Push", "GrpcFeatureServer/Push", "GrpcFeatureServer/WriteToOnlineStore"]
)
def test_bytes_that_are_no_request_are_refused(running, method):
    """Bytes that do not parse are INVALID_ARGUMENT, never UNKNOWN."""
    call = running.channel.unary_unary(f"/{method}")

    assert grpc.StatusCode.INVALID_ARGUMENT == running.fails(b"\xff\xff", call=lambda sent: call(sent, timeout=20)).code


def test_every_answer_names_its_run(running, driver):
    """The run id is in the trailing metadata of an answer and of an error."""
    call = running.channel.unary_unary(f"{SERVICE}/Push")
    answer, outcome = call.with_call(drivers((driver, NOON, 1, 1.0)).SerializeToString(), timeout=20)
    with pytest.raises(grpc.RpcError) as caught:
        call(PushRequest().SerializeToString(), timeout=20)

    assert PushResponse.FromString(answer).run_id == dict(outcome.trailing_metadata())["hindcast-run-id"]
    assert 7 == UUID(dict(caught.value.trailing_metadata())["hindcast-run-id"]).version


def pushed_by(client, driver, **options):
    """A push through the Python client."""
    rows = [{"driver_id": driver, "trips": 3, "rating": 4.5, "event_ts": NOON}]
    return client.push(feature_view="driver", rows=rows, join_keys=["driver_id"], event_timestamp="event_ts", **options)


def test_the_client_pushes(running, driver):
    """What a client's push says it wrote is what a lookup gives."""
    result = pushed_by(running.client, driver)

    assert {"driver": ViewWrites(written=1, older=0, ahead=0, keyless=0)} == result.views
    assert [4.5] == running.read("driver", ["rating"], driver_id=[driver]).to_dict()["rating"]


def test_the_asyncio_client_pushes(running, driver):
    """The asyncio client's push does what the blocking one's does."""

    async def run():
        async with AsyncClient(running.server.address) as client:
            return await pushed_by(client, driver, to="online_and_offline")

    result = asyncio.run(run())

    assert (1, 1) == (result.views["driver"].written, result.rows_appended)
    assert [3] == running.read("driver", ["trips"], driver_id=[driver]).to_dict()["trips"]


def test_a_wrong_push_is_an_error_of_the_client(running, driver):
    """A refused push is an InvalidRequest that names the field."""
    rows = [{"driver_id": driver, "trips": "three", "rating": 4.5, "event_ts": NOON}]
    with pytest.raises(InvalidRequest) as caught:
        running.client.push(feature_view="driver", rows=rows, join_keys=["driver_id"], event_timestamp="event_ts")

    assert ['features["trips"].val[0]'] == [violation.field for violation in caught.value.violations]
