"""Erasure: a person's rows leave tables, segments and records; the rows of other people stay as they were answered.

Writers are asked to close what they have open, and what is closed is sealed, so that nearly all is in tables then. What cannot be
sealed (a segment behind one that this version cannot read, and those set aside as damaged) is rewritten where it stands. A lookup
that asked for the person alone keeps its sequence and its counts, and loses its record: what was logged can be told from what was
lost.
"""

import base64
import contextlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.clock import Clock, system_clock
from hindcast.durable import make_directory, sync
from hindcast.errors import InvalidArgument, SealError, StoredDataError
from hindcast.lookups.closing import QUEUED_SECONDS, still_open
from hindcast.lookups.columns import column_of
from hindcast.lookups.directory import OPEN, SEALED, LogDirectory, SegmentName, WriterId
from hindcast.lookups.disk import is_locked
from hindcast.lookups.known_names import known_names
from hindcast.lookups.person import Person, person_of
from hindcast.lookups.places import AD_HOC, RECORDS, TablePlaces
from hindcast.lookups.request_ids import keep_indexes
from hindcast.lookups.sealer import Sealer, all_tables, segment_names
from hindcast.lookups.segment import Record, RecoveryMode, Rewritten, rewritten, scan
from hindcast.lookups.tables import SealedTable, Step, no_step, sealing_lock

_REWRITING = ".rewriting"


class _OfWriter(msgspec.Struct):
    """What was erased of one writer's lookups."""

    slot: int
    epoch: int
    first_sequence: int
    last_sequence: int
    first_served_micros: int
    last_served_micros: int
    lookups: int = 0


class _Tombstone(msgspec.Struct):
    """What an erasure leaves: counts, and where they were. Nothing that says whose rows they were."""

    erased_at_micros: int
    lookups: int
    entity_rows: int
    writers: list[_OfWriter]
    dropped: list[str]


@dataclass(slots=True)
class Erased:
    """What was erased.

    Attributes:
        lookups: that asked for the person.
        entity_rows: rows of feature services, and values of lists of references.
        left: what could not be searched, and why.
        dropped: damaged segments that were deleted.
        tombstone: what was written of it; None where nothing was erased.
    """

    lookups: int = 0
    entity_rows: int = 0
    left: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    tombstone: Path | None = None


def erase(
    log_directory: Path,
    *,
    key: str,
    value: str,
    repo_root: Path | None = None,
    wait_seconds: float = 90.0,
    drops_damaged: bool = False,
    clock: Clock = system_clock,
    step: Step = no_step,
) -> Erased:
    """Erase all rows that were asked for with this value of a join key, under its aliases and its entity's name too.

    All that was answered before this began; what comes while it runs is for the next one. Killed on the way it leaves less or nothing
    to do for the next one, whose tombstone tells of what that one erased.

    Args:
        value: as text; of bytes, base64.
        wait_seconds: for writers to close the segments that have such rows; a worker does within a second.
        drops_damaged: delete segments in `damaged/` of which some cannot be read, since nobody can tell whose that is.
    Raises:
        SealError: there is no log, a table cannot be read or written, or open segments had such rows for too long; run it again then.
        InvalidArgument: nothing was found, and nobody can have been answered by this key, or this value of it.
    """
    directory, known = LogDirectory(log_directory), known_names(log_directory)
    begun = (directory.segments, directory.damaged, TablePlaces(log_directory).root)
    if not known.catalogs and not any(path.is_dir() for path in begun):
        raise SealError(f"there is no log of lookups in {log_directory}; name the --repo or --log-dir of the server")
    person = person_of(known.catalogs, key=key, value=value)
    doubt = known.doubt_of(person.names, key=key, value=value)
    if doubt is not None and repo_root is not None:
        doubt = known_names(log_directory, repo_root=repo_root).doubt_of(person.names, key=key, value=value)
    open_then = _have_closed(directory, person, seconds=wait_seconds)
    Sealer(log_directory, repo_root=repo_root, clock=clock, step=step).seal()
    work = _Erasure(directory, person, step)
    with sealing_lock(log_directory):
        try:
            work.tables()
            work.segments(open_then)
            # Not for a name that was mistyped: whose they may be is another person then.
            work.damaged(drops=drops_damaged and doubt is None)
            # Last: they say where the others have something, to whoever begins again after a kill.
            work.records()
            if doubt is not None:
                work.doubted(doubt, is_sure=known.is_whole)
            return work.end(clock())
        except OSError as error:
            raise SealError(
                f"{error.filename or log_directory} cannot be read or written ({error.strerror}); not all is erased yet, so run it again"
            ) from error


def _have_closed(directory: LogDirectory, person: Person, *, seconds: float) -> set[SegmentName]:
    """Have living writers close the segments that they have open at this moment.

    Returns:
        What was open and may have rows to erase; not what living writers did not close in time, or had nothing in.
    Raises:
        SealError: one of them has rows to erase, and was not closed in time.
    """
    time.sleep(QUEUED_SECONDS)
    waits: dict[SegmentName, bool] = {}
    open_then = {name for name in segment_names(directory) if name.suffix == OPEN}
    for name in sorted(open_then):
        if is_locked(directory.segment(name)):
            with contextlib.suppress(FileNotFoundError, StoredDataError):
                found = scan(directory.segment(name).read_bytes(), mode=RecoveryMode.SALVAGE)
                if found.records or found.gaps:
                    waits[name] = any(_asks_for(person, record.payload) for record in found.records)
                else:
                    open_then.remove(name)
    waiting = still_open(directory, waits, seconds=seconds)
    holding = [name for name in waiting if waits[name]]
    if holding:
        raise SealError(
            f"{len(holding)} open segments have rows to erase, and their writers have not closed them (the first is "
            f"{holding[0]}); nothing was erased yet, so run it again in a minute"
        )
    return open_then.difference(waiting)


def _asks_for(person: Person, payload: bytes) -> bool:
    try:
        return person.redacted(payload) is not None
    except StoredDataError:
        return False


class _Erasure:
    """One erasure, under the lock of the tables."""

    def __init__(self, directory: LogDirectory, person: Person, step: Step) -> None:
        self._directory, self._person, self._step = directory, person, step
        self._places = TablePlaces(directory.root)
        self._erased = Erased()
        self._served: dict[tuple[WriterId, int], int] = {}
        """When each lookup was served of which something was erased, in whatever places it was."""

    def tables(self) -> None:
        """Take the rows out of all tables but that of records."""
        for table in self._tables():
            if table.key != str(self._places.of(RECORDS)):
                change = self._without_values if table.key == str(self._places.of(AD_HOC)) else self._without_rows
                self._erased.entity_rows += table.rewrite(change)

    def records(self) -> None:
        """Take the rows out of the records in tables."""
        for table in self._tables()[:1]:
            table.rewrite(self._without_records)
        # The old ones hold digests of the request ids that are gone.
        keep_indexes(self._directory.root)

    def segments(self, open_then: Collection[SegmentName]) -> None:
        """Take the rows out of closed segments that are not in tables, where they stand.

        Args:
            open_then: what was open when this began, of which all is to be searched.
        """
        self._remove_unfinished()
        for name in segment_names(self._directory):
            path = self._directory.segment(name)
            if name.suffix == SEALED:
                self.left(str(name), self._rewrite(path, name, counts=True))
            elif name not in open_then:
                continue  # begun since, or without rows of the person
            elif is_locked(path):
                self.left(
                    str(name), "another process holds it at this moment, and had it before this began; run this again"
                )
            elif path.exists():
                self.left(str(name), "it cannot be recovered; `hindcast lookups seal` says why")
            else:
                self.left(str(name), "it was closed at this moment; run this again")

    def damaged(self, *, drops: bool) -> None:
        """Take the rows out of what can be read of damaged segments; delete them where some cannot be, if that is wanted."""
        for path in sorted(self._directory.damaged.glob("*")):
            name = SegmentName.parse(path.name)
            label = f"damaged/{path.name}"
            why = "it is no segment" if name is None else self._rewrite(path, name, counts=False)
            if why and drops:
                self._step("drop damaged")
                path.unlink()
                sync(path.parent)
                self._erased.dropped.append(label)
            elif why:
                self.left(label, f"{why}; --drop-damaged deletes it")

    def doubted(self, doubt: InvalidArgument, *, is_sure: bool) -> None:
        """Say of a key or value that no answer can have been given for it: requests that were refused for it were all that could be found.

        Args:
            is_sure: whether all definitions that lookups were answered by could be read.
        Raises:
            InvalidArgument: the doubt, where nothing was found.
        """
        if is_sure and not self._served and not self._erased.entity_rows:
            raise doubt
        self.left(
            "--entity", f"{doubt.violations[0].description}; what was refused under it is all that could be found"
        )

    def end(self, now_micros: int) -> Erased:
        """Leave a tombstone, if anything was erased."""
        erased = self._erased
        erased.lookups = len(self._served)
        if erased.lookups or erased.entity_rows or erased.dropped:
            erased.tombstone = self._write_tombstone(now_micros)
        return erased

    def _tables(self) -> list[SealedTable]:
        return all_tables(self._places, step=self._step)

    def left(self, what: str, why: str) -> None:
        """Note what could not be searched, if there is a reason."""
        if why:
            self._erased.left.append(f"{what}: {why}")

    def _remove_unfinished(self) -> None:
        """Remove copies of segments that were killed in the making."""
        for path in self._directory.root.glob(f"*/*{_REWRITING}"):
            path.unlink()

    def _rewrite(self, path: Path, name: SegmentName, *, counts: bool) -> str:
        """Take the rows out of a segment; why there may be more of them in it, or nothing."""
        unknown = 0

        def change(record: Record) -> bytes | None:
            nonlocal unknown
            try:
                redacted = self._person.redacted(record.payload)
            except StoredDataError:
                unknown += 1
                return record.payload
            if redacted is None:
                return record.payload
            self._served[name.writer, record.sequence] = redacted.served_at_micros
            # Of one that was set aside, what comes before the damage is in the tables as well.
            self._erased.entity_rows += redacted.rows if counts else 0
            return redacted.payload

        try:
            found = rewritten(path.read_bytes(), change)
        except StoredDataError as error:
            return str(error)
        if found.content is not None:
            self._replace(path, found.content)
        return _why(found, unknown)

    def _replace(self, path: Path, content: bytes) -> None:
        aside = path.with_name(path.name + _REWRITING)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        sync(aside)
        self._step("rewrite")
        aside.replace(path)
        sync(path.parent)

    def _without_rows(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Rows of a feature service without the person's."""
        mask: Any = None
        # A key whose type has changed has a column for each.
        for name in sorted(name for name in rows.column_names if {name, column_of(name)} & self._person.names):
            matches = _equals(rows.column(name), self._person)
            mask = matches if mask is None else pc.or_(mask, matches)
        return _without(rows, mask)

    def _without_values(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Values of lists of references without the person's."""
        keys = rows.column("hc_keys").combine_chunks().dictionary_encode()
        hits = pa.array([self._is_in_keys(text) for text in keys.dictionary.to_pylist()], pa.bool_())
        return _without(rows, pc.take(hits, keys.indices))

    def _is_in_keys(self, text: str) -> bool:
        keys = msgspec.json.decode(text)
        return any(self._person.is_meant(keys[name]) for name in self._person.names & keys.keys())

    def _without_records(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Lookups without the person in their records, and those without a record that asked for the person alone."""
        payloads = rows.column("payload").to_pylist()
        hits, gone, unknown = [False] * len(payloads), [False] * len(payloads), 0
        for at, payload in enumerate(payloads):
            if payload is None:
                continue
            try:
                redacted = self._person.redacted(payload)
            except StoredDataError:
                unknown += 1
                continue
            if redacted is not None:
                hits[at], gone[at] = True, redacted.payload is None
                payloads[at] = redacted.payload
        if unknown:
            self.left("tables/_records", f"{unknown:,} records are of another version; upgrade Hindcast")
        if not any(hits):
            return rows, 0
        hit = pa.array(hits)
        for row in rows.select(["slot", "epoch", "sequence", "served_at"]).filter(hit).to_pylist():
            served = round(row["served_at"].timestamp() * 1_000_000)
            self._served[WriterId(row["slot"], row["epoch"]), row["sequence"]] = served
        rows = _cleared(rows, hit, {"request_id": "", "tags": "{}", "message": ""})
        changed = {"payload": pa.array(payloads, pa.binary()), "erased": pc.or_(rows.column("erased"), pa.array(gone))}
        for name, column in changed.items():
            rows = rows.set_column(rows.column_names.index(name), name, column)
        return rows, sum(hits)

    def _write_tombstone(self, now_micros: int) -> Path:
        writers: dict[WriterId, _OfWriter] = {}
        for (writer, sequence), served in sorted(self._served.items()):
            told = writers.setdefault(writer, _OfWriter(writer.slot, writer.epoch, sequence, sequence, served, served))
            told.lookups += 1
            told.last_sequence = sequence
            told.first_served_micros = min(told.first_served_micros, served)
            told.last_served_micros = max(told.last_served_micros, served)
        folder = self._directory.root / "tombstones"
        make_directory(folder)
        path = folder / f"{now_micros:016x}-{uuid4().hex[:8]}.json"
        erased = self._erased
        tombstone = _Tombstone(now_micros, erased.lookups, erased.entity_rows, [*writers.values()], erased.dropped)
        written = path.with_suffix(f".{os.getpid()}.new")
        written.write_bytes(msgspec.json.encode(tombstone))
        sync(written)
        written.replace(path)
        sync(folder)
        return path


def _why(found: Rewritten, unknown: int) -> str:
    """Why there may be rows in a segment that were not found."""
    unread = sum(end - begin for begin, end in found.unread)
    if unread:
        return f"{unread:,} bytes of it cannot be read, and may be of anybody"
    return f"{unknown:,} records are of another version; upgrade Hindcast" if unknown else ""


def _equals(column: pa.ChunkedArray, person: Person) -> pa.ChunkedArray:
    """Which values of a column are the person's; none where a null is."""
    kind = column.type
    if pa.types.is_binary(kind):
        matches = pa.chunked_array([[person.is_meant(plain) for plain in map(_base64, column.to_pylist())]], pa.bool_())
    elif pa.types.is_timestamp(kind):
        seconds = pc.divide(column.cast(pa.int64()), 1_000_000)
        matches = pc.equal(seconds.cast(pa.string()), person.value)
    else:
        matches = pc.equal(column.cast(pa.string()), person.value)
    return pc.fill_null(matches, False)


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _without(rows: pa.Table, mask: Any) -> tuple[pa.Table, int]:
    """Rows without those of a mask, and the other rows of their lookups without what the caller told of the lookup."""
    count = 0 if mask is None else int(pc.sum(mask).as_py() or 0)
    if not count:
        return rows, 0
    lookups = pc.unique(rows.column("hc_lookup_id").filter(mask))
    rest = rows.filter(pc.invert(mask))
    of_them = pc.is_in(rest.column("hc_lookup_id"), value_set=lookups)
    return _cleared(rest, of_them, {"hc_request_id": "", "hc_tags": "{}"}), count


def _cleared(rows: pa.Table, mask: Any, gone: Mapping[str, str]) -> pa.Table:
    for name, content in gone.items():
        at = rows.column_names.index(name)
        column = pc.if_else(mask, pa.scalar(content, rows.schema.field(name).type), rows.column(name))
        rows = rows.set_column(at, name, column)
    return rows
