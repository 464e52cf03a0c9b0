"""Both clients against a real gRPC server whose answers are scripted: one suite, two implementations."""

import asyncio
import subprocess
import threading
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pyarrow as pa
import pytest

from hindcast.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
    GetServerInfoRequest,
    GetServerInfoResponse,
)
from hindcast.v1.push_service_pb2 import PushRequest, PushResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import (
    TLS,
    AsyncClient,
    AsyncTrainingSets,
    Cancelled,
    Client,
    DeadlineExceeded,
    HindcastError,
    InvalidRequest,
    Lookup,
    NotFound,
    Overloaded,
    PermissionDenied,
    RetryPolicy,
    ServerError,
    ServerInfo,
    Unauthenticated,
    Unavailable,
)
from services import held_port

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
# Short waits, so that a test does not wait; the default waits are judged by test_client_policy.
QUICK = RetryPolicy(backoff_initial_seconds=0.001, backoff_max_seconds=0.002)
BOUND_SECONDS = 20  # of every wait for a condition


@dataclass
class Fail:
    """End the call with this code."""

    code: grpc.StatusCode
    trailing: tuple = ()


class Hang:
    """Answer nothing until the client gives up."""


@dataclass
class Script:
    """What the server does, call by call; after the last step it answers. Keeps what it was sent."""

    steps: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    called: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)

    def play(self, request, context, response):
        """One call."""
        self.seen.append((request, dict(context.invocation_metadata())))
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Hang):
            assert context.add_callback(self.given_up.set)
            self.called.set()
            assert self.given_up.wait(BOUND_SECONDS)
        if isinstance(step, Fail):
            context.set_trailing_metadata(step.trailing)
            context.abort(step.code, "scripted")
        return response

    def get_online_features(self, request, context):
        """Answers with one row per entity row, as the server would."""
        rows = len(next(iter(request.entities.values())).val)
        response = GetOnlineFeaturesResponse(lookup_id="lookup-1", catalog_version="sha256:c")
        response.served_at.FromDatetime(NOON)
        view = response.views.add(view="driver")
        column = response.columns.add(name="trips", view_index=0)
        for row in range(rows):
            view.event_timestamps.add().FromDatetime(NOON)
            column.values.append(Value(int64_val=row))
            column.statuses.append(1)
        return self.play(request, context, response)

    def get_server_info(self, request, context):
        """Answers with a server of one service."""
        response = GetServerInfoResponse(
            version="1",
            feast_version="2",
            project="p",
            catalog_version="c",
            feature_services=["s"],
            feature_views=["v"],
        )
        response.started_at.FromDatetime(NOON)
        return self.play(request, context, response)

    def push(self, request, context):
        """Answers with the run that was sent."""
        return self.play(request, context, PushResponse(run_id=request.run_id))


@contextmanager
def serving(script, *, credentials=None):
    """A server on a free port of the loopback; gives its address."""
    handlers = {
        "GetOnlineFeatures": grpc.unary_unary_rpc_method_handler(
            script.get_online_features,
            request_deserializer=GetOnlineFeaturesRequest.FromString,
            response_serializer=GetOnlineFeaturesResponse.SerializeToString,
        ),
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(
            script.get_server_info,
            request_deserializer=GetServerInfoRequest.FromString,
            response_serializer=GetServerInfoResponse.SerializeToString,
        ),
    }
    pushes = {
        "Push": grpc.unary_unary_rpc_method_handler(
            script.push,
            request_deserializer=PushRequest.FromString,
            response_serializer=PushResponse.SerializeToString,
        )
    }
    pool = futures.ThreadPoolExecutor(max_workers=4)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("hindcast.v1.FeatureService", handlers),
            grpc.method_handlers_generic_handler("hindcast.v1.PushService", pushes),
        )
    )
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait(BOUND_SECONDS)
        pool.shutdown()


def outcome(call):
    """What a call gives or raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - handed to the test, which looks
        return error


def call_sync(target, calls, **options):
    with Client(target, **{"retry": QUICK, **options}) as client:
        return [outcome(lambda call=call: getattr(client, call[0])(**call[1])) for call in calls]


def call_async(target, calls, **options):
    async def all_calls():
        outcomes = []
        async with AsyncClient(target, **{"retry": QUICK, **options}) as client:
            for method, arguments in calls:
                try:
                    outcomes.append(await getattr(client, method)(**arguments))
                except Exception as error:  # noqa: BLE001 - handed to the test, which looks
                    outcomes.append(error)
        return outcomes

    return asyncio.run(all_calls())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request):
    """Make calls, (method, arguments) each, on one new client; gives their results or errors."""
    return request.param


LOOKUP = ("get_online_features", {"features": ["driver:trips"], "entities": {"driver_id": [7, 8, 7]}})
INFO = ("get_server_info", {})


def test_a_lookup_is_answered_row_by_row(call):
    """What was asked reaches the server whole, and its answer stands beside the entities that were asked about."""
    script = Script()
    arguments = {**LOOKUP[1], "request_data": {"x": [0.5, 1, 2]}, "request_id": "r-1", "tags": {"model": "m"}}
    with serving(script) as target:
        [result] = call(target, [("get_online_features", arguments)])
    expected = {"driver_id": [7, 8, 7], "trips": [0, 1, 2]}
    assert expected == result.to_dict()
    expected = {"trips": [NOON] * 3}
    assert expected == result.event_timestamps
    [(request, _)] = script.seen
    expected = (["driver:trips"], "r-1", {"model": "m"}, [7, 8, 7], [0.5, 1.0, 2.0])
    actual = (
        list(request.feature_list.refs),
        request.request_id,
        dict(request.tags),
        [value.int32_val for value in request.entities["driver_id"].val],
        [value.double_val for value in request.request_data["x"].val],
    )
    assert expected == actual


def test_a_server_says_who_it_is(call):
    """The server's own words come back as a plain record."""
    with serving(Script()) as target:
        [info] = call(target, [INFO])
    expected = ServerInfo(
        version="1",
        feast_version="2",
        project="p",
        catalog_version="c",
        started_at=NOON,
        feature_services=("s",),
        feature_views=("v",),
    )
    assert expected == info


def test_a_push_is_retried_under_its_run_id(call):
    """A push that failed in passing is sent again as the same run, so that its rows are stored once; another push is another."""
    script = Script([Fail(grpc.StatusCode.UNAVAILABLE)])
    rows = [{"driver_id": 1, "trips": 2, "event_ts": NOON}]
    push = ("push", {"feature_view": "v", "rows": rows, "join_keys": ["driver_id"], "event_timestamp": "event_ts"})
    with serving(script) as target:
        first, second = call(target, [push, push])
    sent = [request.run_id for request, _ in script.seen]

    assert [first.run_id, first.run_id, second.run_id] == sent
    assert first.run_id != second.run_id


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_passing_failure_is_retried(call, code):
    """A server that is away for two attempts is asked a third time, and the caller sees only the answer."""
    script = Script([Fail(code), Fail(code)])
    with serving(script) as target:
        [result] = call(target, [LOOKUP])
    expected = (3, 3)
    assert expected == (len(result), len(script.seen))


def test_retries_end_with_the_last_failure(call):
    """When every attempt fails the caller gets the last failure, with the receipt that it left."""
    script = Script([Fail(grpc.StatusCode.UNAVAILABLE, (("hindcast-lookup-id", f"lookup-{n}"),)) for n in range(9)])
    with serving(script) as target:
        [error] = call(target, [LOOKUP])
    assert (Unavailable, "lookup-3", 4) == (type(error), error.lookup_id, len(script.seen))


def test_the_budget_is_shared_by_a_clients_calls(call):
    """A client whose calls keep failing stops retrying, so that it does not add to the server's trouble."""
    script = Script([Fail(grpc.StatusCode.UNAVAILABLE)] * 99)
    with serving(script) as target:
        errors = call(target, [LOOKUP] * 5)
    # 10 tokens: four attempts of the first call leave 6, and every later failure leaves half or less.
    assert [Unavailable] * 5 == [type(error) for error in errors]
    expected = 4 + 4
    assert expected == len(script.seen)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.UNKNOWN, ServerError),
    ],
)
def test_a_lasting_failure_is_told_at_once(call, code, expected):
    """A failure that no retry can change is raised after one attempt, as the error that it means."""
    script = Script([Fail(code, (("hindcast-lookup-id", "lookup-1"),))])
    with serving(script) as target:
        [error] = call(target, [LOOKUP])
    assert (expected, code, "scripted", "lookup-1", 1) == (
        type(error),
        error.code,
        error.message,
        error.lookup_id,
        len(script.seen),
    )


def test_a_call_ends_at_its_deadline(call):
    """A server that does not answer costs the caller no more than the call's own timeout, and no retry."""
    script = Script([Hang()])
    with serving(script) as target:
        [error] = call(target, [(LOOKUP[0], {**LOOKUP[1], "timeout_seconds": 0.2})])
        assert script.given_up.wait(BOUND_SECONDS)
    assert (DeadlineExceeded, 1) == (type(error), len(script.seen))


def test_a_clients_own_timeout_holds_for_its_calls(call):
    """The timeout given to the client bounds every call that has none of its own."""
    script = Script([Hang()])
    with serving(script) as target:
        [error] = call(target, [INFO], timeout_seconds=0.2)
    assert DeadlineExceeded is type(error)


def test_nobody_there_is_unavailable(call):
    """A port that nothing listens on is reported as such, soon, and not as a timeout."""
    with held_port() as port:
        [error] = call(f"127.0.0.1:{port}", [LOOKUP])
    assert Unavailable is type(error)


def test_the_token_is_asked_for_at_every_attempt(call):
    """A callable token is called anew for each attempt, so that a refreshed one is used at once."""
    tokens = iter(["one", "two"])
    script = Script([Fail(grpc.StatusCode.UNAVAILABLE)])
    with serving(script) as target:
        call(target, [LOOKUP], token=lambda: next(tokens))
    expected = ["Bearer one", "Bearer two"]
    assert expected == [metadata["authorization"] for _, metadata in script.seen]


def test_a_fixed_token_goes_with_every_call(call):
    """A token given as text is sent as it is; without one, no such metadata is."""
    script = Script()
    with serving(script) as target:
        call(target, [INFO], token="secret")  # noqa: S106 - of a server that lives in this test
        call(target, [INFO])
    expected = ["Bearer secret", None]
    assert expected == [metadata.get("authorization") for _, metadata in script.seen]


def test_bad_arguments_never_reach_the_server(call):
    """A request that cannot be right fails in the caller's process alone."""
    script = Script()
    with serving(script) as target:
        errors = call(
            target,
            [
                (LOOKUP[0], {**LOOKUP[1], "entities": {"driver_id": [object()]}}),
                (LOOKUP[0], {**LOOKUP[1], "timeout_seconds": 0}),
            ],
        )
    assert [TypeError, ValueError] == [type(error) for error in errors]
    expected = []
    assert expected == script.seen


def test_closing_a_client_ends_its_calls():
    """A call in flight ends with Cancelled when another thread closes the client, and is not retried."""
    script = Script([Hang()])
    with serving(script) as target, futures.ThreadPoolExecutor(1) as pool:
        client = Client(target, retry=QUICK)
        flying = pool.submit(client.get_server_info)
        assert script.called.wait(BOUND_SECONDS)
        client.close()
        assert Cancelled is type(flying.exception(timeout=BOUND_SECONDS))
        with pytest.raises(RuntimeError, match="is closed; make a new one"):
            client.get_server_info()
        client.close()
    expected = 1
    assert expected == len(script.seen)


def test_closing_an_async_client_ends_its_calls():
    """A call in flight ends with Cancelled, not with a cancelled task, when the async client is closed."""
    script = Script([Hang()])

    async def story(target):
        client = AsyncClient(target, retry=QUICK)
        flying = asyncio.create_task(client.get_server_info())
        assert await asyncio.to_thread(script.called.wait, BOUND_SECONDS)
        await client.close()
        with pytest.raises(Cancelled):
            await flying
        with pytest.raises(RuntimeError, match="is closed; make a new one"):
            await client.get_server_info()

    with serving(script) as target:
        asyncio.run(story(target))
    expected = 1
    assert expected == len(script.seen)


def test_a_cancelled_task_cancels_its_call():
    """Cancelling the task raises CancelledError, tells the server, and tries nothing again."""
    script = Script([Hang()])

    async def story(target):
        async with AsyncClient(target, retry=QUICK) as client:
            flying = asyncio.create_task(client.get_server_info())
            assert await asyncio.to_thread(script.called.wait, BOUND_SECONDS)
            flying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flying
            assert await asyncio.to_thread(script.given_up.wait, BOUND_SECONDS)

    with serving(script) as target:
        asyncio.run(story(target))
    expected = 1
    assert expected == len(script.seen)


@contextmanager
def refusing(code):
    """A server that ends streams and builds after their first message; gives its address."""

    def refuse(requests, context):
        next(requests)
        context.set_trailing_metadata((("hindcast-lookup-id", "lookup-1"),))
        context.abort(code, "scripted")

    pool = futures.ThreadPoolExecutor(max_workers=4)
    server = grpc.server(pool)
    for service, method in (("FeatureService", "StreamOnlineFeatures"), ("TrainingSets", "Build")):
        handlers = {method: grpc.stream_stream_rpc_method_handler(refuse)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"hindcast.v1.{service}", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait(BOUND_SECONDS)
        pool.shutdown()


def test_what_is_ended_while_it_sends_has_the_servers_status():
    """The asyncio clients tell what the server said, and not that a request could not be sent, which grpc.aio puts in its place."""
    rows = pa.table({"driver_id": range(2_000)})
    frame = pa.Table.from_batches(rows.to_batches(max_chunksize=1))

    async def lookups():
        while True:
            yield Lookup(features=["driver:trips"], entities={"driver_id": [7]})

    async def ended(target):
        told = []
        async with AsyncTrainingSets(target) as sets, AsyncClient(target) as client:
            for _ in range(40):
                with pytest.raises(HindcastError) as caught:
                    await sets.build("x", features=["driver:trips"], entity_frame=frame)
                told.append(caught.value)
                with pytest.raises(HindcastError) as caught:
                    _ = [one async for one in client.stream_online_features(lookups())]
                told.append(caught.value)
        return {(type(error), error.message, error.lookup_id) for error in told}

    with refusing(grpc.StatusCode.RESOURCE_EXHAUSTED) as target:
        assert {(Overloaded, "scripted", "lookup-1")} == asyncio.run(ended(target))
    with refusing(grpc.StatusCode.INTERNAL) as target:
        assert {(ServerError, "scripted", "lookup-1")} == asyncio.run(ended(target))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("target", "options", "told"),
    [
        ("localhost", {}, "has no port; give 'host:port'"),
        ("https://localhost:1", {}, "is a URL"),
        ("localhost:1", {"timeout_seconds": 0}, "timeout_seconds is 0"),
        ("localhost:1", {"timeout_seconds": float("inf")}, "timeout_seconds is inf"),
    ],
)
def test_a_client_that_cannot_work_is_not_made(kind, target, options, told):
    """A bad target or timeout fails when the client is made."""
    with pytest.raises(ValueError, match=told):
        kind(target, **options)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A folder with an authority, and a server's and a client's certificate from it; made by openssl."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    for name, extension in (
        ("ca", "basicConstraints=critical,CA:TRUE"),
        ("server", "subjectAltName=DNS:features.test,IP:127.0.0.1"),
        ("client", "subjectAltName=DNS:model"),
    ):
        signed = [] if name == "ca" else ["-CA", "ca.pem", "-CAkey", "ca.key"]
        # fmt: off
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", extension, "-keyout", f"{name}.key", "-out", f"{name}.pem", *signed,
        )
        # fmt: on
    return folder


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_tls_trusts_only_its_authority(call, pki, mutual):
    """Over TLS a client is answered when it trusts the server's authority, and, where asked, shows its own certificate."""
    credentials = grpc.ssl_server_credentials(
        [((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())],
        root_certificates=(pki / "ca.pem").read_bytes() if mutual else None,
        require_client_auth=mutual,
    )
    trusting = TLS.from_files(ca=pki / "ca.pem")
    shown = TLS.from_files(ca=pki / "ca.pem", certificate=pki / "client.pem", key=pki / "client.key")
    once = RetryPolicy(attempts_max=1)
    script = Script()
    with serving(script, credentials=credentials) as target:
        outcomes = [call(target, [LOOKUP], tls=tls, retry=once)[0] for tls in (shown, trusting, TLS(), None)]
    expected = [3, Unavailable if mutual else 3, Unavailable, Unavailable]
    assert expected == [type(got) if isinstance(got, Exception) else len(got) for got in outcomes]


def test_tls_can_be_told_the_servers_name(call, pki):
    """A server reached by another address is known by the name in its certificate."""
    credentials = grpc.ssl_server_credentials([((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())])
    once = RetryPolicy(attempts_max=1)
    with serving(Script(), credentials=credentials) as target:
        right, wrong = (
            call(target, [INFO], tls=TLS.from_files(ca=pki / "ca.pem", server_name=name), retry=once)[0]
            for name in ("features.test", "other.test")
        )
    assert (ServerInfo, Unavailable) == (type(right), type(wrong))


def test_tls_keeps_its_key_to_itself():
    """A private key is not part of what a TLS setting prints, and makes no sense without its certificate."""
    assert "secret" not in repr(TLS(certificate_pem=b"public", key_pem=b"secret"))
    with pytest.raises(ValueError, match="certificate_pem and key_pem go together"):
        TLS(key_pem=b"secret")
