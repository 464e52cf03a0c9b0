"""On-demand views at request time, through Feast's own transformation classes.

Imported by a serving worker only if its catalog has on-demand views: it imports Feast, and loading a view runs code that the
registry holds (docs/security.md).
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandFeatureViewProto
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from hindcast.catalog.model import InputColumn, OnDemandView
from hindcast.errors import CatalogError, TransformError

logger = logging.getLogger(__name__)


class Transformer:
    """The loaded on-demand views of one catalog."""

    def __init__(self, views: Iterable[OnDemandView]) -> None:
        """Load every view.

        Raises:
            CatalogError: a view's code cannot be loaded here, for example because a module it imports is missing.
        """
        self._views: dict[str, OnDemandFeatureView] = {}
        for view in views:
            try:
                proto = OnDemandFeatureViewProto.FromString(view.definition)
                self._views[view.name] = OnDemandFeatureView.from_proto(proto)
            except Exception as error:
                raise CatalogError(
                    f"on-demand view {view.name!r} cannot be loaded ({type(error).__name__}); install what its function "
                    "imports in the server's environment"
                ) from error

    def run(self, view_name: str, inputs: Mapping[str, InputColumn], rows: int) -> dict[str, list[bytes]]:
        """Compute every feature of a view.

        Args:
            inputs: by column name, `rows` values each.
        Returns:
            By feature name, `rows` serialized Values.
        Raises:
            TransformError: the view's own code failed, or gave a missing feature or another number of rows.
        """
        view = self._views[view_name]
        try:
            python = {name: _to_python(column) for name, column in inputs.items()}
            outputs = _transform(view, python, rows)
        except Exception as error:
            logger.warning("on-demand view %s failed", view_name, exc_info=True)
            raise TransformError(
                f"on-demand view {view_name!r} failed on these inputs; the server's log has more"
            ) from error
        return {field.name: _to_bytes(view, field.name, field.dtype, outputs, rows) for field in view.features}


def _transform(view: OnDemandFeatureView, columns: dict[str, list[Any]], rows: int) -> Mapping[str, list[Any]]:
    if view.mode != "python":
        table = view.transform_arrow(pa.Table.from_pydict(columns))
        return {name: table[name].to_numpy() for name in table.column_names}
    if not view.singleton:
        return {name: _as_list(column) for name, column in view.transform_dict(columns).items()}
    # Feast hands a singleton the first row only; every row is a row of its own here.
    singles = [view.transform_dict({name: [column[at]] for name, column in columns.items()}) for at in range(rows)]
    return {field.name: [single[field.name] for single in singles] for field in view.features}


def _as_list(column: Any) -> list[Any]:
    return column if isinstance(column, list) else [column]


def _to_python(column: InputColumn) -> list[Any]:
    value_type = ValueType(column.value_type)
    return [feast_value_type_to_python_type(Value.FromString(value), value_type) for value in column.values]


def _to_bytes(
    view: OnDemandFeatureView, feature: str, dtype: Any, outputs: Mapping[str, list[Any]], rows: int
) -> list[bytes]:
    column = outputs.get(feature)
    if column is None:
        raise TransformError(f"on-demand view {view.name!r} did not return its feature {feature!r}; mend its function")
    if len(column) != rows:
        raise TransformError(
            f"on-demand view {view.name!r} returned {len(column)} rows of {feature!r} for {rows}; mend its function"
        )
    try:
        protos = python_values_to_proto_values(column, dtype.to_value_type())
    except Exception as error:
        raise TransformError(
            f"on-demand view {view.name!r} returned values of {feature!r} that are not {dtype}; mend its function"
        ) from error
    return [proto.SerializeToString() for proto in protos]
