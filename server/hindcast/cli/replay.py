"""`hindcast replay`: was what we served the truth, and what would be served now?"""

import json
import sys
from pathlib import Path

import click

from hindcast.cli import options
from hindcast.cli.exits import Exit, told
from hindcast.clock import system_clock

_DIFFERS, _FAILED = Exit.FAILED, Exit.USAGE
"""Exit codes of this command, for CI, which are older than the table; those of a wrong usage and of an error are the same."""

_ROWS = 10


@click.command()
@click.argument("lookup", metavar="[ID]", required=False, callback=options.not_empty)
@options.repo
@options.log_directory
@click.option(
    "--server",
    metavar="HOST:PORT",
    help="Ask a running server as of now.  [default: the online store, by this process]",
)
@click.option("--then-only", is_flag=True, help="Do not ask as of now.")
@click.option("--service", metavar="NAME", help="Without ID: only lookups of this feature service.")
@options.since
@options.until
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Without ID: N lookups, drawn by their ids.  [default: all]"
)
@click.option(
    "--rows", "rows_max", type=click.IntRange(0), default=_ROWS, show_default=True, help="Shown as text; 0 is all."
)
@options.output
@click.pass_context
def replay(
    context: click.Context,
    lookup: str | None,
    repo_root: Path,
    log_directory: Path | None,
    server: str | None,
    then_only: bool,  # noqa: FBT001 - click passes a flag by its name
    service: str | None,
    since: int | None,
    until: int | None,
    sample: int | None,
    rows_max: int,
    output: str,
) -> None:
    """Ask a kept lookup's question again, and compare value by value.

    ID is a lookup id, or the request id of its caller. It is asked of the offline store as of the instant at which it was answered, by what was
    known then, and of the online store as of now. Without ID, with --service, --since or --until, many lookups are compared as of
    then, all by one offline read, and counted.

    Exit codes: 0 what was served is what the offline store says, 1 it differs, 2 nothing could be compared.
    """
    many = {"--service": service, "--since": since, "--until": until, "--sample": sample}
    given = [name for name, value in many.items() if value is not None]
    if lookup is not None and given:
        raise click.UsageError(f"{given[0]} chooses among many lookups, and ID is one; give one of the two")
    if lookup is None and not given:
        raise click.UsageError("give the ID of a lookup, or --service, --since, --until or --sample for many")
    if lookup is None and server is not None:
        raise click.UsageError("many lookups are compared as of then only; --server is for one")
    options.check_range(since, until)
    with told(failed=_FAILED):
        if lookup is None:
            is_equal = _prove(repo_root, log_directory, service, since, until, sample, output)
        else:
            is_equal = _replay(repo_root, log_directory, lookup, server, not then_only, rows_max, output)
    if not is_equal:
        context.exit(_DIFFERS)


def _replay(
    repo_root: Path,
    log_directory: Path | None,
    lookup: str,
    server: str | None,
    asks_now: bool,  # noqa: FBT001 - beside the others
    rows_max: int,
    output: str,
) -> bool:
    from hindcast.replay import replay as ask_again  # noqa: PLC0415 - duckdb and pyarrow, which few commands need
    from hindcast.replay.replay_json import replay_json  # noqa: PLC0415
    from hindcast.replay.replay_text import replay_text  # noqa: PLC0415

    found = ask_again(repo_root, lookup, log_directory=log_directory, server=server, asks_now=asks_now)
    if output == "json":
        click.echo(json.dumps(replay_json(found)))
    else:
        click.echo(replay_text(found, now_micros=system_clock(), rows_max=rows_max or None))
    return found.is_equal


def _prove(
    repo_root: Path,
    log_directory: Path | None,
    service: str | None,
    since: int | None,
    until: int | None,
    sample: int | None,
    output: str,
) -> bool:
    from hindcast.lookups.known_names import check_service  # noqa: PLC0415 - protobuf
    from hindcast.replay import prove  # noqa: PLC0415 - duckdb and pyarrow, which few commands need
    from hindcast.replay.replay_json import proof_json  # noqa: PLC0415
    from hindcast.replay.replay_text import proof_text  # noqa: PLC0415

    proof = prove(
        repo_root,
        log_directory=log_directory,
        service=service,
        since_micros=since,
        until_micros=until,
        sample=sample,
        progress=_progress_line,
    )
    if sys.stderr.isatty():
        click.echo(_CLEAR_LINE, nl=False, err=True)
    if not proof.lookups:
        if service:
            check_service(options.log_directory_in(repo_root, log_directory), service, repo_root=repo_root)
        of_service = "" if service is None else f" of {service!r}"
        click.echo(
            f"hindcast: nothing was compared: there are no such lookups{of_service}; `hindcast lookups ls` lists those that there are",
            err=True,
        )
        raise click.exceptions.Exit(_FAILED)
    click.echo(json.dumps(proof_json(proof)) if output == "json" else proof_text(proof))
    return proof.is_equal


def _progress_line(done: int, lookups: int) -> None:
    """One line on a terminal, written over itself; nothing elsewhere."""
    if sys.stderr.isatty():
        click.echo(f"{_CLEAR_LINE}{done:,} of {lookups:,} lookups", nl=False, err=True)


_CLEAR_LINE = "\r\x1b[K"
