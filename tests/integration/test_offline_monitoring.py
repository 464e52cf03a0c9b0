"""Feast's monitoring service on Hindcast's offline store: what it computes from every kind of source, and what it keeps."""

from concurrent.futures import ThreadPoolExecutor

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, Field
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.monitoring.metrics_calculator import MetricsCalculator
from feast.monitoring.monitoring_service import MonitoringService
from feast.types import Float64, Int64, String

from hindcast.offline.plugin import AsOfOfflineStore
from hindcast.offline.writing.parts import append_part
from offline_repo import DRIVER, NOON, elsewhere, hours, offline_of, offline_repo, source, trips, view, write

ODD = 'odd "name"; it\'s ünicode'
FIELDS = [Field(name="trips", dtype=Int64), Field(name=ODD, dtype=Float64), Field(name="city", dtype=String)]


@pytest.fixture
def store(tmp_path):
    """An empty repo."""
    with offline_repo(tmp_path / "repo") as opened:
        yield opened


def figures(store, of, *columns, start=None, end=None):
    """Feast's figures about columns, by name."""
    found = offline_of(store).compute_monitoring_metrics(store.config, of, list(columns), "event_timestamp", start, end)
    return {metric["feature_name"]: metric for metric in found}


def rides():
    """Rows of four hours."""
    return trips(
        (1, 0, 10),
        (2, 1, 20),
        (3, 2, None),
        (4, 3, 40),
        **{ODD: [1.0, 2.0, 3.0, 6.0], "city": ["Bonn", None, "Bonn", "Köln"]},
    )


@pytest.mark.parametrize("kind", ["file and part", "directory", "pattern", "delta"])
def test_the_service_computes_and_keeps_figures_of_every_source(store, tmp_path, kind):
    """`auto_compute` finds the newest event, computes all granularities and the baseline, with odd names, from any working directory."""
    root, rows = tmp_path / "repo", rides()
    if kind == "delta":
        deltalake.write_deltalake(
            str(root / "lake"), pa.concat_tables([rows, trips((9, 99, 1), **{ODD: [0.0], "city": ["x"]})])
        )
        deltalake.DeltaTable(str(root / "lake")).delete("driver_id = 9")
        of = source("lake", delta=True)
    elif kind == "file and part":
        append_part(rows.slice(2), write(root / "t.parquet", rows.slice(0, 2)), name="a")
        of = source("t.parquet")
    else:
        write(root / "data/a.parquet", rows.slice(0, 2))
        write(root / "data/b.parquet", rows.slice(2))
        of = source("data" if kind == "directory" else "data/?.parquet")
    store.apply([DRIVER, view(of, *FIELDS)])
    service = MonitoringService(store)
    with elsewhere(tmp_path):
        outcome = service.auto_compute()
        again = service.auto_compute()
        daily = {row["feature_name"]: row for row in service.get_feature_metrics("rides", granularity="daily")}
        baseline = service.get_baseline("rides")

    assert (1, 3, 0) == (outcome["computed_feature_views"], outcome["baseline_features"], again["baseline_features"])
    assert {"trips", ODD, "city"} == set(daily) == {row["feature_name"] for row in baseline}
    assert hours(3).isoformat() == daily["trips"]["max_event_timestamp"]
    assert (4, 1, 0.25) == tuple(daily["trips"][name] for name in ("row_count", "null_count", "null_rate"))
    assert (3.0, 1.0, 6.0, 2.5) == tuple(daily[ODD][name] for name in ("mean", "min_val", "max_val", "p50"))
    assert [{"value": "Bonn", "count": 2}, {"value": "Köln", "count": 1}] == daily["city"]["histogram"]["values"]
    assert not (tmp_path / "feast_monitoring").exists()


def test_the_figures_are_those_of_feasts_own_calculator(store, tmp_path):
    """For every column that it takes, the figures equal those that Feast computes in Python, within an interval closed at both ends."""
    rows = (
        rides()
        .append_column("flag", pa.array([True, None, False, True]))
        .append_column("empty", pa.nulls(4, pa.string()))
    )
    write(tmp_path / "repo/t.parquet", rows, row_group_size=1)
    columns = [
        ("trips", "numeric"),
        (ODD, "numeric"),
        ("city", "categorical"),
        ("flag", "categorical"),
        ("empty", "categorical"),
    ]
    found = figures(store, source("t.parquet"), *columns, start=hours(0), end=hours(2))
    expected = {
        metric["feature_name"]: metric for metric in MetricsCalculator(20, 10).compute_all(rows.slice(0, 3), columns)
    }

    assert [name for name, _ in columns] == list(found)
    for name, metric in expected.items():
        histogram = metric.pop("histogram")
        assert metric == pytest.approx({key: found[name][key] for key in metric})
        assert (None if histogram is None else sum(_counts(histogram))) == (
            None if histogram is None else sum(_counts(found[name]["histogram"]))
        )


def _counts(histogram):
    return histogram.get("counts") or [entry["count"] for entry in histogram["values"]]


def test_numbers_that_are_none_count_as_nulls(store, tmp_path):
    """NaN and infinities are no values, a column of nulls has its rows counted, and of lists only nulls are counted."""
    more = {
        "x": [1.0, float("nan"), float("inf"), 3.0],
        "void": pa.nulls(4, pa.float64()),
        "list": pa.array([[1.0], None, [2.0], []]),
    }
    write(tmp_path / "repo/t.parquet", trips(*[(n, n, n) for n in range(4)], **more))
    found = figures(store, source("t.parquet"), ("x", "numeric"), ("void", "numeric"), ("list", "numeric"))

    assert (4, 2, 2.0) == tuple(found["x"][name] for name in ("row_count", "null_count", "mean"))
    assert (4, 4, 1.0, None) == tuple(found["void"][name] for name in ("row_count", "null_count", "null_rate", "mean"))
    assert (4, 1, None) == tuple(found["list"][name] for name in ("row_count", "null_count", "mean"))


def test_figures_of_an_interval_without_rows_are_empty(store, tmp_path):
    """Where nothing is in the interval, there are figures of no rows, and of an empty source no newest event."""
    write(tmp_path / "repo/t.parquet", trips((1, None, 10)))
    found = figures(store, source("t.parquet"), ("trips", "numeric"), start=NOON)

    assert (0, 0, 0.0) == tuple(found["trips"][name] for name in ("row_count", "null_count", "null_rate"))
    assert offline_of(store).get_monitoring_max_timestamp(store.config, source("t.parquet"), "event_timestamp") is None


def test_columns_that_the_source_maps_are_found(store, tmp_path):
    """Feast's service says a view's names, and the source's columns behind them are read."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10), (1, 1, 30)).rename_columns(["driver_id", "at", "n"]))
    store.apply([DRIVER, view(source("t.parquet", field_mapping={"n": "trips", "at": "event_timestamp"}))])
    found = MonitoringService(store).compute_transient("rides", "trips", start_date=NOON.date(), end_date=NOON.date())

    assert [("trips", 20.0)] == [(metric["feature_name"], metric["mean"]) for metric in found["metrics"]]


def test_logs_are_monitored(store, tmp_path):
    """The figures of a service's logs come from what was logged, partitioned or not, under the view's own names."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    trips_view = view(source("t.parquet"))
    destination = FileLoggingDestination(path="logs", partition_by=["__log_date"])
    store.apply([DRIVER, trips_view, FeatureService(name="rides", features=[trips_view], logging_config=LoggingConfig(destination=destination))])  # fmt: skip
    logs = pa.table(
        {
            "driver_id": [1, 2],
            "trips__trips": [10, 30],
            "__log_timestamp": [hours(0), hours(1)],
            "__log_date": [NOON.date()] * 2,
        }
    )
    store.write_logged_features(logs, store.get_feature_service("rides"))
    service = MonitoringService(store)
    service.auto_compute_log_metrics()
    (found,) = service.get_feature_metrics("rides", granularity="daily", data_source_type="log")

    assert ("trips", "trips", 20.0) == (found["feature_view_name"], found["feature_name"], found["mean"])
    assert hours(1).isoformat() == found["max_event_timestamp"]


def test_a_new_baseline_takes_the_place_of_the_old_one(store, tmp_path):
    """Clearing marks the kept figures of a view as no baseline, and of no other view."""
    write(tmp_path / "repo/t.parquet", trips((1, 0, 10)))
    store.apply([DRIVER, view(source("t.parquet")), view(source("t.parquet"), name="other")])
    service = MonitoringService(store)
    service.compute_baseline()
    offline_of(store).clear_monitoring_baseline(store.config, "rides", feature_view_name="trips")

    assert ["other"] == [row["feature_view_name"] for row in service.get_baseline("rides")]


def _keep(config, number):
    metric = {"project_id": "p", "feature_view_name": "v", "feature_name": f"f{number}", "metric_date": NOON.date()}
    AsOfOfflineStore.save_monitoring_metrics(
        config, "feature", [{**metric, "granularity": "daily", "data_source_type": "batch"}]
    )


def test_writers_at_once_lose_no_figures(store, tmp_path):
    """Those who keep figures at the same time take turns: all of them are there."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: _keep(store.config, number), range(12)))
    kept = offline_of(store).query_monitoring_metrics(store.config, "p", "feature")

    assert sorted(f"f{number}" for number in range(12)) == sorted(row["feature_name"] for row in kept)


def test_a_write_that_fails_leaves_the_kept_figures(store, tmp_path, monkeypatch):
    """Figures are written beside the file that has the others, and only what is whole takes its place."""
    _keep(store.config, 1)
    file = tmp_path / "repo/feast_monitoring/feast_monitoring_feature_metrics.parquet"
    before = file.read_bytes()

    def torn(_table, path):
        path = str(path)
        with open(path, "wb") as half:  # noqa: PTH123 - as Parquet's writer does
            half.write(before[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", torn)
        with pytest.raises(KeyboardInterrupt):
            _keep(store.config, 2)

    assert before == file.read_bytes()
    assert [".lock", file.name] == sorted(entry.name for entry in file.parent.iterdir())
