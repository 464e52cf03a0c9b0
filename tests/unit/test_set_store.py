"""The directory of training sets: removals that were killed or raced, names that there are not, manifests that are damaged."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from hindcast.datasets.manifest import KnownAt, decoded
from hindcast.datasets.store import SetStore
from hindcast.errors import DatasetError, UnknownName
from manifests import make_manifest

FILES = 40


class ListedAndRemoved(SetStore):
    """A store where another process removes the newest version each time after the versions were listed, as long as it is to."""

    removes = 0

    def versions(self, name):
        """As they were before the removal."""
        listed = super().versions(name)
        if self.removes:
            self.removes -= 1
            SetStore(self.directory).remove(f"{name}@v{listed[-1]}")
        return listed


def published(store, name="a", *, manifest=None):
    """The next version of a set, with files in folders."""
    with store.building(name) as built:
        for folder in (built, built / "data", built / "data" / "_delta_log"):
            folder.mkdir(exist_ok=True)
            for number in range(FILES):
                (folder / f"{number}.parquet").write_bytes(b"x")
        return store.publish(name, built, manifest or make_manifest())


@pytest.fixture
def store(tmp_path):
    """Versions 1 to 3 of a set."""
    store = SetStore(tmp_path)
    for _ in range(3):
        published(store)
    return store


def killed(store, version):
    """Leave of a version what a removal leaves that is killed after the first files."""
    place = store.directory / "a"
    gone = place / f".v{version}.removed"
    (place / f"v{version}").rename(gone)
    (gone / "0.parquet").unlink()
    (gone / "elsewhere").symlink_to(store.directory)
    return gone


def test_a_list_removes_what_a_killed_removal_left(store):
    """The version is gone, its files too, and what a link in it leads to stays; its number stays taken."""
    gone = killed(store, 3)
    assert ["a@v1", "a@v2"] == [one.ref for one in store.all()]
    assert (True, []) == (gone.is_dir(), list(gone.iterdir()))
    assert "a@v4" == published(store).ref


def test_a_list_removes_what_is_left_of_a_set_without_versions(tmp_path):
    """A set whose only version was being removed is not listed, and nothing of it is left but its number."""
    store = SetStore(tmp_path)
    published(store)
    gone = killed(store, 1)
    assert ([], [], []) == (list(store.all()), list(gone.iterdir()), store.names())


@pytest.mark.parametrize("step", ["build", "remove"])
def test_the_next_step_on_a_set_removes_it_too(store, step):
    """A build of the name and a removal of another version do so as well."""
    gone = killed(store, 2)
    if step == "build":
        published(store)
    else:
        store.remove("a@v1")
    assert [] == list(gone.iterdir())


def test_lists_beside_a_removal(store):
    """Lists that tidy while versions are removed disturb neither, and list only whole versions."""

    def listed(_):
        return [one.ref for one in store.all()]

    with ThreadPoolExecutor(6) as pool:
        lists = [pool.submit(listed, number) for number in range(30)]
        removals = [pool.submit(store.remove, f"a@v{version}") for version in (1, 2)]
        lists += [pool.submit(listed, number) for number in range(30)]
        assert ["a@v1", "a@v2"] == [removal.result().ref for removal in removals]
        ends = {tuple(one.result()) for one in lists}
    v1, v2, v3 = "a@v1", "a@v2", "a@v3"
    assert set() == ends - {(v1, v2, v3), (v2, v3), (v1, v3), (v3,)}
    assert (v3,) == tuple(listed(0))
    left = [path for path in store.directory.rglob("*") if ".removed" in path.parent.name]
    assert [] == left


def test_one_version_is_removed_once(store):
    """Of several that remove one version one does, and the others are told that there is none."""

    def removed(_):
        try:
            return store.remove("a@v2").ref
        except UnknownName as error:
            return type(error)

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(removed, range(4)))
    assert (1, 3) == (ends.count("a@v2"), ends.count(UnknownName))


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("a@", "did you mean 'a@v3' or 'a@v2' or 'a@v1'?"),
        ("a@2", "did you mean 'a@v2'"),
        ("a@v9", "did you mean 'a@v3' or 'a@v2' or 'a@v1'?"),
        (f"a@v{'9' * 5000}", "there are a@v1, a@v2, a@v3"),
        ("../a@v1", "there are a"),
        ("b", "there are a"),
        ("", "there are a"),
    ],
)
def test_refs_that_there_are_not(store, ref, hint):
    """What is no set is told with what was meant, or what there is."""
    with pytest.raises(UnknownName, match=f"^training set .* does not exist; {re.escape(hint)}"):
        store.find(ref)


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(store):
    """A set, and a place of sets, that cannot be looked into are an error and not the answer that there are none."""
    (store.directory / "b").symlink_to("b")
    with pytest.raises(DatasetError, match="/b' cannot be read"):
        store.names()
    with pytest.raises(DatasetError, match="/b' cannot be read"):
        SetStore(store.directory / "b").names()


@pytest.mark.parametrize("micros", [2**62, -(2**62), 253_402_300_800_000_000])
def test_a_manifest_with_a_time_that_is_none_is_damaged(micros):
    """A manifest whose times are outside the years 1 to 9999 was not written by a build."""
    manifest = make_manifest()
    assert manifest.splits is not None
    assert manifest.lookups is not None
    for wrong in (
        replace(manifest, known_at=KnownAt(kind="time", micros=micros)),
        replace(manifest, splits=replace(manifest.splits, ends=(micros,))),
        replace(manifest, lookups=replace(manifest.lookups, since_micros=micros)),
        replace(manifest, lookups=replace(manifest.lookups, until_micros=micros)),
    ):
        with pytest.raises(DatasetError, match=r"^/m\.json is no manifest of a training set, or damaged"):
            decoded(wrong.encoded(), where="/m.json")


def test_a_version_that_is_removed_while_it_is_looked_for(store):
    """Who asks for a set is given the newest version that is left, and who asks for the removed one is told that there is none."""
    beside = ListedAndRemoved(store.directory)
    beside.removes = 2
    assert "a@v1" == beside.find("a").ref
    published(store)
    beside.removes = 1
    with pytest.raises(UnknownName):
        beside.find("a@v4")
    beside.removes = 1
    published(store)
    assert ["a@v1"] == [one.ref for one in beside.all()]
