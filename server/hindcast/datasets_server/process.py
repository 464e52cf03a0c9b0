"""The server of training sets: run by `hindcast dataset serve`, or as `python -m hindcast.datasets_server.process` beside the workers of
`hindcast serve`, whose supervisor hands it a `TrainingSetsSettings` on standard input and ends it by SIGTERM, or by dying.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import grpc
import uvloop

from hindcast.catalog import CONFIG_NAME, read_repo
from hindcast.catalog.unchecked import leave_out_checks
from hindcast.datasets.sets import sets_directory
from hindcast.datasets_server.handlers import TRAINING_SETS, Handlers
from hindcast.durable import make_directory
from hindcast.errors import DatasetError, HindcastError
from hindcast.serving.beside import beside
from hindcast.serving.credentials import credentials
from hindcast.serving.drain import Stop
from hindcast.serving.health import Health
from hindcast.serving.metrics import Metrics
from hindcast.serving.preflight import check_store, check_tls, reserved
from hindcast.serving.reflection import add_reflection
from hindcast.serving.rpcs import generic_handler
from hindcast.serving.tracing import Traces
from hindcast.settings import TrainingSetsSettings

logger = logging.getLogger(__name__)

_NICENESS = 10
"""Callers wait for the workers beside it, and not for this."""

_OPTIONS = (
    ("grpc.so_reuseport", 1),
    # Pieces of frames are 4 MiB at most, and their messages a little more.
    ("grpc.max_receive_message_length", 8 * 2**20),
    ("grpc.max_send_message_length", -1),
    # A caller looks by pings whether the server is there while a build says nothing; gRPC counts them as abuse after some.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)
_STOP_SECONDS = 1.0
"""For calls that are answered at once; a build is given up."""


def run(settings: TrainingSetsSettings, *, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        say: told one line beginning `serving` when the first call can be answered.
    Raises:
        RepoError: it is no repo, or one whose training sets cannot be built.
        ServerStartError: the address is in use or wrong, or the TLS files are.
    """
    check_store(read_repo(settings.repo_root))
    if settings.tls is not None:
        check_tls(settings.tls)
    with reserved(settings.address) as address:
        uvloop.run(
            _serve(
                settings, address, ready=lambda: say(f"serving training sets on {address} (repo: {settings.repo_root})")
            )
        )


async def _serve(settings: TrainingSetsSettings, address: str, *, ready: Callable[[], None]) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.tell)
    handlers = Handlers(settings)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((generic_handler([handlers.rpcs()], metrics=Metrics(), traces=Traces()),))
    health = Health(
        lambda: loop.run_in_executor(None, _look, settings),
        [TRAINING_SETS],
        is_there="the repo and the directory of training sets are there",
        is_not="the repo, or the directory of training sets, cannot be used: builds fail",
    )
    health.add_to(server)
    add_reflection(server, (TRAINING_SETS,))
    if settings.tls is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials(settings.tls))
    async with health.watched():
        await server.start()
        ready()
        await stop.told.wait()
    await health.shut_down()
    await server.stop(_STOP_SECONDS)
    handlers.stop()


def _look(settings: TrainingSetsSettings) -> None:
    """Whether a build could begin.

    Raises:
        HindcastError: not.
    """
    directory = sets_directory(settings.repo_root, settings.directory)
    try:
        make_directory(directory)
        is_usable = os.access(directory, os.W_OK | os.X_OK) and (settings.repo_root / CONFIG_NAME).is_file()
    except OSError:
        is_usable = False
    if not is_usable:
        raise DatasetError("there is no repo any more, or the directory of training sets cannot be written")


def main() -> int:
    """Serve as the line on standard input says, on an address that whoever wrote it has reserved."""
    logging.basicConfig(level=logging.INFO, format="training sets: %(levelname)s %(message)s")
    # Feast says each time that it reads the registry.
    logging.getLogger("feast").setLevel(logging.WARNING)
    settings = TrainingSetsSettings.from_line(sys.stdin.buffer.readline())
    os.nice(_NICENESS)
    leave_out_checks()
    try:
        uvloop.run(_beside_workers(settings))
    except HindcastError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return 1
    return 0


async def _beside_workers(settings: TrainingSetsSettings) -> None:
    async with beside(_end_with_input()):
        await _serve(settings, settings.address, ready=lambda: logger.info("served on %s", settings.address))


async def _end_with_input() -> None:
    """Stop when whoever started this is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGTERM)


def end(code: int) -> NoReturn:
    """End at once: a thread may wait for a process that works, which ends by itself when this one is gone."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
