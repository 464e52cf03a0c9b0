"""Labels for lookups: which column of the labels is what, and which label a row of a lookup takes.

| by | a label fits a row of a lookup that | of several the row takes, unless it is said |
| --- | --- | --- |
| `lookup_id` | has its id (and, where the labels have one, its row number) | the last |
| `request_id` | was asked for under its request id (and has its row number) | the last |
| keys | has its keys, and was served in the window before it: `served_at <= time <= served_at + window` | the first |

Labels are in the order of their times, where they have any, and then of their position among the labels: a total order, so that the same
labels are taken each time.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument
from hindcast.offline.frames.frame import EntityFrame, frame_micros
from hindcast.offline.sources.arrow_types import is_time
from hindcast.quoting import quoted_name

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKUP_ID, REQUEST_ID, KEY = "lookup_id", "request_id", "key"
FIRST, LAST = "first", "last"
_ID_COLUMNS: Mapping[str, Sequence[str]] = {
    LOOKUP_ID: ("lookup_id", "hc_lookup_id"),
    REQUEST_ID: ("request_id", "hc_request_id"),
}
_ROW_COLUMNS = ("lookup_row", "hc_row", "row")
"""What the number of a row in its lookup is called: by a set itself, by the tables of the log, and in short."""
_TABLE = "__labels"
_MICROS = "__micros"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJoin:
    """How labels are joined.

    Attributes:
        on: `lookup_id`, `request_id` or `key`.
        columns: of the labels: the id's, or the keys.
        row: the labels' column of row numbers; empty where there is none.
        time: the labels' column of times; empty where they have none that counts.
        window_micros: of `key`.
        pick: `first` or `last`.
        keeps_unlabeled: whether rows without a label stay, with nulls.
    """

    on: str
    columns: tuple[str, ...]
    row: str
    time: str
    window_micros: int | None
    pick: str
    keeps_unlabeled: bool

    def carried(self, schema: pa.Schema) -> list[str]:
        """The labels' columns that the set has."""
        return [name for name in schema.names if name not in {*self.columns, self.row}]


def label_join(
    schema: pa.Schema,
    *,
    on: str | Sequence[str] | None,
    time: str | None,
    window_micros: int | None,
    pick: str | None,
    keeps_unlabeled: bool,
) -> LabelJoin:
    """How labels of a schema are joined.

    Args:
        on: `lookup_id` or `request_id`, or a list of key columns; None for the id that the labels have a column of.
    Raises:
        InvalidArgument: that cannot be; the message says what to give.
    """
    if pick not in {None, FIRST, LAST}:
        raise InvalidArgument.at("pick", f"is {pick!r}; give first or last")
    if on is None:
        on = next((kind for kind, names in _ID_COLUMNS.items() if any(name in schema.names for name in names)), None)
        if on is None:
            raise InvalidArgument.at(
                "on",
                f"is not given, and the labels have no column lookup_id or request_id, only {_listed(schema)}; name the columns of keys",
            )
    if time is not None and time not in schema.names:
        raise InvalidArgument.at("label_time", f"names the column {time!r}, and the labels have {_listed(schema)}")
    if isinstance(on, str) and on in _ID_COLUMNS:
        if window_micros is not None:
            raise InvalidArgument.at("window", "is for labels by keys, and these are joined by an id; leave it out")
        column = next((name for name in _ID_COLUMNS[on] if name in schema.names), None)
        if column is None:
            raise InvalidArgument.at("on", f"is {on}, and the labels have no such column, only {_listed(schema)}")
        row = next((name for name in _ROW_COLUMNS if name in schema.names), "")
        return LabelJoin(
            on=on,
            columns=(column,),
            row=row,
            time=time or "",
            window_micros=None,
            pick=pick or LAST,
            keeps_unlabeled=keeps_unlabeled,
        )
    keys = (on,) if isinstance(on, str) else tuple(on)
    missing = [key for key in keys if key not in schema.names]
    if not keys or missing:
        raise InvalidArgument.at("on", f"names the keys {', '.join(keys)}, and the labels have {_listed(schema)}")
    if window_micros is None or window_micros < 0:
        raise InvalidArgument.at(
            "window", "is not given, or negative; say how long after its lookup a label by keys may be"
        )
    return LabelJoin(
        on=KEY,
        columns=keys,
        row="",
        time=time or _only_time(schema, keys),
        window_micros=window_micros,
        pick=pick or FIRST,
        keeps_unlabeled=keeps_unlabeled,
    )


def _only_time(schema: pa.Schema, keys: Sequence[str]) -> str:
    """The column of labels' times, where nobody names it."""
    times = [field.name for field in schema if field.name not in keys and is_time(field.type)]
    if "event_timestamp" in times:
        return "event_timestamp"
    if len(times) != 1:
        found = f"the times {', '.join(times)}" if times else "no time"
        raise InvalidArgument.at(
            "label_time",
            f"is not given, and the labels have {found}; labels by keys need the time of each: name its column",
        )
    return str(times[0])


def _listed(schema: pa.Schema) -> str:
    return ", ".join(map(repr, schema.names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How many labels fit.

    Attributes:
        without_key: labels with a null in their key or time.
        unknown: labels that fit no lookup.
        latest_micros: the latest time of all labels by keys; None without any.
    """

    without_key: int
    unknown: int
    latest_micros: int | None


class JoinedLabels:
    """Labels in a DuckDB, beside rows of lookups."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        frame: EntityFrame,
        join: LabelJoin,
        types: Mapping[str, pa.DataType],
    ) -> None:
        """Args:
            types: of the lookups' keys, by name; for labels by keys.
        Raises:
            InvalidArgument: a key is none of the lookups', or of another type; a label's time is no time.
        """
        self._connection, self._join = connection, join
        self._types = types
        self._keys = [f"k{at}" for at in range(len(join.columns))]
        self._on = [*self._keys, *(["row"] if join.row else [])]
        narrow = self._narrow(frame)
        self._rows = frame.rows
        valid = None
        for name in [*self._on, *([_MICROS] if join.on == KEY else [])]:
            is_there = narrow.column(name).is_valid()
            valid = is_there if valid is None else pc.and_(valid, is_there)
        kept = narrow.filter(valid)
        self._without_key = narrow.num_rows - kept.num_rows
        self._latest = pc.max(kept.column(_MICROS)).as_py() if join.on == KEY else None
        connection.register(_TABLE, kept)

    def close(self) -> None:
        """Take the labels out of the DuckDB."""
        self._connection.unregister(_TABLE)

    def _narrow(self, frame: EntityFrame) -> pa.Table:
        join = self._join
        columns: dict[str, Any] = {"position": pa.array(np.arange(frame.rows, dtype=np.int64))}
        for key, name in zip(self._keys, join.columns, strict=True):
            given = _decoded(frame.columns([name]).column(0))
            columns[key] = self._key(name, given) if join.on == KEY else _id(name, given, join.on)
        if join.row:
            columns["row"] = _row_numbers(join.row, _decoded(frame.columns([join.row]).column(0)))
        if join.time:
            micros, is_there = _in_our_words(frame, join.time)
            columns[_MICROS] = pa.array(micros, mask=None if is_there is None else ~is_there)
        return pa.table(columns)

    def _key(self, name: str, given: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = self._types.get(name)
        if kind is None:
            known = ", ".join(self._types) or "none"
            raise InvalidArgument.at(
                "on", f"names {name!r}, which is no key that lookups of the service were asked by; there are {known}"
            )
        plain = _plain(kind)
        if pa.types.is_timestamp(given.type) and plain == pa.int64() and pa.types.is_timestamp(kind):
            return given.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        if _kind(given.type) != _kind(plain) or pa.types.is_timestamp(kind):
            raise InvalidArgument.at(
                name,
                f"is {given.type} in the labels, and lookups were asked by {kind}; give the labels a column of that type",
            )
        return given.cast(plain)

    def sql(self, rows: str, key_of: Mapping[str, str]) -> str:
        """A query for the columns of `rows`, and the `position` of the label that each row takes; null where there is none.

        Args:
            rows: the name of a table, with the columns of `HEADS`.
            key_of: key -> its column there.
        """
        kept = "LEFT" if self._join.keeps_unlabeled else "INNER"
        if self._join.on != KEY:
            of_row = {LOOKUP_ID: "lookup_id", REQUEST_ID: "request_id"}[self._join.on]
            same = f"{rows}.{of_row} = winner.k0" + (f" AND {rows}.lookup_row = winner.row" if self._join.row else "")
            return f"SELECT {rows}.*, winner.position FROM {rows} {kept} JOIN ({self._winners()}) winner ON {same}"  # noqa: S608 - quoted
        served, window = f"epoch_us({rows}.served_at)", self._join.window_micros
        same = " AND ".join(self._same_keys(rows, key_of))
        if self._join.pick == FIRST:
            near, fits = f"{served} <= winner.{_MICROS}", f"winner.{_MICROS} <= {served} + {window}"
        else:
            near, fits = f"{served} + {window} >= winner.{_MICROS}", f"winner.{_MICROS} >= {served}"
        position = f"CASE WHEN {fits} THEN winner.position END"
        found = f"SELECT {rows}.*, {position} AS position FROM {rows} ASOF LEFT JOIN ({self._winners()}) winner ON {same} AND {near}"  # noqa: S608 - quoted
        return found if self._join.keeps_unlabeled else f"SELECT * FROM ({found}) WHERE position IS NOT NULL"  # noqa: S608 - quoted

    def _winners(self) -> str:
        """Labels of which no two fit alike; by keys those of one time."""
        parts = [*self._on, *([_MICROS] if self._join.on == KEY else [])]
        order = [*([_MICROS] if self._join.time else []), "position"]
        way = "ASC" if self._join.pick == FIRST else "DESC"
        ordered = ", ".join(f"{name} {way}" for name in order)
        return (
            f"SELECT {', '.join([*parts, 'position'])} FROM {_TABLE} "  # noqa: S608 - names of ours
            f"QUALIFY row_number() OVER (PARTITION BY {', '.join(parts)} ORDER BY {ordered} {'NULLS LAST' if self._join.time else ''}) = 1"
        )

    def _same_keys(self, rows: str, key_of: Mapping[str, str]) -> list[str]:
        return [
            f"{_plain_sql(f'{rows}.{quoted_name(key_of[name])}', self._types[name])} = winner.{key}"
            for key, name in zip(self._keys, self._join.columns, strict=True)
        ]

    def fit(self, rows: str, key_of: Mapping[str, str]) -> Fit:
        """How many labels fit rows of lookups; arguments as of `sql`."""
        if self._join.on == KEY:
            served = f"epoch_us({rows}.served_at)"
            same = " AND ".join(self._same_keys(rows, key_of))
            unknown = (
                f"SELECT count(*) FILTER (near IS NULL OR near + {self._join.window_micros} < {_MICROS}) "  # noqa: S608 - quoted
                f"FROM (SELECT winner.{_MICROS}, {served} AS near FROM {_TABLE} winner ASOF LEFT JOIN {rows} "
                f"ON {same} AND winner.{_MICROS} >= {served})"
            )
        else:
            of_row = {LOOKUP_ID: "lookup_id", REQUEST_ID: "request_id"}[self._join.on]
            same = f"{rows}.{of_row} = {_TABLE}.k0" + (
                f" AND {rows}.lookup_row = {_TABLE}.row" if self._join.row else ""
            )
            unknown = f"SELECT count(*) FROM {_TABLE} ANTI JOIN {rows} ON {same}"  # noqa: S608 - quoted
        ((count,),) = self._connection.execute(unknown).fetchall()
        return Fit(without_key=self._without_key, unknown=count, latest_micros=self._latest)


@contextmanager
def joined_labels(
    connection: duckdb.DuckDBPyConnection, frame: EntityFrame, join: LabelJoin, types: Mapping[str, pa.DataType]
) -> "Iterator[JoinedLabels]":
    """Labels in a DuckDB while the block runs; see `JoinedLabels`."""
    labels = JoinedLabels(connection, frame, join, types)
    try:
        yield labels
    finally:
        labels.close()


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _id(name: str, given: pa.ChunkedArray, on: str) -> pa.ChunkedArray:
    if not (pa.types.is_string(given.type) or pa.types.is_large_string(given.type) or pa.types.is_null(given.type)):
        raise InvalidArgument.at(name, f"of the labels is {given.type}, and ids are text; give them as text")
    text = given.cast(pa.string())
    if on == LOOKUP_ID:
        return pc.utf8_lower(text)
    # Who sent no request id cannot be found by one.
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _row_numbers(name: str, given: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return given.cast(pa.int32())
    except pa.ArrowException as error:
        raise InvalidArgument.at(
            name,
            f"of the labels is {given.type}, and has the number of a row in its lookup: whole numbers from 0; or rename it",
        ) from error


def _in_our_words(frame: EntityFrame, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        return frame_micros(frame, name)
    except InvalidArgument as error:
        raise InvalidArgument.at("label_time", f"of the labels: {error.violations[0].description}") from error


def _plain(kind: pa.DataType) -> pa.DataType:
    """What a key is compared as."""
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        return pa.int64()
    return kind


def _plain_sql(column: str, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return f"epoch_us({column})"
    return f"CAST({column} AS BIGINT)" if pa.types.is_integer(kind) else column


def _kind(kind: pa.DataType) -> str:
    for name, is_such in (
        ("text", (pa.types.is_string, pa.types.is_large_string)),
        ("number", (pa.types.is_integer,)),
        ("bytes", (pa.types.is_binary, pa.types.is_large_binary)),
        ("boolean", (pa.types.is_boolean,)),
    ):
        if any(one(kind) for one in is_such):
            return name
    return str(kind)
