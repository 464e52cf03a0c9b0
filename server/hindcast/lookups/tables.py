"""The tables that sealed lookups are in: Delta, and Parquet parts where Feast is to read them. Imports pyarrow, deltalake.

Both are partitioned by the day of `__log_date`, in UTC, and both know up to which sequence they have a writer's records, so that what
is appended again after a kill is there once. One process at a time may change them: whoever holds `sealing_lock`.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    PostCommitHookProperties,
    Schema,
    Transaction,
    WriterProperties,
)
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from hindcast.clock import from_micros
from hindcast.durable import exchange, make_directory, sync, sync_delta_table
from hindcast.errors import SealError
from hindcast.lookups.arrays import constant
from hindcast.lookups.directory import WriterId
from hindcast.lookups.logging_schema import LOG_DATE
from hindcast.lookups.places import RECORDS, digest

RETENTION_HOURS = 24
"""How long files stay that were compacted away: queries that began before go on with them."""

_SMALL_BYTES = 32 << 20
_FILES_MAX = 20
"""Small files of one day before they become one."""
_TARGET_BYTES = 64 << 20
_CHECKPOINT_VERSIONS = 50
"""Entries of a table's log that every opening reads, before they become one."""
_ROW_GROUP_ROWS = 50_000
_GROUP_BYTES = 2 << 20
_SAMPLED_ROWS = 4096
_REPEATED_TIMES = 4
"""Rows for each event time, at which a dictionary is smaller."""
_RECORD_GROUP_ROWS = 500
"""To find one lookup, the records of so many are read, or of as many as have `_GROUP_BYTES`."""
_STATISTICS, _RECORD_STATISTICS = "hc_lookup_id", "lookup_id,served_at"
"""Columns whose bounds Delta's log may have, of a service's table and of that of all lookups."""
_LOCK_SECONDS = 60.0
_UNFINISHED = ".new"
_EPOCH = date(1970, 1, 1)
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PART = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)-(?P<slot>\d{4,5})-(?P<epoch>[0-9a-f]{16})-(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})-(?P<service>[0-9a-f]{8})\.parquet"
)


@contextlib.contextmanager
def sealing_lock(log_directory: Path, *, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Be the only one who changes the tables of a log.

    Raises:
        SealError: another process does for longer than `seconds`, or the lock cannot be made.
    """
    path = log_directory / "sealing.lock"
    try:
        make_directory(log_directory)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SealError(f"{path} cannot be opened ({error.strerror}); check the rights of its folder") from error
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise SealError(f"{path} cannot be locked ({error.strerror}); its disk must have flock") from error
                if time.monotonic() > deadline:
                    raise SealError(
                        f"another process seals the lookups of {log_directory}; try again when it is done"
                    ) from error
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


class Step(Protocol):
    """Told before each step that a kill could come before; tests are killed there."""

    def __call__(self, step: str, /) -> None:
        """A step is about to be done."""


def no_step(_step: str, /) -> None:
    """Go on."""


class Change(Protocol):
    """What is done to the rows of each file."""

    def __call__(self, rows: pa.Table, /) -> tuple[pa.Table, int]:
        """The rows as they are to be, and how many were changed; the same rows where that is none."""


class SealedTable(Protocol):
    """Where the rows of one kind go."""

    @property
    def key(self) -> str:
        """What tells it from other tables."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Its columns' types; empty where there is no table yet."""

    def look_anew(self) -> None:
        """Forget what is known of its content: another process may have changed it."""

    def sealed_through(self, writer: WriterId, day: date) -> int:
        """The last sequence up to which the table has all rows of a writer and a day; 0 if none."""

    def append(self, writer: WriterId, days: Mapping[date, pa.Table], *, last_sequence: int) -> None:
        """Append rows of records up to a sequence, synced when it returns; after a kill, all of a day's rows or none are there.

        A column has the type that `types` has, or a name that is not there (`united`).
        """

    def sync(self) -> None:
        """Make what is there survive a power cut, also what a process wrote that was killed before it did so."""

    def files(self) -> list[Path]:
        """The Parquet files that make up the table now."""

    def snapshot(self) -> "Snapshot":
        """The table as it is now, for a reader."""

    def compact(self) -> None:
        """Make few files of many."""

    def drop_before(self, first_kept: date) -> int:
        """Remove whole days; how many rows that were."""

    def rewrite(self, change: "Change") -> int:
        """Write those files anew whose rows a change changes, and remove the old ones; how many rows it said to have changed.

        A table shows all of it or nothing; in a folder each part is replaced by itself.
        """


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one moment.

    Attributes:
        key: see `SealedTable`.
        service: whose rows it has.
        files: its Parquet files.
        types, sealed_through: see `SealedTable`.
    """

    key: str
    service: str
    files: Sequence[Path]
    types: Mapping[str, pa.DataType]
    sealed_through: Callable[[WriterId, date], int]


class DeltaLog:
    """A Delta table of sealed lookups. It is made by the first `append`."""

    def __init__(self, path: Path, *, name: str = "", step: Step = no_step) -> None:
        """Args: name is the service's; a table that there is knows its own."""
        self.path = path
        self._name = name
        self._step = step
        self._synced = 0
        self._through: dict[WriterId, int] = {}

    @property
    def key(self) -> str:
        """See `SealedTable`."""
        return str(self.path)

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """See `SealedTable`."""
        table = self.open()
        return {} if table is None else _types(table.schema())

    def look_anew(self) -> None:
        """See `SealedTable`."""
        self._through.clear()

    def sealed_through(self, writer: WriterId, day: date) -> int:  # noqa: ARG002 - of all days alike: a commit is all or nothing
        """See `SealedTable`."""
        if writer not in self._through:
            table = self.open()
            self._through[writer] = 0 if table is None else table.transaction_version(str(writer)) or 0
        return self._through[writer]

    def append(self, writer: WriterId, days: Mapping[date, pa.Table], *, last_sequence: int) -> None:
        """See `SealedTable`. Columns that the table does not have are added to it."""
        try:
            table = self._fitting(list(days.values()))
            schema = table.schema()
            actions: list[AddAction | RemoveAction] = [
                self._write(writer, day, rows, last_sequence) for day, rows in days.items()
            ]
            self._step("commit")
            table.create_write_transaction(
                actions,
                "append",
                schema,
                [LOG_DATE],
                commit_properties=CommitProperties(app_transactions=[Transaction(str(writer), last_sequence)]),
                post_commithook_properties=_NO_HOOKS,
            )
            self._step("sync")
            self._sync()
        except OSError as error:
            raise self._unwritable() from error
        except SealError:
            raise
        except Exception as error:
            # deltalake raises DeltaError and plain Exception.
            raise self._unwritable() from error
        self._through[writer] = last_sequence

    def open(self) -> DeltaTable | None:
        """The table as it is now; None if it was not made yet.

        Raises:
            SealError: it is damaged.
        """
        try:
            if not (self.path / "_delta_log").is_dir():
                return None
            return DeltaTable(self.path)
        except TableNotFoundError:
            return None
        except Exception as error:
            raise SealError(
                f"the table {self.path} is damaged; restore it, or move it away and a new one begins with what is in the segments"
            ) from error

    def files(self) -> list[Path]:
        """See `SealedTable`."""
        table = self.open()
        return [] if table is None else _files(table, self.path)

    def sync(self) -> None:
        """See `SealedTable`."""
        if (self.path / "_delta_log").is_dir():
            self._sync()

    def snapshot(self) -> Snapshot:
        """See `SealedTable`."""
        table = self.open()
        if table is None:
            return Snapshot(self.key, self._name, (), {}, lambda _writer, _day: 0)
        return Snapshot(
            self.key,
            self._name or table.metadata().name or "",
            _files(table, self.path),
            _types(table.schema()),
            lambda writer, _day: table.transaction_version(str(writer)) or 0,
        )

    def compact(self) -> None:
        """See `SealedTable`."""
        table = self.open()
        if table is None:
            return
        try:
            crowded = _crowded(table)
            for day in crowded:
                self._step("compact")
                table.optimize.compact(
                    partition_filters=[(LOG_DATE, "=", day)],
                    target_size=_TARGET_BYTES,
                    max_concurrent_tasks=1,
                    writer_properties=_compacted_properties(table),
                    post_commithook_properties=_NO_HOOKS,
                )
                self._step("compacted")
                self._sync()
            if crowded:
                self._vacuum(table, hours=RETENTION_HOURS)
            self._checkpoint(table)
        except Exception as error:
            raise self._unwritable() from error

    def drop_before(self, first_kept: date) -> int:
        """See `SealedTable`."""
        table = self.open()
        if table is None or not any(day < first_kept.isoformat() for day in _days(table)):
            return 0
        try:
            self._step("drop")
            done = table.delete(f"{LOG_DATE} < '{first_kept.isoformat()}'", post_commithook_properties=_NO_HOOKS)
            self._step("dropped")
            self._sync()
            self._vacuum(table, hours=RETENTION_HOURS)
            return int(done.get("num_deleted_rows") or 0)
        except Exception as error:
            raise self._unwritable() from error

    def rewrite(self, change: Change) -> int:
        """See `SealedTable`. The old files go at once, from under queries that run; the log says which, and nothing of what was in them."""
        table = self.open()
        if table is None:
            return 0
        changed = 0
        actions: list[AddAction | RemoveAction] = []
        try:
            for path in _files(table, self.path):
                rows, count = change(pq.ParquetFile(path).read())
                if not count:
                    continue
                changed += count
                day = path.parent.name.partition("=")[2]
                actions.append(_removal(path))
                if rows.num_rows:
                    actions.append(self._rewritten(path, rows, day))
            if actions:
                self._step("commit")
                table.create_write_transaction(
                    actions, "append", table.schema(), [LOG_DATE], post_commithook_properties=_NO_HOOKS
                )
                self._step("sync")
                self._sync()
            # Also where nothing is left to change: whoever changed it may have been killed before this.
            self._vacuum(self.open() or table, hours=0)
        except Exception as error:
            raise self._unwritable() from error
        return changed

    def _rewritten(self, path: Path, rows: pa.Table, day: str) -> AddAction:
        new = path.with_name(f"{path.stem[:64]}-{os.urandom(4).hex()}.parquet")
        self._step("write")
        write_parquet(rows, new)
        sync(new)
        sync(new.parent)
        return _addition(new, rows, day, is_records=self._name == RECORDS)

    def _vacuum(self, table: DeltaTable, *, hours: int) -> None:
        # In full: also the files of writers that were killed before their commit.
        self._step("vacuum")
        table.vacuum(
            hours, dry_run=False, enforce_retention_duration=False, full=True, post_commithook_properties=_NO_HOOKS
        )
        self._sync()

    def _checkpoint(self, table: DeltaTable) -> None:
        entries = [entry for entry in (self.path / "_delta_log").iterdir() if entry.suffix == ".json"]
        checkpoints = [int(entry.name[:20]) for entry in (self.path / "_delta_log").glob("*.checkpoint.parquet")]
        newest = max(checkpoints, default=0)
        if sum(int(entry.name[:20]) > newest for entry in entries) < _CHECKPOINT_VERSIONS:
            return
        table = DeltaTable(self.path)
        self._step("checkpoint")
        table.create_checkpoint()
        self._sync()
        table.cleanup_metadata()

    def _fitting(self, tables: Sequence[pa.Table]) -> DeltaTable:
        """The table, made if it is missing, with a column for each of those that are to be written."""
        self._remove_torn_entry()
        table = self.open()
        if table is None:
            self._synced = 0
            self._step("create")
            make_directory(self.path.parent)
            fields = {field.name: field for rows in tables for field in plain_schema(rows.schema)}
            DeltaTable.create(
                self.path,
                schema=pa.schema([*fields.values(), pa.field(LOG_DATE, pa.date32())]),
                name=self._name.removeprefix("\0"),
                partition_by=[LOG_DATE],
                configuration={
                    "delta.deletedFileRetentionDuration": f"interval {RETENTION_HOURS} hours",
                    "delta.logRetentionDuration": f"interval {RETENTION_HOURS} hours",
                    # Bounds of other columns are of people, and would stay in the log when they are erased.
                    "delta.dataSkippingStatsColumns": _RECORD_STATISTICS if self._name == RECORDS else _STATISTICS,
                },
                post_commithook_properties=_NO_HOOKS,
            )
            table = DeltaTable(self.path)
        types = _types(table.schema())
        new: dict[str, Field] = {}
        for rows in tables:
            for field in plain_schema(rows.schema):
                if field.name not in types:
                    types[field.name] = field.type
                    new[field.name] = _delta_field(field.name, field.type)
        if new:
            self._step("add columns")
            table.alter.add_columns(list(new.values()), post_commithook_properties=_NO_HOOKS)
            table = DeltaTable(self.path)
        return table

    def _remove_torn_entry(self) -> None:
        """A power cut leaves the newest entry empty if it was not synced; nothing relies on it, as its segments are still there."""
        entries = sorted((self.path / "_delta_log").glob("*.json"))
        if entries and not entries[-1].stat().st_size:
            entries[-1].unlink()

    def _write(self, writer: WriterId, day: date, rows: pa.Table, last_sequence: int) -> AddAction:
        folder = self.path / f"{LOG_DATE}={day.isoformat()}"
        make_directory(folder)
        first_id, last_id = _id_bounds(rows)
        name = f"{first_id[:13]}-{last_id[:13]}-{writer}-{last_sequence:016x}.parquet"
        path = folder / name
        self._step("write")
        write_parquet(rows, path)
        # Before the commit: what it says must be true after a power cut, too.
        sync(path)
        sync(folder)
        return _addition(path, rows, day.isoformat(), is_records=self._name == RECORDS)

    def _sync(self) -> None:
        self._synced = sync_delta_table(self.path, since=self._synced)

    def _unwritable(self) -> SealError:
        return SealError(
            f"the table {self.path} cannot be written; check the rights of its folder and the space on its disk. The lookups stay in "
            "their segments"
        )


class PartsFolder:
    """A folder of Parquet parts, which Feast's own file source reads as they are: no part is there that does not count.

    A part's name says whose records it has, of which day, and from which sequence to which. It appears with all of its rows, by one
    rename. There are no folders for days: pyarrow, and so Feast, passes over names that begin with `__log_date`.
    """

    def __init__(self, path: Path, *, service: str, step: Step = no_step) -> None:
        self.path = path
        self._name = service
        self._service = digest(service)
        self._step = step

    @property
    def key(self) -> str:
        """See `SealedTable`."""
        return f"{self.path}:{self._service}"

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """See `SealedTable`; those of the newest part."""
        return self._types_of(self._parts())

    def look_anew(self) -> None:
        """See `SealedTable`; nothing is kept."""

    def sealed_through(self, writer: WriterId, day: date) -> int:
        """See `SealedTable`."""
        return _last_of(self._parts(), writer, day)

    def append(self, writer: WriterId, days: Mapping[date, pa.Table], *, last_sequence: int) -> None:
        """See `SealedTable`."""
        try:
            make_directory(self.path)
            for day, rows in days.items():
                part = _Part(day, writer, pc.min(rows.column("hc_sequence")).as_py(), last_sequence, self._service)
                self._step("write")
                _place(dated(rows, day), self.path / str(part), step=self._step)
            self._step("sync")
            sync(self.path)
        except OSError as error:
            raise SealError(
                f"{self.path} cannot be written ({error.strerror}); check the rights of the folder and the space on its disk. The "
                "lookups stay in their segments"
            ) from error

    def sync(self) -> None:
        """See `SealedTable`."""
        if self.path.is_dir():
            sync(self.path)

    def files(self) -> list[Path]:
        """See `SealedTable`."""
        return [self.path / str(part) for part in self._parts()]

    def snapshot(self) -> Snapshot:
        """See `SealedTable`."""
        parts = self._parts()
        files = [self.path / str(part) for part in parts]
        return Snapshot(
            self.key, self._name, files, self._types_of(parts), lambda writer, day: _last_of(parts, writer, day)
        )

    def compact(self) -> None:
        """See `SealedTable`. The folder is exchanged for one with fewer parts, so that no reader sees a row twice."""
        self._remove_aside()
        small: dict[date, list[_Part]] = {}
        for part in self._parts():
            with contextlib.suppress(FileNotFoundError):
                if (self.path / str(part)).stat().st_size < _SMALL_BYTES:
                    small.setdefault(part.day, []).append(part)
        crowded = {
            day: parts for day, parts in small.items() if len(parts) > _FILES_MAX + len({part.writer for part in parts})
        }
        if crowded:
            self._compact(crowded)

    def drop_before(self, first_kept: date) -> int:
        """See `SealedTable`. What others have written there stays."""
        dropped = 0
        for part in self._parts():
            if part.day < first_kept:
                path = self.path / str(part)
                dropped += pq.read_metadata(path).num_rows
                self._step("drop")
                path.unlink()
        if dropped:
            sync(self.path)
        return dropped

    def rewrite(self, change: Change) -> int:
        """See `SealedTable`. A part stays, without rows too: its name says what was sealed."""
        self._remove_unfinished()
        changed = 0
        for path in self.files():
            rows, count = change(pq.ParquetFile(path).read())
            if count:
                changed += count
                _place(rows, path, step=self._step)
        if changed:
            sync(self.path)
        return changed

    def _compact(self, crowded: Mapping[date, Sequence["_Part"]]) -> None:
        aside = self._aside
        aside.mkdir()
        merged = {str(part) for parts in crowded.values() for part in parts}
        known = {path.name for path in self.path.iterdir()}
        for name in known - merged:
            if not name.startswith(".") and (self.path / name).is_file():
                os.link(self.path / name, aside / name)
        for day, parts in crowded.items():
            for writer in sorted({part.writer for part in parts}):
                of_writer = sorted((part for part in parts if part.writer == writer), key=lambda part: part.first)
                tables = [pq.read_table(self.path / str(part), partitioning=None) for part in of_writer]
                into = _Part(day, writer, of_writer[0].first, of_writer[-1].last, self._service)
                write_parquet(pa.concat_tables(tables, promote_options="default"), aside / str(into))
                sync(aside / str(into))
        sync(aside)
        self._step("exchange")
        exchange(self.path, aside)
        sync(self.path.parent)
        self._step("exchanged")
        for path in aside.iterdir():
            # Folders, and what others have put there in this moment.
            if path.name not in known or path.is_dir():
                path.rename(self.path / path.name)
        self._remove_aside()

    def _remove_aside(self) -> None:
        if self._aside.exists():
            # Killed between the exchange and the end: what others had put there is not in the folder yet.
            for path in self._aside.iterdir():
                if path.is_dir() or (_Part.parse(path.name) is None and not (self.path / path.name).exists()):
                    path.rename(self.path / path.name)
            shutil.rmtree(self._aside)

    def _remove_unfinished(self) -> None:
        """Remove what a process was writing when it was killed: nobody reads it, and it has rows all the same."""
        self._remove_aside()
        for path in self.path.glob(f".*{_UNFINISHED}"):
            part = _Part.parse(path.name.removeprefix(".").removesuffix(_UNFINISHED))
            if part is not None and part.service == self._service:
                path.unlink()

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f".{self.path.name}-{self._service}.compacting")

    def _parts(self) -> list["_Part"]:
        try:
            names = sorted(path.name for path in self.path.iterdir())
        except FileNotFoundError:
            return []
        parts = [_Part.parse(name) for name in names]
        return [part for part in parts if part is not None and part.service == self._service]

    def _types_of(self, parts: Sequence["_Part"]) -> Mapping[str, pa.DataType]:
        if not parts:
            return {}
        return {field.name: field.type for field in pq.read_schema(self.path / str(parts[-1]))}


def _last_of(parts: Sequence["_Part"], writer: WriterId, day: date) -> int:
    return max((part.last for part in parts if part.writer == writer and part.day == day), default=0)


@dataclass(frozen=True, slots=True)
class _Part:
    """What the name of a part says."""

    day: date
    writer: WriterId
    first: int
    last: int
    service: str

    def __str__(self) -> str:
        return f"{self.day.isoformat()}-{self.writer}-{self.first:016x}-{self.last:016x}-{self.service}.parquet"

    @classmethod
    def parse(cls, name: str) -> "_Part | None":
        match = _PART.fullmatch(name)
        if match is None:
            return None
        writer = WriterId(int(match["slot"]), int(match["epoch"], 16))
        first, last = (int(match[word], 16) for word in ("first", "last"))
        return cls(date.fromisoformat(match["day"]), writer, first, last, match["service"])


def dated(rows: pa.Table, day: date) -> pa.Table:
    """Rows with the column that a Delta table has in the names of its folders."""
    return rows.append_column(LOG_DATE, constant((day - _EPOCH).days, rows.num_rows, pa.date32()))


def united(tables: Sequence[pa.Table], types: Mapping[str, pa.DataType]) -> pa.Table:
    """One table of several, under the names that their columns have in a table with these types (`column_name`)."""
    known = dict(types)
    fitting = []
    for rows in tables:
        fits = rows.rename_columns([column_name(field, known) for field in plain_schema(rows.schema)])
        known |= {field.name: field.type for field in plain_schema(fits.schema)}
        fitting.append(fits)
    return pa.concat_tables(fitting, promote_options="default")


def write_parquet(rows: pa.Table, path: Path) -> None:
    """Write a file: words and what repeats by dictionary, feature values as they are."""
    varied = _varied_times(rows)
    repeated = [field.name for field in rows.schema if _repeats(field) and field.name not in varied]
    is_records = "payload" in rows.column_names
    pq.write_table(
        rows,
        path,
        compression="zstd" if is_records else "snappy",
        use_dictionary=repeated or False,
        column_encoding=dict.fromkeys(varied, "DELTA_BINARY_PACKED"),
        row_group_size=_record_group_rows(rows) if is_records else _ROW_GROUP_ROWS,
        store_schema=False,
        write_statistics=[name for name in rows.column_names if name != "payload"],
    )


def _varied_times(rows: pa.Table) -> set[str]:
    """Columns of times of which few are the same: a dictionary of them takes more room than their differences, and more time."""
    varied, seen = set(), {}
    for name in rows.column_names:
        if name.endswith("__timestamp"):
            sample = rows.column(name).slice(0, _SAMPLED_ROWS)
            # Features of one view share theirs.
            shared = tuple(chunk.buffers()[1].address for chunk in sample.chunks)
            if shared not in seen:
                seen[shared] = pc.count_distinct(sample).as_py() * _REPEATED_TIMES > len(sample)
            if seen[shared]:
                varied.add(name)
    return varied


def _compacted_properties(table: DeltaTable) -> WriterProperties | None:
    """Of the table of records, groups as small as `write_parquet` makes them; delta-rs would make one of a file."""
    if "payload" not in _types(table.schema()):
        return None
    added = pa.table(table.get_add_actions())
    stored_bytes, rows = (pc.sum(added.column(name)).as_py() or 0 for name in ("size_bytes", "num_records"))
    # Stored bytes are compressed, to about half.
    group_rows = _GROUP_BYTES * rows // max(1, 2 * stored_bytes)
    return WriterProperties(compression="ZSTD", max_row_group_size=max(1, min(_RECORD_GROUP_ROWS, group_rows)))


def _record_group_rows(rows: pa.Table) -> int:
    mean_bytes: int = rows.column("payload").nbytes // max(1, rows.num_rows)
    return max(1, min(_RECORD_GROUP_ROWS, _GROUP_BYTES // max(1, mean_bytes)))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema with the values' types in the place of dictionaries."""
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


def column_name(field: pa.Field, types: Mapping[str, pa.DataType]) -> str:
    """The column of a table that takes a column of rows: its own, or where that has another type, one named by its type too."""
    there = types.get(field.name)
    if there is None or _same(there, field.type):
        return str(field.name)
    return f"{field.name}__hc_{re.sub('[^a-z0-9]+', '_', str(field.type).lower()).strip('_')}"


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _same(one.value_type, other.value_type)
    return bool(one.equals(other))


def _files(table: DeltaTable, root: Path) -> list[Path]:
    return sorted(root / unquote(path) for path in table.get_add_actions().column("path").to_pylist())


def _types(schema: Schema) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in pa.schema(schema.to_arrow())}


def _delta_field(name: str, kind: pa.DataType) -> Field:
    (field,) = Schema.from_arrow(pa.schema([pa.field(name, kind)])).fields
    return field


def _repeats(field: pa.Field) -> bool:
    return (
        pa.types.is_dictionary(field.type)
        or field.name.endswith(("__status", "__timestamp", "__created_ts"))
        or field.name
        in {"hc_slot", "hc_epoch", "hc_status", "hc_service", "hc_feature", "slot", "epoch", "service", "status"}
    )


def _id_bounds(rows: pa.Table) -> tuple[str, str]:
    """The first and last lookup ids of rows; the files' names begin with their times."""
    # A service's table may have a join key of the other name.
    name = "hc_lookup_id" if "hc_lookup_id" in rows.column_names else "lookup_id"
    column = rows.column(name)
    words = [chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
    bounds = pc.min_max(pa.chunked_array(words))
    return bounds["min"].as_py(), bounds["max"].as_py()


def _place(rows: pa.Table, path: Path, *, step: Step) -> None:
    """Put a file where it belongs, synced, in one step."""
    aside = path.with_name(f".{path.name}{_UNFINISHED}")
    write_parquet(rows, aside)
    sync(aside)
    step("rename")
    aside.replace(path)


def _addition(path: Path, rows: pa.Table, day: str, *, is_records: bool) -> AddAction:
    """Without bounds of columns but when the lookups were served: what others say of people would stay in the log of a table whose
    rows are erased.
    """
    stats: dict[str, object] = {"numRecords": rows.num_rows}
    if is_records:
        # As numbers: for an instant pyarrow loads pandas.
        bounds = pc.min_max(rows.column("served_at").cast(pa.int64())).as_py()
        stats |= {
            f"{bound}Values": {"served_at": _delta_instant(micros)}
            for bound, micros in bounds.items()
        }
    return AddAction(
        path=f"{path.parent.name}/{path.name}",
        size=path.stat().st_size,
        partition_values={LOG_DATE: day},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps(stats),
    )


def _delta_instant(micros: int) -> str:
    return from_micros(micros).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _removal(path: Path) -> RemoveAction:
    return RemoveAction(
        path=f"{path.parent.name}/{path.name}",
        data_change=True,
        deletion_timestamp=time.time_ns() // 1_000_000,
        partition_values={LOG_DATE: path.parent.name.partition("=")[2]},
        size=path.stat().st_size,
    )


def _crowded(table: DeltaTable) -> list[str]:
    """The days of a table that have too many small files."""
    added = table.get_add_actions(flatten=True)
    small: Counter[str] = Counter()
    if added.num_rows:
        sizes = added.column("size_bytes").to_pylist()
        small.update(day for day, size in zip(_days(table), sizes, strict=True) if size < _SMALL_BYTES)
    return sorted(day for day, count in small.items() if count > _FILES_MAX)


def _days(table: DeltaTable) -> list[str]:
    """The day of each file."""
    added = table.get_add_actions(flatten=True)
    # Of a table without files there is no such column.
    return list(map(str, added.column(f"partition.{LOG_DATE}").to_pylist())) if added.num_rows else []
