"""The demo's Feast repo on Feast's own stores: what Hindcast answers for it can be held against Feast."""
# what is expected comes first

import ast
import importlib.util
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from commands import feast_command

ROOT = Path(__file__).parents[2]
SETTINGS = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())

# Run in a process of its own, since importing Feast takes seconds and warns; it prints what the applied repo holds and answers.
ASK_FEAST = """
import ast, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import pandas as pd
from feast import FeatureStore

live, now = ast.literal_eval(sys.argv[1]), pd.Timestamp(sys.argv[2])
store = FeatureStore(repo_path=".")
# Dask materializes, because the DuckDB store cannot materialize a view without an entity; DuckDB joins.
duckdb = FeatureStore(fs_yaml_file=Path("duckdb.yaml"))
views, services = store.list_feature_views(), store.list_feature_services()


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.replace(tzinfo=None).isoformat() if hasattr(value, "isoformat") else value


registry = {
    "entities": {e.join_key: e.value_type.name for e in store.list_entities()},
    "views": {v.name: (sorted(e.name for e in v.entity_columns), v.ttl.total_seconds()) for v in views},
    "types": {str(f.dtype) for v in views for f in v.features},
    "times": {(v.batch_source.timestamp_field, v.batch_source.created_timestamp_column) for v in views},
    "paths": {v.name: v.batch_source.path for v in views},
    "renamed": {v.name: dict(v.batch_source.field_mapping) for v in views if v.batch_source.field_mapping},
    "pushed": {v.name: v.stream_source.name for v in views if v.stream_source},
    "on_demand": {v.name: (v.mode, sorted(v.source_request_sources)) for v in store.list_on_demand_feature_views()},
    "services": {s.name for s in services},
    "sampled": {s.name: s.logging_config.sample_rate for s in services if s.logging_config},
    "aliases": {p.name_alias: p.join_key_map for s in services for p in s.feature_view_projections if p.name_alias},
    "names": [f.name for v in views for f in v.features],
}
requests = {
    "payment_risk": [row | {"amount": 25.0, "card_country": "DE"} for row in live],
    "account_screening": [{key: row[key] for key in ("account_id", "device_id")} for row in live],
    "transfer_risk": [
        {"payer_account_id": row["account_id"], "payee_account_id": live[0]["account_id"]} for row in live
    ],
}
online, historical = {}, {}
for name, rows in requests.items():
    ask = {"features": store.get_feature_service(name), "full_feature_names": name == "transfer_risk"}
    answer = store.get_online_features(entity_rows=rows, **ask).to_dict()
    frame = pd.DataFrame(rows).assign(event_timestamp=now, position=range(len(rows)))
    # Feast's DuckDB store gives rows back in an order of its own.
    table = duckdb.get_historical_features(entity_df=frame, **ask).to_arrow().sort_by("position")
    online[name] = {column: plain(values) for column, values in answer.items()}
    historical[name] = {column: plain(table[column].to_pylist()) for column in answer}

labels = pd.read_parquet("data/labels.parquet")
training = duckdb.get_historical_features(labels, duckdb.get_feature_service("payment_risk")).to_arrow()
found = {column: 1 - training[column].null_count / len(training) for column in training.column_names}
print(repr({"registry": registry, "online": online, "historical": historical, "rows": len(training), "found": found}))
"""


def run(command, repo_dir):
    """What the command printed; a failure shows what it said."""
    done = subprocess.run(command, cwd=repo_dir, capture_output=True, text=True, timeout=120, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def own_stores(offline):
    """The repo's settings with Feast's own stores in place of Hindcast's."""
    stores = {"offline_store": {"type": offline}, "online_store": {"type": "sqlite", "path": "data/online.db"}}
    return yaml.safe_dump({name: value for name, value in (SETTINGS | stores).items() if name != "batch_engine"})


@pytest.fixture(scope="module")
def feast(tmp_path_factory):
    """The repo, applied and materialized by Feast's commands, and what it then holds and answers."""
    spec = importlib.util.spec_from_file_location("demo_generate", ROOT / "demo" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    repo_dir = tmp_path_factory.mktemp("work") / "repo"
    shutil.copytree(ROOT / "feature_repo", repo_dir, ignore=shutil.ignore_patterns("data", "__pycache__"))
    (repo_dir / "feature_store.yaml").write_text(own_stores("dask"))
    (repo_dir / "duckdb.yaml").write_text(own_stores("duckdb"))
    end = datetime.now(tz=UTC)
    report = module.generate(repo_dir, accounts=60, days=4, end=end)
    live = [
        {"account_id": keys.account_id, "merchant_id": keys.merchant_id, "device_id": keys.device_id}
        for keys in report.live
    ]
    feast_command(repo_dir, "apply")
    # Whole seconds, and the newest rows are of the time at which they were made.
    until = end + timedelta(seconds=1)
    feast_command(repo_dir, "materialize-incremental", until.strftime("%Y-%m-%dT%H:%M:%S"))
    said = run([sys.executable, "-c", ASK_FEAST, repr(live), end.isoformat()], repo_dir)
    return {"live": live} | ast.literal_eval(said)


def test_settings_name_hindcasts_stores():
    """The repo's settings are the ones the README and the commands promise."""
    expected = {
        "project": "payments",
        "provider": "local",
        "registry": "data/registry.db",
        "offline_store": {"type": "hindcast.offline.plugin.AsOfOfflineStore"},
        "online_store": {"type": "hindcast.online.plugin.PackedRedisOnlineStore", "connection_string": "embedded"},
        "batch_engine": {"type": "hindcast.materialize.plugin.StreamingEngine"},
        "entity_key_serialization_version": 3,
    }
    assert expected == SETTINGS


def test_registry_holds_entities_of_both_types(feast):
    """Feast's registry holds text and integer join keys."""
    entities = feast["registry"]["entities"]
    assert {"account_id": "STRING", "merchant_id": "STRING", "device_id": "INT64"} == {
        key: entities[key] for key in entities if key != "__dummy_id"
    }


def test_registry_holds_views(feast):
    """Feast's registry holds views of one entity, two and none, living from ten minutes to for ever."""
    expected = {
        "account_profile": (["account_id"], 0.0),
        "account_activity": (["account_id"], 2 * 86400.0),
        "account_velocity": (["account_id"], 600.0),
        "merchant_stats": (["merchant_id"], 30 * 86400.0),
        "account_merchant": (["account_id", "merchant_id"], 90 * 86400.0),
        "device_signals": (["device_id"], 7200.0),
        "platform_risk": ([], 86400.0),
    }
    assert expected == feast["registry"]["views"]


def test_registry_holds_every_type(feast):
    """The features have every scalar type of Feast and an array of each."""
    scalars = {"Int32", "Int64", "Float32", "Float64", "String", "Bytes", "Bool", "UnixTimestamp"}
    assert scalars | {f"Array({scalar})" for scalar in scalars} == feast["registry"]["types"]


def test_registry_holds_sources(feast):
    """Every source has both times and a path inside the repo; one renames a column, one is pushed to."""
    registry = feast["registry"]
    assert {("event_ts", "created_ts")} == registry["times"]
    assert {name: f"data/{name}.parquet" for name in registry["views"]} == registry["paths"]
    assert {"account_profile": {"cr_limit": "credit_limit"}} == registry["renamed"]
    assert {"account_velocity": "account_velocity_push"} == registry["pushed"]


def test_registry_holds_on_demand_views(feast):
    """One on-demand view runs in pandas, one in Python, both on the request's own data."""
    expected = {"amount_checks": ("pandas", ["payment_request"]), "route_checks": ("python", ["payment_request"])}
    assert expected == feast["registry"]["on_demand"]


def test_registry_holds_services(feast):
    """Of three services one is logged by sample and one uses a view twice, under two join keys."""
    registry = feast["registry"]
    assert {"payment_risk", "transfer_risk", "account_screening"} == registry["services"]
    assert {"account_screening": 0.25} == registry["sampled"]
    assert {
        "payer_account": {"account_id": "payer_account_id"},
        "payee_account": {"account_id": "payee_account_id"},
    } == registry["aliases"]


def test_no_name_breaks_feasts_join(feast):
    """No feature ends in "_y", which Feast's DuckDB join drops, and no two views share a feature's name."""
    names = feast["registry"]["names"]
    assert [] == [name for name in names if name.endswith("_y")]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("service", ["payment_risk", "transfer_risk", "account_screening"])
def test_feast_answers_online_as_in_training(feast, service):
    """What Feast serves for a payment under way is what its training set holds for that instant, in every column."""
    online, historical = feast["online"][service], feast["historical"][service]
    assert historical == online
    assert [] == [name for name, values in online.items() if len(values) != len(feast["live"])]
    assert [] == [name for name, values in online.items() if all(value is None for value in values)]


def test_transfer_tells_payer_from_payee(feast):
    """The payer's features follow the payer, the payee's are those of the one payee."""
    answer = feast["online"]["transfer_risk"]
    assert 1 < len(set(answer["payer_account__risk_score"]))
    assert answer["payer_account__risk_score"][:1] * len(feast["live"]) == answer["payee_account__risk_score"]


def test_training_set_finds_nearly_all(feast):
    """A training set on the labels keeps every row and finds most values of every feature."""
    assert 2_000 == feast["rows"]
    assert {} == {name: share for name, share in feast["found"].items() if share < 0.7}
