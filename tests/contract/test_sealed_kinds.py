"""Sealed values are the ones that were served, of every kind that Feast has."""

import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hindcast.lookups.gather import arrow_type
from hindcast.lookups.record import Rpc
from hindcast.lookups.sealer import Sealer
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value
from kinds import KINDS
from sealing import keep, make_catalog, make_record, write_segment

NAN_WITH_CONTENT = b"\x29" + struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF)
NAN_OF_32_BITS = b"\x35" + struct.pack("<I", 0x7FC0_BEEF)


def answered(values: list[bytes], *, service: str) -> dict:
    """What a record of one column has."""
    column = shadow_pb2.HindcastColumn(name="f", values=values, statuses=bytes(len(values)))
    request = shadow_pb2.HindcastRequest(feature_service=service).SerializeToString()
    return {
        "rpc": Rpc.HINDCAST,
        "service": service,
        "refs": [] if service else ["driver:f"],
        "request": request,
        "response": shadow_pb2.HindcastResponse(columns=[column]).SerializeToString(),
    }


def read(table) -> pa.Table:
    """All rows of a table."""
    (path,) = table.glob("*/*.parquet")
    return pq.ParquetFile(path).read()


def said(message: Value, kind: pa.DataType) -> object:
    """What a Value holds, as a column of a type shows it."""
    name = message.WhichOneof("val")
    if name is None or name == "null_val":
        return None
    content = getattr(message, name)
    if kind == pa.binary() and not isinstance(content, bytes):
        return message.SerializeToString()
    if isinstance(content, str | bytes | int | float):
        return content
    return list(content.val)


def bits(content: object) -> object:
    """Equal only to what is the same bit for bit."""
    if isinstance(content, list):
        return [bits(one) for one in content]
    return struct.pack("<d", content) if isinstance(content, float) else content


def plain(column: pa.ChunkedArray) -> list:
    """Values of a column; times as seconds."""
    kind = column.type
    is_list = pa.types.is_list(kind)
    if pa.types.is_timestamp(kind.value_type if is_list else kind):
        micros = column.cast(pa.list_(pa.int64()) if is_list else pa.int64()).to_pylist()
        return [
            [one // 1_000_000 for one in content]
            if is_list and content
            else content
            if not content
            else content // 1_000_000
            for content in micros
        ]
    return column.to_pylist()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_sealed_as_it_was_served(kind, tmp_path):
    """Values and nulls of a kind are in the service's column as Feast's own messages say, and in the long table byte for byte."""
    value_type = kind.dtype.to_value_type().value
    messages = [Value.FromString(proto.SerializeToString()) for proto in kind.protos()]
    served = [message.SerializeToString() for message in messages]
    keep(tmp_path, make_catalog({"f": value_type}))
    write_segment(tmp_path, [make_record([], {}, **answered(served, service=service)) for service in ("fraud", "")])
    Sealer(tmp_path).seal()
    column = read(tmp_path / "tables" / "fraud").column("driver__f")
    long = read(tmp_path / "tables" / "_ad_hoc")

    assert arrow_type(value_type) == column.type
    assert [bits(said(message, column.type)) for message in messages] == [bits(one) for one in plain(column)]
    assert [value or None for value in served] == long.column("hc_value").to_pylist()


@pytest.mark.parametrize(
    ("value_type", "value"), [(5, NAN_WITH_CONTENT), (6, NAN_OF_32_BITS), (5, b"\x29" + bytes(7) + b"\x80")]
)
def test_numbers_keep_their_bits(value_type, value, tmp_path):
    """The content of a NaN and the sign of a zero are in the file as they were on the wire."""
    keep(tmp_path, make_catalog({"f": value_type}))
    write_segment(tmp_path, [make_record([], {}, **answered([value, b"", value], service="fraud"))])
    Sealer(tmp_path).seal()
    column = read(tmp_path / "tables" / "fraud").column("driver__f").combine_chunks()
    width = len(value) - 1

    assert [True, False, True] == column.is_valid().to_pylist()
    stored = column.buffers()[1].to_pybytes()
    assert [value[1:]] * 2 == [stored[at : at + width] for at in (0, 2 * width)]
