"""What records say of themselves, by column, and what many of them say alike. Imports pyarrow."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from hindcast.lookups.arrays import constant, numbers, repeated, strung, text_lists, texts
from hindcast.lookups.directory import WriterId
from hindcast.lookups.gather import INSTANT
from hindcast.lookups.logging_schema import LOG_TIMESTAMP, REQUEST_ID
from hindcast.lookups.plain import Heads, Reader
from hindcast.lookups.python_plain import Content
from hindcast.lookups.record import LookupRecord, Rpc, headers_count


class Entry(NamedTuple):
    """A record, and where it stands in its writer's log.

    Attributes:
        payload: of which `record` was read.
    """

    sequence: int
    payload: bytes
    record: LookupRecord


def row_count(record: LookupRecord) -> int:
    """How many entity rows a lookup was answered for, as far as its stored rows tell; 0 for a failure."""
    return headers_count(record.rows[0]) if record.rows else 0


def erased_places(record: LookupRecord, count: int, *, before: int) -> list[int]:
    """The places of a record's erased rows among those of a table, of which so many stand before its own."""
    return [before + row for row in record.erased if 0 <= row < count]


class Kind(NamedTuple):
    """What many records say alike; see `LookupRecord`."""

    rpc: Rpc
    catalog_version: str
    service: str
    refs: Sequence[str]
    mode: str
    code: int
    reason: str
    message: str


_RPCS = tuple(Rpc)
_ARRAY_OF_7 = b"\x97"
_pack = msgspec.msgpack.Encoder().encode
_unpack_kind = msgspec.msgpack.Decoder(tuple[str, str, list[str], str, int, str, str]).decode
_unpack_tags = msgspec.msgpack.Decoder(dict[str, str]).decode


class Common:
    """What records of a writer have in common, told once for all of them."""

    def __init__(self, writer: WriterId) -> None:
        self.writer = writer
        self.reader = Reader()
        self._kinds: list[Kind] = []
        self._tags: list[str] = []

    def kinds(self) -> Sequence[Kind]:
        """By their numbers with the reader."""
        for packed in self.reader.kinds[len(self._kinds) :]:
            self._kinds.append(Kind(_RPCS[packed[0]], *_unpack_kind(_ARRAY_OF_7 + packed[1:])))
        return self._kinds

    def tags(self) -> Sequence[str]:
        """As JSON, by their numbers with the reader."""
        self._tags += [compact_json(_unpack_tags(packed)) for packed in self.reader.tags[len(self._tags) :]]
        return self._tags

    def head(self, entry: Entry, rows: int) -> dict[str, Any]:
        """What `Heads.add` takes of a record that was decoded."""
        record = entry.record
        kind = (record.catalog_version, record.service, list(record.refs), record.mode, record.code)
        packed = _pack((*kind, record.reason, record.message))[len(_ARRAY_OF_7) :]
        return {
            "lookup_id": record.lookup_id,
            "served_at_micros": record.served_at_micros,
            "sequence": entry.sequence,
            "rows": rows,
            "stored_rows": headers_count(record.rows[0]) if record.rows else -1,
            "kind": self.reader.kind_number(bytes([_RPCS.index(record.rpc)]) + packed),
            "tags": self.reader.tags_number(_pack(record.tags)),
            "request_id": record.request_id.encode(),
            "payload": entry.payload,
        }


class HeadColumns:
    """Heads as arrays, an element for each record."""

    def __init__(self, heads: Heads, common: Common) -> None:
        columns = heads.take()
        self._common = common
        self._kinds, self._tags = _numbers(columns["kinds"]), _numbers(columns["tags"])
        self.rows, self.stored_rows = _numbers(columns["rows"]), _numbers(columns["stored"])
        self.lookup_ids = _id_texts(columns["lookup_ids"])
        self.served = _numbers(columns["served"], "i8")
        self.sequences = _numbers(columns["sequences"], "i8")
        self.request_ids = strung(pa.string(), columns["request_ids"], columns["request_ends"])

    def of_kinds(self, read: Callable[[Kind], str]) -> pa.Array:
        """A word of the kind of each record."""
        return texts(list(map(read, self._common.kinds()))).take(numbers(self._kinds, pa.int32()))

    def refs(self) -> pa.Array:
        """Of each record."""
        return text_lists([kind.refs for kind in self._common.kinds()]).take(numbers(self._kinds, pa.int32()))

    def tags(self) -> pa.Array:
        """Of each record, as JSON."""
        return texts(self._common.tags()).take(numbers(self._tags, pa.int32()))

    def spread(self, of: np.ndarray[Any, Any], row: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
        """The columns that all rows of tables have.

        Args:
            of: per row which record it is of.
            row: its number in the answer.
        """
        ids = repeated(self.lookup_ids, of)
        return {
            LOG_TIMESTAMP: numbers(self.served[of], INSTANT),
            REQUEST_ID: ids,
            "hc_lookup_id": ids,
            "hc_row": numbers(row.astype(np.int32), pa.int32()),
            "hc_request_id": repeated(self.request_ids, of),
            "hc_tags": repeated(self.tags(), of),
            "hc_catalog_version": repeated(self.of_kinds(lambda kind: kind.catalog_version), of),
            "hc_mode": repeated(self.of_kinds(lambda kind: kind.mode), of),
            "hc_slot": constant(self._common.writer.slot, len(of), pa.int32()),
            "hc_epoch": constant(self._common.writer.epoch, len(of), pa.int64()),
            "hc_sequence": numbers(self.sequences[of], pa.int64()),
        }


def _numbers(packed: Content, kind: str = "i4") -> Any:
    return np.frombuffer(packed, kind)


def places(counts: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of things that have so many rows each: per row which of them it is of, and its number there."""
    of: Any = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    begins = np.cumsum(counts, dtype=np.int64) - counts
    return of, np.arange(len(of), dtype=np.int64) - begins[of]


_DIGITS = np.array([list(f"{byte:02x}".encode()) for byte in range(256)], np.uint8)
_ID_CHARACTERS = 36
_DASHES = (8, 13, 18, 23)
_DIGIT_PLACES = [at for at in range(_ID_CHARACTERS) if at not in _DASHES]


def _id_texts(packed: Content) -> pa.Array:
    """Ids of 16 bytes each as callers see them."""
    digits = _DIGITS[np.frombuffer(packed, np.uint8)].reshape(-1, len(_DIGIT_PLACES))
    texts: Any = np.full((len(digits), _ID_CHARACTERS), ord("-"), np.uint8)
    texts[:, _DIGIT_PLACES] = digits
    ends: Any = np.arange(len(digits) + 1, dtype=np.int32) * _ID_CHARACTERS
    return pa.Array.from_buffers(pa.string(), len(digits), [None, pa.py_buffer(ends), pa.py_buffer(texts)])


def compact_json(content: Mapping[str, Any]) -> str:
    """JSON as tables have it."""
    return json.dumps(dict(content), ensure_ascii=False, separators=(",", ":"), default=str)
