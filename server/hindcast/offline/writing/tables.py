"""Rows into Delta tables of this machine: appended, or as a table's new content, in one commit that survives a power cut. Imports deltalake."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import deltalake
import pyarrow as pa
from deltalake import PostCommitHookProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from hindcast.delta import open_delta
from hindcast.durable import make_directory, sync_delta_table
from hindcast.errors import InvalidArgument, NotWritable, SourceError, StoreUnavailable
from hindcast.file_lock import locked_folder
from hindcast.offline.sources.instants import cut_to

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""delta-rs syncs nothing, and a checkpoint that a power cut tore would hide the commits before it: one is made when those are synced."""
_CHECKPOINT_VERSIONS = 100
"""As often as delta-rs makes one."""
_REFUSALS = ("Invalid data found", "nvariant", "onstraint")
"""What delta-rs says where a table's own rule refuses rows; it has no error of a kind of its own for that, nor for what follows."""
_MAPPING = "delta.columnMapping.mode"
_UNKNOWN_FEATURE = "Unsupported table features"
_MICROS = "us"


def delta_schema(path: Path, *, name: str) -> pa.Schema:
    """The columns of a table's newest version.

    Args:
        name: what messages call it.
    Raises:
        SourceError: there is no table that can be read.
    """
    return pa.schema(_open(path, name=name).schema().to_arrow())


def append_to_delta(table: pa.Table, path: Path, *, name: str) -> None:
    """Append rows to a table that is there, as one commit; when this returns they survive a power cut.

    Args:
        table: has the columns of the table in its order, in its types (see `delta_schema`).
        name: what messages call it.
    Raises:
        SourceError: there is no table that can be read.
        InvalidArgument: the table's own constraints refuse the rows.
        NotWritable: the table has what deltalake does not write.
        StoreUnavailable: the disk did not take them, or other writers were quicker time and again. They may be there all the same.
    """
    there = _open(path, name=name)
    if there.metadata().configuration.get(_MAPPING, "none") != "none":
        # Its files have other names for the columns, and what is appended by these is not read.
        raise _not_writable(name)
    since = int(there.version())
    try:
        write_deltalake(there, table, mode="append", post_commithook_properties=_NO_HOOKS)
    except Exception as error:
        # deltalake raises DeltaError, OSError and plain Exception.
        if _UNKNOWN_FEATURE in str(error):
            raise _not_writable(name) from error
        if any(words in str(error) for words in _REFUSALS):
            raise InvalidArgument.at(
                "df", f"breaks a constraint of the Delta table {name!r}; nothing was appended"
            ) from error
        raise _not_taken(name) from error
    _settle(path, since=since, name=name)


def write_delta(rows: pa.RecordBatchReader, path: Path, *, replace: bool, name: str) -> None:
    """Make a table of a stream, or the new content of a table that is there, as one commit; when this returns it survives a power cut.

    Times are cut to microseconds (rounded down). What a replaced table held stays readable by its version until it is vacuumed.

    Raises:
        FileExistsError: there is something at `path`, and it is not to be replaced.
        InvalidArgument: it is to be, and is no Delta table; or Delta has no form for a column.
        StoreUnavailable: the disk did not take the rows.
    """
    check_delta_place(path, replace=replace)
    schema = _storable(rows.schema)
    with _turn(path, name=name):
        is_table = check_delta_place(path, replace=replace)
        since = int(_open(path, name=name).version()) if is_table else 0
        failures: list[BaseException] = []
        batches = pa.RecordBatchReader.from_batches(schema, _noted(rows, schema, failures))
        try:
            write_deltalake(
                str(path),
                batches,
                mode="overwrite" if is_table else "error",
                schema_mode="overwrite" if is_table else None,
                post_commithook_properties=_NO_HOOKS,
            )
        except Exception as error:
            # deltalake raises DeltaError, OSError and plain Exception, and what a stream raises as one of those.
            if not is_table and not (path / "_delta_log").exists():
                shutil.rmtree(path, ignore_errors=True)
            if failures:
                raise failures[0] from None
            raise _not_taken(name) from error
        _settle(path, since=since, name=name)


def check_delta_place(path: Path, *, replace: bool) -> bool:
    """Refuse a place that a table cannot be written to; gives whether there is a table.

    Raises:
        FileExistsError: there is something, and it is not to be replaced.
        InvalidArgument: there is something that is no table.
    """
    is_table = deltalake.DeltaTable.is_deltatable(str(path)) if path.is_dir() else False
    is_empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not replace and not is_empty:
        raise FileExistsError(str(path))
    if not is_empty and not is_table:
        raise InvalidArgument.at(
            "storage", f"{str(path)!r} is no Delta table, so it is not replaced; choose another path"
        )
    if "%" in str(path):
        raise InvalidArgument.at(
            "storage", f"the path {str(path)!r} has a percent sign, and Delta tables are not read there"
        )
    return is_table


def _open(path: Path, *, name: str) -> deltalake.DeltaTable:
    try:
        try:
            return open_delta(path)
        except TableNotFoundError:
            # Another process may be making it.
            with contextlib.suppress(OSError):
                handle = locked_folder(path)
                if handle is not None:
                    os.close(handle)
            return open_delta(path)
    except DeltaError as error:
        raise SourceError(
            f"the source {name!r} is no Delta table that can be read; check the path of the FileSource, and its _delta_log"
        ) from error


@contextlib.contextmanager
def _turn(path: Path, *, name: str) -> Iterator[None]:
    """One process at a time fills a place: what another one has written of a new table so far belongs to none yet, and would be removed."""
    try:
        handle = _held(path)
    except OSError as error:
        raise _not_taken(name) from error
    try:
        yield
    finally:
        os.close(handle)


def _held(path: Path) -> int:
    """The descriptor of a folder that nobody else has locked, made if it is not there."""
    while True:
        make_directory(path)
        handle = locked_folder(path)
        # Whoever had its turn before may have failed, and removed the folder.
        if handle is not None:
            return handle


def _settle(path: Path, *, since: int, name: str) -> None:
    """Sync what was committed, and now and then make a checkpoint, once all that it stands for is synced."""
    try:
        newest = sync_delta_table(path, since=since)
        if newest and newest % _CHECKPOINT_VERSIONS == 0:
            deltalake.DeltaTable(str(path)).create_checkpoint()
            sync_delta_table(path, since=newest)
    except (OSError, DeltaError) as error:
        raise _not_taken(name) from error


def _not_writable(name: str) -> NotWritable:
    return NotWritable(
        f"the Delta table {name!r} has what only its own engine can write; append with that, or write the table anew without"
    )


def _not_taken(name: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the Delta table {name!r} did not take the rows; check its rights, the space on its disk, and whether others write to it all the time"
    )


def _storable(schema: pa.Schema) -> pa.Schema:
    fields = [
        pa.field(field.name, pa.timestamp(_MICROS, field.type.tz) if pa.types.is_timestamp(field.type) else field.type)
        for field in schema
    ]
    wrong = [field for field in fields if not _has_form(field)]
    if wrong:
        names = ", ".join(f"{field.name!r} ({field.type})" for field in wrong)
        raise InvalidArgument.at("storage", f"Delta has no form for {names}; leave them out, or write Parquet")
    return pa.schema(fields)


def _has_form(field: pa.Field) -> bool:
    try:
        deltalake.Schema.from_arrow(pa.schema([field]))
    except Exception:  # noqa: BLE001 - deltalake says no in several ways
        return False
    return True


def _noted(rows: pa.RecordBatchReader, schema: pa.Schema, failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The rows in the table's types. What they raise is noted: on its way through deltalake it would lose its kind."""
    try:
        for batch in rows:
            arrays = [
                cut_to(array, field.type) if pa.types.is_timestamp(field.type) else array
                for array, field in zip(batch.columns, schema, strict=True)
            ]
            yield pa.record_batch(arrays, schema=schema)
    except (Exception, KeyboardInterrupt) as error:
        failures.append(error)
        raise
