"""Feast's side of differences.md, where no other test shows it: a line goes when Feast no longer behaves so."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from feast import Entity, FeatureService, FeatureView, Field
from feast.feature_view import FeatureViewState
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.types import Bytes, Int64, String
from feast.value_type import ValueType

from hindcast.errors import InvalidArgument
from hindcast.online.layouts import LayoutName
from services import run_feast_listen, run_hindcast
from twins import NOT_FOUND, NULL_VALUE, PRESENT, SOURCE, asked_of_feast, asked_of_hindcast, twins

NOW = datetime.now(UTC) - timedelta(hours=1)
ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
BLOB = Entity(name="blob", join_keys=["blob_id"], value_type=ValueType.BYTES)
PROFILE = FeatureView(
    name="profile",
    entities=[ACCOUNT],
    ttl=timedelta(0),
    schema=[Field(name="account_id", dtype=String), Field(name="visits", dtype=Int64)],
    source=SOURCE,
)

KEY = {"account_id": [Value(string_val="a").SerializeToString()]}


def row(key, visits, *, join_key="account_id"):
    return (
        EntityKey(join_keys=[join_key], entity_values=[key]),
        {"visits": Value(int64_val=visits)},
        NOW,
        None,
    )


def text(value):
    return Value(string_val=value)


def visits(response):
    """The values of the last column."""
    return [value.int64_val for value in response.results[-1].values]


TESTS = Path(__file__).parents[1]


def names_of_tests(folder):
    """Names of the test functions below a folder."""
    return {
        name
        for file in folder.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_the_list_and_the_tests_agree():
    """Each row of differences.md names tests that exist, and each test of this file is named by a row."""
    rows = [
        line.strip("| ").split(" | ")
        for line in (TESTS / "contract" / "differences.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]
    held_by = [(row[0], set(re.findall(r"`(\w+)`", row[-1]))) for row in rows if row[-1] != "held by"]
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))

    assert {5} == {len(row) for row in rows}
    assert [] == [asked for asked, names in held_by if not names or names - names_of_tests(TESTS)]
    assert {"test_the_list_and_the_tests_agree"} == here - set().union(*(names for _, names in held_by))


def test_a_null_join_key_fails_feasts_request(pair):
    """Feast fails a request with a null key; here it matches nothing and the other rows are answered."""
    pair.apply([ACCOUNT, PROFILE])
    pair.write("profile", [row(text("a"), 1)])
    with pytest.raises(TypeError):
        pair.plain.get_online_features(["profile:visits"], {"account_id": [None, "a"]})

    (answer,) = pair.lookup(
        asked_of_feast(["profile:visits"], {"account_id": [b"", text("a").SerializeToString()]}, full_names=False)
    )
    assert (visits(answer), list(answer.results[-1].statuses)) == ([0, 1], [NOT_FOUND, PRESENT])


def test_feast_mixes_a_join_key_and_its_alias(pair):
    """A service that reads one view by a join key and another by an alias of it reads one column for both at Feast."""
    other = FeatureView(name="other", entities=[ACCOUNT], schema=PROFILE.schema, source=SOURCE, ttl=timedelta(0))
    service = FeatureService(name="both", features=[PROFILE, other.with_join_key_map({"account_id": "other_id"})])
    pair.apply([ACCOUNT, PROFILE, other, service])
    for view in ("profile", "other"):
        pair.write(view, [row(text("a"), 1), row(text("b"), 2)])
    columns = {"other_id": ["b"], "account_id": ["a"]}
    feasts = pair.plain.get_online_features(service, columns, full_feature_names=True).to_dict()
    (answer,) = pair.lookup(
        asked_of_hindcast(
            "both",
            {name: [text(v).SerializeToString() for v in values] for name, values in columns.items()},
            full_names=True,
        )
    )

    assert (feasts["profile__visits"], feasts["other__visits"]) == ([1], [1])
    assert {column.name: column.values[0].int64_val for column in answer.columns} == {
        "profile__visits": 1,
        "other__visits": 2,
    }


def test_feast_takes_no_bytes_key_as_protobuf(pair):
    """A bytes key cannot be asked for over Feast's gRPC server, which hands protobuf on, nor an empty one at all."""
    view = FeatureView(
        name="blobs",
        entities=[BLOB],
        schema=[Field(name="blob_id", dtype=Bytes), Field(name="visits", dtype=Int64)],
        source=SOURCE,
    )
    pair.apply([BLOB, view])
    keys = [Value(bytes_val=b"x"), Value(bytes_val=b"")]
    pair.write("blobs", [row(key, at, join_key="blob_id") for at, key in enumerate(keys, start=1)])
    with pytest.raises(AssertionError):
        pair.plain.get_online_features(["blobs:visits"], {"blob_id": RepeatedValue(val=keys)})
    with pytest.raises(TypeError):
        pair.plain.get_online_features(["blobs:visits"], {"blob_id": [b""]})

    (answer,) = pair.lookup(
        asked_of_feast(["blobs:visits"], {"blob_id": [key.SerializeToString() for key in keys]}, full_names=False)
    )
    assert visits(answer) == [1, 2]


def test_feast_cannot_be_asked_for_no_column(pair):
    """A view without entities has one row, which Feast gives only to somebody who sends a column of something else."""
    view = FeatureView(name="world", entities=[], schema=[Field(name="visits", dtype=Int64)], source=SOURCE)
    pair.apply([view])
    pair.write("world", [row(text(""), 7, join_key="__dummy_id")])
    with pytest.raises(KeyError):
        pair.plain.get_online_features(["world:visits"], {})

    (answer,) = pair.lookup(asked_of_feast(["world:visits"], {}, full_names=False))
    assert visits(answer) == [7]


def test_feasts_teardown_takes_other_projects_with_it(shared_redis, tmp_path):
    """Tearing down `prod` in Feast's store deletes `nonprod` too, since its keys end alike; the packed store does not."""
    stores = {}
    for project in ("nonprod", "prod"):
        folder = tmp_path / project
        folder.mkdir()
        with twins(folder, shared_redis, project=project) as pair:
            pair.apply([ACCOUNT, PROFILE])
            stores[project] = pair
    for pair in stores.values():
        pair.write("profile", [row(text("a"), 1)])
    stores["prod"].plain.teardown()
    stores["prod"].packed.apply([ACCOUNT, PROFILE])
    stores["prod"].packed.teardown()

    def left(store):
        return store.get_online_features(["profile:visits"], {"account_id": ["a"]}).to_dict()["visits"]

    assert (left(stores["nonprod"].plain), left(stores["nonprod"].packed)) == ([None], [1])
    for pair in stores.values():
        for store in (pair.plain, pair.packed):
            store._get_provider().online_store._client.close()


def test_feast_refuses_a_view_that_is_not_available(pair):
    """A view in another state than available, such as while it is materialized, is refused by Feast; its rows are answered."""
    pair.apply([ACCOUNT, PROFILE])
    pair.write("profile", [row(text("a"), 1)])
    for state in (FeatureViewState.CREATED, FeatureViewState.GENERATED, FeatureViewState.MATERIALIZING):
        pair.packed.set_feature_view_state("profile", state)
        pair.plain.refresh_registry()
        with pytest.raises(ValueError, match=f"is in state '{state.name}'"):
            pair.plain.get_online_features(["profile:visits"], {"account_id": ["a"]})

        (answer,) = pair.lookup(asked_of_feast(["profile:visits"], KEY, full_names=False))
        assert visits(answer) == [1]


def test_feast_answers_a_key_of_another_type_with_nothing(pair):
    """A number where the join key is a string is a null to Feast; here it is refused, with the field."""
    pair.apply([ACCOUNT, PROFILE])
    pair.write("profile", [row(text("7"), 1)])
    number = Value(int64_val=7)
    feasts = pair.plain.get_online_features(["profile:visits"], {"account_id": RepeatedValue(val=[number])})

    assert [Value()] == list(feasts.proto.results[-1].values)
    with pytest.raises(
        InvalidArgument, match=r'entities\["account_id"\].val\[0\]: is INT64, but the join key is STRING'
    ):
        pair.lookup(asked_of_feast(["profile:visits"], {"account_id": [number.SerializeToString()]}, full_names=False))


@pytest.mark.parametrize("layout", LayoutName)
def test_feast_reads_an_explicit_null_as_zero(pair, layout):
    """A value that a writer set to `null_val` is a null as any other; Feast's SDK makes the number 0 of it."""
    pair.apply([ACCOUNT, PROFILE])
    entity, _, moment, created = row(text("a"), 1)
    pair.write("profile", [(entity, {"visits": Value(null_val=0)}, moment, created)])
    feasts = pair.plain.get_online_features(["profile:visits"], {"account_id": ["a"]}).to_dict()["visits"]
    answer, native = pair.lookup(
        asked_of_feast(["profile:visits"], KEY, full_names=False),
        asked_of_hindcast(["profile:visits"], KEY, full_names=False),
        layout=layout,
    )

    assert [0] == feasts
    assert [Value()] == list(answer.results[-1].values)
    assert [NULL_VALUE] == list(native.columns[0].statuses)


def test_feasts_server_fails_in_its_own_words(shared_redis, tmp_path):
    """A wrong request is UNKNOWN or INTERNAL at `feast listen` and a code of its own here; asked-for versions are told."""
    with twins(tmp_path, shared_redis) as pair:
        pair.apply([ACCOUNT, PROFILE, FeatureService(name="all", features=[PROFILE])])
        pair.write("profile", [row(text("a"), 1)])
        feasts = tmp_path / "feasts"
        feasts.mkdir()
        shutil.copy(tmp_path / "registry.db", feasts)
        shutil.copy(tmp_path / "plain.yaml", feasts / "feature_store.yaml")
        with (
            run_feast_listen(feasts) as address,
            run_hindcast(feasts) as server,
            grpc.insecure_channel(address) as listening,
            grpc.insecure_channel(server.address) as serving,
        ):
            theirs, ours = GrpcFeatureServerStub(listening), GrpcFeatureServerStub(serving)
            whole = asked_of_feast("all", KEY, full_names=False)
            whole.include_feature_view_version_metadata = True
            told = [stub.GetOnlineFeatures(whole, timeout=60, wait_for_ready=True) for stub in (theirs, ours)]
            codes = {
                name: [failure(stub, request) for stub in (theirs, ours)]
                for name, request in {
                    "service": asked_of_feast("nobody", KEY, full_names=False),
                    "view": asked_of_feast(["nobody:f"], KEY, full_names=False),
                    "feature": asked_of_feast(["profile:nobody"], KEY, full_names=False),
                    "twice": asked_of_feast(["profile:visits"] * 2, KEY, full_names=False),
                    "nothing": asked_of_feast([], KEY, full_names=False),
                    "key": asked_of_feast("all", {}, full_names=False),
                }.items()
            }

    assert [[1], [1]] == [visits(answer) for answer in told]
    assert [[], [("profile", 0)]] == [
        [(view.name, view.version) for view in answer.metadata.feature_view_metadata] for answer in told
    ]
    assert {
        "service": ["INTERNAL", "NOT_FOUND"],
        "view": ["UNKNOWN", "NOT_FOUND"],
        "feature": ["UNKNOWN", "NOT_FOUND"],
        "twice": ["UNKNOWN", "INVALID_ARGUMENT"],
        "nothing": ["UNKNOWN", "INVALID_ARGUMENT"],
        "key": ["UNKNOWN", "INVALID_ARGUMENT"],
    } == codes


def failure(stub, request):
    """The name of the code that a call fails with."""
    with pytest.raises(grpc.RpcError) as failed:
        stub.GetOnlineFeatures(request, timeout=10)
    return failed.value.code().name
