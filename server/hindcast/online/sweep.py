"""A sweep over a whole Redis: every key of a pattern, in batches, and what lies under keys, many in one round trip.

Memory is bounded by the batch. redis-py owns connections and topology; commands are packed and sent in one write, which costs
a third of what its pipelines do.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis import Redis
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from hindcast.errors import StoreUnavailable
from hindcast.online.connection import REDIS_ERRORS

Command = tuple[str | bytes | int, ...]
"""A command's words; the second is its key."""

_SCAN_COUNT = 1000
_BATCH_KEYS = 1000
_KEYS_PER_MGET = 500
"""Longer commands would keep Redis from its other callers: 500 rows take it about 0.5 ms."""

_REMEMBERED_KEYS = 65_536
"""SCAN gives keys twice while Redis resizes its table; those come close to each other."""

_MOVING = "the Redis Cluster is moving slots, and keys could be missed; run it again when it has settled"


class KeyBatch(NamedTuple):
    """Some keys of a sweep, and how much of the Redis it has gone through, from 0 to 1 (an estimate)."""

    keys: list[bytes]
    share: float


class RedisSweep:
    """Reads of one Redis deployment in bulk. Nothing is written.

    Every method raises StoreUnavailable when Redis does not answer, refuses, or is a Cluster that moves slots meanwhile.
    """

    def __init__(self, client: "Redis | RedisCluster", *, called: str) -> None:
        """Args: called: how an error names it, for example `Redis at 127.0.0.1:6379`."""
        self._client = client
        self._called = called

    def keys(self, pattern: bytes, *, kind: str) -> Iterator[KeyBatch]:
        """Every key that matches a glob pattern and is of a type (`hash`, `string`), and was there all the time.

        A key that SCAN repeats is given once, unless more than 65,536 others came between.
        """
        owned = self._owned_slots()
        nodes = self._nodes()
        sizes = [max(1, int(self._said(node.dbsize))) for node in nodes]
        total, before = sum(sizes), 0
        for node, size in zip(nodes, sizes, strict=True):
            for batch in self._node_keys(node, size, pattern, kind):
                yield KeyBatch(batch.keys, (before + batch.share * size) / total)
            before += size
        if self._owned_slots() != owned:
            raise StoreUnavailable(_MOVING)

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """A reply per command, in order; an error about the kind of a key's value is a reply, too."""
        if not commands:
            return []
        if not isinstance(self._client, RedisCluster):
            return [self._checked(reply) for reply in self._said(lambda: _exchange(self._client, commands))]
        by_node: dict[str, list[int]] = defaultdict(list)
        for at, command in enumerate(commands):
            by_node[self._client.nodes_manager.get_node_from_slot(key_slot(command[1])).name].append(at)
        replies: list[Any] = [None] * len(commands)
        for name, positions in by_node.items():
            node = self._client.get_redis_connection(self._client.get_node(node_name=name))
            asked = [commands[at] for at in positions]
            for at, reply in zip(positions, self._said(lambda n=node, a=asked: _exchange(n, a)), strict=True):
                if isinstance(reply, MovedError | AskError | TryAgainError):
                    replies[at] = self._said(lambda at=at: self._client.execute_command(*commands[at]))
                else:
                    replies[at] = self._checked(reply)
        return replies

    def strings(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One entry per key, in order; None where there is no string."""
        if isinstance(self._client, RedisCluster):
            replies = self.ask([("GET", key) for key in keys])
            return [reply if isinstance(reply, bytes) else None for reply in replies]
        parts = [keys[at : at + _KEYS_PER_MGET] for at in range(0, len(keys), _KEYS_PER_MGET)]
        return [entry for reply in self.ask([("MGET", *part) for part in parts]) for entry in reply]

    def _node_keys(self, node: Redis, size: int, pattern: bytes, kind: str) -> Iterator[KeyBatch]:
        recent: tuple[set[bytes], set[bytes]] = set(), set()
        found: list[bytes] = []
        cursor, scanned = 0, 0
        while True:
            cursor, keys = self._said(
                lambda at=cursor: node.scan(at, match=pattern, count=_SCAN_COUNT, _type=kind.upper())
            )
            scanned += _SCAN_COUNT
            for key in keys:
                if key not in recent[0] and key not in recent[1]:
                    recent[0].add(key)
                    found.append(key)
            if len(recent[0]) > _REMEMBERED_KEYS:
                recent = set(), recent[0]
            if len(found) >= _BATCH_KEYS or not cursor:
                yield KeyBatch(found, min(1.0, scanned / size))
                found = []
            if not cursor:
                return

    def _nodes(self) -> list[Redis]:
        if isinstance(self._client, RedisCluster):
            return [self._client.get_redis_connection(node) for node in self._client.get_primaries()]
        return [self._client]

    def _owned_slots(self) -> list[Any]:
        """Which primary has which slots; nothing where there are none.

        Raises:
            StoreUnavailable: some are on their way.
        """
        if not isinstance(self._client, RedisCluster):
            return []
        self._said(self._client.nodes_manager.initialize)
        owned = []
        for node in self._nodes():
            for said in self._said(lambda node=node: node.execute_command("CLUSTER NODES")).values():
                if "myself" in said["flags"]:
                    if said["migrations"]:
                        raise StoreUnavailable(_MOVING)
                    owned.append((said["node_id"], said["slots"]))
        return sorted(owned)

    def _checked(self, reply: Any) -> Any:
        """A reply, unless it is an error of anything but the kind of value: a key can become another one meanwhile."""
        if isinstance(reply, ResponseError) and not str(reply).startswith("WRONGTYPE"):
            raise self._refused() from reply
        return reply

    def _said(self, ask: Any) -> Any:
        try:
            return ask()
        except ResponseError as error:
            raise self._refused() from error
        except REDIS_ERRORS as error:
            raise StoreUnavailable(
                f"{self._called} does not answer any more; what was copied stays, and running it again goes on from there"
            ) from error

    def _refused(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._called} refused a read; its user needs SCAN, DBSIZE, HMGET, PTTL, GET and MGET on the project's keys"
        )


def _exchange(node: Redis, commands: Iterable[Command]) -> list[Any]:
    """Send commands in one write and read a reply each; an error is a reply."""
    packed = [pack_command(command) for command in commands]
    connection = node.connection_pool.get_connection()
    try:
        connection.send_packed_command([b"".join(packed)])
        return [_reply(connection) for _ in packed]
    except BaseException:
        # Replies are still under way: nobody else may get them.
        connection.disconnect()
        raise
    finally:
        node.connection_pool.release(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
