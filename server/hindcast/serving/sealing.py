"""The sealing process of a server, kept alive beside its workers: `hindcast.lookups.sealing_process`."""

import asyncio
import contextlib
import logging
import sys

from hindcast.lookups.seal_settings import SealSettings

logger = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 1.0, 5.0, 30.0)
_STEADY_SECONDS = 60.0
"""A process that lived this long did not die of its start."""
_STOP_SECONDS = 3.0
"""For the batch that it is at; one that is killed loses nothing either."""


async def keep_sealing(settings: SealSettings) -> None:
    """Keep a sealing process until this is cancelled; another one starts when it dies, later each time that it dies young."""
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began = loop.time()
        try:
            ended = f"ended with code {await _run(settings)}"
        except OSError as error:
            # No process or no descriptor is left; serving goes on with those that it has.
            ended = f"cannot be started ({error.strerror})"
        failures = 1 if loop.time() - began > _STEADY_SECONDS else failures + 1
        pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1]
        logger.error("the sealer %s; another starts in %.1f s", ended, pause)
        await asyncio.sleep(pause)


async def _run(settings: SealSettings) -> int:
    """Run one until it ends or this is cancelled; its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hindcast.lookups.sealing_process"),
        stdin=asyncio.subprocess.PIPE,
        # A terminal's Ctrl-C goes to the supervisor alone.
        start_new_session=True,
    )
    try:
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.write(settings.to_line())
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        return await process.wait()
    finally:
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
