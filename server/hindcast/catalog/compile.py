"""Feast registry -> Catalog. Runs in a process of its own (`python -m hindcast.catalog.compile REPO`), because importing
Feast takes 5 s and 190 MB that the server then would carry for its whole life.
"""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import feast
import msgspec
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandFeatureViewProto
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureViewSpec

from hindcast.catalog.model import Catalog, Field, KeyType, OnDemandView, Projection, Service, View
from hindcast.errors import CatalogError, HindcastError

_MICROSECOND = timedelta(microseconds=1)


def compile_catalog(repo_root: Path) -> Catalog:
    """Read the repo's registry through Feast and compile it.

    Raises:
        CatalogError: the registry does not exist, cannot be read, or holds no views.
    """
    try:
        store = feast.FeatureStore(repo_path=str(repo_root))
    except Exception as error:
        raise CatalogError(f"Feast cannot load {repo_root}: {_first_line(error)}") from error
    project = store.project
    try:
        all_views = store.registry.list_all_feature_views(project)
        entities = store.registry.list_entities(project)
        services = store.registry.list_feature_services(project)
    except Exception as error:
        raise CatalogError(
            f"Feast cannot read the registry of project {project!r}: {_first_line(error)}. Run `feast apply` first"
        ) from error
    if not all_views:
        raise CatalogError(f"the registry of project {project!r} holds no feature views. Run `feast apply` first")
    versioned = bool(store.config.registry.enable_online_feature_view_versioning)
    views: dict[str, View] = {}
    on_demand: dict[str, OnDemandView] = {}
    unservable: dict[str, str] = {}
    join_keys = {entity.name: entity.join_key for entity in entities if entity.name != DUMMY_ENTITY_NAME}
    key_types = {entity.join_key: entity.value_type.value for entity in entities}
    for view in all_views:
        if not getattr(view, "enabled", True):
            unservable[view.name] = f"it is disabled; `feast feature-views enable {view.name}` enables it"
        elif isinstance(view, LabelView):
            unservable[view.name] = "it is a label view, which has no online rows"
        elif isinstance(view, OnDemandFeatureView) and not view.write_to_online_store:
            on_demand[view.name] = _on_demand_view(view)
        else:
            compiled = _view(view, join_keys, key_types, versioned=versioned)
            wrong = [key for key in compiled.join_keys if key.value_type not in set(KeyType)]
            if wrong:
                unservable[view.name] = f"Feast stores no online rows for join key {wrong[0].name!r} of that type"
            else:
                views[view.name] = compiled
    draft = Catalog(
        project=project,
        version="",
        feast_version=version("feast"),
        views=views,
        on_demand_views=on_demand,
        services={service.name: _service(service) for service in services},
        entities=join_keys,
        unservable=unservable,
    )
    return replace(draft, version=_digest(draft))


def _view(
    view: feast.FeatureView | OnDemandFeatureView,
    join_keys: dict[str, str],
    key_types: dict[str, int],
    *,
    versioned: bool,
) -> View:
    if isinstance(view, OnDemandFeatureView):
        names = [e if isinstance(e, str) else e.name for e in view.entities or []]
        keys = [Field(join_keys[name], key_types[join_keys[name]]) for name in names if name != DUMMY_ENTITY_NAME]
        ttl = None
    else:
        typed = {column.name: column.dtype.to_value_type().value for column in view.entity_columns}
        names = [name for name in view.entities if name != DUMMY_ENTITY_NAME]
        keys = [Field(key, typed.get(key, key_types[key])) for key in (join_keys[name] for name in names)]
        ttl = view.ttl
    return View(
        name=view.name,
        join_keys=tuple(sorted(keys, key=lambda key: key.name)),
        fields=_fields(view.features),
        ttl_micros=ttl // _MICROSECOND if ttl else 0,
        version=getattr(view, "current_version_number", None) or 0,
        stored_name=compute_versioned_name(view, versioned),
    )


def _fields(columns: Iterable[feast.Field]) -> tuple[Field, ...]:
    return tuple(Field(column.name, column.dtype.to_value_type().value) for column in columns)


def _projection(projection: feast.feature_view_projection.FeatureViewProjection) -> Projection:
    return Projection(
        view=projection.name,
        name=projection.name_to_use(),
        features=tuple(feature.name for feature in projection.features),
        join_keys=dict(projection.join_key_map),
    )


def _service(service: feast.FeatureService) -> Service:
    return Service(service.name, tuple(_projection(projection) for projection in service.feature_view_projections))


def _on_demand_view(view: OnDemandFeatureView) -> OnDemandView:
    return OnDemandView(
        name=view.name,
        sources=tuple(_projection(projection) for projection in view.source_feature_view_projections.values()),
        request_fields=tuple(Field(name, kind.value) for name, kind in view.get_request_data_schema().items()),
        fields=_fields(view.features),
        definition=view.to_proto().SerializeToString(deterministic=True),
    )


def _digest(draft: Catalog) -> str:
    """`sha256:…` over the definitions, the same in every process that compiles them."""
    stable = {
        name: replace(view, definition=_code_only(view.definition)) for name, view in draft.on_demand_views.items()
    }
    canonical = msgspec.json.encode(replace(draft, on_demand_views=stable), order="sorted")
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _code_only(definition: bytes) -> bytes:
    """What decides an on-demand view's results beside its sources and fields: mode, code, aggregations.

    A function counts by its source text where the registry has it, because its pickled form differs from one `feast
    apply` to the next, and so do the times that the full definition carries.
    """
    full = OnDemandFeatureViewProto.FromString(definition).spec
    spec = OnDemandFeatureViewSpec(
        mode=full.mode, singleton=full.singleton, aggregations=full.aggregations, entities=full.entities
    )
    spec.feature_transformation.CopyFrom(full.feature_transformation)
    function = spec.feature_transformation.user_defined_function
    if function.body_text:
        function.ClearField("body")
    return spec.SerializeToString(deterministic=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__


def main() -> int:
    """Compile the repo given as the one argument to standard output; a known error goes to standard error, exit 1."""
    try:
        catalog = compile_catalog(Path(sys.argv[1]))
    except HindcastError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(catalog, order="sorted"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
