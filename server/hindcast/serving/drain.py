"""Leaving without losing a call: how a worker parts from its callers before it stops.

gRPC's own `stop` refuses calls from the moment it is called, while callers hear of it a round trip later: what they send in
between fails with CANCELLED. So a worker first takes no further connections, then serves those it has until their age makes
gRPC say GOAWAY to each, which lets a caller finish what it has begun and go elsewhere; then it stops, with nobody there.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from hindcast.serving.sockets import connections, stop_listening

if TYPE_CHECKING:
    import grpc

logger = logging.getLogger(__name__)

_AGE_JITTER = 1.1
"""gRPC draws each connection's age from 90 to 110 % of what it is told."""

_GOAWAY_SECONDS = 0.5
"""For the GOAWAY, the ping that follows it, and the caller's close."""

_LOOK_SECONDS = 0.05


class Stop:
    """Whether this process was told to stop.

    Attributes:
        told: set by the first time.
        hurry: set by the second: callers are not waited for any more.
    """

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.hurry = asyncio.Event()

    def tell(self) -> None:
        """Tell it once more."""
        (self.hurry if self.told.is_set() else self.told).set()


def part_seconds(max_connection_age_seconds: float) -> float:
    """By when every connection has been told to go."""
    return max_connection_age_seconds * _AGE_JITTER + _GOAWAY_SECONDS


def age_options(max_connection_age_seconds: float) -> tuple[tuple[str, int], ...]:
    """Channel arguments of a server that can be drained.

    No grace is set: a stream may outlive its connection's age, on that connection, while calls after it use another.
    """
    return (("grpc.max_connection_age_ms", int(max_connection_age_seconds * 1000)),)


async def drain(
    server: "grpc.aio.Server",
    *,
    port: int,
    max_connection_age_seconds: float,
    drain_seconds: float,
    stop: Stop,
) -> None:
    """Stop a server that runs with `age_options`; no call on a connection that it has fails for it.

    Connections that come after this began are refused, or go to the other processes that listen on the port.

    Args:
        port: the server's, which no other server of this process listens on.
        drain_seconds: for what still runs once every connection was told to go; then it is cancelled.
        stop: once it says hurry, nothing is waited for any more.
    """
    await stop_listening(port)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + part_seconds(max_connection_age_seconds)
    count = connections(port)
    if count:
        logger.info(
            "%d connections are served until they have gone, at most %.1f s; a second signal ends them now",
            count,
            deadline - loop.time(),
        )
    while loop.time() < deadline and not stop.hurry.is_set() and connections(port):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.hurry.wait(), _LOOK_SECONDS)
    stopping = asyncio.ensure_future(server.stop(drain_seconds))
    told = asyncio.ensure_future(stop.hurry.wait())
    await asyncio.wait({stopping, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not stopping.done():
        await server.stop(None)
    await stopping
