"""Receipts as people read them: who asked for what, and then each row with its values, how old they were, and who wrote them."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hindcast.clock import from_micros
from hindcast.lookups.receipt_json import code_name, status_name, value_json
from hindcast.lookups.receipts import Answered, Receipt, run_id_of
from hindcast.lookups.record import Rpc

_SHOWN_MAX = 40
"""Characters of a value in a table."""

_RUN_CHARACTERS = 13
"""As `hindcast runs ls` shows them, and `runs show` takes them."""

_RPCS = {
    Rpc.FEAST: "GetOnlineFeatures, Feast's API",
    Rpc.HINDCAST: "GetOnlineFeatures, hindcast.v1",
    Rpc.STREAM: "StreamOnlineFeatures, hindcast.v1",
}


def receipt_text(receipt: Receipt, *, rows_max: int | None = None) -> str:
    """A page.

    Args:
        rows_max: so many rows at the most; None for all.
    """
    shown = receipt.entity_rows if rows_max is None else min(receipt.entity_rows, rows_max)
    parts = [_head(receipt), *(_row(receipt, row) for row in range(shown))]
    if shown < receipt.entity_rows:
        parts.append(f"… and {receipt.entity_rows - shown:,} more rows; --rows 0 shows all of them")
    return "\n\n".join(parts)


def _head(receipt: Receipt) -> str:
    record, found, catalog = receipt.record, receipt.found, receipt.catalog
    outcome = code_name(record.code)
    if record.code:
        outcome = " ".join(filter(None, (outcome, record.reason and f"({record.reason})", record.message)))
    asked = record.service or ", ".join(record.refs)
    lines = [
        ("receipt", receipt.lookup_id),
        ("served at", f"{instant_text(record.served_at_micros)} UTC"),
        ("asked for", f"{'feature service ' if record.service else ''}{asked}" if asked else ""),
        ("by", _RPCS[record.rpc]),
        ("request id", record.request_id),
        ("tags", ", ".join(f"{name}={value}" for name, value in sorted(record.tags.items()))),
        ("outcome", outcome),
        ("rows", f"{receipt.entity_rows:,} of {len(receipt.columns):,} features" if receipt.columns else ""),
        ("definitions", record.catalog_version + (f", project {catalog.project}" if catalog else "")),
        ("", receipt.missing),
        ("logged", f"{record.mode}, as record {found.sequence:,} of writer {found.writer}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines if value)


def row_title(receipt: Receipt, row: int) -> str:
    """`row 1: driver_id 50`: which row, and what was sent for it."""
    if row in receipt.erased:
        return f"row {row + 1}: erased"
    sent = [
        f"{column.name} {shown(value_json(column.values[row]))}"
        for column in (*receipt.entities, *receipt.request_data)
        if row < len(column.values)
    ]
    return f"row {row + 1}" + (f": {', '.join(sent)}" if sent else "")


def _row(receipt: Receipt, row: int) -> str:
    title = row_title(receipt, row)
    if not receipt.columns:
        return title
    body = [
        ("feature", "value", "status", "age", "true at", "known at", "written by run"),
        *(_line(receipt, column, row) for column in receipt.columns),
    ]
    return "\n".join([title, *(f"  {line}" for line in aligned_rows(body))])


def _line(receipt: Receipt, column: Answered, row: int) -> tuple[str, ...]:
    name = f"{column.view}:{column.feature}" if column.view else column.name
    header = receipt.row(column, row)
    value, status = shown(value_json(column.values[row])), status_name(column.statuses[row])
    if header is None:
        return (name, value, status, "computed" if column.rows is None and column.view else "", "", "", "")
    return (
        name,
        value,
        status,
        age((receipt.record.served_at_micros - header.event_micros) / 1e6),
        instant_text(header.event_micros),
        "" if header.created_micros is None else instant_text(header.created_micros),
        run_id_of(header)[:_RUN_CHARACTERS],
    )


def aligned_rows(lines: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """A table: the first line is its head; a column without content is left out.

    Args:
        right: columns of numbers.
    """
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    kept = [at for at, _ in enumerate(widths) if any(line[at] for line in lines[1:])]
    for line in lines:
        cells = [line[at].rjust(widths[at]) if at in right else line[at].ljust(widths[at]) for at in kept]
        yield "  ".join(cells).rstrip()


def shown(made: Mapping[str, Any]) -> str:
    """A value in a table: short, and `null` for one."""
    if not made:
        return "null"
    value = _bare(made)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _bare(made: Mapping[str, Any]) -> Any:
    """A value without its kinds, which a nested one has as well."""
    if not made:
        return None
    kind, value = made["kind"], made["value"]
    if kind in {"map", "struct"}:
        return {key: _bare(item) for key, item in value.items()}
    if kind in {"map_list", "struct_list"}:
        return [{key: _bare(item) for key, item in one.items()} for one in value]
    if kind in {"list", "set"}:
        return [_bare(item) for item in value]
    if kind == "scalar_map":
        return [[_bare(key), _bare(item)] for key, item in value]
    return value


def age(seconds: float) -> str:
    """`3.2 s`, `14 min`, `5.1 h`, `3.4 d`; a time ahead has a minus."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{sign}{seconds / size:.1f} {unit}"
    return f"{sign}{seconds:.1f} s"


def instant_text(micros: int) -> str:
    """`2026-11-26 02:59:43.430989`; the number where that is no time of Python's years."""
    try:
        return from_micros(micros).strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")
    except (OverflowError, ValueError):
        return str(micros)
