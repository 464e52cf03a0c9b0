"""The newest-wins writer: rows into Redis, decided inside Redis, so that racing writers cannot leave the older row.

Blocking and asyncio callers share everything but the lines that send; each layout has a script of its own.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any, Protocol, TypeVar

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from hindcast.errors import StoreUnavailable
from hindcast.online.connection import REDIS_ERRORS, RedisTarget
from hindcast.online.keys import schema_key
from hindcast.online.schemas import Schema

SCRIPT = files("hindcast.online").joinpath("newest_wins.lua").read_text()

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
    """What became of the rows: every one is acknowledged, as written or as older than what is stored."""

    written: int
    older: int


def write_schema(target: RedisTarget, *, project: str, schema: Schema) -> None:
    """Store a field list, before any row that names it.

    Raises:
        StoreUnavailable: Redis failed.
    """
    try:
        with contextlib.closing(target.client()) as client:
            client.set(schema_key(project, schema.id), schema.to_bytes())
    except REDIS_ERRORS as error:
        raise StoreUnavailable("Redis did not take a write; check that it runs and has memory left") from error


def write_rows(client: "Redis | RedisCluster", rows: Iterable[RowWrite], *, ties_over: bytes = b"") -> WriteReport:
    """Write rows, newest wins; rows of one key are taken in the order given.

    Args:
        ties_over: of stored rows with equal times, replace only those whose run id ends so.
    Raises:
        StoreUnavailable: Redis failed. Rows before the failure may be written; to write all again gives the same state.
    """
    head = (ties_over,)
    total = written = 0
    try:
        for chunk in _chunks(rows, ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            if isinstance(client, RedisCluster):
                written += _write_cluster(client, chunk, head)
            else:
                written += _write_node(client, [_arguments(part, head) for part in _chunks(chunk, ROWS_PER_CALL)])
    except REDIS_ERRORS as error:
        raise StoreUnavailable("Redis did not take a write; check that it runs and has memory left") from error
    return WriteReport(written, total - written)


async def write_rows_async(
    client: "redis_asyncio.Redis | redis_asyncio.RedisCluster",
    rows: Iterable[Write],
    *,
    script: str = SCRIPT,
    head: Sequence[bytes | int] = (b"",),
) -> WriteReport:
    """As `write_rows`, for the running loop.

    Args:
        script: decides and writes the rows of a call, and gives their number; writing a row again must change nothing.
        head: its arguments before those of the rows; as they stand here, all ties go to the later writer.
    Raises:
        StoreUnavailable: as there.
    """
    total = written = 0
    try:
        for chunk in _chunks(rows, ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            if isinstance(client, redis_asyncio.RedisCluster):
                written += await _write_cluster_async(client, script, chunk, head)
            else:
                calls = [_arguments(part, head) for part in _chunks(chunk, ROWS_PER_CALL)]
                written += await _write_node_async(client, script, calls)
    except REDIS_ERRORS as error:
        raise StoreUnavailable("Redis did not take a write; check that it runs and has memory left") from error
    return WriteReport(written, total - written)


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


def _write_node(client: Redis, calls: Sequence[list[Any]]) -> int:
    script = client.register_script(SCRIPT)
    for attempt in range(2):
        try:
            with client.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    pipe.evalsha(script.sha, *arguments)
                return sum(pipe.execute())
        except NoScriptError:
            # Redis restarted and lost the script; writing a row again changes nothing.
            if attempt:
                raise
            client.script_load(SCRIPT)
    raise AssertionError


async def _write_node_async(client: redis_asyncio.Redis, script: str, calls: Sequence[list[Any]]) -> int:
    sha = client.register_script(script).sha
    for attempt in range(2):
        try:
            async with client.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    pipe.evalsha(sha, *arguments)
                return sum(await pipe.execute())
        except NoScriptError:
            if attempt:
                raise
            await client.script_load(script)
    raise AssertionError


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
