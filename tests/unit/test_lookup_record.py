"""Records of lookups: the payloads of the log."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast.errors import StoredDataError
from hindcast.lookups.record import (
    LookupRecord,
    RecordHead,
    RowHeader,
    Rpc,
    StoredRows,
    decode,
    encode,
    encode_parts,
    row_headers,
)
from hindcast.online.codec import fold, fold_headers, pack_row
from hindcast.shadow.v1.shadow_pb2 import FeastResponse, FeastVector

HEADERS = st.lists(st.binary(min_size=42, max_size=42), max_size=3).map(b"".join)
RECORDS = st.builds(
    LookupRecord,
    lookup_id=st.binary(min_size=16, max_size=16),
    served_at_micros=st.integers(-(2**63), 2**63 - 1),
    rpc=st.sampled_from(Rpc),
    request_id=st.text(max_size=5),
    tags=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    catalog_version=st.text(max_size=5),
    service=st.text(max_size=5),
    refs=st.lists(st.text(max_size=5), max_size=3),
    mode=st.sampled_from(["durable", "batched"]),
    code=st.integers(0, 16),
    reason=st.text(max_size=5),
    message=st.text(max_size=5),
    rows=st.lists(st.builds(StoredRows, st.text(max_size=5), HEADERS), max_size=3),
    computed=st.dictionaries(
        st.text(max_size=5),
        st.dictionaries(st.text(max_size=5), st.lists(st.binary(max_size=5), max_size=3), max_size=2),
        max_size=2,
    ),
    request=st.binary(max_size=300),
    response=st.binary(max_size=300),
    erased=st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
)


@given(RECORDS)
def test_a_decoded_record_is_the_one_that_was_encoded(record):
    """Whatever a lookup says, its record reads as what was written."""
    assert record == decode(b"".join(encode(record)))


@given(RECORDS)
def test_a_payload_is_one_msgpack_array_that_begins_with_its_format(record):
    """Any msgpack reader can read a record: the format's number first, request and response last; behind them rows that were erased."""
    read = msgspec.msgpack.decode(b"".join(encode(record)))

    assert (18 + bool(record.erased), 2) == (len(read), read[0])
    assert [record.request, record.response, *([list(record.erased)] if record.erased else [])] == read[16:]


@given(RECORDS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_large_messages_are_not_copied(record, request_bytes, response_bytes):
    """A request or a response of more than 8 kB in what is written is the object that came or went over the wire."""
    record = msgspec.structs.replace(record, request=bytes(request_bytes), response=bytes(response_bytes), erased=())
    parts = encode(record)

    assert record == decode(b"".join(parts))
    assert request_bytes <= 8192 or parts[1] is record.request
    assert response_bytes <= 8192 or parts[-1] is record.response


@given(RECORDS, st.data())
def test_a_cut_record_is_damage(record, data):
    """A payload without its end is refused, wherever it was cut."""
    payload = b"".join(encode(record))

    with pytest.raises(StoredDataError, match="damaged"):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


FAILURE = LookupRecord(
    lookup_id=bytes(16),
    served_at_micros=0,
    rpc=Rpc.FEAST,
    request_id="",
    tags={},
    catalog_version="",
    service="",
    refs=[],
    mode="",
    code=0,
    reason="",
    message="",
    rows=[],
    computed={},
    request=b"",
    response=b"",
)


def folded(left, repeats):
    """The payload of a record with a response of which something was taken out."""
    return b"".join(encode_parts(head(repeats=repeats), b"", left))


def head(**changes):
    """The head of a record without a row."""
    shared = {name: getattr(FAILURE, name) for name in RecordHead.__struct_fields__ if name not in {"rows", "repeats"}}
    return RecordHead(**{**shared, "rows": (), "repeats": b"", **changes})


ANSWERS = st.builds(
    lambda metadata, columns, times: FeastResponse(
        metadata=metadata,
        results=[
            FeastVector(values=[column] * 9, statuses=bytes(9), event_timestamps=[times[at % len(times)]] * 9)
            for at, column in enumerate(columns)
        ],
    ).SerializeToString(),
    st.binary(max_size=9),
    st.lists(st.binary(max_size=9), max_size=9),
    st.lists(st.binary(min_size=4, max_size=9), min_size=1, max_size=3),
)


@given(ANSWERS)
def test_what_was_taken_out_of_a_response_is_put_back(answer):
    """A record of a folded answer has the answer, bit for bit."""
    left, repeats = fold(answer)

    assert answer == decode(folded(left, repeats)).response


def test_a_response_of_many_rows_is_halved():
    """The event times that every column repeats are kept once."""
    times = [bytes(12)] * 100
    answer = FeastResponse(results=[FeastVector(values=[b"value"] * 100, event_timestamps=times)] * 50)
    whole = answer.SerializeToString()
    left, repeats = fold(whole)

    assert len(left) + len(repeats) < len(whole) / 2


ROWS_OF_ONE_RUN = st.lists(
    st.none() | st.tuples(st.integers(-5, 5), st.none() | st.integers(-5, 5), st.integers(0, 1)), max_size=6
).map(
    lambda rows: b"".join(
        bytes(42)
        if row is None
        else pack_row(
            event_micros=row[0], created_micros=row[1], schema_id=bytes(8), run_id=bytes([row[2]]) * 16, values=[]
        )[:42]
        for row in rows
    )
)


@given(ROWS_OF_ONE_RUN | HEADERS)
def test_the_common_end_of_headers_is_put_back(headers):
    """A record whose rows were written without what all of them share has the headers, bit for bit."""
    payload = b"".join(encode_parts(head(rows=[("v", *fold_headers(headers))]), b"", b""))

    assert [StoredRows("v", headers)] == decode(payload).rows


def test_rows_of_one_run_keep_little_but_their_times():
    """Of a hundred rows that one run wrote, 8 bytes each are kept, or 16 where the source says when they became known."""
    packed = [
        [
            pack_row(event_micros=at, created_micros=created, schema_id=bytes(8), run_id=bytes(16), values=[])[:42]
            for at in range(100)
        ]
        for created in (None, 7)
    ]
    packed[1][0] = pack_row(event_micros=0, created_micros=8, schema_id=bytes(8), run_id=bytes(16), values=[])[:42]

    assert [(800, 34), (1600, 26)] == [tuple(map(len, fold_headers(b"".join(rows)))) for rows in packed]


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=60))
def test_headers_that_do_not_come_out_even_are_damage(headers, rest):
    """Whatever stands where rows should, a record is read with whole headers or refused."""
    try:
        rows = decode(b"".join(encode_parts(head(rows=[("v", headers, rest)]), b"", b""))).rows
    except StoredDataError:
        return
    assert len(rows[0].headers) % 42 == 0


@given(st.binary(max_size=20), st.lists(st.integers(0, 25), min_size=1, max_size=9))
def test_repeats_that_cannot_be_are_damage(left, numbers):
    """Whatever stands where repeats should, a record is read or refused, and nothing else happens."""
    repeats = b"".join(number.to_bytes(4, "big") for number in numbers)
    try:
        response = decode(folded(left, repeats)).response
    except StoredDataError:
        return
    assert len(response) == len(left) + sum(numbers[2::3])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damage_or_a_record(payload):
    """Bytes that are no record raise StoredDataError and nothing else."""
    try:
        record = decode(payload)
    except StoredDataError:
        return
    assert isinstance(record, LookupRecord)


def test_an_element_that_a_later_version_adds_is_passed_over():
    """A record with one more element at its end reads as it would without it."""
    elements = msgspec.msgpack.decode(b"".join(encode(FAILURE)))

    assert FAILURE == decode(msgspec.msgpack.encode([*elements, [], "new"]))


def test_a_record_of_another_format_is_refused_by_name():
    """Another version's record is not read as this version's."""
    with pytest.raises(StoredDataError, match="another format than 2"):
        decode(msgspec.msgpack.encode([1, b"", 0]))


def test_headers_say_who_wrote_a_row_and_when_it_was_true():
    """A packed row's header gives its times and its run; zeros give no row, and Feast's layout an event time alone."""
    packed = pack_row(event_micros=-5, created_micros=7, schema_id=bytes(8), run_id=bytes(range(16)), values=[])[:42]
    uncreated = pack_row(event_micros=5, created_micros=None, schema_id=bytes(8), run_id=bytes(16), values=[])[:42]
    of_feast = struct.pack(">Q34x", 9 + (1 << 63))

    assert [RowHeader(-5, 7, bytes(range(16))), None, RowHeader(5, None, bytes(16)), RowHeader(9, None, None)] == (
        row_headers(StoredRows("v", packed + bytes(42) + uncreated + of_feast))
    )
