"""Which records of which writer are in the tables, and which were dropped for their age. Imports pyarrow and deltalake.

For reports of gaps: a sequence that is in no segment, in no range of these and in no gap is missing.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq

from hindcast.durable import make_directory, sync
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.sequences import Sequences

_COLUMNS = ["slot", "epoch", "sequence", "erased"]

_Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRanges:
    """Records of a writer that are or were in the tables.

    Attributes:
        kept: that are there.
        erased: of which the sequence is there, or was, and the content was erased.
        dropped: that are gone because they were older than was kept (`--keep-days`).
    """

    kept: Sequences
    erased: Sequences
    dropped: Sequences


class _Dropped(msgspec.Struct):
    day: str
    slot: int
    epoch: int
    dropped: _Ranges
    erased: _Ranges


@dataclass(slots=True)
class _Found:
    """Ranges of one writer."""

    kept: _Ranges = field(default_factory=list)
    erased: _Ranges = field(default_factory=list)
    dropped: _Ranges = field(default_factory=list)


def sealed_ranges(log_directory: Path) -> dict[WriterId, SealedRanges]:
    """Per writer what is in the tables, and what was dropped.

    Raises:
        SealError: the table of all lookups cannot be read.
        OSError: a file of it cannot be; it may have been compacted at this moment.
    """
    found = _in_files(DeltaLog(TablePlaces(log_directory).of(RECORDS), name=RECORDS).files())
    for line in _lines(_path(log_directory)):
        of_writer = found.setdefault(WriterId(line.slot, line.epoch), _Found())
        of_writer.dropped += line.dropped
        of_writer.erased += line.erased
    sealed = {}
    for writer, ranges in sorted(found.items()):
        kept, erased = Sequences.of(ranges.kept), Sequences.of(ranges.erased)
        # What a drop was about to take, and did not because it was killed, is there.
        dropped = Sequences.of(ranges.dropped) - kept - erased
        sealed[writer] = SealedRanges(kept=kept, erased=erased - kept, dropped=dropped)
    return sealed


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
        _Dropped(day, writer.slot, writer.epoch, found.kept, found.erased)
        for day, paths in sorted(days.items())
        for writer, found in sorted(_in_files(paths).items())
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
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(text, type=_Dropped)


def _in_files(files: Sequence[Path]) -> dict[WriterId, _Found]:
    """Per writer the ranges of its records in some files."""
    found: dict[WriterId, _Found] = {}
    # One by one: the sequences of a year are many, and their ranges are few.
    for path in files:
        with pq.ParquetFile(path) as file:
            rows = file.read(columns=_COLUMNS)
        slots, epochs, sequences, erased = (rows.column(name).to_numpy() for name in _COLUMNS)
        writers, of = np.unique(np.stack([slots, epochs]), axis=1, return_inverse=True)
        for number, (slot, epoch) in enumerate(writers.T.tolist()):
            mine = of.reshape(-1) == number
            of_writer = found.setdefault(WriterId(slot, epoch), _Found())
            of_writer.kept += _runs(sequences[mine & ~erased])
            of_writer.erased += _runs(sequences[mine & erased])
    return found


def _runs(sequences: np.ndarray[Any, Any]) -> _Ranges:
    """The ranges of sequences in any order."""
    if not len(sequences):
        return []
    in_order = np.unique(sequences)
    ends = np.flatnonzero(np.diff(in_order) > 1)
    firsts = in_order[np.concatenate([[0], ends + 1])].tolist()
    lasts = in_order[np.concatenate([ends, [len(in_order) - 1]])].tolist()
    return list(zip(firsts, lasts, strict=True))
