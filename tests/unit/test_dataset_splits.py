"""How rows are dealt out to splits, and shuffled: the same on every machine."""

import numpy as np
import pyarrow as pa
import pytest

from hindcast.datasets.manifest import SplitsRecord
from hindcast.datasets.splits import Dealer, KeySplits, TimeSplits, splits_record
from hindcast.datasets.training_set import shuffled
from hindcast.errors import InvalidArgument

NUMBERS = "bbbbbababbaaabba"
TEXT = "bbaabaaaaabababb"
SHUFFLED = [5, 7, 6, 9, 1, 2, 0, 8, 3, 4]


def dealt(batch, **record):
    """The splits of a batch's rows."""
    dealer = Dealer(SplitsRecord(**record), schema=batch.schema)
    micros = np.arange(batch.num_rows, dtype=np.int64)
    return dealer.dealt(batch, micros=micros, is_dated=None).to_pylist(), dealer.record.rows


def by_key(batch, *keys, seed=0):
    """The splits of a batch's rows by keys, half and half."""
    return dealt(batch, kind="key", names=("a", "b"), parts=(1, 1), keys=keys, seed=seed)[0]


def test_a_key_is_in_the_same_split_on_every_machine():
    """The splits of sixteen keys are what they were when this was written, for whole numbers and for text."""
    numbers = pa.record_batch({"k": pa.array(range(16), pa.int64())})
    text = pa.record_batch({"k": pa.array(map(str, range(16)))})
    assert NUMBERS == "".join(by_key(numbers, "k"))
    assert TEXT == "".join(by_key(text, "k"))


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint64()])
def test_the_width_of_a_number_does_not_matter(kind):
    """A whole number is in the same split, whatever the width of its type."""
    wide = pa.record_batch({"k": pa.array(range(100), pa.int64())})
    assert by_key(wide, "k") == by_key(pa.record_batch({"k": pa.array(range(100), kind)}), "k")


def test_the_layout_of_text_does_not_matter():
    """A text is in the same split as plain text, as large text and in a dictionary, and two keys do not run together."""
    plain = pa.array([str(number) for number in range(100)])
    same = [
        by_key(pa.record_batch({"k": array}), "k")
        for array in (plain, plain.cast(pa.large_string()), plain.dictionary_encode())
    ]
    two = [pa.record_batch({"a": ["1" * n], "b": ["1" * (64 - n)]}) for n in range(64)]
    assert same[0] == same[1] == same[2]
    assert 1 < len({tuple(by_key(batch, "a", "b")) for batch in two})


def test_a_seed_deals_out_anew():
    """Another seed puts some keys into another split."""
    batch = pa.record_batch({"k": pa.array(range(100))})
    assert by_key(batch, "k", seed=1) != by_key(batch, "k", seed=2)


def test_a_row_without_a_time_is_in_no_split_by_time():
    """Splits by time leave out the rows that have none, and count the others."""
    batch = pa.record_batch({"k": pa.array(range(4))})
    dealer = Dealer(SplitsRecord(kind="time", names=("a", "b"), ends=(2,)), schema=batch.schema)
    found = dealer.dealt(batch, micros=np.array([0, 2, 1, 3]), is_dated=np.array([True, True, False, True]))
    assert (["a", "b", None, "b"], (1, 2)) == (found.to_pylist(), dealer.record.rows)


@pytest.mark.parametrize(
    "splits",
    [
        TimeSplits({}),
        TimeSplits({"a": 1}),
        TimeSplits({"a": None, "b": None}),
        TimeSplits({"a": 2, "b": 2, "c": None}),
        KeySplits({"a": 0}, "k"),
        KeySplits({"a": -1, "b": 2}, "k"),
        KeySplits({"a": 0.5}, "k"),
        KeySplits({"a": 1}, ()),
        KeySplits({"": 1}, "k"),
    ],
)
def test_splits_that_say_nothing_clear_are_refused(splits):
    """Splits without a name, out of order, without an end, or with shares that are no parts are refused."""
    with pytest.raises(InvalidArgument, match="splits"):
        splits_record(splits, micros=lambda _, time: time)


def test_a_shuffle_is_the_same_on_every_machine():
    """Ten rows shuffled by the seed 7 come as they did when this was written, and every row comes once."""
    assert SHUFFLED == shuffled(10, seed=7).tolist()
    assert list(range(1_001)) == sorted(shuffled(1_001, seed=1).tolist())
    assert [] == shuffled(0, seed=1).tolist()
