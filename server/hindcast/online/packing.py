"""Packed rows by column: what `codec.pack_row` makes of a row, for a whole batch at once (docs/formats.md)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.online import pieces
from hindcast.online.pieces import Numbers
from hindcast.online.row_format import FORMAT, HEADER_BYTES, SAYS_NULL, SIGN
from hindcast.online.rows import RowPolicy
from hindcast.online.times import EARLIEST_MICROS, END_MICROS

_SIGN = np.uint64(SIGN)
_NIL = b"\xc0"
_FIXARRAY_MAX = 15
_MICROS = 1_000_000


def pack_rows(
    events: pa.Array, created: pa.Array, values: Sequence[pa.Array], *, schema_id: bytes, run_id: bytes
) -> pa.Array:
    """One packed row per row of a batch.

    Args:
        events: event times, timestamp[us, UTC], none of them null.
        created: when each row became known, of the same type, null where the source does not say.
        values: per field of the schema n serialized Values, null for a null.
    Returns:
        n packed rows; a LargeBinaryArray where they take more than 2 GiB.
    Raises:
        OverflowError: an event time is outside the years 1 to 9999.
    """
    micros = events.cast(pa.int64()).to_numpy()
    if len(micros) and not EARLIEST_MICROS <= micros.min() <= micros.max() < END_MICROS:
        raise OverflowError("a time outside the years 1 to 9999")
    nulls: Numbers = np.zeros(len(micros), bool)
    entries: list[pa.Array | bytes] = []
    for column in values:
        entries += _entries(column, nulls)
    seconds, rest = np.divmod(micros, _MICROS)
    # The zero of 1970 is written out, as `times.timestamp_bytes` does: a Timestamp is never empty.
    time = (
        pieces.varints(b"\x08", seconds, (seconds != 0) | (rest == 0)),
        pieces.varints(b"\x10", rest * 1000, rest != 0),
    )
    known = pieces.valid_rows(created)
    array_head = _array_head(1 + len(values))
    head: Numbers = np.empty((len(micros), HEADER_BYTES + len(array_head) + 2), np.uint8)
    head[:, 0:8] = _sortable(micros)
    head[:, 8:16] = _sortable(created.cast(pa.int64()).fill_null(0).to_numpy())
    if known is not None:
        head[~known, 8:16] = 0
    head[:, 16] = FORMAT
    head[:, 17] = nulls
    head[:, 18:-1] = np.frombuffer(schema_id + run_id + array_head + b"\xc4", np.uint8)
    head[:, -1] = sum(np.diff(pieces.offsets(part)) for part in time)
    return pieces.join(pieces.fixed(head), *time, *entries)


def expiries(events: pa.Array, *, ttl_micros: int, now_micros: int, policy: RowPolicy) -> Numbers:
    """When each row goes, in milliseconds since 1970, 0 for never: the rule of `rows.ViewWriter`, by column.

    Args:
        events: event times, timestamp[us, UTC], none of them null.
        ttl_micros: the view's; 0 for none.
    """
    never = np.int64(np.iinfo(np.int64).max)
    expires = np.full(len(events), never)
    if ttl_micros:
        lifetime = ttl_micros + policy.ttl_grace_seconds * _MICROS
        micros = events.cast(pa.int64()).to_numpy()
        expires = np.maximum(1, (micros + lifetime) // 1000)
    if policy.key_ttl_seconds:
        expires = np.minimum(expires, now_micros // 1000 + policy.key_ttl_seconds * 1000)
    limited: Numbers = np.where(expires == never, 0, expires)
    return limited


def _entries(column: pa.Array, nulls: Numbers) -> tuple[pa.Array | bytes, pa.Array]:
    """A column as entries of a msgpack array: what stands before each value, and the values; marks the rows that have a null."""
    lengths = pc.binary_length(column)
    least = pc.min(lengths).as_py()
    if least is not None and least <= len(SAYS_NULL):
        says_null = pc.equal(column, pa.scalar(SAYS_NULL, column.type))
        column = pc.if_else(says_null, pa.scalar(None, column.type), column)
        lengths = pc.binary_length(column)
    if column.null_count or least == 0:
        nulls |= lengths.fill_null(0).to_numpy() == 0
    return pieces.by_length(lengths, _entry_head), column


def _entry_head(length: int | None) -> bytes:
    if not length:
        return _NIL
    for mark, width in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
        if length < 1 << 8 * width:
            return bytes([mark]) + length.to_bytes(width, "big")
    raise OverflowError("a value of 4 GiB")


def _array_head(entries: int) -> bytes:
    """What stands before the entries of a msgpack array."""
    for most, mark, width in ((_FIXARRAY_MAX, 0x90 | entries, 0), (0xFFFF, 0xDC, 2), (0xFFFF_FFFF, 0xDD, 4)):
        if entries <= most:
            return bytes([mark]) + entries.to_bytes(width, "big") if width else bytes([mark])
    raise OverflowError("a row of 2^32 values")


def _sortable(micros: Numbers) -> Numbers:
    """A row of 8 bytes per time, which compare as the times do."""
    sortable: Numbers = (micros.view(np.uint64) ^ _SIGN).astype(">u8").view(np.uint8).reshape(-1, 8)
    return sortable
