"""Catalogs that are kept beside the records that name them."""

import contextlib
import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy

from hindcast.catalog import RegistryWatch, load_catalog, read_repo, registry
from hindcast.catalog.registry import read_registry
from hindcast.catalog.repo import SqlRegistry
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


@pytest.mark.parametrize("damage", [lambda stored: stored[:-1], lambda stored: stored.replace(b"driver", b"\xffriver")])
def test_a_damaged_catalog_is_said_to_be_damaged(repo, tmp_path, damage):
    """A file that was cut, or has bytes that are no text, is an error that names it, not a catalog with less in it."""
    catalog = load_catalog(repo)
    keep_catalog(tmp_path, catalog)
    (kept,) = (tmp_path / "catalogs").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))

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


def test_a_registry_that_is_being_written_is_read_when_it_is_whole(repo, monkeypatch):
    """Who loads a catalog while Feast has emptied the file, or written a part of it, is given the catalog that it writes."""
    path = repo.registry.path
    content, expected = path.read_bytes(), load_catalog(repo)
    for part in (b"", content[: len(content) // 2]):
        path.write_bytes(part)
        monkeypatch.setattr(registry.time, "sleep", lambda _seconds: path.write_bytes(content))
        assert expected == load_catalog(repo)


def test_a_service_is_read_with_its_views_while_they_are_applied(repo, tmp_path):
    """At whatever moment of reading a SQL registry a view and then a service of it are stored, no service lacks its view."""
    whole = read_registry(repo)
    tables = {
        "entities": [(one.spec.name, one) for one in whole.entities],
        "feature_views": [(one.spec.name, one) for one in whole.feature_views],
        "feature_services": [(one.spec.name, one) for one in whole.feature_services],
    }
    for moment in range(1, 8):
        sql = replace(repo, registry=SqlRegistry(f"sqlite:///{tmp_path}/{moment}.sqlite"))
        with contextlib.closing(sqlite3.connect(tmp_path / f"{moment}.sqlite")) as stored:
            for table, name, proto, _ in registry._SQL_TABLES:
                stored.execute(f"CREATE TABLE {table} ({name} TEXT, project_id TEXT, {proto} BLOB)")
            stored.execute(
                "CREATE TABLE feature_view_version_history "
                "(feature_view_name TEXT, project_id TEXT, version_number INT, feature_view_type TEXT, feature_view_proto BLOB)"
            )
        asked = []

        def apply_at_its_moment(*_args, moment=moment, asked=asked):
            asked.append(1)
            if len(asked) == moment:
                with contextlib.closing(sqlite3.connect(tmp_path / f"{moment}.sqlite")) as feast, feast:
                    for table, messages in tables.items():
                        rows = [(name, repo.project, message.SerializeToString()) for name, message in messages]
                        feast.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608 - constants

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", apply_at_its_moment)
        try:
            found = read_registry(sql)
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", apply_at_its_moment)
        views = {view.spec.name for view in found.feature_views}
        used = {projection.feature_view_name for one in found.feature_services for projection in one.spec.features}
        assert used & {view.spec.name for view in whole.feature_views} <= views
