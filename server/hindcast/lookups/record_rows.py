"""A row for each lookup, failed ones too, with its record as it was logged. Imports pyarrow."""

import numpy as np
import pyarrow as pa
from google.rpc import code_pb2

from hindcast.lookups.arrays import constant, numbers, viewed
from hindcast.lookups.gather import INSTANT
from hindcast.lookups.heads import Common, Entry, HeadColumns
from hindcast.lookups.plain import Heads


class RecordRows:
    """A row per lookup, failed ones too.

    Attributes:
        heads: what they are made of.
    """

    def __init__(self, common: Common) -> None:
        self._common = common
        self.heads = Heads(keeps_payloads=True)
        self.payload_bytes = 0

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.heads.count

    def add_plain(self, sequence: int, payload_bytes: int, *, entity_rows: int) -> None:
        """Add the lookup that was read last."""
        self.heads.add_plain(self._common.reader, sequence, entity_rows)
        self.payload_bytes += payload_bytes

    def add(self, entry: Entry, *, entity_rows: int) -> None:
        """Add a lookup."""
        self.heads.add(**self._common.head(entry, entity_rows))
        self.payload_bytes += len(entry.payload)

    def take(self) -> pa.Table:
        """The table of what was added; nothing can be added after that. Payloads are views, of which Arrow can do little but write them."""
        heads, writer = HeadColumns(self.heads, self._common), self._common.writer
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
                "payload": viewed(*self.heads.take_payloads()),
            }
        )


def status_name(code: int) -> str:
    """`OK`, `NOT_FOUND`, …; the number itself for one that google.rpc.Code does not name."""
    names = code_pb2.Code.DESCRIPTOR.values_by_number
    return str(names[code].name) if code in names else str(code)
