"""Questions: a request of either dialect, read from its bytes without parsing a feature value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from hindcast.errors import FieldViolation, InvalidArgument
from hindcast.serving.plan import Wanted
from hindcast.shadow.v1 import shadow_pb2

ROWS_MAX = 10_000
"""Entity rows in one request. 10,000 x 50 features is an answer of 9 MB already; more rows are cheaper in several calls."""

_REQUEST_ID_BYTES_MAX = 256
_TAGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the two APIs differ in what a request may hold and an answer says.

    Attributes:
        refuses_unknown_columns: an entity column that nothing needs is an error, not ignored as Feast does.
        keeps_stale_values: a value past its view's TTL is answered and flagged; else it is null and flagged.
    """

    entities_field: str
    request_field: str
    refuses_unknown_columns: bool
    keeps_stale_values: bool


FEAST = Dialect("entities", "request_context", refuses_unknown_columns=False, keeps_stale_values=True)
HINDCAST = Dialect("entities", "request_data", refuses_unknown_columns=True, keeps_stale_values=False)


class Question(NamedTuple):
    """What is asked; a tuple because every call makes one.

    Attributes:
        entities, request_data: by column, serialized Values.
    """

    dialect: Dialect
    wanted: Wanted
    entities: Mapping[str, Sequence[bytes]]
    request_data: Mapping[str, Sequence[bytes]]
    with_view_versions: bool = False


def read_feast(request: bytes, renamed: Mapping[str, str]) -> Question:
    """A `feast.serving.GetOnlineFeaturesRequest`.

    Args:
        renamed: entity name -> join key where the two differ; Feast still takes the one for the other.
    Raises:
        InvalidArgument: the bytes are not one.
    """
    try:
        message = shadow_pb2.FeastRequest.FromString(request)
    except DecodeError as error:
        raise _not_a_request("feast.serving.GetOnlineFeaturesRequest") from error
    entities = {renamed.get(name, name): list(column.val) for name, column in message.entities.items()}
    return Question(
        FEAST,
        Wanted(message.feature_service, b"", message.full_feature_names)
        if message.WhichOneof("kind") == "feature_service"
        else Wanted(None, message.features.SerializeToString(), message.full_feature_names),
        entities,
        {name: list(column.val) for name, column in message.request_context.items()},
        message.include_feature_view_version_metadata,
    )


def read_hindcast(request: bytes) -> Question:
    """A `hindcast.v1.GetOnlineFeaturesRequest`.

    Raises:
        InvalidArgument: the bytes are not one, or its id or tags are over their limits.
    """
    try:
        message = shadow_pb2.HindcastRequest.FromString(request)
    except DecodeError as error:
        raise _not_a_request("hindcast.v1.GetOnlineFeaturesRequest") from error
    violations = []
    if message.request_id and len(message.request_id.encode()) > _REQUEST_ID_BYTES_MAX:
        violations.append(FieldViolation("request_id", f"is longer than {_REQUEST_ID_BYTES_MAX} bytes; shorten it"))
    if len(message.tags) > _TAGS_MAX:
        violations.append(FieldViolation("tags", f"has {len(message.tags)} entries, at most {_TAGS_MAX} are kept"))
    if violations:
        raise InvalidArgument(violations)
    return Question(
        HINDCAST,
        Wanted(message.feature_service, b"", message.full_feature_names)
        if message.WhichOneof("features") == "feature_service"
        else Wanted(None, message.feature_list.SerializeToString(), message.full_feature_names),
        {name: list(column.val) for name, column in message.entities.items()},
        {name: list(column.val) for name, column in message.request_data.items()},
    )


def read_stream_request(request: bytes) -> tuple[bytes, float | None]:
    """The serialized lookup of a `hindcast.v1.StreamOnlineFeaturesRequest`, and how many seconds it may take.

    Raises:
        InvalidArgument: the bytes are not one.
    """
    try:
        message = shadow_pb2.HindcastStreamRequest.FromString(request)
    except DecodeError as error:
        raise _not_a_request("hindcast.v1.StreamOnlineFeaturesRequest") from error
    if not message.HasField("timeout"):
        return message.lookup, None
    return message.lookup, message.timeout.seconds + message.timeout.nanos / 1e9


def _not_a_request(message_name: str) -> InvalidArgument:
    return InvalidArgument.at("request", f"the bytes are not a {message_name}; check the client's protos")
