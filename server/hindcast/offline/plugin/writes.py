"""What Feast appends to sources and to the logs of feature services. Nothing that is there is written anew."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from hindcast.clock import system_clock, uuid7
from hindcast.errors import InvalidArgument, NotWritable, SourceError
from hindcast.offline.location import folder_columns, is_pattern, local_path, parts_directory, source_files
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.sources import columns_of, file_format, file_source, pinned, repo_root
from hindcast.offline.sources.instants import cut_to
from hindcast.offline.writing.parts import append_parts, part_name, stored_schema
from hindcast.offline.writing.tables import append_to_delta, delta_schema, write_delta

_INDEX = "__index_level_"
"""How pandas' index comes into an Arrow table, where it is not just the rows' numbers."""


def write_batch(
    config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
) -> None:
    """Append rows to a view's source: see `AsOfOfflineStore.offline_write_batch`."""
    if isinstance(feature_view.batch_source, DuckDBSource):
        raise NotWritable(
            f"the source {feature_view.batch_source.name!r} is a DuckDB database, which is only read; write to it with DuckDB, or make it "
            "a FileSource"
        )
    source = file_source(feature_view.batch_source)
    path = _writable(source.path, file_format(source), repo_root=repo_root(config), what=f"source {source.name!r}")
    rows = _by_columns(table, source)
    if file_format(source) == "delta":
        try:
            write_delta(rows.to_reader(), path, replace=False, name=source.path)
        except FileExistsError:
            append_to_delta(_as_stored(rows, delta_schema(path, name=source.path)), path, name=source.path)
    elif source_files(path):
        schema, folders = _stored(config, source, path)
        _append(_as_stored(rows, schema), path, by=folders)
    else:
        _append(rows, path, by=[])
    if progress:
        progress(rows.num_rows)


def write_logs(
    config: RepoConfig,
    data: pa.Table | Path,
    source: LoggingSource,
    logging_config: LoggingConfig,
    registry: BaseRegistry,
) -> None:
    """Append logs to their destination: see `AsOfOfflineStore.write_logged_features`."""
    destination = logging_config.destination
    if not isinstance(destination, FileLoggingDestination):
        raise NotWritable(
            f"the logging destination is a {type(destination).__name__}, and this offline store writes to a FileLoggingDestination"
        )
    path = _writable(destination.path, "parquet", repo_root=repo_root(config), what="logging destination")
    schema = source.get_schema(registry)
    folders = destination.partition_by or []
    for table in [data] if isinstance(data, pa.Table) else _tables(Path(data)):
        logs = _as_logged(table, schema, time=source.get_log_timestamp_column())
        for column in set(folders) - set(logs.column_names):
            raise InvalidArgument.at("partition_by", f"names {column!r}, which is no column of the logs")
        _append(logs, path, by=folders, is_directory=True)


def _writable(uri: str, form: str, *, repo_root: Path, what: str) -> Path:
    """Where rows can be appended.

    Raises:
        NotWritable: they cannot; the message says what to change.
    """
    path = local_path(uri, repo_root=repo_root)
    if form not in {"parquet", "delta"}:
        raise NotWritable(
            f"the {what} has the format {form}, and rows are appended to Parquet files and Delta tables; change it"
        )
    if path is None or is_pattern(uri):
        kind = "a pattern" if path is not None else "not on this machine"
        raise NotWritable(
            f"the path {uri!r} of the {what} is {kind}, and rows are appended to one directory, .parquet file or Delta table of this "
            "machine; change its path"
        )
    return path


def _stored(config: RepoConfig, source: FileSource, path: Path) -> tuple[pa.Schema, Sequence[str]]:
    """The columns of a source's rows in its files' types, and those of them that the folders of new parts name."""
    schema = stored_schema(path) or pa.schema([])
    placed = [field for field in columns_of(pinned(config, source)) if field.name not in schema.names]
    inner = folder_columns(path)
    return pa.schema([*schema, *placed]), [name for name in inner if any(field.name == name for field in placed)]


def _append(rows: pa.Table, path: Path, *, by: Sequence[str], is_directory: bool = False) -> None:
    if not rows.num_rows:
        return
    run_id = str(uuid7(system_clock()))
    name = part_name(run_id, number=0, content=run_id.encode())
    append_parts(rows, path if is_directory and not path.is_file() else parts_directory(path), by=by, name=name)


def _by_columns(table: pa.Table, source: DataSource) -> pa.Table:
    """The rows by the source's own column names; Feast hands them over by the view's names, and with pandas' index."""
    rows = table.drop_columns([name for name in table.column_names if name.startswith(_INDEX)])
    source_names = {field: column for column, field in source.field_mapping.items()}
    return rows.rename_columns([source_names.get(name, name) for name in rows.column_names]).replace_schema_metadata()


def _as_stored(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in the source's order and types."""
    if sorted(rows.column_names) != sorted(schema.names):
        raise InvalidArgument.at(
            "df", f"has the columns {sorted(rows.column_names)}, but the source's files have {sorted(schema.names)}"
        )
    return _fitted(rows, schema, what="the source's files")


def _as_logged(table: pa.Table, schema: pa.Schema, *, time: str) -> pa.Table:
    """Logs in the service's types. A feature that they do not have is null, and what the service does not have any more stays."""
    if time not in table.column_names:
        raise InvalidArgument.at("logs", f"has no column {time!r}, the time of each row")
    rows = table.replace_schema_metadata()
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    more = [field for field in rows.schema if field.name not in schema.names]
    return _fitted(rows, pa.schema([*schema, *more]), what="the logs of the service")


def _fitted(rows: pa.Table, schema: pa.Schema, *, what: str) -> pa.Table:
    """Columns of a schema in its types: without loss, but for times, whose finer digits are cut off."""
    columns = []
    for field in schema:
        column = rows[field.name]
        try:
            if pa.types.is_timestamp(column.type) and pa.types.is_timestamp(field.type):
                columns.append(pa.chunked_array([cut_to(chunk, field.type) for chunk in column.chunks], field.type))
            else:
                columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise InvalidArgument.at(
                "df", f"does not fit {what}: column {field.name!r} is {column.type}, and is {field.type} there"
            ) from error
    return pa.table(columns, schema=schema)


def _tables(path: Path) -> Iterator[pa.Table]:
    """The tables of a directory of logs, or of one file, a file at a time."""
    files = [path] if path.is_file() else source_files(path)
    if not files:
        raise SourceError(f"there are no Parquet files of logs in {str(path)!r}; check the path")
    for file in files:
        try:
            yield pq.read_table(file, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{str(file)!r} is no whole Parquet file of logs; write it anew") from error
