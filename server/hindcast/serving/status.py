"""Which gRPC status each error is: one table, so that no error leaves as UNKNOWN and no vendor's words leave at all."""

from datetime import timedelta
from typing import NamedTuple, NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hindcast import errors

LOOKUP_ID_KEY = "hindcast-lookup-id"
RUN_ID_KEY = "hindcast-run-id"
_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "hindcast"
_DETAILS_BYTES_MAX = 3_500
"""gRPC refuses metadata beyond 8 KiB at random and beyond 16 KiB always. Details travel as base64; the message travels twice,
once percent-encoded, which makes three bytes of one."""

_VIOLATIONS_MAX = 20
_FIELD_BYTES_MAX = 200
_MESSAGE_BYTES_MAX = 1_000
_RETRY_AFTER = timedelta(milliseconds=100)

_CODES: dict[type[errors.HindcastError], tuple[grpc.StatusCode, str]] = {
    errors.InvalidArgument: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    errors.UnknownName: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_NAME"),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    errors.StoreUnavailable: (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    errors.LogUnavailable: (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE"),
    errors.LookupTooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, "LOOKUP_TOO_LARGE"),
    errors.StoredDataError: (grpc.StatusCode.DATA_LOSS, "STORED_DATA"),
    errors.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.NotWritable: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_WRITABLE"),
    errors.TransformError: (grpc.StatusCode.FAILED_PRECONDITION, "TRANSFORM_FAILED"),
    errors.SourceError: (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE"),
    errors.DatasetError: (grpc.StatusCode.DATA_LOSS, "TRAINING_SET"),
    errors.NotProven: (grpc.StatusCode.DATA_LOSS, "NOT_PROVEN"),
}
_BUG = (grpc.StatusCode.INTERNAL, "BUG")


class Failure(NamedTuple):
    """What a caller is told of an error.

    Attributes:
        reason: a word that does not change, for programs.
    """

    code: grpc.StatusCode
    reason: str
    message: str


def failure_of(error: Exception, *, call: str) -> Failure:
    """What a caller is told; an exception from outside the tree is a bug of ours: INTERNAL, with no word of what it said.

    Args:
        call: what a report should name: `lookup` and its id.
    """
    code, reason = _CODES.get(type(error), _BUG)  # type: ignore[arg-type]
    message = f"a defect in Hindcast; report it with {call}" if (code, reason) == _BUG else str(error)
    return Failure(code, reason, _cut(message, _MESSAGE_BYTES_MAX))


async def abort(
    context: grpc.aio.ServicerContext,
    error: Exception,
    *,
    call: str = "this call",
    metadata: tuple[tuple[str, str], ...] = (),
) -> NoReturn:
    """End the call with the status of an error, and google.rpc details in the trailing metadata after that given."""
    failure = failure_of(error, call=call)
    status = status_pb2.Status(code=code_pb2.Code.Value(failure.code.name), message=failure.message)
    for detail in _details(error, failure.reason):
        packed = Any()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() < _DETAILS_BYTES_MAX:
            status.details.append(packed)
    await context.abort(failure.code, failure.message, (*metadata, (_DETAILS_KEY, status.SerializeToString())))
    raise AssertionError


def violations_of(error: Exception) -> list[errors.FieldViolation]:
    """The wrong fields that an error names, cut to what a status can carry."""
    if not isinstance(error, errors.InvalidArgument):
        return []
    return [
        errors.FieldViolation(_cut(violation.field, _FIELD_BYTES_MAX), _cut(violation.description, _FIELD_BYTES_MAX))
        for violation in error.violations[:_VIOLATIONS_MAX]
    ]


def retry_delay_of(error: Exception) -> Duration | None:
    """After how long the same call is worth another try; None where it is not known to be."""
    if not isinstance(error, errors.StoreUnavailable | errors.LogUnavailable | errors.Overloaded):
        return None
    delay = Duration()
    delay.FromTimedelta(_RETRY_AFTER)
    return delay


def _details(error: Exception, reason: str) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN)]
    if isinstance(error, errors.InvalidArgument):
        bad_request = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=wrong.field, description=wrong.description)
                for wrong in violations_of(error)
            ]
        )
        while bad_request.ByteSize() > _DETAILS_BYTES_MAX - _MESSAGE_BYTES_MAX - _FIELD_BYTES_MAX:
            bad_request.field_violations.pop()
        details.append(bad_request)
    if isinstance(error, errors.UnknownName):
        details.append(
            error_details_pb2.ResourceInfo(resource_type=error.kind, resource_name=_cut(error.name, _FIELD_BYTES_MAX))
        )
    delay = retry_delay_of(error)
    if delay is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _cut(text: str, bytes_max: int) -> str:
    """The text, or its beginning and `…` where it is longer."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[: bytes_max - 3].decode(errors="ignore") + "…"
