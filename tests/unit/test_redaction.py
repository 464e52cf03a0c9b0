"""Rows taken out of a record: nothing of them is left in it, and all of the others is as it was answered."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast.lookups.directory import WriterId
from hindcast.lookups.person import Person
from hindcast.lookups.reading import Found
from hindcast.lookups.receipt_json import receipt_json, value_json
from hindcast.lookups.receipt_text import receipt_text
from hindcast.lookups.receipts import read_receipt
from hindcast.lookups.record import Rpc, StoredRows, decode, encode
from hindcast.lookups.redaction import without_rows
from hindcast.shadow.v1.shadow_pb2 import FeastResponse, HindcastRequest, HindcastStreamRequest
from sealing import NOON, header, make_failure, make_record, value

PERSON = 4_242_424_242


def record_of(rpc, drivers, **more):
    """A lookup of drivers; what it was answered says whose each value is."""
    columns = {"trips": [driver * 10 for driver in drivers], "city": [f"of {driver}" for driver in drivers]}
    return make_record(
        drivers,
        columns,
        rpc=rpc,
        service="",
        refs=["driver:trips", "driver:city"],
        rows=[StoredRows("driver", b"".join(header(NOON - driver) for driver in drivers))],
        computed={"risk": {"driver_id": [value(driver) for driver in drivers]}},
        request_id="a caller's",
        tags={"who": "them"},
        **more,
    )


def told(record):
    """A receipt as programs see it."""
    return receipt_json(read_receipt(Path("nowhere"), Found(WriterId(0, NOON), 1, record)))


@pytest.mark.parametrize("rpc", Rpc)
@given(drivers=st.lists(st.integers(1, 9), min_size=2, max_size=12), gone=st.sets(st.integers(0, 11), min_size=1))
def test_only_the_rows_go(rpc, drivers, gone):
    """Of the rows that are taken out nothing is told, and of the others all that was."""
    gone &= set(range(len(drivers)))
    record = record_of(rpc, drivers)
    left = without_rows(record, gone)
    if not gone:
        return
    if len(gone) == len(drivers):
        assert left is None
        return
    left = decode(b"".join(encode(left)))
    before, after = told(record), told(left)

    assert sorted(gone) == after["erased_rows"]
    assert [cell for cell in before["features"] if cell["row"] not in gone] == after["features"]
    assert [{"driver_id": {}} if at in gone else row for at, row in enumerate(before["entity_rows"])] == after[
        "entity_rows"
    ]
    assert [value_json(b"" if at in gone else value(driver)) for at, driver in enumerate(drivers)] == after[
        "computed_from"
    ]["risk"]["driver_id"]
    assert [bytes(42) if at in gone else header(NOON - driver) for at, driver in enumerate(drivers)] == [
        left.rows[0].headers[at * 42 : at * 42 + 42] for at in range(len(drivers))
    ]
    assert ("", {}) == (left.request_id, left.tags)
    assert left == without_rows(left, gone)


@pytest.mark.parametrize("rpc", Rpc)
def test_nothing_of_a_person_is_left(rpc):
    """No byte of a record that several people were asked for in tells of the one who was taken out of it."""
    record = record_of(rpc, [1, PERSON, 3])
    redacted = Person(frozenset({"driver_id"}), str(PERSON)).redacted(b"".join(encode(record)))
    needles = [value(PERSON), value(PERSON * 10), f"of {PERSON}".encode(), header(NOON - PERSON), b"them", b"caller's"]

    assert [] == [needle for needle in needles if needle in redacted.payload]
    assert [value(1), value(3)] == [one for one in (value(1), value(3)) if one in redacted.payload]
    assert 1 == redacted.rows


def test_event_times_go_with_their_rows():
    """Feast's answers have times of their own, and they are empty for a row that is gone."""
    record = record_of(Rpc.FEAST, [1, 2])
    response = FeastResponse.FromString(record.response)
    for vector in response.results:
        vector.event_timestamps[:] = [b"\x08\x01", b"\x08\x02"]
    left = without_rows(changed(record, response=response.SerializeToString()), {0})

    assert [[b"", b"\x08\x02"]] * 3 == [
        list(vector.event_timestamps) for vector in FeastResponse.FromString(left.response).results
    ]


def test_what_a_caller_wrote_into_its_request_goes_too():
    """Request id, tags and fields of later versions stand in the request's own bytes as well."""
    request = HindcastRequest.FromString(record_of(Rpc.HINDCAST, [1, 2]).request)
    request.request_id, request.tags["who"] = "a caller's", "them"
    serialized = request.SerializeToString() + b"\xa2\x06\x05later"
    record = record_of(Rpc.STREAM, [1, 2], request=HindcastStreamRequest(lookup=serialized).SerializeToString(), code=0)
    left = without_rows(record, {1})

    assert [] == [needle for needle in (b"a caller's", b"them", b"later") if needle in left.request]


def test_a_failure_has_rows_too():
    """What was asked for and not answered is taken out of the request."""
    record = changed(make_failure(), request=make_record([1, PERSON], {}).request)
    redacted = Person(frozenset({"driver_id"}), str(PERSON)).redacted(b"".join(encode(record)))

    assert 0 == redacted.rows
    assert [{"driver_id": {"kind": "int64", "value": 1}}, {"driver_id": {}}] == told(decode(redacted.payload))[
        "entity_rows"
    ]


@pytest.mark.parametrize(("content", "goes"), [(b"\xff of 17", True), (b"\xff of 18", False)])
def test_a_request_that_cannot_be_read_goes_whole_if_it_may_be_the_persons(content, goes):
    """Nobody can say which of its bytes are whose."""
    record = changed(make_failure(), request=content)
    redacted = Person(frozenset({"driver_id"}), "17").redacted(b"".join(encode(record)))

    assert goes == (redacted is not None and redacted.payload is None)


def test_a_receipt_tells_people_which_row_is_gone():
    """In the row's place it says that it was erased."""
    left = without_rows(record_of(Rpc.HINDCAST, [1, PERSON]), {1})
    text = receipt_text(read_receipt(Path("nowhere"), Found(WriterId(0, NOON), 1, left)))

    assert "row 2: erased" in text.splitlines()
    assert "of 1" in text


def changed(record, **changes):
    """A record with other content."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{**fields, **changes})
