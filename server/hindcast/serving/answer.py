"""Answers: a lookup's columns as the bytes of either dialect."""

from functools import lru_cache

from hindcast.online.codec import Block, Cells, splice_feast, splice_hindcast
from hindcast.online.field_status import NULL_VALUE, PRESENT
from hindcast.online.times import timestamp_bytes
from hindcast.serving.lookup import Answer
from hindcast.serving.question import Question
from hindcast.serving.status import failure_of, retry_delay_of, violations_of
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import feature_service_pb2

_FEAST_STATUSES = bytes(PRESENT if status == NULL_VALUE else status for status in range(256))
"""Feast's Python server says PRESENT of a stored null."""


def feast_bytes(question: Question, answer: Answer, *, join_keys: frozenset[str]) -> bytes:
    """A `feast.serving.GetOnlineFeaturesResponse` in Feast's Python dialect: entity columns first, as they were sent.

    Args:
        join_keys: the project's; Feast gives back every one that was sent, needed or not.
    """
    plan = answer.plan
    entities = question.entities
    names = [name for name in sorted(entities) if name in join_keys or name in plan.key_columns]
    present = bytes([PRESENT]) * answer.rows
    sent = Block(names, Cells.of_columns([entities[name] for name in names], [present]), 0, len(names), None)
    versions = tuple((read.name, read.view.version) for read in plan.reads) if question.with_view_versions else ()
    return splice_feast(_metadata((*names, *plan.names), versions), [sent, *answer.blocks], statuses=_FEAST_STATUSES)


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
        views=[(read.name, cells) for read, cells in zip(answer.plan.reads, answer.views, strict=True)],
        blocks=answer.blocks,
    )


def stream_answer(answer: bytes) -> bytes:
    """A `hindcast.v1.StreamOnlineFeaturesResponse` with a serialized answer."""
    return shadow_pb2.HindcastStreamResponse(answer=answer).SerializeToString()


def stream_failure(error: Exception, *, call: str, lookup_id: str) -> bytes:
    """A `hindcast.v1.StreamOnlineFeaturesResponse` that says what a unary call says by its status."""
    failure = failure_of(error, call=call)
    told = feature_service_pb2.LookupFailure(
        lookup_id=lookup_id,
        code=failure.code.value[0],
        reason=failure.reason,
        message=failure.message,
        field_violations=[
            feature_service_pb2.FieldViolation(field=wrong.field, description=wrong.description)
            for wrong in violations_of(error)
        ],
        retry_delay=retry_delay_of(error),
    )
    return shadow_pb2.HindcastStreamResponse(failure=told.SerializeToString()).SerializeToString()
