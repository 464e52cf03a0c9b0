"""Following a registry while it changes: what is new and whole is taken, what is torn is not."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hindcast.catalog.compile import compile_catalog
from hindcast.catalog.model import Catalog
from hindcast.catalog.registry import read_registry
from hindcast.catalog.repo import FileRegistry, OtherRegistry, Repo
from hindcast.errors import CatalogError
from hindcast.shadow.v1.registry_pb2 import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


class RegistryWatch:
    """Looks at a repo's registry again and again, and never takes less than what was there by accident.

    Feast's file registry is truncated and then written, without a lock: a reader can meet it empty, cut anywhere, or cut
    between two messages, where it parses and merely has less in it. Feast writes a project's own entry after its views and
    services, so a registry without that entry that lost something is a torn one.

    Attributes:
        catalog: the last good one.
        problem: why the registry as it is now is not taken; empty while it is.
        materialized: view -> end of its newest materialized interval, in microseconds since 1970; empty before the first look.
    """

    def __init__(self, repo: Repo, catalog: Catalog, *, when_new: Callable[[Catalog], None] | None = None) -> None:
        """Args: when_new is given each new catalog before it is the last good one."""
        self.catalog = catalog
        self.problem = ""
        self.materialized: Mapping[str, int] = {}
        self._repo = repo
        self._when_new = when_new
        self._seen: object = None

    @property
    def is_possible(self) -> bool:
        """Whether looking is cheap; a registry that only Feast can reach costs 7 s a look and is read at start only."""
        return not isinstance(self._repo.registry, OtherRegistry)

    def look(self) -> bool:
        """Look once; True if there is a new catalog. Blocks for some milliseconds."""
        state = self._state()
        if state is not None and state == self._seen:
            return False
        try:
            registry = read_registry(self._repo)
            catalog = compile_catalog(registry, project=self._repo.project, versioned=self._repo.online_versioning)
        except CatalogError as error:
            return self._keep(str(error))
        lost = _lost(self.catalog, catalog)
        if lost and not _is_whole(registry, self._repo, lost):
            return self._keep(f"it has lost {lost[0]!r} and is not whole; run `feast apply` again")
        if self.problem:
            logger.info("the registry can be read again")
        self.problem, self._seen = "", state
        self.materialized = _materialized(registry, catalog)
        changed = catalog.version != self.catalog.version
        if changed and self._when_new is not None:
            self._when_new(catalog)
        self.catalog = catalog
        return changed

    def _keep(self, problem: str) -> bool:
        if problem != self.problem:
            logger.error("the registry is not taken, the last good catalog is kept: %s", problem)
        self.problem = problem
        return False

    def _state(self) -> object:
        """What differs when the registry was written again; None where only reading it can tell."""
        if not isinstance(self._repo.registry, FileRegistry):
            return None
        try:
            stat = self._repo.registry.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _lost(before: Catalog, after: Catalog) -> list[str]:
    names = {*before.views, *before.on_demand_views, *before.services}
    return sorted(names - {*after.views, *after.on_demand_views, *after.unservable, *after.services})


def _materialized(registry: Registry, catalog: Catalog) -> dict[str, int]:
    of_views = [(view.spec.project, view.spec.name, view.meta) for view in registry.feature_views]
    of_views += [(view.spec.project, view.spec.name, view.meta) for view in registry.stream_feature_views]
    return {
        name: max(interval.end_time.ToMicroseconds() for interval in meta.materialization_intervals)
        for project, name, meta in of_views
        if project == catalog.project and name in catalog.views and meta.materialization_intervals
    }


def _is_whole(registry: Registry, repo: Repo, lost: Sequence[str]) -> bool:
    if not isinstance(repo.registry, FileRegistry):
        return True
    # What Feast writes after the project's entry: the versions of views.
    has_versions = registry.HasField("feature_view_version_history") or not any("@" in name for name in lost)
    return has_versions and any(project.spec.name == repo.project for project in registry.projects)
