"""The entity frame of a read between two times: every key at every time at which its source has a row."""

import datetime as dt
import decimal
import math

import deltalake
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.errors import InvalidArgument, SourceError
from hindcast.offline.connection import open_duckdb, streamed
from hindcast.offline.frames.frame import as_of_micros
from hindcast.offline.frames.spine import SpineView, spine_frame
from hindcast.offline.sources.source import find_source
from hindcast.offline.writing.parts import append_part

UTC_MICROS = pa.timestamp("us", tz="UTC")


def written(root, name, events, **columns):
    """A source with event times `at`, in row groups of three rows."""
    pq.write_table(
        pa.table({"at": pa.array(events, UTC_MICROS), **columns}), root / f"{name}.parquet", row_group_size=3
    )
    return find_source(f"{name}.parquet", "parquet", repo_root=root)


def view(source, **keys):
    """A view of a source whose frame columns are read from the columns given."""
    return SpineView(source=source, keys=keys, event_column="at")


def spine(root, *views, start=None, end=1_000, **options):
    """The frame as a table; nothing is left on the disk."""
    limits = {"memory_bytes": 64 * 2**20, "threads": 2, "spill_dir": root / "spill"} | options
    with spine_frame(views, start_micros=start, end_micros=end, **limits) as frame:
        table = pa.Table.from_batches(frame.batches(2), frame.schema)
        assert frame.columns(table.column_names).equals(table.combine_chunks())
        assert ("event_timestamp", frame.rows) == (frame.as_of, table.num_rows)
        micros, valid = as_of_micros(frame)
        assert valid is None
        assert table["event_timestamp"].cast(pa.int64()).to_pylist() == micros.tolist()
    assert [] == list((root / "spill").iterdir())
    return table


def rows(root, *views, **options):
    """The frame's rows as tuples, the time in microseconds last."""
    table = spine(root, *views, **options)
    times = table["event_timestamp"].cast(pa.int64())
    table = table.set_column(table.num_columns - 1, "event_timestamp", times)
    return [tuple(row.values()) for row in table.to_pylist()]


def test_every_key_at_each_of_its_times_is_one_row(tmp_path):
    """Rows are distinct, sorted by time and key, and those without a key or a time are left out."""
    source = written(tmp_path, "s", [5, 1, 5, None, 3, 5, 1], k=[2, 2, 1, 1, None, 2, 1])

    assert [(1, 1), (2, 1), (1, 5), (2, 5)] == rows(tmp_path, view(source, key="k"))
    assert ["key", "event_timestamp"] == spine(tmp_path, view(source, key="k")).column_names
    assert UTC_MICROS == spine(tmp_path, view(source, key="k")).schema.field("event_timestamp").type


def test_both_ends_are_closed(tmp_path):
    """A row at the start and one at the end are in, and without a start all are that are not after the end."""
    source = written(tmp_path, "s", [-5, 1, 2, 3, 4], k=[1] * 5)

    assert [(1, 1), (1, 2), (1, 3)] == rows(tmp_path, view(source, key="k"), start=1, end=3)
    assert [(1, -5), (1, 1)] == rows(tmp_path, view(source, key="k"), end=1)
    assert [] == rows(tmp_path, view(source, key="k"), start=5, end=9)
    assert [] == rows(tmp_path, view(source, key="k"), start=3, end=1)


def test_views_with_all_keys_make_the_rows_together(tmp_path):
    """The rows of several views are put together, each once, and views of fewer keys add none."""
    both = written(tmp_path, "both", [1, 2], a=[1, 1], b=["x", "y"])
    other = written(tmp_path, "other", [2, 3], a=[1, 2], b=["y", "z"])
    one = written(tmp_path, "one", [7], a=[9])
    none = written(tmp_path, "none", [8], f=[9])
    views = [view(both, k="a", m="b"), view(one, k="a"), view(other, m="b", k="a"), view(none)]

    assert [(1, "x", 1), (1, "y", 2), (2, "z", 3)] == rows(tmp_path, *views)


def test_a_view_that_is_asked_twice_is_read_once(tmp_path):
    """The same source under two names has the same rows, and under another key of its own it has others."""
    source = written(tmp_path, "s", [1], home=[1], away=[2])

    assert [(1, 1)] == rows(tmp_path, view(source, k="home"), view(source, k="home"))
    assert [(1, 1), (2, 1)] == rows(tmp_path, view(source, k="home"), view(source, k="away"))


def test_without_keys_the_times_are_the_rows(tmp_path):
    """If no view has a key, each distinct time of any of them is a row."""
    first, second = written(tmp_path, "a", [3, 1, 3]), written(tmp_path, "b", [2, 1, None])

    assert [(1,), (2,), (3,)] == rows(tmp_path, view(first), view(second))


def test_keys_that_no_view_has_together_are_refused(tmp_path):
    """Which keys belong together is in no source then, so an entity frame is asked for."""
    source = written(tmp_path, "s", [1], a=[1], b=[1])

    with pytest.raises(
        InvalidArgument, match="entity_df: is needed here: no single view has all the join keys 'a', 'b'"
    ):
        spine(tmp_path, view(source, a="a"), view(source, b="b"), view(source))


def test_a_key_with_the_name_of_the_times_is_refused(tmp_path):
    """One column cannot be both."""
    source = written(tmp_path, "s", [1], k=[1])

    with pytest.raises(InvalidArgument, match="a join key is named 'event_timestamp'"):
        spine(tmp_path, view(source, event_timestamp="k"))


def _is_nan(key):
    return isinstance(key, float) and math.isnan(key)


KEYS = {
    "int8": pa.array([-1, 0, 1], pa.int8()),
    "uint64": pa.array([0, 1, 2**64 - 1], pa.uint64()),
    "bool": pa.array([False, True, None]),
    "text by its bytes": pa.array(["B", "a", "\u00e9", "\uffff", "\U0001f600"]),
    "large text": pa.array(["", "a\0", "a\0b"], pa.large_string()),
    "bytes": pa.array([b"", b"\x7f", b"\xff\xff"]),
    "fixed bytes": pa.array([b"ab", b"cd"], pa.binary(2)),
    "date": pa.array([dt.date(1, 1, 1), dt.date(9999, 1, 1)]),
    "nanoseconds": pa.array([-1, 0, 1], pa.timestamp("ns", tz="Europe/Berlin")),
    "time of day": pa.array([1, 2], pa.time64("ns")),
    "duration": pa.array([-1, 2], pa.duration("ms")),
    "decimal": pa.array([decimal.Decimal("-1.10"), decimal.Decimal("9.99")], pa.decimal128(38, 2)),
    "float without NaN": pa.array([-1.5, 2.0, float("nan"), None]),
    "uuid": pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_type_come_in_the_sources_type_and_sorted(kind, tmp_path):
    """Text is sorted by its bytes, whatever else by its value, and no digit or byte is lost."""
    keys = KEYS[kind]
    source = written(tmp_path, "s", [1] * len(keys), k=keys.take(pa.array(range(len(keys))[::-1])))
    table = spine(tmp_path, view(source, key="k"))

    assert keys.type == table.schema.field("key").type
    assert [key for key in keys.to_pylist() if key is not None and not _is_nan(key)] == table["key"].to_pylist()


def test_categories_are_keys_by_their_values(tmp_path):
    """A dictionary column gives its values, in their type."""
    source = written(tmp_path, "s", [1, 1, 1], k=pa.array(["b", "a", "b"]).dictionary_encode())

    assert [("a", 1), ("b", 1)] == rows(tmp_path, view(source, key="k"))


def test_text_in_views_is_a_key(tmp_path):
    """A Parquet file that Arrow reads as a view of text gives text."""
    source = written(tmp_path, "s", [1, 1], k=pa.array(["b", "a"], pa.string_view()))

    assert [("a", 1), ("b", 1)] == rows(tmp_path, view(source, key="k"))


def test_whole_numbers_of_two_widths_are_one_key(tmp_path):
    """The wider type holds both, so equal numbers are one row."""
    narrow = written(tmp_path, "narrow", [1, 1], k=pa.array([1, -2], pa.int16()))
    wide = written(tmp_path, "wide", [1, 1], k=pa.array([1, 2**31], pa.uint32()))
    table = spine(tmp_path, view(narrow, key="k"), view(wide, key="k"))

    assert (pa.int64(), [-2, 1, 2**31]) == (table.schema.field("key").type, table["key"].to_pylist())


@pytest.mark.parametrize("other", [pa.array(["1"]), pa.array([1], pa.int64()), pa.array([1.0])])
def test_keys_that_do_not_compare_are_refused(other, tmp_path):
    """Text and numbers are never one key, nor are numbers that no whole-number type holds all of."""
    one = written(tmp_path, "one", [1], k=pa.array([1], pa.uint64()))
    two = written(tmp_path, "two", [1], k=other)

    with pytest.raises(SourceError, match=f"the join key 'key' is uint64 in one source and {other.type} in another"):
        spine(tmp_path, view(one, key="k"), view(two, key="k"))


def test_pushed_parts_partitions_and_deleted_rows_are_read_as_in_any_read(tmp_path):
    """The parts beside a file, a key in a folder's name, and a Delta table's own version count."""
    written(tmp_path, "s", [1], k=[1])
    append_part(pa.table({"at": pa.array([2], UTC_MICROS), "k": [2]}), tmp_path / "s.parquet", name="a")
    (tmp_path / "d" / "k=7").mkdir(parents=True)
    pq.write_table(pa.table({"at": pa.array([3], UTC_MICROS)}), tmp_path / "d" / "k=7" / "x.parquet")
    table = pa.table({"at": pa.array([4, 5], UTC_MICROS), "k": [8, 9]})
    deltalake.write_deltalake(str(tmp_path / "t"), table)
    deltalake.DeltaTable(str(tmp_path / "t")).delete("k = 8")
    sources = [
        find_source(*one, repo_root=tmp_path) for one in (("s.parquet", "parquet"), ("d", "parquet"), ("t", "delta"))
    ]

    assert [(1, 1), (2, 2), (7, 3), (9, 5)] == rows(tmp_path, *(view(source, key="k") for source in sources))


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("s"), pa.date32()])
def test_times_of_every_type_are_cut_down_to_microseconds(kind, tmp_path):
    """Finer times are rounded down, before 1970 too, and two that are one then are one row."""
    pq.write_table(pa.table({"at": pa.array([-1, -2, 0], kind), "k": [1, 1, 1]}), tmp_path / "s.parquet")
    source = find_source("s.parquet", "parquet", repo_root=tmp_path)
    micros = {
        "timestamp[ns]": [-1, 0],
        "timestamp[s]": [-2_000_000, -1_000_000, 0],
        "date32[day]": [-2 * 86_400_000_000, -86_400_000_000, 0],
    }

    assert [(1, at) for at in micros[str(kind)]] == rows(tmp_path, view(source, key="k"))


def test_names_with_quotes_and_other_letters_are_columns(tmp_path):
    """A key may be named as one likes, in the frame and in the source."""
    source = written(tmp_path, "s", [1], **{'a "b"': [1], "o'x": [2]})

    assert ['k "1"', "\u00e9 ;", "event_timestamp"] == spine(
        tmp_path, view(source, **{'k "1"': 'a "b"', "\u00e9 ;": "o'x"})
    ).column_names


def test_more_rows_than_the_memory_limit_holds_are_sorted_on_the_disk(tmp_path):
    """Of 1,200,000 rows with keys of 100 bytes none is lost or out of order under a limit of 64 MB."""
    count = 300_000
    numbers = [number * 7_919 % count for number in range(count)]
    keys = pa.array([f"{number:0100d}" for number in numbers])
    table = pa.table({"at": pa.array([number % 1_000 for number in numbers], UTC_MICROS), "k": keys})
    pq.write_table(pa.concat_tables([table] * 4), tmp_path / "s.parquet", row_group_size=50_000)
    source = find_source("s.parquet", "parquet", repo_root=tmp_path)
    options = {"memory_bytes": 64 * 2**20, "threads": 2, "spill_dir": tmp_path / "spill"}
    with spine_frame([view(source, key="k")], start_micros=None, end_micros=1_000, **options) as frame:
        found = frame.columns(["key"])["key"].to_pylist()

    assert [f"{number:0100d}" for number in sorted(range(count), key=lambda number: (number % 1_000, number))] == found


def test_a_limit_that_is_too_small_is_said_so(tmp_path):
    """Where the sort gives up, the memory limit is named, in our own words."""
    count = 300_000
    keys = pa.array([f"{number * 7_919 % count:0100d}" for number in range(count)])
    pq.write_table(pa.table({"at": pa.array([1] * count, UTC_MICROS), "k": keys}), tmp_path / "s.parquet")
    source = find_source("s.parquet", "parquet", repo_root=tmp_path)

    with pytest.raises(SourceError, match="the keys do not fit into memory; raise the memory limit"):
        spine(tmp_path, view(source, key="k"), memory_bytes=16 * 2**20)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT CAST(if(range > 2500000, 'x', '1') AS INT) FROM range(3000000)", duckdb.ConversionException),
        ("SELECT repeat('x', 100) || range AS a FROM range(1000000) ORDER BY hash(range)", duckdb.OutOfMemoryException),
        ("SELECT if(range > 2500000, error('x'), '1') FROM range(3000000)", duckdb.Error),
    ],
)
def test_what_fails_in_the_middle_of_an_answer_keeps_its_kind(text, kind, tmp_path):
    """Arrow's reader makes an OSError of each failure of DuckDB, and it is taken back."""
    with open_duckdb(memory_limit_bytes=40 * 2**20, threads=2, spill_dir=tmp_path) as connection, pytest.raises(kind):
        for _ in streamed(connection.execute(text).fetch_record_batch(8_192)):
            pass


def test_a_source_that_cannot_be_read_is_said_so(tmp_path):
    """What reading raises is raised, and not what DuckDB makes of it."""
    source = written(tmp_path, "s", [1], k=[1])
    good = written(tmp_path, "good", [1], k=[1])
    with (tmp_path / "s.parquet").open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 20)
    source = find_source("s.parquet", "parquet", repo_root=tmp_path)

    with pytest.raises(SourceError, match="is no whole Parquet file"):
        spine(tmp_path, view(good, key="k"), view(source, key="k"))


OPTIONAL_TIMES = st.none() | st.integers(-20, 20)
HISTORIES = st.lists(
    st.tuples(st.none() | st.integers(-2, 2), st.none() | st.sampled_from(["", "a", "b"]), OPTIONAL_TIMES), max_size=20
)


@settings(deadline=None, max_examples=60)
@given(HISTORIES, HISTORIES, st.none() | st.integers(-20, 20), st.integers(-20, 20))
def test_the_rows_are_those_that_a_loop_finds(tmp_path_factory, one, other, start, end):
    """Whatever two sources hold, the frame is the sorted set of their whole rows between the two times."""
    root = tmp_path_factory.mktemp("spine")
    views = []
    for name, history in (("one", one), ("other", other)):
        ints = pa.array([row[0] for row in history], pa.int64())
        texts = pa.array([row[1] for row in history], pa.string())
        views.append(view(written(root, name, [row[2] for row in history], i=ints, t=texts), a="i", b="t"))
    whole = {row for row in [*one, *other] if None not in row and row[2] <= end and (start is None or row[2] >= start)}

    assert sorted(whole, key=lambda row: (row[2], row[0], row[1])) == rows(root, *views, start=start, end=end)
