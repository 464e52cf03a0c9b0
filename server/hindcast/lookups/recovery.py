"""Seals what writers have left that died, or gave a segment up: its longest valid prefix, and a gap for what is missing.

A segment that a living writer has open is locked, and passed over. Answers that were refused because they could not be synced are left out:
the failure that their callers were told is logged behind them. What is sealed is always a copy: where a sync failed, the old
file's pages count as synced and may not be on the disk, so that syncing it again proves nothing.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hindcast.clock import Clock, system_clock
from hindcast.errors import StoredDataError
from hindcast.lookups.directory import OPEN, SEALED, LogDirectory, SegmentName, WriterId, marks_writer
from hindcast.lookups.disk import REAL_DISK, Disk, sync_directory, write_all
from hindcast.lookups.gaps import GapLine, append_lines
from hindcast.lookups.marks import Mark, read_marks
from hindcast.lookups.refused import Refused
from hindcast.lookups.segment import (
    Footer,
    Gap,
    GapReason,
    Record,
    RecoveryMode,
    Scan,
    SegmentHeader,
    State,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
    scan,
)
from hindcast.lookups.sequences import Sequences

_UNKNOWN_BOOT = bytes(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of one segment.

    Attributes:
        name: as it was found.
        state: DAMAGED also where the file ends as none that was only cut off can: in the midst of something that is no record,
            while the kernel has been running all the time.
        records: that the sealed copy has.
        last_sequence: of the last record or gap in it; one less than the first where there is none.
        rest_bytes: of the file, that are no record.
        gaps: what is missing, as told in `gaps/`.
        sealed: the copy; None where there was nothing to seal, or it was refused.
        kept: where the file is kept as it was found; None where all of it is in the copy or was no record.
        refused: why it was left as it is: `strict` and not whole, or of a newer format. Empty for the others.
    """

    name: SegmentName
    state: State
    records: int
    last_sequence: int
    rest_bytes: int
    gaps: tuple[Gap, ...]
    sealed: Path | None
    kept: Path | None
    refused: str = ""


def recover(
    root: Path,
    *,
    mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL,
    disk: Disk = REAL_DISK,
    clock: Clock = system_clock,
) -> list[Recovered]:
    """Seal all open segments of a log whose writers are gone. Safe beside living writers and beside itself.

    Killed at any moment it leaves what the next one needs; a gap may then be told twice, and `read_lines` gives it once.

    Returns:
        One entry per segment, in the order of their names.
    Raises:
        OSError: a file could not be read or written; those before it are done.
    """
    directory = LogDirectory(root)
    work = _Work(directory, mode, disk, clock)
    names = [name for name in map(SegmentName.parse, disk.names(directory.segments)) if name is not None]
    recovered = [found for name in sorted(names) if name.suffix == OPEN and (found := work.segment(name)) is not None]
    for file in disk.names(directory.synced):
        writer = marks_writer(file)
        if writer is not None:
            work.end_of(writer, recovered)
    return recovered


class _Work:
    """One recovery."""

    def __init__(self, directory: LogDirectory, mode: RecoveryMode, disk: Disk, clock: Clock) -> None:
        self._directory, self._mode, self._disk, self._clock = directory, mode, disk, clock
        self._boot_id = disk.boot_id()
        self._began_micros = clock()

    def segment(self, name: SegmentName) -> Recovered | None:
        """Seal a segment; None where its writer lives, or another one has just done it."""
        path = self._directory.segment(name)
        with self._locked(path) as mine:
            return self._seal(name, path) if mine else None

    def end_of(self, writer: WriterId, recovered: Sequence[Recovered]) -> None:
        """Remove the marks of a writer that is gone and has no open segment any more, and tell of what only they know."""
        path = self._directory.marks(writer)
        with self._locked(path) as mine:
            # Looked at with the lock, so that no writer can have begun one since.
            names = [name for name in map(SegmentName.parse, self._disk.names(self._directory.segments)) if name]
            if not mine or any(name.writer == writer and name.suffix == OPEN for name in names):
                return
            marks = read_marks(self._disk.read(path))
            if marks:
                newest = max(marks, key=lambda mark: (mark.due_sequence, mark.at_micros))
                known = [newest.written_sequence]
                for found in recovered:
                    if found.name.writer == writer:
                        known += [found.last_sequence, *(gap.last_sequence or 0 for gap in found.gaps)]
                if newest.due_sequence > max(known):
                    gap = Gap(
                        first_sequence=max(known) + 1,
                        last_sequence=newest.due_sequence,
                        reason=GapReason.KILLED,
                        until_micros=newest.at_micros,
                    )
                    self._tell(writer, [gap])
            self._disk.unlink(path)

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[bool]:
        """Whether the file is there and its lock is ours, for as long as the context lasts."""
        try:
            handle = self._disk.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield False
            return
        try:
            yield self._disk.lock(handle, path)
        finally:
            self._disk.close(handle)

    def _seal(self, name: SegmentName, path: Path) -> Recovered:
        data = self._disk.read(path)
        mark = self._mark_of(name)
        try:
            found = scan(data, synced_end=mark.synced_end if mark else 0, mode=self._reading_mode())
        except StoredDataError as error:
            return _refused(name, State.WHOLE, len(data), str(error))
        if found.header is not None and _name_of(found.header) != replace(name, suffix=OPEN):
            return _refused(name, State.WHOLE, len(data), "its header is that of another segment; somebody renamed it")
        found = self._without_refused(name, found)
        state = self._state(found)
        if state is not State.WHOLE and self._mode is RecoveryMode.STRICT:
            why = f"it is {state} at byte {found.valid_end} of {len(data)}"
            return _refused(name, state, len(data) - found.valid_end, why)
        gap = self._gap(name, found, state, mark)
        rest_bytes = sum(end - begin for begin, end in found.skipped) if found.skipped else len(data) - found.valid_end
        kept = self._directory.damaged / str(name) if self._is_worth_keeping(data, found, state) else None
        holes = [hole for hole in found.gaps if hole.reason is GapReason.DAMAGED]
        gaps = (*holes, *([gap] if gap else []))
        self._tell(name.writer, gaps, rest_bytes=rest_bytes, kept=kept.name if kept else "")
        sealed = None
        if found.header is not None and (found.records or found.gaps):
            sealed = path.with_suffix(SEALED)
            self._write_copy(path, sealed, data, found, found.header, ends_in_gap=gap is not None)
        if kept is None:
            self._disk.unlink(path)
        else:
            self._disk.make_directory(self._directory.damaged)
            self._disk.rename(path, kept)
            sync_directory(self._disk, self._directory.damaged)
        sync_directory(self._disk, self._directory.segments)
        return Recovered(
            name=name,
            state=state,
            records=len(found.records),
            last_sequence=found.last_sequence if found.header else name.first_sequence - 1,
            rest_bytes=rest_bytes,
            gaps=gaps,
            sealed=sealed,
            kept=kept,
        )

    def _without_refused(self, name: SegmentName, found: Scan) -> Scan:
        """A segment with gaps in the place of answers that were refused."""
        refused = Refused.told(self._directory, name.writer, disk=self._disk)
        out = [record.sequence for record in found.records if _is_of(refused, name.writer, record)]
        if not out:
            return found
        gaps = [
            Gap(first_sequence=first, last_sequence=last, reason=GapReason.SYNC_FAILED)
            for first, last in Sequences.of((sequence, sequence) for sequence in out).ranges
        ]
        left_out = set(out)
        return replace(
            found,
            records=[record for record in found.records if record.sequence not in left_out],
            gaps=sorted([*found.gaps, *gaps], key=lambda gap: gap.first_sequence),
        )

    def _reading_mode(self) -> RecoveryMode:
        # `strict` is judged here, where it is known whether the kernel has been running all the time.
        return RecoveryMode.SALVAGE if self._mode is RecoveryMode.SALVAGE else RecoveryMode.TOLERATE_TAIL

    def _mark_of(self, name: SegmentName) -> Mark | None:
        try:
            marks = read_marks(self._disk.read(self._directory.marks(name.writer)))
        except FileNotFoundError:
            return None
        return next((mark for mark in marks if mark.first_sequence == name.first_sequence), None)

    def _state(self, found: Scan) -> State:
        if found.state is State.TORN and self._kernel_ran_on(found) and not found.cut_short:
            return State.DAMAGED
        return found.state

    def _kernel_ran_on(self, found: Scan) -> bool:
        """Whether what the writer had written is all there: the kernel that had it in memory is still the same."""
        return found.header is not None and found.header.boot_id == self._boot_id != _UNKNOWN_BOOT

    def _gap(self, name: SegmentName, found: Scan, state: State, mark: Mark | None) -> Gap | None:
        """What is missing at the end of a segment, as far as it can be known."""
        first = found.last_sequence + 1 if found.header else name.first_sequence
        following = self._following(name)
        until = mark.at_micros if mark else 0
        reason = GapReason.DAMAGED if state is State.DAMAGED else GapReason.TORN
        if following is not None:
            return Gap(first_sequence=first, last_sequence=following - 1, reason=reason) if following > first else None
        due = mark.due_sequence if mark else 0
        never_written = found.size_bytes == 0 and mark is None
        if state is not State.DAMAGED and (self._kernel_ran_on(found) or never_written):
            # A killed writer: all that was acknowledged had been written, and is there; what was in its memory is not.
            rest = found.size_bytes - found.valid_end
            if due >= first:
                return Gap(first_sequence=first, last_sequence=due, reason=GapReason.KILLED, until_micros=until)
            if rest == 0 or found.header is None:
                return None
            return Gap(first_sequence=first, last_sequence=first, reason=GapReason.TORN, until_micros=until)
        return Gap(first_sequence=first, last_sequence=None, reason=reason, until_micros=until)

    def _following(self, name: SegmentName) -> int | None:
        """The first sequence of the writer's next segment, where it is still there."""
        names = map(SegmentName.parse, self._disk.names(self._directory.segments))
        later = [
            other.first_sequence
            for other in names
            if other is not None and other.writer == name.writer and other.first_sequence > name.first_sequence
        ]
        return min(later, default=None)

    def _is_worth_keeping(self, data: bytes, found: Scan, state: State) -> bool:
        if state is State.WHOLE:
            return False
        if state is State.DAMAGED:
            return True
        # Torn by a power cut, with more behind the hole: `salvage` may want it.
        return not found.cut_short and data.count(0, found.valid_end) < len(data) - found.valid_end

    def _write_copy(
        self, path: Path, sealed: Path, data: bytes, found: Scan, header: SegmentHeader, *, ends_in_gap: bool
    ) -> None:
        seed = header.seed
        content: list[bytes | memoryview]
        if found.skipped or any(gap.reason is GapReason.SYNC_FAILED for gap in found.gaps):
            content = [header_bytes(header)]
            pieces = [
                (record.sequence, frame(record.sequence, (record.payload,), seed=seed)) for record in found.records
            ]
            pieces += [(hole.first_sequence, (gap_bytes(hole, seed=seed),)) for hole in found.gaps]
            for _, buffers in sorted(pieces, key=lambda piece: piece[0]):
                content += buffers
        else:
            content = [memoryview(data)[: found.data_end]]
        size_bytes = sum(map(len, content))
        footer = Footer(
            last_sequence=found.last_sequence,
            records=len(found.records),
            size_bytes=size_bytes,
            gaps=bool(found.gaps) or ends_in_gap,
        )
        content.append(footer_bytes(footer, seed=seed))
        temporary = path.with_suffix(".tmp")
        handle = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for piece in content:
                write_all(self._disk, handle, piece)
            self._disk.fdatasync(handle)
        finally:
            self._disk.close(handle)
        self._disk.rename(temporary, sealed)
        sync_directory(self._disk, self._directory.segments)

    def _tell(self, writer: WriterId, gaps: Sequence[Gap], *, rest_bytes: int = 0, kept: str = "") -> None:
        now = self._clock()
        lines = [GapLine(writer=writer, gap=gap, found_micros=now, rest_bytes=rest_bytes, kept=kept) for gap in gaps]
        append_lines(self._directory, lines, number=self._began_micros, disk=self._disk)


def _is_of(refused: Refused, writer: WriterId, record: Record) -> bool:
    try:
        return refused.has_payload(writer, record.sequence, record.payload)
    except StoredDataError:
        return False  # of another version


def _name_of(header: SegmentHeader) -> SegmentName:
    return SegmentName(WriterId(header.slot, header.epoch), header.first_sequence)


def _refused(name: SegmentName, state: State, rest_bytes: int, why: str) -> Recovered:
    return Recovered(
        name=name,
        state=state,
        records=0,
        last_sequence=name.first_sequence - 1,
        rest_bytes=rest_bytes,
        gaps=(),
        sealed=None,
        kept=None,
        refused=why,
    )
