"""A Feast repo as training sets need it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import FeatureService, FeatureStore, FileSource
from feast.data_source import DataSource
from feast.errors import FeastError

from hindcast.datasets.definitions import Definitions, SourceDefinition
from hindcast.datasets.manifest import FileRecord, KnownAt, ModuleRecord
from hindcast.datasets.modules import RepoModules, file_sha256
from hindcast.datasets.pins import absolute_path, file_record
from hindcast.datasets.registration import Entry
from hindcast.datasets.retrieval import saved_datasets
from hindcast.datasets.retrieval.reading import FrameCall, Reading, RecordedJob, as_of_views
from hindcast.datasets.retrieval.recording import on_demand_record, on_demand_view, stored_functions, view_record
from hindcast.datasets.retrieval.refusals import in_our_words, transforming
from hindcast.errors import HindcastError, InvalidArgument, RepoError, SourceError, TransformError, UnknownName
from hindcast.lineage import LineageSettings, lineage_settings
from hindcast.offline.asof.origins import Origins
from hindcast.offline.frames.frame import EntityFrame
from hindcast.offline.frames.paths import frame_path
from hindcast.offline.location import OUR_STORE
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.history import Call, opened_frame
from hindcast.offline.plugin.jobs import BATCH_ROWS
from hindcast.offline.plugin.sources import storage_options
from hindcast.offline.sources.source import DeltaTable, SourceFiles, find_source


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
        with in_our_words(service, self._store):
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
        with in_our_words(features, self._store):
            wanted: FeatureService | list[str]
            wanted = self._store.get_feature_service(features) if isinstance(features, str) else list(features)
            job = self._store.get_historical_features(
                entity_df=pa.table({"event_timestamp": pa.array([], pa.timestamp("us", "UTC"))}),
                features=wanted,
                full_feature_names=full_feature_names,
            )
        asked = job.asked
        stored = stored_functions(self.root) if job.on_demand_feature_views else []
        return Definitions(
            service=features if isinstance(features, str) else "",
            refs=tuple(asked.refs),
            full_feature_names=full_feature_names,
            views=tuple(view_record(view, asked) for view in asked.views),
            on_demand=tuple(on_demand_record(view, asked, stored) for view in job.on_demand_feature_views),
        )

    def modules(self, definitions: Definitions) -> tuple[ModuleRecord, ...]:
        """The repo's modules that the functions of some definitions reach, as they are now, and as functions that are loaded later have them."""
        functions: dict[str, Any] = {}
        for record in definitions.on_demand:
            try:
                functions[record.name] = getattr(on_demand_view(record).feature_transformation, "udf", record.code)
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
        with opened_frame(call, lambda: as_of_views(definitions, sources)) as frame:
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
        on_demand = [on_demand_view(record) for record in definitions.on_demand]
        job = RecordedJob(call, on_demand, frame, as_of_views(definitions, sources), on_found)
        batches = job.to_arrow_batches(BATCH_ROWS)
        try:
            with transforming(on_demand):
                first = next(batches)
            yield Reading(first.schema.remove_metadata(), _chained(first, batches), job)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def register(self, entry: Entry) -> None:
        """See `saved_datasets.register`."""
        saved_datasets.register(entry, self.root, self._store.config)

    def unregister(self, entry: Entry) -> None:
        """See `saved_datasets.unregister`."""
        saved_datasets.unregister(entry, self.root, self._store.config)

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


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
