"""What Feast is given for a read: a job that opens a stream of Arrow record batches whenever its rows are asked for."""

import contextlib
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.fs
from feast import OnDemandFeatureView
from feast.data_format import DeltaFormat, ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from hindcast.errors import InvalidArgument, RepoError, SourceError, StoreUnavailable
from hindcast.offline.location import is_pattern, local_path
from hindcast.offline.plugin.sources import repo_root
from hindcast.offline.sources.objects import shown
from hindcast.offline.sources.stores import object_path
from hindcast.offline.writing.outputs import check_place, parquet_writer, write_directory, write_file, write_parts
from hindcast.offline.writing.tables import check_delta_place, write_delta

BATCH_ROWS = 65_536
"""Of a batch, where the caller names no number."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where a job may put its rows.

    Attributes:
        repo_root: where relative paths of saved data sets begin.
        staging: `offline_store.staging_location`, if there is one.
        staging_options: how it is reached if it is not on this machine, by deltalake's names.
    """

    repo_root: Path
    staging: str | None
    staging_options: Mapping[str, str]

    @classmethod
    def of(cls, config: RepoConfig) -> "Destinations":
        """Those of a repo."""
        store = config.offline_store
        endpoint = store.staging_location_endpoint_override
        options = dict(getattr(store, "storage_options", {}))
        if endpoint:
            options["AWS_ENDPOINT_URL_S3"] = endpoint
        return cls(repo_root(config), store.staging_location, options)


class ArrowJob(RetrievalJob):
    """Rows of an offline store. Nothing is read before they are asked for, and each time they are asked for they are read anew."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
    ) -> None:
        super().__init__()
        self._destinations = destinations
        self._metadata = metadata
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)

    @abstractmethod
    def _opened(self) -> AbstractContextManager[pa.RecordBatchReader]:
        """Opens the rows from the beginning; each call reads the source again."""

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The views that are computed from the rows."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What a saved data set of these rows is about; None for rows of a source, of which Feast makes none."""
        return self._metadata

    def to_arrow_batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The result as Arrow record batches of at most `rows` rows, as they are read. At least one batch, if an empty one.

        On-demand views are computed from whole columns, so a result with some is in memory first.

        Raises:
            InvalidArgument: `rows` is no number above 0.
        """
        if not isinstance(rows, Integral) or rows < 1:
            raise InvalidArgument.at("rows", f"of a batch are {rows!r}; give a whole number above 0")
        return self._sliced(rows)

    def _sliced(self, rows: int) -> Iterator[pa.RecordBatch]:
        with self._answer() as reader:
            is_empty = True
            for batch in reader:
                for start in range(0, batch.num_rows, rows):
                    is_empty = False
                    yield batch.slice(start, rows)
            if is_empty:
                yield pa.record_batch([pa.array([], kind) for kind in reader.schema.types], schema=reader.schema)

    def to_pandas_batches(self, rows: int = BATCH_ROWS) -> Iterator[pd.DataFrame]:
        """The result as data frames of at most `rows` rows, as `to_arrow_batches`."""
        return (batch.to_pandas() for batch in self.to_arrow_batches(rows))

    def to_parquet(self, path: str | Path, *, allow_overwrite: bool = False) -> None:
        """Write the result as one Parquet file, as it is read; it appears whole or not at all, and is synced then.

        Args:
            path: of this machine; a relative one begins at the working directory.
        Raises:
            FileExistsError: there is a file, and it is not to be overwritten.
            InvalidArgument: Parquet has no form for a column.
            StoreUnavailable: the disk did not take the rows.
        """
        place = Path(path).absolute()
        check_place(place, is_file=True, replace=allow_overwrite)
        with self._answer() as reader:
            write_file(reader, place, replace=allow_overwrite)

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,  # noqa: FBT001, FBT002 - Feast's interface
        timeout: int | None = None,  # noqa: ARG002
    ) -> None:
        """Write the result to a saved data set's storage, as it is read; what is there stays until the new rows are whole.

        A path that ends in `.parquet` is one file, any other a directory; a Delta table gets one commit.

        Raises:
            SavedDatasetLocationAlreadyExists: there is something, and it is not to be overwritten.
            InvalidArgument: it cannot be overwritten, or it is not on this machine.
            StoreUnavailable: the disk did not take the rows; what was there is untouched.
        """
        uri, path, is_delta = _place(storage, self._destinations.repo_root)
        is_file = not is_delta and path.suffix == ".parquet"
        try:
            # Before the rows are read, which can take long.
            if is_delta:
                check_delta_place(path, replace=allow_overwrite)
            else:
                check_place(path, is_file=is_file, replace=allow_overwrite)
            with self._answer() as reader:
                if is_delta:
                    write_delta(reader, path, replace=allow_overwrite, name=uri)
                else:
                    (write_file if is_file else write_directory)(reader, path, replace=allow_overwrite)
        except FileExistsError as error:
            raise SavedDatasetLocationAlreadyExists(location=uri) from error

    def supports_remote_storage_export(self) -> bool:
        """Whether the repo names a place for `to_remote_storage`."""
        return self._destinations.staging is not None

    def to_remote_storage(self) -> list[str]:
        """Write the result as Parquet files into a folder of its own under `offline_store.staging_location`.

        Returns:
            Their paths, in order: of this machine, or with the scheme of the location.
        Raises:
            RepoError: the repo names no such location, or one that cannot be opened.
            StoreUnavailable: it did not take the rows.
        """
        location = self._destinations.staging
        if location is None:
            raise RepoError(
                "the repo names no staging_location; set it in the offline_store block of feature_store.yaml"
            )
        system, folder, prefix = _staging(location, self._destinations)
        folder = f"{folder.rstrip('/')}/{uuid.uuid4()}"
        paths: list[str] = []

        @contextmanager
        def opened(number: int) -> Iterator[Any]:
            path = f"{folder}/part-{number:05d}.parquet"
            with system.open_output_stream(path) as file, parquet_writer(reader.schema, file) as writer:
                yield writer
            paths.append(prefix + path)

        try:
            system.create_dir(folder, recursive=True)
            with self._answer() as reader:
                write_parts(reader, opened)
        except BaseException as error:
            with contextlib.suppress(OSError):
                system.delete_dir(folder)
            if not isinstance(error, OSError):
                raise
            raise StoreUnavailable(
                f"the staging_location {shown(location)!r} did not take the rows; check its rights and the space there"
            ) from error
        return paths

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's interface
        with self._opened() as reader:
            return reader.read_all()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @contextmanager
    def _answer(self) -> Iterator[pa.RecordBatchReader]:
        """The result as a stream, on-demand views among it."""
        if self.on_demand_feature_views:
            yield self.to_arrow().to_reader(max_chunksize=BATCH_ROWS)
            return
        with self._opened() as reader:
            yield reader


def _place(storage: SavedDatasetStorage, root: Path) -> tuple[str, Path, bool]:
    """Path of a saved data set as the caller wrote it, and on this machine; and whether it is a Delta table."""
    if not isinstance(storage, SavedDatasetFileStorage):
        raise InvalidArgument.at(
            "storage", f"is a {type(storage).__name__}, and this offline store writes to a SavedDatasetFileStorage"
        )
    form = storage.file_options.file_format
    uri = storage.file_options.uri
    path = local_path(uri, repo_root=root)
    if not isinstance(form, ParquetFormat | DeltaFormat | None):
        raise InvalidArgument.at(
            "storage", f"has the format {type(form).__name__}; choose ParquetFormat or DeltaFormat"
        )
    if path is None or is_pattern(uri):
        raise InvalidArgument.at("storage", f"the path {uri!r} is not one place of this machine; choose another")
    return uri, path, isinstance(form, DeltaFormat)


def _staging(location: str, destinations: Destinations) -> tuple[Any, str, str]:
    """The file system of a staging location, the path in it, and what makes that path an address."""
    local = local_path(location, repo_root=destinations.repo_root)
    if local is not None:
        return pyarrow.fs.LocalFileSystem(), str(local), ""
    try:
        place = object_path(location, destinations.staging_options)
    except SourceError as error:
        raise RepoError(
            f"the staging_location {shown(location)!r} cannot be opened; write a path of this machine, s3://BUCKET/PATH or gs://BUCKET/PATH, "
            "and check the store's settings"
        ) from error
    return place.store.file_system, place.key, f"{place.store.scheme}://"
