"""Answers: a lookup's columns as the bytes of either dialect."""

from functools import lru_cache

from hindcast.online.codec import Column, splice_feast, splice_hindcast
from hindcast.serving.lookup import NULL_VALUE, PRESENT, Answer, timestamp_bytes
from hindcast.serving.question import Question
from hindcast.shadow.v1 import shadow_pb2

_FEAST_STATUSES = bytes(PRESENT if status == NULL_VALUE else status for status in range(256))
"""Feast's Python server says PRESENT of a stored null."""


def feast_bytes(question: Question, answer: Answer, *, join_keys: frozenset[str]) -> bytes:
    """A `feast.serving.GetOnlineFeaturesResponse` in Feast's Python dialect: entity columns first, as they were sent.

    Args:
        join_keys: the project's; Feast gives back every one that was sent, needed or not.
    """
    entities = [
        Column(name, values, bytes([PRESENT]) * answer.rows, None)
        for name, values in sorted(question.entities.items())
        if name in join_keys or name in answer.join_keys
    ]
    names = tuple(column.name for column in (*entities, *answer.columns))
    versions = tuple((view.view, view.version) for view in answer.views) if question.with_view_versions else ()
    return splice_feast(
        _metadata(names, versions),
        [*entities, *answer.columns],
        [view.times for view in answer.views],
        statuses=_FEAST_STATUSES,
    )


@lru_cache(maxsize=1024)
def _metadata(names: tuple[str, ...], versions: tuple[tuple[str, int], ...]) -> bytes:
    metadata = shadow_pb2.FeastMetadata(feature_names=shadow_pb2.FeatureRefs(val=names))
    # Of several versions of one view Feast tells the first that was asked for.
    firsts: dict[str, int] = {}
    for view, number in versions:
        firsts.setdefault(view.partition("@")[0], number)
    for name, version in firsts.items():
        metadata.feature_view_metadata.add(name=name, version=version)
    return metadata.SerializeToString()


def hindcast_bytes(answer: Answer, *, lookup_id: str, catalog_version: str, served_at_micros: int) -> bytes:
    """A `hindcast.v1.GetOnlineFeaturesResponse`."""
    return splice_hindcast(
        lookup_id=lookup_id,
        catalog_version=catalog_version,
        served_at=timestamp_bytes(served_at_micros),
        views=[(view.view, view.times) for view in answer.views],
        columns=answer.columns,
    )
