"""Repos that nobody would think of: whatever is defined, written and asked, the packed store and the server answer what
Feast answers from its own Redis store (differences.md lists the intended differences).
"""

import tempfile
from collections import Counter
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import Phase, given, settings

from hindcast.clock import system_clock
from hindcast.online.connection import DEFAULT_TTL_GRACE_SECONDS
from hindcast.online.layouts import LayoutName
from strategies import repos
from twins import (
    NOT_FOUND,
    NULL_VALUE,
    OUTSIDE_MAX_AGE,
    PRESENT,
    SERVICE,
    answered,
    asked_of_feast,
    asked_of_hindcast,
    build,
    feast_rows,
    native,
    plain_bytes,
    twins,
    write,
)


def is_gone(draft, row):
    """Whether the packed store lets a row expire as soon as it is written: stale for longer than the grace time."""
    (ttl,) = {view.ttl_seconds for view in draft.views if view.name == row.view}
    return bool(ttl) and row.age_micros > (ttl + DEFAULT_TTL_GRACE_SECONDS) * 1_000_000


def columns_of(draft, projection):
    """The question's columns that a projection needs, by name; one that nobody needs if it needs none.

    Feast takes the number of rows from a column, so it cannot be asked for an entity-less view without any.
    """
    (view,) = [view for view in draft.views if view.name == projection.view]
    names = [projection.join_key_map.get(key, key) for key in view.join_keys]
    return {name: draft.question[name] for name in names} or {"nobody's": [b"\x20\x01"] * rows_of(draft)}


def rows_of(draft):
    return len(next(iter(draft.question.values()), [b""]))


def feature_columns(draft, *, full_names):
    """Names of the answer's columns after the entities', in order, and the TTL in microseconds of the view of each."""
    ttls = {view.name: view.ttl_seconds * 1_000_000 for view in draft.views}
    return [
        (f"{projection.name}__{feature}" if full_names else feature, ttls[projection.view])
        for projection in draft.projections
        for feature in projection.features
    ]


def judged(stores, draft, *, full_names):
    """Feast's answer over all projections, column name to (value, time) pairs, after the packed store gave the same.

    Each projection is asked for alone: where a service reads one view by a join key and another by an alias of it, Feast
    takes either column for both (differences.md).
    """
    merged = {}
    for at, projection in enumerate(draft.projections):
        service = stores.plain.get_feature_service(f"{SERVICE} {at}")
        entities = {name: native(values) for name, values in columns_of(draft, projection).items()}
        plain, packed = (
            store.get_online_features(service, entities, full_feature_names=full_names)
            for store in (stores.plain, stores.packed)
        )
        assert answered(packed.proto) == answered(plain.proto)
        assert as_text(packed.to_dict()) == as_text(plain.to_dict())
        merged |= answered(plain.proto)
    return merged


def told(pair, ttl, *, now_micros):
    """The (value, status) that hindcast.v1 must give where Feast has this value of this time."""
    value, moment = pair
    if not moment:
        return b"", NOT_FOUND
    if ttl and now_micros - Timestamp.FromString(moment).ToMicroseconds() > ttl:
        return b"", OUTSIDE_MAX_AGE
    return value, PRESENT if value else NULL_VALUE


def on_feasts_services(told_natively):
    """The status on Feast's services, where a stored null is PRESENT."""
    _, status = told_natively
    return PRESENT if status == NULL_VALUE else status


def as_text(columns):
    """A dict to compare by: NaN equals itself in it, and the order of columns does not count."""
    return {name: repr(values) for name, values in columns.items()}


# An example costs 0.1 s, so shrinking would take minutes; a failure prints the draft that failed.
@settings(max_examples=25, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(draft=repos())
def test_any_repo_answers_as_feast_does(shared_redis, draft):
    """Values, times and columns of SDK and server equal Feast's; a status tells what Feast's store cannot."""
    now = system_clock()
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), shared_redis) as stores:
        stores.apply(build(draft))
        for row, (view, written) in zip(draft.rows, feast_rows(draft, now_micros=now), strict=True):
            write(stores.packed, view, [written])
            if not is_gone(draft, row):
                write(stores.plain, view, [written])
        plain_names = Counter(name for name, _ in feature_columns(draft, full_names=False))
        for full_names in {True, max(plain_names.values()) > 1}:
            expected = judged(stores, draft, full_names=full_names)
            columns = feature_columns(draft, full_names=full_names)

            for layout in LayoutName:
                ours, typed = stores.lookup(
                    asked_of_feast(SERVICE, draft.question, full_names=full_names),
                    asked_of_hindcast(SERVICE, draft.question, full_names=full_names),
                    layout=layout,
                )
                assert answered(ours) == {name: pairs for name, pairs in expected.items() if name != "nobody's"}
                statuses = [list(vector.statuses) for vector in ours.results]
                assert statuses == [[PRESENT] * rows_of(draft)] * len(draft.question) + [
                    [on_feasts_services(told(pair, ttl, now_micros=now)) for pair in expected[name]]
                    for name, ttl in columns
                ]
                assert list(ours.metadata.feature_names.val) == [
                    *sorted(draft.question),
                    *(name for name, _ in columns),
                ]
                assert [
                    (column.name, list(zip(map(plain_bytes, column.values), column.statuses, strict=True)))
                    for column in typed.columns
                ] == [(name, [told(pair, ttl, now_micros=now) for pair in expected[name]]) for name, ttl in columns]
