"""A run's record as Arrow, as the ledger's table holds it (docs/formats.md). Imports pyarrow: for writers only."""

from dataclasses import asdict

import pyarrow as pa

from hindcast.materialize.runs import Run

_INSTANT = pa.timestamp("us", "UTC")
_SOURCE = pa.struct(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("mtime_ns", pa.int64()),
        ("inode", pa.int64()),
        ("delta_version", pa.int64()),
        ("tag", pa.string()),
    ]
)

SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("record", pa.string()),
        ("project", pa.string()),
        ("view", pa.string()),
        ("kind", pa.string()),
        ("interval_start", _INSTANT),
        ("interval_end", _INSTANT),
        ("began_at", _INSTANT),
        ("ended_at", _INSTANT),
        ("outcome", pa.string()),
        ("error", pa.string()),
        ("sources", pa.list_(_SOURCE)),
        ("rows_read", pa.int64()),
        ("rows_written", pa.int64()),
        ("rows_unchanged", pa.int64()),
        ("rows_older", pa.int64()),
        ("rows_null_key", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("quarantine", pa.string()),
        ("definitions", pa.string()),
        ("hindcast_version", pa.string()),
        ("feast_version", pa.string()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("host", pa.string()),
        ("boot", pa.string()),
        ("process_id", pa.int64()),
        ("process_started_seconds", pa.float64()),
    ]
)


def to_record(run: Run, *, record: str) -> pa.Table:
    """The one row that is appended.

    Args:
        record: `begin` or `end`.
    """
    row = asdict(run) | {
        "record": record,
        "interval_start": run.start,
        "interval_end": run.end,
        "seconds": list(run.seconds.items()),
        "host": run.process.host,
        "boot": run.process.boot,
        "process_id": run.process.process_id,
        "process_started_seconds": run.process.started_seconds,
    }
    return pa.Table.from_pylist([row], schema=SCHEMA)
