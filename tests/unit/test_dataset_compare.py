"""Tables of training sets, cell by cell."""

import numpy as np
import pyarrow as pa
import pytest

from hindcast.datasets.canonical import Hasher
from hindcast.datasets.compare import Side, compare
from hindcast.datasets.manifest import GroupRecord
from hindcast.datasets.parts import PartsWriter, row_groups, stored_schema


@pytest.fixture
def side(tmp_path):
    """Writes tables as the parts of a set."""
    numbers = iter(range(100))

    def write(table):
        place = tmp_path / str(next(numbers))
        (place / "data").mkdir(parents=True)
        schema = stored_schema(table.schema)
        hasher = Hasher(schema)
        with PartsWriter(place / "data", schema, within=place) as writer:
            for group in row_groups(table.to_batches(), table.schema, stored=schema):
                writer.write(group)
                for batch in group.to_batches():
                    hasher.update(batch)
        groups = [GroupRecord(rows=group.rows, digest=group.root.hex()) for group in hasher.finish().groups]
        return Side(directory=place, files=writer.files, groups=groups, schema=schema)

    return write


PAIRS = {
    "numbers": (pa.int64(), [1, 2, None, 4, None], [1, 3, None, None, 5], [1, 3, 4]),
    "doubles": (
        pa.float64(),
        [1.0, float("nan"), -0.0, None, 2.0],
        [1.0, float("nan"), 0.0, float("nan"), 2.0],
        [2, 3],
    ),
    "texts": (pa.string(), ["a", "b", None, "", "x"], ["a", "B", None, None, "x"], [1, 3]),
    "booleans": (pa.bool_(), [True, False, None, True, True], [True, True, None, None, True], [1, 3]),
    "lists": (
        pa.list_(pa.float64()),
        [[1.0], [], None, [None], [float("nan")]],
        [[1.0], [2.0], None, [], [float("nan")]],
        [1, 3],
    ),
    "times": (pa.timestamp("us", "UTC"), [0, 1, None, 3, 4], [0, 2, None, 3, 4], [1]),
    "structs": (
        pa.struct([("a", pa.int64())]),
        [{"a": 1}, {"a": 2}, None, {"a": None}, None],
        [{"a": 1}, {"a": 3}, None, None, None],
        [1, 3],
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_differing_cells_are_found(side, kind):
    """Cells differ by what they mean: a null from a value, -0.0 from 0.0, and a NaN not from itself."""
    arrow_type, before, after, expected = PAIRS[kind]
    found = compare(
        side(pa.table({"x": pa.array(before, arrow_type)})), side(pa.table({"x": pa.array(after, arrow_type)}))
    )
    assert expected == found.cells["x"].tolist()


def test_layouts_of_one_meaning_are_equal(side):
    """Text in a dictionary, plain and large is one text, and its columns are not of different types."""
    plain = pa.array(["a", None, "b"])
    for other in (plain.dictionary_encode(), plain.cast(pa.large_string())):
        assert False is compare(side(pa.table({"x": plain})), side(pa.table({"x": other}))).are_there


def test_columns_and_types_are_told(side):
    """Columns that only one table has and a column of another type are told, and cells of a castable type are compared."""
    found = compare(
        side(
            pa.table(
                {
                    "a": [1],
                    "b": [1],
                    "c": pa.array(
                        [
                            1,
                        ],
                        pa.int64(),
                    ),
                }
            )
        ),
        side(pa.table({"d": [1], "b": [1], "c": pa.array([1], pa.int32())})),
    )
    assert (("a",), ("d",), [("c", "int64", "int32")], {}) == (
        found.dropped,
        found.added,
        [(one.column, one.before, one.after) for one in found.retyped],
        dict(found.cells),
    )


def test_cells_are_found_beyond_the_first_row_group_and_part(side):
    """Cells of the second row group and of the second part are found by their row, and shown as they are."""
    values = np.arange(65_536 * 16 + 10)
    other = values.copy()
    other[[70_000, 65_536 * 16 + 3]] = -1
    before, after = side(pa.table({"x": values})), side(pa.table({"x": other}))
    assert [70_000, 65_536 * 16 + 3] == compare(before, after).cells["x"].tolist()
    assert [{"x": 70_000}, {"x": 65_536 * 16 + 3}] == before.cells([70_000, 65_536 * 16 + 3], ["x"])
    assert 2 == len(before.files)


def test_rows_are_told_apart_by_their_keys(side):
    """By keys, rows that only one has are told, equal keys go by their order, and nulls are keys of their own."""
    before = side(pa.table({"k": [1, 1, 2, None, 3], "x": [10, 11, 20, 30, 40]}))
    after = side(pa.table({"k": pa.array([None, 2, 1, 1, 1], pa.int32()), "x": [30, 21, 10, 12, 13]}))
    found = compare(before, after, keys=["k"])
    assert ([4], [4]) == (found.only_before.tolist(), found.only_after.tolist())
    assert ([0, 1, 2, 3], [2, 3, 1, 0]) == (found.before_rows.tolist(), found.after_rows.tolist())
    assert {"x": [1, 2]} == {column: at.tolist() for column, at in found.cells.items()}


@pytest.mark.parametrize(
    ("kind", "values", "other_kind", "other_values", "both"),
    [
        (pa.uint64(), [2**63 + 5, 2, None], pa.uint64(), [None, 2**64 - 1, 2**63 + 5], [(0, 2), (2, 0)]),
        (pa.uint64(), [2**63 + 5, 2], pa.int64(), [-(2**63) + 5, 2], [(1, 1)]),
        (pa.int64(), [1, 2**53 + 1, None], pa.float64(), [2.0**53, 1.0, None], [(0, 1), (2, 2)]),
        (pa.int64(), [1, 2, None], pa.string(), ["1", None, "2"], [(2, 1)]),
        (pa.binary(), [b"1", None], pa.string(), ["1", None], [(1, 1)]),
    ],
)
def test_keys_of_other_types_are_told_apart_by_their_values(side, kind, values, other_kind, other_values, both):
    """Keys of two types are the same where they have the same value: a number is no text, and whole numbers have all of their 64 bits."""
    one, other = (
        side(pa.table({"k": pa.array(given, of)})) for given, of in ((values, kind), (other_values, other_kind))
    )
    found = compare(one, other, keys=["k"])
    assert both == list(zip(found.before_rows.tolist(), found.after_rows.tolist(), strict=True))
    left = (len(values) - len(both), len(other_values) - len(both))
    assert left == (len(found.only_before), len(found.only_after))
