"""One worker, as the supervisor sees it: a child process, and two pipes."""

import asyncio
import contextlib
import signal
import sys

from hindcast.catalog import Catalog
from hindcast.serving.worker_settings import READY, TAKEN, WorkerSettings, catalog_to_line

_START_SECONDS = 60.0
"""A worker that loads on-demand views imports Feast: 1.3 s on a quiet machine."""

_KILL_SECONDS = 5.0
"""For what a worker does after it has parted from its callers."""


class WorkerProcess:
    """One child process.

    Attributes:
        slot: the number that no other living worker has.
        ended: done when the process has ended, with its exit code; negative is a signal.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, slot: int) -> None:
        self.slot = slot
        self.process_id = process.pid
        self.ended = asyncio.ensure_future(process.wait())
        self._process = process
        self._handing_over = asyncio.Lock()

    @classmethod
    async def start(cls, settings: WorkerSettings) -> "WorkerProcess":
        """Start one; `comes_up` says when it serves."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hindcast.serving.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A terminal's Ctrl-C goes to the supervisor alone, which then ends the workers in order.
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.write(settings.to_line())
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        return cls(process, slot=settings.slot)

    async def comes_up(self, stopping: asyncio.Event) -> bool:
        """Whether the worker says that it serves, in time and before it is told to stop."""
        assert self._process.stdout is not None  # noqa: S101
        said = asyncio.ensure_future(self._process.stdout.readline())
        told = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({said, told}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if said.done():
            return said.result() == READY
        said.cancel()
        return False

    async def take(self, catalog: Catalog) -> bool:
        """Hand over a new catalog; whether it is served now.

        A worker that does not say in time is ended, and its successor starts from the newest catalog.
        """
        assert self._process.stdin is not None  # noqa: S101 - asked for at the start
        assert self._process.stdout is not None  # noqa: S101
        try:
            # One at a time: the pipe back has one reader, and each word on it belongs to one catalog.
            async with self._handing_over, asyncio.timeout(_START_SECONDS):
                self._process.stdin.write(catalog_to_line(catalog))
                await self._process.stdin.drain()
                return await self._process.stdout.readline() == TAKEN
        except TimeoutError:
            self._kill()
        except ConnectionError:
            pass  # it has ended by itself
        return False

    async def stop(self, *, seconds: float, hurry: asyncio.Event) -> int:
        """Let it part from its callers and end; the exit code.

        SIGTERM, once more when there is a hurry, and SIGKILL once it is overdue.

        Args:
            seconds: how long it may take for its callers.
        """
        self._terminate()
        told = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({self.ended, told}, timeout=seconds + _KILL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not self.ended.done() and hurry.is_set():
            self._terminate()
            await asyncio.wait({self.ended}, timeout=_KILL_SECONDS)
        if not self.ended.done():
            self._kill()
        return await self.ended

    def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
