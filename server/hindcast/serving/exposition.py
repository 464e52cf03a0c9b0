"""`http://HOST:PORT/metrics`: the counts of all workers, living and dead, and what the supervisor knows itself.

Served by threads of the supervisor, which has nothing else to do, so that it answers while every worker is busy or gone.
Imported only with `--metrics-address`: prometheus_client takes 40 ms and 8 MB.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from hindcast.catalog import RegistryWatch
from hindcast.clock import system_clock
from hindcast.errors import ServerStartError
from hindcast.serving import families
from hindcast.serving.families import Family, Kind
from hindcast.serving.fleet import Fleet
from hindcast.serving.materialized import LedgerWatch
from hindcast.serving.preflight import why_not_listened
from hindcast.settings import split_address

logger = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_PREFIX = "hindcast-metrics-"
_YOUNG_SECONDS = 60.0
"""A folder this young may not be locked by its owner yet."""

_REQUEST_SECONDS = 5.0
"""For a client that connects and does not ask."""


@contextlib.contextmanager
def exposed(
    address: str, *, fleet: Fleet, registry: RegistryWatch, ledger: LedgerWatch | None = None
) -> Iterator[Path]:
    """Answer `/metrics` on HOST:PORT until the block ends; port 0 takes a free one, which the log names.

    Args:
        ledger: of the repo's runs; None to show nothing of them.
    Yields:
        The folder for the workers' files.
    Raises:
        ServerStartError: the address is wrong or in use.
    """
    with _folder() as folder:
        metrics = CollectorRegistry()
        metrics.register(MultiProcessCollector(None, path=str(folder)))  # type: ignore[no-untyped-call]
        metrics.register(_Supervisor(fleet, registry, ledger))
        with _server(address, metrics) as server:
            thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
            thread.start()
            try:
                yield folder
            finally:
                server.shutdown()
                thread.join()


def _server(address: str, metrics: CollectorRegistry) -> ThreadingHTTPServer:
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ServerStartError(f"--metrics-address: {error}") from error
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), _Handler.factory(metrics))
    except OSError as error:
        raise ServerStartError(f"--metrics-address: {why_not_listened(address, error)}") from error
    shown = f"[{host}]" if ":" in host else host
    logger.info("metrics on http://%s:%d/metrics", shown, server.server_address[1])
    return server


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without http.server's look-up of this host's name, which takes seconds where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(MetricsHandler):
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Text or OpenMetrics, as asked for."""
        if urlsplit(self.path).path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "metrics are at /metrics")
            return
        super().do_GET()


class _Supervisor(Collector):
    """The metrics that the supervisor says of itself and of its workers' processes."""

    def __init__(self, fleet: Fleet, registry: RegistryWatch, ledger: LedgerWatch | None) -> None:
        self._fleet = fleet
        self._registry = registry
        self._ledger = ledger
        self._processes: dict[int, psutil.Process] = {}

    def collect(self) -> Iterable[Metric]:
        """Every metric as it is now."""
        now, fleet, catalog = time.monotonic(), self._fleet, self._registry.catalog
        workers = dict(fleet.workers)
        yield _family(families.BUILD, [((version("hindcast"), catalog.feast_version), 1)])
        yield _family(families.WORKERS, [((), len(workers))])
        yield _family(families.WORKERS_WANTED, [((), fleet.wanted)])
        yield _family(families.RESTARTS, [((reason,), count) for reason, count in dict(fleet.restarts).items()])
        yield _family(families.CATALOG, [((catalog.version,), 1)])
        yield _family(families.CATALOG_AGE, [((), now - fleet.taken_at)])
        yield _family(families.RELOADS, [((), fleet.reloads)])
        yield _family(families.REGISTRY_PROBLEM, [((), int(bool(self._registry.problem)))])
        materialized = self._registry.materialized.items()
        ages = [((view, catalog.project), (system_clock() - end) / 1_000_000) for view, end in materialized]
        yield _family(families.FEAST_FRESHNESS, ages)
        yield _family(
            families.WORKER_CATALOG, [((str(slot), worker.catalog_version), 1) for slot, worker in workers.items()]
        )
        yield _family(
            families.WORKER_CATALOG_AGE, [((str(slot),), now - worker.taken_at) for slot, worker in workers.items()]
        )
        yield from self._processes_now({slot: worker.process_id for slot, worker in workers.items()})
        if self._ledger is not None:
            for family, samples in self._ledger.samples(catalog.views):
                yield _family(family, samples)

    def _processes_now(self, process_ids: dict[int, int]) -> Iterable[Metric]:
        cpu, memory, cpu_percent, memory_percent = [], [], [], []
        for slot, process_id in process_ids.items():
            # A percentage is of the time since the last look at the same process.
            try:
                process = self._processes.get(slot)
                if process is None or process.pid != process_id:
                    process = self._processes[slot] = psutil.Process(process_id)
                with process.oneshot():
                    times = process.cpu_times()
                    cpu.append(((str(slot),), times.user + times.system))
                    memory.append(((str(slot),), process.memory_info().rss))
                    cpu_percent.append(((str(slot),), process.cpu_percent()))
                    memory_percent.append(((str(slot),), process.memory_percent()))
            except psutil.Error:
                continue  # it has just ended
        yield _family(families.WORKER_CPU, cpu)
        yield _family(families.WORKER_MEMORY, memory)
        yield _family(families.FEAST_CPU, cpu_percent)
        yield _family(families.FEAST_MEMORY, memory_percent)


def _family(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.metric, family.meaning, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A new folder in memory, or where there is none for the temporary files; gone at the end.

    Never beside a log: a full file system would then stop both. A supervisor that is killed leaves its folder behind, which
    the next one removes: a living one holds a lock on its own.
    """
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                with _locked(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        OSError: another process holds it, or it is another user's.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
