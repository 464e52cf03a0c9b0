"""The newest-wins writer: packed rows into Redis, decided inside Redis, so that racing writers cannot leave the older row.

Blocking and asyncio callers share everything but the lines that send.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from hindcast.errors import StoreUnavailable
from hindcast.online.connection import REDIS_ERRORS

SCRIPT = files("hindcast.online").joinpath("newest_wins.lua").read_text()

_ROWS_PER_CALL = 100
"""One script call over 100 rows costs Redis 2.7 us a row, a call a row 4.0 (DESIGN section 5)."""

_CALLS_PER_PIPELINE = 20
_MOVES_MAX = 5


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One row on its way into Redis; `expires_at_ms` is 0 for never."""

    key: bytes
    packed: bytes
    expires_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows: every one is acknowledged, as written or as older than what is stored."""

    written: int
    older: int


def write_rows(
    client: "Redis | RedisCluster", rows: Iterable[RowWrite], *, ties_over: bytes | None = None
) -> WriteReport:
    """Write rows, newest wins; rows of one key are taken in the order given.

    Args:
        ties_over: of stored rows with equal times, replace only those whose run id ends so; None replaces them all.
    Raises:
        StoreUnavailable: Redis failed. Rows before the failure may be written; to write all again gives the same state.
    """
    total = written = 0
    try:
        for chunk in _chunks(rows, _ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            if isinstance(client, RedisCluster):
                written += _write_cluster(client, chunk, ties_over)
            else:
                written += _write_node(client, [_arguments(part, ties_over) for part in _chunks(chunk, _ROWS_PER_CALL)])
    except REDIS_ERRORS as error:
        raise StoreUnavailable("Redis did not take a write; check that it runs and has memory left") from error
    return WriteReport(written, total - written)


async def write_rows_async(
    client: "redis_asyncio.Redis | redis_asyncio.RedisCluster", rows: Iterable[RowWrite]
) -> WriteReport:
    """As `write_rows`, for the running loop.

    Raises:
        StoreUnavailable: as there.
    """
    total = written = 0
    try:
        for chunk in _chunks(rows, _ROWS_PER_CALL * _CALLS_PER_PIPELINE):
            total += len(chunk)
            if isinstance(client, redis_asyncio.RedisCluster):
                for row in chunk:
                    written += int(await client.eval(SCRIPT, 1, *_arguments([row])[1:]))
            else:
                written += await _write_node_async(
                    client, [_arguments(part) for part in _chunks(chunk, _ROWS_PER_CALL)]
                )
    except REDIS_ERRORS as error:
        raise StoreUnavailable("Redis did not take a write; check that it runs and has memory left") from error
    return WriteReport(written, total - written)


def _chunks(rows: Iterable[RowWrite], size: int) -> Iterator[list[RowWrite]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _arguments(rows: Sequence[RowWrite], ties_over: bytes | None = None) -> list[Any]:
    """Number of keys, keys, row and expiry in turns, what ties are won over: what EVAL and EVALSHA take after the script."""
    arguments: list[Any] = [len(rows)]
    arguments += [row.key for row in rows]
    for row in rows:
        arguments += (row.packed, row.expires_at_ms)
    if ties_over is not None:
        arguments.append(ties_over)
    return arguments


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


async def _write_node_async(client: redis_asyncio.Redis, calls: Sequence[list[Any]]) -> int:
    script = client.register_script(SCRIPT)
    for attempt in range(2):
        try:
            async with client.pipeline(transaction=False) as pipe:
                for arguments in calls:
                    pipe.evalsha(script.sha, *arguments)
                return sum(await pipe.execute())
        except NoScriptError:
            if attempt:
                raise
            await client.script_load(SCRIPT)
    raise AssertionError


def _write_cluster(cluster: RedisCluster, rows: Sequence[RowWrite], ties_over: bytes | None) -> int:
    """Per node one pipeline of script calls, each over rows of one slot; rows of a slot that moved are sent again.

    redis-py's own cluster pipeline refuses scripts.
    """
    written = 0
    pending = list(rows)
    for _ in range(_MOVES_MAX):
        by_slot: dict[int, list[RowWrite]] = defaultdict(list)
        for row in pending:
            by_slot[key_slot(row.key)].append(row)
        by_node: dict[str, list[list[RowWrite]]] = defaultdict(list)
        for slot, of_slot in by_slot.items():
            by_node[cluster.nodes_manager.get_node_from_slot(slot).name].append(of_slot)
        pending = []
        for name, calls in by_node.items():
            node = cluster.get_redis_connection(cluster.get_node(node_name=name))
            with node.pipeline(transaction=False) as pipe:
                for call in calls:
                    pipe.eval(SCRIPT, *_arguments(call, ties_over))
                for call, reply in zip(calls, pipe.execute(raise_on_error=False), strict=True):
                    if isinstance(reply, MovedError):
                        pending += call
                    else:
                        written += _written(cluster, call, reply, ties_over)
        if not pending:
            return written
        cluster.nodes_manager.initialize()
    raise StoreUnavailable("the Redis Cluster keeps moving slots; try again when it has settled")


def _written(cluster: RedisCluster, rows: Sequence[RowWrite], reply: Any, ties_over: bytes | None) -> int:
    """How many rows of one script call were written; those of a slot that is moving go one by one, which redis-py routes."""
    if isinstance(reply, AskError | TryAgainError):
        return sum(int(cluster.eval(SCRIPT, *_arguments([row], ties_over))) for row in rows)
    if isinstance(reply, Exception):
        raise reply
    return int(reply)
