"""How columns of sealed rows are stored, by what is in them."""

import uuid
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hindcast.lookups.parquet import write_parquet

COUNT = 3_000
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def stored(rows, path):
    """What a file has, once it is known to have these rows, and of each column its codec and whether it is a dictionary."""
    write_parquet(rows, path)
    file = pq.ParquetFile(path)
    group = file.metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return file.read(), {
        one.path_in_schema.removesuffix(".list.element"): (one.compression, "RLE_DICTIONARY" in one.encodings)
        for one in columns
    }


def test_columns_are_stored_by_what_is_in_them(tmp_path):
    """Texts that repeat are a dictionary, those that are random stay as they are, all else is compressed, lists too; every value is the same."""
    rows = pa.table(
        {
            "category": [("food", None, "rent")[at % 3] for at in range(COUNT)],
            "id": [uuid.UUID(int=at * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)).hex for at in range(COUNT)],
            "text": [f"a sentence that begins alike, and ends with {at}" for at in range(COUNT)],
            "nothing": pa.nulls(COUNT, pa.string()),
            "list": pa.array([["a", "b"], [], None] * (COUNT // 3), pa.list_(pa.string())),
            "amount": [at / 7 for at in range(COUNT)],
            "amount__status": pa.array([1] * COUNT, pa.int32()),
            "seldom__timestamp": pa.array([NOON] * COUNT, pa.timestamp("us", "UTC")),
            "often__timestamp": pa.array(
                [NOON + timedelta(seconds=at) for at in range(COUNT)], pa.timestamp("us", "UTC")
            ),
        }
    )
    read, columns = stored(rows, tmp_path / "rows.parquet")

    assert rows.equals(read)
    assert {
        "category": ("SNAPPY", True),
        "id": ("UNCOMPRESSED", False),
        "text": ("SNAPPY", False),
        "nothing": ("SNAPPY", True),
        "list": ("SNAPPY", False),
        "amount": ("SNAPPY", False),
        "amount__status": ("SNAPPY", True),
        "seldom__timestamp": ("SNAPPY", True),
        "often__timestamp": ("SNAPPY", False),
    } == columns


def test_only_records_and_their_references_are_stored_by_zstd(tmp_path):
    """The narrow columns of the table of all lookups are not, of which a group would be too small for it."""
    rows = pa.table({"lookup_id": ["one"] * 9, "refs": [["v:a"]] * 9, "payload": [b"record" * 90] * 9})
    read, columns = stored(rows, tmp_path / "rows.parquet")

    assert rows.equals(read)
    assert {"lookup_id": "SNAPPY", "refs": "ZSTD", "payload": "ZSTD"} == {
        name: codec for name, (codec, _) in columns.items()
    }


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_stored(rows, tmp_path):
    """A file may have no row, or one."""
    table = pa.table({"word": pa.array(["a"], pa.string()), "payload": pa.array([b"b"])}).slice(0, rows)
    write_parquet(table, tmp_path / "rows.parquet")

    assert table.equals(pq.read_table(tmp_path / "rows.parquet"))
