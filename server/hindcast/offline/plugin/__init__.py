"""Feast's offline store for Hindcast: `offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}`.

This package and `offline.spark` are the places of this room that import Feast. `history` answers `get_historical_features`, `pulls` what materialization, saved data sets and
logs are read with, `writes` what is appended to sources and logs, and `monitoring` Feast's figures about columns. `jobs` is what Feast gets
for a read, `sources` what a Feast data source is here, and `times` what a caller's time is.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from pydantic import Field, PositiveInt

from hindcast.errors import HindcastError
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.history import Call, HistoricalJob, historical_features
from hindcast.offline.plugin.monitoring import keep_metrics, kept_files, newest_time, source_metrics
from hindcast.offline.plugin.pulls import Pull, pull_all, pull_latest
from hindcast.offline.plugin.sources import column_of, columns_of, pinned
from hindcast.offline.plugin.writes import write_batch, write_logs

_logger = logging.getLogger(__name__)


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The `offline_store` block of `feature_store.yaml`; Feast's DuckDB settings mean the same here."""

    type: Literal["hindcast.offline.plugin.AsOfOfflineStore"] = "hindcast.offline.plugin.AsOfOfflineStore"

    memory_limit_mb: PositiveInt = 2_048
    """What a read holds at most, about; what does not fit is spilled to the repo's state directory, or read in several passes."""

    threads: PositiveInt | None = None
    """Of DuckDB. Unset: one per core."""

    storage_options: dict[str, str] = Field(default_factory=dict, repr=False)
    """For reaching sources that are not on this machine, by deltalake's names (docs/operations.md)."""


class AsOfOfflineStore(DuckDBOfflineStore):
    """Point-in-time reads on DuckDB. Of Feast's DuckDB store it takes the names of its settings and the form of its monitoring files."""

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None,
        end_date: datetime | None,
    ) -> RetrievalJob:
        """The newest row per key between two times, by the total order; a view without entities has one key.

        Of no feature means of all columns. Columns may go by the source's names or, where it maps them, by the view's.
        """
        return pull_latest(
            config,
            Pull(
                source=data_source,
                keys=join_key_columns,
                features=feature_name_columns,
                event=timestamp_field,
                created=created_timestamp_column,
                start=start_date,
                end=end_date,
            ),
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
        """Every row between two times, in the order of the source; an end that is not given is open.

        Of no feature means of all columns. Columns may go by the source's names or, where it maps them, by the view's.
        """
        return pull_all(
            config,
            Pull(
                source=data_source,
                keys=join_key_columns,
                features=feature_name_columns,
                event=timestamp_field,
                created=created_timestamp_column,
                start=start_date,
                end=end_date,
            ),
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
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> HistoricalJob:
        """Features of an entity frame, each as of its row's own time (docs/semantics.md, "Point in time").

        Args:
            entity_df: a pandas or Polars frame, Arrow data, a Parquet path, or SQL text; None for all keys that have rows between
                `start_date` and `end_date`, both closed.
            filter_by_created_timestamp: only rows that were known by each row's own time are seen.
        """
        asked = Call(
            config=config,
            views=feature_views,
            refs=feature_refs,
            entity_df=entity_df,
            full_feature_names=full_feature_names,
            start_date=start_date,
            end_date=end_date,
            is_known_by_as_of=filter_by_created_timestamp,
        )
        return historical_features(asked, registry=registry, project=project)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's source, and write nothing anew: Parquet as parts of their own, Delta as one commit.

        Raises:
            InvalidArgument: a column is missing, unknown, or of another type than the source's.
            NotWritable: the source is a pattern, elsewhere, a database, or of another format.
            StoreUnavailable: the disk did not take the rows.
        """
        write_batch(config, feature_view, table, progress)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append logs to their destination, a directory, as parts of their own: one, or one for each folder of `partition_by`.

        Args:
            data: the logs, or a directory (or file) of Parquet that holds them.
        Raises:
            InvalidArgument: the logs have no time, a column of another type, or none that `partition_by` names.
            NotWritable: the destination is a pattern, elsewhere, or of another kind.
            StoreUnavailable: the disk did not take the rows.
        """
        write_logs(config, data, source, logging_config, registry)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Warn in the log of a source that cannot be read, or that lacks its time columns; `feast apply` goes on.

        Sources may be written after they are declared, so nothing is refused here.
        """
        if not isinstance(data_source, FileSource | DuckDBSource):
            super().validate_data_source(config, data_source)
            return
        try:
            if isinstance(data_source, DuckDBSource):
                data_source.validate(config)
                return
            schema = columns_of(pinned(config, data_source))
        except HindcastError as error:
            _logger.warning("%s", error)
            return
        for name in (data_source.timestamp_field, data_source.created_timestamp_column):
            if name and column_of(name, schema, data_source) not in schema.names:
                _logger.warning(
                    "the source %r has no column %r, only %s; check its timestamp columns",
                    data_source.name,
                    name,
                    schema.names,
                )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of a source and their Arrow types as text, those that its folders name among them.

        Raises:
            SourceError: it cannot be read.
        """
        if not isinstance(data_source, FileSource):
            return list(super().get_table_column_names_and_types_from_data_source(config, data_source))
        return [(field.name, str(field.type)) for field in columns_of(pinned(config, data_source))]

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Feast's figures about columns of a source between two times, numeric ones first. NaN and infinities count as nulls.

        Raises:
            SourceError: the source cannot be read, or the interval has more rows than memory takes.
        """
        return source_metrics(
            config,
            data_source,
            feature_columns,
            timestamp_field,
            start_date,
            end_date,
            histogram_bins=histogram_bins,
            top_n=top_n,
        )

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """The greatest event time of a source; None where there is none."""
        return newest_time(config, data_source, timestamp_field)

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Make the files that keep figures, where they are missing."""
        with kept_files(config) as kept:
            DuckDBOfflineStore.ensure_monitoring_tables(kept)

    @staticmethod
    def save_monitoring_metrics(config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]) -> None:
        """Keep figures; those of the same column, day and granularity are replaced."""
        keep_metrics(config, metric_type, metrics)

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        """Mark kept figures as no baseline any more."""
        with kept_files(config) as kept:
            DuckDBOfflineStore.clear_monitoring_baseline(
                kept, project, feature_view_name, feature_name, data_source_type
            )
