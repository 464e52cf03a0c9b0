"""Processes of their own that are kept alive beside the workers: the sealer, and the server of training sets."""

import asyncio
import contextlib
import logging
import sys
from dataclasses import dataclass

from hindcast.lookups.seal_settings import SealSettings
from hindcast.settings import TrainingSetsSettings

logger = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 1.0, 5.0, 30.0)
_STEADY_SECONDS = 60.0
"""A process that lived this long did not die of its start."""
_STOP_SECONDS = 3.0
"""For what it is at; one that is killed loses nothing either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A process: `python -m <module>`, which ends by SIGTERM, or when its standard input is closed.

    Attributes:
        name: in logs.
        settings_line: its settings, written to its standard input.
    """

    name: str
    module: str
    settings_line: bytes

    async def keep(self) -> None:
        """Keep one until this is cancelled; another one starts when it dies, later each time that it dies young."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                ended = f"ended with code {await self._run()}"
            except OSError as error:
                # No process or no descriptor is left; serving goes on with those that it has.
                ended = f"cannot be started ({error.strerror})"
            failures = 1 if loop.time() - began > _STEADY_SECONDS else failures + 1
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1]
            logger.error("the %s %s; another starts in %.1f s", self.name, ended, pause)
            await asyncio.sleep(pause)

    async def _run(self) -> int:
        """Run one until it ends or this is cancelled; its exit code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self.module),
            stdin=asyncio.subprocess.PIPE,
            # A terminal's Ctrl-C goes to the supervisor alone.
            start_new_session=True,
        )
        try:
            assert process.stdin is not None  # noqa: S101 - asked for above
            process.stdin.write(self.settings_line)
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            return await process.wait()
        finally:
            await asyncio.shield(_end(process))


def sealer(settings: SealSettings) -> Companion:
    """`hindcast.lookups.sealing_process`."""
    return Companion(name="sealer", module="hindcast.lookups.sealing_process", settings_line=settings.to_line())


def training_sets(settings: TrainingSetsSettings) -> Companion:
    """`hindcast.datasets_server.process`."""
    return Companion(
        name="server of training sets", module="hindcast.datasets_server.process", settings_line=settings.to_line()
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
