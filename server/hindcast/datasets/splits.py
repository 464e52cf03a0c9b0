"""How the rows of a training set are dealt out: by their time, or by a hash of their keys. The same row is in the same split on every machine."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.manifest import SplitsRecord
from hindcast.errors import InvalidArgument
from hindcast.offline.sources.instants import to_micros

COLUMN = "__split"
"""The set's last column, where it has splits."""
_HASH_BITS = 64


@dataclass(frozen=True, slots=True)
class TimeSplits:
    """Splits by the time that each row asks about. A row without a time is in none.

    Attributes:
        ends: name -> the time at which the split ends, which is the first of the next; None for the last one. Ascending. A time is a
            datetime (without a zone: UTC) or a date (its midnight).
    """

    ends: Mapping[str, datetime | date | None]


@dataclass(frozen=True, slots=True)
class KeySplits:
    """Splits by a hash of some columns: all rows of one key are in one split.

    Attributes:
        parts: name -> share, in whole parts of the sum of all: `{"train": 80, "test": 20}`.
        by: the columns of the entity frame; one of them or several.
        seed: another one deals the keys out anew.
    """

    parts: Mapping[str, int]
    by: str | Sequence[str]
    seed: int = field(default=0, kw_only=True)


Splits = TimeSplits | KeySplits


def splits_record(splits: Splits, *, micros: Callable[[str, Any], int]) -> SplitsRecord:
    """Splits as manifests have them, without the numbers of rows.

    Args:
        micros: what a time is in microseconds since 1970, given the name of what it is for.
    Raises:
        InvalidArgument: there are none, or they are out of order; the message says which.
    """
    given = splits.ends if isinstance(splits, TimeSplits) else splits.parts
    names = tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgument.at("splits", "are not named; give a name to each, such as train and test")
    if isinstance(splits, TimeSplits):
        *inner, last = splits.ends.values()
        if last is not None:
            raise InvalidArgument.at(
                "splits", f"end with {names[-1]!r}, which has an end; the last split has none, and takes what is left"
            )
        if any(end is None for end in inner):
            raise InvalidArgument.at("splits", "have more than one without an end; only the last has none")
        ends = tuple(micros("splits", end) for end in inner)
        if any(later <= sooner for sooner, later in pairwise(ends)):
            raise InvalidArgument.at("splits", "do not end one after the other; give them in the order of their times")
        return SplitsRecord(kind="time", names=names, ends=ends)
    keys = (splits.by,) if isinstance(splits.by, str) else tuple(splits.by)
    parts = tuple(splits.parts.values())
    if not keys:
        raise InvalidArgument.at("splits", "name no column to hash; give `by` the columns of the keys")
    if any(isinstance(part, bool) or not isinstance(part, int) or part < 0 for part in parts) or not sum(parts):
        raise InvalidArgument.at("splits", "have a share that is no whole number of parts, such as 80 and 20")
    return SplitsRecord(kind="key", names=names, parts=parts, keys=keys, seed=splits.seed)


class Dealer:
    """Deals rows out, batch by batch, and counts them."""

    def __init__(self, record: SplitsRecord, *, schema: pa.Schema) -> None:
        """Args: schema: of the rows, without the column of splits.

        Raises:
            InvalidArgument: a column is missing, or already called as the column of splits.
        """
        if COLUMN in schema.names:
            raise InvalidArgument.at(COLUMN, "is a column of the set already; rename it, or give no splits")
        for key in record.keys:
            if key not in schema.names:
                raise InvalidArgument.at("splits", f"hash the column {key!r}, which the entity frame does not have")
        self._record = record
        self._rows: np.ndarray = np.zeros(len(record.names), np.int64)
        self._known: dict[tuple[bytes, ...], int] = {}

    @property
    def record(self) -> SplitsRecord:
        """With the numbers of rows so far."""
        return replace(self._record, rows=tuple(self._rows.tolist()))

    def dealt(self, batch: pa.RecordBatch, *, micros: np.ndarray, is_dated: np.ndarray | None) -> pa.Array:
        """The split of each row of a batch, as text; null where a row has no time and splits are by time.

        Args:
            micros, is_dated: the time of each row, and whether it has one (None: all have).
        """
        if self._record.kind == "time":
            numbers: np.ndarray = np.searchsorted(np.array(self._record.ends, np.int64), micros, "right")  # type: ignore[assignment]
            mask = None if is_dated is None else ~is_dated
        else:
            numbers, mask = self._hashed(batch), None
        counted = numbers if mask is None else numbers[~mask]
        self._rows += np.bincount(counted, minlength=len(self._rows))
        return pa.array(self._record.names, pa.string()).take(pa.array(numbers, mask=mask))

    def _hashed(self, batch: pa.RecordBatch) -> np.ndarray:
        columns = [_key_bytes(batch.column(key)) for key in self._record.keys]
        numbers: np.ndarray = np.empty(batch.num_rows, np.int64)
        for row, values in enumerate(zip(*columns, strict=True)):
            number = self._known.get(values)
            if number is None:
                number = self._known[values] = self._number(values)
            numbers[row] = number
        return numbers

    def _number(self, values: tuple[bytes, ...]) -> int:
        """The split of a key: where the first 64 bits of its SHA-256 fall in the parts."""
        digest = hashlib.sha256(b"hindcast split %d" % self._record.seed)
        for value in values:
            digest.update(len(value).to_bytes(8, "big") + value)
        share = int.from_bytes(digest.digest()[:8], "big") * sum(self._record.parts) >> _HASH_BITS
        ends = np.cumsum(self._record.parts)
        return int(np.searchsorted(ends, share, "right"))


def _key_bytes(column: pa.Array) -> list[bytes]:
    """A key's bytes by its meaning: whole numbers of every width alike, text and dictionaries of text alike, times as microseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros, is_there = to_micros(column)
        there = np.ones(len(column), dtype=bool) if is_there is None else is_there
        return [b"t%d" % time if known else b"n" for time, known in zip(micros.tolist(), there.tolist(), strict=True)]
    values = column.to_pylist()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return [b"n" if value is None else b"i%d" % value for value in values]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [b"n" if value is None else b"b" + value for value in values]
    text = values if pa.types.is_string(kind) or pa.types.is_large_string(kind) else _as_text(column)
    return [b"n" if value is None else b"s" + value.encode() for value in text]


def _as_text(column: pa.Array) -> list[str | None]:
    try:
        texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise InvalidArgument.at(
            "splits", f"hash a column of {column.type}, which is no key; name columns of numbers, text or times"
        ) from error
    return texts
