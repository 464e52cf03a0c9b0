"""Delta tables of this machine at one version: which Parquet files, which partition, which rows are deleted. Imports deltalake.

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

from hindcast.errors import SourceError

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

    path: Path
    partition: Mapping[str, pa.Scalar]
    deleted: pa.Array | None


def pinned_version(path: Path, *, name: str) -> int:
    """The newest version of a table.

    Args:
        name: what messages call it.
    Raises:
        SourceError: there is no table that can be read.
    """
    return int(_open(path, None, name=name).version())


def delta_files(path: Path, version: int, *, name: str) -> tuple[pa.Schema, Sequence[DeltaFile]]:
    """The schema of a version, and its files in the order of their paths.

    Raises:
        SourceError: the version is gone, or it has what only its own engine can read.
    """
    table = _open(path, version, name=name)
    try:
        _check_features(table, name=name)
        schema = pa.schema(table.schema().to_arrow())
        added = pa.table(table.get_add_actions())
        deleted = _deleted_rows(table)
    except DeltaError as error:
        raise SourceError(
            f"version {version} of the Delta table {name!r} cannot be read; check its _delta_log"
        ) from error
    partitions = _partitions(added, schema)
    files = [
        DeltaFile(place, partition, deleted.get(place))
        for place, partition in zip((_place(path, text) for text in added["path"].to_pylist()), partitions, strict=True)
    ]
    return schema, sorted(files, key=lambda file: file.path)


def _open(path: Path, version: int | None, *, name: str) -> deltalake.DeltaTable:
    if not path.is_dir():
        raise SourceError(
            f"the source {name!r} does not exist; check the path of the FileSource, or write the table first"
        )
    try:
        return deltalake.DeltaTable(str(path), version=version)
    except TableNotFoundError as error:
        raise SourceError(
            f"the source {name!r} is no Delta table; check the path of the FileSource, or its file format"
        ) from error
    except DeltaError as error:
        which = "" if version is None else f"version {version} of "
        raise SourceError(
            f"{which}the Delta table {name!r} cannot be read; check its _delta_log, whether it was vacuumed, and that its path has no %"
        ) from error


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


def _deleted_rows(table: deltalake.DeltaTable) -> Mapping[Path, pa.Array]:
    rows = {}
    for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
        for uri, kept in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
            is_kept = kept.values.to_numpy(zero_copy_only=False)
            rows[Path(unquote(uri).removeprefix("file://"))] = pa.array(np.flatnonzero(~is_kept))
    return rows


def _place(root: Path, text: str) -> Path:
    """A path of the log, which is percent-encoded, on this machine."""
    return root / unquote(text).removeprefix("file://")
