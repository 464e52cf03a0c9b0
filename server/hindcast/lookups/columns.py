"""The columns of tables: those that rows have are fitted to those that are there. Imports pyarrow."""

import re
from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa

from hindcast.lookups.arrays import constant
from hindcast.lookups.logging_schema import LOG_DATE
from hindcast.lookups.places import digest

_EPOCH = date(1970, 1, 1)


def dated(rows: pa.Table, day: date) -> pa.Table:
    """Rows with the column that a Delta table has in the names of its folders."""
    return rows.append_column(LOG_DATE, constant((day - _EPOCH).days, rows.num_rows, pa.date32()))


def united(tables: Sequence[pa.Table], types: Mapping[str, pa.DataType], *, folds_names: bool) -> pa.Table:
    """One table of several, under the names that their columns have in a table with these types (`_Names`)."""
    names = _Names(types, folds=folds_names)
    fitting = [rows.rename_columns([names.of(field) for field in plain_schema(rows.schema)]) for rows in tables]
    return pa.concat_tables(fitting, promote_options="default")


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema with the values' types in the place of dictionaries and views, as Parquet has them."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that Parquet has for one of Arrow's: that of the values, in the place of a dictionary or a view."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.binary() if pa.types.is_binary_view(kind) else kind


_ADDED = "__hc_"
"""Stands between the name of a column and what was added to tell it from another one."""


class _Names:
    """Which column of a table takes a column of rows: the one of its name, or where that is of another type, or of a name that
    differs by capitals only, one of its own, with the type or a digest of the name behind it.
    """

    def __init__(self, types: Mapping[str, pa.DataType], *, folds: bool) -> None:
        self._types = dict(types)
        self._folds = folds
        self._folded = {name.lower(): name for name in types}

    def of(self, field: pa.Field) -> str:
        """The column's name, which is taken from then on."""
        name = str(field.name)
        if self._folds and name not in self._types and self._folded.get(name.lower(), name) != name:
            name = f"{name}{_ADDED}{digest(name)}"
        there = self._types.get(name)
        if there is not None and not same_type(there, field.type):
            name = f"{name}{_ADDED}{re.sub('[^a-z0-9]+', '_', str(field.type).lower()).strip('_')}"
        self._types.setdefault(name, field.type)
        self._folded.setdefault(name.lower(), name)
        return name


def column_of(name: str) -> str:
    """What a column was called before something was added that tells it from another one."""
    return name.partition(_ADDED)[0]


def same_type(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types are one, whatever the items of a list are called."""
    if pa.types.is_list(one) and pa.types.is_list(other):
        return same_type(one.value_type, other.value_type)
    return bool(one.equals(other))
