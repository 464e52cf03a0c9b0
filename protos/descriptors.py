"""Write the descriptors of every service on the port to one file, so that reflection needs no import of Feast.

Feast's messages cannot be imported in a serving worker (5 s) nor be copied into its descriptor pool (they would
collide as soon as an on-demand view loads Feast); reflection reads this file into a pool of its own.
"""

import sys
from pathlib import Path

from feast.protos.feast.serving import GrpcServer_pb2
from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from hindcast.v1 import feature_service_pb2, lookup_service_pb2, push_service_pb2, training_sets_pb2


def collect(file: FileDescriptor, into: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Add a file after all that it imports, each once."""
    for dependency in file.dependencies:
        collect(dependency, into)
    if file.name not in into:
        into[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(into[file.name])


def reflection_v1() -> descriptor_pb2.FileDescriptorProto:
    """The v1 reflection API: v1alpha under the name that strict tools ask for."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    # On the text form: in the bytes, every length before the name would have to change with it.
    text = text_format.MessageToString(alpha).replace("grpc.reflection.v1alpha", "grpc.reflection.v1")
    made = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    made.name = "grpc/reflection/v1/reflection.proto"
    return made


files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
for module in (
    GrpcServer_pb2,
    feature_service_pb2,
    push_service_pb2,
    lookup_service_pb2,
    training_sets_pb2,
    health_pb2,
    reflection_pb2,
):
    collect(module.DESCRIPTOR, files)
Path(sys.argv[1]).write_bytes(
    descriptor_pb2.FileDescriptorSet(file=[*files.values(), reflection_v1()]).SerializeToString(deterministic=True)
)
