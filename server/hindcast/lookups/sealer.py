"""The sealer: what writers have closed goes into tables, and then its segments are removed. Imports pyarrow and deltalake.

Everything is done again until it is known to be on the disk: a batch is appended to one table after the other, each of which knows up
to which sequence it has a writer's records, and its segments are removed last. Killed anywhere and begun anew, each record is in its
tables once. That holds because batches go by the order of sequences: a segment waits for every earlier one of its writer.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from hindcast.catalog import Catalog
from hindcast.clock import Clock, from_micros, system_clock
from hindcast.durable import make_directory, sync
from hindcast.errors import SealError, StoredDataError
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.directory import OPEN, LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.gaps import GapLine, append_lines, read_lines
from hindcast.lookups.logging_schema import ServiceSchema, service_schema
from hindcast.lookups.places import AD_HOC, RECORDS, Destination, TablePlaces, destination_of
from hindcast.lookups.ranges import note_dropped
from hindcast.lookups.record import LookupRecord, decode
from hindcast.lookups.recovery import recover
from hindcast.lookups.request_ids import keep_indexes
from hindcast.lookups.rows import Entry, ListRows, RecordRows, ServiceRows, read_answer, row_count
from hindcast.lookups.segment import Gap, GapReason, RecoveryMode, Scan, State, scan
from hindcast.lookups.tables import (
    DeltaLog,
    PartsFolder,
    SealedTable,
    Step,
    no_step,
    plain_schema,
    sealing_lock,
    united,
)

_BATCH_BYTES = 64 << 20
"""Of segments, for one append to each table: some 300 MB of memory."""
_DAY_MICROS = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CHUNK_BYTES = 8 << 20
_CHUNK_ROWS = 20_000
"""Entity rows whose values are held as Python objects at a time."""


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
            for table, _, rows in read.batch.take():
                if rows:
                    table.append(writer, rows, last_sequence=read.last_sequence)
                else:
                    # It was appended by a process that was killed, perhaps before it had it synced.
                    table.sync()
            self._tell_gaps(writer, [gap for name, found in read.segments for gap in _gaps(name, found, names)])
            for name, found in read.segments:
                self._step("remove")
                self._remove(name, found)
            sync(self._directory.segments)
            readable = readable[len(read.segments) :]
            done.segments += len(read.segments)
            done.records += read.records
            done.entity_rows += read.batch.entity_rows
            done.bytes += read.bytes

    def _read(self, writer: WriterId, names: Sequence[SegmentName]) -> "_Read":
        """The rows of the first segments.

        Raises:
            _Unreadable: a segment among them is of a newer version.
        """
        read = _Read(Batch(writer, self._table_for))
        for name in names:
            if read.segments and read.bytes >= self._batch_bytes:
                break
            path = self._directory.segment(name)
            read.bytes += path.stat().st_size
            try:
                with path.open("rb") as file:
                    found = scan(file.read(), sealed=True, mode=RecoveryMode.SALVAGE)
                read.segments.append((name, replace(found, records=[])))
                read.records += len(found.records)
                records = found.records[::-1]
                del found
                while records:
                    # Given up one by one: a full segment and its rows are large enough.
                    sequence, payload = records.pop()
                    read.batch.add(Entry(writer, sequence, payload, decode(payload)), self._definitions)
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

    def _remove(self, name: SegmentName, found: Scan) -> None:
        path = self._directory.segment(name)
        if found.state is State.WHOLE:
            path.unlink()
            return
        # Damaged after it was closed; all that can be verified is in the tables, and the file is kept for `salvage`.
        make_directory(self._directory.damaged)
        kept = self._directory.damaged / str(name)
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


R = TypeVar("R", ServiceRows, ListRows, RecordRows)


class Definitions:
    """The definitions that records were answered from, as they are kept beside the log."""

    def __init__(self, log_directory: Path) -> None:
        self._root = log_directory
        self._catalogs: dict[str, Catalog | None] = {}
        self._schemas: dict[tuple[str, str], ServiceSchema | None] = {}

    def schema_of(self, record: LookupRecord) -> ServiceSchema | None:
        """The schema of a record's feature service; None for a list of references, and where the catalog is not kept."""
        if not record.service:
            return None
        key = (record.catalog_version, record.service)
        if self._schemas.get(key) is None:
            catalog = self.catalog(record.catalog_version)
            self._schemas[key] = None if catalog is None else service_schema(catalog, record.service)
        return self._schemas[key]

    def catalog(self, version: str) -> Catalog | None:
        """The catalog of a version; None where it is not kept, or damaged."""
        if self._catalogs.get(version) is None:
            try:
                self._catalogs[version] = kept_catalog(self._root, version)
            except StoredDataError:
                self._catalogs[version] = None
        return self._catalogs[version]


class Known(Protocol):
    """What a batch needs to know of a table."""

    @property
    def key(self) -> str:
        """What tells it from other tables."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Its columns' types."""

    @property
    def folds_names(self) -> bool:
        """Whether names that differ by capitals only cannot be two columns."""

    @property
    def sealed_through(self) -> Callable[[WriterId, date], int]:
        """The last sequence up to which it has a writer's rows of a day."""


T = TypeVar("T", bound=Known)


@dataclass(slots=True)
class _Read:
    """What was read of segments, for one append to each table."""

    batch: "Batch[SealedTable]"
    segments: list[tuple[SegmentName, Scan]] = field(default_factory=list)
    records: int = 0
    bytes: int = 0

    @property
    def last_sequence(self) -> int:
        return max(found.last_sequence for _, found in self.segments)


class _Unreadable(Exception):
    """A segment has records that this version does not know."""

    def __init__(self, name: SegmentName, error: StoredDataError) -> None:
        super().__init__(str(error))
        self.name = name


class Batch(Generic[T]):
    """Rows of one writer's records for several tables."""

    def __init__(self, writer: WriterId, table_for: Callable[[str, Catalog | None], T]) -> None:
        self._writer = writer
        self._table_for = table_for
        self._targets: dict[tuple[str, str], _Target[T]] = {}
        self.entity_rows = 0

    def add(self, entry: Entry, definitions: "Definitions") -> None:
        """Add a lookup, and what it was answered: in the long form where no definitions are there to tell its columns' types."""
        record = entry.record
        rows = None
        schema, catalog = definitions.schema_of(record), definitions.catalog(record.catalog_version)
        if record.response and schema is not None:
            answer = read_answer(entry, schema)
            if answer is not None:
                target = self._target(schema.service, catalog, record.catalog_version)
                target.add(entry, lambda: ServiceRows(schema), lambda into: into.add(answer))
                rows = answer.rows
        if record.response and rows is None:
            self._target(AD_HOC, None, "").add(entry, ListRows, lambda into: into.add(entry))
        if rows is None:
            rows = row_count(record)
        self.entity_rows += rows
        self._target(RECORDS, None, "").add(entry, RecordRows, lambda into: into.add(entry, entity_rows=rows))

    def take(self) -> list[tuple[T, str, dict[date, pa.Table]]]:
        """The tables that were named, each with its service and its rows of each day; none of what is there already."""
        by_table: dict[str, tuple[T, str, dict[date, list[pa.Table]]]] = {}
        for (service, _), target in self._targets.items():
            _, _, days = by_table.setdefault(target.table.key, (target.table, service, {}))
            for day, tables in target.take().items():
                days.setdefault(day, []).extend(tables)
        return [
            (
                table,
                service,
                _by_day(days, table),
            )
            for table, service, days in by_table.values()
        ]

    def _target(self, service: str, catalog: Catalog | None, version: str) -> "_Target[T]":
        key = (service, version)
        if key not in self._targets:
            self._targets[key] = _Target(self._table_for(service, catalog), self._writer)
        return self._targets[key]


def _by_day(days: Mapping[date, list[pa.Table]], table: Known) -> dict[date, pa.Table]:
    """The rows of each day in one table, with columns that agree with each other and with those of `table`."""
    known, united_days = dict(table.types), {}
    for day, tables in sorted(days.items()):
        united_days[day] = united(tables, known, folds_names=table.folds_names)
        known |= {field.name: field.type for field in plain_schema(united_days[day].schema)}
    return united_days


class _Target(Generic[T]):
    """Rows for one table, of one schema."""

    def __init__(self, table: T, writer: WriterId) -> None:
        self.table = table
        self._writer = writer
        self._through: dict[date, int] = {}
        self._building: dict[date, Any] = {}
        self._built: dict[date, list[pa.Table]] = {}

    def add(self, entry: Entry, begin: Callable[[], R], add: Callable[[R], object]) -> None:
        """Add what a record has for the table, unless it is there."""
        day = day_of(entry.record)
        if self._has(day, entry.sequence):
            return
        rows = self._building.setdefault(day, None) or begin()
        self._building[day] = rows
        add(rows)
        if rows.rows >= _CHUNK_ROWS or rows.payload_bytes >= _CHUNK_BYTES:
            self._finish(day)

    def take(self) -> dict[date, list[pa.Table]]:
        """What was added, by day."""
        for day in list(self._building):
            self._finish(day)
        built, self._built = self._built, {}
        return built

    def _has(self, day: date, sequence: int) -> bool:
        if day not in self._through:
            self._through[day] = self.table.sealed_through(self._writer, day)
        return sequence <= self._through[day]

    def _finish(self, day: date) -> None:
        building = self._building.pop(day)
        if building.rows:
            self._built.setdefault(day, []).append(building.take())


def _gaps(name: SegmentName, found: Scan, names: Sequence[SegmentName]) -> list[Gap]:
    """What a segment says is missing, and where it is damaged what may be missing at its end."""
    if found.state is State.WHOLE:
        return found.gaps
    first = found.last_sequence + 1 if found.header else name.first_sequence
    following = next((other.first_sequence for other in names if other > name), None)
    if following is not None and following <= first:
        return found.gaps
    last = None if following is None else following - 1
    return [*found.gaps, Gap(first_sequence=first, last_sequence=last, reason=GapReason.DAMAGED)]


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


def day_of(record: LookupRecord) -> date:
    """The day that a lookup was served on, in UTC."""
    return _days_after(record.served_at_micros // _DAY_MICROS)


@lru_cache(maxsize=64)
def _days_after(days: int) -> date:
    return date.fromordinal(_EPOCH_DAY + days)
