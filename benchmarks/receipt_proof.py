"""A value in a receipt is the value that was served, bit for bit: a million rows are served, kept by their caller, and compared with
what the log says of them, first in its segments and then in the tables that those were sealed into.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pyarrow as pa
from deltalake import DeltaTable

from failure import BenchmarkFailed
from hindcast.lookups.directory import LogDirectory
from hindcast.lookups.reading import segment_files
from hindcast.lookups.receipts import by_lookup_id
from hindcast.lookups.record import LookupRecord, decode
from hindcast.lookups.segment import scan
from hindcast.v1.value_pb2 import Value
from servers import FEAST_METHOD

ROWS = 100
"""Of one lookup."""

_UNDER_WAY = 8
_EVERY = 20
"""Each record's answer is compared as it was sent; of one lookup in so many the receipt is read as `hindcast receipt` does."""

Served = Mapping[str, bytes]
"""By lookup id, in the order in which they were asked for: the answer as it came."""


def serve(address: str, requests: Sequence[bytes], *, lookups: int) -> dict[str, bytes]:
    """Ask that often, and keep every answer.

    Raises:
        BenchmarkFailed: two answers have one id.
    """
    served: dict[str, bytes] = {}
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(FEAST_METHOD)
        waiting: deque[Any] = deque()
        for at in range(lookups + _UNDER_WAY):
            if at < lookups:
                waiting.append(call.future(requests[at % len(requests)], timeout=60))
            if at >= _UNDER_WAY:
                answered = waiting.popleft()
                answer = answered.result()
                served[dict(answered.trailing_metadata())["hindcast-lookup-id"]] = answer
    if len(served) != lookups:
        raise BenchmarkFailed(f"{lookups} answers have {len(served)} ids")
    return served


def compare_segments(log_directory: Path, served: Served) -> int:
    """Compare every record of the segments, open ones too, and some receipts as they are shown; gives how many values of receipts.

    Raises:
        BenchmarkFailed: a record is missing, or differs.
    """
    directory, found = LogDirectory(log_directory), {}
    for file in segment_files(directory):
        for record in scan(directory.segment(file.name).read_bytes()).records:
            read = decode(record.payload)
            found[_text(read)] = read.response
    _compare(found, served, "the segments")
    return sum(_compare_receipt(log_directory, lookup_id, served[lookup_id]) for lookup_id in list(served)[::_EVERY])


def compare_tables(log_directory: Path, served: Served, *, service: str, view: str) -> int:
    """Compare every record of the sealed lookups, every value of the service's table, and some receipts; gives how many values.

    Raises:
        BenchmarkFailed: a record or a value is missing, or differs.
    """
    tables = log_directory / "tables"
    payloads = _table(tables / "_records", ["payload"])["payload"]
    found = {_text(read): read.response for read in (decode(payload.as_py()) for payload in payloads)}
    _compare(found, served, "the sealed records")
    first = _message(next(iter(served.values())))
    features = list(first.metadata.feature_names.val)[1:]  # behind the join key
    columns = [f"{view}__{feature}" for feature in features]
    table = _table(tables / service, ["hc_lookup_id", "hc_row", *columns])
    table = table.sort_by([("hc_lookup_id", "ascending"), ("hc_row", "ascending")])
    ids = sorted(served)
    if table["hc_lookup_id"].to_pylist() != [lookup_id for lookup_id in ids for _ in range(ROWS)]:
        raise BenchmarkFailed(f"the table of {service} has other rows than were served")
    values: list[list[Any]] = [[] for _ in features]
    for lookup_id in ids:
        for column, result in zip(values, _message(served[lookup_id]).results[1:], strict=True):
            column += [_plain(value) for value in result.values]
    for name, column in zip(columns, values, strict=True):
        there = table[name].combine_chunks()
        if not _bits(there).equals(_bits(pa.array(column, there.type))):
            raise BenchmarkFailed(f"the table of {service} has other values of {name} than were served")
    some = ids[:: _EVERY * 10]
    return table.num_rows * len(columns) + sum(_compare_receipt(log_directory, one, served[one]) for one in some)


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    return DeltaTable(str(path)).to_pyarrow_table(columns=list(columns))


def _text(record: LookupRecord) -> str:
    return str(UUID(bytes=record.lookup_id))


def _compare(found: Mapping[str, bytes], served: Served, where: str) -> None:
    # Besides, the log has the request that its server was tried with.
    if len(found) != len(served) + 1 or not found.keys() > served.keys():
        raise BenchmarkFailed(f"{where} have {len(found)} lookups, and {len(served)} were answered")
    differing = [lookup_id for lookup_id, answer in served.items() if found[lookup_id] != answer]
    if differing:
        raise BenchmarkFailed(f"{where} have another answer than was served for {differing[:3]}")


def _compare_receipt(log_directory: Path, lookup_id: str, answer: bytes) -> int:
    receipt = by_lookup_id(log_directory, UUID(lookup_id)).receipt
    if receipt is None:
        raise BenchmarkFailed(f"lookup {lookup_id} has no receipt")
    message = _message(answer)
    expected = [
        (name, [value.SerializeToString() for value in result.values])
        for name, result in zip(message.metadata.feature_names.val, message.results, strict=True)
    ][1:]
    shown = [(column.name, list(column.values)) for column in receipt.columns]
    if [values for _, values in shown] != [values for _, values in expected]:
        raise BenchmarkFailed(f"the receipt of {lookup_id} has other values than were served")
    return sum(len(values) for _, values in shown)


def _message(answer: bytes) -> Any:
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse  # noqa: PLC0415 - Feast takes 6 s

    return GetOnlineFeaturesResponse.FromString(answer)


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)


def _bits(column: pa.Array) -> pa.Array:
    """Doubles as their bits: 0.0 and -0.0 are two values, and NaN is one."""
    return column.view(pa.int64()) if pa.types.is_float64(column.type) else column
