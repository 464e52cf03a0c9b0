"""Point-in-time reads of drawn frames and histories, cell by cell against the oracle."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings

import strategies  # noqa: F401 - its profile
from as_of_reads import read, view_of
from histories import reads
from oracle import SourceRow, leaks, winners
from written import write_source

TINY_BYTES = 48 * 2**20


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
@settings(max_examples=150, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
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
