"""What a call can fail with.

HindcastError            every failure of a call that reached for the network
├── InvalidRequest       the request can never be answered as it is; `violations` name its fields
├── NotFound             no such feature service, view or feature
├── Unauthenticated      no token or certificate, or one that the server does not accept
├── PermissionDenied     known to the server, and not allowed this
├── Overloaded           the server sheds load, or a message passed a size limit
├── Unavailable          nobody answered, after every retry that was allowed
├── DeadlineExceeded     no answer within `timeout_seconds`
├── Cancelled            the server gave the call up, or this client was closed under it
└── ServerError          anything else: a fault on the server's side

Bad arguments are ValueError and TypeError, raised before any network.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that the server would not take: its path in the request, and what is wrong with it."""

    field: str
    description: str


class HindcastError(Exception):
    """A call failed.

    Attributes:
        message: what the server, or gRPC, said.
        code: the gRPC status code.
        lookup_id: id of the receipt of the failed lookup, None where the server kept none.
        violations: the fields at fault; empty unless the server named them.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        lookup_id: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.lookup_id = lookup_id
        self.violations = violations

    def __str__(self) -> str:
        lines = [f"{self.code.name}: {self.message}"]
        lines += [f"  {violation.field}: {violation.description}" for violation in self.violations]
        if self.lookup_id is not None:
            lines.append(f"  lookup {self.lookup_id}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments are lost by Exception's own way, and errors do cross processes (joblib, Ray).
        return _restore, (type(self), self.message, self.code.name, self.lookup_id, self.violations)


class InvalidRequest(HindcastError):
    """INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE: change the request; a retry cannot help."""


class NotFound(HindcastError):
    """NOT_FOUND: an unknown feature service, view or feature."""


class Unauthenticated(HindcastError):
    """UNAUTHENTICATED: the server does not know who is asking."""


class PermissionDenied(HindcastError):
    """PERMISSION_DENIED: the server knows who is asking, and says no."""


class Overloaded(HindcastError):
    """RESOURCE_EXHAUSTED: ask less, or later. Not retried here: retries feed an overload."""


class Unavailable(HindcastError):
    """UNAVAILABLE, after every retry that the policy, the budget and the deadline allowed."""


class DeadlineExceeded(HindcastError):
    """DEADLINE_EXCEEDED: the answer was not there within `timeout_seconds`."""


class Cancelled(HindcastError):
    """CANCELLED: by the server, or by `close()`. A task that is cancelled sees asyncio.CancelledError instead."""


class ServerError(HindcastError):
    """Every other code, and an answer that contradicts itself."""


_BY_CODE: dict[grpc.StatusCode, type[HindcastError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def kind_of(code: grpc.StatusCode) -> type[HindcastError]:
    """The class of the errors of a status."""
    return _BY_CODE.get(code, ServerError)


def error_of(failure: Any) -> HindcastError:
    """The error that a failed call means.

    Args:
        failure: what grpc or grpc.aio raised; both offer `code()`, `details()` and `trailing_metadata()`.
    """
    metadata = {str(key): value for key, value in failure.trailing_metadata() or ()}
    return kind_of(failure.code())(
        failure.details() or "no message",
        code=failure.code(),
        lookup_id=metadata.get("hindcast-lookup-id"),
        violations=read_violations(metadata.get("grpc-status-details-bin", b"")),
    )


def read_violations(status_bytes: bytes) -> tuple[FieldViolation, ...]:
    """The field violations of a serialized google.rpc.Status; none where it has none or does not parse."""
    status_type, bad_request_type = _details_types()
    found: list[FieldViolation] = []
    try:
        for detail in status_type.FromString(status_bytes).details:
            if detail.type_url.endswith("/google.rpc.BadRequest"):
                bad_request = bad_request_type.FromString(detail.value)
                found += [FieldViolation(item.field, item.description) for item in bad_request.field_violations]
    except DecodeError:
        return ()
    return tuple(found)


@cache
def _details_types() -> tuple[Any, Any]:
    """Message types with the wire form of google.rpc.Status and google.rpc.BadRequest.

    googleapis-common-protos would be a third dependency for three messages, and generated copies would collide with it
    in the process's descriptor pool. These live in a pool of their own and are made when a call first fails.
    """
    text, many = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    raw, nested = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    file = descriptor_pb2.FileDescriptorProto(name="details.proto", package="details", syntax="proto3")
    detail = file.message_type.add(name="Detail")
    detail.field.add(name="type_url", number=1, type=text)
    detail.field.add(name="value", number=2, type=raw)
    status = file.message_type.add(name="Status")
    status.field.add(name="details", number=3, type=nested, label=many, type_name=".details.Detail")
    violation = file.message_type.add(name="Violation")
    violation.field.add(name="field", number=1, type=text)
    violation.field.add(name="description", number=2, type=text)
    bad_request = file.message_type.add(name="BadRequest")
    bad_request.field.add(name="field_violations", number=1, type=nested, label=many, type_name=".details.Violation")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    status_type, bad_request_type = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("details.Status", "details.BadRequest")
    )
    return status_type, bad_request_type


def _restore(
    kind: type[HindcastError],
    message: str,
    code_name: str,
    lookup_id: str | None,
    violations: tuple[FieldViolation, ...],
) -> HindcastError:
    return kind(message, code=grpc.StatusCode[code_name], lookup_id=lookup_id, violations=violations)
