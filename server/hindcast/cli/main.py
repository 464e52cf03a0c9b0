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
from hindcast.online.connection import Topology
from hindcast.online.embedded import EmbeddedRedis
from hindcast.settings import LogMode, ServeSettings, StaleValues, WorkerOptions


def _service_modes(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, LogMode]:
    """SERVICE=MODE each; a service's name may hold `=` itself."""
    modes = {}
    for one in given:
        service, _, mode = one.rpartition("=")
        if not service or mode not in set(LogMode):
            raise click.BadParameter(f"{one!r} is not SERVICE=MODE; a mode is one of {', '.join(LogMode)}")
        modes[service] = LogMode(mode)
    return modes


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hindcast")
def cli() -> None:
    """Feast, with receipts: serve a Feast repo's features over gRPC."""


@cli.command()
@options.repo
@click.option(
    "--address",
    default="127.0.0.1:50051",
    show_default=True,
    callback=options.checked_address,
    help="HOST:PORT; port 0 takes a free one.",
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes on the port.")
@click.option(
    "--timeout-ms",
    type=click.IntRange(1, 86_400_000),
    default=5000,
    show_default=True,
    help="For calls that bring none.",
)
@click.option(
    "--max-connection-age-seconds",
    type=options.Seconds(0.1, 86_400),
    default=15.0,
    show_default=True,
    help="Callers connect anew after about this long; a stop waits for it.",
)
@click.option(
    "--drain-seconds",
    type=options.Seconds(),
    default=10.0,
    show_default=True,
    help="For calls that still run after that.",
)
@click.option(
    "--in-flight-max-values",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="Work that a worker takes on at once, in values (a call counts as 2,000 besides); more is refused.",
)
@click.option(
    "--queue-max-ms",
    type=click.IntRange(1, 86_400_000),
    default=250,
    show_default=True,
    help="While a worker is this late with its work, calls are refused.",
)
@click.option(
    "--stale-values",
    type=click.Choice([choice.value for choice in StaleValues]),
    default=StaleValues.BY_DIALECT.value,
    show_default=True,
    help="Past a view's TTL: keep the value or answer null, flagged either way; dialect is null on hindcast.v1 and the "
    "value on Feast's services.",
)
@click.option(
    "--metrics-address",
    callback=options.checked_address,
    help="HOST:PORT of Prometheus metrics, at /metrics; none when not given.",
)
@click.option(
    "--otel", is_flag=True, help="Send OpenTelemetry traces, as the OTEL_* variables say; needs the otel extra."
)
@click.option(
    "--log-mode",
    type=click.Choice([mode.value for mode in LogMode]),
    default=LogMode.BATCHED.value,
    show_default=True,
    help="What is done with a lookup's record before its answer leaves: synced, written, queued, or nothing kept.",
)
@click.option(
    "--log-mode-for",
    "log_modes",
    callback=_service_modes,
    multiple=True,
    metavar="SERVICE=MODE",
    help="The mode of one feature service; may be repeated.",
)
@click.option(
    "--log-dir",
    "log_directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="For the records.  [default: lookups in the state directory, .hindcast in the repo]",
)
@click.option(
    "--seal-seconds",
    type=options.Seconds(0, 86_400),
    default=60.0,
    show_default=True,
    help="How often closed segments of records go into tables, by a process of its own; 0 is never.",
)
@click.option(
    "--keep-days",
    type=click.IntRange(1, options.DAYS_MAX),
    help="Days that sealed lookups stay besides today; all if not given.",
)
@click.option(
    "--training-sets-address",
    callback=options.checked_address,
    help="HOST:PORT where training sets are built and read, by a process of its own; none when not given.",
)
@options.tls
def serve(
    repo_root: Path,
    address: str,
    workers: int,
    timeout_ms: int,
    max_connection_age_seconds: float,
    drain_seconds: float,
    in_flight_max_values: int,
    queue_max_ms: int,
    stale_values: str,
    metrics_address: str | None,
    otel: bool,  # noqa: FBT001 - a flag of the command line
    log_mode: str,
    log_modes: dict[str, LogMode],
    log_directory: Path | None,
    seal_seconds: float,
    keep_days: int | None,
    training_sets_address: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> None:
    """Serve the repo's features over gRPC, until Ctrl-C or SIGTERM; a second one does not wait for callers.

    SIGHUP replaces the workers one by one, without a failed call.
    """
    from hindcast.serving import run  # noqa: PLC0415 - gRPC, which no other command needs

    settings = ServeSettings(
        repo_root=repo_root,
        address=address,
        workers=workers,
        metrics_address=metrics_address,
        log_directory=log_directory.resolve() if log_directory else None,
        seal_seconds=seal_seconds,
        keep_days=keep_days,
        training_sets_address=training_sets_address,
        worker=WorkerOptions(
            tls=options.tls_files(tls_cert, tls_key, tls_client_ca),
            call_timeout_ms=timeout_ms,
            max_connection_age_seconds=max_connection_age_seconds,
            drain_seconds=drain_seconds,
            in_flight_max_values=in_flight_max_values,
            queue_max_ms=queue_max_ms,
            stale_values=StaleValues(stale_values),
            traces=otel,
            log_mode=LogMode(log_mode),
            log_modes=log_modes,
        ),
    )
    run(settings, say=click.echo)


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
