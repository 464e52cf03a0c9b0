"""A question: what was asked, checked, as the message that goes out and the columns that the answer will stand beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest
from hindcast.v1.value_pb2 import Value
from hindcast_client._columns import Table, columns_of
from hindcast_client._encoding import encode_column, narrow

# Both are the API's (protos/hindcast/v1/feature_service.proto).
REQUEST_ID_BYTES_MAX = 256
TAGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request.

    Attributes:
        message: as it goes out.
        entities: the entity columns in the caller's order; a protobuf map keeps none.
        rows: how many rows were asked for; None where no column says so.
    """

    message: GetOnlineFeaturesRequest
    entities: dict[str, list[Value]]
    rows: int | None


def ask(
    *,
    features: str | Sequence[str],
    entities: Table,
    request_data: Table | None,
    full_feature_names: bool,
    request_id: str | None,
    tags: Mapping[str, str] | None,
) -> Question:
    """Check the arguments of `get_online_features` and encode them.

    Raises:
        ValueError, TypeError: says which argument, column and row, and what to give instead.
    """
    message = GetOnlineFeaturesRequest(full_feature_names=full_feature_names)
    if isinstance(features, str):
        message.feature_service = _service(features)
    else:
        message.feature_list.refs.extend(_refs(features, full_feature_names=full_feature_names))
    keys = {column: narrow(values) for column, values in _encoded(entities, name="entities").items()}
    data = {} if request_data is None else _encoded(request_data, name="request_data")
    for column in data:
        if column in keys:
            raise ValueError(f"{column!r} is in entities and in request_data; leave it out of one")
    lengths = {table: len(next(iter(columns.values()))) for table, columns in _named(keys, data) if columns}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"entities has {lengths['entities']} rows and request_data {lengths['request_data']}; "
            "give one row of request_data per entity row"
        )
    for columns, field in ((keys, message.entities), (data, message.request_data)):
        for column, values in columns.items():
            # The access makes the entry, so that a column of no rows goes out too.
            field[column].val.extend(values)
    if request_id is not None:
        message.request_id = _request_id(request_id)
    if tags:
        message.tags.update(_tags(tags))
    return Question(message, keys, next(iter(lengths.values()), None))


def _named(
    keys: dict[str, list[Value]], data: dict[str, list[Value]]
) -> tuple[tuple[str, dict[str, list[Value]]], tuple[str, dict[str, list[Value]]]]:
    return ("entities", keys), ("request_data", data)


def _encoded(table: Table, *, name: str) -> dict[str, list[Value]]:
    columns = columns_of(table, name=name)
    return {key: encode_column(values, name=f"{name}[{key!r}]") for key, values in columns.items()}


def _service(name: str) -> str:
    if ":" in name:
        raise ValueError(f"features={name!r} is the name of a feature service; for a reference give a list, [{name!r}]")
    if not name:
        raise ValueError("features is empty; give a feature service's name or a list of 'view:feature' references")
    return name


def _refs(refs: Sequence[str], *, full_feature_names: bool) -> list[str]:
    if not isinstance(refs, Sequence):
        raise TypeError(
            f"features is of type {type(refs).__qualname__}; give a feature service's name or a list of "
            "'view:feature' references"
        )
    if not refs:
        raise ValueError("features is empty; give at least one 'view:feature' reference")
    views: dict[str, str] = {}
    for at, ref in enumerate(refs):
        if not isinstance(ref, str):
            raise TypeError(f"features[{at}] is of type {type(ref).__qualname__}; references are str, 'view:feature'")
        view, colon, feature = ref.partition(":")
        if not (view and colon and feature) or ":" in feature:
            raise ValueError(f"features[{at}] is {ref!r}; a reference is 'view:feature'")
        column = ref if full_feature_names else feature
        if column in views:
            told = "twice" if views[column] == view else f"of {views[column]!r} and of {view!r}"
            ways = "" if views[column] == view else ", or set full_feature_names=True"
            raise ValueError(f"features[{at}] asks for {feature!r} {told}; name it once{ways}")
        views[column] = view
    return list(refs)


def _request_id(request_id: str) -> str:
    size = len(request_id.encode())
    if size > REQUEST_ID_BYTES_MAX:
        raise ValueError(f"request_id is {size} bytes; {REQUEST_ID_BYTES_MAX} at most")
    return request_id


def _tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > TAGS_MAX:
        raise ValueError(f"there are {len(tags)} tags; {TAGS_MAX} at most")
    for key, value in tags.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"tag {key!r} is {value!r}; tags are str to str")
    return tags
