"""A server with more work than it can do: what it takes on is answered, the rest is refused before it costs anything."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis import Redis

from faults.repos import make_repo, store_rows
from hindcast.serving.admission import CALL_COST
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client, Overloaded
from services import HindcastServer, RedisServer, run_hindcast, wait_for

METHOD = "/hindcast.v1.FeatureService/GetOnlineFeatures"
AT_ONCE = 4


@pytest.fixture
def server(tmp_path, redis_server) -> Iterator[HindcastServer]:
    """A server that takes on four small calls at once, and refuses none because this machine is late."""
    store_rows(redis_server.connection_string, "driver", [(Value(int64_val=1), {"trips": Value(int64_val=10)})])
    repo = make_repo(tmp_path / "repo", redis_server.connection_string)
    with run_hindcast(
        repo, "--in-flight-max-values", str(AT_ONCE * (CALL_COST + 100)), "--queue-max-ms", "60000"
    ) as server:
        yield server


def request(rows: int = 1) -> bytes:
    """Asks for driver 1."""
    message = GetOnlineFeaturesRequest(feature_service="ride")
    for _ in range(rows):
        message.entities["driver_id"].val.add(int64_val=1)
    return message.SerializeToString()


def ask(channel: grpc.Channel, calls: int = 20) -> list[grpc.Future]:
    """Calls sent at one moment, and an end that none of them comes to by itself; they are listed as they end."""
    ended: list[grpc.Future] = []
    for _ in range(calls):
        channel.unary_unary(METHOD).future(request(), timeout=30).add_done_callback(ended.append)
    return ended


@contextlib.contextmanager
def full(channel: grpc.Channel, redis: RedisServer) -> Iterator[list[grpc.Future]]:
    """As many calls as the server takes on wait for Redis, which stands still, and the others have ended; they are listed as they end."""
    assert 1 == len(answered(channel).columns[0].values)
    redis.pause()
    try:
        ended = ask(channel)
        wait_for(lambda: len(ended) >= 20 - AT_ONCE, what="calls to be refused")
        yield ended
    finally:
        redis.resume()
    wait_for(lambda: len(ended) == 20, what="the end of all calls")


def answered(channel: grpc.Channel, rows: int = 1) -> GetOnlineFeaturesResponse:
    """The answer of a call."""
    return GetOnlineFeaturesResponse.FromString(channel.unary_unary(METHOD)(request(rows), timeout=30))


def reasons(call: grpc.Future) -> list[str]:
    """The reasons that the status of a call gives."""
    details = status_pb2.Status.FromString(dict(call.trailing_metadata()).get("grpc-status-details-bin", b"")).details
    infos = [error_details_pb2.ErrorInfo() for _ in details]
    return [info.reason for info, detail in zip(infos, details, strict=True) if detail.Unpack(info)]


def test_what_is_over_the_limit_is_refused_at_once_and_asks_redis_nothing(server, redis_server):
    """While Redis is slow, as many calls wait as may; the others hear before these end, and Redis never hears of them."""
    with redis_server.client() as redis, grpc.insecure_channel(server.address) as channel:
        answered(channel)  # the first one reads schemas too
        before = asked_of(redis)
        with full(channel, redis_server) as ended:
            refused = list(ended)
        assert 1 + AT_ONCE >= asked_of(redis) - before

    assert [grpc.StatusCode.RESOURCE_EXHAUSTED] * (20 - AT_ONCE) == [call.code() for call in refused]
    assert [["OVERLOADED"]] * (20 - AT_ONCE) == [reasons(call) for call in refused]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED not in {call.code() for call in ended[20 - AT_ONCE :]}


def asked_of(redis: Redis) -> int:
    """How many reads Redis has had."""
    return redis.info("commandstats")["cmdstat_mget"]["calls"]


def test_health_answers_while_calls_are_refused(server, redis_server):
    """A full server still says how it is, before it is done with what it has."""
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        with full(channel, redis_server) as ended:
            health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert 20 - AT_ONCE == len(ended)


def test_the_largest_call_is_answered_by_a_server_that_does_nothing_else(server):
    """A call that costs more than the limit is taken on alone: the limit is of work at once, not of a call's size."""
    with grpc.insecure_channel(server.address) as channel:
        assert 10_000 == len(answered(channel, 10_000).columns[0].values)


def test_our_client_says_that_the_server_is_overloaded(server, redis_server):
    """The client raises `Overloaded`, with the time after which another try makes sense, and does not try by itself."""
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        client.get_server_info()  # is connected
        with full(channel, redis_server), pytest.raises(Overloaded, match="as much work as it can do"):
            client.get_online_features(features="ride", entities={"driver_id": [1]})
