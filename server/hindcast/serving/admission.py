"""Admission: how much work a worker takes on at once, by what it costs. What is over the limit is refused before any of it is
done, so that callers hear in a millisecond what they would otherwise wait seconds for.
"""

import asyncio
import contextlib

from hindcast.errors import Overloaded
from hindcast.serving.beside import beside
from hindcast.serving.metrics import Metrics

CALL_COST = 2_000
"""What a call costs beside its values, in values: an RPC takes as long as 2,000 values of a wide answer."""

COMPUTED_COST = 20
"""What a value of an on-demand view costs, in stored values: Feast's classes make Python objects of its inputs and outputs."""

_SAMPLE_SECONDS = 0.02


class Admission:
    """Counts the work in flight of one worker.

    Attributes:
        in_flight: the cost of all calls that have entered and not left, in values.
        calls: how many they are.
        lag_seconds: how late the event loop was when it was last looked at: how long a call waits that has not begun.
    """

    def __init__(self, *, in_flight_max: int, lag_max_seconds: float, metrics: Metrics) -> None:
        """Args:
        in_flight_max: a call over it is refused, unless it is the only one.
        lag_max_seconds: while the event loop is later than this, every call is refused.
        """
        self.in_flight = 0
        self.calls = 0
        self.lag_seconds = 0.0
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
        if self.lag_seconds > self._lag_max_seconds:
            raise Overloaded("lag", "the server is late with the work that it has; try again later")
        self.in_flight += cost
        self.calls += 1

    def leave(self, cost: int) -> None:
        """Be done with a call, whatever became of it."""
        self.in_flight -= cost
        self.calls -= 1

    def watched(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Keep `lag_seconds` true until the block ends."""
        return beside(self._watch())

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(_SAMPLE_SECONDS)
            # uvloop's timers fire up to a millisecond early.
            self.lag_seconds = max(0.0, loop.time() - asked - _SAMPLE_SECONDS)
            self._metrics.loop_lagged(self.lag_seconds)
