"""A process that does one piece of work at a time for the server, and can be ended in the middle of it."""

import contextlib
import logging
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from hindcast.datasets_server.jobs import Job
from hindcast.datasets_server.orders import Messages, Order, Said, encoded
from hindcast.datasets_server.work import BUILDS
from hindcast.errors import Overloaded
from hindcast.offline.spill import sweep
from hindcast.settings import TrainingSetsSettings

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_END_SECONDS = 0.8
"""For work that is not wanted any more to clean up after itself."""


class JobProcess:
    """One process, and another when that has died. One thread at a time may use it."""

    def __init__(self, settings: TrainingSetsSettings, *, builds: bool, left_in: Callable[[], Iterable[Path]]) -> None:
        """Nothing is started yet.

        Args:
            builds: whether it is to import Feast as soon as it starts.
            left_in: gives the directories in which a process that was killed may have left something, of `spill_directory`.
        """
        self._settings = settings
        self._builds = builds
        self._left_in = left_in
        self._running: _Running | None = None

    def start(self) -> None:
        """Start it, if it does not run, so that it is ready when it is wanted."""
        if self._running is None:
            self._running = _Running(self._settings, builds=self._builds)

    def stop(self) -> None:
        """Have it end: what it does is given up, and it ends by itself within a second."""
        if self._running is not None:
            self._running.close()

    def run(self, order: Order, job: Job) -> bytes:
        """Have something done.

        Args:
            job: is told how far it is; what it raises ends the work within a second.
        Returns:
            The last response of the order's RPC.
        Raises:
            Overloaded: the process died of it. Nothing of it is left, and the next order has another process.
            What the work raised, and what `job` raises.
        """
        at = "start"
        try:
            running = self._ready(job)
            running.write(order)
            try:
                while (said := running.hear(_LOOK_SECONDS)) is None or not said.is_last:
                    if said is None:
                        job.look()
                    elif said.progress is not None:
                        at = said.progress.phase
                        job.tell(said.progress)
            except _Died:
                raise
            except BaseException:
                self._end(running)
                raise
        except _Died as died:
            self._replace()
            logger.error("a process that worked for a call died in its phase %r, %s", at, died)  # noqa: TRY400 - the message says it all
            raise Overloaded(
                "memory",
                f"the process that worked for this call died in its phase {at!r}, most likely of too little memory, and nothing of it is left; "
                "ask for fewer rows, shorter values or fewer columns, or tell whoever runs this server",
            ) from died
        if said.failure is not None:
            raise said.failure.error()
        if said.answer is None:
            raise Overloaded(self._name, "the server stops; try again later")
        return said.answer

    @property
    def _name(self) -> str:
        return "builds" if self._builds else "comparisons"

    def _ready(self, job: Job) -> "_Running":
        """The process, once it can take an order. What `job` raises leaves it as it is."""
        self.start()
        assert self._running is not None  # noqa: S101 - for the type
        if not self._running.is_alive:
            # It died while it had nothing to do: the kernel was short of memory, or somebody ended it.
            self._replace()
        while not self._running.is_ready:
            said = self._running.hear(_LOOK_SECONDS)
            if said is None:
                job.look()
        return self._running

    def _end(self, running: "_Running") -> None:
        """End what it does; the process too, unless it hears of it."""
        until = time.monotonic() + _END_SECONDS
        try:
            running.write(Order(rpc=""))
            while (left := until - time.monotonic()) > 0:
                said = running.hear(left)
                if said is not None and said.is_last:
                    return
        except _Died:
            pass
        self._replace()

    def _replace(self) -> None:
        assert self._running is not None  # noqa: S101 - for the type
        self._running.kill()
        self._running = None
        for directory in self._left_in():
            with contextlib.suppress(OSError):
                sweep(directory)
        self.start()


class _Died(Exception):
    """The process is gone."""


class _Running:
    """A process that was started."""

    def __init__(self, settings: TrainingSetsSettings, *, builds: bool) -> None:
        command = [sys.executable, "-m", "hindcast.datasets_server.work", *([BUILDS] if builds else [])]
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C goes to the server alone.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - asked for above
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        # Not `select`, which takes no descriptor beyond 1,023: with so many callers there are.
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._messages = Messages(self._stdout.fileno(), Said)
        self._heard: list[Said] = []
        self.is_ready = False
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(settings.to_line())

    @property
    def is_alive(self) -> bool:
        """Whether it was not found dead."""
        return self._process.poll() is None

    def write(self, order: Order) -> None:
        """Send an order.

        Raises:
            _Died: there is nobody any more.
        """
        left = memoryview(encoded(order))
        try:
            while left:
                left = left[self._stdin.write(left) or 0 :]
        except (OSError, ValueError) as error:
            raise self._died() from error

    def hear(self, seconds: float) -> Said | None:
        """The next that it says; None if that is nothing for so long.

        Raises:
            _Died: it says nothing any more.
        """
        if not self._heard:
            try:
                if not self._poll.poll(seconds * 1000):
                    return None
                if not self._messages.read():
                    raise self._died()
                self._heard += self._messages.whole()
            except (OSError, ValueError, msgspec.DecodeError) as error:
                raise self._died() from error
        if not self._heard:
            return None
        said = self._heard.pop(0)
        self.is_ready = self.is_ready or said.is_ready
        return said

    def close(self) -> None:
        """Tell it that there is nobody any more."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _died(self) -> _Died:
        self._process.kill()
        return _Died(f"exit code {self._process.wait()}")
