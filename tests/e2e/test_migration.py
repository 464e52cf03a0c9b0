"""A repo on Feast's own Redis store moves to packed rows by the walk-through, while it is served."""

import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import yaml

from commands import feast_command
from hindcast.shadow.v1.shadow_pb2 import FeastRequest, FeatureRefs, ValueColumn
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client
from services import FEAST, run_hindcast, run_redis

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
FEATURES = [
    "driver_hourly_stats:conv_rate",
    "driver_hourly_stats:acc_rate",
    "driver_hourly_stats:avg_daily_trips",
    "driver_hourly_stats_fresh:conv_rate",
]


@pytest.fixture
def redis():
    """A Redis on a port."""
    with run_redis() as server:
        yield server


@pytest.fixture
def repo(tmp_path, redis):
    """`feast init`, on Feast's own Redis store, applied and materialized."""
    subprocess.run([FEAST, "init", "drivers"], cwd=tmp_path, capture_output=True, check=True)
    repo = tmp_path / "drivers" / "feature_repo"
    config = yaml.safe_load((repo / "feature_store.yaml").read_text())
    config["online_store"] = {"type": "redis", "connection_string": redis.connection_string}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
    feast_command(repo, "apply")
    feast_command(repo, "materialize", "2000-01-01T00:00:00", "2100-01-01T00:00:00")
    return repo


def answers(address):
    """What is answered in both dialects."""
    with Client(address) as client:
        native = client.get_online_features(
            features=FEATURES, entities={"driver_id": [1001, 1005, 7]}, full_feature_names=True
        )
    keys = [Value(int64_val=number).SerializeToString() for number in (1001, 1005, 7)]
    asked = FeastRequest(
        features=FeatureRefs(val=FEATURES), entities={"driver_id": ValueColumn(val=keys)}, full_feature_names=True
    )
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/feast.serving.ServingService/GetOnlineFeatures")
        feasts = call(asked.SerializeToString())
    return native.to_dict(), native.statuses, native.event_timestamps, feasts


def test_the_walk_works_when_pasted(repo, redis):
    """Each block runs as it stands while the old server serves, and the new one answers as it, and still without the hashes."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.split("<!-- walk:")[1].split("<!-- end of walk -->")[0], re.DOTALL)
    assert 5 == len(blocks)

    def paste(block):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-ec", block],
            cwd=repo,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": path},
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    with run_hindcast(repo) as old:
        before = answers(old.address)
        assert {"PRESENT", "NOT_FOUND"} == {s.name for s in before[1]["driver_hourly_stats__conv_rate"]}
        dry_run, copy, switch, catch_up, prove = blocks
        planned = paste(dry_run)
        assert planned.endswith("nothing was written\n")
        # Feast's registry has a first version of every view, which is the view itself here.
        assert "@v" not in planned
        assert "equal, row by row: 10 rows" in paste(copy)
        paste(switch)
        with run_hindcast(repo) as new:
            assert before == answers(new.address)
            assert "equal, row by row: 10 rows" in paste(catch_up)
            assert "equal, row by row: 10 rows" in paste(prove)
            assert before == answers(old.address)

            client = redis.client()
            kept = {key.removesuffix(b"drivers") + b"nondrivers" for key in client.scan_iter(_type="HASH")}
            for key in kept:
                client.hset(key, "a", "b")
            delete = re.search(r"<!-- deletion:.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
            delete = delete.replace("port=6379", f"port={redis.port}").replace('b"payments"', 'b"drivers"')
            subprocess.run([sys.executable, "-c", delete], check=True)
            assert kept == set(client.scan_iter(_type="HASH"))
            client.close()
            assert before == answers(new.address)
