"""Which records of which writer are in the tables, and which were dropped for their age. Imports pyarrow and deltalake.

For reports of gaps: a sequence that is in no segment, in no range of these and in no gap is missing.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hindcast.durable import make_directory, sync
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.tables import DeltaLog

_COLUMNS = ["slot", "epoch", "sequence", "erased"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRange:
    """Records of a writer that are or were in the tables.

    Attributes:
        records: how many of the sequences from the first to the last; fewer than all where there are gaps.
        erased: of these, how many have lost their content to an erasure.
        dropped: whether they are gone because they were older than was kept (`--keep-days`).
    """

    writer: WriterId
    first_sequence: int
    last_sequence: int
    records: int
    erased: int
    dropped: bool


class _Dropped(msgspec.Struct):
    day: str
    slot: int
    epoch: int
    first_sequence: int
    last_sequence: int
    records: int
    erased: int


def sealed_ranges(log_directory: Path) -> list[SealedRange]:
    """Per writer what is in the tables, and per writer and day what was dropped.

    Raises:
        SealError: the table of all lookups cannot be read.
        OSError: a file of it cannot be; it may have been compacted at this moment.
    """
    there = _ranges(DeltaLog(TablePlaces(log_directory).of(RECORDS), name=RECORDS).files())
    gone = {(line.day, line.slot, line.epoch): line for line in _lines(_path(log_directory))}
    dropped = [
        SealedRange(
            writer=WriterId(line.slot, line.epoch),
            first_sequence=line.first_sequence,
            last_sequence=line.last_sequence,
            records=line.records,
            erased=line.erased,
            dropped=True,
        )
        for line in gone.values()
    ]
    return sorted([*there, *dropped], key=lambda found: (found.writer, found.first_sequence))


def note_dropped(log_directory: Path, first_kept: date) -> None:
    """Write down what a drop of days will take, before it is done; what a killed one has written down is written again.

    Raises:
        OSError: it cannot be.
    """
    days: dict[str, list[Path]] = {}
    for path in DeltaLog(TablePlaces(log_directory).of(RECORDS), name=RECORDS).files():
        day = path.parent.name.partition("=")[2]
        if day < first_kept.isoformat():
            days.setdefault(day, []).append(path)
    if not days:
        return
    lines = [
        _Dropped(
            day,
            found.writer.slot,
            found.writer.epoch,
            found.first_sequence,
            found.last_sequence,
            found.records,
            found.erased,
        )
        for day, paths in sorted(days.items())
        for found in _ranges(paths)
    ]
    path = _path(log_directory)
    make_directory(path.parent)
    with path.open("ab") as file:
        # A line of a process that was killed in its midst must not spoil the next one.
        file.write(b"\n" + b"\n".join(map(msgspec.json.encode, lines)) + b"\n")
    sync(path)
    sync(path.parent)


def _path(log_directory: Path) -> Path:
    return log_directory / "tombstones" / "dropped.jsonl"


def _lines(path: Path) -> Iterator[_Dropped]:
    with contextlib.suppress(FileNotFoundError):
        for text in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(text, type=_Dropped)


def _ranges(files: Sequence[Path]) -> list[SealedRange]:
    if not files:
        return []
    rows = pa.concat_tables([pq.ParquetFile(path).read(columns=_COLUMNS) for path in files])
    rows = rows.set_column(3, "erased", pc.cast(rows.column("erased"), pa.int64()))
    grouped = rows.group_by(["slot", "epoch"], use_threads=False).aggregate(
        [("sequence", "min"), ("sequence", "max"), ("sequence", "count"), ("erased", "sum")]
    )
    found = [
        SealedRange(
            writer=WriterId(row["slot"], row["epoch"]),
            first_sequence=row["sequence_min"],
            last_sequence=row["sequence_max"],
            records=row["sequence_count"],
            erased=row["erased_sum"],
            dropped=False,
        )
        for row in grouped.to_pylist()
    ]
    return sorted(found, key=lambda one: one.writer)
