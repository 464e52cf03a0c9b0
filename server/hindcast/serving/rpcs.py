"""The RPCs of a worker as gRPC takes them, each with its calls counted and traced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from hindcast.serving.calls import Handler, StreamHandler, UploadHandler
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


def generic_handlers(some: Sequence[Rpcs], *, metrics: Metrics, traces: Traces) -> tuple[grpc.GenericRpcHandler, ...]:
    """What `grpc.aio.Server.add_generic_rpc_handlers` takes: one handler per service."""
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for rpcs in some:
        for service, method, handler in _each(rpcs.unary):
            counted = metrics.counted(service, method, traces.traced(service, method, handler))
            services.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(counted)
        for service, method, upload in _each(rpcs.uploads):
            counted_upload = metrics.counted_uploads(service, method, traces.traced_uploads(service, method, upload))
            services.setdefault(service, {})[method] = grpc.stream_unary_rpc_method_handler(counted_upload)
        for service, method, stream in _each(rpcs.streams):
            counted_stream = metrics.counted_stream(service, method, traces.traced_stream(service, method, stream))
            services.setdefault(service, {})[method] = grpc.stream_stream_rpc_method_handler(counted_stream)
    return tuple(grpc.method_handlers_generic_handler(service, methods) for service, methods in services.items())


H = TypeVar("H")


def _each(services: Mapping[str, Mapping[str, H]]) -> list[tuple[str, str, H]]:
    return [(service, method, handler) for service, methods in services.items() for method, handler in methods.items()]
