"""The logical digest, proofs and statistics, pinned byte for byte: a training set of last year is compared by them.

A change of the bytes needs a new format number, and the old one kept for the sets that have it.
"""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from hindcast.datasets.canonical import digest_of
from hindcast.datasets.column_bytes import column_bytes
from hindcast.datasets.column_types import canonical_schema
from hindcast.datasets.proofs import proof
from hindcast.datasets.statistics import Statistics

PINNED = Path(__file__).with_name("datasets.txt")

COLUMNS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False, True]),
    "int8": pa.array([-1, None, 127], pa.int8()),
    "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
    "float16": pa.array([1.0, None], pa.float16()),
    "float32": pa.array([1.5, -0.0], pa.float32()),
    "float64": pa.array([1.5, None, -0.0]),
    "decimal": pa.array([Decimal("-1.50"), None], pa.decimal128(10, 2)),
    "wide decimal": pa.array([Decimal("1.50")], pa.decimal256(50, 2)),
    "text": pa.array(["a", None, "", "né"]),
    "bytes": pa.array([b"\x00", None, b"\xff"]),
    "fixed bytes": pa.array([b"abc", None], pa.binary(3)),
    "timestamp": pa.array([1, None], pa.timestamp("us", "UTC")),
    "date": pa.array([1, None], pa.date32()),
    "date64": pa.array([86_400_000], pa.date64()),
    "time": pa.array([1, None], pa.time64("us")),
    "duration": pa.array([-1], pa.duration("s")),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3])]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int16())),
    "fixed list": pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int16())),
    "struct": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}]),
    "list of lists": pa.array([[["a"], None], [[]], None], pa.list_(pa.list_(pa.string()))),
}


def lines():
    """Every pinned form, a line each."""
    schema = pa.schema([(name, array.type) for name, array in COLUMNS.items()])
    yield from (f"type of {line}" for line in canonical_schema(schema).splitlines())
    yield from (f"column of {name}: {column_bytes(array).hex()}" for name, array in COLUMNS.items())
    rows = pa.record_batch({"n": pa.array(range(70_000), pa.int64()), "t": [str(n % 7) for n in range(70_000)]})
    table = digest_of(rows.schema, [rows])
    yield f"digest of no rows: {digest_of(rows.schema, [])}"
    yield f"digest of 70,000 rows: {table}"
    yield from (f"root of the group from {group.first_row}: {group.root.hex()}" for group in table.groups)
    yield f"proof of row 66,000: {json.dumps(proof(table, 66_000).to_json())}"
    taken = Statistics(rows.schema)
    taken.update(rows)
    yield from (f"statistics of {one.name}: {json.dumps(one.to_json())}" for one in taken.finish())


def test_the_formats_are_as_pinned():
    """Canonical bytes, digests, a proof and statistics are what datasets.txt says."""
    assert PINNED.read_text(encoding="utf-8").splitlines() == list(lines())
