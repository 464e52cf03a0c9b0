"""What is told of training sets besides their rows: progress, and what came of rebuilding, verifying and comparing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hindcast.v1 import training_sets_pb2 as pb


class NotRegistered(UserWarning):
    """Feast's registry does not have of a training set what it should; the set itself is as it should be."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build or a rebuild is.

    Attributes:
        phase: `waiting` (for other builds), `frame`, `read`, `write` or `evidence`; one may be left out, or said more than once.
        done, total: rows of the set, in this phase. `total` is 0 while it is not known.
    """

    phase: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]
"""What it raises ends the build, and nothing of it is left."""


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
        kind: `source`, `module`, `entity_frame`, `definition`, `transform`, `library`, or `unknown` where no input is another one.
        name: of the file or module, by its path; of the view, on-demand view or service; of the library.
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
    what: str
    before: str
    after: str
    has_effect: bool | None
    rows: int
    columns: Mapping[str, int]
    reasons: Mapping[str, int]
    cells: tuple[Cell, ...]
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """What came of making a set again.

    Attributes:
        ref, id: of the set that was made again.
        identical: whether it has the same logical digest.
        expected, digest: the logical digest of the manifest, and of what was made; empty where nothing could be made.
        files_identical: whether its files have the same bytes; None where that is not promised.
        rows: that were made.
        changes: inputs that are other ones than they were, those that changed rows first.
        as_recorded: whether the manifest's definitions and files were used, not those of now.
        trouble: why nothing could be made; empty where it was.
    """

    ref: str
    id: str
    identical: bool
    expected: str
    digest: str
    files_identical: bool | None
    rows: int
    changes: tuple[Change, ...]
    as_recorded: bool
    trouble: str

    @property
    def first_change(self) -> Change | None:
        """The first input that is another one: of those that changed rows, if any did."""
        return self.changes[0] if self.changes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of verifying a set.

    Attributes:
        problems: what is not as it was, in words; none for a set that is whole.
        signed_by: the key that the signature says it is of, as OpenSSH writes it; empty without one.
    """

    ref: str
    id: str
    problems: tuple[str, ...]
    signed_by: str

    @property
    def intact(self) -> bool:
        """Whether all is as it was."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Retyped:
    """A column whose type is another one."""

    column: str
    before: str
    after: str


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
    """What differs between two sets.

    Attributes:
        before, after: `name@vN`.
        identical: whether both have the same logical digest.
        keys: columns that tell rows apart; rows of equal keys are told apart by their order.
        rows_before, rows_after, rows_both: how many; the last are those that both have.
        only_before, only_after: some of the rows that only one has, by their keys.
        inputs: what they were made of that differs; what could be known is of the kind `known_at`.
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


def read_progress(message: pb.BuildProgress) -> Progress:
    """Progress from its message."""
    return Progress(message.phase, message.done, message.total)


def read_rebuild(message: pb.RebuildReport) -> Rebuild:
    """A report from its message."""
    return Rebuild(
        ref=message.ref,
        id=message.id,
        identical=message.identical,
        expected=message.expected,
        digest=message.digest,
        files_identical=_optional(message, "files_identical"),
        rows=message.rows,
        changes=_changes(message.changes),
        as_recorded=message.as_recorded,
        trouble=message.trouble,
    )


def read_verification(message: pb.TrainingSetsVerifyResponse) -> Verification:
    """What came of it, from its message."""
    return Verification(ref=message.ref, id=message.id, problems=tuple(message.problems), signed_by=message.signed_by)


def read_diff(message: pb.TrainingSetsDiffResponse) -> Diff:
    """What differs, from its message."""
    return Diff(
        before=message.before,
        after=message.after,
        identical=message.identical,
        keys=tuple(message.keys),
        rows_before=message.rows_before,
        rows_after=message.rows_after,
        rows_both=message.rows_both,
        only_before=tuple(_keys(row.keys) for row in message.only_before),
        only_after=tuple(_keys(row.keys) for row in message.only_after),
        added=tuple(message.added),
        dropped=tuple(message.dropped),
        retyped=tuple(Retyped(column=one.column, before=one.before, after=one.after) for one in message.retyped),
        columns=tuple(
            ColumnDiff(column=one.column, rows=one.rows, reasons=dict(one.reasons), cells=_cells(one.cells))
            for one in message.columns
        ),
        inputs=_changes(message.inputs),
    )


def _changes(messages: Iterable[pb.InputChange]) -> tuple[Change, ...]:
    return tuple(
        Change(
            kind=one.kind,
            name=one.name,
            what=one.what,
            before=one.before,
            after=one.after,
            has_effect=_optional(one, "has_effect"),
            rows=one.rows,
            columns=dict(one.columns),
            reasons=dict(one.reasons),
            cells=_cells(one.cells),
            views=tuple(one.views),
        )
        for one in messages
    )


def _cells(messages: Iterable[pb.CellChange]) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            row=one.row,
            keys=_keys(one.keys),
            column=one.column,
            before=_optional(one, "before"),
            after=_optional(one, "after"),
            reason=one.reason,
        )
        for one in messages
    )


def _keys(messages: Iterable[pb.KeyValue]) -> dict[str, str | None]:
    return {one.column: _optional(one, "value") for one in messages}


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
