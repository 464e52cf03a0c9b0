"""What is stored in Redis, pinned byte for byte: a change of a format must be meant, and shows as a diff of formats.txt.

Rows outlive a deployment, so a change here needs a new format number and a reader of the old one.
"""

from pathlib import Path

from hindcast.catalog import Field, KeyType
from hindcast.online.codec import PackedRow, pack_row, unpack_row
from hindcast.online.generations import Generations, Going, ViewGenerations
from hindcast.online.keys import (
    ENTITYLESS_KEY,
    entity_key_bytes,
    generations_key,
    key_value_bytes,
    project_prefix,
    row_key,
    schema_key,
    view_prefix,
)
from hindcast.online.schemas import Schema, read_schema
from hindcast.v1.value_pb2 import Int64Array, Value

PINNED = Path(__file__).with_name("formats.txt")

SCHEMA = Schema((Field("country", 2), Field("credit limit, é", 5), Field("hourly", 14)))
RUN_ID = bytes(range(16))
ROW = PackedRow(
    event_micros=1_767_225_600_123_456,
    created_micros=1_767_225_601_000_000,
    schema_id=SCHEMA.id,
    run_id=RUN_ID,
    values=[
        Value(string_val="DE").SerializeToString(),
        None,
        Value(int64_list_val=Int64Array(val=[1, -1])).SerializeToString(),
    ],
)
WIDE = ROW._replace(
    values=[Value(string_val="x" * 300).SerializeToString(), *[Value(bool_val=False).SerializeToString()] * 16]
)
GENERATIONS = ViewGenerations(
    last=3,
    serving=2,
    since_ms=1_767_225_600_000,
    building=3,
    builder="019b0c5e-8a00-7000-8000-000000000000",
    previous=0,
    previous_until_ms=1_767_229_200_000,
    going=(Going(1, 1_767_225_610_000),),
)
PAIR = entity_key_bytes(
    ("account_id", "device_id"),
    (
        key_value_bytes(Value(string_val="zo\u00eb}"), KeyType.STRING),
        key_value_bytes(Value(int64_val=2**53 + 1), KeyType.INT64),
    ),
)
SCALARS = entity_key_bytes(
    ("a", "b", "c"),
    (
        key_value_bytes(Value(bytes_val=b"\x00}"), KeyType.BYTES),
        key_value_bytes(Value(int32_val=-2), KeyType.INT32),
        key_value_bytes(Value(unix_timestamp_val=1_767_225_600), KeyType.UNIX_TIMESTAMP),
    ),
)


def packed(row: PackedRow) -> bytes:
    return pack_row(**row._asdict())


FORMATS = {
    "row": packed(ROW),
    "row, created_ts null, before 1970": packed(ROW._replace(event_micros=-1, created_micros=None)),
    "row, no fields": packed(ROW._replace(values=[])),
    "row, 17 fields, a value of 303 bytes": packed(WIDE),
    "schema": SCHEMA.to_bytes(),
    "schema id": SCHEMA.id,
    "project prefix": project_prefix("payments"),
    "view prefix": view_prefix("payments", "account_profile"),
    "view prefix, odd names": view_prefix("a:b", "50% {é*}"),
    "view prefix, generation 12": view_prefix("payments", "account_profile", 12),
    "generations key": generations_key("payments"),
    "generations": Generations("payments", None).with_view("account_profile", GENERATIONS),
    "schema key": schema_key("payments", SCHEMA.id),
    "entity key, string and int64": PAIR,
    "entity key, bytes, int32 and timestamp": SCALARS,
    "entity key, of a view without entities": ENTITYLESS_KEY,
    "row key": row_key(view_prefix("payments", "account_profile"), PAIR),
}


def test_the_formats_are_as_pinned():
    """Every stored form has the bytes that formats.txt says."""
    lines = [f"{name}: {content.hex()}" for name, content in FORMATS.items()]

    assert PINNED.read_text(encoding="utf-8").splitlines() == lines


def test_pinned_bytes_are_read():
    """What an earlier build of this format stored reads as what was meant."""
    pinned = dict(line.rsplit(": ", 1) for line in PINNED.read_text(encoding="utf-8").splitlines())

    assert unpack_row(bytes.fromhex(pinned["row"])) == ROW
    assert unpack_row(bytes.fromhex(pinned["row, 17 fields, a value of 303 bytes"])) == WIDE
    assert read_schema(bytes.fromhex(pinned["schema id"]), bytes.fromhex(pinned["schema"])) == SCHEMA
    assert Generations("payments", bytes.fromhex(pinned["generations"])).of("account_profile") == GENERATIONS
