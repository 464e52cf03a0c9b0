"""`get_historical_features`."""

from collections.abc import Sequence
from typing import Any

from feast import FeatureView
from feast.infra.offline_stores.duckdb import _validate_lance_feature_views
from feast.infra.offline_stores.ibis import get_historical_features_ibis
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from hindcast.offline.plugin.reading import ways


def historical_features(
    config: RepoConfig,
    feature_views: Sequence[FeatureView],
    feature_refs: list[str],
    entity_df: Any,
    registry: BaseRegistry,
    project: str,
    *,
    full_feature_names: bool,
    filter_by_created_timestamp: bool,
) -> RetrievalJob:
    """Features of an entity frame, each as of its row's own time."""
    _validate_lance_feature_views(feature_views)
    return get_historical_features_ibis(
        config=config,
        feature_views=feature_views,
        feature_refs=feature_refs,
        entity_df=entity_df,
        registry=registry,
        project=project,
        full_feature_names=full_feature_names,
        filter_by_created_timestamp=filter_by_created_timestamp,
        **ways(config),
    )
