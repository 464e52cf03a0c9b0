"""How a call of grpc.aio ended, as the server said.

A request that goes out while the status comes in fails, and grpc.aio puts an INTERNAL of its own in the status' place, before or after
it (https://github.com/grpc/grpc/issues/36066): of builds that were refused while they sent small pieces, every third. The sync
client has the server's.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

_FAILED_WRITE = "Internal error from Core"
"""The details of the INTERNAL that grpc.aio sets when it cannot send."""
_STATUS_SECONDS = 1.0
"""For the server's status to come after it; mostly it is there within the same turn of the loop."""


class Ending:
    """Of one call that sends many requests."""

    def __init__(self, call: Any) -> None:
        """Args: call: that has just begun."""
        self._failure: grpc.aio.AioRpcError | None = None
        self._came = asyncio.Event()
        # Called at each status that is set, before the next one can be.
        call.add_done_callback(self._note)

    async def failure(self, raised: grpc.RpcError) -> grpc.RpcError:
        """What the server said, where what grpc.aio raised is only that a request could not be sent any more."""
        if not _is_of_write(raised.code(), raised.details()):
            return raised
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._came.wait(), _STATUS_SECONDS)
        return raised if self._failure is None else self._failure

    def _note(self, call: Any) -> None:
        code, details = _now(call.code()), _now(call.details())
        if code in {None, grpc.StatusCode.OK} or _is_of_write(code, details) or self._failure is not None:
            return
        metadata = _now(call.trailing_metadata()) or grpc.aio.Metadata()
        self._failure = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=details)
        self._came.set()


def _is_of_write(code: Any, details: Any) -> bool:
    return code is grpc.StatusCode.INTERNAL and details == _FAILED_WRITE


def _now(asked: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for; None of one that waits all the same."""
    try:
        asked.send(None)
    except StopIteration as done:
        return done.value
    finally:
        asked.close()
    return None
