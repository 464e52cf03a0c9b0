"""Feast's compute engine for Hindcast: `batch_engine: {type: hindcast.materialize.plugin.StreamingEngine}`.

Plain views over files, Delta tables and DuckDB databases go through `engine`, in a stream that memory does not grow with. Views with a
transformation, aggregations, validation or other views for a source, and stores that are not Hindcast's, go Feast's own way, which
loads the whole range; those runs are on record too, without counts.
"""

import hashlib
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureStore, FeatureView, FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.common.materialization_job import MaterializationJob, MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from feast.utils import _validate_vector_field_lengths
from feast.value_type import ValueType
from pydantic import NonNegativeInt, PositiveInt
from tqdm import tqdm

from hindcast.catalog import BatchSource, Field, View, load_catalog
from hindcast.catalog.repo import Repo, registry_of
from hindcast.clock import from_micros, system_clock, to_micros
from hindcast.errors import HindcastError, InvalidArgument, NotWritable
from hindcast.lineage import Dataset, LineageRun, LineageSettings, Sender, lineage_settings, told
from hindcast.materialize.engine import Engine, Limits, ViewTask
from hindcast.materialize.ledger import Ledger, recorded
from hindcast.materialize.progress import Bar, Lines, summary
from hindcast.materialize.runs import Kind, Run
from hindcast.offline.plugin import AsOfOfflineStore
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.sources import file_format, pinned
from hindcast.offline.sources.objects import shown
from hindcast.online.plugin import PackedRedisOnlineStore, redis_target, row_policy, stored_name, written_by
from hindcast.settings import state_dir

_MICROS = 1_000_000
_EARLIEST_MICROS = to_micros(datetime.min)  # noqa: DTZ901 - naive is UTC here
"""The year 1, where times begin for Feast and for answers."""


class StreamingEngineConfig(LocalComputeEngineConfig):
    """The `batch_engine` block of `feature_store.yaml`; Feast's local settings mean the same here."""

    type: Literal["hindcast.materialize.plugin.StreamingEngine"] = "hindcast.materialize.plugin.StreamingEngine"

    look_back_seconds: NonNegativeInt = 0
    """Each run reads this far back before its start: rows that were late for the run before it are found."""

    batch_rows: PositiveInt = 10_000
    """Rows that are encoded and packed at once."""

    memory_limit_mb: PositiveInt = 96
    """For the keys of an interval; where they need more, DuckDB spills, or the source is passed over several times."""

    threads: PositiveInt | None = None
    """Of DuckDB. Unset: one per core."""


class StreamingEngine(LocalComputeEngine):
    """Materialization from the offline store into the online store."""

    def _materialize_one(self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any) -> MaterializationJob:
        """One view; an error is the job's, and Feast raises it and leaves the view's watermark where it was."""
        job = partial(LocalMaterializationJob, job_id=f"{task.feature_view.name}-{task.start_time}-{task.end_time}")
        try:
            with told(self._sender, _lineage_run(self.repo_config, task)) as telling:
                if _is_streamed(self, task):
                    run = _engine(self.repo_config, task).run(_view_task(self.repo_config, task))
                    print(summary(run))
                    _tell_end(telling, run)
                else:
                    self._materialize_by_feast(registry, task, **kwargs)
        except Exception as error:  # noqa: BLE001 - Feast raises what a job says
            return job(status=MaterializationJobStatus.ERROR, error=error)
        return job(status=MaterializationJobStatus.SUCCEEDED)

    @cached_property
    def _sender(self) -> Sender | None:
        """Of OpenLineage events, one for all views of a run; None where nobody asked for them, or where Feast sends them itself."""
        settings = _lineage(self.repo_config)
        return None if settings is None or settings.is_by_feast else Sender(settings)

    def _materialize_by_feast(self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any) -> None:
        ledger, asked = Ledger.of_repo(_repo(self.repo_config)), _view_task(self.repo_config, task)
        from_start = replace(task, start_time=from_micros(asked.start_micros))
        run = asked.new_run(system_clock())
        with recorded(run, ledger, clock=system_clock), written_by(run.run_id):
            error = super()._materialize_one(registry, from_start, **kwargs).error()
            if error is not None:
                raise error


def replace_view(
    repo_root: Path,
    view: str,
    *,
    start: datetime | None,
    end: datetime | None,
    keep_seconds: float,
    take_over: bool = False,
) -> Run:
    """Fill a view's rows anew from its source and serve them all at once (docs/semantics.md).

    Feast's watermark stays: the next incremental run brings what came since to the new rows, and to the old ones while they are kept.

    Args:
        start: rows from this time on; None for all.
        end: rows up to this time; None for now. Not before the view's watermark: rows in between would be missing from then on.
        keep_seconds: how long the old rows are kept to go back to.
        take_over: put an end to another replace of the view, which may be dead.
    Raises:
        InvalidArgument: `end` is before the view's watermark, or in the future.
        NotWritable: the view's rows are not made by `engine`.
        GenerationConflict, SourceError, StoreUnavailable, LedgerError: as `Engine.replace`.
    """
    store = FeatureStore(repo_path=str(repo_root))
    task = MaterializationTask(
        project=store.project,
        feature_view=store.registry.get_any_feature_view(view, store.project),
        start_time=start or from_micros(_EARLIEST_MICROS),
        end_time=end or from_micros(system_clock()),
        tqdm_builder=partial(tqdm, ncols=100),
    )
    engine = store._get_provider().batch_engine  # noqa: SLF001 - Feast has no other way to it
    if not isinstance(engine, StreamingEngine) or not _is_streamed(engine, task):
        raise NotWritable(
            f"view {view!r} is not materialized by Hindcast's own engine, and only that can replace rows: set batch_engine.type to "
            f"{StreamingEngine.__module__}.{StreamingEngine.__name__} and offline_store.type to {AsOfOfflineStore.__module__}."
            f"{AsOfOfflineStore.__name__}; views with transformations, aggregations or validation cannot be replaced"
        )
    watermark = task.feature_view.most_recent_end_time
    if watermark is not None and task.end_time < watermark:
        raise InvalidArgument.at(
            "--end",
            f"{task.end_time.isoformat()} is before {watermark.isoformat()}, up to which view {view!r} is materialized: rows in between "
            "would not be served any more, nor looked for by the next incremental run. Leave --end out, or give a later one",
        )
    view_task = replace(_view_task(store.config, task), kind=Kind.REPLACE)
    settings = _lineage(store.config)
    # Feast knows nothing of a replace, and so tells nothing of it.
    sender = None if settings is None else Sender(settings)
    with told(sender, _lineage_run(store.config, task)) as telling:
        run = _engine(store.config, task).replace(view_task, keep_seconds=keep_seconds, take_over=take_over)
        _tell_end(telling, run)
    return run


def _lineage(config: RepoConfig) -> LineageSettings | None:
    block = config.openlineage
    if block is not None and not block.emit_on_materialize:
        return None
    return lineage_settings(config.project, None if block is None else block.model_dump())


def _lineage_run(config: RepoConfig, task: MaterializationTask) -> LineageRun:
    """What is told of a run of one view. Datasets are called as in Feast's own events, so that both are of one graph."""
    view, source = task.feature_view, task.feature_view.batch_source
    fields = {field.name: str(field.dtype) for field in [*view.entity_columns, *view.features]}
    address = "" if source is None else shown(getattr(source, "path", "") or source.name)
    store = str(getattr(config.online_store, "type", "online")).rpartition(".")[2]
    return LineageRun(
        job=f"materialize_{task.project}.{view.name}",
        kind="MATERIALIZATION",
        inputs=() if source is None else (Dataset(name=source.name, fields=fields, source=(source.name, address)),),
        outputs=(
            Dataset(
                name=f"online_store_{view.name}",
                fields=fields,
                source=(store, f"{store}://feast/{view.name}"),
            ),
        ),
    )


def _tell_end(telling: LineageRun, run: Run) -> None:
    (made,) = telling.outputs
    telling.outputs = (replace(made, version=run.run_id, rows=run.rows_written),)
    versions = [str(source.delta_version) for source in run.sources if source.delta_version is not None]
    digests = [source.sha256 or source.tag for source in run.sources]
    if run.sources:
        version = versions[0] if versions else f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"
        telling.inputs = tuple(replace(one, version=version) for one in telling.inputs)


def _is_streamed(engine: StreamingEngine, task: MaterializationTask) -> bool:
    """Whether a view is what `engine` can do, from and into stores that it knows."""
    view = task.feature_view
    source = view.batch_source
    return (
        isinstance(engine.online_store, PackedRedisOnlineStore)
        and isinstance(engine.offline_store, AsOfOfflineStore)
        and _is_streamable(source)
        and task.only_latest
        and view.online
        and not getattr(view, "source_views", None)
        and not getattr(view, "feature_transformation", None)
        and not getattr(view, "aggregations", None)
        and not getattr(view, "enable_validation", False)
    )


def _is_streamable(source: DataSource | None) -> bool:
    if isinstance(source, FileSource):
        return isinstance(source.file_format, ParquetFormat | DeltaFormat | None)
    return isinstance(source, DuckDBSource)


def _engine(config: RepoConfig, task: MaterializationTask) -> Engine:
    settings = config.batch_engine
    repo = _repo(config)

    def progress(view: str, total: int) -> Bar | Lines:
        if sys.stderr.isatty() and task.tqdm_builder is not None:
            return Bar(view, total, make_bar=task.tqdm_builder)
        return Lines(view, total)

    return Engine(
        target=redis_target(config),
        policy=row_policy(config),
        ledger=Ledger.of_repo(repo),
        state=state_dir(repo.root),
        limits=Limits(
            batch_rows=settings.batch_rows,
            memory_limit_bytes=settings.memory_limit_mb * 2**20,
            threads=settings.threads,
        ),
        unusual=by_feast,
        check=partial(_check_vectors, task.feature_view),
        progress=progress,
        clock=system_clock,
    )


def _repo(config: RepoConfig) -> Repo:
    """The repo as Hindcast's own code reads it, out of what Feast has loaded, which may be no file."""
    root = Path(config.repo_path or ".").resolve()
    return Repo(
        root=root,
        project=config.project,
        registry=registry_of(root, config.registry.model_dump()),
        online_store=config.online_store.model_dump(),
        online_versioning=config.registry.enable_online_feature_view_versioning,
        entity_key_version=config.entity_key_serialization_version,
        offline_store=config.offline_store.model_dump(),
    )


def _view_task(config: RepoConfig, task: MaterializationTask) -> ViewTask:
    view = task.feature_view
    look_back = config.batch_engine.look_back_seconds * _MICROS
    return ViewTask(
        project=task.project,
        view=_view(config, view),
        source=_batch_source(view),
        start_micros=max(to_micros(task.start_time) - look_back, _EARLIEST_MICROS),
        end_micros=to_micros(task.end_time),
        definitions=_definitions(config),
        pinned=partial(pinned, config, view.batch_source),
    )


def _view(config: RepoConfig, view: FeatureView) -> View:
    keys = [key for key in view.entity_columns if key.name != DUMMY_ENTITY_ID]
    return View(
        name=view.name,
        join_keys=tuple(sorted((_field(key) for key in keys), key=lambda key: key.name)),
        fields=tuple(map(_field, view.features)),
        ttl_micros=view.ttl // timedelta(microseconds=1) if view.ttl else 0,
        version=0,
        stored_name=stored_name(config, view),
    )


def _field(field: Any) -> Field:
    return Field(field.name, field.dtype.to_value_type().value)


def _batch_source(view: FeatureView) -> BatchSource:
    source = view.batch_source
    if source is None:
        return BatchSource(name="", path="", file_format="", timestamp_field="")
    is_file = isinstance(source, FileSource)
    return BatchSource(
        name=source.name,
        path=source.path if is_file else "",
        file_format=file_format(source) if is_file else "",
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or "",
        field_mapping=dict(source.field_mapping or {}),
    )


def _definitions(config: RepoConfig) -> str:
    """The catalog version of the registry as it stands; empty where only Feast can read it, or it has not been written yet."""
    try:
        return load_catalog(_repo(config)).version
    except HindcastError:
        return ""


def _check_vectors(view: FeatureView, batch: pa.RecordBatch) -> None:
    """Feast's own check of the column that has a vector index.

    Raises:
        InvalidArgument: its vectors are not all of one length, or not of the declared one.
    """
    try:
        _validate_vector_field_lengths(batch, view)
    except ValueError as error:
        vectors = ", ".join(field.name for field in view.features if field.vector_index)
        raise InvalidArgument.at(
            vectors, "holds a vector of another length than the rest, or than its vector_length; mend the source"
        ) from error


def by_feast(array: pa.Array, value_type: int) -> list[bytes]:
    """A column as Feast's own materialization encodes it, value by value.

    Nested ones are made Python's one by one: where one of them holds a null, NumPy makes doubles of the whole numbers in all.
    """
    if pa.types.is_nested(array.type):
        values = [array.slice(at, 1).to_numpy(zero_copy_only=False)[0] for at in range(len(array))]
    else:
        values = array.to_numpy(zero_copy_only=False)
    return [value.SerializeToString() for value in python_values_to_proto_values(values, ValueType(value_type))]
