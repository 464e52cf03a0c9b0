"""One run: the newest row of each key in an interval of a view's source, into the online store, in a bounded stream, and on record.

A source is read twice, narrow to find the winners and wide to take them (`offline.winners`); a batch is encoded and packed by column
and handed to a thread that writes it, while the next one is made. Knows no Feast: `plugin` says what the view is.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from hindcast.catalog import BatchSource, View
from hindcast.clock import Clock, from_micros, uuid7
from hindcast.errors import InvalidArgument, SourceError, StoredDataError, StoreUnavailable
from hindcast.materialize.digests import digest_files
from hindcast.materialize.ledger import Ledger, Record, recorded_beside
from hindcast.materialize.progress import Progress
from hindcast.materialize.runs import STAGES, Kind, Run, Source
from hindcast.offline.memory import in_roomy_memory
from hindcast.offline.sources.objects import ObjectPin
from hindcast.offline.sources.source import DeltaTable, FilePin, SourceFiles, source_pins
from hindcast.offline.spill import spill_directory
from hindcast.offline.winners.winners import WinnersQuery, read_winners
from hindcast.online.connection import RedisTarget
from hindcast.online.encode import Unusual, encode_column, encode_keys, row_keys
from hindcast.online.generations import FLIPS_MAX, GenerationsOf, generations_in
from hindcast.online.keys import ENTITYLESS_KEY, view_prefix
from hindcast.online.packing import expiries, pack_rows
from hindcast.online.rows import RowPolicy
from hindcast.online.schemas import Schema
from hindcast.online.stream import RowStream
from hindcast.online.writer import WriteReport, write_schema

logger = logging.getLogger(__name__)

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTask:
    """What a run is asked to do.

    Attributes:
        start_micros, end_micros: the interval of event times, closed at both ends.
        definitions: digest of the definitions in force.
        pinned: gives the source's files as they are when it is called.
    """

    project: str
    view: View
    source: BatchSource
    start_micros: int
    end_micros: int
    pinned: Callable[[], SourceFiles | DeltaTable] = field(repr=False)
    kind: Kind = Kind.MATERIALIZE
    definitions: str = ""

    def column(self, name: str) -> str:
        """The column of the source that a view knows under a name."""
        return next((column for column, mapped in self.source.field_mapping.items() if mapped == name), name)

    def new_run(self, now_micros: int) -> Run:
        """The record of a run that begins now."""
        return Run(
            run_id=str(uuid7(now_micros)),
            project=self.project,
            view=self.view.name,
            kind=self.kind,
            start=from_micros(self.start_micros),
            end=from_micros(self.end_micros),
            began_at=from_micros(now_micros),
            definitions=self.definitions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may take.

    Attributes:
        batch_rows: rows that are encoded and packed at once; memory is bounded by it.
        memory_limit_bytes: DuckDB's, for the keys of the interval.
        threads: DuckDB's; None for one per core.
    """

    batch_rows: int
    memory_limit_bytes: int
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Runs tasks of one repo.

    Attributes:
        state: the repo's state directory, for what is spilled and for rows in quarantine.
        unusual: Feast's own encoder, for types that `online.encode` does not know.
        check: looks at each batch before it is encoded, and raises what Feast would.
        progress: made for each run, of its view and how many rows it has.
    """

    target: RedisTarget
    policy: RowPolicy
    ledger: Ledger
    state: Path
    limits: Limits
    unusual: Unusual
    check: Callable[[pa.RecordBatch], None]
    progress: Callable[[str, int], Progress]
    clock: Clock

    def run(self, task: ViewTask) -> Run:
        """Do a task. When this returns every row is acknowledged, and the run is on record as succeeded.

        After an error the rows that were written stay; to run again gives the state of one clean run.

        Raises:
            SourceError, InvalidArgument: the source cannot be read, or holds what the view does not declare.
            StoreUnavailable: Redis, or a disk, did not take something.
            LedgerError: the run could not be recorded; where that was at its beginning, nothing has been written.
        """
        with self._recorded(task) as (record, generations):
            self._into_targets(task, record, generations)
        self._drop_due(task.project)
        return record.run

    def replace(self, task: ViewTask, *, keep_seconds: float, take_over: bool = False) -> Run:
        """Fill a new generation of the view's rows and serve it; the old one is kept for a while, to go back to.

        After an error the old rows are served as before, and those of the new generation are deleted.

        Args:
            take_over: put an end to another replace of the view, which may be dead.
        Raises:
            GenerationConflict: another replace of the view is under way, or has taken over.
            SourceError, InvalidArgument, StoreUnavailable, LedgerError: as `run`.
        """
        view = task.view.stored_name
        with self._recorded(task) as (record, generations):
            record.confirm()
            builder, building = record.run.run_id, None
            try:
                # Before the source is looked at: a row that comes later is written to the new generation by its own writer.
                building = generations.begin_build(view, builder=builder, take_over=take_over)
                reports = self._stream(task, record, (building,))
                record.run = _counted(record.run, reports[building])
                _flip(generations, view, building, keep_seconds=keep_seconds)
            except BaseException as error:
                try:
                    if building is None:
                        generations.abandon_builder(view, builder)
                    else:
                        generations.abandon(view, building)
                    generations.drop_due()
                except StoreUnavailable as left:
                    error.add_note(f"and what it had begun could not be given up: {left}")
                raise
        self._drop_due(task.project)
        return record.run

    def _drop_due(self, project: str) -> None:
        """Delete generations whose time is up. The run is done by then, whatever becomes of this: the next one goes on with it."""
        try:
            with generations_in(self.target, project=project, clock=self.clock) as generations:
                generations.drop_due()
        except (StoreUnavailable, StoredDataError) as error:
            logger.warning("old generations of views are not deleted for the moment: %s", error)

    @contextmanager
    def _recorded(self, task: ViewTask) -> Iterator[tuple[Record, GenerationsOf]]:
        """A run of a task on record, and its project's generations."""
        future_seconds = self.policy.future_seconds
        if task.end_micros > self.clock() + future_seconds * _MICROS:
            raise InvalidArgument.at(
                "end",
                f"{from_micros(task.end_micros).isoformat()} is in the future, and rows that come before it would never be "
                f"looked for; end at a time up to now (UTC; {future_seconds} s ahead are let pass)",
            )
        with (
            recorded_beside(task.new_run(self.clock()), self.ledger, clock=self.clock) as record,
            generations_in(self.target, project=task.project, clock=self.clock) as generations,
        ):
            yield record, generations

    def _into_targets(self, task: ViewTask, record: Record, generations: GenerationsOf) -> None:
        """Write to every generation of the view that may be served, those that came up meanwhile too."""
        view = task.view.stored_name
        written: dict[int, WriteReport] = {}
        for _ in range(FLIPS_MAX):
            entry = generations.read().of(view)
            lacking = [generation for generation in entry.targets if generation not in written]
            if not lacking:
                generations.clear(view, written.keys() - set(entry.targets))
                record.run = _counted(record.run, written[entry.serving])
                return
            written |= self._stream(task, record, lacking)
        raise StoreUnavailable(f"the rows of view {task.view.name!r} are replaced again and again; run again later")

    def _stream(self, task: ViewTask, record: Record, generations: Sequence[int]) -> Mapping[int, WriteReport]:
        """Read the winners, and write them to some generations; what became of the rows of each. What was read goes into the record."""
        if not task.source.timestamp_field:
            raise SourceError(
                f"the source of view {task.view.name!r} names no timestamp_field; set it, and run `feast apply`"
            )
        source = task.pinned()
        stages = _Stages()
        pins = source_pins(source)
        with ExitStack() as stack:
            stack.enter_context(in_roomy_memory())
            query = WinnersQuery(
                source=source,
                keys={key.name: task.column(key.name) for key in task.view.join_keys},
                fields={field.name: task.column(field.name) for field in task.view.fields},
                event_column=task.column(task.source.timestamp_field),
                created_column=task.column(task.source.created_timestamp_column) or None,
                start_micros=task.start_micros,
                end_micros=task.end_micros,
                future_after_micros=self.clock() + self.policy.future_seconds * _MICROS,
                quarantine=self.state / "quarantine" / f"{record.run.run_id}.parquet",
                memory_limit_bytes=self.limits.memory_limit_bytes,
                threads=self.limits.threads,
                spill_dir=stack.enter_context(spill_directory(self.state / "spill", prefix="run-")),
            )
            beside = stack.enter_context(ThreadPoolExecutor(1))
            ended = threading.Event()
            stack.callback(ended.set)  # before the thread is waited for
            with stages.timed("read"):
                winners = stack.enter_context(read_winners(query, batch_rows=self.limits.batch_rows))
            record.confirm()
            # Not before: Redis waits for the winners, and both cores are needed to find them.
            digests = beside.submit(_digested, pins, self.ledger, ended.is_set)
            run_id = bytes.fromhex(record.run.run_id.replace("-", ""))
            streams = {
                generation: stack.enter_context(RowStream(self.target, run_id=run_id)) for generation in generations
            }
            progress = stack.enter_context(self.progress(task.view.name, winners.count))
            reader = stack.enter_context(ThreadPoolExecutor(1))
            self._write(task, _ahead(winners.batches(), reader, stages), streams, stages, progress)
            with stages.timed("write"):
                reports = {generation: stream.flush() for generation, stream in streams.items()}
            report = winners.report
            record.run = replace(
                record.run,
                sources=digests.result(),
                rows_read=report.rows_read,
                rows_null_key=report.null_keys,
                rows_quarantined=report.quarantined,
                quarantine=str(query.quarantine) if report.quarantined else "",
                seconds=stages.seconds,
            )
            return reports

    def _write(
        self,
        task: ViewTask,
        batches: Iterator[pa.RecordBatch],
        streams: Mapping[int, RowStream],
        stages: "_Stages",
        progress: Progress,
    ) -> None:
        view, keys = task.view, task.view.join_keys
        schema = Schema(view.fields)
        write_schema(self.target, project=task.project, schema=schema)
        prefixes = {generation: view_prefix(task.project, view.stored_name, generation) for generation in streams}
        now = self.clock()
        # Rows that a stream knows again are left alone; the first generation is served, and has the most of them.
        first = next(iter(streams.values()))
        for batch in batches:
            *columns, events, created = batch.columns
            with stages.timed("encode"):
                self.check(batch)
                values = [
                    encode_column(column, field.value_type, column=field.name, unusual=self.unusual)
                    for column, field in zip(columns[len(keys) :], view.fields, strict=True)
                ]
                entity_keys = self._entity_keys(task, columns[: len(keys)], batch.num_rows)
            with stages.timed("pack"):
                rows = pack_rows(events, created, values, schema_id=schema.id, run_id=first.expected_run_id)
                expires_ms = expiries(events, ttl_micros=view.ttl_micros, now_micros=now, policy=self.policy)
            with stages.timed("write"):
                for generation, stream in streams.items():
                    stream.write(row_keys(prefixes[generation], entity_keys), rows, expires_ms)
            progress.advance(batch.num_rows)

    def _entity_keys(self, task: ViewTask, columns: Sequence[pa.Array], rows: int) -> pa.Array:
        if not columns:
            return pa.array([ENTITYLESS_KEY] * rows, pa.binary())
        keys = task.view.join_keys
        return encode_keys(columns, [key.value_type for key in keys], [key.name for key in keys], unusual=self.unusual)


def _flip(generations: GenerationsOf, view: str, building: int, *, keep_seconds: float) -> None:
    """Serve what was built; an answer that was lost on its way is asked for once more."""
    try:
        generations.flip(view, building, keep_seconds=keep_seconds)
    except StoreUnavailable:
        if generations.read().of(view).serving != building:
            raise


def _digested(
    pins: Sequence[FilePin | ObjectPin | DeltaTable], ledger: Ledger, is_stopped: Callable[[], bool]
) -> tuple[Source, ...]:
    """What a run has read, as its record names it. Objects by their tag: a digest would fetch what the run has no need of.

    Raises:
        SourceError: a file is another one than was pinned.
        LedgerError: a file cannot be read.
    """
    files = [pin for pin in pins if isinstance(pin, FilePin)]
    tables = [Source(path=str(pin.path), delta_version=pin.version) for pin in pins if isinstance(pin, DeltaTable)]
    objects = [
        Source(path=str(pin.path), bytes=pin.size_bytes, mtime_ns=pin.mtime_ns, tag=pin.tag)
        for pin in pins
        if isinstance(pin, ObjectPin)
    ]
    digested = digest_files([pin.path for pin in files], known=ledger.sources() if files else {}, is_stopped=is_stopped)
    for pin, source in zip(files, digested, strict=True):
        if (pin.size_bytes, pin.mtime_ns) != (source.bytes, source.mtime_ns):
            raise SourceError(f"{pin.path} changed while it was read; run again when its writer is done")
    return (*tables, *objects, *digested)


def _counted(run: Run, report: WriteReport) -> Run:
    return replace(run, rows_written=report.written, rows_unchanged=report.unchanged, rows_older=report.older)


class _Stages:
    """Seconds by stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what a block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began


def _ahead(batches: Iterator[pa.RecordBatch], reader: ThreadPoolExecutor, stages: _Stages) -> Iterator[pa.RecordBatch]:
    """The batches, each read while the one before it is worked on."""

    def read() -> pa.RecordBatch | None:
        with stages.timed("read"):
            return next(batches, None)

    reading = reader.submit(read)
    while (batch := reading.result()) is not None:
        reading = reader.submit(read)
        yield batch
