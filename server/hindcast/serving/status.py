"""Which gRPC status each error is: one table, so that no error leaves as UNKNOWN and no vendor's words leave at all."""

from datetime import timedelta
from typing import NoReturn

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
    errors.StoreUnavailable: (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    errors.StoredDataError: (grpc.StatusCode.DATA_LOSS, "STORED_DATA"),
    errors.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.NotWritable: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_WRITABLE"),
    errors.TransformError: (grpc.StatusCode.FAILED_PRECONDITION, "TRANSFORM_FAILED"),
}
_BUG = (grpc.StatusCode.INTERNAL, "BUG")


async def abort(
    context: grpc.aio.ServicerContext, error: Exception, *, lookup_id: str, id_key: str = LOOKUP_ID_KEY
) -> NoReturn:
    """End the call with the status of an error, google.rpc details and the lookup's id in the trailing metadata.

    Args:
        lookup_id: the id that the call is known by: a lookup's, or a run's for a push.
        id_key: the metadata key that says which.

    An exception from outside the tree is a bug of ours: INTERNAL, with no word of what it said.
    """
    code, reason = _CODES.get(type(error), _BUG)  # type: ignore[arg-type]
    what = "run" if id_key == RUN_ID_KEY else "lookup"
    message = f"a defect in Hindcast; report it with {what} {lookup_id}" if (code, reason) == _BUG else str(error)
    message = _cut(message, _MESSAGE_BYTES_MAX)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    for detail in _details(error, reason):
        packed = Any()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() < _DETAILS_BYTES_MAX:
            status.details.append(packed)
    metadata = ((id_key, lookup_id), (_DETAILS_KEY, status.SerializeToString()))
    await context.abort(code, message, metadata)
    raise AssertionError


def _details(error: Exception, reason: str) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN)]
    if isinstance(error, errors.InvalidArgument):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(violation.field, _FIELD_BYTES_MAX), description=_cut(violation.description, _FIELD_BYTES_MAX)
            )
            for violation in error.violations[:_VIOLATIONS_MAX]
        ]
        bad_request = error_details_pb2.BadRequest(field_violations=violations)
        while bad_request.ByteSize() > _DETAILS_BYTES_MAX - _MESSAGE_BYTES_MAX - _FIELD_BYTES_MAX:
            bad_request.field_violations.pop()
        details.append(bad_request)
    if isinstance(error, errors.UnknownName):
        details.append(
            error_details_pb2.ResourceInfo(resource_type=error.kind, resource_name=_cut(error.name, _FIELD_BYTES_MAX))
        )
    if isinstance(error, errors.StoreUnavailable):
        delay = Duration()
        delay.FromTimedelta(_RETRY_AFTER)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _cut(text: str, bytes_max: int) -> str:
    """The text, or its beginning and `…` where it is longer."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[: bytes_max - 3].decode(errors="ignore") + "…"
