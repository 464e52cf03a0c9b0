"""One of a server's places for a worker: kept filled, whoever is in it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from hindcast.catalog import RegistryWatch
from hindcast.errors import ServerStartError
from hindcast.serving.drain import Stop, part_seconds
from hindcast.serving.fleet import Fleet
from hindcast.serving.metric_file import forget_live_gauges
from hindcast.serving.worker_process import WorkerProcess
from hindcast.serving.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.05, 0.2, 1.0, 5.0)
_STEADY_SECONDS = 5.0
"""A worker that lived this long did not die of its start: the next one starts at once, within 1.5 s of the death."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    """A wish for a worker with these settings; `came_true` is done when it is served, or the old one stays."""

    settings: WorkerSettings
    came_true: "asyncio.Future[bool]"


class Place:
    """Keeps one worker serving: another when it dies, a successor when it is renewed."""

    def __init__(
        self,
        slots: tuple[int, int],
        settings: WorkerSettings,
        *,
        registry: RegistryWatch,
        fleet: Fleet,
        running: set[WorkerProcess],
        stop: Stop,
        when_ended: Callable[[], None],
    ) -> None:
        """Args:
        slots: a worker has one of them; its successor, which overlaps with it, the other.
        running: holds this place's workers while they serve or part from their callers.
        when_ended: called when one of them has ended, however it did.
        """
        self._slot, self._other_slot = slots
        self._settings = settings
        self._registry = registry
        self._fleet = fleet
        self._running = running
        self._stop = stop
        self._when_ended = when_ended
        self._renewal: _Renewal | None = None
        self._renewal_asked = asyncio.Event()
        self._parting: asyncio.Task[None] | None = None

    async def keep(self, first_start: Callable[[bool], None]) -> None:
        """Keep the place filled until the server is told to stop and its workers have ended.

        Args:
            first_start: told whether the first worker serves; it does not when the server is told to stop before.
        Raises:
            ServerStartError: the first worker does not come up.
        """
        failures = 0
        is_first = True
        while not self._stop.told.is_set():
            began = asyncio.get_running_loop().time()
            renewal = self._renewal
            settings = self._settings if renewal is None else renewal.settings
            worker, came_up = await self._start(settings, slot=self._slot)
            if renewal is not None:
                self._renewed(renewal, came_up=came_up)
            if is_first:
                if not came_up and not self._stop.told.is_set():
                    await worker.stop(seconds=0, hurry=self._stop.hurry)
                    raise ServerStartError(f"worker {worker.slot} does not come up; its words are above")
                first_start(came_up)
                is_first = False
            if came_up:
                worker = await self._serve(worker)
            code = await self._end(worker, seconds=self._stop_seconds if came_up else 0)
            if self._stop.told.is_set():
                break
            self._fleet.restarts["died"] += 1
            failures = 0 if asyncio.get_running_loop().time() - began > _STEADY_SECONDS else failures + 1
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1] if failures else 0.0
            logger.error("worker %d ended with code %s; another starts in %.2f s", worker.slot, code, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.told.wait(), pause)
        if self._parting is not None:
            await self._parting

    async def renew(self, settings: WorkerSettings) -> bool:
        """Put a successor with these settings in the worker's place.

        Returns:
            True when the successor serves and the worker before it has parted from its callers and ended; False where the
            successor does not come up, and the worker stays. Never, once the server is told to stop.
        """
        self._renewal = _Renewal(settings, asyncio.get_running_loop().create_future())
        self._renewal_asked.set()
        came_true = await self._renewal.came_true
        if self._parting is not None:
            await asyncio.shield(self._parting)
        return came_true

    @property
    def _stop_seconds(self) -> float:
        return part_seconds(self._settings.options.max_connection_age_seconds) + self._settings.options.drain_seconds

    async def _start(self, settings: WorkerSettings, *, slot: int) -> tuple[WorkerProcess, bool]:
        """A worker that serves the newest catalog, or one that does not come up."""
        catalog = self._registry.catalog
        worker = await WorkerProcess.start(replace(settings, slot=slot, catalog=catalog))
        came_up = await worker.comes_up(self._stop.told)
        if came_up:
            self._running.add(worker)
            self._fleet.serves(slot, process_id=worker.process_id, catalog_version=catalog.version)
            newest = self._registry.catalog
            if newest is not catalog and await worker.take(newest):
                self._fleet.serves(slot, process_id=worker.process_id, catalog_version=newest.version)
        return worker, came_up

    async def _serve(self, worker: WorkerProcess) -> WorkerProcess:
        """Let a worker and its successors serve until the last one ends, or the server is told to stop; that last one."""
        while True:
            told = asyncio.ensure_future(self._stop.told.wait())
            asked = asyncio.ensure_future(self._renewal_asked.wait())
            await asyncio.wait({worker.ended, told, asked}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            asked.cancel()
            renewal = self._renewal
            if self._stop.told.is_set() or worker.ended.done() or renewal is None:
                return worker
            successor, came_up = await self._start(renewal.settings, slot=self._other_slot)
            if came_up:
                logger.info("worker %d takes the place of worker %d", successor.slot, worker.slot)
                self._slot, self._other_slot = self._other_slot, self._slot
                self._fleet.restarts["renewed"] += 1
                self._parting = asyncio.create_task(self._part(worker))
                worker = successor
            else:
                await self._end(successor, seconds=0)
            self._renewed(renewal, came_up=came_up)

    async def _part(self, worker: WorkerProcess) -> None:
        code = await self._end(worker, seconds=self._stop_seconds)
        if code:
            logger.error("worker %d, whose place was taken, ended with code %s", worker.slot, code)

    async def _end(self, worker: WorkerProcess, *, seconds: float) -> int:
        code = await worker.stop(seconds=seconds, hurry=self._stop.hurry)
        self._running.discard(worker)
        self._fleet.ended(worker.slot)
        self._when_ended()
        if self._settings.metrics_folder is not None:
            forget_live_gauges(self._settings.metrics_folder, worker.slot)
        return code

    def _renewed(self, renewal: _Renewal, *, came_up: bool) -> None:
        self._renewal = None
        self._renewal_asked.clear()
        if came_up:
            self._settings = renewal.settings
        if not self._stop.told.is_set() and not renewal.came_true.done():
            renewal.came_true.set_result(came_up)
