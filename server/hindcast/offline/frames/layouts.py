"""Columns in the layouts that all of Arrow works on: of text, binaries and lists as views, and of run ends, it works on little.

No rows can be taken of text in views, nor can they be written in part: each batch would bring the text of all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument


def settled(rows: Any) -> Any:
    """A table or batch with plain columns for those that are views or run ends; the values stay.

    Raises:
        InvalidArgument: Arrow cannot make a column plain.
    """
    schema = settled_schema(rows.schema)
    if schema.equals(rows.schema):
        return rows
    columns = [_settled_column(column, field) for column, field in zip(rows.columns, schema, strict=True)]
    return type(rows).from_arrays(columns, schema=schema)


def settled_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column in `settled`. Views of lists within other values stay: Arrow can take rows of those."""
    return _list_type(kind, _settled_field(kind.value_field)) if _is_list_view(kind) else _settled_type(kind)


def settled_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `settled`."""
    return pa.schema([field.with_type(settled_type(field.type)) for field in schema], metadata=schema.metadata)


def _settled_column(column: Any, field: pa.Field) -> Any:
    kind = column.type
    try:
        if pa.types.is_run_end_encoded(kind):
            column = _each_chunk(column, pc.run_end_decode, kind.value_type)
        elif _is_list_view(kind):
            column = _each_chunk(column, _listed, _list_type(kind, kind.value_field))
        return column if column.type == field.type else column.cast(field.type)
    except MemoryError:
        # Arrow's is an ArrowException too, and says nothing of the layout.
        raise
    except pa.ArrowException as error:
        raise InvalidArgument.at(
            "entity_df", f"has a column {field.name!r} of {kind}, in a layout that is not read; cast it to {field.type}"
        ) from error


def _each_chunk(column: Any, change: Callable[[Any], Any], kind: pa.DataType) -> Any:
    """A column, or the one array of a batch, changed."""
    return pa.chunked_array(map(change, column.chunks), kind) if isinstance(column, pa.ChunkedArray) else change(column)


def _listed(array: Any) -> Any:
    """A view of lists as lists. Arrow 26 has a cast for it, and its answer is damaged."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    large = pa.types.is_large_list_view(array.type)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64() if large else pa.int32())
    of = pa.LargeListArray if large else pa.ListArray
    return of.from_arrays(
        offsets, array.flatten(), _list_type(array.type, array.type.value_field), mask=array.is_null()
    )


def _is_list_view(kind: pa.DataType) -> bool:
    return any(is_such(kind) for is_such in (pa.types.is_list_view, pa.types.is_large_list_view))


def _list_type(kind: pa.DataType, value: pa.Field) -> pa.DataType:
    return pa.large_list(value) if pa.types.is_large_list_view(kind) else pa.list_(value)


def _settled_type(kind: pa.DataType) -> pa.DataType:
    return next((settle(kind) for is_such, settle in _SETTLED if is_such(kind)), kind)


def _settled_field(field: pa.Field) -> pa.Field:
    return field.with_type(_settled_type(field.type))


_SETTLED: tuple[tuple[Callable[[Any], bool], Callable[[Any], pa.DataType]], ...] = (
    (pa.types.is_string_view, lambda _: pa.large_string()),
    (pa.types.is_binary_view, lambda _: pa.large_binary()),
    (pa.types.is_run_end_encoded, lambda kind: _settled_type(kind.value_type)),
    (
        pa.types.is_dictionary,
        lambda kind: pa.dictionary(kind.index_type, _settled_type(kind.value_type), ordered=kind.ordered),
    ),
    (pa.types.is_list, lambda kind: pa.list_(_settled_field(kind.value_field))),
    (pa.types.is_large_list, lambda kind: pa.large_list(_settled_field(kind.value_field))),
    (pa.types.is_fixed_size_list, lambda kind: pa.list_(_settled_field(kind.value_field), kind.list_size)),
    (pa.types.is_struct, lambda kind: pa.struct([_settled_field(field) for field in kind])),
    (
        pa.types.is_map,
        lambda kind: pa.map_(_settled_field(kind.key_field), _settled_field(kind.item_field), kind.keys_sorted),
    ),
)
