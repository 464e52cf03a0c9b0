"""Catalogs: the same registry gives the same catalog however it is stored and applied, and who only serves never imports Feast."""

import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64, String
from feast.value_type import ValueType
from hypothesis import Phase, given, settings

from hindcast.catalog import Field as CatalogField
from hindcast.catalog import load_catalog, read_repo
from hindcast.errors import CatalogError
from hindcast.offline.location import OUR_STORE
from hindcast.online.connection import parse_target
from hindcast.online.layouts import LayoutName
from hindcast.online.rows import RowPolicy
from hindcast.serving.ingest import WriteSettings
from hindcast.serving.worker_settings import WorkerSettings
from hindcast.settings import WorkerOptions
from services import held_port, run_hindcast
from strategies import repos
from twins import SOURCE, build, close

YAML = """\
project: shop
provider: local
registry: {registry}
offline_store: {{type: hindcast.offline.plugin.AsOfOfflineStore}}
online_store: {{type: hindcast.online.plugin.PackedRedisOnlineStore, connection_string: "{redis}"}}
entity_key_serialization_version: 3
"""
REGISTRIES = {"file": "registry.db", "sql": "{{registry_type: sql, path: 'sqlite:///{root}/registry.sqlite'}}"}


def objects(*, on_demand=True, ttl=timedelta(hours=1)):
    """Definitions made anew, as each `feast apply` makes them from the files."""
    account = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
    profile = FeatureView(
        name="profile",
        entities=[account],
        ttl=ttl,
        schema=[Field(name="account_id", dtype=String), Field(name="visits", dtype=Int64)],
        source=SOURCE,
    )
    service = FeatureService(name="all", features=[profile.with_name("p").with_join_key_map({"account_id": "payer"})])
    made = [account, profile, service]
    if on_demand:

        @on_demand_feature_view(sources=[profile], schema=[Field(name="twice", dtype=Int64)], mode="python")
        def doubled(inputs):
            return {"twice": [None if visits is None else 2 * visits for visits in inputs["visits"]]}

        made.append(doubled)
    return made


def make_repo(root, redis, *, registry="file"):
    root.mkdir(exist_ok=True)
    where = REGISTRIES[registry].format(root=root).replace("{{", "{").replace("}}", "}")
    (root / "feature_store.yaml").write_text(YAML.format(registry=where, redis=redis.connection_string))
    return root


def load(root):
    """The catalog of a repo's registry as it is now."""
    return load_catalog(read_repo(root))


def apply(root, *made):
    """A new store each time, as each `feast apply` is a new process."""
    store = FeatureStore(repo_path=str(root))
    store.apply([*made])
    close(store)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_second_apply_gives_the_same_catalog(shared_redis, tmp_path, registry):
    """Applying unchanged definitions again changes neither the catalog nor its version, pickled functions included."""
    root = make_repo(tmp_path / "repo", shared_redis, registry=registry)
    apply(root, *objects())
    first = load(root)
    apply(root, *objects())
    second = load(root)

    assert second.version == first.version
    assert (second.views, second.services, second.entities) == (first.views, first.services, first.entities)


def test_a_changed_definition_gives_another_version(shared_redis, tmp_path):
    """A TTL that changed is another catalog: an answer's `catalog_version` tells the two apart."""
    root = make_repo(tmp_path / "repo", shared_redis)
    apply(root, *objects())
    first = load(root)
    apply(root, *objects(ttl=timedelta(hours=2)))

    assert load(root).version != first.version


def test_file_and_sql_registries_give_the_same_catalog(shared_redis, tmp_path):
    """Where a registry is kept decides nothing: one version for the same definitions."""
    catalogs = []
    for registry in REGISTRIES:
        root = make_repo(tmp_path / registry, shared_redis, registry=registry)
        apply(root, *objects())
        catalogs.append(load(root))
    by_file, by_sql = catalogs

    assert by_sql.version == by_file.version
    assert (by_sql.views, by_sql.services, by_sql.entities) == (by_file.views, by_file.services, by_file.entities)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_an_unapplied_repo_says_to_apply(shared_redis, tmp_path, registry):
    """No registry, and one without views, is an error that names `feast apply`; neither is an empty catalog."""
    root = make_repo(tmp_path / "repo", shared_redis, registry=registry)
    with pytest.raises(CatalogError, match="feast apply"):
        load(root)

    account, *_ = objects()
    apply(root, account)
    with pytest.raises(CatalogError, match=r"holds no feature views of project 'shop'. Run `feast apply` first"):
        load(root)


def test_an_empty_file_registry_says_to_apply(shared_redis, tmp_path):
    """A file that Feast has truncated and not yet written parses as no features, and is refused."""
    root = make_repo(tmp_path / "repo", shared_redis)
    apply(root, *objects())
    (root / "registry.db").write_bytes(b"")

    with pytest.raises(CatalogError, match="feast apply"):
        load(root)


LOADS = """
import sys
from pathlib import Path
from hindcast.catalog import load_catalog, read_repo

print(load_catalog(read_repo(Path(sys.argv[1]))).version)
assert not [name for name in sys.modules if name.split(".")[0] in ("feast", "pandas", "pyarrow")]
"""


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_catalog_is_read_without_feast(shared_redis, tmp_path, registry):
    """Compiling a file or SQL registry imports no Feast, and another process finds the same version."""
    root = make_repo(tmp_path / "repo", shared_redis, registry=registry)
    apply(root, *objects())
    loaded = subprocess.run([sys.executable, "-c", LOADS, root], capture_output=True, text=True, check=False)

    assert loaded.stderr == ""
    assert loaded.stdout.strip() == load(root).version


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])
@given(draft=repos())
def test_a_catalog_says_of_a_registry_what_feast_says(shared_redis, draft):
    """Views, join keys, types, TTLs and services of any repo are what Feast's own SDK reads from the same registry."""
    with tempfile.TemporaryDirectory() as folder:
        root = make_repo(Path(folder), shared_redis)
        apply(root, *build(draft))
        catalog = load(root)
        store = FeatureStore(repo_path=folder)
        entities, views, services = store.list_entities(), store.list_feature_views(), store.list_feature_services()

    assert catalog.entities == {one.name: one.join_key for one in entities if one.name != "__dummy"}
    assert {name: (view.join_keys, view.fields, view.ttl_micros) for name, view in catalog.views.items()} == {
        view.name: (
            tuple(sorted(typed(view.entity_columns, leave="__dummy_id"), key=lambda key: key.name)),
            tuple(typed(view.features)),
            view.ttl // timedelta(microseconds=1),
        )
        for view in views
    }
    assert {
        name: [(one.view, one.name, one.features, dict(one.join_keys)) for one in service.projections]
        for name, service in catalog.services.items()
    } == {
        service.name: [
            (one.name, one.name_to_use(), tuple(feature.name for feature in one.features), one.join_key_map)
            for one in service.feature_view_projections
        ]
        for service in services
    }


def typed(columns, *, leave=None):
    """Columns of Feast as the catalog writes them."""
    return [CatalogField(one.name, one.dtype.to_value_type().value) for one in columns if one.name != leave]


WORKS = """
import asyncio, sys
from hindcast.catalog.unchecked import leave_out_checks
from hindcast.serving import worker
from hindcast.serving.worker_settings import WorkerSettings

async def main():
    settings = WorkerSettings.from_line(sys.argv[1].encode())
    serving = asyncio.ensure_future(worker.serve())
    import grpc
    async with grpc.aio.insecure_channel(settings.address) as channel:
        ask = channel.unary_unary("/hindcast.v1.FeatureService/GetOnlineFeatures")
        from hindcast.v1 import feature_service_pb2 as api
        request = api.GetOnlineFeaturesRequest(feature_service="all")
        request.entities["payer"].val.add(string_val="a")
        answer = api.GetOnlineFeaturesResponse.FromString(
            await ask(request.SerializeToString(), wait_for_ready=True, timeout=60)
        )
    assert answer.columns[0].name == "visits", answer
    sys.stderr.write(repr(sorted({name.split(".")[0] for name in sys.modules} & {"feast", "pandas", "pyarrow", "duckdb"})))
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)
    await serving

leave_out_checks()  # as a worker's `main` does
asyncio.run(main())
"""


@pytest.fixture
def port():
    """A port that a worker can listen on."""
    with held_port() as port:
        yield port


@pytest.mark.parametrize("on_demand", [False, True])
def test_a_worker_imports_feast_for_on_demand_views_only(shared_redis, port, tmp_path, on_demand):
    """A worker that has answered has not imported Feast, pandas, Arrow or DuckDB, unless its catalog needs Feast."""
    root = make_repo(tmp_path / "repo", shared_redis)
    apply(root, *objects(on_demand=on_demand))
    handed = WorkerSettings(
        slot=0,
        address=f"127.0.0.1:{port}",
        catalog=load(root),
        target=parse_target(shared_redis.connection_string),
        layout=LayoutName.PACKED,
        writes=WriteSettings(policy=RowPolicy(), offline_store_type=OUR_STORE, repo_root=root),
        options=WorkerOptions(drain_seconds=1.0),
    )
    command = [sys.executable, "-c", WORKS, handed.to_line()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdin.write(handed.to_line())
        child.stdin.flush()
        child.wait(120)
        told = child.stderr.read().decode()

    assert child.returncode == 0, told
    assert ("'feast'" in told) == on_demand
    assert on_demand or told.startswith("[]") or "\n[]" in told


def test_a_served_process_tree_holds_no_feast(shared_redis, tmp_path):
    """From the memory maps of supervisor and workers: no library that only Feast loads is mapped into any of them."""
    root = make_repo(tmp_path / "repo", shared_redis)
    apply(root, *objects(on_demand=False))
    with run_hindcast(root) as server:
        mapped = [
            line
            for process in (server.process.pid, *server.worker_ids())
            for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines()
        ]

    assert [line for line in mapped if any(name in line for name in ("pyarrow", "pandas", "duckdb", "psycopg"))] == []
