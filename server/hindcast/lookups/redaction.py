"""Takes rows out of a lookup's record: in their place are nulls and zeros, and the record says which rows are gone.

What the others were answered stays as it was, value by value. The two messages are no longer those that went over the wire.
"""

from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence

import msgspec

from hindcast.lookups.messages import sent
from hindcast.lookups.record import HEADER_BYTES, LookupRecord, Rpc, StoredRows
from hindcast.shadow.v1 import shadow_pb2


def without_rows(record: LookupRecord, rows: Collection[int]) -> LookupRecord | None:
    """The record without some of its rows, and without what its caller told of the lookup: request id and tags, which may be about any row.

    Returns:
        None where nothing would be left, and where it cannot be told what of the record belongs to which row.
    Raises:
        DecodeError: one of its messages cannot be read.
    """
    gone = sorted({*rows, *record.erased})
    counts = {len(column) for column in sent(record).values()}
    if len(counts) != 1 or len(gone) >= (count := counts.pop()):
        return None
    response = _response(record, gone, count)
    if response is None:
        return None
    return msgspec.structs.replace(
        record,
        request_id="",
        tags={},
        message="",
        rows=[StoredRows(view, _headers(headers, gone, count)) for view, headers in record.rows],
        computed={
            view: {name: _values(values, gone, count) for name, values in columns.items()}
            for view, columns in record.computed.items()
        },
        request=_request(record, gone),
        response=response,
        erased=tuple(gone),
    )


def _headers(headers: bytes, gone: Sequence[int], count: int) -> bytes:
    if len(headers) != count * HEADER_BYTES:
        return b""
    left = bytearray(headers)
    for row in gone:
        left[row * HEADER_BYTES : (row + 1) * HEADER_BYTES] = bytes(HEADER_BYTES)
    return bytes(left)


def _values(values: Sequence[bytes], gone: Sequence[int], count: int) -> Sequence[bytes]:
    if len(values) != count:
        return []
    left = list(values)
    for row in gone:
        left[row] = b""
    return left


def _request(record: LookupRecord, gone: Sequence[int]) -> bytes:
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastRequest.FromString(record.request)
        _empty(feast.entities, gone)
        _empty(feast.request_context, gone)
        # What no field of ours holds may be about anybody.
        feast.DiscardUnknownFields()
        return feast.SerializeToString()
    if record.rpc is Rpc.HINDCAST:
        return _hindcast_request(record.request, gone)
    message = shadow_pb2.HindcastStreamRequest.FromString(record.request)
    message.lookup = _hindcast_request(message.lookup, gone)
    message.DiscardUnknownFields()
    return message.SerializeToString()


def _hindcast_request(serialized: bytes, gone: Sequence[int]) -> bytes:
    message = shadow_pb2.HindcastRequest.FromString(serialized)
    _empty(message.entities, gone)
    _empty(message.request_data, gone)
    message.ClearField("request_id")
    message.ClearField("tags")
    message.DiscardUnknownFields()
    return message.SerializeToString()


def _empty(columns: Mapping[str, shadow_pb2.ValueColumn], gone: Sequence[int]) -> None:
    for column in columns.values():
        for row in gone:
            column.val[row] = b""


def _response(record: LookupRecord, gone: Sequence[int], count: int) -> bytes | None:
    """None where the answer has not as many rows as the request."""
    if not record.response:
        return b""
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastResponse.FromString(record.response)
        moments = (vector.event_timestamps for vector in feast.results)
        return feast.SerializeToString() if _emptied(feast.results, moments, gone, count) else None
    stream = shadow_pb2.HindcastStreamResponse()
    if record.rpc is Rpc.STREAM:
        stream = shadow_pb2.HindcastStreamResponse.FromString(record.response)
    message = shadow_pb2.HindcastResponse.FromString(stream.answer or record.response)
    if not _emptied(message.columns, (view.event_timestamps for view in message.views), gone, count):
        return None
    if record.rpc is Rpc.HINDCAST:
        return message.SerializeToString()
    stream.answer = message.SerializeToString()
    return stream.SerializeToString()


def _emptied(
    columns: Sequence[shadow_pb2.FeastVector | shadow_pb2.HindcastColumn],
    moments: Iterable[MutableSequence[bytes]],
    gone: Sequence[int],
    count: int,
) -> bool:
    for column in columns:
        if not len(column.values) == len(column.statuses) == count:
            return False
        statuses = bytearray(column.statuses)
        for row in gone:
            column.values[row] = b""
            statuses[row] = 0
        column.statuses = bytes(statuses)
    for of_rows in moments:
        # Some have none at all.
        if len(of_rows) not in {0, count}:
            return False
        for row in gone if len(of_rows) else ():
            of_rows[row] = b""
    return True
