"""What the two messages of a record say, in any dialect: the columns that were asked and answered, as serialized Values."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from hindcast.lookups.record import LookupRecord, Rpc
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value

Columns = Mapping[str, Sequence[bytes]]


class Answered(NamedTuple):
    """The columns of an answer in order; those of Feast's begin with the entities.

    Attributes:
        values: per column n serialized Values.
        statuses: per column n numbers.
    """

    values: list[list[bytes]]
    statuses: list[bytes]


def answered(record: LookupRecord) -> Answered:
    """The columns of an answer; none for a failure.

    Raises:
        DecodeError: the answer cannot be read.
    """
    if not record.response:
        return Answered([], [])
    if record.rpc is Rpc.FEAST:
        return _answered(shadow_pb2.FeastResponse.FromString(record.response).results[:])
    return _answered(_hindcast_answer(record).columns[:])


def named_answer(record: LookupRecord) -> tuple[Answered, list[tuple[str, int | None]]]:
    """The columns of an answer, and of each its name, and which of the record's `rows` it was read from, where the answer says so.

    Raises:
        DecodeError: the answer cannot be read.
    """
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastResponse.FromString(record.response)
        named = shadow_pb2.FeastMetadata.FromString(feast.metadata).feature_names.val
        return _answered(feast.results[:]), [(name, None) for name in named]
    columns = _hindcast_answer(record).columns[:]
    read_from = [column.view_index if column.HasField("view_index") else None for column in columns]
    return _answered(columns), list(zip([column.name for column in columns], read_from, strict=True))


def _answered(columns: Sequence[shadow_pb2.FeastVector | shadow_pb2.HindcastColumn]) -> Answered:
    return Answered([column.values[:] for column in columns], [column.statuses for column in columns])


def _hindcast_answer(record: LookupRecord) -> shadow_pb2.HindcastResponse:
    response = record.response
    if record.rpc is Rpc.STREAM:
        response = shadow_pb2.HindcastStreamResponse.FromString(response).answer
    return shadow_pb2.HindcastResponse.FromString(response)


def sent(record: LookupRecord) -> dict[str, Sequence[bytes]]:
    """The columns of a request: entities, and request data where no entity has the name.

    Raises:
        DecodeError: the request cannot be read.
    """
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastRequest.FromString(record.request)
        maps = (feast.request_context, feast.entities)
    else:
        request = record.request
        if record.rpc is Rpc.STREAM:
            request = shadow_pb2.HindcastStreamRequest.FromString(request).lookup
        message = shadow_pb2.HindcastRequest.FromString(request)
        maps = (message.request_data, message.entities)
    return {name: column.val[:] for columns in maps for name, column in columns.items()}


def plain_value(value: bytes) -> Any:
    """A serialized Value as JSON can say it; bytes in base64, and None also for what is no scalar or cannot be read."""
    try:
        message = Value.FromString(value)
    except DecodeError:
        return None
    kind = message.WhichOneof("val")
    found = None if kind is None or kind == "null_val" else getattr(message, kind)
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, float) and not math.isfinite(found):
        return str(found)
    return found if isinstance(found, str | int | float | bool) else None
