"""The run ledger: a Delta table with a record when a run begins and one when it ends (docs/formats.md).

Imports deltalake, which has threads of its own and fails in a process that was forked from one that used it: begin such a
process anew (spawn). A serving worker never imports this, nor does the supervisor.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, PostCommitHookProperties, QueryBuilder, write_deltalake
from deltalake.exceptions import TableNotFoundError

from hindcast.catalog.repo import Repo
from hindcast.durable import make_directory, sync_delta_table
from hindcast.errors import InvalidArgument, LedgerError, UnknownName
from hindcast.materialize.process import Liveness, RunProcess
from hindcast.materialize.runs import Kind, Outcome, Run, Source, ledger_path
from hindcast.materialize.summary import LastRun, ViewSummary

logger = logging.getLogger(__name__)

_FILES_MAX = 20
"""Files of the table, two for each run, before they become one, which takes 50 ms. With 50 a run's two records cost 51 ms of CPU,
with 20 they cost 34: every append reads and syncs the log since the last checkpoint."""

_RETENTION_HOURS = 24
"""How long files stay that were compacted away: no reader that began before takes a day, and they are small."""

_LOCK_SECONDS = 30.0
"""An append takes 15 ms, a compaction some 100; whoever holds the ledger for longer is paused or stuck."""

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Checkpoints are made by `_compact`: `sync_delta_table` syncs what came after the last one, so that one must be synced."""


class Ledger:
    """The runs of one project. Several processes may append and read at once; nothing is opened until it is asked."""

    def __init__(self, path: Path, *, project: str, retention_hours: int = _RETENTION_HOURS) -> None:
        """Args:
        path: the table's folder, which `begin` makes.
        retention_hours: how long a reader may take that began before a compaction.
        """
        self.path = path
        self._project = project
        self._retention_hours = retention_hours

    @classmethod
    def of_repo(cls, repo: Repo) -> "Ledger":
        """The ledger of a repo's project."""
        return cls(ledger_path(repo), project=repo.project)

    def begin(self, run: Run) -> None:
        """Record that a run has begun; when this returns, the record survives a power cut. Call it before any row is written.

        Raises:
            LedgerError: the record could not be made (a full disk, a folder that is not ours to write, a damaged ledger), or
                not for certain. The run should not go on.
        """
        self._append(replace(run, outcome=Outcome.RUNNING), record="begin")

    def end(self, run: Run) -> None:
        """Record how a run ended: the whole run again, with its counts; when this returns, it survives a power cut.

        Raises:
            LedgerError: as `begin`. The rows online are not touched; the run will be shown as interrupted.
        """
        table = self._append(run, record="end")
        if len(table.file_uris()) > _FILES_MAX:
            try:
                with self._locked():
                    self._compact()
            except LedgerError as error:
                logger.warning("the run is recorded, but the ledger's files were not compacted: %s", error)

    def runs(self, view: str | None = None, *, limit: int | None = None) -> list[Run]:
        """Runs, the newest first; none where there is no ledger yet.

        Args:
            view: only this view's.
            limit: at most so many.
        Raises:
            LedgerError: the ledger cannot be read.
        """
        return self._runs("TRUE" if view is None else f"view = {_quoted(view)}", limit=limit)

    def find(self, prefix: str) -> Run:
        """The run whose id begins so.

        Raises:
            UnknownName: none does.
            InvalidArgument: several do; the message names some.
            LedgerError: the ledger cannot be read.
        """
        found = self._runs(f"starts_with(run_id, {_quoted(prefix)})", limit=4)
        exact = [run for run in found if run.run_id == prefix]
        if not found:
            raise UnknownName("run", prefix, "`hindcast runs ls` lists those that there are")
        if len(exact or found) > 1:
            some = ", ".join(run.run_id for run in found[:3])
            raise InvalidArgument.at("RUN_ID", f"{prefix!r} begins more than one run's id ({some}, …); give more of it")
        return (exact or found)[0]

    def last_success(self, view: str) -> Run | None:
        """The view's newest run that succeeded; None without one.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        return next(iter(self._runs(f"view = {_quoted(view)} AND outcome = 'succeeded'", limit=1)), None)

    def sources(self) -> Mapping[str, Source]:
        """By path, what the last runs read, whatever their view: their digests are worth keeping (`digests`).

        A source that was written in the two seconds before its run began is left out: on a file system whose times are that
        coarse it could have been written again since, and look the same.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        rows = self._select(_SOURCES)
        known: dict[str, Source] = {}
        for row in reversed(rows):
            settled_ns = int((row["began_at"].timestamp() - 2) * 1e9)
            known |= {source["path"]: Source(**source) for source in row["sources"] if source["mtime_ns"] < settled_ns}
        return known

    def summary(self) -> dict[str, ViewSummary]:
        """What `/metrics` shows, by view.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        counts = self._select(
            "SELECT view, outcome, count(*) AS runs FROM latest WHERE outcome <> 'running' GROUP BY ALL"
        )
        running = self._select("SELECT * FROM latest WHERE outcome = 'running'")
        ended = self._select(_LAST_ENDED)
        good = {row["view"]: row for row in self._select(_SUCCEEDED)}
        return {
            view: ViewSummary(
                last_success=_seconds(good[view]["ended_at"]) if view in good else None,
                fresh_until=_seconds(good[view]["interval_end"]) if view in good else None,
                last=next((_last_run(row) for row in ended if row["view"] == view), None),
                runs={row["outcome"]: row["runs"] for row in counts if row["view"] == view},
                running=tuple(_process(row) for row in running if row["view"] == view),
            )
            for view in sorted({row["view"] for row in (*counts, *running)})
        }

    def _runs(self, condition: str, *, limit: int | None) -> list[Run]:
        most = "" if limit is None else f"LIMIT {limit}"
        # Quoted by `_quoted`; deltalake's queries take no parameters.
        query = f"SELECT * FROM latest WHERE {condition} ORDER BY began_at DESC, run_id DESC {most}"  # noqa: S608
        return [_run(row) for row in self._select(query)]

    def _select(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query over `runs` (all records) and `latest` (one per run of the project, its end if it has ended)."""
        table = self._table()
        if table is None:
            return []
        with_latest = f"WITH latest AS ({_LATEST.format(project=_quoted(self._project))}) {query}"
        try:
            found = QueryBuilder().register("runs", table).execute(with_latest).read_all()
        except Exception as error:
            raise self._damaged() from error
        return [row.as_py() for row in iter(found.to_struct_array())] if found.num_rows else []

    def _table(self) -> DeltaTable | None:
        """The table as it is now; None if it was not made yet."""
        log = self.path / "_delta_log"
        try:
            if not log.is_dir():
                self._refuse_other_content()
                return None
            # A power cut leaves an entry empty that was not synced, and delta-rs would pass over it in silence.
            is_torn = any(_is_empty(entry) for entry in log.glob("*.json"))
            table = DeltaTable(self.path)
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

    def _append(self, run: Run, *, record: str) -> DeltaTable:
        from hindcast.materialize.records import SCHEMA, to_record  # noqa: PLC0415 - pyarrow, which readers need not load

        with self._locked():
            table = self._table()
            try:
                if table is None:
                    table = DeltaTable.create(self.path, schema=SCHEMA, name="runs", configuration=self._configuration)
                write_deltalake(
                    table,
                    to_record(run, record=record),
                    mode="append",
                    schema_mode="merge",  # a newer version of Hindcast may have more columns, an older one fewer
                    post_commithook_properties=_NO_HOOKS,
                )
                sync_delta_table(self.path)
            except Exception as error:
                raise self._unwritable() from error
            return table

    @property
    def _configuration(self) -> dict[str, str | None]:
        return {
            "delta.appendOnly": "true",
            "delta.deletedFileRetentionDuration": f"interval {self._retention_hours} hours",
            "delta.logRetentionDuration": f"interval {self._retention_hours} hours",
        }

    def _compact(self) -> None:
        """Make one file of many, and remove what nobody reads any more. The lock is held."""
        table = self._table()
        if table is None or len(table.file_uris()) <= _FILES_MAX:
            return
        try:
            table.optimize.compact(post_commithook_properties=_NO_HOOKS)
            sync_delta_table(self.path)
            # In full: also the files of writers that were killed before their commit.
            table.vacuum(
                self._retention_hours,
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                post_commithook_properties=_NO_HOOKS,
            )
            sync_delta_table(self.path)
            table.create_checkpoint()
            sync_delta_table(self.path)
            table.cleanup_metadata()
        except Exception as error:
            raise self._unwritable() from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the ledger: one writer at a time, so that no commit meets another and each finds all before it synced."""
        try:
            make_directory(self.path)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unwritable() from error
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise LedgerError(
                            f"the run ledger {self.path} is held by another process; `fuser {self.path}` names it"
                        ) from error
                time.sleep(0.005)
            yield
        finally:
            os.close(folder)

    def _refuse_other_content(self) -> None:
        """Whatever else has the table's name is not written into."""
        try:
            has_content = any(self.path.iterdir())
        except FileNotFoundError:
            return
        except NotADirectoryError:
            has_content = True
        if has_content:
            raise self._not_ours()

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


_LATEST = """\
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY record DESC, ended_at DESC) AS place FROM runs
WHERE project = {project}) WHERE place = 1"""
"""`end` sorts after `begin`."""

_LAST_ENDED = """\
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY view ORDER BY began_at DESC, run_id DESC) AS newest FROM latest
WHERE outcome <> 'running') WHERE newest = 1"""

_SOURCES = """\
SELECT began_at, sources FROM runs WHERE cardinality(sources) > 0 ORDER BY began_at DESC LIMIT 200"""

# A replacement or a rollback decides anew what the view holds; what was materialized before does not count any more.
_SUCCEEDED = """\
SELECT view, max(interval_end) AS interval_end, max(ended_at) AS ended_at
FROM (SELECT *, max(CASE WHEN kind <> 'materialize' THEN began_at END) OVER (PARTITION BY view) AS anew FROM latest
      WHERE outcome = 'succeeded')
WHERE anew IS NULL OR began_at >= anew GROUP BY view"""


def _is_empty(entry: Path) -> bool:
    try:
        return not entry.stat().st_size
    except FileNotFoundError:
        return False  # cleaned away since, after a checkpoint


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


def _process(row: Mapping[str, Any]) -> RunProcess:
    return RunProcess(
        host=row["host"],
        boot=row["boot"],
        process_id=row["process_id"],
        started_seconds=row["process_started_seconds"],
    )


def _last_run(row: Mapping[str, Any]) -> LastRun:
    return LastRun(
        seconds=(row["ended_at"] - row["began_at"]).total_seconds(),
        rows={
            "written": row["rows_written"],
            "older": row["rows_older"],
            "keyless": row["rows_null_key"],
            "quarantined": row["rows_quarantined"],
        },
    )


_PLAIN: Sequence[str] = (
    *("run_id", "project", "view", "error", "quarantine", "definitions", "hindcast_version", "feast_version"),
    *("rows_read", "rows_written", "rows_older", "rows_null_key", "rows_quarantined"),
)


def _run(row: Mapping[str, Any]) -> Run:
    process, outcome, note = _process(row), Outcome(row["outcome"]), ""
    if outcome is Outcome.RUNNING:
        liveness = process.liveness
        if liveness is Liveness.GONE:
            outcome, note = Outcome.INTERRUPTED, f"its process {process.process_id} has ended without recording how"
        elif liveness is Liveness.UNKNOWN:
            note = f"whether it still runs can be seen on its host {process.host!r} (process {process.process_id}) only"
    return Run(
        **{name: row[name] for name in _PLAIN},
        kind=Kind(row["kind"]),
        start=_utc(row["interval_start"]),
        end=_utc(row["interval_end"]),
        began_at=row["began_at"].astimezone(UTC),
        ended_at=_utc(row["ended_at"]),
        outcome=outcome,
        sources=tuple(Source(**source) for source in row["sources"] or ()),
        seconds=dict(row["seconds"] or ()),
        process=process,
        note=note,
    )
