"""The RPCs of a worker as gRPC takes them, each with its calls counted and traced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from hindcast.serving.calls import CALL_METADATA, Handler, StreamHandler, UploadHandler
from hindcast.serving.metrics import Metrics
from hindcast.serving.tracing import Traces


@dataclass(frozen=True, slots=True)
class Rpcs:
    """Some RPCs, by service and method.

    Attributes:
        uploads: those that take a stream of requests and give one answer.
        streams: those that take a stream and give one.
    """

    unary: Mapping[str, Mapping[str, Handler]]
    uploads: Mapping[str, Mapping[str, UploadHandler]] = field(default_factory=dict)
    streams: Mapping[str, Mapping[str, StreamHandler]] = field(default_factory=dict)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All RPCs of a server: gRPC asks each handler that it is given in turn, for every call."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Args: handlers: by `/service/method`."""
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a call, in whose task this runs."""
        CALL_METADATA.set(handler_call_details.invocation_metadata)
        return self._handlers.get(handler_call_details.method)


def generic_handler(some: Sequence[Rpcs], *, metrics: Metrics, traces: Traces) -> grpc.GenericRpcHandler:
    """What `grpc.aio.Server.add_generic_rpc_handlers` takes."""
    handlers: dict[str, grpc.RpcMethodHandler] = {}
    for rpcs in some:
        for service, method, handler in _each(rpcs.unary):
            counted = metrics.counted(service, method, traces.traced(service, method, handler))
            handlers[f"/{service}/{method}"] = grpc.unary_unary_rpc_method_handler(counted)
        for service, method, upload in _each(rpcs.uploads):
            counted_upload = metrics.counted_uploads(service, method, traces.traced_uploads(service, method, upload))
            handlers[f"/{service}/{method}"] = grpc.stream_unary_rpc_method_handler(counted_upload)
        for service, method, stream in _each(rpcs.streams):
            counted_stream = metrics.counted_stream(service, method, traces.traced_stream(service, method, stream))
            handlers[f"/{service}/{method}"] = grpc.stream_stream_rpc_method_handler(counted_stream)
    return _Methods(handlers)


H = TypeVar("H")


def _each(services: Mapping[str, Mapping[str, H]]) -> list[tuple[str, str, H]]:
    return [(service, method, handler) for service, methods in services.items() for method, handler in methods.items()]
