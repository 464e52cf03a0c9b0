"""Catalogs that are kept beside the records that name them."""

import pytest

from hindcast.catalog import RegistryWatch, load_catalog, read_repo
from hindcast.errors import StoredDataError
from hindcast.lookups.catalogs import keep_catalog, kept_catalog
from hindcast.serving.supervisor import KeptCatalogs
from integration.crowded_repo import make_crowded_repo


@pytest.fixture
def repo(tmp_path):
    """A repo with one of everything, on-demand views too."""
    return read_repo(make_crowded_repo(tmp_path / "repo", "127.0.0.1:1"))


def test_a_kept_catalog_is_the_one_that_was_served(repo, tmp_path):
    """Whatever a catalog holds is read back from its file, and a file that is there is not written again."""
    catalog = load_catalog(repo)
    keep_catalog(tmp_path, catalog)
    (kept,) = (tmp_path / "catalogs").iterdir()
    written = kept.stat().st_mtime_ns
    keep_catalog(tmp_path, catalog)

    assert catalog == kept_catalog(tmp_path, catalog.version)
    assert (f"{catalog.version.removeprefix('sha256:')}.json", written) == (kept.name, kept.stat().st_mtime_ns)
    assert kept_catalog(tmp_path, "sha256:0") is None


def test_a_damaged_catalog_is_said_to_be_damaged(repo, tmp_path):
    """A file that was cut is an error that names it, not a catalog with less in it."""
    catalog = load_catalog(repo)
    keep_catalog(tmp_path, catalog)
    (kept,) = (tmp_path / "catalogs").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])

    with pytest.raises(StoredDataError, match=f"{kept.name} is damaged"):
        kept_catalog(tmp_path, catalog.version)


def test_a_catalog_that_cannot_be_kept_is_served_and_tried_again(repo, tmp_path, caplog):
    """The log says so once, nothing is raised, and the next attempt keeps it."""
    catalog = load_catalog(repo)
    (tmp_path / "log").touch()
    catalogs = KeptCatalogs(tmp_path / "log")
    catalogs.keep(catalog)
    catalogs.keep(catalog)
    (tmp_path / "log").unlink()
    catalogs.keep(catalog)

    assert 1 == len(caplog.messages)
    assert "cannot be kept" in caplog.messages[0]
    assert catalog == kept_catalog(tmp_path / "log", catalog.version)


def test_a_new_catalog_is_handed_over_before_it_is_in_force(repo):
    """Whoever keeps a registry's catalogs gets each before the watch says that it is the last good one."""
    seen = []
    first = load_catalog(repo)
    watch = RegistryWatch(repo, first, when_new=lambda catalog: seen.append((watch.catalog.version, catalog.version)))
    assert not watch.look()
    path = repo.root / "registry.db"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"weight", b"height"))

    assert watch.look()
    assert [(first.version, watch.catalog.version)] == seen
