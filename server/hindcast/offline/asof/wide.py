"""The values of a source's rows, found by their positions: wide, and late, for the rows that are in the answer alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from hindcast.offline.connection import duckdb_errors, streamed
from hindcast.offline.sources.scan import RowGroup, SourceScan, check_current, read_groups
from hindcast.offline.sources.stored import PLACE, ROWS, StoredFiles, are_stored, is_plain_value
from hindcast.quoting import quoted_name

_FETCHED_ROWS = 65_536
"""Rows of a batch: text of up to 32,000 bytes a row fits into Arrow's 31 bits."""
_DENSE_PART = 0.6
"""Of the rows of the files that are needed. For 640,000 of 1,000,000 rows x 30, looking for them took 0.17 s, reading all 0.11 s."""
_SAMPLED_ROWS = 2_048
_SAMPLED_GROUPS = 8
_UNKNOWN_BYTES = 8.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """Rows of a source.

    Attributes:
        table: the columns asked for, in the source's types (a dictionary's entries stand for it), rows in any order.
        at: n numbers of rows of the table: where the row at the i-th position asked for is.
    """

    table: pa.Table
    at: np.ndarray


def needed_groups(scan: SourceScan, positions: np.ndarray) -> Sequence[RowGroup]:
    """The row groups of some positions, which are ascending."""
    first = np.array([group.first_position for group in scan.groups], np.int64)
    numbers = np.unique(np.searchsorted(first, positions, "right") - 1)
    return [scan.groups[number] for number in numbers.tolist()]


def fetch(
    scan: SourceScan, positions: np.ndarray, columns: Sequence[str], connection: duckdb.DuckDBPyConnection
) -> Fetched:
    """Read columns of some rows.

    Args:
        positions: n of them, ascending, each once.
        columns: each once.
    Raises:
        SourceError: a file changed since it was pinned, or is damaged.
    """
    if not len(positions):
        return Fetched(pa.schema([(column, scan.types[column]) for column in columns]).empty_table(), positions)
    groups = needed_groups(scan, positions)
    stored = StoredFiles.of(groups)
    plain = [column for column in columns if is_plain_value(scan.types[column])]
    found = None
    if plain and are_stored(scan, stored.files, plain):
        found = _from_files(scan, stored, positions, plain, connection)
    if found is None:
        return Fetched(_from_scan(scan, groups, positions, columns), np.arange(len(positions)))
    others = [column for column in columns if column not in plain]
    if not others:
        return found
    # In the order of the positions, as the others come.
    table = found.table.take(pa.array(found.at))
    rest = _from_scan(scan, groups, positions, others)
    both = dict(zip([*plain, *others], [*table.columns, *rest.columns], strict=True))
    return Fetched(pa.table([both[column] for column in columns], names=list(columns)), np.arange(len(positions)))


def _from_files(
    scan: SourceScan,
    stored: StoredFiles,
    positions: np.ndarray,
    columns: Sequence[str],
    connection: duckdb.DuckDBPyConnection,
) -> Fetched | None:
    """What DuckDB reads itself; None where it cannot."""
    places = stored.places(positions)
    connection.register("needed", pa.table({"p": pa.array(places)}))
    names = ", ".join(f"{quoted_name(column)} AS v{at}" for at, column in enumerate(columns))
    files = set(stored.paths)
    rows = sum(group.rows for group in scan.groups if str(group.file.pin.path) in files)
    # To look for most of the rows takes longer than to read all of them.
    is_dense = len(positions) >= _DENSE_PART * rows
    chosen = "true" if is_dense else f"{PLACE} IN (SELECT p FROM needed)"  # noqa: S608 - a name of ours
    statement = f"SELECT {PLACE} AS p, {names} FROM {ROWS} WHERE {chosen}"  # noqa: S608 - quoted
    with duckdb_errors():
        try:
            batches = list(streamed(connection.execute(statement, [stored.paths]).fetch_record_batch(_FETCHED_ROWS)))
        except duckdb.Error:
            # Text that is none, a damaged file: our own scan can read it, or says what is wrong.
            return None
    for file in stored.files:
        check_current(file.pin)
    table = pa.Table.from_batches(batches)
    at: np.ndarray
    if is_dense:
        everywhere: np.ndarray = np.empty(scan.rows, np.int64)
        everywhere[stored.positions(table.column("p").to_numpy())] = np.arange(table.num_rows)
        at = everywhere[positions]
    else:
        at = np.empty(len(positions), np.int64)
        at[np.searchsorted(places, table.column("p").to_numpy())] = np.arange(len(positions))
    arrays = [table.column(f"v{at}").cast(scan.types[column]) for at, column in enumerate(columns)]
    return Fetched(pa.table(arrays, names=list(columns)), at)


def _from_scan(scan: SourceScan, groups: Sequence[RowGroup], positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """What our own scan reads, in the order of the positions."""
    schema = pa.schema([(column, scan.types[column]) for column in columns])
    return pa.Table.from_batches(_taken(groups, positions, columns, scan), schema)


def _taken(
    groups: Sequence[RowGroup], positions: np.ndarray, columns: Sequence[str], scan: SourceScan
) -> Iterator[pa.RecordBatch]:
    for _, first, batch in read_groups(groups, columns, types=scan.types):
        begin, end = int(np.searchsorted(positions, first)), int(np.searchsorted(positions, first + batch.num_rows))
        if begin < end:
            yield batch.take(pa.array(positions[begin:end] - first))


def row_bytes(scan: SourceScan, columns: Sequence[str]) -> Sequence[float]:
    """About how many bytes a row takes in memory, for each column.

    What a type does not say is taken from the first rows of a few row groups, the widest of them.

    Raises:
        SourceError: the file is gone, or damaged.
    """
    unsized = [column for column in columns if _sized_bytes(scan.types[column]) is None]
    sampled = dict.fromkeys(unsized, _UNKNOWN_BYTES)
    step = max(len(scan.groups) // _SAMPLED_GROUPS, 1)
    for group in scan.groups[::step] if unsized else []:
        _, _, batch = next(iter(read_groups([group], unsized, types=scan.types)))
        some = batch.slice(0, _SAMPLED_ROWS)
        sampled = {
            column: max(sampled[column], some.column(at).nbytes / some.num_rows) for at, column in enumerate(unsized)
        }
    return [_sized_bytes(scan.types[column]) or max(sampled[column], 1.0) for column in columns]


def _sized_bytes(kind: pa.DataType) -> float | None:
    try:
        return float(kind.bit_width) / 8
    except ValueError:
        return None
