"""A worker's log: records are appended beside the answers, and one thread syncs, rotates and mends.

The event loop writes and never syncs. All that can take long (fdatasync, footers, renames, directories, and after a failure the
first file that works again) is done by the thread, one turn after the other; a lock guards what both see, and is held by the
thread for single writes and for opening a file, never for a sync.
"""

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hindcast.clock import Clock, system_clock
from hindcast.errors import LogUnavailable
from hindcast.lookups.directory import (
    MARK_BYTES,
    SEALED,
    LogDirectory,
    Mark,
    SegmentName,
    WriterId,
    mark_bytes,
)
from hindcast.lookups.disk import REAL_DISK, Disk
from hindcast.lookups.gaps import GapLine, append_lines
from hindcast.lookups.segment import (
    Footer,
    Gap,
    GapReason,
    SegmentHeader,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
)
from hindcast.settings import LogMode

_PARTS_MAX = 1_000
"""Linux takes 1,024 buffers in one writev."""

_RETRY_SECONDS = 0.25
"""Between attempts to begin a segment after a failure; the promise is to be back within two seconds."""

_DRAIN_SECONDS = 0.02
"""How long a record of `best_effort` waits in memory at the most, once one has come."""

_DRAIN_BYTES = 1 << 18
"""Written of the queue while the lock is held; some 100 us."""

_STALLED_SECONDS = 1.0
"""A sync that takes longer is an alarm, and `durable` is refused."""

_PROBE = bytes(1 << 16)
"""After a failure there must be room for this much, or the next record would fail again."""

_RETIRED_MAX = 8
"""Full segments that wait for their footer; each holds a descriptor."""

_CLOSED = "the log of lookups is closed; the server is stopping"
_REFUSED = "the log of lookups cannot be written, and this lookup is to be logged durably; try again later"
_STALLED = "the disk of the log of lookups does not answer, and this lookup is to be logged durably; try again later"
_UNSYNCED = "the log of lookups could not be synced, and this lookup was to be logged durably; try again"

OnAlarm = Callable[[str | None], None]
"""Told what is wrong with the log, and None when it is well again; from any thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCounters:
    """What a log has done so far.

    Attributes:
        written: records in segments.
        synced: of those, the ones that a power cut leaves.
        lost: records that were not written, and those of `durable` that could not be synced and were refused.
        at_risk: records of the other modes in segments whose sync failed; recovery finds out.
        unsynced: records in the current segment that wait for its next sync.
        waiting: records of `best_effort` in memory.
        written_bytes: of segments.
        first_sequence, last_sequence: given so far, lost ones among them; last is 0 before the first.
        alarm: whether the log cannot keep its promises at this moment.
    """

    written: int
    synced: int
    lost: int
    at_risk: int
    unsynced: int
    waiting: int
    written_bytes: int
    first_sequence: int
    last_sequence: int
    alarm: bool


@dataclass(slots=True, eq=False)
class _Segment:
    """A segment that is being written."""

    name: SegmentName
    handle: int
    seed: int
    began: float
    size_bytes: int
    records: int = 0
    gaps: bool = False
    last_sequence: int = 0
    synced_bytes: int = 0
    synced_records: int = 0
    synced_sequence: int = 0
    named: bool = False
    """Whether its name is synced."""
    torn: bool = False
    """Whether it ends in the midst of a record, and could not be cut."""
    sealed: bool = False
    """Whether it has its footer."""
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


@dataclass(slots=True)
class _Missing:
    count: int = 0
    since_micros: int = 0
    until_micros: int = 0


class LookupLog:
    """The log of one worker process, used from its event loop.

    A log that cannot be opened does not keep a server from starting: it is as one that fails later, and is tried again.

    Args:
        directory: of all workers' logs; it is made.
        slot: the worker's, which no living process shares.
        mode: what lookups are logged with where their feature service says nothing else; `off` makes no files until an `append`
            with another mode.
        segment_bytes_max, segment_seconds_max: when a segment is sealed and the next begun; a segment of `segment_bytes_max` is
            written on until the thread has begun the next.
        sync_seconds: how old an unsynced record gets, half a second more at the most for the sync itself.
        queue_bytes_max: memory for records of `best_effort`.
        on_alarm: see there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        slot: int,
        mode: LogMode,
        clock: Clock = system_clock,
        disk: Disk = REAL_DISK,
        segment_bytes_max: int = 64 << 20,
        segment_seconds_max: float = 60.0,
        sync_seconds: float = 0.5,
        queue_bytes_max: int = 16 << 20,
        on_alarm: OnAlarm = lambda _message: None,
    ) -> None:
        self.mode = mode
        self._directory = LogDirectory(directory)
        self._clock, self._disk, self._on_alarm = clock, disk, on_alarm
        self._writev = disk.writev
        self._segment_bytes_max, self._segment_seconds_max = segment_bytes_max, segment_seconds_max
        self._sync_seconds, self._queue_bytes_max = sync_seconds, queue_bytes_max
        self._writer = WriterId(slot, clock())
        self._boot_id = disk.boot_id()

        self._lock = threading.Lock()
        self._segment: _Segment | None = None
        self._next = 1
        self._missing: dict[GapReason, _Missing] = {}
        self._queue: deque[Sequence[bytes]] = deque()
        self._queued_bytes = 0
        self._retired: list[_Segment] = []
        self._lines: list[GapLine] = []
        self._marks: int | None = None
        self._mark_at = 0
        self._last_mark = b""
        self._marks_synced_at = 0.0
        self._marks_fail = False

        self._written = self._synced = self._lost = self._at_risk = self._bytes = 0
        self._alarm: str | None = None
        self._told: str | None = None
        self._sync_began: float | None = None

        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick = sync_seconds
        self._wake = threading.Event()
        self._ending = self._closed = False
        self._thread: threading.Thread | None = None
        if mode is not LogMode.OFF:
            self._start()

    @property
    def writer(self) -> WriterId:
        """Who this log is in the names of its files."""
        return self._writer

    @property
    def counters(self) -> LogCounters:
        """What was done so far; each number is right by itself."""
        segment = self._segment
        return LogCounters(
            written=self._written,
            synced=self._synced,
            lost=self._lost,
            at_risk=self._at_risk,
            unsynced=segment.records - segment.synced_records if segment is not None else 0,
            waiting=len(self._queue),
            written_bytes=self._bytes,
            first_sequence=1,
            last_sequence=self._next - 1,
            alarm=self._alarm is not None or self._is_stalled(),
        )

    def check(self, mode: LogMode) -> None:
        """Look whether a lookup can be logged, before work is done for it.

        Raises:
            LogUnavailable: the mode is `durable`, and the log cannot be written, or its disk has not answered for a second.
        """
        if mode is not LogMode.DURABLE:
            return
        if self._thread is None:
            self._start()
        if self._closed:
            raise LogUnavailable(_CLOSED)
        if self._segment is None:
            raise LogUnavailable(_REFUSED)
        if self._is_stalled():
            raise LogUnavailable(_STALLED)

    def append(self, parts: Sequence[bytes], *, mode: LogMode) -> Awaitable[None] | None:
        """Log one record, whose payload is the parts one after the other.

        Sequences follow the order in which records reach the file: that of the calls, except for `best_effort`, whose records
        wait in memory first.

        Returns:
            With `durable` what is to be awaited before the answer leaves: it is done when the record is synced, and raises
            LogUnavailable if that failed, and then the record may be there all the same. Else None.
        Raises:
            LogUnavailable: the mode is `durable`, and the record could not be written. In other modes it is counted as lost.
            ValueError: the payload is longer than 1 GiB.
        """
        if mode is LogMode.OFF:
            return None
        if self._thread is None:
            self._start()
        if mode is LogMode.BEST_EFFORT:
            self._enqueue(parts)
            return None
        if len(parts) > _PARTS_MAX:
            parts = (b"".join(parts),)
        future = None
        with self._lock:
            segment = self._segment
            if segment is not None:
                try:
                    self._write(segment, parts)
                except OSError as error:
                    self._stop_writing(segment, error)
                    segment = None
            if mode is LogMode.DURABLE:
                if segment is not None:
                    loop = self._loop = asyncio.get_running_loop()
                    future = loop.create_future()
                    segment.waiters.append(future)
            elif segment is None:
                self._lose(GapReason.WRITE_FAILED)
        if segment is None:
            self._tell()
            if mode is LogMode.DURABLE:
                raise LogUnavailable(_CLOSED if self._closed else _REFUSED)
            return None
        if future is not None or segment.size_bytes >= self._segment_bytes_max:
            self._wake.set()
        return future

    async def close(self) -> None:
        """Write what waits, seal the segment, and end. What cannot be written any more is left for recovery, and counted."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """Like `close`, for those without an event loop; it blocks for a sync or two."""
        self._ending = True
        self._wake.set()
        if self._thread is None:
            self._closed = True
        else:
            self._thread.join()

    # What follows down to `_run` is called with the lock held, where it changes anything.

    def _write(self, segment: _Segment, parts: Sequence[bytes]) -> None:
        """Append a record.

        Raises:
            OSError: it is not there.
        """
        sequence = self._next
        buffers = frame(sequence, parts, seed=segment.seed)
        size_bytes = sum(map(len, buffers))
        self._put(segment, buffers, size_bytes)
        segment.records += 1
        segment.last_sequence = sequence
        self._next = sequence + 1
        self._written += 1

    def _put(self, segment: _Segment, buffers: Sequence[bytes], size_bytes: int) -> None:
        """Append bytes, or leave the segment as it was; `torn` says when even that failed."""
        try:
            done = self._writev(segment.handle, buffers)
            if done != size_bytes:
                content = b"".join(buffers)
                while done < size_bytes:
                    put = self._writev(segment.handle, (content[done:],))
                    if put == 0:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    done += put
        except OSError:
            try:
                self._disk.truncate(segment.handle, segment.size_bytes)
            except OSError:
                segment.torn = True
            raise
        segment.size_bytes += size_bytes
        self._bytes += size_bytes

    def _write_gaps(self, segment: _Segment) -> None:
        """Append a gap record for all that is missing so far.

        Raises:
            OSError: what is still missing stays so.
        """
        while self._missing:
            reason, missing = next(iter(self._missing.items()))
            gap = Gap(
                first_sequence=self._next,
                last_sequence=self._next + missing.count - 1,
                reason=reason,
                since_micros=missing.since_micros,
                until_micros=missing.until_micros,
            )
            content = gap_bytes(gap, seed=segment.seed)
            self._put(segment, (content,), len(content))
            segment.gaps = True
            segment.last_sequence = self._next + missing.count - 1
            self._next += missing.count
            del self._missing[reason]
            self._note(gap)

    def _lose(self, reason: GapReason) -> None:
        now = self._clock()
        missing = self._missing.setdefault(reason, _Missing(since_micros=now))
        missing.count += 1
        missing.until_micros = now
        self._lost += 1

    def _note(self, gap: Gap) -> None:
        self._lines.append(GapLine(writer=self._writer, gap=gap, found_micros=self._clock()))

    def _stop_writing(self, segment: _Segment, error: OSError) -> None:
        self._segment = None
        self._retired.append(segment)
        self._alarm = _trouble("cannot be written", error)
        self._wake.set()

    def _enqueue(self, parts: Sequence[bytes]) -> None:
        size_bytes = sum(map(len, parts))
        with self._lock:
            if self._closed or self._queued_bytes + size_bytes > self._queue_bytes_max:
                self._lose(GapReason.OVERFLOW)
                return
            self._queue.append(parts)
            self._queued_bytes += size_bytes
        if self._tick > _DRAIN_SECONDS:
            self._tick = _DRAIN_SECONDS
            self._wake.set()

    def _start(self) -> None:
        self._begin()
        self._thread = threading.Thread(target=self._run, name="hindcast-lookups", daemon=True)
        self._thread.start()

    # What follows is the thread's.

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(_RETRY_SECONDS if self._segment is None else self._tick)
            self._wake.clear()
            try:
                self._turn()
            except Exception as defect:
                logging.getLogger(__name__).exception("a defect in the log of lookups; it is tried again")
                with self._lock:
                    segment, self._segment = self._segment, None
                    self._alarm = "the log of lookups met a defect"
                if segment is not None:
                    self._abandon(segment, OSError(errno.EIO, str(defect)))
                time.sleep(_RETRY_SECONDS)
            self._tell()
        self._finish()
        self._tell()

    def _turn(self) -> None:
        if self._segment is None:
            self._begin()
        self._mark()
        self._drain()
        rotated = self._rotate()
        for segment in list(self._retired):
            self._seal(segment)
        self._sync()
        if self._segment is None:
            self._begin()
        elif rotated:
            self._alarm = None
        self._tell_of_gaps()
        self._mark()

    def _begin(self) -> None:
        """Begin a segment where there is none, if there is room for more than its header; else it stays an alarm."""
        try:
            self._claim()
            # Without a segment no sequence is given, so its first one is certain without the lock.
            segment = self._create()
            try:
                if self._alarm is not None:
                    self._put(segment, (_PROBE,), len(_PROBE))
                    self._disk.fdatasync(segment.handle)
                    self._disk.truncate(segment.handle, segment.size_bytes - len(_PROBE))
                    segment.size_bytes -= len(_PROBE)
                    self._bytes -= len(_PROBE)
                with self._lock:
                    self._write_gaps(segment)
                    self._segment = segment
            except OSError:
                self._discard(segment)
                raise
        except OSError as error:
            self._alarm = _trouble("cannot be written", error)
            return
        self._alarm = None

    def _claim(self) -> None:
        """Make the directories, and the writer's own file of marks, whose lock says that the writer lives."""
        if self._marks is not None:
            return
        for folder in (self._directory.segments, self._directory.synced):
            self._disk.make_directory(folder)
        while self._marks is None:
            path = self._directory.marks(self._writer)
            try:
                handle = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                # The clock was set back to when another one began in this slot.
                self._writer = WriterId(self._writer.slot, self._writer.epoch + 1)
                continue
            if self._disk.lock(handle, path):
                self._marks = handle
            else:
                self._disk.close(handle)

    def _create(self) -> _Segment:
        """A new segment with its header, the next sequence for its first."""
        name = SegmentName(self._writer, self._next)
        path = self._directory.segment(name)
        with contextlib.suppress(FileNotFoundError):
            # One of this sequence is ours, and no record of it was ever acknowledged.
            self._disk.unlink(path)
        handle = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        header = SegmentHeader(
            slot=self._writer.slot,
            epoch=self._writer.epoch,
            first_sequence=self._next,
            created_micros=self._clock(),
            segment_id=os.urandom(16),
            boot_id=self._boot_id,
        )
        segment = _Segment(name, handle, header.seed, time.monotonic(), 0, last_sequence=self._next - 1)
        segment.synced_sequence = segment.last_sequence
        try:
            if not self._disk.lock(handle, path):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            content = header_bytes(header)
            self._put(segment, (content,), len(content))
        except OSError:
            self._discard(segment)
            raise
        return segment

    def _discard(self, segment: _Segment) -> None:
        """Give up a segment without a record."""
        self._close_handle(segment)
        with contextlib.suppress(OSError):
            self._disk.unlink(self._directory.segment(segment.name))

    def _drain(self) -> None:
        """Write what is missing and what waits in memory."""
        while True:
            with self._lock:
                segment = self._segment
                if segment is None or not (self._queue or self._missing):
                    return
                try:
                    self._write_gaps(segment)
                    end = segment.size_bytes + _DRAIN_BYTES
                    while self._queue and segment.size_bytes < end:
                        parts = self._queue[0]
                        self._write(segment, parts if len(parts) <= _PARTS_MAX else (b"".join(parts),))
                        self._queue.popleft()
                        self._queued_bytes -= sum(map(len, parts))
                except OSError as error:
                    self._stop_writing(segment, error)

    def _rotate(self) -> bool:
        """Begin the next segment if it is time; false if that failed, and the old one goes on."""
        segment = self._segment
        if segment is None or not (segment.records or segment.gaps):
            return True
        if (
            segment.size_bytes < self._segment_bytes_max
            and time.monotonic() - segment.began < self._segment_seconds_max
        ):
            return True
        try:
            with self._lock:
                self._segment = self._create()
                self._retired.append(segment)
        except OSError as error:
            self._segment = segment
            self._alarm = _trouble("cannot begin a new file", error)
            return False
        return True

    def _sync(self) -> None:
        with self._lock:
            segment = self._segment
            if segment is None or (segment.size_bytes == segment.synced_bytes and segment.named):
                return
            waiters, segment.waiters = segment.waiters, []
            known = (segment.size_bytes, segment.records, segment.last_sequence)
        try:
            self._fdatasync(segment)
        except OSError as error:
            segment.waiters[:0] = waiters
            self._abandon(segment, error)
            return
        self._is_synced(segment, known, waiters)

    def _fdatasync(self, segment: _Segment) -> None:
        self._sync_began = time.monotonic()
        try:
            self._disk.fdatasync(segment.handle)
            if not segment.named:
                self._disk.sync_directory(self._directory.segments)
                segment.named = True
        finally:
            self._sync_began = None

    def _is_synced(self, segment: _Segment, known: tuple[int, int, int], waiters: list[asyncio.Future[None]]) -> None:
        size_bytes, records, last_sequence = known
        self._synced += records - segment.synced_records
        segment.synced_bytes, segment.synced_records, segment.synced_sequence = size_bytes, records, last_sequence
        self._answer(waiters, None)

    def _seal(self, segment: _Segment) -> None:
        """End a segment that nothing is appended to any more; what fails in a way that can pass is tried at the next turn."""
        path = self._directory.segment(segment.name)
        if not segment.records and not segment.gaps:
            self._retired.remove(segment)
            self._discard(segment)
            return
        footed = True
        if not segment.sealed and not segment.torn:
            footer = Footer(
                last_sequence=segment.last_sequence,
                records=segment.records,
                size_bytes=segment.size_bytes,
                gaps=segment.gaps,
            )
            content = footer_bytes(footer, seed=segment.seed)
            try:
                self._put(segment, (content,), len(content))
                segment.sealed = True
            except OSError:
                footed = False
        try:
            if segment.size_bytes != segment.synced_bytes or not segment.named:
                self._fdatasync(segment)
                waiters, segment.waiters = segment.waiters, []
                self._is_synced(segment, (segment.size_bytes, segment.records, segment.last_sequence), waiters)
        except OSError as error:
            self._retired.remove(segment)
            self._abandon(segment, error)
            return
        if segment.torn:
            self._retired.remove(segment)
            self._give_up(segment)
        elif footed:
            with contextlib.suppress(OSError):
                self._disk.rename(path, path.with_suffix(SEALED))
                self._retired.remove(segment)
                self._close_handle(segment)
                self._disk.sync_directory(self._directory.segments)
                return
        if len(self._retired) > _RETIRED_MAX:
            self._give_up(self._retired.pop(0))

    def _abandon(self, segment: _Segment, error: OSError) -> None:
        """Leave a segment whose sync failed as it is: what a second attempt says of it would not be true."""
        with self._lock:
            if self._segment is segment:
                self._segment = None
            self._alarm = _trouble("cannot be synced", error)
            unsynced = segment.records - segment.synced_records
            refused = len(segment.waiters)
            self._lost += refused
            self._at_risk += unsynced - refused
            if segment.last_sequence > segment.synced_sequence:
                self._note(
                    Gap(
                        first_sequence=segment.synced_sequence + 1,
                        last_sequence=segment.last_sequence,
                        reason=GapReason.SYNC_FAILED,
                    )
                )
        waiters, segment.waiters = segment.waiters, []
        self._answer(waiters, LogUnavailable(_UNSYNCED))
        self._give_up(segment)

    def _give_up(self, segment: _Segment) -> None:
        """Close a segment that recovery is to seal; its mark stays, and the next segment has another place for its own."""
        self._mark(segment)
        self._mark_at += MARK_BYTES
        self._close_handle(segment)

    def _close_handle(self, segment: _Segment) -> None:
        with contextlib.suppress(OSError):
            self._disk.close(segment.handle)

    def _answer(self, waiters: list[asyncio.Future[None]], error: LogUnavailable | None) -> None:
        if waiters and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and those who waited with it
                self._loop.call_soon_threadsafe(_answer_all, waiters, error)

    def _tell_of_gaps(self) -> None:
        lines = list(self._lines)
        try:
            append_lines(self._directory, lines, disk=self._disk)
        except OSError:
            return
        del self._lines[: len(lines)]

    def _mark(self, segment: _Segment | None = None) -> None:
        """Remember how far the segment is synced, and how many records there should be."""
        with self._lock:
            segment = segment or self._segment
            written = self._next - 1
            due = written + sum(missing.count for missing in self._missing.values()) + len(self._queue)
        if self._marks is None:
            return
        first, end = (segment.name.first_sequence, segment.synced_bytes) if segment else (self._next, 0)
        mark = Mark(
            first_sequence=first, synced_end=end, written_sequence=written, due_sequence=due, at_micros=self._clock()
        )
        content = mark_bytes(mark)
        if content[:32] == self._last_mark[:32]:
            return
        # A mark that is missing or old makes recovery say less, never something wrong.
        with contextlib.suppress(OSError):
            self._disk.pwrite(self._marks, content, self._mark_at)
            self._last_mark = content
            now = time.monotonic()
            if not self._marks_fail and now - self._marks_synced_at >= self._sync_seconds:
                self._marks_fail = True
                self._disk.fdatasync(self._marks)
                self._marks_fail = False
                self._marks_synced_at = now

    def _tell(self) -> None:
        with self._lock:
            message, told = self._alarm, self._told
            self._told = message
        if message != told:
            self._on_alarm(message)

    def _is_stalled(self) -> bool:
        began = self._sync_began
        return began is not None and time.monotonic() - began > _STALLED_SECONDS

    def _finish(self) -> None:
        """Write all that can be written, and seal; the marks stay where something is left for recovery."""
        self._turn()
        with self._lock:
            self._closed = True
            segment, self._segment = self._segment, None
            if segment is not None:
                self._retired.append(segment)
            for _ in self._queue:
                self._lose(GapReason.WRITE_FAILED)
            self._queue.clear()
        clean = not self._missing and not self._mark_at
        for retired in list(self._retired):
            self._seal(retired)
        clean = clean and not self._retired and not self._mark_at
        for retired in self._retired:
            self._give_up(retired)
        self._retired.clear()
        self._mark()
        self._tell_of_gaps()
        if self._marks is not None:
            with contextlib.suppress(OSError):
                if clean and not self._lines:
                    self._disk.unlink(self._directory.marks(self._writer))
                self._disk.close(self._marks)
            self._marks = None


def _answer_all(waiters: list[asyncio.Future[None]], error: LogUnavailable | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


def _trouble(what: str, error: OSError) -> str:
    return f"the log of lookups {what} ({errno.errorcode.get(error.errno or 0, 'unknown')}); see to its disk"
