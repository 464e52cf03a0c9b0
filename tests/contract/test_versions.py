"""References to versions of views (`view@v1:feature`), and services pinned to one: the catalog finds the versions in the
registry, and the server answers what Feast's SDK does where Feast reads the rows of the version that was asked for.
"""

from datetime import UTC, datetime, timedelta

import pytest
from feast import Entity, FeatureService, FeatureView, Field
from feast.errors import FeatureNameCollisionError, FeatureViewNotFoundException, FeatureViewVersionNotFound
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64, String
from feast.value_type import ValueType

from hindcast.catalog import RegistryWatch, load_catalog, read_repo
from hindcast.errors import InvalidArgument, UnknownName
from hindcast.online.layouts import LayoutName
from hindcast.shadow.v1.registry_pb2 import Registry
from services import run_redis
from twins import SOURCE, answered, asked_of_feast, asked_of_hindcast, twins

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
ASKED = ("a", "nobody")
VERSIONED = "{path: registry.db, enable_online_feature_view_versioning: true}"
KEYS = {"account_id": [Value(string_val=account).SerializeToString() for account in ASKED]}
FIELDS = (("visits",), ("visits", "extra"), ("extra", "visits", "third"))
"""Features of `profile` in its versions 0, 1 and 2; a row of version n has n for each of them, plus a hundred times n."""


def view(name, fields):
    return FeatureView(
        name=name,
        entities=[ACCOUNT],
        ttl=timedelta(0),
        schema=[Field(name="account_id", dtype=String), *(Field(name=name, dtype=Int64) for name in fields)],
        source=SOURCE,
    )


def profile(version):
    return view("profile", FIELDS[version])


STEADY = view("steady", ("visits",))
"""A view with one version: what `computed` reads."""


def computed(version):
    """An on-demand view that gained a feature and changed its code."""
    if version == 0:

        @on_demand_feature_view(sources=[STEADY], schema=[Field(name="scaled", dtype=Int64)], mode="pandas")
        def computed(inputs):
            return (inputs[["visits"]] * 2).rename(columns={"visits": "scaled"})

        return computed

    @on_demand_feature_view(
        sources=[STEADY],
        schema=[Field(name="scaled", dtype=Int64), Field(name="more", dtype=Int64)],
        mode="pandas",
    )
    def computed(inputs):
        inputs["scaled"] = inputs["visits"] * 3
        inputs["more"] = inputs["visits"] + 7
        return inputs[["scaled", "more"]]

    return computed


def tenfold():
    """An on-demand view of the view with versions."""

    @on_demand_feature_view(sources=[profile(2)], schema=[Field(name="tens", dtype=Int64)], mode="python")
    def tenfold(inputs):
        return {"tens": [None if visits is None else 10 * visits for visits in inputs["visits"]]}

    return tenfold


def number(version):
    return 100 * version + 1


def row(version):
    return (
        EntityKey(join_keys=["account_id"], entity_values=[Value(string_val="a")]),
        {name: Value(int64_val=number(version)) for name in FIELDS[version]},
        AN_HOUR_AGO,
        None,
    )


SERVICES = (
    FeatureService(name="pinned", features=["profile@v1"]),
    FeatureService(name="one feature", features=["profile@v1:extra"]),
    FeatureService(name="two versions", features=["profile@v1:visits", "profile@v0:visits"]),
    FeatureService(name="pinned to nothing special", features=["profile@v0:visits", "profile@v2:third"]),
)


def fill(pair):
    for version in range(3):
        pair.apply([ACCOUNT, STEADY, profile(version), computed(min(version, 1))])
        pair.write("profile", [row(version)])
    pair.write("steady", [row(0)])
    pair.apply(list(SERVICES))
    # A view that is given a version by name: a service made of it is pinned, and takes an alias as any other.
    old = pair.plain.registry.get_feature_view_by_version("profile", "twins", 1)
    old.version = "v1"
    pair.apply([FeatureService(name="alias", features=[old.with_name("old")])])


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A repo that keeps online rows of each version, with three versions of one view and two of an on-demand one."""
    with run_redis() as redis, twins(tmp_path_factory.mktemp("versions"), redis, registry=VERSIONED) as pair:
        fill(pair)
        yield pair


def both(pair, features, *, full_names, layout=LayoutName.PACKED):
    """Feast's answer and ours."""
    asked = pair.plain.get_feature_service(features) if isinstance(features, str) else features
    feasts = pair.plain.get_online_features(asked, {"account_id": list(ASKED)}, full_feature_names=full_names)
    (ours,) = pair.lookup(asked_of_feast(features, KEYS, full_names=full_names), layout=layout)
    return answered(feasts.proto), answered(ours)


REFERENCES = [
    ["profile@v0:visits"],
    ["profile@v1:visits", "profile@v1:extra"],
    ["profile@V1:extra"],
    ["profile@v01:extra"],
    ["profile@v2:third"],
    ["profile@latest:third"],
    ["profile@:third"],
    ["profile@v0:visits", "profile@v1:extra", "profile:third"],
    ["computed@v0:scaled"],
    ["computed@v1:scaled", "computed@v1:more"],
]
NAMES = pytest.mark.parametrize("full_names", [False, True], ids=["short", "full"])


# Feast types on-demand columns by their short names only: test_on_demand.
ASKED_OF_BOTH = [(refs, full) for refs in REFERENCES for full in (False, True) if not (full and "computed" in refs[0])]


@pytest.mark.parametrize("layout", LayoutName)
@pytest.mark.parametrize(("refs", "full_names"), ASKED_OF_BOTH)
def test_a_version_is_read_as_feast_reads_it(versions, refs, full_names, layout):
    """Each version has the features, the rows and the column names that Feast gives it."""
    feasts, ours = both(versions, refs, full_names=full_names, layout=layout)

    assert feasts == ours
    assert all(values[0][0] for values in ours.values())


@NAMES
@pytest.mark.parametrize("service", [service.name for service in SERVICES] + ["alias"])
def test_a_pinned_service_is_read_as_feast_reads_it(versions, service, full_names):
    """A service answers from the versions that it is pinned to, under the names that Feast gives them."""
    if service == "two versions" and not full_names:
        with pytest.raises(FeatureNameCollisionError):
            both(versions, service, full_names=False)
        with pytest.raises(InvalidArgument, match="more than one column would be named 'visits'"):
            versions.lookup(asked_of_feast(service, KEYS, full_names=False))
        return
    feasts, ours = both(versions, service, full_names=full_names)

    assert feasts == ours
    assert all(values[0][0] for values in ours.values())


def test_two_versions_of_one_feature_are_two_columns(versions):
    """Under full names versions stand side by side, on hindcast.v1 too, where the views are named with their versions."""
    refs = ["profile@v0:visits", "profile@v1:visits", "profile:visits"]
    feasts, ours = both(versions, refs, full_names=True)
    (native,) = versions.lookup(asked_of_hindcast(refs, KEYS, full_names=True))

    assert feasts == ours
    assert [(column.name, column.values[0].int64_val) for column in native.columns] == [
        ("profile@v0__visits", number(0)),
        ("profile@v1__visits", number(1)),
        ("profile__visits", number(2)),
    ]
    assert [view.view for view in native.views] == ["profile@v0", "profile@v1", "profile"]


def test_the_metadata_names_each_view_and_its_first_version(versions):
    """`include_feature_view_version_metadata` gives a version per view's plain name; of several the first, as in Feast."""
    for refs, expected in (
        (["profile@v1:visits"], [("profile", 1)]),
        (["profile:visits"], [("profile", 2)]),
        (["profile@v1:visits", "profile@v2:third"], [("profile", 1)]),
    ):
        feasts = versions.plain.get_online_features(
            refs, {"account_id": ["a"]}, include_feature_view_version_metadata=True
        )
        request = asked_of_feast(refs, KEYS, full_names=False)
        request.include_feature_view_version_metadata = True
        (ours,) = versions.lookup(request)
        for response in (feasts.proto, ours):
            assert expected == [(view.name, view.version) for view in response.metadata.feature_view_metadata]


@pytest.mark.parametrize(
    ("ref", "feasts", "ours", "told"),
    [
        (
            "profile@v9:visits",
            FeatureViewVersionNotFound,
            UnknownName,
            "feature view 'profile@v9' does not exist; there are profile@v0, profile@v1, profile@v2",
        ),
        ("nobody@v1:f", FeatureViewVersionNotFound, UnknownName, "feature view 'nobody@v1' does not exist; there are"),
        ("profile@x:third", FeatureViewNotFoundException, UnknownName, "feature view 'profile@x' does not exist"),
        ("profile@v0:extra", KeyError, UnknownName, "feature 'profile@v0:extra' does not exist; there are visits"),
        ("computed@v0:more", KeyError, UnknownName, "feature 'computed@v0:more' does not exist; there are scaled"),
    ],
)
def test_a_version_that_does_not_exist_is_named(versions, ref, feasts, ours, told):
    """A version, or a feature that the version did not have, is NOT_FOUND with what there is; Feast fails each its way."""
    with pytest.raises(feasts):
        versions.plain.get_online_features([ref], {"account_id": ["a"]})
    with pytest.raises(ours, match=told):
        versions.lookup(asked_of_feast([ref], KEYS, full_names=False))


def test_a_repo_without_online_versions_says_how_to_have_them(shared_redis, tmp_path):
    """Where rows of one version are kept, a version by number is refused, as Feast does, and the setting is named."""
    with twins(tmp_path, shared_redis) as pair:
        fill(pair)
        for asked in (["profile@v1:visits"], ["computed@v0:scaled"], "pinned"):
            features = pair.plain.get_feature_service(asked) if isinstance(asked, str) else asked
            with pytest.raises(ValueError, match="online versioning is disabled"):
                pair.plain.get_online_features(features, {"account_id": ["a"]})
            with pytest.raises(InvalidArgument, match="set `enable_online_feature_view_versioning: true`"):
                pair.lookup(asked_of_feast(asked, KEYS, full_names=False))
        (latest,) = pair.lookup(asked_of_feast(["profile@latest:third"], KEYS, full_names=False))

    assert number(2) == latest.results[1].values[0].int64_val


def test_feast_reads_the_first_version_for_a_service(shared_redis, tmp_path):
    """An unpinned view in a service, and the source of an on-demand view, are the newest version here; at Feast the first."""
    # Feast copies the view to give it the service's projection, and the copy has lost its version.
    with twins(tmp_path, shared_redis, registry=VERSIONED) as pair:
        fill(pair)
        pair.apply([FeatureService(name="unpinned", features=["profile:visits"]), tenfold()])
        answers = {
            name: both(pair, asked, full_names=False)
            for name, asked in (("service", "unpinned"), ("source", ["tenfold:tens"]), ("ref", ["profile:visits"]))
        }

    values = {
        name: [Value.FromString(list(one.values())[-1][0][0]).int64_val for one in answer]
        for name, answer in answers.items()
    }
    assert {
        "service": [number(0), number(2)],
        "source": [10 * number(0), 10 * number(2)],
        "ref": [number(2), number(2)],
    } == values


def test_feast_computes_two_versions_with_the_code_of_one(versions):
    """Two versions of an on-demand view are each computed by their own code; at Feast both by that of the last one asked."""
    feasts, ours = both(versions, ["computed@v0:scaled", "computed@v1:more"], full_names=False)

    assert [3 * number(0), number(0) + 7] == firsts(feasts)[-2:]
    assert [2 * number(0), number(0) + 7] == firsts(ours)[-2:]


def test_feast_mixes_two_versions_of_a_feature(shared_redis, tmp_path):
    """A pinned feature is one column beside an on-demand view that reads the newest; at Feast there are two of its name."""
    refs = ["profile@v1:visits", "tenfold:tens"]
    with twins(tmp_path, shared_redis, registry=VERSIONED) as pair:
        fill(pair)
        pair.apply([tenfold()])
        feasts = pair.plain.get_online_features(refs, {"account_id": ["a"]})
        (ours,) = pair.lookup(asked_of_feast(refs, KEYS, full_names=False))

    assert ["account_id", "tens", "visits", "visits"] == sorted(feasts.proto.metadata.feature_names.val)
    assert [number(1), 10 * number(2)] == firsts(answered(ours))[1:]


def firsts(answer):
    """The first row's values."""
    return [Value.FromString(column[0][0]).int64_val for column in answer.values()]


def test_feast_tells_no_version_of_a_service(versions):
    """The metadata of a service's answer names the versions that were read; Feast's says 0, as it forgets them."""
    service = versions.plain.get_feature_service("pinned")
    feasts = versions.plain.get_online_features(
        service, {"account_id": ["a"]}, include_feature_view_version_metadata=True
    )
    request = asked_of_feast("pinned", KEYS, full_names=False)
    request.include_feature_view_version_metadata = True
    (ours,) = versions.lookup(request)

    assert [0] == [view.version for view in feasts.proto.metadata.feature_view_metadata]
    assert [("profile", 1)] == [(view.name, view.version) for view in ours.metadata.feature_view_metadata]


def test_a_registry_torn_before_its_versions_is_not_taken(shared_redis, tmp_path):
    """Feast writes versions last: a registry that is cut before them has lost them by accident, and the last one goes on."""
    with twins(tmp_path, shared_redis, registry=VERSIONED) as pair:
        fill(pair)
        repo = read_repo(tmp_path)
        watch = RegistryWatch(repo, load_catalog(repo))
        torn = Registry.FromString((tmp_path / "registry.db").read_bytes())
        torn.ClearField("feature_view_version_history")
        (tmp_path / "registry.db").write_bytes(torn.SerializeToString())

        assert not watch.look()
        assert "it has lost 'computed@v0' and is not whole" in watch.problem
        assert "profile@v1" in watch.catalog.views


def test_a_sql_registry_gives_the_same_versions(shared_redis, tmp_path):
    """A catalog has the versions that the registry holds, wherever that is kept."""
    catalogs = []
    for kind, registry in (
        ("file", VERSIONED),
        (
            "sql",
            f"{{registry_type: sql, path: 'sqlite:///{tmp_path}/sql.db', enable_online_feature_view_versioning: true}}",
        ),
    ):
        root = tmp_path / kind
        root.mkdir()
        with twins(root, shared_redis, registry=registry) as pair:
            for version in range(3):
                pair.apply([ACCOUNT, STEADY, profile(version), computed(min(version, 1))])
            catalogs.append(load_catalog(read_repo(root)))

    by_file, by_sql = catalogs
    assert by_file.version == by_sql.version
    assert (
        {"steady", "steady@v0", "profile", "profile@v0", "profile@v1", "profile@v2"}
        == by_file.views.keys()
        == by_sql.views.keys()
    )
    assert {"computed", "computed@v0", "computed@v1"} == by_file.on_demand_views.keys() == by_sql.on_demand_views.keys()
