"""Reading: records are found where writers left them, in open segments and sealed ones, while the writers go on.

A segment is pruned by when it was last written, walked from record to record, and a record is decoded only if it matches. What
cannot be read is noted, and the rest is read.

Segments have no index. A `Page` holds the newest lookups by a total order, whatever was offered to it: `listing` offers those of sealed
tables too.
"""

import contextlib
import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import OPEN, SEALED, LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.record import LookupRecord, Rpc, decode, glance, headers_count
from hindcast.lookups.refused import Refused
from hindcast.lookups.segment import HEADER_BYTES, SegmentHeader, read_header
from hindcast.lookups.walk import End, Frame, Walk, records_behind
from hindcast.settings import LogMode

_SKEW_MICROS = 5_000_000
"""A file's last write is told by a coarse clock, and clocks are set back by a little now and then."""

SHOWN_MAX = 1_000
"""Characters of a service's name that a failure's record has (serving/recorder.py)."""

Tick = Callable[[], None]
"""Called again and again while something is read; what it raises ends the reading."""


class Found(NamedTuple):
    """A record, and where it stands in the log."""

    writer: WriterId
    sequence: int
    record: LookupRecord


class Position(NamedTuple):
    """Where a lookup stands among all; later ones are greater."""

    served_at_micros: int
    lookup_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A lookup in one line.

    Attributes:
        entity_rows: how many were asked for; None for a failure, and where nothing stored was read.
        other attributes: see `LookupRecord`.
    """

    lookup_id: bytes
    served_at_micros: int
    rpc: Rpc
    request_id: str
    tags: Mapping[str, str]
    service: str
    refs: tuple[str, ...]
    mode: str
    code: int
    reason: str
    catalog_version: str
    entity_rows: int | None
    writer: WriterId
    sequence: int

    @property
    def position(self) -> Position:
        """Where it stands among all."""
        return Position(self.served_at_micros, self.lookup_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Which lookups are wanted; what is not said is not looked at.

    Attributes:
        since_micros, until_micros: of served_at; the first counts, the second does not.
        service: as the caller wrote it; empty means lookups of references.
        tags: all of them.
        codes: any of these google.rpc.Code numbers.
    """

    since_micros: int | None = None
    until_micros: int | None = None
    request_id: str | None = None
    service: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    codes: frozenset[int] | None = None

    @property
    def service_shown(self) -> str | None:
        """The service as a record has it."""
        return None if self.service is None else self.service[:SHOWN_MAX]

    def takes_time(self, served_at_micros: int) -> bool:
        """Whether the time is one that is wanted."""
        return (self.since_micros is None or served_at_micros >= self.since_micros) and (
            self.until_micros is None or served_at_micros < self.until_micros
        )

    def takes(self, record: LookupRecord) -> bool:
        """Whether a record is one that is wanted."""
        return (
            self.takes_time(record.served_at_micros)
            and (self.request_id is None or record.request_id == self.request_id)
            and (self.service is None or record.service == self.service_shown)
            and (self.codes is None or record.code in self.codes)
            and self.tags.items() <= record.tags.items()
        )

    def needles(self) -> list[bytes]:
        """Bytes that the payload of every wanted record holds: to look for them costs far less than to decode."""
        words = [self.request_id or "", self.service_shown or "", *self.tags, *self.tags.values()]
        return sorted({word.encode() for word in words if word}, key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of the log that cannot be read.

    Attributes:
        offset: in the segment's file.
    """

    segment: SegmentName
    offset: int
    what: str

    def __str__(self) -> str:
        return f"segment {self.segment} {self.what} at byte {self.offset:,}"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment as the directory tells of it.

    Attributes:
        written_micros: the file's last write.
    """

    name: SegmentName
    size_bytes: int
    written_micros: int


def segment_files(directory: LogDirectory) -> list[SegmentFile]:
    """All segments, each once, in the order of their names; one that is open and sealed is being recovered, and counts as sealed."""
    found: dict[tuple[WriterId, int], SegmentFile] = {}
    for _ in range(2):
        # A name that changes while a directory is read may be passed over; twice in a row it does not.
        for file in _listed(directory.segments):
            key = (file.name.writer, file.name.first_sequence)
            if key not in found or file.name.suffix == SEALED:
                found[key] = file
    return sorted(found.values(), key=lambda file: file.name)


def _listed(folder: Path) -> Iterator[SegmentFile]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        name = SegmentName.parse(entry.name)
        if name is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            yield SegmentFile(name, status.st_size, status.st_mtime_ns // 1000)


@contextlib.contextmanager
def opened(directory: LogDirectory, name: SegmentName) -> Iterator[tuple[int, Path] | None]:
    """A segment's descriptor and path, under its other name if it was sealed meanwhile; None if it is gone.

    Raises:
        OSError: it is there, and cannot be opened.
    """
    for suffix in (name.suffix, SEALED if name.suffix == OPEN else OPEN):
        path = directory.segment(SegmentName(name.writer, name.first_sequence, suffix))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            yield handle, path
        finally:
            os.close(handle)
        return
    yield None


class SegmentRecords:
    """The records in the segments of one log.

    Attributes:
        damage: what could not be read so far, each place once.
    """

    def __init__(self, log_directory: Path, *, tick: Tick = lambda: None) -> None:
        """Args: tick is called at least every 256 KiB."""
        self.damage: list[Damage] = []
        self._directory = LogDirectory(log_directory)
        self._tick = tick

    @cached_property
    def _refused(self) -> Refused:
        return Refused.told(self._directory, disk=REAL_DISK)

    def by_lookup_id(self, lookup_id: bytes) -> Found | None:
        """The record of a lookup, by its UUIDv7; None where no segment has it.

        The id's time says which segments cannot have it, and which are likely to: a record is written when its lookup ends, mostly
        some milliseconds later.
        """
        begun_micros = int.from_bytes(lookup_id[:6], "big") * 1000
        for name in self._likely(begun_micros):
            found = self._last_in(name, lookup_id)
            if found is not None:
                return self._in_the_end(found, name)
        return None

    def _last_in(self, name: SegmentName, lookup_id: bytes) -> Found | None:
        """The last record of a lookup in a segment."""
        found = None
        for one in self._found(name, lambda frame: _id_of(frame) in (None, lookup_id)):
            if one.record.lookup_id == lookup_id:
                found = one
        return found

    def _in_the_end(self, found: Found, name: SegmentName) -> Found:
        """What became of a lookup: of an answer that could not be made durable its caller was told a failure, which stands behind it."""
        if found.record.code or found.record.mode != LogMode.DURABLE:
            return found
        following = [
            file.name
            for file in segment_files(self._directory)
            if file.name.writer == found.writer and file.name.first_sequence > name.first_sequence
        ]
        # The failure is written at once; one segment between the two may be one that failed as well.
        for later in following[:2]:
            found = self._last_in(later, found.record.lookup_id) or found
        return found

    def offer_to(self, page: "Page") -> None:
        """Offer a page all that may belong on it."""
        for file in sorted(segment_files(self._directory), key=lambda file: file.written_micros, reverse=True):
            if page.is_past(file.written_micros + _SKEW_MICROS):
                break
            for found in self._found(file.name, page.may_take):
                if not self._refused.has(found.writer, found.sequence, found.record):
                    page.offer(found)

    def every(self, wanted: Matching) -> Iterator[Found]:
        """Every record that matches, in no order; one that is recovered meanwhile is there twice."""
        needles = wanted.needles()

        def may_match(frame: Frame) -> bool:
            seen = glance(frame.block, frame.begin)
            return (seen is None or wanted.takes_time(seen.served_at_micros)) and all(
                frame.block.find(needle, frame.begin, frame.end) >= 0 for needle in needles
            )

        for file in segment_files(self._directory):
            if wanted.since_micros is not None and file.written_micros + _SKEW_MICROS < wanted.since_micros:
                continue
            for found in self._found(file.name, may_match):
                if wanted.takes(found.record) and not self._refused.has(found.writer, found.sequence, found.record):
                    yield found

    def _likely(self, begun_micros: int) -> list[SegmentName]:
        """The segments that can hold a lookup which began then, the likeliest first: those that had begun already, the last of them
        first, and then those that were begun later, for a call that took long or waited in memory for a disk that was full.
        """
        can = []
        for file in segment_files(self._directory):
            if file.written_micros < begun_micros - _SKEW_MICROS:
                continue
            header = self._header_of(file.name)
            if header is not None:
                can.append((file.name, header.created_micros))
        before = [item for item in can if item[1] <= begun_micros]
        after = [item for item in can if item[1] > begun_micros]
        in_order = [*sorted(before, key=lambda item: -item[1]), *sorted(after, key=lambda item: item[1])]
        return [name for name, _ in in_order]

    def _header_of(self, name: SegmentName) -> SegmentHeader | None:
        try:
            with opened(self._directory, name) as there:
                return None if there is None else self._read_header(there[0], name)
        except OSError as error:
            self._note(name, 0, f"cannot be read ({error.strerror})")
            return None

    def _read_header(self, handle: int, name: SegmentName) -> SegmentHeader | None:
        data = os.pread(handle, HEADER_BYTES, 0)
        try:
            header = read_header(data)
        except StoredDataError as error:
            self._note(name, 0, f"cannot be read ({error})")
            return None
        # One that has just been begun has no header yet, nor a record.
        if header is None and (name.suffix == SEALED or len(data) == HEADER_BYTES):
            self._note(name, 0, "has a damaged header")
        return header

    def _found(self, name: SegmentName, may_match: Callable[[Frame], bool]) -> Iterator[Found]:
        """The verified records of a segment that may match, of the others nothing."""
        try:
            with opened(self._directory, name) as there:
                if there is None:
                    return
                handle, path = there
                header = self._read_header(handle, name)
                if header is None:
                    return
                writer = WriterId(header.slot, header.epoch)
                walk = Walk(handle, header, tick=self._tick)
                for frame in walk.frames():
                    if may_match(frame):
                        payload = frame.payload(header.seed)
                        if payload is None:
                            self._note(name, frame.offset, "has a damaged record")
                            continue
                        try:
                            yield Found(writer, frame.head.sequence, decode(payload))
                        except StoredDataError:
                            self._note(name, frame.offset, "has a record of a format that this version does not read")
                if walk.end is End.BROKEN or (walk.end is not End.FOOTER and path.suffix == SEALED):
                    yield from self._behind(name, path, walk, writer)
        except OSError as error:
            self._note(name, 0, f"cannot be read ({error.strerror})")

    def _behind(self, name: SegmentName, path: Path, walk: Walk, writer: WriterId) -> Iterator[Found]:
        self._note(name, walk.offset, "is damaged")
        for sequence, payload in records_behind(path, walk.next_sequence):
            self._tick()
            with contextlib.suppress(StoredDataError):
                yield Found(writer, sequence, decode(payload))

    def _note(self, name: SegmentName, offset: int, what: str) -> None:
        damage = Damage(name, offset, what)
        if damage not in self.damage:
            self.damage.append(damage)


class Page:
    """The newest lookups that match, of those that were offered; one that is offered twice is there once.

    Attributes:
        wanted: which match.
        limit: how many there can be, at least one.
        before: only lookups that stand before it; a page begins where the last one ended.
    """

    def __init__(self, wanted: Matching, *, limit: int, before: Position | None = None) -> None:
        self.wanted, self.limit, self.before = wanted, limit, before
        self._needles = wanted.needles()
        self._kept: list[tuple[Position, Summary]] = []
        self._positions: set[Position] = set()

    def is_past(self, latest_micros: int) -> bool:
        """Whether nothing served then or earlier can be on the page any more."""
        since = self.wanted.since_micros
        return (since is not None and latest_micros < since) or (
            len(self._kept) == self.limit and latest_micros < self._kept[0][0].served_at_micros
        )

    def may_hold_any(self, first_micros: int | None, last_micros: int | None) -> bool:
        """Whether any lookup that was served in this time can be on the page; None is no bound."""
        until, before = self.wanted.until_micros, self.before
        return not (
            (last_micros is not None and self.is_past(last_micros))
            or (first_micros is not None and until is not None and first_micros >= until)
            or (first_micros is not None and before is not None and first_micros > before.served_at_micros)
        )

    def may_take(self, frame: Frame) -> bool:
        """Whether it is worth to decode a record."""
        seen = glance(frame.block, frame.begin)
        return (seen is None or self.may_hold(Position(seen.served_at_micros, seen.lookup_id))) and all(
            frame.block.find(needle, frame.begin, frame.end) >= 0 for needle in self._needles
        )

    def offer(self, found: Found) -> None:
        """Put a record on the page if it belongs there."""
        position = Position(found.record.served_at_micros, found.record.lookup_id)
        if self.may_hold(position) and self.wanted.takes(found.record):
            self.put(summary_of(found))

    def put(self, summary: Summary) -> None:
        """Put a lookup that matches on the page if it belongs there."""
        position = summary.position
        if not self.may_hold(position):
            return
        self._positions.add(position)
        entry = (position, summary)
        if len(self._kept) < self.limit:
            heapq.heappush(self._kept, entry)
        else:
            self._positions.discard(heapq.heapreplace(self._kept, entry)[0])

    def newest_first(self) -> list[Summary]:
        """The page."""
        return [summary for _, summary in sorted(self._kept, key=lambda entry: entry[0], reverse=True)]

    def may_hold(self, position: Position) -> bool:
        """Whether a lookup that stands there can be on the page. One that is there cannot: while a record is recovered, or sealed,
        it is in two places.
        """
        return (
            self.wanted.takes_time(position.served_at_micros)
            and (self.before is None or position < self.before)
            and position not in self._positions
            and (len(self._kept) < self.limit or position > self._kept[0][0])
        )


def _id_of(frame: Frame) -> bytes | None:
    seen = glance(frame.block, frame.begin)
    return None if seen is None else seen.lookup_id


def summary_of(found: Found) -> Summary:
    """A record in one line."""
    record = found.record
    return Summary(
        lookup_id=record.lookup_id,
        served_at_micros=record.served_at_micros,
        rpc=record.rpc,
        request_id=record.request_id,
        tags=record.tags,
        service=record.service,
        refs=tuple(record.refs),
        mode=record.mode,
        code=record.code,
        reason=record.reason,
        catalog_version=record.catalog_version,
        entity_rows=headers_count(record.rows[0]) if record.rows else None,
        writer=found.writer,
        sequence=found.sequence,
    )
