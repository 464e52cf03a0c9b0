"""Building a training set of what was served: rows of a log of lookups, with labels, and cells that were not served read as of then."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.build import (
    add_rows,
    kept_frame,
    pinned_sources,
    source_records,
    write_origins,
    write_rows,
    write_snapshots,
)
from hindcast.datasets.canonical import Hasher
from hindcast.datasets.definitions import Definitions
from hindcast.datasets.label_join import REQUEST_ID, LabelJoin, label_join
from hindcast.datasets.making import MadeOf, SetOrder, publish, sha256
from hindcast.datasets.manifest import (
    CatalogRecord,
    EvidenceRecord,
    FileRecord,
    FrameRecord,
    KnownAt,
    LabelsRecord,
    LogRecord,
    LogTableRecord,
    LookupsRecord,
    LossRecord,
    ServedRecord,
    SourceRecord,
    WriterRecord,
)
from hindcast.datasets.parts import GROUP_ROWS, PartsWriter, row_groups, stored_schema
from hindcast.datasets.pins import shown_path
from hindcast.datasets.progress import OnProgress, Progress, silent
from hindcast.datasets.retrieval import FrameCall, Reading, Repo
from hindcast.datasets.served_rows import (
    FILLED,
    ORIGIN,
    SERVED,
    Layout,
    ServedRows,
    SetFeature,
    layout_of,
    log_connection,
    mark_of,
    served_rows,
)
from hindcast.datasets.store import SetStore, StoredSet
from hindcast.errors import InvalidArgument, SealError
from hindcast.lookups.closing import have_closed
from hindcast.lookups.losses import Loss, losses
from hindcast.lookups.reading import Matching, SegmentRecords
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.served_log import Range, ServedLog
from hindcast.offline.frames.frame import ARGUMENT, EntityFrame, held_rows

if TYPE_CHECKING:
    from hindcast.offline.asof.reading import Leaks

LABELS, PLACES = "labels", "lookups"
POINT_IN_TIME = "point-in-time"
_CLOSE_SECONDS = 10.0
"""How long writers are waited for that are asked to close their segments; a worker does within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupsOrder(SetOrder):
    """What is to be built of a log.

    Attributes:
        features: `view:feature` each; None for those of the service.
        labels: in any form of an entity frame.
        on, label_time, window_micros, pick, keeps_unlabeled: see `label_join`.
        fill: `point-in-time`, or None.
        seals: whether the log is sealed first; otherwise only what is sealed already is read.
    """

    service: str
    during: Range
    log_directory: Path
    features: Sequence[str] | None
    labels: Any
    on: str | Sequence[str] | None
    label_time: str | None
    window_micros: int | None
    pick: str | None
    keeps_unlabeled: bool
    fill: str | None
    has_statuses: bool
    has_ages: bool
    seals: bool


def build_from_lookups(
    order: LookupsOrder, repo: Repo, store: SetStore, *, on_progress: OnProgress = silent
) -> StoredSet:
    """Build a set as the next version of its name. Until it is whole nothing of it is visible.

    Raises:
        InvalidArgument, UnknownName: what is asked for cannot be had; the message says what.
        SealError, StoredDataError: the log cannot be sealed or read.
        SourceError, TransformError: as of `build`, where cells are filled.
        StoreUnavailable, DatasetError: the disk did not take something.
    """
    if order.fill not in {None, POINT_IN_TIME}:
        raise InvalidArgument.at("fill", f"is {order.fill!r}; give {POINT_IN_TIME}, or nothing for nulls")
    git = order.git(repo.root)
    _check_log(order)
    if order.seals:
        _seal(order.log_directory, repo.root)
    with ExitStack() as stack:
        built = stack.enter_context(store.building(order.name))
        connection = stack.enter_context(
            log_connection(memory_bytes=repo.memory_bytes, threads=repo.threads, spill_dir=repo.spill_dir)
        )
        log = ServedLog(connection, order.log_directory, order.service, order.during)
        if not log.catalogs:
            raise InvalidArgument.at(
                "service",
                f"{order.service!r} has no lookups in this time in the tables of {order.log_directory}; `hindcast lookups ls` shows what there is",
            )
        on_progress(Progress("frame", 0, 0))
        labels = stack.enter_context(opened_labels(order.labels, repo, time=order.label_time))
        join = label_join(
            labels.schema,
            on=order.on,
            time=order.label_time,
            window_micros=order.window_micros,
            pick=order.pick,
            keeps_unlabeled=order.keeps_unlabeled,
        )
        labels.as_of = join.time
        labels_record = _kept_labels(order.labels, labels, built, repo.root)
        layout = layout_of(
            log,
            wanted=wanted_features(order.features, order.service, repo, fills=order.fill is not None),
            fills=order.fill is not None,
            full_feature_names=order.full_feature_names,
            has_statuses=order.has_statuses,
            has_ages=order.has_ages,
            has_request_id=join.on == REQUEST_ID,
        )
        on_progress(Progress("read", 0, 0))
        rows = stack.enter_context(served_rows(connection, log, layout, labels, join, spill_dir=repo.spill_dir))
        definitions = fill_definitions(layout, order.service, repo, full_feature_names=order.full_feature_names)
        modules = repo.modules(definitions)
        filling = Filling(repo, definitions)
        with filling.read(rows) as reading:
            written = write_rows(
                reading,
                rows.frame,
                order.splits,
                built,
                with_statistics=True,
                is_delta=order.is_delta,
                on_progress=on_progress,
            )
            on_progress(Progress("evidence", 0, rows.rows))
            evidence = filling.evidence(rows, built, snapshot=order.snapshot)
            on_progress(Progress("evidence", rows.rows, rows.rows))
        repo.check_modules(modules)
        record = LookupsRecord(
            service=order.service,
            since_micros=order.during.since_micros,
            until_micros=order.during.until_micros,
            log=_log_record(connection, log, order, rows, repo.root),
            labels=_labels_record(labels_record, join, rows),
            asked=tuple(order.features or ()),
            features=reading.counts(),
            fill=order.fill or "",
            has_statuses=order.has_statuses,
            has_ages=order.has_ages,
            places=write_places(rows, built),
        )
        made_of = MadeOf(
            features=tuple(order.features) if order.features is not None else (order.service,),
            known_at=KnownAt(kind="own"),
            frame=_frame_record(rows, order.service),
            sources=filling.records,
            definitions=definitions,
            modules=modules,
            git=git,
            evidence=evidence,
            leaks=filling.leaks,
            lookups=record,
        )
        return publish(order, made_of, written, built, store)


def _check_log(order: LookupsOrder) -> None:
    if not order.log_directory.is_dir():
        raise SealError(f"there is no log of lookups in {order.log_directory}; name the log directory of the server")
    since = order.during.since_micros
    if since is not None and since >= order.during.until_micros:
        raise InvalidArgument.at("until", "is not after `since`; give a later time, or leave it out for now")


def _seal(log_directory: Path, repo_root: Path) -> None:
    """Put all that was answered into tables: a set pins these, and there is one place to read."""
    have_closed(log_directory, seconds=_CLOSE_SECONDS)
    Sealer(log_directory, repo_root=repo_root).seal()


def wanted_features(
    features: Sequence[str] | None, service: str, repo: Repo, *, fills: bool
) -> list[tuple[str, str]] | None:
    """View and feature of each that a set has; None for those of the log.

    Raises:
        InvalidArgument, UnknownName: one is not written `view:feature`, or there is no such service now, whose features are to be filled.
    """
    if features is None:
        return repo.service_features(service) if fills else None
    wanted = []
    for ref in features:
        view, colon, feature = ref.partition(":")
        if not (view and colon and feature):
            raise InvalidArgument.at(
                "features", f"has {ref!r}; write view:feature, under the view's name in the service"
            )
        wanted.append((view, feature))
    return wanted


def fill_definitions(layout: Layout, service: str, repo: Repo, *, full_feature_names: bool) -> Definitions:
    """What the features mean that are filled; of an alias only the service knows, and then all of the service is read.

    Raises:
        UnknownName: the registry has no such view, or feature.
    """
    refs = [feature.ref for feature in layout.filled]
    if not refs:
        return Definitions(service="", refs=(), full_feature_names=full_feature_names, views=(), on_demand=())
    if {feature.view for feature in layout.filled} & repo.service_aliases(service):
        return repo.definitions(service, full_feature_names=full_feature_names)
    return repo.definitions(refs, full_feature_names=full_feature_names)


@contextmanager
def opened_labels(given: Any, repo: Repo, *, time: str | None) -> Iterator[EntityFrame]:
    """Labels in any form of an entity frame, without a column of times so far.

    Raises:
        InvalidArgument, SourceError, StoreUnavailable: as of an entity frame.
    """
    if given is None:
        raise InvalidArgument.at("labels", "are not given; give a data frame, Arrow data, a Parquet path or SQL text")
    try:
        with held_rows(
            given,
            times=time or "event_timestamp",
            spill_dir=repo.spill_dir,
            repo_root=repo.root,
            memory_bytes=repo.memory_bytes,
            threads=repo.threads,
        ) as held:
            yield EntityFrame(held, as_of="")
    except InvalidArgument as error:
        # Said of an entity frame, which these are not.
        renamed = [replace(one, field="labels") if one.field == ARGUMENT else one for one in error.violations]
        raise InvalidArgument(renamed) from error


def _kept_labels(given: Any, labels: EntityFrame, built: Path, root: Path) -> FrameRecord:
    return kept_frame(FrameCall(entity_frame=given, start=None, end=None), labels, built, root, folder=LABELS)


@dataclass(slots=True)
class ServedReading:
    """The rows of a set as they come: what was served, and what is filled.

    Attributes:
        schema: of the batches.
    """

    rows: ServedRows
    schema: pa.Schema
    read: Reading | None
    _served: dict[str, int] = field(default_factory=dict)

    @property
    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in their order."""
        layout = self.rows.layout
        schema, served = self.rows.with_marks()
        groups = row_groups(served, schema)
        reads = None if self.read is None else row_groups(self.read.batches, self.read.schema)
        for group in groups:
            for feature in layout.marked:
                count = pc.sum(group.column(mark_of(feature))).as_py() or 0
                self._served[feature.column] = self._served.get(feature.column, 0) + count
            if reads is None:
                yield from group.select(self.schema.names).to_batches()
                continue
            columns = {name: group.column(name) for name in self.rows.schema.names}
            asked = next(reads)
            for feature in layout.filled:
                column, mark = _merged(feature, group, asked)
                columns[feature.column] = column
                columns[f"{feature.column}{ORIGIN}"] = _ORIGINS.take(mark.cast(pa.int8()))
            yield from pa.table([columns[name] for name in self.schema.names], schema=self.schema).to_batches()

    def counts(self) -> tuple[ServedRecord, ...]:
        """Once the batches have been taken: where the cells of each feature are from."""
        layout, rows = self.rows.layout, self.rows.rows
        found = []
        for feature in layout.features:
            served = self._served.get(feature.column, 0) if feature.lacks else rows
            filled = rows - served if feature in layout.filled else 0
            found.append(
                ServedRecord(
                    column=feature.column,
                    view=feature.view,
                    feature=feature.feature,
                    served=served,
                    filled=filled,
                    lacking=rows - served - filled,
                )
            )
        return tuple(found)


_ORIGINS = pa.array([FILLED, SERVED])


def _merged(feature: SetFeature, group: pa.Table, asked: pa.Table) -> tuple[Any, Any]:
    """A feature's column, and which of its cells were served."""
    filled = asked.column(feature.column)
    if feature.of is None:
        return filled, pa.chunked_array([pa.repeat(False, group.num_rows)])
    served, mark = group.column(feature.column), group.column(mark_of(feature))
    if filled.type != served.type:
        try:
            filled = filled.cast(served.type)
        except pa.ArrowException as error:
            raise InvalidArgument.at(
                "fill",
                f"reads {feature.ref} as {filled.type}, and lookups were answered with {served.type}, which does not hold all of it; leave the feature out",
            ) from error
    return pc.if_else(mark, served, filled), mark


class Filling:
    """Point-in-time reads for cells that were not served, as of served_at and by what was known then.

    Attributes:
        records: of the sources that are read.
        leaks: none but those of rows that are dated after they were created.
    """

    def __init__(self, repo: Repo, definitions: Definitions) -> None:
        self._repo, self._definitions = repo, definitions
        self.records: tuple[SourceRecord, ...] = ()
        self.leaks: Mapping[str, Leaks] = {}
        self._reading: Reading | None = None

    @contextmanager
    def read(self, rows: ServedRows, sources: Mapping[str, Any] | None = None) -> Iterator[ServedReading]:
        """The rows with their filled cells, while the block runs.

        Args:
            sources: by view; None for those that the definitions name, as they are now.
        """
        if not self._definitions.refs:
            yield ServedReading(rows, rows.schema, None)
            return
        if sources is None:
            sources, titles = pinned_sources(self._repo, self._definitions)
            self.records = source_records(sources, titles, self._repo.root)
        with self._repo.reading(self._definitions, sources, rows.asking(), KnownAt(kind="own")) as reading:
            self._reading = reading
            yield ServedReading(rows, _schema(rows, reading.schema), reading)

    @property
    def origins(self) -> Mapping[str, Any]:
        """Where the filled values of each view came from, once all was read."""
        return {} if self._reading is None else self._reading.origins

    def evidence(self, rows: ServedRows, built: Path, *, snapshot: bool) -> EvidenceRecord:
        """Write where filled values came from; for rows without such a cell too."""
        if self._reading is None:
            return EvidenceRecord(origins=(), snapshots={})
        self.leaks = self._reading.leaks
        parts = write_origins(self.origins, self.records, rows=rows.rows, place=built, root=self._repo.root)
        snapshots = write_snapshots(self.origins, self._definitions, built) if snapshot else {}
        return EvidenceRecord(origins=parts, snapshots=snapshots)


def _schema(rows: ServedRows, read: pa.Schema) -> pa.Schema:
    """The columns of a set some of whose cells are filled, in the order of `ServedRows`, features as the layout has them."""
    layout = rows.layout
    features = {feature.column for feature in layout.features}
    heads = list(rows.frame.schema)
    kinds = [
        pa.field(feature.column, (read if feature.of is None else rows.schema).field(feature.column).type)
        for feature in layout.features
    ]
    rest = [one for one in rows.schema if one.name not in features and one.name not in rows.frame.schema.names]
    marks = [pa.field(f"{feature.column}{ORIGIN}", pa.string()) for feature in layout.filled]
    return pa.schema([*heads, *kinds, *rest, *marks])


def _frame_record(rows: ServedRows, service: str) -> FrameRecord:
    schema = stored_schema(rows.frame.schema)
    hasher = Hasher(schema)
    for table in row_groups(rows.frame.batches(GROUP_ROWS), rows.frame.schema, stored=schema):
        add_rows(hasher, table)
    return FrameRecord(
        form="lookups",
        text=service,
        is_kept=False,
        files=(),
        columns=tuple(schema.names),
        as_of=rows.frame.as_of,
        rows=rows.rows,
        digest=sha256(hasher.finish().root),
    )


def write_places(rows: ServedRows, built: Path) -> tuple[FileRecord, ...]:
    """Write where each row's record stands in the log, and the position of its label."""
    directory = built / "evidence" / PLACES
    directory.mkdir(parents=True)
    schema = stored_schema(rows.places.schema)
    with PartsWriter(directory, schema, within=built) as writer:
        for table in row_groups(rows.places.batches(), rows.places.schema, stored=schema):
            writer.write(table)
    return writer.files


def _log_record(
    connection: duckdb.DuckDBPyConnection, log: ServedLog, order: LookupsOrder, rows: ServedRows, root: Path
) -> LogRecord:
    counts = log.counts()
    return LogRecord(
        path=shown_path(order.log_directory, root=root),
        tables=tuple(
            LogTableRecord(path=shown_path(table.path, root=root), version=table.version)
            for table in (log.records, *log.tables)
        ),
        writers=tuple(
            WriterRecord(writer=str(writer), last_sequence=last) for writer, last in sorted(log.through.items())
        ),
        catalogs=tuple(
            CatalogRecord(version=one.version, rows=one.rows, sample_rate=repr(one.sample_rate)) for one in log.catalogs
        ),
        answered=counts.answered,
        failed=counts.failed,
        erased=counts.erased,
        rows=rows.answered,
        unsealed=_unsealed(order),
        modes=dict(counts.modes),
        losses=tuple(_loss_record(one) for one in losses(connection, order.log_directory, order.during)),
    )


def _loss_record(loss: Loss) -> LossRecord:
    return LossRecord(
        writer=str(loss.writer), first_sequence=loss.first_sequence, lookups=loss.lookups, reason=loss.reason
    )


def _unsealed(order: LookupsOrder) -> int:
    """Lookups of the service that are in segments: answered since the log was sealed, or held by a writer that did not close them."""
    wanted = Matching(
        since_micros=order.during.since_micros, until_micros=order.during.until_micros, service=order.service
    )
    return len({found.record.lookup_id for found in SegmentRecords(order.log_directory).every(wanted)})


def _labels_record(frame: FrameRecord, join: LabelJoin, rows: ServedRows) -> LabelsRecord:
    return LabelsRecord(
        frame=frame,
        on=join.on,
        columns=join.columns,
        row=join.row,
        window_micros=join.window_micros,
        pick=join.pick,
        keeps_unlabeled=join.keeps_unlabeled,
        used=rows.used,
        superseded=frame.rows - rows.fit.without_key - rows.fit.unknown - rows.used,
        unknown=rows.fit.unknown,
        without_key=rows.fit.without_key,
        unlabeled=rows.answered - rows.labeled,
        open_windows=rows.open_windows,
    )
