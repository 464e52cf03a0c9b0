"""Rows of answers in the long form, as lists of references have them: one for each value. Imports pyarrow."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from hindcast.lookups.arrays import numbers, repeated, texts, without
from hindcast.lookups.gather import gather, serialized, status_numbers, value_type_of
from hindcast.lookups.heads import Common, Entry, HeadColumns, compact_json, erased_places, places
from hindcast.lookups.messages import Columns, named_answer, plain_value, sent
from hindcast.lookups.plain import Heads
from hindcast.lookups.record import HEADER_BYTES, LookupRecord, Rpc
from hindcast.lookups.stored_columns import StoredColumns


@dataclass(slots=True)
class _Cells:
    """Columns of values of one type.

    Attributes:
        of, counts: per column which lookup it is of, and how many values it has.
        names: per column the number of the reference, or the name, that it answers.
        events: per column its stored rows' headers.
        erased: places of values whose rows were erased.
    """

    values: list[bytes] = field(default_factory=list)
    statuses: bytearray = field(default_factory=bytearray)
    of: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    names: list[int] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)


class ListRows:
    """Rows of answers in the long form: one for each value."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._heads = Heads(keeps_payloads=False)
        self._by_type: dict[int, _Cells] = {}
        self._names: dict[str, int] = {}
        self._keys: list[str] = []
        self._first_keys: list[int] = []
        self.rows = 0
        self.payload_bytes = 0

    def add(self, entry: Entry) -> bool:
        """Add the values of an answer; false if it cannot be read, and nothing was added."""
        record = entry.record
        try:
            (columns, named), inputs = named_answer(record), sent(record)
        except DecodeError:
            return False
        self.payload_bytes += len(entry.payload)
        described = list(zip(zip(*columns, strict=True), named, strict=False))
        if record.refs:
            described = described[max(0, len(described) - len(record.refs)) :]
        elif record.rpc is Rpc.FEAST:
            # Feast's answer repeats the entities that were sent.
            described = [(column, name) for column, name in described if name[0] not in inputs]
        if not described:
            return True
        refs = record.refs if len(record.refs) == len(described) else [name for _, (name, _) in described]
        rows = len(described[0][0][1])
        number = self._heads.count
        self._heads.add(**self._common.head(entry, rows))
        self._first_keys.append(len(self._keys))
        self._keys += _key_texts(inputs, rows)
        by_type, names_known, headers = self._by_type, self._names, _Headers(record, rows)
        for ref, ((values, statuses), (_, read_from)) in zip(refs, described, strict=True):
            if len(values) != rows or len(statuses) != rows:
                continue
            value_type = value_type_of(values)
            cells = by_type.get(value_type)
            if cells is None:
                cells = by_type[value_type] = _Cells()
            cells.of.append(number)
            if record.erased:
                cells.erased += erased_places(record, rows, before=len(cells.values))
            cells.counts.append(rows)
            cells.values += values
            cells.statuses += statuses
            cells.names.append(names_known.setdefault(ref, len(names_known)))
            cells.events.append(headers.of(ref, read_from))
            self.rows += rows
        return True

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that."""
        heads = HeadColumns(self._heads, self._common)
        services = heads.of_kinds(lambda kind: kind.service)
        names = texts(list(self._names))
        keys, first_keys = texts(self._keys), np.array(self._first_keys, np.int64)
        tables = []
        for value_type, cells in sorted(self._by_type.items()):
            column, row = places(np.array(cells.counts, np.int64))
            of = np.array(cells.of, np.int32)[column]
            array = gather(cells.values, value_type)
            is_scalar = value_type and not pa.types.is_nested(array.type) and not pa.types.is_binary(array.type)
            table = pa.table(
                {
                    **heads.spread(of, row),
                    "hc_service": repeated(services, of),
                    "hc_feature": pa.DictionaryArray.from_arrays(
                        numbers(np.array(cells.names, np.int32)[column], pa.int32()), names
                    ),
                    "hc_keys": repeated(keys, first_keys[of] + row),
                    "hc_value": serialized(cells.values),
                    "hc_text": array.cast(pa.string()) if is_scalar else pa.nulls(len(array), pa.string()),
                    "hc_status": status_numbers(cells.statuses),
                    "hc_event_ts": StoredColumns.of(b"".join(cells.events)).event,
                }
            )
            tables.append(without(cells.erased, table))
        return pa.concat_tables(tables, promote_options="default")


class _Headers:
    """The headers of a lookup's stored rows, by what was read from them."""

    def __init__(self, record: LookupRecord, rows: int) -> None:
        self._record, self._none = record, bytes(rows * HEADER_BYTES)
        self._by_place = [self._whole(stored.headers) for stored in record.rows]

    def of(self, ref: str, read_from: int | None) -> bytes:
        """Those that a column was read from; zeros where nothing says which."""
        if read_from is not None and read_from < len(self._by_place):
            return self._by_place[read_from]
        if ":" not in ref:
            return self._none
        view = ref.partition(":")[0]
        plain = view.partition("@")[0]
        found = [stored for stored in self._record.rows if stored.view == view]
        found += [stored for stored in self._record.rows if stored.view.partition("@")[0] == plain]
        return self._whole(found[0].headers) if found else self._none

    def _whole(self, headers: bytes) -> bytes:
        return headers if len(headers) == len(self._none) else self._none


def _key_texts(inputs: Columns, rows: int) -> list[str]:
    """Per row what was sent for it, as JSON."""
    columns = {name: list(map(plain_value, values)) for name, values in sorted(inputs.items()) if len(values) == rows}
    return [compact_json({name: values[row] for name, values in columns.items()}) for row in range(rows)]
