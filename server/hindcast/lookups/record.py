"""Lookup records: what a lookup asked, and how it ended, as the payload of the log (docs/formats.md, "Lookup records").

A record holds the request and the answer as they went over the wire; nothing is decoded to make one.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

import msgspec

from hindcast.errors import StoredDataError

FORMAT = 1

_HEADER_BYTES = 42
"""Of a packed row; a room may not look into another one beside it (docs/formats.md, "Packed rows")."""

_SIGN = 1 << 63

ID_BYTES = 16
EARLIEST_MICROS, END_MICROS = -62_135_596_800_000_000, 253_402_300_800_000_000
"""The years 1 to 9999: what has a day to be sealed under."""


class Rpc(StrEnum):
    """Which messages a record's request and response are."""

    FEAST = "feast"
    """`feast.serving.GetOnlineFeaturesRequest` and `…Response`."""
    HINDCAST = "hindcast"
    """`hindcast.v1.GetOnlineFeaturesRequest` and `…Response`."""
    STREAM = "stream"
    """`hindcast.v1.StreamOnlineFeaturesRequest` and `…Response`."""


class StoredRows(NamedTuple):
    """The stored rows that a lookup read of one view.

    Attributes:
        view: the view's name, or its alias in the feature service.
        headers: per row of the lookup the 42 bytes that a packed row begins with; zeros where there was no row. Of Feast's
            layout event_ts alone, before zeros.
    """

    view: str
    headers: bytes


class RowHeader(NamedTuple):
    """What a stored row said of itself.

    Attributes:
        created_micros: None where the source does not say.
        run_id: 16 bytes, the materialization or push that wrote the row; None in Feast's layout, which does not say.
    """

    event_micros: int
    created_micros: int | None
    run_id: bytes | None


class LookupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One lookup.

    Attributes:
        lookup_id: 16 bytes, a UUIDv7.
        served_at_micros: when it was answered or failed; the instant that a `hindcast.v1` answer says.
        request_id: the caller's; empty if it sent none.
        tags: the caller's.
        catalog_version: of the definitions that it was answered from.
        service: the feature service asked for, as the caller wrote it; empty for a list of references.
        refs: the references asked for; empty for a feature service, and where the request could not be read.
        mode: the word of the log's mode that it was kept in.
        code: a google.rpc.Code; 0 for an answer.
        reason: the word of google.rpc.ErrorInfo; empty for an answer, and for a call that was cancelled or out of time.
        message: what the caller was told of a failure.
        rows: per view that was read, in the order of an answer's `views`; empty for a failure.
        computed: what on-demand views were given: view -> column -> serialized Values.
        request: as received.
        response: as sent; empty for a failure.
    """

    lookup_id: bytes
    served_at_micros: int
    rpc: Rpc
    request_id: str
    tags: Mapping[str, str]
    catalog_version: str
    service: str
    refs: Sequence[str]
    mode: str
    code: int
    reason: str
    message: str
    rows: Sequence[StoredRows]
    computed: Mapping[str, Mapping[str, Sequence[bytes]]]
    request: bytes
    response: bytes


class RecordHead(msgspec.Struct, array_like=True, tag=FORMAT):
    """A record as it is stored, without its two messages; see `LookupRecord`.

    Attributes:
        repeats: what was taken out of the response, 12 bytes for each place (`online.codec.fold`).
    """

    lookup_id: bytes
    served_at_micros: int
    rpc: Rpc
    request_id: str
    tags: Mapping[str, str]
    catalog_version: str
    service: str
    refs: Sequence[str]
    mode: str
    code: int
    reason: str
    message: str
    rows: Sequence[tuple[str, bytes]]
    computed: Mapping[str, Mapping[str, Sequence[bytes]]]
    repeats: bytes


class _Stored(RecordHead, tag=FORMAT):
    request: bytes
    response: bytes


_SHARED = tuple(name for name in RecordHead.__struct_fields__ if name != "repeats")
"""Fields that a record has as they are stored."""

_ARRAY = b"\xdc" + (1 + len(RecordHead.__struct_fields__) + 2).to_bytes(2, "big")
"""Of the format, the head's fields and the two messages."""

_BIN32 = 0xC6
_bytes_head = Struct(">BI").pack
"""What stands before bytes in msgpack, in its longest form, so that it has one length."""

_REPEAT = Struct(">III")
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(_Stored).decode


_COPIED_BYTES_MAX = 1 << 13
"""Each part costs a sum and a buffer of a system call: more than to copy a few kilobytes."""


def encode(record: LookupRecord) -> tuple[bytes, ...]:
    """The payload of a record, as `encode_parts` gives it."""
    head = RecordHead(**{name: getattr(record, name) for name in _SHARED}, repeats=b"")
    return encode_parts(head, record.request, record.response)


def encode_parts(head: RecordHead, request: bytes, response: bytes) -> tuple[bytes, ...]:
    """The payload of a record, in parts. Request and response are parts of their own, and the same objects; small ones are
    copied into one part.

    Args:
        response: without what `head.repeats` says was taken out.
    """
    before_request = bytearray()
    # An array of 16 has the three bytes before its elements that one of 18 has.
    _encode_into(head, before_request)
    before_request[: len(_ARRAY)] = _ARRAY
    before_request += _bytes_head(_BIN32, len(request))
    before_response = _bytes_head(_BIN32, len(response))
    if len(request) + len(response) <= _COPIED_BYTES_MAX:
        return (b"".join((before_request, request, before_response, response)),)
    return bytes(before_request), request, before_response, response


def decode(payload: bytes) -> LookupRecord:
    """The record of a payload.

    Raises:
        StoredDataError: it is none, or one of a format that this version does not know.
    """
    try:
        stored = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged() from error
    response = _unfolded(stored.response, stored.repeats) if stored.repeats else stored.response
    shared = {name: getattr(stored, name) for name in _SHARED}
    shared["rows"] = [StoredRows(*rows) for rows in stored.rows]
    return LookupRecord(**shared, request=stored.request, response=response)


def _unfolded(left: bytes, repeats: bytes) -> bytes:
    """A response with what was taken out put back."""
    if len(repeats) % _REPEAT.size:
        raise _damaged()
    whole, taken = bytearray(), 0
    for at, source, size in _REPEAT.iter_unpack(repeats):
        until = taken + at - len(whole)
        if not taken <= until <= len(left) or source + size > at:
            raise _damaged()
        whole += left[taken:until]
        whole += whole[source : source + size]
        taken = until
    return bytes(whole + left[taken:])


def _damaged() -> StoredDataError:
    return StoredDataError(
        f"a record of the lookup log cannot be read: it is damaged, or of another format than {FORMAT}, which this version "
        "reads"
    )


class Glance(NamedTuple):
    """What a record says in its first bytes."""

    lookup_id: bytes
    served_at_micros: int


GLANCE_BYTES = len(_ARRAY) + 1 + 2 + 16 + 9
"""The array's head, the format, the id behind its own head, and a time of 64 bits behind its own."""

_BEGINS = _ARRAY + bytes([FORMAT]) + b"\xc4\x10"
_ID_AT = len(_BEGINS)
_TIME_AT = _ID_AT + 16


def glance(payload: bytes, offset: int = 0) -> Glance | None:
    """The id and the time of the record whose payload begins at an offset, without decoding it.

    None where it does not begin as records of these decades do: then `decode` says what it is.
    """
    end = offset + GLANCE_BYTES
    # 0xcf is an unsigned number of 64 bits, which all microseconds after 1970 and an hour are.
    if len(payload) < end or not payload.startswith(_BEGINS, offset) or payload[offset + _TIME_AT] != _UNSIGNED_64:
        return None
    return Glance(
        payload[offset + _ID_AT : offset + _TIME_AT], int.from_bytes(payload[offset + _TIME_AT + 1 : end], "big")
    )


_UNSIGNED_64 = 0xCF


def row_headers(rows: StoredRows) -> list[RowHeader | None]:
    """What the stored rows said of themselves; None where there was no row."""
    return [_row_header(rows.headers[at : at + _HEADER_BYTES]) for at in range(0, len(rows.headers), _HEADER_BYTES)]


def headers_count(rows: StoredRows) -> int:
    """How many rows were asked for."""
    return len(rows.headers) // _HEADER_BYTES


def _row_header(header: bytes) -> RowHeader | None:
    if not any(header):
        return None
    event, created = int.from_bytes(header[:8], "big"), int.from_bytes(header[8:16], "big")
    is_packed = header[16] != 0
    return RowHeader(event - _SIGN, created - _SIGN if created else None, header[26:] if is_packed else None)
