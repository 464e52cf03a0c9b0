"""Two tables of training sets, cell by cell: by their position where both have the same rows, or else by keys and time.

What is compared is what the logical digest is over: a NaN is equal to itself, and -0.0 is not 0.0. A column is in memory at a time, and
of tables of the same rows only the row groups whose digests differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.manifest import FileRecord, GroupRecord, Manifest
from hindcast.datasets.parts import GROUP_ROWS, PART_GROUPS, Part

_WIDTHS = {pa.float16(): np.uint16, pa.float32(): np.uint32, pa.float64(): np.uint64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two tables.

    Attributes:
        directory: that the paths of `files` are relative to.
        groups: its row groups, with their digests.
    """

    directory: Path
    files: Sequence[FileRecord]
    groups: Sequence[GroupRecord]
    schema: pa.Schema

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> "Side":
        """The rows of a set.

        Raises:
            DatasetError: they are gone or damaged.
        """
        with Part(directory / manifest.files[0].path) as part:
            schema = part.schema
        return cls(directory=directory, files=manifest.files, groups=manifest.groups, schema=schema)

    @property
    def rows(self) -> int:
        """How many."""
        return sum(group.rows for group in self.groups)

    def column(self, name: str, groups: Iterable[int]) -> pa.ChunkedArray:
        """A column of some row groups.

        Args:
            groups: their numbers, ascending.
        """
        chunks: list[pa.Array] = []
        by_file: dict[int, list[int]] = {}
        for group in groups:
            by_file.setdefault(group // PART_GROUPS, []).append(group % PART_GROUPS)
        for number, inner in by_file.items():
            with Part(self.directory / self.files[number].path) as part:
                chunks += part.read(inner, columns=[name]).column(0).chunks
        return pa.chunked_array(chunks, self.schema.field(name).type)

    def cells(self, rows: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        """Some cells of some rows, as Python values.

        Args:
            rows: their numbers.
        """
        found: list[dict[str, Any]] = []
        for row in rows:
            group = row // GROUP_ROWS
            with Part(self.directory / self.files[group // PART_GROUPS].path) as part:
                table = part.read([group % PART_GROUPS], columns=list(dict.fromkeys(names)))
            found += table.slice(row % GROUP_ROWS, 1).to_pylist()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Retyped:
    """A column whose type is another one."""

    column: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What differs between two tables.

    Attributes:
        only_before, only_after: numbers of rows that only one has.
        before_rows, after_rows: of the rows that both have, their numbers in each, in the order of the first.
        dropped, added: columns that only one has.
        reordered: whether the columns that both have stand in another order.
        cells: column -> the differing ones of the rows that both have: indexes into `before_rows`, ascending. No column without any.
    """

    only_before: np.ndarray
    only_after: np.ndarray
    before_rows: np.ndarray
    after_rows: np.ndarray
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    retyped: tuple[Retyped, ...] = ()
    reordered: bool = False
    cells: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def are_there(self) -> bool:
        """Whether anything differs."""
        return bool(
            len(self.only_before)
            or len(self.only_after)
            or self.dropped
            or self.added
            or self.retyped
            or self.reordered
            or self.cells
        )


def compare(before: Side, after: Side, *, keys: Sequence[str] = ()) -> Differences:
    """What differs between two tables.

    Args:
        keys: columns that tell rows apart, where the two may have different rows; rows of equal keys are told apart by their order.
            Without any, both have the same rows in the same order.
    Raises:
        DatasetError: a file is gone or damaged.
    """
    names = [name for name in before.schema.names if name in after.schema.names]
    retyped = tuple(
        Retyped(column=name, before=str(before.schema.field(name).type), after=str(after.schema.field(name).type))
        for name in names
        if _plain(before.schema.field(name).type) != _plain(after.schema.field(name).type)
    )
    nothing: np.ndarray = np.empty(0, np.int64)
    only_before, only_after = nothing, nothing
    if keys:
        before_rows, after_rows, only_before, only_after = _paired(before, after, keys)
        cells = {
            name: differing
            for name in names
            if name not in keys
            and len(
                differing := np.flatnonzero(
                    _differs(
                        before.column(name, range(len(before.groups))).take(pa.array(before_rows)),
                        after.column(name, range(len(after.groups))).take(pa.array(after_rows)),
                    )
                )
            )
        }
    else:
        before_rows = after_rows = np.arange(before.rows)
        has_one_schema = before.schema.remove_metadata() == after.schema.remove_metadata()
        groups = [
            number
            for number, (one, other) in enumerate(zip(before.groups, after.groups, strict=True))
            if not has_one_schema or one.digest != other.digest
        ]
        numbers = np.concatenate(
            [
                nothing,
                *(
                    np.arange(number * GROUP_ROWS, number * GROUP_ROWS + before.groups[number].rows)
                    for number in groups
                ),
            ]
        )
        cells = {}
        for name in names if groups else ():
            differing = numbers[_differs(before.column(name, groups), after.column(name, groups))]
            if len(differing):
                cells[name] = differing
    return Differences(
        only_before=only_before,
        only_after=only_after,
        before_rows=before_rows,
        after_rows=after_rows,
        dropped=tuple(name for name in before.schema.names if name not in after.schema.names),
        added=tuple(name for name in after.schema.names if name not in before.schema.names),
        retyped=retyped,
        reordered=names != [name for name in after.schema.names if name in before.schema.names],
        cells=cells,
    )


def _paired(before: Side, after: Side, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows that both have, pair by pair, and those that only one has."""
    codes = [[_codes(side.column(key, range(len(side.groups)))) for key in keys] for side in (before, after)]
    for at, (one, other) in enumerate(zip(*codes, strict=True)):
        if one.dtype != other.dtype:
            # Text is never a number; numbers of two types can be equal.
            codes[0][at], codes[1][at] = _objects(one), _objects(other)
    frames = []
    for columns, called in zip(codes, ("before", "after"), strict=True):
        frame = pd.DataFrame({f"k{at}": column for at, column in enumerate(columns)}, copy=False)
        frame["occurrence"] = frame.groupby(list(frame.columns), dropna=False, sort=False).cumcount()
        frame[called] = np.arange(len(frame))
        frames.append(frame)
    on = [name for name in frames[0].columns if name != "before"]
    merged = frames[0].merge(frames[1], on=on, how="outer")
    both = merged.dropna(subset=["before", "after"]).sort_values("before")
    return (
        both["before"].to_numpy(np.int64),
        both["after"].to_numpy(np.int64),
        np.sort(merged["before"][merged["after"].isna()].to_numpy(np.int64)),
        np.sort(merged["after"][merged["before"].isna()].to_numpy(np.int64)),
    )


def _codes(column: pa.ChunkedArray) -> Any:
    """A key's values as pandas compares them: text, whole numbers, times in microseconds. Two types of one meaning are equal."""
    kind = _plain(column.type)
    column = column.cast(kind)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    if pa.types.is_uint64(column.type):
        with suppress(pa.ArrowInvalid):
            column = column.cast(pa.int64())
    if pa.types.is_uint64(column.type):
        # Some lie beyond the signed ones, as hashes do.
        return pd.array(column.to_pandas(integer_object_nulls=True), dtype="UInt64")
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return pd.array(column.cast(pa.int64()).to_pandas(integer_object_nulls=True), dtype="Int64")
    return column.to_pandas()


def _objects(codes: Any) -> pd.Series:
    """The same as Python objects, a null as None."""
    series = pd.Series(codes, dtype=object)
    return series.where(series.notna(), None)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type by its meaning: a dictionary's entries stand for it, and offsets are of one width."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _differs(before: pa.ChunkedArray, after: pa.ChunkedArray) -> np.ndarray:
    """Which of n cells differ."""
    kind = _plain(before.type)
    if kind != _plain(after.type):
        try:
            after = after.cast(kind)
        except pa.ArrowException:
            return np.ones(len(before), dtype=bool)
    one, other = _whole(before, kind), _whole(after, kind)
    was, now = one.is_valid().to_numpy(zero_copy_only=False), other.is_valid().to_numpy(zero_copy_only=False)
    differing: np.ndarray = was != now
    both = was & now
    if kind in _WIDTHS:
        bits = [array.fill_null(0).to_numpy(zero_copy_only=False).view(_WIDTHS[kind]) for array in (one, other)]
        differing |= both & (bits[0] != bits[1])
        return differing
    try:
        unequal = pc.not_equal(one, other).fill_null(False).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError:
        # Lists and structs; in text a NaN is equal to itself.
        unequal = np.array([repr(a) != repr(b) for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)], bool)
    differing |= both & unequal
    return differing


def _whole(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    plain = column.cast(kind) if column.type != kind else column
    return plain.combine_chunks() if plain.num_chunks != 1 else plain.chunk(0)
