"""The codec's two forms: the compiled one answers as the Python one does, or refuses with the same words."""

from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hindcast.lookups.record import BEGINS, Rpc, computed_bytes, constants, decode
from hindcast.online import _codec as compiled
from hindcast.online import codec, pieces, python_codec
from hindcast.online.codec import pack_row
from hindcast.online.python_codec import Block
from hindcast.online.row_format import NULLS
from hindcast.online.times import timestamp_bytes
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value

TWINS = (python_codec, compiled)
SCHEMAS = (b"schema-1", b"schema-2", b"schema-3")
VALUES = st.sampled_from([b"\x12\x02hi", b"\x20\x07", b"1" * 127, b"2" * 128, b"3" * 20_000]) | st.binary(
    min_size=1, max_size=9
)
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
IN_MEMORY = settings(max_examples=300, deadline=None)


def outcome(run):
    """What a call gives, or the kind and words of its error."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - whatever one twin raises the other must raise too
        return type(error), str(error) if isinstance(
            error, python_codec.UnknownSchema | python_codec.StoredDataError
        ) else ""


LOOKUP_ID = "019ad6f0-1234-7abc-8def-0123456789ab"


def record_by(twin, cells, *, views=None, lookup_id=LOOKUP_ID, response=b"response", folds=False, computed=b"\x80"):
    """The record of an answer, with a constant where the test has no say."""
    common = constants(
        rpc=Rpc.FEAST, catalog_version="c", service="s", refs=["a:b"], mode="batched", views=["view"] * len(cells)
    )
    return twin.answer_record(
        BEGINS,
        lookup_id,
        1_767_225_600_123_456,
        common.said("", {}),
        common.views if views is None else views,
        cells,
        computed,
        b"request",
        response,
        folds=folds,
    )


def content(cells):
    """All that cells say."""
    columns = [cells.column(at) for at in range(cells.width)]
    told = cells.rows, cells.width, cells.missing, cells.oldest_micros, cells.statuses, cells.times
    return *told, cells.headers(), columns


@st.composite
def packed_rows(draw):
    """A row of one of the schemas, as many values as that has."""
    at = draw(st.integers(0, len(SCHEMAS) - 1))
    return pack_row(
        event_micros=draw(MICROS),
        created_micros=draw(st.none() | MICROS),
        schema_id=SCHEMAS[at],
        run_id=bytes(16),
        values=draw(st.lists(st.none() | VALUES, min_size=at + 2, max_size=at + 2)),
    )


@st.composite
def damaged_rows(draw):
    """A row with a part cut off, a byte changed, or bytes put in."""
    packed = bytearray(draw(packed_rows()))
    at = draw(st.integers(0, len(packed) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            del packed[at:]
        case 1:
            packed[at] = draw(st.integers(0, 255))
        case 2:
            packed[at:at] = draw(st.binary(min_size=1, max_size=3))
    return bytes(packed)


POSITIONS = st.lists(st.none() | st.integers(0, 1), min_size=3, max_size=3).filter(
    lambda positions: len(set(positions) - {None}) == len([at for at in positions if at is not None])
)
JUDGEMENTS = st.tuples(st.just(0) | MICROS, st.booleans())


def read(twin, stored, positions, known, judgement):
    reader = twin.RowReader(len(positions))
    for at in range(known):
        reader.learn(SCHEMAS[at], at + 2, positions)
    cells = reader.read(stored)
    oldest_fresh, keeps_stale = judgement
    cells.judge(oldest_fresh, keeps_stale=keeps_stale)
    return cells


@IN_MEMORY
@given(st.lists(st.none() | packed_rows() | damaged_rows(), max_size=6), POSITIONS, st.integers(2, 3), JUDGEMENTS)
def test_rows_are_read_alike(stored, positions, known, judgement):
    """Cells, times, statuses and errors of any rows are the same in both forms."""
    python, other = (outcome(lambda t=twin: content(read(t, stored, positions, known, judgement))) for twin in TWINS)

    assert python == other


FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
NO_TIMES = [
    Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
    for seconds, nanos in (
        (FIRST_SECOND - 1, 999_999_999),
        (FIRST_SECOND, -1),
        (LAST_SECOND + 1, 0),
        (LAST_SECOND, 1_000_000_000),
        (2**40, 1),
        (-(2**63), 0),
        (2**63 - 1, 0),
    )
]
"""Timestamps by their bytes, of times outside the years 1 to 9999."""

TIMES = (
    st.sampled_from(
        [
            b"",
            b"\x08\x00",
            b"\x08\x01\x10\x05",
            b"\x10\x05",
            b"\x08",
            b"\x08\x01\x10\x05\x18\x01",
            b"\x10\x80\x94\xeb\xdc\x03",
            *NO_TIMES,
        ]
    )
    | MICROS.map(timestamp_bytes)
    | st.binary(max_size=12)
)


@IN_MEMORY
@given(
    st.lists(
        st.none() | st.tuples(*[st.none() | VALUES | st.sampled_from(sorted(NULLS))] * 4, st.none() | TIMES).map(list),
        max_size=5,
    ),
    st.integers(0, 3),
    JUDGEMENTS,
)
def test_hashes_are_read_alike(hashes, start, judgement):
    """Cells of Feast's hashes are the same in both forms, whatever stands in the place of a time."""

    def read_hashes(twin):
        rows = [None if values is None else twin.HashRow(values) for values in hashes]
        assert [values for values in hashes if values is not None] == [row.values() for row in rows if row is not None]
        cells = twin.cells_of_hashes(rows, start, 4 - start)
        cells.judge(judgement[0], keeps_stale=judgement[1])
        return content(cells)

    python, other = (outcome(lambda t=twin: read_hashes(t)) for twin in TWINS)

    assert python == other


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("time", NO_TIMES, ids=bytes.hex)
def test_a_time_outside_the_years_1_to_9999_is_damage(time, twin):
    """A hash whose event time no Timestamp may say is damaged, and its values are not served."""
    with pytest.raises(python_codec.StoredDataError, match="damaged"):
        twin.cells_of_hashes([twin.HashRow([b"\x20\x07", time])], 0, 1)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("micros", [FIRST_SECOND * 1_000_000, LAST_SECOND * 1_000_000 + 999_999])
def test_the_first_and_the_last_time_are_read(micros, twin):
    """The ends of the years 1 to 9999 are times like any other."""
    cells = twin.cells_of_hashes([twin.HashRow([b"\x20\x07", timestamp_bytes(micros)])], 0, 1)

    assert cells.oldest_micros == micros


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@IN_MEMORY
@given(
    st.lists(st.none() | packed_rows(), min_size=1, max_size=6),
    POSITIONS,
    st.lists(st.lists(VALUES | st.sampled_from(sorted(NULLS)), min_size=3, max_size=3), max_size=3),
    JUDGEMENTS,
    st.tuples(NAMES, NAMES, NAMES),
    st.binary(max_size=300),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_answers_are_spliced_alike(stored, positions, sent, judgement, names, metadata, part):
    """The bytes of an answer are the same in both forms and both dialects."""
    lower = bytes(max(0, status - 1) for status in range(256))

    def answers(twin):
        cells = read(twin, stored, positions, 3, judgement)
        extra = twin.Cells.of_columns(sent, [bytes([1] * 3)])
        start, stop = part
        blocks = [
            Block(names[: len(sent)], extra, 0, len(sent), None),
            Block(names[: max(0, stop - start)], cells, start, stop, 0),
            Block(names, cells, 0, 3, 200),
        ]
        return (
            twin.splice_feast(metadata, blocks, statuses=lower),
            twin.splice_hindcast(
                lookup_id=names[0],
                catalog_version=names[1],
                served_at=metadata,
                views=[(names[2], cells)],
                blocks=blocks,
            ),
        )

    python, other = (outcome(lambda t=twin: answers(t)) for twin in TWINS)

    assert python == other


PARTS = st.lists(st.none() | st.binary(max_size=20), max_size=5)
WORDS = st.lists(st.binary(max_size=12) | st.sampled_from([b"x" * 99, b"y" * 100, b"z" * 12_345]), max_size=5)


@IN_MEMORY
@given(st.binary(max_size=9), PARTS, WORDS, st.binary(max_size=9))
def test_commands_are_put_together_alike(before, parts, words, after):
    """Keys and commands are the same bytes in both forms."""

    def put_together(twin):
        return twin.framed(before, parts, after), twin.command_words(words), twin.commands_for(before, words, after)

    assert put_together(python_codec) == put_together(compiled)


def row_values(row):
    """The values of a row, if it is one."""
    return row if row is None else row.values()


@IN_MEMORY
@given(
    st.lists(st.binary(max_size=2), max_size=8),
    st.lists(st.binary(max_size=2), max_size=4),
    st.lists(st.none() | st.integers(0, 3), max_size=5),
)
def test_values_are_picked_alike(whole, order, positions):
    """What is picked out of a whole hash is the same in both forms, and nothing if its names are others."""
    for names in (order, whole[::2]):
        python, other = (outcome(lambda t=twin, n=names: row_values(t.picked(whole, n, positions))) for twin in TWINS)

        assert python == other


def codec_value(**kind):
    """A serialized Value."""
    return Value(**kind).SerializeToString()


INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
SERIALIZED = st.one_of(
    INTEGERS.map(lambda number: codec_value(int64_val=number)),
    st.integers(-(2**31), 2**31 - 1).map(lambda number: codec_value(int32_val=number)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=130).map(lambda text: codec_value(string_val=text)),
    st.binary(max_size=14),
    st.binary(max_size=12).map(lambda tail: b"\x20" + tail),
    st.binary(max_size=12).map(lambda tail: b"\x18" + tail),
    st.binary(max_size=12).map(lambda tail: b"\x12" + tail),
)


@IN_MEMORY
@given(st.lists(SERIALIZED, max_size=6))
@example([b"\x20" + b"\x80" * 9 + b"\x00", b"\x20" + b"\x80" * 10 + b"\x00", b"\x18" + b"\x80" * 10 + b"\x00"])
def test_usual_keys_are_read_alike(values):
    """Both forms take the same values for usual ones, and make the same key of each."""
    assert python_codec.usual_strings(values, 2) == compiled.usual_strings(values, 2)
    assert python_codec.usual_int64s(values, 4) == compiled.usual_int64s(values, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda twin: twin.RowReader(1).read([b"x" * 50, 3]),
        lambda twin: twin.RowReader(1).read(None),
        lambda twin: twin.RowReader(2).learn(b"schema-1", 2, [0]),
        lambda twin: twin.RowReader(1).learn(b"schema-1", 2, [2]),
        lambda twin: twin.RowReader(1).learn(b"short", 2, [0]),
        lambda twin: twin.RowReader(1).learn(b"schema-1", 2, ["0"]),
        lambda twin: twin.Cells.of_columns([[b"a"], [b"a", b"b"]], [b"\x01"]),
        lambda twin: twin.Cells.of_columns([["a"]], [b"\x01"]),
        lambda twin: twin.Cells.of_columns([[b"a"]], [b"\x01"]).column(1),
        lambda twin: twin.Cells.of_columns([[b"a"]], [b"\x01"]).column(-1),
        lambda twin: twin.cells_of_hashes([twin.HashRow([b"a"])], 0, 1),
        lambda twin: twin.HashRow([b"a", 3]),
        lambda twin: twin.HashRow(None),
        lambda twin: twin.cells_of_hashes([[b"a"]], 0, 1),
        lambda twin: twin.cells_of_hashes([twin.HashRow.__new__(twin.HashRow)], 0, 0),
        lambda twin: twin.framed(b"", ["text"], b""),
        lambda twin: twin.command_words([None]),
        lambda twin: twin.usual_strings([None], 2),
        lambda twin: twin.usual_int64s([4], 4),
        lambda twin: twin.picked([b"a", b"b"], [None], [0]),
        lambda twin: twin.splice_feast(
            b"", [Block(["a"], twin.Cells.of_columns([[b"a"]], [b""]), 0, 1, None)], statuses=bytes(256)
        ),
        lambda twin: twin.splice_feast(b"", [SimpleNamespace()], statuses=bytes(256)),
        lambda twin: twin.splice_feast(None, [], statuses=bytes(256)),
        lambda twin: twin.fold(None),
        lambda twin: twin.fold("text"),
        lambda twin: twin.fold_headers(None),
        lambda twin: record_by(twin, [None]),
        lambda twin: record_by(twin, [twin.Cells.of_columns([[b"a"]], [b""])], views=()),
        lambda twin: record_by(twin, [twin.Cells.of_columns([[b"a"]], [b""])], views=("text",)),
        lambda twin: record_by(twin, [twin.Cells.of_columns([[b"a"]], [b""])], lookup_id=LOOKUP_ID[1:]),
    ],
)
def test_what_is_no_input_is_refused_and_crashes_nothing(call):
    """The compiled form refuses what is not what it says it takes, as Python would, and reads no memory that is not its own."""
    result = outcome(lambda: call(compiled))

    assert result is None or issubclass(
        result[0], TypeError | ValueError | IndexError | AttributeError | python_codec.StoredDataError
    )


RESULTS = st.lists(st.tuples(st.sampled_from([b"", b"ab", b"head" * 9]), st.sampled_from([b"", b"z", b"tail" * 40])))


@IN_MEMORY
@given(
    st.binary(max_size=30)
    | RESULTS.map(
        lambda parts: shadow_pb2.FeastResponse(
            metadata=b"m",
            results=[shadow_pb2.FeastVector(statuses=head, event_timestamps=[tail]) for head, tail in parts],
        ).SerializeToString()
    ),
    st.integers(0, 400),
    st.integers(0, 255),
)
@example(b"\x8a\x00\x00\x92\x80\x00\x00", 0, 0)
@example(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, 0)
@example(b"\x12\x80\x80\x80\x80\x80\x00", 0, 0)
def test_answers_are_folded_alike(answer, at, byte):
    """What is left of an answer, whole or damaged, and what was taken out are the same in both forms."""
    damaged = answer[:at] + bytes([byte]) + answer[at + 1 :]

    assert python_codec.fold(answer) == compiled.fold(answer)
    assert python_codec.fold(damaged) == compiled.fold(damaged)


@IN_MEMORY
@given(
    st.lists(st.lists(st.none() | packed_rows(), max_size=4), max_size=3),
    RESULTS,
    st.booleans(),
    st.dictionaries(st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.lists(st.binary(max_size=3)))),
)
def test_records_are_made_alike_and_read_as_what_was_meant(views, results, folds, computed):
    """The record of an answer is the same bytes in both forms, and reads as the answer, its rows' headers and its times."""
    response = shadow_pb2.FeastResponse(
        results=[shadow_pb2.FeastVector(statuses=head, event_timestamps=[tail]) for head, tail in results]
    ).SerializeToString()
    of_views = {twin: [read(twin, stored, [0, 1, None], 3, (0, True)) for stored in views] for twin in TWINS}
    python, other = (
        record_by(twin, of_views[twin], response=response, folds=folds, computed=computed_bytes(computed))
        for twin in TWINS
    )
    record = decode(python)

    assert python == other
    assert [("view", cells.headers()) for cells in of_views[compiled]] == [tuple(rows) for rows in record.rows]
    assert (UUID(LOOKUP_ID).bytes, 1_767_225_600_123_456) == (record.lookup_id, record.served_at_micros)
    assert (b"request", response, computed) == (record.request, record.response, record.computed)
    assert ("c", "s", ["a:b"], "batched", 0) == (
        record.catalog_version,
        record.service,
        record.refs,
        record.mode,
        record.code,
    )


@IN_MEMORY
@given(st.lists(st.tuples(*(st.sampled_from([bytes(size), b"\1" * size]) for size in (8, 8, 10, 16))), max_size=5))
def test_headers_are_folded_alike(rows):
    """What is kept of rows' headers, and the end that they share, are the same in both forms."""
    headers = b"".join(map(b"".join, rows))

    assert python_codec.fold_headers(headers) == compiled.fold_headers(headers)


@pytest.mark.parametrize("twin", TWINS)
def test_a_position_wanted_twice_is_refused(twin):
    """A value goes into one column, so a reader that wants it in two is told so, and no column stays empty."""
    with pytest.raises(ValueError, match="twice"):
        twin.RowReader(3).learn(SCHEMAS[0], 2, [1, None, 1])


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("entries", [b"\x90", b"\xdc\x00\x00", b"\xdd\x00\x00\x00\x00", b"\x90\xc4\x01a"])
def test_a_row_without_entries_is_damage(entries, twin):
    """A row has its time at least: an array of nothing is called damaged by both forms, and so is what follows one."""
    packed = pack_row(event_micros=1, created_micros=None, schema_id=SCHEMAS[0], run_id=bytes(16), values=[])
    reader = twin.RowReader(1)
    reader.learn(SCHEMAS[0], 2, [0])
    with pytest.raises(python_codec.StoredDataError, match="is damaged"):
        reader.read([packed[:42] + entries])


def unjudged(twin):
    """Cells of one stored row and two columns, of which nobody has said what they are."""
    reader = twin.RowReader(2)
    reader.learn(SCHEMAS[0], 2, [0, 1])
    return reader.read(
        [pack_row(event_micros=1, created_micros=None, schema_id=SCHEMAS[0], run_id=bytes(16), values=[b"a", b"b"])]
    )


def spliced(dialect, twin, cells, views=()):
    """An answer of two columns."""
    blocks = [Block(("a", "b"), cells, 0, 2, None)]
    if dialect == "feast":
        return twin.splice_feast(b"", blocks, statuses=bytes(256))
    return twin.splice_hindcast(lookup_id="", catalog_version="", served_at=b"", views=list(views), blocks=blocks)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("dialect", ["feast", "hindcast"])
@pytest.mark.parametrize(
    "cells",
    [
        unjudged,
        lambda twin: twin.Cells.of_columns([[b"a"], [b"b"]], []),
        lambda twin: twin.Cells.of_columns([[b"a"], [b"b"]], [b"\x01"] * 3),
        lambda twin: twin.Cells.of_columns([[b"a"], [b"b"], [b"c"]], [b"\x01"] * 2),
    ],
    ids=["not judged", "none", "too many", "too few"],
)
def test_a_wrong_number_of_statuses_is_refused(cells, dialect, twin):
    """Cells have one list of statuses for all columns or one for each; with any other number there is no answer."""
    with pytest.raises(ValueError, match="not a status, or one for all, for each column"):
        spliced(dialect, twin, cells(twin))


@pytest.mark.parametrize("twin", TWINS)
def test_none_is_refused_for_cells(twin):
    """None in the place of a block's or a view's cells is an error of the call and ends no process."""
    there = twin.Cells.of_columns([[b"a"], [b"b"]], [b"\x01"])
    for dialect, cells, views in (("feast", None, ()), ("hindcast", None, ()), ("hindcast", there, [("view", None)])):
        with pytest.raises((TypeError, AttributeError)):
            spliced(dialect, twin, cells, views)


def test_cells_outlive_what_they_were_read_from():
    """Cells keep what they point into, even if the list that they came in is emptied."""
    stored = [
        pack_row(
            event_micros=1, created_micros=None, schema_id=SCHEMAS[0], run_id=bytes(16), values=[b"\x12\x02hi", None]
        )
    ]
    reader = compiled.RowReader(1)
    reader.learn(SCHEMAS[0], 2, [0])
    cells = reader.read(stored)
    hashes = [compiled.HashRow([bytes(bytearray(b"\x12\x02ho")), b"\x08\x01"])]
    of_hashes = compiled.cells_of_hashes(hashes, 0, 1)
    stored.clear()
    hashes.clear()
    filler = [bytes([number]) * 60 for number in range(250)]

    assert ([b"\x12\x02hi"], [b"\x12\x02ho"], 250) == (cells.column(0), of_hashes.column(0), len(filler))


@pytest.mark.parametrize("twin", TWINS)
def test_cells_keep_their_values_when_a_hash_is_filled_anew(twin):
    """Cells keep the bytes that they were read from, whatever becomes of the object that brought them."""
    row = twin.HashRow([b"\x12\xfaB" + b"b" * 8570, b"\x08\x01"])
    cells = twin.cells_of_hashes([row], 0, 1)
    row.__init__([b"x", b"\x08\x02"])
    filler = [bytes([number]) * 8585 for number in range(50)]

    assert ([b"\x12\xfaB" + b"b" * 8570], 50) == (cells.column(0), len(filler))


@pytest.mark.parametrize("twin", TWINS)
def test_a_hash_that_refused_values_keeps_those_it_had(twin):
    """A second filling that fails leaves the values of the first."""
    row = twin.HashRow([b"x"])
    with pytest.raises(TypeError):
        row.__init__([b"y"] * 9 + [3])

    assert [b"x"] == row.values()


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("start", "width"), [(-1, 1), (1, -1), (-2, 2), (2**63 - 1, 1), (0, 2**62)])
def test_a_view_outside_its_hash_is_refused(start, width, twin):
    """Where a view's values cannot be, nothing is read."""
    with pytest.raises((ValueError, MemoryError)):
        twin.cells_of_hashes([twin.HashRow([b"a", b"b", b"\x08\x01"])], start, width)


def test_the_server_runs_the_compiled_form():
    """Where there is a C compiler, which there is wherever these tests run, the compiled form is what is used."""
    assert codec.COMPILED
    assert codec.Cells is compiled.Cells


@st.composite
def joined_parts(draw):
    """Parts of some rows: bytes for all of them, or arrays, which may be slices, be large, and have nulls that have bytes."""
    rows = draw(st.integers(0, 5))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        entries = draw(st.lists(st.binary(max_size=9), min_size=rows + 2, max_size=rows + 2))
        whole = pa.array(entries, draw(st.sampled_from([pa.binary(), pa.large_binary()])))
        if draw(st.booleans()):
            there = draw(st.lists(st.booleans(), min_size=rows + 2, max_size=rows + 2))
            bits = pa.py_buffer(np.packbits(there, bitorder="little"))
            whole = pa.Array.from_buffers(whole.type, rows + 2, [bits, *whole.buffers()[1:]])
        parts += [whole.slice(draw(st.integers(0, 2)), rows), draw(st.binary(max_size=3))]
    return parts[: draw(st.integers(1, len(parts)))]


@IN_MEMORY
@given(joined_parts())
@example([pa.nulls(2, pa.binary()), b"x"])
@example([pa.array([], pa.binary())])
def test_pieces_are_joined_alike(parts):
    """The compiled codec runs the pieces of each row together as Arrow's kernel does."""
    by_arrow = pieces.join_by_arrow(parts, null_handling="replace", null_replacement=b"")
    compiled_too = pieces.join_compiled(parts)
    compiled_too.validate(full=True)

    assert by_arrow.to_pylist() == compiled_too.to_pylist()


def test_pieces_that_short_offsets_do_not_reach_are_large(monkeypatch):
    """What 32-bit offsets do not reach, which is made smaller here, is a large array in both forms."""
    monkeypatch.setattr(pieces, "_NARROW_BYTES_MAX", 5)
    parts = [pa.array([b"ab", b"cd"]), b"e"]
    joined = pieces.join_compiled(parts)

    assert pa.array([b"abe", b"cde"], pa.large_binary()) == joined
    assert pieces.join_by_arrow(parts, null_handling="replace", null_replacement=b"") == joined


@pytest.mark.parametrize(
    ("parts", "rows", "offsets", "content"),
    [
        ([b"abc"], 2, np.zeros(3, np.int32), np.zeros(5, np.uint8)),
        ([b"abc"], 2, np.zeros(2, np.int32), np.zeros(9, np.uint8)),
        ([b"abc"], -1, np.zeros(0, np.int32), np.zeros(9, np.uint8)),
        ([b"abc"], 2, np.zeros(3, np.int16), np.zeros(9, np.uint8)),
        (["abc"], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
        ([None], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
        ([(np.array([0, 1], np.int32), np.zeros(9, np.uint8), None)], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
        ([(np.array([0, 2, 1], np.int32), np.zeros(9, np.uint8), None)], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
        ([(np.array([0, 2, 3], np.int64), np.zeros(2, np.uint8), None)], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
        ([(np.array([-1, 2, 3], np.int64), np.zeros(9, np.uint8), None)], 2, np.zeros(3, np.int64), np.zeros(9, np.uint8)),
        ([(np.array([0, 1, 2], np.int32), np.zeros(9, np.uint8), np.ones(1, np.uint8))], 2, np.zeros(3, np.int32), np.zeros(9, np.uint8)),
    ],
)  # fmt: skip
def test_pieces_that_do_not_fit_are_refused(parts, rows, offsets, content):
    """What lies outside its bytes, is not as long as it says, or has no room is an error, and nothing is read or written there."""
    with pytest.raises((ValueError, TypeError)):
        compiled.run_together(parts, rows, offsets, content)
