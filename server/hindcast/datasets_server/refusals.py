"""Callers who are refused while they send: what they still send is taken and thrown away for a little, before they are told.

gRPC resets what a caller sends when its call ends. Where that comes while a request goes out, callers in asyncio lose the status to an INTERNAL of
grpc.aio's own (https://github.com/grpc/grpc/issues/36066): seven of ten of them who sent pieces of 64 KiB. Whoever has come to the end
of what there is to send has the status. It is bounded in every way, since nobody who is refused has a place.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hindcast.clock import Deadline

_SECONDS, _SILENT_SECONDS = 2.0, 0.5
"""In all, and for the next piece: who sends none is in the midst of none."""
_BYTES_MAX = 256 * 2**20
_AT_ONCE_MAX = 8


class Refusals:
    """Of one server."""

    def __init__(self) -> None:
        self._under_way = 0

    async def hear_out(self, requests: AsyncIterator[bytes], deadline: Deadline) -> None:
        """Take what comes until the caller is done, or has gone on for too long, or others do so already. It raises nothing."""
        if self._under_way >= _AT_ONCE_MAX:
            return
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            # Looked at between pieces: of a timeout around it all, Python 3.11's `wait_for` can lose the end.
            end = loop.time() + min(_SECONDS, deadline.remaining_seconds())
            left = _BYTES_MAX
            with contextlib.suppress(TimeoutError):
                while left > 0 and (seconds := end - loop.time()) > 0:
                    request = await asyncio.wait_for(anext(requests, None), min(_SILENT_SECONDS, seconds))
                    if request is None:
                        return
                    left -= len(request)
        finally:
            self._under_way -= 1
