"""Verdicts: why a value that was served is not the one that the offline store says, or not the one that is served now."""

import math
from collections.abc import Sequence

from hindcast.lookups.receipts import run_id_of
from hindcast.lookups.record import RowHeader
from hindcast.replay.history import History
from hindcast.replay.offline import RowAt
from hindcast.replay.result import EQUAL, NULLS, Answered, Reason, Verdict
from hindcast.v1.value_pb2 import Value

_EARLIEST = -(2**63)
_FLOATS = {"double_val": 1e-12, "double_list_val": 1e-12, "float_val": 1e-6, "float_list_val": 1e-6}
"""How far two numbers may be apart, in parts of the greater one, to be the same one rounded twice."""


def is_same_row(header: RowHeader, row: RowAt) -> bool:
    """Whether a stored row is a row of the source, by its two times; Feast's layout keeps one."""
    return header.event_micros == row.event_micros and (
        header.created_micros == row.created_micros or header.run_id is None
    )


def is_after(header: RowHeader, row: RowAt | None) -> bool:
    """Whether a stored row would win against a row of the source."""
    if row is None:
        return True
    return _order(header.event_micros, header.created_micros) > _order(row.event_micros, row.created_micros)


def why_other_row(
    header: RowHeader | None,
    row: RowAt | None,
    stale: RowAt | None,
    *,
    view: str,
    served_at_micros: int,
    is_known: bool,
    was_stale: bool,
    history: History,
) -> Verdict:
    """Why a lookup was answered from another row than the offline store has as of then.

    Args:
        header: what was served, None for no row; not the row that the offline store has.
        row: of the offline store, None where none counts.
        stale: where none counts, the newest that is past the TTL.
        is_known: whether the source has the row that was served.
        was_stale: whether it was past the view's TTL already.
    """
    if header is None or (row is not None and not is_after(header, row)):
        return _why_not_online(header, row, view=view, served_at_micros=served_at_micros, history=history)
    if row is None and was_stale:
        return Verdict(Reason.EXPIRED, "the old value was answered, and flagged; offline it is null")
    if header.event_micros > served_at_micros or (header.created_micros or _EARLIEST) > served_at_micros:
        return Verdict(Reason.DATED_AHEAD, "the row is dated after the answer, so a training set does not see it")
    if stale is not None and is_same_row(header, stale):
        return Verdict(Reason.EXPIRED, "its TTL ended between the reading of the row and the answer")
    return _why_not_offline(header, view=view, is_known=is_known, history=history)


def _why_not_online(
    header: RowHeader | None, row: RowAt | None, *, view: str, served_at_micros: int, history: History
) -> Verdict:
    if row is None:
        return Verdict(Reason.NOT_IN_SOURCE, "a value was served without a row, and there is none offline")
    event = None if header is None else header.event_micros
    if event == row.event_micros:
        return Verdict(Reason.CORRECTION, "a row of the same event time was known by then, and not online yet")
    return history.why_absent(view, row, served_event_micros=event, served_at_micros=served_at_micros)


def _why_not_offline(header: RowHeader, *, view: str, is_known: bool, history: History) -> Verdict:
    run_id = run_id_of(header)
    if is_known:
        return Verdict(Reason.SOURCE_CHANGED, "the source has the row again, and it did not win")
    if header.run_id is None:
        return Verdict(Reason.NOT_IN_SOURCE, "Feast's layout does not say who wrote the row")
    if not run_id:
        return Verdict(Reason.PUSHED, "written through Feast's SDK, past the offline store")
    if history.run(view, run_id) is None:
        return Verdict(Reason.PUSHED, f"by push {run_id[:13]}, which is no run on record")
    return Verdict(Reason.NOT_IN_SOURCE, f"run {run_id[:13]} read the row, and it is not there any more")


def why_other_value(served: Answered, then: Answered, header: RowHeader, row: RowAt) -> Verdict:
    """Why the same row has another value."""
    if is_close(served.value, then.value):
        return Verdict(Reason.FLOAT_BITS, "the same row; the numbers differ in bits that most comparisons do not see")
    if header.run_id is None and row.created_micros is not None:
        return Verdict(
            Reason.CORRECTION, "perhaps: Feast's layout keeps no created time, and the event times are equal"
        )
    kinds = [kind_of(side.value) for side in (served, then)]
    if all(kinds) and kinds[0] != kinds[1]:
        return Verdict(Reason.DEFINITION_CHANGED, f"{kinds[0]} was served, and it is {kinds[1]} by these definitions")
    return Verdict(Reason.SOURCE_CHANGED, "the source has another value in the same row; it was written anew")


def why_computed(served: Answered, then: Answered, *, differing: Sequence[str], in_force: bool) -> Verdict:
    """Why an on-demand view gave another value.

    Args:
        differing: names of inputs that were others.
        in_force: whether it was computed by the code of then.
    """
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        return Verdict(Reason.INPUT_DIFFERS, ", ".join(differing[:3]) + more)
    if not in_force:
        return Verdict(Reason.DEFINITION_CHANGED, "computed by the code of now")
    if is_close(served.value, then.value):
        return Verdict(Reason.FLOAT_BITS, "the same inputs")
    return Verdict(Reason.NOT_REPEATABLE, "the same inputs and the same code gave something else")


def why_now(
    served: Answered, now: Answered, *, is_changed: bool, is_computed: bool, differing: Sequence[str] | None
) -> Verdict:
    """Why the answer of now is another one.

    Args:
        is_changed: whether the definitions of its view have changed since.
        is_computed: whether it is of an on-demand view.
        differing: of an on-demand view the inputs that are others now; None where they are not known.
    """
    if served.equals(now):
        return EQUAL
    if is_computed:
        if differing:
            return Verdict(Reason.INPUT_DIFFERS, ", ".join(differing[:3]))
        if is_changed:
            return Verdict(Reason.DEFINITION_CHANGED)
        if is_close(served.value, now.value):
            return Verdict(Reason.FLOAT_BITS)
        return Verdict(Reason.INPUT_DIFFERS if differing is None else Reason.NOT_REPEATABLE)
    return _why_now_stored(served, now, is_changed=is_changed)


def _why_now_stored(served: Answered, now: Answered, *, is_changed: bool) -> Verdict:
    event, before = now.event_micros, served.event_micros
    if event is not None and event == before:
        return Verdict(_why_same_time(served, now, is_changed=is_changed))
    if event is not None and (before is None or event > before):
        return Verdict(Reason.EXPIRED if now.is_stale else Reason.NEWER_ROW)
    if is_changed:
        return Verdict(Reason.DEFINITION_CHANGED)
    # The store forgets what is past its TTL after a grace time.
    if event is None and served.is_stale:
        return Verdict(Reason.EXPIRED)
    return Verdict(Reason.ROW_ERASED, "" if event is None else "an older row is served now")


def _why_same_time(served: Answered, now: Answered, *, is_changed: bool) -> Reason:
    if now.is_stale and not served.is_stale:
        return Reason.EXPIRED
    if now.created_micros is not None and now.created_micros != served.created_micros:
        return Reason.CORRECTION
    if is_changed:
        return Reason.DEFINITION_CHANGED
    # Without another created time it was written again all the same.
    return Reason.FLOAT_BITS if is_close(served.value, now.value) else Reason.CORRECTION


def is_close(one: bytes, other: bytes) -> bool:
    """Whether two serialized Values are floating-point numbers, or lists of them, that are nearly the same; a NaN is near to a null,
    which is what the writers of columns make of it.
    """
    if one in NULLS or other in NULLS:
        return any(_is_nan(value) for value in (one, other))
    left, right = Value.FromString(one), Value.FromString(other)
    kind = left.WhichOneof("val")
    if kind != right.WhichOneof("val") or kind not in _FLOATS:
        return False
    numbers, others = getattr(left, kind), getattr(right, kind)
    if kind in {"double_val", "float_val"}:
        return _is_near(numbers, others, _FLOATS[kind])
    return len(numbers.val) == len(others.val) and all(
        _is_near(number, another, _FLOATS[kind]) for number, another in zip(numbers.val, others.val, strict=True)
    )


def kind_of(value: bytes) -> str:
    """The kind of a serialized Value; empty for a null."""
    if value in NULLS:
        return ""
    return str(Value.FromString(value).WhichOneof("val")).removesuffix("_val")


def _is_nan(value: bytes) -> bool:
    message = Value.FromString(value)
    kind = message.WhichOneof("val")
    return kind in {"double_val", "float_val"} and math.isnan(getattr(message, kind))


def _is_near(one: float, other: float, tolerance: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=tolerance, abs_tol=0.0)


def _order(event_micros: int, created_micros: int | None) -> tuple[int, int]:
    return event_micros, _EARLIEST if created_micros is None else created_micros
