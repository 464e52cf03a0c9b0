"""The supervisor: checks everything that can be wrong, then starts the workers, and keeps as many running as were asked for.

It creates no gRPC object and never imports Feast, so that a worker starts from a clean process.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from hindcast.catalog import Catalog, RegistryWatch, Repo, load_catalog, read_repo
from hindcast.errors import RepoError, ServerStartError, StoreUnavailable
from hindcast.online.connection import REDIS_ERRORS, RedisTarget, read_target
from hindcast.online.keys import ENTITY_KEY_VERSION
from hindcast.online.layouts import LayoutName
from hindcast.serving.worker_settings import READY, TAKEN, WorkerSettings, catalog_to_line
from hindcast.settings import ServeSettings, TlsFiles, split_address

logger = logging.getLogger(__name__)

PACKED_STORE = "hindcast.online.plugin.PackedRedisOnlineStore"

_LAYOUTS = {
    PACKED_STORE: LayoutName.PACKED,
    "redis": LayoutName.FEAST,
    "feast.infra.online_stores.redis.RedisOnlineStore": LayoutName.FEAST,
}
"""Values of `online_store.type` that can be served."""

_FEAST_CONNECTION = "localhost:6379"
"""Where Feast's own Redis store looks when nothing is said."""

_START_SECONDS = 60.0
"""A worker that loads on-demand views imports Feast: 5 s on a quiet machine."""

_BACKOFF_SECONDS = (0.05, 0.2, 1.0, 5.0)
_STEADY_SECONDS = 30.0
"""A worker that lived this long did not die of its start: the next one starts at once again."""

_KILL_SECONDS = 5.0

_LOOK_SECONDS = 0.5
"""How often the registry is looked at: a `feast apply` is served within 2 s of its end."""


def run(settings: ServeSettings, *, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        say: told one line beginning `serving` when the first answer can be given.
    Raises:
        RepoError, CatalogError: the repo or its registry cannot be served.
        StoreUnavailable: Redis is not there.
        ServerStartError: the address is in use or wrong, or a worker does not come up.
    """
    repo = read_repo(settings.repo_root)
    layout = _layout(repo)
    if settings.tls is not None:
        _check_tls(settings.tls)
    catalog = load_catalog(repo)
    with _reserved(settings.address) as address:
        target = _target(repo, layout)
        _check_redis(target)

        def worker_settings(slot: int) -> WorkerSettings:
            return WorkerSettings(
                slot=slot,
                address=address,
                catalog=catalog,
                target=target,
                layout=layout,
                call_timeout_ms=settings.call_timeout_ms,
                drain_seconds=settings.drain_seconds,
                tls=settings.tls,
                stale_values=settings.stale_values,
            )

        ready = (
            f"serving project {catalog.project} on {address} "
            f"(workers: {settings.workers}, services: {len(catalog.services)}, catalog: {catalog.version[:19]})"
        )
        supervisor = _Supervisor(
            [worker_settings(slot) for slot in range(settings.workers)], RegistryWatch(repo, catalog)
        )
        asyncio.run(supervisor.run(lambda: say(ready)))


def _layout(repo: Repo) -> LayoutName:
    """How the repo's online store lays out its rows.

    Raises:
        RepoError: its type or its key serialization is not one that is served; the message has the lines to change.
    """
    store = str(repo.online_store["type"])
    if repo.entity_key_version != ENTITY_KEY_VERSION:
        raise RepoError(
            f"{repo.root}/feature_store.yaml has entity_key_serialization_version {repo.entity_key_version}, and Hindcast "
            f"reads version {ENTITY_KEY_VERSION}. Change the line to `entity_key_serialization_version: "
            f"{ENTITY_KEY_VERSION}`, then run `feast apply` and `feast materialize`"
        )
    if store not in _LAYOUTS:
        raise RepoError(
            f"{repo.root}/feature_store.yaml has online_store.type {store!r}, and Hindcast serves from Redis. Change the "
            f"block to these lines, then run `feast apply` and `feast materialize`:\n"
            f"online_store:\n    type: {PACKED_STORE}\n    connection_string: embedded    # or HOST:PORT"
        )
    return _LAYOUTS[store]


def _target(repo: Repo, layout: LayoutName) -> RedisTarget:
    default = {"connection_string": _FEAST_CONNECTION} if layout is LayoutName.FEAST else {}
    return read_target({**default, **repo.online_store}, repo_root=repo.root)


def _check_redis(target: RedisTarget) -> None:
    try:
        # One try: whoever starts a server wants to hear now, and redis-py would try for up to 15 s.
        once = replace(target, options={**target.options, "retry": Retry(NoBackoff(), 0)})
        with contextlib.closing(once.client()) as client:
            client.ping()
    except (AuthenticationError, NoPermissionError) as error:
        raise StoreUnavailable(
            f"Redis at {target} refuses the login; check username and password in online_store.connection_string, and "
            "that this user may PING and MGET"
        ) from error
    except REDIS_ERRORS as error:
        raise StoreUnavailable(
            f"Redis at {target} does not answer. Start it, or change online_store.connection_string in feature_store.yaml "
            "(`embedded` starts one for this repo)"
        ) from error


def _check_tls(tls: TlsFiles) -> None:
    """A worker could only die of wrong files, in words of gRPC's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except OSError as error:
        raise ServerStartError(
            f"{tls.certificate} and {tls.key} are not a PEM certificate and its PEM key without a passphrase; "
            "check --tls-cert and --tls-key"
        ) from error
    try:
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except OSError as error:
        raise ServerStartError(f"{tls.client_ca} holds no PEM certificate; check --tls-client-ca") from error


@contextlib.contextmanager
def _reserved(address: str) -> Iterator[str]:
    """Hold HOST:PORT for the workers, who share it by SO_REUSEPORT; port 0 becomes a free one.

    A bound socket that does not listen receives no connection. Another server is looked for without SO_REUSEPORT first,
    because with it a second Hindcast would silently take half of the calls.
    """
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ServerStartError(str(error)) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        reservation = socket.socket(family)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))
    except OSError as error:
        raise ServerStartError(
            f"{address} cannot be listened on: it is in use, not of this machine, or needs other rights"
        ) from error
    with reservation:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        yield f"{shown}:{reservation.getsockname()[1]}"


class _Supervisor:
    def __init__(self, workers: list[WorkerSettings], registry: RegistryWatch) -> None:
        self._workers = workers
        self._registry = registry
        self._running: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()

    async def run(self, when_ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                first_starts = [loop.create_future() for _ in self._workers]
                for settings, first_start in zip(self._workers, first_starts, strict=True):
                    tasks.create_task(self._keep(settings, first_start))
                if all(await asyncio.gather(*first_starts)):
                    when_ready()
                    tasks.create_task(self._follow_registry())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _keep(self, settings: WorkerSettings, first_start: "asyncio.Future[bool]") -> None:
        """Keep one slot filled until told to stop."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            began = loop.time()
            catalog = self._registry.catalog
            worker = await _Worker.start(replace(settings, catalog=catalog))
            came_up = await worker.comes_up(self._stopping)
            if not first_start.done():
                if not came_up and not self._stopping.is_set():
                    first_start.set_result(False)
                    await worker.end(0)
                    raise ServerStartError(f"worker {settings.slot} does not come up; its words are above")
                first_start.set_result(came_up)
            if came_up:
                self._running[settings.slot] = worker
                if self._registry.catalog is not catalog:
                    await worker.take(self._registry.catalog)
                code = await worker.lives(self._stopping, drain_seconds=settings.drain_seconds)
                del self._running[settings.slot]
            else:
                code = await worker.end(0)
            if self._stopping.is_set():
                return
            failures = 0 if loop.time() - began > _STEADY_SECONDS else failures + 1
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1] if failures else 0.0
            logger.error("worker %d ended with code %s; another starts in %.2f s", settings.slot, code, pause)
            await self._pause(pause)

    async def _follow_registry(self) -> None:
        """Hand every new catalog to all workers."""
        loop = asyncio.get_running_loop()
        while self._registry.is_possible and not self._stopping.is_set():
            await self._pause(_LOOK_SECONDS)
            if not await loop.run_in_executor(None, self._registry.look):
                continue
            catalog = self._registry.catalog
            taken = await asyncio.gather(*(worker.take(catalog) for worker in list(self._running.values())))
            logger.info(
                "catalog %s: taken by %d of %d workers (services: %d, views: %d)",
                catalog.version[:19],
                sum(taken),
                len(taken),
                len(catalog.services),
                len(catalog.views) + len(catalog.on_demand_views),
            )

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class _Worker:
    """One child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._handing_over = asyncio.Lock()

    @classmethod
    async def start(cls, settings: WorkerSettings) -> "_Worker":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hindcast.serving.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A terminal's Ctrl-C goes to the supervisor alone, which then ends the workers in order.
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.write(settings.to_line())
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        return cls(process)

    async def comes_up(self, stopping: asyncio.Event) -> bool:
        """Whether the worker says that it serves, in time and before it is told to stop."""
        assert self._process.stdout is not None  # noqa: S101
        said = asyncio.ensure_future(self._process.stdout.readline())
        told = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({said, told}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if said.done():
            return said.result() == READY
        said.cancel()
        return False

    async def take(self, catalog: Catalog) -> bool:
        """Hand over a new catalog; whether it is served now.

        A worker that does not say in time is ended, and its successor starts from the newest catalog.
        """
        assert self._process.stdin is not None  # noqa: S101 - asked for at the start
        assert self._process.stdout is not None  # noqa: S101
        try:
            # One at a time: the pipe back has one reader, and each word on it belongs to one catalog.
            async with self._handing_over, asyncio.timeout(_START_SECONDS):
                self._process.stdin.write(catalog_to_line(catalog))
                await self._process.stdin.drain()
                return await self._process.stdout.readline() == TAKEN
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        except ConnectionError:
            pass  # it has ended by itself
        return False

    async def lives(self, stopping: asyncio.Event, *, drain_seconds: float) -> int | None:
        """Wait until the worker ends, or end it when told to; return its exit code."""
        ended = asyncio.ensure_future(self._process.wait())
        told = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not ended.done():
            await self.end(drain_seconds)
        return await ended

    async def end(self, drain_seconds: float) -> int | None:
        """SIGTERM, then SIGKILL once the drain is overdue; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), drain_seconds + _KILL_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            return await self._process.wait()
