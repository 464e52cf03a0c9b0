"""The run ledger: a record when a run begins and one when it ends, in a `table` (docs/formats.md)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hindcast.catalog.repo import Repo
from hindcast.clock import Clock, from_micros
from hindcast.errors import HindcastError, InvalidArgument, LedgerError, UnknownName
from hindcast.materialize.process import Liveness, RunProcess
from hindcast.materialize.runs import Kind, Outcome, Run, Source, ledger_path
from hindcast.materialize.summary import LastRun, ViewSummary
from hindcast.materialize.table import RETENTION_HOURS, RunTable
from hindcast.quoting import quoted_text

logger = logging.getLogger(__name__)


class Ledger:
    """The runs of one project. Several processes may append and read at once; nothing is opened until it is asked."""

    def __init__(self, path: Path, *, project: str, retention_hours: int = RETENTION_HOURS) -> None:
        """Args:
        path: the table's folder, which `begin` makes.
        retention_hours: how long a reader may take that began before a compaction.
        """
        self.path = path
        self._project = project
        self._table = RunTable(path, retention_hours=retention_hours)

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
            ValueError: the run has not ended.
        """
        if run.ended_at is None or run.outcome not in {Outcome.SUCCEEDED, Outcome.FAILED}:
            raise ValueError(run)
        if self._append(run, record="end"):
            try:
                self._table.compact()
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
        return self._runs("TRUE" if view is None else f'"view" = {quoted_text(view)}', limit=limit)

    def find(self, prefix: str) -> Run:
        """The run whose id begins so.

        Raises:
            UnknownName: none does.
            InvalidArgument: several do; the message names some.
            LedgerError: the ledger cannot be read.
        """
        found = self._runs(f"starts_with(run_id, {quoted_text(prefix)})", limit=4)
        exact = [run for run in found if run.run_id == prefix]
        if not found:
            raise UnknownName("run", prefix, "`hindcast runs ls` lists those that there are")
        if len(exact or found) > 1:
            some = ", ".join(run.run_id for run in found[:3])
            raise InvalidArgument.at("RUN_ID", f"{prefix!r} begins more than one run's id ({some}, …); give more of it")
        return (exact or found)[0]

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
            known |= {source["path"]: _source(source) for source in row["sources"] if source["mtime_ns"] < settled_ns}
        return known

    def summary(self) -> dict[str, ViewSummary]:
        """What `/metrics` shows, by view.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        counts = self._select(_COUNTS)
        running = self._select(_RUNNING)
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
        """The newest runs with a record for which the condition holds."""
        # A run has two records, or some more if its end was recorded again.
        most = "" if limit is None else f"LIMIT {4 * limit}"
        query = (
            # Quoted by `quoted_text`; deltalake's queries take no parameters.
            f"SELECT * FROM runs WHERE project = {quoted_text(self._project)} AND {condition} "  # noqa: S608
            f"ORDER BY began_at DESC, run_id DESC, record DESC, ended_at DESC {most}"  # `end` sorts after `begin`
        )
        newest: dict[str, dict[str, Any]] = {}
        for row in self._select(query):
            newest.setdefault(row["run_id"], row)
        return [_run(row) for row in list(newest.values())[:limit]]

    def _select(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query over `runs`, which is all records, and the parts of it that `_PARTS` names."""
        return self._table.select(f"{_PARTS.format(project=quoted_text(self._project))} {query}", later=_LATER)

    def _append(self, run: Run, *, record: str) -> bool:
        from hindcast.materialize.records import to_record  # noqa: PLC0415 - pyarrow, which readers need not load

        return self._table.append(to_record(run, record=record))


# The queries name the columns that they need: of a year of ten views an hour, 175,000 records, a summary takes 0.3 s of CPU and
# 170 MB; over whole records it took 1.7 s and 510 MB.
_PARTS = """\
ends AS (
    SELECT run_id, "view", kind, outcome, interval_end, began_at, ended_at, rows_written,
        coalesce(rows_unchanged, 0) AS rows_unchanged, rows_older, rows_null_key, rows_quarantined
    FROM runs WHERE project = {project} AND record = 'end'),
running AS (
    SELECT begins.run_id, "view", host, boot, process_id, process_started_seconds
    FROM runs AS begins LEFT ANTI JOIN ends ON begins.run_id = ends.run_id
    WHERE project = {project} AND record = 'begin')"""

_LATER = {"rows_unchanged": "0"}
"""Columns that came since the first version."""

_COUNTS = 'SELECT "view", outcome, count(DISTINCT run_id) AS runs FROM ends GROUP BY "view", outcome'

_RUNNING = "SELECT * FROM running"

_LAST_ENDED = """\
SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY "view" ORDER BY began_at DESC, run_id DESC, ended_at DESC) AS newest FROM ends)
WHERE newest = 1"""

# A replacement or a rollback decides anew what the view holds; what was materialized before does not count any more.
_SUCCEEDED = """\
SELECT "view", max(interval_end) AS interval_end, max(ended_at) AS ended_at
FROM (
    SELECT "view", interval_end, ended_at, began_at,
        max(CASE WHEN kind <> 'materialize' THEN began_at END) OVER (PARTITION BY "view") AS anew
    FROM ends WHERE outcome = 'succeeded')
WHERE anew IS NULL OR began_at >= anew
GROUP BY "view"
"""

_SOURCES = """\
SELECT began_at, sources FROM runs WHERE cardinality(sources) > 0 ORDER BY began_at DESC LIMIT 200"""


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
            "unchanged": row["rows_unchanged"],
            "older": row["rows_older"],
            "keyless": row["rows_null_key"],
            "quarantined": row["rows_quarantined"],
        },
    )


_PLAIN: Sequence[str] = (
    *("run_id", "project", "view", "error", "quarantine", "definitions", "hindcast_version", "feast_version"),
    *("rows_read", "rows_written", "rows_older", "rows_null_key", "rows_quarantined"),
)


def _source(stored: Mapping[str, Any]) -> Source:
    """A source as it was recorded; one of an older version lacks what came since."""
    return Source(**{name: value for name, value in stored.items() if value is not None})


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
        rows_unchanged=row["rows_unchanged"] or 0,  # null in what an older version recorded
        kind=Kind(row["kind"]),
        start=_utc(row["interval_start"]),
        end=_utc(row["interval_end"]),
        began_at=row["began_at"].astimezone(UTC),
        ended_at=_utc(row["ended_at"]),
        outcome=outcome,
        sources=tuple(map(_source, row["sources"] or ())),
        seconds=dict(row["seconds"] or ()),
        process=process,
        note=note,
    )


@dataclass(slots=True)
class Record:
    """What is known of a run while it goes on."""

    run: Run
    _begun: Future[None]

    def confirm(self) -> None:
        """Wait until the beginning is on record; nothing may be written before.

        Raises:
            LedgerError: it could not be recorded. The run must not go on.
        """
        self._begun.result()

    @property
    def is_begun(self) -> bool:
        """Whether the beginning is on record, once that is known."""
        return self._begun.exception() is None


@contextmanager
def recorded(run: Run, ledger: Ledger, *, clock: Clock) -> Iterator[Record]:
    """Have a run on record while a block does it; what the block learns of it goes into the record.

    Raises:
        LedgerError: the run could not be recorded; where that was at its beginning, the block has not begun.
    """
    with recorded_beside(run, ledger, clock=clock) as record:
        record.confirm()
        yield record


@contextmanager
def recorded_beside(run: Run, ledger: Ledger, *, clock: Clock) -> Iterator[Record]:
    """The same for a block that has something to read first: it begins at once, and calls `Record.confirm` before it writes."""
    with ThreadPoolExecutor(1) as beside:
        record = Record(run, beside.submit(ledger.begin, run))
        try:
            yield record
            record.confirm()
        except BaseException as error:
            if record.is_begun:
                _record_failure(record.run, error, ledger, clock=clock)
            raise
    record.run = replace(record.run, outcome=Outcome.SUCCEEDED, ended_at=from_micros(clock()))
    ledger.end(record.run)


def _record_failure(run: Run, error: BaseException, ledger: Ledger, *, clock: Clock) -> None:
    said = str(error) if isinstance(error, HindcastError) else f"stopped by {type(error).__name__}"
    try:
        ledger.end(replace(run, outcome=Outcome.FAILED, error=said, ended_at=from_micros(clock())))
    except LedgerError as unrecorded:
        error.add_note(f"and that could not be recorded: {unrecorded}")
