"""What need not be read, because the names of folders, or a Delta log, say of all rows of a file that they cannot match."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hindcast.offline.sources.arrow_types import is_text, is_time
from hindcast.offline.sources.instants import to_micros
from hindcast.offline.sources.scan import SourceScan
from hindcast.offline.sources.source import SourceFiles

Placed = Mapping[str, pa.Scalar]
"""Of a file, the columns that its place says, with the value of all its rows."""


def pruned_files(
    source: SourceFiles,
    *,
    keys: Mapping[str, pa.Array | pa.ChunkedArray],
    times: Mapping[str, tuple[int | None, int]],
) -> SourceFiles:
    """A Delta table without the files in which no row can match, before any of them is opened: its log is the truth.

    Of other sources a folder's name counts only where the file has no such column of its own, which its footer says: they are given
    back as they are, for `pruned`. Files stay in their order, and can be none.

    Args:
        keys: column of the source -> the values that are looked for, any number of them; a null matches nothing. Of types that cannot be
            compared nothing is left out: it is not for this function to refuse them.
        times: column of the source -> the first (None: no bound) and the last microsecond that count, both ends in.
    """
    if source.schema is None:
        return source
    is_left = _matching([file.partition for file in source.files], keys, times)
    return replace(source, files=tuple(file for file, is_in in zip(source.files, is_left, strict=True) if is_in))


def pruned(
    scan: SourceScan,
    *,
    keys: Mapping[str, pa.Array | pa.ChunkedArray],
    times: Mapping[str, tuple[int | None, int]],
) -> SourceScan:
    """A scan without the groups in which no row can match; types and positions are those of the whole source.

    Args:
        keys, times: as `pruned_files`.
    """
    partitions = {id(group.file): group.file.partition for group in scan.groups}
    is_left = dict(zip(partitions, _matching(list(partitions.values()), keys, times), strict=True))
    return replace(scan, groups=[group for group in scan.groups if is_left[id(group.file)]])


def _matching(
    partitions: Sequence[Placed],
    keys: Mapping[str, pa.Array | pa.ChunkedArray],
    times: Mapping[str, tuple[int | None, int]],
) -> list[bool]:
    """For each file whether it can have rows that match in all columns."""
    answers = [_has_value(partitions, column, wanted) for column, wanted in keys.items()]
    answers += [_is_between(partitions, column, *ends) for column, ends in times.items()]
    return [all(of_file) for of_file in zip(*answers, strict=True)] if answers else [True] * len(partitions)


def _has_value(partitions: Sequence[Placed], column: str, wanted: pa.Array | pa.ChunkedArray) -> list[bool]:
    at = [number for number, placed in enumerate(partitions) if column in placed]
    answers = [True] * len(partitions)
    if not at:
        return answers
    kind = partitions[at[0]][column].type
    values = pa.array([partitions[number][column].as_py() for number in at], kind)
    distinct = wanted.unique()
    if pa.types.is_dictionary(distinct.type):
        distinct = distinct.cast(distinct.type.value_type)
    try:
        both = _comparable(values, distinct)
    except pa.ArrowException:
        return answers  # a number that the other type does not hold
    if both is not None:
        for number, is_in in zip(at, pc.is_in(both[0], both[1].drop_null()).to_pylist(), strict=True):
            answers[number] = is_in
    return answers


def _is_between(partitions: Sequence[Placed], column: str, first: int | None, last: int) -> list[bool]:
    return [column not in placed or _is_time_between(placed[column], first, last) for placed in partitions]


def _is_time_between(value: pa.Scalar, first: int | None, last: int) -> bool:
    if not is_time(value.type):
        return True  # whoever reads the column refuses it
    micros, _ = to_micros(pa.array([value.as_py()], value.type))
    return bool(value.is_valid and micros[0] <= last and (first is None or micros[0] >= first))


def _comparable(values: pa.Array, wanted: pa.Array) -> tuple[Any, Any] | None:
    """Both in one type in which equal values are equal; None where there is none, or one is not known here."""
    for is_kind, kind in _ALIKE:
        if is_kind(values.type) and is_kind(wanted.type):
            return values.cast(kind), wanted.cast(kind)
    if pa.types.is_integer(values.type) and pa.types.is_floating(wanted.type):
        # Whole numbers beside nulls, as pandas has them. One that the float has exactly is met; a rounded one keeps a file too many.
        return values.cast(pa.float64(), safe=False), wanted.cast(pa.float64())
    if is_time(values.type) and is_time(wanted.type):
        return _as_micros(values), _as_micros(wanted)
    return None


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _as_micros(times: pa.Array) -> pa.Array:
    micros, is_there = to_micros(times)
    return pa.array(micros, mask=None if is_there is None else ~is_there)


_ALIKE: Sequence[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
    (pa.types.is_integer, pa.int64()),
    (is_text, pa.large_string()),
    (_is_bytes, pa.large_binary()),
    (pa.types.is_boolean, pa.bool_()),
]
"""Kinds of which any two types are compared in one."""
