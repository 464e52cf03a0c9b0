"""Rows of the table of wrong requests: what one is, and how it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import grpc

from hindcast.shadow.v1.shadow_pb2 import FeastRequest, HindcastRequest, ValueColumn
from hindcast.v1.value_pb2 import Value

HINDCAST = "/hindcast.v1.FeatureService/GetOnlineFeatures"
FEAST = "/feast.serving.ServingService/GetOnlineFeatures"
FEAST_GRPC = "/GrpcFeatureServer/GetOnlineFeatures"
HEALTH = tuple(f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch"))
REFLECTION = tuple(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha"))
INFO = ("/hindcast.v1.FeatureService/GetServerInfo", "/feast.serving.ServingService/GetFeastServingInfo")

LOOKUPS = (HINDCAST, FEAST, FEAST_GRPC)
"""The methods whose every answer and error carries a lookup id."""

BOTH_OF_FEAST = (FEAST, FEAST_GRPC)
ONLY_HINDCAST = (HINDCAST,)
MESSAGE_BYTES_MAX = 16 * 2**20
FIELD_BYTES_MAX = 200

Columns = Mapping[str, Sequence[Value | bytes]]


@dataclass(frozen=True)
class Refusal:
    """How a call fails.

    Attributes:
        reason: of the ErrorInfo; empty where there are no details, because gRPC itself refused.
        message: where there are no violations, whose sum it is otherwise; None where it is gRPC's own.
        violations: field and description.
        resource: type and name.
    """

    code: grpc.StatusCode
    reason: str = ""
    message: str | None = None
    violations: tuple[tuple[str, str], ...] = ()
    resource: tuple[str, str] | None = None


@dataclass(frozen=True)
class Row:
    """One wrong request.

    Attributes:
        calls: method and request, each.
        refusal: None where it is answered.
        statuses: of the last column of that answer.
        in_docs: what docs/errors.md calls it; rows of one kind share a line.
    """

    name: str
    calls: tuple[tuple[str, bytes], ...]
    refusal: Refusal | None
    statuses: tuple[int, ...] | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    gzipped: bool = False
    in_docs: str = ""

    def refusal_by(self, method: str) -> Refusal | None:
        """What comes back from a method, in its dialect's words."""
        if self.refusal is None or method not in BOTH_OF_FEAST:
            return self.refusal
        violations = tuple((_feasts(field), _feasts(wrong)) for field, wrong in self.refusal.violations)
        return replace(self.refusal, violations=violations)


def _feasts(text: str) -> str:
    return text.replace("request_data", "request_context").replace("hindcast.v1.Get", "feast.serving.Get")


def bad(field: str, description: str, *more: tuple[str, str]) -> Refusal:
    """Wrong fields."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", violations=((field, description), *more))


def unknown(kind: str, name: str, hint: str) -> Refusal:
    """A name that there is not."""
    message = f"{kind} {name!r} does not exist; there are {hint}"
    return Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_NAME", message, resource=(kind, cut(name, FIELD_BYTES_MAX)))


def cut(text: str, bytes_max: int) -> str:
    """A text as an error repeats it."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[: bytes_max - 3].decode(errors="ignore") + "…"


def transform_failed(message: str) -> Refusal:
    """An on-demand view's own fault."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, "TRANSFORM_FAILED", message)


def by_grpc(code: grpc.StatusCode) -> Refusal:
    """Refused before any handler saw it."""
    return Refusal(code)


def hindcast(
    features: str | Sequence[str],
    entities: Columns | None = None,
    data: Columns | None = None,
    *,
    full: bool = False,
    **more: object,
) -> bytes:
    """A request of hindcast.v1; a text names a feature service."""
    message = HindcastRequest(full_feature_names=full, entities=_columns(entities), request_data=_columns(data), **more)
    if isinstance(features, str):
        message.feature_service = features
    else:
        message.feature_list.val.extend(features)
        message.feature_list.SetInParent()
    return message.SerializeToString()


def feast(
    features: str | Sequence[str], entities: Columns | None = None, data: Columns | None = None, *, full: bool = False
) -> bytes:
    """A request of Feast's services; a text names a feature service."""
    message = FeastRequest(full_feature_names=full, entities=_columns(entities), request_context=_columns(data))
    if isinstance(features, str):
        message.feature_service = features
    else:
        message.features.val.extend(features)
        message.features.SetInParent()
    return message.SerializeToString()


def _columns(columns: Columns | None) -> dict[str, ValueColumn]:
    return {
        name: ValueColumn(val=[value if isinstance(value, bytes) else value.SerializeToString() for value in column])
        for name, column in (columns or {}).items()
    }


def integer(number: int) -> Value:
    """An int64."""
    return Value(int64_val=number)


def text(content: str) -> Value:
    """A string."""
    return Value(string_val=content)


ONE: Columns = {"driver_id": [integer(1)]}
TRIPS = ["driver:trips"]


def asks(
    name: str,
    refusal: Refusal | None,
    features: str | Sequence[str],
    entities: Columns | None = ONE,
    data: Columns | None = None,
    *,
    full: bool = False,
    methods: Sequence[str] = LOOKUPS,
    statuses: tuple[int, ...] | None = None,
    in_docs: str = "",
    **more: object,
) -> Row:
    """A row that asks the same by every method; `more` is of hindcast.v1 alone."""
    requests = {method: feast(features, entities, data, full=full) for method in BOTH_OF_FEAST}
    requests[HINDCAST] = hindcast(features, entities, data, full=full, **more)
    calls = tuple((method, requests[method]) for method in methods)
    return Row(name, calls, refusal, statuses, in_docs=in_docs or name)


def sends(
    name: str,
    refusal: Refusal | None,
    request: bytes,
    *,
    methods: Sequence[str] = LOOKUPS,
    metadata: tuple[tuple[str, str], ...] = (),
    gzipped: bool = False,
    in_docs: str = "",
) -> Row:
    """A row that sends the same bytes by every method."""
    calls = tuple((method, request) for method in methods)
    return Row(name, calls, refusal, metadata=metadata, gzipped=gzipped, in_docs=in_docs or name)


SCALARS = {
    "bytes_val": b"k", "string_val": "k", "int32_val": 7, "int64_val": 7, "double_val": 7.0, "float_val": 7.0,
    "bool_val": True, "unix_timestamp_val": 7, "json_val": "7", "uuid_val": "7", "time_uuid_val": "7", "decimal_val": "7",
}  # fmt: skip


def value_of(kind: str) -> Value:
    """Some value of a kind of Value."""
    if kind in SCALARS:
        return Value(**{kind: SCALARS[kind]})
    value = Value()
    getattr(value, kind).SetInParent()
    return value


KINDS = tuple(field.name for field in Value.DESCRIPTOR.fields if field.name != "null_val")
