"""Health that tells the truth: a process is SERVING while what it answers from is there, and not a second longer than needed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from hindcast.clock import Deadline
from hindcast.errors import HindcastError
from hindcast.online.reader import RedisReader
from hindcast.serving.beside import beside
from hindcast.serving.messages import parsed

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 0.5
_PING_SECONDS = 1.0

HEALTH = "grpc.health.v1.Health"

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def online_store_health(reader: RedisReader, services: Sequence[str]) -> "Health":
    """That of a worker: whether its online store answers."""

    async def look() -> None:
        await reader.ping(deadline=Deadline(_PING_SECONDS))

    return Health(
        look,
        services,
        is_there="the online store answers",
        is_not="the online store does not answer: lookups are refused with UNAVAILABLE",
    )


class Health:
    """The health service of one process, for the server as a whole ("") and for each service by name."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], services: Sequence[str], *, is_there: str, is_not: str
    ) -> None:
        """Args:
        look: raises HindcastError when what calls are answered from is not there.
        is_there, is_not: what the log says of it.
        """
        self._looking = look
        self._said = {SERVING: (logging.INFO, is_there), NOT_SERVING: (logging.ERROR, is_not)}
        self._services = ("", *services)
        self._servicer = _WithList(self._services)
        self._status: int | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve `grpc.health.v1.Health` on a server."""
        check, listing, watch = self._servicer.Check, self._servicer.List, self._servicer.Watch
        written = health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(
                parsed(check, health_pb2.HealthCheckRequest), response_serializer=written
            ),
            "List": grpc.unary_unary_rpc_method_handler(
                parsed(listing, health_pb2.HealthListRequest),
                response_serializer=health_pb2.HealthListResponse.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                parsed(watch, health_pb2.HealthCheckRequest), response_serializer=written
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, methods),))

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep the status true until the block ends; then it is NOT_SERVING for good."""
        await self._look()
        async with beside(self._watch()):
            yield

    async def shut_down(self) -> None:
        """Say NOT_SERVING from now on, whatever the store does."""
        await self._servicer.enter_graceful_shutdown()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self._look()

    async def _look(self) -> None:
        try:
            await self._looking()
        except HindcastError:
            await self._set(NOT_SERVING)
        except Exception:
            logger.exception("the look at what calls are answered from met a defect")
            await self._set(NOT_SERVING)
        else:
            await self._set(SERVING)

    async def _set(self, status: int) -> None:
        if status == self._status:
            return
        logger.log(*self._said[status])
        self._status = status
        for service in self._services:
            await self._servicer.set(service, status)


class _WithList(health_aio.HealthServicer):  # type: ignore[misc]
    """grpcio's health service, which lacks `List` in 1.85 (gRFC A90)."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._listed = services

    async def List(self, _request: object, context: grpc.aio.ServicerContext) -> health_pb2.HealthListResponse:  # noqa: N802
        """The status of every service."""
        return health_pb2.HealthListResponse(
            statuses={
                service: await self.Check(health_pb2.HealthCheckRequest(service=service), context)
                for service in self._listed
            }
        )
