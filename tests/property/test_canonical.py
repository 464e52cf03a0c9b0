"""The logical digest against its description in plain Python: equal for every table, in every layout, however it is cut into batches."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import canonical_oracle as oracle
from arrow_forms import FIXED, Form, Money
from hindcast.datasets.canonical import Hasher, digest_of
from hindcast.datasets.column_bytes import column_bytes
from hindcast.datasets.proofs import Proof, proof, verify_proof
from hindcast.errors import NotProven

NAMES = st.text(st.characters(codec="utf-8"), max_size=4)
PLAIN = [oracle.Plain(text) for text in ("null", "bool", "text", "bytes")]
SIMPLE = st.sampled_from([kind for kind, _ in FIXED.values()] + PLAIN)
KEYS = st.sampled_from([oracle.Plain("text"), FIXED["int32"][0]])


def can_be_stored(kind):
    """Whether Arrow takes it for the storage of an extension type."""
    return not isinstance(kind, oracle.Extension) and kind.text != "null"


def nested(inner):
    """Kinds around others."""
    return st.one_of(
        st.builds(oracle.ListOf, inner),
        st.builds(oracle.ListOfSize, st.integers(0, 3), inner),
        st.builds(oracle.MapOf, KEYS, inner),
        st.builds(oracle.StructOf, st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3).map(tuple)),
        st.builds(oracle.Extension, st.just("test.money"), inner.filter(can_be_stored)),
    )


KINDS = st.recursive(SIMPLE, nested, max_leaves=4)


def values_of(kind):
    """A value of a kind, or None."""
    return st.one_of(st.none(), present(kind))


def present(kind):  # noqa: C901, PLR0911 - one case a kind
    """A value of a kind that is no null; of the type null there is none."""
    match kind:
        case oracle.Fixed(text, width):
            # Wider decimals than their precision are no values.
            bits_max = 60 if text.startswith("decimal") else width * 8
            return st.integers(0, 2**bits_max - 1)
        case oracle.Plain("null"):
            return st.none()
        case oracle.Plain("bool"):
            return st.booleans()
        case oracle.Plain("text"):
            return st.text(st.characters(codec="utf-8"), max_size=5)
        case oracle.Plain("bytes"):
            return st.binary(max_size=5)
        case oracle.ListOf(inner):
            return st.lists(values_of(inner), max_size=4)
        case oracle.ListOfSize(size, inner):
            return st.lists(values_of(inner), min_size=size, max_size=size)
        case oracle.MapOf(key, value):
            return st.lists(st.tuples(present(key), values_of(value)), max_size=3)
        case oracle.StructOf(fields):
            return st.tuples(*(values_of(inner) for _, inner in fields))
        case oracle.Extension(_, storage):
            return present(storage)
    raise AssertionError(kind)


@st.composite
def columns(draw, *, kinds=KINDS, rows_max=30):
    """Columns of one table: name, kind, values."""
    rows = draw(st.integers(0, rows_max))
    drawn = draw(st.lists(st.tuples(NAMES, kinds), min_size=1, max_size=3))
    return [(name, kind, draw(st.lists(values_of(kind), min_size=rows, max_size=rows))) for name, kind in drawn], rows


def form(data):
    """A layout that Hypothesis draws."""
    return Form(lambda options: data.draw(st.sampled_from(options)))


@settings(max_examples=400, deadline=None)
@given(kind=KINDS, data=st.data())
def test_a_column_has_the_bytes_that_the_page_says(kind, data):
    """The canonical bytes of every column are the oracle's, in every layout."""
    values = data.draw(st.lists(values_of(kind), max_size=20))
    array = form(data).array(kind, values)
    array.validate()

    assert oracle.column_bytes(kind, values) == column_bytes(array)


@settings(max_examples=150, deadline=None)
@given(table=columns(), data=st.data())
def test_a_table_has_the_digest_that_the_page_says(table, data):
    """A table's digest is the oracle's, however its rows are cut into batches, of whatever layouts."""
    content, rows = table
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    hasher = None
    for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
        arrays = [form(data).array(kind, values[start:stop]) for _, kind, values in content]
        batch = pa.RecordBatch.from_arrays(arrays, [name for name, _, _ in content])
        hasher = hasher or Hasher(batch.schema, threads=2)
        hasher.update(batch)

    assert oracle.table_digest(content, rows) == hasher.finish().root


def long_column(kind, seed, rows):
    """A column of many rows, of a few values."""
    return [seed[(place * place + place // 7) % len(seed)] for place in range(rows)]


@settings(max_examples=40, deadline=None)
@given(
    kind=KINDS,
    rows=st.sampled_from([1, 1_023, 1_024, 1_025, 2_048, 5_000, 9_217]),
    batch_rows=st.sampled_from([7, 1_000, 1_024, 1_500, 4_096, 10_000]),
    threads=st.sampled_from([1, 3]),
    data=st.data(),
)
def test_long_tables_have_the_digest_that_the_page_says(kind, rows, batch_rows, threads, data):
    """Blocks that end inside of a batch and batches that end inside of a block give the oracle's digest."""
    values = long_column(kind, data.draw(st.lists(values_of(kind), min_size=1, max_size=7)), rows)
    table = pa.table([form(data).array(kind, values)], ["c"])
    hasher = Hasher(table.schema, threads=threads)
    for batch in table.to_batches(max_chunksize=batch_rows):
        hasher.update(batch)
    found = hasher.finish()

    assert oracle.table_digest([("c", kind, values)], rows) == found.root
    assert oracle.block_digests([("c", kind, values)], rows) == [one for group in found.groups for one in group.blocks]


@settings(max_examples=60, deadline=None)
@given(blocks=st.integers(1, 200), last=st.integers(1, 1_024), data=st.data())
def test_every_row_is_proven_by_its_block_alone(blocks, last, data):
    """A row's proof holds with its block, and with no other block, row count, place, sibling or root."""
    rows = (blocks - 1) * 1_024 + last
    table = pa.table({"n": pa.array(range(rows), pa.int64())})
    found = digest_of(table.schema, table.to_batches())
    made = proof(found, data.draw(st.integers(0, rows - 1)))
    block = table.slice(made.first_row, made.block_rows).to_batches()[0]
    verify_proof(found.root, Proof.from_json(made.to_json()), block)

    siblings = list(made.siblings)
    wrong = [
        Proof(row=row, rows=rows, block=made.block, siblings=made.siblings)
        for row in (made.row - 1_024, made.row + 1_024)
    ]
    wrong += [
        Proof(row=made.row, rows=count, block=made.block, siblings=made.siblings) for count in (rows - 1, rows + 1)
    ]
    wrong += [
        Proof(row=made.row, rows=rows, block=made.block, siblings=(*siblings[:at], bytes(32), *siblings[at + 1 :]))
        for at in range(len(siblings))
    ]
    wrong += [Proof(row=made.row, rows=rows, block=made.block, siblings=(*siblings, bytes(32)))]
    wrong += [Proof(row=made.row, rows=rows, block=made.block, siblings=tuple(siblings[:-1]))] if siblings else []
    for one in wrong:
        with pytest.raises(NotProven):
            verify_proof(found.root, one, block)
    with pytest.raises(NotProven):
        verify_proof(bytes(32), made, block)


@settings(max_examples=100, deadline=None)
@given(table=columns(rows_max=8), data=st.data())
def test_a_changed_cell_is_not_proven(table, data):
    """A block in which one value is another is refused."""
    content, rows = table
    name, kind, values = content[0]
    if not rows:
        return
    row = data.draw(st.integers(0, rows - 1))
    other = data.draw(values_of(kind))
    changed = [*values[:row], other, *values[row + 1 :]]
    batches = [
        pa.RecordBatch.from_arrays(
            [form(data).array(of, cells) for _, of, cells in ((name, kind, first), *content[1:])],
            [column for column, _, _ in content],
        )
        for first in (values, changed)
    ]
    found = digest_of(batches[0].schema, batches[:1])
    made = proof(found, row)
    verify_proof(found.root, made, batches[0])
    if oracle.column_bytes(kind, values) != oracle.column_bytes(kind, changed):
        with pytest.raises(NotProven, match="a value or a type is another"):
            verify_proof(found.root, made, batches[1])


def test_an_unregistered_extension_type_has_the_digest_of_a_registered_one():
    """A process that does not know an extension type takes the same digest of its data."""
    array = pa.ExtensionArray.from_storage(Money(), pa.array([1, None], pa.int32()))
    known = pa.table({"m": array, "in": pa.array([[1], None], pa.list_(pa.int32()))})
    unknown = pa.schema(
        [pa.field("m", pa.int32(), metadata={"ARROW:extension:name": "test.money"}), known.schema.field("in")]
    )
    stored = pa.table([array.storage, known.column("in")], schema=unknown)

    assert digest_of(known.schema, known.to_batches()) == digest_of(stored.schema, stored.to_batches())
