"""The payloads of the lookup log, pinned byte for byte: a change of the format must be meant, and shows as a diff of lookup_records.txt.

Logs outlive a deployment, so a change here needs a new format number and a reader of the old one.
"""

from pathlib import Path

import msgspec

from hindcast.lookups.record import LookupRecord, Rpc, StoredRows, decode, encode
from hindcast.online.codec import pack_row

PINNED = Path(__file__).with_name("lookup_records.txt")

HEADER = pack_row(
    event_micros=1_767_225_600_123_456,
    created_micros=None,
    schema_id=bytes(range(8)),
    run_id=bytes(range(16)),
    values=[],
)[:42]
ANSWER = LookupRecord(
    lookup_id=bytes(range(16)),
    served_at_micros=1_767_225_601_000_000,
    rpc=Rpc.HINDCAST,
    request_id="r-1",
    tags={"model": "fraud"},
    catalog_version="sha256:c",
    service="payments",
    refs=[],
    mode="batched",
    code=0,
    reason="",
    message="",
    rows=[StoredRows("account", HEADER + bytes(42)), StoredRows("merchant", HEADER + HEADER)],
    computed={"risk": {"amount": [b"\x29\x00\x00\x00\x00\x00\x00\xf0\x3f", b""]}},
    request=b"request",
    response=b"response",
)
FAILURE = LookupRecord(
    lookup_id=bytes(range(16)),
    served_at_micros=1_767_225_601_000_000,
    rpc=Rpc.STREAM,
    request_id="",
    tags={},
    catalog_version="sha256:c",
    service="",
    refs=["account:country", "é:x"],
    mode="durable",
    code=5,
    reason="UNKNOWN_NAME",
    message="feature view 'é' does not exist",
    rows=[],
    computed={},
    request=b"request",
    response=b"",
)
ERASED = msgspec.structs.replace(ANSWER, request_id="", tags={}, erased=(0, 300))
RECORDS = {"answer": ANSWER, "failure": FAILURE, "rows erased": ERASED}


def test_the_payloads_are_as_pinned():
    """Every record has the bytes that lookup_records.txt says."""
    lines = [f"{name}: {b''.join(encode(record)).hex()}" for name, record in RECORDS.items()]

    assert PINNED.read_text(encoding="utf-8").splitlines() == lines


def test_pinned_payloads_are_read():
    """What an earlier build of this format wrote reads as what was meant."""
    pinned = dict(line.split(": ") for line in PINNED.read_text(encoding="utf-8").splitlines())

    assert {name: decode(bytes.fromhex(payload)) for name, payload in pinned.items()} == RECORDS
