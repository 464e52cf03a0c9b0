"""Sources by the name of their view, for callers that have no Feast object: what only Feast's definitions say, such as credentials."""

from pathlib import Path

from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException

from hindcast.errors import SourceError
from hindcast.offline.plugin.sources import pinned
from hindcast.offline.sources.source import DeltaTable, SourceFiles


def pinned_source_of(repo_root: Path, view: str) -> SourceFiles | DeltaTable:
    """The batch source of a view, by the definitions of now, as it is now.

    Raises:
        SourceError: the view is not there, has no batch source, or that cannot be read by this store.
    """
    store = FeatureStore(repo_path=str(repo_root))
    try:
        found = store.registry.get_any_feature_view(view, store.project)
    except FeastObjectNotFoundException as error:
        raise SourceError(f"the view {view!r} is not in the registry; run `feast apply`") from error
    source = getattr(found, "batch_source", None)
    if source is None:
        raise SourceError(f"the view {view!r} has no batch source")
    return pinned(store.config, source)
