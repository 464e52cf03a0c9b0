"""Rows of one feature service, as one catalog has it: one for each entity row, in Feast's logging schema. Imports pyarrow."""

from dataclasses import dataclass

import pyarrow as pa
from google.protobuf.message import DecodeError

from hindcast.lookups.arrays import without
from hindcast.lookups.gather import INSTANT, arrow_type, gathered, status_numbers
from hindcast.lookups.heads import Common, Entry, HeadColumns, erased_places, places
from hindcast.lookups.logging_schema import ServiceSchema
from hindcast.lookups.messages import Answered, Columns, answered, sent
from hindcast.lookups.plain import Answers, Frames, Heads
from hindcast.lookups.record import HEADER_BYTES
from hindcast.lookups.record_rows import RecordRows
from hindcast.lookups.stored_columns import StoredColumns


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

    def add_run(self, frames: Frames, at: int, records: RecordRows, *, payload_bytes_max: int) -> tuple[int, int]:
        """Add the rows of records that are alike, and the records themselves to those of all lookups.

        Args:
            at: where the first one stands.
            payload_bytes_max: no further one is added to so many bytes.
        Returns:
            How many records and rows that were; 0 where the first one is to be read alone.
        """
        left = payload_bytes_max - max(self.payload_bytes, records.payload_bytes)
        added, rows, payload_bytes = self._answers.add_run(
            self._common.reader, frames, at, heads=self._heads, records=records.heads, payload_bytes_max=left
        )
        self.payload_bytes += payload_bytes
        records.payload_bytes += payload_bytes
        return added, rows

    def add(self, answer: "ServiceAnswer") -> None:
        """Add the rows of an answer."""
        entry, rows, inputs = answer.entry, answer.rows, answer.inputs
        by_view = dict(entry.record.rows)
        sent_columns = [inputs.get(name, ()) for name in self._schema.inputs]
        headers = [by_view.get(view, b"") for view in self._schema.views]
        self._erased += erased_places(entry.record, rows, before=self._answers.rows)
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
        heads = HeadColumns(self._heads, self._common)
        of, row = places(heads.rows)
        stored = {view: StoredColumns.of(self._answers.take_headers(at)) for at, view in enumerate(schema.views)}
        for at, feature in enumerate(schema.features):
            content, lengths, statuses = self._answers.take_feature(at)
            columns[feature.name] = gathered(content, lengths, feature.value_type)
            columns[f"{feature.name}__timestamp"] = stored[feature.view].event
            columns[f"{feature.name}__status"] = status_numbers(statuses)
        columns |= heads.spread(of, row)
        served = heads.served[of]
        for view, of_view in stored.items():
            columns[f"hc_{view}__age_seconds"] = of_view.age_seconds(served)
            columns[f"hc_{view}__created_ts"] = of_view.created
            columns[f"hc_{view}__run_id"] = of_view.run_id
        return without(self._erased, pa.table(columns))


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
