"""The multiplexed reader: all lookups of a worker share one connection per Redis node.

Requests that arrive in one turn of the event loop leave in one write, and replies are matched to requests by order. A 100-key
read costs 62 us this way, 590 us through a redis-py pipeline (DESIGN section 6). redis-py still makes each connection
(address, TLS, auth, database, Sentinel, Cluster topology); its socket is then taken over.
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, StoreUnavailable
from hindcast.online.connection import REDIS_ERRORS, RedisTarget, close_client

_KEYS_PER_COMMAND = 1000
"""A longer MGET would hold up every other lookup on the node for more than a millisecond."""

_STALL_SECONDS = 1.0
"""A connection that owes replies and has sent nothing for this long is given up, so that no call waits behind it."""

_REPLY_SECONDS = 2.0
"""A Redis that takes longer is not serving; callers with more time left do better to try again."""

_EARLY_SECONDS = 0.002
"""uvloop's timers count whole milliseconds and can fire that much before a deadline, which then is what passed."""

_MOVES_MAX = 5
_MOVED = ("MOVED ", "CLUSTERDOWN")
_MOVING = ("ASK ", "TRYAGAIN")
_PING = b"*1\r\n$4\r\nPING\r\n"
_GONE = "Redis does not answer; try again"
_LATE = "the deadline passed while Redis was asked"


class HashFields:
    """Fields that are wanted of many hashes, and how they are best read.

    Redis looks for each field of an HMGET from the start of a hash of up to 512 fields: 250 fields cost it ten times what the
    whole hash does.

    Attributes:
        names: at least one.
        words: the same, as they stand in a command.
        whole: whether to read all of a hash, and to pick.
    """

    __slots__ = ("_order", "_positions", "names", "whole", "words")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = names
        self.words = _words(names)
        self.whole = len(names) >= _WHOLE_FIELDS_MIN
        self._order: list[bytes] = []
        self._positions: list[int | None] = []

    def picked(self, whole: Sequence[bytes]) -> list[bytes | None]:
        """The fields out of a whole hash, which comes as names and values in turns."""
        if not whole:
            return [None] * len(self.names)
        names, values = whole[::2], whole[1::2]
        if names != self._order:
            # Hashes of one view were mostly written alike, so that this is done once.
            at = {name: position for position, name in enumerate(names)}
            self._order, self._positions = list(names), [at.get(name) for name in self.names]
            if len(names) > _WHOLE_FIELDS_TIMES_MAX * len(self.names):
                self.whole = False
        return [None if position is None else values[position] for position in self._positions]


_WHOLE_FIELDS_MIN = 128
"""Below it HMGET costs the server less than to receive every field's name, and Redis little more."""

_WHOLE_FIELDS_TIMES_MAX = 2
"""A hash with more fields than this, for each that is wanted, is not read whole again."""


class _Lengths(dict[int, bytes]):
    """What stands before a word of a command, by the word's length."""

    def __missing__(self, length: int) -> bytes:
        before = b"\r\n$%d\r\n" % length
        if length < _LENGTHS_MAX:
            self[length] = before
        return before


_LENGTHS_MAX = 4096
_before = _Lengths()


def _words(words: Sequence[bytes]) -> bytes:
    return b"".join([part for word in words for part in (_before[len(word)], word)])


class _Command(NamedTuple):
    """MGET of keys in one slot (on a Cluster), or the wanted fields of one key's hash."""

    keys: Sequence[bytes]
    fields: HashFields | None = None
    whole: bool = False

    def packed(self) -> bytes:
        if self.fields is None:
            return b"*%d\r\n$4\r\nMGET%b\r\n" % (len(self.keys) + 1, _words(self.keys))
        (key,) = self.keys
        if self.whole:
            return b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
        return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b%b\r\n" % (len(self.fields.names) + 2, len(key), key, self.fields.words)

    def entries(self, reply: Any) -> list[bytes | None] | None:
        """One entry per key or field; None if the reply is not one to this command."""
        if not isinstance(reply, list):
            return None
        if self.whole and self.fields is not None:
            return None if len(reply) % 2 else self.fields.picked(reply)
        return reply if len(reply) == len(self.keys if self.fields is None else self.fields.names) else None


class RedisReader:
    """Reads values and hashes by key. Belongs to the event loop it is first used in."""

    def __init__(self, target: RedisTarget) -> None:
        self._client = target.async_client()
        self._links: dict[str, _Link] = {}
        self._is_cluster = isinstance(self._client, redis_asyncio.RedisCluster)
        self._doubts_cluster = False

    async def read_values(self, keys: Sequence[bytes], *, deadline: Deadline) -> Sequence[bytes | None]:
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
                (reply,) = await self._link("").read([_Command(keys)], deadline)
                return _entries(reply)
            replies = await self._ask([_Command(part) for part in _parts(keys)], deadline)
            return [value for reply in replies for value in reply]
        by_slot: dict[int, list[bytes]] = defaultdict(list)
        for key in dict.fromkeys(keys):
            by_slot[key_slot(key)].append(key)
        commands = [_Command(part) for of_slot in by_slot.values() for part in _parts(of_slot)]
        replies = await self._ask(commands, deadline)
        found = {
            key: value
            for command, reply in zip(commands, replies, strict=True)
            for key, value in zip(command.keys, reply, strict=True)
        }
        return [found[key] for key in keys]

    async def read_hashes(
        self, wanted: Sequence[tuple[bytes, HashFields]], *, deadline: Deadline
    ) -> list[Sequence[bytes | None]]:
        """Read some fields of one hash per key, in the order asked.

        Args:
            wanted: n keys, each with the fields that are wanted of it (at least one).
        Returns:
            n entries, each with one value per field; None where the hash or the field is not there.
        Raises:
            StoreUnavailable, DeadlineExceeded: as `read_values`.
        """
        return await self._ask([_Command((key,), fields, fields.whole) for key, fields in wanted], deadline)

    async def ping(self, *, deadline: Deadline) -> None:
        """Ask every node in use, or the first one, for a sign of life.

        Raises:
            StoreUnavailable: one does not give it by the deadline.
        """
        try:
            if self._is_cluster:
                await self._know_cluster(deadline, again=self._doubts_cluster)
            if self._is_cluster and not self._links:
                await self._ask([_Command((b"{hindcast}ping",))], deadline)
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

    def _link(self, node: str) -> "_Link":
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = _Link(self._client, node)
        return link

    async def _ask(self, commands: Sequence[_Command], deadline: Deadline) -> list[Sequence[bytes | None]]:
        """One reply per command, in order."""
        if not commands:
            return []
        if not self._is_cluster:
            return [_entries(reply) for reply in await self._link("").read(commands, deadline)]
        try:
            return await self._ask_cluster(commands, deadline)
        except StoreUnavailable:
            # A node that is gone may have been replaced, which no node that still answers says unasked.
            self._doubts_cluster = True
            raise

    async def _ask_cluster(self, commands: Sequence[_Command], deadline: Deadline) -> list[Sequence[bytes | None]]:
        found: dict[int, Sequence[bytes | None]] = {}
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
                        _entries(reply)
            if len(found) == len(commands):
                return [found[at] for at in range(len(commands))]
        raise StoreUnavailable("the Redis Cluster keeps moving slots; try again")

    async def _ask_moving(self, command: _Command, deadline: Deadline) -> Sequence[bytes | None]:
        """A slot that is moving at this moment, key by key by redis-py's own commands, which follow ASK."""
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                if command.fields is not None:
                    return list(await self._client.hmget(command.keys[0], list(command.fields.names)))
                return [await self._client.get(key) for key in command.keys]
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            raise _failed(deadline) from error

    async def _know_cluster(self, deadline: Deadline, *, again: bool) -> None:
        """Know which node serves which slot, and forget the links to nodes that have left."""
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                if not again:
                    await self._client.initialize()
                    return
                await self._client.nodes_manager.initialize()
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            raise _failed(deadline) from error
        self._doubts_cluster = False
        for node in self._links.keys() - self._client.nodes_manager.nodes_cache.keys():
            self._links.pop(node).close()

    def _node_of(self, slot: int) -> str:
        try:
            return str(self._client.nodes_manager.get_node_from_slot(slot).name)
        except REDIS_ERRORS as error:
            raise StoreUnavailable("no node of the Redis Cluster serves a slot; try again") from error


class _Link:
    """The one connection to a node: made when first needed, and again after it broke."""

    def __init__(self, client: Any, node: str) -> None:
        self._client = client
        self._node = node
        self._stream: _Stream | None = None
        self._connecting: asyncio.Future[_Stream] | None = None

    async def ask(self, commands: Sequence[bytes], deadline: Deadline) -> list[Any]:
        """Send commands and await their replies, in order; an error reply is returned, not raised.

        Raises:
            StoreUnavailable: no connection, or no reply in time.
            DeadlineExceeded: the call's own deadline came first; if it had passed already, nothing was sent.
        """
        remaining = deadline.remaining_seconds()
        if remaining <= 0:
            raise DeadlineExceeded(_LATE)
        stream = self._stream
        try:
            if stream is None or stream.closed:
                async with asyncio.timeout(min(remaining, _REPLY_SECONDS)):
                    stream = await self._connect()
            return await stream.ask(commands, min(deadline.remaining_seconds(), _REPLY_SECONDS))
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            if self._stream is not None:
                self._stream.give_up_if_stalled()
            raise _failed(deadline) from error

    async def read(self, commands: Sequence[_Command], deadline: Deadline) -> list[Any]:
        """One reply per command: as many entries as it has, or an error reply.

        Raises:
            StoreUnavailable, DeadlineExceeded: as `ask`; or a reply does not fit its command, and the connection is given
                up.
        """
        replies = await self.ask([command.packed() for command in commands], deadline)
        for at, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            if isinstance(reply, hiredis.ReplyError):
                continue
            entries = command.entries(reply)
            if entries is None:
                self.close()
                raise StoreUnavailable(_GONE)
            replies[at] = entries
        return replies

    async def ping(self, deadline: Deadline) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailable, DeadlineExceeded: as `ask`; or the answer is an error.
        """
        (reply,) = await self.ask([_PING], deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable("Redis answers, but not to a PING; check its state and the user's rights")

    def close(self) -> None:
        """Break the connection."""
        if self._stream is not None:
            self._stream.abort()

    async def _connect(self) -> "_Stream":
        """All callers wait for one attempt, which goes on even if one of them is cancelled."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._open())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, attempt: "asyncio.Future[_Stream]") -> None:
        self._connecting = None
        if not attempt.cancelled() and attempt.exception() is None:
            self._stream = attempt.result()

    async def _open(self) -> "_Stream":
        if isinstance(self._client, redis_asyncio.RedisCluster):
            node = self._client.get_node(node_name=self._node)
            if node is None:
                raise RedisConnectionError
            # Not one of its pool: that can be a connection that broke while it lay there.
            connection = node.connection_class(**node.connection_kwargs)
        else:
            connection = self._client.connection_pool.make_connection()
        # redis-py would try for seconds; a caller who may wait that long had better hear of it and ask again.
        connection.retry = Retry(NoBackoff(), 0)
        try:
            async with asyncio.timeout(_REPLY_SECONDS):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        # The one place that looks inside redis-py: its handshake is done, its stream is idle, the transport is ours now.
        owner = connection._reader, connection._writer  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001
        transport = owner[1].transport
        stream = _Stream(owner, transport)
        transport.set_protocol(stream)
        return stream


class _Pending:
    """Commands of one caller whose replies are not all there; `until` is when the caller stops waiting."""

    __slots__ = ("future", "replies", "until", "wanted")

    def __init__(self, future: "asyncio.Future[list[Any]]", wanted: int, until: float) -> None:
        self.future = future
        self.wanted = wanted
        self.until = until
        self.replies: list[Any] = []


class _Stream(asyncio.Protocol):
    """An open connection: commands go out in order, replies come back in order.

    Callers do not each have a timer of their own (5 us a call): one is set for whoever stops waiting first.
    """

    def __init__(self, owner: object, transport: asyncio.WriteTransport) -> None:
        self._owner = owner  # asyncio's streams close their socket when they are collected
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader()
        self._waiting: deque[_Pending] = deque()
        self._outgoing: list[bytes] = []
        self._last_received = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.closed = False

    def ask(self, commands: Sequence[bytes], seconds: float) -> "asyncio.Future[list[Any]]":
        """Send one or more commands; the future has their replies, or TimeoutError when they do not come in time.

        The replies of a cancelled future are dropped, in order.

        Raises:
            ConnectionResetError: the connection is closed.
        """
        if self.closed:
            raise ConnectionResetError
        now = time.monotonic()
        if not self._waiting:
            self._last_received = now
        pending = _Pending(self._loop.create_future(), len(commands), now + seconds)
        self._waiting.append(pending)
        if pending.until < self._timer_at:
            self._set_timer(pending.until, now)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.extend(commands)
        return pending.future

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at == math.inf else self._loop.call_later(max(0.0, at - now), self._time_out)

    def _time_out(self) -> None:
        """Everybody whose time is up stops waiting; the timer is set for the next one."""
        now = time.monotonic()
        first = math.inf
        for pending in self._waiting:
            if pending.future.done():
                continue
            if pending.until <= now + _EARLY_SECONDS:
                pending.future.set_exception(TimeoutError())
            else:
                first = min(first, pending.until)
        self._set_timer(first, now)

    def give_up_if_stalled(self) -> None:
        """Break the connection if it owes replies and has been silent for too long."""
        if self._waiting and time.monotonic() - self._last_received > _STALL_SECONDS:
            self.abort()

    def abort(self) -> None:
        """Break the connection now."""
        self._transport.abort()
        self.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._last_received = time.monotonic()
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not False:
                pending = self._waiting[0]
                pending.replies.append(reply)
                if len(pending.replies) == pending.wanted:
                    self._waiting.popleft()
                    if not pending.future.done():
                        pending.future.set_result(pending.replies)
        except (hiredis.ProtocolError, IndexError):
            # Not RESP, or a reply that nobody asked for: no later reply on this connection can be trusted.
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """Called by the transport, or by `abort`: everything that waits fails."""
        self.closed = True
        self._set_timer(math.inf, 0.0)
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(ConnectionResetError())

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if not self.closed:
            self._transport.write(b"".join(outgoing))


def _failed(deadline: Deadline) -> StoreUnavailable | DeadlineExceeded:
    return DeadlineExceeded(_LATE) if deadline.remaining_seconds() <= _EARLY_SECONDS else StoreUnavailable(_GONE)


def _parts(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[at : at + _KEYS_PER_COMMAND] for at in range(0, len(keys), _KEYS_PER_COMMAND)]


def _entries(reply: Any) -> Sequence[bytes | None]:
    if isinstance(reply, list):
        return reply
    raise StoreUnavailable("Redis refused a read; check the user's rights, and that the keys are a feature store's")
