"""`hindcast`: one command per thing that a user does.

`exits` has the exit codes.
"""

import json
import logging
import sys
from pathlib import Path

try:
    import click
except ImportError:
    sys.exit("the hindcast command needs the server extra: pip install 'hindcast[server]'")

from hindcast.catalog import read_repo
from hindcast.catalog.unchecked import leave_out_checks
from hindcast.cli import options
from hindcast.cli.dataset import dataset
from hindcast.cli.exits import Exit, Group
from hindcast.cli.lookups import lookups, receipt
from hindcast.cli.materialize import generations, materialize
from hindcast.cli.replay import replay
from hindcast.cli.runs import runs
from hindcast.cli.serve import serve
from hindcast.online.connection import Topology
from hindcast.online.embedded import EmbeddedRedis


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hindcast")
def cli() -> None:
    """Feast, with receipts: serve a Feast repo's features over gRPC."""


_topology = click.Choice(list(Topology))


@cli.command()
@options.repo
@click.option(
    "--from",
    "source",
    envvar="HINDCAST_MIGRATE_FROM",
    show_envvar=True,
    metavar="CONNECTION",
    help="The Redis with Feast's rows: HOST:PORT[,db=0][,password=…], or `embedded`.  [default: the repo's own]",
)
@click.option(
    "--to",
    "target",
    envvar="HINDCAST_MIGRATE_TO",
    show_envvar=True,
    metavar="CONNECTION",
    help="The Redis for packed rows; it may be the same.  [default: the repo's own]",
)
@click.option("--from-type", "source_type", type=_topology, help="[default: the repo's redis_type]")
@click.option("--to-type", "target_type", type=_topology, help="[default: the repo's redis_type]")
@click.option("--view", "views", multiple=True, metavar="NAME", help="Only this view; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would be copied.")
@click.option("--verify-only", is_flag=True, help="Write nothing; prove again.")
@click.option(
    "--future-seconds",
    type=click.IntRange(0, int(options.SECONDS_MAX)),
    help="Leave out rows dated further ahead than this.  [default: the repo's future_seconds, or 300]",
)
@options.output
@click.pass_context
def migrate(
    context: click.Context,
    repo_root: Path,
    source: str | None,
    target: str | None,
    source_type: str | None,
    target_type: str | None,
    views: tuple[str, ...],
    dry_run: bool,  # noqa: FBT001 - click passes a flag by its name
    verify_only: bool,  # noqa: FBT001
    future_seconds: int | None,
    output: str,
) -> None:
    """Copy the rows of Feast's own Redis store into packed rows, and prove them equal.

    Feast's rows are only read, packed rows have keys of their own, and newest wins: run it while both are served and
    written, and as often as you like. The way, with the lines to change: docs/migration.md.

    Exit codes: 0 every row is proven equal (or newer in the target), 3 some are not, 1 it failed, 2 bad usage.
    """
    from hindcast.online.migration import MigrationSettings, migrate  # noqa: PLC0415 - it reads all of a Redis, which others do not
    from hindcast.online.migration_report import Mode  # noqa: PLC0415

    if dry_run and verify_only:
        raise click.UsageError("--dry-run says what would be copied, --verify-only compares what was: take one of them")
    settings = MigrationSettings(
        repo_root=repo_root,
        source=source,
        target=target,
        source_type=source_type,
        target_type=target_type,
        views=views,
        mode=Mode.DRY_RUN if dry_run else Mode.VERIFY_ONLY if verify_only else Mode.MIGRATE,
        future_seconds=future_seconds,
    )
    report = migrate(settings, progress=_progress_line)
    if sys.stderr.isatty():
        click.echo(_CLEAR_LINE, nl=False, err=True)
    click.echo(json.dumps(report.to_dict()) if output == "json" else report.to_text())
    if not report.equal:
        context.exit(Exit.DIFFERS)


def _progress_line(phase: str, share: float, rows: int) -> None:
    """One line on a terminal, written over itself; nothing elsewhere."""
    if sys.stderr.isatty():
        click.echo(f"{_CLEAR_LINE}{phase}: {share:.0%}, {rows:,} rows", nl=False, err=True)


_CLEAR_LINE = "\r\x1b[K"


@cli.group()
def redis() -> None:
    """The embedded Redis of a repo (`connection_string: embedded`)."""


@redis.command()
@options.repo
@options.output
def start(repo_root: Path, output: str) -> None:
    """Start it unless it runs, and print its socket."""
    socket = _embedded(repo_root).ensure_running()
    click.echo(json.dumps({"socket": str(socket)}) if output == "json" else socket)


@redis.command()
@options.repo
@options.output
def stop(repo_root: Path, output: str) -> None:
    """End it after it has written its data."""
    has_run = _embedded(repo_root).stop()
    text = "stopped" if has_run else "it was not running"
    click.echo(json.dumps({"stopped": has_run}) if output == "json" else text)


@redis.command()
@options.repo
@options.output
def status(repo_root: Path, output: str) -> None:
    """Say whether it runs."""
    embedded = _embedded(repo_root)
    process_id = embedded.process_id()
    if output == "json":
        click.echo(json.dumps({"process_id": process_id, "socket": str(embedded.socket)}))
    else:
        click.echo(f"process {process_id} on {embedded.socket}" if process_id else "it is not running")


def _embedded(repo_root: Path) -> EmbeddedRedis:
    return EmbeddedRedis.of_repo(read_repo(repo_root).root)


cli.add_command(serve)
cli.add_command(lookups)
cli.add_command(runs)
cli.add_command(materialize)
cli.add_command(generations)
cli.add_command(receipt)
cli.add_command(replay)
cli.add_command(dataset)


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    leave_out_checks()
    # Feast says each time that it reads the registry.
    logging.getLogger("feast").setLevel(logging.WARNING)
    cli()
