"""Parquet files of sealed rows. Imports pyarrow."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROW_GROUP_ROWS = 50_000
_GROUP_BYTES = 2 << 20
_RECORD_GROUP_ROWS = 500
"""To find one lookup, the records of so many are read, or of as many as have `_GROUP_BYTES`."""
_SAMPLED_ROWS = 4096
_REPEATED_TIMES = 4
"""Rows for each event time, at which a dictionary is smaller."""


def write_parquet(rows: pa.Table, path: Path) -> None:
    """Write a file: words and what repeats by dictionary, feature values as they are."""
    varied = _varied_times(rows)
    repeated = [field.name for field in rows.schema if _repeats(field) and field.name not in varied]
    is_records = "payload" in rows.column_names
    group_rows = record_group_rows(rows.num_rows, rows.column("payload").nbytes) if is_records else _ROW_GROUP_ROWS
    pq.write_table(
        rows,
        path,
        compression="zstd" if is_records else "snappy",
        use_dictionary=repeated or False,
        column_encoding=dict.fromkeys(varied, "DELTA_BINARY_PACKED"),
        row_group_size=group_rows,
        store_schema=False,
        write_statistics=[name for name in rows.column_names if name != "payload"],
    )


def _varied_times(rows: pa.Table) -> set[str]:
    """Columns of times of which few are the same: a dictionary of them takes more room than their differences, and more time."""
    varied, seen = set(), {}
    for name in rows.column_names:
        if name.endswith("__timestamp"):
            sample = rows.column(name).slice(0, _SAMPLED_ROWS)
            # Features of one view share theirs.
            shared = tuple(chunk.buffers()[1].address for chunk in sample.chunks)
            if shared not in seen:
                seen[shared] = pc.count_distinct(sample).as_py() * _REPEATED_TIMES > len(sample)
            if seen[shared]:
                varied.add(name)
    return varied


def record_group_rows(rows: int, size_bytes: int) -> int:
    """How many rows of the table of records a group has, where so many of them have so many bytes."""
    return max(1, min(_RECORD_GROUP_ROWS, _GROUP_BYTES * rows // max(1, size_bytes)))


def _repeats(field: pa.Field) -> bool:
    return (
        pa.types.is_dictionary(field.type)
        or field.name.endswith(("__status", "__timestamp", "__created_ts"))
        or field.name
        in {"hc_slot", "hc_epoch", "hc_status", "hc_service", "hc_feature", "slot", "epoch", "service", "status"}
    )
