"""Reading features for a training set: Feast's definitions as records, and point-in-time reads of such records.

The one place of this room that imports Feast.
"""

import base64
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import FeatureService, FeatureStore, FileSource, OnDemandFeatureView
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.errors import (
    FeastError,
    FeastObjectNotFoundException,
    FeatureNameCollisionError,
    RequestDataNotFoundInEntityDfException,
    SavedDatasetNotFound,
)
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandProto
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.saved_dataset import SavedDataset

from hindcast.catalog import read_repo
from hindcast.catalog.registry import read_registry
from hindcast.catalog.repo import FileRegistry, OtherRegistry, registry_of
from hindcast.clock import from_micros, system_clock
from hindcast.datasets.definitions import Definitions, Feature, Key, OnDemandRecord, SourceDefinition, ViewRecord
from hindcast.datasets.manifest import FileRecord, KnownAt, ModuleRecord
from hindcast.datasets.modules import RepoModules, file_sha256
from hindcast.datasets.pins import absolute_path, file_record
from hindcast.datasets.registration import PATH, Entry, replace_registry_file
from hindcast.errors import (
    CatalogError,
    HindcastError,
    InvalidArgument,
    RepoError,
    SourceError,
    TransformError,
    UnknownName,
)
from hindcast.lineage import LineageSettings, lineage_settings
from hindcast.offline.asof.definition import ViewDefinition
from hindcast.offline.asof.origins import Origins
from hindcast.offline.asof.reading import AsOfResult, AsOfView, Leaks
from hindcast.offline.frames.frame import EntityFrame
from hindcast.offline.frames.paths import frame_path
from hindcast.offline.location import OUR_STORE
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.history import Call, HeldFrame, HistoricalJob, opened_frame, view_definition
from hindcast.offline.plugin.jobs import BATCH_ROWS
from hindcast.offline.plugin.sources import file_format, storage_options
from hindcast.offline.plugin.times import given_micros
from hindcast.offline.sources.source import DeltaTable, SourceFiles, find_source
from hindcast.spelling import hint_of

_APPLY = "new ones are there after `feast apply`"

__all__ = ["Reading", "Repo", "given_micros"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCall:
    """What was given for an entity frame: rows in some form, or two times for all keys between them."""

    entity_frame: Any
    start: Any
    end: Any


@dataclass(slots=True)
class Reading:
    """A read under way.

    Attributes:
        schema: of the batches.
        batches: the frame's rows in their order, with the features.
        origins, leaks: by view; empty before the batches have been taken.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    job: HistoricalJob

    @property
    def origins(self) -> Mapping[str, Origins]:
        """Where the values of each view came from."""
        return self.job.origins()

    @property
    def leaks(self) -> Mapping[str, Leaks]:
        """What each view leaks."""
        return self.job.leaks()


class Repo:
    """A Feast repo as training sets need it."""

    def __init__(self, root: Path, *, threads: int | None = None) -> None:
        """Read the repo's settings; its registry is read when it is asked for.

        Args:
            threads: of a read, instead of what the settings say.
        Raises:
            RepoError: it is no repo, or its offline store is another one.
            InvalidArgument: that is no number of threads.
        """
        if threads is not None and threads < 1:
            raise InvalidArgument.at("threads", f"are {threads}; give 1 or more, or none for one a core")
        self.root = root
        self._modules = RepoModules(root.resolve())
        try:
            self._store = FeatureStore(repo_path=str(root))
            config = self._store.config
            kind = config.offline_store.type
        except HindcastError:
            raise
        except Exception as error:
            raise RepoError(f"the Feast repo {str(root)!r} cannot be opened; `feast apply` there says more") from error
        if kind != OUR_STORE:
            raise RepoError(
                f"the repo's offline_store.type is {kind!r}, and training sets are read by {OUR_STORE}; change it in feature_store.yaml"
            )
        if threads is not None:
            config.offline_store.threads = threads

    @property
    def lineage(self) -> LineageSettings | None:
        """Where OpenLineage events go; None if nobody asked for any."""
        config = self._store.config
        block = config.openlineage
        return lineage_settings(config.project, None if block is None else block.model_dump())

    @property
    def memory_bytes(self) -> int:
        """What a read may hold."""
        return self._call().limits.memory_bytes

    @property
    def spill_dir(self) -> Path:
        """For what does not fit."""
        return self._call().limits.spill_dir

    @property
    def threads(self) -> int | None:
        """Of a read; None for one a core."""
        return self._call().limits.threads

    def service_features(self, service: str) -> list[tuple[str, str]]:
        """View (or its alias) and feature of each feature of a service, as it is now.

        Raises:
            UnknownName: there is no such service.
        """
        return [
            (projection.name_to_use(), feature.name)
            for projection in self._projections(service)
            for feature in projection.features
        ]

    def service_aliases(self, service: str) -> set[str]:
        """The names of views that only a service gives them; none where there is no such service."""
        try:
            projections = self._projections(service)
        except UnknownName:
            return set()
        return {one.name_to_use() for one in projections if one.name_alias or one.join_key_map}

    def _projections(self, service: str) -> list[Any]:
        with _in_our_words(service, self._store):
            return list(self._store.get_feature_service(service).feature_view_projections)

    def definitions(self, features: str | Sequence[str], *, full_feature_names: bool) -> Definitions:
        """What some features mean now.

        Args:
            features: the name of a service, or `view:feature` each.
        Raises:
            UnknownName: the registry has no such service, view or feature.
            InvalidArgument: they cannot be asked for together.
            SourceError: a view has no source that is read here.
        """
        with _in_our_words(features, self._store):
            wanted: FeatureService | list[str]
            wanted = self._store.get_feature_service(features) if isinstance(features, str) else list(features)
            job = self._store.get_historical_features(
                entity_df=pa.table({"event_timestamp": pa.array([], pa.timestamp("us", "UTC"))}),
                features=wanted,
                full_feature_names=full_feature_names,
            )
        asked = job.asked
        stored = _stored_functions(self.root) if job.on_demand_feature_views else []
        return Definitions(
            service=features if isinstance(features, str) else "",
            refs=tuple(asked.refs),
            full_feature_names=full_feature_names,
            views=tuple(_view_record(view, asked) for view in asked.views),
            on_demand=tuple(_on_demand_record(view, asked, stored) for view in job.on_demand_feature_views),
        )

    def modules(self, definitions: Definitions) -> tuple[ModuleRecord, ...]:
        """The repo's modules that the functions of some definitions reach, as they are now, and as functions that are loaded later have them."""
        functions: dict[str, Any] = {}
        for record in definitions.on_demand:
            try:
                functions[record.name] = getattr(_on_demand_view(record).feature_transformation, "udf", record.code)
            except TransformError:
                functions[record.name] = record.code
        return self._modules.reached(functions)

    def module_sha256(self, path: str) -> str:
        """SHA-256 of a module's file as it is now, 64 hex digits; empty where it is not there.

        Args:
            path: as a manifest has it.
        """
        return file_sha256(absolute_path(path, root=self.root))

    def check_modules(self, modules: Sequence[ModuleRecord]) -> None:
        """Refuse what was made while modules were edited: which text of them ran, nobody knows.

        Raises:
            TransformError: one is another one by now.
        """
        for module in modules:
            if self.module_sha256(module.path) != module.sha256:
                raise TransformError(
                    f"{module.path!r} changed while functions of {', '.join(module.views)} ran; run again, when nobody edits it"
                )

    def pinned(self, source: SourceDefinition, *, version: int | None = None) -> SourceFiles | DeltaTable:
        """The files of a source as they are now.

        Args:
            version: of a Delta table, instead of its newest.
        Raises:
            SourceError: it cannot be read.
        """
        if source.kind == "duckdb":
            return DuckDBSource(
                name=source.name, path=source.path, table=source.table, timestamp_field=source.timestamp_field
            ).pinned(self._store.config)
        options = storage_options(self._store.config, self._known_source(source))
        found = find_source(source.path, source.file_format, repo_root=self.root, storage_options=options)
        if version is not None and isinstance(found, DeltaTable):
            if found.version < version:
                raise SourceError(
                    f"the Delta table {source.path!r} is at version {found.version}, and version {version} is not there any more; "
                    "it was written anew"
                )
            return replace(found, version=version)
        return found

    @contextmanager
    def frame(
        self, given: FrameCall, definitions: Definitions, sources: Mapping[str, SourceFiles | DeltaTable]
    ) -> Iterator[EntityFrame]:
        """The rows of an entity frame while the block runs.

        Args:
            sources: by view, for all keys between two times.
        Raises:
            InvalidArgument, SourceError, StoreUnavailable: as `hindcast.offline.frames.frame.entity_frame`.
        """
        call = replace(self._call(), entity_df=given.entity_frame, start_date=given.start, end_date=given.end)
        with opened_frame(call, lambda: _views(definitions, sources)) as frame:
            yield frame

    def frame_files(self, text: str) -> tuple[FileRecord, ...]:
        """The files of an entity frame that is a path, with their digests.

        Args:
            text: as a manifest has it.
        Raises:
            InvalidArgument, SourceError: nothing is there, or it cannot be read.
        """
        found = frame_path(absolute_path(text, root=self.root), repo_root=self.root)
        return () if found is None else tuple(file_record(file.pin, root=self.root) for file in found.files)

    @contextmanager
    def reading(
        self,
        definitions: Definitions,
        sources: Mapping[str, SourceFiles | DeltaTable],
        frame: EntityFrame,
        known_at: KnownAt,
        *,
        on_found: Callable[[Mapping[str, Origins]], object] | None = None,
    ) -> Iterator[Reading]:
        """The rows of a frame with the features that were known then.

        Args:
            sources: by view.
            on_found: called once, when it is known where the values come from and before any is fetched.
        Raises:
            InvalidArgument: a column is missing, of the wrong type, or there twice.
            SourceError: a source cannot be read as it is, or changed meanwhile.
            TransformError: the code of an on-demand view failed.
            StoreUnavailable: the disk did not take what does not fit into memory.
        """
        call = replace(
            self._call(),
            refs=definitions.refs,
            full_feature_names=definitions.full_feature_names,
            known_at=known_at.column or known_at.micros,
            is_known_by_as_of=known_at.kind == "own",
            keeps_origins=True,
        )
        on_demand = [_on_demand_view(record) for record in definitions.on_demand]
        job = _RecordedJob(call, on_demand, frame, _views(definitions, sources), on_found)
        batches = job.to_arrow_batches(BATCH_ROWS)
        try:
            with _transforming(on_demand):
                first = next(batches)
            yield Reading(first.schema.remove_metadata(), _chained(first, batches), job)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def register(self, entry: Entry) -> None:
        """Put a training set into the registry, so that Feast lists it as a saved data set.

        Raises:
            RepoError: the registry does not take it, or has another data set of that name.
        """
        dataset = _saved_dataset(entry)
        with _writing_registry():
            self._change_registry(entry, dataset)

    def unregister(self, entry: Entry) -> None:
        """Take a training set out of the registry again, if it is there.

        Raises:
            RepoError: the registry does not take it.
        """
        with _writing_registry():
            self._change_registry(entry, None)

    def _change_registry(self, entry: Entry, dataset: SavedDataset | None) -> None:
        config = self._store.config
        place = registry_of(self.root, config.registry.model_dump())
        if isinstance(place, FileRegistry):

            def changed(before: bytes) -> bytes | None:
                return _with_dataset(RegistryProto.FromString(before), entry, dataset, project=config.project)

            replace_registry_file(place.path, changed)
            return
        # Opened anew: a registry writes back what it has read, and this repo was opened when the build began.
        registry = FeatureStore(config=config).registry
        try:
            found = registry.get_saved_dataset(entry.name, config.project)
        except SavedDatasetNotFound:
            found = None
        is_other = found is not None and found.tags.get(PATH) != entry.tags[PATH]
        if dataset is not None:
            _refuse_other(entry, is_other=is_other)
            registry.apply_saved_dataset(dataset, config.project)
        elif found is not None and not is_other:
            registry.delete_saved_dataset(entry.name, config.project)

    def _call(self) -> Call:
        return Call(
            config=self._store.config,
            views=(),
            refs=(),
            entity_df=None,
            full_feature_names=False,
            start_date=None,
            end_date=None,
        )

    def _known_source(self, source: SourceDefinition) -> DataSource | None:
        """The registry's source of that name, for how it is reached; None where there is none, or none of that path."""
        try:
            found = self._store.get_data_source(source.name)
        except FeastError:
            return None
        return found if isinstance(found, FileSource) and found.path == source.path else None


class _RecordedJob(HistoricalJob):
    """A point-in-time read of views that were recorded, over sources that are pinned."""

    def __init__(
        self,
        call: Call,
        on_demand: Sequence[OnDemandFeatureView],
        frame: EntityFrame,
        views: Sequence[AsOfView],
        on_found: Callable[[Mapping[str, Origins]], object] | None,
    ) -> None:
        super().__init__(call, on_demand, HeldFrame(call, frame))
        self._recorded = views
        self._on_found = on_found

    @contextmanager
    def _result(self) -> Iterator[AsOfResult]:
        with super()._result() as result:
            if self._on_found is not None:
                self._on_found(result.origins)
            yield result

    def _views(self) -> Sequence[AsOfView]:
        return self._recorded


def _views(definitions: Definitions, sources: Mapping[str, SourceFiles | DeltaTable]) -> Sequence[AsOfView]:
    return [_definition(view).over(sources[view.name]) for view in definitions.views]


def _definition(view: ViewRecord) -> ViewDefinition:
    return ViewDefinition(
        name=view.name,
        keys={key.name: key.column for key in view.keys},
        fields={feature.column: feature.name for feature in view.features},
        event_field=view.source.timestamp_field,
        created_field=view.source.created_timestamp_column or None,
        field_mapping=view.source.field_mapping,
        ttl_micros=view.ttl_micros,
    )


def _view_record(view: Any, asked: Call) -> ViewRecord:
    definition = view_definition(view, refs=asked.refs, full_feature_names=asked.full_feature_names)
    types = {field.name: str(field.dtype) for field in [*view.entity_columns, *view.features]}
    return ViewRecord(
        name=definition.name,
        keys=tuple(
            Key(name=name, column=column, value_type=types[name])
            for name, column in definition.keys.items()
            if name != DUMMY_ENTITY_ID
        ),
        features=tuple(
            Feature(name=name, column=column, value_type=types.get(name, ""))
            for column, name in definition.fields.items()
        ),
        ttl_micros=definition.ttl_micros,
        source=_source_definition(view.batch_source),
    )


def _source_definition(source: DataSource) -> SourceDefinition:
    is_database = isinstance(source, DuckDBSource)
    if not is_database and not isinstance(source, FileSource):
        raise SourceError(
            f"the source {source.name!r} is a {type(source).__name__}, and training sets are read from FileSources and DuckDBSources"
        )
    return SourceDefinition(
        name=source.name,
        kind="duckdb" if is_database else "file",
        path=source.path,
        file_format="" if is_database else file_format(source),
        table=source.table if is_database else "",
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or "",
        field_mapping=dict(source.field_mapping or {}),
    )


def _stored_functions(root: Path) -> Sequence[OnDemandProto]:
    """All on-demand views of a registry and their versions, as they are stored; none of a registry that only Feast can reach."""
    repo = read_repo(root)
    if isinstance(repo.registry, OtherRegistry):
        return []
    try:
        registry = read_registry(repo)
    except CatalogError:
        # Feast has read it; it can be half written just now.
        return []
    versions = (
        record.feature_view_proto
        for record in registry.feature_view_version_history.records
        if record.feature_view_type == "on_demand_feature_view"
    )
    found = (OnDemandProto.FromString(stored) for stored in (*registry.on_demand_feature_views, *versions))
    return [view for view in found if view.spec.project == repo.project]


def _is_function_of(stored: OnDemandProto, view: OnDemandFeatureView) -> bool:
    text = getattr(view.feature_transformation, "udf_string", None)
    return bool(
        stored.spec.name == view.name
        and stored.meta.current_version_number == (view.current_version_number or 0)
        and stored.spec.feature_transformation.user_defined_function.body_text == text
    )


def _on_demand_record(view: OnDemandFeatureView, asked: Call, stored: Sequence[OnDemandProto]) -> OnDemandRecord:
    proto = view.to_proto()
    # Feast pickles the function again, and what it names comes in the order of a set then: other bytes in each process.
    known = next((one.spec for one in stored if _is_function_of(one, view)), None)
    if known is not None:
        proto.spec.feature_transformation.CopyFrom(known.feature_transformation)
        proto.spec.user_defined_function.CopyFrom(known.user_defined_function)
    proto.ClearField("meta")
    # Times of its sources' last apply mean nothing.
    for source in proto.spec.sources.values():
        if source.HasField("request_data_source"):
            source.request_data_source.ClearField("meta")
        elif source.HasField("feature_view_projection"):
            source.feature_view_projection.batch_source.ClearField("meta")
    name = view.projection.name_to_use()
    shown = f"{name}__" if asked.full_feature_names else ""
    refs = [ref.partition(":") for ref in dict.fromkeys(asked.refs)]
    wanted = dict.fromkeys(feature for of, _, feature in refs if of in {view.name, name})
    types = {field.name: str(field.dtype) for field in view.features}
    inputs = [
        *(
            f"{projection.name_to_use()}:{feature.name}"
            for projection in view.source_feature_view_projections.values()
            for feature in projection.features
        ),
        *view.get_request_data_schema(),
    ]
    return OnDemandRecord(
        name=name,
        mode=str(view.mode),
        singleton=bool(view.singleton),
        inputs=tuple(sorted(inputs)),
        features=tuple(
            Feature(name=feature, column=shown + feature, value_type=types.get(feature, ""))
            for feature in wanted or types
        ),
        code=getattr(view.feature_transformation, "udf_string", ""),
        spec=base64.b64encode(proto.SerializeToString(deterministic=True)).decode(),
    )


def _on_demand_view(record: OnDemandRecord) -> OnDemandFeatureView:
    proto = OnDemandProto.FromString(base64.b64decode(record.spec))
    try:
        view = OnDemandFeatureView.from_proto(proto)
    except Exception as error:
        raise TransformError(
            f"the function of the on-demand view {record.name!r} cannot be loaded again; it was pickled by another version of Python"
        ) from error
    if record.name != view.name:
        view.projection.name_alias = record.name
    view.write_to_online_store = False
    return view


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


@contextmanager
def _transforming(views: Sequence[OnDemandFeatureView]) -> Iterator[None]:
    """What fails while the first batch is made may be a function's own failure."""
    try:
        yield
    except RequestDataNotFoundInEntityDfException as error:
        needed = {name for view in views for name in view.get_request_data_schema()}
        raise InvalidArgument.at(
            "entity_frame", f"lacks a column that the on-demand views are given: they need {', '.join(sorted(needed))}"
        ) from error
    except (HindcastError, FeastError, pa.ArrowException, OSError, MemoryError):
        raise
    except ImportError as error:
        raise _not_importable(error) from error
    except Exception as error:
        if not views:
            raise
        names = ", ".join(repr(view.name) for view in views)
        raise TransformError(
            f"the function of one of the on-demand views {names} failed; its own error is the cause of this one"
        ) from error


def _not_importable(error: ImportError) -> TransformError:
    return TransformError(
        f"a function of an on-demand view imports {error.name or 'a module'}, which cannot be imported here; put it back into the repo, or install it"
    )


@contextmanager
def _in_our_words(features: str | Sequence[str], store: FeatureStore) -> Iterator[None]:
    try:
        yield
    except FeatureNameCollisionError as error:
        raise InvalidArgument.at(
            "features", "have two of one name; ask for full feature names, or leave one out"
        ) from error
    except ImportError as error:
        raise _not_importable(error) from error
    except FeastObjectNotFoundException as error:
        raise _unknown(features, store) or _refused_together() from error
    except TypeError as error:
        # Feast sorts what a service asks for, and an alias is not less than none.
        raise InvalidArgument.at(
            "features",
            f"of {features!r} have a view both under its own name and under another one, which Feast does not read; give it a name in both places "
            "(`.with_name`)",
        ) from error
    except (FeastError, ValueError, KeyError) as error:
        raise _unknown(features, store) or _refused_together() from error


def _unknown(features: str | Sequence[str], store: FeatureStore) -> InvalidArgument | UnknownName | None:
    """What of the features there is not; None where there is all of it."""
    if isinstance(features, str):
        services = [service.name for service in store.list_feature_services()]
        return None if features in services else UnknownName("feature service", features, _hint(features, services))
    views = {view.name: view for view in [*store.list_all_feature_views(), *store.list_on_demand_feature_views()]}
    for ref in features:
        name, _, feature = ref.partition(":")
        if not name or not feature:
            return InvalidArgument.at("features", f"have {ref!r}, which is not view:feature")
        # `view@v2` is a version of a view.
        view = views.get(name.partition("@")[0])
        if view is None:
            return UnknownName("feature view", name, _hint(name, views))
        there = [f"{name}:{one.name}" for one in view.features]
        if "@" not in name and ref not in there:
            return UnknownName("feature", ref, _hint(ref, there))
    return None


def _hint(name: str, names: Iterable[str]) -> str:
    return f"{hint_of(name, names, none='there are none')} ({_APPLY})"


def _refused_together() -> InvalidArgument:
    return InvalidArgument.at(
        "features", "cannot be asked for together; name one feature service, or a list of view:feature"
    )


@contextmanager
def _writing_registry() -> Iterator[None]:
    try:
        yield
    except RepoError:
        raise
    except Exception as error:
        # Registries in files, databases and behind servers each have errors of their own.
        raise RepoError(
            "the registry does not take the entry of the training set, which Feast does not list therefore; check that it may be written, "
            "and run `hindcast dataset register`"
        ) from error


def _saved_dataset(entry: Entry) -> SavedDataset:
    form = DeltaFormat() if entry.is_delta else ParquetFormat()
    dataset = SavedDataset(
        name=entry.name,
        features=list(entry.features),
        join_keys=list(entry.join_keys),
        full_feature_names=entry.full_feature_names,
        storage=SavedDatasetFileStorage(entry.data, file_format=form),
        tags=dict(entry.tags),
        feature_service_name=entry.service or None,
    )
    dataset.created_timestamp = dataset.last_updated_timestamp = from_micros(system_clock())
    dataset.min_event_timestamp, dataset.max_event_timestamp = entry.first, entry.last
    return dataset


def _with_dataset(registry: Any, entry: Entry, dataset: SavedDataset | None, *, project: str) -> bytes | None:
    """A registry as it is to be, with the data set or without; None where it is like that already."""
    at = next(
        (
            number
            for number, one in enumerate(registry.saved_datasets)
            if (one.spec.name, one.spec.project) == (entry.name, project)
        ),
        None,
    )
    is_other = at is not None and registry.saved_datasets[at].spec.tags.get(PATH) != entry.tags[PATH]
    if dataset is not None:
        _refuse_other(entry, is_other=is_other)
        proto = dataset.to_proto()
        proto.spec.project = project
        # Feast's own keeps no time of the last update.
        proto.meta.last_updated_timestamp.FromDatetime(dataset.last_updated_timestamp)
        if at is not None:
            del registry.saved_datasets[at]
        registry.saved_datasets.append(proto)
    elif at is None or is_other:
        return None
    else:
        del registry.saved_datasets[at]
    registry.version_id = str(uuid.uuid4())
    registry.last_updated.GetCurrentTime()
    stored: bytes = registry.SerializeToString()
    return stored


def _refuse_other(entry: Entry, *, is_other: bool) -> None:
    if is_other:
        raise RepoError(
            f"the registry has another saved data set called {entry.name!r}, of another place, which stays; delete that, or build under another name"
        )
