"""Rows that meet themselves: what is stored after any calls of the script, by an oracle that judges one row after another."""

import contextlib
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hindcast.online.connection import parse_target
from hindcast.online.stream import RowStream
from hindcast.online.writer import WriteReport

DRAWN = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

RUN_IDS = OWN, OTHER, THIRD = b"the run of now..", b"a run of before.", b"one before that."
LATER_MS = 4_000_000_000_000
TTL_STEPS_MS = 0, LATER_MS, LATER_MS + 60_000


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the script sees it. `padding` makes it one of those that are not read whole."""

    key: int
    event: int
    created: int
    schema: int
    value: bytes
    expires_ms: int
    padding: bool

    def packed(self, run_id: bytes) -> bytes:
        """In bytes, under a run id."""
        times = self.event.to_bytes(8, "big") + self.created.to_bytes(8, "big")
        return times + b"\x02\0" + self.schema.to_bytes(8, "big") + run_id + self.value + bytes(700 * self.padding)


ROW = st.builds(
    Row,
    key=st.integers(0, 4),
    event=st.sampled_from([0, 1, 2**32, 2**64 - 1]),
    created=st.integers(0, 1),
    schema=st.integers(0, 1),
    value=st.sampled_from([b"", b"a", b"b"]),
    expires_ms=st.sampled_from(TTL_STEPS_MS),
    padding=st.booleans(),
)
STORED = st.dictionaries(st.integers(0, 4), st.tuples(ROW, st.sampled_from(RUN_IDS)))
BATCH = st.tuples(st.lists(ROW, min_size=1, max_size=8), st.sampled_from(RUN_IDS))


def name(key: int) -> bytes:
    """The key in Redis."""
    return b"key %d" % key


def judged(stored: dict[int, tuple[Row, bytes]], rows: list[Row]) -> tuple[dict[int, tuple[Row, bytes]], WriteReport]:
    """The oracle: what is stored after some rows, one after another, and what became of them."""
    now = dict(stored)
    counts = {"written": 0, "older": 0, "unchanged": 0}
    for row in rows:
        before, run_id = now.get(row.key, (None, OWN))
        if before is not None and before.packed(OWN) == row.packed(OWN):
            outcome = "unchanged"
        else:
            run_id = OWN
            is_older = before is not None and (row.event, row.created) < (before.event, before.created)
            outcome = "older" if is_older else "written"
        counts[outcome] += 1
        if outcome != "older":
            now[row.key] = row, run_id
    return now, WriteReport(**counts)


SAME = Row(key=0, event=1, created=0, schema=0, value=b"a", expires_ms=LATER_MS, padding=False)


@DRAWN
@given(stored=STORED, batches=st.lists(BATCH, min_size=1, max_size=3))
@example(
    stored={}, batches=[([SAME, replace(SAME, value=b"")], OWN)]
)  # of which the second is the beginning of the first
@example(stored={0: (SAME, OTHER)}, batches=[([SAME], OTHER), ([SAME, SAME], OTHER), ([SAME], THIRD)])
def test_rows_that_are_stored_already_stay_as_they_are(shared_redis, stored, batches):
    """Whatever run id rows carry: those that are stored keep theirs and get the new expiry, others are written under the stream's own."""
    with (
        contextlib.closing(shared_redis.client()) as client,
        RowStream(parse_target(shared_redis.connection_string), run_id=OWN) as stream,
    ):
        client.flushall()
        for key, (row, run_id) in stored.items():
            client.set(name(key), row.packed(run_id), pxat=row.expires_ms or None)
        expected = stored
        for rows, carried in batches:
            expected, report = judged(expected, rows)
            stream.write(
                pa.array([name(row.key) for row in rows]),
                pa.array([row.packed(carried) for row in rows]),
                np.array([row.expires_ms for row in rows]),
            )
            assert report == stream.flush()
        found = {key: client.get(name(key)) for key in expected}
        assert {key: row.packed(run_id) for key, (row, run_id) in expected.items()} == found
        now_ms = client.time()[0] * 1000
        for key, (row, _) in expected.items():
            left = client.pttl(name(key))
            assert (left == -1) if not row.expires_ms else abs(row.expires_ms - now_ms - left) < 10_000
        assert len(expected) == client.dbsize()
