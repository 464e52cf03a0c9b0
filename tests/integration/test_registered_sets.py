"""Training sets in Feast's registry, as saved data sets."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import yaml
from fastapi import FastAPI
from feast import FeatureStore
from feast.api.registry.rest import register_all_routes
from feast.registry_server import RegistryServer
from pandas.testing import assert_frame_equal

from commands import feast_command, run_command
from dataset_repo import copied, definitions, frame, make_repo, reapply
from hindcast.datasets import TrainingSets
from hindcast.datasets.registration import NotRegistered, replace_registry_file
from hindcast.errors import RepoError, SourceError, UnknownName
from offline_repo import elsewhere, hours, write
from twins import close

FEATURES = ["trips:trips", "ratings:rating"]
LATER = hours(24 * 365)

pytestmark = pytest.mark.filterwarnings("ignore:Retrieving datasets is an experimental feature:RuntimeWarning")

DEFINED = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
trips_source = FileSource(name="trips", path="data/trips.parquet", timestamp_field="event_timestamp")
ratings_source = FileSource(
    name="ratings", path="data/ratings.parquet", timestamp_field="event_timestamp", created_timestamp_column="created"
)
trips = FeatureView(
    name="trips", entities=[driver], ttl=timedelta(0), schema=[Field(name="trips", dtype=Int64)], source=trips_source
)
ratings = FeatureView(
    name="ratings", entities=[driver], ttl=timedelta(0), schema=[Field(name="rating", dtype=Float64)], source=ratings_source
)
"""
"""The views of the repo in a file, for `feast apply`."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo; tests copy it, or give their sets names of their own."""
    root = tmp_path_factory.mktemp("registered") / "repo"
    make_repo(root)
    write(root / "data/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    return root


def names(root):
    """The saved data sets of a repo's registry."""
    store = FeatureStore(repo_path=str(root))
    try:
        return sorted(one.name for one in store.list_saved_datasets())
    finally:
        close(store)


def build(sets, name, **options):
    return sets.build(name, **{"features": FEATURES, "entity_frame": frame(), "known_at": LATER, **options})


def test_a_set_is_a_saved_data_set_of_feast(repo):
    """Feast finds a set under its name and version, with its id, digest and path, and reads its keys, features and times."""
    made = build(TrainingSets(repo), "rides", features="rides", full_feature_names=True)
    store = FeatureStore(repo_path=str(repo))
    try:
        found = store.get_saved_dataset("rides@v1")
        rows = found.to_df()
    finally:
        close(store)
    columns = ["driver_id", "trips__trips", "ratings__rating", "checks__per_trip", "event_timestamp"]
    assert_frame_equal(made.to_pandas()[columns], rows, check_dtype=False)
    assert ("rides", ["trips:trips", "ratings:rating", "checks:per_trip"]) == (
        found.feature_service_name,
        found.features,
    )
    assert {
        "hindcast.id": made.id,
        "hindcast.logical_digest": made.digest,
        "hindcast.path": ".hindcast/datasets/rides/v1",
        "hindcast.format": "parquet",
    } == found.tags


async def answer(app, path):
    """What an application answers to GET."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asked, _, query = path.partition("?")
    scope = {"type": "http", "method": "GET", "path": asked, "query_string": query.encode(), "headers": []}
    await app(scope, receive, send)
    return json.loads(b"".join(message.get("body", b"") for message in sent))


def test_the_api_behind_feasts_ui_lists_it(repo):
    """The REST API that Feast's UI reads has the set with its tags."""
    made = build(TrainingSets(repo), "shown")
    app, store = FastAPI(), FeatureStore(repo_path=str(repo))
    try:
        register_all_routes(app, RegistryServer(store.registry, store=store), store=store)
        listed = asyncio.run(answer(app, "/saved_datasets?project=rides"))
    finally:
        close(store)
    found = next(one["spec"] for one in listed["savedDatasets"] if one["spec"]["name"] == "shown@v1")
    assert (made.id, FEATURES) == (found["tags"]["hindcast.id"], found["features"])


def test_apply_keeps_what_is_registered_and_remove_takes_it_away(repo, tmp_path):
    """`feast apply` of other definitions leaves a registered set, `feast saved-datasets list` has it, and removing the set removes the entry alone."""
    root = tmp_path / "repo"
    sets = copied(repo, root)
    kept, gone = build(sets, "kept"), build(sets, "gone")
    (root / "views.py").write_text(DEFINED)
    feast_command(root, "apply")
    applied = feast_command(root, "saved-datasets", "list")
    sets.remove(gone.ref)
    assert (True, True, True) == (kept.ref in applied, gone.ref in applied, kept.ref in names(root))
    assert gone.ref not in names(root)


def test_an_apply_while_a_set_is_built_is_not_undone(repo, tmp_path):
    """Definitions that are applied while a set is built are there after it was registered: Feast's own way would write back what it read before."""
    root = tmp_path / "repo"
    sets = copied(repo, root)
    phases = []

    def apply_once(progress):
        if not phases:
            reapply(root, trips_ttl=None)
        phases.append(progress.phase)

    made = build(sets, "meanwhile", on_progress=apply_once)
    store = FeatureStore(repo_path=str(root))
    try:
        assert (0, True) == (store.get_feature_view("trips").ttl.total_seconds(), made.ref in names(root))
    finally:
        close(store)


def test_what_an_apply_wrote_over_is_registered_again(repo, tmp_path):
    """A set that is registered while an apply runs can be written over, since the apply writes what it had read before; `register` puts it back."""
    root = tmp_path / "repo"
    sets = copied(repo, root)
    applying = FeatureStore(repo_path=str(root))
    commit, made = applying.registry.commit, []

    def late_commit():
        if not made:
            made.append(build(sets, "lost"))
        commit()

    applying.registry.commit = late_commit
    try:
        applying.apply(definitions())
    finally:
        close(applying)
    assert "lost@v1" not in names(root)
    sets.register("lost@v1")
    assert "lost@v1" in names(root)


def test_builders_at_once_are_all_registered(repo, tmp_path):
    """Of four builders at once each finds its set registered."""
    root = tmp_path / "repo"
    sets = copied(repo, root)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: build(sets, f"race-{number}"), range(4)))
    assert {one.ref for one in made} <= set(names(root))


def test_a_torn_registry_is_waited_for(tmp_path):
    """An empty or half written registry is not taken for an empty one: the change waits until it is whole, and keeps what came in between."""
    place = tmp_path / "registry.db"
    place.write_bytes(b"")
    seen = []

    def change(before):
        seen.append(before)
        if len(seen) == 1:
            # As another process that writes between our reading and our writing.
            place.write_bytes(b"newer")
        return before + b" and ours"

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(replace_registry_file, place, change)
        place.write_bytes(b"whole")
        done.result()
    assert ([b"whole", b"newer"], b"newer and ours") == (seen, place.read_bytes())
    assert ["registry.db"] == [path.name for path in tmp_path.iterdir()]


def test_a_registry_that_stays_empty_is_left_alone(tmp_path, monkeypatch):
    """A registry that is empty for long is not written, and the error says what to run."""
    monkeypatch.setattr("hindcast.datasets.registration._TRIES", 2)
    (tmp_path / "registry.db").touch()
    with pytest.raises(RepoError, match="feast apply"):
        replace_registry_file(tmp_path / "registry.db", lambda before: before)
    assert b"" == (tmp_path / "registry.db").read_bytes()


def test_a_registry_that_is_not_written_costs_the_entry_and_not_the_set(repo, tmp_path):
    """Where the registry may only be read, a build and a removal do their part and warn, and `register` fails."""
    root = tmp_path / "repo"
    shutil.copytree(repo, root)
    settings = yaml.safe_load((root / "feature_store.yaml").read_text())

    def use(path):
        block = {**settings, "registry": {"registry_type": "sql", "path": path, "cache_ttl_seconds": 0}}
        (root / "feature_store.yaml").write_text(yaml.safe_dump(block))

    use(f"sqlite:///{root}/registry.sqlite")
    reapply(root)
    sets = TrainingSets(root)
    assert ["written@v1"] == [build(sets, "written").ref] == names(root)
    sets.remove("written@v1")
    assert [] == names(root)

    use(f"sqlite:///file:{root}/registry.sqlite?mode=ro&uri=true")
    with pytest.warns(NotRegistered, match=r"read-only@v1 was built, and the registry does not take"):
        made = build(sets, "read-only")
    assert True is sets.verify(made.ref).intact
    with pytest.raises(RepoError, match="does not take"):
        sets.register(made.ref)
    with pytest.warns(NotRegistered, match=r"feast delete read-only@v1"):
        TrainingSets(tmp_path / "no-repo", sets.directory).remove(made.ref)
    with pytest.raises(UnknownName):
        sets.get(made.ref)


def test_another_data_set_of_the_name_stays(repo, tmp_path):
    """Where the registry has a data set of that name from another place, it stays, a warning says so, and removing ours does not remove it."""
    sets = TrainingSets(repo)
    first = build(sets, "twice")
    other = TrainingSets(repo, tmp_path / "other")
    with pytest.warns(NotRegistered, match="of another place, which stays"):
        build(other, "twice")
    other.remove("twice@v1")
    store = FeatureStore(repo_path=str(repo))
    try:
        assert first.id == store.registry.get_saved_dataset("twice@v1", "rides").tags["hindcast.id"]
    finally:
        close(store)


def test_a_set_need_not_be_registered(repo):
    """With `register=False` the registry is as it was, and the set can be removed all the same."""
    sets = TrainingSets(repo)
    before = (repo / "registry.db").read_bytes()
    made = build(sets, "private", register=False)
    sets.remove(made.ref)
    assert before == (repo / "registry.db").read_bytes()


def test_feast_reads_times_under_one_name_only(repo):
    """A set whose frame calls its times otherwise is listed, and reading it through Feast fails by a clear error: Feast asks for `event_timestamp`."""
    renamed = frame().rename(columns={"event_timestamp": "asked_at"})
    made = build(TrainingSets(repo), "renamed", entity_frame=renamed)
    store = FeatureStore(repo_path=str(repo))
    try:
        found = store.get_saved_dataset(made.ref)
        with pytest.raises(SourceError, match="event_timestamp"):
            found.to_df()
    finally:
        close(store)


def test_the_command_line_registers(repo, tmp_path):
    """`hindcast dataset build --no-register` leaves the registry alone, and `register` puts all sets into it later."""
    root = tmp_path / "repo"
    copied(repo, root)

    def run(*arguments):
        with elsewhere(root):
            done = run_command("hindcast", "dataset", *arguments)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    run("build", "quiet", "--features", "trips:trips", "--entities", "data/labels.parquet", "--no-register")
    assert "quiet@v1" not in names(root)
    registered = json.loads(run("register", "--output", "json"))["registered"]
    assert (True, True) == ("quiet@v1" in registered, set(registered) <= set(names(root)))
