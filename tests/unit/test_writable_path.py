"""Which offline stores take appended rows."""

import pytest

from hindcast.catalog import BatchSource
from hindcast.errors import NotWritable
from hindcast.offline.location import writable_path


def source():
    return BatchSource(
        name="rows",
        path="data/rows.parquet",
        file_format="parquet",
        timestamp_field="event_ts",
        created_timestamp_column="",
        field_mapping={},
    )


@pytest.mark.parametrize(
    "store_type", ["hindcast.offline.plugin.AsOfOfflineStore", "hindcast.offline.spark.SparkOfflineStore"]
)
def test_stores_that_read_parts_take_rows(tmp_path, store_type):
    """A source takes appended rows under each offline store that reads the parts beside a file."""
    assert tmp_path / "data/rows.parquet" == writable_path(source(), store_type=store_type, repo_root=tmp_path)


@pytest.mark.parametrize("store_type", ["duckdb", "spark"])
def test_stores_that_do_not_take_none(tmp_path, store_type):
    """Under Feast's own stores nothing is appended, and the message names the store."""
    with pytest.raises(NotWritable, match=f"offline_store.type is '{store_type}'"):
        writable_path(source(), store_type=store_type, repo_root=tmp_path)
