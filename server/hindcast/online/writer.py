"""The newest-wins writer: rows into Redis, decided inside Redis, so that racing writers cannot leave the older row.

Blocking and asyncio callers share everything but the lines that send; each layout has a script of its own.
"""

import contextlib
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from hindcast.errors import StoreUnavailable
from hindcast.online.connection import NOT_WRITTEN, RedisTarget, failing_as
from hindcast.online.generations import FLIPS_MAX, KnownGenerations
from hindcast.online.keys import schema_key, view_prefix
from hindcast.online.schemas import Schema

SCRIPT = files("hindcast.online").joinpath("newest_wins.lua").read_text()

AS_CARRIED = b""
"""The script's second argument: rows are written as they are, under the run id that they carry, and none is compared."""

ROWS_PER_CALL = 100
"""One script call over 100 rows costs Redis 2.7 us a row, a call a row 4.0 (DESIGN section 5)."""

_CALLS_PER_PIPELINE = 20
_MOVES_MAX = 5


class Write(Protocol):
    """One row on its way into Redis: its key, and what a script is told of it."""

    @property
    def key(self) -> bytes:
        """Where the row lies."""

    @property
    def arguments(self) -> Sequence[bytes | int]:
        """The row's own arguments of the script, as many for every row of a call."""


_W = TypeVar("_W", bound=Write)


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One packed row on its way into Redis; `expires_at_ms` is 0 for never."""

    key: bytes
    packed: bytes
    expires_at_ms: int = 0

    @property
    def arguments(self) -> tuple[bytes, int]:
        """See `Write.arguments`."""
        return self.packed, self.expires_at_ms


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows: every one is acknowledged, as written, as older than what is stored, or as the same.

    Of rows that went to several generations of a view, the one that is served counts.

    Attributes:
        unchanged: rows that were stored already, the same but for their run id, and are as they were; only a `RowStream` tells.
    """

    written: int
    older: int
    unchanged: int = 0


def write_schema(target: RedisTarget, *, project: str, schema: Schema) -> None:
    """Store a field list, before any row that names it.

    Raises:
        StoreUnavailable: Redis failed.
    """
    with failing_as(NOT_WRITTEN), contextlib.closing(target.client()) as client:
        client.set(schema_key(project, schema.id), schema.to_bytes())


@dataclass(frozen=True, slots=True)
class ViewTargets:
    """Every generation of a view that its rows must be written to; `view` is the name that they are stored under."""

    known: KnownGenerations
    view: str


def write_rows(
    client: "Redis | RedisCluster",
    rows: Iterable[RowWrite],
    *,
    ties_over: bytes = b"",
    into: ViewTargets | None = None,
) -> WriteReport:
    """Write rows, newest wins; rows of one key are taken in the order given.

    Args:
        rows: with their keys in generation 0, if they go `into` a view.
        ties_over: of stored rows with equal times, replace only those whose run id ends so.
        into: the view whose target generations get the rows, whatever is flipped meanwhile; None writes the keys as they are.
    Raises:
        StoreUnavailable: Redis failed. Rows before the failure may be written; to write all again gives the same state.
        StoredDataError: what says which generations there are is damaged.
    """
    head = (ties_over, AS_CARRIED)
    total = written = 0
    with failing_as(NOT_WRITTEN):
        for chunk in _chunks(rows, ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            steps = _steps(chunk, into)
            step = next(steps)
            try:
                while True:
                    step = steps.send(_sent(client, step, head))
            except StopIteration as done:
                written += done.value
    return WriteReport(written, total - written)


async def write_rows_async(
    client: "redis_asyncio.Redis | redis_asyncio.RedisCluster",
    rows: Iterable[Write],
    *,
    script: str = SCRIPT,
    head: Sequence[bytes | int] = (b"", AS_CARRIED),
    into: ViewTargets | None = None,
) -> WriteReport:
    """As `write_rows`, for the running loop.

    Args:
        rows: `RowWrite`s, if they go `into` a view.
        script: decides and writes the rows of a call, and gives their number; writing a row again must change nothing.
        head: its arguments before those of the rows; as they stand here, all ties go to the later writer.
    Raises:
        StoreUnavailable, StoredDataError: as there.
    """
    total = written = 0
    with failing_as(NOT_WRITTEN):
        for chunk in _chunks(rows, ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            steps = _steps(chunk, into)
            step = next(steps)
            try:
                while True:
                    step = steps.send(await _sent_async(client, step, script, head))
            except StopIteration as done:
                written += done.value
    return WriteReport(written, total - written)


class _Step(NamedTuple):
    """What is sent next: rows to be written, keys to be deleted, and what is read after either."""

    rows: Sequence[Write]
    unwanted: Sequence[bytes]
    document: bytes | None


_Reply = tuple[int, bytes | None]
"""How many rows of a step were written, and the document after it."""


def _steps(rows: Sequence[Write], into: ViewTargets | None) -> Generator[_Step, _Reply, int]:
    """The steps that bring rows to where they belong, each sent a reply; gives how many were written where lookups see them.

    Write, then look: whoever adds a target before the look is seen by it, and whoever adds one after it finds the rows where they
    are served. So no row that is acknowledged is missing from what a flip serves.
    """
    if into is None:
        written, _ = yield _Step(rows, (), None)
        return written
    known, view = into.known, into.view
    now = known.now
    if not known.is_read:
        _, document = yield _Step((), (), known.key)
        now = known.follow(document)
    counts: dict[int, int] = {}
    keys: dict[int, Sequence[Write]] = {}
    for _ in range(FLIPS_MAX):
        targets = now.of(view).targets
        missing = [generation for generation in targets if generation not in counts]
        if not missing:
            break
        for generation in missing:
            keys[generation] = _in_generation(rows, known.project, view, generation)
            counts[generation], document = yield _Step(keys[generation], (), known.key)
        now = known.follow(document)
    else:
        raise StoreUnavailable(f"the generations of view {view!r} keep changing; try again")
    # Nobody reads a generation that is no target any more, and it may have been deleted before these rows came.
    unwanted = [row.key for generation in counts.keys() - set(targets) for row in keys[generation]]
    if unwanted:
        yield _Step((), unwanted, None)
    return counts[targets[0]]


def _in_generation(rows: Sequence[Write], project: str, view: str, generation: int) -> Sequence[Write]:
    """Rows of generation 0 as those of another."""
    if generation == 0:
        return rows
    prefix, length = view_prefix(project, view, generation), len(view_prefix(project, view))
    return [replace(row, key=prefix + row.key[length:]) for row in rows]  # type: ignore[type-var]


def _sent(client: "Redis | RedisCluster", step: _Step, head: Sequence[bytes | int]) -> _Reply:
    if step.unwanted:
        client.unlink(*step.unwanted)
    if not isinstance(client, RedisCluster):
        return _write_node(
            client, [_arguments(part, head) for part in _chunks(step.rows, ROWS_PER_CALL)], step.document
        )
    written = _write_cluster(client, step.rows, head)
    return written, None if step.document is None else client.get(step.document)


async def _sent_async(
    client: "redis_asyncio.Redis | redis_asyncio.RedisCluster", step: _Step, script: str, head: Sequence[bytes | int]
) -> _Reply:
    if step.unwanted:
        await client.unlink(*step.unwanted)
    if not isinstance(client, redis_asyncio.RedisCluster):
        calls = [_arguments(part, head) for part in _chunks(step.rows, ROWS_PER_CALL)]
        return await _write_node_async(client, script, calls, step.document)
    written = await _write_cluster_async(client, script, step.rows, head)
    return written, None if step.document is None else await client.get(step.document)


def _chunks(rows: Iterable[_W], size: int) -> Iterator[list[_W]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _arguments(rows: Sequence[Write], head: Sequence[bytes | int]) -> list[Any]:
    """Number of keys, keys, then the head and each row's own: what EVAL and EVALSHA take after the script."""
    arguments: list[Any] = [len(rows)]
    arguments += [row.key for row in rows]
    arguments += head
    for row in rows:
        arguments += row.arguments
    return arguments


def _by_slot(rows: Iterable[Write]) -> list[list[Write]]:
    """The rows of each slot of a Cluster, in the order given, no more of them together than a call takes."""
    by_slot: dict[int, list[Write]] = defaultdict(list)
    for row in rows:
        by_slot[key_slot(row.key)].append(row)
    return [part for of_slot in by_slot.values() for part in _chunks(of_slot, ROWS_PER_CALL)]


def _write_node(client: Redis, calls: Sequence[list[Any]], document: bytes | None) -> _Reply:
    script = client.register_script(SCRIPT)
    for attempt in range(2):
        try:
            with client.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    pipe.evalsha(script.sha, *arguments)
                if document is not None:
                    pipe.get(document)
                return _reply(pipe.execute(), len(calls))
        except NoScriptError:
            # Redis restarted and lost the script; writing a row again changes nothing.
            if attempt:
                raise
            client.script_load(SCRIPT)
    raise AssertionError


async def _write_node_async(
    client: redis_asyncio.Redis, script: str, calls: Sequence[list[Any]], document: bytes | None
) -> _Reply:
    sha = client.register_script(script).sha
    for attempt in range(2):
        try:
            async with client.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    pipe.evalsha(sha, *arguments)
                if document is not None:
                    pipe.get(document)
                return _reply(await pipe.execute(), len(calls))
        except NoScriptError:
            if attempt:
                raise
            await client.script_load(script)
    raise AssertionError


def _reply(replies: list[Any], calls: int) -> _Reply:
    """Of replies to script calls, which may be followed by the document."""
    return sum(replies[:calls]), replies[calls] if len(replies) > calls else None


async def _write_cluster_async(
    cluster: redis_asyncio.RedisCluster, script: str, rows: Sequence[Write], head: Sequence[bytes | int]
) -> int:
    """As `_write_cluster`, by redis-py's own cluster pipeline, which asks all nodes at once."""
    written = 0
    pending = list(rows)
    for _ in range(_MOVES_MAX):
        calls = _by_slot(pending)
        pipe = cluster.pipeline()
        for call in calls:
            # Its EVAL method refuses, because keys could lie apart; those of a call here do not.
            pipe.execute_command("EVAL", script, *_arguments(call, head))
        pending = []
        replies = await pipe.execute(raise_on_error=False, allow_redirections=False)
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, MovedError | AskError | TryAgainError):
                # Row by row redis-py finds the node. A slot that has moved is known by its first row, and the rest go together.
                alone = 1 if isinstance(reply, MovedError) else len(call)
                for row in call[:alone]:
                    written += int(await cluster.eval(script, *_arguments([row], head)))
                pending += call[alone:]
            elif isinstance(reply, Exception):
                raise reply
            else:
                written += int(reply)
        if not pending:
            return written
    raise StoreUnavailable("the Redis Cluster keeps moving slots; try again when it has settled")


def _write_cluster(cluster: RedisCluster, rows: Sequence[Write], head: Sequence[bytes | int]) -> int:
    """Per node one pipeline of script calls, each over rows of one slot; rows of a slot that moved are sent again.

    redis-py's own cluster pipeline refuses scripts.
    """
    written = 0
    pending = list(rows)
    for _ in range(_MOVES_MAX):
        by_node: dict[str, list[list[Write]]] = defaultdict(list)
        for call in _by_slot(pending):
            by_node[cluster.nodes_manager.get_node_from_slot(key_slot(call[0].key)).name].append(call)
        pending = []
        for name, calls in by_node.items():
            node = cluster.get_redis_connection(cluster.get_node(node_name=name))
            with node.pipeline(transaction=False) as pipe:
                for call in calls:
                    pipe.eval(SCRIPT, *_arguments(call, head))
                for call, reply in zip(calls, pipe.execute(raise_on_error=False), strict=True):
                    if isinstance(reply, MovedError):
                        pending += call
                    else:
                        written += _written(cluster, call, reply, head)
        if not pending:
            return written
        cluster.nodes_manager.initialize()
    raise StoreUnavailable("the Redis Cluster keeps moving slots; try again when it has settled")


def _written(cluster: RedisCluster, rows: Sequence[Write], reply: Any, head: Sequence[bytes | int]) -> int:
    """How many rows of one script call were written; those of a slot that is moving go one by one, which redis-py routes."""
    if isinstance(reply, AskError | TryAgainError):
        return sum(int(cluster.eval(SCRIPT, *_arguments([row], head))) for row in rows)
    if isinstance(reply, Exception):
        raise reply
    return int(reply)
