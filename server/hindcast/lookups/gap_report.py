"""The gap report: what each writer wrote, what is there of it, and what is missing.

Sequences of a writer begin at 1 and have no holes, so that what is missing can be proven: it is every sequence up to the last known
one that no segment and no table of sealed lookups has.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName, WriterId, marks_writer
from hindcast.lookups.disk import REAL_DISK, is_locked
from hindcast.lookups.gaps import GapLine, read_lines
from hindcast.lookups.marks import Mark, read_marks
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Damage, Tick, opened, segment_files
from hindcast.lookups.segment import HEADER_BYTES, Gap, GapReason, read_header
from hindcast.lookups.walk import End, Walk


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
        written: records that are there and whole.
        synced: of those, the ones that a power cut leaves, as far as the writer has said.
        lost: sequences that are known to be missing.
        erased: sequences that were erased on purpose.
        first_sequence, last_sequence: of what is there or known of; both 0 where there is nothing.
        missing: in order; those erased are not among them.
        torn: segments whose writer is gone and that end in the midst of a record, until they are recovered.
        damage: places that cannot be read.
    """

    writer: WriterId
    lives: bool
    segments: int
    written: int
    synced: int
    lost: int
    erased: int
    first_sequence: int
    last_sequence: int
    missing: tuple[Missing, ...]
    torn: tuple[Damage, ...]
    damage: tuple[Damage, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, torn or damaged."""
        return not (self.missing or self.torn or self.damage)


@dataclass(slots=True)
class _Tally:
    segments: int = 0
    written: int = 0
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
    if TablePlaces(log_directory).of(RECORDS).exists():
        _add_sealed(tallies, told, log_directory)
    return [
        _report(
            writer, tally, marks.get(writer, ()), [line for line in told if line.writer == writer], writer in living
        )
        for writer, tally in sorted(tallies.items())
    ]


def _add_sealed(tallies: dict[WriterId, _Tally], told: Sequence[GapLine], log_directory: Path) -> None:
    """Count what is in the tables, and what was dropped from them for its age, as written and synced. A segment that is sealed and not yet removed counts once."""
    from hindcast.lookups.ranges import sealed_ranges  # noqa: PLC0415 - deltalake, of which a log without tables has no need

    for sealed in sealed_ranges(log_directory):
        tally = tallies.setdefault(sealed.writer, _Tally())
        first, last = sealed.first_sequence, sealed.last_sequence
        counted = sum(max(min(last, end) - max(first, begin) + 1, 0) for begin, end in tally.there)
        fresh = max(sealed.records - counted, 0)
        tally.written += fresh
        tally.synced += fresh
        # What a gap tells of within the range was never there.
        tally.there += _without(first, last, [line.gap for line in told if line.writer == sealed.writer])


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
            tally.written += walk.records
            tally.gaps += walk.gaps
            tally.there += _without(header.first_sequence, walk.next_sequence - 1, walk.gaps)
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


def _without(first: int, last: int, gaps: Iterable[Gap]) -> list[tuple[int, int]]:
    """The ranges of first to last that are not in the gaps, which are in order."""
    ranges = []
    for gap in gaps:
        if gap.first_sequence > first:
            ranges.append((first, gap.first_sequence - 1))
        first = (gap.last_sequence or gap.first_sequence) + 1
    return [*ranges, (first, last)] if first <= last else ranges


def _report(
    writer: WriterId,
    tally: _Tally,
    marks: Sequence[Mark],
    told: Sequence[GapLine],
    lives: bool,  # noqa: FBT001
) -> WriterReport:
    there = _joined(tally.there)
    gaps = [*tally.gaps, *(line.gap for line in told)]
    known = [last for _, last in there]
    known += [gap.last_sequence for gap in gaps if gap.last_sequence is not None]
    # Of a living writer, what it has counted as due and not written may wait in its memory.
    known += [mark.written_sequence if lives else mark.due_sequence for mark in marks]
    last = max(known, default=0)
    missing: list[Missing] = []
    erased = 0
    for begin, end in _complement(there, last):
        for part in _explained(begin, end, gaps):
            if part.reason == GapReason.ERASED.name.lower():
                erased += _size(part)
            else:
                missing.append(part)
    missing += [
        Missing(gap.first_sequence, None, gap.reason.name.lower())
        for gap in gaps
        if gap.last_sequence is None and not any(begin <= gap.first_sequence <= end for begin, end in there)
    ]
    return WriterReport(
        writer=writer,
        lives=lives,
        segments=tally.segments,
        written=tally.written,
        synced=tally.synced,
        lost=sum(map(_size, missing)),
        erased=erased,
        first_sequence=min((begin for begin, _ in there), default=1 if last else 0),
        last_sequence=last,
        missing=tuple(sorted(set(missing), key=lambda part: part.first_sequence)),
        torn=tuple(tally.torn),
        damage=tuple(tally.damage),
    )


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few ranges as can be, in order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _complement(ranges: Sequence[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """Of 1 to last, the ranges that are in none of these."""
    holes, following = [], 1
    for first, end in ranges:
        if first > following:
            holes.append((following, first - 1))
        following = end + 1
    return [*holes, (following, last)] if following <= last else holes


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
        # What was erased was there before; of other reasons the first that was told is the cause.
        reason = GapReason.ERASED if GapReason.ERASED in reasons else reasons[0] if reasons else None
        word = "untold" if reason is None else reason.name.lower()
        if parts and parts[-1].reason == word:
            parts[-1] = Missing(parts[-1].first_sequence, following - 1, word)
        else:
            parts.append(Missing(begin, following - 1, word))
    return parts


def _size(missing: Missing) -> int:
    return 0 if missing.last_sequence is None else missing.last_sequence - missing.first_sequence + 1
