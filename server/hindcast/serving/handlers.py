"""The services on the port: bytes in, bytes out. Handlers parse requests themselves, because grpcio answers bytes that do
not parse with UNKNOWN and an exception's text.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

import grpc

from hindcast.clock import Clock, Deadline
from hindcast.errors import HindcastError
from hindcast.lookups.record import Rpc
from hindcast.online.times import timestamp_bytes
from hindcast.serving.answer import feast_bytes, hindcast_bytes, stream_answer, stream_failure
from hindcast.serving.calls import NOBODY, Caller, caller_of_call, code_of, deadline_of
from hindcast.serving.lookup import Lookup
from hindcast.serving.question import read_feast, read_hindcast, read_stream_request
from hindcast.serving.receipts import LOOKUPS
from hindcast.serving.recorder import Recorder, Recording
from hindcast.serving.rpcs import Rpcs
from hindcast.serving.status import LOOKUP_ID_KEY, abort
from hindcast.serving.writes import FEAST_GRPC, PUSH_SERVICE
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import feature_service_pb2

logger = logging.getLogger(__name__)

FEAST_SERVING = "feast.serving.ServingService"
HINDCAST = "hindcast.v1.FeatureService"
SERVICES = (FEAST_SERVING, FEAST_GRPC, HINDCAST, PUSH_SERVICE, LOOKUPS)

_UNANSWERED_MAX = 64
"""Requests of one stream that the server works on at once: enough to keep Redis and the loop busy, not a queue to wait in."""


class Handlers:
    """The RPCs of one worker.

    Attributes:
        lookup: what calls that begin now are answered from. Setting another one changes no call that has begun.
    """

    def __init__(self, *, lookup: Lookup, recorder: Recorder, clock: Clock, call_timeout_ms: int) -> None:
        """Args: call_timeout_ms is the deadline of a call that brings none."""
        self.lookup = lookup
        self._recorder = recorder
        self._clock = clock
        self._call_timeout_ms = call_timeout_ms
        self._started_micros = clock()
        self._running = 0
        self._idle = asyncio.Event()
        self._streams: set[asyncio.Task[None]] = set()
        self._ends_streams = False

    def rpcs(self) -> Rpcs:
        """Those that read."""
        return Rpcs(
            unary={
                FEAST_SERVING: {
                    "GetFeastServingInfo": self.feast_serving_info,
                    "GetOnlineFeatures": self.feast_online_features,
                },
                FEAST_GRPC: {"GetOnlineFeatures": self.feast_online_features},
                HINDCAST: {
                    "GetOnlineFeatures": self.hindcast_online_features,
                    "GetServerInfo": self.hindcast_server_info,
                },
            },
            streams={HINDCAST: {"StreamOnlineFeatures": self.hindcast_stream}},
        )

    async def feast_online_features(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`GetOnlineFeatures` of both of Feast's services, in Feast's Python dialect."""
        return await self._answered(Rpc.FEAST, self._feast_answer, request, context)

    async def hindcast_online_features(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.FeatureService.GetOnlineFeatures`."""
        return await self._answered(Rpc.HINDCAST, self._hindcast_answer, request, context)

    async def hindcast_stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """`hindcast.v1.FeatureService.StreamOnlineFeatures`: answers in the order of the requests."""
        unanswered: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_UNANSWERED_MAX)
        begun: set[asyncio.Task[bytes]] = set()
        caller = self._caller()

        async def begin() -> None:
            with contextlib.suppress(asyncio.CancelledError):  # by `end_streams`, or by the caller's going
                async for request in requests:
                    task = asyncio.create_task(self._stream_outcome(request, caller))
                    begun.add(task)
                    task.add_done_callback(begun.discard)
                    await unanswered.put(task)
            await unanswered.put(None)

        beginning = asyncio.create_task(begin())
        self._streams.add(beginning)
        try:
            while (task := await unanswered.get()) is not None:
                yield await task
        finally:
            self._streams.discard(beginning)
            beginning.cancel()
            for task in begun:
                task.cancel()
        if self._ends_streams:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this worker is stopping; open the stream again")

    def end_streams(self) -> None:
        """Read no further request from any stream; each ends when what was read has been answered."""
        self._ends_streams = True
        for beginning in self._streams:
            beginning.cancel()

    async def idle(self) -> None:
        """Wait until no lookup runs; those that are cut off need a moment to leave their records."""
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    async def feast_serving_info(self, _request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        """`feast.serving.ServingService.GetFeastServingInfo`: the version of Feast that this server stands in for."""
        return shadow_pb2.FeastServingInfo(version=self.lookup.catalog.feast_version).SerializeToString()

    async def hindcast_server_info(self, _request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.FeatureService.GetServerInfo`."""
        catalog = self.lookup.catalog
        info = feature_service_pb2.GetServerInfoResponse(
            version=version("hindcast"),
            feast_version=catalog.feast_version,
            project=catalog.project,
            catalog_version=catalog.version,
            feature_services=sorted(catalog.services),
            feature_views=sorted({**catalog.views, **catalog.on_demand_views}),
        )
        info.started_at.ParseFromString(timestamp_bytes(self._started_micros))
        return info.SerializeToString()

    async def _feast_answer(self, lookup: Lookup, request: bytes, deadline: Deadline, recording: Recording) -> bytes:
        question = read_feast(request, lookup.renamed)
        recording.asks(question)
        answer = await lookup.answer(question, deadline=deadline, given=recording.given)
        response = feast_bytes(question, answer, join_keys=lookup.join_keys)
        if kept := recording.answered(answer, response, served_at_micros=self._clock()):
            await kept
        return response

    async def _hindcast_answer(self, lookup: Lookup, request: bytes, deadline: Deadline, recording: Recording) -> bytes:
        return await self._hindcast_outcome(lookup, request, deadline, recording, lambda answer: answer)

    async def _hindcast_outcome(
        self,
        lookup: Lookup,
        request: bytes,
        deadline: Deadline,
        recording: Recording,
        as_sent: Callable[[bytes], bytes],
    ) -> bytes:
        """Args: as_sent makes the message that leaves of the serialized answer."""
        question = read_hindcast(request)
        recording.asks(question)
        answer = await lookup.answer(question, deadline=deadline, given=recording.given)
        served_at_micros = self._clock()
        response = as_sent(
            hindcast_bytes(
                answer,
                lookup_id=recording.lookup_id,
                catalog_version=lookup.catalog.version,
                served_at_micros=served_at_micros,
            )
        )
        if kept := recording.answered(answer, response, served_at_micros=served_at_micros):
            await kept
        return response

    async def _answered(
        self,
        rpc: Rpc,
        answer: Callable[[Lookup, bytes, Deadline, Recording], Awaitable[bytes]],
        request: bytes,
        context: grpc.aio.ServicerContext,
    ) -> bytes:
        """Run one lookup under an id of its own; every way it can end carries the id, and leaves a record."""
        lookup = self.lookup
        recording = self._recorder.begin(rpc, request, lookup.catalog.version, self._caller())
        lookup_id = recording.lookup_id
        self._running += 1
        try:
            response = await answer(lookup, request, deadline_of(context, timeout_ms=self._call_timeout_ms), recording)
        except Exception as error:  # noqa: BLE001 - told to the caller, and to the log if it is a defect
            call = _log_defect(error, lookup_id)
            told = await recording.failed(error, call=call)
            await abort(context, told, call=call, metadata=((LOOKUP_ID_KEY, lookup_id),))
        except asyncio.CancelledError as error:
            recording.cancelled(code_of(error, context))
            raise
        finally:
            self._ended()
        context.set_trailing_metadata(((LOOKUP_ID_KEY, lookup_id),))
        return response

    def _caller(self) -> Caller:
        """What the metadata of the call says of it, if a record can."""
        return caller_of_call() if self._recorder.keeps else NOBODY

    async def _stream_outcome(self, request: bytes, caller: Caller) -> bytes:
        """One message of a stream, answered by one."""
        lookup = self.lookup
        recording = self._recorder.begin(Rpc.STREAM, request, lookup.catalog.version, caller)
        self._running += 1
        try:
            lookup_bytes, timeout_seconds = read_stream_request(request)
            deadline = Deadline(self._call_timeout_ms / 1000 if timeout_seconds is None else timeout_seconds)
            return await self._hindcast_outcome(lookup, lookup_bytes, deadline, recording, stream_answer)
        except Exception as error:  # noqa: BLE001 - told to the caller, and to the log if it is a defect
            call = _log_defect(error, recording.lookup_id)
            told = await recording.failed(error, call=call)
            return stream_failure(told, call=call, lookup_id=recording.lookup_id)
        except asyncio.CancelledError:
            recording.cancelled(grpc.StatusCode.CANCELLED)
            raise
        finally:
            self._ended()

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()


def _log_defect(error: Exception, lookup_id: str) -> str:
    """Write down an error from outside the tree; what a report of it should name."""
    if not isinstance(error, HindcastError):
        logger.error("lookup %s met a defect", lookup_id, exc_info=error)
    return f"lookup {lookup_id}"
