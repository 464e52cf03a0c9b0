"""What a manifest says of its rows, held against the rows: statistics, columns, the entity frame, splits, and what views leak.

Whoever edits a manifest, and gives it its new id, is found here as far as the rows and the evidence beside them can tell. A problem begins with
the field, as the manifest's JSON has it: `statistics[2].nulls`. Needs no Feast.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hindcast.datasets.canonical import Hasher
from hindcast.datasets.coherence import is_dealable
from hindcast.datasets.definitions import ViewRecord
from hindcast.datasets.manifest import Manifest
from hindcast.datasets.parts import read_parts
from hindcast.datasets.pins import by_view
from hindcast.datasets.splits import COLUMN, Dealer
from hindcast.datasets.statistics import ColumnStatistics, Statistics
from hindcast.errors import DatasetError, InvalidArgument
from hindcast.offline.asof.merge import NO_TIME
from hindcast.offline.frames.frame import EntityFrame, frame_micros
from hindcast.offline.frames.held import TableRows
from hindcast.offline.sources.instants import MICROS_MIN

_SHOWN_MAX = 10
"""Statistics that are named: where a column's values are other ones, many of them are."""
_ORIGIN = ("file", "row", "event_ts", "created_ts")


class RowClaims:
    """Takes the rows of a set as they are read, and says what of its manifest they contradict."""

    def __init__(self, manifest: Manifest, schema: pa.Schema) -> None:
        """Args: schema: of the rows."""
        self._manifest, self._schema = manifest, schema
        self._statistics = Statistics(schema)
        self._frame = _frame_hasher(manifest, schema)
        self._dealer, self._misdealt = _dealer(manifest, schema), 0
        self._as_of = _Times(schema, manifest.frame.as_of)
        self._known_at = _Times(schema, manifest.known_at.column)

    def add(self, table: pa.Table) -> None:
        """Take a row group's rows, in their order."""
        micros, is_dated = self._as_of.add(table)
        self._known_at.add(table)
        first = 0
        for given in table.to_batches():
            batch = given.replace_schema_metadata()
            self._statistics.update(batch)
            if self._frame is not None:
                self._frame.update(batch.select(list(self._manifest.frame.columns)))
            if self._dealer is not None:
                some = slice(first, first + batch.num_rows)
                dealt = self._dealer.dealt(
                    batch, micros=micros[some], is_dated=None if is_dated is None else is_dated[some]
                )
                self._misdealt += _unlike(dealt, batch.column(COLUMN))
            first += batch.num_rows

    def problems(self, directory: Path) -> Iterator[str]:
        """What the rows and the evidence contradict, once all rows were taken; each problem begins with the field.

        Args:
            directory: of the set.
        """
        yield from self._wrong_columns()
        yield from _wrong_statistics(self._manifest.statistics, self._statistics.finish())
        yield from self._wrong_frame()
        yield from self._wrong_splits()
        yield from self._wrong_evidence(directory)

    def _wrong_columns(self) -> Iterator[str]:
        manifest = self._manifest
        names = tuple(self._schema.names)
        if names[: len(manifest.frame.columns)] != manifest.frame.columns:
            yield "frame.columns are not the first columns of the rows"
            return
        if manifest.lookups is not None:
            return
        definitions = manifest.definitions
        computed = {feature.column for view in definitions.views for feature in view.features}
        computed |= {feature.column for view in definitions.on_demand for feature in view.features}
        rest = [*names[len(manifest.frame.columns) :]]
        if manifest.splits is not None and rest[-1:] == [COLUMN]:
            rest.pop()
        unknown = [name for name in rest if name not in computed]
        if unknown:
            yield f"frame.columns or definitions lack {unknown[0]!r}, which is a column of the rows"

    def _wrong_frame(self) -> Iterator[str]:
        if not self._as_of.is_there:
            yield f"frame.as_of is {self._manifest.frame.as_of!r}, and the rows have no times of that name"
        if self._frame is not None and f"sha256:{self._frame.finish().root.hex()}" != self._manifest.frame.digest:
            yield "frame.digest or frame.columns were edited: the digest of these columns of the rows is another one"

    def _wrong_splits(self) -> Iterator[str]:
        manifest = self._manifest
        if manifest.splits is None:
            # Somebody's own column can be called so, as where a set is the frame of another one.
            if COLUMN in self._schema.names and COLUMN not in manifest.frame.columns:
                yield f"splits are none, and the rows have the column {COLUMN}"
            return
        if COLUMN not in self._schema.names:
            yield f"splits are there, and the rows have no column {COLUMN}"
        elif self._dealer is None:
            yield "splits name a column that the rows do not have, or go by times that are none"
        elif self._misdealt:
            yield f"splits deal {self._misdealt:,} rows to another split than the column {COLUMN} says"

    def _wrong_evidence(self, directory: Path) -> Iterator[str]:
        manifest = self._manifest
        views = sorted(manifest.definitions.views, key=lambda view: view.name)
        found = [(view, leak) for view in views for leak in [manifest.leaks[at] for at in _places(manifest, view.name)]]
        if [one.view for one in manifest.leaks] != [view.name for view in views]:
            said, known = (
                ", ".join(names) for names in ([one.view for one in manifest.leaks], [view.name for view in views])
            )
            yield f"leaks are of {said or 'no view'}, and definitions have {known or 'none'}"
        if not views or not self._as_of.is_there:
            return
        try:
            origins = _Origins.read(directory, manifest, views)
        except (DatasetError, KeyError, pa.ArrowException):
            yield "evidence.origins cannot be read, or have not the columns of the views in definitions"
            return
        if origins.rows != self._as_of.rows:
            yield f"evidence.origins have {origins.rows:,} rows, and there are {self._as_of.rows:,}"
            return
        for view, leak in found:
            at = _places(manifest, view.name)[0]
            there, created, events = origins.of(view.name)
            as_of = self._as_of.micros
            late = np.where(there, np.maximum(created, as_of), as_of).view(np.uint64) - as_of.view(np.uint64)
            for name, value in (
                ("found", int(np.count_nonzero(there))),
                ("rows", int(np.count_nonzero(late))),
                ("worst_micros", int(late.max(initial=0))),
            ):
                if getattr(leak, name) != value:
                    yield f"leaks[{at}].{name} ({view.name}) is {getattr(leak, name):,}, and by the evidence {value:,}"
            yield from self._wrong_times(view, there, events, created)
        yield from origins.wrong_files(manifest)

    def _wrong_times(
        self, view: ViewRecord, there: np.ndarray, events: np.ndarray, created: np.ndarray
    ) -> Iterator[str]:
        """Times of a view's rows that no row of the set may have seen."""
        as_of, known_at = self._as_of.micros, self._manifest.known_at
        at = [one.name for one in self._manifest.definitions.views].index(view.name)
        if (early := int(np.count_nonzero(there & (events > as_of)))) != 0:
            yield f"frame.as_of is a time before that of the value, in {early:,} rows of {view.name}"
        if view.ttl_micros > 0:
            oldest = np.maximum(as_of, MICROS_MIN + view.ttl_micros) - view.ttl_micros
            if (old := int(np.count_nonzero(there & (events < oldest)))) != 0:
                yield f"definitions.views[{at}].ttl_micros ({view.name}) is shorter than the age of the value in {old:,} rows"
        bound: Any = None
        if known_at.kind == "time":
            bound = known_at.micros
        elif known_at.kind == "own":
            bound = as_of
        elif self._known_at.is_there:
            bound = np.where(self._known_at.is_dated, self._known_at.micros, np.iinfo(np.int64).max)
        if bound is not None and (late := int(np.count_nonzero(there & (created > bound)))) != 0:
            yield f"known_at is before the time at which the value was created, in {late:,} rows of {view.name}"


class _Times:
    """A column of times, as microseconds."""

    def __init__(self, schema: pa.Schema, name: str) -> None:
        self._name = name
        self.is_there = schema.names.count(name) == 1
        self._micros: list[np.ndarray] = []
        self._is_dated: list[np.ndarray] = []
        self.rows = 0

    def add(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray | None]:
        """Take the times of some rows: they, and which rows have one (None: all)."""
        self.rows += table.num_rows
        if self.is_there:
            frame = EntityFrame(TableRows(table.select([self._name])), as_of=self._name)
            try:
                micros, is_dated = frame_micros(frame, self._name)
            except InvalidArgument:
                self.is_there = False
            else:
                self._micros.append(micros)
                self._is_dated.append(np.ones(len(micros), dtype=bool) if is_dated is None else is_dated)
                return micros, is_dated
        return np.zeros(table.num_rows, np.int64), None

    @property
    def micros(self) -> np.ndarray:
        """Of all rows; any number where there is none."""
        micros: np.ndarray = np.concatenate([np.empty(0, np.int64), *self._micros])
        return micros

    @property
    def is_dated(self) -> np.ndarray:
        """Which rows have one."""
        is_dated: np.ndarray = np.concatenate([np.empty(0, bool), *self._is_dated])
        return is_dated


class _Origins:
    """The evidence of some views: for each row of the set the source's row that answered."""

    def __init__(self, columns: pa.Table) -> None:
        self._columns = columns
        self.rows = columns.num_rows

    @classmethod
    def read(cls, directory: Path, manifest: Manifest, views: Sequence[ViewRecord]) -> "_Origins":
        """Those of a set.

        Raises:
            DatasetError, KeyError: a file is gone or damaged, or has other columns.
        """
        names = [f"{view.name}.{name}" for view in views for name in _ORIGIN]
        parts = list(read_parts(directory, manifest.evidence.origins))
        if any(part.schema.names != names for part in parts):
            raise KeyError(names[0])
        nothing = pa.table({name: pa.array([], pa.int64()) for name in names})
        return cls(pa.concat_tables([nothing, *parts], promote_options="permissive"))

    def of(self, view: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which rows have a value of a view, when it was created (`NO_TIME` where nobody says), and its event time."""
        there, events, created = (self._columns.column(f"{view}.{name}") for name in ("file", "event_ts", "created_ts"))
        return (
            there.is_valid().to_numpy(),
            created.fill_null(NO_TIME).to_numpy(),
            events.fill_null(0).to_numpy(),
        )

    def wrong_files(self, manifest: Manifest) -> Iterator[str]:
        """Sources that have fewer files than values came from."""
        for view, record in sorted(by_view(manifest.sources).items()):
            name = f"{view}.file"
            if name in self._columns.schema.names:
                numbers = self._columns.column(name).drop_null().to_numpy()
                if numbers.max(initial=-1) >= len(record.files):
                    at = manifest.sources.index(record)
                    yield f"sources[{at}].files are {len(record.files):,}, and values of {view} came from file {numbers.max() + 1:,}"


def _places(manifest: Manifest, view: str) -> list[int]:
    return [at for at, leak in enumerate(manifest.leaks) if leak.view == view][:1]


def _frame_hasher(manifest: Manifest, schema: pa.Schema) -> Hasher | None:
    columns = manifest.frame.columns
    if tuple(schema.names[: len(columns)]) != columns:
        return None
    return Hasher(pa.schema([schema.field(at) for at in range(len(columns))]))


def _dealer(manifest: Manifest, schema: pa.Schema) -> Dealer | None:
    splits = manifest.splits
    if splits is None or COLUMN not in schema.names or not is_dealable(splits):
        return None
    try:
        return Dealer(splits, schema=schema.remove(schema.get_field_index(COLUMN)))
    except InvalidArgument:
        return None


def _unlike(dealt: pa.Array, stored: pa.Array) -> int:
    """How many rows are in another split."""
    if dealt.equals(stored):
        return 0
    return sum(one != other for one, other in zip(dealt.to_pylist(), stored.to_pylist(), strict=True))


def _wrong_statistics(said: Sequence[ColumnStatistics], found: Sequence[ColumnStatistics]) -> Iterator[str]:
    if len(said) != len(found):
        yield f"statistics are of {len(said):,} columns, and the rows have {len(found):,}"
        return
    wrong = (
        f"statistics[{at}].{field.name} (column {now.name}) is {_shown(old)}, and of the rows {_shown(new)}"
        for at, (then, now) in enumerate(zip(said, found, strict=True))
        for field in fields(ColumnStatistics)
        if (old := getattr(then, field.name)) != (new := getattr(now, field.name))
    )
    yield from islice(wrong, _SHOWN_MAX)
    if (more := sum(1 for _ in wrong)) != 0:
        yield f"statistics have {more:,} more that are not those of the rows"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
