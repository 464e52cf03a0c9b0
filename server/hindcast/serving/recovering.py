"""Closes what workers that died have left open in the log: at the start, and after each death, with a sealer or without one."""

import asyncio
import logging
from pathlib import Path

from hindcast.lookups.recovery import recover

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 30.0
"""Until a recovery that failed is tried again: its disk is full, or cannot be read."""


class Recovering:
    """Recovers a log when it is told to, in a thread: the supervisor goes on, and workers have nothing to do with it.

    A segment of a living writer is locked and passed over, so it does not matter who is told of which death.
    """

    def __init__(self, log_directory: Path | None) -> None:
        """Args: log_directory is None if no lookup is logged."""
        self._log_directory = log_directory
        self._told = asyncio.Event()
        self._told.set()  # of those that died with the server before this one

    def tell(self) -> None:
        """A worker has ended."""
        self._told.set()

    async def keep(self) -> None:
        """Recover now and whenever told, until this is cancelled."""
        if self._log_directory is None:
            return
        loop = asyncio.get_running_loop()
        while True:
            await self._told.wait()
            self._told.clear()
            if not await loop.run_in_executor(None, _recovered, self._log_directory):
                await asyncio.sleep(_AGAIN_SECONDS)
                self._told.set()


def _recovered(log_directory: Path) -> bool:
    """Whether all that was left could be looked at."""
    try:
        found = recover(log_directory)
    except OSError as error:
        logger.error(  # noqa: TRY400 - the reason says it all
            "what workers left open in %s cannot be closed, and is tried again in %.0f s: %s",
            log_directory,
            _AGAIN_SECONDS,
            error.strerror,
        )
        return False
    except Exception:
        # Whatever it is, it is the log's, and callers are answered all the same.
        logger.exception("what workers left open in %s cannot be closed", log_directory)
        return False
    for one in found:
        if one.refused:
            logger.warning("segment %s stays as it is: %s", one.name, one.refused)
        else:
            logger.info("segment %s, whose worker died, is closed (%s, records: %d)", one.name, one.state, one.records)
    return True
