"""What a replay finds: cell by cell what was served, what the offline store says as of then, and what is served now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hindcast.lookups.receipts import Receipt
from hindcast.online.field_status import NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.v1.value_pb2 import Value

NULLS = frozenset({b"", b"\x98\x01\x00"})
"""No Value at all, and one that says `null_val`."""


class Reason(StrEnum):
    """Why what was served and another answer differ, or that they do not."""

    EQUAL = "equal"
    """The same bits; or both a null of a row, or both no row that counts."""
    NOT_YET_MATERIALIZED = "not yet materialized"
    """The online store had no row yet, or an older one: no run had read the times of the row that was true."""
    LATE_ROW = "late row"
    """As before, but a run had read its times: the row came after that."""
    CORRECTION = "correction"
    """Another row of the same event time that became known later."""
    EXPIRED = "expired by TTL"
    """One of the two is past its view's TTL."""
    DATED_AHEAD = "dated ahead"
    """The row that was served says that it was true, or known, after the answer."""
    DEFINITION_CHANGED = "definition changed"
    """The definitions of the two answers differ."""
    ROW_ERASED = "row erased"
    """The online store does not have a row that it once had."""
    PUSHED = "pushed, not offline"
    """A push wrote the row that was served, and the offline store does not have it."""
    NOT_IN_SOURCE = "not in the source"
    """The source does not have the row that was served, or not any more."""
    SOURCE_CHANGED = "source changed"
    """The row of the same two times has another value."""
    FLOAT_BITS = "float bits"
    """The same row, and a floating-point number that differs in its last bits, its sign of zero, or the bits of a NaN."""
    INPUT_DIFFERS = "an input differs"
    """An on-demand view was computed from other inputs."""
    NOT_REPEATABLE = "not repeatable"
    """An on-demand view's function gave something else for the same inputs."""
    NEWER_ROW = "newer row"
    """A later row has come since."""
    NO_ANSWER = "no answer"
    """There is nothing to compare with, as the detail says."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason.

    Attributes:
        detail: what tells it from other reasons, in words; may be empty.
    """

    reason: Reason
    detail: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether the two are equal."""
        return self.reason is Reason.EQUAL


EQUAL = Verdict(Reason.EQUAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One value of an answer, and the row that it came from.

    Attributes:
        value: the serialized `feast.types.Value`; b"" is a null.
        status: a number of `hindcast.v1.FeatureStatus`.
        event_micros: None where there was no row, and for what was computed.
        created_micros: None also where the row does not say.
        run_id: empty where the row does not say, and for rows of the offline store.
    """

    value: bytes
    status: int
    event_micros: int | None = None
    created_micros: int | None = None
    run_id: str = ""

    @property
    def is_null(self) -> bool:
        """Whether there is no value."""
        return self.value in NULLS

    def equals(self, other: "Answered") -> bool:
        """Whether a model could not tell the two apart: the same bits, or a null of the same kind.

        A null that a row holds is not a row that is missing. Missing and past its TTL are one: the store forgets the difference in time.
        Sets, and the entries of maps, have no order.
        """
        if self.is_null or other.is_null:
            return self.is_null and other.is_null and self.is_of_row == other.is_of_row
        return self.value == other.value or _is_same_unordered(self.value, other.value)

    @property
    def is_of_row(self) -> bool:
        """Whether a row that counts was there.

        Feast's dialect says PRESENT of a stored null, hindcast.v1 NULL_VALUE.
        """
        return self.status in {PRESENT, NULL_VALUE}

    @property
    def is_stale(self) -> bool:
        """Whether its row was past its view's TTL."""
        return self.status == OUTSIDE_MAX_AGE


_UNORDERED = frozenset(
    field.name
    for field in Value.DESCRIPTOR.fields
    if field.name.endswith("_set_val")
    or field.name in {"set_val", "map_val", "map_list_val", "struct_val", "struct_list_val"}
)


def _is_same_unordered(one: bytes, other: bytes) -> bool:
    left, right = Value.FromString(one), Value.FromString(other)
    kind = left.WhichOneof("val")
    return kind in _UNORDERED and kind == right.WhichOneof("val") and _in_order(left, kind) == _in_order(right, kind)


def _in_order(value: Value, kind: str) -> list[bytes]:
    """The items of a set, or a map, with the entries of maps sorted: bits count, and the order does not."""
    content = getattr(value, kind)
    if not kind.endswith("set_val"):
        return [content.SerializeToString(deterministic=True)]
    return sorted(type(content)(val=[item]).SerializeToString(deterministic=True) for item in content.val)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of the lookup, three times.

    Attributes:
        row: number of the row, from 0.
        name: of the column in the answer.
        view: its name, or its alias in the service, or an on-demand view; empty where nothing says it.
        then: as of `served_at`, of what was known by then, by the offline store; None where it cannot say.
        verdict: of `then` against `served`.
        now: of the online store; None where it was not asked, or does not have such a column.
        now_verdict: of `now` against `served`; None where it was not asked.
    """

    row: int
    name: str
    view: str
    feature: str
    served: Answered
    then: Answered | None
    verdict: Verdict
    now: Answered | None = None
    now_verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One lookup, asked again.

    Attributes:
        cells: row by row, of each row the columns in the order of the answer.
        definitions: digest of the catalog that `then` was asked under.
        definitions_in_force: whether that is the one which the lookup was answered from.
        notes: what a reader should know, in words: definitions that are not usable any more, sources that cannot be read.
        now_asked: whether the online store was asked.
        now_definitions: digest of the catalog that `now` was asked under; empty where that is not known.
    """

    receipt: Receipt
    cells: Sequence[Cell]
    definitions: str
    definitions_in_force: bool
    notes: Sequence[str] = ()
    now_asked: bool = False
    now_definitions: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether every value that was served is the one of the offline store."""
        return all(cell.verdict.is_equal for cell in self.cells)

    def counts(self) -> Mapping[Reason, int]:
        """How many cells have each verdict on `then`."""
        return Counter(cell.verdict.reason for cell in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewCount:
    """Values of one view with one verdict.

    Attributes:
        example: a lookup id with such a value.
        detail: of that value.
    """

    view: str
    reason: Reason
    values: int
    example: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Many lookups, asked again as of their own times.

    Attributes:
        lookups: how many were compared.
        rows, values: entity rows and values in them.
        differing: ids of lookups with a value that is not equal, at most the first hundred.
        differing_lookups: how many such lookups there are.
        passed_over: lookups that were found and not compared: they failed, so nothing was served.
        of_all: how many answered lookups were found; more than `lookups` where a sample was drawn.
        counts: by view and reason.
        notes: as in `Replay`.
        unreadable: places of the log that cannot be read, and may have had more lookups.
    """

    lookups: int
    rows: int
    values: int
    differing: Sequence[str]
    differing_lookups: int
    passed_over: int
    of_all: int
    counts: Sequence[ViewCount]
    notes: Sequence[str]
    unreadable: Sequence[str]

    @property
    def is_equal(self) -> bool:
        """Whether every value that was compared is equal."""
        return not self.differing_lookups
