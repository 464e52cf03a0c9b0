"""Questions: a request of either dialect, read from its bytes without parsing a feature value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hindcast.catalog import Catalog
from hindcast.errors import FieldViolation, InvalidArgument
from hindcast.serving.messages import not_a_request
from hindcast.serving.plan import Wanted
from hindcast.serving.wire import has_more_fields
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
        InvalidArgument: the bytes are not one, it holds too much, or one join key comes under two names.
    """
    _check_fields(request)
    try:
        message = shadow_pb2.FeastRequest.FromString(request)
    except DecodeError as error:
        raise not_a_request("feast.serving.GetOnlineFeaturesRequest") from error
    _check_sizes(message.features.val, {"entities": message.entities, "request_context": message.request_context})
    join_keys = catalog.join_keys
    entities: dict[str, Sequence[bytes]] = {}
    for name, column in message.entities.items():
        join_key = name if name in join_keys else catalog.entities.get(name, name)
        if join_key in entities:
            raise InvalidArgument.at(
                f'entities["{join_key}"]', "is sent twice, as the join key and by its entity's name; send one of them"
            )
        entities[join_key] = column.val
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
        InvalidArgument: the bytes are not one, or it holds too much.
    """
    _check_fields(request)
    try:
        message = shadow_pb2.HindcastRequest.FromString(request)
    except DecodeError as error:
        raise not_a_request("hindcast.v1.GetOnlineFeaturesRequest") from error
    _check_sizes(message.feature_list.val, {"entities": message.entities, "request_data": message.request_data})
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


def _check_fields(request: bytes) -> None:
    """Refuse a message that would take much memory to parse.

    Raises:
        InvalidArgument: it is one.
    """
    if len(request) > _FEW_FIELDS_BYTES_MAX and has_more_fields(request, _FIELDS_MAX):
        raise InvalidArgument.at("request", f"has more than {_FIELDS_MAX} fields; send at most {_COLUMNS_MAX} columns")


def _check_sizes(refs: Sequence[str], maps: Mapping[str, Mapping[str, shadow_pb2.ValueColumn]]) -> None:
    """Refuse what would take long to work out, before any of it is.

    Raises:
        InvalidArgument: more references, columns, or rows in a column than there may be.
    """
    if len(refs) > _REFS_MAX:
        raise InvalidArgument.at("features", f"has {len(refs)} references; ask for at most {_REFS_MAX} at once")
    for field, columns in maps.items():
        if len(columns) > _COLUMNS_MAX:
            raise InvalidArgument.at(field, f"has {len(columns)} columns; send at most {_COLUMNS_MAX}")
    violations = [
        FieldViolation(f'{field}["{name}"]', f"has {rows} values; ask for at most {ROWS_MAX} rows at once")
        for field, columns in maps.items()
        for name, column in columns.items()
        if (rows := len(column.val)) > ROWS_MAX
    ]
    if violations:
        raise InvalidArgument(violations)


def _wanted(kind: str | None, service: str, refs: Sequence[str], full_names: bool) -> Wanted:  # noqa: FBT001
    return Wanted(service if kind == "feature_service" else None, tuple(refs), full_names)
