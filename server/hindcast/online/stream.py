"""A stream of packed rows into Redis, newest wins: a batch goes out as bytes while the next one is made.

The rows of a batch become RESP commands by column, and a thread sends them and reads the replies, for sockets release the
interpreter. One connection is all that helps: Redis runs one command at a time (docs/decisions/0020-materialize-by-column.md).
"""

import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha1
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from hindcast.errors import StoreUnavailable
from hindcast.online import pieces
from hindcast.online.connection import REDIS_ERRORS, RedisTarget, Topology
from hindcast.online.pieces import Numbers
from hindcast.online.writer import ROWS_PER_CALL, SCRIPT, RowWrite, WriteReport, write_rows

UNANSWERED_BYTES_MAX = 16 * 2**20
"""Two batches of 10,000 rows of 50 doubles and more: Redis has work while the next batch is made."""

_CALL_BYTES_MAX = 2**20
"""Redis answers nobody else while a script runs; 100 rows of an ordinary view are far smaller."""

_BLOCK_BYTES = 256 * 2**10
_CLUSTER_BLOCK_ROWS = 2_000
_ATTEMPTS_MAX = 10
"""Of a block whose script is flushed away each time."""

_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()
_CRLF = b"\r\n"
_TIES_OVER_ALL = b"$0\r\n\r\n"
"""An argument of the script: equal times go to the later writer."""


class RowStream:
    """Writes batches of rows to one Redis deployment, under one run id. For one thread, as a context manager.

    A row that is stored already, the same but for its run id, is left alone, and keeps it; only on a Redis Cluster it is written
    again. Redis tells at once where a row carries the run id that is stored, so whoever makes rows asks for `expected_run_id`.

    Rows of one key are taken in the order given, but where the script is flushed away meanwhile (SCRIPT FLUSH): the rows of the
    block that missed it are sent again after later ones, so that of rows of one key and equal times in two blocks the earlier may
    stay. A run gives each key once. After an error the stream is of no more use, and every call raises that error
    again: rows given since the last `flush` may be written or not, and to write them all again gives the same state.
    """

    def __init__(self, target: RedisTarget, *, run_id: bytes, unanswered_bytes_max: int = UNANSWERED_BYTES_MAX) -> None:
        """Nothing is sent yet.

        Args:
            run_id: under which rows are written, 16 bytes.
            unanswered_bytes_max: how much may wait to be sent and answered, but that a single call is never too large.
        """
        self._target = target
        is_cluster = target.topology is Topology.CLUSTER
        self._blocks = _cluster_blocks if is_cluster else partial(_node_blocks, run_id=run_id)
        self._run_id = self._expected_run_id = run_id
        self._unanswered_bytes_max = unanswered_bytes_max
        self._changed = threading.Condition()
        self._queue: deque[_Block] = deque()
        self._unanswered_bytes = 0
        self._rows = self._written = self._unchanged = 0
        self._failure: Exception | None = None
        self._closing = False
        self._client: Redis | RedisCluster | None = None
        self._line: _Line | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def expected_run_id(self) -> bytes:
        """What the next batch should carry: the run id of stored rows, if most of the last ones were unchanged, else the stream's own.

        Whatever rows carry, they are written under the stream's.
        """
        return self._expected_run_id

    def write(self, keys: pa.Array, rows: pa.Array, expires_ms: Numbers) -> None:
        """Take a batch; waits while too much is unanswered, and returns before Redis has answered.

        Args:
            keys: n keys in Redis, none of them null.
            rows: their packed rows, none of them null, all with one run id: `expected_run_id` as it is or was, or the stream's.
            expires_ms: n times in milliseconds since 1970, 0 for never.
        Raises:
            StoreUnavailable: Redis failed, now or at something given before.
        """
        if keys.null_count or rows.null_count:
            raise ValueError("a key or a row is null")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hindcast-row-stream", daemon=True)
            self._thread.start()
        for block in self._blocks(keys, rows, expires_ms):
            with self._changed:
                while self._failure is None and not self._has_room(block):
                    self._changed.wait()
                self._raise_failure()
                self._queue.append(block)
                self._unanswered_bytes += block.size
                self._changed.notify_all()

    def flush(self) -> WriteReport:
        """Wait until Redis has answered for every row.

        Returns:
            What became of the rows given since the last `flush`.
        Raises:
            StoreUnavailable: Redis failed at one of the rows since the last `flush`; or it was restarted since, and may have lost
                what it had acknowledged (of a Cluster's node that is not noticed).
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or not self._unanswered_bytes)
            self._raise_failure()
            if self._line is not None:  # the thread leaves it alone until there is work again
                try:
                    self._line.check()
                except REDIS_ERRORS as error:
                    self._fail(_unavailable(error))
                    self._raise_failure()
                self._line.close()
                self._line = None
            report = WriteReport(self._written, self._rows - self._written - self._unchanged, unchanged=self._unchanged)
            self._rows = self._written = self._unchanged = 0
            return report

    def close(self) -> None:
        """Stop; what Redis has not answered yet is given up. Waits for one answer or its time-out at most."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._line is not None:
            self._line.close()
        if self._client is not None:
            self._client.close()

    def _has_room(self, block: "_Block") -> bool:
        return not self._unanswered_bytes or self._unanswered_bytes + block.size <= self._unanswered_bytes_max

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._carry()
        except REDIS_ERRORS as error:
            self._fail(_unavailable(error))
        except StoreUnavailable as error:
            self._fail(error)
        finally:
            if self._failure is None and not self._closing:
                self._fail(RuntimeError("the thread of a RowStream ended by a defect"))

    def _carry(self) -> None:
        """Send what is given, read what is answered, until the stream closes."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._unanswered_bytes)
                if self._closing:
                    return
            line = self._line = self._line or self._open()
            with self._changed:
                # Half of what may be unanswered, on its way, keeps Redis busy.
                has_room = 2 * line.unanswered_bytes <= self._unanswered_bytes_max
                block = self._queue.popleft() if self._queue and has_room else None
            if block is not None:
                line.send(block)
                continue
            answer = line.receive()
            if answer is not None:
                with self._changed:
                    self._unanswered_bytes -= answer.block.size
                    self._rows += answer.block.rows
                    self._written += answer.written
                    self._unchanged += answer.unchanged
                    if answer.stored_by:
                        self._expected_run_id = answer.stored_by
                    elif 2 * answer.unchanged < answer.block.rows:
                        self._expected_run_id = self._run_id
                    self._changed.notify_all()

    def _open(self) -> "_Line":
        self._client = self._client or self._target.client()
        return _ClusterLine(self._client) if isinstance(self._client, RedisCluster) else _NodeLine(self._client)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows on their way.

    Attributes:
        size: bytes, by which is counted what is unanswered.
        commands: script calls in RESP, for one node.
        calls: how many.
        writes: the rows, for a Cluster.
    """

    size: int
    rows: int
    commands: bytes = b""
    calls: int = 0
    writes: Sequence[RowWrite] = ()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of a block.

    Attributes:
        stored_by: who wrote the rows that were unchanged, if these were the most; else empty.
    """

    block: _Block
    written: int
    unchanged: int = 0
    stored_by: bytes = b""


class _Reply(NamedTuple):
    """What the script says of a call: see `newest_wins.lua`."""

    written: int
    unchanged: int
    stored_by: bytes


class _Line(Protocol):
    """A way to Redis: blocks go out in order, and answers come back."""

    unanswered_bytes: int

    def send(self, block: _Block) -> None:
        """Hand a block over."""

    def receive(self) -> _Answer | None:
        """Wait for the oldest block's answer; None if the block had to be sent again."""

    def check(self) -> None:
        """Make sure, when all is answered, that this is still the Redis that answered."""

    def close(self) -> None:
        """Part from Redis; what is unanswered is given up."""


class _NodeLine:
    """One connection, which redis-py made: to a lone Redis, or to the primary that a Sentinel names."""

    def __init__(self, client: Redis) -> None:
        self.unanswered_bytes = 0
        self._sent: deque[tuple[_Block, int, dict[int, _Reply]]] = deque()
        # Not one of the pool's, which may have broken while it lay there; and not tried for seconds, as redis-py would.
        self._connection = client.connection_pool.make_connection()
        self._connection.retry = Retry(NoBackoff(), 0)
        try:
            self._connection.connect()
            self._connection.send_command("SCRIPT LOAD", SCRIPT, check_health=False)
            self._connection.read_response()
        except BaseException:
            self.close()
            raise

    def send(self, block: _Block) -> None:
        """See `_Line.send`."""
        self._send(block, 1, {})
        self.unanswered_bytes += block.size

    def receive(self) -> _Answer | None:
        """See `_Line.receive`."""
        block, attempt, replies = self._sent.popleft()
        if attempt > 1:
            self._connection.read_response()
        for call in range(block.calls):
            try:
                reply = _Reply(*self._connection.read_response())
            except NoScriptError:
                if attempt == _ATTEMPTS_MAX:
                    raise
            else:
                replies.setdefault(call, reply)
        if len(replies) < block.calls:
            # Somebody has flushed it. Calls that found it are made again too, which changes nothing; their first reply counts.
            self._send(block, attempt + 1, replies)
            return None
        self.unanswered_bytes -= block.size
        return _answer(block, replies.values())

    def check(self) -> None:
        """See `_Line.check`; a connection does not outlive its server."""
        self._connection.send_command("PING", check_health=False)
        self._connection.read_response()

    def close(self) -> None:
        """See `_Line.close`."""
        self._connection.disconnect()

    def _send(self, block: _Block, attempt: int, replies: dict[int, _Reply]) -> None:
        # No health check: its reply would stand among those of the calls.
        if attempt > 1:
            self._connection.send_command("SCRIPT LOAD", SCRIPT, check_health=False)
        self._connection.send_packed_command([block.commands], check_health=False)
        self._sent.append((block, attempt, replies))


class _ClusterLine:
    """A Cluster, by slot, as the writer of single rows does it: a call there has rows of one slot, which are few."""

    def __init__(self, client: RedisCluster) -> None:
        self.unanswered_bytes = 0
        self._client = client
        self._answers: deque[_Answer] = deque()

    def send(self, block: _Block) -> None:
        """See `_Line.send`; here it waits for the answer."""
        self._answers.append(_Answer(block, write_rows(self._client, block.writes).written))

    def receive(self) -> _Answer | None:
        """See `_Line.receive`."""
        return self._answers.popleft()

    def check(self) -> None:
        """See `_Line.check`; here nothing tells."""

    def close(self) -> None:
        """See `_Line.close`; the client keeps its connections."""


def _answer(block: _Block, replies: Collection[_Reply]) -> _Answer:
    return _Answer(
        block,
        sum(reply.written for reply in replies),
        sum(reply.unchanged for reply in replies),
        next((reply.stored_by for reply in replies if reply.stored_by), b""),
    )


def _node_blocks(keys: pa.Array, rows: pa.Array, expires_ms: Numbers, *, run_id: bytes) -> Iterator[_Block]:
    """A batch as script calls of up to 100 rows each."""
    head = _TIES_OVER_ALL + _bulk_head(len(run_id)) + run_id + _CRLF
    key_ends, key_bytes = _laid(_bulk(keys))
    row_ends, row_bytes = _laid(pieces.join(_bulk(rows), _expiries(expires_ms)))
    commands: list[bytes | memoryview] = []
    first = size = calls = at = 0
    while at < len(keys):
        end = min(at + ROWS_PER_CALL, len(keys))
        if row_ends[end] - row_ends[at] > _CALL_BYTES_MAX:
            end = max(at + 1, int(np.searchsorted(row_ends, row_ends[at] + _CALL_BYTES_MAX, "right")) - 1)
        commands += (
            _call_head(end - at),
            key_bytes[key_ends[at] : key_ends[end]],
            head,
            row_bytes[row_ends[at] : row_ends[end]],
        )
        size += int(row_ends[end] - row_ends[at] + key_ends[end] - key_ends[at])
        calls += 1
        at = end
        if size >= _BLOCK_BYTES or at == len(keys):
            yield _Block(size=size, rows=at - first, commands=b"".join(commands), calls=calls)
            commands.clear()
            first, size, calls = at, 0, 0


def _cluster_blocks(keys: pa.Array, rows: pa.Array, expires_ms: Numbers) -> Iterator[_Block]:
    for at in range(0, len(keys), _CLUSTER_BLOCK_ROWS):
        part = slice(at, at + _CLUSTER_BLOCK_ROWS)
        writes = [
            RowWrite(*row)
            for row in zip(keys[part].to_pylist(), rows[part].to_pylist(), expires_ms[part].tolist(), strict=True)
        ]
        yield _Block(size=sum(len(write.key) + len(write.packed) for write in writes), rows=len(writes), writes=writes)


def _bulk(column: pa.Array) -> pa.Array:
    """Each entry as a bulk string of RESP."""
    return pieces.join(pieces.by_length(pc.binary_length(column), _bulk_head), column, _CRLF)


def _bulk_head(length: int | None) -> bytes:
    return b"$%d\r\n" % (length or 0)


def _expiries(expires_ms: Numbers) -> pa.Array | bytes:
    if not expires_ms.any():
        return b"$1\r\n0\r\n"
    return _bulk(pa.array(expires_ms, pa.int64()).cast(pa.string()).cast(pa.binary()))


@cache
def _call_head(rows: int) -> bytes:
    """What stands before the keys of a script call."""
    count = b"%d" % rows
    return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n" % (5 + 3 * rows, _SHA, len(count), count)


def _laid(column: pa.Array) -> tuple[Numbers, memoryview]:
    """Where each entry begins and ends in the bytes of all, and those."""
    return pieces.offsets(column), memoryview(column.buffers()[2])


def _unavailable(error: Exception) -> StoreUnavailable:
    """What redis-py raised, in our words."""
    if isinstance(error, OutOfMemoryError):
        wrong = (
            "Redis is out of memory (its maxmemory is reached) and took no more rows; give it more, or let rows live shorter, and "
            "run again"
        )
    elif isinstance(error, ReadOnlyError):
        wrong = (
            "Redis is a replica, which takes no writes; let online_store.connection_string name the primary, or its Sentinels "
            "with redis_type: redis_sentinel"
        )
    else:
        wrong = "Redis did not take the rows, or restarted meanwhile; check that it runs, and run again"
    unavailable = StoreUnavailable(wrong)
    unavailable.__cause__ = error
    return unavailable
