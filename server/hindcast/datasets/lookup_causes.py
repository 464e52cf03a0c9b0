"""Why a set of lookups is another one: what an erasure, the age of a log, its labels and the list of its features did, row by row."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from hindcast.datasets.causes import SAMPLES, Cell, Change, Step
from hindcast.datasets.manifest import LookupsRecord
from hindcast.datasets.served_rows import AGE, ORIGIN, STATUS
from hindcast.lookups.directory import WriterId
from hindcast.lookups.erasures import Fate, Place

_ERASURE, _DROPPED, _LABELS, _LOG = "erasure", "dropped", "labels", "log"
_GONE = {_DROPPED: "dropped row", _LABELS: "row without a label now", _LOG: "row that is gone"}
_OTHER = {_ERASURE: "erased with a row of its lookup", _LABELS: "other label", _LOG: "other value in the log"}


@dataclass(frozen=True, slots=True)
class RowPlaces:
    """Where the rows of a set stand in the log: record and number of the row in it."""

    records: Sequence[Place]
    numbers: Sequence[int]

    @classmethod
    def of(cls, places: pa.Table, numbers: pa.ChunkedArray) -> "RowPlaces":
        """As a set has them."""
        slots, epochs, sequences = (places.column(name).to_pylist() for name in ("slot", "epoch", "sequence"))
        records = [Place(WriterId(*writer), number) for *writer, number in zip(slots, epochs, sequences, strict=True)]
        return cls(records, numbers.to_pylist())

    def distinct(self, rows: np.ndarray) -> list[Place]:
        """The records of some rows, each once."""
        return list(dict.fromkeys(self.records[row] for row in np.unique(rows).tolist()))

    def by_fate(self, rows: np.ndarray, fate: Fate, otherwise: str) -> Iterator[tuple[str, np.ndarray]]:
        """Rows by what became of their records."""
        of: dict[str, list[int]] = {}
        for row in rows.tolist():
            place = self.records[row]
            name = _ERASURE if place in fate.erased else _DROPPED if place in fate.dropped else otherwise
            of.setdefault(name, []).append(row)
        for name, mine in of.items():
            yield name, np.array(mine, np.int64)

    def are_erased(self, rows: np.ndarray, fate: Fate) -> np.ndarray:
        """Which rows were erased themselves, and not another row of their lookup."""
        erased: np.ndarray = np.array(
            [fate.has_erased(self.records[row], self.numbers[row]) for row in rows.tolist()], bool
        )
        return erased


@dataclass(slots=True)
class _Blame:
    """What one input did, as it adds up; rows by their numbers in the set, or behind its end where only the new one has them."""

    rows: list[np.ndarray] = field(default_factory=list)
    columns: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    cells: list[Cell] = field(default_factory=list)

    def add(self, rows: np.ndarray, reason: str, *, column: str = "") -> None:
        """Count rows, or cells of a column."""
        if len(rows):
            self.rows.append(rows)
            self.reasons[reason] += len(rows)
            if column:
                self.columns[column] += len(rows)

    def show(self, cells: Sequence[Cell]) -> None:
        """Keep some cells."""
        self.cells += cells[: SAMPLES - len(self.cells)]

    def of(self, change: Change) -> Change | None:
        """The change with what it did; None where that is nothing."""
        if not self.rows and not self.columns:
            return None
        return replace(
            change,
            has_effect=True,
            rows=len(np.unique(np.concatenate(self.rows))) if self.rows else 0,
            columns=dict(sorted(self.columns.items())),
            reasons=dict(sorted(self.reasons.items())),
            cells=tuple(self.cells),
        )


def own_changes(
    step: Step,
    record: LookupsRecord,
    places: RowPlaces,
    fate: Fate,
    *,
    labels: Change | None,
    label_columns: Collection[str],
    features: tuple[Sequence[str], Sequence[str]],
    tombstones: Sequence[str],
) -> list[Change]:
    """What is to be put down for the log, an erasure, the labels and the list of features, in this order.

    Args:
        step: from the set to what was made; no cells of filled features.
        labels: that their files are other ones; None where they are not.
        label_columns: the set's columns that depend on labels.
        features: the columns of features, then and now.
        tombstones: of the erasures that may have erased what is gone.
    """
    found, rows = step.differences, step.before.rows
    blames = {name: _Blame() for name in (_ERASURE, _DROPPED, _LABELS, _LOG)}
    otherwise = _LOG if labels is None else _LABELS
    for name, mine in places.by_fate(found.only_before, fate, otherwise):
        if name == _ERASURE:
            is_gone = places.are_erased(mine, fate)
            blames[name].add(mine[is_gone], "erased row")
            blames[name].add(mine[~is_gone], "row of a lookup whose request id was erased")
        else:
            blames[name].add(mine, _GONE[name])
    blames[otherwise].add(found.only_after + rows, "row that came" if labels is None else "row with a label now")
    for column, at in found.cells.items():
        before = found.before_rows[at]
        for name, mine in places.by_fate(before, fate, otherwise if column in label_columns else _LOG):
            reason = _OTHER.get(name, _OTHER[_LOG])
            blames[name].add(mine, reason, column=column)
            blames[name].show(step.cells(column, at[np.isin(before, mine)][:SAMPLES], reason))
    then, now = features
    of_features = {f"{name}{end}" for name in (*then, *now) for end in ("", STATUS, ORIGIN)}
    columns = [*found.dropped, *found.added, *(one.column for one in found.retyped)]
    listed = [name for name in columns if name in of_features or name.endswith(AGE)]
    for name in columns:
        if name not in listed:
            blames[_LABELS].columns[name] += rows
    path = record.log.path
    told = [
        blames[_ERASURE].of(_erased(record, tombstones)),
        blames[_DROPPED].of(_dropped(record)),
        blames[_LOG].of(Change(kind="log", name=path, what="changed")),
        blames[_LABELS].of(labels or Change(kind="labels", name=record.labels.frame.text)) or labels,
    ]
    changes = [change for change in told if change is not None]
    if listed:
        changes.append(
            Change(
                kind="definition",
                name=record.service,
                what="features",
                before=", ".join(name for name in then if name not in now),
                after=", ".join(name for name in now if name not in then),
                has_effect=True,
                rows=rows,
                columns=dict.fromkeys(listed, rows),
            )
        )
    return changes


def fate_changes(record: LookupsRecord, fate: Fate, *, tombstones: Sequence[str]) -> list[Change]:
    """What became of a set's records, where its rows are gone and it cannot be said what that did.

    Args:
        fate: of all records of the set.
        tombstones: as of `own_changes`.
    """
    found = [(_erased(record, tombstones), fate.erased), (_dropped(record), fate.dropped)]
    return [replace(change, has_effect=None) for change, places in found if places]


def _erased(record: LookupsRecord, tombstones: Sequence[str]) -> Change:
    return Change(kind="erasure", name=", ".join(tombstones) or record.log.path, what="erased")


def _dropped(record: LookupsRecord) -> Change:
    return Change(kind="log", name=record.log.path, what="dropped")
