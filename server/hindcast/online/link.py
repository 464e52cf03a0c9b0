"""One connection to one Redis node, shared by all lookups of a worker: commands go out in order, replies come back in order."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, StoreUnavailable
from hindcast.online.commands import Command
from hindcast.online.connection import REDIS_ERRORS

_STALL_SECONDS = 1.0
"""A connection that owes replies and has sent nothing for this long is given up, so that no call waits behind it."""

_REPLY_SECONDS = 2.0
"""A Redis that takes longer is not serving; callers with more time left do better to try again."""

_EARLY_SECONDS = 0.002
"""uvloop's timers count whole milliseconds and can fire that much before a deadline, which then is what passed."""

_PING = b"*1\r\n$4\r\nPING\r\n"
_GONE = "Redis does not answer; try again"
_LATE = "the deadline passed while Redis was asked"


def _as_it_is(reply: Any) -> Any:
    return reply


class Link:
    """The one connection to a node: made when first needed, and again after it broke."""

    def __init__(self, client: Any, node: str) -> None:
        self._client = client
        self._node = node
        self._stream: _Stream | None = None
        self._connecting: asyncio.Future[_Stream] | None = None

    async def ask(
        self, commands: bytes, replies: int, deadline: Deadline, taken: Callable[[Any], Any] = _as_it_is
    ) -> list[Any]:
        """Send commands and await their replies, in order; an error reply is returned, not raised.

        Args:
            replies: how many the commands have.
            taken: what each is kept as.
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
            return await stream.ask(commands, replies, taken, min(deadline.remaining_seconds(), _REPLY_SECONDS))
        except (*REDIS_ERRORS, OSError, TimeoutError) as error:
            if self._stream is not None:
                self._stream.give_up_if_stalled()
            raise failed(deadline) from error

    async def read(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """The replies of some commands that differ in their keys only: as many entries as was asked for, or an error reply.

        Raises:
            StoreUnavailable, DeadlineExceeded: as `ask`; or a reply does not fit its command, and the connection is given
                up.
        """
        sent = commands[0].packed() if len(commands) == 1 else b"".join([command.packed() for command in commands])
        replies = await self.ask(sent, sum([command.replies for command in commands]), deadline, commands[0].taken)
        start = 0
        for command in commands:
            stop = start + command.replies
            if not command.fits(replies[start:stop]):
                self.close()
                raise StoreUnavailable(_GONE)
            start = stop
        return replies

    async def ping(self, deadline: Deadline) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailable, DeadlineExceeded: as `ask`; or the answer is an error.
        """
        (reply,) = await self.ask(_PING, 1, deadline)
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

    __slots__ = ("future", "replies", "taken", "until", "wanted")

    def __init__(
        self, future: "asyncio.Future[list[Any]]", wanted: int, taken: Callable[[Any], Any], until: float
    ) -> None:
        self.future = future
        self.wanted = wanted
        self.taken = taken
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

    def ask(
        self, commands: bytes, replies: int, taken: Callable[[Any], Any], seconds: float
    ) -> "asyncio.Future[list[Any]]":
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
        pending = _Pending(self._loop.create_future(), replies, taken, now + seconds)
        self._waiting.append(pending)
        if pending.until < self._timer_at:
            self._set_timer(pending.until, now)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(commands)
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
                pending.replies.append(pending.taken(reply))
                if len(pending.replies) == pending.wanted:
                    self._waiting.popleft()
                    if not pending.future.done():
                        pending.future.set_result(pending.replies)
        except (hiredis.ProtocolError, IndexError, TypeError):
            # Not RESP, not what a hash holds, or a reply that nobody asked for: no later reply on this connection can be trusted.
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


def failed(deadline: Deadline) -> StoreUnavailable | DeadlineExceeded:
    """The error of a call that got no reply: its own deadline has come, or Redis did not answer."""
    return DeadlineExceeded(_LATE) if deadline.remaining_seconds() <= _EARLY_SECONDS else StoreUnavailable(_GONE)
