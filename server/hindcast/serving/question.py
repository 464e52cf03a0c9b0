"""Questions: a request of either dialect, read from its bytes without parsing a feature value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hindcast.errors import FieldViolation, InvalidArgument
from hindcast.serving.messages import message_of
from hindcast.serving.plan import Wanted
from hindcast.serving.wire import has_more_fields
from hindcast.settings import StaleValues
from hindcast.shadow.v1 import shadow_pb2

ROWS_MAX = 10_000
"""Entity rows in one request. 10,000 x 50 features is an answer of 9 MB already; more rows are cheaper in several calls."""

_COLUMNS_MAX = 1_000
_REFS_MAX = 10_000
"""A message of 16 MiB can hold a million columns or three million references; working them out held a worker for 13 s."""

_FIELDS_MAX = 3_000
_FEW_FIELDS_BYTES_MAX = 2**16
"""Above the columns of both maps, the tags and the rest. A million columns take 600 MB when they are parsed, so they are
counted before that; a message that is no longer than this cannot hold enough to matter."""

_REQUEST_ID_BYTES_MAX = 256
TAGS_MAX = 32


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


class Question(NamedTuple):
    """What is asked; a tuple because every call makes one.

    Attributes:
        entities, request_data: by column, serialized Values.
        request_id, tags: as the request's own fields say; Feast's requests have none.
    """

    dialect: Dialect
    wanted: Wanted
    entities: Mapping[str, Sequence[bytes]]
    request_data: Mapping[str, Sequence[bytes]]
    with_view_versions: bool = False
    request_id: str = ""
    tags: Mapping[str, str] | None = None


def read_feast(request: bytes, renamed: Mapping[str, str]) -> Question:
    """A `feast.serving.GetOnlineFeaturesRequest`.

    Args:
        renamed: entity name -> join key where the two differ; Feast still takes the one for the other.
    Raises:
        InvalidArgument: the bytes are not one, it holds too much, or one join key comes under two names.
    """
    _check_fields(request)
    message = message_of(shadow_pb2.FeastRequest, request, name="feast.serving.GetOnlineFeaturesRequest")
    sent = _columns("entities", message.entities)
    entities = {renamed.get(name, name): column for name, column in sent.items()}
    if len(entities) < len(sent):
        twice = next(renamed[name] for name in sent if name in renamed and renamed[name] in sent)
        raise InvalidArgument.at(
            f'entities["{twice}"]', "is sent twice, as the join key and by its entity's name; send one of them"
        )
    return Question(
        FEAST,
        Wanted(message.feature_service, b"", message.full_feature_names)
        if message.WhichOneof("kind") == "feature_service"
        else Wanted(None, _refs_bytes(message.features), message.full_feature_names),
        entities,
        _columns("request_context", message.request_context),
        message.include_feature_view_version_metadata,
    )


def read_hindcast(request: bytes) -> Question:
    """A `hindcast.v1.GetOnlineFeaturesRequest`.

    Raises:
        InvalidArgument: the bytes are not one, or it holds too much.
    """
    _check_fields(request)
    message = message_of(shadow_pb2.HindcastRequest, request, name="hindcast.v1.GetOnlineFeaturesRequest")
    violations = []
    if message.request_id and len(message.request_id.encode()) > _REQUEST_ID_BYTES_MAX:
        violations.append(FieldViolation("request_id", f"is longer than {_REQUEST_ID_BYTES_MAX} bytes; shorten it"))
    if len(message.tags) > TAGS_MAX:
        violations.append(FieldViolation("tags", f"has {len(message.tags)} entries, at most {TAGS_MAX} are kept"))
    if violations:
        raise InvalidArgument(violations)
    return Question(
        HINDCAST,
        Wanted(message.feature_service, b"", message.full_feature_names)
        if message.WhichOneof("features") == "feature_service"
        else Wanted(None, _refs_bytes(message.feature_list), message.full_feature_names),
        _columns("entities", message.entities),
        _columns("request_data", message.request_data),
        request_id=message.request_id,
        tags=dict(message.tags) if message.tags else None,
    )


def read_stream_request(request: bytes) -> tuple[bytes, float | None]:
    """The serialized lookup of a `hindcast.v1.StreamOnlineFeaturesRequest`, and how many seconds it may take.

    Raises:
        InvalidArgument: the bytes are not one.
    """
    message = message_of(shadow_pb2.HindcastStreamRequest, request, name="hindcast.v1.StreamOnlineFeaturesRequest")
    if not message.HasField("timeout"):
        return message.lookup, None
    return message.lookup, message.timeout.seconds + message.timeout.nanos / 1e9


def _check_fields(request: bytes) -> None:
    """Refuse a message that would take much memory to parse.

    Raises:
        InvalidArgument: it is one.
    """
    if len(request) > _FEW_FIELDS_BYTES_MAX and has_more_fields(request, _FIELDS_MAX):
        raise InvalidArgument.at("request", f"has more than {_FIELDS_MAX} fields; send at most {_COLUMNS_MAX} columns")


def _refs_bytes(refs: shadow_pb2.FeatureRefs) -> bytes:
    """References as they name a plan; they are looked at one by one when it is made.

    Raises:
        InvalidArgument: more of them than there may be.
    """
    if len(refs.val) > _REFS_MAX:
        raise InvalidArgument.at("features", f"has {len(refs.val)} references; ask for at most {_REFS_MAX} at once")
    return refs.SerializeToString()


def _columns(field: str, sent: Mapping[str, shadow_pb2.ValueColumn]) -> dict[str, Sequence[bytes]]:
    """The columns of a map.

    Raises:
        InvalidArgument: more columns, or rows in a column, than there may be.
    """
    if len(sent) > _COLUMNS_MAX:
        raise InvalidArgument.at(field, f"has {len(sent)} columns; send at most {_COLUMNS_MAX}")
    columns: dict[str, Sequence[bytes]] = {}
    violations = []
    for name, column in sent.items():
        values = column.val
        if len(values) > ROWS_MAX:
            told = f"has {len(values)} values; ask for at most {ROWS_MAX} rows at once"
            violations.append(FieldViolation(f'{field}["{name}"]', told))
        else:
            columns[name] = list(values)
    if violations:
        raise InvalidArgument(violations)
    return columns
