"""What the run ledger says of a row that the online store did not have: whether a run should have brought it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hindcast.catalog import Repo
from hindcast.clock import from_micros, to_micros
from hindcast.errors import LedgerError, StoredDataError
from hindcast.lookups.catalogs import kept_catalog
from hindcast.materialize.runs import Kind, Outcome, Run
from hindcast.replay.offline import RowAt
from hindcast.replay.result import Reason, Verdict

_RUN_CHARACTERS = 13
"""As `hindcast runs ls` shows them."""


_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


class History:
    """The runs of a repo, read when they are first asked for.

    Attributes:
        notes: why they cannot be read; empty if they can, or were not asked for.
    """

    def __init__(self, repo: Repo, log_directory: Path) -> None:
        """Args: log_directory keeps the definitions that runs name."""
        self.notes: dict[str, None] = {}
        self._repo = repo
        self._log_directory = log_directory
        self._runs: dict[str, Mapping[str, Run]] = {}

    def run(self, view: str, run_id: str) -> Run | None:
        """A materialization of a view; None if it is none on record, as a push is."""
        return self._of(view).get(run_id)

    def lacked(self, run: Run, view: str, feature: str) -> bool:
        """Whether a view did not have a feature when a run wrote its rows, as far as the definitions of that time are kept."""
        try:
            catalog = kept_catalog(self._log_directory, run.definitions)
        except StoredDataError:
            return False
        known = None if catalog is None else catalog.views.get(view)
        return known is not None and feature not in {field.name for field in known.fields}

    def why_absent(self, view: str, row: RowAt, *, served_event_micros: int | None, served_at_micros: int) -> Verdict:
        """Why the online store did not have a row of the offline store when it answered with an older one, or with none.

        Args:
            served_event_micros: of the older one; None for none.
        """
        served_at = from_micros(served_at_micros)
        ended = [run for run in self._of(view).values() if _brought_rows(run, by=served_at)]
        event = _datetime(row.event_micros)
        covering = [
            run for run in ended if (run.start is None or run.start <= event) and (run.end is None or event <= run.end)
        ]
        if not covering:
            ends = [run.end for run in ended if run.end is not None]
            told = f"runs had read up to {_text(max(ends))}" if ends else "no run had ended by then"
            return Verdict(Reason.NOT_YET_MATERIALIZED, told)
        last = max(covering, key=lambda run: run.began_at)
        name = last.run_id[:_RUN_CHARACTERS]
        if row.created_micros is None:
            return Verdict(Reason.LATE_ROW, f"run {name} had read its time; the source does not say when it came")
        if row.created_micros > to_micros(last.began_at):
            known = _text(_datetime(row.created_micros))
            return Verdict(Reason.LATE_ROW, f"known at {known}, after run {name} had read its time")
        if served_event_micros is None:
            return Verdict(Reason.ROW_ERASED, f"run {name} had read it, and it was not online any more")
        return Verdict(
            Reason.LATE_ROW, f"run {name} had read its time without it; it came to the source later than it says"
        )

    def _of(self, view: str) -> Mapping[str, Run]:
        name = view.partition("@")[0]
        if name not in self._runs:
            from hindcast.materialize.ledger import Ledger  # noqa: PLC0415 - deltalake, for what differs only

            try:
                self._runs[name] = {run.run_id: run for run in Ledger.of_repo(self._repo).runs(name)}
            except LedgerError as error:
                self.notes[f"the run ledger cannot be read, so reasons are told without it ({error})"] = None
                self._runs[name] = {}
        return self._runs[name]


def _brought_rows(run: Run, *, by: datetime) -> bool:
    return (
        run.kind is not Kind.ROLLBACK
        and run.outcome is Outcome.SUCCEEDED
        and run.ended_at is not None
        and run.ended_at <= by
    )


def _datetime(micros: int) -> datetime:
    """The instant; the nearest of Python's years."""
    try:
        return from_micros(micros)
    except OverflowError:
        return _FIRST if micros < 0 else _LAST


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")
