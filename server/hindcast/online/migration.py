"""The migration: Feast's rows of a project, copied into packed rows while both are served, and proven equal.

It writes as every writer does, newest wins, decided inside Redis, so it can be run at any time, and again and again. Among
rows of equal times it gives way to every other writer: what Feast's store knew is the older knowledge.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from hindcast.catalog import Catalog, Repo, load_catalog, read_repo
from hindcast.catalog.compile import ONE_VERSION
from hindcast.clock import Clock, system_clock, uuid7
from hindcast.errors import RepoError, StoreUnavailable
from hindcast.online.codec import unpack_row
from hindcast.online.connection import (
    DEFAULT_FUTURE_SECONDS,
    DEFAULT_TTL_GRACE_SECONDS,
    REDIS_ERRORS,
    RedisTarget,
    failing_as,
)
from hindcast.online.feast_rows import FeastRows, SourceRow, stored_views
from hindcast.online.keys import schema_key
from hindcast.online.migration_report import COUNTS, DIGESTS, MigrationReport, Mode, RowsDigest, ViewReport
from hindcast.online.packed_rows import PackedRows, TargetRow
from hindcast.online.proof import Progress, Proof, Sides, Verdict, judge
from hindcast.online.rows import RowPolicy, ViewWriter
from hindcast.online.store import layout_of, target_of
from hindcast.online.sweep import RedisSweep
from hindcast.online.writer import ViewTargets, write_rows
from hindcast.spelling import hint_of

RUN_TAG = b"migrat"
"""How the run ids of migrations end. By it a migration knows the rows that it may replace without a later time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """What `hindcast migrate` was told.

    Attributes:
        source, target: connection strings in Feast's form; None is the repo's own.
        source_type, target_type: `redis`, `redis_cluster` or `redis_sentinel`; None is the repo's own.
        views: names of views; none means all.
        future_seconds: rows dated further ahead are not copied; None is the repo's own bound.
    """

    repo_root: Path
    source: str | None = None
    target: str | None = None
    source_type: str | None = None
    target_type: str | None = None
    views: Sequence[str] = ()
    mode: Mode = Mode.MIGRATE
    future_seconds: int | None = None


def migrate(settings: MigrationSettings, *, progress: Progress, clock: Clock = system_clock) -> MigrationReport:
    """Copy and prove, or what the mode says.

    Raises:
        RepoError: the repo, a connection string or a view's name is not one.
        CatalogError: the registry cannot be read.
        StoreUnavailable: a Redis is not there or failed. Running it again goes on from what was copied.
    """
    repo = read_repo(settings.repo_root)
    layout_of(repo)
    source = _redis(repo, settings.source, settings.source_type, option="--from")
    target = _redis(repo, settings.target, settings.target_type, option="--to")
    catalog = load_catalog(repo)
    chosen = _chosen(catalog, settings.views)
    told_apart, refused = stored_views(catalog.views.values())
    views = {view.stored_name: view for view in told_apart if view.stored_name in chosen}
    now = clock()
    run_id = uuid7(now).bytes[: -len(RUN_TAG)] + RUN_TAG
    policy = _policy(repo, settings.future_seconds)
    with ExitStack() as stack:
        from_client, to_client = (
            stack.enter_context(closing(_connected(of, option)))
            for of, option in ((source, "--from"), (target, "--to"))
        )
        sides = Sides(
            views=views,
            source=FeastRows(
                RedisSweep(from_client, called=f"Redis at {source}"),
                project=catalog.project,
                views=list(views.values()),
                known=catalog.views.values(),
            ),
            target=PackedRows(
                RedisSweep(to_client, called=f"Redis at {target}"), project=catalog.project, views=list(views.values())
            ),
            writers={
                name: ViewWriter(
                    project=catalog.project,
                    view=name,
                    fields=view.fields,
                    ttl_micros=view.ttl_micros,
                    run_id=run_id,
                    now_micros=now,
                    policy=policy,
                )
                for name, view in views.items()
            },
            latest_micros=now + policy.future_seconds * 1_000_000,
            clock=clock,
        )
        copy = _Copy(sides, to_client, is_dry=settings.mode is Mode.DRY_RUN, progress=progress)
        proof = Proof(sides, progress=progress)
        started = time.monotonic()
        if settings.mode is Mode.MIGRATE:
            _store_schemas(catalog.project, sides, to_client)
        if settings.mode is not Mode.VERIFY_ONLY:
            copy.run()
        copied = time.monotonic()
        if settings.mode is not Mode.DRY_RUN:
            proof.run()
        ended = time.monotonic()
    is_proven = settings.mode is not Mode.DRY_RUN
    swept = proof if is_proven else copy
    return MigrationReport(
        project=catalog.project,
        mode=settings.mode,
        source=_shown(source),
        target=_shown(target),
        run_id=str(UUID(bytes=run_id)) if settings.mode is Mode.MIGRATE else None,
        keys=swept.keys,
        unclaimed=swept.unclaimed,
        views=[_view_report(name, sides, copy, proof, settings.mode) for name in sorted(views)],
        source_digest=_total(proof.source_digests) if is_proven else None,
        target_digest=_total(proof.target_digests) if is_proven else None,
        refused={name: reason for name, reason in refused.items() if name in chosen},
        left_out={} if settings.views else _left_out(catalog),
        differences=tuple(proof.differences),
        copy_seconds=round(copied - started, 3),
        verify_seconds=round(ended - copied, 3),
    )


def _left_out(catalog: Catalog) -> dict[str, str]:
    """Views without rows to copy, and why. Where a view has rows of one version only, those are the view's own: no version is left out."""
    return {name: reason for name, reason in catalog.unservable.items() if reason != ONE_VERSION}


class _Copy:
    """Copies rows that the target does not have, and only those.

    Attributes:
        counts: by stored name, the numbers of a `ViewReport`.
        keys, unclaimed: as in `MigrationReport`.
    """

    def __init__(self, sides: Sides, client: Redis | RedisCluster, *, is_dry: bool, progress: Progress) -> None:
        self._sides = sides
        self._client = client
        self._is_dry = is_dry
        self._progress = progress
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in sides.views}
        self.keys = self.unclaimed = 0

    def run(self) -> None:
        """Sweep the source once."""
        rows_so_far = 0
        for batch in self._sides.source.batches():
            self.keys += batch.keys
            self.unclaimed += batch.unclaimed
            for name, rows in batch.rows.items():
                self._copy(name, rows)
                rows_so_far += len(rows)
            self._progress("looking" if self._is_dry else "copying", batch.share, rows_so_far)

    def _copy(self, name: str, rows: Sequence[SourceRow]) -> None:
        counts, writes = self.counts[name], []
        counts["rows"] += len(rows)
        found = self._sides.target.read(self._sides.views[name], [row.entity_key for row in rows])
        for row, packed in zip(rows, found, strict=True):
            verdict = judge(row, packed)
            if verdict is Verdict.EQUAL:
                counts["already_there"] += 1
            elif row.event_micros is None:
                counts["damaged"] += 1
            elif verdict is Verdict.NEWER:
                counts["newer"] += 1
            elif row.event_micros > self._sides.latest_micros:
                counts["dated_ahead"] += 1
            elif verdict is Verdict.OTHER and not _is_ours(packed):
                counts["differing"] += 1
            elif (write := self._sides.write_of(name, row, row.event_micros)) is None:
                counts["expired"] += 1
            else:
                writes.append(write)
        if self._is_dry:
            counts["copied"] += len(writes)
        else:
            targets = ViewTargets(self._sides.target.generations, name)
            counts["copied"] += write_rows(self._client, writes, ties_over=RUN_TAG, into=targets).written


def _is_ours(packed: TargetRow | None) -> bool:
    """Whether a migration wrote this row, and so may replace it by one of the same times."""
    return packed is not None and unpack_row(packed.packed).run_id.endswith(RUN_TAG)


def _store_schemas(project: str, sides: Sides, client: Redis | RedisCluster) -> None:
    """Store the field lists, without which no row can be read, before the first row."""
    with failing_as("Redis did not take a write; check that it runs, has memory left, and lets this user SET"):
        for writer in sides.writers.values():
            client.set(schema_key(project, writer.schema.id), writer.schema.to_bytes())


def _redis(repo: Repo, connection_string: str | None, redis_type: str | None, *, option: str) -> RedisTarget:
    """The Redis that an option names, or the repo's own."""
    if connection_string is None and redis_type is None:
        return target_of(repo, layout_of(repo))
    block = dict(repo.online_store)
    block |= {} if connection_string is None else {"connection_string": connection_string}
    block |= {} if redis_type is None else {"redis_type": redis_type}
    try:
        return target_of(replace(repo, online_store=block), layout_of(repo))
    except RepoError as error:
        raise RepoError(str(error).replace("online_store.connection_string", option)) from error


def _connected(target: RedisTarget, option: str) -> Redis | RedisCluster:
    """A client of a Redis that answers.

    Raises:
        StoreUnavailable: it does not, or not to this user.
    """
    where = f"Redis at {target} ({option}, or online_store.connection_string in feature_store.yaml)"
    try:
        # One try: whoever starts this wants to hear now, and redis-py would try for up to 15 s.
        once = replace(target, options={**target.options, "retry": Retry(NoBackoff(), 0)})
        with closing(once.client()) as client:
            client.ping()
        return target.client()
    except (AuthenticationError, NoPermissionError) as error:
        raise StoreUnavailable(
            f"{where} refuses the login; check username and password, and that this user may PING"
        ) from error
    except REDIS_ERRORS as error:
        raise StoreUnavailable(f"{where} does not answer. Start it, or name another") from error


def _chosen(catalog: Catalog, names: Sequence[str]) -> set[str]:
    """Stored names of the views to migrate."""
    for name in names:
        if name in catalog.unservable:
            raise RepoError(f"view {name!r} has no rows to copy: {catalog.unservable[name]}")
        if name not in catalog.views:
            hint = hint_of(name, catalog.views, none="run `feast apply` first")
            raise RepoError(f"view {name!r} is not in the registry; {hint}")
    return {view.stored_name for view in catalog.views.values() if not names or view.name in names}


def _policy(repo: Repo, future_seconds: int | None) -> RowPolicy:
    """As the packed store would write, by the settings of its block. The hash's own expiry stands in for `key_ttl_seconds`."""
    return RowPolicy(
        ttl_grace_seconds=_seconds(repo, "ttl_grace_seconds", DEFAULT_TTL_GRACE_SECONDS),
        future_seconds=_seconds(repo, "future_seconds", DEFAULT_FUTURE_SECONDS)
        if future_seconds is None
        else future_seconds,
    )


def _seconds(repo: Repo, name: str, default: int) -> int:
    value = repo.online_store.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RepoError(
            f"{repo.root}/feature_store.yaml: online_store.{name} must be a number of seconds, zero or more"
        )
    return value


def _shown(target: RedisTarget) -> str:
    """An address without credentials."""
    database = target.options.get("db")
    return f"{target},db={database}" if database else str(target)


def _view_report(name: str, sides: Sides, copy: _Copy, proof: Proof, mode: Mode) -> ViewReport:
    counts = Counter(copy.counts[name] if mode is Mode.DRY_RUN else proof.counts[name])
    if mode is Mode.MIGRATE:
        counts.update({number: copy.counts[name][number] for number in ("copied", "already_there")})
    is_proven = mode is not Mode.DRY_RUN
    return ViewReport(
        view=sides.views[name].name,
        counts={number: counts[number] for number in COUNTS},
        source_digest=str(proof.source_digests[name]) if is_proven else None,
        target_digest=str(proof.target_digests[name]) if is_proven else None,
    )


def _total(digests: Mapping[str, RowsDigest]) -> str:
    return str(RowsDigest(sum(digest.number for digest in digests.values()) % DIGESTS))
