"""Statistics of columns: right where they are exact, within their bound where not, and the same however the rows come."""

import json
import math
import statistics as plain
from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.datasets.sketches import (
    COUNTERS,
    DISTINCT_KEPT,
    SAMPLE_KEPT,
    Counters,
    Distinct,
    Moments,
    Positions,
    Sample,
    hashes_of_bytes,
    ordered_sum,
)
from hindcast.datasets.statistics import QUANTILES, ColumnStatistics, Statistics


def of_table(table, *, threads=2, batch_rows=None):
    """The statistics of a table's columns."""
    taken = Statistics(table.schema, threads=threads)
    for batch in table.to_batches(max_chunksize=batch_rows):
        taken.update(batch)
    return taken.finish()


def of(values, kind=None):
    """The statistics of one column."""
    return of_table(pa.table({"c": pa.array(values, kind)}))[0]


def rows_of(count):
    """A table of many rows and types, whose floating sums depend on their order."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=count) * 10.0 ** random.integers(-8, 8, count)
    is_null = random.random(count) < 0.1
    texts = [None if null else str(n) for n, null in zip(random.integers(0, 3_000, count), is_null, strict=True)]
    return pa.table(
        {
            "f": pa.array(numbers, mask=is_null),
            "g": pa.array(np.where(random.random(count) < 0.01, math.nan, numbers)),
            "i": random.integers(-(2**62), 2**62, count),
            "t": texts,
            "e": pa.array(texts).dictionary_encode(),
            "b": random.random(count) < 0.3,
            "at": pa.array(random.integers(0, 10**15, count), pa.timestamp("us", "UTC")),
            "l": [[0] * n for n in random.integers(0, 5, count)],
        }
    )


def test_threads_and_batches_do_not_matter():
    """The statistics are the same, to the last digit, for every number of threads and size of batches."""
    table = rows_of(150_000)
    found = {
        of_table(table, threads=threads, batch_rows=size) for threads, size in product((1, 2, 4), (999, 65_536, None))
    }

    assert 1 == len(found)


def test_layouts_do_not_matter():
    """Dictionaries, views and large offsets have the statistics of the plain column, also from one batch to the next."""
    plain_text = pa.array(["a", None, "bb", "a"])
    kinds = [plain_text, plain_text.cast(pa.large_string()), pa.array(["a", None, "bb", "a"], pa.string_view())]
    encoded = plain_text.dictionary_encode()
    found = {
        of_table(pa.table({"c": array}))[0]
        for array in [*kinds, encoded, pa.concat_arrays([encoded, encoded]).slice(4)]
    }
    mixed_up = Statistics(pa.schema([("c", encoded.type)]))
    for array in (encoded.slice(0, 2), pa.array(["bb"]), pa.array(["a"], pa.large_string())):
        mixed_up.update(pa.record_batch([array], ["c"]))

    assert {mixed_up.finish()[0]} == found


@pytest.mark.parametrize(
    "kind", [pa.int16(), pa.int32(), pa.float64(), pa.timestamp("us"), pa.decimal128(21, 2)], ids=str
)
def test_buffers_end_where_they_like(kind):
    """A column whose buffer goes on for a part of a value is the same column."""
    plain = pa.array([None, 3, 3, 5, None], pa.int64()).cast(kind)
    bits, data = plain.buffers()
    longer = pa.Array.from_buffers(kind, 5, [bits, pa.py_buffer(data.to_pybytes() + b"x")])
    assert of_table(pa.table({"c": plain})) == of_table(pa.table({"c": longer}))


def test_statistics_go_through_json():
    """Statistics are whole numbers, bools, text and lists, and come back from JSON as they were; there is no float among them."""
    found = of_table(rows_of(2_000))

    def refuse(text):
        raise AssertionError(text)

    for one in found:
        text = json.dumps(one.to_json())
        assert one == ColumnStatistics.from_json(json.loads(text, parse_float=refuse, parse_constant=refuse))


def test_numbers_are_summed_up():
    """Integers have their ends, mean, deviation and quantiles, each the value that stands there."""
    found = of([*range(1, 101), None, None], pa.int16())

    assert (
        ColumnStatistics(
            name="c",
            kind="number",
            rows=102,
            nulls=2,
            distinct=100,
            minimum="1",
            maximum="100",
            mean="50.5",
            deviation=repr(plain.stdev(range(1, 101))),
            quantiles=tuple(zip(QUANTILES, ("1", "5", "25", "50", "75", "95", "99"), strict=True)),
        )
        == found
    )


def test_numbers_at_the_ends_of_their_types_are_exact():
    """The greatest and least integers of 64 bits are kept to the last digit."""
    assert ("-9223372036854775808", "9223372036854775807") == (
        of([2**63 - 1, -(2**63)]).minimum,
        of([2**63 - 1, -(2**63)]).maximum,
    )
    assert "18446744073709551615" == of([2**64 - 1], pa.uint64()).maximum


def test_what_is_not_finite_is_counted_apart():
    """NaNs and infinities are counted, and the rest is summed up without them."""
    found = of([1.0, math.nan, math.inf, None, -math.inf, 3.0])

    assert (3, "1.0", "3.0", "2.0") == (found.not_finite, found.minimum, found.maximum, found.mean)
    assert ColumnStatistics(name="c", kind="number", rows=1, nulls=0, not_finite=1, distinct=1) == of([math.nan])


def test_sums_beyond_a_double_have_no_mean():
    """A column whose sum or squares a double does not hold has ends and quantiles, and no deviation."""
    found = of([1e308, 1e308, -1e308])

    assert ("-1e+308", "1e+308", None) == (found.minimum, found.maximum, found.deviation)


def test_a_single_precision_number_is_its_own_shortest_text():
    """A float of 32 bits is shown as 0.1 where that reads as it."""
    assert "0.1" == of([0.1], pa.float32()).minimum


def test_instants_are_instants():
    """Timestamps and dates are in ISO 8601, with Z where they have a zone, at any unit and outside of Python's years."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    found = of([at, at.replace(hour=13)], pa.timestamp("ms", "Europe/Berlin"))

    assert ("instant", "2026-03-01T12:00:00.000Z", "2026-03-01T13:00:00.000Z", None) == (
        found.kind,
        found.minimum,
        found.maximum,
        found.mean,
    )
    assert "2026-03-01T12:00:00.000000001" == of([1772366400000000001], pa.timestamp("ns")).minimum
    assert ("2026-03-01", "2026-03-01") == (of([date(2026, 3, 1)]).minimum, of([date(2026, 3, 1)], pa.date64()).minimum)
    assert "20000-01-01T00:00:00" == of([568971820800], pa.timestamp("s")).minimum


def test_times_of_day_and_durations_are_numbers():
    """A time of day or a duration is summed up in its own unit."""
    assert ("number", "3600000000") == (of([time(1)]).kind, of([time(1)]).minimum)
    assert "-5.0" == of([-5], pa.duration("s")).mean


def test_decimals_are_exact_at_the_ends():
    """The least and greatest decimals are shown digit by digit, and without an exponent."""
    found = of([Decimal("-1.50"), Decimal("12345678901234567890.25"), None], pa.decimal128(38, 2))

    assert ("number", "-1.50", "12345678901234567890.25", 2) == (
        found.kind,
        found.minimum,
        found.maximum,
        found.distinct,
    )


def test_text_has_its_most_frequent_values_and_lengths():
    """Text has its ten most frequent values, the smaller first of equally frequent ones, and the lengths of its values in bytes."""
    found = of(["b", "a", "ä", "a", None, "b", "x" * 300, ""])

    assert (("a", 2), ("b", 2), ("", 1), ("ä", 1)) == found.top
    assert ("text", 5, "0", "300", 0) == (found.kind, found.distinct, found.minimum, found.maximum, found.top_error)


def test_bytes_have_no_shown_values():
    """Bytes, of any or of one length, are counted and measured, and not shown."""
    for kind in (pa.binary(), pa.binary(2)):
        found = of([b"ab", b"ab", b"cd"], kind)
        assert ("bytes", 2, "2", ()) == (found.kind, found.distinct, found.maximum, found.top)


def test_bools_are_counted():
    """Bools have the counts of both."""
    found = of([True, False, None, False])

    assert ("bool", 2, (("false", 2), ("true", 1)), 1) == (found.kind, found.distinct, found.top, found.nulls)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int8()),
        pa.large_list(pa.int8()),
        pa.list_view(pa.int8()),
        pa.large_list_view(pa.int8()),
    ],
    ids=str,
)
def test_lists_have_lengths(kind):
    """Lists are summed up by their lengths."""
    found = of([[1], [], None, [1, None, 3]], kind)

    assert ("list", "0", "3", None) == (found.kind, found.minimum, found.maximum, found.distinct)


def test_maps_and_lists_of_one_length_have_lengths():
    """Maps are lists of entries, and lists of a fixed size have one length."""
    maps = of([[("a", 1), ("b", 2)], [], None], pa.map_(pa.string(), pa.int8()))
    pairs = of([[1, 2], None], pa.list_(pa.int8(), 2))

    assert ("list", 1, "0", "2") == (maps.kind, maps.nulls, maps.minimum, maps.maximum)
    assert ("list", 1, "2", "2") == (pairs.kind, pairs.nulls, pairs.minimum, pairs.maximum)


def test_inner_types_that_arrow_does_not_select_are_summed_up():
    """Lists and structs of views, with nulls, in several batches, have their statistics."""
    views = pa.array(["a", None, "b"], pa.string_view())
    lists = pa.ListViewArray.from_arrays(pa.array([0, None, 1], pa.int32()), pa.array([1, 0, 2], pa.int32()), views)
    table = pa.table({"l": lists, "s": pa.StructArray.from_arrays([views], ["v"], mask=pa.array([False, True, False]))})
    found = of_table(table, batch_rows=1)

    assert ("list", 3, 1, "1", "2") == (
        found[0].kind,
        found[0].rows,
        found[0].nulls,
        found[0].minimum,
        found[0].maximum,
    )
    assert ColumnStatistics(name="s", kind="other", rows=3, nulls=1) == found[1]


@pytest.mark.parametrize("kind", [pa.null(), pa.struct([pa.field("a", pa.int8())])], ids=str)
def test_other_types_are_counted(kind):
    """Of structs and columns of nothing only rows and nulls are counted."""
    assert ColumnStatistics(name="c", kind="other", rows=2, nulls=2) == of([None, None], kind)


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.decimal128(9, 2)], ids=str
)
def test_columns_without_values_have_none(kind):
    """A column without rows, or of nulls alone, has no ends and no quantiles."""
    for values in ([], [None] * 3):
        found = of(values, kind)
        assert (len(values), 0, None, None, ()) == (
            found.nulls,
            found.distinct,
            found.minimum,
            found.mean,
            found.quantiles,
        )


def test_a_table_without_columns_has_no_statistics():
    """No columns, no statistics."""
    assert () == of_table(pa.table({}))


@pytest.mark.parametrize("count", [DISTINCT_KEPT - 1, 20_000, 300_000])
def test_different_values_are_counted_within_the_bound(count):
    """So many different values, each met twice, are counted exactly below 4,096, and to within four standard errors above."""
    found = Distinct()
    values = np.arange(count, dtype=np.uint64)
    found.add_words(values)
    found.add_words(values[::-1].copy())
    estimate, is_exact = found.count()

    assert is_exact == (count < DISTINCT_KEPT)
    assert abs(estimate - count) <= (0 if is_exact else 4 * count / math.sqrt(DISTINCT_KEPT - 2))


def test_a_sample_is_all_values_while_there_are_few():
    """A column of no more values than the sample holds has exact quantiles."""
    values = np.random.default_rng(1).random(SAMPLE_KEPT)
    sample = Sample()
    for start in range(0, SAMPLE_KEPT, 1_000):
        part = values[start : start + 1_000]
        sample.add(Positions.of(start, len(part)), part)

    assert np.sort(values).tolist() == sample.sorted().tolist()


def test_quantiles_of_many_values_are_within_the_bound():
    """The rank of an estimated quantile is off by less than four standard errors, in columns with nulls too."""
    count = 300_000
    values = pa.array(np.arange(count), mask=np.arange(count) % 3 == 0)
    quantiles = of(values).quantiles
    assert QUANTILES == tuple(probability for probability, _ in quantiles)
    for probability, value in quantiles:
        p = float(probability)
        assert abs(int(value) / count - p) < 4 * math.sqrt(p * (1 - p) / SAMPLE_KEPT)


@settings(deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(0, 5_000), min_size=0, max_size=400), max_size=6),
    spread=st.sampled_from([1, 10, 40]),
)
def test_counters_keep_their_bound(groups, spread):
    """A value's true count is what is kept or up to the error more, and the error is within its bound."""
    counters, true = Counters(), Counter()
    for group in groups:
        # Many values of one count, and some of more.
        counts = Counter({value * spread + offset: 1 + value % 3 for value in group for offset in range(spread)})
        true += counts
        values = np.array(list(counts), np.int64)
        counters.add(lambda places, values=values: values[places].tolist(), np.array(list(counts.values()), np.int64))
    kept = dict(counters.most(COUNTERS + 1))

    assert len(kept) <= COUNTERS
    assert [] == [
        value for value, count in true.items() if not kept.get(value, 0) <= count <= kept.get(value, 0) + counters.error
    ]
    assert counters.error * (COUNTERS + 1) <= true.total()


MEASURED = st.sampled_from([0.0]) | st.floats(1e-100, 1e100) | st.floats(-1e100, -1e-100)
"""Whose squares a double can say."""


@settings(deadline=None)
@given(values=st.lists(MEASURED, max_size=400))
def test_moments_are_those_of_exact_numbers(values):
    """Mean and deviation are those of exact arithmetic, to some digits, where no square is too small or too large for a double."""
    moments = Moments()
    moments.add(np.array(values))
    scale = max(map(abs, values), default=0.0)

    assert (len(values), not values) == (moments.count, moments.mean() is None)
    if len(values) > 1:
        assert math.isclose(plain.fmean(values), moments.mean(), rel_tol=1e-9, abs_tol=1e-13 * scale)
        assert math.isclose(plain.stdev(values), moments.deviation(), rel_tol=1e-6, abs_tol=1e-7 * scale)


def test_a_deviation_survives_a_large_mean():
    """Values that differ in their last digits only have the deviation of those digits."""
    values = np.arange(100_000) % 10 + 1e9
    moments = Moments()
    moments.add(values)

    assert math.isclose(plain.pstdev(range(10)), moments.deviation(), rel_tol=1e-4)


@settings(deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=1_000))
def test_sums_have_one_order(values):
    """A sum is that of 128 lanes in the order of the values, and of the lanes exactly rounded: on every processor."""
    lanes = [0.0] * 128
    for place, value in enumerate(values):
        lanes[place % 128] += value
    try:
        expected = math.fsum(lanes)
    except (OverflowError, ValueError):
        expected = math.inf
    with np.errstate(all="ignore"):
        assert expected == ordered_sum(np.array(values, np.float64)) or not math.isfinite(expected)


@settings(deadline=None)
@given(values=st.lists(st.binary(max_size=6), max_size=50))
def test_bytes_are_told_apart_by_their_hashes(values):
    """Two values have one hash if they are equal, and two if not, wherever in the data they stand."""
    data = np.frombuffer(b"".join(values), np.uint8)
    offsets = np.cumsum([0, *map(len, values)])

    assert len(set(values)) == len(set(hashes_of_bytes(data, offsets).tolist()))


def test_long_values_are_told_apart_by_their_hashes():
    """Values of kilobytes and megabytes are told apart, in the middle too, beside short ones."""
    values = [b"x" * size + end for size in (0, 4_095, 4_096, 5_000, 3 * 2**20) for end in (b"a", b"b", b"\0", b"")]
    data = np.frombuffer(b"".join(values * 2), np.uint8)
    offsets = np.cumsum([0, *map(len, values * 2)])
    hashes = hashes_of_bytes(data, offsets).tolist()

    assert hashes[: len(values)] == hashes[len(values) :]
    assert len(set(values)) == len(set(hashes))
