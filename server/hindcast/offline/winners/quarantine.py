"""The rows of a source that are dated too far ahead, in a Parquet file of their own, as they stand."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.durable import make_directory, sync
from hindcast.errors import StoreUnavailable
from hindcast.offline.sources.arrow_types import agreed_type, plain_type
from hindcast.offline.sources.instants import to_micros
from hindcast.offline.sources.objects import ObjectPath
from hindcast.offline.sources.scan import (
    RowGroup,
    SourceScan,
    file_schema,
    is_kept,
    open_file,
    read_groups,
)


def write_quarantine(
    path: Path, *, scan: SourceScan, groups: Collection[int], event: str, future_after_micros: int
) -> None:
    """Write all columns of the rows that are dated after the bound; when this returns the file survives a power cut.

    Args:
        path: of the file, which appears whole or not at all; its directory is made.
        groups: first positions of the groups that have such rows.
    Raises:
        SourceError: a file of the source cannot be read any more.
        StoreUnavailable: the disk did not take the file.
    """
    chosen = [group for group in scan.groups if group.first_position in groups]
    schema = _common_schema(scan, {group.file.pin.path for group in chosen})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    rows = _rows_ahead(chosen, schema, event=event, future_after_micros=future_after_micros)
    try:
        make_directory(path.parent)
        with unfinished.open("xb") as file:
            with pq.ParquetWriter(file, schema) as writer:
                for batch in rows:
                    writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        sync(path.parent)
    except OSError as error:
        raise StoreUnavailable(
            f"the rows dated ahead cannot be written to {str(path)!r}; check the rights and the space on its disk"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _rows_ahead(
    groups: Sequence[RowGroup], schema: pa.Schema, *, event: str, future_after_micros: int
) -> Iterator[pa.RecordBatch]:
    for group, position, batch in read_groups(groups, schema.names, types={}):
        micros, is_dated = to_micros(batch.column(schema.get_field_index(event)))
        is_ahead = micros > future_after_micros
        for condition in (is_dated, is_kept(group, position, batch.num_rows)):
            if condition is not None:
                is_ahead &= condition
        if is_ahead.any():
            taken = batch.filter(pa.array(is_ahead))
            arrays = [_as_type(array, field.type) for array, field in zip(taken.columns, schema, strict=True)]
            yield pa.record_batch(arrays, schema=schema)


def _common_schema(scan: SourceScan, paths: Collection[Path | ObjectPath]) -> pa.Schema:
    """All columns of these files. One that has several types there, which only a column that no view needs can have, or a time, is text."""
    types: dict[str, pa.DataType] = {}
    for file in (file for file in scan.source.files if file.pin.path in paths):
        with open_file(file.pin) as parquet:
            for field in file_schema(parquet, file, scan.source):
                kind = plain_type(field.type)
                types[field.name] = agreed_type(types.get(field.name, kind), kind) or pa.string()
    return pa.schema(types)


def _as_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_string(kind) and pa.types.is_nested(array.type):
        return pa.array([None if item is None else str(item) for item in array.to_pylist()], kind)
    return array.cast(kind)
