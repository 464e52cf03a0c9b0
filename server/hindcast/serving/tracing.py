"""OpenTelemetry traces: a span per call under the caller's own trace, and a span per step of it (docs/metrics.md).

`Traces` makes none and is what a worker has without `--otel`; `OtelTraces` does, through the extra `otel`. Spans leave by a
thread with a bounded queue: a collector that is slow or away costs spans, never a call.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import grpc

from hindcast.errors import ServerStartError
from hindcast.serving.calls import CALL_METADATA, Handler, StreamHandler, UploadHandler, code_of
from hindcast.serving.status import LOOKUP_ID_KEY

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_LAST_SECONDS = 2.0
"""What a stopping worker gives the collector for the last spans."""

_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""Statuses that OpenTelemetry's conventions call an error of the server's span; the others are the caller's."""

_NO_SPAN: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


class Traces:
    """Makes no spans."""

    def traced(self, service: str, method: str, handler: Handler) -> Handler:  # noqa: ARG002
        """The handler of a unary RPC, with a span around each call."""
        return handler

    def traced_uploads(self, service: str, method: str, handler: UploadHandler) -> UploadHandler:  # noqa: ARG002
        """The handler of a client-streaming RPC, with a span around each call."""
        return handler

    def traced_stream(self, service: str, method: str, handler: StreamHandler) -> StreamHandler:  # noqa: ARG002
        """The handler of a bidirectional RPC, with a span around each call."""
        return handler

    def span(self, name: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """A step of the call that is being answered."""
        return _NO_SPAN

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Send spans until the block ends, and the last ones then."""
        yield


class OtelTraces(Traces):
    """Makes spans, and sends them as the standard OTEL_* variables say."""

    def __init__(self, *, slot: int, exporter: "SpanExporter | None" = None) -> None:
        """Start the thread that sends; for a worker, not for a process that will fork.

        Args:
            exporter: None for OTLP over HTTP, as OTEL_EXPORTER_OTLP_* say.
        """
        from opentelemetry import trace  # noqa: PLC0415 - an extra, and slow
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = _provider(slot, exporter)
        self._tracer = self._provider.get_tracer("hindcast", version("hindcast"))
        self._propagator = TraceContextTextMapPropagator()
        self._server_kind = trace.SpanKind.SERVER
        self._error = trace.StatusCode.ERROR

    def traced(self, service: str, method: str, handler: Handler) -> Handler:
        """See `Traces.traced`."""

        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            with self._call(service, method, context):
                return await handler(request, context)

        return call

    def traced_uploads(self, service: str, method: str, handler: UploadHandler) -> UploadHandler:
        """See `Traces.traced_uploads`."""

        async def call(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            with self._call(service, method, context):
                return await handler(requests, context)

        return call

    def traced_stream(self, service: str, method: str, handler: StreamHandler) -> StreamHandler:
        """See `Traces.traced_stream`."""

        async def call(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            with self._call(service, method, context):
                async for answer in handler(requests, context):
                    yield answer

        return call

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """See `Traces.span`."""
        # An exception's text can hold a caller's values: it is not recorded, here or below.
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
            yield

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """See `Traces.kept`."""
        try:
            yield
        finally:
            # The SDK waits up to 30 s for a collector that is away. A thread that nobody waits for ends with the process.
            last = threading.Thread(target=self._provider.shutdown, daemon=True)
            last.start()
            await asyncio.to_thread(last.join, _LAST_SECONDS)

    @contextlib.contextmanager
    def _call(self, service: str, method: str, context: grpc.aio.ServicerContext) -> Iterator[None]:
        metadata = {key: value for key, value in CALL_METADATA.get() if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            f"{service}/{method}",
            context=self._propagator.extract(metadata),
            kind=self._server_kind,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            code = grpc.StatusCode.OK
            try:
                yield
            except BaseException as error:
                code = code_of(error, context)
                raise
            finally:
                span.set_attribute("rpc.grpc.status_code", code.value[0])
                for key, value in context.trailing_metadata() or ():
                    if key == LOOKUP_ID_KEY:
                        span.set_attribute("hindcast.lookup_id", value)
                if code in _FAULTS:
                    span.set_status(self._error)


def check_installed() -> None:
    """See that `OtelTraces` can be made.

    Raises:
        ServerStartError: the extra is missing.
    """
    try:
        found = find_spec("opentelemetry.sdk.trace") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ServerStartError("--otel needs the otel extra: pip install 'hindcast[server,otel]'")


def _provider(slot: int, exporter: "SpanExporter | None") -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    resource = Resource.create({"service.version": version("hindcast"), "hindcast.slot": slot})
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "hindcast"}))
    # At the exit of a process the SDK would wait for its collector; `kept` does, for a shorter time.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    return provider
