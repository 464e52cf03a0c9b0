"""What Feast reads from a source as such: all rows of an interval, or the newest of each key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import ibis
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.ibis import pull_all_from_table_or_query_ibis, pull_latest_from_table_or_query_ibis
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.repo_config import RepoConfig

from hindcast.offline.plugin.reading import read, ways


def pull_latest(
    config: RepoConfig,
    data_source: DataSource,
    join_key_columns: list[str],
    feature_name_columns: list[str],
    timestamp_field: str,
    created_timestamp_column: str | None,
    start_date: datetime,
    end_date: datetime,
) -> RetrievalJob:
    """The newest row per key."""
    times = [timestamp_field, created_timestamp_column]
    job = pull_latest_from_table_or_query_ibis(
        config=config,
        data_source=data_source,
        join_key_columns=_stored(join_key_columns),
        feature_name_columns=feature_name_columns or _columns(config, data_source, without=[*join_key_columns, *times]),
        timestamp_field=timestamp_field,
        created_timestamp_column=created_timestamp_column,
        start_date=start_date,
        end_date=end_date,
        **ways(config),
    )
    return _with_dummy_key(job, join_key_columns)


def pull_all(
    config: RepoConfig,
    data_source: DataSource,
    join_key_columns: list[str],
    feature_name_columns: list[str],
    timestamp_field: str,
    created_timestamp_column: str | None,
    start_date: datetime | None,
    end_date: datetime | None,
) -> RetrievalJob:
    """Every row."""
    times = [timestamp_field, created_timestamp_column]
    job = pull_all_from_table_or_query_ibis(
        config=config,
        data_source=data_source,
        join_key_columns=_stored(join_key_columns),
        feature_name_columns=feature_name_columns or _columns(config, data_source, without=[*join_key_columns, *times]),
        timestamp_field=timestamp_field,
        created_timestamp_column=created_timestamp_column,
        start_date=start_date,
        end_date=end_date,
        **ways(config),
    )
    return _with_dummy_key(job, join_key_columns)


def _columns(config: RepoConfig, source: DataSource, *, without: Sequence[str | None]) -> list[str]:
    """A source's columns but for some. Feast names none of them for a transformation, which may read any."""
    return [column for column in read(config, source).columns if column not in without]


def _stored(join_key_columns: list[str]) -> list[str]:
    """The join keys that are columns of the source: Feast's stand-in for no key is not."""
    return [key for key in join_key_columns if key != DUMMY_ENTITY_ID]


def _with_dummy_key(job: Any, join_key_columns: list[str]) -> RetrievalJob:
    if not _stored(join_key_columns):
        job.table = job.table.mutate(**{DUMMY_ENTITY_ID: ibis.literal(DUMMY_ENTITY_VAL)})
    return job
