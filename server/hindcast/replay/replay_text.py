"""Replays as people read them: what was served, and beside it only what differs; `=` is the same."""

from collections.abc import Iterable, Sequence

from hindcast.lookups.receipt_json import status_name, value_json
from hindcast.lookups.receipt_text import age, aligned_rows, instant_text, row_title, shown
from hindcast.online.field_status import NULL_VALUE, PRESENT
from hindcast.replay.result import Answered, Cell, Proof, Reason, Replay

_SAME = "="
_FEW = 3
"""Features named one by one in a footnote."""


def replay_text(replay: Replay, *, now_micros: int, rows_max: int | None = None) -> str:
    """A page.

    Args:
        now_micros: to say how long ago it was.
        rows_max: so many rows at the most; None for all.
    """
    rows = replay.receipt.entity_rows
    shown_rows = rows if rows_max is None else min(rows, rows_max)
    parts = [_head(replay, now_micros)]
    parts += [_row(replay, row) for row in range(shown_rows)]
    if shown_rows < rows:
        parts.append(f"… and {rows - shown_rows:,} more rows; --rows 0 shows all of them")
    return "\n\n".join(parts)


def proof_text(proof: Proof) -> str:
    """A page: what was compared, and per view what was equal and what was not."""
    of_all = f" of {proof.of_all:,}, drawn by their ids" if proof.lookups < proof.of_all else ""
    lines = [
        ("replay", f"{proof.lookups:,} lookups{of_all}, {proof.rows:,} rows, {proof.values:,} values"),
        ("as of", "the instant of each answer, by what was known then"),
        ("failed", f"{proof.passed_over:,} lookups, which were answered with no values" if proof.passed_over else ""),
        ("verdict", _proof_verdict(proof)),
        *(("note", note) for note in proof.notes),
        *(("unreadable", place) for place in proof.unreadable),
    ]
    body = [("view", "verdict", "values", "for example")]
    body += [
        (
            count.view or "?",
            count.reason.value,
            f"{count.values:,}",
            " ".join(filter(None, (count.example, count.detail))),
        )
        for count in proof.counts
    ]
    return "\n".join([*_fields(lines), "", *aligned_rows(body, right={2})])


def _head(replay: Replay, now_micros: int) -> str:
    receipt, record = replay.receipt, replay.receipt.record
    asked = f"feature service {record.service}" if record.service else ", ".join(record.refs)
    ago = age((now_micros - record.served_at_micros) / 1e6)
    then = "by the definitions in force" if replay.definitions_in_force else f"by {replay.definitions}"
    lines = [
        ("replay", receipt.lookup_id),
        ("served at", f"{instant_text(record.served_at_micros)} UTC, {ago} ago"),
        ("asked for", asked),
        ("request id", record.request_id),
        ("then", f"the offline store as of that instant, of what was known by then, {then}"),
        ("now", _now_line(replay)),
        *(("note", note) for note in replay.notes),
        ("verdict", _verdict(replay)),
    ]
    return "\n".join(_fields(lines))


def _now_line(replay: Replay) -> str:
    if not replay.now_asked:
        return ""
    if not replay.now_definitions:
        return "the online store"
    same = replay.now_definitions == replay.receipt.record.catalog_version
    return "the online store, by " + ("the same definitions" if same else replay.now_definitions)


def _verdict(replay: Replay) -> str:
    counts = replay.counts()
    if replay.is_equal:
        return f"equal: all {len(replay.cells):,} values are those of the offline store, bit for bit"
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if reason is not Reason.EQUAL)
    return f"differs: {counts.get(Reason.EQUAL, 0):,} of {len(replay.cells):,} values are equal; {told}"


def _proof_verdict(proof: Proof) -> str:
    if proof.is_equal:
        return "equal: what was served is the offline truth, bit for bit"
    return f"differs: in {proof.differing_lookups:,} lookups"


def _row(replay: Replay, row: int) -> str:
    cells = [cell for cell in replay.cells if cell.row == row]
    body: list[Sequence[str]] = [("feature", "served", "status", "true at", "then", "now", "verdict", "since then")]
    body += [_line(cell) for cell in cells]
    return "\n".join(
        [row_title(replay.receipt, row), *(f"  {line}" for line in aligned_rows(body)), *_footnotes(cells)]
    )


def _line(cell: Cell) -> Sequence[str]:
    served = cell.served
    return (
        f"{cell.view}:{cell.feature}" if cell.view else cell.name,
        shown(value_json(served.value)),
        status_name(served.status),
        "" if served.event_micros is None else instant_text(served.event_micros),
        _beside(cell.then, is_same=cell.verdict.is_equal),
        _beside(cell.now, is_same=cell.now_verdict is not None and cell.now_verdict.is_equal),
        cell.verdict.reason.value,
        "" if cell.now_verdict is None or cell.now_verdict.is_equal else cell.now_verdict.reason.value,
    )


def _beside(answered: Answered | None, *, is_same: bool) -> str:
    if is_same:
        return _SAME
    if answered is None:
        return ""
    value = shown(value_json(answered.value))
    return value if answered.status in {PRESENT, NULL_VALUE} else f"{value} ({status_name(answered.status)})"


def _footnotes(cells: Iterable[Cell]) -> list[str]:
    """The details of verdicts that say more, each once, with the features that it is about."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        if not cell.verdict.is_equal and cell.verdict.detail:
            key = (cell.view, cell.verdict.reason.value, cell.verdict.detail)
            told.setdefault(key, []).append(cell.feature)
    lines = []
    for (view, reason, detail), features in told.items():
        named = ", ".join(features[:_FEW]) + (f" and {len(features) - _FEW} more" if len(features) > _FEW else "")
        lines.append(f"  {reason}: {detail} ({view + ': ' if view else ''}{named})")
    return ["", *lines] if lines else []


def _fields(lines: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in lines)
    return [f"{name.ljust(width)}  {text}" for name, text in lines if text]
