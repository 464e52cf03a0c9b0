"""Feast's objects as records that a manifest can hold, and the functions of on-demand views out of such records again."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feast import FileSource, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandProto

from hindcast.catalog import read_repo
from hindcast.catalog.registry import read_whole_registry
from hindcast.catalog.repo import OtherRegistry
from hindcast.datasets.definitions import Feature, Key, OnDemandRecord, SourceDefinition, ViewRecord
from hindcast.errors import CatalogError, SourceError, TransformError
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.offline.plugin.history import Call, view_definition
from hindcast.offline.plugin.sources import file_format


def view_record(view: Any, asked: Call) -> ViewRecord:
    """What a view gives to those who asked."""
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


def stored_functions(root: Path) -> Sequence[OnDemandProto]:
    """All on-demand views of a registry and their versions, as they are stored; none of a registry that only Feast can reach."""
    repo = read_repo(root)
    if isinstance(repo.registry, OtherRegistry):
        return []
    try:
        registry = read_whole_registry(repo)
    except CatalogError:
        # Feast has read it; it can have been removed since.
        return []
    versions = (
        record.feature_view_proto
        for record in registry.feature_view_version_history.records
        if record.feature_view_type == "on_demand_feature_view"
    )
    found = (OnDemandProto.FromString(stored) for stored in (*registry.on_demand_feature_views, *versions))
    return [view for view in found if view.spec.project == repo.project]


def on_demand_record(view: OnDemandFeatureView, asked: Call, stored: Sequence[OnDemandProto]) -> OnDemandRecord:
    """What an on-demand view computes for those who asked, with its function.

    Args:
        stored: see `stored_functions`.
    """
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
        spec=base64.b64encode(_spec_bytes(view, stored)).decode(),
    )


def _spec_bytes(view: OnDemandFeatureView, stored: Sequence[OnDemandProto]) -> bytes:
    """A view with its function, in the same bytes as in every other process."""
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
    spec_bytes: bytes = proto.SerializeToString(deterministic=True)
    return spec_bytes


def _is_function_of(stored: OnDemandProto, view: OnDemandFeatureView) -> bool:
    text = getattr(view.feature_transformation, "udf_string", None)
    return bool(
        stored.spec.name == view.name
        and stored.meta.current_version_number == (view.current_version_number or 0)
        and stored.spec.feature_transformation.user_defined_function.body_text == text
    )


def on_demand_view(record: OnDemandRecord) -> OnDemandFeatureView:
    """The on-demand view of a record, which computes what it computed then.

    Raises:
        TransformError: its function cannot be loaded here.
    """
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
