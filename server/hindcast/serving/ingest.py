"""Ingestion: a push in, its rows stored, and what became of each out. Knows no wire format and no gRPC.

Offline first, then online. The offline store is the record: what is there and not online comes online with the next
materialization, or when the push is sent again. The other way round a failure would leave a value that is served and that no
training set will ever hold, and nothing would bring it there.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from hindcast.clock import Clock, Deadline
from hindcast.errors import DeadlineExceeded, StoreUnavailable
from hindcast.offline.location import writable_path
from hindcast.online.rows import Row, RowPolicy
from hindcast.online.sinks import Sink
from hindcast.serving.fitting import declared_kind
from hindcast.serving.push import Push, ViewRows


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSettings:
    """How the repo wants rows to be written.

    Attributes:
        offline_store_type: `offline_store.type` of the repo.
        repo_root: what relative source paths are relative to.
    """

    policy: RowPolicy
    offline_store_type: str
    repo_root: Path


@dataclass(frozen=True, slots=True)
class ViewCounts:
    """What became of the rows in one view; they sum up to the rows sent, but for those that went offline only."""

    written: int
    older: int
    ahead: int
    keyless: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is stored.

    Attributes:
        views: by name.
        appended: rows that the batch source got.
    """

    rows: int
    views: dict[str, ViewCounts]
    appended: int


class Ingest:
    """Stores pushes, online and offline."""

    def __init__(self, sink: Sink, settings: WriteSettings, *, clock: Clock) -> None:
        self._sink = sink
        self._settings = settings
        self._clock = clock

    async def store(self, push: Push, *, run_id: UUID, number: int, deadline: Deadline) -> Outcome:
        """Store a push; when this returns, every row is stored or counted as refused or older.

        Rows that are dated ahead or keyless are stored nowhere, so that serving and training agree on them.

        Args:
            number: place of this push within its run.
        Raises:
            NotWritable, InvalidArgument: nothing is stored.
            StoreUnavailable, DeadlineExceeded: the message says what is stored. To send the push again is safe.
        """
        now = self._clock()
        latest = now + self._settings.policy.future_seconds * 1_000_000
        in_time = [event <= latest for event in push.event_micros]
        created = self._created(push, now)
        appended = 0
        if push.offline:
            appended = await self._append(push, in_time, created, run_id=run_id, number=number, deadline=deadline)
        views: dict[str, ViewCounts] = {}
        for of_view in push.views:
            written = older = 0
            if push.online:
                try:
                    report = await self._sink.write(
                        of_view.view,
                        _rows(of_view, push, in_time, created),
                        run_id=run_id.bytes,
                        now_micros=now,
                        deadline=deadline,
                    )
                except (StoreUnavailable, DeadlineExceeded) as error:
                    raise type(error)(f"{error}{_stored_so_far(push, views, appended)}") from error
                written, older = report.written, report.older
            ahead = in_time.count(False)
            keyless = sum(key is None and timely for key, timely in zip(of_view.entity_keys, in_time, strict=True))
            views[of_view.view.name] = ViewCounts(written, older, ahead, keyless)
        return Outcome(len(push.event_micros), views, appended)

    def _created(self, push: Push, now: int) -> Sequence[int] | None:
        """When the rows became known: as the caller says, else now; None where the source has no column for it."""
        if not push.source.created_timestamp_column:
            return None
        return push.created_micros or [now] * len(push.event_micros)

    async def _append(
        self,
        push: Push,
        in_time: Sequence[bool],
        created: Sequence[int] | None,
        *,
        run_id: UUID,
        number: int,
        deadline: Deadline,
    ) -> int:
        """Append the rows that some view can use, as one part; how many those are."""
        path = writable_path(
            push.source, store_type=self._settings.offline_store_type, repo_root=self._settings.repo_root
        )
        kept = [
            at
            for at, timely in enumerate(in_time)
            if timely and any(of_view.entity_keys[at] is not None for of_view in push.views)
        ]
        if not kept:
            return 0
        task = asyncio.get_running_loop().run_in_executor(
            None, _append_part, push, kept, created, path, str(run_id), number
        )
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                # Shielded: a thread cannot be stopped, so a part can land after the deadline, whole as ever.
                await asyncio.shield(task)
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the deadline passed while the offline store was written; the rows may be stored there, and are not online. "
                "Sending them again is safe"
            ) from error
        return len(kept)


def _rows(of_view: ViewRows, push: Push, in_time: Sequence[bool], created: Sequence[int] | None) -> list[Row]:
    """The rows that can be stored in one view."""
    features = [of_view.columns[field.name].values for field in of_view.view.fields]
    values = zip(*features, strict=True) if features else iter([()] * len(in_time))
    return [
        Row(key, event, None if created is None else created[at], row)
        for at, (key, event, timely, row) in enumerate(
            zip(of_view.entity_keys, push.event_micros, in_time, values, strict=True)
        )
        if timely and key is not None
    ]


def _append_part(
    push: Push, kept: Sequence[int], created: Sequence[int] | None, path: Path, run_id: str, number: int
) -> None:
    """Runs in a thread. pyarrow comes in with the first push that needs it: most servers never do."""
    from hindcast.offline.writing.columns import PushedColumn, arrow_table, first_schema  # noqa: PLC0415
    from hindcast.offline.writing.parts import append_part, part_name, stored_schema  # noqa: PLC0415

    source_names = {field: column for column, field in push.source.field_mapping.items()}
    types = {
        field.name: field.value_type
        for of_view in push.views
        for field in (*of_view.view.join_keys, *of_view.view.fields)
    }
    pushed = {name: column for of_view in push.views for name, column in of_view.columns.items()} | dict(push.extra)
    columns = [
        PushedColumn(
            name=source_names.get(name, name),
            field=column.field,
            kind=declared_kind(types[name]) if name in types else "",
            values=[column.values[at] for at in kept],
        )
        for name, column in pushed.items()
    ]
    times = [(push.source.timestamp_field, "event_timestamps", push.event_micros)]
    if created is not None:
        times.append((push.source.created_timestamp_column, "created_timestamps", created))
    columns += [
        PushedColumn(source_names.get(name, name), field, "", [micros[at] for at in kept])
        for name, field, micros in times
        if name not in pushed
    ]
    schema = stored_schema(path)
    if schema is None:
        # Of all views over the source, so that the next push, of another of them, finds its columns.
        fields = {
            source_names.get(field.name, field.name): declared_kind(field.value_type)
            for name, source in push.catalog.sources.items()
            if source.path == push.source.path and name in push.catalog.views
            for field in (*push.catalog.views[name].join_keys, *push.catalog.views[name].fields)
        }
        schema = first_schema(fields, [source_names.get(name, name) for name, _, _ in times])
    table = arrow_table(columns, schema)
    append_part(table, path, name=part_name(run_id, number=number, content=push.content))


def _stored_so_far(push: Push, views: dict[str, ViewCounts], appended: int) -> str:
    stored = [f"{appended} rows in the offline store"] if push.offline else []
    stored += [f"the rows of view {name!r}" for name in views]
    if not stored:
        return ""
    return f". Stored are {' and '.join(stored)}; sending the push again is safe"
