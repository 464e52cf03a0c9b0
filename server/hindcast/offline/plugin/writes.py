"""What Feast appends to sources."""

import copy
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from feast import FeatureView, FileSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.repo_config import RepoConfig

from hindcast.clock import system_clock, uuid7
from hindcast.errors import InvalidArgument
from hindcast.offline.parts import append_part, part_name, stored_schema
from hindcast.offline.plugin.reading import at_repo, parquet_path


def write_batch(
    config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
) -> None:
    """Append rows to a view's source: see `AsOfOfflineStore.offline_write_batch`."""
    path = parquet_path(config, feature_view.batch_source)
    if path is None:
        placed = copy.copy(feature_view)
        placed.batch_source = at_repo(config, feature_view.batch_source)
        DuckDBOfflineStore.offline_write_batch(config, placed, table, progress)
        return
    rows = _as_source(table, feature_view.batch_source, stored_schema(path))
    run_id = str(uuid7(system_clock()))
    append_part(rows, path, name=part_name(run_id, number=0, content=run_id.encode()))
    if progress:
        progress(rows.num_rows)


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
