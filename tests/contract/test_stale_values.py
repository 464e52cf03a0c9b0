"""`hindcast serve --stale-values`, from the command line to the answers of a real server on both dialects."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from feast import Entity, FeatureView, Field
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64, String
from feast.value_type import ValueType

from hindcast_client import Client, FeatureStatus
from services import run_hindcast, run_redis
from twins import OUTSIDE_MAX_AGE, PRESENT, SOURCE, asked_of_feast, twins

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
PROFILE = FeatureView(
    name="profile",
    entities=[ACCOUNT],
    ttl=timedelta(hours=1),
    schema=[Field(name="account_id", dtype=String), Field(name="visits", dtype=Int64)],
    source=SOURCE,
)
ACCOUNTS = ["fresh", "stale"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repo with a fresh row and a stale one."""
    root = tmp_path_factory.mktemp("stale")
    with run_redis() as redis, twins(root, redis) as pair:
        pair.apply([ACCOUNT, PROFILE])
        now = datetime.now(UTC)
        pair.write(
            "profile",
            [
                (
                    EntityKey(join_keys=["account_id"], entity_values=[Value(string_val=account)]),
                    {"visits": Value(int64_val=visits)},
                    now - timedelta(hours=hours),
                    None,
                )
                for account, visits, hours in (("fresh", 1, 0), ("stale", 2, 2))
            ],
        )
        yield root


@pytest.mark.parametrize(
    ("options", "natively", "on_feasts_services"),
    [
        ((), [1, None], [1, 2]),
        (("--stale-values", "dialect"), [1, None], [1, 2]),
        (("--stale-values", "keep"), [1, 2], [1, 2]),
        (("--stale-values", "null"), [1, None], [1, None]),
    ],
)
def test_the_setting_reaches_every_dialect(repo, options, natively, on_feasts_services):
    """A stale value is kept or null as the command line says, and its status and time are told in any case."""
    keys = {"account_id": [Value(string_val=account).SerializeToString() for account in ACCOUNTS]}
    request = asked_of_feast(["profile:visits"], keys, full_names=False)
    with run_hindcast(repo, *options) as server:
        with Client(server.address) as client:
            result = client.get_online_features(features=["profile:visits"], entities={"account_id": ACCOUNTS})
        with grpc.insecure_channel(server.address) as channel:
            answers = [
                stub(channel).GetOnlineFeatures(request, timeout=10)
                for stub in (GrpcFeatureServerStub, ServingServiceStub)
            ]

    assert natively == result.to_dict()["visits"]
    assert [FeatureStatus.PRESENT, FeatureStatus.OUTSIDE_MAX_AGE] == result.statuses["visits"]
    assert None not in result.event_timestamps["visits"]
    for answer in answers:
        column = answer.results[-1]
        values = [value.int64_val if value.HasField("int64_val") else None for value in column.values]
        assert (on_feasts_services, [PRESENT, OUTSIDE_MAX_AGE]) == (values, list(column.statuses))
