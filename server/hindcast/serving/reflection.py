"""Reflection, v1 and v1alpha, from descriptors in a file: Feast's messages are described without importing Feast."""

from importlib.resources import files

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1 = "grpc.reflection.v1.ServerReflection"
HEALTH = "grpc.health.v1.Health"


def add_reflection(server: grpc.aio.Server, services: tuple[str, ...]) -> None:
    """Serve both versions of reflection; their messages have one wire form."""
    names = (*services, HEALTH, V1, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(service_names=names, pool=_pool())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method}),))


def _pool() -> DescriptorPool:
    """A pool of its own: in the default one these descriptors would collide with Feast's, should Feast be loaded."""
    stored = files("hindcast.serving").joinpath("descriptors.binpb").read_bytes()
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(stored).file:
        pool.Add(file)
    return pool
