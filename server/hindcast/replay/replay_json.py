"""Replays as JSON; values look as those of receipts do (`lookups.receipt_json`)."""

from typing import Any

from hindcast.lookups.receipt_json import instant, status_name, value_json
from hindcast.replay.result import Answered, Cell, Proof, Replay, Verdict


def replay_json(replay: Replay) -> dict[str, Any]:
    """All of a replay."""
    receipt, record = replay.receipt, replay.receipt.record
    return {
        "lookup_id": receipt.lookup_id,
        "request_id": record.request_id,
        "served_at": instant(record.served_at_micros),
        "service": record.service or None,
        "refs": list(record.refs),
        "equal": replay.is_equal,
        "counts": dict(replay.counts()),
        "definitions": {
            "served": record.catalog_version,
            "then": replay.definitions,
            "in_force": replay.definitions_in_force,
            "now": replay.now_definitions or None,
        },
        "notes": list(replay.notes),
        "cells": [_cell(cell) for cell in replay.cells],
    }


def proof_json(proof: Proof) -> dict[str, Any]:
    """All of a proof."""
    return {
        "equal": proof.is_equal,
        "lookups": proof.lookups,
        "of": proof.of_all,
        "failed_lookups": proof.passed_over,
        "rows": proof.rows,
        "values": proof.values,
        "differing_lookups": proof.differing_lookups,
        "differing": list(proof.differing),
        "counts": [
            {
                "view": count.view or None,
                "reason": count.reason.value,
                "values": count.values,
                "example": count.example or None,
                "detail": count.detail,
            }
            for count in proof.counts
        ],
        "notes": list(proof.notes),
        "unreadable": list(proof.unreadable),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "row": cell.row,
        "name": cell.name,
        "view": cell.view or None,
        "feature": cell.feature,
        "served": _answered(cell.served),
        "then": _answered(cell.then),
        "verdict": _verdict(cell.verdict),
        "now": _answered(cell.now),
        "now_verdict": None if cell.now_verdict is None else _verdict(cell.now_verdict),
    }


def _answered(answered: Answered | None) -> dict[str, Any] | None:
    if answered is None:
        return None
    return {
        **value_json(answered.value),
        "status": status_name(answered.status),
        "event_ts": None if answered.event_micros is None else instant(answered.event_micros),
        "created_ts": None if answered.created_micros is None else instant(answered.created_micros),
        "run_id": answered.run_id or None,
    }


def _verdict(verdict: Verdict) -> dict[str, str]:
    return {"reason": verdict.reason.value, "detail": verdict.detail}
