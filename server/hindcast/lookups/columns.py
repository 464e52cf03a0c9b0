"""The columns of tables: those that rows have are fitted to those that are there. Imports pyarrow."""

import re
from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa

from hindcast.lookups.arrays import constant
from hindcast.lookups.logging_schema import LOG_DATE

_EPOCH = date(1970, 1, 1)


def dated(rows: pa.Table, day: date) -> pa.Table:
    """Rows with the column that a Delta table has in the names of its folders."""
    return rows.append_column(LOG_DATE, constant((day - _EPOCH).days, rows.num_rows, pa.date32()))


def united(tables: Sequence[pa.Table], types: Mapping[str, pa.DataType]) -> pa.Table:
    """One table of several, under the names that their columns have in a table with these types (`column_name`)."""
    known = dict(types)
    fitting = []
    for rows in tables:
        fits = rows.rename_columns([column_name(field, known) for field in plain_schema(rows.schema)])
        known |= {field.name: field.type for field in plain_schema(fits.schema)}
        fitting.append(fits)
    return pa.concat_tables(fitting, promote_options="default")


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema with the values' types in the place of dictionaries."""
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


def column_name(field: pa.Field, types: Mapping[str, pa.DataType]) -> str:
    """The column of a table that takes a column of rows: its own, or where that has another type, one named by its type too."""
    there = types.get(field.name)
    if there is None or _same(there, field.type):
        return str(field.name)
    return f"{field.name}__hc_{re.sub('[^a-z0-9]+', '_', str(field.type).lower()).strip('_')}"


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _same(one.value_type, other.value_type)
    return bool(one.equals(other))
