"""Rows of tables, built by column from the records of lookups. Imports pyarrow.

Three kinds: `ServiceRows` of one feature service as one catalog has it, a row per entity row; `ListRows` of lists of references, a row
per value; `RecordRows`, a row per lookup, with its record as it was logged.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from hindcast.lookups.arrays import bitmap, constant, numbers, text_lists, texts
from hindcast.lookups.directory import WriterId
from hindcast.lookups.gather import INSTANT, arrow_type, gather, gathered, value_type_of
from hindcast.lookups.logging_schema import LOG_TIMESTAMP, REQUEST_ID, ServiceSchema
from hindcast.lookups.plain import Answers, Heads, Reader
from hindcast.lookups.python_plain import Content
from hindcast.lookups.record import HEADER_BYTES, LookupRecord, Rpc, headers_count
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value

_SIGN = 1 << 63
_NO_RUN = bytes(16)

Columns = Mapping[str, Sequence[bytes]]


class Entry(NamedTuple):
    """A record, and where it stands in its writer's log.

    Attributes:
        payload: of which `record` was read.
    """

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
    return headers_count(record.rows[0]) if record.rows else 0


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
        self._tags += [_json(_unpack_tags(packed)) for packed in self.reader.tags[len(self._tags) :]]
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


class _HeadColumns:
    """Heads as arrays, an element for each record."""

    def __init__(self, heads: Heads, common: Common) -> None:
        columns = heads.take()
        self._common = common
        self._kinds, self._tags = _numbers(columns["kinds"]), _numbers(columns["tags"])
        self.rows, self.stored_rows = _numbers(columns["rows"]), _numbers(columns["stored"])
        self.lookup_ids = _id_texts(columns["lookup_ids"])
        self.served = _numbers(columns["served"], "i8")
        self.sequences = _numbers(columns["sequences"], "i8")
        self.request_ids = _strung(pa.string(), columns["request_ids"], columns["request_ends"])
        self.payloads = columns["payloads"], columns["payload_ends"]

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
        ids = _repeated(self.lookup_ids, of)
        return {
            LOG_TIMESTAMP: numbers(self.served[of], INSTANT),
            REQUEST_ID: ids,
            "hc_lookup_id": ids,
            "hc_row": numbers(row.astype(np.int32), pa.int32()),
            "hc_request_id": _repeated(self.request_ids, of),
            "hc_tags": _repeated(self.tags(), of),
            "hc_catalog_version": _repeated(self.of_kinds(lambda kind: kind.catalog_version), of),
            "hc_mode": _repeated(self.of_kinds(lambda kind: kind.mode), of),
            "hc_slot": constant(self._common.writer.slot, len(of), pa.int32()),
            "hc_epoch": constant(self._common.writer.epoch, len(of), pa.int64()),
            "hc_sequence": numbers(self.sequences[of], pa.int64()),
        }


def _numbers(packed: Content, kind: str = "i4") -> Any:
    return np.frombuffer(packed, kind)


def _strung(kind: pa.DataType, content: Content, ends: Content) -> pa.Array:
    """What stands one behind the other, between the ends, as an array."""
    count = len(ends) // 4 - 1
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(ends), pa.py_buffer(content)])


def _repeated(words: pa.Array, of: np.ndarray[Any, Any]) -> pa.Array:
    """Words by their places, each kept once."""
    encoded = words.dictionary_encode()
    places = np.frombuffer(encoded.indices.buffers()[1], np.int32, len(words))[of]
    return pa.DictionaryArray.from_arrays(numbers(places, pa.int32()), encoded.dictionary)


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

    def __init__(self, schema: ServiceSchema, common: Common) -> None:
        self._schema = schema
        self._common = common
        inputs = list(schema.inputs)
        self._answers = Answers(
            len(schema.features),
            views=[view.encode() for view in schema.views],
            inputs=[name.encode() for name in inputs],
            aliases=[(name.encode(), inputs.index(key)) for name, key in schema.renamed.items()],
        )
        self._heads = Heads(keeps_payloads=False)
        self._erased: list[int] = []
        self.payload_bytes = 0

    @property
    def rows(self) -> int:
        """How many there are, with those that were erased."""
        return self._answers.rows

    def add_plain(self, sequence: int, payload_bytes: int) -> int:
        """Add the rows of the answer that was read last; how many, or -1 where only its messages can tell, and nothing was added."""
        rows = self._answers.add_plain(self._common.reader)
        if rows >= 0:
            self._heads.add_plain(self._common.reader, sequence, rows)
            self.payload_bytes += payload_bytes
        return rows

    def add(self, answer: "ServiceAnswer") -> None:
        """Add the rows of an answer."""
        entry, rows, inputs = answer.entry, answer.rows, answer.inputs
        by_view = dict(entry.record.rows)
        sent_columns = [inputs.get(name, ()) for name in self._schema.inputs]
        headers = [by_view.get(view, b"") for view in self._schema.views]
        self._erased += _erased(entry.record, rows, before=self._answers.rows)
        self._answers.add(
            rows,
            values=answer.columns.values,
            statuses=answer.columns.statuses,
            inputs=[column if len(column) == rows else [b""] * rows for column in sent_columns],
            headers=[
                of_view if len(of_view) == rows * HEADER_BYTES else bytes(rows * HEADER_BYTES) for of_view in headers
            ],
        )
        self._heads.add(**self._common.head(entry, rows))
        self.payload_bytes += len(entry.payload)

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        schema = self._schema
        columns: dict[str, pa.Array] = {
            name: gathered(*self._answers.take_input(at), value_type)
            for at, (name, value_type) in enumerate(schema.inputs.items())
        }
        heads = _HeadColumns(self._heads, self._common)
        of, row = _places(heads.rows)
        stored = {view: _Stored.of(self._answers.take_headers(at)) for at, view in enumerate(schema.views)}
        for at, feature in enumerate(schema.features):
            content, lengths, statuses = self._answers.take_feature(at)
            columns[feature.name] = gathered(content, lengths, feature.value_type)
            columns[f"{feature.name}__timestamp"] = stored[feature.view].event
            columns[f"{feature.name}__status"] = _statuses(statuses)
        columns |= heads.spread(of, row)
        served = heads.served[of]
        for view, of_view in stored.items():
            columns[f"hc_{view}__age_seconds"] = of_view.age_seconds(served)
            columns[f"hc_{view}__created_ts"] = of_view.created
            columns[f"hc_{view}__run_id"] = of_view.run_id
        return _without(self._erased, pa.table(columns))


def _without(erased: Sequence[int], rows: pa.Table) -> pa.Table:
    """Rows without those that were erased from their records."""
    if not erased:
        return rows
    kept: Any = np.ones(rows.num_rows, np.bool_)
    kept[erased] = False
    return rows.filter(numbers(kept, pa.bool_()))


def _erased(record: LookupRecord, count: int, *, before: int) -> list[int]:
    """The places of a record's erased rows among those of a table, of which so many stand before its own."""
    return [before + row for row in record.erased if 0 <= row < count]


def _places(counts: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of things that have so many rows each: per row which of them it is of, and its number there."""
    of: Any = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    begins = np.cumsum(counts, dtype=np.int64) - counts
    return of, np.arange(len(of), dtype=np.int64) - begins[of]


_HEADER = np.dtype([("event", ">u8"), ("created", ">u8"), ("schema", "V10"), ("run", "V16")])


@dataclass(frozen=True, slots=True)
class _Stored:
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
    def of(cls, headers: Content) -> "_Stored":
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
        return numbers((served_micros - self.event_micros).astype(np.float64) / 1e6, pa.float64(), self.there)


def _micros(stored: np.ndarray[Any, Any]) -> Any:
    return (stored.astype(np.uint64) ^ np.uint64(_SIGN)).view(np.int64)


def _serialized(values: Sequence[bytes]) -> pa.Array:
    sizes = np.fromiter(map(len, values), np.int32, len(values))
    ends: Any = np.zeros(len(values) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    buffers = [bitmap(sizes > 0), pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def _statuses(of_values: Content | bytearray) -> pa.Array:
    return numbers(np.frombuffer(of_values, np.uint8).astype(np.int32), pa.int32())


@dataclass(slots=True)
class _Cells:
    """Columns of values of one type.

    Attributes:
        of, counts: per column which lookup it is of, and how many values it has.
        names: per column the reference, or the name, that it answers.
        events: per column its stored rows' headers.
        erased: places of values whose rows were erased.
    """

    values: list[bytes] = field(default_factory=list)
    statuses: bytearray = field(default_factory=bytearray)
    of: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)


class ListRows:
    """Rows of answers in the long form: one for each value."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._heads = Heads(keeps_payloads=False)
        self._by_type: dict[int, _Cells] = {}
        self._keys: list[str] = []
        self._first_keys: list[int] = []
        self.rows = 0
        self.payload_bytes = 0

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
        number = self._heads.count
        self._heads.add(**self._common.head(entry, rows))
        self._first_keys.append(len(self._keys))
        self._keys += _key_texts(inputs, rows)
        for ref, ((values, statuses), (_, read_from)) in zip(refs, described, strict=True):
            if len(values) != rows or len(statuses) != rows:
                continue
            cells = self._by_type.setdefault(value_type_of(values), _Cells())
            cells.of.append(number)
            cells.counts.append(rows)
            cells.erased += _erased(record, rows, before=len(cells.values))
            cells.values += values
            cells.statuses += statuses
            cells.names.append(ref)
            cells.events.append(_headers_of(record, ref, read_from, rows))
            self.rows += rows
        return True

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        heads = _HeadColumns(self._heads, self._common)
        services = heads.of_kinds(lambda kind: kind.service)
        keys, first_keys = texts(self._keys), np.array(self._first_keys, np.int64)
        tables = []
        for value_type, cells in sorted(self._by_type.items()):
            column, row = _places(np.array(cells.counts, np.int64))
            of = np.array(cells.of, np.int32)[column]
            array = gather(cells.values, value_type)
            is_scalar = value_type and not pa.types.is_nested(array.type) and not pa.types.is_binary(array.type)
            table = pa.table(
                {
                    **heads.spread(of, row),
                    "hc_service": _repeated(services, of),
                    "hc_feature": _repeated(texts(cells.names), column),
                    "hc_keys": _repeated(keys, first_keys[of] + row),
                    "hc_value": _serialized(cells.values),
                    "hc_text": array.cast(pa.string()) if is_scalar else pa.nulls(len(array), pa.string()),
                    "hc_status": _statuses(cells.statuses),
                    "hc_event_ts": _Stored.of(b"".join(cells.events)).event,
                }
            )
            tables.append(_without(cells.erased, table))
        return pa.concat_tables(tables, promote_options="default")


def _headers_of(record: LookupRecord, ref: str, read_from: int | None, rows: int) -> bytes:
    if read_from is not None and read_from < len(record.rows):
        headers = record.rows[read_from].headers
    else:
        view = ref.partition(":")[0]
        plain = view.partition("@")[0]
        found = [stored for stored in record.rows if stored.view == view]
        found += [stored for stored in record.rows if stored.view.partition("@")[0] == plain]
        headers = found[0].headers if found and (":" in ref) else b""
    return headers if len(headers) == rows * HEADER_BYTES else bytes(rows * HEADER_BYTES)


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

    def __init__(self, common: Common) -> None:
        self._common = common
        self._heads = Heads(keeps_payloads=True)
        self.payload_bytes = 0

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._heads.count

    def add_plain(self, sequence: int, payload_bytes: int, *, entity_rows: int) -> None:
        """Add the lookup that was read last."""
        self._heads.add_plain(self._common.reader, sequence, entity_rows)
        self.payload_bytes += payload_bytes

    def add(self, entry: Entry, *, entity_rows: int) -> None:
        """Add a lookup."""
        self._heads.add(**self._common.head(entry, entity_rows))
        self.payload_bytes += len(entry.payload)

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        heads, writer = _HeadColumns(self._heads, self._common), self._common.writer
        count = len(heads.rows)
        return pa.table(
            {
                "lookup_id": heads.lookup_ids,
                "served_at": numbers(heads.served, INSTANT),
                "request_id": heads.request_ids,
                "service": heads.of_kinds(lambda kind: kind.service),
                "refs": heads.refs(),
                "tags": heads.tags(),
                "rpc": heads.of_kinds(lambda kind: kind.rpc.value),
                "mode": heads.of_kinds(lambda kind: kind.mode),
                "status": heads.of_kinds(lambda kind: status_name(kind.code)),
                "reason": heads.of_kinds(lambda kind: kind.reason),
                "message": heads.of_kinds(lambda kind: kind.message),
                "catalog_version": heads.of_kinds(lambda kind: kind.catalog_version),
                "entity_rows": numbers(heads.rows, pa.int32()),
                "stored_rows": numbers(heads.stored_rows, pa.int32(), heads.stored_rows >= 0),
                "erased": numbers(np.zeros(count, np.bool_), pa.bool_()),
                "slot": constant(writer.slot, count, pa.int32()),
                "epoch": constant(writer.epoch, count, pa.int64()),
                "sequence": numbers(heads.sequences, pa.int64()),
                "payload": _strung(pa.binary(), *heads.payloads),
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
