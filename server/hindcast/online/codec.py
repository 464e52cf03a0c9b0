"""The narrow waist: packed rows and answers, bytes in and bytes out. Nothing here knows Redis, gRPC or the catalog.

A packed row is a 41-byte header and a msgpack array (docs/formats.md):

    offset  bytes  content
    0       8      event_ts, microseconds since 1970, big-endian with the sign bit flipped
    8       8      created_ts, the same; all zero where it is null, so that null sorts first
    16      1      format version, 1
    17      8      schema id
    25      16     run id
    41      …      msgpack array: a serialized `feast.types.Value`, or nil for a null, per field of the schema

The first 16 bytes compare as unsigned bytes like the total order `(event_ts, created_ts)`, which is all that the
newest-wins script looks at.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from hindcast.errors import StoredDataError
from hindcast.shadow.v1 import shadow_pb2

_HEADER = struct.Struct(">QQB8s16s")
_HEADER_BYTES = _HEADER.size
_FORMAT = 1
_SIGN = 1 << 63
_EARLIEST, _LATEST = _SIGN - 62_135_596_800_000_000, _SIGN + 253_402_300_800_000_000
"""The years 1 to 9999 as they stand in a header: what a google.protobuf.Timestamp can say."""

NULLS = frozenset({b"", b"\x98\x01\x00"})
"""A Value with nothing set, and one with `null_val` set, which some writers send."""

_DAMAGED = "a stored row is damaged; materialize its view again"

ORDER_BYTES = 16
"""Length of the part that the newest-wins script compares."""

_encode_values = msgspec.msgpack.Encoder().encode
_decode_values = msgspec.msgpack.Decoder(list[bytes | None]).decode


class PackedRow(NamedTuple):
    """One row as stored; a tuple because a lookup makes thousands.

    Attributes:
        event_micros: when the row was true.
        created_micros: when it became known; None where the source does not say.
        schema_id: 8 bytes, names the field list of `values`.
        run_id: 16 bytes, the materialization or push that wrote it.
        values: a serialized Value per field, None for a null.
    """

    event_micros: int
    created_micros: int | None
    schema_id: bytes
    run_id: bytes
    values: list[bytes | None]


def pack_row(
    *, event_micros: int, created_micros: int | None, schema_id: bytes, run_id: bytes, values: Sequence[bytes | None]
) -> bytes:
    """Pack a row. A Value that is empty or says `null_val` is a null and is stored as one.

    Raises:
        struct.error: a time outside 64 bits of microseconds.
    """
    return _HEADER.pack(
        event_micros + _SIGN, 0 if created_micros is None else created_micros + _SIGN, _FORMAT, schema_id, run_id
    ) + _encode_values([None if value in NULLS else value for value in values])


def unpack_row(packed: bytes) -> PackedRow:
    """Unpack what `pack_row` packed.

    Raises:
        StoredDataError: these bytes are not a packed row of a format this version knows.
    """
    (event,), (schema_id,), (values,) = unpack_rows([packed])
    _, created, _, _, run_id = _HEADER.unpack_from(packed)
    return PackedRow(event, created - _SIGN if created else None, schema_id, run_id, values)


def unpack_rows(stored: Sequence[bytes | None]) -> tuple[list[Any], list[Any], list[Any]]:
    """What a lookup needs of n rows: event time in microseconds, schema id, values. Three Nones where there is no row.

    A loop without a call or an object per row: a lookup unpacks hundreds.

    Raises:
        StoredDataError: as `unpack_row`.
    """
    events: list[int | None] = []
    schema_ids: list[bytes | None] = []
    rows: list[list[bytes | None] | None] = []
    try:
        for packed in stored:
            if packed is None:
                events.append(None)
                schema_ids.append(None)
                rows.append(None)
                continue
            event, _, row_format, schema_id, _ = _HEADER.unpack_from(packed)
            if row_format != _FORMAT:
                raise StoredDataError(
                    f"a stored row has format {row_format}, this version reads {_FORMAT}; upgrade Hindcast"
                )
            if not _EARLIEST <= event < _LATEST:
                raise StoredDataError(_DAMAGED)
            events.append(event - _SIGN)
            schema_ids.append(schema_id)
            rows.append(_decode_values(packed[_HEADER_BYTES:]))
    except (struct.error, msgspec.DecodeError) as error:
        raise StoredDataError(_DAMAGED) from error
    return events, schema_ids, rows


class Column(NamedTuple):
    """One column of an answer: n values (serialized, b"" for null), n statuses (a byte each), and the view it is of."""

    name: str
    values: Sequence[bytes]
    statuses: bytes
    view_index: int | None


def splice_feast(
    metadata: bytes, columns: Iterable[Column], view_times: Sequence[Sequence[bytes]], *, statuses: bytes
) -> bytes:
    """A serialized `feast.serving.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        metadata: the serialized response metadata that names the columns.
        columns: one per name.
        view_times: per view, n serialized Timestamps.
        statuses: 256 bytes, what each status becomes in Feast's words.
    """
    answer = shadow_pb2.FeastResponse(metadata=metadata)
    add = answer.results.add
    for _, values, column_statuses, view_index in columns:
        add(
            values=values,
            statuses=column_statuses.translate(statuses),
            event_timestamps=[b""] * len(values) if view_index is None else view_times[view_index],
        )
    return answer.SerializeToString()


def splice_hindcast(
    *,
    lookup_id: str,
    catalog_version: str,
    served_at: bytes,
    views: Iterable[tuple[str, Sequence[bytes]]],
    columns: Iterable[Column],
) -> bytes:
    """A serialized `hindcast.v1.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        served_at: a serialized Timestamp.
        views: name and n serialized Timestamps each.
    """
    answer = shadow_pb2.HindcastResponse(lookup_id=lookup_id, catalog_version=catalog_version, served_at=served_at)
    for view, times in views:
        answer.views.add(view=view, event_timestamps=times)
    add = answer.columns.add
    for name, values, statuses, view_index in columns:
        add(name=name, values=values, statuses=statuses, view_index=view_index)
    return answer.SerializeToString()
