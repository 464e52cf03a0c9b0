"""The stages of a training set in dvc.yaml: what they run and read, and what becomes of the rest of the file."""

import shlex
import sys
from dataclasses import replace

import pytest
import yaml

from hindcast.catalog import read_repo
from hindcast.datasets.definitions import definition_changes
from hindcast.datasets.dvc import pipeline, write_stages
from hindcast.datasets.manifest import KnownAt, SplitsRecord
from hindcast.errors import InvalidArgument
from manifests import make_manifest

THEIRS = """\
# The pipeline of team Red.
vars:
- params.yaml
stages:
  # Cleans what comes in.
  clean:
    cmd: python clean.py ${limit}   # quick
    deps: [raw.csv]
    outs:
    - clean.csv
plots:
- auc.csv
"""


@pytest.fixture
def root(tmp_path):
    """A Git and DVC repo with a Feast repo in it."""
    repo = tmp_path / "features"
    (repo / "data").mkdir(parents=True)
    (tmp_path / ".dvc").mkdir()
    (repo / "feature_store.yaml").write_text("project: rides\nregistry: data/registry.db\nprovider: local\n")
    return repo


def stages_of(root, *, base=None, **changed):
    """The two stages of a manifest that differs from the usual one, in the dvc.yaml of a directory, and what DVC does not see."""
    manifest = replace(make_manifest(), **{"delta_version": None, "lookups": None, "modules": None, **changed})
    made = pipeline(manifest, read_repo(root), file=(base or root) / "dvc.yaml")
    return *made.stages, made.unwatched


def options(stage):
    """The words of a stage's command after `hindcast dataset`."""
    return shlex.split(stage.command)[2:]


def with_source(**changed):
    """Definitions whose source is another one."""
    definitions = make_manifest().definitions
    (view,) = definitions.views
    return replace(definitions, views=(replace(view, source=replace(view.source, **changed)),))


def with_frame(**changed):
    """A frame that is another one."""
    return replace(make_manifest().frame, **changed)


def test_a_stage_builds_the_set_from_definitions_frame_and_sources(root):
    """The first stage reads the registry and writes definitions for Git, and the second builds the set with its options and its pinned time."""
    definitions, build, unwatched = stages_of(root)
    assert ("rides-definitions", ("feature_store.yaml", "data/registry.db"), False, False) == (
        definitions.name,
        definitions.deps,
        definitions.is_cached,
        definitions.is_always_run,
    )
    told = "definitions --features rides --to training_sets/rides.definitions.json"
    assert told.split() == options(definitions)
    expected = (
        "build rides --features rides --entities data/Fahrgäste.parquet --known-at 2026-03-01T12:00:00+00:00 --split train=80 --split test=20 "
        "--split-by driver --seed 7 --snapshot --no-git --no-register --dir training_sets"
    )
    assert expected.split() == options(build)
    assert ("training_sets/rides.definitions.json", "data/Fahrgäste.parquet", "data/trips.parquet") == build.deps
    assert (("training_sets/rides",), True, ()) == (build.outs, build.is_cached, unwatched)


TIMES = SplitsRecord(kind="time", names=("a", "b"), ends=(1_772_366_400_000_000,), rows=(1, 2))
WORDS = {
    "known by row": ({"known_at": KnownAt(kind="column", column="seen at")}, ["--known-at", "seen at"]),
    "known by own time": ({"known_at": KnownAt(kind="own")}, ["--known-at", "own"]),
    "splits by time": ({"splits": TIMES}, ["--split-at", "a=2026-03-01T12:00:00+00:00", "--split-at", "b"]),
    "listed features": ({"features": ("a:b", "c:d")}, ["--features", "a:b", "--features", "c:d"]),
    "SQL": ({"frame": with_frame(form="sql", text="SELECT '${x}'  AS a")}, ["--entities", "SELECT '\\${x}'  AS a"]),
    "all keys": ({"frame": with_frame(form="keys", text="2026-01-01/2026-02-01")}, ["--start", "2026-01-01", "--end"]),
    "all keys up to a time": ({"frame": with_frame(form="keys", text="/2026-02-01")}, ["--end", "2026-02-01"]),
}


@pytest.mark.parametrize("what", WORDS)
def test_every_way_to_ask_is_said_to_the_command(root, what):
    """Each option that a set was built with is an option of the command that DVC runs."""
    changed, expected = WORDS[what]
    words = options(stages_of(root, **changed)[1])
    assert expected in [words[at : at + len(expected)] for at in range(len(words))]


def test_paths_are_seen_from_where_dvc_yaml_is(root):
    """A dvc.yaml above the Feast repo names the repo, and its paths are from there; what is outside of the DVC repo has its whole path."""
    definitions, build, _ = stages_of(root, base=root.parent, definitions=with_source(path="/data/trips.parquet"))
    assert ("features/feature_store.yaml", "features/data/registry.db") == definitions.deps
    assert ["--repo", "features"] == options(definitions)[3:5]
    assert ("training_sets/rides.definitions.json", "features/data/Fahrgäste.parquet", "/data/trips.parquet") == (
        build.deps
    )
    assert "data/Fahrgäste.parquet" == options(build)[5]


SOURCES = {
    "a pattern": ({"path": "data/day=*/x-*.parquet"}, "data", ()),
    "a folder": ({"path": "data/trips"}, "data/trips", ()),
    "an address": ({"path": "s3://lake/trips"}, None, ("the source s3://lake/trips",)),
    "a database": ({"path": "rides.duckdb", "kind": "duckdb", "table": "trips"}, "rides.duckdb", ()),
}


@pytest.mark.parametrize("what", SOURCES)
def test_sources_on_this_machine_are_dependencies(root, what):
    """A source is watched by its file, its folder, or the folder that its pattern begins with, and one elsewhere is said to be unseen."""
    changed, path, unseen = SOURCES[what]
    _, build, unwatched = stages_of(root, definitions=with_source(**changed))
    assert (build.deps[2:], unwatched) == (() if path is None else (path,), unseen)


def test_parts_that_were_pushed_are_a_dependency(root):
    """The folder of parts beside a single file is watched as well."""
    (root / "data/trips.parquet.parts").mkdir()
    assert ("data/trips.parquet", "data/trips.parquet.parts") == stages_of(root)[1].deps[2:]


def test_modules_that_functions_import_are_dependencies(root):
    """The repo's modules that the functions of the set reach are watched as its sources are."""
    assert ("data/trips.parquet", "amounts.py") == stages_of(root, modules=make_manifest().modules)[1].deps[2:]


def test_a_registry_that_is_no_file_is_asked_each_time(root):
    """Where the registry is a database, the stage of the definitions always runs, and the other one runs if they have changed."""
    (root / "feature_store.yaml").write_text(
        "project: rides\nprovider: local\nregistry: {registry_type: sql, path: 'sqlite:///x.db'}\n"
    )
    definitions, build, _ = stages_of(root)
    assert (True, False, ("feature_store.yaml",)) == (definitions.is_always_run, build.is_always_run, definitions.deps)
    write_stages(root / "dvc.yaml", (definitions, build))
    written = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert [True, False] == ["always_changed" in written[name] for name in ("rides-definitions", "rides")]


@pytest.mark.parametrize("form", ["rows", "path"])
def test_a_frame_that_no_command_can_name_is_refused(root, form):
    """A set of rows in memory, or of a file that the command would not know, is refused, and it is said what to do."""
    with pytest.raises(InvalidArgument, match="build"):
        stages_of(root, frame=with_frame(form=form, text="data/labels.pq"))


def test_a_delta_table_is_refused(root):
    """The log of a Delta table has times, so that no two runs of a stage would be equal."""
    with pytest.raises(InvalidArgument, match="as Parquet"):
        stages_of(root, delta_version=0)


def test_a_set_of_lookups_is_refused(root):
    """DVC cannot watch a log that a server writes on, so there are no stages of a set of lookups, and it is said what to do instead."""
    with pytest.raises(InvalidArgument, match=r"was made of lookups.*DVC cannot watch; build it by"):
        stages_of(root, lookups=make_manifest().lookups)


def test_the_rest_of_the_file_stays(root):
    """Other stages, comments and the order of the file stay, and what is written reads as the stages are."""
    file = root / "dvc.yaml"
    file.write_text(THEIRS)
    definitions, build, _ = stages_of(root, frame=with_frame(form="sql", text="SELECT *\nFROM 'x'  -- # all"))
    assert True is write_stages(file, (definitions, build))
    text = file.read_text()
    ours = text[text.index("  rides-definitions:") : text.index("plots:")]
    assert THEIRS == text.replace(ours, "")
    stages = yaml.safe_load(text)["stages"]
    assert ["clean", "rides-definitions", "rides"] == list(stages)
    assert {"cmd": build.command, "deps": list(build.deps), "outs": list(build.outs)} == stages["rides"]


def test_writing_twice_changes_nothing(root):
    """The same stages a second time leave the file as it is, to the byte and to its time."""
    file = root / "dvc.yaml"
    file.write_text(THEIRS)
    stages = stages_of(root)[:2]
    write_stages(file, stages)
    before = file.stat().st_mtime_ns, file.read_bytes()
    assert (False, before) == (write_stages(file, stages), (file.stat().st_mtime_ns, file.read_bytes()))
    assert ["dvc.yaml"] == [path.name for path in root.glob("*dvc*")]


def test_a_stage_is_brought_up_to_date(root):
    """A stage that is there gets the new command, and keeps what the user has added to it."""
    file = root / "dvc.yaml"
    write_stages(file, stages_of(root)[:2])
    text = file.read_text().replace("  rides:\n", "  rides:\n    desc: For the model.  # ours\n")
    file.write_text(text.replace("    - training_sets/rides\n", "    - training_sets/rides:\n        remote: lake\n"))
    _, build, _ = stages_of(root, known_at=KnownAt(kind="own"))
    assert True is write_stages(file, (build,))
    kept = yaml.safe_load(file.read_text())["stages"]["rides"]
    assert (build.command, "For the model.", [{"training_sets/rides": {"remote": "lake"}}]) == (
        kept["cmd"],
        kept["desc"],
        kept["outs"],
    )
    assert "# ours" in file.read_text()


WRONG = {
    "a stage of the user's": "stages:\n  rides:\n    cmd: python rides.py\n",
    "a stage of another command": "stages:\n  rides:\n    cmd: hindcast dataset verify rides\n",
    "a stage for each": "stages:\n  rides:\n    foreach: [1]\n    do: {cmd: x}\n",
    "no YAML": "stages: [",
    "a list": "- stages\n",
    "stages that are a list": "stages: [a]\n",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_stage_of_ours_is_left_alone(root, what):
    """A file that has a stage of that name, or is no dvc.yaml, is refused and stays as it is."""
    file = root / "dvc.yaml"
    file.write_text(WRONG[what])
    with pytest.raises(InvalidArgument):
        write_stages(file, (stages_of(root)[1],))
    assert WRONG[what] == file.read_text()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "stages:\n", "stages: {}\n"])
def test_a_file_without_stages_gets_them(root, text):
    """A dvc.yaml that is empty, or has no stages so far, gets the stages."""
    file = root / "dvc.yaml"
    file.write_text(text)
    stages = stages_of(root)[:2]
    write_stages(file, stages)
    assert [stage.name for stage in stages] == list(yaml.safe_load(file.read_text())["stages"])
    assert file.read_text().startswith(text if text.startswith("#") else "stages:")


def test_without_ruamel_the_extra_is_named(root, monkeypatch):
    """Where ruamel.yaml is not installed, nothing is written, and it is said what to install."""
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(InvalidArgument, match="dvc extra"):
        write_stages(root / "dvc.yaml", stages_of(root)[:2])
    assert not (root / "dvc.yaml").exists()


def test_definitions_as_text_change_with_what_they_mean():
    """The text of definitions is the same for the same ones, and another one when anything is that a rebuild would name."""
    before = make_manifest().definitions
    (function,) = before.on_demand
    others = [
        with_source(path="elsewhere.parquet"),
        replace(before, on_demand=(replace(function, code="def checks(inputs): return 1\n"),)),
        replace(before, on_demand=(replace(function, spec="b3RoZXI="),)),
    ]
    assert before.as_text() == make_manifest().definitions.as_text()
    assert [True] * 3 == [bool(list(definition_changes(before, after))) for after in others]
    assert 4 == len({before.as_text(), *(after.as_text() for after in others)})
    assert "c3BlYw==" not in before.as_text()
