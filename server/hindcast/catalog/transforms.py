"""On-demand views at request time, through Feast's own transformation classes.

Imported by a serving worker only if its catalog has on-demand views: it imports Feast, and loading a view runs code that the
registry holds (docs/security.md).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, methodcaller
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandFeatureViewProto
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from hindcast.catalog.model import InputColumn, OnDemandView
from hindcast.catalog.repo_modules import let_import
from hindcast.errors import CatalogError, TransformError

logger = logging.getLogger(__name__)


class Transformer:
    """The loaded on-demand views of one catalog."""

    def __init__(self, views: Iterable[OnDemandView], *, repo_root: Path) -> None:
        """Load every view.

        Args:
            repo_root: whose modules the functions can import.
        Raises:
            CatalogError: a view's code cannot be loaded here, for example because a module it imports is missing.
        """
        let_import(repo_root)
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
            types = {name: ValueType(column.value_type) for name, column in inputs.items()}
            outputs = _transform(view, python, types, rows)
        except Exception as error:
            logger.warning("on-demand view %s failed", view_name, exc_info=True)
            raise TransformError(
                f"on-demand view {view_name!r} failed on these inputs; the server's log has more"
            ) from error
        return {field.name: _to_bytes(view, field.name, field.dtype, outputs, rows) for field in view.features}


def _transform(
    view: OnDemandFeatureView, columns: dict[str, list[Any]], types: Mapping[str, ValueType], rows: int
) -> Mapping[str, Sequence[Any]]:
    if view.mode != "python":
        arrays = {name: _to_arrow(values, types[name]) for name, values in columns.items()}
        table = view.transform_arrow(pa.Table.from_pydict(arrays))
        return {name: table[name].to_numpy() for name in table.column_names}
    if view.singleton:
        return _transform_rows(view, columns, rows)
    return {name: _as_column(column, rows) for name, column in view.transform_dict(columns).items()}


def _transform_rows(view: OnDemandFeatureView, columns: dict[str, list[Any]], rows: int) -> Mapping[str, Sequence[Any]]:
    """Run a singleton's function on each row. Feast hands it the first row only."""
    function = view.feature_transformation.udf
    for source in view.source_feature_view_projections.values():
        # Both names of every input, as Feast's `transform_dict` gives them, but made once for all rows.
        for feature in source.features:
            short, full = feature.name, f"{source.name}__{feature.name}"
            if full in columns:
                columns[short] = columns[full]
            elif short in columns:
                columns[full] = columns[short]
    names = tuple(columns)
    by_row = zip(*columns.values(), strict=True) if columns else [()] * rows
    inputs = [dict(zip(names, row, strict=True)) for row in by_row]
    outputs = [{**row, **function(row)} for row in inputs]
    return {
        field.name: [_as_value(output[field.name], field.dtype.to_value_type()) for output in outputs]
        for field in view.features
        if all(field.name in output for output in outputs)
    }


def _as_value(value: Any, value_type: ValueType) -> Any:
    """A singleton's value, out of the list of one value that Feast lets, and for an array makes, a function return."""
    nested = 2 if value_type in _NESTED else 1 if value_type.name.endswith(("_LIST", "_SET")) else 0
    if isinstance(value, list) and len(value) == 1 and (value[0] is None or _depth(value) > nested):
        return value[0]
    return value


_NESTED = (ValueType.VALUE_LIST, ValueType.VALUE_SET)


def _depth(value: Any) -> int:
    """How many collections a value is inside of."""
    if not isinstance(value, list | tuple | set | np.ndarray):
        return 0
    return 1 + max(map(_depth, value), default=0)


def _as_column(column: Any, rows: int) -> Sequence[Any]:
    """A function's column. Feast takes whatever is no list for the value of one row."""
    if isinstance(column, list) or (rows > 1 and isinstance(column, tuple | np.ndarray | pd.Series)):
        return list(column)
    return [column]


_PLAIN = {
    ValueType.BYTES: ("bytes_val", bytes),
    ValueType.STRING: ("string_val", str),
    ValueType.INT32: ("int32_val", int),
    ValueType.INT64: ("int64_val", int),
    ValueType.DOUBLE: ("double_val", float),
    ValueType.FLOAT: ("float_val", float),
    ValueType.BOOL: ("bool_val", bool),
}
"""Types whose Python value is the one that protobuf has: Feast's conversions cost 5 us a value, and give the same."""


def _to_python(column: InputColumn) -> list[Any]:
    value_type = ValueType(column.value_type)
    values = map(Value.FromString, column.values)
    if value_type not in _PLAIN:
        return [feast_value_type_to_python_type(value, value_type) for value in values]
    kind, _ = _PLAIN[value_type]
    take = attrgetter(kind)
    has = methodcaller("HasField", kind)
    return [take(value) if has(value) else feast_value_type_to_python_type(value, value_type) for value in values]


def _to_arrow(values: list[Any], value_type: ValueType) -> pa.Array:
    """A function's input where it wants pandas or Arrow: of the type that Feast gives it.

    A column of nothing but nulls has its type too, not Arrow's `null`, which reaches pandas as objects that NumPy cannot
    count with: rows that are not there are answered alone as they are beside others.
    """
    if value_type in _ARROW and not any(value is not None for value in values):
        return pa.nulls(len(values), _ARROW[value_type])
    if "UUID" in value_type.name:
        values = [_as_text(value) for value in values]
    return pa.array(values)


def _as_text(value: Any) -> Any:
    """UUIDs as Feast hands them to Arrow."""
    if isinstance(value, list | set):
        return list(map(_as_text, value))
    return None if value is None else str(value)


_ARROW = {
    ValueType.BYTES: pa.binary(),
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int64(),
    ValueType.INT64: pa.int64(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.FLOAT: pa.float64(),
    ValueType.BOOL: pa.bool_(),
}
"""What Arrow makes of a column of such values. Not times: pandas has a null of its own for them, which Feast stores as a value."""


def _to_bytes(
    view: OnDemandFeatureView, feature: str, dtype: Any, outputs: Mapping[str, Sequence[Any]], rows: int
) -> list[bytes]:
    column = outputs.get(feature)
    if column is None:
        raise TransformError(f"on-demand view {view.name!r} did not return its feature {feature!r}; mend its function")
    if len(column) != rows:
        raise TransformError(
            f"on-demand view {view.name!r} returned {len(column)} rows of {feature!r} for {rows}; mend its function"
        )
    value_type = dtype.to_value_type()
    try:
        is_array = isinstance(column, np.ndarray) and column.dtype.kind in "fibO"
        plain = column.tolist() if is_array else column  # type: ignore[attr-defined]
        kind, python_type = _PLAIN.get(value_type, ("", None))
        if python_type is not None and set(map(type, plain)) <= {python_type, NoneType}:
            # A NaN is a null to Feast, and the only value that differs from itself.
            return [b"" if v is None or v != v else Value(**{kind: v}).SerializeToString() for v in plain]  # noqa: PLR0124
        protos = python_values_to_proto_values(column, value_type)
    except Exception as error:
        raise TransformError(
            f"on-demand view {view.name!r} returned values of {feature!r} that are not {dtype}; mend its function"
        ) from error
    return [proto.SerializeToString() for proto in protos]
