"""A Feast registry as it is stored, read into shadow messages without importing Feast."""

import contextlib
import subprocess
import sys
import time

from google.protobuf.message import DecodeError

from hindcast.catalog.repo import FileRegistry, OtherRegistry, Repo, SqlRegistry
from hindcast.errors import CatalogError
from hindcast.shadow.v1.registry_pb2 import Registry

_SQL_TABLES = (
    ("feature_services", "feature_service_name", "feature_service_proto", "feature_services"),
    ("feature_views", "feature_view_name", "feature_view_proto", "feature_views"),
    ("stream_feature_views", "feature_view_name", "feature_view_proto", "stream_feature_views"),
    ("on_demand_feature_views", "feature_view_name", "feature_view_proto", "on_demand_feature_views"),
    ("label_views", "feature_view_name", "feature_view_proto", "label_views"),
    ("entities", "entity_name", "entity_proto", "entities"),
)
"""Table, name and definition columns of Feast's SQL registry (feast/infra/registry/sql.py), and where they go.

In the order in which they are read beside a `feast apply`, which writes views, then entities, then services, each by itself: a service
that is found has its views there by then.
"""

_SQL_VERSIONS = """\
SELECT feature_view_name, version_number, feature_view_type, feature_view_proto
FROM feature_view_version_history WHERE project_id = :project ORDER BY feature_view_name, version_number"""

_TRIES, _WAIT_SECONDS = 10, 0.02
"""`feast apply` and `feast materialize` write a registry of some megabytes in less than that."""


def read_registry(repo: Repo) -> Registry:
    """The repo's registry as it is now; a file registry can hold other projects too.

    Raises:
        CatalogError: it is missing, cannot be reached, or is not a registry.
    """
    registry = repo.registry
    if isinstance(registry, SqlRegistry):
        return _from_sql(registry, repo.project)
    stored = _exported(repo) if isinstance(registry, OtherRegistry) else _from_file(registry, repo)
    try:
        return Registry.FromString(stored)
    except DecodeError as error:
        raise CatalogError(
            f"the registry of project {repo.project!r} is damaged or half written; run `feast apply` again"
        ) from error


def read_whole_registry(repo: Repo) -> Registry:
    """As `read_registry`; of a file that Feast writes at this moment, what it is when it is written.

    Feast empties the file, writes it, and puts the project's own entry behind its views and services. One that stays without is read as it is
    after some tenths of a second.
    """
    if isinstance(repo.registry, FileRegistry) and repo.registry.path.exists():
        for _ in range(_TRIES):
            with contextlib.suppress(CatalogError):
                registry = read_registry(repo)
                if any(project.spec.name == repo.project for project in registry.projects):
                    return registry
            time.sleep(_WAIT_SECONDS)
    return read_registry(repo)


def _from_file(registry: FileRegistry, repo: Repo) -> bytes:
    try:
        return registry.path.read_bytes()
    except OSError as error:
        raise CatalogError(
            f"the registry {registry.path} does not exist or cannot be read. Run `feast apply` in {repo.root} first"
        ) from error


def _from_sql(registry: SqlRegistry, project: str) -> Registry:
    import sqlalchemy  # noqa: PLC0415 - 0.4 s that a file registry need not pay

    read = Registry()
    try:
        engine = sqlalchemy.create_engine(registry.url)
        with engine.connect() as connection:
            for table, name, definition, field in _SQL_TABLES:
                query = f"SELECT {definition} FROM {table} WHERE project_id = :project ORDER BY {name}"  # noqa: S608 - constants
                for (stored,) in connection.execute(sqlalchemy.text(query), {"project": project}):
                    if field == "on_demand_feature_views":
                        read.on_demand_feature_views.append(bytes(stored))
                    else:
                        added = getattr(read, field).add()
                        added.ParseFromString(bytes(stored))
                        # Feast's SQL registry keeps the project of an entity or service in its column alone.
                        added.spec.project = project
            versions = connection.execute(sqlalchemy.text(_SQL_VERSIONS), {"project": project})
            for name, number, kind, stored in versions:
                read.feature_view_version_history.records.add(
                    feature_view_name=name,
                    project_id=project,
                    version_number=number,
                    feature_view_type=kind,
                    feature_view_proto=bytes(stored),
                )
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ModuleNotFoundError, DecodeError) as error:
        raise CatalogError(
            "the SQL registry does not answer, has no tables yet, or needs a driver that is not installed; check "
            "`registry.path` and run `feast apply` first"
        ) from error
    return read


def _exported(repo: Repo) -> bytes:
    """A registry that only Feast can reach (object store, remote server), fetched by a child process that imports it."""
    child = subprocess.run(
        [sys.executable, "-m", "hindcast.catalog.export", str(repo.root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if child.returncode != 0:
        raise CatalogError(
            f"Feast cannot read the registry of project {repo.project!r} ({_last_line(child.stderr)}); "
            "check the `registry` block and that `feast apply` works here"
        )
    return child.stdout


def _last_line(printed: bytes) -> str:
    lines = printed.decode(errors="replace").strip().splitlines()
    return lines[-1].split(":", 1)[0] if lines else "no reason given"
