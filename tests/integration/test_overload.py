"""A server with more work than it can do: what it takes on is answered, the rest is refused before it costs anything."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.repos import make_repo, store_rows
from hindcast.serving.admission import CALL_COST
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client, Overloaded
from services import HindcastServer, run_hindcast, wait_for

METHOD = "/hindcast.v1.FeatureService/GetOnlineFeatures"
AT_ONCE = 4


@pytest.fixture
def server(tmp_path, redis_server) -> Iterator[HindcastServer]:
    """A server that takes on four small calls at once."""
    store_rows(redis_server.connection_string, "driver", [(Value(int64_val=1), {"trips": Value(int64_val=10)})])
    repo = make_repo(tmp_path / "repo", redis_server.connection_string)
    with run_hindcast(repo, "--in-flight-max-values", str(AT_ONCE * (CALL_COST + 100))) as server:
        yield server


def request(rows: int = 1) -> bytes:
    """Asks for driver 1."""
    message = GetOnlineFeaturesRequest(feature_service="ride")
    for _ in range(rows):
        message.entities["driver_id"].val.add(int64_val=1)
    return message.SerializeToString()


def ask(channel: grpc.Channel, *, seconds: float, rows: int = 1) -> tuple[grpc.StatusCode, float, list[str]]:
    """How a call ended, after how long, and the reasons that its status gives."""
    began = time.monotonic()
    try:
        channel.unary_unary(METHOD)(request(rows), timeout=seconds)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        reasons = []
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reasons.append(info.reason)
        return error.code(), time.monotonic() - began, reasons
    return grpc.StatusCode.OK, time.monotonic() - began, []


def test_what_is_over_the_limit_is_refused_at_once_and_asks_redis_nothing(server, redis_server):
    """While Redis is slow, as many calls wait as may; the others hear at once, and Redis never hears of them."""
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(20) as callers:
        assert ask(channel, seconds=10)[0] == grpc.StatusCode.OK
        with redis_server.client() as redis:
            before = redis.info("commandstats")["cmdstat_mget"]["calls"]
        redis_server.pause()
        try:
            ended = list(callers.map(lambda _: ask(channel, seconds=1.0), range(20)))
        finally:
            redis_server.resume()
        wait_for(lambda: ask(channel, seconds=1)[0] == grpc.StatusCode.OK, what="answers to come again")
        with redis_server.client() as redis:
            asked = redis.info("commandstats")["cmdstat_mget"]["calls"] - before

    refused = [(took, reasons) for code, took, reasons in ended if code == grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert 20 - AT_ONCE == len(refused)
    assert {("OVERLOADED",)} == {tuple(reasons) for _, reasons in refused}
    assert max(took for took, _ in refused) < 0.5
    assert AT_ONCE <= asked < 20


def test_health_answers_while_calls_are_refused(server, redis_server):
    """A full server still says how it is."""
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(20) as callers:
        health = health_pb2_grpc.HealthStub(channel)
        redis_server.pause()
        try:
            waiting = [callers.submit(ask, channel, seconds=2.0) for _ in range(20)]
            wait_for(lambda: sum(call.done() for call in waiting) >= 20 - AT_ONCE, what="calls to be refused")
            began = time.monotonic()
            health.Check(health_pb2.HealthCheckRequest(), timeout=2)
            took = time.monotonic() - began
        finally:
            redis_server.resume()

    assert took < 0.5


def test_the_largest_call_is_answered_by_a_server_that_does_nothing_else(server):
    """A call that costs more than the limit is taken on alone: the limit is of work at once, not of a call's size."""
    with grpc.insecure_channel(server.address) as channel:
        answer = GetOnlineFeaturesResponse.FromString(channel.unary_unary(METHOD)(request(10_000), timeout=20))

    assert 10_000 == len(answer.columns[0].values)


def test_our_client_says_that_the_server_is_overloaded(server, redis_server):
    """The client raises `Overloaded`, with the time after which another try makes sense, and does not try by itself."""
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(20) as callers:
        redis_server.pause()
        try:
            waiting = [callers.submit(ask, channel, seconds=3.0) for _ in range(20)]
            wait_for(lambda: sum(call.done() for call in waiting) >= 20 - AT_ONCE, what="calls to be refused")
            with Client(server.address) as client, pytest.raises(Overloaded, match="as much work as it can do"):
                client.get_online_features(features="ride", entities={"driver_id": [1]})
        finally:
            redis_server.resume()
