"""Records become rows by the compiled form as by their messages, whatever is in them, and whatever has become of their bytes."""

import struct
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindcast.catalog import Field, Projection, Service, View
from hindcast.errors import StoredDataError
from hindcast.lookups import _plain as compiled
from hindcast.lookups import python_plain, rows
from hindcast.lookups.batch import Batch
from hindcast.lookups.directory import WriterId
from hindcast.lookups.logging_schema import service_schema
from hindcast.lookups.record import RecordHead, Rpc, StoredRows, encode, encode_parts
from hindcast.online.codec import fold
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value
from sealing import DAY, DOUBLE, INT64, NOON, STRING, header, make_catalog, make_record, value

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
        rows=[
            StoredRows(
                view, draw(st.sampled_from([header(NOON - 1), header(5, created_micros=-7), bytes(42)])) * draw(sizes)
            )
            for view in views
        ],
        computed=draw(st.sampled_from([{}, {"odv": {"x": [value(1), b""]}}])),
        request=request,
        response=draw(st.sampled_from([response] * 9 + [b""])),
    )


def payload_of(record) -> bytes:
    """As a worker writes it: folded where it is Feast's."""
    if record.rpc is not Rpc.FEAST or not record.response:
        return b"".join(encode(record))
    left, repeats = fold(record.response)
    shared = {name: getattr(record, name) for name in RecordHead.__struct_fields__ if name != "repeats"}
    return b"".join(encode_parts(RecordHead(**shared, repeats=repeats), record.request, left))


@contextmanager
def form(module):
    """Rows are made by one of the forms."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Answers", "Heads", "Reader"):
            patch.setattr(rows, name, getattr(module, name))
        yield


def contents(column):
    """Values that equal others only if they are the same, bit for bit; times as numbers, which may be of any year."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [struct.pack("<d", one) if isinstance(one, float) else one for one in column.to_pylist()]


def tables_by(module, payloads):
    """The rows of each table and day, and which payloads are no records."""
    definitions = SimpleNamespace(
        schema=lambda version, name: service_schema(CATALOG, name) if version == CATALOG.version else None,
        catalog=lambda version: CATALOG if version == CATALOG.version else None,
    )
    refused = []
    with form(module):
        batch = Batch(
            WRITER, lambda name, _: SimpleNamespace(key=name, types={}, sealed_through=lambda _w, _d: 0), definitions
        )
        for sequence, payload in enumerate(payloads, 1):
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


@IN_MEMORY
@given(st.lists(lookup_records(), max_size=6))
def test_both_forms_give_the_same_tables(records):
    """Answers of services, of lists and failures, in any dialect and of any shape, are the same rows bit for bit."""
    payloads = [payload_of(record) for record in records]
    assert tables_by(python_plain, payloads) == tables_by(compiled, payloads)


@settings(max_examples=600, deadline=None)
@given(lookup_records(), st.data())
def test_both_forms_judge_damage_alike(record, data):
    """A payload with a byte changed, taken out or put in is refused by both, or is the same rows by both."""
    payload = bytearray(payload_of(record))
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
    assert tables_by(python_plain, payloads) == tables_by(compiled, payloads)


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
