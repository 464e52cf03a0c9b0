"""How long the server waits for a caller to send, or to take what it asked for: a place that nobody uses is another's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded

T = TypeVar("T")

_SLOWEST_BYTES = 16_384
"""A second, of what is sent: a caller who sends a byte now and then is as good as one who sends none."""


class Patience:
    """Of one call."""

    def __init__(self, seconds: float, deadline: Deadline) -> None:
        """Args: seconds: for one message to pass."""
        self._seconds = seconds
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds

    async def next(self, requests: AsyncIterator[bytes]) -> bytes | None:
        """The next request; None after the last.

        Raises:
            DeadlineExceeded: none came for too long, or all of them come too slowly.
        """
        left = min(self._seconds, self._end - self._loop.time())
        request = await self._within(anext(requests, None), left, "nothing, or next to nothing, was sent for")
        self._end += len(request or b"") / _SLOWEST_BYTES
        return request

    async def taken(self, taking: Awaitable[T]) -> T:
        """What a caller takes, once that is done.

        Raises:
            DeadlineExceeded: it took too long.
        """
        return await self._within(taking, self._seconds, "nothing was taken for")

    async def _within(self, waiting: Awaitable[T], seconds: float, what: str) -> T:
        left = min(seconds, self._deadline.remaining_seconds())
        try:
            return await asyncio.wait_for(waiting, max(0.0, left))
        except TimeoutError:
            raise DeadlineExceeded(
                f"{what} {self._seconds:g} s, or the deadline passed, and the place is given to others; call again, and keep sending or reading"
            ) from None
