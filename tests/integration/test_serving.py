"""A running server: health, reflection, TLS, workers that die, deadlines, and a stop that loses no call."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from faults.deployments import Certificates, make_certificates
from faults.repos import make_repo, registry, store_rows
from hindcast.shadow.v1.registry_pb2 import OnDemandFeatureView, OnDemandFeatureViewSpec
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import TLS, Client, RetryPolicy, Unavailable
from services import HindcastServer, RedisServer, run_hindcast, run_redis, wait_for

OURS = (
    *("GrpcFeatureServer", "feast.serving.ServingService"),
    *("hindcast.v1.FeatureService", "hindcast.v1.Lookups", "hindcast.v1.PushService"),
)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
METHOD = "/hindcast.v1.FeatureService/GetOnlineFeatures"
ONCE = RetryPolicy(attempts_max=1)
PINGS_BYTES = 60
"""More than the health checks of two workers ask of Redis before they give a connection up: two PINGs of 14 bytes each."""


@pytest.fixture
def redis(redis_server) -> RedisServer:
    """A Redis with the row of driver 1."""
    fill(redis_server)
    return redis_server


def fill(server: RedisServer) -> None:
    """Store the row of driver 1."""
    store_rows(server.connection_string, "driver", [(Value(int64_val=1), {"trips": Value(int64_val=10)})])


@pytest.fixture
def repo(tmp_path, redis) -> Path:
    """A repo on that Redis."""
    return make_repo(tmp_path / "repo", redis.connection_string)


@pytest.fixture
def server(repo) -> Iterator[HindcastServer]:
    """A server of two workers that the test may harm."""
    with run_hindcast(repo, "--workers", "2") as server:
        yield server


@contextlib.contextmanager
def connected(server: HindcastServer) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def request() -> bytes:
    """Asks for driver 1."""
    message = GetOnlineFeaturesRequest(feature_service="ride")
    message.entities["driver_id"].val.add(int64_val=1)
    return message.SerializeToString()


def trips(channel: grpc.Channel, *, seconds: float | None = 10.0) -> int:
    """The trips of driver 1."""
    answer = channel.unary_unary(METHOD)(request(), timeout=seconds)
    return GetOnlineFeaturesResponse.FromString(answer).columns[0].values[0].int64_val


def answers(channel: grpc.Channel) -> bool:
    """Whether a lookup is answered, rightly."""
    try:
        return 10 == trips(channel, seconds=1.0)
    except grpc.RpcError:
        return False


def health_of(stub: health_pb2_grpc.HealthStub, service: str = "") -> int:
    """What a Check says."""
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status


def is_alive(process_id: int) -> bool:
    """Whether a process runs."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_health_of_every_service(server):
    """Check and List say SERVING of the server and each of its services, and NOT_FOUND of any other."""
    with connected(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        expected = dict.fromkeys(("", *OURS), SERVING)
        assert expected == {service: health_of(stub, service) for service in expected}
        listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses
        assert expected == {service: answer.status for service, answer in listed.items()}
        with pytest.raises(grpc.RpcError) as caught:
            health_of(stub, "nope")
        assert grpc.StatusCode.NOT_FOUND is caught.value.code()


def test_health_follows_redis(server, redis):
    """Check, List and Watch say NOT_SERVING while Redis is away, and SERVING once it is back."""
    with connected(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=OURS[2]), timeout=30)
        assert SERVING == next(watch).status
        redis.pause()
        try:
            assert NOT_SERVING == next(watch).status
            wait_for(lambda: NOT_SERVING == health_of(stub), what="NOT_SERVING")
            listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses
            assert {NOT_SERVING} == {answer.status for answer in listed.values()}
        finally:
            redis.resume()
        assert SERVING == next(watch).status
        assert answers(channel)
        watch.cancel()


def test_health_follows_a_redis_that_was_restarted(server, redis):
    """A Redis that was killed makes the server NOT_SERVING, and another on its port SERVING again, with no restart."""
    with connected(server) as channel, contextlib.ExitStack() as stack:
        stub = health_pb2_grpc.HealthStub(channel)
        redis.kill()
        wait_for(lambda: NOT_SERVING == health_of(stub), what="NOT_SERVING")
        fill(stack.enter_context(run_redis(port=redis.port)))
        wait_for(lambda: SERVING == health_of(stub), what="SERVING")
        assert answers(channel)


def reflect(channel: grpc.Channel, version: str, **question: str) -> reflection_pb2.ServerReflectionResponse:
    """One answer of the reflection service of a version."""
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = method(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=10)
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_and_describes(server, version):
    """Both versions of reflection list every service and have the file of each service and message."""
    with connected(server) as channel:
        listed = reflect(channel, version, list_services="").list_services_response.service
        others = {
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert {*OURS, *others} == {service.name for service in listed}
        for symbol in (*OURS, "feast.serving.GetOnlineFeaturesRequest", "feast.types.Value", "hindcast.v1.Value"):
            answer = reflect(channel, version, file_containing_symbol=symbol)
            assert answer.file_descriptor_response.file_descriptor_proto, symbol
        nothing = reflect(channel, version, file_containing_symbol="no.such.Symbol")
        assert grpc.StatusCode.NOT_FOUND.value[0] == nothing.error_response.error_code


def test_reflection_is_enough_to_call(server):
    """A client that knows the protos by reflection alone can ask in either dialect."""
    with connected(server) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        for service, column in (("feast.serving.ServingService", "results"), ("hindcast.v1.FeatureService", "columns")):
            method = pool.FindServiceByName(service).FindMethodByName("GetOnlineFeatures")
            ask, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            message = ask(feature_service="ride")
            message.entities["driver_id"].val.add(int64_val=1)
            call = channel.unary_unary(
                f"/{service}/GetOnlineFeatures",
                request_serializer=ask.SerializeToString,
                response_deserializer=answer.FromString,
            )
            columns = getattr(call(message, timeout=10), column)
            assert [10] == [value.int64_val for c in columns for value in c.values if value.int64_val not in {0, 1}]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    """An authority, a server's and a client's certificate."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


def ask_once(server: HindcastServer, tls: TLS | None) -> list[object]:
    """The trips of driver 1 by the client, without a retry."""
    with Client(server.address, tls=tls, retry=ONCE, timeout_seconds=5.0) as client:
        return client.get_online_features(features=["driver:trips"], entities={"driver_id": [1]}).to_dict()["trips"]


def test_tls(repo, certificates):
    """With a certificate, callers who trust its authority are answered, and plain text and strangers are not."""
    pair = ("--tls-cert", str(certificates.server), "--tls-key", str(certificates.server_key))
    with run_hindcast(repo, *pair) as server:
        assert [10] == ask_once(server, TLS.from_files(ca=certificates.ca))
        for tls in (None, TLS()):
            with pytest.raises(Unavailable):
                ask_once(server, tls)


def test_mutual_tls(repo, certificates):
    """With a client CA, callers who show a certificate that it signed are answered, and others are not."""
    options = (
        "--tls-cert",
        certificates.server,
        "--tls-key",
        certificates.server_key,
        "--tls-client-ca",
        certificates.ca,
    )
    with run_hindcast(repo, *map(str, options)) as server:
        known = TLS.from_files(ca=certificates.ca, certificate=certificates.client, key=certificates.client_key)
        assert [10] == ask_once(server, known)
        with pytest.raises(Unavailable):
            ask_once(server, TLS.from_files(ca=certificates.ca))


def started_at(server: HindcastServer) -> int:
    """When the worker that takes a new connection started."""
    with Client(server.address) as client:
        return int(client.get_server_info().started_at.timestamp() * 1_000_000)


def test_every_worker_answers(server):
    """New connections come to both workers."""
    seen: set[int] = set()
    wait_for(lambda: seen.add(started_at(server)) or len(seen) == 2, what="an answer of each worker")


def test_killed_worker_is_replaced_while_calls_go_on(server):
    """A worker is killed under load: every call of a client with the default retries is answered, and two workers run."""
    before = server.worker_ids()
    stop = threading.Event()

    def ask() -> int:
        count = 0
        with Client(server.address) as client:
            while not stop.is_set():
                result = client.get_online_features(features=["driver:trips"], entities={"driver_id": [1]})
                assert [10] == result.to_dict()["trips"]
                count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            os.kill(before[0], signal.SIGKILL)
            wait_for(lambda: len(set(server.worker_ids()) - {before[0]}) == 2, what="another worker")
            (replacement,) = set(server.worker_ids()) - set(before)
            seen: set[int] = set()
            wait_for(lambda: seen.add(started_at(server)) or len(seen) >= 2, what="its answer")
        finally:
            stop.set()
        assert min(future.result(60) for future in asking) > 0
    assert replacement not in before
    assert before[1] in server.worker_ids()
    assert any("worker 0 ended with code -9" in line or "worker 1 ended with code -9" in line for line in server.output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_ends_every_worker(server, number):
    """SIGTERM and Ctrl-C end the supervisor with exit code 0, and no worker outlives it."""
    workers = server.worker_ids()
    assert 2 == len(workers)
    server.process.send_signal(number)
    assert 0 == server.process.wait(60)
    assert [] == [worker for worker in workers if is_alive(worker)]


def test_killed_supervisor_leaves_no_worker(server):
    """A supervisor that is killed takes its workers with it, and frees the port."""
    workers = server.worker_ids()
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(is_alive, workers)), what="the end of the workers")


def test_stop_lets_running_calls_finish(repo, redis):
    """A call that waits for Redis when SIGTERM comes is answered, and then the exit code is 0."""
    with (
        run_hindcast(repo, "--workers", "2", "--max-connection-age-seconds", "1") as server,
        connected(server) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        assert answers(channel)
        redis.pause()
        try:
            running = pool.submit(trips, channel)
            wait_for(lambda: redis.unread_bytes() > PINGS_BYTES, what="a lookup that waits")
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses_connections(server), what="a port that is closed")
        finally:
            redis.resume()
        assert 10 == running.result(60)
        assert 0 == server.process.wait(60)


def refuses_connections(server: HindcastServer) -> bool:
    """Whether nobody listens at the server's address any more."""
    host, port = server.address.split(":")
    listening = f"0100007F:{int(port):04X}"
    assert "127.0.0.1" == host
    return not any(
        line.split()[1] == listening and line.split()[3] == "0A"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
    )


def test_stop_does_not_wait_for_who_only_watches(repo):
    """An open health Watch is told NOT_SERVING, and does not hold up a stop beyond the drain."""
    options = ("--max-connection-age-seconds", "0.5", "--drain-seconds", "1")
    with run_hindcast(repo, *options) as server, connected(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=600)
        assert SERVING == next(watch).status
        server.process.send_signal(signal.SIGTERM)
        assert NOT_SERVING == next(watch).status
        assert 0 == server.process.wait(60)


def test_call_without_deadline_gets_one(repo, redis):
    """A call that brings no deadline ends by the server's own when Redis does not answer."""
    with run_hindcast(repo, "--timeout-ms", "300") as server, connected(server) as channel:
        assert answers(channel)
        redis.pause()
        try:
            watch = server.stopwatch()
            with pytest.raises(grpc.RpcError) as caught:
                trips(channel, seconds=None)
            waited = watch.seconds
        finally:
            redis.resume()
        assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
        assert "the deadline passed while Redis was asked" == caught.value.details()
        assert waited < 1.5
        wait_for(lambda: answers(channel), what="an answer")


def test_deadline_of_a_call_is_kept_while_redis_is_paused(server, redis):
    """A paused Redis costs each of many callers its deadline and no more; afterwards all are answered."""
    with connected(server) as channel, ThreadPoolExecutor(20) as pool:
        assert answers(channel)
        redis.pause()
        try:
            watch = server.stopwatch()
            running = [pool.submit(trips, channel, seconds=0.4) for _ in range(20)]
            codes = {future.exception(60).code() for future in running}
            waited = watch.seconds
        finally:
            redis.resume()
        assert {grpc.StatusCode.DEADLINE_EXCEEDED} == codes
        assert waited < 1.5
        wait_for(lambda: answers(channel), what="an answer")


def test_redis_away_is_unavailable_and_says_when_to_try_again(server, redis):
    """Without Redis a lookup is UNAVAILABLE at once, with RetryInfo and in no words of Redis's; calls that need none go on."""
    with connected(server) as channel:
        assert answers(channel)
        redis.kill()
        watch = server.stopwatch()
        with pytest.raises(grpc.RpcError) as caught:
            trips(channel)
        assert watch.seconds < 1.0
        assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
        assert "Redis does not answer; try again" == caught.value.details()
        metadata = dict(caught.value.trailing_metadata())
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status_pb2.Status.FromString(metadata["grpc-status-details-bin"]).details:
            detail.Unpack(info)
            detail.Unpack(retry)
        assert "STORE_UNAVAILABLE" == info.reason
        assert 100 == retry.retry_delay.ToMilliseconds()
        with Client(server.address) as client:
            assert "tiny" == client.get_server_info().project


def test_worker_that_cannot_start_ends_the_server_in_words(repo):
    """A worker whose on-demand view cannot be loaded ends the server with exit code 1, and no traceback is printed."""
    broken = registry()
    view = OnDemandFeatureView(spec=OnDemandFeatureViewSpec(name="broken", project="tiny", mode="python"))
    view.spec.features.add(name="x", value_type=5)
    broken.on_demand_feature_views.append(view.SerializeToString())
    (repo / "registry.db").write_bytes(broken.SerializeToString())
    with pytest.raises(AssertionError) as caught, run_hindcast(repo):
        pass
    output = str(caught.value)
    assert "on-demand view 'broken' cannot be loaded" in output
    assert "hindcast: worker 0 does not come up; its words are above" in output
    assert "Traceback" not in output
