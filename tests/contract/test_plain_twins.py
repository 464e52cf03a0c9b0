"""Records become rows by the compiled form as by their messages, whatever is in them, and whatever has become of their bytes."""

import struct
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.catalog import Field, Projection, Service, View
from hindcast.errors import StoredDataError
from hindcast.lookups import _plain as compiled
from hindcast.lookups import batch as batches
from hindcast.lookups import heads, list_rows, python_plain, record_rows, service_rows
from hindcast.lookups.batch import Batch
from hindcast.lookups.directory import WriterId
from hindcast.lookups.logging_schema import service_schema
from hindcast.lookups.places import AD_HOC, RECORDS
from hindcast.lookups.record import HEADER_BYTES, RecordHead, Rpc, StoredRows, encode, encode_parts
from hindcast.lookups.segment import HEADER_BYTES as SEGMENT_HEADER_BYTES
from hindcast.lookups.segment import Gap, GapReason, SegmentHeader, frame, gap_bytes, header_bytes, scan
from hindcast.online.codec import fold, fold_headers
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value
from sealing import DAY, DOUBLE, INT64, NOON, STRING, header, make_catalog, make_failure, make_record, value

IN_MEMORY = settings(max_examples=150, deadline=None)
WRITER = WriterId(3, NOON)
FEATURES = {"trips": INT64, "rating": DOUBLE, "city": STRING, "tags": 12, "score": 6, "map": 20}
CATALOG = make_catalog(FEATURES)
CATALOG = replace(
    CATALOG,
    views={
        **CATALOG.views,
        "größe": View("größe", (Field("driver_id", INT64),), (Field("cm", INT64),), 0, 0, "driver"),
    },
    services={
        **CATALOG.services,
        "wide": Service("wide", (Projection("driver", "d2", ("trips",)), Projection("größe", "größe", ("cm",))), None),
    },
)


def listed(*words: str) -> bytes:
    """A list of strings."""
    message = Value()
    message.string_list_val.val.extend(words)
    return message.SerializeToString()


def headers_of(count: int):
    """Headers of so many rows, seldom with a byte over."""
    rows = st.sampled_from(ALIKE).flatmap(lambda some: st.lists(st.sampled_from(some), min_size=count, max_size=count))
    return st.builds(lambda some, over: b"".join(some) + over, rows, st.sampled_from([b""] * 9 + [b"\1"]))


VALUES = st.sampled_from(
    [
        *(b"", b"\x98\x01\x00", value(7), value(-1), value(-0.0), value("Zürich"), value("x" * 200), value(True)),
        *(b"\x29" + struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF), Value(float_val=1.5).SerializeToString()),
        *(listed(), listed("a", "é"), Value(int32_val=-5).SerializeToString(), b"\xff", b"\x20\x80\x00"),
    ]
)
WORDS = st.sampled_from(["", "driver_id", "driver", "città", "other", "a" * 300])
STRANGE = st.sampled_from(
    [b"", b"", b"\x7a\x01x", b"\x0a\x01\xff", b"\x12\x00", b"\x1a\x00", b"\x22\x00", b"\x28\x01", b"\x0a"]
)
"""What messages of another version, or of somebody else, have behind what ours have."""
OF_ONE_RUN = [header(NOON - at) for at in range(3)]
OF_SOURCES = [header(5 + at, created_micros=-7 + at) for at in range(3)]
OF_FEAST = [(NOON + at + (1 << 63)).to_bytes(8, "big").ljust(HEADER_BYTES, b"\0") for at in range(3)]
OF_RUNS = [header(NOON - 1, run_id=bytes([at]) * 16) for at in range(3)]
ALIKE = [[*some, bytes(HEADER_BYTES)] for some in (OF_ONE_RUN, OF_SOURCES, OF_FEAST, OF_RUNS)]
"""Headers as they come in one answer: with 34 or 26 bytes, or none, that are the same in all."""


def share_other(headers: bytes) -> tuple[bytes, bytes]:
    """What nobody writes, and reads all the same: a common end of another size."""
    rows = [headers[at : at + HEADER_BYTES] for at in range(0, len(headers), HEADER_BYTES)]
    ends = {row[-5:] for row in rows if any(row)}
    if len(headers) % HEADER_BYTES or len(ends) != 1 or any(any(row) and not any(row[:-5]) for row in rows):
        return headers, b""
    return b"".join(row[:-5] for row in rows), ends.pop()


@st.composite
def lookup_records(draw):
    """A record, mostly of a form that a worker writes."""
    service = draw(st.sampled_from(["fraud", "fraud", "wide", "unknown", ""]))
    rpc = draw(st.sampled_from(list(Rpc)))
    count = draw(st.integers(0, 3))
    wanted = {"wide": 2, "": 2}.get(service, len(FEATURES))
    width = draw(st.sampled_from([wanted, wanted, wanted, wanted + 1, 1]))
    columns = [draw(st.lists(VALUES, min_size=count, max_size=count)) for _ in range(width)]
    statuses = [bytes(draw(st.integers(0, 4)) for _ in range(draw(st.sampled_from([count] * 9 + [count + 1]))))] * width
    keys = st.lists(VALUES, min_size=count, max_size=draw(st.sampled_from([count, count, count + 1])))
    entities = {name: shadow_pb2.ValueColumn(val=draw(keys)) for name in draw(st.sets(WORDS, max_size=3))}
    more = {name: shadow_pb2.ValueColumn(val=draw(keys)) for name in draw(st.sets(WORDS, max_size=1))}
    times = [b"\x08\x01\x10\x02"] * count
    if rpc is Rpc.FEAST:
        request = shadow_pb2.FeastRequest(feature_service=service, entities=entities, request_context=more)
        named = shadow_pb2.FeastMetadata(feature_names=shadow_pb2.FeatureRefs(val=[f"c{at}" for at in range(width)]))
        vectors = [
            shadow_pb2.FeastVector(values=column, statuses=of_column, event_timestamps=times)
            for column, of_column in zip(columns, statuses, strict=True)
        ]
        response = shadow_pb2.FeastResponse(metadata=named.SerializeToString(), results=vectors)
    else:
        request = shadow_pb2.HindcastRequest(
            feature_service=service,
            entities=entities,
            request_data=more,
            request_id=draw(WORDS),
            tags={"a": draw(WORDS)},
        )
        response = shadow_pb2.HindcastResponse(
            lookup_id="l",
            served_at=b"\x08\x01",
            views=[shadow_pb2.HindcastViewRows(view="größe", event_timestamps=times)],
            columns=[
                shadow_pb2.HindcastColumn(name=f"c{at}", values=column, statuses=of_column, view_index=at % 2)
                for at, (column, of_column) in enumerate(zip(columns, statuses, strict=True))
            ],
        )
    request, response = (one.SerializeToString() + draw(STRANGE) for one in (request, response))
    if rpc is Rpc.STREAM:
        request = shadow_pb2.HindcastStreamRequest(lookup=request, timeout={"seconds": draw(st.integers(0, 2))})
        request = request.SerializeToString()
        response = shadow_pb2.HindcastStreamResponse(answer=response).SerializeToString()
    views = draw(st.lists(st.sampled_from(["driver", "d2", "größe"]), max_size=3))
    sizes = st.sampled_from([count, count, count, count + 1])
    erased = st.just(()) if draw(st.integers(0, 3)) else st.sets(st.integers(0, 3)).map(sorted).map(tuple)
    return make_record(
        [],
        {},
        service=service,
        rpc=rpc,
        served_at_micros=draw(st.sampled_from([NOON, NOON + DAY])),
        request_id=draw(WORDS),
        tags=draw(st.dictionaries(WORDS, WORDS, max_size=2)),
        refs=() if service else draw(st.lists(st.just("driver:trips"), max_size=2)),
        catalog_version=draw(st.sampled_from(["sha256:one", "sha256:one", "sha256:gone"])),
        mode=draw(st.sampled_from(["batched", "durable"])),
        rows=[StoredRows(view, draw(headers_of(draw(sizes)))) for view in views],
        computed=draw(st.sampled_from([{}, {"odv": {"x": [value(1), b""]}}])),
        request=request,
        response=draw(st.sampled_from([response] * 9 + [b""])),
        erased=draw(erased),
    )


def whole_headers(headers: bytes) -> tuple[bytes, bytes]:
    """Headers of which nothing is said once."""
    return headers, b""


def payload_of(record, *, share=fold_headers) -> bytes:
    """As a worker writes it: the answer folded where it is Feast's, and what headers share said once. As an erasure does, if rows are."""
    if record.erased:
        return b"".join(encode(record))
    left, repeats = fold(record.response) if record.rpc is Rpc.FEAST and record.response else (record.response, b"")
    shared = {name: getattr(record, name) for name in RecordHead.__struct_fields__ if name not in {"rows", "repeats"}}
    rows = [(view, *share(headers)) for view, headers in record.rows]
    return b"".join(encode_parts(RecordHead(**shared, rows=rows, repeats=repeats), record.request, left))


@contextmanager
def form(module):
    """Rows are made by one of the forms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "Reader", module.Reader)
        patch.setattr(service_rows, "Answers", module.Answers)
        for rows in (service_rows, list_rows, record_rows):
            patch.setattr(rows, "Heads", module.Heads)
        yield


def contents(column):
    """Values that equal others only if they are the same, bit for bit; times as numbers, which may be of any year."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [struct.pack("<d", one) if isinstance(one, float) else one for one in column.to_pylist()]


def segment_of(payloads):
    """The header of a segment, and all of it but its footer."""
    head = SegmentHeader(slot=3, epoch=NOON, first_sequence=1, created_micros=NOON, segment_id=b"s" * 16)
    framed = [b"".join(frame(at, (payload,), seed=head.seed)) for at, payload in enumerate(payloads, 1)]
    return head, header_bytes(head) + b"".join(framed)


def frames_of(content, head):
    """What of a segment the compiled form takes for its records."""
    return compiled.Frames(content, seed=head.seed, first_sequence=head.first_sequence, begin=SEGMENT_HEADER_BYTES)


def tables_by(module, payloads, *, framed=False):
    """The rows of each table and day, and which payloads are no records; read where they stand in a segment if they are all."""
    definitions = SimpleNamespace(
        schema=lambda version, name: service_schema(CATALOG, name) if version == CATALOG.version else None,
        catalog=lambda version: CATALOG if version == CATALOG.version else None,
    )
    refused = []
    with form(module):
        batch = Batch(
            WRITER,
            lambda name, _: SimpleNamespace(key=name, types={}, folds_names=True, sealed_through=lambda _w, _d: 0),
            definitions,
        )
        if framed:
            head, content = segment_of(payloads)
            batch.add_frames(frames_of(content, head))
        for sequence, payload in enumerate(() if framed else payloads, 1):
            try:
                batch.add(sequence, payload)
            except StoredDataError:
                refused.append(sequence)
        tables = {
            (name, day): {field.name: (str(field.type), contents(table.column(field.name))) for field in table.schema}
            for _, name, days in batch.take()
            for day, table in days.items()
        }
    for table in tables.values():
        assert {len(content) for _, content in table.values()} == {len(next(iter(table.values()))[1])}
    return tables, refused, batch.entity_rows


SHARINGS = st.sampled_from([fold_headers, whole_headers, share_other])


@IN_MEMORY
@given(st.lists(st.tuples(lookup_records(), SHARINGS), max_size=6), st.sampled_from([1, 3]))
def test_both_forms_give_the_same_tables(records, times):
    """Answers of services, of lists and failures, in any dialect and of any shape, are the same rows bit for bit, in a segment too."""
    payloads = [payload_of(record, share=share) for record, share in records for _ in range(times)]
    expected = tables_by(python_plain, payloads)
    assert expected == tables_by(compiled, payloads)
    assert expected == tables_by(compiled, payloads, framed=True)


@settings(max_examples=600, deadline=None)
@given(lookup_records(), SHARINGS, st.data())
def test_both_forms_judge_damage_alike(record, share, data):
    """A payload with a byte changed, taken out or put in is refused by both, or is the same rows by both."""
    payload = bytearray(payload_of(record, share=share))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                del payload[at:]
                payload = payload or bytearray(b"\x00")
            case 1:
                payload[at] = data.draw(st.integers(0, 255))
            case 2:
                payload[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    whole = payload_of(make_record([1], {name: [None] for name in FEATURES}))
    payloads = [whole, bytes(payload), whole]
    expected = tables_by(python_plain, payloads)
    assert expected == tables_by(compiled, payloads)
    if expected[1]:
        with pytest.raises(StoredDataError):
            tables_by(compiled, payloads, framed=True)
    else:
        assert expected == tables_by(compiled, payloads, framed=True)


def test_records_that_are_alike_are_added_once_each():
    """Where many records are added at once, none is lost and none is there twice where a chunk of rows ends."""
    payload = payload_of(make_record([1], {name: [None] for name in FEATURES}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_CHUNK_BYTES", 3 * len(payload) - 1)
        assert tables_by(python_plain, [payload] * 10) == tables_by(compiled, [payload] * 10, framed=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_records_of_a_damaged_segment_are_those_before_the_damage(payloads, data):
    """Of a segment with a byte changed, or cut off, they are the longest valid prefix that a scan finds, and end where it does."""
    head, content = segment_of(payloads)
    damaged = bytearray(content)
    if data.draw(st.booleans()) or len(content) == SEGMENT_HEADER_BYTES:
        del damaged[data.draw(st.integers(SEGMENT_HEADER_BYTES, len(content))) :]
    else:
        damaged[data.draw(st.integers(SEGMENT_HEADER_BYTES, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    frames, expected = frames_of(bytes(damaged), head), scan(bytes(damaged))

    assert (1, expected.data_end) == (frames.first_sequence, frames.end)
    assert [record.payload for record in expected.records] == [frames.payload(at) for at in range(frames.count)]
    for beyond in (-1, frames.count):
        with pytest.raises(IndexError):
            frames.payload(beyond)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(VALUES | st.integers(-(1 << 63), (1 << 63) - 1).map(value) | st.text(max_size=130).map(value), max_size=6)
)
def test_both_forms_read_columns_alike(values):
    """Numbers and texts of a column are the same by both, and both refuse a column in which some value is of another form."""
    content, lengths = b"".join(values), struct.pack(f"={len(values)}i", *map(len, values))
    for tag in (0x20, 0x18, 0x12):
        assert python_plain.integers(content, lengths, tag=tag) == compiled.integers(content, lengths, tag=tag)
        assert python_plain.texts(content, lengths, tag=tag) == compiled.texts(content, lengths, tag=tag)


def test_a_gap_ends_the_records_that_are_read_at_once():
    """Gap records are for the scan to read, as is what follows them."""
    head, content = segment_of([b"a"])
    gap = gap_bytes(Gap(first_sequence=2, last_sequence=2, reason=GapReason.OVERFLOW), seed=head.seed)
    frames = frames_of(content + gap, head)

    assert (1, len(content)) == (frames.count, frames.end)


@pytest.mark.parametrize("rpc", list(Rpc))
def test_what_workers_write_is_of_the_plain_form(rpc):
    """An answer of a feature service in any dialect is read without its messages, folded too, with texts that are not ASCII."""
    columns = {name: [None, "Zürich"] * 10 for name in FEATURES}
    record = make_record([1, 2] * 10, columns, rpc=rpc, tags={"città": "è"}, request_id="ü")
    reader = compiled.Reader()
    schema = service_schema(CATALOG, "fraud")
    answers = compiled.Answers(len(schema.features), views=[b"driver"], inputs=[b"driver_id"], aliases=[(b"driver", 0)])

    assert 0 == reader.read(payload_of(record))
    assert 20 == answers.add_plain(reader)
    assert [-1, -1] == [reader.read(b""), reader.read(payload_of(record)[:-1])]
    with pytest.raises(ValueError, match="nothing was read"):
        answers.add_plain(reader)


HEADERS = {
    "of one run": (b"".join(OF_ONE_RUN), 34),
    "with a row that is missing": (OF_ONE_RUN[0] + bytes(HEADER_BYTES) + OF_ONE_RUN[2], 34),
    "with created times": (b"".join(OF_SOURCES), 26),
    "of Feast's layout": (b"".join(OF_FEAST), 34),
    "of several runs": (b"".join(OF_RUNS), 0),
    "of no row": (bytes(3 * HEADER_BYTES), 0),
}


@pytest.mark.parametrize(("headers", "shared"), HEADERS.values(), ids=HEADERS)
def test_headers_that_share_their_end_are_read_whole(headers, shared):
    """Of headers whose common end is said once the compiled form gives whole ones; of a view that is not there zeros."""
    record = make_record([1, 2, 3], {"trips": [1, 2, 3]}, rows=[StoredRows("driver", headers)])
    reader, answers = compiled.Reader(), compiled.Answers(1, views=[b"driver", b"other"], inputs=[], aliases=[])

    assert shared == len(fold_headers(headers)[1])
    assert 0 == reader.read(payload_of(record))
    assert (3, 3) == (reader.stored_rows, answers.add_plain(reader))
    assert [headers, bytes(3 * HEADER_BYTES)] == [answers.take_headers(at) for at in range(2)]


@pytest.mark.parametrize("module", [python_plain, compiled])
def test_rows_that_were_erased_are_in_no_table(module):
    """Of a record with erased rows the others are in the service's table or in that of lists, with their numbers, and its lookup counts as it did."""
    columns = {name: ([4, None, 6] if name == "trips" else [None] * 3) for name in FEATURES}
    whole, erased = (make_record([1, 2, 3], columns, erased=rows) for rows in ((), (1,)))
    listed = msgspec.structs.replace(erased, service="", refs=[f"driver:{name}" for name in FEATURES])
    tables, refused, entity_rows = tables_by(module, [payload_of(one) for one in (whole, erased, listed)])
    tables = {name: {column: content for column, (_, content) in table.items()} for (name, _), table in tables.items()}

    assert ([], 9) == (refused, entity_rows)
    assert [4, None, 6, 4, 6] == tables["fraud"]["driver__trips"]
    assert [0, 1, 2, 0, 2] == tables["fraud"]["hc_row"]
    trips = zip(tables[AD_HOC]["hc_feature"], tables[AD_HOC]["hc_row"], tables[AD_HOC]["hc_text"], strict=True)
    assert [(0, "4"), (2, "6")] == [(row, text) for feature, row, text in trips if feature == "driver:trips"]
    assert 2 * len(FEATURES) == len(tables[AD_HOC]["hc_row"])
    assert [(3, 3)] * 3 == list(zip(tables[RECORDS]["entity_rows"], tables[RECORDS]["stored_rows"], strict=True))


@pytest.mark.parametrize("module", [python_plain, compiled])
def test_a_lookup_that_read_nothing_stored_has_no_number_of_stored_rows(module):
    """Null stands for it, of an answer and of a failure; of a view that was asked for no row, 0."""
    answer = {name: [] for name in FEATURES}
    records = [make_record([], answer, rows=[]), make_failure(), make_record([], answer)]
    tables, _, _ = tables_by(module, [payload_of(record) for record in records])

    ((_, stored_rows),) = [table["stored_rows"] for (name, _), table in tables.items() if name == RECORDS]
    assert [None, None, 0] == stored_rows


@pytest.mark.parametrize("module", [python_plain, compiled])
def test_columns_that_do_not_fit_are_refused(module):
    """An answer whose columns differ in length, or are too few, is refused, and nothing of it is kept."""
    answers = module.Answers(1, views=[b"v"], inputs=[b"k"], aliases=[])
    fitting = {"values": [[b"ab"]], "statuses": [b"\1"], "inputs": [[b"c"]], "headers": [bytes(42)]}
    wrong = {"values": [[b"a", b"b"]], "statuses": [b""], "inputs": [], "headers": [bytes(41)]}
    for name, content in wrong.items():
        with pytest.raises(ValueError, match=r"column|header"):
            answers.add(1, **{**fitting, name: content})
    answers.add(1, **fitting)

    assert 1 == answers.rows
    assert (b"ab", struct.pack("=i", 2), b"\1") == answers.take_feature(0)
    assert (b"c", struct.pack("=i", 1)) == answers.take_input(0)
    assert bytes(42) == answers.take_headers(0)
    with pytest.raises(ValueError, match="columns"):
        module.Answers(0, views=[], inputs=[], aliases=[])
    with pytest.raises(IndexError):
        module.Answers(1, views=[], inputs=[b"k"], aliases=[(b"a", 1)])
    with pytest.raises(ValueError, match="16 bytes"):
        module.Heads(keeps_payloads=True).add(**{**HEAD, "lookup_id": b"short"})


HEAD = {
    "lookup_id": bytes(16),
    "served_at_micros": 1,
    "sequence": 1,
    "rows": 1,
    "stored_rows": 1,
    "kind": 0,
    "tags": 0,
    "request_id": b"",
    "payload": b"p",
}
