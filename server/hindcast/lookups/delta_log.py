"""Sealed lookups in a Delta table. Imports pyarrow and deltalake."""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
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
from hindcast.delta import open_delta
from hindcast.durable import make_directory, sync, sync_delta_table
from hindcast.errors import SealError
from hindcast.lookups.columns import plain_schema
from hindcast.lookups.directory import WriterId
from hindcast.lookups.logging_schema import LOG_DATE
from hindcast.lookups.parquet import record_group_rows, write_parquet
from hindcast.lookups.places import RECORDS
from hindcast.lookups.tables import FILES_MAX, SMALL_BYTES, Change, Snapshot, Step, no_step

RETENTION_HOURS = 24
"""How long files stay that were compacted away: queries that began before go on with them."""

_LOOK_SECONDS = 3600.0
"""Between two looks at files that stay for `RETENTION_HOURS`; a pass of the sealer comes every minute."""

_TARGET_BYTES = 64 << 20
_CHECKPOINT_VERSIONS = 50
"""Entries of a table's log that every opening reads, before they become one."""
_STATISTICS, _RECORD_STATISTICS = "hc_lookup_id", "lookup_id,served_at"
"""Columns whose bounds Delta's log may have, of a service's table and of that of all lookups."""
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class DeltaLog:
    """A Delta table of sealed lookups. It is made by the first `append`."""

    folds_names = True

    def __init__(self, path: Path, *, name: str = "", step: Step = no_step) -> None:
        """Args: name is the service's; a table that there is knows its own."""
        self.path = path
        self._name = name
        self._step = step
        self._synced = 0
        self._looked_at: float | None = None
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
            return open_delta(self.path) if (self.path / "_delta_log").is_dir() else None
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
            version=table.version(),
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
            if crowded or self._has_old_files(table):
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
                with pq.ParquetFile(path) as file:
                    rows, count = change(file.read())
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

    def _has_old_files(self, table: DeltaTable) -> bool:
        """Whether there are files that are no part of the table any more, as far as it is time to look.

        A table to which nothing comes any more is never crowded and has no days to drop, and what was dropped would stay for ever.
        """
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        there = sum(1 for _ in self.path.glob(f"{LOG_DATE}=*/*.parquet"))
        return there > len(_files(table, self.path))

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


def _compacted_properties(table: DeltaTable) -> WriterProperties | None:
    """Of the table of records, groups as small as `write_parquet` makes them; delta-rs would make one of a file."""
    if "payload" not in _types(table.schema()):
        return None
    added = pa.table(table.get_add_actions())
    stored_bytes, rows = (pc.sum(added.column(name)).as_py() or 0 for name in ("size_bytes", "num_records"))
    # Stored bytes are compressed, to about half.
    return WriterProperties(compression="ZSTD", max_row_group_size=record_group_rows(rows, 2 * stored_bytes))


def _files(table: DeltaTable, root: Path) -> list[Path]:
    return sorted(root / unquote(path) for path in table.get_add_actions().column("path").to_pylist())


def _types(schema: Schema) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in pa.schema(schema.to_arrow())}


def _delta_field(name: str, kind: pa.DataType) -> Field:
    (field,) = Schema.from_arrow(pa.schema([pa.field(name, kind)])).fields
    return field


def _id_bounds(rows: pa.Table) -> tuple[str, str]:
    """The first and last lookup ids of rows; the files' names begin with their times."""
    # A service's table may have a join key of the other name.
    name = "hc_lookup_id" if "hc_lookup_id" in rows.column_names else "lookup_id"
    column = rows.column(name)
    words = [chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
    bounds = pc.min_max(pa.chunked_array(words))
    return bounds["min"].as_py(), bounds["max"].as_py()


def _addition(path: Path, rows: pa.Table, day: str, *, is_records: bool) -> AddAction:
    """Without bounds of columns but when the lookups were served: what others say of people would stay in the log of a table whose
    rows are erased.
    """
    stats: dict[str, object] = {"numRecords": rows.num_rows}
    if is_records:
        # As numbers: for an instant pyarrow loads pandas.
        bounds = pc.min_max(rows.column("served_at").cast(pa.int64())).as_py()
        stats |= {f"{bound}Values": {"served_at": _delta_instant(micros)} for bound, micros in bounds.items()}
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
        small.update(day for day, size in zip(_days(table), sizes, strict=True) if size < SMALL_BYTES)
    return sorted(day for day, count in small.items() if count > FILES_MAX)


def _days(table: DeltaTable) -> list[str]:
    """The day of each file."""
    added = table.get_add_actions(flatten=True)
    # Of a table without files there is no such column.
    return list(map(str, added.column(f"partition.{LOG_DATE}").to_pylist())) if added.num_rows else []
