"""A batch as bytes on the wire: what Redis reads is what the writer of single rows sends."""

from itertools import pairwise

import hiredis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.online import stream
from hindcast.online.connection import parse_target
from hindcast.online.stream import RowStream, _node_blocks
from hindcast.online.writer import RowWrite, _arguments

RUN_ID = b"the writing run."
DRAWN = settings(deadline=None, max_examples=50)  # the first of all arrays imports pandas
ROWS = st.lists(
    st.tuples(st.binary(max_size=9), st.binary(max_size=300), st.sampled_from([0, 1, 1_700_000_000_000])), max_size=350
)


def batch(rows):
    """Columns of a batch."""
    keys, packed, expires = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.array(keys, pa.binary()), pa.array(packed, pa.binary()), np.array(expires, np.int64)


def calls_in(blocks):
    """The script calls that a server reads; a block has as many as it says."""
    calls = []
    for block in blocks:
        reader = hiredis.Reader()
        reader.feed(block.commands)
        calls += [reader.gets() for _ in range(block.calls)]
        assert not reader.has_data()
    return calls


def call(rows):
    """A script call as the writer of single rows makes it."""
    arguments = _arguments([RowWrite(*row) for row in rows], (b"", RUN_ID))
    return [b"EVALSHA", stream._SHA, *(part if isinstance(part, bytes) else b"%d" % part for part in arguments)]


@DRAWN
@given(ROWS)
def test_a_batch_is_script_calls_of_a_hundred_rows(rows):
    """Any keys, rows and expiries go out as calls over 100 rows each, in order, with the writer's arguments."""
    blocks = list(_node_blocks(*batch(rows), run_id=RUN_ID))

    assert [call(rows[at : at + 100]) for at in range(0, len(rows), 100)] == calls_in(blocks)
    assert len(rows) == sum(block.rows for block in blocks)
    assert sum(len(key) + len(packed) for key, packed, _ in rows) <= sum(block.size for block in blocks)


@DRAWN
@given(ROWS, st.integers(1, 4000), st.integers(1, 4000))
def test_large_rows_go_in_smaller_calls_and_blocks(rows, call_bytes, block_bytes):
    """A call has no more bytes of rows than it may, but at least one row; a block ends with the call that fills it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_CALL_BYTES_MAX", call_bytes)
        patch.setattr(stream, "_BLOCK_BYTES", block_bytes)
        blocks = list(_node_blocks(*batch(rows), run_id=RUN_ID))
    calls = calls_in(blocks)

    sizes = [int(made[2]) for made in calls]
    ends = np.cumsum([0, *sizes]).tolist()
    assert [call(rows[first:end]) for first, end in pairwise(ends)] == calls
    assert len(rows) == sum(sizes)
    for made, size in zip(calls, sizes, strict=True):
        assert size == 1 or sum(map(len, made[5 + size :: 2])) <= call_bytes
    assert all(block.size >= block_bytes for block in blocks[:-1])


def test_a_null_is_no_row():
    """A batch with a null key or row is refused before anything is sent: the caller counts what it leaves out."""
    full, holed = pa.array([b"a", b"b"]), pa.array([b"a", None])
    with RowStream(parse_target("127.0.0.1:1"), run_id=RUN_ID) as rows:
        for keys, packed in ((holed, full), (full, holed)):
            with pytest.raises(ValueError, match="a key or a row is null"):
                rows.write(keys, packed, np.zeros(2, np.int64))
