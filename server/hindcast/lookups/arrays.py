"""Arrow arrays of what NumPy and Python hold. Imports pyarrow.

In place of `pyarrow.array`, which loads pandas to see whether it was given something of it: 0.2 s and 60 MB, for a process that needs none.
"""

from collections.abc import Sequence
from mmap import mmap
from typing import Any

import numpy as np
import pyarrow as pa

from hindcast.lookups.python_plain import Content

_VIEW_BYTES = 16


def numbers(values: Any, kind: pa.DataType, valid: Any = None) -> pa.Array:
    """Numbers of a type's own width, or booleans, or what is stored as numbers.

    Args:
        values: n of them, one dimension.
        valid: n booleans, False for a null; None where all are valid.
    """
    if pa.types.is_boolean(kind):
        content = np.packbits(values, bitorder="little")
    else:
        content = np.ascontiguousarray(values)
        assert content.itemsize * 8 == kind.bit_width  # noqa: S101 - Arrow would read past its end
    return pa.Array.from_buffers(kind, len(values), [bitmap(valid), pa.py_buffer(content)])


def bitmap(valid: Any) -> pa.Buffer | None:
    """A bit for each boolean; None where all are true, or there are none to look at."""
    if valid is None or bool(valid.all()):
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def constant(number: int, count: int, kind: pa.DataType) -> pa.Array:
    """The same number again and again."""
    return numbers(np.full(count, number, f"i{kind.bit_width // 8}"), kind)


def texts(words: Sequence[str | None]) -> pa.Array:
    """Strings; None is null."""
    parts = [b"" if word is None else word.encode() for word in words]
    ends: Any = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    valid = np.array([word is not None for word in words], np.bool_)
    buffers = [bitmap(valid), pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.string(), len(parts), buffers)


def text_lists(lists: Sequence[Sequence[str]]) -> pa.Array:
    """Lists of strings."""
    ends: Any = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(one) for one in lists], out=ends[1:])
    return pa.ListArray.from_arrays(numbers(ends, pa.int32()), texts([word for one in lists for word in one]))


def repeated(words: pa.Array, of: np.ndarray[Any, Any]) -> pa.Array:
    """Words by their places, each kept once."""
    encoded = words.dictionary_encode()
    places = np.frombuffer(encoded.indices.buffers()[1], np.int32, len(words))[of]
    return pa.DictionaryArray.from_arrays(numbers(places, pa.int32()), encoded.dictionary)


def strung(kind: pa.DataType, content: Content, ends: Content) -> pa.Array:
    """What stands one behind the other, between the ends, as an array."""
    count = len(ends) // 4 - 1
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(ends), pa.py_buffer(content)])


def text_content(words: pa.StringArray) -> pa.Buffer:
    """The strings of an array one behind the other."""
    _, ends, content = words.buffers()
    if content is None or not len(words):
        return pa.py_buffer(b"")
    bounds = np.frombuffer(ends, "i4")[words.offset : words.offset + len(words) + 1]
    return content.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))


def viewed(views: Content, contents: Sequence[Content | mmap]) -> pa.Array:
    """Binaries that stand anywhere in some contents, by views in Arrow's form."""
    buffers = [None, *map(pa.py_buffer, (views, *contents))]
    return pa.Array.from_buffers(pa.binary_view(), len(views) // _VIEW_BYTES, buffers)


def size_of(binaries: pa.ChunkedArray) -> int:
    """How many bytes there are in all of them."""
    if not pa.types.is_binary_view(binaries.type):
        return int(binaries.nbytes)
    views = [np.frombuffer(chunk.buffers()[1], "i4")[:: _VIEW_BYTES // 4] for chunk in binaries.chunks]
    return sum(
        int(sizes[chunk.offset :][: len(chunk)].sum()) for sizes, chunk in zip(views, binaries.chunks, strict=True)
    )


def without(erased: Sequence[int], rows: pa.Table) -> pa.Table:
    """Rows without those that were erased from their records."""
    if not erased:
        return rows
    kept: Any = np.ones(rows.num_rows, np.bool_)
    kept[erased] = False
    return rows.filter(numbers(kept, pa.bool_()))
