"""Feast's offline store for Hindcast: `offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}`.

Joins and reads are Feast's own DuckDB plan so far, with its limits (docs/semantics.md lists them). What it adds: views
without entities, which Feast's DuckDB store cannot hand to materialization, and source paths that are relative to the repo
wherever the caller stands.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import ibis
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.repo_config import RepoConfig


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The `offline_store` block of `feature_store.yaml`; Feast's DuckDB settings mean the same here."""

    type: Literal["hindcast.offline.plugin.AsOfOfflineStore"] = "hindcast.offline.plugin.AsOfOfflineStore"


class AsOfOfflineStore(DuckDBOfflineStore):
    """Point-in-time reads on DuckDB."""

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig, data_source: DataSource, join_key_columns: list[str], *args: Any, **kwargs: Any
    ) -> RetrievalJob:
        """The newest row per key between two times; a view without entities has one key."""
        job = DuckDBOfflineStore.pull_latest_from_table_or_query(
            config, _at_repo(config, data_source), _stored(join_key_columns), *args, **kwargs
        )
        return _with_dummy_key(job, join_key_columns)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig, data_source: DataSource, join_key_columns: list[str], *args: Any, **kwargs: Any
    ) -> RetrievalJob:
        """Every row between two times."""
        job = DuckDBOfflineStore.pull_all_from_table_or_query(
            config, _at_repo(config, data_source), _stored(join_key_columns), *args, **kwargs
        )
        return _with_dummy_key(job, join_key_columns)

    @staticmethod
    def get_historical_features(
        config: RepoConfig, feature_views: Sequence[FeatureView], *args: Any, **kwargs: Any
    ) -> RetrievalJob:
        """Features of an entity frame (pandas), each as of its row's own time."""
        views = [_view_at_repo(config, view) for view in feature_views]
        return DuckDBOfflineStore.get_historical_features(config, views, *args, **kwargs)

    @staticmethod
    def offline_write_batch(config: RepoConfig, feature_view: FeatureView, *args: Any, **kwargs: Any) -> None:
        """Add rows to a view's source."""
        DuckDBOfflineStore.offline_write_batch(config, _view_at_repo(config, feature_view), *args, **kwargs)


def _at_repo(config: RepoConfig, source: DataSource) -> DataSource:
    """The source with an absolute path; Feast's DuckDB store takes a relative one from the working directory."""
    if not isinstance(source, FileSource) or config.repo_path is None:
        return source
    placed = copy.deepcopy(source)
    placed.file_options.uri = FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri)
    return placed


def _view_at_repo(config: RepoConfig, view: FeatureView) -> FeatureView:
    placed = copy.copy(view)
    if view.batch_source is not None:
        placed.batch_source = _at_repo(config, view.batch_source)
    return placed


def _stored(join_key_columns: list[str]) -> list[str]:
    """The join keys that are columns of the source: Feast's stand-in for no key is not."""
    return [key for key in join_key_columns if key != DUMMY_ENTITY_ID]


def _with_dummy_key(job: Any, join_key_columns: list[str]) -> RetrievalJob:
    if not _stored(join_key_columns):
        job.table = job.table.mutate(**{DUMMY_ENTITY_ID: ibis.literal(DUMMY_ENTITY_VAL)})
    return job
