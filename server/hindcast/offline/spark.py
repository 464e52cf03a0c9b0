"""Feast's Spark offline store for repos of files: `offline_store: {type: hindcast.offline.spark.SparkOfflineStore}`.

Joins are Feast's own SQL (its `type: spark`), and mean what Feast's SQL means; docs/scale.md lists where that is not docs/semantics.md. Feast's
store refuses every source but its own SparkSource. This one hands it each FileSource as a table of the Spark session, pushed parts included, so
that a repo changes its `offline_store` block and nothing else. It also reads views without entities, keeps the session's times in UTC, and saves
data sets as files.

The one module that imports pyspark: the extra `spark` (docs/decisions/0024-spark-for-scale.md).
"""

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pyarrow as pa
from feast import FeatureView, FileSource
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStore as FeastStore
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStoreConfig as FeastStoreConfig
from feast.infra.offline_stores.contrib.spark_offline_store.spark import (
    SparkRetrievalJob,
    get_spark_session_or_start_new_with_repoconfig,
)
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SavedDatasetSparkStorage, SparkSource
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from pydantic import Field, field_validator
from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

from hindcast.errors import NotWritable, SourceError
from hindcast.offline.location import local_path, parts_directory
from hindcast.offline.plugin import AsOfOfflineStore
from hindcast.offline.plugin.pulls import stored_keys

_TIME_ZONE = "spark.sql.session.timeZone"
_UTC = {"UTC", "Etc/UTC", "Z", "+00:00", "GMT", "Etc/GMT"}
_VIEWS = "hindcast_"
"""How the names of our views of a session begin."""


class SparkOfflineStoreConfig(FeastStoreConfig):
    """The `offline_store` block of `feature_store.yaml`; Feast's Spark settings mean the same here."""

    type: Literal["hindcast.offline.spark.SparkOfflineStore"] = "hindcast.offline.spark.SparkOfflineStore"

    spark_conf: dict[str, str] | None = Field(default=None, validate_default=True)
    """Of the session, if this process has none yet."""

    @field_validator("spark_conf")
    @classmethod
    def _in_utc(cls, given: dict[str, str] | None) -> dict[str, str]:
        return {_TIME_ZONE: "UTC", **(given or {})}


class SparkOfflineStore(FeastStore):
    """Point-in-time reads on Spark, from the files that `AsOfOfflineStore` reads."""

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
        """The newest row per key between two times; a view without entities has one key."""
        placed = _on_spark(config, data_source, keyless=not stored_keys(join_key_columns))
        job = FeastStore.pull_latest_from_table_or_query(
            config=config,
            data_source=placed,
            join_key_columns=stored_keys(join_key_columns) or [DUMMY_ENTITY_ID],
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
        )
        _drop_with(job, [placed], session=_session(config))
        return job

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
        placed = _on_spark(config, data_source, keyless=not stored_keys(join_key_columns))
        job = FeastStore.pull_all_from_table_or_query(
            config=config,
            data_source=placed,
            join_key_columns=stored_keys(join_key_columns) or [DUMMY_ENTITY_ID],
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
        )
        _drop_with(job, [placed], session=_session(config))
        return job

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
        **kwargs: Any,
    ) -> RetrievalJob:
        """Features of an entity frame (pandas, Spark, or text of Spark's SQL), each as of its row's own time."""
        views = [_view_on_spark(config, view) for view in feature_views]
        job = FeastStore.get_historical_features(
            config=config,
            feature_views=views,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
            **kwargs,
        )
        saving = _FileSavingJob(
            spark_session=job.spark_session,
            query=job.query,
            full_feature_names=job.full_feature_names,
            config=config,
            on_demand_feature_views=job.on_demand_feature_views,
            metadata=job.metadata,
        )
        _drop_with(saving, [view.batch_source for view in views], session=job.spark_session)
        return saving

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's source as `AsOfOfflineStore` does: as a part of their own.

        Raises:
            NotWritable: the source is not a Parquet FileSource on this machine.
            InvalidArgument: a column is missing, unknown, or of another type than the source's.
            StoreUnavailable: the disk did not take the rows.
        """
        source = feature_view.batch_source
        if not isinstance(source, FileSource) or _is_delta(source) or _path(config, source) is None:
            raise NotWritable(
                f"the source of view {feature_view.name!r} is not a Parquet FileSource on this machine, and rows are appended to no "
                "other here; write to it with Spark itself"
            )
        AsOfOfflineStore.offline_write_batch(config, feature_view, table, progress)

    @staticmethod
    def compute_monitoring_metrics(config: RepoConfig, data_source: DataSource, *args: Any, **kwargs: Any) -> Any:
        """Feast's statistics of a source's columns."""
        with _held_on_spark(config, data_source) as placed:
            return FeastStore.compute_monitoring_metrics(config, placed, *args, **kwargs)

    @staticmethod
    def get_monitoring_max_timestamp(config: RepoConfig, data_source: DataSource, timestamp_field: str) -> Any:
        """The newest event time of a source."""
        with _held_on_spark(config, data_source) as placed:
            return FeastStore.get_monitoring_max_timestamp(config, placed, timestamp_field)


class _FileSavingJob(SparkRetrievalJob):
    """Feast's job, which besides SavedDatasetSparkStorage also takes the storage that a repo of files has."""

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool | None = False,  # noqa: FBT001, FBT002 - Feast's interface
        timeout: int | None = None,
    ) -> None:
        """Write the result to a folder of Parquet files; relative paths begin at the repo. On-demand features are not in it."""
        if isinstance(storage, SavedDatasetFileStorage):
            path = FileSource.get_uri_for_file_path(self._config.repo_path, storage.file_options.uri)
            storage = SavedDatasetSparkStorage(path=path, file_format="parquet")
        super().persist(storage, allow_overwrite=allow_overwrite, timeout=timeout)


def _view_on_spark(config: RepoConfig, view: FeatureView) -> FeatureView:
    placed = copy.copy(view)
    placed.batch_source = _on_spark(config, view.batch_source)
    # Feast's stand-in for no key is a column neither of the source nor of the entity frame.
    placed.entity_columns = [column for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    return placed


def _on_spark(config: RepoConfig, source: DataSource, *, keyless: bool = False) -> DataSource:
    """A FileSource as a view of the session, over its file and the parts that were appended to it; any other source as it is.

    Args:
        keyless: add the column that stands for no key, which Feast then reads as if it were the source's.
    Raises:
        SourceError: the session's time zone is not UTC.
    """
    session = _session(config)
    if not isinstance(source, FileSource):
        return source
    path = _path(config, source)
    paths = [source.file_options.uri] if path is None else [str(path)]
    if path is not None and parts_directory(path) != path and parts_directory(path).is_dir():
        paths.append(str(parts_directory(path)))
    rows = session.read.format("delta" if _is_delta(source) else "parquet").load(paths)
    if keyless:
        rows = rows.withColumn(DUMMY_ENTITY_ID, lit(DUMMY_ENTITY_VAL))
    name = f"{_VIEWS}{uuid4().hex}"
    rows.createOrReplaceTempView(name)
    return SparkSource(
        name=source.name,
        table=name,
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        field_mapping=source.field_mapping,
        date_partition_column=source.date_partition_column,
    )


@contextmanager
def _held_on_spark(config: RepoConfig, source: DataSource) -> Iterator[DataSource]:
    """A source as `_on_spark` gives it, while the block lasts."""
    placed = _on_spark(config, source)
    try:
        yield placed
    finally:
        _drop(_session(config), _views_of([placed]))


def _drop_with(job: RetrievalJob, placed: Sequence[DataSource | None], *, session: SparkSession) -> None:
    """Let the views of the session that a job reads go with it. Spark's own frames that it gave stay good: they hold the files' plan."""
    # A session that ends with the process takes them along.
    weakref.finalize(job, _drop, session, _views_of(placed)).atexit = False


def _views_of(placed: Sequence[DataSource | None]) -> Sequence[str]:
    """The names of those that are ours: a SparkSource of the caller's is no view of ours."""
    tables = (source.table for source in placed if isinstance(source, SparkSource) and source.table)
    return [table for table in tables if table.startswith(_VIEWS)]


def _drop(session: SparkSession, views: Sequence[str]) -> None:
    # None of them is there any more where the session was stopped meanwhile.
    if session.sparkContext._jsc is not None:  # noqa: SLF001 - PySpark has no other sign of it
        for view in views:
            session.catalog.dropTempView(view)


def _is_delta(source: FileSource) -> bool:
    return isinstance(source.file_format, DeltaFormat)


def _path(config: RepoConfig, source: FileSource) -> Path | None:
    """Where a source is on this machine; None where it is elsewhere (an object store)."""
    return local_path(source.file_options.uri, repo_root=Path(config.repo_path or ".").absolute())


def _session(config: RepoConfig) -> SparkSession:
    session = get_spark_session_or_start_new_with_repoconfig(config.offline_store)
    zone = session.conf.get(_TIME_ZONE)
    if zone not in _UTC:
        raise SourceError(
            f"{_TIME_ZONE} of the Spark session is {zone!r}, and Feast's SQL would shift times by its distance from UTC; set it to UTC where "
            "the session is started: in spark_conf of the offline_store block, or in your own code"
        )
    return session
