"""The catalog of a repo, compiled at most once per state of its registry."""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec

from hindcast.catalog.model import Catalog
from hindcast.catalog.repo import FileRegistry, OtherRegistry, Repo, SqlRegistry
from hindcast.errors import CatalogError
from hindcast.settings import state_dir

_FORMAT = 1
"""Raised by hand whenever `model.py` changes, so that no older cache file is read as a newer catalog."""

_KEPT = 8
"""Compiled catalogs kept per repo; each is a few kB, and going back to an earlier registry is then free."""

_SQL_TABLES = (
    ("entities", "entity_name", "entity_proto"),
    ("feature_views", "feature_view_name", "feature_view_proto"),
    ("stream_feature_views", "feature_view_name", "feature_view_proto"),
    ("on_demand_feature_views", "feature_view_name", "feature_view_proto"),
    ("label_views", "feature_view_name", "feature_view_proto"),
    ("feature_services", "feature_service_name", "feature_service_proto"),
)
"""Tables of Feast's SQL registry that a catalog is made from (feast/infra/registry/sql.py)."""


def load_catalog(repo: Repo) -> Catalog:
    """The repo's catalog: from the cache if the registry is as it was, else compiled by Feast in a child process.

    Raises:
        CatalogError: the registry is missing, cannot be read, or holds no feature views.
    """
    digest = registry_digest(repo)
    if digest is None:
        return decode_catalog(_compile(repo))
    cached = state_dir(repo.root) / "catalog" / f"{digest}.json"
    try:
        return decode_catalog(cached.read_bytes())
    except (OSError, CatalogError):
        compiled = _compile(repo)
    _keep(cached, compiled)
    return decode_catalog(compiled)


def registry_digest(repo: Repo) -> str | None:
    """Hex digest over the registry's state and the versions that read it; None where only Feast can read it.

    Raises:
        CatalogError: the registry is missing or cannot be read.
    """
    registry = repo.registry
    if isinstance(registry, OtherRegistry):
        return None
    state = hashlib.sha256(f"{_FORMAT}\0{version('hindcast')}\0{version('feast')}\0{repo.project}\0".encode())
    if isinstance(registry, FileRegistry):
        try:
            state.update(registry.path.read_bytes())
        except OSError as error:
            raise CatalogError(
                f"the registry {registry.path} does not exist or cannot be read. Run `feast apply` in {repo.root} first"
            ) from error
    else:
        _update_from_sql(state, registry, repo.project)
    return state.hexdigest()


def decode_catalog(encoded: bytes) -> Catalog:
    """The catalog that `hindcast.catalog.compile` encoded.

    Raises:
        CatalogError: these bytes are not a catalog.
    """
    try:
        return msgspec.json.decode(encoded, type=Catalog)
    except msgspec.DecodeError as error:
        raise CatalogError("the compiled catalog cannot be read; delete the `catalog` folder in .hindcast") from error


def encode_catalog(catalog: Catalog) -> bytes:
    """Canonical bytes of a catalog."""
    return msgspec.json.encode(catalog, order="sorted")


def _compile(repo: Repo) -> bytes:
    child = subprocess.run(
        [sys.executable, "-m", "hindcast.catalog.compile", str(repo.root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise CatalogError(lines[-1] if lines else f"the catalog compiler ended with exit code {child.returncode}")
    return child.stdout


def _keep(path: Path, compiled: bytes) -> None:
    """Put a compiled catalog into the cache whole or not at all; a repo on a read-only disk goes without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(compiled)
        Path(draft.name).replace(path)
        by_age = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in by_age[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def _update_from_sql(state: "hashlib._Hash", registry: SqlRegistry, project: str) -> None:
    import sqlalchemy  # noqa: PLC0415 - 0.4 s that a file registry need not pay

    try:
        engine = sqlalchemy.create_engine(registry.url)
        with engine.connect() as connection:
            for table, name, proto in _SQL_TABLES:
                rows = connection.execute(
                    sqlalchemy.text(f"SELECT {name}, {proto} FROM {table} WHERE project_id = :p ORDER BY {name}"),  # noqa: S608 - constants above
                    {"p": project},
                )
                for row_name, row_proto in rows:
                    state.update(f"{table}\0{row_name}\0".encode() + bytes(row_proto))
        engine.dispose()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise CatalogError(
            "the SQL registry does not answer or is empty; check `registry.path` and run `feast apply` first"
        ) from error
