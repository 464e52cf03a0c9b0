"""Delta tables at one version: which Parquet files, which partition, which rows are deleted. Imports deltalake.

The files are read as any other Parquet files, by DuckDB's order of winners: its own reader of Delta tables is an extension that cannot be
downloaded everywhere, and Arrow's data set refuses every table that may have deletion vectors, whether it has or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import deltalake
import numpy as np
import pyarrow as pa
from deltalake.exceptions import DeltaError, TableNotFoundError

from hindcast.delta import open_delta
from hindcast.errors import SourceError
from hindcast.offline.sources.objects import ObjectPath, check_bucket, in_our_words, is_folder, trouble

_MAPPING = "delta.columnMapping.mode"
_READ_FEATURES = frozenset(
    {"columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening"}
)
"""Reader features that the files of a version can be read with; of the first, only while no mapping is in force."""


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """A data file of a version.

    Attributes:
        partition: its value in each partition column.
        deleted: row numbers that are deleted, ascending; None where there are none.
    """

    path: Path | ObjectPath
    partition: Mapping[str, pa.Scalar]
    deleted: pa.Array | None


def pinned_version(path: Path | ObjectPath, *, name: str) -> int:
    """The newest version of a table.

    Args:
        name: what messages call it.
    Raises:
        SourceError: there is no table that can be read.
    """
    return int(_open(path, None, name=name).version())


def delta_files(path: Path | ObjectPath, version: int, *, name: str) -> tuple[pa.Schema, Sequence[DeltaFile]]:
    """The schema of a version, and its files in the order of their paths.

    Raises:
        SourceError: the version is gone, or it has what only its own engine can read.
    """
    table = _open(path, version, name=name)
    try:
        _check_features(table, name=name)
        schema = pa.schema(table.schema().to_arrow())
        added = pa.table(table.get_add_actions())
        deleted = _deleted_rows(table, path)
    except (DeltaError, OSError) as error:
        raise SourceError(
            trouble(error, f"the Delta table {name!r}")
            or f"version {version} of the Delta table {name!r} cannot be read; check its _delta_log"
        ) from error
    partitions = _partitions(added, schema)
    files = [
        DeltaFile(place, partition, deleted.get(place))
        for place, partition in zip((_place(path, text) for text in added["path"].to_pylist()), partitions, strict=True)
    ]
    return schema, sorted(files, key=lambda file: file.path.parts)


def _open(path: Path | ObjectPath, version: int | None, *, name: str) -> deltalake.DeltaTable:
    # Of a store that cannot be reached, deltalake's own client says so after minutes, the file system after seconds.
    if not _is_there(path, name=name):
        raise SourceError(
            f"the source {name!r} does not exist; check the path of the FileSource, or write the table first"
        )
    try:
        return _opened(path, version)
    except TableNotFoundError as error:
        raise SourceError(
            f"the source {name!r} is no Delta table; check the path of the FileSource, or its file format"
        ) from error
    except (DeltaError, OSError) as error:
        which = "" if version is None else f"version {version} of "
        raise SourceError(
            trouble(error, f"the Delta table {name!r}")
            or f"{which}the Delta table {name!r} cannot be read; check its _delta_log, whether it was vacuumed, and that its path has no %"
        ) from error


def _opened(path: Path | ObjectPath, version: int | None) -> deltalake.DeltaTable:
    if isinstance(path, ObjectPath):
        return deltalake.DeltaTable(str(path), version=version, storage_options=dict(path.store.delta_options))
    return open_delta(path, version=version)


def _is_there(path: Path | ObjectPath, *, name: str) -> bool:
    if isinstance(path, Path):
        return path.is_dir()
    what = f"the source {name!r}"
    with in_our_words(what):
        is_there = is_folder(path)
        if not is_there:
            check_bucket(path, what=what)
        return is_there


def _check_features(table: deltalake.DeltaTable, *, name: str) -> None:
    unknown = sorted(set(table.protocol().reader_features or ()) - _READ_FEATURES)
    if table.metadata().configuration.get(_MAPPING, "none") != "none":
        unknown.append("columnMapping")
    if unknown:
        raise SourceError(
            f"the Delta table {name!r} uses {', '.join(unknown)}, which is not read here; write it anew without, or name a copy in Parquet"
        )


def _partitions(added: pa.Table, schema: pa.Schema) -> Sequence[Mapping[str, pa.Scalar]]:
    if "partition" not in added.column_names:
        return [{}] * added.num_rows
    values = added["partition"].combine_chunks()
    columns = {field.name: values.field(field.name).cast(schema.field(field.name).type) for field in values.type}
    return [{name: column[row] for name, column in columns.items()} for row in range(added.num_rows)]


def _deleted_rows(table: deltalake.DeltaTable, root: Path | ObjectPath) -> Mapping[Path | ObjectPath, pa.Array]:
    rows = {}
    for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
        for uri, kept in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
            is_kept = kept.values.to_numpy(zero_copy_only=False)
            rows[_place(root, uri)] = pa.array(np.flatnonzero(~is_kept))
    return rows


def _place(root: Path | ObjectPath, text: str) -> Path | ObjectPath:
    """A path of the log, which is percent-encoded: below the table, or an address of its own."""
    path = unquote(text)
    if isinstance(root, Path):
        return root / path.removeprefix("file://")
    return ObjectPath(root.store, path.partition("://")[2]) if "://" in path else root.below(path)
