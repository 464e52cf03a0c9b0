"""Shadow messages against the messages that they shadow."""

import pytest
from feast.protos.feast.core import Registry_pb2
from feast.protos.feast.serving import GrpcServer_pb2, ServingService_pb2
from google.protobuf.descriptor import FieldDescriptor

from hindcast.shadow.v1 import registry_pb2, shadow_pb2
from hindcast.v1 import feature_service_pb2, push_service_pb2

LENGTH_DELIMITED = {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING}
VARINT = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
}
PAIRS = [
    (registry_pb2.Registry, Registry_pb2.Registry),
    (shadow_pb2.FeastRequest, ServingService_pb2.GetOnlineFeaturesRequest),
    (shadow_pb2.FeastResponse, ServingService_pb2.GetOnlineFeaturesResponse),
    (shadow_pb2.FeastMetadata, ServingService_pb2.GetOnlineFeaturesResponseMetadata),
    (shadow_pb2.FeastServingInfo, ServingService_pb2.GetFeastServingInfoResponse),
    (shadow_pb2.FeastPush, GrpcServer_pb2.PushRequest),
    (shadow_pb2.FeastWrite, GrpcServer_pb2.WriteToOnlineStoreRequest),
    (shadow_pb2.FeastWritten, GrpcServer_pb2.PushResponse),
    (shadow_pb2.FeastWritten, GrpcServer_pb2.WriteToOnlineStoreResponse),
    (shadow_pb2.HindcastPush, push_service_pb2.PushRequest),
    (shadow_pb2.HindcastPushItem, push_service_pb2.PushStreamRequest),
    (shadow_pb2.HindcastRequest, feature_service_pb2.GetOnlineFeaturesRequest),
    (shadow_pb2.HindcastResponse, feature_service_pb2.GetOnlineFeaturesResponse),
]


def differences(shadow, original, path):
    """Every way in which a shadow would read or write other bytes than the original means."""
    numbered = {field.number: field for field in original.fields}
    found = []
    for field in shadow.fields:
        where = f"{path}.{field.name}"
        real = numbered.get(field.number)
        if real is None:
            found.append(f"{where}: the original has no field {field.number}")
        elif field.type == FieldDescriptor.TYPE_BYTES and real.type == FieldDescriptor.TYPE_ENUM and real.is_repeated:
            continue  # a packed list of small numbers, a byte each
        elif field.is_repeated != real.is_repeated:
            found.append(f"{where}: only one of the two is repeated")
        elif not any(
            {field.type, real.type} <= alike for alike in (LENGTH_DELIMITED, VARINT, {FieldDescriptor.TYPE_FLOAT})
        ):
            found.append(f"{where}: the two have other wire types")
        elif field.message_type and real.message_type and field.message_type.full_name != real.message_type.full_name:
            found += differences(field.message_type, real.message_type, where)
    return found


@pytest.mark.parametrize(("shadow", "original"), PAIRS, ids=lambda message: message.DESCRIPTOR.name)
def test_a_shadow_has_the_wire_form_of_its_original(shadow, original):
    """Each field of a shadow has the number, the wire type and the repetition that the original gives it."""
    assert [] == differences(shadow.DESCRIPTOR, original.DESCRIPTOR, shadow.DESCRIPTOR.name)


@pytest.mark.parametrize(
    "name",
    [
        *("Registry", "EntitySpec", "FeatureViewSpec", "StreamFeatureViewSpec", "OnDemandFeatureViewSpec"),
        *("LabelViewSpec", "DataSource"),
    ],
)
def test_a_shadow_of_the_registry_names_its_fields_as_feast_does(name):
    """A registry's shadow takes a field under the name that it has at Feast, so that no number is mistaken for another."""
    feast_files = {file.name: file for file in Registry_pb2.DESCRIPTOR.dependencies}
    originals = {
        message.name: message
        for file in (Registry_pb2.DESCRIPTOR, *feast_files.values())
        for message in file.message_types_by_name.values()
    }
    original = originals.get(name) or originals[f"{name}V2"]

    shadow_names = {field.number: field.name for field in getattr(registry_pb2, name).DESCRIPTOR.fields}

    assert shadow_names == {number: original.fields_by_number[number].name for number in shadow_names}
