"""Two training sets side by side: rows that only one has, cells that differ and why, and what else is different in what they were made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hindcast.clock import from_micros
from hindcast.datasets.causes import (
    SAMPLES,
    Cell,
    Change,
    Provenance,
    Step,
    file_change,
    module_changes,
    reasons_of,
    text_of,
)
from hindcast.datasets.compare import Differences, Retyped, Side, compare
from hindcast.datasets.definitions import PICKLED, ViewRecord, definition_changes
from hindcast.datasets.manifest import KnownAt, Manifest
from hindcast.datasets.pins import FileChange, file_changes
from hindcast.datasets.store import StoredSet
from hindcast.errors import DatasetError, InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDiff:
    """A column of which some cells differ.

    Attributes:
        rows: how many of the rows that both have.
        reasons: reason -> cells.
    """

    column: str
    rows: int
    reasons: Mapping[str, int]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What differs.

    Attributes:
        before, after: `name@vN`.
        identical: whether both have the same logical digest.
        keys: columns that tell rows apart; rows of equal keys are told apart by their order.
        rows_before, rows_after, rows_both: how many; the last are those that both have.
        only_before, only_after: some of the rows that only one has, by their keys.
        inputs: what they were made of that differs: sources, definitions, transforms, libraries, and what was asked for, of which the kinds are
            `entity_frame` and `known_at`.
    """

    before: str
    after: str
    identical: bool
    keys: tuple[str, ...]
    rows_before: int
    rows_after: int
    rows_both: int
    only_before: tuple[Mapping[str, str | None], ...]
    only_after: tuple[Mapping[str, str | None], ...]
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    retyped: tuple[Retyped, ...]
    columns: tuple[ColumnDiff, ...]
    inputs: tuple[Change, ...]


def diff(before: StoredSet, after: StoredSet) -> Diff:
    """What differs between two sets.

    Raises:
        DatasetError: files of one are gone or damaged.
        InvalidArgument: they have no keys in common by which rows could be told apart.
    """
    keys = tuple(label for label in before.manifest.labels if label in after.manifest.labels)
    if not keys:
        raise InvalidArgument.at(
            "diff", f"{before.ref} and {after.ref} have no keys in common; compare sets that ask about the same"
        )
    sides = Side.of(before.path, before.manifest), Side.of(after.path, after.manifest)
    is_same_frame = before.manifest.frame.digest == after.manifest.frame.digest
    found = compare(*sides, keys=() if is_same_frame else keys)
    step = Step(
        differences=found, before=sides[0], after=sides[1], definitions=before.manifest.definitions, labels=keys
    )
    return Diff(
        before=before.ref,
        after=after.ref,
        identical=before.manifest.digest == after.manifest.digest,
        keys=keys,
        rows_before=before.manifest.rows,
        rows_after=after.manifest.rows,
        rows_both=len(found.before_rows),
        only_before=_shown(sides[0], found.only_before, keys),
        only_after=_shown(sides[1], found.only_after, keys),
        added=found.added,
        dropped=found.dropped,
        retyped=found.retyped,
        columns=_columns(step, found, before, after),
        inputs=inputs_that_differ(before.manifest, after.manifest),
    )


def _shown(side: Side, rows: np.ndarray, keys: tuple[str, ...]) -> tuple[Mapping[str, str | None], ...]:
    cells = side.cells(rows[:SAMPLES].tolist(), keys)
    return tuple({key: text_of(row[key]) for key in keys} for row in cells)


def _columns(step: Step, found: Differences, before: StoredSet, after: StoredSet) -> tuple[ColumnDiff, ...]:
    then: Provenance | None
    now: Provenance | None
    try:
        then = Provenance.of_set(before.path, before.manifest)
        now = Provenance.of_set(after.path, after.manifest)
    except DatasetError:
        then, now = None, None
    old, new = before.manifest.definitions, after.manifest.definitions
    # Sources that are the same and answer otherwise were asked otherwise: no row of theirs came, went or was corrected.
    asked_otherwise: set[str] = set()
    if _is_known_otherwise(before.manifest, after.manifest):
        changed = {view for change in _changes_of_files(before.manifest, after.manifest) for view in change.views}
        asked_otherwise = {view.name for view in old.views} - changed
    same_views = {view.name for view in old.views if _but_features(view) in map(_but_features, new.views)}
    of_view = {feature.column: view.name for view in old.views for feature in view.features}
    same_code = {
        view.name
        for view in old.on_demand
        if replace(view, spec="") in [replace(one, spec="") for one in new.on_demand]
    }
    computed = {
        feature.column: "computed from other values" if view.name in same_code else "code"
        for view in old.on_demand
        for feature in view.features
    }
    columns = []
    for column, at in found.cells.items():
        view = of_view.get(column)
        if view is not None and view not in same_views:
            reasons = {"definition": at}
        elif view in asked_otherwise:
            reasons = {"known at": at}
        elif view is not None and then is not None and now is not None and view in then.files and view in now.files:
            rows, rows_now = found.before_rows[at], found.after_rows[at]
            reasons = {
                reason: at[is_such] for reason, is_such in reasons_of(view, then, now, rows, rows_now) if is_such.any()
            }
        else:
            reasons = {computed.get(column, "entity frame"): at}
        cells = [cell for reason, some in reasons.items() for cell in step.cells(column, some[:SAMPLES], reason)]
        columns.append(
            ColumnDiff(
                column=column,
                rows=len(at),
                reasons={reason: len(some) for reason, some in reasons.items()},
                cells=tuple(cells[:SAMPLES]),
            )
        )
    return tuple(columns)


def _is_known_otherwise(before: Manifest, after: Manifest) -> bool:
    """Whether rows of equal keys and times may be asked as of other things that were known; a column says it of each row."""
    is_same_frame = before.frame.digest == after.frame.digest
    return before.known_at != after.known_at or (before.known_at.kind == "column" and not is_same_frame)


def _but_features(view: ViewRecord) -> ViewRecord:
    """A view, whatever was asked of it."""
    return replace(view, features=())


def _changes_of_files(before: Manifest, after: Manifest) -> Iterator[FileChange]:
    """What became of the files of the sources that both have."""
    now = {source.path: source for source in after.sources}
    for source in before.sources:
        if source.path in now:
            yield from file_changes(source, now[source.path])


def _known_at_text(known_at: KnownAt) -> str:
    if known_at.micros is not None:
        return from_micros(known_at.micros).isoformat()
    return "own" if known_at.kind == "own" else known_at.column


def inputs_that_differ(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """What two sets were made of that differs."""
    changes: list[Change] = [file_change(change) for change in _changes_of_files(before, after)]
    if before.frame.digest != after.frame.digest:
        changes.append(
            Change(
                kind="entity_frame",
                name=after.frame.text or after.frame.form,
                before=f"{before.frame.rows:,} rows",
                after=f"{after.frame.rows:,} rows",
            )
        )
    if before.known_at != after.known_at:
        changes.append(
            Change(
                kind="known_at",
                name="known_at",
                before=_known_at_text(before.known_at),
                after=_known_at_text(after.known_at),
            )
        )
    changes += (
        Change(kind=change.kind, name=change.name, what=change.attribute, before=change.before, after=change.after)
        for change in definition_changes(before.definitions, after.definitions)
        if change.attribute != PICKLED
    )
    digests = {module.path: module.sha256 for module in after.modules or ()}
    changes += module_changes(before.modules or (), lambda path: digests.get(path, ""), after.modules or ())
    changes += (
        Change(
            kind="library",
            name=name,
            what="version",
            before=before.libraries.get(name, ""),
            after=after.libraries.get(name, ""),
        )
        for name in dict.fromkeys([*before.libraries, *after.libraries])
        if before.libraries.get(name) != after.libraries.get(name)
    )
    return tuple(changes)
