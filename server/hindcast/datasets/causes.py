"""Why cells of a training set are other ones: which file of a source, which attribute of a definition, and in what way.

Each row of a set has, for each view, the source's row that answered it, with its times (`hindcast.offline.asof.origins`). From that row and
the one that answers now it follows what happened to the source:

| then | now | reason |
| --- | --- | --- |
| none | some | late row |
| some | none | deleted row |
| some | a later event time | late row |
| some | the same event time, created later or in another file | correction |
| some | the same times, in the same file | changed value |
| some | an earlier time | deleted row |
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hindcast.datasets.compare import Differences, Retyped, Side
from hindcast.datasets.definitions import Definitions, OnDemandRecord
from hindcast.datasets.manifest import FileRecord, Manifest, ModuleRecord
from hindcast.datasets.parts import read_table
from hindcast.datasets.pins import FileChange, by_view, file_names
from hindcast.offline.asof.merge import NO_TIME
from hindcast.offline.asof.origins import Origins

SAMPLES = 5
"""Cells of a change that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell that is another one.

    Attributes:
        row: its number in the set.
        keys: the frame's columns that tell the row apart, with their values as text.
        before, after: as text; None for null.
    """

    row: int
    keys: Mapping[str, str | None]
    column: str
    before: str | None
    after: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An input that is another one than it was, and what it did to the set.

    Attributes:
        kind: `source`, `module`, `entity_frame`, `definition`, `transform`, `library`, or `unknown` where no input is another one; of sets of
            lookups also `log`, `erasure` and `labels`.
        name: of the file, module, log or tombstone, by its path; of the view, on-demand view or service; of the library.
        what: what became of it: `changed`, `removed`, `renamed`, `appended`; of a definition which attribute.
        before, after: where they can be said in a few words; of a renamed file its paths.
        has_effect: whether the rows are other ones because of it; None where that could not be found out.
        rows: that are other ones because of it, or that only one of both has.
        columns: column -> differing rows.
        reasons: reason -> cells.
        views: of a source, those that read it; of a module, the on-demand views whose functions reach it.
    """

    kind: str
    name: str
    what: str = "changed"
    before: str = ""
    after: str = ""
    has_effect: bool | None = False
    rows: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    views: tuple[str, ...] = ()


def file_change(file: FileChange, *, has_effect: bool | None = False) -> Change:
    """A source's file that is another one, as a change."""
    return Change(
        kind="source",
        name=file.path,
        what=file.how,
        before=file.path if file.new_path else "",
        after=file.new_path,
        has_effect=has_effect,
        views=file.views,
    )


class Effect:
    """What one change did, as it adds up."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._columns: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._cells: list[Cell] = []

    def add(self, column: str, rows: np.ndarray, reason: str) -> None:
        """Count differing cells of a column."""
        self._rows.append(rows)
        self._columns[column] += len(rows)
        self._reasons[reason] += len(rows)

    def show(self, cells: Iterable[Cell]) -> None:
        """Keep some cells."""
        self._cells += list(cells)[: SAMPLES - len(self._cells)]

    @property
    def lacks(self) -> int:
        """Cells that may yet be shown."""
        return SAMPLES - len(self._cells)

    def of(self, change: Change) -> Change:
        """The change with its effect."""
        rows = np.unique(np.concatenate(self._rows)) if self._rows else np.empty(0, np.int64)
        return replace(
            change,
            has_effect=bool(self._rows) or change.has_effect,
            rows=len(rows),
            columns=dict(sorted(self._columns.items())),
            reasons=dict(sorted(self._reasons.items())),
            cells=tuple(self._cells),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the values of a table came from, by view: n rows of file name, event and created time; a file of None is no row."""

    files: Mapping[str, np.ndarray]
    events: Mapping[str, np.ndarray]
    created: Mapping[str, np.ndarray]

    @classmethod
    def stored(cls, directory: Path, parts: Sequence[FileRecord], names: Mapping[str, Sequence[str]]) -> "Provenance":
        """That of a set, from its evidence.

        Args:
            names: of the files of each view's source.
        """
        files, events, created = {}, {}, {}
        for view, of_view in names.items():
            columns = [f"{view}.{name}" for name in ("file", "event_ts", "created_ts")]
            table = read_table(directory, parts, columns=columns)
            files[view] = _named(table.column(0).fill_null(-1).to_numpy(), of_view)
            events[view] = table.column(1).fill_null(0).to_numpy()
            created[view] = table.column(2).fill_null(NO_TIME).to_numpy()
        return cls(files=files, events=events, created=created)

    @classmethod
    def of_set(cls, directory: Path, manifest: Manifest) -> "Provenance":
        """That of a set."""
        names = {view: [file.path for file in record.files] for view, record in by_view(manifest.sources).items()}
        return cls.stored(directory, manifest.evidence.origins, names)

    @classmethod
    def read(cls, origins: Mapping[str, Origins], *, root: Path) -> "Provenance":
        """That of a read."""
        return cls(
            files={view: _named(one.places()[0], file_names(one.pins, root=root)) for view, one in origins.items()},
            events={view: one.events for view, one in origins.items()},
            created={view: one.created for view, one in origins.items()},
        )


def _named(numbers: np.ndarray, names: Sequence[str]) -> np.ndarray:
    # The last one is for -1.
    named: np.ndarray = np.array([*names, None], dtype=object)[numbers]
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One table and the next: what differs, and what is known of both.

    Attributes:
        definitions: under which both were made, or the first of them.
        labels: the columns of the frame that tell rows apart.
    """

    differences: Differences
    before: Side
    after: Side
    definitions: Definitions
    labels: Sequence[str]

    def cells(self, column: str, at: np.ndarray, reason: str) -> list[Cell]:
        """Some differing cells.

        Args:
            at: indexes into the rows that both have.
        """
        rows = self.differences.before_rows[at].tolist()
        names = [*self.labels, column]
        before = self.before.cells(rows, names)
        after = self.after.cells(self.differences.after_rows[at].tolist(), [column])
        return [
            Cell(
                row=row,
                keys={label: text_of(old[label]) for label in self.labels},
                column=column,
                before=text_of(old[column]),
                after=text_of(new[column]),
                reason=reason,
            )
            for row, old, new in zip(rows, before, after, strict=True)
        ]


def text_of(value: Any) -> str | None:
    """A value for people; None for null."""
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def blamed_on(change: Change, step: Step, reason: str) -> Change:
    """A change that all differences of a step are put down to."""
    differences = step.differences
    effect = Effect()
    for column, at in differences.cells.items():
        effect.add(column, differences.before_rows[at], reason)
        if effect.lacks:
            effect.show(step.cells(column, at[: effect.lacks], reason))
    of_cells = effect.of(change)
    lone = len(differences.only_before) + len(differences.only_after)
    rows = step.before.rows
    whole = of_cells
    for reason_of_all, columns in (
        ("removed column", differences.dropped),
        ("added column", differences.added),
        ("other type", [one.column for one in differences.retyped]),
    ):
        whole = _with_columns(whole, columns, reason_of_all, rows=rows)
    reasons = dict(whole.reasons)
    if differences.reordered:
        reasons["other order of columns"] = rows
    for name, only in (("removed row", differences.only_before), ("added row", differences.only_after)):
        if len(only):
            reasons[name] = len(only)
    return replace(
        whole,
        has_effect=differences.are_there,
        rows=rows if whole is not of_cells or differences.reordered else of_cells.rows + lone,
        reasons=reasons,
    )


def _with_columns(change: Change, columns: Sequence[str], reason: str, *, rows: int) -> Change:
    """A change that whole columns are put down to, too.

    Args:
        rows: of the set.
    """
    if not columns:
        return change
    return replace(
        change,
        has_effect=True,
        rows=rows,
        columns={**change.columns, **dict.fromkeys(columns, rows)},
        reasons={**change.reasons, reason: rows * len(columns)},
    )


def blamed_on_files(changes: Sequence[FileChange], step: Step, then: Provenance, now: Provenance) -> tuple[Change, ...]:
    """Changed files of sources, each with the differences of a step that are put down to it."""
    made = [file_change(change) for change in changes]
    effects = [Effect() for _ in changes]
    reasoned = {view: _Files(view, changes, then, now) for view in then.files if view in now.files}
    columns: dict[str, tuple[str, ...]] = {
        feature.column: (view.name,) for view in step.definitions.views for feature in view.features
    }
    for function in step.definitions.on_demand:
        inputs = _inputs_of(function, step.definitions)
        columns |= {feature.column: inputs for feature in function.features}
    for column, at in step.differences.cells.items():
        rows, rows_now = step.differences.before_rows[at], step.differences.after_rows[at]
        views = [reasoned[name] for name in columns.get(column, ()) if name in reasoned]
        left: np.ndarray = np.ones(len(rows), dtype=bool)
        for number, view in enumerate(views):
            is_last = number == len(views) - 1
            for file, reason, is_such in view.of(rows, rows_now, all_of_them=is_last):
                mine = is_such & left
                left &= ~mine
                if mine.any():
                    effects[file].add(column, rows[mine], reason)
                    if effects[file].lacks:
                        effects[file].show(step.cells(column, at[mine][: effects[file].lacks], reason))
    retyped: list[list[str]] = [[] for _ in changes]
    for one in step.differences.retyped:
        read_by = columns.get(one.column, ())
        # Of several files it is the first: the type of a source's column is that of all of them together.
        retyped[next((at for at, change in enumerate(changes) if {*read_by} & {*change.views}), 0)].append(one.column)
    return tuple(
        _with_columns(effect.of(change), names, "other type", rows=step.before.rows)
        for effect, change, names in zip(effects, made, retyped, strict=True)
    )


def module_changes(
    before: Sequence[ModuleRecord], now: Callable[[str], str], reached: Sequence[ModuleRecord]
) -> Iterator[Change]:
    """What has become of the modules that functions reached, in the order of their paths, and which came.

    Args:
        now: gives the SHA-256 of a module's file, empty where it is not there.
        reached: by the functions of now.
    """
    for module in before:
        digest = now(module.path)
        if digest != module.sha256:
            yield Change(
                kind="module",
                name=module.path,
                what="changed" if digest else "removed",
                before=f"sha256:{module.sha256}",
                after=f"sha256:{digest}" if digest else "",
                views=module.views,
            )
    known = {module.path for module in before}
    for module in reached:
        if module.path not in known:
            after = f"sha256:{module.sha256}"
            yield Change(kind="module", name=module.path, what="added", after=after, views=module.views)


def blamed_on_modules(changes: Sequence[Change], step: Step) -> tuple[tuple[Change, ...], Step]:
    """Changed modules, each with the cells of the on-demand views that reach it, and what is left of the step.

    Of several that one view reaches it is the first; whether the others did something is not known then.
    """
    effects = [Effect() for _ in changes]
    columns = {feature.column: view.name for view in step.definitions.on_demand for feature in view.features}

    def reached(column: str) -> int | None:
        return next((at for at, change in enumerate(changes) if columns.get(column) in change.views), None)

    left: dict[str, np.ndarray] = {}
    for column, at in step.differences.cells.items():
        number = reached(column)
        if number is None:
            left[column] = at
            continue
        effects[number].add(column, step.differences.before_rows[at], "code")
        if effects[number].lacks:
            effects[number].show(step.cells(column, at[: effects[number].lacks], "code"))
    retyped: list[list[str]] = [[] for _ in changes]
    still: list[Retyped] = []
    for one in step.differences.retyped:
        number = reached(one.column)
        if number is None:
            still.append(one)
        else:
            retyped[number].append(one.column)
    made = tuple(
        _with_columns(effect.of(change), names, "other type", rows=step.before.rows)
        for effect, change, names in zip(effects, changes, retyped, strict=True)
    )
    blamed = {view for change in made if change.has_effect for view in change.views}
    told = tuple(
        replace(change, has_effect=None) if not change.has_effect and blamed & set(change.views) else change
        for change in made
    )
    return told, replace(step, differences=replace(step.differences, cells=left, retyped=tuple(still)))


def _inputs_of(view: OnDemandRecord, definitions: Definitions) -> tuple[str, ...]:
    """The views that an on-demand view is computed from."""
    return tuple(
        other.name for other in definitions.views if any(name.startswith(f"{other.name}:") for name in view.inputs)
    )


def reasons_of(
    view: str, then: Provenance, now: Provenance, rows: np.ndarray, rows_now: np.ndarray
) -> Iterable[tuple[str, np.ndarray]]:
    """What happened to the source's rows that answer some rows of two sets, by reason: which of them it is.

    Args:
        rows, rows_now: their numbers in each.
    """
    was, is_now = then.files[view][rows], now.files[view][rows_now]
    old_event, new_event = then.events[view][rows], now.events[view][rows_now]
    old_created, new_created = then.created[view][rows], now.created[view][rows_now]
    none_then, none_now = was == None, is_now == None  # noqa: E711 - elementwise
    same_event = (old_event == new_event) & ~none_then & ~none_now
    is_tied = same_event & (new_created == old_created)
    # A row of another file that has the same times came after the one that it outranks.
    is_elsewhere = is_tied & (was != is_now)
    yield "late row", ~none_now & (none_then | (new_event > old_event) & ~none_then)
    yield "correction", same_event & (new_created > old_created) | is_elsewhere
    yield "deleted row", ~none_then & (none_now | (new_event < old_event) | same_event & (new_created < old_created))
    yield "changed value", is_tied & ~is_elsewhere | none_then & none_now


class _Files:
    """Which of some changed files the rows of a view are put down to."""

    def __init__(self, view: str, changes: Sequence[FileChange], then: Provenance, now: Provenance) -> None:
        self._view = view
        # A renamed file is the same one.
        moved = {change.path: change.new_path for change in changes if change.new_path}
        named = {view: np.array([moved.get(file, file) for file in then.files[view]], dtype=object)}
        self._then = Provenance(files=named, events=then.events, created=then.created)
        self._now = now
        self._number = {change.now: number for number, change in enumerate(changes) if view in change.views}

    def of(self, rows: np.ndarray, rows_now: np.ndarray, *, all_of_them: bool) -> Iterable[tuple[int, str, np.ndarray]]:
        """For rows of the set: number of the change, reason, and which rows it is for.

        Args:
            rows, rows_now: their numbers then and now.
            all_of_them: also those that the same row answers, of a file that nobody changed.
        """
        if not self._number:
            return
        was = self._changed(self._then.files[self._view][rows])
        now = self._changed(self._now.files[self._view][rows_now])
        for reason, is_such in reasons_of(self._view, self._then, self._now, rows, rows_now):
            first, second = (was, now) if reason == "deleted row" else (now, was)
            numbers = np.where(first >= 0, first, second)
            mine = is_such if all_of_them or reason != "changed value" else is_such & (numbers >= 0)
            # Where neither row is in a file that changed, it is the first that did.
            numbers = np.where(numbers >= 0, numbers, min(self._number.values()))
            for number in np.unique(numbers[mine]).tolist():
                yield number, reason, mine & (numbers == number)

    def _changed(self, files: np.ndarray) -> np.ndarray:
        numbers: np.ndarray = np.array([self._number.get(file, -1) for file in files], np.int64)
        return numbers
