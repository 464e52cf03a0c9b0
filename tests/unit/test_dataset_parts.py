"""Parts: row groups that are written in a thread of their own."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hindcast.datasets.parts import PartsWriter

GROUP = pa.table({"number": [1, 2, 3]})


def test_groups_come_in_their_order_and_files_end_where_they_should(tmp_path):
    """Of five row groups with two to a file there are three files, which have the rows in the order in which they were written."""
    with PartsWriter(tmp_path, GROUP.schema, within=tmp_path, groups=2) as writer:
        for number in range(5):
            writer.write(pa.table({"number": [number]}))
    assert [[0, 1], [2, 3], [4]] == [pq.read_table(tmp_path / file.path)["number"].to_pylist() for file in writer.files]


def write_groups(writer, groups, *, then=lambda: None):
    """Write so many, and then do something else within the block."""
    with writer:
        for _ in range(groups):
            writer.write(GROUP)
        then()


@pytest.mark.parametrize("groups", [1, 5])
def test_what_the_disk_did_not_take_is_raised_by_the_end_of_the_block(tmp_path, groups):
    """A row group that cannot be written fails the block, whether others were handed over after it or none."""
    (tmp_path / "part-00000.parquet").touch()
    writer = PartsWriter(tmp_path, GROUP.schema, within=tmp_path)
    with pytest.raises(FileExistsError):
        write_groups(writer, groups)
    assert () == writer.files


def test_a_failure_of_the_block_is_what_is_raised(tmp_path):
    """Where the caller fails within the block its own error is raised, not one of the file that cannot be written either."""
    (tmp_path / "part-00000.parquet").touch()
    writer = PartsWriter(tmp_path, GROUP.schema, within=tmp_path)
    with pytest.raises(ZeroDivisionError):
        write_groups(writer, 1, then=lambda: 1 / 0)
    assert () == writer.files
