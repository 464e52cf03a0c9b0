"""The RPCs that write: bytes in, bytes out, as in `handlers`. Each push is a run with an id of its own."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import grpc

from hindcast.catalog import Catalog
from hindcast.clock import Clock, uuid7
from hindcast.errors import FieldViolation, HindcastError, InvalidArgument
from hindcast.serving.calls import deadline_of
from hindcast.serving.ingest import Ingest, Outcome
from hindcast.serving.messages import message_of
from hindcast.serving.metrics import Metrics
from hindcast.serving.push import Push, read_feast_push, read_feast_write, read_push
from hindcast.serving.rpcs import Rpcs
from hindcast.serving.status import RUN_ID_KEY, abort
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import push_service_pb2

logger = logging.getLogger(__name__)

FEAST_GRPC = "GrpcFeatureServer"
PUSH_SERVICE = "hindcast.v1.PushService"

_IN_THREAD_BYTES = 64 * 1024
"""A larger request takes more than some milliseconds to read, in which lookups on this worker would wait."""

_WRITTEN = shadow_pb2.FeastWritten(status=True).SerializeToString()

_Read = Callable[[bytes, Catalog], Push]


class Writes:
    """The writing RPCs of one worker."""

    def __init__(
        self, ingest: Ingest, catalog: Callable[[], Catalog], *, clock: Clock, call_timeout_ms: int, metrics: Metrics
    ) -> None:
        """Args:
        catalog: gives the one that calls which begin now are written by.
        call_timeout_ms: the deadline of a call that brings none, and of each request of a stream that brings none.
        """
        self._ingest = ingest
        self._catalog = catalog
        self._clock = clock
        self._call_timeout_ms = call_timeout_ms
        self._metrics = metrics

    def rpcs(self) -> Rpcs:
        """Those that write."""
        return Rpcs(
            unary={
                FEAST_GRPC: {"Push": self.feast_push, "WriteToOnlineStore": self.feast_write},
                PUSH_SERVICE: {"Push": self.push},
            },
            uploads={PUSH_SERVICE: {"PushStream": self.push_stream}},
        )

    async def feast_push(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`GrpcFeatureServer.Push`. `allow_registry_cache` changes nothing: the catalog follows the registry by itself."""
        return await self._feast(read_feast_push, request, context)

    async def feast_write(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`GrpcFeatureServer.WriteToOnlineStore`."""
        return await self._feast(read_feast_write, request, context)

    async def push(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.PushService.Push`."""
        run = _Run(uuid7(self._clock()))

        async def write() -> bytes:
            await self._store(read_push, request, context, run)
            return push_service_pb2.PushResponse(
                run_id=str(run.id),
                catalog_version=run.catalog_version,
                rows=run.rows,
                views=run.view_writes(),
                rows_appended=run.appended,
            ).SerializeToString()

        return await _answered(write, run, context)

    async def push_stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.PushService.PushStream`: each request is stored before the next one is read."""
        run = _Run(uuid7(self._clock()))

        async def write() -> bytes:
            async for request in requests:
                try:
                    item = message_of(shadow_pb2.HindcastPushItem, request, name="hindcast.v1.PushStreamRequest")
                    await self._store(read_push, item.push, context, run)
                except InvalidArgument as error:
                    raise InvalidArgument(
                        [
                            FieldViolation(f"requests[{run.requests}].{violation.field}", violation.description)
                            for violation in error.violations
                        ]
                    ) from error
                except HindcastError as error:
                    error.args = (f"requests[{run.requests}]: {error} (the {run.requests} before it are stored)",)
                    raise
            return push_service_pb2.PushStreamResponse(
                run_id=str(run.id),
                catalog_version=run.catalog_version or self._catalog().version,
                requests=run.requests,
                rows=run.rows,
                views=run.view_writes(),
                rows_appended=run.appended,
            ).SerializeToString()

        return await _answered(write, run, context)

    async def _feast(self, read: _Read, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        run = _Run(uuid7(self._clock()))

        async def write() -> bytes:
            await self._store(read, request, context, run)
            if run.refused:
                # Feast's answer has no place for a count, and true would say that the row is stored.
                raise InvalidArgument.at(*run.refused)
            return _WRITTEN

        return await _answered(write, run, context)

    async def _store(self, read: _Read, request: bytes, context: grpc.aio.ServicerContext, run: "_Run") -> None:
        """Read one request by the catalog of this moment, and store it."""
        deadline = deadline_of(context, timeout_ms=self._call_timeout_ms)
        catalog = self._catalog()
        if len(request) > _IN_THREAD_BYTES:
            push = await asyncio.get_running_loop().run_in_executor(None, read, request, catalog)
        else:
            push = read(request, catalog)
        if push.run_id is not None and not run.requests:
            run.id = push.run_id
        outcome = await self._ingest.store(push, run_id=run.id, number=run.requests, deadline=deadline)
        run.add(outcome, catalog.version)
        if push.push_source is not None:
            self._metrics.push_taken(push.push_source, push.mode)
        for view, counts in outcome.views.items():
            self._metrics.rows_pushed(view, "written", counts.written)
            self._metrics.rows_pushed(view, "older", counts.older)
            self._metrics.rows_pushed(view, "quarantined", counts.ahead)
            self._metrics.rows_pushed(view, "keyless", counts.keyless)


class _Run:
    """What a call has stored so far."""

    def __init__(self, run_id: UUID) -> None:
        self.id = run_id
        self.catalog_version = ""
        self.requests = 0
        self.rows = 0
        self.appended = 0
        self._views: dict[str, Counter[str]] = {}

    def add(self, outcome: Outcome, catalog_version: str) -> None:
        """Add what one request stored."""
        self.catalog_version = catalog_version
        self.requests += 1
        self.rows += outcome.rows
        self.appended += outcome.appended
        for name, counts in outcome.views.items():
            self._views.setdefault(name, Counter()).update(
                rows_written=counts.written,
                rows_older=counts.older,
                rows_ahead=counts.ahead,
                rows_keyless=counts.keyless,
            )

    def view_writes(self) -> list[push_service_pb2.ViewWrites]:
        """The counts as a message per view."""
        return [push_service_pb2.ViewWrites(view=name, **counts) for name, counts in self._views.items()]

    @property
    def refused(self) -> tuple[str, str] | None:
        """What to say of a single row that every view refused; None if one has it."""
        if all(counts["rows_ahead"] for counts in self._views.values()):
            return "features", "the row is dated too far ahead of the server's clock; correct its event time"
        if all(counts["rows_keyless"] for counts in self._views.values()):
            return "features", "a join key of the row is null, and nothing could ask for it"
        return None


async def _answered(write: Callable[[], Awaitable[bytes]], run: _Run, context: grpc.aio.ServicerContext) -> bytes:
    """Run one call; every way it can end carries the run's id."""
    try:
        answer = await write()
    except Exception as error:
        if not isinstance(error, HindcastError):
            logger.exception("run %s met a defect", run.id)
        await abort(context, error, call=f"run {run.id}", metadata=((RUN_ID_KEY, str(run.id)),))
    context.set_trailing_metadata(((RUN_ID_KEY, str(run.id)),))
    return answer
