"""`StreamOnlineFeatures`: many lookups on one open stream, answered in order, each by itself."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from faults.repos import make_repo, store_rows
from hindcast.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
    StreamOnlineFeaturesRequest,
    StreamOnlineFeaturesResponse,
)
from hindcast.v1.value_pb2 import Value
from hindcast_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    HindcastError,
    InvalidRequest,
    Lookup,
    NotFound,
    Unavailable,
)
from services import HindcastServer, RedisServer, run_hindcast, run_redis, wait_for

METHOD = "/hindcast.v1.FeatureService/StreamOnlineFeatures"
DRIVERS = 50


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis in which driver n has n trips."""
    with run_redis() as redis:
        rows = [(Value(int64_val=driver), {"trips": Value(int64_val=driver)}) for driver in range(1, DRIVERS + 1)]
        store_rows(redis.connection_string, "driver", rows)
        yield redis


@pytest.fixture(scope="module")
def repo(tmp_path_factory, redis) -> Path:
    """A repo on that Redis."""
    return make_repo(tmp_path_factory.mktemp("streams") / "repo", redis.connection_string)


@pytest.fixture(scope="module")
def server(repo) -> Iterator[HindcastServer]:
    """A server that no test harms."""
    with run_hindcast(repo) as server:
        yield server


@pytest.fixture
def own_server(repo) -> Iterator[HindcastServer]:
    """A server that the test may stop, and that parts from its callers soon."""
    with run_hindcast(repo, "--max-connection-age-seconds", "1") as server:
        yield server


def lookup(driver: int, **changes) -> StreamOnlineFeaturesRequest:
    """Asks for the trips of a driver."""
    request = GetOnlineFeaturesRequest(feature_service=changes.pop("service", "ride"))
    request.entities["driver_id"].val.add(int64_val=driver)
    return StreamOnlineFeaturesRequest(lookup=request, **changes)


def stream(channel: grpc.Channel, requests, **options):
    """The answers to requests, as they come."""
    return channel.stream_stream(
        METHOD, StreamOnlineFeaturesRequest.SerializeToString, StreamOnlineFeaturesResponse.FromString
    )(requests, timeout=30, **options)


def trips(response: StreamOnlineFeaturesResponse) -> int:
    """The trips that an answer says."""
    assert response.WhichOneof("outcome") == "answer", response
    return response.answer.columns[0].values[0].int64_val


def test_each_request_is_answered_in_order(server):
    """A thousand lookups on one stream give a thousand answers, each in the place of its request and with its own id."""
    wanted = [1 + 7 * number % DRIVERS for number in range(1_000)]
    with grpc.insecure_channel(server.address) as channel:
        answers = list(stream(channel, (lookup(driver) for driver in wanted)))

    assert wanted == [trips(answer) for answer in answers]
    assert len({answer.answer.lookup_id for answer in answers}) == len(wanted)


def test_an_answer_is_that_of_the_unary_call(server):
    """But for its id and its time, a streamed answer is the unary one."""
    with grpc.insecure_channel(server.address) as channel:
        (streamed,) = stream(channel, iter([lookup(3)]))
        unary = GetOnlineFeaturesResponse.FromString(
            channel.unary_unary("/hindcast.v1.FeatureService/GetOnlineFeatures")(
                lookup(3).lookup.SerializeToString(), timeout=10
            )
        )
    for answer in (streamed.answer, unary):
        answer.ClearField("lookup_id")
        answer.ClearField("served_at")

    assert unary == streamed.answer


def test_a_wrong_lookup_fails_alone(server):
    """A lookup that fails is told in its place with code, reason and field, and the stream goes on."""
    wrong_type = lookup(1)
    wrong_type.lookup.entities["driver_id"].val[0].string_val = "one"
    asked = [lookup(1), lookup(1, service="nope"), wrong_type, StreamOnlineFeaturesRequest(), lookup(2)]
    with grpc.insecure_channel(server.address) as channel:
        first, unknown, mistyped, empty, last = stream(channel, iter(asked))

    assert (1, 2) == (trips(first), trips(last))
    assert (grpc.StatusCode.NOT_FOUND.value[0], "UNKNOWN_NAME") == (unknown.failure.code, unknown.failure.reason)
    assert [("INVALID_ARGUMENT", 'entities["driver_id"].val[0]')] == [
        (mistyped.failure.reason, wrong.field) for wrong in mistyped.failure.field_violations
    ]
    assert empty.failure.reason == "INVALID_ARGUMENT"
    assert unknown.failure.lookup_id
    assert unknown.failure.lookup_id != mistyped.failure.lookup_id


def test_bytes_that_are_no_request_fail_alone(server):
    """What does not parse is told as the one wrong request that it is."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(METHOD, response_deserializer=StreamOnlineFeaturesResponse.FromString)
        broken, whole = call(iter([b"\xff\xff", lookup(4).SerializeToString()]), timeout=10)

    assert ("INVALID_ARGUMENT", 4) == (broken.failure.reason, trips(whole))


def test_a_lookup_that_has_no_time_left_asks_redis_nothing(server, redis):
    """A timeout of zero is DEADLINE_EXCEEDED, without a command to Redis."""
    with grpc.insecure_channel(server.address) as channel, redis.client() as client:
        list(stream(channel, iter([lookup(1)])))
        before = client.info("commandstats")["cmdstat_mget"]["calls"]
        (late,) = stream(channel, iter([lookup(1, timeout=Duration(seconds=0))]))
        after = client.info("commandstats")["cmdstat_mget"]["calls"]

    assert (grpc.StatusCode.DEADLINE_EXCEEDED.value[0], before) == (late.failure.code, after)


def test_a_paused_redis_delays_no_answer_beyond_its_timeout(server, redis):
    """Every lookup of a stream is told when its own time is up, and the stream works again when Redis does."""
    timeout = Duration(nanos=200_000_000)
    with grpc.insecure_channel(server.address) as channel:
        redis.pause()
        try:
            watch = server.stopwatch()
            told = list(stream(channel, (lookup(1, timeout=timeout) for _ in range(20))))
            took = watch.seconds
        finally:
            redis.resume()
        wait_for(
            lambda: next(stream(channel, iter([lookup(1)]))).WhichOneof("outcome") == "answer", what="Redis to answer"
        )

    assert {grpc.StatusCode.DEADLINE_EXCEEDED.value[0]} == {response.failure.code for response in told}
    assert took < 2


def test_a_caller_who_does_not_read_is_not_read_from_for_ever(server):
    """The server works on a bounded number of requests whose answers nobody takes, and answers all once they are taken."""
    asked = 0

    def requests():
        nonlocal asked
        for _ in range(100_000):
            asked += 1
            yield lookup(1, service="x" * 10_000)

    with grpc.insecure_channel(server.address) as channel:
        answers = stream(channel, requests())
        assert next(answers).failure.reason == "UNKNOWN_NAME"
        wait_for(_steady(lambda: asked), what="the server to stop reading")
        held = asked
        for _ in range(held):
            next(answers)
        answers.cancel()

    # Answers of 1 kB lie in the buffers of both ends, which are as large as the kernel likes: 4.4 MB here, 6 MB beside other work.
    assert held < 10_000


def test_our_client_gives_an_outcome_for_each_lookup(server):
    """`Client.stream_online_features` gives results and errors in the order of the lookups, and goes on after an error."""
    wanted = [Lookup(features="ride", entities={"driver_id": [driver]}) for driver in range(1, 31)]
    wanted[7] = Lookup(features="nope", entities={"driver_id": [1]})
    wanted[9] = Lookup(features="ride", entities={"driver_id": [1]}, timeout_seconds=0)
    with Client(server.address) as client:
        outcomes = list(client.stream_online_features(wanted))

    assert (NotFound, DeadlineExceeded) == (type(outcomes[7]), type(outcomes[9]))
    assert outcomes[7].lookup_id
    found = [list(outcome.to_dict()["trips"]) for outcome in outcomes if not isinstance(outcome, HindcastError)]
    assert [[driver] for driver in range(1, 31) if driver not in {8, 10}] == found


def test_our_asyncio_client_does_the_same(server):
    """`AsyncClient.stream_online_features` takes lookups as they come and gives outcomes as they come."""

    async def run():
        answered = asyncio.Queue()

        async def lookups():
            yield Lookup(features="ride", entities={"driver_id": [1]})
            await answered.get()  # the second is asked when the first was answered
            yield Lookup(features="ride", entities={"driver_id": ["one"]})

        outcomes = []
        async with AsyncClient(server.address) as client:
            async for outcome in client.stream_online_features(lookups()):
                outcomes.append(outcome)
                answered.put_nowait(None)
        return outcomes

    first, second = asyncio.run(run())

    assert [1] == list(first.to_dict()["trips"])
    assert isinstance(second, InvalidRequest)
    assert ['entities["driver_id"].val[0]'] == [violation.field for violation in second.violations]


def test_a_lookup_that_cannot_be_sent_says_why(server):
    """A mistake in a caller's lookup is raised as what it is, not as a failed call, by either client."""
    wrong = Lookup(features="ride", entities={"driver_id": [1, "two"]})

    async def run():
        async def lookups():
            yield wrong

        async with AsyncClient(server.address) as client:
            return [outcome async for outcome in client.stream_online_features(lookups())]

    with Client(server.address) as client, pytest.raises(TypeError, match="row 0 is int64 and row 1 is string"):
        list(client.stream_online_features([wrong]))
    with pytest.raises(TypeError, match="row 0 is int64 and row 1 is string"):
        asyncio.run(run())


def test_our_client_says_that_a_stream_was_ended(own_server):
    """When the server stops, lookups without an outcome can be told: the stream ends with Unavailable."""
    gone = threading.Event()

    def lookups():
        yield Lookup(features="ride", entities={"driver_id": [2]})
        gone.wait(30)

    with Client(own_server.address) as client:
        outcomes = client.stream_online_features(lookups())
        assert [2] == list(next(outcomes).to_dict()["trips"])
        stopping = threading.Thread(target=own_server.stop)
        stopping.start()
        try:
            with pytest.raises(Unavailable):
                next(outcomes)
        finally:
            gone.set()
            stopping.join()


def _steady(value):
    """A condition: the value was the same at five looks in a row."""
    seen = []

    def looks() -> bool:
        seen.append(value())
        return len(seen) >= 5 and len(set(seen[-5:])) == 1

    return looks


def test_a_caller_who_leaves_leaves_nothing_behind(server):
    """Streams that are cancelled half way take no lookup with them: the next caller is answered."""
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(20):
            answers = stream(channel, (lookup(1) for _ in range(10_000)))
            next(answers)
            answers.cancel()
        assert [5] == [trips(answer) for answer in stream(channel, iter([lookup(5)]))]


def test_a_stop_ends_a_stream_that_waits_with_unavailable(own_server):
    """A stream that is open when the server stops gets its answers, and then is told to go elsewhere."""
    asked, gone = threading.Event(), threading.Event()

    def requests():
        yield lookup(1)
        asked.set()
        gone.wait(30)

    with grpc.insecure_channel(own_server.address) as channel:
        answers = stream(channel, requests())
        assert trips(next(answers)) == 1
        assert asked.wait(10)
        stopping = threading.Thread(target=own_server.stop)
        stopping.start()
        try:
            with pytest.raises(grpc.RpcError) as ended:
                next(answers)
        finally:
            gone.set()
            stopping.join()

    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
