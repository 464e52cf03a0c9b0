"""The rows of a training set as a Delta table: a log over the set's own Parquet parts, which any tool that reads Delta finds. Imports deltalake.

The parts are those of the other form, in their order, which is the order of the rows. Delta itself promises no order.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, PostCommitHookProperties, create_table_with_add_actions

from hindcast.durable import sync_delta_table
from hindcast.errors import DatasetError

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def make_table(directory: Path, schema: pa.Schema, *, name: str) -> int:
    """Make a table of the parts of a directory, all in one version; when this returns it survives a power cut.

    Args:
        schema: `delta_schema` of the rows'.
    Returns:
        The version.
    Raises:
        DatasetError, OSError: the disk did not take it.
    """
    parts = sorted(directory.glob("part-*.parquet"))
    added = [
        AddAction(
            path=part.name,
            size=part.stat().st_size,
            partition_values={},
            modification_time=part.stat().st_mtime_ns // 1_000_000,
            data_change=True,
            stats=json.dumps({"numRecords": _rows(part)}, separators=(",", ":")),
        )
        for part in parts
    ]
    try:
        create_table_with_add_actions(
            str(directory),
            deltalake.Schema.from_arrow(schema),
            added,
            name=name,
            # No writer deletes or changes rows of a table that says so.
            configuration={"delta.appendOnly": "true"},
            post_commithook_properties=_NO_HOOKS,
        )
    except Exception as error:
        # deltalake raises DeltaError, OSError and plain Exception.
        raise DatasetError(
            f"{str(directory)!r} did not take the Delta table; check its rights and the space on its disk"
        ) from error
    return sync_delta_table(directory)


def table_problems(directory: Path, schema: pa.Schema, *, version: int) -> Iterator[str]:
    """What a table is not that its manifest says, in words.

    Args:
        schema: `delta_schema` of the rows'.
    """
    try:
        table = deltalake.DeltaTable(str(directory))
        newest = table.version()
        table.load_as_version(version)
        columns = table.schema()
        added = pa.table(table.get_add_actions())
    except Exception:  # noqa: BLE001 - deltalake raises DeltaError, OSError and plain Exception
        yield f"delta_version is {version}, and data/_delta_log cannot be read at it"
        return
    if newest != version:
        yield f"the Delta table in data has version {newest}, and the manifest says {version}: others wrote to it"
    if columns != deltalake.Schema.from_arrow(schema):
        yield "the Delta table in data has other columns than its files"
    there = {part.name: _rows(part) for part in sorted(directory.glob("part-*.parquet"))}
    known = dict(zip(added["path"].to_pylist(), added["num_records"].to_pylist(), strict=True))
    if known != there:
        yield "the Delta table in data names other files, or other numbers of rows in them, than there are"


def _rows(part: Path) -> int:
    rows: int = pq.read_metadata(part).num_rows
    return rows
