"""`hindcast lookups seal`, `sql` and `erase`: what becomes of lookups once their segments are closed."""

import base64
import csv
import io
import json
import math
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hindcast.cli import options
from hindcast.cli.exits import Exit

if TYPE_CHECKING:
    from hindcast.errors import SealError
    from hindcast.lookups.erase import Erased
    from hindcast.lookups.sealer import Sealing
    from hindcast.lookups.sql import Answer

_CELL_MAX = 60


def add_commands(group: click.Group) -> None:
    """Add the commands of this module to a group."""
    for command in (seal, sql, erase):
        group.add_command(command)


@click.command()
@options.repo
@options.log_directory
@click.option(
    "--follow",
    "seconds",
    type=options.Seconds(0.1),
    metavar="SECONDS",
    help="Go on until Ctrl-C, every so many seconds.",
)
@click.option(
    "--keep-days",
    type=click.IntRange(1, options.DAYS_MAX),
    help="Drop sealed lookups older than so many days before today.",
)
@options.output
def seal(
    repo_root: Path, log_directory: Path | None, seconds: float | None, keep_days: int | None, output: str
) -> None:
    """Put the closed segments of the log into tables, and remove them.

    A running server does so by itself (`hindcast serve --seal-seconds`); several may take turns. Segments of writers that died are
    recovered first. Tables with many small files are compacted.
    """
    directory = options.log_directory_in(repo_root, log_directory)

    def say(done: "Sealing") -> None:
        click.echo(json.dumps(asdict(done)) if output == "json" else _sealing_text(done))

    if seconds is None:
        from hindcast.lookups.sealer import Sealer  # noqa: PLC0415 - pyarrow and deltalake

        say(Sealer(directory, repo_root=repo_root.resolve(), keep_days=keep_days).seal())
        return
    from hindcast.lookups.seal_settings import SealSettings  # noqa: PLC0415
    from hindcast.lookups.sealing_process import follow  # noqa: PLC0415

    settings = SealSettings(
        log_directory=str(directory.resolve()), repo_root=str(repo_root.resolve()), seconds=seconds, keep_days=keep_days
    )
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    follow(settings, stopping=stopping, done=say, failed=_say_failure)


def _say_failure(error: "SealError") -> None:
    click.echo(f"hindcast: {error}; it is tried again", err=True)


def _sealing_text(done: "Sealing") -> str:
    lines = [f"sealed: segments {done.segments:,}, lookups {done.records:,}, entity rows {done.entity_rows:,}"]
    return "\n".join([*lines, *(f"left: {left}" for left in done.left)])


@click.command()
@click.argument("query", metavar="QUERY")
@options.repo
@options.log_directory
@click.option(
    "--output",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="json and csv are for machines.",
)
def sql(query: str, repo_root: Path, log_directory: Path | None, output: str) -> None:
    """Run one SELECT of DuckDB over all lookups, sealed or not. Times are UTC.

    The view `lookups` has a row per lookup: lookup_id, request_id, served_at, service, status, entity_rows, catalog_version, tags and
    more. Each feature service has a view under its name, a row per entity row, with lookup_id; `ad_hoc` has a row per value of lists of
    references. docs/operations.md has them all. Nothing else can be read, and nothing changed.
    """
    from hindcast.lookups.sql import query as run_query  # noqa: PLC0415 - duckdb, pyarrow and deltalake

    answer = run_query(options.log_directory_in(repo_root, log_directory), query, repo_root=repo_root.resolve())
    formats: dict[str, Callable[[Answer], str]] = {"json": _as_json, "csv": _as_csv, "text": _as_text}
    click.echo(formats[output](answer), nl=output != "csv")


def _as_json(answer: "Answer") -> str:
    rows = [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]
    return json.dumps(rows, ensure_ascii=False)


def _as_csv(answer: "Answer") -> str:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(["" if value is None else _word(value) for value in row] for row in answer.rows)
    return content.getvalue()


def _as_text(answer: "Answer") -> str:
    """Words to the left, numbers to the right, two spaces between."""
    numbers = [
        all(isinstance(row[at], int | float | Decimal) or row[at] is None for row in answer.rows)
        for at in range(len(answer.columns))
    ]
    shown = [[_shortened(value) for value in row] for row in answer.rows]
    widths = [max(map(len, column)) for column in zip(answer.columns, *shown, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in [answer.columns, *shown]
    ]
    return "\n".join([*lines, f"({len(answer.rows):,} rows)"])


def _shortened(value: object) -> str:
    text = "-" if value is None else _word(value).replace("\n", "\\n")
    return text if len(text) <= _CELL_MAX else f"{text[: _CELL_MAX - 1]}…"


def _word(value: object) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it: instants in ISO 8601, bytes in base64, NaN and the infinities as text, as in receipts."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(map(_plain, value))
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class _Entity(click.ParamType[tuple[str, str]]):
    """KEY=VALUE; a value may hold `=` itself."""

    name = "key=value"

    def convert(
        self, value: Any, _parameter: click.Parameter | None, _context: click.Context | None
    ) -> tuple[str, str]:
        key, equals, content = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE")
        return key, content


@click.command()
@options.repo
@options.log_directory
@click.option(
    "--entity",
    type=_Entity(),
    required=True,
    help="A join key, or the name of its entity, and the value for the person.",
)
@click.option(
    "--wait-seconds",
    type=options.Seconds(),
    default=90.0,
    show_default=True,
    help="For workers to close the segments that they write to; they do so within a second when they are asked.",
)
@click.option(
    "--drop-damaged",
    is_flag=True,
    help="Delete segments in damaged/ of which some cannot be read, since nobody can tell whose that is.",
)
@options.output
@click.pass_context
def erase(
    context: click.Context,
    repo_root: Path,
    log_directory: Path | None,
    entity: tuple[str, str],
    wait_seconds: float,
    drop_damaged: bool,  # noqa: FBT001 - click passes it by name
    output: str,
) -> None:
    """Erase a person: all rows that were asked for with a value of a join key, from tables, segments and records.

    What other people were answered stays, and the receipt of a lookup that asked for several says which rows are gone. A tombstone with
    counts is left, without the value. Exit codes: 0 done, 3 done, and there is something that cannot be searched, 1 it failed.
    """
    from hindcast.lookups.erase import erase as run_erase  # noqa: PLC0415 - pyarrow and deltalake

    key, value = entity
    directory = options.log_directory_in(repo_root, log_directory)
    erased = run_erase(
        directory,
        key=key,
        value=value,
        repo_root=repo_root.resolve(),
        wait_seconds=wait_seconds,
        drops_damaged=drop_damaged,
    )
    click.echo(_erased_json(erased) if output == "json" else _erased_text(erased))
    if erased.left:
        context.exit(Exit.DIFFERS)


def _erased_json(erased: "Erased") -> str:
    return json.dumps(
        {
            "lookups": erased.lookups,
            "entity_rows": erased.entity_rows,
            "left": erased.left,
            "dropped": erased.dropped,
            "tombstone": str(erased.tombstone) if erased.tombstone else None,
        }
    )


def _erased_text(erased: "Erased") -> str:
    lines = [f"erased: {erased.entity_rows:,} rows, of {erased.lookups:,} lookups"]
    lines += [f"deleted: {dropped}" for dropped in erased.dropped]
    lines += [f"tombstone: {erased.tombstone}"] if erased.tombstone else []
    return "\n".join([*lines, *(f"not searched: {left}" for left in erased.left)])
