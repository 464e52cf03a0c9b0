"""Runs for tests of the ledger."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hindcast.clock import from_micros, system_clock, uuid7_text
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Outcome, Run

PROJECT = "tiny"


def new_run(view: str = "driver", **fields: object) -> Run:
    """A run that begins now and covers the last day."""
    now = from_micros(system_clock())
    run = Run(
        run_id=uuid7_text(system_clock()),
        project=PROJECT,
        view=view,
        start=now - timedelta(days=1),
        end=now,
        began_at=now,
        definitions="sha256:0",
    )
    return replace(run, **fields)


def ended(run: Run, outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Run:
    """The same run at its end, after two seconds and a half."""
    return replace(run, outcome=outcome, ended_at=run.began_at + timedelta(seconds=2.5), **fields)


def record(ledger: Ledger, run: Run, outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Run:
    """Begin and end a run; the run as it ended."""
    ledger.begin(run)
    done = ended(run, outcome, **fields)
    ledger.end(done)
    return done


def at(day: int, hour: int = 0) -> datetime:
    """An instant of November 2026."""
    return datetime(2026, 11, day, hour, tzinfo=UTC)
