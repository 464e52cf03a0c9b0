"""Code that functions of on-demand views import from their repo: pinned in manifests, and named by a rebuild."""

import json
import shutil

import pytest
import yaml

import hindcast_client
from commands import feast_command
from dataset_repo import TRIPS, frame
from hindcast.cli.dataset_text import rebuild_text
from hindcast.datasets import TrainingSets
from hindcast.errors import TransformError
from hindcast_client import Client
from imported_code import AMOUNTS, SCALES, make_repo, write_modules
from manifest_edits import encoded
from offline_repo import hours, trips, write
from services import run_hindcast, run_redis, run_training_sets, wait_for

VIEWS = ("by_pickle", "by_text")
PATHS = ["amounts.py", "scales/__init__.py", "scales/linear.py"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repo with a set of its view; tests copy it."""
    root = tmp_path_factory.mktemp("imported") / "repo"
    make_repo(root, by_command=True)
    TrainingSets(root).build("scaled", features="scaled", entity_frame=frame(), known_at=hours(24))
    return root


@pytest.fixture
def repo(built, tmp_path):
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "repo")


def values_of(made):
    """What both functions gave."""
    rows = made.to_arrow()
    return [rows[name].to_pylist() for name in ("inside", "outside")]


def first_of(report):
    """What a rebuild names first."""
    change = report.first_change
    return change.kind, change.name, change.what, change.has_effect


def test_modules_that_a_function_reaches_are_pinned(repo):
    """A manifest has the files of the modules that a function imports, of their packages and of what these import, with the view."""
    modules = TrainingSets(repo).get("scaled").manifest.modules
    assert [(path, VIEWS) for path in PATHS] == [(one.path, one.views) for one in modules]


def test_the_values_are_of_the_code_that_was_pinned(repo):
    """A build after an edit, in one process, has the values of the edited code."""
    sets = TrainingSets(repo)
    assert [[2.0, 4.0, 6.0, 8.0, 10.0]] * 2 == values_of(sets.get("scaled"))
    write_modules(repo, amounts="FACTOR = 100\n")
    made = sets.build("scaled", features="scaled", entity_frame=frame(), known_at=hours(24))
    assert [[100.0, 200.0, 300.0, 400.0, 500.0]] * 2 == values_of(made)


@pytest.mark.parametrize("as_recorded", [False, True])
def test_an_edited_module_is_named(repo, as_recorded):
    """A rebuild names the module that was edited, however far the function is from it, with the cells that it changed."""
    sets = TrainingSets(repo)
    assert (True, ()) == ((report := sets.rebuild("scaled", as_recorded=as_recorded)).identical, report.changes)
    write_modules(repo, amounts="FACTOR = 100\n")
    report = sets.rebuild("scaled", as_recorded=as_recorded)
    assert ("module", "amounts.py", "changed", True) == first_of(report)
    assert ({"inside": 5, "outside": 5}, {"code": 10}) == (report.first_change.columns, report.first_change.reasons)
    assert "module amounts.py was changed (imported by by_pickle, by_text)" in rebuild_text(report)


def test_an_edit_that_changes_nothing_is_without_effect(repo):
    """A comment more is told, and the set is identical."""
    write_modules(repo, scales=f"# The scale.\n{SCALES}")
    report = TrainingSets(repo).rebuild("scaled")
    assert (True, ("module", "scales/linear.py", "changed", False)) == (report.identical, first_of(report))


def test_a_module_that_is_gone_is_named(repo):
    """Where nothing can be made because a module is gone, the rebuild names it, and says what cannot be imported."""
    (repo / "amounts.py").unlink()
    sets = TrainingSets(repo)
    report = sets.rebuild("scaled")
    assert (False, ("module", "amounts.py", "removed", None)) == (report.identical, first_of(report))
    assert "imports amounts, which cannot be imported here" in report.trouble
    with pytest.raises(TransformError, match="imports amounts, which cannot be imported"):
        sets.build("scaled", features="scaled", entity_frame=frame())


def test_a_module_that_came_is_named(repo):
    """A module that an edited one imports now is told beside it."""
    (repo / "more.py").write_text("MORE = 1\n")
    write_modules(repo, amounts=f"import more\n\n{AMOUNTS}")
    changes = TrainingSets(repo).rebuild("scaled").changes
    assert [("amounts.py", "changed"), ("more.py", "added")] == [(one.name, one.what) for one in changes]


def test_a_module_and_a_source_are_told_apart(repo):
    """Where a source's file and a module were changed, computed cells are put down to the module and others to the file."""
    write_modules(repo, amounts="FACTOR = 100\n")
    write(repo / "data/trips.parquet", trips((1, 0, 11), *TRIPS[1:]))
    changes = TrainingSets(repo).rebuild("scaled").changes
    assert [("source", {"trips": 1}), ("module", {"inside": 5, "outside": 5})] == [
        (one.kind, one.columns) for one in changes
    ]


def test_of_several_files_beside_a_module_the_one_that_answered_is_named(repo):
    """A part that changed nothing, the file that did and an edited module have each what they did, and the reason."""
    write(repo / "data/trips.parquet.parts/1.parquet", trips((9, 0, 1)))
    sets = TrainingSets(repo)
    sets.build("parts", features="scaled", entity_frame=frame(), known_at=hours(24))
    write(repo / "data/trips.parquet", trips(*TRIPS, (9, 9, 9)))
    write(repo / "data/trips.parquet.parts/1.parquet", trips((9, 0, 1), (4, 0, 5)))
    write_modules(repo, amounts="FACTOR = 2  # as before\n")
    found = [(one.name, dict(one.columns), dict(one.reasons)) for one in sets.rebuild("parts").changes]
    expected = [
        ("data/trips.parquet.parts/1.parquet", {"trips": 1}, {"late row": 1}),
        ("data/trips.parquet", {}, {}),
        ("amounts.py", {}, {}),
    ]
    assert expected == found


def test_a_module_that_gives_another_type_is_named_for_it(repo):
    """Columns whose type is another one because of a module are put down to it, with all of their rows."""
    linear = repo / "scales/linear.py"
    linear.write_text(linear.read_text().replace("[one * FACTOR", "[str(one * FACTOR)"))
    (change,) = TrainingSets(repo).rebuild("scaled").changes
    assert ("module", "scales/linear.py", {"inside": 5, "outside": 5}) == (change.kind, change.name, change.columns)
    assert 10 == change.reasons["other type"]


def test_a_set_without_such_pins_is_verified_and_made_again(repo):
    """A manifest of a version that pinned no modules is intact, and a changed module is named by its effect."""
    sets = TrainingSets(repo)
    place = sets.get("scaled").path / "manifest.json"
    said = json.loads(place.read_bytes())
    del said["modules"]
    place.write_bytes(encoded(said))
    assert (None, ()) == (sets.get("scaled").manifest.modules, sets.verify("scaled").problems)
    assert True is sets.rebuild("scaled").identical
    write_modules(repo, amounts="FACTOR = 100\n")
    assert ("unknown", True) == first_of(sets.rebuild("scaled"))[::3]


def test_two_sets_differ_by_the_module(repo):
    """The difference of two sets has the module among what they were made of."""
    sets = TrainingSets(repo)
    write_modules(repo, amounts="FACTOR = 100\n")
    sets.build("scaled", features="scaled", entity_frame=frame(), known_at=hours(24))
    found = sets.diff("scaled@v1", "scaled@v2")
    assert [("module", "amounts.py", "changed")] == [(one.kind, one.name, one.what) for one in found.inputs]


def test_a_server_that_goes_on_running_names_the_same(repo):
    """Through a server that has imported the module, a rebuild names its edit, a build has the values of the edited code, and `verify` names a field."""
    with run_training_sets(repo) as server, hindcast_client.TrainingSets(server.address) as sets:
        assert (True, ()) == ((report := sets.rebuild("scaled")).identical, report.changes)
        write_modules(repo, amounts="FACTOR = 100\n")
        assert ("module", "amounts.py", "changed", True) == first_of(sets.rebuild("scaled"))
        made = sets.build("again", features="scaled", entity_frame=frame())
        assert [[100.0, 200.0, 300.0, 400.0, 500.0]] * 2 == values_of(made)
        place = repo / ".hindcast/datasets/again/v1/manifest.json"
        said = json.loads(place.read_bytes())
        said["statistics"][0]["nulls"] = 7
        place.write_bytes(encoded(said))
        assert ("statistics[0].nulls (column driver_id) is 7, and of the rows 0",) == sets.verify("again").problems


def test_what_is_served_is_of_the_repo_s_modules(repo):
    """A server imports what its functions import, and after `feast apply` it imports what was edited anew."""
    with run_redis() as redis:
        config = yaml.safe_load((repo / "feature_store.yaml").read_text())
        config["online_store"] = {
            "type": "hindcast.online.plugin.PackedRedisOnlineStore",
            "connection_string": redis.connection_string,
        }
        (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
        with run_hindcast(repo, "--workers", "1") as server, Client(server.address) as client:
            version = client.get_server_info().catalog_version
            assert [[2.0, 4.0]] * 2 == served(client)
            write_modules(repo, amounts="FACTOR = 100\n")
            with (repo / "scaled_features.py").open("a") as file:
                file.write('\nagain = FeatureService(name="again", features=[view])\n')
            feast_command(repo, "apply", "--skip-source-validation")
            wait_for(lambda: version != client.get_server_info().catalog_version)
            assert [[100.0, 200.0]] * 2 == served(client)


def served(client):
    """What both functions give a caller."""
    answer = client.get_online_features(
        features=["by_text:inside", "by_pickle:outside"], entities={}, request_data={"amount": [1.0, 2.0]}
    )
    columns = answer.to_dict()
    return [columns["inside"], columns["outside"]]
