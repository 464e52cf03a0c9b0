"""What Hypothesis draws for point-in-time reads: entity frames, sources in every layout, and views that join them.

A draft is a plain description with all of its data; `written.py` makes files of it. Times are nanoseconds until they are stored in
a column, and what the column's type keeps of them is what the oracle is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from math import nan
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from oracle import EntityRow, SourceRow

MICRO, SECOND, DAY = 1_000, 10**9, 86_400 * 10**9
NOW = 1_800_000_000 * SECOND
# Where times gather, so that they tie and lie beside each other: 1970, today, before 1970, a leap day.
CENTRES = [0, NOW, -2 * SECOND, 951_782_400 * SECOND]
# The years 1 and 9999, which nanoseconds of 64 bits do not reach.
FAR = [-62_135_596_800 * SECOND, 253_402_300_799 * SECOND]
NANOS_MAX = 9_000_000_000 * SECOND
TTLS = [0, 1, 2, 1_000_000, 86_400_000_000, 315_360_000_000_000]
"""In microseconds."""

TIME_TYPES = [
    pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms"), pa.timestamp("s"),
    pa.timestamp("ns", "America/St_Johns"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin"),
    pa.timestamp("ns", "UTC"), pa.timestamp("us", "+05:45"), pa.date32(), pa.date64(),
]  # fmt: skip
_UNITS = {"s": SECOND, "ms": 10**6, "us": MICRO, "ns": 1}

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4) | st.sampled_from(
    [
        "x_y", "x_yyyy", "_y", "X_Y", "x", "X", 'a"b', "a'b", "a b", " a", "a.b", "a,b", "[0]", "{}", "%s", "$1", "?", "*", "\\", "`", "'; --",
        "é", "e\u0301", "É", "ключ", "🦆", "select", "group", "rowid", "position", "file_row_number", "filename", "file_index", "row", "id",
        "k", "event_ts", "created_ts", "as_of", "event_timestamp", "entity_row_id", "__dummy_id", "known_at", "key_0", "index", "__index_level_0__",
    ]
)  # fmt: skip
# Delta refuses some characters in a column's name, and tells no two apart by case alone.
PLAIN_NAMES = st.sampled_from(["x_y", "y_", "select", "position", "rowid", "é", "a.b", "a'b", "a-b", "k", "event_ts"])


@dataclass(frozen=True)
class KeyKind:
    """Join keys that are compared with each other: what the frame may have, and what a source may.

    Attributes:
        frame_types, source_types: of columns; every value below can be in each of them.
        frame_values, source_values: None and NaN are nulls.
    """

    frame_types: Sequence[pa.DataType]
    source_types: Sequence[pa.DataType]
    frame_values: Sequence[Any]
    source_values: Sequence[Any]
    in_delta: bool = False


_TEXTS = ["", "1", "2", "11", "12", "21", "a\0", "a", "é", "e\u0301", "1\x1f2", None]
_BYTES = [b"", b"\0", b"1", b"\xff", b"12", None]
_WHOLE = [pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_TEXT_TYPES = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()]
_INSTANTS = [0, SECOND, -SECOND, NOW, None]
KEY_KINDS = {
    "whole": KeyKind(_WHOLE, _WHOLE, [0, 1, 2, 11, 12, None], [0, 1, 2, 11, 12, None], in_delta=True),
    "whole, in doubles": KeyKind([pa.float64(), pa.float32()], _WHOLE, [0.0, -0.0, 1.0, 2.0, nan, None], [0, 1, 2, None]),
    "wide": KeyKind([pa.int64()], [pa.int64()], [-(2**63), 2**63 - 1, 2**53, 2**53 + 1, None], [-(2**63), 2**63 - 1, 2**53, 2**53 + 1, None], in_delta=True),
    "unsigned and signed": KeyKind([pa.uint64()], [pa.int64()], [0, 1, 2**63, 2**64 - 1], [0, 1, -(2**63), -1], in_delta=True),
    "signed and unsigned": KeyKind([pa.int64()], [pa.uint64()], [0, 1, -(2**63), -1], [0, 1, 2**63, 2**64 - 1]),
    "text": KeyKind(_TEXT_TYPES, _TEXT_TYPES[:3], _TEXTS, _TEXTS),
    "plain text": KeyKind([pa.string()], [pa.string()], _TEXTS, _TEXTS, in_delta=True),
    "bytes": KeyKind([pa.binary(), pa.large_binary()], [pa.binary(), pa.large_binary()], _BYTES, _BYTES),
    "bool": KeyKind([pa.bool_()], [pa.bool_()], [True, False, None], [True, False, None], in_delta=True),
    "time": KeyKind([kind for kind in TIME_TYPES if pa.types.is_timestamp(kind)], [kind for kind in TIME_TYPES if pa.types.is_timestamp(kind)], _INSTANTS, _INSTANTS),
    "date": KeyKind([pa.date32()], [pa.date32()], [0, DAY, -DAY, None], [0, DAY, -DAY, None]),
}  # fmt: skip
"""Values of times are nanoseconds."""

FEATURES = {
    "int16": (pa.int16(), st.integers(-2, 2)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.sampled_from([0, 2**63, 2**64 - 1])),
    "float": (pa.float32(), st.floats(width=32)),
    "double": (pa.float64(), st.floats()),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(max_size=3)),
    "large text": (pa.large_string(), st.text(max_size=3)),
    "category": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["", "a", "b"])),
    "bytes": (pa.binary(), st.binary(max_size=3)),
    "fixed bytes": (pa.binary(2), st.binary(min_size=2, max_size=2)),
    "decimal": (pa.decimal128(20, 2), st.integers(-(10**18), 10**18).map(lambda cents: Decimal(cents).scaleb(-2))),
    "date": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us", "UTC"), st.integers(-3, 3)),
    "fine time": (pa.timestamp("ns", "Europe/Berlin"), st.integers(-3, 3)),
    "list": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(0, 3), max_size=2)),
    "struct": (pa.struct({"a": pa.int64(), "b": pa.string()}), st.fixed_dictionaries({"a": st.none() | st.integers(0, 3), "b": st.none() | st.just("é")})),
    "map": (pa.map_(pa.string(), pa.int64()), st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3)).map(lambda items: list(items.items()))),
    "uuid": (pa.uuid(), st.binary(min_size=16, max_size=16)),
}  # fmt: skip
"""Arrow type and values of a feature."""
_IN_DELTA = ["int16", "int64", "double", "bool", "text", "bytes", "decimal", "date", "time", "list", "struct"]


@dataclass(frozen=True)
class FileDraft:
    """A file of a source, or what is appended to a Delta table at once.

    Attributes:
        path: folders and name.
        rows: as the oracle sees them.
        options: how Parquet is written.
    """

    path: tuple[str, ...]
    table: pa.Table
    rows: Sequence[SourceRow]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryDraft:
    """A source.

    Attributes:
        layout: `file` (with parts), `directory`, `pattern` or `delta`.
        identity: a column that numbers all rows of a draft.
        keys: column to name of its kind.
        times: of the event and created column those that have one type in all files, and so can be features too.
        partitions: columns that are in the folders' names.
        deletes: of a Delta table, the identities that are deleted after it was written.
        by_vector: by a deletion vector, not by writing the file anew.
    """

    layout: str
    files: Sequence[FileDraft]
    event: str
    created: str | None
    identity: str
    keys: Mapping[str, str]
    features: Sequence[str]
    times: Sequence[str]
    partitions: Sequence[str]
    deletes: Sequence[int] = ()
    by_vector: bool = False


@dataclass(frozen=True)
class ViewDraft:
    """A view on one of the sources.

    Attributes:
        keys: column of the frame -> column of the source.
        fields: column of the result -> column of the source.
    """

    name: str
    source: int
    keys: Mapping[str, str]
    fields: Mapping[str, str]
    ttl_micros: int


@dataclass(frozen=True)
class ReadDraft:
    """A frame, sources, views, and what the oracle is to be asked.

    Attributes:
        names_as_of: whether the frame's time is named, as it must be where the frame has several.
        known_at: microseconds, a column of the frame, or None.
        asked: for each view, one question per row of the frame.
    """

    frame: pa.Table
    as_of: str
    names_as_of: bool
    known_at: int | str | None
    sources: Sequence[HistoryDraft]
    views: Sequence[ViewDraft]
    asked: Sequence[Sequence[EntityRow]]


def stored(nanos: int | None, kind: pa.DataType) -> tuple[int | None, int | None]:
    """What a time is in a column of a type: its number there, and what is left of it in nanoseconds."""
    if nanos is None:
        return None, None
    if pa.types.is_date(kind):
        days = nanos // DAY
        return (days * 86_400_000 if pa.types.is_date64(kind) else days), days * DAY
    if kind.unit == "ns":
        nanos = max(min(nanos, NANOS_MAX), -NANOS_MAX)
    number = nanos // _UNITS[kind.unit]
    return number, number * _UNITS[kind.unit]


def times(numbers: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    """A column of times from its numbers."""
    return pa.array(numbers, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)


def key_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of join keys."""
    if pa.types.is_temporal(kind):
        return times([stored(value, kind)[0] for value in values], kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def feature_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of a feature."""
    if isinstance(kind, pa.UuidType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    if pa.types.is_dictionary(kind):
        return key_column(values, kind)
    if pa.types.is_timestamp(kind):
        return times(values, kind)
    return pa.array(values, kind)


class _Times:
    """What times an example has: few of them, so that they meet."""

    def __init__(self, draw, ttls):
        self.centres = draw(st.lists(st.sampled_from(CENTRES), min_size=1, max_size=2, unique=True))
        self.is_far = draw(st.integers(0, 5)) == 0
        self.ttls = ttls

    def near(self):
        """Around a centre, to the microsecond, with a rest below it."""
        near = st.builds(
            lambda centre, micros, rest: centre + micros * MICRO + rest,
            st.sampled_from(self.centres),
            st.integers(-2, 2),
            st.sampled_from([0, 0, 1, 999]),
        )
        return near | st.sampled_from(FAR) if self.is_far else near

    def events(self):
        return st.none() | self.near()

    def after(self):
        """A time, or one as far after it as a TTL: where rows grow stale and late."""
        return st.none() | st.builds(lambda time, ttl: time + ttl * MICRO, self.near(), st.sampled_from(self.ttls))


@st.composite
def reads(draw, *, is_plain: bool = False):
    """Reads of 0 to 6 entity rows from 1 to 3 views.

    Args:
        is_plain: whether everything is as most people have it: names, one file, few types. Shrinks well.
    """
    names = _Names(draw, is_plain=is_plain)
    ttls = draw(st.lists(st.sampled_from(TTLS), min_size=1, max_size=3))
    moments = _Times(draw, ttls)
    kinds = draw(st.lists(st.sampled_from(["whole", "plain text"] if is_plain else sorted(KEY_KINDS)), max_size=3))
    if kinds and draw(st.booleans()):
        kinds.append(kinds[0])  # for a view that is joined twice, by two columns
    numbers = count()
    sources, views = [], []
    key_names = names.many(len(kinds))
    for at in range(draw(st.integers(1, 3))):
        usable = [source for source in sources if all(kinds.count(kind) for kind in source.keys.values())]
        if usable and draw(st.booleans()):
            source = draw(st.sampled_from(usable))
        else:
            chosen = draw(st.permutations(range(len(kinds))))[: draw(st.integers(0, min(2, len(kinds))))]
            source = draw(_histories([kinds[one] for one in chosen], moments, numbers, is_plain=is_plain))
            sources.append(source)
        views.append(
            draw(
                _views(
                    f"view {at}", sources.index(source), source, dict(zip(key_names, kinds, strict=True)), ttls, names
                )
            )
        )
    frame, as_of, names_as_of, known_at, columns = draw(
        _frames(dict(zip(key_names, kinds, strict=True)), moments, names, is_plain=is_plain)
    )
    as_ofs, known_ats, keys = columns
    asked = [
        [
            EntityRow(tuple(keys[name][row] for name in view.keys), as_ofs[row], known_ats[row])
            for row in range(frame.num_rows)
        ]
        for view in views
    ]
    return ReadDraft(frame, as_of, names_as_of, known_at, sources, views, asked)


class _Names:
    """Names of a frame's and a result's columns: each once."""

    def __init__(self, draw, *, is_plain):
        self.draw, self.is_plain, self.taken = draw, is_plain, set()

    def one(self, *prefer: str) -> str:
        """A name that is not taken, one of those preferred if the draw says so."""
        free = [name for name in prefer if name not in self.taken]
        if free and self.draw(st.booleans()):
            name = free[0]
        elif self.is_plain:
            name = f"c{len(self.taken)}"
        else:
            name = self.draw(NAMES.filter(lambda name: name not in self.taken))
        self.taken.add(name)
        return name

    def many(self, number: int) -> list[str]:
        return [self.one() for _ in range(number)]


@st.composite
def _frames(draw, kinds, moments, names, *, is_plain):
    """The frame; whether its time must be named; the cut-off; and times, cut-offs and keys as the oracle sees them."""
    rows = draw(st.integers(0, 6))
    columns, keys = {}, {}
    for name, kind in kinds.items():
        of = KEY_KINDS[kind]
        values = [draw(st.sampled_from(of.frame_values)) for _ in range(rows)]
        if rows and draw(st.booleans()):
            values[-1] = values[0]
        columns[name] = key_column(values, draw(st.sampled_from(of.frame_types)))
        keys[name] = values
    as_of = names.one("event_timestamp")
    # The frame's one timestamp column is found by its type, a date by the name that Feast gives it.
    as_of_types = [kind for kind in TIME_TYPES if as_of == "event_timestamp" or pa.types.is_timestamp(kind)]
    as_of_type = draw(st.sampled_from(TIME_TYPES[:1] if is_plain else as_of_types))
    asked_at = [stored(draw(moments.after()), as_of_type) for _ in range(rows)]
    columns[as_of] = times([number for number, _ in asked_at], as_of_type)
    known_at, known_ats = None, [None] * rows
    way = draw(st.sampled_from(["none", "one", "each", "its own"]))
    if way == "one":
        known_at = draw(moments.near()) // MICRO
        known_ats = [known_at * MICRO] * rows
    elif way == "each":
        known_at = names.one("known_at")
        kind = draw(st.sampled_from(TIME_TYPES))
        cut = [stored(draw(moments.after()), kind) for _ in range(rows)]
        columns[known_at] = times([number for number, _ in cut], kind)
        known_ats = [nanos for _, nanos in cut]
    elif way == "its own":
        known_at, known_ats = as_of, [nanos for _, nanos in asked_at]
    for _ in range(draw(st.integers(0, 2))):
        kind, values = FEATURES[draw(st.sampled_from(sorted(FEATURES)))]
        columns[names.one("label")] = feature_column([draw(st.none() | values) for _ in range(rows)], kind)
    order = draw(st.permutations(list(columns)))
    frame = pa.table({name: columns[name] for name in order})
    if rows and draw(st.booleans()):
        at = draw(st.integers(0, rows))
        frame = pa.concat_tables([frame.slice(0, at), frame.slice(at)])
    has_many = sum(pa.types.is_timestamp(column.type) for column in frame.columns) > 1
    must_name = as_of != "event_timestamp" and (has_many or "event_timestamp" in frame.column_names)
    return frame, as_of, must_name or draw(st.booleans()), known_at, ([nanos for _, nanos in asked_at], known_ats, keys)


@st.composite
def _views(draw, name, at, source, kinds, ttls, names):
    keys = {}
    for column, kind in source.keys.items():
        free = [name for name, of in kinds.items() if of == kind and name not in keys]
        # Two columns of the source may want one of the frame: then the source cannot be joined whole, and one is left out.
        if free:
            keys[draw(st.sampled_from(free))] = column
    offered = [source.identity, *source.features, *source.partitions, *source.keys, *source.times]
    wanted = [source.identity, *draw(st.lists(st.sampled_from(offered), max_size=4))]
    # Under full names and under the source's own, where those are free.
    fields = {names.one(f"{name}__{column}", column): column for column in wanted}
    return ViewDraft(name, at, keys, fields, draw(st.sampled_from(ttls)))


@st.composite
def _histories(draw, kinds, moments, numbers, *, is_plain):
    """A source with a key column of each kind."""
    layouts = ["file", "directory", "pattern"]
    if all(KEY_KINDS[kind].in_delta for kind in kinds):
        layouts.append("delta")
    layout = "file" if is_plain else draw(st.sampled_from(layouts))
    in_delta = layout == "delta"
    feature_kinds = draw(st.lists(st.sampled_from(_IN_DELTA if in_delta else sorted(FEATURES)), max_size=3))
    wanted = len(kinds) + len(feature_kinds) + 3
    if is_plain:
        columns = [f"s{at}" for at in range(wanted)]
    elif in_delta:
        columns = draw(st.lists(PLAIN_NAMES, min_size=wanted, max_size=wanted, unique=True))
    else:
        columns = draw(st.lists(NAMES, min_size=wanted, max_size=wanted, unique=True))
    event, created, identity, *rest = columns
    keys, features = dict(zip(rest, kinds, strict=False)), rest[len(kinds) :]
    if not draw(st.booleans()) and not is_plain:
        created = None
    partitions = draw(_partitions(columns)) if layout in ("directory", "pattern") else {}
    key_types = [
        draw(st.sampled_from([pa.int64()] if in_delta and kind == "whole" else KEY_KINDS[kind].source_types))
        for kind in kinds
    ]
    time_types = [pa.timestamp("us", "UTC")] if in_delta or is_plain else TIME_TYPES
    one_type = draw(st.sampled_from(time_types))
    store_schema = draw(st.booleans())
    files = []
    is_one_file = is_plain or draw(st.booleans())
    for at in range(1 if is_one_file else draw(st.integers(1, 4))):
        rows = draw(st.integers(0, 6))
        event_type, created_type = (draw(st.sampled_from([one_type, *time_types])) for _ in range(2))
        if in_delta:
            event_type = created_type = one_type
        values = {
            name: [draw(st.sampled_from(KEY_KINDS[kind].source_values)) for _ in range(rows)]
            for name, kind in keys.items()
        }
        happened = [stored(draw(moments.events()), event_type) for _ in range(rows)]
        known = [stored(draw(moments.after()) if created else None, created_type) for _ in range(rows)]
        content = {
            event: times([number for number, _ in happened], event_type),
            identity: pa.array([next(numbers) for _ in range(rows)], pa.int64()),
            **{name: key_column(values[name], kind) for name, kind in zip(keys, key_types, strict=True)},
        }
        if created:
            content[created] = times([number for number, _ in known], created_type)
        for name, kind in zip(features, feature_kinds, strict=True):
            type_, of = FEATURES[kind]
            content[name] = feature_column([draw(st.none() | of) for _ in range(rows)], type_)
        order = draw(st.permutations(list(content)))
        files.append(
            FileDraft(
                path=_path(draw, layout, at, partitions),
                table=pa.table({name: content[name] for name in order}),
                rows=[
                    SourceRow(tuple(values[name][row] for name in keys), happened[row][1], known[row][1])
                    for row in range(rows)
                ],
                options=draw(
                    st.fixed_dictionaries(
                        {
                            "row_group_size": st.integers(1, 4),
                            "write_statistics": st.booleans(),
                            "use_dictionary": st.booleans(),
                            "data_page_version": st.sampled_from(["1.0", "2.0"]),
                            "store_schema": st.just(store_schema),
                        }
                    )
                ),
            )
        )
    identities = [number for file in files for number in file.table[identity].to_pylist()]
    deletes = draw(st.lists(st.sampled_from(identities), unique=True, max_size=4)) if in_delta and identities else []
    by_vector = in_delta and len(files) == 1 and draw(st.booleans())
    if by_vector:
        deletes = deletes[: len(deletes) // 2 * 2]
    alike = [name for name in (event, created) if name and len({file.table[name].type for file in files}) == 1]
    return HistoryDraft(
        layout, files, event, created, identity, keys, features, alike, list(partitions), deletes, by_vector
    )


@st.composite
def _partitions(draw, columns):
    """Columns that folders name, with what the folders may say: whole numbers, dates or text."""
    chosen = draw(
        st.lists(
            st.sampled_from(
                [("n", ["0", "7", "-3"]), ("day", ["2025-01-01", "1969-12-31"]), ("t", ["a", "é", "07", "a%20b"])]
            ),
            max_size=2,
            unique_by=lambda pair: pair[0],
        )
    )
    lowered = {column.lower() for column in columns}
    return {name: [*texts, "__HIVE_DEFAULT_PARTITION__"] for name, texts in chosen if name not in lowered}


def _path(draw, layout, at, partitions):
    """Where the file of a number lies; no two alike, and not in the order of their numbers."""
    name = f"{draw(st.sampled_from('abAé z'))}{at}.parquet"
    if layout in ("file", "delta"):
        return (name,)
    folders = [f"{name}={draw(st.sampled_from(texts))}" for name, texts in partitions.items()]
    if not folders and draw(st.booleans()):
        folders = [draw(st.sampled_from(["a", "b", "a b", "a.b", "é", "a'b"]))]
    return (*folders, name)
