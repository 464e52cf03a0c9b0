"""Feast's side of differences.md, where no other test shows it: a line goes when Feast no longer behaves so."""

from datetime import UTC, datetime, timedelta

import pytest
from feast import Entity, FeatureService, FeatureView, Field
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.types import Bytes, Int64, String
from feast.value_type import ValueType

from twins import NOT_FOUND, PRESENT, SOURCE, asked_of_feast, asked_of_hindcast, twins

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
