"""What a worker tells of itself: one method per thing that happens, cheap enough for the hot path (docs/metrics.md).

`Metrics` counts nothing and is what a worker has without `--metrics-address`; `WorkerMetrics` counts. Callers need no `if`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import grpc

from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.serving import families
from hindcast.serving.beside import beside
from hindcast.serving.calls import Handler, StreamHandler, UploadHandler, code_of
from hindcast.serving.instruments import Counter, Histogram, Instruments, Series

if TYPE_CHECKING:
    from hindcast.lookups.writer import LogCounters

RpcType = Literal["unary", "client_stream", "bidi_stream"]
"""As go-grpc-prometheus says it."""

FLUSH_SECONDS = 0.25
"""What a kill -9 can lose."""

_ENDPOINTS = {
    "GetOnlineFeatures": "/get-online-features",
    "Push": "/push",
    "WriteToOnlineStore": "/write-to-online-store",
}
"""What Feast's dashboards call our RPCs: the paths of its HTTP server."""


class Rpc:
    """The calls of one RPC."""

    __slots__ = (
        "_ended",
        "_endpoint",
        "_handling",
        "_instruments",
        "_labels",
        "in_flight",
        "received",
        "sent",
        "started",
    )

    def __init__(self, instruments: Instruments, service: str, method: str, rpc_type: RpcType) -> None:
        self.in_flight = 0
        self._instruments = instruments
        self._labels = (rpc_type, service, method)
        self._endpoint = _ENDPOINTS.get(method)
        self.started = instruments.counter((families.GRPC_STARTED, self._labels))
        self.received = instruments.counter((families.GRPC_RECEIVED, self._labels))
        self.sent = instruments.counter((families.GRPC_SENT, self._labels))
        handling: list[Series] = [(families.GRPC_HANDLING, self._labels)]
        if self._endpoint:
            handling.append((families.FEAST_LATENCY, (self._endpoint,)))
        self._handling = instruments.histogram(*handling)
        self._ended: dict[str, Counter] = {}
        self._of_code("OK")

    def call(self, context: grpc.aio.ServicerContext) -> "_Call":
        """Count what happens in a `with` block as one call."""
        return _Call(self, context)

    def ended(self, code: str, seconds: float) -> None:
        """A call has ended; `code` is as go-grpc-prometheus says it."""
        counter = self._ended.get(code) or self._of_code(code)
        counter.amount += 1
        self._handling.observe(seconds)

    def _of_code(self, code: str) -> Counter:
        series: list[Series] = [(families.GRPC_HANDLED, (*self._labels, code))]
        if self._endpoint:
            series.append((families.FEAST_REQUESTS, (self._endpoint, "success" if code == "OK" else "error")))
        counter = self._ended[code] = self._instruments.counter(*series)
        return counter


class _Call:
    __slots__ = ("_context", "_rpc", "_start")

    def __init__(self, rpc: Rpc, context: grpc.aio.ServicerContext) -> None:
        self._rpc = rpc
        self._context = context

    def __enter__(self) -> None:
        self._rpc.in_flight += 1
        self._rpc.started.amount += 1
        self._start = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._rpc.in_flight -= 1
        code = "OK" if error is None else _go_name(code_of(error, self._context))
        self._rpc.ended(code, perf_counter() - self._start)


class Metrics:
    """Counts nothing."""

    def counted(self, service: str, method: str, handler: Handler) -> Handler:  # noqa: ARG002
        """The handler of a unary RPC, with its calls counted."""
        return handler

    def counted_uploads(self, service: str, method: str, handler: UploadHandler) -> UploadHandler:  # noqa: ARG002
        """The handler of a client-streaming RPC, with its calls and messages counted."""
        return handler

    def counted_stream(self, service: str, method: str, handler: StreamHandler) -> StreamHandler:  # noqa: ARG002
        """The handler of a bidirectional RPC, with its calls and messages counted."""
        return handler

    def lookup_asked(self, *, rows: int) -> None:
        """A lookup is well formed and has so many entity rows."""

    def store_waited(self, seconds: float) -> None:
        """A lookup got its rows from the online store, or an error instead, after that long."""

    def rows_read(
        self, view: str, statuses: Sequence[bytes], *, columns: int, oldest_age_seconds: float | None
    ) -> None:
        """A lookup has read rows of a view.

        Args:
            view: its own name, not its alias in some service.
            statuses: per feature, a byte per row (`field_status`); one entry if all features have the same.
            columns: how many features were read.
            oldest_age_seconds: of the row with the oldest event time; None without a row.
        """

    def transformed(self, view: str, mode: str, seconds: float) -> None:
        """An on-demand view has been computed for a lookup."""

    def push_taken(self, source: str, mode: str) -> None:
        """A push has been taken. Call it when the source is known to exist: its name becomes a label."""

    def rows_pushed(self, view: str, outcome: str, rows: int) -> None:
        """Rows were pushed to a view that exists: `written`, `older`, `quarantined` (dated ahead) or `keyless`; none is fine."""

    def call_shed(self, reason: str) -> None:
        """A call was refused before any work; the reason is a word of ours, never of a caller's."""

    def call_expired(self) -> None:
        """A call's deadline had passed before any work was done for it."""

    def loop_lagged(self, seconds: float) -> None:
        """The event loop was looked at, and was that late."""

    def watch_cost(self, in_flight: Callable[[], int], *, limit: int) -> None:
        """Show the cost of the lookups in flight, asked for at every flush."""

    def lookup_sampled_out(self) -> None:
        """A lookup leaves no record, because its service is sampled."""

    def watch_log(self, counters: "Callable[[], LogCounters]") -> None:
        """Show what the lookup log counts, asked for at every flush."""

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write everything out from time to time until the block ends, and once more then."""
        yield


class WorkerMetrics(Metrics):
    """Counts for one worker. For the thread of its event loop only."""

    def __init__(self, folder: Path, *, slot: int) -> None:
        """Args: folder is the supervisor's for metrics; slot is this worker's alone while it lives."""
        self._instruments = Instruments(folder, slot=slot)
        self._rpcs: list[Rpc] = []
        self._views: dict[str, _View] = {}
        self._lookups = self._counter(families.FEAST_LOOKUPS)
        self._entity_rows = self._histogram(families.FEAST_ENTITY_ROWS)
        self._store_read = self._histogram(families.FEAST_STORE_READ)
        self._expired = self._counter(families.EXPIRED)
        self._sampled_out = self._counter(families.LOG_SAMPLED_OUT)
        self._loop_lag = self._histogram(families.LOOP_LAG)
        self._instruments.gauge(families.IN_FLIGHT_CALLS, lambda: sum(rpc.in_flight for rpc in self._rpcs))

    def counted(self, service: str, method: str, handler: Handler) -> Handler:
        """See `Metrics.counted`."""
        rpc = self._rpc(service, method, "unary")

        async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            with rpc.call(context):
                rpc.received.amount += 1
                answer = await handler(request, context)
                rpc.sent.amount += 1
                return answer

        return call

    def counted_uploads(self, service: str, method: str, handler: UploadHandler) -> UploadHandler:
        """See `Metrics.counted_uploads`."""
        rpc = self._rpc(service, method, "client_stream")

        async def call(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            with rpc.call(context):
                answer = await handler(_each_counted(requests, rpc.received), context)
                rpc.sent.amount += 1
                return answer

        return call

    def counted_stream(self, service: str, method: str, handler: StreamHandler) -> StreamHandler:
        """See `Metrics.counted_stream`."""
        rpc = self._rpc(service, method, "bidi_stream")

        async def call(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            with rpc.call(context):
                async for answer in _each_counted(handler(_each_counted(requests, rpc.received), context), rpc.sent):
                    yield answer

        return call

    def lookup_asked(self, *, rows: int) -> None:
        """See `Metrics.lookup_asked`."""
        self._lookups.amount += 1
        self._entity_rows.observe(rows)

    def store_waited(self, seconds: float) -> None:
        """See `Metrics.store_waited`."""
        self._store_read.observe(seconds)

    def rows_read(
        self, view: str, statuses: Sequence[bytes], *, columns: int, oldest_age_seconds: float | None
    ) -> None:
        """See `Metrics.rows_read`."""
        of_view = self._views.get(view)
        if of_view is None:
            of_view = self._views[view] = _View(self._instruments, view)
        all_statuses = b"".join(statuses) if len(statuses) == columns else statuses[0] * columns
        present = all_statuses.count(PRESENT)
        of_view.present.amount += present
        if present < len(all_statuses):
            of_view.null.amount += all_statuses.count(NULL_VALUE)
            of_view.missing.amount += all_statuses.count(NOT_FOUND)
            of_view.stale.amount += all_statuses.count(OUTSIDE_MAX_AGE)
        if oldest_age_seconds is not None:
            of_view.age.observe(oldest_age_seconds)

    def transformed(self, view: str, mode: str, seconds: float) -> None:
        """See `Metrics.transformed`."""
        self._histogram(families.FEAST_TRANSFORM, view, mode).observe(seconds)

    def push_taken(self, source: str, mode: str) -> None:
        """See `Metrics.push_taken`."""
        self._counter(families.FEAST_PUSHES, source, mode).amount += 1

    def rows_pushed(self, view: str, outcome: str, rows: int) -> None:
        """See `Metrics.rows_pushed`."""
        if rows:
            self._counter(families.ROWS_PUSHED, view, outcome).amount += rows

    def call_shed(self, reason: str) -> None:
        """See `Metrics.call_shed`."""
        self._counter(families.SHED, reason).amount += 1

    def call_expired(self) -> None:
        """See `Metrics.call_expired`."""
        self._expired.amount += 1

    def loop_lagged(self, seconds: float) -> None:
        """See `Metrics.loop_lagged`."""
        self._loop_lag.observe(seconds)

    def watch_cost(self, in_flight: Callable[[], int], *, limit: int) -> None:
        """See `Metrics.watch_cost`."""
        self._instruments.gauge(families.IN_FLIGHT_COST, in_flight)
        self._instruments.gauge(families.IN_FLIGHT_COST_LIMIT, lambda: limit)

    def lookup_sampled_out(self) -> None:
        """See `Metrics.lookup_sampled_out`."""
        self._sampled_out.amount += 1

    def watch_log(self, counters: "Callable[[], LogCounters]") -> None:
        """See `Metrics.watch_log`."""
        self._instruments.total(families.LOG_RECORDS, lambda: counters().written)
        self._instruments.total(families.LOG_BYTES, lambda: counters().written_bytes)
        self._instruments.total(families.LOG_SYNCED, lambda: counters().synced)
        self._instruments.total(families.LOG_LOST, lambda: counters().lost)
        self._instruments.gauge(families.LOG_ALARM, lambda: counters().alarm)
        self._instruments.gauge(families.LOG_UNSYNCED, _Unsynced(counters).seconds)

    def flush(self) -> None:
        """Write out what has come up since the last time."""
        for _ in self._instruments.flush():
            pass

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """See `Metrics.kept`."""
        try:
            async with beside(self._flush_always()):
                yield
        finally:
            self.flush()
            self._instruments.close()

    async def _flush_always(self) -> None:
        while True:
            for _ in self._instruments.flush():
                await asyncio.sleep(0)
            await asyncio.sleep(FLUSH_SECONDS)

    def _rpc(self, service: str, method: str, rpc_type: RpcType) -> Rpc:
        rpc = Rpc(self._instruments, service, method, rpc_type)
        self._rpcs.append(rpc)
        return rpc

    def _counter(self, family: families.Family, *labels: str) -> Counter:
        return self._instruments.counter((family, labels))

    def _histogram(self, family: families.Family, *labels: str) -> Histogram:
        return self._instruments.histogram((family, labels))


class _Unsynced:
    """How long records have waited for a sync, seen from one look to the next."""

    def __init__(self, counters: "Callable[[], LogCounters]") -> None:
        self._counters = counters
        self._synced = 0
        self._since = perf_counter()

    def seconds(self) -> float:
        """Since the last look that saw a sync, or nothing to sync."""
        counters, now = self._counters(), perf_counter()
        if counters.synced != self._synced or not counters.unsynced:
            self._synced, self._since = counters.synced, now
        return now - self._since


class _View:
    """The rows read of one view. Feast calls a value present whose row is there, null and stale ones too."""

    __slots__ = ("age", "missing", "null", "present", "stale")

    def __init__(self, instruments: Instruments, view: str) -> None:
        def counter(status: str, feast_status: str) -> Counter:
            return instruments.counter((families.VALUES, (view, status)), (families.FEAST_VALUES, (view, feast_status)))

        self.present = counter("present", "present")
        self.null = counter("null", "present")
        self.stale = counter("stale", "present")
        self.missing = counter("missing", "not_found")
        self.age = instruments.histogram((families.VALUE_AGE, (view,)))


async def _each_counted(messages: AsyncIterator[bytes], counter: Counter) -> AsyncIterator[bytes]:
    async for message in messages:
        counter.amount += 1
        yield message


def _go_name(code: grpc.StatusCode) -> str:
    """A status in the words of go-grpc-prometheus: `DeadlineExceeded`."""
    return {"OK": "OK", "CANCELLED": "Canceled"}.get(code.name) or str(code.name).title().replace("_", "")
