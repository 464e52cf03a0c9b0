"""Reflection, v1 and v1alpha, from descriptors in a file: Feast's messages are described without importing Feast."""

from importlib.resources import files

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from hindcast.serving.health import HEALTH
from hindcast.serving.messages import parsed_stream

V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, services: tuple[str, ...]) -> None:
    """Serve both versions of reflection; their messages have one wire form."""
    names = (*services, HEALTH, V1, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(service_names=names, pool=_pool())
    method = grpc.stream_stream_rpc_method_handler(
        parsed_stream(servicer.ServerReflectionInfo, reflection_pb2.ServerReflectionRequest),
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (V1, reflection.SERVICE_NAME)
        )
    )


def _pool() -> DescriptorPool:
    """A pool of its own: in the default one these descriptors would collide with Feast's, should Feast be loaded."""
    stored = files("hindcast.serving").joinpath("descriptors.binpb").read_bytes()
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(stored).file:
        pool.Add(file)
    return pool
