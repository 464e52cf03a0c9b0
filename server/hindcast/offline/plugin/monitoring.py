"""Feast's monitoring hooks: figures about the columns of a source, and the files that keep them.

Feast's own statements compute the figures, and its own code reads the files (`feast.infra.offline_stores.duckdb`). What is ours is what they
stand on: rows as every other read here has them, column names that need no quoting, and files that are never half written.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import _duckdb_categorical_stats, _duckdb_numeric_stats
from feast.monitoring.monitoring_utils import (
    MONITORING_DIR,
    empty_categorical_metric,
    empty_numeric_metric,
    monitoring_parquet_meta,
)
from feast.repo_config import RepoConfig

from hindcast.clock import from_micros, to_micros
from hindcast.durable import make_directory, sync
from hindcast.errors import SourceError, StoreUnavailable
from hindcast.offline.connection import open_duckdb
from hindcast.offline.plugin.sources import as_logs, column_of, columns_of, pinned, repo_root
from hindcast.offline.plugin.times import given_micros
from hindcast.offline.sources.rows import RowsQuery, newest_event, read_rows
from hindcast.settings import state_dir

_NUMERIC, _CATEGORICAL = "numeric", "categorical"
_LATEST_MICROS = to_micros(datetime.max)  # noqa: DTZ901 - naive is UTC here


def source_metrics(
    config: RepoConfig,
    data_source: DataSource,
    feature_columns: Sequence[tuple[str, str]],
    timestamp_field: str,
    start_date: datetime | None,
    end_date: datetime | None,
    *,
    histogram_bins: int,
    top_n: int,
) -> list[dict[str, Any]]:
    """Figures about columns of a source between two times: see `AsOfOfflineStore.compute_monitoring_metrics`."""
    names = [name for kind in (_NUMERIC, _CATEGORICAL) for name, given in feature_columns if given == kind]
    kinds = dict(feature_columns)
    source = pinned(config, data_source)
    schema = columns_of(source)
    columns = {name: column_of(name, schema, data_source) for name in names}
    event = column_of(timestamp_field, schema, data_source)
    query = RowsQuery(
        source=as_logs(source, event=event, columns=columns.values()),
        columns=columns,
        event_column=event,
        start_micros=None if start_date is None else given_micros("start_date", start_date),
        end_micros=None if end_date is None else given_micros("end_date", end_date),
    )
    with (
        _enough_memory(),
        open_duckdb(
            memory_limit_bytes=config.offline_store.memory_limit_mb * 2**20,
            threads=config.offline_store.threads,
            spill_dir=state_dir(repo_root(config)) / "spill",
        ) as connection,
        read_rows(query) as rows,
    ):
        _load(connection, rows, [kinds[name] for name in names])
        found = [
            _metric(
                connection, f"c{at}", kinds[name], rows.schema.types[at], histogram_bins=histogram_bins, top_n=top_n
            )
            for at, name in enumerate(names)
        ]
    return [{**metric, "feature_name": name} for name, metric in zip(names, found, strict=True)]


def newest_time(config: RepoConfig, data_source: DataSource, timestamp_field: str) -> datetime | None:
    """The greatest event time of a source."""
    source = pinned(config, data_source)
    micros = newest_event(source, column_of(timestamp_field, columns_of(source), data_source))
    return None if micros is None else from_micros(min(micros, _LATEST_MICROS))


@contextmanager
def kept_files(config: RepoConfig) -> Iterator[RepoConfig]:
    """A repo whose monitoring files are copies of this one's. What is changed in them is moved into place at the end, whole.

    Two processes that write at once take turns.

    Raises:
        StoreUnavailable: the disk did not take a file.
    """
    directory = repo_root(config) / MONITORING_DIR
    try:
        make_directory(directory)
        with _turn(directory), tempfile.TemporaryDirectory(prefix=".writing-", dir=directory) as aside:
            copies = Path(aside) / MONITORING_DIR
            copies.mkdir()
            before: dict[str, bytes] = {}
            for file in directory.glob("*.parquet"):
                shutil.copyfile(file, copies / file.name)
                before[file.name] = file.read_bytes()
            yield config.model_copy(update={"repo_path": Path(aside)})
            for file in copies.glob("*.parquet"):
                if before.get(file.name) != file.read_bytes():
                    sync(file)
                    file.rename(directory / file.name)
            sync(directory)
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {str(directory)!r} did not take the metrics; check its rights and the space on its disk"
        ) from error


def keep_metrics(config: RepoConfig, metric_type: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Keep figures beside those that are there; those of the same column, day and granularity are replaced.

    In the form that Feast's DuckDB store gives its files. Its own code joins old and new ones by pandas, which warns that the types
    that come of it will change.
    """
    if not metrics:
        return
    file_name, columns, keys = monitoring_parquet_meta(metric_type)
    with kept_files(config) as kept:
        path = repo_root(kept) / MONITORING_DIR / file_name
        before = pq.read_table(path).to_pylist() if path.exists() else []
        rows = {tuple(row.get(key) for key in keys): row for row in (*before, *map(_as_kept, metrics))}
        pq.write_table(pa.table({column: [row.get(column) for row in rows.values()] for column in columns}), path)


def _as_kept(metric: Mapping[str, Any]) -> Mapping[str, Any]:
    histogram = metric.get("histogram")
    is_text = histogram is None or isinstance(histogram, str)
    return metric if is_text else {**metric, "histogram": json.dumps(histogram)}


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise SourceError(
            "the rows of the interval do not fit into memory for their percentiles; raise memory_limit_mb in the offline_store block, "
            "or ask for a shorter interval"
        ) from error


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _load(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader, kinds: Sequence[str]) -> None:
    """The rows as the table `monitored`, with columns `c0`, `c1`, … as Feast's statements take them."""
    types = [_loaded_type(kind, given) for kind, given in zip(rows.schema.types, kinds, strict=True)]
    schema = pa.schema([(f"c{at}", kind) for at, kind in enumerate(types)])
    batches = (
        pa.record_batch([_loaded(array, kind) for array, kind in zip(batch.columns, types, strict=True)], schema=schema)
        for batch in rows
    )
    connection.register("pulled", pa.RecordBatchReader.from_batches(schema, batches))
    connection.execute("CREATE TEMP TABLE monitored AS SELECT * FROM pulled")
    connection.unregister("pulled")


def _loaded_type(kind: pa.DataType, given: str) -> pa.DataType:
    if pa.types.is_nested(kind):
        return pa.bool_()
    return pa.float64() if given == _NUMERIC else kind


def _loaded(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_nested(array.type):
        # Only how many there are is told of lists and maps.
        return pc.if_else(array.is_valid(), pa.scalar(value=True), pa.scalar(None, pa.bool_()))
    if not pa.types.is_floating(kind):
        return array
    numbers = array.cast(kind, safe=False)
    # NaN is how pandas writes a null, and with an infinity there is no histogram: Feast's statements fail on both.
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, kind))


def _metric(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    given: str,
    kind: pa.DataType,
    *,
    histogram_bins: int,
    top_n: int,
) -> Mapping[str, Any]:
    # One column at a time: the statement holds all values of its columns in memory, for each percentile.
    if not pa.types.is_nested(kind):
        metric: dict[str, Any] = (
            _duckdb_numeric_stats(connection, "monitored", [column], "", histogram_bins)[0]
            if given == _NUMERIC
            else _duckdb_categorical_stats(connection, "monitored", column, "", top_n)
        )
        if metric["row_count"]:
            return metric
    # What Feast's statement says of a column of nothing but nulls is that there are no rows.
    rows, values = connection.execute(f"SELECT count(*), count({column}) FROM monitored").fetchone() or (0, 0)  # noqa: S608 - a name of ours
    empty = empty_numeric_metric(column) if given == _NUMERIC else empty_categorical_metric(column)
    nulls = rows - values
    return {**empty, "row_count": rows, "null_count": nulls, "null_rate": nulls / rows if rows else 0.0}
