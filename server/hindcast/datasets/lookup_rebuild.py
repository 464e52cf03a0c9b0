"""Making a set of lookups again: from the rows of the log that counted then, the labels, and the sources of what was filled.

Rows leave a log when somebody is erased, or with their age; none that counted then can come. What differs is put down for the log or an
erasure, for the labels, and as of other sets for what filled cells are made of, in this order.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hindcast.datasets.again import NOW, Again, Made, Rebuild, has_rows_of
from hindcast.datasets.build import write_rows
from hindcast.datasets.causes import Change, Provenance, Step
from hindcast.datasets.compare import Differences, Side, compare
from hindcast.datasets.definitions import Definitions
from hindcast.datasets.from_lookups import LABELS, Filling, opened_labels
from hindcast.datasets.inputs import State
from hindcast.datasets.label_join import LAST, LOOKUP_ID, LabelJoin
from hindcast.datasets.lookup_causes import RowPlaces, fate_changes, own_changes
from hindcast.datasets.lookup_inputs import LookupInputs
from hindcast.datasets.making import sha256
from hindcast.datasets.parts import read_table
from hindcast.datasets.pins import absolute_path
from hindcast.datasets.progress import Progress
from hindcast.datasets.served_rows import ORIGIN, PLACES, Layout, ServedRows, served_rows
from hindcast.datasets.splits import COLUMN
from hindcast.errors import DatasetError, HindcastError
from hindcast.lookups.erasures import fate_of, tombstones_of
from hindcast.offline.frames.frame import EntityFrame

_KEYS = ("lookup_id", "lookup_row")


@dataclass(slots=True)
class AgainFromLookups(Again):
    """One rebuild of a set of lookups.

    Attributes:
        stack: what the rebuild holds open until it is over.
    """

    inputs: LookupInputs
    stack: ExitStack = field(kw_only=True)
    _opened: dict[Layout, ServedRows] = field(default_factory=dict, init=False)

    def report(self) -> Rebuild:
        """See `Again`."""
        libraries = self.inputs.library_changes()
        labels = self.inputs.label_change()
        known = [] if labels is None else [labels]
        log_directory = self.inputs.log_directory
        if not log_directory.is_dir():
            known.insert(0, Change(kind="log", name=self.inputs.record.log.path, what="removed", has_effect=None))
            return self._failed(
                DatasetError(f"the log {self.inputs.record.log.path} is not there any more"), (), (), first=known
            )
        pinned, files = self.inputs.sources()
        try:
            moves = self.inputs.moves(pinned, files)
            made = self._run(moves[-1].state if moves else self.inputs.recorded(pinned), NOW)
        except HindcastError as error:
            return self._failed(error, files, libraries, first=known)
        silent_ones = self._without_effect(moves)
        if made.digest == self.manifest.digest:
            assert made.written is not None  # noqa: S101 - for the type
            files_identical = made.written.files == self.manifest.files if not libraries else None
            return self._report(made, [*known, *silent_ones, *libraries], files_identical=files_identical)
        try:
            own = self._own_changes(made, labels)
            if moves:
                rest = self._explained(moves, made, libraries)
            elif self._differences(self._itself(), made, ()).cells:
                rest = self._unexplained(made, libraries)
            else:
                rest = libraries
        except DatasetError:
            # The set's own rows are gone: it can be said what changed, and not what that did.
            found = [replace(change, has_effect=None) for change in (*known, *silent_ones, *libraries)]
            found = [*self._fate_changes(), *found]
            if not found:
                raise
            return self._report(made, found, files_identical=None)
        if any(change.what == "features" for change in own):
            rest = [change for change in rest if change.what != "features"]
        return self._report(made, [*own, *rest], files_identical=None)

    # What is made.

    def _layout_for(self, definitions: Definitions) -> Layout:
        """The newest layout whose filled features are all defined."""
        defined = {feature.column for view in definitions.views for feature in view.features}
        defined |= {feature.column for view in definitions.on_demand for feature in view.features}
        if not self.inputs.as_recorded:
            layout = self.inputs.layout(is_new=True)
            if all(feature.column in defined for feature in layout.filled):
                return layout
        return self.inputs.layout(is_new=False)

    def _rows(self, layout: Layout) -> ServedRows:
        if layout not in self._opened:
            labels, join = self.stack.enter_context(self._labels_as_they_are())
            rows = served_rows(
                self.inputs.connection, self.inputs.log(), layout, labels, join, spill_dir=self.repo.spill_dir
            )
            self._opened[layout] = self.stack.enter_context(rows)
        return self._opened[layout]

    def _run_into(self, place: Path, state: State, *, is_delta: bool) -> Made:
        place.mkdir()
        self.on_progress(Progress("read", 0, 0))
        rows = self._rows(self._layout_for(state.definitions))
        lacking = [view for view in state.definitions.views if view.name not in state.sources]
        sources = {**state.sources, **{view.name: self.repo.pinned(view.source) for view in lacking}}
        filling = Filling(self.repo, state.definitions)
        with filling.read(rows, sources) as reading:
            written = write_rows(
                reading, rows.frame, self.manifest.splits, place, is_delta=is_delta, on_progress=self.on_progress
            )
            provenance = Provenance.read(filling.origins, root=self.repo.root)
        side = Side(directory=place, files=written.files, groups=written.groups, schema=written.schema)
        return Made(side, sha256(written.digest.root), provenance, written)

    # Labels.

    def _join(self) -> LabelJoin:
        record = self.inputs.record.labels
        return LabelJoin(
            on=record.on,
            columns=record.columns,
            row=record.row,
            time=record.frame.as_of,
            window_micros=record.window_micros,
            pick=record.pick,
            keeps_unlabeled=record.keeps_unlabeled,
        )

    @contextmanager
    def _labels_as_they_are(self) -> Iterator[tuple[EntityFrame, LabelJoin]]:
        """The labels: those that were kept, those in the files that were given, or what the set has of them, where these are other ones."""
        record, join = self.inputs.record.labels.frame, self._join()
        change = self.inputs.label_change()
        given: Any
        if record.is_kept:
            given = self.stored.path / LABELS
        elif change is not None and self.inputs.as_recorded:
            given = self._labels_of_set()
            join = replace(
                join, on=LOOKUP_ID, columns=("lookup_id",), row="lookup_row", time="", window_micros=None, pick=LAST
            )
        else:
            given = absolute_path(record.text, root=self.repo.root)
        with opened_labels(given, self.repo, time=join.time or None) as labels:
            if record.is_kept and not has_rows_of(record, labels):
                raise DatasetError(
                    f"the labels of {self.stored.ref} are not those that its manifest names; the files in {self.stored.path} were changed, "
                    "and `hindcast dataset verify` says which"
                )
            labels.as_of = join.time
            yield labels, join

    def _labels_of_set(self) -> pa.Table:
        columns = [*_KEYS, *self._label_columns()]
        rows = read_table(self.stored.path, self.manifest.files, columns=columns)
        return rows.filter(self._places().column("label").is_valid())

    def _label_columns(self) -> list[str]:
        record = self.inputs.record.labels
        return [name for name in record.frame.columns if name not in {*record.columns, record.row}]

    def _places(self) -> pa.Table:
        """Where the rows of the set stood in the log."""
        return read_table(self.stored.path, self.inputs.record.places, columns=list(PLACES))

    # Why it is another one.

    def _filled(self) -> set[str]:
        names = {column.name for column in self.manifest.columns}
        return {one.column for one in self.inputs.record.features if f"{one.column}{ORIGIN}" in names}

    def _differences(self, before: Made, after: Made, keys: Sequence[str]) -> Differences:  # noqa: ARG002 - theirs are always told apart
        """Cells that are filled, of rows that both have; all else is told in `_own_changes`."""
        found = compare(before.side, after.side, keys=_KEYS)
        nothing: np.ndarray = np.empty(0, np.int64)
        filled = self._filled()
        cells = {column: at for column, at in found.cells.items() if column in filled}
        return replace(found, only_before=nothing, only_after=nothing, dropped=(), added=(), retyped=(), cells=cells)

    def _fate_changes(self) -> list[Change]:
        """What became of the set's records in the log, without saying which of its rows that touched."""
        log_directory = self.inputs.log_directory
        places = RowPlaces.of(self._places(), pa.chunked_array([], pa.int32()))
        fate = fate_of(self.inputs.connection, log_directory, list(dict.fromkeys(places.records)))
        return fate_changes(self.inputs.record, fate, tombstones=tombstones_of(log_directory, fate.erased))

    def _own_changes(self, made: Made, labels: Change | None) -> list[Change]:
        """What the log, an erasure, the labels and the list of features did."""
        itself = self._itself()
        found = compare(itself.side, made.side, keys=_KEYS)
        filled = self._filled()
        cells = {column: at for column, at in found.cells.items() if column not in filled}
        touched = [found.only_before, *(found.before_rows[at] for at in cells.values())]
        places = RowPlaces.of(self._places(), self._column("lookup_row"))
        log_directory = self.inputs.log_directory
        fate = fate_of(self.inputs.connection, log_directory, places.distinct(np.concatenate(touched)))
        layouts = self.inputs.layout(is_new=False), self.inputs.layout(is_new=not self.inputs.as_recorded)
        return own_changes(
            Step(
                differences=replace(found, cells=cells),
                before=itself.side,
                after=made.side,
                definitions=self.manifest.definitions,
                labels=_KEYS,
            ),
            self.inputs.record,
            places,
            fate,
            labels=labels,
            label_columns={*self._label_columns(), COLUMN},
            features=([one.column for one in layouts[0].features], [one.column for one in layouts[1].features]),
            tombstones=tombstones_of(log_directory, fate.erased),
        )

    def _column(self, name: str) -> pa.ChunkedArray:
        return read_table(self.stored.path, self.manifest.files, columns=[name]).column(0)
