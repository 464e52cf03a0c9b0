"""Entity frames of pandas, as Arrow."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from hindcast.errors import InvalidArgument
from hindcast.offline.frames.timetext import micros_of, no_time

_UTC_MICROS = pa.timestamp("us", tz="UTC")
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What pyarrow raises of values that it has no type for."""


def pandas_table(given: Any, *, times: str) -> pa.Table:
    """A pandas frame's columns, without its index, in Arrow's types for them; the metadata says what pandas had, so that it can have it again.

    A NaN of NumPy's floats is pandas' null and is one here; a NaN beside a null of pandas' own (`Float64`) stays NaN.

    Args:
        times: a column, if it is there, that may hold texts, times and dates of all zones in one, as Python objects. Such a one becomes
            `timestamp[us, tz=UTC]`.
    Raises:
        InvalidArgument: a column is named by no text, two have one name, or the values of one have no type in Arrow.
    """
    names = list(given.columns)
    unnamed = next((name for name in names if not isinstance(name, str)), None)
    if unnamed is not None:
        raise InvalidArgument.at(
            "entity_df",
            f"has a column that is named {unnamed!r}, which is no text; rename the columns, or leave it out",
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument.at("entity_df", f"has two columns of the name {twice!r}; rename one, or leave it out")
    mixed = next((name for name in names if _is_mixed(given[name], are_times=name == times)), None)
    table = _converted(given, [name for name in names if name != mixed])
    if mixed is None:
        return table
    return table.add_column(names.index(mixed), mixed, _instants(given[mixed], mixed))


def _is_mixed(values: Any, *, are_times: bool) -> bool:
    """Whether a column of Python objects is to be read value by value: it has the times, as text and times, or times and dates.

    Raises:
        InvalidArgument: it is another column with times and dates. Arrow would take all of them for dates, and say nothing.
    """
    if values.dtype != object:
        return False
    kinds = {
        next((known for known in (str, datetime, date) if issubclass(kind, known)), kind)
        for kind in set(map(type, values.dropna()))
    }
    if are_times:
        return len(kinds) > 1 and kinds <= {str, datetime, date}
    if {datetime, date} <= kinds:
        raise _unfit(values.name, values.dtype)
    return False


def _converted(given: Any, names: Sequence[str]) -> pa.Table:
    try:
        return pa.Table.from_pandas(given, columns=names, preserve_index=False)
    except _UNFIT as error:
        raise _unfit(*_first_unfit(given, names)) from error


def _first_unfit(given: Any, names: Iterable[str]) -> tuple[str, Any]:
    for name in names:
        try:
            pa.Table.from_pandas(given, columns=[name], preserve_index=False)
        except _UNFIT:
            return name, given[name].dtype
    raise AssertionError("each column fits by itself")


def _unfit(name: str, dtype: Any) -> InvalidArgument:
    return InvalidArgument.at(
        "entity_df",
        f"has a column {name!r} of {dtype} whose values are of several kinds, or of one that Arrow has no type for; convert it to one "
        "type, or leave it out",
    )


def _instants(values: Any, name: str) -> pa.Array:
    micros: list[int | None] = []
    for row, (value, is_null) in enumerate(zip(values, values.isna(), strict=True)):
        try:
            micros.append(None if is_null else micros_of(_time(value)))
        except ValueError as error:
            raise no_time(str(value), column=name, row=row) from error
    return pa.array(micros, pa.int64()).cast(_UTC_MICROS)


def _time(value: Any) -> date:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    # A time of pandas' own may have nanoseconds, which are cut off.
    time: date = value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value
    return time
