"""Drops: in a thread of the supervisor, old generations of views are deleted once their time is up."""

import logging
import threading
from collections.abc import Callable

from hindcast.clock import Clock, system_clock
from hindcast.errors import HindcastError
from hindcast.online.connection import RedisTarget
from hindcast.online.generations import generations_in

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 30.0


class Drops:
    """Looks for generations that are due, at once and then every 30 s, and never in the way of anything else.

    A deletion that a stop interrupts is finished by whoever looks next: this server when it is started again, another one, or the
    end of a materialization.
    """

    def __init__(
        self,
        target: Callable[[], RedisTarget | None],
        *,
        project: str,
        clock: Clock = system_clock,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        """Args: target gives where the packed rows are now, None while rows are not packed."""
        self._target = target
        self._project = project
        self._clock = clock
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        # A daemon: nobody who stops a server waits for a Redis that does not answer.
        self._thread = threading.Thread(target=self._run, name="drops", daemon=True)
        self._last_error = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch of rows that is being deleted, without waiting for it."""
        self._stop.set()

    def _run(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self._every_seconds):
                return

    def _look(self) -> None:
        """Delete what is due; an error is a line of the log, once until it is another one or gone."""
        try:
            target = self._target()
            if target is None:
                return
            with generations_in(target, project=self._project, clock=self._clock) as generations:
                for dropped in generations.drop_due(should_stop=self._stop.is_set):
                    logger.info(
                        "view %s: generation %d is gone, with %d rows", dropped.view, dropped.generation, dropped.rows
                    )
        except HindcastError as error:
            self._say_once(str(error))
        except Exception:
            # Left alone it would end this thread, and nothing would be deleted any more.
            logger.exception("looking for old generations of views met a defect")
        else:
            self._last_error = ""

    def _say_once(self, error: str) -> None:
        if error != self._last_error and not self._stop.is_set():
            logger.warning("old generations of views are not deleted for the moment: %s", error)
        self._last_error = error
