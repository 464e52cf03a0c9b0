"""Training sets as inputs of MLflow runs, with a real tracking store, in processes of their own as a training job and an audit would be."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_repo import frame, make_repo
from hindcast.datasets import KeySplits, TrainingSet, TrainingSets, inputs
from hindcast.datasets.mlflow_dataset import TrainingSetDataset
from hindcast.datasets.mlflow_source import HindcastDatasetSource
from hindcast.errors import DatasetError, NotProven
from offline_repo import hours, trips, write

LATER = hours(24 * 365)
TRAINING = """
import sys
import mlflow
from hindcast.datasets import TrainingSets

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("rides")
made = TrainingSets(sys.argv[2]).get("rides")
with mlflow.start_run() as run:
    made.log_to_mlflow(tags={"fold": "1"})
    mlflow.log_metric("auc", 0.9)
    print(run.info.run_id)
"""
LOADING = """
import json, sys, warnings
warnings.simplefilter("error", UserWarning)
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
run = mlflow.get_run(sys.argv[2])
(used,) = run.inputs.dataset_inputs
loaded = mlflow.data.get_source(used).load(**json.loads(sys.argv[3]))
print(json.dumps({
    "ref": loaded.ref,
    "id": loaded.id,
    "digest": loaded.digest,
    "rows": loaded.to_arrow().to_pylist(),
    "batches": len(list(loaded.batches(2))),
    "path": str(loaded.path),
    "tags": {tag.key: tag.value for tag in used.tags},
    "run": run.data.tags,
    "dataset": dict(used.dataset),
}, default=str))
"""


def run(script, *arguments):
    """What a program of a process of its own prints on its last line."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | quiet,
    )
    return done.stdout.splitlines()[-1]


class Logged(NamedTuple):
    """A repo with a set, the store with the run that used it, and what another process got from there."""

    repo: Path
    made: TrainingSet
    store: str
    run_id: str
    found: dict

    @property
    def source(self):
        """The source, as the store has it."""
        return HindcastDatasetSource.from_json(self.found["dataset"]["source"])


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A set of a repo, which a first process logged to a SQLite store, and a second process loaded from there."""
    place = tmp_path_factory.mktemp("mlflow")
    root = place / "repo"
    make_repo(root)
    write(root / "data/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    made = TrainingSets(root).build(
        "rides",
        features="rides",
        entity_frame=root / "data/labels.parquet",
        known_at=LATER,
        splits=KeySplits({"train": 3, "test": 1}, "driver_id"),
    )
    store = f"sqlite:///{place}/mlflow.db"
    run_id = run(TRAINING, store, root)
    return Logged(root, made, store, run_id, load(store, run_id))


def load(store, run_id, **given):
    """What another process gets from the run."""
    return json.loads(run(LOADING, store, run_id, json.dumps(given)))


@pytest.fixture
def moved(logged, tmp_path):
    """A copy of the repo with its sets, of the test's own."""
    shutil.copytree(logged.repo, tmp_path / "repo")
    return tmp_path / "repo"


def test_another_process_loads_what_a_run_has_logged(logged):
    """A second process gets the set from the run in the store, with the digest that was logged, its names as tags of the input and of the run."""
    made, found = logged.made, logged.found
    names = {"id": made.id, "ref": "rides@v1", "logical_digest": made.digest}
    assert (made.id, made.digest, str(made.path)) == (found["id"], found["digest"], found["path"])
    assert made.rows == len(found["rows"])
    tags = {
        "fold": "1",
        "mlflow.data.context": "training",
        **{f"hindcast.{name}": text for name, text in names.items()},
    }
    assert tags == found["tags"]
    assert {f"hindcast.training.{name}": text for name, text in names.items()}.items() <= found["run"].items()
    assert ("rides@v1", made.digest.removeprefix("sha256:")[:36], "hindcast_training_set") == tuple(
        found["dataset"][name] for name in ("name", "digest", "source_type")
    )


def test_mlflow_has_the_schema_and_the_profile_in_its_own_forms(logged):
    """The schema names MLflow's types, columns without nulls are required, and the profile counts rows and cells."""
    dataset = logged.found["dataset"]
    columns = {
        column["name"]: (column["type"], column["required"])
        for column in json.loads(dataset["schema"])["mlflow_colspec"]
    }
    assert {
        "driver_id": ("long", True),
        "event_timestamp": ("datetime", True),
        "amount": ("double", True),
        "is_late": ("boolean", False),
        "trips": ("long", False),
        "rating": ("double", False),
        "per_trip": ("double", False),
        "__split": ("string", True),
    } == columns
    profile = json.loads(dataset["profile"])
    assert (5, 5 * len(columns), logged.made.splits) == (
        profile["num_rows"],
        profile["num_elements"],
        profile["splits"],
    )


def test_every_column_that_a_set_can_have_has_a_type_of_mlflow(logged):
    """Lists, structs, maps, decimals, small and unsigned numbers, bytes, dates and times of day all have a type in the schema that is logged."""
    from mlflow.types import Schema  # noqa: PLC0415 - a second, and two tests need it

    kinds = {
        "list": (pa.list_(pa.int64()), [[1]]),
        "struct": (pa.struct([("a", pa.string())]), [{"a": "b"}]),
        "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)]]),
        "decimal": (pa.decimal128(5, 2), [None]),
        "small": (pa.int8(), [1]),
        "unsigned": (pa.uint64(), [1]),
        "bytes": (pa.binary(), [b"a"]),
        "date": (pa.date32(), [None]),
        "clock": (pa.time64("us"), [None]),
        "half": (pa.float32(), [1.0]),
    }
    table = pa.table(
        {
            "driver_id": pa.array([1], pa.int64()),
            "event_timestamp": pa.array([hours(1)], pa.timestamp("us", "UTC")),
            **{name: pa.array(values, kind) for name, (kind, values) in kinds.items()},
        }
    )
    made = TrainingSets(logged.repo).build("kinds", features=["trips:trips"], entity_frame=table, known_at=LATER)
    kept = json.loads(TrainingSetDataset(made).to_dict()["schema"])["mlflow_colspec"]
    found = {column.name: column for column in Schema.from_json(json.dumps(kept)).inputs}
    assert ["double", "integer", "double", "binary", "datetime", "string", "float"] == [
        found[name].type.name for name in ("decimal", "small", "unsigned", "bytes", "date", "clock", "half")
    ]
    assert ["Array(long)", "{a: string (optional)}", "Map(str -> DataType.integer)"] == [
        str(found[name].type) for name in ("list", "struct", "map")
    ]


def test_a_changed_file_is_named_and_not_loaded(logged, moved):
    """A file of the set that was changed makes loading fail, by the file's name; so does a manifest that was changed."""
    path = moved / ".hindcast/datasets/rides/v1/data/part-00000.parquet"
    table = pq.read_table(path)
    write(path, table.set_column(2, "amount", pa.array([9.0, 2.0, 3.0, 4.0, 5.0])))
    with pytest.raises(DatasetError, match=r"data/part-00000.parquet has other bytes"):
        logged.source.load(repo=moved)
    manifest = moved / ".hindcast/datasets/rides/v1/manifest.json"
    manifest.write_text(manifest.read_text().replace('"amount"', '"amounts"', 1))
    with pytest.raises(DatasetError, match="its manifest was changed"):
        logged.source.load(repo=moved)


def test_rows_that_are_gone_are_made_again(logged, moved):
    """Where the files of the rows are gone, another process makes them again from the manifest, and leaves nothing behind."""
    shutil.rmtree(moved / ".hindcast/datasets/rides/v1/data")
    found, before = load(logged.store, logged.run_id, repo=str(moved)), logged.found
    assert (before["digest"], before["rows"], before["id"]) == (found["digest"], found["rows"], found["id"])
    assert 3 == found["batches"]
    assert [False, False] == [Path(found["path"]).exists(), (moved / ".hindcast/datasets/rides/v1/data").exists()]


def test_rows_that_other_libraries_write_as_other_bytes_are_the_same(logged, moved, monkeypatch):
    """Rows that are made again by other libraries have files of other names or bytes, and are proven by the logical digest."""
    shutil.rmtree(moved / ".hindcast/datasets/rides/v1/data")
    monkeypatch.setattr(inputs, "libraries_of", lambda _, **_log: {"pyarrow": "0"})
    found = logged.source.load(repo=moved)
    assert (logged.made.digest, logged.made.to_arrow()) == (found.digest, found.to_arrow())
    logged_again = HindcastDatasetSource.of(found)
    assert (logged.source.id, str(moved / ".hindcast/datasets")) == (logged_again.id, logged_again.directory)


def test_rows_are_made_again_once(logged, moved):
    """A process that loads a set again whose files are gone has the rows that it made, while they are whole."""
    shutil.rmtree(moved / ".hindcast/datasets/rides/v1/data")
    first, second = (logged.source.load(repo=moved) for _ in range(2))
    assert first.path == second.path
    (second.path / second.manifest.files[0].path).unlink()
    third = logged.source.load(repo=moved)
    assert (False, logged.made.to_arrow()) == (third.path == first.path, third.to_arrow())


def test_rows_that_would_be_other_ones_are_not_given(logged, moved):
    """Where the files of the rows are gone and a source was changed, loading fails and names the source."""
    shutil.rmtree(moved / ".hindcast/datasets/rides/v1/data")
    write(moved / "data/trips.parquet", trips((1, 0, 11), (1, 2, 12), (2, 1, 20)))
    with pytest.raises(NotProven, match=r"another table; the first input that changed is source data/trips.parquet"):
        logged.source.load(repo=moved)


def test_rows_that_are_gone_with_their_repo_are_said_to_be(logged, moved, tmp_path):
    """Where the files of the rows are gone and there is no repo to make them from, or its sources are gone too, the error names the file and says why."""
    shutil.rmtree(moved / ".hindcast/datasets/rides/v1/data")
    (moved / "data/trips.parquet").unlink()
    with pytest.raises(NotProven, match=r"data/trips.parquet"):
        logged.source.load(repo=moved)
    with pytest.raises(DatasetError, match=r"data/part-00000.parquet of rides@v1 .* cannot be made again"):
        logged.source.load(repo=tmp_path, directory=moved / ".hindcast/datasets")
    with pytest.raises(DatasetError, match="load\\(repo=…\\)"):
        replace(logged.source, repo=None).load(directory=moved / ".hindcast/datasets")


def test_a_set_that_is_not_there_is_said_to_be_elsewhere(logged, tmp_path):
    """Without the set there is an error that says by what it was logged, and how to name another place."""
    with pytest.raises(DatasetError, match="load\\(directory=…\\)"):
        logged.source.load(directory=tmp_path)


def test_a_copy_of_the_set_elsewhere_is_found_by_its_id(logged, moved):
    """A set that has another number in another place is the one that was logged, if it has its id."""
    versions = moved / ".hindcast/datasets/rides"
    (versions / "v1").rename(versions / "v4")
    found = logged.source.load(directory=versions.parent)
    assert ("rides@v4", logged.made.id) == (found.ref, found.id)


def test_a_digest_that_was_changed_in_the_store_proves_nothing(logged):
    """A source whose digest is another one than the manifest says is refused, and one that hindcast has not written as well."""
    with pytest.raises(NotProven, match="one of them was changed"):
        replace(logged.source, logical_digest="sha256:" + "0" * 64).load()
    with pytest.raises(DatasetError, match="'logical_digest'"):
        HindcastDatasetSource.from_dict({"ref": "rides@v1", "id": "x"})
    with pytest.raises(DatasetError, match="install a newer one"):
        HindcastDatasetSource.from_dict({"format": 2})


def test_without_mlflow_the_extra_is_named(logged, monkeypatch):
    """Where MLflow is not installed, logging says what to install."""
    monkeypatch.delitem(sys.modules, "hindcast.datasets.mlflow_dataset")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"pip install 'hindcast\[mlflow\]'"):
        logged.made.log_to_mlflow()


def test_importing_mlflow_costs_nothing_of_hindcast():
    """A process that imports MLflow gets the plug-in without a warning, and with it nothing of Hindcast but the plug-in itself."""
    script = """
import json, sys, warnings
warnings.simplefilter("error")
import mlflow.data
print(json.dumps([sorted(name for name in sys.modules if name.startswith("hindcast")), "duckdb" in sys.modules, "feast" in sys.modules]))
"""
    assert [["hindcast", "hindcast.datasets", "hindcast.datasets.mlflow_source"], False, False] == json.loads(
        run(script)
    )


def test_a_set_is_a_source_for_mlflow_and_a_path_is_not(logged):
    """MLflow resolves a training set to its source, and asks about a path or an address without Hindcast taking it."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source  # noqa: PLC0415 - a second, and two tests need it

    source = resolve_dataset_source(logged.made)
    assert logged.source == source
    assert [False, False] == [type(source)._can_resolve(raw) for raw in ("rides@v1", logged.made.path)]


def test_the_command_line_and_the_server_start_without_mlflow():
    """What `hindcast serve` imports as it starts, and the package of training sets, leave MLflow out."""
    script = """
import sys
import hindcast.cli.main, hindcast.datasets, hindcast.datasets.training_set, hindcast.serving.supervisor, hindcast.serving.worker
print([name for name in ("mlflow", "ruamel.yaml", "dvc") if name in sys.modules])
"""
    assert "[]" == run(script)
