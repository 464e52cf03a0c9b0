"""Lookups on drawn repos: an entity row's answer depends on the row alone, and damage is never served as a value."""

import tempfile
from pathlib import Path

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from hindcast.clock import system_clock
from hindcast.errors import StoredDataError
from strategies import repos
from twins import NOT_FOUND, SERVICE, asked_of_feast, asked_of_hindcast, build, feast_rows, plain_bytes, twins, write

HEADER_BYTES = 42
# An example applies a repo, so shrinking would take minutes; a failure prints the draft that failed.
PROFILE = settings(max_examples=20, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)


def filled(stores, draft):
    """Apply a drawn repo and write its rows into the packed store."""
    stores.apply(build(draft))
    for view, written in feast_rows(draft, now_micros=system_clock()):
        write(stores.packed, view, [written])


def feast_rows_of(response):
    """One tuple of (name, value, status, time) per row of an answer on Feast's services."""
    vectors = zip(response.metadata.feature_names.val, response.results, strict=True)
    columns = [
        [
            (name, plain_bytes(value), status, plain_bytes(moment))
            for value, status, moment in zip(vector.values, vector.statuses, vector.event_timestamps, strict=True)
        ]
        for name, vector in vectors
    ]
    return list(zip(*columns, strict=True))


def hindcast_rows_of(response):
    """The same of an answer on hindcast.v1."""
    columns = [
        [
            (column.name, plain_bytes(value), status, plain_bytes(moment))
            for value, status, moment in zip(
                column.values, column.statuses, response.views[column.view_index].event_timestamps, strict=True
            )
        ]
        for column in response.columns
    ]
    return list(zip(*columns, strict=True))


@PROFILE
@given(draft=repos().filter(lambda draft: draft.question), data=st.data())
def test_any_order_and_repetition_gives_the_same_rows(shared_redis, draft, data):
    """However its rows are permuted, repeated and cut, a question's answer is its rows' answers in that order."""
    rows = len(next(iter(draft.question.values())))
    order = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=12), label="order")
    permuted = {name: [values[at] for at in order] for name, values in draft.question.items()}
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), shared_redis) as stores:
        filled(stores, draft)
        requests = [
            ask(SERVICE, question, full_names=True)
            for ask in (asked_of_feast, asked_of_hindcast)
            for question in (draft.question, permuted)
        ]
        feasts, feasts_permuted, hindcasts, hindcasts_permuted = stores.lookup(*requests)

    assert feast_rows_of(feasts_permuted) == [feast_rows_of(feasts)[at] for at in order]
    assert hindcast_rows_of(hindcasts_permuted) == [hindcast_rows_of(hindcasts)[at] for at in order]


@PROFILE
@given(draft=repos(), data=st.data())
def test_a_damaged_row_is_an_error_or_a_row(shared_redis, draft, data):
    """Whatever bit of a row's header flips, and wherever it is cut, a lookup answers or says StoredDataError."""
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), shared_redis) as stores:
        filled(stores, draft)
        client = shared_redis.client()
        keys = sorted(client.scan_iter(match=b"hc:twins:[^:]*"))
        assume(keys)
        packed = {key: client.get(key) for key in keys}
        at = data.draw(st.integers(0, 8 * HEADER_BYTES - 1), label="bit")
        for key, row in packed.items():
            flipped = bytearray(row)
            flipped[at // 8] ^= 1 << at % 8
            client.set(key, bytes(flipped))
        request = asked_of_feast(SERVICE, draft.question, full_names=True)
        try:
            stores.lookup(request)
        except StoredDataError:
            assert 16 <= at // 8 < 26  # the format, the flag for nulls or the schema's id
        length = data.draw(st.integers(0, HEADER_BYTES), label="length")
        for key, row in packed.items():
            client.set(key, row[:length])
        try:
            (answer,) = stores.lookup(request)
        except StoredDataError:
            return
        # No asked key met a stored row.
        names, vectors = answer.metadata.feature_names.val, answer.results
        for name, vector in zip(names, vectors, strict=True):
            assert name in draft.question or set(vector.statuses) == {NOT_FOUND}
