"""The merge of a frame with a source's sorted rows, however the rows are cut into batches."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import strategies  # noqa: F401 - its profile
from hindcast.offline.asof.merge import NO_TIME, NONE, Asked, Sorted, newest

TIMES = st.integers(0, 6)
SOURCE = st.lists(st.tuples(st.integers(0, 2), TIMES, st.none() | st.integers(0, 8)), max_size=40)
FRAME = st.lists(st.tuples(st.integers(-1, 3), TIMES, st.integers(0, 8)), min_size=1, max_size=12)


def expected(source, row, ttl):
    """The position that a row of the frame sees, by looking at every row of the source."""
    key, as_of, known_at = row
    seen = [
        (event, NO_TIME if created is None else created, position)
        for position, (of, event, created) in enumerate(source)
        if of == key
        and event <= as_of
        and (not ttl or event >= as_of - ttl)
        and (known_at is None or created is None or created <= known_at)
    ]
    return max(seen)[2] if seen else NONE


@given(source=SOURCE, frame=FRAME, ttl=st.integers(0, 3), cuts=st.sets(st.integers(0, 40)), is_bounded=st.booleans())
def test_a_keys_history_may_be_cut_anywhere(source, frame, ttl, cuts, is_bounded):
    """Whatever batches the sorted rows come in, each row of the frame finds the one newest row that it may see."""
    order = sorted(
        range(len(source)),
        key=lambda at: (source[at][0], source[at][1], NO_TIME if source[at][2] is None else source[at][2], at),
    )
    columns = [
        np.array([source[at][0] for at in order], np.int32),
        np.array([source[at][1] for at in order], np.int64),
        np.array([NO_TIME if source[at][2] is None else source[at][2] for at in order], np.int64),
        np.array(order, np.int64),
    ]
    edges = sorted({0, len(order), *(cut for cut in cuts if cut < len(order))})
    batches = [Sorted(*(column[begin:end] for column in columns)) for begin, end in pairwise(edges)]
    ids, as_of, known_at = (np.array(column, np.int64) for column in zip(*frame, strict=True))
    asked = Asked.of(ids.astype(np.int32), as_of, is_dated=None, known_at=known_at if is_bounded else None)

    found = newest(asked, batches, rows=len(frame), ttl_micros=ttl)

    rows = [(key, at, known if is_bounded else None) for key, at, known in frame]
    assert [expected(source, row, ttl) for row in rows] == found.positions.tolist()
