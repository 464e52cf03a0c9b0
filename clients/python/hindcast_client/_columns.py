"""Tables as callers have them to columns of Python values: dicts of sequences, lists of dicts, pandas, NumPy, Arrow.

None of those libraries is imported: an object that came from one tells by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hindcast.v1.value_pb2 import Value

# The last is a pandas DataFrame, or an Arrow Table or RecordBatch: types that this package must not import.
Table = Mapping[str, Any] | Sequence[Mapping[str, Any]] | Any

# Arrow's to_pylist gives plain ints and floats; these types are not what those would be sent as.
_NARROW = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int32"),
    **dict.fromkeys(("halffloat", "float"), "float"),
}


def columns_of(table: Any, *, name: str) -> dict[str, list[Any]]:
    """The table's columns in its own order, all of one length.

    Args:
        table: in any of the forms above.
        name: what the table is called in an error.

    Raises:
        TypeError: not a table, or a column is not a sequence or has no str for a name.
        ValueError: the columns' lengths, or the rows' keys, differ.
    """
    library = _library(table)
    if isinstance(table, Mapping):
        columns = _checked_names(table.items(), name=name)
    elif library == "pandas" and hasattr(table, "iloc") and hasattr(table, "columns"):
        columns = _checked_names(((key, table.iloc[:, at]) for at, key in enumerate(table.columns)), name=name)
    elif library == "pyarrow" and hasattr(table, "column_names"):
        columns = _checked_names(((key, table.column(at)) for at, key in enumerate(table.column_names)), name=name)
    elif isinstance(table, Sequence) and not isinstance(table, str | bytes):
        return _from_rows(table, name=name)
    else:
        raise TypeError(
            f"{name} is {_a(table)}; give a dict of columns, a list of dicts, a pandas DataFrame or an Arrow table"
        )
    values = {key: _entries(column, name=f"{name}[{key!r}]") for key, column in columns.items()}
    lengths = {key: len(column) for key, column in values.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key!r} {length}" for key, length in lengths.items())
        raise ValueError(f"the columns of {name} differ in length: {told}; give every column one value per row")
    return values


def _checked_names(columns: Iterable[tuple[Any, Any]], *, name: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for key, column in columns:
        if not isinstance(key, str):
            raise TypeError(f"{name} has a column named {key!r}; column names are str")
        if key in checked:
            raise ValueError(f"{name} has two columns named {key!r}; keep one")
        checked[key] = column
    return checked


def _from_rows(rows: Sequence[Any], *, name: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"{name}, row {at} is {_a(row)}; as a list, {name} holds one dict per row")
        if at == 0:
            columns = {key: [] for key in _checked_names(row.items(), name=f"{name}, row 0")}
        if row.keys() != columns.keys():
            missing = [key for key in columns if key not in row]
            extra = [key for key in row if key not in columns]
            told = "; ".join(
                f"{word} {', '.join(map(repr, keys))}" for word, keys in (("lacks", missing), ("adds", extra)) if keys
            )
            raise ValueError(f"{name}, row {at} {told}; give every row the same keys as row 0, None for a null")
        for key, value in row.items():
            columns[key].append(value)
    return columns


def _entries(column: Any, *, name: str) -> list[Any]:
    """The column's entries, each of a type that says its width: NumPy scalars stay NumPy scalars."""
    library = _library(column)
    if library == "pandas" and hasattr(column, "isna"):
        # pandas has no other way to say null than NaN, NaT and NA, and widens an int column for it.
        values = column.array if hasattr(column, "array") else column
        return [None if null else value for value, null in zip(values, column.isna(), strict=True)]
    if library == "pyarrow" and hasattr(column, "to_pylist"):
        return _arrow_entries(column)
    if library == "numpy" and hasattr(column, "ndim"):
        if column.ndim == 0:
            raise TypeError(f"{name} is a single value; give one value per row, such as [{column.item()!r}]")
        return list(column)
    if isinstance(column, Iterable) and not isinstance(column, str | bytes | bytearray | Mapping | set | frozenset):
        return list(column)
    raise TypeError(f"{name} is {_a(column)}; give one value per row in a list, such as [{column!r}]")


def _arrow_entries(column: Any) -> list[Any]:
    entries = column.to_pylist()
    narrow = _NARROW.get(str(column.type))
    if narrow is not None:
        return [None if entry is None else Value(**{f"{narrow}_val": entry}) for entry in entries]
    narrow = _NARROW.get(str(getattr(column.type, "value_type", "")))
    if narrow is None:
        return entries  # type: ignore[no-any-return]
    return [entry if entry is None or None in entry else _narrow_list(entry, narrow) for entry in entries]


def _narrow_list(entry: list[Any], narrow: str) -> Value:
    value = Value()
    items = getattr(value, f"{narrow}_list_val")
    items.SetInParent()
    items.val.extend(entry)
    return value


def _library(thing: object) -> str:
    return type(thing).__module__.partition(".")[0]


def _a(thing: object) -> str:
    name = type(thing).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
