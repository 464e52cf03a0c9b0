"""A registry that changes under a running server."""

import contextlib
import shutil
import threading

import pytest
import yaml

from commands import feast_command
from hindcast_client import Client, NotFound
from services import run_hindcast, run_redis, wait_for

SERVED_WITHIN_SECONDS = 2.0


@pytest.fixture(scope="module")
def applied(tmp_path_factory, demo_repo):
    """The demo's definitions without on-demand views, applied, on a Redis of their own."""
    root = tmp_path_factory.mktemp("reload") / "feature_repo"
    shutil.copytree(demo_repo.root, root, ignore=shutil.ignore_patterns(".hindcast", "registry.db", "__pycache__"))
    (root / "on_demand.py").unlink()
    services = (root / "services.py").read_text()
    services = services.replace("from on_demand import amount_checks, route_checks\n", "")
    services = services.replace("        amount_checks,\n        route_checks,\n", "")
    (root / "services.py").write_text(services)
    with run_redis() as redis:
        config = yaml.safe_load((root / "feature_store.yaml").read_text())
        config["online_store"]["connection_string"] = redis.connection_string
        (root / "feature_store.yaml").write_text(yaml.safe_dump(config))
        feast_command(root, "apply")
        yield root


@contextlib.contextmanager
def asking(address):
    """Ask all the time from four threads; gives the list of failures, and of catalog versions seen."""
    failures, versions, stop = [], set(), threading.Event()

    def ask():
        with Client(address) as client:
            while not stop.is_set():
                try:
                    answer = client.get_online_features(features="account_screening", entities=ENTITIES)
                    versions.add(answer.catalog_version)
                except Exception as error:  # noqa: BLE001 - every failure counts
                    failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield failures, versions
    finally:
        stop.set()
        for thread in threads:
            thread.join()


ENTITIES = {"account_id": ["1"], "device_id": [1]}


def versions_of_all(address):
    """Catalog versions that 20 fresh connections meet."""
    seen = set()
    for _ in range(20):
        with Client(address) as client:
            seen.add(client.get_server_info().catalog_version)
    return seen


def test_an_applied_change_is_served_without_a_failed_call(applied):
    """After `feast apply`, all workers serve the new definitions within 2 s, and no call fails meanwhile."""
    services = applied / "services.py"
    with run_hindcast(applied, "--workers", "2") as server, asking(server.address) as (failures, versions):
        (before,) = versions_of_all(server.address)
        services.write_text(services.read_text() + '\nnew = FeatureService(name="new", features=[platform_risk])\n')
        feast_command(applied, "apply")
        since = server.stopwatch()
        wait_for(lambda: before not in versions_of_all(server.address))
        took = since.seconds
        (after,) = versions_of_all(server.address)
        with Client(server.address) as client:
            answer = client.get_online_features(features="new", entities={})
        assert after == answer.catalog_version
        wait_for(lambda: after in versions)

    assert [] == failures
    assert took < SERVED_WITHIN_SECONDS
    assert {before, after} == versions


@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "without its end"])
def test_a_torn_registry_keeps_the_last_good_catalog(applied, damage):
    """A registry that is empty, cut, missing, or cut between two messages is not taken, and is said to be so."""
    registry = applied / "data" / "registry.db"
    whole = registry.read_bytes()
    with run_hindcast(applied) as server:
        (before,) = versions_of_all(server.address)
        with asking(server.address) as (failures, versions):
            tear(registry, whole, damage)
            wait_for(lambda: any("the registry is not taken" in line for line in server.output))
            registry.write_bytes(whole)
            wait_for(lambda: any("can be read again" in line for line in server.output))

        assert {before} == versions_of_all(server.address)
    assert [] == failures
    assert {before} == versions


def tear(registry, whole, damage):
    """Leave the registry as a writer that died would."""
    if damage == "gone":
        registry.unlink()
    elif damage == "empty":
        registry.write_bytes(b"")
    elif damage == "cut":
        registry.write_bytes(whole[: len(whole) // 2])
    else:
        from hindcast.shadow.v1.registry_pb2 import Registry  # noqa: PLC0415

        kept = Registry.FromString(whole)
        del kept.feature_services[:]
        del kept.projects[:]
        registry.write_bytes(kept.SerializeToString())


def test_a_service_that_was_deleted_is_gone(applied):
    """A whole registry with less in it is what somebody applied: it is taken."""
    services = applied / "services.py"
    text = services.read_text()
    services.write_text(text + '\nextra = FeatureService(name="extra", features=[platform_risk])\n')
    feast_command(applied, "apply")
    with run_hindcast(applied) as server, Client(server.address) as client:
        client.get_online_features(features="extra", entities={})
        feast_command(applied, "delete", "extra")

        def is_gone():
            try:
                client.get_online_features(features="extra", entities={})
            except NotFound:
                return True
            return False

        since = server.stopwatch()
        wait_for(is_gone)
        assert since.seconds < SERVED_WITHIN_SECONDS
    services.write_text(text)
