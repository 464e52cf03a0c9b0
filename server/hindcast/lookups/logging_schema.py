"""What the tables of sealed lookups have for columns: Feast's own logging schema of a feature service, and ours.

The names and types of Feast's part are those of `FeatureServiceLoggingSource` (feast/feature_logging.py), but that times are
microseconds in UTC, as a Delta table has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hindcast.catalog import Catalog, Projection

LOG_TIMESTAMP, LOG_DATE, REQUEST_ID = "__log_timestamp", "__log_date", "__request_id"


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """A feature of a service.

    Attributes:
        view: the view's name in the service, or its alias.
        value_type: a number of `feast.types.ValueType.Enum`.
    """

    view: str
    feature: str
    value_type: int

    @property
    def name(self) -> str:
        """What its values are called; its event times and statuses are this and `__timestamp` or `__status`."""
        return f"{self.view}__{self.feature}"


@dataclass(frozen=True, slots=True)
class ServiceSchema:
    """What is logged of a feature service, as one catalog has it.

    Attributes:
        inputs: join key, or request data -> its value type, in Feast's order.
        features: in the order of an answer.
        renamed: other names of the join keys that callers may have sent.
    """

    service: str
    inputs: Mapping[str, int]
    features: tuple[FeatureColumn, ...]
    renamed: Mapping[str, str]

    @property
    def views(self) -> tuple[str, ...]:
        """The views that features are of, by their names in the service."""
        return tuple(dict.fromkeys(feature.view for feature in self.features))


def service_schema(catalog: Catalog, name: str) -> ServiceSchema | None:
    """The schema of a service; None where the catalog has no such service, or one of its views is missing."""
    service = catalog.services.get(name)
    if service is None:
        return None
    inputs: dict[str, int] = {}
    features = []
    for projection in service.projections:
        view = catalog.views.get(projection.view)
        on_demand = catalog.on_demand_views.get(projection.view)
        if view is not None:
            inputs |= _join_keys(catalog, projection)
        elif on_demand is not None:
            inputs |= {field.name: field.value_type for field in on_demand.request_fields}
            for source in on_demand.sources:
                # Feast leaves these out; without them nobody could say whose row it is.
                inputs |= {key: kind for key, kind in _join_keys(catalog, source).items() if key not in inputs}
        else:
            return None
        owner = view or on_demand
        types = {field.name: field.value_type for field in owner.fields} if owner else {}
        for feature in projection.features:
            if feature not in types:
                return None
            features.append(FeatureColumn(projection.name, feature, types[feature]))
    renamed = {entity: key for entity, key in catalog.entities.items() if key in inputs and entity not in inputs}
    return ServiceSchema(name, inputs, tuple(features), renamed)


def _join_keys(catalog: Catalog, projection: Projection) -> dict[str, int]:
    view = catalog.views.get(projection.view)
    keys = view.join_keys if view is not None else ()
    return {projection.join_keys.get(key.name, key.name): key.value_type for key in keys}
