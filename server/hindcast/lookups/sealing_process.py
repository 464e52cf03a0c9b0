"""Seals again and again: `python -m hindcast.lookups.sealing_process`, a child of the server's supervisor.

It is handed its settings as a line of JSON on standard input, and ends by SIGTERM or when that input is closed, between two batches:
whoever started it need not live to end it. pyarrow and deltalake are loaded when there is first something to do.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hindcast.errors import SealError
from hindcast.lookups.directory import SEALED, LogDirectory
from hindcast.lookups.places import TablePlaces
from hindcast.lookups.seal_settings import SealSettings

if TYPE_CHECKING:
    from hindcast.lookups.sealer import Sealing

logger = logging.getLogger(__name__)

_NICENESS = 10
"""Callers wait for the workers beside it, and nobody for this."""


def follow(
    settings: SealSettings,
    *,
    stopping: threading.Event,
    done: Callable[["Sealing"], None],
    failed: Callable[[SealError], None],
) -> None:
    """Seal every `settings.seconds` until told to stop; a pass that fails is told of and tried again.

    Args:
        stopping: ends the wait at once, and a pass after its batch.
        done: told of each pass that found something.
    """
    from hindcast.lookups.sealer import Sealer  # noqa: PLC0415 - pyarrow and deltalake, which a server that has just begun can wait for

    sealer = Sealer(
        Path(settings.log_directory),
        repo_root=Path(settings.repo_root),
        keep_days=settings.keep_days,
        stopping=stopping.is_set,
    )
    while not stopping.is_set():
        try:
            sealed = sealer.seal()
            if sealed.segments or sealed.left:
                done(sealed)
        except SealError as error:
            failed(error)
        stopping.wait(settings.seconds)


def main() -> None:
    """Do as the line on standard input says."""
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=SealSettings)
    logging.basicConfig(level=logging.INFO, format="sealer: %(levelname)s %(message)s")
    os.nice(_NICENESS)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    threading.Thread(target=_watch_input, args=[stopping], daemon=True).start()
    stopping.wait(settings.seconds)
    while not stopping.is_set() and not has_work(settings):
        stopping.wait(settings.seconds)
    if not stopping.is_set():
        follow(settings, stopping=stopping, done=_log, failed=_log_failure)


def has_work(settings: SealSettings) -> bool:
    """Whether a segment is closed, or old days may have to go; workers close theirs, and the supervisor those of dead ones."""
    log_directory = Path(settings.log_directory)
    if settings.keep_days is not None and TablePlaces(log_directory).root.is_dir():
        return True
    segments = LogDirectory(log_directory).segments
    return segments.is_dir() and any(path.suffix == SEALED for path in segments.iterdir())


def _watch_input(stopping: threading.Event) -> None:
    # Of the file itself: who waits in a read of `sys.stdin` holds its lock, and Python aborts when it cannot take that at its end.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stopping.set()


def _log(sealed: "Sealing") -> None:
    logger.info("sealed: segments %d, lookups %d, entity rows %d", sealed.segments, sealed.records, sealed.entity_rows)
    for left in sealed.left:
        logger.warning("segment %s", left)


def _log_failure(error: SealError) -> None:
    logger.error("%s; it is tried again", error)


if __name__ == "__main__":
    main()
