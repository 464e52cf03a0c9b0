"""Columns of byte strings, made by column: NumPy lays out what has a fixed form, the compiled codec, or an Arrow kernel, joins what
has not.

A piece is a binary Arrow array with an entry per row, or bytes that are the same for all rows. No function here makes a
Python object per value (docs/decisions/0020-materialize-by-column.md).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.online.codec import COMPILED

if COMPILED:
    from hindcast.online._codec import run_together

Numbers: TypeAlias = np.ndarray[Any, Any]

_NARROW_BYTES_MAX = 2**31 - 1
"""What the 32-bit offsets of a plain binary array reach; more goes into a large one."""

_VARINT_BYTES_MAX = 10


def fixed(cells: Numbers, valid: Numbers | None = None) -> pa.Array:
    """One piece per row of a matrix of bytes; null where `valid` is false."""
    rows, width = cells.shape
    if valid is None:
        return _binary(np.full(rows, width), np.ascontiguousarray(cells), None)
    return _binary(np.where(valid, width, 0), cells[valid], valid)


def cells(head: bytes, numbers: Numbers) -> Numbers:
    """A row of bytes per number: the head, and the number as its memory has it (little-endian, as all of ours)."""
    width = numbers.itemsize
    laid: Numbers = np.empty((len(numbers), len(head) + width), np.uint8)
    laid[:, : len(head)] = np.frombuffer(head, np.uint8)
    laid[:, len(head) :] = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, width)
    return laid


def varints(tag: bytes, numbers: Numbers, valid: Numbers | None = None) -> pa.Array:
    """A tag and a protobuf varint per number (unsigned 64 bits, so negative ones in two's complement); null where `valid` is false."""
    rows = len(numbers)
    unsigned: Numbers = numbers.astype(np.uint64, copy=False)
    if valid is not None:
        unsigned = np.where(valid, unsigned, np.uint64(0))
    most = int(unsigned.max()) if rows else 0
    width = next(n for n in range(1, _VARINT_BYTES_MAX + 1) if most >> 7 * n == 0)
    head = len(tag)
    cells: Numbers = np.empty((rows, head + width), np.uint8)
    cells[:, :head] = np.frombuffer(tag, np.uint8)
    lengths = np.full(rows, head + 1)
    for at in range(width):
        cells[:, head + at] = unsigned & np.uint64(0x7F)
        unsigned = unsigned >> np.uint64(7)
        if at + 1 < width:
            more = unsigned != 0
            cells[:, head + at] |= more.view(np.uint8) << np.uint8(7)
            lengths += more
    if valid is not None:
        lengths[~valid] = 0
    if lengths.min(initial=head + width) == head + width:
        return _binary(lengths, cells, valid)
    return _binary(lengths, cells[np.arange(head + width) < lengths[:, None]], valid)


def varint(number: int) -> bytes:
    """One varint, of a number from 0 on."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def grouped(column: pa.Array, counts: Numbers, valid: Numbers | None) -> pa.Array:
    """The entries of a column without nulls run together, `counts` of them for each row; null where `valid` is false."""
    rows: Numbers = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=rows[1:])
    between = offsets(column)
    first, end = int(between[0]), int(between[-1])
    content = np.frombuffer(column.buffers()[2], np.uint8)[first:end]
    return _binary(np.diff(between[rows]), content, valid)


def by_length(lengths: pa.Array, make: Callable[[int | None], bytes]) -> pa.Array | bytes:
    """What stands before each entry, which its length decides; `make` is asked once for each length, with None for a null."""
    encoded = lengths.dictionary_encode(null_encoding="encode")
    made = [make(length) for length in encoded.dictionary.to_pylist()]
    return made[0] if len(made) == 1 else pa.array(made, pa.binary()).take(encoded.indices)


def join(*parts: pa.Array | bytes) -> pa.Array:
    """The pieces of each row run together; nothing for a null, so that no row is null. At least one is an array."""
    return _join(parts, null_handling="replace", null_replacement=b"")


def join_or_null(*parts: pa.Array | bytes) -> pa.Array:
    """As `join`, but a row with a null among its pieces is null."""
    return _join(parts, null_handling="emit_null")


def _join(parts: tuple[pa.Array | bytes, ...], **options: Any) -> pa.Array:
    emits_null = options["null_handling"] == "emit_null"
    if COMPILED and not (emits_null and any(part.null_count for part in parts if isinstance(part, pa.Array))):
        return join_compiled(parts)
    return join_by_arrow(parts, **options)


def join_compiled(parts: Sequence[pa.Array | bytes]) -> pa.Array:
    """As `join`: many short parts in a fifth of the time that Arrow takes."""
    rows, kind = _joined_form(parts)
    ends: Numbers = np.empty(rows + 1, np.int64 if pa.types.is_large_binary(kind) else np.int32)
    content = pa.allocate_buffer(
        _joined_bytes(parts, rows)
    )  # Arrow keeps the memory of the one before, malloc gives it back
    taken: Numbers = np.frombuffer(content, np.uint8)
    run_together([part if isinstance(part, bytes) else _laid(part) for part in parts], rows, ends, taken)
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(ends), content])


def join_by_arrow(parts: Sequence[pa.Array | bytes], **options: Any) -> pa.Array:
    """As `join` and `join_or_null`, by Arrow's kernel, whose options these are."""
    _, kind = _joined_form(parts)
    pieces = [pa.scalar(part, kind) if isinstance(part, bytes) else part.cast(kind) for part in parts]
    return pc.binary_join_element_wise(*pieces, pa.scalar(b"", kind), **options)


def _joined_form(parts: Sequence[pa.Array | bytes]) -> tuple[int, pa.DataType]:
    """How many rows, and of what type: one whose offsets reach."""
    rows = next(len(part) for part in parts if isinstance(part, pa.Array))
    return rows, pa.binary() if _joined_bytes(parts, rows) <= _NARROW_BYTES_MAX else pa.large_binary()


def _joined_bytes(parts: Sequence[pa.Array | bytes], rows: int) -> int:
    """As many as all parts have; fewer are needed where a null has bytes."""
    return sum(rows * len(part) if isinstance(part, bytes) else _content_bytes(part) for part in parts)


def _laid(column: pa.Array) -> tuple[Numbers, Numbers, Numbers | None]:
    """Where the entries begin and end, in which bytes, and which of them are there."""
    content = column.buffers()[2]
    valid = valid_rows(column)
    return (
        offsets(column),
        np.empty(0, np.uint8) if content is None else np.frombuffer(content, np.uint8),
        None if valid is None else valid.view(np.uint8),
    )


def offsets(column: pa.Array) -> Numbers:
    """Where the entries of a binary array begin in its data, and where the last one ends."""
    width = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    found: Numbers = np.frombuffer(column.buffers()[1], width)
    between: Numbers = found[column.offset : column.offset + len(column) + 1]
    return between


def valid_rows(column: pa.Array) -> Numbers | None:
    """Which entries are not null; None where all are."""
    return column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None


def _content_bytes(column: pa.Array) -> int:
    if not len(column):
        return 0
    at = offsets(column)
    return int(at[-1]) - int(at[0])


def _binary(lengths: Numbers, content: Numbers, valid: Numbers | None) -> pa.Array:
    rows = len(lengths)
    total = content.size
    kind, width = (pa.binary(), np.int32) if total <= _NARROW_BYTES_MAX else (pa.large_binary(), np.int64)
    ends: Numbers = np.zeros(rows + 1, width)
    np.cumsum(lengths, out=ends[1:])
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, rows, [bits, pa.py_buffer(ends), pa.py_buffer(content)])
