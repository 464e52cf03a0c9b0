"""Parts of a source when the writer dies, the disk is full, and many write at once: a part is whole, or it is not there."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hindcast.errors import StoreUnavailable
from hindcast.offline.location import source_files
from hindcast.offline.writing import parts
from hindcast.offline.writing.parts import append_part

CYCLES = 20
ROWS = 200_000
WRITER = f"""
import sys
from pathlib import Path
import pyarrow as pa
from hindcast.offline.writing.parts import append_part
table = pa.table({{"at": pa.array(range({ROWS})), "text": ["x" * 20] * {ROWS}}})
number = int(sys.argv[2])
while True:
    append_part(table, Path(sys.argv[1]), name=f"{{number:06d}}")
    print(number, flush=True)
    number += 1
"""


def test_a_killed_writer_leaves_whole_parts_only(tmp_path):
    """However often a writer is killed, every part that is found is whole, and every one that it told of is found."""
    told, killed_at_work, number = [], 0, 0
    for cycle in range(CYCLES):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "source"), str(number)], stdout=subprocess.PIPE, text=True
        ) as writer:
            told += [int(writer.stdout.readline()) for _ in range(2)]
            if cycle % 2:
                # In the midst of a part, as far as can be told from here: its unfinished file is there.
                while not list((tmp_path / "source").glob(".*.tmp")):
                    assert writer.poll() is None
            writer.send_signal(signal.SIGKILL)
            told += [int(line) for line in writer.stdout]
        killed_at_work += bool(list((tmp_path / "source").glob(".*.tmp")))
        number = max(told) + 2  # a part can be there of which the writer could not tell any more
    found = source_files(tmp_path / "source")

    assert {ROWS} == {pq.read_table(part).num_rows for part in found}
    assert {f"{at:06d}.parquet" for at in told} <= {part.name for part in found}
    assert killed_at_work > 0
    assert ROWS * len(found) == pq.read_table(tmp_path / "source").num_rows


@pytest.mark.parametrize("failing", ["write_table", "fsync", "rename"])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch, failing):
    """Where any step of a part fails, the call fails, and neither the part nor its unfinished file is left."""

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "no space left")

    source = tmp_path / "source"
    source.mkdir()
    owner = {"write_table": parts.pq, "fsync": os, "rename": parts.Path}[failing]
    with monkeypatch.context() as patched:
        patched.setattr(owner, failing, full)
        with pytest.raises(StoreUnavailable):
            append_part(pa.table({"at": [1]}), source, name="one")

    assert [] == list(source.iterdir())


def test_writers_of_one_source_do_not_meet(tmp_path):
    """Many writers at once leave as many parts, and two of one name leave one."""
    with ThreadPoolExecutor(8) as pool:
        written = list(
            pool.map(
                lambda at: append_part(pa.table({"at": [at // 2]}), tmp_path / "a.parquet", name=f"{at // 2:03d}"),
                range(64),
            )
        )
    rows = [pq.read_table(part).to_pydict()["at"] for part in source_files(tmp_path / "a.parquet")]

    assert [[at] for at in range(32)] == rows
    assert {tmp_path / "a.parquet.parts"} == {part.parent for part in written}


def test_a_file_comes_before_its_parts_and_hidden_ones_are_none(tmp_path):
    """The files of a source are its file and then the parts by name; names with a dot or an underscore are left out."""
    single = tmp_path / "a.parquet"
    pq.write_table(pa.table({"at": [0]}), single)
    for name in ("b", "a"):
        append_part(pa.table({"at": [1]}), single, name=name)
    for name in (".c.parquet", "_d.parquet", "e.txt"):
        (tmp_path / "a.parquet.parts" / name).write_bytes(b"")

    assert ["a.parquet", "a.parquet", "b.parquet"] == [file.name for file in source_files(single)]
