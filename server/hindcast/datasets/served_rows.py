"""Rows of lookups with their labels: read out of a log's tables, joined, put in order and set aside on disk.

Their order is that of served_at, then of lookup ids, then of rows in a lookup, whatever the tables look like by now.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.label_join import KEY, Fit, LabelJoin, joined_labels
from hindcast.errors import InvalidArgument
from hindcast.lookups.gather import INSTANT
from hindcast.lookups.logging_schema import FeatureColumn
from hindcast.lookups.served_log import ServedLog
from hindcast.offline.connection import duckdb_errors, open_duckdb, streamed
from hindcast.offline.frames.frame import EntityFrame
from hindcast.offline.frames.held import HeldRows, SpooledRows
from hindcast.offline.spill import spill_directory

SERVED_AT = "served_at"
PLACES = ("slot", "epoch", "sequence", "label")
"""The columns of a set's evidence: where a row's record stands in the log, and the position of its label."""
_BATCH_ROWS = 65_536
_HIDDEN = "\0"
"""What the names of columns begin with that no set has."""
STATUS, ORIGIN, AGE = "__status", "__origin", "__age_seconds"
SERVED, FILLED = "served", "point-in-time"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeature:
    """A feature of a set.

    Attributes:
        column: of the set.
        of: the log's name and type number of it; None where no row was answered with it.
        lacks: whether some row was answered without it.
    """

    column: str
    view: str
    feature: str
    of: FeatureColumn | None
    lacks: bool

    @property
    def ref(self) -> str:
        """`view:feature`."""
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a set of lookups has for columns.

    Attributes:
        inputs: join keys and request data, by the log's names.
        features: in their order.
        fills: whether cells that were not served are filled.
        has_statuses, has_ages: whether each feature has a column for its status, and each view one for the age of its row.
        has_request_id: whether there is a column for the caller's request id.
    """

    inputs: tuple[str, ...]
    features: tuple[SetFeature, ...]
    fills: bool
    has_statuses: bool
    has_ages: bool
    has_request_id: bool

    @property
    def marked(self) -> tuple[SetFeature, ...]:
        """The features that some rows were answered with, and others not."""
        return tuple(feature for feature in self.features if feature.lacks and feature.of is not None)

    @property
    def filled(self) -> tuple[SetFeature, ...]:
        """The features of which cells are filled."""
        return tuple(feature for feature in self.features if feature.lacks) if self.fills else ()

    @property
    def views(self) -> tuple[str, ...]:
        """The views whose rows have an age."""
        return tuple(dict.fromkeys(feature.view for feature in self.features if feature.of is not None))


def layout_of(
    log: ServedLog,
    *,
    wanted: Sequence[tuple[str, str]] | None,
    fills: bool,
    full_feature_names: bool,
    has_statuses: bool,
    has_ages: bool,
    has_request_id: bool,
) -> Layout:
    """The columns of a set.

    Args:
        wanted: view and feature each; None for those that the log has.
    Raises:
        InvalidArgument: one that is wanted is in no row and is not filled, or two would be one column.
    """
    known = {feature.name: feature for feature in log.features}
    names = [(feature.view, feature.feature) for feature in log.features] if wanted is None else wanted
    features = []
    for view, feature in names:
        of = known.get(f"{view}__{feature}")
        if of is None and not fills:
            raise InvalidArgument.at(
                "features",
                f'has {view}:{feature}, which no lookup of {log.service!r} in this time was answered with; fill="point-in-time" reads it as of then',
            )
        features.append(
            SetFeature(
                column=f"{view}__{feature}" if full_feature_names else feature,
                view=view,
                feature=feature,
                of=of,
                lacks=of is None or log.lacks(of.name),
            )
        )
    columns = [feature.column for feature in features]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument.at(
            "features", f"have two of the name {twice!r}; build with full_feature_names=True, or leave one out"
        )
    return Layout(
        inputs=log.inputs,
        features=tuple(features),
        fills=fills,
        has_statuses=has_statuses,
        has_ages=has_ages,
        has_request_id=has_request_id,
    )


class ServedRows:
    """n rows of lookups with their labels, in their order, on disk.

    Attributes:
        schema: of the set's columns, but for those of filled features that no row was answered with, and of splits.
        frame: the first of them: id, row, served_at, inputs and labels.
        places: `PLACES` of each row.
        answered: rows of the log.
        labeled: rows with a label.
        used: labels that were taken.
        open_windows: rows whose window ends after the latest label, with a label or without one.
    """

    def __init__(self, held: SpooledRows, layout: Layout, *, frame_columns: Sequence[str]) -> None:
        self._held, self.layout = held, layout
        self.schema = pa.schema([field for field in held.schema if not field.name.startswith(_HIDDEN)])
        self.frame = EntityFrame(_Columns(held, {name: name for name in frame_columns}), as_of=SERVED_AT)
        self.places = _Columns(held, {f"{_HIDDEN}{name}": name for name in PLACES})
        self.answered = self.labeled = self.used = self.open_windows = 0
        self.fit = Fit(without_key=0, unknown=0, latest_micros=None)

    @property
    def rows(self) -> int:
        """How many."""
        return self._held.rows

    def asking(self) -> EntityFrame:
        """The rows as a point-in-time read has them: what callers sent, and served_at."""
        names = [SERVED_AT, *self.layout.inputs]
        return EntityFrame(_Columns(self._held, {name: name for name in names}), as_of=SERVED_AT)

    def with_marks(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns of `schema`, and for each feature that is marked whether the row was answered with it, by `mark_of`."""
        names = [*self.schema.names, *map(mark_of, self.layout.marked)]
        schema = pa.schema([self._held.schema.field(name) for name in names])
        return schema, (batch.select(names) for batch in self._held.batches())


def mark_of(feature: SetFeature) -> str:
    """The hidden column that says which rows were answered with a feature."""
    return f"{_HIDDEN}{feature.column}"


@contextmanager
def log_connection(*, memory_bytes: int, threads: int | None, spill_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB to read a log with."""
    with open_duckdb(memory_limit_bytes=memory_bytes, threads=threads, spill_dir=spill_dir) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        # Of Arrow data it does not know how much there is, and a nested loop over 100,000 rows took 6 s in place of 0.1.
        connection.execute("SET asof_loop_join_threshold = 0")
        yield connection


@contextmanager
def served_rows(
    connection: duckdb.DuckDBPyConnection,
    log: ServedLog,
    layout: Layout,
    labels: EntityFrame,
    join: LabelJoin,
    *,
    spill_dir: Path,
) -> Iterator[ServedRows]:
    """The rows of a log with their labels, while the block runs.

    Args:
        connection: the one that the log was looked at with.
    Raises:
        InvalidArgument: labels do not fit the lookups, or two columns would have one name.
        StoredDataError: a file of the log is gone.
        StoreUnavailable, SourceError: they do not fit on the disk, or into memory.
    """
    kinds = {name: log.type_of(name) for name in layout.inputs}
    columns = {f"i{at}": (name, kinds[name]) for at, name in enumerate(layout.inputs)}
    served = [feature for feature in layout.features if feature.of is not None]
    for at, feature in enumerate(served):
        assert feature.of is not None  # noqa: S101 - for the type
        columns[f"f{at}"] = (feature.of.name, log.type_of(feature.of.name))
        if layout.has_statuses or feature.lacks:
            columns[f"s{at}"] = (f"{feature.of.name}{STATUS}", pa.int32())
    if layout.has_ages:
        columns |= {f"a{at}": (f"hc_{view}{AGE}", pa.float64()) for at, view in enumerate(layout.views)}
    carried = join.carried(labels.schema)
    plan = _Plan(layout=layout, served=served, labels=labels, carried=carried)
    plan.check()
    key_of = {name: f"i{at}" for at, name in enumerate(layout.inputs)}
    with (
        spill_directory(spill_dir, prefix="served-") as spilled,
        joined_labels(connection, labels, join, kinds) as joined,
        duckdb_errors(),
    ):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE __rows AS {log.rows_sql(columns)}")
        statement = f"{joined.sql('__rows', key_of)} ORDER BY served_at, lookup_id, lookup_row, slot, epoch, sequence"
        counted = _Counted(join, joined.fit("__rows", key_of))
        reader = connection.execute(statement).fetch_record_batch(_BATCH_ROWS)
        batches = (counted.seen(plan.batch(batch)) for batch in streamed(reader))
        first = next(batches, None)
        schema = first.schema if first is not None else plan.batch(_no_rows(reader.schema)).schema
        held = SpooledRows.of(_chained(first, batches), schema, spilled / "rows.arrow")
        found = ServedRows(held, layout, frame_columns=plan.frame_columns)
        found.fit = counted.fit
        found.labeled, found.used, found.open_windows = counted.labeled, counted.used, 0
        ((found.answered,),) = connection.execute("SELECT count(*) FROM __rows").fetchall()
        if join.on == KEY:
            found.open_windows = _open_windows(connection, found.fit, join)
        connection.execute("DROP TABLE __rows")
        yield found


def _open_windows(connection: duckdb.DuckDBPyConnection, fit: Fit, join: LabelJoin) -> int:
    """Rows whose window ends after the latest label: a label may yet come."""
    latest = "NULL" if fit.latest_micros is None else fit.latest_micros
    condition = f"{latest} IS NULL OR epoch_us(served_at) + {join.window_micros} > {latest}"
    ((count,),) = connection.execute(f"SELECT count(*) FROM __rows WHERE {condition}").fetchall()  # noqa: S608 - numbers
    return int(count)


def _chained(first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if first is not None:
        yield first
    yield from rest


class _Plan:
    """How a batch of the query becomes a batch of the set, with hidden columns behind it."""

    def __init__(
        self,
        *,
        layout: Layout,
        served: Sequence[SetFeature],
        labels: EntityFrame,
        carried: Sequence[str],
    ) -> None:
        self._layout = layout
        self._served = served
        heads = ["lookup_id", "lookup_row", SERVED_AT, *(["request_id"] if layout.has_request_id else [])]
        self._of = {
            **{name: name for name in heads},
            **{name: f"i{at}" for at, name in enumerate(layout.inputs)},
        }
        self._label_columns = list(carried)
        self.frame_columns = [*self._of, *carried]
        table = labels.columns(self._label_columns) if carried else None
        self._labels = None if table is None else table.unify_dictionaries().combine_chunks()
        self._values = {feature.column: f"f{at}" for at, feature in enumerate(served)}
        self._statuses = {feature.column: f"s{at}" for at, feature in enumerate(served)}
        self._ages = {view: f"a{at}" for at, view in enumerate(layout.views)}

    def names(self) -> list[str]:
        """All columns of the set but that of splits."""
        layout = self._layout
        names = [*self.frame_columns, *(feature.column for feature in layout.features)]
        names += [f"{feature.column}{STATUS}" for feature in self._served] if layout.has_statuses else []
        names += [f"{view}{AGE}" for view in layout.views] if layout.has_ages else []
        return names + [f"{feature.column}{ORIGIN}" for feature in layout.filled]

    def check(self) -> None:
        """Refuse two columns of one name.

        Raises:
            InvalidArgument: there are.
        """
        names = self.names()
        for name in names:
            if names.count(name) > 1:
                where = "labels" if name in self._label_columns else "features"
                raise InvalidArgument.at(
                    where,
                    f"have a column {name!r}, and the set has one of this name already; rename it, or build with full_feature_names=True",
                )

    def batch(self, given: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the set."""
        layout = self._layout
        columns: dict[str, pa.Array] = {name: given.column(of) for name, of in self._of.items()}
        columns[SERVED_AT] = columns[SERVED_AT].cast(INSTANT)
        position = given.column("position")
        if self._labels is not None:
            taken = self._labels.take(position).combine_chunks()
            columns |= {name: _one(taken.column(name)) for name in self._label_columns}
        columns |= {name: given.column(of) for name, of in self._values.items()}
        if layout.has_statuses:
            columns |= {f"{name}{STATUS}": given.column(of) for name, of in self._statuses.items()}
        if layout.has_ages:
            columns |= {f"{view}{AGE}": given.column(of) for view, of in self._ages.items()}
        for feature in self._served:
            if feature.lacks:
                columns[mark_of(feature)] = given.column(self._statuses[feature.column]).is_valid()
        columns |= {f"{_HIDDEN}{name}": given.column(name) for name in ("slot", "epoch", "sequence")}
        columns[f"{_HIDDEN}label"] = position
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _one(column: pa.ChunkedArray) -> pa.Array:
    if not column.num_chunks:
        return pa.array([], column.type)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


class _Counted:
    """Labels as they are taken."""

    def __init__(self, join: LabelJoin, fit: Fit) -> None:
        self._join, self.fit = join, fit
        self.labeled = 0
        self._taken: list[np.ndarray] = []

    def seen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch, counted."""
        position = batch.column(f"{_HIDDEN}label")
        self.labeled += len(position) - position.null_count
        self._taken.append(pc.unique(position.drop_null()).to_numpy(zero_copy_only=False))
        return batch

    @property
    def used(self) -> int:
        """Labels that were taken by some row."""
        return len(np.unique(np.concatenate(self._taken))) if self._taken else 0


class _Columns:
    """Some columns of rows that are held, under other names."""

    def __init__(self, held: HeldRows, names: Mapping[str, str]) -> None:
        self._held, self._names = held, names
        fields = [held.schema.field(name).with_name(called) for name, called in names.items()]
        self.schema = pa.schema(fields)

    @property
    def rows(self) -> int:
        """How many."""
        return self._held.rows

    def columns(self, names: Sequence[str]) -> pa.Table:
        """See `HeldRows`."""
        of = {called: name for name, called in self._names.items()}
        return self._held.columns([of[name] for name in names]).rename_columns(list(names))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See `HeldRows`."""
        for batch in self._held.batches():
            yield pa.RecordBatch.from_arrays([batch.column(name) for name in self._names], schema=self.schema)
