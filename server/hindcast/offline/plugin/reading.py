"""How Feast's own plan reads and writes sources here: with the parts beside a file, and from the repo's root."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis
from feast import FileSource
from feast.credentials import CredentialResolutionError
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import _read_data_source, _write_data_source
from feast.repo_config import RepoConfig

from hindcast.errors import SourceError
from hindcast.offline.location import local_path, source_files


def ways(config: RepoConfig) -> dict[str, Any]:
    """How Feast's plan reads and writes sources."""
    return {
        "data_source_reader": lambda source, _: read(config, source),
        "data_source_writer": _write_data_source,
        "staging_location": config.offline_store.staging_location,
        "staging_location_endpoint_override": config.offline_store.staging_location_endpoint_override,
    }


def read(config: RepoConfig, source: DataSource) -> ibis.Table:
    """All rows of a source: its file, and the parts that were appended to it."""
    path = parquet_path(config, source)
    files = source_files(path) if path is not None else []
    if files:
        return ibis.read_parquet([str(file) for file in files])
    return _read_data_source(at_repo(config, source), str(config.repo_path))


def parquet_path(config: RepoConfig, source: DataSource | None) -> Path | None:
    """Where a source's Parquet files are on this machine; None for other sources."""
    if not isinstance(source, FileSource) or not isinstance(source.file_format, ParquetFormat | None):
        return None
    return local_path(source.file_options.uri, repo_root=Path(config.repo_path or "."))


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


def at_repo(config: RepoConfig, source: DataSource) -> DataSource:
    """The source with an absolute path; Feast's DuckDB store takes a relative one from the working directory."""
    if not isinstance(source, FileSource) or config.repo_path is None:
        return source
    placed = copy.deepcopy(source)
    placed.file_options.uri = FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri)
    return placed
