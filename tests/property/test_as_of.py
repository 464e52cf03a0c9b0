"""Point-in-time reads of drawn frames and histories, cell by cell against the oracle."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings

import strategies
from as_of_reads import read, view_of
from histories import reads
from oracle import EntityRow, SourceRow, leaks, winners
from written import write_source

TINY_BYTES = 32 * 2**20
TEXTS = [f"text {at}" for at in range(6)]


def rows_for(view, draft, source):
    """The rows of a source with the key that a view joins them by."""
    columns = [list(draft.keys).index(column) for column in view.keys.values()]
    return [SourceRow(tuple(row.key[at] for at in columns), row.event_nanos, row.created_nanos) for row in source.rows]


def cells(column):
    """What is in a column, such that NaN is NaN, no zero is another, and times need not be Python's."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    return [repr(value) for value in column.to_pylist()]


def plain_type(kind):
    """The type of an answer's column: the source's, and of a dictionary that of its entries."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def judged(draft, found, sources):
    """Hold a read to the oracle: every cell, every type, the order of rows, and the leaks."""
    names = [name for view in draft.views for name in view.fields]
    table = found.table
    assert [*draft.frame.column_names, *names] == table.column_names
    assert draft.frame.num_rows == table.num_rows
    for at, field in enumerate(draft.frame.schema):
        # A view of text comes back as text.
        kind = pa.large_string() if pa.types.is_string_view(field.type) else field.type
        assert (kind, cells(draft.frame[at])) == (table.schema.field(at).type, cells(table[at])), field.name
    for view, asked in zip(draft.views, draft.asked, strict=True):
        history, source = draft.sources[view.source], sources[view.source]
        rows = rows_for(view, history, source)
        places = winners(rows, asked, ttl_micros=view.ttl_micros)
        for name, column in view.fields.items():
            values, answer = source.values[column], table[table.column_names.index(name)]
            if column in history.partitions:
                # What type they have is told by all folders together, and tested elsewhere.
                answer = pa.chunked_array(
                    [[None if value is None else str(value) for value in answer.to_pylist()]], pa.string()
                )
            written = cells(values)
            assert [repr(None) if place is None else written[place] for place in places] == cells(answer), name
            if source.file_format == "parquet":
                assert plain_type(values.type) == answer.type, name
        assert leaks(rows, asked, ttl_micros=view.ttl_micros) == found.leaks[view.name], view.name


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "odd"])
@settings(max_examples=100, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(data=strategies.st.data())
def test_a_read_is_what_the_oracle_says(is_plain, data):
    """Whatever the frame, histories, names and types, every cell is the oracle's, in the frame's order, with one thread, several, and little memory."""
    draft = data.draw(reads(is_plain=is_plain), label="read")
    with TemporaryDirectory() as directory:
        root = Path(directory)
        sources = []
        for at, history in enumerate(draft.sources):
            (root / str(at)).mkdir()
            sources.append(write_source(history, root / str(at)))
        views = [
            view_of(
                sources[view.source].uri,
                file_format=sources[view.source].file_format,
                keys=view.keys,
                fields=view.fields,
                name=view.name,
                event=draft.sources[view.source].event,
                created=draft.sources[view.source].created,
                ttl_micros=view.ttl_micros,
            )
            for view in draft.views
        ]
        for limits in ({"threads": 1}, {"threads": 4, "batch_rows": 2}, {"threads": None, "memory_bytes": TINY_BYTES}):
            found = read(
                draft.frame,
                views,
                root=root,
                as_of=draft.as_of if draft.names_as_of else None,
                known_at=draft.known_at,
                **limits,
            )
            judged(draft, found, sources)


def test_a_delta_table_that_has_lost_all_rows_has_no_winner(tmp_path):
    """A Delta table without a file left answers nulls of its columns' types."""
    table = pa.table({"k": [1], "event_ts": pa.array([5], pa.timestamp("us", "UTC")), "f": pa.array([7], pa.int16())})
    deltalake.write_deltalake(str(tmp_path / "source"), table)
    deltalake.DeltaTable(str(tmp_path / "source")).delete()
    view = view_of(tmp_path / "source", file_format="delta", keys={"k": "k"}, fields={"f": "f"}, created=None)
    frame = pa.table({"k": [1], "event_timestamp": pa.array([9], pa.timestamp("us", "UTC"))})

    found = read(frame, [view], root=tmp_path)

    assert pa.chunked_array([[None]], pa.int16()) == found.table["f"]


@pytest.mark.parametrize(("threads", "memory_bytes"), [(1, 2**30), (4, 2**30), (2, TINY_BYTES)])
def test_many_rows_are_what_the_oracle_says(big, threads, memory_bytes):
    """A history and a frame of many rows are the oracle's too, with any number of threads, and with little memory."""
    root, frame, view, expected, leaked = big

    found = read(
        frame, [view], root=root, known_at="known_at", threads=threads, memory_bytes=memory_bytes, batch_rows=7_000
    )

    assert expected == found.table["number"].to_pylist()
    texts = [None if number is None else f"{number:060}" for number in expected]
    assert [] == [name for name in TEXTS if texts != found.table[name].to_pylist()]
    assert {"view": leaked} == found.leaks


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A history of 120,000 rows in three files and a frame of 60,000; keys of two columns, many ties; the oracle's numbers and leaks."""
    draw = random.Random(5)
    root = tmp_path_factory.mktemp("big")
    texts, times = ["1", "11", "111", "é", ""], range(0, 1_000, 5)

    def key():
        return (draw.randrange(4_000) if draw.random() > 0.01 else None, draw.choice(texts))

    rows = [(key(), draw.choice(times), draw.choice([None, draw.choice(times)]), number) for number in range(120_000)]
    for at in range(3):
        part = rows[at * 40_000 : (at + 1) * 40_000]
        content = {
            "id": pa.array([key[0] for key, *_ in part], pa.int64()),
            "name": pa.array([key[1] for key, *_ in part]),
            "event_ts": pa.array([event for _, event, _, _ in part], pa.timestamp("us", "UTC")),
            "created_ts": pa.array([known for *_, known, _ in part], pa.timestamp("us", "UTC")),
            "number": pa.array([number for *_, number in part], pa.int64()),
            "text": pa.array([f"{number:060}" for *_, number in part]),
        }
        (root / "source").mkdir(exist_ok=True)
        pq.write_table(pa.table(content), root / "source" / f"{at}.parquet", row_group_size=9_000)
    asked = [(key(), draw.choice(times), draw.choice([None, draw.choice(times)])) for _ in range(60_000)]
    frame = pa.table(
        {
            "event_timestamp": pa.array([as_of for _, as_of, _ in asked], pa.timestamp("us", "UTC")),
            "name": pa.array([key[1] for key, *_ in asked]),
            "id": pa.array([key[0] for key, *_ in asked], pa.int32()),
            "known_at": pa.array([known for *_, known in asked], pa.timestamp("us", "UTC")),
        }
    )
    ttl_micros = 400
    view = view_of(
        root / "source",
        keys={"id": "id", "name": "name"},
        fields={"number": "number", **dict.fromkeys(TEXTS, "text")},
        ttl_micros=ttl_micros,
    )
    history = [SourceRow(key, event * 1000, known and known * 1000) for key, event, known, _ in rows]
    questions = [EntityRow(key, as_of * 1000, known and known * 1000) for key, as_of, known in asked]
    expected = winners(history, questions, ttl_micros=ttl_micros)
    return root, frame, view, expected, leaks(history, questions, ttl_micros=ttl_micros)
