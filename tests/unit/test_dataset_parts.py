"""Parts: row groups that are written in a thread of their own."""

import hashlib
import resource

import numpy as np
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


def noise():
    """A row group of half a megabyte that does not get smaller."""
    return pa.table({"number": np.random.default_rng(0).random(65_536)})


def test_the_digest_is_that_of_the_file(tmp_path):
    """Size and SHA-256 of a file that is written in several pieces are those of the bytes that are there."""
    with PartsWriter(tmp_path, noise().schema, within=tmp_path) as writer:
        for _ in range(7):
            writer.write(noise())
    (file,) = writer.files
    written = (tmp_path / file.path).read_bytes()
    assert (len(written), hashlib.sha256(written).hexdigest()) == (file.bytes, file.sha256)
    assert 7 == pq.read_metadata(tmp_path / file.path).num_row_groups


def test_a_disk_that_is_full_fails_the_block(tmp_path):
    """Bytes that the disk did not take, in whichever thread, fail the block, and there is no file to speak of."""
    writer = PartsWriter(tmp_path, noise().schema, within=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_groups(writer, 7, group=noise())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert () == writer.files


def test_close_numbers_are_read_as_they_were_written(tmp_path):
    """Whole numbers of which the differences are written come back as they were, nulls among them."""
    table = pa.table({"file": pa.array([0, None, 1], pa.int32()), "row": pa.array([2**62, None, -(2**62)])})
    with PartsWriter(tmp_path, table.schema, within=tmp_path, numbers=["row"]) as writer:
        writer.write(table)
    assert table.to_pydict() == pq.read_table(tmp_path / writer.files[0].path).to_pydict()


def write_groups(writer, groups, *, group=GROUP, then=lambda: None):
    """Write so many, and then do something else within the block."""
    with writer:
        for _ in range(groups):
            writer.write(group)
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
