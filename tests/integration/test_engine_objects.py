"""Materialization through Feast from an object store: where the settings come from, and what is on record."""

import contextlib

import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.credentials import ConnectionRef
from feast.data_format import DeltaFormat
from feast.types import Int64
from feast.value_type import ValueType

from engine_repo import AS_OF, engine_repo, hours_ago, table
from hindcast.errors import SourceError
from object_store import run_object_server

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


@pytest.fixture(scope="module")
def server():
    """An object store for all tests here."""
    with run_object_server() as server:
        yield server


@pytest.fixture
def storage(server):
    """A bucket of the test's own."""
    return server.bucket()


@pytest.fixture
def new_repo(tmp_path, redis):
    """Makes a repo with these settings in its offline store."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(redis.client()))

        def make(**options):
            store = AS_OF | ({"storage_options": options} if options else {})
            return stack.enter_context(
                engine_repo(tmp_path / "repo", redis.connection_string, client, offline_store=store)
            )

        yield make


def ride(path, **options):
    """A view of trips by driver."""
    return FeatureView(
        name="ride",
        entities=[DRIVER],
        schema=[Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)],
        source=FileSource(name="rides", path=path, timestamp_field="event_ts", **options),
    )


def trips(*rows):
    """Rows of (driver, trips, hours since it was true)."""
    drivers, counts, hours = zip(*rows, strict=True)
    return table(driver_id=drivers, trips=counts, event_ts=[hours_ago(hour) for hour in hours])


def test_settings_of_the_offline_store_reach_an_object(new_repo, storage):
    """A view is materialized from an object by the settings of the offline_store block, and the run says which object it read."""
    storage.write("rides.parquet", trips((1, 10, 3), (1, 11, 2), (2, 20, 1)))
    repo = new_repo(**storage.options)
    repo.apply(DRIVER, ride(storage.uri("rides.parquet")))

    repo.materialize()

    assert {1: {"trips": 11}, 2: {"trips": 20}} == repo.values("ride")
    (source,) = repo.runs()[0].sources
    assert (storage.uri("rides.parquet"), "") == (source.path, source.sha256)
    assert source.tag
    assert source.bytes > 0


def test_a_source_names_its_own_endpoint_and_credentials(new_repo, storage, monkeypatch):
    """What the source says of its endpoint and its credentials comes before the settings of the block."""
    storage.write("rides.parquet", trips((1, 10, 3)))
    monkeypatch.setenv("RIDES_AWS_UNUSED", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hindcast")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-test")
    repo = new_repo(AWS_ENDPOINT_URL="http://127.0.0.1:1", AWS_ACCESS_KEY_ID="other")
    view = ride(
        storage.uri("rides.parquet"),
        s3_endpoint_override=storage.endpoint,
        connection_ref=ConnectionRef(provider="env", name="AWS"),
    )
    repo.apply(DRIVER, view)

    repo.materialize()

    assert {1: {"trips": 10}} == repo.values("ride")


def test_the_environment_is_enough(new_repo, storage, monkeypatch):
    """With the usual variables set, a Delta table in a store is materialized without any setting in the repo."""
    storage.append_delta("rides", trips((1, 10, 3), (2, 20, 1)))
    for name, value in storage.options.items():
        monkeypatch.setenv(name, value)
    repo = new_repo()
    repo.apply(DRIVER, ride(storage.uri("rides"), file_format=DeltaFormat()))

    repo.materialize()

    assert {1: {"trips": 10}, 2: {"trips": 20}} == repo.values("ride")
    assert [(storage.uri("rides"), 0)] == [(source.path, source.delta_version) for source in repo.runs()[0].sources]


def test_credentials_that_cannot_be_found_are_said(new_repo, storage):
    """A connection_ref that leads nowhere ends the run with its source's name."""
    repo = new_repo(**storage.options)
    path = storage.uri("rides.parquet")
    repo.apply(DRIVER, ride(path, connection_ref=ConnectionRef(provider="nobody", name="x")))

    with pytest.raises(
        SourceError, match="credentials of the source 'rides' cannot be found; check its connection_ref"
    ):
        repo.materialize()
