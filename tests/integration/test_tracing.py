"""Traces of a real server, as a collector gets them."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from faults.repos import make_repo, store_rows
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest
from hindcast.v1.value_pb2 import Value
from services import held_port, run_hindcast, wait_for

LOOKUP = "hindcast.v1.FeatureService/GetOnlineFeatures"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """An OTLP collector over HTTP: its address, and the (resource attributes, span) pairs that it has got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = attributes(of_resource.resource)
                got.extend((resource, span) for scope in of_resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def repo(tmp_path, redis_server):
    """A repo with the row of driver 1."""
    store_rows(redis_server.connection_string, "driver", [(Value(int64_val=1), {"trips": Value(int64_val=10)})])
    return make_repo(tmp_path / "repo", redis_server.connection_string)


def attributes(of):
    """Attributes as a dict of plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def lookup(server, service="ride", metadata=()):
    """One lookup; its code and its lookup id."""
    asked = GetOnlineFeaturesRequest(feature_service=service)
    asked.entities["driver_id"].val.add(int64_val=1)
    with grpc.insecure_channel(server.address) as channel:
        try:
            _, done = channel.unary_unary(f"/{LOOKUP}").with_call(
                asked.SerializeToString(), timeout=10, metadata=metadata
            )
        except grpc.RpcError as error:
            done = error
    return done.code(), dict(done.trailing_metadata())["hindcast-lookup-id"]


def test_a_call_is_a_span_of_its_callers_trace(repo, collector):
    """The collector gets a server span under the caller's span, with the call's attributes, and steps below it."""
    endpoint, got = collector
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with run_hindcast(repo, "--otel", env=settings) as server:
        traceparent = f"00-{TRACE_ID}-{PARENT_ID}-01"
        code, lookup_id = lookup(server, metadata=(("traceparent", traceparent), ("tracestate", "vendor=1")))
        wait_for(lambda: len(got) >= 2)
    (call,) = [span for _, span in got if span.kind == Span.SPAN_KIND_SERVER]
    (step,) = [span for _, span in got if span.kind != Span.SPAN_KIND_SERVER]

    assert grpc.StatusCode.OK == code
    assert (LOOKUP, TRACE_ID, PARENT_ID) == (call.name, call.trace_id.hex(), call.parent_span_id.hex())
    assert "vendor=1" == call.trace_state
    service, method = LOOKUP.split("/")
    expected = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "rpc.grpc.status_code": 0}
    assert {**expected, "hindcast.lookup_id": lookup_id} == attributes(call)
    assert Status.STATUS_CODE_UNSET == call.status.code
    assert ("store read", call.trace_id, call.span_id) == (step.name, step.trace_id, step.parent_span_id)
    assert call.start_time_unix_nano <= step.start_time_unix_nano
    assert step.end_time_unix_nano <= call.end_time_unix_nano
    resource = got[0][0]
    assert ("hindcast", 0) == (resource["service.name"], resource["hindcast.slot"])


def test_a_span_says_how_its_call_failed_and_nothing_more(repo, collector, redis_server):
    """A caller's mistake is no error of the span, the server's is, and neither holds a name that the caller chose."""
    endpoint, got = collector
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": "features"}
    with run_hindcast(repo, "--otel", env=settings) as server:
        not_found, _ = lookup(server, "a-canary")
        redis_server.kill()
        unavailable, _ = lookup(server)
    calls = [span for _, span in got if span.kind == Span.SPAN_KIND_SERVER]

    assert [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE] == [not_found, unavailable]
    assert {5: Status.STATUS_CODE_UNSET, 14: Status.STATUS_CODE_ERROR} == {
        attributes(call)["rpc.grpc.status_code"]: call.status.code for call in calls
    }
    assert [] == [span for _, span in got if b"canary" in span.SerializeToString() or span.events]
    assert "features" == got[0][0]["service.name"]


def test_an_unsampled_trace_stays_unsampled(repo, collector):
    """A caller who does not record its trace gets no spans recorded here, and its answer all the same."""
    endpoint, got = collector
    with run_hindcast(repo, "--otel", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as server:
        assert grpc.StatusCode.OK == lookup(server, metadata=(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"),))[0]
    assert [] == got


@pytest.mark.parametrize("traceparent", ["", "00-x-y-01", "ff" * 60, f"00-{'0' * 32}-{PARENT_ID}-01"])
def test_a_broken_trace_context_begins_a_trace(repo, collector, traceparent):
    """A traceparent that is none is ignored."""
    endpoint, got = collector
    with run_hindcast(repo, "--otel", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as server:
        assert grpc.StatusCode.OK == lookup(server, metadata=(("traceparent", traceparent),))[0]
    (call,) = [span for _, span in got if span.kind == Span.SPAN_KIND_SERVER]
    assert b"" == call.parent_span_id


def test_a_collector_that_is_away_holds_up_nothing(repo):
    """Without a collector calls are answered, and the stop is as quick as the drain and the last try."""
    with (
        held_port() as port,
        run_hindcast(repo, "--otel", env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}) as server,
    ):
        assert [grpc.StatusCode.OK] * 20 == [lookup(server)[0] for _ in range(20)]
        assert 0 == server.stop(seconds=8)


def test_variables_alone_start_no_traces(repo, collector):
    """The standard variables, which a host may set for all its processes, do nothing without the flag."""
    endpoint, got = collector
    with run_hindcast(repo, env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "otlp"}) as server:
        assert grpc.StatusCode.OK == lookup(server)[0]
    assert [] == got


def test_a_missing_extra_is_named(repo, tmp_path):
    """Without the extra the flag is an error that says what to install."""
    # What Python finds first is a package of that name without the parts that the extra brings.
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    with pytest.raises(AssertionError, match=r"--otel needs the otel extra: pip install 'hindcast\[server,otel\]'"):
        run_hindcast(repo, "--otel", env={"PYTHONPATH": path}).__enter__()
