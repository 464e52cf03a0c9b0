"""What was served against the offline store as of then, cell by cell, for any number of lookups at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hindcast.catalog import Catalog, InputColumn, OnDemandView
from hindcast.errors import CatalogError, TransformError
from hindcast.lookups.receipts import Answered as ReceiptColumn
from hindcast.lookups.receipts import Receipt, run_id_of
from hindcast.lookups.record import RowHeader
from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.replay.history import History
from hindcast.replay.offline import Doubt, OfflineStore, RowAt, Then
from hindcast.replay.questions import Asked
from hindcast.replay.result import EQUAL, NULLS, Answered, Cell, Reason, Verdict
from hindcast.replay.verdicts import is_after, is_same_row, why_computed, why_other_row, why_other_value

if TYPE_CHECKING:
    from hindcast.catalog.transforms import Transformer


@dataclass(slots=True)
class Compared:
    """One lookup, compared.

    Attributes:
        cells: row by row; of a comparison that leaves equal cells out, the others.
        equal: by view, how many values are equal.
    """

    asked: Asked
    cells: list[Cell] = field(default_factory=list)
    equal: dict[str, int] = field(default_factory=dict)


class Comparison:
    """Compares lookups of one log with the sources of one repo."""

    def __init__(self, store: OfflineStore, history: History) -> None:
        self._store = store
        self._history = history
        self._transformers: dict[tuple[str, str], Transformer | str] = {}

    def compare(self, lookups: Sequence[Asked], *, with_equal: bool) -> Iterator[Compared]:
        """Compare lookups, those that mean the same by one read; each read asks for all of their rows.

        Args:
            with_equal: whether equal cells are given, too.
        Raises:
            StoreUnavailable: the disk did not take what was spilled.
        """
        groups: dict[bytes, list[Asked]] = {}
        for asked in lookups:
            groups.setdefault(asked.meaning(), []).append(asked)
        for group in groups.values():
            yield from self._compare_group(group, with_equal=with_equal)

    def _compare_group(self, group: Sequence[Asked], *, with_equal: bool) -> Iterator[Compared]:
        then = Then(group, self._store)
        known = [self._known(then, read) for read in range(len(then.reads))]
        for asked, (start, stop) in zip(group, then.spans(), strict=True):
            rows = _LookupRows(asked, then, start, stop, known, self._history)
            computed = [
                self._computed(asked, then, start, stop, number) for number in range(len(asked.plan.computations))
            ]
            yield _compared(rows, computed, with_equal=with_equal)

    def _known(self, then: Then, read: int) -> Mapping[int, bool]:
        """Of rows that were served and that the offline store does not have as of then, whether its source has them now."""
        rows = then.reads[read]
        if rows.problem:
            return {}
        doubts = []
        for asked, (start, _) in zip(then.lookups, then.spans(), strict=True):
            column = _column_of(asked, read)
            for number in range(asked.rows if column is not None else 0):
                header = asked.receipt.row(column, number) if column is not None else None
                row = rows.rows[start + number]
                if header is not None and is_after(header, row) and not (row and is_same_row(header, row)):
                    doubts.append(Doubt(start + number, RowAt(header.event_micros, header.created_micros)))
        return {doubt.at: is_known for doubt, is_known in zip(doubts, then.known(read, doubts), strict=True)}

    def _computed(self, asked: Asked, then: Then, start: int, stop: int, number: int) -> "_Computed":
        computation = asked.plan.computations[number]
        problem = next(
            (
                problem
                for source, _ in computation.inputs.values()
                if (problem := _problem_of(then, asked, source.read, source.feature))
            ),
            "",
        )
        inputs = {
            name: InputColumn(asked.columns[name], int(types[0])) for name, types in asked.plan.key_columns.items()
        }
        for name, wanted in asked.plan.request_columns.items():
            inputs[name] = InputColumn(asked.columns[name], wanted.value_type)
        for name, (source, value_type) in computation.inputs.items():
            inputs[name] = InputColumn(then.reads[source.read].values[source.feature][start:stop], value_type)
        # A function was never given the nulls that stand in the place of erased rows, and may fail on them.
        rows = sorted(set(range(stop - start)) - asked.receipt.erased)
        differing = differing_inputs(
            asked.receipt.record.computed.get(computation.view.name, {}),
            {name: column.values for name, column in inputs.items()},
            rows=stop - start,
        )
        transformer = problem or self._transformer(asked.catalog, computation.view)
        if isinstance(transformer, str):
            return _Computed({}, differing, transformer)
        given = {
            name: InputColumn([column.values[row] for row in rows], column.value_type)
            for name, column in inputs.items()
        }
        try:
            computed = transformer.run(computation.view.name, given, len(rows))
            return _Computed(
                {name: _spread(values, rows, stop - start) for name, values in computed.items()}, differing, ""
            )
        except TransformError as error:
            return _Computed({}, differing, str(error))

    def _transformer(self, catalog: Catalog, view: OnDemandView) -> "Transformer | str":
        """An on-demand view, loaded once, or why it cannot be."""
        key = (catalog.version, view.name)
        if key not in self._transformers:
            from hindcast.catalog.transforms import Transformer  # noqa: PLC0415 - Feast, 5 s

            try:
                self._transformers[key] = Transformer([view], repo_root=self._store.repo_root)
            except CatalogError as error:
                self._transformers[key] = str(error)
        return self._transformers[key]


def _spread(values: Sequence[bytes], rows: Sequence[int], count: int) -> list[bytes]:
    """A column of `count` values that has these in these rows."""
    column = [b""] * count
    for row, value in zip(rows, values, strict=True):
        column[row] = value
    return column


def differing_inputs(
    served: Mapping[str, Sequence[bytes]], other: Mapping[str, Sequence[bytes]], *, rows: int
) -> list[list[str]]:
    """Per row the names of an on-demand view's inputs that are not the ones it was served from; a null is a null in any form."""
    names = sorted(served.keys() & other.keys())
    return [
        [name for name in names if row < len(served[name]) and _plain(served[name][row]) != _plain(other[name][row])]
        for row in range(rows)
    ]


def served_answer(receipt: Receipt, column: ReceiptColumn, row: int) -> Answered:
    """A value of a receipt."""
    header = receipt.row(column, row)
    value, status = column.values[row], column.statuses[row]
    if header is None:
        return Answered(value=value, status=status)
    return Answered(
        value=value,
        status=status,
        event_micros=header.event_micros,
        created_micros=header.created_micros,
        run_id=run_id_of(header),
    )


def _plain(value: bytes) -> bytes:
    return b"" if value in NULLS else value


@dataclass(frozen=True, slots=True)
class _Computed:
    """What an on-demand view gives as of then: n serialized Values by feature, per row the inputs that are others, or a problem."""

    columns: Mapping[str, Sequence[bytes]]
    differing: Sequence[Sequence[str]]
    problem: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a column of the answer comes from: feature `feature` of a read or of a computation."""

    read: int | None
    computation: int | None
    feature: int


def _places(asked: Asked) -> list[_Place | None]:
    """Per column of the receipt; None where the definitions do not have it."""
    of_plan = [
        _Place(run.read, run.computation, run.start + number)
        for run in asked.plan.runs
        for number in range(len(run.names))
    ]
    return [None if at is None else of_plan[at] for at in asked.at]


def _column_of(asked: Asked, read: int) -> ReceiptColumn | None:
    """A column of the receipt that came from a read; None where it was read for on-demand views only."""
    for column, place in zip(asked.receipt.columns, _places(asked), strict=True):
        if place is not None and place.read == read and column.rows is not None:
            return column
    return None


def _problem_of(then: Then, asked: Asked, read: int, feature: int) -> str:
    rows = then.reads[read]
    return rows.problem or rows.problems.get(asked.plan.reads[read].rows_of.features[feature], "")


class _LookupRows:
    """The rows of one lookup, and the offline store's beside them."""

    def __init__(
        self, asked: Asked, then: Then, start: int, stop: int, known: Sequence[Mapping[int, bool]], history: History
    ) -> None:
        self.asked, self.then, self.start, self.stop = asked, then, start, stop
        self._known = known
        self._history = history
        self._why: dict[tuple[int, int], Verdict] = {}

    def answer(self, place: _Place, row: int, served: Answered) -> Answered:
        """A stored value as of then. A NaN is one where something was served, and a null, which the writers of columns make of it, else."""
        assert place.read is not None  # noqa: S101 - asked of stored columns only
        rows, at = self.then.reads[place.read], self.start + row
        found = rows.rows[at]
        if found is not None:
            value = rows.values[place.feature][at]
            if not value and not served.is_null:
                value = rows.nans[place.feature].get(at, b"")
            status = PRESENT if value else NULL_VALUE
            return Answered(
                value=value, status=status, event_micros=found.event_micros, created_micros=found.created_micros
            )
        stale = rows.stale[at]
        if stale is None:
            return Answered(value=b"", status=NOT_FOUND)
        return Answered(
            value=b"", status=OUTSIDE_MAX_AGE, event_micros=stale.event_micros, created_micros=stale.created_micros
        )

    def why(self, read: int, column: ReceiptColumn, row: int, served: Answered, then: Answered) -> Verdict:
        """Why a stored value differs."""
        rows, at = self.then.reads[read], self.start + row
        header, found = self.asked.receipt.row(column, row), rows.rows[at]
        if header is not None and found is not None and is_same_row(header, found):
            return self._why_value(read, served, then, header, found, feature=column.feature)
        if (read, row) not in self._why:
            self._why[read, row] = why_other_row(
                header,
                found,
                rows.stale[at],
                view=self.asked.plan.reads[read].view.name,
                served_at_micros=self.asked.receipt.record.served_at_micros,
                is_known=self._known[read].get(at, False),
                was_stale=served.is_stale,
                history=self._history,
            )
        return self._why[read, row]

    def _why_value(
        self, read: int, served: Answered, then: Answered, header: RowHeader, found: RowAt, *, feature: str
    ) -> Verdict:
        if served.is_null and not then.is_null:
            view = self.asked.plan.reads[read].view.name
            run = self._history.run(view, run_id_of(header))
            if run is not None and self._history.lacked(run, view, feature):
                told = f"run {run.run_id[:13]} wrote the row before the view had this feature"
                return Verdict(Reason.DEFINITION_CHANGED, told)
        return why_other_value(served, then, header, found)


def _compared(rows: _LookupRows, computed: Sequence[_Computed], *, with_equal: bool) -> Compared:
    asked, receipt = rows.asked, rows.asked.receipt
    compared = Compared(asked)
    by_column: list[list[Cell]] = []
    for column, place in zip(receipt.columns, _places(asked), strict=True):
        if not with_equal and _is_all_equal(rows, column, place, computed):
            compared.equal[column.view] = compared.equal.get(column.view, 0) + asked.rows
            continue
        cells = list(_cells(rows, column, place, computed))
        equal = sum(cell.verdict.is_equal for cell in cells)
        compared.equal[column.view] = compared.equal.get(column.view, 0) + equal
        by_column.append([cell for cell in cells if with_equal or not cell.verdict.is_equal])
    if with_equal:
        compared.cells = [cell for of_row in zip(*by_column, strict=True) for cell in of_row]
    else:
        compared.cells = [cell for cells in by_column for cell in cells]
    return compared


def _is_all_equal(
    rows: _LookupRows, column: ReceiptColumn, place: _Place | None, computed: Sequence[_Computed]
) -> bool:
    """Whether a column is equal at a glance: no null in it, and the same bytes."""
    if place is None or any(value in NULLS for value in column.values):
        return False
    if place.read is not None:
        return column.values == rows.then.reads[place.read].values[place.feature][rows.start : rows.stop]
    return list(column.values) == list(_computed_column(rows.asked, place, computed) or ())


def _computed_column(asked: Asked, place: _Place, computed: Sequence[_Computed]) -> Sequence[bytes] | None:
    assert place.computation is not None  # noqa: S101 - a place has one of the two
    fields = asked.plan.computations[place.computation].view.fields
    return computed[place.computation].columns.get(fields[place.feature].name)


def _cells(
    rows: _LookupRows, column: ReceiptColumn, place: _Place | None, computed: Sequence[_Computed]
) -> Iterable[Cell]:
    asked, receipt = rows.asked, rows.asked.receipt
    # Nothing is left of an erased row that could be compared.
    for row in sorted(set(range(asked.rows)) - receipt.erased):
        served = served_answer(receipt, column, row)
        then, verdict = _then(rows, column, place, computed, row, served)
        yield Cell(
            row=row,
            name=column.name,
            view=column.view,
            feature=column.feature,
            served=served,
            then=then,
            verdict=verdict,
        )


def _then(
    rows: _LookupRows,
    column: ReceiptColumn,
    place: _Place | None,
    computed: Sequence[_Computed],
    row: int,
    served: Answered,
) -> tuple[Answered | None, Verdict]:
    asked = rows.asked
    if place is None:
        return None, Verdict(Reason.DEFINITION_CHANGED, "the definitions of now do not have it")
    if place.read is not None:
        problem = _problem_of(rows.then, asked, place.read, place.feature)
        if problem:
            return None, Verdict(Reason.NO_ANSWER, problem)
        then = rows.answer(place, row, served)
        return then, EQUAL if served.equals(then) else rows.why(place.read, column, row, served, then)
    assert place.computation is not None  # noqa: S101 - a place has one of the two
    of_view, values = computed[place.computation], _computed_column(asked, place, computed)
    if values is None:
        return None, Verdict(Reason.NO_ANSWER, of_view.problem)
    then = Answered(value=values[row], status=PRESENT if values[row] else NULL_VALUE)
    if served.equals(then):
        return then, EQUAL
    return then, why_computed(served, then, differing=of_view.differing[row], in_force=asked.in_force)
