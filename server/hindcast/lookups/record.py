"""Lookup records: what a lookup asked, and how it ended, as the payload of the log (docs/formats.md, "Lookup records").

A record holds the request and the answer as they went over the wire; nothing is decoded to make one.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

import msgspec

from hindcast.errors import StoredDataError

FORMAT = 2
"""Format 1, whose rows had whole headers, was never released."""

HEADER_BYTES = 42
"""Of a packed row; a room may not look into another one beside it (docs/formats.md, "Packed rows")."""

SIGN = 1 << 63
"""Added to a time of a packed row, which stands there without a sign: so earlier ones are less as bytes too."""

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
        computed: what on-demand views were given: view -> column -> serialized Values; of a failure too, if it came that far.
        request: as received.
        response: as sent; empty for a failure.
        erased: numbers of the rows that were erased, in order: all of the above has nulls and zeros in their place, and no request
            id, tags and message.
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
    erased: Sequence[int] = ()


class RecordHead(msgspec.Struct, array_like=True, tag=FORMAT):
    """A record as it is stored, without its two messages; see `LookupRecord`.

    Attributes:
        rows: per view its name, and its rows' headers without the end that all of them share (`online.codec.fold_headers`).
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
    rows: Sequence[tuple[str, bytes, bytes]]
    computed: Mapping[str, Mapping[str, Sequence[bytes]]]
    repeats: bytes


class _Stored(RecordHead, tag=FORMAT):
    request: bytes
    response: bytes
    erased: Sequence[int] = ()


_SHARED = tuple(name for name in RecordHead.__struct_fields__ if name not in {"rows", "repeats"})
"""Fields that a record has as they are stored."""

_ELEMENTS = 1 + len(RecordHead.__struct_fields__) + 2
"""The format, the head's fields and the two messages."""
_ARRAY = b"\xdc" + _ELEMENTS.to_bytes(2, "big")
_ARRAY_OF_ERASED = b"\xdc" + (_ELEMENTS + 1).to_bytes(2, "big")

BEGINS = _ARRAY + bytes([FORMAT]) + b"\xc4\x10"
"""What stands before the id, with the head of its 16 bytes."""

_BIN32 = 0xC6
_UNSIGNED_64 = 0xCF
_bytes_head = Struct(">BI").pack
"""What stands before bytes in msgpack, in its longest form, so that it has one length."""

_REPEAT = Struct(">III")
_encode = msgspec.msgpack.Encoder().encode
_NOTHING = _encode({})
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(_Stored).decode

_COPIED_BYTES_MAX = 1 << 13
"""Each part costs a sum and a buffer of a system call: more than to copy a few kilobytes."""


def encode(record: LookupRecord) -> tuple[bytes, ...]:
    """The payload of a record, as `encode_parts` gives it; one of which rows were erased has one element more."""
    shared = {name: getattr(record, name) for name in _SHARED}
    head = RecordHead(**shared, rows=[(view, headers, b"") for view, headers in record.rows], repeats=b"")
    parts = encode_parts(head, record.request, record.response)
    if not record.erased:
        return parts
    return (b"".join((_ARRAY_OF_ERASED, parts[0][len(_ARRAY) :], *parts[1:], _encode(list(record.erased)))),)


def encode_parts(head: RecordHead, request: bytes, response: bytes) -> tuple[bytes, ...]:
    """The payload of a record, in parts. A large response is a part of its own, and the same object; what is small is copied into
    one part.

    Args:
        response: without what `head.repeats` says was taken out.
    """
    before_request = bytearray()
    # An array of 16 has the three bytes before its elements that one of 18 has.
    _encode_into(head, before_request)
    before_request[: len(_ARRAY)] = _ARRAY
    request_head, response_head = _bytes_head(_BIN32, len(request)), _bytes_head(_BIN32, len(response))
    if len(request) > _COPIED_BYTES_MAX:
        return b"".join((before_request, request_head)), request, response_head, response
    if len(response) > _COPIED_BYTES_MAX:
        return b"".join((before_request, request_head, request, response_head)), response
    return (b"".join((before_request, request_head, request, response_head, response)),)


class Constants(NamedTuple):
    """What the records of all answers to one question have in common, as `online.codec.answer_record` wants it.

    Attributes:
        rpc: what stands before the caller's request id and tags.
        definitions: what stands behind them, before the first view.
        anonymous: the two, with neither id nor tags between them.
        views: what stands before each view's rows.
    """

    rpc: bytes
    definitions: bytes
    anonymous: bytes
    views: tuple[bytes, ...]

    def said(self, request_id: str, tags: Mapping[str, str]) -> bytes:
        """All that stands between `served_at_micros` and the first view."""
        if not request_id and not tags:
            return self.anonymous
        return b"".join((self.rpc, _encode(request_id), _encode(tags), self.definitions))


def constants(
    *, rpc: Rpc, catalog_version: str, service: str, refs: Sequence[str], mode: str, views: Sequence[str]
) -> Constants:
    """See `LookupRecord`; the views are those of its rows."""
    fields = (catalog_version, service, list(refs), mode, 0, "", "")
    nils = _encode([None] * len(views))
    definitions = b"".join(map(_encode, fields)) + nils[: len(nils) - len(views)]
    rpc_bytes, none = _encode(rpc), _encode("") + _encode({})
    of_three = _encode([None] * 3)[:1]
    return Constants(
        rpc_bytes, definitions, rpc_bytes + none + definitions, tuple(of_three + _encode(view) for view in views)
    )


def computed_bytes(computed: Mapping[str, Mapping[str, Sequence[bytes]]]) -> bytes:
    """What on-demand views were given, as it is stored."""
    return _encode(computed) if computed else _NOTHING


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
    rows = [StoredRows(view, _unfolded_headers(headers, rest)) for view, headers, rest in stored.rows]
    return LookupRecord(**shared, rows=rows, request=stored.request, response=response, erased=tuple(stored.erased))


def _unfolded_headers(headers: bytes, rest: bytes) -> bytes:
    """Whole headers again, of those whose common end was taken off."""
    if not rest:
        return headers
    size = HEADER_BYTES - len(rest)
    if size <= 0 or len(headers) % size:
        raise _damaged()
    none = bytes(size)
    rows = [headers[at : at + size] for at in range(0, len(headers), size)]
    return b"".join([row + rest if row != none else bytes(HEADER_BYTES) for row in rows])


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

_ID_AT = len(BEGINS)
_TIME_AT = _ID_AT + 16


def glance(payload: bytes, offset: int = 0) -> Glance | None:
    """The id and the time of the record whose payload begins at an offset, without decoding it.

    None where it does not begin as records of these decades do: then `decode` says what it is.
    """
    end = offset + GLANCE_BYTES
    # Which all microseconds after 1970 and an hour are.
    if len(payload) < end or not payload.startswith(BEGINS, offset) or payload[offset + _TIME_AT] != _UNSIGNED_64:
        return None
    return Glance(
        payload[offset + _ID_AT : offset + _TIME_AT], int.from_bytes(payload[offset + _TIME_AT + 1 : end], "big")
    )


def row_headers(rows: StoredRows) -> list[RowHeader | None]:
    """What the stored rows said of themselves; None where there was no row."""
    return [_row_header(rows.headers[at : at + HEADER_BYTES]) for at in range(0, len(rows.headers), HEADER_BYTES)]


def headers_count(rows: StoredRows) -> int:
    """How many rows were asked for."""
    return len(rows.headers) // HEADER_BYTES


def _row_header(header: bytes) -> RowHeader | None:
    if not any(header):
        return None
    event, created = int.from_bytes(header[:8], "big"), int.from_bytes(header[8:16], "big")
    is_packed = header[16] != 0
    return RowHeader(event - SIGN, created - SIGN if created else None, header[26:] if is_packed else None)
