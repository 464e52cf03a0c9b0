"""One serving process: `python -m hindcast.serving.worker`, started by the supervisor, which hands it a `WorkerSettings`
on standard input and ends it by SIGTERM, or by dying, which closes that input. A second SIGTERM ends it at once.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import uvloop

from hindcast.catalog import Catalog
from hindcast.catalog.unchecked import leave_out_checks
from hindcast.clock import system_clock
from hindcast.errors import HindcastError
from hindcast.lookups.writer import LookupLog
from hindcast.online.layouts import LAYOUTS, Layout
from hindcast.online.reader import RedisReader
from hindcast.online.sinks import SINKS
from hindcast.serving.admission import Admission
from hindcast.serving.credentials import credentials
from hindcast.serving.drain import Stop, age_options, drain
from hindcast.serving.handlers import SERVICES, Handlers
from hindcast.serving.health import online_store_health
from hindcast.serving.ingest import Ingest
from hindcast.serving.lookup import Lookup
from hindcast.serving.metrics import Metrics, WorkerMetrics
from hindcast.serving.observed import ObservedLayout
from hindcast.serving.receipts import Receipts
from hindcast.serving.recorder import Recorder
from hindcast.serving.reflection import add_reflection
from hindcast.serving.rpcs import generic_handler
from hindcast.serving.sockets import above_connections
from hindcast.serving.tracing import OtelTraces, Traces
from hindcast.serving.worker_settings import (
    LINE_BYTES_MAX,
    READY,
    REFUSED,
    TAKEN,
    WorkerSettings,
    catalog_from_line,
)
from hindcast.serving.writes import Writes
from hindcast.settings import split_address

if TYPE_CHECKING:
    from hindcast.catalog.transforms import Transformer

logger = logging.getLogger(__name__)

_OPTIONS = (
    ("grpc.so_reuseport", 1),
    # 10,000 rows of 100 bytes and their names; answers are as large as their question makes them.
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.max_send_message_length", -1),
    # gRPC cancels calls at random when 1,000 wait for the loop, also those of callers who did nothing; who is refused is for
    # `admission` to say, by what a call costs. 10,000 that wait take 100 MB.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
)


_SWITCH_SECONDS = 0.001
"""How long a function in its thread keeps the interpreter from the loop. Beside one that computes for 200 ms a call takes 2 ms
so, 12 ms with Python's own 5 ms, and 200 ms without the thread; less than 1 ms gains nothing more."""


_IDLE_SECONDS = 1.0
"""For what was cut off to end; an on-demand view that runs in its thread is not waited for any longer."""


async def serve() -> None:
    """Serve until told to stop, then part from the callers."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.tell)
    orders = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    settings = WorkerSettings.from_line(await orders.readline())
    options = settings.options
    reader = RedisReader(settings.target)
    metrics = WorkerMetrics(settings.metrics_folder, slot=settings.slot) if settings.metrics_folder else Metrics()
    traces = OtelTraces(slot=settings.slot) if options.traces else Traces()
    layout: Layout = LAYOUTS[settings.layout](reader, project=settings.catalog.project)
    if settings.metrics_folder or options.traces:
        layout = ObservedLayout(layout, metrics=metrics, traces=traces)
    admission = Admission(
        in_flight_max=options.in_flight_max_values, lag_max_seconds=options.queue_max_ms / 1000, metrics=metrics
    )

    def lookup_in(catalog: Catalog) -> Lookup:
        return Lookup(
            catalog=catalog,
            layout=layout,
            transformer=_transformer(catalog, settings.writes.repo_root),
            admission=admission,
            clock=system_clock,
            stale_values=options.stale_values,
            metrics=metrics,
            traces=traces,
        )

    log = _log(settings, metrics)
    handlers = Handlers(
        lookup=lookup_in(settings.catalog),
        recorder=Recorder(log, mode=options.log_mode, modes=options.log_modes, clock=system_clock, metrics=metrics),
        clock=system_clock,
        call_timeout_ms=options.call_timeout_ms,
    )
    sink = SINKS[settings.layout](settings.target, project=settings.catalog.project, policy=settings.writes.policy)
    writes = Writes(
        Ingest(sink, settings.writes, clock=system_clock),
        lambda: handlers.lookup.catalog,
        clock=system_clock,
        call_timeout_ms=options.call_timeout_ms,
        metrics=metrics,
    )
    receipts = Receipts(settings.log_directory, call_timeout_ms=options.call_timeout_ms)
    health = online_store_health(reader, SERVICES)
    server = grpc.aio.server(options=[*_OPTIONS, *age_options(options.max_connection_age_seconds)])
    rpcs = [handlers.rpcs(), writes.rpcs(), receipts.rpcs()]
    server.add_generic_rpc_handlers((generic_handler(rpcs, metrics=metrics, traces=traces),))
    health.add_to(server)
    add_reflection(server, SERVICES)
    with above_connections():
        if options.tls is None:
            server.add_insecure_port(settings.address)
        else:
            server.add_secure_port(settings.address, credentials(options.tls))
    async with traces.kept(), metrics.kept(), health.watched(), admission.watched():
        await server.start()
        _say(READY)
        following = asyncio.create_task(_follow(orders, handlers, lookup_in, stop.told))
        await stop.told.wait()
        await health.shut_down()
        handlers.end_streams()
        await drain(
            server,
            port=split_address(settings.address)[1],
            max_connection_age_seconds=options.max_connection_age_seconds,
            drain_seconds=options.drain_seconds,
            stop=stop,
        )
        following.cancel()
        if log is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(handlers.idle(), _IDLE_SECONDS)
            await log.close()
    await sink.close()
    await reader.close()


async def _follow(
    orders: asyncio.StreamReader, handlers: Handlers, lookup_in: Callable[[Catalog], Lookup], stop: asyncio.Event
) -> None:
    """Take every catalog that the supervisor sends; stop when there is no supervisor any more."""
    loop = asyncio.get_running_loop()
    while line := await orders.readline():
        catalog = catalog_from_line(line)
        try:
            # In a thread: loading on-demand views can import Feast, and calls go on meanwhile.
            handlers.lookup = await loop.run_in_executor(None, lookup_in, catalog)
        except HindcastError as error:
            logger.error("catalog %s cannot be served, the last one goes on: %s", catalog.version, error)  # noqa: TRY400
            _say(REFUSED)
        except Exception:
            # Left alone it would end this task without a word, and with it every later catalog.
            logger.exception("catalog %s met a defect, the last one goes on", catalog.version)
            _say(REFUSED)
        else:
            _say(TAKEN)
    stop.set()


def _log(settings: WorkerSettings, metrics: Metrics) -> LookupLog | None:
    if settings.log_directory is None:
        return None
    log = LookupLog(
        settings.log_directory,
        slot=settings.slot,
        mode=settings.options.log_mode,
        clock=system_clock,
        on_alarm=_tell_of_log,
    )
    metrics.watch_log(lambda: log.counters)
    return log


def _tell_of_log(problem: str | None) -> None:
    if problem is None:
        logger.info("the log of lookups is written again")
    else:
        logger.error("%s", problem)


def _say(word: bytes) -> None:
    sys.stdout.buffer.write(word)
    sys.stdout.buffer.flush()


def _transformer(catalog: Catalog, repo_root: Path) -> "Transformer | None":
    """On-demand views need Feast; a worker without any never imports it (1.3 s, 190 MB)."""
    if not catalog.on_demand_views:
        return None
    from hindcast.catalog.transforms import Transformer  # noqa: PLC0415

    sys.setswitchinterval(_SWITCH_SECONDS)
    return Transformer(catalog.on_demand_views.values(), repo_root=repo_root)


def main() -> int:
    """Run one worker."""
    leave_out_checks()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(serve())
    except HindcastError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
