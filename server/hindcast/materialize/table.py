"""The table that the ledger's records are in: Delta, on this machine, one writer at a time, synced and compacted.

Imports deltalake, which has threads of its own and fails in a process that was forked from one that used it: begin such a
process anew (spawn). A serving worker never imports this, nor does the supervisor.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, PostCommitHookProperties, QueryBuilder, write_deltalake
from deltalake.exceptions import TableNotFoundError

from hindcast.delta import open_delta
from hindcast.durable import make_directory, sync_delta_table
from hindcast.errors import LedgerError
from hindcast.file_lock import locked_within

_FILES_MAX = 20
"""Files of the table, two for each run, before they become one, which takes 50 ms. With 50 a run's two records cost 51 ms of CPU,
with 20 they cost 34: every append reads and syncs the log since the last checkpoint."""

_SMALL_BYTES = 1 << 20
"""Files from this size on stay as they are: some 30,000 runs, which no compaction has to write again."""

RETENTION_HOURS = 24
"""How long files stay that were compacted away: no reader that began before takes a day, and they are small."""

_LOCK_SECONDS = 30.0
"""An append takes 15 ms, a compaction some 100; whoever holds the ledger for longer is paused or stuck."""

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Checkpoints are made by `RunTable` itself: `sync_delta_table` syncs what came after the last one, so that one must be synced."""


class RunTable:
    """A table in a folder. Nothing is opened until it is asked, and every call sees the newest version.

    Every method raises LedgerError: the folder or disk does not let it, the table is damaged, or something else is there.
    """

    def __init__(self, path: Path, *, retention_hours: int) -> None:
        """Args:
        path: the folder, which the first `append` makes.
        retention_hours: how long files are kept that were compacted away.
        """
        self.path = path
        self._retention_hours = retention_hours
        self._synced = 0

    def select(self, query: str, *, later: Mapping[str, str]) -> list[dict[str, Any]]:
        """The rows of a query over `runs`, as dicts; none where there is no table yet.

        Args:
            query: what stands after WITH: named parts, and then a SELECT.
            later: columns that a table lacks to which only older versions have written, and what they hold there, in SQL.
        """
        table = self._open()
        if table is None:
            return []
        try:
            columns = {field.name for field in table.schema().fields}
            lacking = "".join(f', {value} AS "{name}"' for name, value in later.items() if name not in columns)
            whole = f"WITH runs AS (SELECT *{lacking} FROM stored), {query}"  # noqa: S608 - names of ours
            found = QueryBuilder().register("stored", table).execute(whole).read_all()
        except Exception as error:
            raise self._damaged() from error
        return [row.as_py() for row in iter(found.to_struct_array())] if found.num_rows else []

    def append(self, rows: Any) -> bool:
        """Append an Arrow table, all of its rows or none; when this returns they survive a power cut.

        Its schema is the table's if there is none yet. After an error they may be there all the same.

        Returns:
            Whether `compact` is due.
        """
        with self._locked():
            table = self._open()
            try:
                if table is None:
                    self._synced = 0
                    table = DeltaTable.create(
                        self.path, schema=rows.schema, name="runs", configuration=self._configuration
                    )
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    schema_mode="merge",  # a newer version of Hindcast may have more columns, an older one fewer
                    post_commithook_properties=_NO_HOOKS,
                )
                self._synced = sync_delta_table(self.path, since=self._synced)
                return _is_due(table)
            except Exception as error:
                raise self._unwritable() from error

    def compact(self) -> None:
        """Make one file of many, and remove what nobody reads any more."""
        with self._locked():
            table = self._open()
            if table is not None and _is_due(table):  # unless another process was quicker
                self._compact(table)

    def _compact(self, table: DeltaTable) -> None:
        try:
            table.optimize.compact(target_size=_SMALL_BYTES, post_commithook_properties=_NO_HOOKS)
            self._synced = sync_delta_table(self.path, since=self._synced)
            # In full: also the files of writers that were killed before their commit.
            table.vacuum(
                self._retention_hours,
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                post_commithook_properties=_NO_HOOKS,
            )
            self._synced = sync_delta_table(self.path, since=self._synced)
            table.create_checkpoint()
            self._synced = sync_delta_table(self.path, since=self._synced)
            table.cleanup_metadata()
        except Exception as error:
            raise self._unwritable() from error

    @property
    def _configuration(self) -> dict[str, str | None]:
        return {
            "delta.appendOnly": "true",
            "delta.deletedFileRetentionDuration": f"interval {self._retention_hours} hours",
            "delta.logRetentionDuration": f"interval {self._retention_hours} hours",
        }

    def _open(self) -> DeltaTable | None:
        """The table as it is now; None if it was not made yet."""
        try:
            if not self._has_content():
                return None
            # A power cut leaves an entry empty that was not synced, and delta-rs would pass over it in silence.
            is_torn = any(_is_empty(entry) for entry in self.path.glob("_delta_log/*.json"))
            table = open_delta(self.path)
            columns = {field.name for field in table.schema().fields}
        except TableNotFoundError:
            return None  # whoever made the folder was killed before the first version
        except LedgerError:
            raise
        except OSError as error:
            raise LedgerError(f"the run ledger {self.path} cannot be read; check the rights of its folder") from error
        except Exception as error:
            # deltalake raises DeltaError and plain Exception.
            raise self._damaged() from error
        if is_torn:
            raise self._damaged()
        if not {"run_id", "record"} <= columns:
            raise self._not_ours()
        return table

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the ledger: one writer at a time, so that no commit meets another and each finds all before it synced."""
        try:
            make_directory(self.path)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unwritable() from error
        try:
            try:
                is_ours = locked_within(folder, seconds=_LOCK_SECONDS)
            except OSError as error:
                raise LedgerError(
                    f"the run ledger {self.path} cannot be locked ({error.strerror}); its folder must be on a file system with "
                    "flock: turn on the locks of the mount, or move the registry, or HINDCAST_STATE_DIR, to a local disk"
                ) from error
            if not is_ours:
                raise LedgerError(
                    f"the run ledger {self.path} is held by another process; `fuser {self.path}` names it"
                )
            yield
        finally:
            os.close(folder)

    def _has_content(self) -> bool:
        """Whether there is something, which is refused if it is not a table: it is neither read nor written into."""
        try:
            content = list(self.path.iterdir())  # once: another process may be making the table
        except FileNotFoundError:
            return False
        except NotADirectoryError as error:
            raise self._not_ours() from error
        if content and self.path / "_delta_log" not in content:
            raise self._not_ours()
        return bool(content)

    def _not_ours(self) -> LedgerError:
        return LedgerError(f"{self.path} is not a run ledger, and the ledger must be there; move it to another place")

    def _unwritable(self) -> LedgerError:
        return LedgerError(
            f"the run ledger {self.path} cannot be written; check the rights of its folder and the space on its disk"
        )

    def _damaged(self) -> LedgerError:
        return LedgerError(
            f"the run ledger {self.path} is damaged; restore it, or move it away and a new one begins. Online rows and Feast's "
            "own records of what is materialized do not depend on it"
        )


def _is_due(table: DeltaTable) -> bool:
    sizes = iter(table.get_add_actions().column("size_bytes"))
    return len([size for size in sizes if size.as_py() < _SMALL_BYTES]) > _FILES_MAX


def _is_empty(entry: Path) -> bool:
    try:
        return not entry.stat().st_size
    except FileNotFoundError:
        return False  # cleaned away since, after a checkpoint
