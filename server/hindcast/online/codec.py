"""The narrow waist: packed rows, answers, and Redis's commands and hashes, bytes in and bytes out. Nothing here talks to Redis, or
knows gRPC or the catalog.

What a lookup does with bytes has two forms with one contract: `_codec`, compiled, and `python_codec`, which a machine without a C
compiler runs and which says what the other one means. Single rows are packed and unpacked here.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from hindcast.errors import StoredDataError
from hindcast.online.python_codec import Block, UnknownSchema
from hindcast.online.row_format import DAMAGED, FORMAT, HEADER, NULLS, SIGN, other_format
from hindcast.online.times import timestamp_bytes

try:
    from hindcast.online._codec import (
        Cells,
        HashRow,
        RowReader,
        answer_record,
        cells_of_hashes,
        command_words,
        commands_for,
        fold,
        fold_headers,
        framed,
        picked,
        splice_feast,
        splice_hindcast,
        usual_int64s,
        usual_strings,
    )

    COMPILED = True
except ModuleNotFoundError:
    from hindcast.online.python_codec import (
        Cells,
        HashRow,
        RowReader,
        answer_record,
        cells_of_hashes,
        command_words,
        commands_for,
        fold,
        fold_headers,
        framed,
        picked,
        splice_feast,
        splice_hindcast,
        usual_int64s,
        usual_strings,
    )

    COMPILED = False

__all__ = [
    "COMPILED",
    "Block",
    "Cells",
    "HashRow",
    "PackedRow",
    "RowReader",
    "UnknownSchema",
    "answer_record",
    "cells_of_hashes",
    "command_words",
    "commands_for",
    "fold",
    "fold_headers",
    "framed",
    "pack_row",
    "picked",
    "splice_feast",
    "splice_hindcast",
    "unpack_row",
    "usual_int64s",
    "usual_strings",
]

_encode_entries = msgspec.msgpack.Encoder().encode
_decode_entries = msgspec.msgpack.Decoder(list[bytes | None]).decode


class PackedRow(NamedTuple):
    """One row as stored.

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
        OverflowError: event_ts is outside the years 1 to 9999.
        struct.error: created_ts is outside 64 bits of microseconds.
    """
    entries: list[bytes | None] = [_event_bytes(event_micros)]
    entries += [None if value in NULLS else value for value in values]
    return HEADER.pack(
        event_micros + SIGN,
        0 if created_micros is None else created_micros + SIGN,
        FORMAT,
        None in entries,
        schema_id,
        run_id,
    ) + _encode_entries(entries)


_event_bytes = lru_cache(maxsize=4096)(timestamp_bytes)
"""Rows of one batch often share their event time."""


def unpack_row(packed: bytes) -> PackedRow:
    """Unpack what `pack_row` packed.

    Raises:
        StoredDataError: these bytes are not a packed row of a format this version knows.
    """
    if len(packed) < HEADER.size:
        raise StoredDataError(DAMAGED)
    event, created, row_format, has_nulls, schema_id, run_id = HEADER.unpack_from(packed)
    if row_format != FORMAT:
        raise StoredDataError(other_format(row_format))
    try:
        time, *values = _decode_entries(packed[HEADER.size :])
        agrees = time == timestamp_bytes(event - SIGN) and has_nulls == (None in values)
    except (msgspec.DecodeError, OverflowError, ValueError) as error:
        raise StoredDataError(DAMAGED) from error
    if not agrees:
        raise StoredDataError(DAMAGED)
    return PackedRow(event - SIGN, created - SIGN if created else None, schema_id, run_id, values)
