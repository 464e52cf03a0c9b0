"""The entity frame of a read without one: every key at every time at which its source has a row, between two times."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument, SourceError
from hindcast.offline.connection import batches_table, open_duckdb, streamed
from hindcast.offline.frames.frame import AS_OF, EntityFrame
from hindcast.offline.frames.held import SPOOL_ROWS, SpooledRows
from hindcast.offline.frames.layouts import settled_type
from hindcast.offline.sources.arrow_types import agreed_type
from hindcast.offline.sources.instants import MICROS_MAX, MICROS_MIN
from hindcast.offline.sources.interval import Interval
from hindcast.offline.sources.keyforms import KeyForm, key_form, key_values
from hindcast.offline.sources.scan import SourceScan, scan_source
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of
from hindcast.offline.spill import spill_directory
from hindcast.offline.winners.candidates import Candidates, Counts

_INSTANTS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpineView:
    """A view of such a read.

    Attributes:
        keys: column of the frame -> column of the source; empty for a view without entities.
    """

    source: SourceFiles | DeltaTable
    keys: Mapping[str, str]
    event_column: str


@contextmanager
def spine_frame(
    views: Sequence[SpineView],
    *,
    start_micros: int | None,
    end_micros: int,
    memory_bytes: int,
    threads: int | None,
    spill_dir: Path,
) -> Iterator[EntityFrame]:
    """Every distinct (keys, event_ts) of the views that have all keys which any of them has; if none has a key, every event_ts.

    Sorted by event_ts, then by the keys in the order in which the views name them; text by its bytes. Rows with a null in a key (or NaN), or
    without a time, are left out. The columns are the keys, in the source's types, and `event_timestamp` as `timestamp[us, tz=UTC]`.

    Args:
        views: at least one.
        start_micros, end_micros: closed at both ends; None: from the beginning.
        memory_bytes, threads: of DuckDB, which sorts what it cannot hold on the disk; None is one thread per core.
        spill_dir: for that, and for the rows; nothing is left there.
    Raises:
        InvalidArgument: no view has all the keys, or a key has the name of the times.
        SourceError: a source cannot be read, a key is of types that do not compare, or the limit is too small.
        StoreUnavailable: the disk did not take the rows.
    """
    keys, chosen = _keyed(views)
    scans = [_scan(view) for view in chosen]
    kinds = {
        key: _one_type(key, [scan.types[view.keys[key]] for view, scan in zip(chosen, scans, strict=True)])
        for key in keys
    }
    interval = Interval(
        start_micros=MICROS_MIN if start_micros is None else start_micros,
        end_micros=end_micros,
        future_after_micros=MICROS_MAX,
    )
    candidates = [_candidates(view, scan, kinds, interval=interval) for view, scan in zip(chosen, scans, strict=True)]
    schema = pa.schema([*((key, settled_type(kind)) for key, kind in kinds.items()), (AS_OF, _INSTANTS)])
    with spill_directory(spill_dir, prefix="spine-") as spilled:
        with open_duckdb(memory_limit_bytes=memory_bytes, threads=threads, spill_dir=spilled) as connection:
            batches = (_as_frame(batch, schema) for batch in _distinct(_sorted(candidates, connection)))
            held = SpooledRows.of(batches, schema, spilled / "rows.arrow")
        yield EntityFrame(held, as_of=AS_OF)


def _keyed(views: Sequence[SpineView]) -> tuple[Sequence[str], Sequence[SpineView]]:
    """All keys, and the views that have all of them; two that read the same are one."""
    keys = list(dict.fromkeys(key for view in views for key in view.keys))
    if AS_OF in keys:
        raise InvalidArgument.at(
            "entity_df", f"is needed here: a join key is named {AS_OF!r}, which is the name of the times otherwise"
        )
    chosen: list[SpineView] = []
    for view in views:
        if set(view.keys) == set(keys) and view not in chosen:
            chosen.append(view)
    if not chosen:
        raise InvalidArgument.at(
            "entity_df",
            f"is needed here: no single view has all the join keys {', '.join(map(repr, keys))}, so which of them belong together is not known",
        )
    return keys, chosen


def _scan(view: SpineView) -> SourceScan:
    values = list(dict.fromkeys(view.keys.values()))
    return scan_source(files_of(view.source), values=values, event=view.event_column, created=None)


def _candidates(
    view: SpineView, scan: SourceScan, kinds: Mapping[str, pa.DataType], *, interval: Interval
) -> Candidates:
    groups = [group for group in scan.groups if group.event.null_count != group.rows and interval.touches(group.event)]
    return Candidates(
        scan=scan,
        keys=[view.keys[key] for key in kinds],
        event=view.event_column,
        created=None,
        interval=interval,
        groups=groups,
        packing=None,
        key_forms={view.keys[key]: _widened(key, kind) for key, kind in kinds.items()},
    )


def _widened(key: str, kind: pa.DataType) -> KeyForm:
    """The form of a key whose type is wider than its source's, perhaps."""
    form = key_form(kind, column=key)
    return KeyForm(form.kind, lambda array: form.form(array if array.type == kind else array.cast(kind)))


def _one_type(key: str, kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that holds the values of all."""
    one = kinds[0]
    for kind in kinds[1:]:
        agreed = agreed_type(one, kind)
        if agreed is None and pa.types.is_integer(one) and pa.types.is_integer(kind):
            wide = np.promote_types(one.to_pandas_dtype(), kind.to_pandas_dtype())
            agreed = pa.from_numpy_dtype(wide) if wide.kind in "iu" else None
        if agreed is None:
            raise SourceError(
                f"the join key {key!r} is {one} in one source and {kind} in another; write both with one type, or pass an entity frame"
            )
        one = agreed
    return one


def _sorted(candidates: Sequence[Candidates], connection: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """Columns `k0`, `k1`, …, `e` of all candidates, in the order of the frame, with what is there twice.

    DuckDB's DISTINCT before the sort took 9.3 s and 608 MB for 6,000,000 rows under a limit of 256 MB; the sort alone, and leaving out
    repeats as they come by, 7.6 s and 437 MB.
    """
    names = [*candidates[0].key_schema.names, "e"]
    schema = pa.schema([*candidates[0].key_schema, ("e", pa.int64())])
    rows = (batch.select(names) for of_view in candidates for batch in of_view.batches(Counts()))
    order = ", ".join(["e", *names[:-1]])
    try:
        with batches_table(connection, "candidates", schema, rows):
            statement = f"SELECT * FROM candidates ORDER BY {order}"  # noqa: S608 - names of ours
            yield from streamed(connection.execute(statement).fetch_record_batch(SPOOL_ROWS))
    except duckdb.OutOfMemoryException as error:
        raise SourceError(
            "the keys do not fit into memory; raise the memory limit, or give the process more if it may have less than that"
        ) from error


def _distinct(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Sorted rows, each once."""
    last: pa.RecordBatch | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        both = batch if last is None else pa.concat_batches([last, batch])
        differs = np.zeros(both.num_rows - 1, dtype=bool)
        for column in both.columns:
            differs |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
        is_new = np.concatenate([[True], differs]) if last is None else differs
        yield batch.filter(pa.array(is_new))
        last = batch.slice(batch.num_rows - 1)


def _as_frame(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    *keys, events = batch.columns
    arrays = [key_values(key, field.type) for key, field in zip(keys, schema, strict=False)]
    return pa.record_batch([*arrays, events.cast(_INSTANTS)], schema=schema)
