"""Bounds of rows that somebody elsewhere answers for."""

import resource

import numpy as np
import pyarrow as pa
import pytest

from hindcast.errors import Overloaded
from hindcast.offline.frames.bounds import bounded, bounded_memory


def test_memory_is_bounded_while_the_block_runs():
    """What needs more memory than the block may take is refused, and after it the process may take what it could before."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(Overloaded, match="268,435,456 bytes of memory"), bounded_memory(2**28):
        np.ones(2**34, np.int8)
    assert before == resource.getrlimit(resource.RLIMIT_DATA)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        pytest.param(pa.array([1, 2, 3, 4]), 4 * 8, id="numbers"),
        pytest.param(pa.nulls(4), 0, id="nulls"),
        pytest.param(
            pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, 1], pa.int8()), ["x" * 100, "y"]),
            4 + 301,
            id="a dictionary",
        ),
        pytest.param(
            pa.DictionaryArray.from_arrays(pa.nulls(4, pa.int8()), ["x" * 100]), 4 + 1, id="none of a dictionary"
        ),
    ],
)
def test_rows_count_by_what_they_come_to(column, expected):
    """A frame may have the bytes of its columns, dictionaries written out, and 8 for each row, and not one less."""
    batch = pa.record_batch({"a": column})
    size = 4 * 8 + expected
    assert [batch] == list(bounded([batch], size, what="the rows have"))
    with pytest.raises(Overloaded, match="dictionaries written out"):
        list(bounded([batch], size - 1, what="the rows have"))
