"""Parquet files of sealed rows. Imports pyarrow."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hindcast.lookups.arrays import size_of, text_content

_ROW_GROUP_ROWS = 50_000
_GROUP_BYTES = 2 << 20
_RECORD_GROUP_ROWS = 500
"""To find one lookup, the records of so many are read, or of as many as have `_GROUP_BYTES`."""
_SAMPLED_ROWS = 4096
_REPEATED_TIMES = 4
"""Rows for each event time, at which a dictionary is smaller."""
_SAMPLED_WORDS = 1024
_WORD_TIMES = 8
"""Rows for each word."""
_WORTH = 0.9
"""What compression must leave of words at the most."""


def write_parquet(rows: pa.Table, path: Path) -> None:
    """Write a file: words and what repeats by dictionary, feature values as they are."""
    varied, words = _varied_times(rows), _words(rows)
    repeated = [field.name for field in rows.schema if _repeats(field) and field.name not in varied] + words.repeated
    is_records = "payload" in rows.column_names
    group_rows = record_group_rows(rows.num_rows, size_of(rows.column("payload"))) if is_records else _ROW_GROUP_ROWS
    pq.write_table(
        rows,
        path,
        compression={_leaf(field): _codec(field.name, words, is_records=is_records) for field in rows.schema},
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


@dataclass(frozen=True, slots=True)
class _Words:
    """Columns of texts.

    Attributes:
        repeated: in which few are different, so that a dictionary takes less room and less time.
        random: in which compression would find nothing, after looking longer than in any other column.
    """

    repeated: list[str]
    random: list[str]


def _words(rows: pa.Table) -> _Words:
    words, codec = _Words([], []), pa.Codec("snappy")
    for name in rows.column_names:
        column = rows.column(name)
        # `hc_text` has values of all types, one type behind the other.
        if not pa.types.is_string(column.type) or name == "hc_text" or not column.num_chunks:
            continue
        sample = column.chunk(0).slice(0, _SAMPLED_WORDS)
        content = text_content(sample)
        if pc.count_distinct(sample).as_py() * _WORD_TIMES <= len(sample):
            words.repeated.append(name)
        elif codec.compress(content).size > _WORTH * content.size:
            words.random.append(name)
    return words


def _codec(name: str, words: _Words, *, is_records: bool) -> str:
    if is_records and name in {"payload", "refs"}:
        return "zstd"
    # In the many small groups of records zstd takes longer to begin than to compress a narrow column.
    return "none" if name in words.random else "snappy"


def _leaf(field: pa.Field) -> str:
    """What Parquet calls the column that has the values."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


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
