"""The sealer: what writers have closed goes into tables, and then its segments are removed. Imports pyarrow and deltalake.

Everything is done again until it is known to be on the disk: a batch is appended to one table after the other, each of which knows up
to which sequence it has a writer's records, and its segments are removed last. Killed anywhere and begun anew, each record is in its
tables once. That holds because batches go by the order of sequences: a segment waits for every earlier one of its writer.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pyarrow as pa

from hindcast.catalog import Catalog
from hindcast.clock import Clock, from_micros, system_clock
from hindcast.durable import make_directory, sync
from hindcast.errors import SealError, StoredDataError
from hindcast.lookups.batch import Batch, Definitions
from hindcast.lookups.closed_segment import ClosedSegment, read_closed
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import OPEN, LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gaps import GapLine, append_lines, read_lines
from hindcast.lookups.parts_folder import PartsFolder
from hindcast.lookups.places import AD_HOC, RECORDS, Destination, TablePlaces, destination_of
from hindcast.lookups.ranges import note_dropped
from hindcast.lookups.recovery import recover
from hindcast.lookups.request_ids import keep_indexes
from hindcast.lookups.segment import Gap
from hindcast.lookups.tables import (
    SealedTable,
    Step,
    no_step,
    sealing_lock,
)

_BATCH_BYTES = 64 << 20
"""Of segments, for one append to each table: some 250 MB of memory besides what the process has."""


@dataclass(slots=True)
class Sealing:
    """What one pass has done.

    Attributes:
        segments, records, entity_rows, bytes: that were sealed.
        left: what stays as it is, and why.
    """

    segments: int = 0
    records: int = 0
    entity_rows: int = 0
    bytes: int = 0
    left: list[str] = field(default_factory=list)


class Sealer:
    """Seals the lookups of one log. It keeps nothing that is not in the tables; several may take turns."""

    def __init__(
        self,
        log_directory: Path,
        *,
        repo_root: Path | None = None,
        keep_days: int | None = None,
        clock: Clock = system_clock,
        step: Step = no_step,
        stopping: Callable[[], bool] = lambda: False,
        batch_bytes: int = _BATCH_BYTES,
    ) -> None:
        """Args:
        repo_root: what relative destinations of feature services begin at; without it these go to `tables/` too.
        keep_days: days that stay in the tables besides today; None for all.
        stopping: asked between batches; true ends a pass early.
        batch_bytes: of segments at a time, at least one.
        """
        self._directory = LogDirectory(log_directory)
        self._places = TablePlaces(log_directory)
        self._repo_root = repo_root
        self._keep_days = keep_days
        self._clock = clock
        self._step = step
        self._stopping = stopping
        self._batch_bytes = batch_bytes
        self._definitions = Definitions(log_directory)
        self._tables: dict[str, SealedTable] = {}

    def seal(self, *, lock_seconds: float = 60.0) -> Sealing:
        """Seal what is closed; then compact, and drop what is older than is kept.

        Raises:
            SealError: a table cannot be written, or another process is at it for longer than `lock_seconds`. What was not sealed is in
                its segments.
        """
        done = Sealing()
        if not self._directory.segments.is_dir() and not self._places.root.is_dir():
            return done
        with sealing_lock(self._directory.root, seconds=lock_seconds):
            try:
                self._places.make_root()
                for table in self._tables.values():
                    table.look_anew()
                for found in recover(self._directory.root, clock=self._clock):
                    if found.refused:
                        done.left.append(f"{found.name}: {found.refused}")
                with _without_collections():
                    for writer, names in self._closed(done).items():
                        self._seal_writer(writer, names, done)
                if not self._stopping():
                    self._tend()
            except pa.ArrowException as error:
                raise SealError(
                    f"a table of {self._directory.root} cannot be read or written; what was not sealed is in its segments"
                ) from error
            except OSError as error:
                raise SealError(
                    f"{error.filename or self._directory.root} cannot be read or written ({error.strerror}); what was not sealed is in its segments"
                ) from error
        return done

    def _closed(self, done: Sealing) -> dict[WriterId, list[SegmentName]]:
        """Per writer its sealed segments that have no open one before them."""
        closed: dict[WriterId, list[SegmentName]] = {}
        waits: set[WriterId] = set()
        for name in segment_names(self._directory):
            if name.suffix == OPEN:
                waits.add(name.writer)
            elif name.writer in waits:
                done.left.append(f"{name}: waits for an earlier segment of its writer")
            else:
                closed.setdefault(name.writer, []).append(name)
        return closed

    def _seal_writer(self, writer: WriterId, names: Sequence[SegmentName], done: Sealing) -> None:
        readable = list(names)
        while readable and not self._stopping():
            try:
                read = self._read(writer, readable)
            except _Unreadable as error:
                done.left.append(f"{error.name}: {error}")
                readable = readable[: readable.index(error.name)]
                continue
            _append(writer, read)
            self._tell_gaps(writer, [gap for found in read.segments for gap in found.missing(names)])
            for found in read.segments:
                self._step("remove")
                self._remove(found)
            sync(self._directory.segments)
            readable = readable[len(read.segments) :]
            done.segments += len(read.segments)
            done.records += sum(found.records for found in read.segments)
            done.entity_rows += read.batch.entity_rows
            done.bytes += read.bytes
            # Before the next one is read: it keeps its segments.
            del read

    def _read(self, writer: WriterId, names: Sequence[SegmentName]) -> "_Read":
        """The rows of the first segments.

        Raises:
            _Unreadable: a segment among them is of a newer version.
        """
        read = _Read(Batch(writer, self._table_for, self._definitions))
        for name in names:
            if read.segments and read.bytes >= self._batch_bytes:
                break
            path = self._directory.segment(name)
            read.bytes += path.stat().st_size
            try:
                read.segments.append(read_closed(path, name, read.batch))
            except StoredDataError as error:
                raise _Unreadable(name, error) from error
        return read

    def _table_for(self, service: str, catalog: Catalog | None) -> SealedTable:
        logged = catalog.services[service].logging if catalog is not None and service in catalog.services else None
        place = destination_of(logged, repo_root=self._repo_root)
        if place is not None:
            self._places.remember(Destination(service, str(place)))
            table: SealedTable = PartsFolder(place, service=service, step=self._step)
        else:
            table = DeltaLog(self._places.of(service), name=service, step=self._step)
        return self._tables.setdefault(table.key, table)

    def _tell_gaps(self, writer: WriterId, gaps: Sequence[Gap]) -> None:
        """What segments say of gaps is told in `gaps/` before they are gone."""
        told = {line.gap for line in read_lines(self._directory, writer, disk=REAL_DISK)}
        now = self._clock()
        lines = [GapLine(writer=writer, gap=gap, found_micros=now) for gap in gaps if gap not in told]
        append_lines(self._directory, lines, number=now, disk=REAL_DISK)

    def _remove(self, found: ClosedSegment) -> None:
        path = self._directory.segment(found.name)
        if found.is_whole:
            path.unlink()
            return
        # Damaged after it was closed; all that can be verified is in the tables, and the file is kept for `salvage`.
        make_directory(self._directory.damaged)
        kept = self._directory.damaged / str(found.name)
        path.rename(kept)
        sync(self._directory.damaged)

    def _tend(self) -> None:
        tables = [self._tables.setdefault(table.key, table) for table in all_tables(self._places, step=self._step)]
        if self._keep_days is not None:
            today = from_micros(self._clock()).date()
            first_kept = date.fromordinal(today.toordinal() - self._keep_days)
            note_dropped(self._directory.root, first_kept)
            for table in tables:
                table.drop_before(first_kept)
        for table in tables:
            table.compact()
        try:
            keep_indexes(self._directory.root)
        except StoredDataError as error:
            raise SealError(str(error)) from error


@dataclass(slots=True)
class _Read:
    """What was read of segments, for one append to each table."""

    batch: "Batch[SealedTable]"
    segments: list[ClosedSegment] = field(default_factory=list)
    bytes: int = 0

    @property
    def last_sequence(self) -> int:
        return max(found.last_sequence for found in self.segments)


def _append(writer: WriterId, read: _Read) -> None:
    for table, _, rows in read.batch.take():
        if rows:
            table.append(writer, rows, last_sequence=read.last_sequence)
        else:
            # It was appended by a process that was killed, perhaps before it had it synced.
            table.sync()


class _Unreadable(Exception):
    """A segment has records that this version does not know."""

    def __init__(self, name: SegmentName, error: StoredDataError) -> None:
        super().__init__(str(error))
        self.name = name


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Look for no garbage meanwhile: millions of objects live, none of them in a cycle, and to go over them takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def segment_names(directory: LogDirectory) -> list[SegmentName]:
    """All segments in the order of their names, which is that of sequences; one that is open and sealed is being recovered, and is open.

    A name that changes while a directory is read may be passed over, so it is read until it is the same twice.
    """
    before: list[str] | None = None
    while before != (listed := REAL_DISK.names(directory.segments)):
        before = listed
    return sorted(name for name in map(SegmentName.parse, listed) if name is not None)


def all_tables(places: TablePlaces, *, step: Step = no_step) -> list[SealedTable]:
    """The tables of a log that there may be."""
    tables: list[SealedTable] = [DeltaLog(places.of(name), name=name, step=step) for name in (RECORDS, AD_HOC)]
    tables += [DeltaLog(folder, step=step) for folder in places.services()]
    return tables + [PartsFolder(Path(one.path), service=one.service, step=step) for one in places.destinations()]
