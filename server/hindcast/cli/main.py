"""`hindcast`: one command per thing that a user does.

Exit codes: 0 done, 1 it failed, 2 bad usage.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

try:
    import click
except ImportError:
    sys.exit("the hindcast command needs the server extra: pip install 'hindcast[server]'")

from hindcast.catalog import read_repo
from hindcast.errors import HindcastError, RepoError
from hindcast.online.embedded import EmbeddedRedis
from hindcast.settings import ServeSettings, StaleValues, TlsFiles, split_address


class _Group(click.Group):
    """Turns an error of the tree into one line and an exit code, instead of a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HindcastError as error:
            click.echo(f"hindcast: {error}", err=True)
            context.exit(2 if isinstance(error, RepoError) else 1)


def _checked_address(_context: click.Context, _parameter: click.Parameter, address: str) -> str:
    try:
        split_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return address


_pem = click.Path(path_type=Path, exists=True, dir_okay=False)
_repo = click.option(
    "--repo",
    "repo_root",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="this directory",
    help="The Feast repo: the directory that holds feature_store.yaml.",
)
_output = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json is for machines."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hindcast")
def cli() -> None:
    """Feast, with receipts: serve a Feast repo's features over gRPC."""


@cli.command()
@_repo
@click.option(
    "--address",
    default="127.0.0.1:50051",
    show_default=True,
    callback=_checked_address,
    help="HOST:PORT; port 0 takes a free one.",
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes on the port.")
@click.option(
    "--timeout-ms", type=click.IntRange(1), default=5000, show_default=True, help="For calls that bring none."
)
@click.option("--drain-seconds", type=click.FloatRange(0), default=10.0, show_default=True, help="For calls at a stop.")
@click.option(
    "--stale-values",
    type=click.Choice([choice.value for choice in StaleValues]),
    default=StaleValues.BY_DIALECT.value,
    show_default=True,
    help="Past a view's TTL: keep the value or answer null, flagged either way; dialect is null on hindcast.v1 and the "
    "value on Feast's services.",
)
@click.option("--tls-cert", type=_pem, help="PEM certificate; needs --tls-key.")
@click.option("--tls-key", type=_pem, help="PEM private key.")
@click.option("--tls-client-ca", type=_pem, help="Callers must show a certificate.")
def serve(
    repo_root: Path,
    address: str,
    workers: int,
    timeout_ms: int,
    drain_seconds: float,
    stale_values: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> None:
    """Serve the repo's features over gRPC, until Ctrl-C or SIGTERM."""
    from hindcast.serving import run  # noqa: PLC0415 - gRPC and protobuf, which no other command needs

    if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
        raise click.UsageError("TLS needs --tls-cert and --tls-key together; --tls-client-ca comes on top of them")
    tls = TlsFiles(certificate=tls_cert, key=tls_key, client_ca=tls_client_ca) if tls_cert and tls_key else None
    settings = ServeSettings(
        repo_root=repo_root,
        address=address,
        workers=workers,
        tls=tls,
        call_timeout_ms=timeout_ms,
        drain_seconds=drain_seconds,
        stale_values=StaleValues(stale_values),
    )
    run(settings, say=click.echo)


@cli.group()
def redis() -> None:
    """The embedded Redis of a repo (`connection_string: embedded`)."""


@redis.command()
@_repo
def start(repo_root: Path) -> None:
    """Start it unless it runs, and print its socket."""
    click.echo(_embedded(repo_root).ensure_running())


@redis.command()
@_repo
def stop(repo_root: Path) -> None:
    """End it after it has written its data."""
    click.echo("stopped" if _embedded(repo_root).stop() else "it was not running")


@redis.command()
@_repo
@_output
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


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    cli()
