"""Feast's offline store for Hindcast: `offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}`.

The one place of this room that imports Feast. `history` answers `get_historical_features`, `pulls` what materialization and saved data
sets read, `writes` what is appended to sources, and `reading` gives Feast's own plan the parts that stand beside a file.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from pydantic import Field

from hindcast.offline.plugin.history import historical_features
from hindcast.offline.plugin.pulls import pull_all, pull_latest
from hindcast.offline.plugin.writes import write_batch


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The `offline_store` block of `feature_store.yaml`; Feast's DuckDB settings mean the same here."""

    type: Literal["hindcast.offline.plugin.AsOfOfflineStore"] = "hindcast.offline.plugin.AsOfOfflineStore"

    storage_options: dict[str, str] = Field(default_factory=dict, repr=False)
    """For reaching sources that are not on this machine, by deltalake's names (docs/operations.md)."""


class AsOfOfflineStore(DuckDBOfflineStore):
    """Point-in-time reads on DuckDB."""

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row per key between two times; a view without entities has one key. Of no feature means of all columns."""
        return pull_latest(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row between two times. Of no feature means of all columns."""
        return pull_all(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: Sequence[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - Feast's interface
        filter_by_created_timestamp: bool = False,  # noqa: FBT001, FBT002
    ) -> RetrievalJob:
        """Features of an entity frame (pandas), each as of its row's own time."""
        return historical_features(
            config,
            feature_views,
            feature_refs,
            entity_df,
            registry,
            project,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's source, as a part of their own. Sources that are no Parquet files are Feast's.

        Raises:
            InvalidArgument: a column is missing, unknown, or of another type than the source's.
            StoreUnavailable: the disk did not take the rows.
        """
        write_batch(config, feature_view, table, progress)
