"""Sinks: where pushed rows go online, one per layout, written so that newest wins inside Redis.

The counterpart of `layouts`, which finds what is written here. Feast's hashes are written as Feast writes them, so that its
own clients read them alike; what Feast does not keep (a row's created time) cannot be compared there.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hindcast.catalog import View
from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded
from hindcast.online.connection import NOT_WRITTEN, RedisTarget, close_client, failing_as
from hindcast.online.generations import KnownGenerations
from hindcast.online.keys import event_field, feature_field, schema_key
from hindcast.online.layouts import LayoutName
from hindcast.online.row_format import NULLS
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.writer import ViewTargets, WriteReport, write_rows_async

FEAST_SCRIPT = files("hindcast.online").joinpath("feast_newest_wins.lua").read_text()

_RETRIES = 1
"""A connection that broke while it lay idle is made anew, which is safe: to write a row again changes nothing. Whoever finds
Redis away hears of it at once and may push again."""


class Sink(Protocol):
    """Takes the rows of one project. Belongs to the event loop it is first used in."""

    async def write(
        self, view: View, rows: Iterable[Row], *, run_id: bytes, now_micros: int, deadline: Deadline
    ) -> WriteReport:
        """Write rows of one view, newest wins; rows of one key are taken in the order given.

        Args:
            rows: storable ones: with a key, and not dated too far ahead.
            run_id: 16 bytes, kept with each row where the layout has a place for it.
        Raises:
            StoreUnavailable, DeadlineExceeded: some rows may be written; to write all again gives the same state.
        """

    async def close(self) -> None:
        """Close the connections."""


class _RedisSink:
    """What the sinks share: a client, and the time that a caller waits for it."""

    def __init__(self, target: RedisTarget, *, project: str, policy: RowPolicy) -> None:
        patient = {**target.options, "retry": Retry(NoBackoff(), _RETRIES)}
        self._client = replace(target, options=patient).async_client()
        self._project = project
        self._policy = policy
        self._writing: set[asyncio.Task[WriteReport]] = set()

    async def close(self) -> None:
        """See `Sink.close`. Writes that have begun are let finish."""
        await asyncio.gather(*self._writing, return_exceptions=True)
        await close_client(self._client)

    async def _within(self, deadline: Deadline, write: Coroutine[Any, Any, WriteReport]) -> WriteReport:
        """Wait for a write as long as the call may; a failure of Redis becomes StoreUnavailable.

        The write itself is never cancelled: redis-py's Cluster client forgets a connection under a cancelled pipeline. It
        ends by the time-out of its socket at the latest.
        """
        task = asyncio.ensure_future(write)
        self._writing.add(task)
        task.add_done_callback(self._ended)
        try:
            with failing_as(NOT_WRITTEN):
                async with asyncio.timeout(deadline.remaining_seconds()):
                    return await asyncio.shield(task)
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the deadline passed while Redis was written; the rows may be stored, and sending them again is safe"
            ) from error

    def _ended(self, task: "asyncio.Task[WriteReport]") -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would log one that nobody waited for


class PackedSink(_RedisSink):
    """Packed rows, one key per view, generation and entity."""

    def __init__(self, target: RedisTarget, *, project: str, policy: RowPolicy) -> None:
        super().__init__(target, project=project, policy=policy)
        self._generations = KnownGenerations(project)

    async def write(
        self, view: View, rows: Iterable[Row], *, run_id: bytes, now_micros: int, deadline: Deadline
    ) -> WriteReport:
        """See `Sink.write`."""
        writer = ViewWriter(
            project=self._project,
            view=view.stored_name,
            fields=view.fields,
            ttl_micros=view.ttl_micros,
            run_id=run_id,
            now_micros=now_micros,
            policy=self._policy,
        )

        async def write() -> WriteReport:
            # Each time: a Redis that lost its data has lost the schema too, and rows cannot be read without.
            await self._client.set(schema_key(self._project, writer.schema.id), writer.schema.to_bytes())
            targets = ViewTargets(self._generations, view.stored_name)
            return await write_rows_async(self._client, writer.writes(rows), into=targets)

        return await self._within(deadline, write())


@dataclass(frozen=True, slots=True)
class HashWrite:
    """One row on its way into Feast's hash of its entity: its serialized event time, and a value per field."""

    key: bytes
    arguments: Sequence[bytes]


class FeastSink(_RedisSink):
    """Feast's own hashes (feast/infra/online_stores/redis.py), which do not keep a row's created time."""

    async def write(
        self,
        view: View,
        rows: Iterable[Row],
        *,
        run_id: bytes,  # noqa: ARG002 - Feast's hashes have no place for it
        now_micros: int,  # noqa: ARG002 - keys expire by Redis's own clock
        deadline: Deadline,
    ) -> WriteReport:
        """See `Sink.write`. Of rows with one event time the last by created time stays, whatever their order here."""
        head: tuple[bytes | int, ...] = (
            event_field(view.stored_name),
            self._policy.key_ttl_seconds or 0,
            len(view.fields),
            *(feature_field(view.stored_name, field.name) for field in view.fields),
        )
        project = self._project.encode()
        ordered = sorted(rows, key=_created)
        writes = (HashWrite(row.entity_key + project, _feast_row(row)) for row in ordered if row.entity_key is not None)
        write = write_rows_async(self._client, writes, script=FEAST_SCRIPT, head=head)
        return await self._within(deadline, write)


def _created(row: Row) -> tuple[bool, int]:
    return row.created_micros is not None, row.created_micros or 0


def _feast_row(row: Row) -> list[bytes]:
    seconds, micros = divmod(row.event_micros, 1_000_000)
    event_ts = Timestamp(seconds=seconds, nanos=micros * 1000).SerializeToString()
    return [event_ts, *(b"" if value is None or value in NULLS else value for value in row.values)]


SINKS: Mapping[LayoutName, type[PackedSink] | type[FeastSink]] = {
    LayoutName.PACKED: PackedSink,
    LayoutName.FEAST: FeastSink,
}
