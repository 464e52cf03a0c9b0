"""What is checked before a worker starts, at the start of a server and again before its workers are replaced."""

import contextlib
import errno
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from hindcast.catalog import Repo
from hindcast.durable import make_directory, sync
from hindcast.errors import RepoError, ServerStartError, StoreUnavailable
from hindcast.offline.location import OUR_STORE
from hindcast.online.connection import REDIS_ERRORS, RedisTarget
from hindcast.online.layouts import LayoutName
from hindcast.online.store import target_of
from hindcast.settings import TlsFiles, split_address

_RESERVE_SECONDS = 2.0


def find_redis(repo: Repo, layout: LayoutName) -> RedisTarget:
    """Where the repo's rows are, in a Redis that answers. Starts the embedded one.

    Raises:
        RepoError: the connection string or redis_type cannot be understood.
        StoreUnavailable: it does not answer.
    """
    target = target_of(repo, layout)
    _check_redis(target)
    return target


def _check_redis(target: RedisTarget) -> None:
    try:
        # One try: whoever starts a server wants to hear now, and redis-py would try for up to 15 s.
        once = replace(target, options={**target.options, "retry": Retry(NoBackoff(), 0)})
        with contextlib.closing(once.client()) as client:
            client.ping()
    except (AuthenticationError, NoPermissionError) as error:
        raise StoreUnavailable(
            f"Redis at {target} refuses the login; check username and password in online_store.connection_string, and "
            "that this user may PING and MGET"
        ) from error
    except REDIS_ERRORS as error:
        raise StoreUnavailable(
            f"Redis at {target} does not answer. Start it, or change online_store.connection_string in feature_store.yaml "
            "(`embedded` starts one for this repo)"
        ) from error


def check_store(repo: Repo) -> None:
    """See that training sets can be built of a repo.

    Raises:
        RepoError: its offline store is another one.
    """
    kind = repo.offline_store.get("type")
    if kind != OUR_STORE:
        raise RepoError(
            f"the repo's offline_store.type is {kind!r}, and training sets are read by {OUR_STORE}; change it in feature_store.yaml"
        )


def check_tls(tls: TlsFiles) -> None:
    """Read the files as a worker will, which could only die of wrong ones, in words of gRPC's.

    Raises:
        ServerStartError: one is missing, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except OSError as error:
        raise ServerStartError(
            f"{tls.certificate} and {tls.key} are not a PEM certificate and its PEM key without a passphrase; "
            "check --tls-cert and --tls-key"
        ) from error
    try:
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except OSError as error:
        raise ServerStartError(f"{tls.client_ca} holds no PEM certificate; check --tls-client-ca") from error


def check_log_directory(directory: Path) -> None:
    """Make the directory for lookups' records, and see that files can be written and synced there.

    Raises:
        ServerStartError: they cannot.
    """
    try:
        make_directory(directory)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".probe-") as probe:
            probe.write(b"hindcast")
            probe.flush()
            sync(Path(probe.name))
    except OSError as error:
        raise ServerStartError(
            f"lookups cannot be logged in {directory} ({error.strerror}: {error.filename}). Give --log-dir a directory that this user can write, "
            "with room on its disk; --log-mode off logs none"
        ) from error


@contextlib.contextmanager
def reserved(address: str) -> Iterator[str]:
    """Hold HOST:PORT for the workers, who share it by SO_REUSEPORT; port 0 becomes a free one.

    A bound socket that does not listen receives no connection. Another server is looked for without SO_REUSEPORT first,
    because with it a second Hindcast would silently take half of the calls.

    Raises:
        ServerStartError: it is no address, it is in use, or it is not ours to listen on.
    """
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ServerStartError(str(error)) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:
        try:
            with _one_at_a_time(port):
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
                reservation = held.enter_context(socket.socket(family))
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                reservation.bind((host, port))
        except OSError as error:
            raise ServerStartError(why_not_listened(address, error)) from error
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        yield f"{shown}:{reservation.getsockname()[1]}"


def why_not_listened(address: str, error: OSError) -> str:
    """What is wrong with an address that could not be bound, and what to do."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        why = "it is not of this machine; `ip address` lists those that are"
    elif error.errno == errno.EADDRINUSE:
        why = "it is in use; stop who listens there (`ss -ltnp` names the process), or take another port"
    elif error.errno in {errno.EACCES, errno.EPERM}:
        why = "this user may not; take a port from 1024 on"
    else:
        why = str(error.strerror)
    return f"{address} cannot be listened on: {why}"


@contextlib.contextmanager
def _one_at_a_time(port: int) -> Iterator[None]:
    """Keep two servers that start at once from both looking before either has reserved.

    An abstract Unix socket is bound by one process at a time, belongs to the network namespace as the port does, and
    leaves no file behind.
    """
    deadline = time.monotonic() + _RESERVE_SECONDS
    with socket.socket(socket.AF_UNIX) as turn:
        while True:
            try:
                turn.bind(f"\0hindcast-serve-{port}")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.005)
        yield
