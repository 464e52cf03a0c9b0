"""Admission: how much work a worker takes on at once, by what it costs. What is over the limit is refused before any of it is
done, so that callers hear in a millisecond what they would otherwise wait seconds for.
"""

import asyncio
import contextlib
import time

from hindcast.errors import Overloaded
from hindcast.serving.beside import beside
from hindcast.serving.metrics import Metrics

CALL_COST = 2_000
"""What a call costs beside its values, in values: an RPC takes as long as 2,000 values of a wide answer."""

COMPUTED_COST = 20
"""What a value of an on-demand view costs, in stored values: Feast's classes make Python objects of its inputs and outputs."""

_SAMPLE_SECONDS = 0.02

_WORK_SHARE = 0.5
"""A loop that was late and had a processor for less of it was not late by its own work."""


class Admission:
    """Counts the work in flight of one worker.

    Attributes:
        in_flight: the cost of all calls that have entered and not left, in values.
        calls: how many they are.
        lag_seconds: how late the event loop was when it was last looked at: how long a call waits that has not begun.
        is_late: whether calls are refused for it.
    """

    def __init__(self, *, in_flight_max: int, lag_max_seconds: float, metrics: Metrics) -> None:
        """Args:
        in_flight_max: a call over it is refused, unless it is the only one.
        lag_max_seconds: while the event loop is later than this by its work, or more than once, every call is refused.
        """
        self.in_flight = 0
        self.calls = 0
        self.lag_seconds = 0.0
        self.is_late = False
        self._in_flight_max = in_flight_max
        self._lag_max_seconds = lag_max_seconds
        self._metrics = metrics
        metrics.watch_cost(lambda: self.in_flight, limit=in_flight_max)

    def enter(self, cost: int) -> None:
        """Take on a call, which must `leave` with the same cost.

        Raises:
            Overloaded: there is too much in flight; nothing was taken on.
        """
        if self.calls and self.in_flight + cost > self._in_flight_max:
            raise Overloaded("in_flight", "the server has as much work as it can do in time; try again later")
        if self.is_late:
            raise Overloaded("lag", "the server is late with the work that it has; try again later")
        self.in_flight += cost
        self.calls += 1

    def leave(self, cost: int) -> None:
        """Be done with a call, whatever became of it."""
        self.in_flight -= cost
        self.calls -= 1

    def looked(self, lag_seconds: float, *, worked_seconds: float) -> None:
        """Be told how late the event loop was, and judge whether it has too much to do.

        A loop that was once not let run, by a machine that did other things, has nothing that waits behind it: no call is
        refused for that, and for what is still late at the next look, all are.

        Args:
            worked_seconds: the process's CPU time since the look before.
        """
        was_over, is_over = self.lag_seconds > self._lag_max_seconds, lag_seconds > self._lag_max_seconds
        self.lag_seconds = lag_seconds
        self.is_late = is_over and (was_over or worked_seconds > lag_seconds * _WORK_SHARE)
        self._metrics.loop_lagged(lag_seconds)

    def watched(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Look at the event loop again and again until the block ends."""
        return beside(self._watch())

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked, worked = loop.time(), time.process_time()
            await asyncio.sleep(_SAMPLE_SECONDS)
            # uvloop's timers fire up to a millisecond early.
            lag = max(0.0, loop.time() - asked - _SAMPLE_SECONDS)
            self.looked(lag, worked_seconds=time.process_time() - worked)
