"""`hindcast serve` and `hindcast dataset serve`: the two servers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hindcast.catalog import read_repo
from hindcast.cli import options
from hindcast.cli.dataset_options import directory
from hindcast.settings import (
    LogMode,
    ServeSettings,
    StaleValues,
    TlsFiles,
    TrainingSetsSettings,
    WorkerOptions,
    split_address,
)


def _checked_address(_context: click.Context, _parameter: click.Parameter, address: str | None) -> str | None:
    try:
        if address is not None:
            split_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return address


def _address(port: int) -> Callable[..., Any]:
    return click.option(
        "--address",
        default=f"127.0.0.1:{port}",
        show_default=True,
        callback=_checked_address,
        help="HOST:PORT; port 0 takes a free one.",
    )


_pem = click.Path(path_type=Path, exists=True, dir_okay=False)
_tls = options.together(
    click.option("--tls-cert", type=_pem, help="PEM certificate; needs --tls-key."),
    click.option("--tls-key", type=_pem, help="PEM private key."),
    click.option("--tls-client-ca", type=_pem, help="Callers must show a certificate."),
)


def _tls_files(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """What the options of `_tls` say; None for no TLS.

    Raises:
        click.UsageError: one is missing.
    """
    if (certificate is None) != (key is None) or (client_ca and not certificate):
        raise click.UsageError("TLS needs --tls-cert and --tls-key together; --tls-client-ca comes on top of them")
    return TlsFiles(certificate=certificate, key=key, client_ca=client_ca) if certificate and key else None


def _service_modes(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, LogMode]:
    """SERVICE=MODE each; a service's name may hold `=` itself."""
    modes = {}
    for one in given:
        service, _, mode = one.rpartition("=")
        if not service or mode not in set(LogMode):
            raise click.BadParameter(f"{one!r} is not SERVICE=MODE; a mode is one of {', '.join(LogMode)}")
        modes[service] = LogMode(mode)
    return modes


@click.command()
@options.repo
@_address(50051)
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
    callback=_checked_address,
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
    callback=_checked_address,
    help="HOST:PORT where training sets are built and read, by a process of its own; none when not given.",
)
@_tls
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
            tls=_tls_files(tls_cert, tls_key, tls_client_ca),
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


@click.command("serve")
@options.repo
@directory
@_address(50052)
@click.option(
    "--entities-dir",
    "entity_directories",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Callers may name files in this directory as entity frames, beside the repo's file sources. As often as needed.",
)
@click.option(
    "--waiting-max",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Builds that wait for the one that runs; more are refused.",
)
@click.option(
    "--frame-max-mb",
    type=click.IntRange(1, 2**20),
    default=8_192,
    show_default=True,
    help="Of an entity frame that a caller sends, or whose SQL answers it, in MiB.",
)
@click.option(
    "--patience-seconds",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="For a caller to send the next piece of a frame, or to take the next of a set.",
)
@click.option(
    "--timeout-seconds",
    type=options.Seconds(1),
    default=3_600.0,
    show_default=True,
    help="For calls that bring none.",
)
@_tls
def serve_sets(
    repo_root: Path,
    directory: Path | None,
    address: str,
    entity_directories: tuple[Path, ...],
    waiting_max: int,
    frame_max_mb: int,
    patience_seconds: float,
    timeout_seconds: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> None:
    """Serve training sets over gRPC, for people without access to the sources, until Ctrl-C or SIGTERM, which give up what is built."""
    from hindcast.datasets_server.process import end, run  # noqa: PLC0415 - pyarrow and gRPC

    settings = TrainingSetsSettings(
        repo_root=read_repo(repo_root).root,
        address=address,
        directory=directory.resolve() if directory else None,
        entity_directories=tuple(one.resolve() for one in entity_directories),
        tls=_tls_files(tls_cert, tls_key, tls_client_ca),
        call_timeout_seconds=timeout_seconds,
        waiting_max=waiting_max,
        frame_max_bytes=frame_max_mb * 2**20,
        patience_seconds=patience_seconds,
    )
    run(settings, say=click.echo)
    end(0)
