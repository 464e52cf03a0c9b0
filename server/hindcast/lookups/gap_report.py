"""The gap report: what each writer wrote, where it is, and what is missing.

Sequences of a writer begin at 1 and have no holes, so that what is missing can be proven: it is every sequence up to the last known
one that is in no segment and in no table, and was neither erased nor dropped for its age. The five counts add up to the last sequence.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName, WriterId, marks_writer
from hindcast.lookups.disk import REAL_DISK, is_locked
from hindcast.lookups.gaps import read_lines
from hindcast.lookups.marks import Mark, read_marks
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Damage, Tick, opened, segment_files
from hindcast.lookups.segment import HEADER_BYTES, Gap, GapReason, read_header
from hindcast.lookups.sequences import Sequences
from hindcast.lookups.walk import End, Walk

if TYPE_CHECKING:
    from hindcast.lookups.ranges import SealedRanges


@dataclass(frozen=True, slots=True)
class Missing:
    """Records that are not there.

    Attributes:
        last_sequence: None where nobody knows how far it goes.
        reason: the word of a `GapReason`; `untold` where no gap tells of it.
    """

    first_sequence: int
    last_sequence: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterReport:
    """What is known of one writer.

    Attributes:
        lives: whether it is still writing, so that an unfinished end is no loss.
        segments: how many files there are.
        in_segments, sealed: records that are there and whole, in segments, and in tables only.
        erased: records that were erased on purpose, of which nothing is left but their sequences.
        dropped: records that were dropped from tables for their age.
        lost: sequences that are known to be missing; with the four counts above it makes `last_sequence`.
        synced: of the records that are there, those that a power cut leaves, as far as the writer has said.
        first_sequence: of what is there; 1 where that is nothing and there should be something, else 0.
        last_sequence: the last that is there or known of; 0 where there is none.
        missing: what was lost, in order.
        torn: segments whose writer is gone and that end in the midst of a record, until they are recovered.
        damage: places that cannot be read.
    """

    writer: WriterId
    lives: bool
    segments: int
    in_segments: int
    sealed: int
    erased: int
    dropped: int
    lost: int
    synced: int
    first_sequence: int
    last_sequence: int
    missing: tuple[Missing, ...]
    torn: tuple[Damage, ...]
    damage: tuple[Damage, ...]

    @property
    def written(self) -> int:
        """Records that are there and whole."""
        return self.in_segments + self.sealed

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, torn or damaged."""
        return not (self.missing or self.torn or self.damage)


@dataclass(slots=True)
class _Tally:
    segments: int = 0
    synced: int = 0
    there: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    torn: list[Damage] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


def gap_report(log_directory: Path, *, tick: Tick = lambda: None) -> list[WriterReport]:
    """One entry per writer that left anything, in the order of slots and then of time. Every record is read and verified.

    Raises:
        OSError: a folder of the log cannot be read.
    """
    directory = LogDirectory(log_directory)
    # What writers say of themselves before what they have written: so they can never seem to have written less than they said.
    marks = _marks(directory)
    told = read_lines(directory, disk=REAL_DISK)
    living = {writer for writer in marks if is_locked(directory.marks(writer))}
    tallies: dict[WriterId, _Tally] = {writer: _Tally() for writer in {*marks, *(line.writer for line in told)}}
    for file in segment_files(directory):
        writer = file.name.writer
        _count(tallies.setdefault(writer, _Tally()), directory, file.name, marks.get(writer, ()), tick)
    sealed = _sealed(log_directory) if TablePlaces(log_directory).of(RECORDS).exists() else {}
    return [
        _report(
            writer,
            tallies.get(writer) or _Tally(),
            sealed.get(writer),
            marks.get(writer, ()),
            [line.gap for line in told if line.writer == writer],
            lives=writer in living,
        )
        for writer in sorted({*tallies, *sealed})
    ]


def _sealed(log_directory: Path) -> "dict[WriterId, SealedRanges]":
    from hindcast.lookups.ranges import sealed_ranges  # noqa: PLC0415 - deltalake, of which a log without tables has no need

    return sealed_ranges(log_directory)


def _marks(directory: LogDirectory) -> dict[WriterId, Sequence[Mark]]:
    marks: dict[WriterId, Sequence[Mark]] = {}
    for name in REAL_DISK.names(directory.synced):
        writer = marks_writer(name)
        if writer is not None:
            with contextlib.suppress(FileNotFoundError):
                marks[writer] = read_marks(REAL_DISK.read(directory.marks(writer)))
    return marks


def _count(tally: _Tally, directory: LogDirectory, name: SegmentName, marks: Sequence[Mark], tick: Tick) -> None:
    try:
        with opened(directory, name) as there:
            if there is None:
                return
            handle, path = there
            tally.segments += 1
            is_sealed = path.suffix == SEALED
            header = read_header(os.pread(handle, HEADER_BYTES, 0))
            if header is None:
                if is_sealed or os.fstat(handle).st_size >= HEADER_BYTES:
                    tally.damage.append(Damage(name, 0, "has a damaged header"))
                return
            mark = next((mark for mark in marks if mark.first_sequence == name.first_sequence), None)
            synced_end = 0 if mark is None else mark.synced_end
            walk = Walk(handle, header, verifies=True, tick=tick)
            for frame in walk.frames():
                end = frame.offset + frame.end - frame.begin
                tally.synced += is_sealed or end < synced_end
            tally.gaps += walk.gaps
            gaps = Sequences.of((gap.first_sequence, gap.last_sequence or 0) for gap in walk.gaps)
            tally.there += (Sequences.of([(header.first_sequence, walk.next_sequence - 1)]) - gaps).ranges
            if walk.end is End.BROKEN or (is_sealed and walk.end is not End.FOOTER):
                if not is_sealed and walk.offset >= synced_end and is_locked(path):
                    return  # its writer has just taken back what it could not write
                tally.damage.append(Damage(name, walk.offset, "is damaged"))
            elif walk.end is End.SHORT and not is_locked(path):
                tally.torn.append(Damage(name, walk.offset, f"is cut off, of {walk.size_bytes:,}"))
    except StoredDataError as error:
        tally.damage.append(Damage(name, 0, f"cannot be read ({error})"))
    except OSError as error:
        tally.damage.append(Damage(name, 0, f"cannot be read ({error.strerror})"))


def _report(
    writer: WriterId,
    tally: _Tally,
    sealed: "SealedRanges | None",
    marks: Sequence[Mark],
    told: Sequence[Gap],
    *,
    lives: bool,
) -> WriterReport:
    gaps = [*tally.gaps, *told]
    # A sequence counts once, in the first place that has it: a segment that is sealed may not be removed yet.
    in_segments = Sequences.of(tally.there)
    in_tables = (sealed.kept if sealed else Sequences()) - in_segments
    there = in_segments | in_tables
    erased = Sequences.of(
        (gap.first_sequence, gap.last_sequence)
        for gap in gaps
        if gap.reason is GapReason.ERASED and gap.last_sequence is not None
    )
    dropped = Sequences()
    if sealed is not None:
        erased |= sealed.erased
        dropped = sealed.dropped - there - erased
    erased -= there
    accounted = there | erased | dropped
    known = [last for _, last in accounted.ranges]
    known += [gap.last_sequence for gap in gaps if gap.last_sequence is not None]
    # Of a living writer, what it has counted as due and not written may wait in its memory.
    known += [mark.written_sequence if lives else mark.due_sequence for mark in marks]
    last = max(known, default=0)
    lost = Sequences.of([(1, last)]) - accounted
    missing = [part for first, end in lost.ranges for part in _explained(first, end, gaps)]
    missing += [
        Missing(gap.first_sequence, None, gap.reason.name.lower())
        for gap in gaps
        if gap.last_sequence is None and gap.first_sequence not in accounted
    ]
    return WriterReport(
        writer=writer,
        lives=lives,
        segments=tally.segments,
        in_segments=len(in_segments),
        sealed=len(in_tables),
        erased=len(erased),
        dropped=len(dropped),
        lost=len(lost),
        synced=tally.synced + len(in_tables),
        first_sequence=there.ranges[0][0] if there.ranges else min(last, 1),
        last_sequence=last,
        missing=tuple(sorted(set(missing), key=lambda part: part.first_sequence)),
        torn=tuple(tally.torn),
        damage=tuple(tally.damage),
    )


def _explained(first: int, last: int, gaps: Sequence[Gap]) -> list[Missing]:
    """A hole in parts, each with the reason that a gap gives for it."""
    bounds = {first, last + 1}
    for gap in gaps:
        ends = (gap.first_sequence, last + 1 if gap.last_sequence is None else gap.last_sequence + 1)
        bounds |= {bound for bound in ends if first < bound <= last}
    parts: list[Missing] = []
    in_order = sorted(bounds)
    for begin, following in pairwise(in_order):
        reasons = [
            gap.reason
            for gap in gaps
            if gap.first_sequence <= begin and (gap.last_sequence is None or gap.last_sequence >= following - 1)
        ]
        # The first that was told is the cause.
        word = reasons[0].name.lower() if reasons else "untold"
        if parts and parts[-1].reason == word:
            parts[-1] = Missing(parts[-1].first_sequence, following - 1, word)
        else:
            parts.append(Missing(begin, following - 1, word))
    return parts
