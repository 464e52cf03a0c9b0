"""A training set in a pipeline of the real DVC, in a Git repo: the same bytes each time, and built anew only where an input has changed."""

import base64
import json
import os
import shutil
import subprocess

import dill
import pyarrow as pa
import pytest
import yaml
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView
from feast.protos.feast.core.Registry_pb2 import Registry

from dataset_repo import frame, make_repo, reapply
from hindcast.datasets import TrainingSets
from offline_repo import hours, trips, write
from services import HINDCAST

THEIRS = "stages:\n  # Counts.\n  count:\n    cmd: wc -l < data/notes.txt > count.txt\n    deps: [data/notes.txt]\n    outs: [count.txt]\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command in a Git and DVC repo with a Feast repo in it, a set built there, and somebody's dvc.yaml; gives what it prints."""
    place = tmp_path_factory.mktemp("dvc")
    root = place / "rides"
    quiet = {
        "PATH": f"{HINDCAST.parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(place / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(place / "system"),
        "DVC_SITE_CACHE_DIR": str(place / "site"),
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }

    def command(*words):
        done = subprocess.run(words, cwd=root, env=os.environ | quiet, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    make_repo(root)
    write(root / "data/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    (root / "data/notes.txt").write_text("a\n")
    (root / "dvc.yaml").write_text(THEIRS)
    (root / ".gitignore").write_text(".hindcast\ndata\nregistry.db\n")
    TrainingSets(root).build(
        "rides", features="rides", entity_frame=root / "data/labels.parquet", known_at=hours(24 * 365)
    )
    command("git", "init", "--quiet")
    command("dvc", "init", "--quiet")
    command("dvc", "config", "core.check_update", "false")
    command("hindcast", "dataset", "dvc", "rides")
    command("git", "add", "--all")
    command("git", "commit", "--quiet", "-m", "Begin")
    return command, root


def lock(root):
    """What DVC has written down of the stages."""
    return yaml.safe_load((root / "dvc.lock").read_text())["stages"]


def test_equal_inputs_give_one_hash_and_changed_ones_another(run):
    """`dvc repro` twice, with a commit between and by force, has one hash; a new registry with the same definitions builds nothing; a changed source does."""
    command, root = run
    command("dvc", "repro")
    first = lock(root)
    assert (root / "dvc.yaml").read_text().startswith(THEIRS)
    assert ["count", "rides", "rides-definitions"] == sorted(first)
    (made,) = TrainingSets(root, dir=root / "training_sets").list()
    assert ("rides@v1", TrainingSets(root).get("rides").digest) == (made.ref, made.digest)

    command("git", "add", "--all")
    command("git", "commit", "--quiet", "-m", "Build")
    assert "up to date" in command("dvc", "status")
    command("dvc", "repro", "--force", "--single-item", "rides")
    assert first == lock(root)

    reapply(root)
    command("dvc", "repro", "rides")
    again = lock(root)
    assert first["rides-definitions"]["deps"] != again["rides-definitions"]["deps"]
    assert (first["rides"], first["rides-definitions"]["outs"]) == (again["rides"], again["rides-definitions"]["outs"])

    write(root / "data/trips.parquet", trips((1, 0, 11), (1, 2, 12), (2, 1, 20)))
    assert {"changed deps": {"data/trips.parquet": "modified"}} in json.loads(command("dvc", "status", "--json"))[
        "rides"
    ]
    command("dvc", "repro", "rides")
    assert first["rides"]["outs"] != lock(root)["rides"]["outs"]

    command("git", "checkout", "--quiet", "dvc.lock")
    command("dvc", "checkout", "--quiet", "training_sets/rides")
    assert made.digest == TrainingSets(root, dir=root / "training_sets").get("rides").digest
    assert () == TrainingSets(root, dir=root / "training_sets").verify("rides").problems


def test_functions_are_recorded_as_the_registry_has_them(run, tmp_path):
    """The pickled function of an on-demand view is that of the registry, byte for byte: pickled anew it is another one in each process."""
    shutil.copytree(run[1], tmp_path / "rides")
    file = tmp_path / "rides/registry.db"
    registry = Registry.FromString(file.read_bytes())
    function = registry.on_demand_feature_views[0].spec.feature_transformation.user_defined_function
    function.body = dill.dumps(dill.loads(function.body), protocol=2)  # noqa: S301 - this test's own
    file.write_bytes(registry.SerializeToString())
    (found,) = TrainingSets(tmp_path / "rides").definitions("rides").on_demand
    kept = OnDemandFeatureView.FromString(base64.b64decode(found.spec)).spec
    assert function.body == kept.feature_transformation.user_defined_function.body
