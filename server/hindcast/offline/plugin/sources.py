"""A Feast data source as this room reads it: which files, and which of their columns Feast means."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from feast import FileSource
from feast.credentials import CredentialResolutionError
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.feature_logging import LOG_TIMESTAMP_FIELD
from feast.repo_config import RepoConfig

from hindcast.errors import SourceError
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.sources.scan import source_schema, with_all_columns
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of, find_source


def repo_root(config: RepoConfig) -> Path:
    """Where relative paths begin: the repo, whatever the working directory is."""
    return Path(config.repo_path or ".").absolute()


def pinned(config: RepoConfig, source: DataSource) -> SourceFiles | DeltaTable:
    """A source as it is now.

    Raises:
        SourceError: it is of another kind, or cannot be read.
    """
    if isinstance(source, DuckDBSource):
        return source.pinned(config)
    options = storage_options(config, source)
    return find_source(
        file_source(source).path, file_format(source), repo_root=repo_root(config), storage_options=options
    )


def file_source(source: DataSource | None) -> FileSource:
    """The source as the kind whose own files are read.

    Raises:
        SourceError: it is another.
    """
    if isinstance(source, FileSource):
        return source
    named = "there is no source" if source is None else f"the source {source.name!r} is a {type(source).__name__}"
    raise SourceError(
        f"{named}, and this offline store reads FileSources and DuckDBSources; name one, or use another offline_store.type"
    )


def file_format(source: DataSource) -> str:
    """The format of a file source by name; one that says nothing is Parquet."""
    form = file_source(source).file_format
    if isinstance(form, ParquetFormat | None):
        return "parquet"
    return "delta" if isinstance(form, DeltaFormat) else type(form).__name__


def columns_of(source: SourceFiles | DeltaTable) -> pa.Schema:
    """The columns of a pinned source and their types, those that its folders name among them."""
    return source_schema(files_of(source))


def as_logs(source: SourceFiles | DeltaTable, *, event: str, columns: Iterable[str]) -> SourceFiles | DeltaTable:
    """Logs of a feature service, told by their time: a feature that came to the service later is null in older ones.

    Other sources come back as they are.

    Args:
        columns: what is read; those that no file has are null throughout.
    """
    if event != LOG_TIMESTAMP_FIELD or isinstance(source, DeltaTable):
        return source
    table = with_all_columns(source)
    there = table.schema or pa.schema([])
    unknown = [pa.field(column, pa.null()) for column in dict.fromkeys(columns) if column not in there.names]
    return SourceFiles(name=table.name, files=table.files, schema=pa.schema([*there, *unknown]))


def column_of(name: str, schema: pa.Schema, source: DataSource) -> str:
    """The source's column of a name: that of the column itself or, as some of Feast's callers have it, that of the view's field."""
    if name in schema.names:
        return name
    return next((column for column, field in source.field_mapping.items() if field == name), name)


def columns_but(schema: pa.Schema, source: DataSource, *, without: Sequence[str | None]) -> list[str]:
    """All columns but some, which may go by the view's names."""
    left_out = {column_of(name, schema, source) for name in without if name}
    return [name for name in schema.names if name not in left_out]


def storage_options(config: RepoConfig, source: DataSource | None) -> Mapping[str, str]:
    """How a source is reached that is not on this machine: the store's own settings, and before them what the source says.

    Raises:
        SourceError: the source's connection_ref cannot be resolved.
    """
    options = dict(getattr(config.offline_store, "storage_options", None) or {})
    if not isinstance(source, FileSource):
        return options
    try:
        options |= source.resolve_credentials() or {}
    except CredentialResolutionError as error:
        raise SourceError(
            f"the credentials of the source {source.name!r} cannot be found; check its connection_ref, and where that points"
        ) from error
    if source.s3_endpoint_override:
        options["AWS_ENDPOINT_URL_S3"] = source.s3_endpoint_override
    return options
