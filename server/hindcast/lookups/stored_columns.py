"""What the stored rows of a view said of themselves, by column. Imports pyarrow."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from hindcast.lookups.arrays import numbers, texts
from hindcast.lookups.gather import INSTANT
from hindcast.lookups.python_plain import Content
from hindcast.lookups.record import HEADER_BYTES, SIGN

_NO_RUN = bytes(16)
_HEADER = np.dtype([("event", ">u8"), ("created", ">u8"), ("schema", "V10"), ("run", "V16")])


@dataclass(frozen=True, slots=True)
class StoredColumns:
    """What the stored rows of a view said of themselves.

    Attributes:
        event_micros: as `event`, in microseconds; of no meaning where that is null.
        there: whether there was a row.
    """

    event: pa.Array
    created: pa.Array
    run_id: pa.Array
    event_micros: np.ndarray[Any, Any]
    there: np.ndarray[Any, Any]

    @classmethod
    def of(cls, headers: Content) -> "StoredColumns":
        """Of whole headers, 42 bytes for each row."""
        rows = np.frombuffer(headers, _HEADER)
        event, created = _micros(rows["event"]), _micros(rows["created"])
        there = rows["event"] != 0
        if not there.all():
            there |= np.frombuffer(headers, np.uint8).reshape(-1, HEADER_BYTES).any(axis=1)
        runs = pa.Array.from_buffers(
            pa.binary(16), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows["run"]))]
        ).dictionary_encode()
        words = texts([None if run == _NO_RUN else str(UUID(bytes=run)) for run in runs.dictionary.to_pylist()])
        return cls(
            numbers(event, INSTANT, there),
            numbers(created, INSTANT, there & (rows["created"] != 0)),
            words.take(runs.indices).dictionary_encode(),
            event,
            there,
        )

    def age_seconds(self, served_micros: np.ndarray[Any, Any]) -> pa.Array:
        """How old each row was when it was served; null where there was none."""
        return numbers((served_micros - self.event_micros).astype(np.float64) / 1e6, pa.float64(), self.there)


def _micros(stored: np.ndarray[Any, Any]) -> Any:
    return (stored.astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
