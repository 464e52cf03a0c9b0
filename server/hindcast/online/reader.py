"""The multiplexed reader: all lookups of a worker share one connection per Redis node.

Requests that arrive in one turn of the event loop leave in one write, and replies are matched to requests by order. A 100-key
read costs 62 us this way, 590 us through a redis-py pipeline (DESIGN section 6). redis-py still makes each connection
(address, TLS, auth, database, Sentinel, Cluster topology); its socket is then taken over.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import hiredis
from redis import asyncio as redis_asyncio
from redis.crc import key_slot

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, StoreUnavailable
from hindcast.online.codec import HashRow
from hindcast.online.commands import Command, HashFields
from hindcast.online.connection import REDIS_ERRORS, RedisTarget, close_client
from hindcast.online.link import Link, failed

_KEYS_PER_COMMAND = 1000
"""A longer MGET would hold up every other lookup on the node for more than a millisecond."""

_MOVES_MAX = 5
_CLUSTER_SECONDS_MAX = 8.0
_MOVED = ("MOVED ", "CLUSTERDOWN")
_MOVING = ("ASK ", "TRYAGAIN")


class RedisReader:
    """Reads values and hashes by key. Belongs to the event loop it is first used in."""

    def __init__(self, target: RedisTarget) -> None:
        self._client = target.async_client()
        self._links: dict[str, Link] = {}
        self._is_cluster = isinstance(self._client, redis_asyncio.RedisCluster)
        self._doubts_cluster = False

    async def read_values(self, keys: Sequence[bytes], *, deadline: Deadline) -> list[bytes | None]:
        """Read one string value per key, in the order asked.

        Args:
            keys: n keys; repeats are allowed. With none, Redis is not asked.
            deadline: the call's own; Redis is never waited for past it.
        Returns:
            n entries; None where the store has no such key.
        Raises:
            StoreUnavailable: no answer in time or the connection broke. Nothing is retried here (but for keys that
                moved to another node of a Cluster), and no reply of this call can reach another one.
            DeadlineExceeded: the deadline came first.
        """
        if not self._is_cluster:
            if 0 < len(keys) <= _KEYS_PER_COMMAND:
                values: list[bytes | None]
                (values,) = await self._ask([Command(keys)], deadline)
                return values
            replies = await self._ask([Command(part) for part in _parts(keys)], deadline)
            return [value for reply in replies for value in reply]
        by_slot: dict[int, list[bytes]] = defaultdict(list)
        for key in dict.fromkeys(keys):
            by_slot[key_slot(key)].append(key)
        commands = [Command(part) for of_slot in by_slot.values() for part in _parts(of_slot)]
        replies = await self._ask(commands, deadline)
        found = {
            key: value
            for command, reply in zip(commands, replies, strict=True)
            for key, value in zip(command.keys, reply, strict=True)
        }
        return [found[key] for key in keys]

    async def read_hashes(self, keys: Sequence[bytes], fields: HashFields, *, deadline: Deadline) -> list[HashRow]:
        """Read some fields of one hash per key, in the order asked.

        Args:
            fields: at least one.
        Returns:
            n rows, each with one value per field; None where the hash or the field is not there.
        Raises:
            StoreUnavailable, DeadlineExceeded: as `read_values`.
        """
        if not keys:
            return []
        together = [keys] if not self._is_cluster else [[key] for key in keys]
        return await self._ask([Command(some, fields, fields.whole) for some in together], deadline)

    async def ping(self, *, deadline: Deadline) -> None:
        """Ask every node in use, or the first one, for a sign of life.

        Raises:
            StoreUnavailable: one does not give it by the deadline.
        """
        try:
            if self._is_cluster:
                await self._know_cluster(deadline, again=self._doubts_cluster)
            if self._is_cluster and not self._links:
                await self._ask([Command((b"{hindcast}ping",))], deadline)
            for link in list(self._links.values()) or [self._link("")]:
                await link.ping(deadline)
        except (StoreUnavailable, DeadlineExceeded):
            self._doubts_cluster = True
            raise

    async def close(self) -> None:
        """Close every connection; calls that still wait get StoreUnavailable."""
        for link in self._links.values():
            link.close()
        await close_client(self._client)

    def _link(self, node: str) -> Link:
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(self._client, node)
        return link

    async def _ask(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """The replies, as they are taken, of commands that differ in their keys only, in order."""
        if not commands:
            return []
        if not self._is_cluster:
            return _not_refused(await self._link("").read(commands, deadline))
        try:
            return await self._ask_cluster(commands, deadline)
        except StoreUnavailable:
            # A node that is gone may have been replaced, which no node that still answers says unasked.
            self._doubts_cluster = True
            raise

    async def _ask_cluster(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        # What was read first must still hold when the last is read: rows that were served last are kept for 10 s.
        deadline = Deadline(min(deadline.remaining_seconds(), _CLUSTER_SECONDS_MAX))
        found: dict[int, Any] = {}
        for attempt in range(_MOVES_MAX):
            await self._know_cluster(deadline, again=attempt > 0 or self._doubts_cluster)
            by_node: dict[str, list[int]] = defaultdict(list)
            for at, command in enumerate(commands):
                if at not in found:
                    by_node[self._node_of(key_slot(command.keys[0]))].append(at)
            answers = await asyncio.gather(
                *(self._link(node).read([commands[at] for at in places], deadline) for node, places in by_node.items())
            )
            for places, replies in zip(by_node.values(), answers, strict=True):
                for at, reply in zip(places, replies, strict=True):
                    if not isinstance(reply, hiredis.ReplyError):
                        found[at] = reply
                    elif str(reply).startswith(_MOVING):
                        found[at] = await self._ask_moving(commands[at], deadline)
                    elif not str(reply).startswith(_MOVED):
                        _not_refused([reply])
            if len(found) == len(commands):
                return [found[at] for at in range(len(commands))]
        raise StoreUnavailable("the Redis Cluster keeps moving slots; try again")

    async def _ask_moving(self, command: Command, deadline: Deadline) -> list[bytes | None] | HashRow:
        """A slot that is moving at this moment, key by key by redis-py's own commands, which follow ASK."""
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                if command.fields is not None:
                    return HashRow(await self._client.hmget(command.keys[0], list(command.fields.names)))
                return [await self._client.get(key) for key in command.keys]
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            raise failed(deadline) from error

    async def _know_cluster(self, deadline: Deadline, *, again: bool) -> None:
        """Know which node serves which slot, and forget the links to nodes that have left."""
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                if not again:
                    await self._client.initialize()
                    return
                await self._client.nodes_manager.initialize()
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            raise failed(deadline) from error
        self._doubts_cluster = False
        for node in self._links.keys() - self._client.nodes_manager.nodes_cache.keys():
            self._links.pop(node).close()

    def _node_of(self, slot: int) -> str:
        try:
            return str(self._client.nodes_manager.get_node_from_slot(slot).name)
        except REDIS_ERRORS as error:
            raise StoreUnavailable("no node of the Redis Cluster serves a slot; try again") from error


def _parts(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[at : at + _KEYS_PER_COMMAND] for at in range(0, len(keys), _KEYS_PER_COMMAND)]


def _not_refused(replies: list[Any]) -> list[Any]:
    if hiredis.ReplyError not in set(map(type, replies)):
        return replies
    raise StoreUnavailable("Redis refused a read; check the user's rights, and that the keys are a feature store's")
