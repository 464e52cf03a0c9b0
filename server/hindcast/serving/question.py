"""Questions: a request of either dialect, read from its bytes without parsing a feature value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hindcast.catalog import Catalog
from hindcast.errors import FieldViolation, InvalidArgument
from hindcast.serving.plan import Wanted
from hindcast.settings import StaleValues
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
        keeps_stale_values: a value past its view's TTL is answered and flagged, unless the server's setting says
            otherwise; else it is null and flagged.
    """

    entities_field: str
    request_field: str
    refuses_unknown_columns: bool
    keeps_stale_values: bool

    def keeps(self, stale_values: StaleValues) -> bool:
        """Whether a value past its view's TTL is answered under a server's setting."""
        return self.keeps_stale_values if stale_values is StaleValues.BY_DIALECT else stale_values is StaleValues.KEEP


FEAST = Dialect("entities", "request_context", refuses_unknown_columns=False, keeps_stale_values=True)
HINDCAST = Dialect("entities", "request_data", refuses_unknown_columns=True, keeps_stale_values=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        entities, request_data: by column, serialized Values.
    """

    dialect: Dialect
    wanted: Wanted
    entities: Mapping[str, Sequence[bytes]]
    request_data: Mapping[str, Sequence[bytes]]
    with_view_versions: bool = False


def read_feast(request: bytes, catalog: Catalog) -> Question:
    """A `feast.serving.GetOnlineFeaturesRequest`. An entity's name is taken for its join key, as Feast still does.

    Raises:
        InvalidArgument: the bytes are not one.
    """
    try:
        message = shadow_pb2.FeastRequest.FromString(request)
    except DecodeError as error:
        raise _not_a_request("feast.serving.GetOnlineFeaturesRequest") from error
    join_keys = catalog.join_keys
    entities = {
        name if name in join_keys else catalog.entities.get(name, name): column.val
        for name, column in message.entities.items()
    }
    return Question(
        FEAST,
        _wanted(message.WhichOneof("kind"), message.feature_service, message.features.val, message.full_feature_names),
        entities,
        {name: column.val for name, column in message.request_context.items()},
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
    if len(message.request_id.encode()) > _REQUEST_ID_BYTES_MAX:
        violations.append(FieldViolation("request_id", f"is longer than {_REQUEST_ID_BYTES_MAX} bytes; shorten it"))
    if len(message.tags) > _TAGS_MAX:
        violations.append(FieldViolation("tags", f"has {len(message.tags)} entries, at most {_TAGS_MAX} are kept"))
    if violations:
        raise InvalidArgument(violations)
    kind = message.WhichOneof("features")
    return Question(
        HINDCAST,
        _wanted(kind, message.feature_service, message.feature_list.val, message.full_feature_names),
        {name: column.val for name, column in message.entities.items()},
        {name: column.val for name, column in message.request_data.items()},
    )


def _wanted(kind: str | None, service: str, refs: Sequence[str], full_names: bool) -> Wanted:  # noqa: FBT001
    return Wanted(service if kind == "feature_service" else None, tuple(refs), full_names)


def _not_a_request(message_name: str) -> InvalidArgument:
    return InvalidArgument.at("request", f"the bytes are not a {message_name}; check the client's protos")
