"""Entity frames in every form: the same rows in the same order, columns untouched, and what is said of those that cannot be read."""

import datetime as dt
import decimal
import os
import subprocess
import sys
from pathlib import Path

import deltalake
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.errors import InvalidArgument, SourceError, StoreUnavailable
from hindcast.offline.frames.frame import as_of_micros, entity_frame, frame_micros
from hindcast.offline.frames.held import SPOOL_ROWS

UTC_MICROS = pa.timestamp("us", tz="UTC")
NAIVE = dt.datetime.fromisoformat("1970-01-01T00:00:01")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ROWS = pa.table(
    {
        "key": pa.array([3, 1, 2, 1], pa.int64()),
        "event_timestamp": pa.array([30, 10, None, 10], UTC_MICROS),
        "label": pa.array(["c", None, "b", "a"], pa.string()),
    }
)


class Stream:
    """Nothing but an Arrow stream, which can be had once."""

    def __init__(self, table):
        self.reader = table.to_reader(max_chunksize=3)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.reader.__arrow_c_stream__(requested_schema)


def parquet_file(root):
    """The rows in a file of small row groups."""
    pq.write_table(ROWS, root / "rows.parquet", row_group_size=3)
    return root / "rows.parquet"


def parquet_folder(root):
    """The rows in two files of a directory."""
    (root / "rows").mkdir()
    pq.write_table(ROWS.slice(0, 1), root / "rows" / "1.parquet")
    pq.write_table(ROWS.slice(1), root / "rows" / "2.parquet")
    return root / "rows"


FORMS = {
    "pandas": lambda root: ROWS.to_pandas().set_axis([7, 7, 0, 1]),
    "pandas of Arrow": lambda root: ROWS.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda root: pl.from_arrow(ROWS),
    "lazy polars": lambda root: pl.from_arrow(ROWS).lazy(),
    "table": lambda root: pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)]),
    "batch": lambda root: ROWS.to_batches()[0],
    "reader": lambda root: ROWS.to_reader(max_chunksize=1),
    "stream": lambda root: Stream(ROWS),
    "dataset": lambda root: ds.dataset(parquet_folder(root)),
    "dataset in memory": lambda root: ds.dataset(ROWS.to_reader()),
    "relation": lambda root: duckdb.from_arrow(ROWS),
    "file": parquet_file,
    "file as text": lambda root: str(parquet_file(root)),
    "folder": parquet_folder,
    "folder as text": lambda root: str(parquet_folder(root)),
    "pattern": lambda root: f"{parquet_folder(root)}/*.parquet",
    "sql": lambda root: f"FROM '{parquet_file(root)}'",
}


def framed(given, root, **options):
    """The frame's table, its as_of column, and the times in it (None: null); read twice, and nothing is left on the disk."""
    with entity_frame(given, spill_dir=root / "spill", repo_root=root, **options) as frame:
        batches = list(frame.batches(3))
        assert [3] * (frame.rows // 3) + ([frame.rows % 3] if frame.rows % 3 else []) == [b.num_rows for b in batches]
        table = pa.Table.from_batches(batches, frame.schema)
        columns = frame.columns(table.column_names)
        assert (table.schema, repr(table.to_pydict())) == (columns.schema, repr(columns.to_pydict()))
        assert frame.rows == table.num_rows
        micros, valid = as_of_micros(frame)
        name = frame.as_of
    assert [] == list((root / "spill").iterdir())
    assert np.int64 == micros.dtype
    there = [True] * len(micros) if valid is None else valid.tolist()
    return table, name, [at if is_there else None for at, is_there in zip(micros.tolist(), there, strict=True)]


def times_of(given, root, **options):
    """The times of a frame."""
    return framed(given, root, **options)[2]


def refused(given, root, error=InvalidArgument, **options):
    """What is said of what is no entity frame."""
    with (
        pytest.raises(error) as caught,
        entity_frame(given, spill_dir=root / "spill", repo_root=root, **options) as frame,
    ):
        as_of_micros(frame)
    assert [] == list((root / "spill").iterdir())
    return str(caught.value).replace(str(root), "")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_callers_rows_in_the_callers_order(form, tmp_path):
    """The same rows come out of every form, in their order, repeats and nulls kept."""
    table, name, times = framed(FORMS[form](tmp_path), tmp_path)

    assert ROWS.to_pydict() == table.to_pydict()
    assert "event_timestamp" == name
    assert [30, 10, None, 10] == times


EMPTY = {
    "pandas": lambda root: ROWS.slice(0, 0).to_pandas(),
    "pandas of objects": lambda root: pd.DataFrame({"key": [], "event_timestamp": []}, dtype=object),
    "polars": lambda root: pl.from_arrow(ROWS.slice(0, 0)),
    "table": lambda root: ROWS.slice(0, 0),
    "batch": lambda root: ROWS.to_batches()[0].slice(0, 0),
    "reader": lambda root: pa.RecordBatchReader.from_batches(ROWS.schema, []),
    "stream": lambda root: Stream(ROWS.slice(0, 0)),
    "sql": lambda root: f"FROM '{parquet_file(root)}' WHERE key > 5",
    "file": lambda root: pq.write_table(ROWS.slice(0, 0), root / "none.parquet") or "none.parquet",
}


@pytest.mark.parametrize("form", EMPTY)
def test_no_rows_are_a_frame(form, tmp_path):
    """A frame without rows is one, whatever its form."""
    table, name, times = framed(EMPTY[form](tmp_path), tmp_path)

    assert (0, "event_timestamp", []) == (table.num_rows, name, times)


COLUMNS = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([-1, None, 127], pa.int8()),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float": pa.array([float("nan"), None, -0.0], pa.float64()),
    "half": pa.array([1.5, None, 2.5], pa.float16()),
    "decimal": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-9.99")], pa.decimal128(38, 2)),
    "text": pa.array(["", None, "\u00e9\U0001f600"]),
    "large text": pa.array(["a", None, "b"], pa.large_string()),
    "bytes": pa.array([b"\xff", None, b""]),
    "fixed bytes": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "date": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
    "nanoseconds": pa.array([1, None, -1], pa.timestamp("ns")),
    "zoned": pa.array([1, None, -1], pa.timestamp("ms", tz="Asia/Kathmandu")),
    "time of day": pa.array([1, None, 2], pa.time64("ns")),
    "duration": pa.array([1, None, 2], pa.duration("us")),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
    "nested": pa.array([[{"a": [1.5]}], None, [None]], pa.list_(pa.struct([("a", pa.list_(pa.float64()))]))),
    "fixed list": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2)),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "categories": pa.array(["x", None, "x"]).dictionary_encode(),
    "nothing": pa.nulls(3),
    "uuid": pa.array([b"0123456789abcdef", None, b"fedcba9876543210"], pa.uuid()),
    "month interval": pa.array([(1, 2, 3), None, (0, 0, 0)], pa.month_day_nano_interval()),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("form", ["table", "reader", "stream", "file"])
def test_a_column_of_arrow_is_carried_through_in_type_and_value(form, kind, tmp_path):
    """A column comes out of memory, of the spool and of Parquet in its type, its nulls apart from its NaNs."""
    given = pa.table({"event_timestamp": pa.array([1, 2, 3], UTC_MICROS), "x": COLUMNS[kind]})
    forms = {
        "table": lambda: given,
        "reader": lambda: given.to_reader(max_chunksize=1),
        "stream": lambda: Stream(given),
    }
    if form == "file" and kind != "month interval":  # no type of Parquet's
        pq.write_table(given, tmp_path / "x.parquet")
        forms["file"] = lambda: tmp_path / "x.parquet"
    table, _, _ = framed(forms.get(form, forms["table"])(), tmp_path)

    assert COLUMNS[kind].type == table.schema.field("x").type
    assert repr(COLUMNS[kind].to_pylist()) == repr(table["x"].to_pylist())


VIEWS = {
    "text": (pa.string_view(), ["a" * 20, None, "b"], pa.large_string()),
    "bytes": (pa.binary_view(), [b"a" * 20, None, b"b"], pa.large_binary()),
    "lists": (pa.list_view(pa.string_view()), [["a"], None, []], pa.list_(pa.large_string())),
    "large lists": (pa.large_list_view(pa.int64()), [[1, 2], None, [3]], pa.large_list(pa.int64())),
    "text in lists": (pa.list_(pa.string_view()), [["a"], None, []], pa.list_(pa.large_string())),
    "text in structs": (
        pa.struct([("a", pa.string_view())]),
        [{"a": "b"}, None, {"a": None}],
        pa.struct([("a", pa.large_string())]),
    ),
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("is_spooled", [True, False])
def test_views_become_plain_columns(is_spooled, kind, tmp_path):
    """Views of text, bytes and lists, a slice of them too, come as the same values in a layout that rows can be taken of."""
    viewed, values, plain = VIEWS[kind]
    given = pa.table(
        {"event_timestamp": pa.array([0, 1, 2, 3], UTC_MICROS), "x": pa.array([None, *values], viewed)}
    ).slice(1)
    table, _, _ = framed(given.to_reader(max_chunksize=2) if is_spooled else given, tmp_path)

    assert plain == table.schema.field("x").type
    assert values[::-1] == table.take([2, 1, 0])["x"].to_pylist()


def test_run_ends_become_plain_columns(tmp_path):
    """A run-end encoded column comes with a value for each row."""
    given = pa.table({"event_timestamp": pa.array([1, 2, 3], UTC_MICROS), "x": pc.run_end_encode(pa.array([5, 5, 6]))})

    assert [5, 5, 6] == framed(given, tmp_path)[0]["x"].to_pylist()
    assert [5, 5, 6] == framed(given.to_reader(max_chunksize=2), tmp_path)[0]["x"].to_pylist()


def test_a_stream_whose_dictionaries_change_is_one_frame(tmp_path):
    """Batches whose categories are coded differently are put together by value."""
    schema = pa.schema([("event_timestamp", UTC_MICROS), ("x", pa.dictionary(pa.int8(), pa.string()))])
    batches = [
        pa.record_batch(
            [pa.array([1, 2], UTC_MICROS), pa.array(pair).dictionary_encode().cast(schema.field("x").type)],
            schema=schema,
        )
        for pair in (["a", "b"], ["c", "a"])
    ]

    assert ["a", "b", "c", "a"] == framed(pa.RecordBatchReader.from_batches(schema, batches), tmp_path)[0][
        "x"
    ].to_pylist()


def test_dictionaries_too_large_for_one_stay_apart(tmp_path):
    """Batches that Arrow cannot put together come one by one, with the values that they had."""
    schema = pa.schema([("event_timestamp", UTC_MICROS), ("x", pa.dictionary(pa.int8(), pa.string()))])
    texts = [[str(number) for number in range(first, first + 100)] for first in (0, 100)]
    batches = [
        pa.record_batch(
            [pa.array(range(100), UTC_MICROS), pa.array(some).dictionary_encode().cast(schema.field("x").type)],
            schema=schema,
        )
        for some in texts
    ]
    with entity_frame(
        pa.RecordBatchReader.from_batches(schema, batches), spill_dir=tmp_path / "spill", repo_root=tmp_path
    ) as frame:
        read = [batch["x"].to_pylist() for batch in frame.batches(150)]

    assert texts[0] + texts[1] == [text for some in read for text in some]


PANDAS = {
    "int": [1, 2, 3],
    "nullable int": pd.array([2**62 + 1, None, 3], dtype="Int64"),
    "nullable float": pd.array([0.0, 1.0, None], dtype="Float64") / pd.array([0.0, 1.0, 1.0], dtype="Float64"),
    "nullable bool": pd.array([True, None, False], dtype="boolean"),
    "text": pd.array(["a", None, "b"], dtype="string"),
    "objects": pd.Series(["a", None, "b"], dtype=object),
    "floats with NaN": [1.0, float("nan"), 2.0],
    "categories": pd.Categorical(["b", None, "a"], categories=["b", "a"], ordered=True),
    "decimals": pd.Series([decimal.Decimal("1.1"), None, decimal.Decimal("2.2")], dtype=object),
    "zoned": pd.to_datetime(["2020-01-01", None, "2021-01-01"]).tz_localize("Europe/Berlin"),
    "nanoseconds": pd.to_datetime([1, 2, 3], unit="ns"),
    "durations": pd.to_timedelta([1, None, 3], unit="s"),
    "periods": pd.period_range("2020", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "of Arrow": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "dates": pd.Series([dt.date(2020, 1, 1), None, dt.date(1, 1, 1)], dtype=object),
}


@pytest.mark.parametrize("kind", PANDAS)
def test_a_column_of_pandas_comes_back_as_it_was(kind, tmp_path):
    """A column of each of pandas' types, in a frame whose index repeats itself, is the same column when pandas has it again."""
    given = pd.DataFrame({"event_timestamp": pd.to_datetime([1, 2, 3], unit="us"), "x": PANDAS[kind]})
    given.index = [5, 5, 5]

    table, _, times = framed(given, tmp_path)

    assert [1, 2, 3] == times
    types = {pa.list_(pa.int64()): pd.ArrowDtype(pa.list_(pa.int64()))}
    again = table.to_pandas(types_mapper=types.get)
    pd.testing.assert_frame_equal(given.reset_index(drop=True), again)


def test_a_nan_of_numpy_is_a_null_and_one_of_float64_is_not(tmp_path):
    """NumPy's floats have their nulls as NaN, and pandas' own have both."""
    given = pd.DataFrame(
        {
            "event_timestamp": pd.to_datetime([1, 2, 3], unit="us"),
            "numpy": [1.0, float("nan"), 2.0],
            "own": PANDAS["nullable float"],
        }
    )
    table, _, _ = framed(given, tmp_path)

    assert [1.0, None, 2.0] == table["numpy"].to_pylist()
    assert [True, False, None] == pc.is_nan(table["own"]).to_pylist()


def test_columns_of_polars_come_back_as_they_were(tmp_path):
    """Polars has the same frame again, categories, decimals, lists and structs too."""
    given = pl.DataFrame(
        {
            "event_timestamp": [NAIVE, None],
            "text": ["a" * 20, None],
            "categories": pl.Series(["a", None], dtype=pl.Categorical),
            "enum": pl.Series(["a", None], dtype=pl.Enum(["b", "a"])),
            "decimal": pl.Series([decimal.Decimal("1.10"), None], dtype=pl.Decimal(10, 2)),
            "float": [float("nan"), None],
            "list": [["a"], None],
            "struct": [{"a": 1}, None],
            "binary": [b"\xff", None],
            "duration": [dt.timedelta(1), None],
        }
    )

    for form in (given, given.lazy()):
        assert given.equals(pl.from_arrow(framed(form, tmp_path)[0]), null_equal=True)


@pytest.mark.parametrize("name", ['say "hi"', "it's", "\u00e9\U0001f600", " ", "select", "a.b", "x_y", "\n"])
@pytest.mark.parametrize("form", ["table", "reader", "file", "pandas", "sql"])
def test_any_name_of_a_column_stays(form, name, tmp_path):
    """Names with quotes, spaces and other letters are kept as they are."""
    given = pa.table({name: [1], "event_timestamp": pa.array([1], UTC_MICROS)})
    pq.write_table(given, tmp_path / "x.parquet")
    forms = {
        "table": given,
        "reader": given.to_reader(),
        "file": "x.parquet",
        "pandas": given.to_pandas(),
        "sql": "FROM 'x.parquet'",
    }

    assert [name, "event_timestamp"] == framed(forms[form], tmp_path)[0].column_names


# The time of each row.

TIMES = {
    "seconds": (pa.array([-1, 1], pa.timestamp("s")), [-1_000_000, 1_000_000]),
    "milliseconds": (pa.array([-1, 1], pa.timestamp("ms", tz="America/New_York")), [-1_000, 1_000]),
    "microseconds": (pa.array([-1, None], pa.timestamp("us")), [-1, None]),
    "nanoseconds, cut down": (pa.array([-1, 1_999], pa.timestamp("ns", tz="UTC")), [-1, 1]),
    "dates": (pa.array([-1, 1], pa.date32()), [-86_400_000_000, 86_400_000_000]),
    "dates of 64 bits": (pa.array([-86_400_000, None], pa.date64()), [-86_400_000_000, None]),
    "text": (pa.array(["1970-01-01T00:00:01", "1970-01-01 00:00:00.000002"]), [1_000_000, 2]),
    "text with zones": (pa.array(["1970-01-01T02:00:01+02:00", None, "1970-01-01T00:00Z"]), [1_000_000, None, 0]),
    "text of all kinds": (
        pa.array(["1970-01-01T02:00:01+02:00", "1970-01-02", "1969-12-31T23:59:59.9999999Z", None, "19700101T000001"]),
        [1_000_000, 86_400_000_000, -1, None, 1_000_000],
    ),
    "large text": (pa.array(["1970-01-01T00:00:01"], pa.large_string()), [1_000_000]),
    "text in views": (pa.array(["1970-01-01T00:00:01"], pa.string_view()), [1_000_000]),
    "categories": (pa.array(["1970-01-02", None, "1970-01-02"]).dictionary_encode(), [86_400_000_000, None, 86_400_000_000]),
    "nothing": (pa.nulls(2), [None, None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_kind_are_microseconds_rounded_down(kind, tmp_path):
    """Timestamps, dates and ISO 8601 text are instants, naive ones in UTC, digits after the sixth cut off, and the column stays as it is."""
    column, micros = TIMES[kind]
    given = pa.table({"event_timestamp": column})
    chunked = pa.concat_tables([given.slice(0, 1), given.slice(1)])

    for form in (given, chunked, given.to_reader(max_chunksize=1)):
        table, _, times = framed(form, tmp_path)
        assert micros == times
        assert column.to_pylist() == table["event_timestamp"].to_pylist()


AWARE = dt.datetime(1970, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))
OBJECTS = {
    "zones": ([AWARE, dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)], [0, 1_000_000]),
    "naive and aware": ([AWARE, NAIVE, None], [0, 1_000_000, None]),
    "naive first": ([NAIVE, AWARE], [1_000_000, 0]),
    "pandas' own": ([pd.Timestamp(1_001), pd.Timestamp("1970-01-01", tz="Europe/Berlin"), pd.NaT], [1, -3_600_000_000, None]),
    "text and times": (["1970-01-01T00:00:01.0000019Z", AWARE, pd.Timestamp(-1), None], [1_000_001, 0, -1, None]),
    "dates and times": ([dt.date(1970, 1, 2), NAIVE, pd.NaT], [86_400_000_000, 1_000_000, None]),
    "dates": ([dt.date(1970, 1, 2), None], [86_400_000_000, None]),
    "text": (["1970-01-02", float("nan")], [86_400_000_000, None]),
    "nothing": ([None, pd.NaT], [None, None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_of_pandas_are_times(kind, tmp_path):
    """A pandas column of text, times and dates in any mixture is read value by value."""
    values, micros = OBJECTS[kind]

    assert micros == times_of(pd.DataFrame({"event_timestamp": pd.Series(values, dtype=object), "k": 1}), tmp_path)


@settings(deadline=None)
@given(
    st.lists(st.datetimes(timezones=st.none() | st.timezones() | st.just(dt.UTC)), max_size=5), st.sampled_from("T ")
)
def test_written_times_are_the_instants_that_python_reads(tmp_path_factory, moments, separator):
    """Text of any time with or without a zone is what `datetime.fromisoformat` makes of it."""
    texts = [moment.isoformat(sep=separator) for moment in moments]
    read = [dt.datetime.fromisoformat(text) for text in texts]
    instants = [time if time.tzinfo else time.replace(tzinfo=dt.UTC) for time in read]

    table = pa.table({"event_timestamp": pa.array(texts, pa.string())})

    assert [(time - EPOCH) // dt.timedelta(microseconds=1) for time in instants] == times_of(
        table, tmp_path_factory.mktemp("t")
    )


def test_the_only_timestamp_column_has_the_times(tmp_path):
    """Where no column is `event_timestamp` the only timestamp is taken, dates and text are not, and a name that is given goes before all."""
    day = pa.array([1], pa.date32())
    given = pa.table({"day": day, "text": ["2020-01-01"], "at": pa.array([5], UTC_MICROS)})

    assert "at" == framed(given, tmp_path)[1]
    assert ("day", [86_400_000_000]) == framed(given, tmp_path, as_of="day")[1:]
    assert "text" == framed(given.append_column("event_timestamp", given["at"]), tmp_path, as_of="text")[1]
    assert "event_timestamp" == framed(given.append_column("event_timestamp", given["at"]), tmp_path)[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"k": [1]}, "entity_df: has no column 'event_timestamp', and no timestamp column; name"),
        (
            {"a": pa.array([1], UTC_MICROS), "b": pa.array([1], UTC_MICROS)},
            "entity_df: has no column 'event_timestamp', and the timestamp columns 'a', 'b'; name",
        ),
        ({"event_timestamp": [1]}, "entity_df: has times in the column 'event_timestamp', but it is int64; make it"),
        ({"event_timestamp": pa.array([1], pa.duration("s"))}, "but it is duration[s]; make it"),
        ({"event_timestamp": pa.array([1], pa.time32("s"))}, "but it is time32[s]; make it"),
        ({"event_timestamp": ["2020-01-01", "soon" * 40]}, "entity_df: has 'soon"),
        (
            {"event_timestamp": ["2020-01-01", None, ""]},
            "entity_df: has '' in column 'event_timestamp', row 2, which is no time",
        ),
        ({"event_timestamp": ["2020-01-01T24:30"]}, "row 0, which is no time"),
    ],
)
def test_a_frame_whose_times_are_not_clear_is_refused(columns, message, tmp_path):
    """It is said which column has no times, or that one is to be named."""
    assert message in refused(pa.table(columns), tmp_path)


def test_a_text_that_is_no_time_is_named_by_its_row(tmp_path):
    """The row is counted through all chunks, and no more of the text is shown than there is room for."""
    given = pa.table({"event_timestamp": pa.chunked_array([["2020-01-01"] * 3, ["2020-01-01", "x" * 100]])})
    objects = pd.DataFrame({"event_timestamp": pd.Series([NAIVE, "x" * 100], dtype=object)})

    assert f"has {'x' * 60!r} in column 'event_timestamp', row 4, which is no time" in refused(given, tmp_path)
    assert f"has {'x' * 60!r} in column 'event_timestamp', row 1, which is no time" in refused(objects, tmp_path)


def test_an_unknown_column_for_the_times_is_refused(tmp_path):
    """A name that the frame does not have is said with those that it has."""
    assert "has no column 'at' for the times, only 'key', 'event_timestamp', 'label'" in refused(
        ROWS, tmp_path, as_of="at"
    )


def test_times_can_be_had_of_any_column_that_has_some(tmp_path):
    """Another column gives its times by the same rules, and one without times, or that is not there, is refused."""
    given = pa.table({"event_timestamp": pa.array([1], UTC_MICROS), "known": ["1970-01-02"], "k": [1]})
    with entity_frame(given, spill_dir=tmp_path / "spill", repo_root=tmp_path) as frame:
        assert [86_400_000_000] == frame_micros(frame, "known")[0].tolist()
        with pytest.raises(InvalidArgument, match="has times in the column 'k', but it is int64"):
            frame_micros(frame, "k")
        with pytest.raises(InvalidArgument, match="has no column 'no' for the times"):
            frame_micros(frame, "no")


# What is refused.


@pytest.mark.parametrize("given", [None, 5, [], {"a": [1]}, pd.Series([1])])
def test_what_is_no_frame_is_refused(given, tmp_path):
    """Other objects are refused with all forms that there are."""
    said = refused(given, tmp_path)

    assert f"entity_df: is a {type(given).__name__}; give it as a pandas or Polars frame, an Arrow table" in said


@pytest.mark.parametrize("given", [ROWS["key"], pl.Series([1])])
def test_a_stream_of_no_rows_is_refused(given, tmp_path):
    """A single column has an Arrow stream too, and is no frame."""
    assert f"entity_df: is a {type(given).__name__}, and gives no Arrow stream of rows; give it as" in refused(
        given, tmp_path
    )


TWICE = pa.table([[1], [2]], names=["a", "a"])


@pytest.mark.parametrize("form", ["table", "reader", "batch", "pandas", "sql"])
def test_a_name_twice_is_refused(form, tmp_path):
    """Two columns of one name are refused in all forms."""
    pandas = pd.DataFrame([[1, 2]], columns=["a", "a"])
    forms = {
        "table": TWICE,
        "reader": TWICE.to_reader(),
        "batch": TWICE.to_batches()[0],
        "pandas": pandas,
        "sql": "SELECT 1 AS a, 2 AS a",
    }

    assert "two columns of the name 'a'; rename one" in refused(forms[form], tmp_path)


@pytest.mark.parametrize(
    "given", [pa.table({}), pd.DataFrame(index=range(3)), pl.DataFrame(), pa.table({}).to_reader()]
)
def test_a_frame_without_columns_is_refused(given, tmp_path):
    """A frame must have columns, however many rows it says it has."""
    assert "entity_df: has no columns; give it the join keys and a column 'event_timestamp'" == refused(given, tmp_path)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.Series([1, "a"], dtype=object), "object"),
        (pd.Series([dt.date(2020, 1, 1), NAIVE], dtype=object), "object"),
        ([1j, 2j], "complex128"),
        (pd.arrays.SparseArray([1, 0]), "Sparse[int64, 0]"),
        (pd.Series(["\ud800", "a"], dtype=object), "object"),
        (pd.Series([2**70, 1], dtype=object), "object"),
        (pd.Series([object(), None], dtype=object), "object"),
    ],
)
def test_a_column_of_pandas_that_arrow_has_no_type_for_is_named(column, kind, tmp_path):
    """Such a column is refused by its name, times and dates in one too, which Arrow would make dates of."""
    given = pd.DataFrame({"k": [1, 2], "event_timestamp": pd.to_datetime([1, 2]), "x": column})

    assert f"entity_df: has a column 'x' of {kind} whose values are of several kinds" in refused(given, tmp_path)


def test_names_that_are_no_text_are_refused(tmp_path):
    """A pandas column that is named by a number is refused."""
    assert "has a column that is named 1, which is no text" in refused(pd.DataFrame({"a": [1], 1: [2]}), tmp_path)


def test_a_stream_that_fails_is_said_so(tmp_path):
    """What Arrow says of a stream that breaks off is not shown; what the caller's own code raises is raised."""

    def batches(error):
        yield ROWS.to_batches()[0]
        raise error

    def reader(error):
        return pa.RecordBatchReader.from_batches(ROWS.schema, batches(error))

    assert "entity_df: could not be read to its end" in refused(reader(pa.ArrowInvalid("secret")), tmp_path)
    assert "secret" not in refused(reader(OSError("secret")), tmp_path)
    assert "mine" in refused(reader(LookupError("mine")), tmp_path, error=LookupError)


def test_a_disk_that_takes_nothing_is_said_so(tmp_path):
    """A directory for the spool that cannot be made is named."""
    (tmp_path / "spill").write_bytes(b"")

    with (
        pytest.raises(StoreUnavailable, match="cannot be used"),
        entity_frame(ROWS, spill_dir=tmp_path / "spill", repo_root=tmp_path),
    ):
        pass


# Streams.


def test_a_stream_is_read_once_and_can_be_read_again(tmp_path):
    """Rows of a stream, in batches of any size, are on the disk while the block lasts, and come in the batches asked for."""
    count = SPOOL_ROWS + 10
    given = pa.table({"event_timestamp": pa.array(range(count), UTC_MICROS), "k": pa.array(range(count))})
    reader = given.to_reader(max_chunksize=1_000)
    with entity_frame(reader, spill_dir=tmp_path / "spill", repo_root=tmp_path) as frame:
        for _ in range(2):
            sizes = [batch.num_rows for batch in frame.batches(50_000)]
            assert [50_000, count - 50_000] == sizes
        keys = frame.columns(["k"])
        assert given.select(["k"]).equals(keys)
    # What is mapped stays readable when the files are gone.
    assert count - 1 == keys["k"][-1].as_py()


def test_a_stream_larger_than_memory_is_never_held_whole(tmp_path):
    """Of 400 MB that come as a stream, no more than a few batches are in Arrow's memory at once, going in and coming out."""
    base = pa.total_allocated_bytes()
    peak = 0

    def batches():
        nonlocal peak
        for number in range(100):
            yield pa.record_batch(
                {"event_timestamp": pa.array([number] * 1_000, UTC_MICROS), "x": pa.array([os.urandom(4_000)] * 1_000)}
            )
            peak = max(peak, pa.total_allocated_bytes() - base)

    schema = pa.schema([("event_timestamp", UTC_MICROS), ("x", pa.binary())])
    with entity_frame(
        pa.RecordBatchReader.from_batches(schema, batches()), spill_dir=tmp_path / "spill", repo_root=tmp_path
    ) as frame:
        rows = 0
        for batch in frame.batches(1_000):
            rows += batch.num_rows
            peak = max(peak, pa.total_allocated_bytes() - base)

    assert 100_000 == rows
    assert peak < 80 * 2**20


# Paths.


def test_a_path_is_of_the_working_directory_first_and_then_of_the_repo(tmp_path, monkeypatch):
    """A relative path, as text or not, is looked for in the working directory, then in the repo; an absolute one is itself."""
    for place, key in (("here", 1), ("repo", 2)):
        (tmp_path / place / "sub").mkdir(parents=True)
        pq.write_table(pa.table({"k": [key], "at": pa.array([1], UTC_MICROS)}), tmp_path / place / "sub" / "x.parquet")
    monkeypatch.chdir(tmp_path / "here")

    def key(given):
        with entity_frame(given, spill_dir=tmp_path / "spill", repo_root=tmp_path / "repo") as frame:
            return frame.columns(["k"])["k"].to_pylist()

    paths = ["sub/x.parquet", Path("sub/x.parquet"), "sub", Path("sub"), "su*/*.parquet"]
    assert [[1]] * 5 == [key(path) for path in paths]
    assert [2] == key(tmp_path / "repo" / "sub")
    assert [2] == key(f"file://{tmp_path}/repo/sub/x.parquet")
    (tmp_path / "here" / "sub" / "x.parquet").unlink()
    assert [[2]] * 5 == [key(path) for path in paths]


@pytest.mark.parametrize("path", ["none.parquet", Path("none"), "no*.parquet", Path("n" * 300), "a\0.parquet"])
def test_a_path_where_nothing_is_is_refused(path, tmp_path):
    """It is said that neither the working directory nor the repo has a file there."""
    assert f"entity_df: is the path {str(path)!r}, and no Parquet file is there" in refused(path, tmp_path)


def test_a_path_elsewhere_is_refused(tmp_path):
    """An object store's path is not read."""
    assert "is the path 's3://b/x.parquet', which is not on this machine; copy it" in refused(
        "s3://b/x.parquet", tmp_path
    )


def test_only_the_columns_asked_for_are_read_from_parquet(tmp_path):
    """A damaged column is no matter as long as nobody asks for it."""
    given = pa.table(
        {"event_timestamp": pa.array([1] * 1_000, UTC_MICROS), "x": [os.urandom(16) for _ in range(1_000)]}
    )
    pq.write_table(given, tmp_path / "x.parquet", use_dictionary=False, compression="NONE")
    meta = pq.read_metadata(tmp_path / "x.parquet").row_group(0).column(1)
    with (tmp_path / "x.parquet").open("r+b") as file:
        file.seek(meta.data_page_offset)
        file.write(b"\xff" * 64)

    with entity_frame("x.parquet", spill_dir=tmp_path / "spill", repo_root=tmp_path) as frame:
        assert 1_000 == as_of_micros(frame)[0].sum()
        with pytest.raises(SourceError, match="is no whole Parquet file"):
            frame.columns(["x"])


def test_a_file_that_changes_meanwhile_is_not_read(tmp_path):
    """Rows of another file never get into a frame."""
    pq.write_table(ROWS, tmp_path / "x.parquet")
    with entity_frame("x.parquet", spill_dir=tmp_path / "spill", repo_root=tmp_path) as frame:
        pq.write_table(ROWS.slice(1), tmp_path / "x.parquet")
        with pytest.raises(SourceError, match="changed while it was read"):
            frame.columns(["key"])


def test_folders_that_name_columns_are_read(tmp_path):
    """Hive partitions are columns of a frame, and files come in the order of their paths."""
    for day in ("2026-01-02", "2026-01-01"):
        (tmp_path / "rows" / f"day={day}").mkdir(parents=True)
        pq.write_table(pa.table({"k": [int(day[-1])]}), tmp_path / "rows" / f"day={day}" / "x.parquet")
    table, name, times = framed("rows", tmp_path, as_of="day")

    assert {"k": [1, 2], "day": [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]} == table.to_pydict()
    assert ("day", 86_400_000_000) == (name, times[1] - times[0])


def test_a_delta_table_is_read_at_its_newest_version(tmp_path):
    """Files that a Delta table has removed are not read, nor are rows that it has deleted."""
    path = str(tmp_path / "rows")
    deltalake.write_deltalake(path, ROWS)
    deltalake.write_deltalake(path, ROWS.slice(1), mode="overwrite")

    assert ROWS.slice(1).to_pydict() == framed(tmp_path / "rows", tmp_path)[0].to_pydict()


def test_categories_of_files_stay_categories_where_all_have_them(tmp_path):
    """A dictionary column of two files keeps its type and the values of both; beside a plain one it is plain."""
    (tmp_path / "rows").mkdir()
    for number, text in enumerate(("a", "b")):
        coded = pa.array([text]).dictionary_encode()
        pq.write_table(
            pa.table({"event_timestamp": pa.array([1], UTC_MICROS), "x": coded}), tmp_path / f"rows/{number}.parquet"
        )
    table, _, _ = framed("rows", tmp_path)

    assert (pa.dictionary(pa.int32(), pa.string()), ["a", "b"]) == (
        table.schema.field("x").type,
        table["x"].to_pylist(),
    )

    pq.write_table(pa.table({"x": ["c"], "event_timestamp": pa.array([1], UTC_MICROS)}), tmp_path / "rows/2.parquet")
    table, _, _ = framed("rows", tmp_path)

    assert (pa.string(), ["a", "b", "c"]) == (table.schema.field("x").type, table["x"].to_pylist())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ROWS.drop_columns("label"), "have different columns: 'label' is in"),
        (ROWS.append_column("more", ROWS["key"]), "have different columns: 'more' is in"),
        (
            ROWS.set_column(0, "key", ROWS["label"]),
            "column 'key' of the entity frame is string in '/rows/2.parquet', but int64",
        ),
    ],
)
def test_files_of_different_columns_are_refused(other, message, tmp_path):
    """No column of a frame is dropped or made up, and none is of two types."""
    (tmp_path / "rows").mkdir()
    pq.write_table(ROWS, tmp_path / "rows" / "1.parquet")
    pq.write_table(other, tmp_path / "rows" / "2.parquet")

    assert message in refused("rows", tmp_path, error=SourceError)


def test_a_damaged_file_is_refused(tmp_path):
    """What is no Parquet file is named."""
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and more")

    assert "'/x.parquet' is no whole Parquet file" in refused("x.parquet", tmp_path, error=SourceError)


# SQL.


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM 'rows.parquet' ORDER BY key DESC, label DESC NULLS LAST",
        "-- labels\nWITH a AS (FROM read_parquet('rows.parquet')) SELECT * FROM a ORDER BY key DESC, label DESC NULLS LAST;",
        "SELECT * FROM '*.csv' ORDER BY ALL DESC NULLS LAST",
    ],
)
def test_sql_reads_files_of_the_repo_and_its_order_stays(text, tmp_path, monkeypatch):
    """Relative paths begin at the repo, wherever one works, and the rows come as the query orders them."""
    parquet_file(tmp_path)
    (tmp_path / "labels.csv").write_text("key,event_timestamp\n3,1970-01-01\n2,\n1,1970-01-01\n1,1970-01-01\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert [3, 2, 1, 1] == framed(text, tmp_path)[0]["key"].to_pylist()


def test_sql_keeps_millions_of_rows_in_order(tmp_path):
    """An answer of many batches is in the query's order, with several threads."""
    text = "SELECT range AS k, make_timestamp(range) AS at FROM range(300000) ORDER BY hash(range)"
    table, name, times = framed(text, tmp_path, threads=2)
    keys = duckdb.sql("SELECT range FROM range(300000) ORDER BY hash(range)").fetchnumpy()["range"]

    assert "at" == name
    assert np.array_equal(keys, table["k"].to_numpy())
    assert np.array_equal(keys, times)


def test_sql_takes_the_day_in_utc(tmp_path):
    """The session's zone is UTC, and not the machine's."""
    text = "SELECT '2026-01-01'::TIMESTAMPTZ AS event_timestamp, date_trunc('day', '2026-01-01T23:30:00Z'::TIMESTAMPTZ) AS day"
    table, _, times = framed(text, tmp_path)

    assert [1_767_225_600_000_000] == times
    assert table["event_timestamp"].to_pylist() == table["day"].to_pylist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is SQL, but not one SELECT"),
        ("SELECT 1; SELECT 2", "is SQL, but not one SELECT"),
        ("COPY (SELECT 1) TO 'out.parquet'", "is SQL, but not one SELECT"),
        ("CREATE TABLE a AS SELECT 1", "is SQL, but not one SELECT"),
        ("INSTALL httpfs", "is SQL, but not one SELECT"),
        ("labels", "is no SQL that DuckDB can parse; for a file give a path"),
        ("SELEC 1", "is no SQL that DuckDB can parse; for a file give a path"),
        ("SELECT " + "x" * 5_000 + " FROM", "is no SQL that DuckDB can parse"),
        ("SELECT * FROM ROWS", "names a table or function that is not there"),
        ("SELECT * FROM rows_in_python", "names a table or function that is not there"),
        ("SELECT b FROM (SELECT 1 AS a)", "names a column that is not there"),
        (
            "SELECT * FROM 'none.parquet'",
            "reads a file that is not there or cannot be read, or the disk is full; relative paths begin at",
        ),
        ("SELECT * FROM 's3://b/x.parquet'", "failed while it ran; run it in DuckDB by itself"),
        ("SELECT CAST('x' AS INT) AS a", "casts a value to a type that it does not fit"),
        (
            "SELECT CAST(if(range > 250000, 'x', '1') AS INT) AS a FROM range(300000)",
            "casts a value to a type that it does not fit",
        ),
        (
            "SELECT CAST(if(range > 2500000, 'x', '1') AS INT) AS a FROM range(3000000)",
            "casts a value to a type that it does not fit",
        ),
        (
            "SELECT repeat('x', 100) || range AS a FROM range(1000000) ORDER BY hash(range)",
            "needs more memory than it may have",
        ),
        ("SELECT error('secret') AS a", "failed while it ran; run it in DuckDB by itself"),
        ("SELECT ? AS a", "failed while it ran"),
        ("SELECT list(range) AS a FROM range(100000000)", "needs more memory than it may have; raise the memory limit"),
        ("SELECT 1 AS k", "has no column 'event_timestamp'"),
    ],
)
def test_sql_that_is_no_frame_is_refused(text, message, tmp_path):
    """It is said what is wrong with the text in our own words, and nothing is written."""
    rows_in_python = ROWS
    said = refused(text, tmp_path, memory_bytes=40 * 2**20)

    assert rows_in_python.num_rows == 4
    assert said.startswith("entity_df: ")
    assert message in said
    assert "secret" not in said
    assert ["spill"] == [path.name for path in tmp_path.iterdir()]


def test_a_relation_that_was_fetched_from_begins_anew(tmp_path):
    """All rows of a DuckDB relation come, in its order, wherever somebody stopped."""
    connection = duckdb.connect()
    relation = connection.sql("SELECT range AS k, make_timestamp(range) AS at FROM range(100000) ORDER BY k DESC")
    relation.fetchone()

    assert list(range(100_000))[::-1] == times_of(relation, tmp_path)


def test_a_relation_that_fails_is_said_so(tmp_path):
    """What DuckDB says of it is not shown."""
    said = refused(duckdb.connect().sql("SELECT error('secret') AS a"), tmp_path)

    assert "entity_df: could not be read to its end" in said
    assert "secret" not in said


HOLDER = """
import sys
from pathlib import Path
import pyarrow as pa
from hindcast.offline.frames.frame import entity_frame
rows = pa.table({"event_timestamp": pa.array([0], pa.timestamp("us", "UTC"))}).to_reader()
with entity_frame(rows, spill_dir=Path(sys.argv[1]), repo_root=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_set_aside_is_swept_by_the_next(tmp_path):
    """The next frame removes it, and nothing of what living processes have, this one among them, or of what is somebody else's."""
    spill = tmp_path / "spill"
    (spill / "frame-mine").mkdir(parents=True)
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([sys.executable, "-c", HOLDER, str(spill)], **options) as killed,
        subprocess.Popen([sys.executable, "-c", HOLDER, str(spill)], **options) as living,
    ):
        assert [b"held\n"] * 2 == [killed.stdout.readline(), living.stdout.readline()]
        killed.kill()
        killed.wait()
        assert 3 == len(list(spill.iterdir()))
        with entity_frame(ROWS.to_reader(), spill_dir=spill, repo_root=tmp_path) as frame:
            assert 3 == len(list(spill.iterdir()))
            with entity_frame(ROWS.to_reader(), spill_dir=spill, repo_root=tmp_path):
                assert 4 == len(list(spill.iterdir()))
            assert ROWS.column("key").to_pylist() == frame.columns(["key"]).column(0).to_pylist()
        living.stdin.close()
    assert ["frame-mine"] == [path.name for path in spill.iterdir()]
