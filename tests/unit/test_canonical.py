"""The logical digest: what counts, what does not, and what is refused."""

import math
import struct
from decimal import Decimal
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hindcast.datasets.canonical import GROUP_ROWS, Hasher, block_digest, digest_of
from hindcast.datasets.column_types import canonical_schema
from hindcast.datasets.hash_tree import tree_root
from hindcast.datasets.proofs import Proof, proof, verify_proof
from hindcast.errors import InvalidArgument, NotProven


def digest(table):
    """A table's digest, as text."""
    return str(digest_of(table.schema, table.to_batches()))


def column(values, kind=None):
    """A table of one column."""
    return pa.table({"c": pa.array(values, kind)})


def nan(bits):
    """A NaN of these bits."""
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (column([0.0]), column([-0.0])),
        (column([math.nan]), column([nan(0x7FF8000000000001)])),
        (column([None], pa.float64()), column([0.0])),
        (column([None], pa.float64()), column([math.nan])),
        (column([None], pa.string()), column([""])),
        (column([None], pa.list_(pa.int8())), column([[]], pa.list_(pa.int8()))),
        (column([[None]], pa.list_(pa.int8())), column([[]], pa.list_(pa.int8()))),
        (column(["ab", "c"]), column(["a", "bc"])),
        (column([["a"], []]), column([[], ["a"]])),
        (column([1], pa.int32()), column([1], pa.int64())),
        (column([1], pa.int64()), column([1], pa.timestamp("us"))),
        (column([1], pa.timestamp("us")), column([1], pa.timestamp("us", "UTC"))),
        (column([1], pa.timestamp("us")), column([1], pa.timestamp("ms"))),
        (column(["a"]), column([b"a"])),
        (column([{"x": 1}]), column([{"y": 1}])),
        (column([1]), column([1, 1])),
        (column([1, 2]), column([2, 1])),
        (column([1]), pa.table({"d": [1]})),
        (pa.table({"a": [1], "b": [1]}), pa.table({"b": [1], "a": [1]})),
        (column([None, None]), column([None])),
        (column([True] * 3), column([True] * 3 + [False])),
    ],
)
def test_what_means_another_thing_has_another_digest(first, second):
    """Tables that differ in a value, a type, a name, an order or a number of rows have two digests."""
    assert digest(first) != digest(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (column(["a", None, "a"]), column(["a", None, "a"], pa.string_view())),
        (column(["a", None, "a"]), pa.table({"c": pa.array(["a", None, "a"]).dictionary_encode()})),
        (
            column(["a", None, "a"]),
            pa.table({"c": pa.array(["a", None, "a"]).dictionary_encode(null_encoding="encode")}),
        ),
        (column([1, 1, None]), pa.table({"c": pc.run_end_encode(pa.array([1, 1, None]))})),
        (column([[1], None]), column([[1], None], pa.large_list_view(pa.int64()))),
        (column([Decimal("1.50")], pa.decimal128(9, 2)), column([Decimal("1.50")], pa.decimal32(9, 2))),
        (column([Decimal("-1.50")], pa.decimal128(38, 2)), column([Decimal("-1.50")], pa.decimal256(38, 2))),
        (
            column([1, None]),
            pa.table([pa.array([1, None])], pa.schema([pa.field("c", pa.int64(), metadata={"a": "b"})])),
        ),
        (
            column([1]),
            pa.table([pa.array([1])], pa.schema([pa.field("c", pa.int64(), nullable=False)], metadata={"a": "b"})),
        ),
        (column([[1]]), column([[1]], pa.list_(pa.field("element", pa.int64(), nullable=False)))),
        (column(["a", "b", "c"]), column(["x", "a", "b", "c"]).slice(1)),
    ],
)
def test_what_means_the_same_has_one_digest(first, second):
    """Layouts, encodings, metadata and whether a field may be null do not change the digest."""
    assert digest(first) == digest(second)


def test_a_parquet_file_has_the_digest_of_what_was_written(tmp_path):
    """What is read back from Parquet has the digest of what was written, whatever the file's row groups and encodings."""
    table = pa.table(
        {
            "n": pa.array([1.5, None, math.nan, -0.0] * 700),
            "t": pa.array(["a", None, "", "b"] * 700).dictionary_encode(),
            "at": pa.array([1, 2, None, 4] * 700, pa.timestamp("us", "UTC")),
            "l": pa.array([[1, None], None, [], [2]] * 700),
            "s": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": None}, {"x": 2, "y": ""}] * 700),
            "m": pa.array([[("k", 1)], None, [], [("j", None)]] * 700, pa.map_(pa.string(), pa.int32())),
        }
    )
    for name, options in {"a": {"row_group_size": 100}, "b": {"use_dictionary": False, "compression": "zstd"}}.items():
        pq.write_table(table, tmp_path / name, **options)

        assert digest(table) == digest(pq.read_table(tmp_path / name))


def test_a_dictionary_may_change_between_batches():
    """Batches with dictionaries of their own are one column, plain ones among them."""
    parts = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode(), pa.array(["c"])]
    hasher = Hasher(pa.schema([("c", parts[0].type)]))
    for part in parts:
        hasher.update(pa.record_batch([part], ["c"]))

    assert digest(column(["a", "b", "b", "a", "c"])) == str(hasher.finish())


def test_threads_and_batches_do_not_matter():
    """A table has one digest for every number of threads and every size of batches."""
    table = pa.table({"a": range(70_000), "b": [float(n) if n % 3 else None for n in range(70_000)]})
    found = set()
    for threads, size in product((1, 2, 4), (999, 65_536, 100_000)):
        hasher = Hasher(table.schema, threads=threads)
        for batch in table.to_batches(max_chunksize=size):
            hasher.update(batch)
        found.add(hasher.finish())

    assert 1 == len(found)


def test_a_group_is_a_branch_of_the_tree():
    """Row groups have 65,536 rows and the root of their own blocks, and the tree over them is the one over all blocks."""
    rows = 2 * GROUP_ROWS + 3_000
    table = pa.table({"n": range(rows)})
    found = digest_of(table.schema, table.to_batches())
    second = table.slice(GROUP_ROWS, GROUP_ROWS)
    blocks = [block for group in found.groups for block in group.blocks]

    assert [(0, 65_536, 64), (65_536, 65_536, 64), (131_072, 3_000, 3)] == [
        (group.first_row, group.rows, len(group.blocks)) for group in found.groups
    ]
    assert digest_of(second.schema, second.to_batches()).groups[0].root == found.groups[1].root
    assert tree_root(blocks) == tree_root([group.root for group in found.groups])
    assert block_digest(table.slice(rows - 952).to_batches()[0]) == blocks[-1]


def test_a_table_without_rows_has_a_digest_of_its_schema():
    """Two empty tables have one digest if their columns are the same, and two if not."""
    empty = column([], pa.int8())

    assert digest(empty) == digest(column([1], pa.int8()).slice(1))
    assert digest(empty) != digest(column([], pa.int16()))


@pytest.mark.parametrize(
    "kind",
    [pa.dense_union([pa.field("a", pa.int8())]), pa.list_(pa.sparse_union([pa.field("a", pa.int8())]))],
    ids=["top", "inside"],
)
def test_a_type_without_canonical_bytes_is_refused(kind):
    """A union is refused by its column's name, wherever it stands."""
    with pytest.raises(InvalidArgument, match=r"^u: has the type .*union.*; cast it"):
        Hasher(pa.schema([("u", kind)]))


def test_a_batch_of_another_schema_is_refused():
    """A batch whose columns mean others than the table's is refused."""
    hasher = Hasher(pa.schema([("a", pa.int8())]))
    with pytest.raises(InvalidArgument, match="batch: has not the table's columns and types"):
        hasher.update(pa.record_batch({"a": pa.array([1], pa.int16())}))


def test_names_are_quoted():
    """A name cannot stand for a type, for two columns, or for another name."""
    schema = pa.schema([('a" text\n"b', pa.int8()), ("ä\\", pa.struct([pa.field('x",', pa.string())]))])

    assert '"a\\" text\\n\\"b" int8\n"ä\\\\" struct("x\\"," text)' == canonical_schema(schema)


def test_a_proof_is_of_a_row_that_there_is():
    """No proof is made of a row that the table has not."""
    table = digest_of(pa.schema([("n", pa.int64())]), [pa.record_batch({"n": range(5)})])
    for row in (-1, 5):
        with pytest.raises(InvalidArgument, match="row: must be 0 to 4"):
            proof(table, row)


def test_a_block_with_rows_missing_or_added_is_refused():
    """The block's rows are needed all, and no others."""
    rows = pa.record_batch({"n": range(2_000)})
    table = digest_of(rows.schema, [rows])
    made = proof(table, 1_500)
    for start, count in ((1_024, 975), (1_023, 977), (1_025, 975)):
        with pytest.raises(NotProven):
            verify_proof(table.root, made, rows.slice(start, count))
    verify_proof(table.root, made, rows.slice(made.first_row, made.block_rows))


def test_a_block_of_other_names_or_types_is_refused():
    """The root holds the names of the columns too, and their types where bytes are the same."""
    rows = pa.record_batch({"n": pa.array(range(10), pa.int64())})
    table = digest_of(rows.schema, [rows])
    for other in (rows.rename_columns(["m"]), rows.cast(pa.schema([("n", pa.timestamp("us"))]))):
        with pytest.raises(NotProven, match="is no part of the table"):
            verify_proof(table.root, proof(table, 3), other)


GIVEN = {"format": 1, "row": 0, "rows": 1, "block": "00" * 32, "siblings": []}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": 2}, "proof.format"),
        ({"row": 1}, "proof.row"),
        ({"row": -1}, "proof.row"),
        ({"row": False}, "proof.row"),
        ({"rows": 1.0}, "proof.row"),
        ({"rows": 2**63}, "proof.row"),
        ({"block": "00" * 31}, "proof.block"),
        ({"block": "AA" * 32}, "proof.block"),
        ({"block": None}, "proof.block"),
        ({"siblings": None}, "proof.siblings"),
        ({"siblings": ["x"]}, r"proof.siblings\[0\]"),
    ],
)
def test_a_malformed_proof_is_refused(change, where):
    """JSON that is no proof is refused by the place that is wrong."""
    Proof.from_json(GIVEN)
    with pytest.raises(InvalidArgument, match=f"^{where}: "):
        Proof.from_json(GIVEN | change)
