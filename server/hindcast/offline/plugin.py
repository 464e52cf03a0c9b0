"""Feast's offline store for Hindcast: `offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}`.

Joins and reads are Feast's own DuckDB plan so far, with its limits (docs/semantics.md lists them). What it adds: the parts that
pushes append beside a source's file are read with it, and the SDK's pushes append too; views without entities, which Feast's DuckDB
store cannot hand to materialization; and source paths that are relative to the repo wherever the caller stands.
"""

import copy
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import ibis
import pyarrow as pa
from feast import FeatureView, FileSource
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.duckdb import (
    DuckDBOfflineStore,
    DuckDBOfflineStoreConfig,
    _read_data_source,
    _validate_lance_feature_views,
    _write_data_source,
)
from feast.infra.offline_stores.ibis import (
    get_historical_features_ibis,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from hindcast.clock import system_clock, uuid7
from hindcast.errors import InvalidArgument
from hindcast.offline.location import local_path, source_files
from hindcast.offline.parts import append_part, part_name, stored_schema


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The `offline_store` block of `feature_store.yaml`; Feast's DuckDB settings mean the same here."""

    type: Literal["hindcast.offline.plugin.AsOfOfflineStore"] = "hindcast.offline.plugin.AsOfOfflineStore"


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
        times = [timestamp_field, created_timestamp_column]
        job = pull_latest_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=_stored(join_key_columns),
            feature_name_columns=feature_name_columns
            or _columns(config, data_source, without=[*join_key_columns, *times]),
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            **_ways(config),
        )
        return _with_dummy_key(job, join_key_columns)

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
        times = [timestamp_field, created_timestamp_column]
        job = pull_all_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=_stored(join_key_columns),
            feature_name_columns=feature_name_columns
            or _columns(config, data_source, without=[*join_key_columns, *times]),
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            **_ways(config),
        )
        return _with_dummy_key(job, join_key_columns)

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
            **_ways(config),
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
        path = _parquet_path(config, feature_view.batch_source)
        if path is None:
            placed = copy.copy(feature_view)
            placed.batch_source = _at_repo(config, feature_view.batch_source)
            DuckDBOfflineStore.offline_write_batch(config, placed, table, progress)
            return
        rows = _as_source(table, feature_view.batch_source, stored_schema(path))
        run_id = str(uuid7(system_clock()))
        append_part(rows, path, name=part_name(run_id, number=0, content=run_id.encode()))
        if progress:
            progress(rows.num_rows)


def _ways(config: RepoConfig) -> dict[str, Any]:
    """How Feast's plan reads and writes sources."""
    return {
        "data_source_reader": lambda source, _: _read(config, source),
        "data_source_writer": _write_data_source,
        "staging_location": config.offline_store.staging_location,
        "staging_location_endpoint_override": config.offline_store.staging_location_endpoint_override,
    }


def _read(config: RepoConfig, source: DataSource) -> ibis.Table:
    """All rows of a source: its file, and the parts that were appended to it."""
    path = _parquet_path(config, source)
    files = source_files(path) if path is not None else []
    if files:
        return ibis.read_parquet([str(file) for file in files])
    return _read_data_source(_at_repo(config, source), str(config.repo_path))


def _columns(config: RepoConfig, source: DataSource, *, without: Sequence[str | None]) -> list[str]:
    """A source's columns but for some. Feast names none of them for a transformation, which may read any."""
    return [column for column in _read(config, source).columns if column not in without]


def _parquet_path(config: RepoConfig, source: DataSource | None) -> Path | None:
    """Where a source's Parquet files are on this machine; None for other sources."""
    if not isinstance(source, FileSource) or not isinstance(source.file_format, ParquetFormat | None):
        return None
    return local_path(source.file_options.uri, repo_root=Path(config.repo_path or "."))


def _as_source(table: pa.Table, source: FileSource, schema: pa.Schema | None) -> pa.Table:
    """The rows by the source's own column names, in its types; Feast hands them over by the view's names."""
    source_names = {field: column for column, field in source.field_mapping.items()}
    renamed = table.rename_columns([source_names.get(name, name) for name in table.column_names])
    if schema is None:
        return renamed
    if set(renamed.column_names) != set(schema.names):
        raise InvalidArgument.at(
            "df", f"has the columns {sorted(renamed.column_names)}, but the source's files have {sorted(schema.names)}"
        )
    try:
        return renamed.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise InvalidArgument.at("df", f"does not fit the source's files, which are {schema.to_string()}") from error


def _at_repo(config: RepoConfig, source: DataSource) -> DataSource:
    """The source with an absolute path; Feast's DuckDB store takes a relative one from the working directory."""
    if not isinstance(source, FileSource) or config.repo_path is None:
        return source
    placed = copy.deepcopy(source)
    placed.file_options.uri = FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri)
    return placed


def _stored(join_key_columns: list[str]) -> list[str]:
    """The join keys that are columns of the source: Feast's stand-in for no key is not."""
    return [key for key in join_key_columns if key != DUMMY_ENTITY_ID]


def _with_dummy_key(job: Any, join_key_columns: list[str]) -> RetrievalJob:
    if not _stored(join_key_columns):
        job.table = job.table.mutate(**{DUMMY_ENTITY_ID: ibis.literal(DUMMY_ENTITY_VAL)})
    return job
