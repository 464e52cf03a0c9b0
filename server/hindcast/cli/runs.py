"""`hindcast runs`: what the ledger says of materializations."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import MINYEAR, UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hindcast.catalog import read_repo
from hindcast.cli import options
from hindcast.clock import from_micros, system_clock
from hindcast.materialize.runs import Kind, Outcome, Run, Source

if TYPE_CHECKING:
    from hindcast.materialize.ledger import Ledger

_ID_CHARACTERS = 13
"""A run id's milliseconds: enough to tell runs apart that did not begin in the same one."""

_COLORS = {Outcome.SUCCEEDED: "green", Outcome.FAILED: "red", Outcome.INTERRUPTED: "yellow", Outcome.RUNNING: "cyan"}


@click.group()
def runs() -> None:
    """The run ledger: what was materialized, when, from what, and how it ended."""


@runs.command("ls")
@options.repo
@click.option("--view", metavar="NAME", help="Only this view's runs.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@options.output
def ls(repo_root: Path, view: str | None, limit: int, output: str) -> None:
    """List runs, the newest first. Times are UTC."""
    ledger = _ledger(repo_root)
    found = ledger.runs(view, limit=limit)
    if output == "json":
        click.echo(json.dumps([run_json(run) for run in found]))
    elif found:
        click.echo(_table(found))
    else:
        of_view = "" if view is None else f" of view {view!r}"
        click.echo(
            f"no runs{of_view} in {ledger.path}; `feast materialize` records them, with the engine hindcast.materialize.plugin.StreamingEngine"
        )


@runs.command("show")
@click.argument("run_id", callback=options.not_empty)
@options.repo
@options.output
def show(run_id: str, repo_root: Path, output: str) -> None:
    """Show all of one run. The beginning of its RUN_ID will do."""
    run = _ledger(repo_root).find(run_id)
    click.echo(json.dumps(run_json(run)) if output == "json" else _page(run))


def _ledger(repo_root: Path) -> "Ledger":
    repo = read_repo(repo_root)
    from hindcast.materialize.ledger import Ledger  # noqa: PLC0415 - deltalake, which few commands need

    return Ledger.of_repo(repo)


def run_json(run: Run) -> dict[str, Any]:
    """All fields of a run, times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(run).items()}


def _table(found: Sequence[Run]) -> str:
    """Words to the left, numbers to the right, two spaces between."""
    head = (
        "run",
        "view",
        "outcome",
        "began",
        "took",
        "written",
        "unchanged",
        "older",
        "skipped",
        "quarantined",
        "interval",
    )
    numbers = range(4, 10)
    rows = [head] + [
        (
            _short_id(run, found),
            run.view,
            run.outcome,
            _instant(run.began_at),
            _took(run),
            *(
                f"{count:,}"
                for count in (
                    run.rows_written,
                    run.rows_unchanged,
                    run.rows_older,
                    run.rows_null_key,
                    run.rows_quarantined,
                )
            ),
            _interval(run),
        )
        for run in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for run, row in zip((None, *found), rows, strict=True):
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        cells[2] = click.style(cells[2], bold=True) if run is None else click.style(cells[2], fg=_COLORS[run.outcome])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _short_id(run: Run, others: Sequence[Run]) -> str:
    """As much of the id as `show` needs, at least its time."""
    ids = sorted({other.run_id for other in others})
    shared = [_shared(left, right) + 1 for left, right in pairwise(ids) if run.run_id in {left, right}]
    return run.run_id[: max([_ID_CHARACTERS, *shared])]


def _shared(left: str, right: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))


def _page(run: Run) -> str:
    lines = [
        ("run", run.run_id),
        ("project", run.project),
        ("view", run.view),
        ("kind", run.kind),
        ("outcome", run.outcome),
        ("note", run.note),
        ("error", run.error),
        ("interval", _interval(run)),
        ("began", f"{_instant(run.began_at)} UTC"),
        ("ended", f"{_instant(run.ended_at)} UTC" if run.ended_at else ""),
        ("took", _took(run)),
        ("stages", ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in run.seconds.items())),
        ("rows read", f"{run.rows_read:,}"),
        ("rows written", f"{run.rows_written:,}"),
        ("rows unchanged", f"{run.rows_unchanged:,} (stored already, by an earlier writer)"),
        ("rows older", f"{run.rows_older:,} (the store has newer ones)"),
        ("rows skipped", f"{run.rows_null_key:,} (a key is null)"),
        ("rows quarantined", f"{run.rows_quarantined:,} (dated too far ahead)"),
        ("quarantine", run.quarantine),
        ("definitions", run.definitions),
        ("versions", f"hindcast {run.hindcast_version}, feast {run.feast_version}"),
        ("process", f"{run.process.process_id} on {run.process.host}"),
        *(("source", _source(source)) for source in run.sources),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines if value)


def _source(source: Source) -> str:
    if source.delta_version is not None:
        return f"{source.path}  version {source.delta_version}"
    known = f"sha256:{source.sha256}" if source.sha256 else f"tag {source.tag}"
    return f"{source.path}  {source.bytes:,} bytes  {known}"


def _interval(run: Run) -> str:
    """`2026-11-01 00:00 to 2026-11-02 00:00`; the kind of run before it, where it is not the usual one; `all up to …` without a beginning."""
    start, end = (_instant(end).removesuffix(":00") if end else "…" for end in (run.start, run.end))
    words = [] if run.kind is Kind.MATERIALIZE else [run.kind.value]
    if run.start is not None and run.start.year == MINYEAR:
        words.append(f"all up to {end}")
    elif run.start or run.end:
        words.append(f"{start} to {end}")
    return " ".join(words)


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _took(run: Run) -> str:
    if run.ended_at is not None:
        return _duration((run.ended_at - run.began_at).total_seconds())
    if run.outcome is not Outcome.RUNNING:
        return ""
    return f"{_duration((from_micros(system_clock()) - run.began_at).total_seconds())} so far"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
