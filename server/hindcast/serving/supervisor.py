"""The supervisor: checks everything that can be wrong, then starts the workers, keeps as many running as were asked for, and
replaces them when it is told to.

It creates no gRPC object and never imports Feast, so that a worker starts from a clean process.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hindcast.catalog import Catalog, RegistryWatch, Repo, load_catalog, read_repo
from hindcast.errors import HindcastError, ServerStartError
from hindcast.lookups.catalogs import keep_catalog
from hindcast.lookups.seal_settings import SealSettings
from hindcast.materialize.runs import ledger_path
from hindcast.online.codec import COMPILED
from hindcast.online.connection import RedisTarget
from hindcast.online.layouts import LayoutName
from hindcast.online.rows import read_policy
from hindcast.online.store import layout_of
from hindcast.serving.companions import Companion, sealer, training_sets
from hindcast.serving.drain import Stop
from hindcast.serving.drops import Drops
from hindcast.serving.fleet import Fleet
from hindcast.serving.ingest import WriteSettings
from hindcast.serving.place import Place
from hindcast.serving.preflight import check_log_directory, check_store, check_tls, find_redis, reserved
from hindcast.serving.recovering import Recovering
from hindcast.serving.tracing import check_installed
from hindcast.serving.worker_settings import WorkerSettings
from hindcast.settings import ServeSettings, TrainingSetsSettings, log_directory_of

if TYPE_CHECKING:
    from hindcast.serving.worker_process import WorkerProcess

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
"""How often the registry is looked at: a `feast apply` is served within 2 s of its end."""


def run(settings: ServeSettings, *, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one does not wait for callers. SIGHUP replaces the workers one by one.

    Args:
        say: told one line beginning `serving` when the first answer can be given.
    Raises:
        RepoError, CatalogError: the repo or its registry cannot be served.
        StoreUnavailable: Redis is not there.
        ServerStartError: the address is in use or wrong, or a worker does not come up.
    """
    repo = read_repo(settings.repo_root)
    layout = layout_of(repo)
    if settings.worker.tls is not None:
        check_tls(settings.worker.tls)
    if settings.worker.traces:
        check_installed()
    if settings.training_sets_address is not None:
        check_store(repo)
    catalog = load_catalog(repo)
    log_directory = _log_directory(settings, repo, catalog)
    catalogs = KeptCatalogs(log_directory)
    catalogs.keep(catalog)
    registry = RegistryWatch(repo, catalog, when_new=catalogs.keep)
    fleet = Fleet(wanted=settings.workers)
    with (
        reserved(settings.address) as address,
        _reserved_or_none(settings.training_sets_address) as training_sets_address,
        _metrics(settings, repo, fleet, registry) as metrics_folder,
    ):
        first = WorkerSettings(
            slot=0,
            address=address,
            catalog=catalog,
            target=find_redis(repo, layout),
            layout=layout,
            writes=_write_settings(repo),
            options=settings.worker,
            metrics_folder=metrics_folder,
            log_directory=log_directory,
        )

        def look_again() -> WorkerSettings:
            changed = read_repo(settings.repo_root)
            if replace(changed, online_store=repo.online_store) != repo:
                raise ServerStartError(
                    f"{repo.root}/feature_store.yaml has changed beyond its online_store block, which a replaced worker "
                    "cannot follow; stop the server and start it again"
                )
            if settings.worker.tls is not None:
                check_tls(settings.worker.tls)
            layout = layout_of(changed)
            return replace(first, target=find_redis(changed, layout), layout=layout, writes=_write_settings(changed))

        if not COMPILED:
            logger.warning(
                "the codec runs in Python, and lookups cost a multiple of what they could; install a C compiler and the headers "
                "of Python, and install hindcast again"
            )
        ready = (
            f"serving project {catalog.project} on {address} "
            f"(workers: {settings.workers}, services: {len(catalog.services)}, catalog: {catalog.version[:19]}"
            f"{training_sets_address and ', training sets on '}{training_sets_address})"
        )
        supervisor = _Supervisor(
            first,
            registry=registry,
            catalogs=catalogs,
            fleet=fleet,
            look_again=look_again,
            companions=_companions(settings, repo, log_directory, training_sets_address),
        )
        asyncio.run(supervisor.run(lambda: say(ready)))


class _Supervisor:
    def __init__(
        self,
        settings: WorkerSettings,
        *,
        registry: RegistryWatch,
        catalogs: "KeptCatalogs",
        fleet: Fleet,
        look_again: Callable[[], WorkerSettings],
        companions: Sequence[Companion],
    ) -> None:
        """Args:
        look_again: gives the settings of workers that replace others; it blocks, and raises HindcastError.
        companions: processes that are kept beside the workers, once these serve.
        """
        self._settings = settings
        self._registry = registry
        self._catalogs = catalogs
        self._fleet = fleet
        self._look_again = look_again
        self._companions = companions
        self._recovering = Recovering(settings.log_directory)
        self._running: set[WorkerProcess] = set()
        self._stop = Stop()
        self._replace = asyncio.Event()
        self._had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._places = [
            # A worker and its successor live at once, so a place has two slots.
            Place(
                (number, number + fleet.wanted),
                settings,
                registry=registry,
                fleet=fleet,
                running=self._running,
                stop=self._stop,
                when_ended=self._recovering.tell,
            )
            for number in range(fleet.wanted)
        ]

    async def run(self, when_ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.tell)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            async with asyncio.TaskGroup() as tasks:
                first_starts = [loop.create_future() for _ in self._places]
                keeping = [
                    tasks.create_task(place.keep(first_start.set_result))
                    for place, first_start in zip(self._places, first_starts, strict=True)
                ]
                if not all(await asyncio.gather(*first_starts)):
                    return
                when_ready()
                others = [
                    tasks.create_task(self._follow_registry()),
                    tasks.create_task(self._replace_when_told()),
                    tasks.create_task(self._recovering.keep()),
                ]
                others += [tasks.create_task(companion.keep()) for companion in self._companions]
                with self._dropping():
                    await asyncio.wait(keeping)
                for other in others:
                    other.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """Old generations of views are deleted meanwhile, while the layout, which SIGHUP can change, has any."""

        def target() -> RedisTarget | None:
            return self._settings.target if self._settings.layout is LayoutName.PACKED else None

        drops = Drops(target, project=self._settings.catalog.project)
        drops.start()
        try:
            yield
        finally:
            drops.stop()

    def _hang_up(self) -> None:
        """SIGHUP is also how the kernel says that the terminal is gone, and then nobody wants this server any more."""
        if self._had_terminal and not _has_terminal():
            self._stop.tell()
        else:
            self._replace.set()

    async def _replace_when_told(self) -> None:
        """Replace all workers, one after the other; asked once or more while that goes on, once more afterwards."""
        loop = asyncio.get_running_loop()
        while True:
            await self._replace.wait()
            self._replace.clear()
            try:
                settings = await loop.run_in_executor(None, self._look_again)
            except HindcastError as error:
                logger.error("no worker is replaced: %s", error)  # noqa: TRY400 - the message says it all
                continue
            self._settings = settings
            for place in self._places:
                if not await place.renew(settings):
                    logger.error("a successor does not come up, its words are above: the workers that serve now stay")
                    break
            else:
                logger.info("all workers are replaced")

    async def _follow_registry(self) -> None:
        """Hand every new catalog to all workers, those included that only part from their callers."""
        loop = asyncio.get_running_loop()
        while self._registry.is_possible:
            await asyncio.sleep(_LOOK_SECONDS)
            changed = await loop.run_in_executor(None, self._registry.look)
            await loop.run_in_executor(None, self._catalogs.keep, self._registry.catalog)
            if not changed:
                continue
            self._fleet.reloaded()
            catalog = self._registry.catalog
            taken = await asyncio.gather(*(self._hand_over(worker, catalog) for worker in list(self._running)))
            logger.info(
                "catalog %s: taken by %d of %d workers (services: %d, views: %d)",
                catalog.version[:19],
                sum(taken),
                len(taken),
                len(catalog.services),
                len(catalog.views) + len(catalog.on_demand_views),
            )

    async def _hand_over(self, worker: "WorkerProcess", catalog: Catalog) -> bool:
        taken = await worker.take(catalog)
        if taken and worker in self._running:
            self._fleet.serves(worker.slot, process_id=worker.process_id, catalog_version=catalog.version)
        return taken


class KeptCatalogs:
    """Keeps catalogs beside the records that name them, before any worker answers from them."""

    def __init__(self, log_directory: Path | None) -> None:
        """Args: log_directory is None if no lookup is logged, and then no catalog is kept."""
        self._log_directory = log_directory
        self._failed = False

    def keep(self, catalog: Catalog) -> None:
        """Keep it. Where it cannot be, the log says so and calls are answered from it all the same: try again later."""
        if self._log_directory is None:
            return
        try:
            keep_catalog(self._log_directory, catalog)
        except OSError as error:
            if not self._failed:
                logger.error(  # noqa: TRY400 - the reason says it all
                    "catalog %s cannot be kept in %s for its lookups to be read by, and is tried again: %s",
                    catalog.version[:19],
                    self._log_directory,
                    error.strerror,
                )
            self._failed = True
        else:
            self._failed = False


def _log_directory(settings: ServeSettings, repo: Repo, catalog: Catalog) -> Path | None:
    """Where lookups are logged, seen to be usable; None where none are."""
    options = settings.worker
    for service in sorted(options.log_modes.keys() - catalog.services.keys()):
        logger.warning("--log-mode-for: there is no feature service %r yet, so nothing has its log mode", service)
    if not options.logs:
        return None
    directory = settings.log_directory or log_directory_of(repo.root)
    check_log_directory(directory)
    return directory


def _seal_settings(settings: ServeSettings, repo: Repo, log_directory: Path | None) -> SealSettings | None:
    if log_directory is None or not settings.seal_seconds:
        return None
    return SealSettings(
        log_directory=str(log_directory.resolve()),
        repo_root=str(Path(repo.root).resolve()),
        seconds=settings.seal_seconds,
        keep_days=settings.keep_days,
    )


def _companions(
    settings: ServeSettings, repo: Repo, log_directory: Path | None, training_sets_address: str
) -> Sequence[Companion]:
    found = []
    sealing = _seal_settings(settings, repo, log_directory)
    if sealing is not None:
        found.append(sealer(sealing))
    if training_sets_address:
        root = Path(repo.root).resolve()
        found.append(
            training_sets(TrainingSetsSettings(repo_root=root, address=training_sets_address, tls=settings.worker.tls))
        )
    return found


@contextmanager
def _reserved_or_none(address: str | None) -> Iterator[str]:
    """As `reserved`; empty without an address."""
    with nullcontext("") if address is None else reserved(address) as held:
        yield held


def _write_settings(repo: Repo) -> WriteSettings:
    return WriteSettings(
        policy=read_policy(repo.online_store),
        offline_store_type=str(repo.offline_store["type"]),
        repo_root=repo.root,
    )


def _metrics(
    settings: ServeSettings, repo: Repo, fleet: Fleet, registry: RegistryWatch
) -> AbstractContextManager[Path | None]:
    """Answer `/metrics` if that is wanted; gives the folder for what workers count."""
    if settings.metrics_address is None:
        return nullcontext()
    from hindcast.serving.exposition import exposed  # noqa: PLC0415 - prometheus_client, which few servers need
    from hindcast.serving.materialized import LedgerWatch  # noqa: PLC0415

    ledger = LedgerWatch(ledger_path(repo), project=repo.project)
    return exposed(settings.metrics_address, fleet=fleet, registry=registry, ledger=ledger)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
