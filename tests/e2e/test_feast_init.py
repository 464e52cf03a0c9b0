"""A repo that `feast init` made, with only its store types changed."""

import subprocess
from datetime import UTC, datetime

import pytest
import yaml

from hindcast.online.embedded import EmbeddedRedis
from hindcast_client import Client
from services import FEAST, run_feast, run_hindcast

TYPES = {
    "online_store": "hindcast.online.plugin.PackedRedisOnlineStore",
    "offline_store": "hindcast.offline.plugin.AsOfOfflineStore",
    "batch_engine": "hindcast.materialize.plugin.StreamingEngine",
}


@pytest.fixture
def initial_repo(tmp_path):
    """`feast init`, and then only the three `type:` lines."""
    subprocess.run([FEAST, "init", "drivers"], cwd=tmp_path, capture_output=True, check=True)
    repo = tmp_path / "drivers" / "feature_repo"
    config = yaml.safe_load((repo / "feature_store.yaml").read_text())
    for block, store in TYPES.items():
        config.setdefault(block, {})["type"] = store
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
    yield repo
    EmbeddedRedis.of_repo(repo).stop()


def test_a_new_feast_repo_is_applied_materialized_and_served(initial_repo):
    """Feast's own first example works on Hindcast's stores, on-demand views and feature services included."""
    run_feast(initial_repo, "apply")
    run_feast(initial_repo, "materialize", "2000-01-01T00:00:00", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")

    with run_hindcast(initial_repo) as server, Client(server.address) as client:
        services = client.get_server_info().feature_services
        answer = client.get_online_features(
            features=["driver_hourly_stats:conv_rate", "transformed_conv_rate:conv_rate_plus_val1"],
            entities={"driver_id": [1001, 1002, 7]},
            request_data={"val_to_add": [1, 2, 3], "val_to_add_2": [10, 20, 30]},
        ).to_dict()

    assert {"driver_activity_v1", "driver_activity_v2", "driver_activity_v3"} <= set(services)
    rates = answer["conv_rate"]
    assert None is rates[2]
    assert [rates[0] + 1, rates[1] + 2] == pytest.approx(answer["conv_rate_plus_val1"][:2])
