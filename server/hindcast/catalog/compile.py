"""Feast registry -> Catalog."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version

import msgspec
from google.protobuf.duration_pb2 import Duration

from hindcast.catalog.model import (
    ENTITYLESS_ENTITY,
    BatchSource,
    Catalog,
    Field,
    KeyType,
    Logging,
    OnDemandView,
    Projection,
    Service,
    View,
    version_name,
)
from hindcast.catalog.registry import read_whole_registry
from hindcast.catalog.repo import Repo
from hindcast.errors import CatalogError
from hindcast.shadow.v1 import registry_pb2

_KEY_TYPES = frozenset(KeyType)
_MICROS = 1_000_000
_PUSH_SOURCE = 9
"""Number of push sources in `feast.core.DataSource.SourceType`."""


_FIRST_MODE = "pandas"
"""Of a view that was applied before there were others."""

_LABEL_VIEW = "it is a label view, which has no online rows"
_AGGREGATIONS = "Feast computes the aggregations of an on-demand view offline only"
ONE_VERSION = (
    "the repo keeps online rows of one version of a view; set `enable_online_feature_view_versioning: true` in the "
    "`registry` block, and materialize the version"
)
"""Why a version of a view cannot be asked for where the repo does not say so; Feast keeps a first version of every view in each registry."""


def load_catalog(repo: Repo) -> Catalog:
    """The catalog of a repo's registry as it is now: a few milliseconds, and no import of Feast.

    Raises:
        CatalogError: the registry is missing, cannot be read, or holds no feature views of the project.
    """
    return compile_catalog(read_whole_registry(repo), project=repo.project, versioned=repo.online_versioning)


def compile_catalog(registry: registry_pb2.Registry, *, project: str, versioned: bool = False) -> Catalog:
    """Compile one project of a registry.

    Args:
        versioned: whether Feast stores each version of a view under a name of its own
            (`registry.enable_online_feature_view_versioning`).
    Raises:
        CatalogError: it holds no feature views of the project.
    """
    entities = [entity.spec for entity in registry.entities if entity.spec.project == project]
    draft = _Draft(
        join_keys={entity.name: entity.join_key for entity in entities if entity.name != ENTITYLESS_ENTITY},
        key_types={entity.join_key: entity.value_type for entity in entities},
        versioned=versioned,
    )
    draft.add_views(registry, project)
    if not (draft.views or draft.on_demand_views or draft.unservable):
        raise CatalogError(f"the registry holds no feature views of project {project!r}. Run `feast apply` first")
    for record in registry.feature_view_version_history.records:
        if record.project_id == project:
            draft.add_version(record)
    catalog = Catalog(
        project=project,
        version="",
        feast_version=version("feast"),
        views=draft.views,
        on_demand_views=draft.on_demand_views,
        services={
            service.spec.name: Service(
                service.spec.name, tuple(map(_projection, service.spec.features)), _logging(service.spec)
            )
            for service in registry.feature_services
            if service.spec.project == project
        },
        entities=draft.join_keys,
        unservable=draft.unservable,
        sources=draft.sources,
        push_sources={name: tuple(sorted(views)) for name, views in draft.push_sources.items()},
    )
    return replace(catalog, version=_digest(catalog))


class _Draft:
    """The views of a catalog while they are compiled."""

    def __init__(self, *, join_keys: dict[str, str], key_types: dict[str, int], versioned: bool) -> None:
        self.join_keys = join_keys
        self.views: dict[str, View] = {}
        self.on_demand_views: dict[str, OnDemandView] = {}
        self.unservable: dict[str, str] = {}
        self.sources: dict[str, BatchSource] = {}
        self.push_sources: dict[str, list[str]] = {}
        self._key_types = key_types
        self._versioned = versioned

    def add_views(self, registry: registry_pb2.Registry, project: str) -> None:
        """Add every view of a project as it is now."""
        views: list[registry_pb2.FeatureView | registry_pb2.StreamFeatureView] = [
            *registry.feature_views,
            *registry.stream_feature_views,
        ]
        for view in views:
            if view.spec.project == project:
                self.add_view(view.spec, view.spec.ttl, view.meta.current_version_number)
                self.add_sources(view.spec)
        for definition in registry.on_demand_feature_views:
            on_demand = registry_pb2.OnDemandFeatureView.FromString(definition)
            if on_demand.spec.project == project:
                self.add_on_demand_view(on_demand, definition, on_demand.meta.current_version_number)
        for label_view in registry.label_views:
            if label_view.spec.project == project:
                self.unservable[label_view.spec.name] = _LABEL_VIEW
                self.add_push_source(label_view.spec.source, label_view.spec.name)

    def add_view(
        self,
        spec: "registry_pb2.FeatureViewSpec | registry_pb2.StreamFeatureViewSpec | registry_pb2.OnDemandFeatureViewSpec",
        ttl: Duration,
        version_number: int,
        *,
        name: str | None = None,
    ) -> None:
        """Add a view that has rows of its own in the online store, or one that is disabled.

        Args:
            name: what it is asked for by, if not its own name.
        """
        name = name or spec.name
        if spec.disabled:
            self.unservable[name] = f"it is disabled; `feast feature-views enable {spec.name}` enables it"
            return
        typed = {column.name: column.value_type for column in spec.entity_columns}
        keys = [self.join_keys.get(name, name) for name in spec.entities if name != ENTITYLESS_ENTITY]
        join_keys = [Field(key, typed.get(key, self._key_types.get(key, 0))) for key in sorted(keys)]
        unknown = [key.name for key in join_keys if key.value_type not in _KEY_TYPES]
        if unknown:
            self.unservable[name] = f"Feast stores no online rows for the type of its join key {unknown[0]!r}"
            return
        self.views[name] = View(
            name=name,
            join_keys=tuple(join_keys),
            fields=_fields(spec.features),
            ttl_micros=ttl.seconds * _MICROS + ttl.nanos // 1000,
            version=version_number,
            stored_name=f"{spec.name}_v{version_number}" if self._versioned and version_number else spec.name,
        )

    def add_sources(self, spec: "registry_pb2.FeatureViewSpec | registry_pb2.StreamFeatureViewSpec") -> None:
        """Add where a view's rows come from: its batch source, and the push source that feeds it."""
        if spec.HasField("batch_source"):
            self.sources[spec.name] = _batch_source(spec.batch_source)
        self.add_push_source(spec.stream_source, spec.name)

    def add_push_source(self, source: registry_pb2.DataSource, view: str) -> None:
        """Add that a source feeds a view, if it is a push source; views with Kafka sources, say, are not pushed to."""
        if source.type == _PUSH_SOURCE:
            self.push_sources.setdefault(source.name, []).append(view)

    def add_on_demand_view(
        self,
        view: registry_pb2.OnDemandFeatureView,
        definition: bytes,
        version_number: int,
        *,
        name: str | None = None,
    ) -> None:
        """Add a view that is computed at request time, or one whose results Feast writes into the store."""
        spec = view.spec
        name = name or spec.name
        if spec.write_to_online_store or spec.disabled:
            self.add_view(spec, Duration(), version_number, name=name)
        elif spec.aggregations:
            self.unservable[name] = _AGGREGATIONS
        else:
            sources = [source for _, source in sorted(spec.sources.items())]
            self.on_demand_views[name] = OnDemandView(
                name=name,
                sources=tuple(
                    _source_projection(source)
                    for source in sources
                    if source.WhichOneof("source") != "request_data_source"
                ),
                request_fields=tuple(
                    field
                    for source in sources
                    if source.WhichOneof("source") == "request_data_source"
                    for field in _fields(source.request_data_source.request_data_options.schema)
                ),
                fields=_fields(spec.features),
                mode=spec.mode or _FIRST_MODE,
                definition=definition,
            )

    def add_version(self, record: registry_pb2.FeatureViewVersionRecord) -> None:
        """Add what a view was under one of its version numbers, to be asked for as `view@v2`."""
        number, stored = record.version_number, record.feature_view_proto
        name = version_name(record.feature_view_name, number)
        if not self._versioned:
            self.unservable[name] = ONE_VERSION
        elif record.feature_view_type == "on_demand_feature_view":
            on_demand = registry_pb2.OnDemandFeatureView.FromString(stored)
            self.add_on_demand_view(on_demand, stored, number, name=name)
        elif record.feature_view_type == "stream_feature_view":
            stream = registry_pb2.StreamFeatureView.FromString(stored)
            self.add_view(stream.spec, stream.spec.ttl, number, name=name)
        elif record.feature_view_type == "feature_view":
            view = registry_pb2.FeatureView.FromString(stored)
            self.add_view(view.spec, view.spec.ttl, number, name=name)
        else:
            self.unservable[name] = _LABEL_VIEW


def _batch_source(source: registry_pb2.DataSource) -> BatchSource:
    is_file = source.HasField("file_options")
    is_delta = source.file_options.file_format.WhichOneof("format") == "delta_format"
    return BatchSource(
        name=source.name,
        path=source.file_options.uri,
        file_format=("delta" if is_delta else "parquet") if is_file else "",
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        field_mapping=dict(source.field_mapping),
    )


def _fields(columns: Iterable[registry_pb2.FeatureSpec]) -> tuple[Field, ...]:
    return tuple(Field(column.name, column.value_type) for column in columns)


def _names(columns: Iterable[registry_pb2.FeatureSpec]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def _projection(projection: registry_pb2.FeatureViewProjection) -> Projection:
    view = projection.feature_view_name
    name = projection.feature_view_name_alias or view
    if projection.HasField("version_tag"):
        view, name = version_name(view, projection.version_tag), version_name(name, projection.version_tag)
    return Projection(
        view=view,
        name=name,
        features=_names(projection.feature_columns),
        join_keys=dict(projection.join_key_map),
    )


def _logging(service: registry_pb2.FeatureServiceSpec) -> Logging | None:
    """Feast takes a config without a destination for none."""
    config = service.logging_config
    destination = config.WhichOneof("destination")
    if destination is None:
        return None
    return Logging(
        sample_rate=config.sample_rate,
        destination=destination.removesuffix("_destination"),
        path=config.file_destination.path,
        partition_by=tuple(config.file_destination.partition_by),
    )


def _source_projection(source: registry_pb2.OnDemandSource) -> Projection:
    if source.WhichOneof("source") == "feature_view_projection":
        return _projection(source.feature_view_projection)
    spec = source.feature_view.spec
    return Projection(spec.name, spec.name, _names(spec.features))


def is_same_definition(one: View | OnDemandView | None, other: View | OnDemandView | None) -> bool:
    """Whether two definitions mean the same; of on-demand views code counts as it does for the catalog's version."""
    if isinstance(one, OnDemandView) and isinstance(other, OnDemandView):
        return _stable(one) == _stable(other)
    return one == other


def _stable(view: OnDemandView) -> OnDemandView:
    return replace(view, definition=b"".join(_code(view.definition)))


def _digest(catalog: Catalog) -> str:
    """`sha256:…` over the definitions, the same for the same definitions in every process."""
    stable = {name: _stable(view) for name, view in catalog.on_demand_views.items()}
    canonical = msgspec.json.encode(replace(catalog, on_demand_views=stable), order="sorted")
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _code(definition: bytes) -> Sequence[bytes]:
    """What decides an on-demand view's results beside its sources and fields: mode and code.

    A function counts by its source text where the registry has it, because its pickled form differs from one `feast
    apply` to the next, and so do the times that the full definition carries.
    """
    spec = registry_pb2.OnDemandFeatureView.FromString(definition).spec
    transformation = spec.feature_transformation
    function = transformation.user_defined_function
    if not function.ByteSize():
        function = spec.user_defined_function
    code = function.body_text.encode() or function.body
    return [
        f"{spec.mode}\0{spec.singleton}\0".encode(),
        code,
        transformation.substrait_transformation,
    ]
