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
from dataclasses import dataclass
from pathlib import Path

from hindcast.clock import Clock, system_clock
from hindcast.errors import LogUnavailable, LookupTooLarge
from hindcast.lookups.directory import LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import REAL_DISK, Disk
from hindcast.lookups.marks import Mark, MarksFile
from hindcast.lookups.missing import Missing
from hindcast.lookups.open_segment import OpenSegment
from hindcast.lookups.segment import PAYLOAD_BYTES_MAX, Gap, GapReason, SegmentHeader, frame, gap_bytes
from hindcast.settings import LogMode

_LOGGER = logging.getLogger(__name__)

_PARTS_MAX = 1_000
"""Linux takes 1,024 buffers in one writev."""

_RETRY_SECONDS = 0.25
"""Between attempts to begin a segment after a failure; the promise is to be back within two seconds."""

_GATHER_SECONDS, _GATHER_SECONDS_MAX = 0.000125, 0.001
"""For each lookup of the last sync, and at most. A turn of the thread costs about as much CPU as half a lookup of one row, and the disk
answers a sync in 0.1 to 2 ms: of 16 callers at once p50 is 0.8 ms more than without the log, and 1.8 with a sync for each."""
_DRAIN_SECONDS = 0.02
"""How long a record of `best_effort` waits in memory at the most, once one has come."""

_DRAINED_SECONDS = 1.0
"""Without a record of `best_effort` for so long the thread sleeps longer again."""

_DRAIN_BYTES = 1 << 18
"""Written of the queue while the lock is held; some 100 us."""

_RESERVED_BYTES = 1 << 20
"""Room that a segment asks of the disk at the least; it gives back what it did not need."""

_STALLED_SECONDS = 1.0
"""A turn of the thread that takes longer is an alarm, and `durable` is refused."""

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
        last_sequence: given so far, those of gap records among them; 0 before the first.
        alarm: whether the log cannot keep its promises at this moment.
    """

    written: int
    synced: int
    lost: int
    at_risk: int
    unsynced: int
    waiting: int
    written_bytes: int
    last_sequence: int
    alarm: bool


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
        sync_seconds: how old an unsynced record gets; the sync itself comes on top.
        queue_bytes_max: memory for records of `best_effort`.
        record_bytes_max: of a record's payload, at most 1 GiB.
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
        record_bytes_max: int = PAYLOAD_BYTES_MAX,
        on_alarm: OnAlarm = lambda _message: None,
    ) -> None:
        self.mode = mode
        self._directory = LogDirectory(directory)
        self._clock, self._disk, self._on_alarm = clock, disk, on_alarm
        self._segment_bytes_max, self._segment_seconds_max = segment_bytes_max, segment_seconds_max
        self._sync_seconds, self._queue_bytes_max = sync_seconds, queue_bytes_max
        self._record_bytes_max = record_bytes_max
        self._writer = WriterId(slot, clock())
        self._boot_id = disk.boot_id()

        self._lock = threading.Lock()
        self._segment: OpenSegment | None = None
        self._next = 1
        self._missing = Missing(self._directory, clock=clock, disk=disk, sync_seconds=sync_seconds)
        self._queue: deque[Sequence[bytes]] = deque()
        self._queued_bytes = 0
        self._retired: list[OpenSegment] = []
        self._refused: list[asyncio.Future[None]] = []
        self._ended_bytes = 0
        self._marks: MarksFile | None = None

        self._written = self._synced = self._refused_records = self._at_risk = self._written_bytes = 0
        self._alarm: str | None = None
        self._told: str | None = None
        self._turn_began: float | None = None
        self._answered_at_once = 0

        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick = sync_seconds
        self._drained_at = self._synced_at = self._looked_at = time.monotonic()
        self._request = b""
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
            lost=self._missing.total + self._refused_records,
            at_risk=self._at_risk,
            unsynced=segment.records - segment.synced_records if segment is not None else 0,
            waiting=len(self._queue),
            written_bytes=self._written_bytes,
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
        if self._segment is None:
            raise LogUnavailable(_CLOSED if self._closed else _REFUSED)
        if self._is_stalled():
            raise LogUnavailable(_STALLED)

    def append(self, parts: Sequence[bytes], *, mode: LogMode) -> Awaitable[None] | None:  # noqa: C901 - every call of a function counts here
        """Log one record, whose payload is the parts one after the other.

        Sequences follow the order in which records reach the file: that of the calls, except for `best_effort`, whose records
        wait in memory first.

        Returns:
            With `durable` what is to be awaited before the answer leaves: it is done when the record is synced, and raises
            LogUnavailable if that failed, and then the record may be there all the same. Else None.
        Raises:
            LogUnavailable, LookupTooLarge: the mode is `durable`, and the record could not be written, or is larger than
                `record_bytes_max`. In other modes it is counted as lost.
        """
        if mode is LogMode.OFF:
            return None
        if self._thread is None:
            self._start()
        size_bytes = sum(map(len, parts))
        if size_bytes > self._record_bytes_max:
            self._leave_out(size_bytes, mode)
            return None
        if mode is LogMode.BEST_EFFORT:
            self._enqueue(parts, size_bytes)
            return None
        if mode is LogMode.DURABLE:
            return self._append_durably(parts)
        with self._lock:
            segment = self._segment
            if segment is not None:
                try:
                    self._write(segment, parts)
                except OSError as error:
                    self._stop_writing(segment, error)
                    segment = None
            if segment is None:
                self._missing.add(GapReason.WRITE_FAILED)
        if segment is None:
            self._tell()
        elif segment.size_bytes >= self._segment_bytes_max:
            self._wake.set()
        return None

    async def close(self) -> None:
        """Write what waits, seal the segment, and end. What cannot be written any more is counted, and left for recovery."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """Like `close`, for those without an event loop; it blocks for a sync or two."""
        self._ending = True
        self._wake.set()
        if self._thread is None:
            self._closed = True
        else:
            self._thread.join()

    def _append_durably(self, parts: Sequence[bytes]) -> Awaitable[None]:
        loop = self._loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            segment = self._segment
            if segment is not None:
                try:
                    self._write(segment, parts)
                    segment.waiters.append(future)
                except OSError as error:
                    self._stop_writing(segment, error)
                    segment = None
        if segment is None:
            self._tell()
            raise LogUnavailable(_CLOSED if self._closed else _REFUSED)
        self._wake.set()
        return future

    def _leave_out(self, size_bytes: int, mode: LogMode) -> None:
        if mode is LogMode.DURABLE:
            raise LookupTooLarge(
                f"the log would have to keep {size_bytes:,} bytes of this lookup, and takes {self._record_bytes_max:,} at the most; "
                "ask for fewer rows or features at once"
            )
        with self._lock:
            self._missing.add(GapReason.TOO_LARGE)

    def _enqueue(self, parts: Sequence[bytes], size_bytes: int) -> None:
        with self._lock:
            if self._closed or self._queued_bytes + size_bytes > self._queue_bytes_max:
                self._missing.add(GapReason.OVERFLOW)
                return
            self._queue.append(parts)
            self._queued_bytes += size_bytes
        if self._tick > _DRAIN_SECONDS:
            self._tick = _DRAIN_SECONDS
            self._wake.set()

    def _start(self) -> None:
        if self._closed:
            return
        self._begin()
        self._thread = threading.Thread(target=self._run, name="hindcast-lookups", daemon=True)
        self._thread.start()

    # Down to the thread's part these are called with the lock held.

    def _write(self, segment: OpenSegment, parts: Sequence[bytes]) -> None:
        """Append a record.

        Raises:
            OSError: it is not there.
        """
        if len(parts) > _PARTS_MAX:
            parts = (b"".join(parts),)
        sequence = self._next
        self._written_bytes += segment.put(frame(sequence, parts, seed=segment.seed))
        segment.records += 1
        segment.last_sequence = sequence
        self._next = sequence + 1
        self._written += 1

    def _write_gaps(self, segment: OpenSegment) -> None:
        """Append a gap record for all that is missing so far.

        Raises:
            OSError: what is still missing stays so.
        """
        while (gap := self._missing.next_gap(self._next)) is not None:
            self._written_bytes += segment.put((gap_bytes(gap, seed=segment.seed),))
            segment.gaps = True
            self._next += self._missing.settle(gap, self._writer)
            segment.last_sequence = self._next - 1

    def _stop_writing(self, segment: OpenSegment, error: OSError) -> None:
        self._segment = None
        self._retired.append(segment)
        if segment.torn:
            # What stands there may be the whole record, so no other one can have its sequence.
            torn = Gap(first_sequence=self._next, last_sequence=self._next, reason=GapReason.TORN)
            self._missing.note(torn, self._writer)
            self._next += 1
        self._alarm = _trouble("cannot be written", error)
        self._wake.set()

    # The thread's part.

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(self._seconds_to_wait())
            self._gather()
            self._wake.clear()
            self._guarded(self._turn)
        self._guarded(self._turn)
        self._guarded(self._finish)

    def _gather(self) -> None:
        """Where lookups that are to be durable come side by side, let some more of them come to the sync that answers all of them."""
        segment = self._segment
        together = 0 if segment is None else max(len(segment.waiters), self._answered_at_once)
        if together > 1 and not self._ending:
            time.sleep(min(together * _GATHER_SECONDS, _GATHER_SECONDS_MAX))

    def _seconds_to_wait(self) -> float:
        if self._segment is None:
            return _RETRY_SECONDS
        now = time.monotonic()
        if now - self._drained_at > _DRAINED_SECONDS:
            self._tick = self._sync_seconds
        return max(0.0, min(self._tick, self._synced_at + self._sync_seconds - now))

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step; a defect of ours in it must not end the thread, or `durable` would wait for ever."""
        self._turn_began = time.monotonic()
        try:
            step()
        except Exception:
            _LOGGER.exception("a defect in the log of lookups; it begins a new segment")
            segment = self._segment
            if segment is not None:
                self._abandon(segment, OSError())
            self._refuse()
            time.sleep(_RETRY_SECONDS)
        self._turn_began = None
        self._tell()

    def _turn(self) -> None:
        """Do all that is due: begin, drain, rotate, seal, sync, and tell of it."""
        if self._segment is None:
            self._begin()
        if self._queue or self._missing.unwritten:
            self._mark(self._segment)  # so that they are counted, should the process be killed now
            self._drain()
        rotates = self._rotate()
        if (segment := self._segment) is not None and 2 * segment.size_bytes > segment.reserved_bytes:
            segment.reserve(self._room(4 * segment.size_bytes))
        for segment in list(self._retired):
            self._seal(segment)
        self._sync()
        if self._segment is None:
            self._begin()
        elif self._retired:
            self._alarm = "the log of lookups cannot end a file; see to its disk"
        elif rotates:
            self._alarm = None
        self._refuse()
        self._missing.tell(at_once=self._ending)
        self._mark(self._segment)

    def _begin(self) -> None:
        """Begin a segment where there is none; where that fails it stays an alarm, and is tried at the next turn."""
        try:
            self._claim()
            # Without a segment no sequence is given, so its first one is certain without the lock.
            segment = self._new_segment()
            try:
                if self._alarm is not None:
                    segment.probe()
                # A power cut must leave a trace of the writer, or nobody would know that records are missing.
                segment.sync()
                segment.synced_bytes = segment.size_bytes
                with self._lock:
                    self._write_gaps(segment)
                    self._segment = segment
            except OSError:
                if segment.gaps:
                    self._retired.append(segment)
                else:
                    segment.discard()
                raise
        except OSError as error:
            self._alarm = _trouble("cannot be written", error)
            return
        self._alarm = None

    def _claim(self) -> None:
        """Make the directories where they are missing, and the file of marks, once."""
        self._disk.make_directory(self._directory.segments)
        self._disk.make_directory(self._directory.synced)
        if self._marks is None:
            self._marks = MarksFile(self._directory, self._writer, disk=self._disk, sync_seconds=self._sync_seconds)
            self._writer = self._marks.writer

    def _new_segment(self) -> OpenSegment:
        header = SegmentHeader(
            slot=self._writer.slot,
            epoch=self._writer.epoch,
            first_sequence=self._next,
            created_micros=self._clock(),
            segment_id=os.urandom(16),
            boot_id=self._boot_id,
        )
        segment = OpenSegment.begin(self._directory, header, SegmentName(self._writer, self._next), disk=self._disk)
        self._written_bytes += segment.size_bytes
        # As much as the one before took, and then some.
        segment.reserve(self._room(max(_RESERVED_BYTES, 2 * self._ended_bytes)))
        return segment

    def _room(self, size_bytes: int) -> int:
        return min(size_bytes, self._segment_bytes_max)

    def _drain(self) -> None:
        """Write what is missing and what waits in memory."""
        self._drained_at = time.monotonic()
        while True:
            with self._lock:
                segment = self._segment
                if segment is None or not (self._queue or self._missing.unwritten):
                    return
                try:
                    self._write_gaps(segment)
                    end = segment.size_bytes + _DRAIN_BYTES
                    while self._queue and segment.size_bytes < end:
                        self._write(segment, self._queue[0])
                        self._queued_bytes -= sum(map(len, self._queue.popleft()))
                except OSError as error:
                    self._stop_writing(segment, error)

    def _rotate(self) -> bool:
        """Begin the next segment if it is time; false if that failed, and the old one goes on."""
        segment = self._segment
        if segment is None or not (segment.records or segment.gaps):
            return True
        old = time.monotonic() - segment.began >= self._segment_seconds_max
        if not (old or segment.size_bytes >= self._segment_bytes_max or self._is_asked_to_close()):
            return True
        try:
            self._claim()
            with self._lock:
                if self._segment is segment:
                    self._ended_bytes = segment.size_bytes
                    self._segment = self._new_segment()
                    self._retired.append(segment)
        except OSError as error:
            self._alarm = _trouble("cannot begin a new file", error)
            return False
        return True

    def _is_asked_to_close(self) -> bool:
        """Whether somebody wants what is open to be closed, and has not had it so far."""
        now = time.monotonic()
        # Turns that answer `durable` come in their hundreds.
        if now - self._looked_at < self._sync_seconds / 2:
            return False
        self._looked_at, seen = now, self._request
        try:
            self._request = self._disk.read(self._directory.closing)
        except OSError:
            self._request = b""
        return self._request not in (b"", seen)

    def _sync(self) -> None:
        segment, now = self._segment, time.monotonic()
        if segment is None:
            return
        if segment.size_bytes == segment.synced_bytes and segment.named:
            self._synced_at = now
        elif segment.waiters or self._ending or now - self._synced_at >= self._sync_seconds:
            self._synced_at = now
            self._sync_segment(segment)

    def _sync_segment(self, segment: OpenSegment) -> bool:
        """Sync what the segment has now, and answer those who wait for it; false where that failed, and it was given up."""
        with self._lock:
            waiters, segment.waiters = segment.waiters, []
            known = (segment.size_bytes, segment.records, segment.last_sequence)
        try:
            segment.sync()
        except OSError as error:
            with self._lock:
                segment.waiters[:0] = waiters
            self._abandon(segment, error)
            return False
        if waiters:
            self._answered_at_once = len(waiters)
        self._synced += known[1] - segment.synced_records
        segment.synced_bytes, segment.synced_records, segment.synced_sequence = known
        self._answer(waiters, None)
        return True

    def _seal(self, segment: OpenSegment) -> None:
        """End a segment that nothing is appended to any more; what can pass is tried again at the next turn."""
        if not segment.records and not segment.gaps:
            self._retired.remove(segment)
            segment.discard()
            return
        footed = segment.put_footer()
        unsynced = segment.size_bytes != segment.synced_bytes or not segment.named
        if unsynced and not self._sync_segment(segment):
            return
        if footed and segment.rename():
            self._retired.remove(segment)
        elif segment.torn:
            self._give_up(segment)
        elif len(self._retired) > _RETIRED_MAX:
            self._give_up(self._retired[0])

    def _abandon(self, segment: OpenSegment, error: OSError) -> None:
        """Leave a segment whose sync failed as it is: what a second attempt says of it would not be true."""
        with self._lock:
            if self._segment is segment:
                self._segment = None
            self._alarm = _trouble("cannot be synced", error)
            waiters, segment.waiters = segment.waiters, []
            self._refused += waiters
            self._refused_records += len(waiters)
            self._at_risk += segment.records - segment.synced_records - len(waiters)
            if segment.last_sequence > segment.synced_sequence:
                gap = Gap(
                    first_sequence=segment.synced_sequence + 1,
                    last_sequence=segment.last_sequence,
                    reason=GapReason.SYNC_FAILED,
                )
                self._missing.note(gap, self._writer)
        self._tell()
        # Before its lock is given back: what recovery makes of the segment depends on it.
        self._missing.tell(at_once=True)
        self._give_up(segment)

    def _refuse(self) -> None:
        """Answer those whose sync failed, once there is a segment again, if there can be one: their failures are to be logged."""
        refused, self._refused = self._refused, []
        self._answer(refused, LogUnavailable(_UNSYNCED))

    def _give_up(self, segment: OpenSegment) -> None:
        """Close a segment that recovery is to seal, and keep its mark."""
        if segment in self._retired:
            self._retired.remove(segment)
        self._mark(segment)
        if self._marks is not None:
            self._marks.keep()
        segment.close()

    def _answer(self, waiters: list[asyncio.Future[None]], error: LogUnavailable | None) -> None:
        if waiters and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and those who waited with it
                self._loop.call_soon_threadsafe(_answer_all, waiters, error)

    def _mark(self, segment: OpenSegment | None) -> None:
        if self._marks is None:
            return
        with self._lock:
            written = self._next - 1
            mark = Mark(
                first_sequence=segment.name.first_sequence if segment else self._next,
                synced_end=segment.synced_bytes if segment else 0,
                written_sequence=written,
                due_sequence=written + self._missing.unwritten + len(self._queue),
                at_micros=self._clock(),
            )
        self._marks.write(mark)

    def _tell(self) -> None:
        with self._lock:
            message, told = self._alarm, self._told
            self._told = message
        if message != told:
            try:
                self._on_alarm(message)
            except Exception:
                _LOGGER.exception("the log of lookups could not tell of an alarm")

    def _is_stalled(self) -> bool:
        began = self._turn_began
        return began is not None and time.monotonic() - began > _STALLED_SECONDS

    def _finish(self) -> None:
        """Seal what was written; the marks stay where something is left for recovery."""
        with self._lock:
            self._closed = True
            segment, self._segment = self._segment, None
            if segment is not None:
                self._retired.append(segment)
            for _ in self._queue:
                self._missing.add(GapReason.WRITE_FAILED)
            self._queue.clear()
        for retired in list(self._retired):
            self._seal(retired)
        for retired in list(self._retired):
            self._give_up(retired)
        self._refuse()
        self._missing.tell(at_once=self._ending)
        self._mark(None)
        if self._marks is not None:
            left = self._missing.are_left or self._marks.keeps_others
            self._marks.close(remove=not left)
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
