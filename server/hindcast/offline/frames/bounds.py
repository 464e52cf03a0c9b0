"""Bounds for rows that somebody elsewhere answers for: memory while they are read, and what they come to."""

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument, Overloaded
from hindcast.offline.frames.layouts import settled

COLUMNS_MAX = 4_096
"""A file of Parquet has a page and statistics for each: 10,000 columns of 5 rows took 12 s and 1.5 GB to build."""
_DEPTH_MAX = 16
"""Of types within types; each level is another turn of everything that walks over them."""
_ROW_BYTES = 8
"""What a row counts at least: one of nothing but nulls takes no bytes at all, and is written down and joined like any other."""


@contextmanager
def bounded_memory(bytes_max: int) -> Iterator[None]:
    """Let this process take only so much more memory than it has, as long as the block runs.

    For a process that does nothing else meanwhile, and that may die: what cannot live with less dies of it. `RLIMIT_DATA` counts what is written
    to and belongs to no file, so that a file may be mapped whole.

    Raises:
        Overloaded: it needed more.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _data_bytes()
    if taken is not None:
        wanted = taken + bytes_max
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    try:
        yield
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        raise Overloaded(
            "memory",
            f"the rows need more than the {bytes_max:,} bytes of memory that reading them may take here; send smaller batches, or ask for shorter "
            "values and fewer columns",
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _data_bytes() -> int | None:
    """What counts for `RLIMIT_DATA` now; None where the kernel does not say it."""
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def check_shape(schema: pa.Schema) -> None:
    """Refuse what has more columns, or types further within each other, than a training set has.

    Raises:
        InvalidArgument: it has.
    """
    if len(schema) > COLUMNS_MAX:
        raise InvalidArgument.at(
            "entity_df",
            f"has {len(schema):,} columns; {COLUMNS_MAX:,} are taken here, so leave some out, or put them into lists",
        )
    for field in schema:
        if _depth(field.type, _DEPTH_MAX) > _DEPTH_MAX:
            raise InvalidArgument.at(
                "entity_df",
                f"has a column {field.name[:100]!r} of types more than {_DEPTH_MAX} within each other; flatten it",
            )


def _depth(kind: pa.DataType, left: int) -> int:
    if left < 0:
        return 1
    return 1 + max((_depth(kind.field(at).type, left - 1) for at in range(kind.num_fields)), default=0)


def bounded(batches: Iterable[pa.RecordBatch], bytes_max: int, *, what: str) -> Iterator[pa.RecordBatch]:
    """The batches in plain layouts, as long as all of them come to no more than so many bytes, dictionaries written out.

    Args:
        what: gives the rows, as a refusal says it.
    Raises:
        Overloaded: they have more.
    """
    count = 0
    for batch in batches:
        plain = settled(batch)
        count += _ROW_BYTES * plain.num_rows + sum(map(_plain_bytes, plain.columns))
        if count > bytes_max:
            raise Overloaded(
                "frame",
                f"{what} more than the {bytes_max:,} bytes that an entity frame may have here, dictionaries written out; ask for fewer rows or columns",
            )
        yield plain


def _plain_bytes(array: Any) -> int:
    """Bytes of an array without dictionaries: a value of 100 MB can be in a million rows that have a byte each."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        values = array.dictionary
        if len(values) == 0:
            return int(array.indices.nbytes)
        if any(is_such(kind.value_type) for is_such in _VARIABLE):
            lengths = pc.binary_length(values).take(array.indices)
            return int(array.indices.nbytes) + (pc.sum(lengths.cast(pa.int64())).as_py() or 0)
        return int(array.indices.nbytes) + len(array) * (_plain_bytes(values) // len(values) + 1)
    if pa.types.is_struct(kind):
        return sum(map(_plain_bytes, array.flatten()), len(array))
    if any(is_such(kind) for is_such in _LISTS):
        return int(array.nbytes) - int(array.flatten().nbytes) + _plain_bytes(array.flatten())
    return int(array.nbytes)


_VARIABLE = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
