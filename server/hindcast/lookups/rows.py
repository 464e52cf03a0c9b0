"""Rows of tables, built by column from the records of lookups. Imports pyarrow.

Three kinds: `ServiceRows` of one feature service as one catalog has it, a row per entity row; `ListRows` of lists of references, a row
per value; `RecordRows`, a row per lookup, with its record as it was logged.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from hindcast.lookups.directory import WriterId
from hindcast.lookups.gather import INSTANT, arrow_type, gather, value_type_of
from hindcast.lookups.logging_schema import LOG_TIMESTAMP, REQUEST_ID, ServiceSchema
from hindcast.lookups.record import LookupRecord, Rpc, headers_count
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value

_HEADER_BYTES = 42
_SIGN = 1 << 63
_NO_RUN = bytes(16)

Columns = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, and where it stands in the log.

    Attributes:
        payload: of which `record` was read.
    """

    writer: WriterId
    sequence: int
    payload: bytes
    record: LookupRecord


class Answered(NamedTuple):
    """The columns of an answer in order; those of Feast's begin with the entities.

    Attributes:
        values: per column n serialized Values.
        statuses: per column n numbers.
    """

    values: list[list[bytes]]
    statuses: list[bytes]


def answered(record: LookupRecord) -> Answered:
    """The columns of an answer; none for a failure.

    Raises:
        DecodeError: the answer cannot be read.
    """
    if not record.response:
        return Answered([], [])
    columns: Sequence[shadow_pb2.FeastVector | shadow_pb2.HindcastColumn]
    if record.rpc is Rpc.FEAST:
        columns = shadow_pb2.FeastResponse.FromString(record.response).results[:]
    else:
        columns = _hindcast_answer(record).columns[:]
    return Answered([column.values[:] for column in columns], [column.statuses for column in columns])


def _hindcast_answer(record: LookupRecord) -> shadow_pb2.HindcastResponse:
    response = record.response
    if record.rpc is Rpc.STREAM:
        response = shadow_pb2.HindcastStreamResponse.FromString(response).answer
    return shadow_pb2.HindcastResponse.FromString(response)


def _described(record: LookupRecord) -> list[tuple[str, int | None]]:
    """Of each column of an answer its name, and which of the record's `rows` it was read from, where the answer says so."""
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastResponse.FromString(record.response)
        return [(name, None) for name in shadow_pb2.FeastMetadata.FromString(feast.metadata).feature_names.val]
    return [
        (column.name, column.view_index if column.HasField("view_index") else None)
        for column in _hindcast_answer(record).columns
    ]


def sent(record: LookupRecord) -> dict[str, Sequence[bytes]]:
    """The columns of a request: entities, and request data where no entity has the name.

    Raises:
        DecodeError: the request cannot be read.
    """
    if record.rpc is Rpc.FEAST:
        feast = shadow_pb2.FeastRequest.FromString(record.request)
        maps = (feast.request_context, feast.entities)
    else:
        request = record.request
        if record.rpc is Rpc.STREAM:
            request = shadow_pb2.HindcastStreamRequest.FromString(request).lookup
        message = shadow_pb2.HindcastRequest.FromString(request)
        maps = (message.request_data, message.entities)
    return {name: column.val[:] for columns in maps for name, column in columns.items()}


def row_count(record: LookupRecord) -> int:
    """How many entity rows a lookup was answered for, as far as its stored rows tell; 0 for a failure."""
    return len(record.rows[0].headers) // _HEADER_BYTES if record.rows else 0


@dataclass(slots=True)
class _Meta:
    """What all rows of one lookup have in common, once per lookup."""

    counts: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    rows: int = 0
    payload_bytes: int = 0

    def add(self, entry: Entry, rows: int) -> None:
        self.counts.append(rows)
        self.entries.append(entry)
        self.rows += rows
        self.payload_bytes += len(entry.payload)

    def without_erased(self, rows: pa.Table) -> pa.Table:
        """Rows of these lookups without those that were erased from their records."""
        if not any(entry.record.erased for entry in self.entries):
            return rows
        kept: np.ndarray[Any, Any] = np.ones(self.rows, np.bool_)
        at = 0
        for count, entry in zip(self.counts, self.entries, strict=True):
            kept[[at + row for row in entry.record.erased]] = False
            at += count
        return rows.filter(pa.array(kept))

    def columns(self) -> dict[str, pa.Array]:
        counts = np.array(self.counts, np.int64)
        of: Any = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        number = np.arange(len(of), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        records = [entry.record for entry in self.entries]
        ids = [lookup_text(record) for record in records]

        def spread(values: Sequence[str]) -> pa.Array:
            words = list(dict.fromkeys(values))
            places = {word: at for at, word in enumerate(words)}
            at = np.fromiter((places[value] for value in values), np.int32, len(values))
            return pa.DictionaryArray.from_arrays(pa.array(at[of]), pa.array(words, pa.string()))

        def numbers(values: Iterable[int], kind: str) -> pa.Array:
            return pa.array(np.fromiter(values, kind, len(records))[of])

        return {
            LOG_TIMESTAMP: numbers((record.served_at_micros for record in records), "i8").cast(INSTANT),
            REQUEST_ID: spread(ids),
            "hc_lookup_id": spread(ids),
            "hc_row": pa.array(number.astype(np.int32)),
            "hc_request_id": spread([record.request_id for record in records]),
            "hc_tags": spread([_json(record.tags) for record in records]),
            "hc_catalog_version": spread([record.catalog_version for record in records]),
            "hc_mode": spread([record.mode for record in records]),
            "hc_slot": numbers((entry.writer.slot for entry in self.entries), "i4"),
            "hc_epoch": numbers((entry.writer.epoch for entry in self.entries), "i8"),
            "hc_sequence": numbers((entry.sequence for entry in self.entries), "i8"),
        }


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """An answer of a feature service that has the columns of its schema.

    Attributes:
        columns: in the order of the schema's features.
        inputs: by join key, or name of request data.
    """

    entry: Entry
    rows: int
    columns: Answered
    inputs: Columns


def read_answer(entry: Entry, schema: ServiceSchema) -> ServiceAnswer | None:
    """The answer of a record; None if it cannot be read, or is not of the schema."""
    try:
        columns, inputs = answered(entry.record), sent(entry.record)
    except DecodeError:
        return None
    wanted = len(schema.features)
    first = len(columns.values) - wanted
    if first < 0 or not wanted:
        return None
    columns = Answered(columns.values[first:], columns.statuses[first:])
    rows = len(columns.statuses[0])
    if {rows} != {*map(len, columns.values), *map(len, columns.statuses)}:
        return None
    for name, key in schema.renamed.items():
        if name in inputs:
            inputs.setdefault(key, inputs[name])
    return ServiceAnswer(entry, rows, columns, inputs)


class ServiceRows:
    """Rows of a feature service, answered from one catalog."""

    def __init__(self, schema: ServiceSchema) -> None:
        self._schema = schema
        self._meta = _Meta()
        self._values: list[list[bytes]] = [[] for _ in self._schema.features]
        self._statuses = [bytearray() for _ in self._schema.features]
        self._inputs: dict[str, list[bytes]] = {name: [] for name in self._schema.inputs}
        self._headers: dict[str, list[bytes]] = {view: [] for view in self._schema.views}

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._meta.rows

    @property
    def payload_bytes(self) -> int:
        """Of the records that are held for them."""
        return self._meta.payload_bytes

    def add(self, answer: "ServiceAnswer") -> None:
        """Add the rows of an answer."""
        rows, inputs = answer.rows, answer.inputs
        for into, values in zip(self._values, answer.columns.values, strict=True):
            into.extend(values)
        for statuses_into, statuses in zip(self._statuses, answer.columns.statuses, strict=True):
            statuses_into.extend(statuses)
        for name, into in self._inputs.items():
            column_sent = inputs.get(name, ())
            into.extend(column_sent if len(column_sent) == rows else [b""] * rows)
        by_view = dict(answer.entry.record.rows)
        for view, headers in self._headers.items():
            of_view = by_view.get(view, b"")
            headers.append(of_view if len(of_view) == rows * _HEADER_BYTES else bytes(rows * _HEADER_BYTES))
        self._meta.add(answer.entry, rows)

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        schema = self._schema
        columns: dict[str, pa.Array] = {
            name: gather(self._inputs[name], value_type) for name, value_type in schema.inputs.items()
        }
        meta = self._meta.columns()
        stored = {view: _Stored.of(b"".join(headers)) for view, headers in self._headers.items()}
        for feature, values, statuses in zip(schema.features, self._values, self._statuses, strict=True):
            columns[feature.name] = gather(values, feature.value_type)
            columns[f"{feature.name}__timestamp"] = stored[feature.view].event
            columns[f"{feature.name}__status"] = _statuses(statuses)
        columns |= meta
        served = meta[LOG_TIMESTAMP].cast(pa.int64())
        for view, of_view in stored.items():
            columns[f"hc_{view}__age_seconds"] = of_view.age_seconds(served)
            columns[f"hc_{view}__created_ts"] = of_view.created
            columns[f"hc_{view}__run_id"] = of_view.run_id
        return self._meta.without_erased(pa.table(columns))


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the stored rows of a view said of themselves."""

    event: pa.Array
    created: pa.Array
    run_id: pa.Array

    @classmethod
    def of(cls, headers: bytes) -> "_Stored":
        rows = np.frombuffer(headers, np.uint8).reshape(-1, _HEADER_BYTES)
        there = rows.any(axis=1)
        event = _instants(rows[:, :8], there)
        stored_created = np.ascontiguousarray(rows[:, 8:16]).view(">u8")[:, 0]
        created = _instants(rows[:, 8:16], there & (stored_created != 0))
        runs = pa.Array.from_buffers(
            pa.binary(16), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows[:, 26:]))]
        ).dictionary_encode()
        words = [None if run == _NO_RUN else str(UUID(bytes=run)) for run in runs.dictionary.to_pylist()]
        return cls(event, created, pa.array(words, pa.string()).take(runs.indices).dictionary_encode())

    def age_seconds(self, served_micros: pa.Array) -> pa.Array:
        return pc.divide(pc.subtract(served_micros, self.event.cast(pa.int64())).cast(pa.float64(), safe=False), 1e6)


def _instants(stored: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> pa.Array:
    micros = (np.ascontiguousarray(stored).view(">u8")[:, 0].astype(np.uint64) ^ np.uint64(_SIGN)).view(np.int64)
    return pa.array(np.where(there, micros, 0), mask=~there).cast(INSTANT)


def _statuses(numbers: bytearray) -> pa.Array:
    return pa.array(np.frombuffer(numbers, np.uint8).astype(np.int32))


@dataclass(slots=True)
class _Cells:
    """Values of one type."""

    values: list[bytes] = field(default_factory=list)
    statuses: bytearray = field(default_factory=bytearray)
    events: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    meta: _Meta = field(default_factory=_Meta)


class ListRows:
    """Rows of answers in the long form: one for each value."""

    def __init__(self) -> None:
        self._by_type: dict[int, _Cells] = {}
        self.rows = self.payload_bytes = 0

    def add(self, entry: Entry) -> bool:
        """Add the values of an answer; false if it cannot be read, and nothing was added."""
        record = entry.record
        try:
            columns, names, inputs = answered(record), _described(record), sent(record)
        except DecodeError:
            return False
        self.payload_bytes += len(entry.payload)
        described = list(zip(zip(*columns, strict=True), names, strict=False))
        if record.refs:
            described = described[max(0, len(described) - len(record.refs)) :]
        elif record.rpc is Rpc.FEAST:
            # Feast's answer repeats the entities that were sent.
            described = [(column, named) for column, named in described if named[0] not in inputs]
        if not described:
            return True
        refs = record.refs if len(record.refs) == len(described) else [name for _, (name, _) in described]
        rows = len(described[0][0][1])
        keys = _key_texts(inputs, rows)
        for ref, ((values, statuses), (_, read_from)) in zip(refs, described, strict=True):
            if len(values) != rows or len(statuses) != rows:
                continue
            cells = self._by_type.setdefault(value_type_of(values), _Cells())
            cells.meta.add(entry, rows)
            cells.values += values
            cells.statuses += statuses
            cells.names.append(ref)
            cells.services.append(record.service)
            cells.keys += keys
            cells.events.append(_headers_of(record, ref, read_from, rows))
            self.rows += rows
        return True

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        tables = [_list_table(value_type, cells) for value_type, cells in sorted(self._by_type.items())]
        return pa.concat_tables(tables, promote_options="default")


def _list_table(value_type: int, cells: _Cells) -> pa.Table:
    counts = np.array(cells.meta.counts, np.int64)
    of = pa.array(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
    array = gather(cells.values, value_type)
    is_scalar = value_type and not pa.types.is_nested(array.type) and not pa.types.is_binary(array.type)
    text = array.cast(pa.string()) if is_scalar else pa.nulls(len(array), pa.string())
    rows = pa.table(
        {
            **cells.meta.columns(),
            "hc_service": pa.array(cells.services, pa.string()).take(of),
            "hc_feature": pa.array(cells.names, pa.string()).take(of),
            "hc_keys": pa.array(cells.keys, pa.string()),
            "hc_value": pa.array([value or None for value in cells.values], pa.binary()),
            "hc_text": text,
            "hc_status": _statuses(cells.statuses),
            "hc_event_ts": _Stored.of(b"".join(cells.events)).event,
        }
    )
    return cells.meta.without_erased(rows)


def _headers_of(record: LookupRecord, ref: str, read_from: int | None, rows: int) -> bytes:
    if read_from is not None and read_from < len(record.rows):
        headers = record.rows[read_from].headers
    else:
        view = ref.partition(":")[0]
        plain = view.partition("@")[0]
        found = [stored for stored in record.rows if stored.view == view]
        found += [stored for stored in record.rows if stored.view.partition("@")[0] == plain]
        headers = found[0].headers if found and (":" in ref) else b""
    return headers if len(headers) == rows * _HEADER_BYTES else bytes(rows * _HEADER_BYTES)


def _key_texts(inputs: Columns, rows: int) -> list[str]:
    """Per row what was sent for it, as JSON."""
    columns = {name: list(map(plain_value, values)) for name, values in sorted(inputs.items()) if len(values) == rows}
    return [_json({name: values[row] for name, values in columns.items()}) for row in range(rows)]


def plain_value(value: bytes) -> Any:
    """A serialized Value as JSON can say it; bytes in base64, and None also for what is no scalar or cannot be read."""
    try:
        message = Value.FromString(value)
    except DecodeError:
        return None
    kind = message.WhichOneof("val")
    found = None if kind is None or kind == "null_val" else getattr(message, kind)
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, float) and not math.isfinite(found):
        return str(found)
    return found if isinstance(found, str | int | float | bool) else None


class RecordRows:
    """A row per lookup, failed ones too."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._rows: list[int] = []
        self.payload_bytes = 0

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._entries)

    def add(self, entry: Entry, *, entity_rows: int | None = None) -> None:
        """Add a lookup.

        Args:
            entity_rows: where it is known better than the stored rows tell.
        """
        self._entries.append(entry)
        self.payload_bytes += len(entry.payload)
        self._rows.append(row_count(entry.record) if entity_rows is None else entity_rows)

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        entries, records = self._entries, [entry.record for entry in self._entries]
        return pa.table(
            {
                "lookup_id": pa.array(map(lookup_text, records), pa.string()),
                "served_at": pa.array([record.served_at_micros for record in records], pa.int64()).cast(INSTANT),
                "request_id": pa.array([record.request_id for record in records], pa.string()),
                "service": pa.array([record.service for record in records], pa.string()),
                "refs": pa.array([list(record.refs) for record in records], pa.list_(pa.string())),
                "tags": pa.array([_json(record.tags) for record in records], pa.string()),
                "rpc": pa.array([record.rpc.value for record in records], pa.string()),
                "mode": pa.array([record.mode for record in records], pa.string()),
                "status": pa.array([status_name(record.code) for record in records], pa.string()),
                "reason": pa.array([record.reason for record in records], pa.string()),
                "message": pa.array([record.message for record in records], pa.string()),
                "catalog_version": pa.array([record.catalog_version for record in records], pa.string()),
                "entity_rows": pa.array(self._rows, pa.int32()),
                "stored_rows": pa.array(
                    [headers_count(record.rows[0]) if record.rows else None for record in records], pa.int32()
                ),
                "erased": pa.array([False] * len(records), pa.bool_()),
                "slot": pa.array([entry.writer.slot for entry in entries], pa.int32()),
                "epoch": pa.array([entry.writer.epoch for entry in entries], pa.int64()),
                "sequence": pa.array([entry.sequence for entry in entries], pa.int64()),
                "payload": pa.array([entry.payload for entry in entries], pa.binary()),
            }
        )


def lookup_text(record: LookupRecord) -> str:
    """A lookup's id as callers see it."""
    digits = record.lookup_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def status_name(code: int) -> str:
    """`OK`, `NOT_FOUND`, …; the number itself for one that google.rpc.Code does not name."""
    names = code_pb2.Code.DESCRIPTOR.values_by_number
    return str(names[code].name) if code in names else str(code)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(dict(content), ensure_ascii=False, separators=(",", ":"), default=str)


def arrow_types(schema: ServiceSchema) -> dict[str, pa.DataType]:
    """Feast's part of a service's table: its columns and their types."""
    types = {name: arrow_type(value_type) for name, value_type in schema.inputs.items()}
    for feature in schema.features:
        types |= {
            feature.name: arrow_type(feature.value_type),
            f"{feature.name}__timestamp": INSTANT,
            f"{feature.name}__status": pa.int32(),
        }
    return types
