"""What a worker counts, the files it counts into, and how they are shown."""

import contextlib
import errno
import os
import random
import re
import shutil
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from hindcast.catalog import Catalog
from hindcast.errors import ServerStartError
from hindcast.lookups.writer import LogCounters
from hindcast.materialize.process import RunProcess
from hindcast.materialize.summary import LastRun, ViewSummary
from hindcast.serving import exposition, metrics
from hindcast.serving.exposition import exposed
from hindcast.serving.families import AGE_SECONDS, FAMILIES, LATENCY_SECONDS, VALUE_AGE, Kind
from hindcast.serving.fleet import Fleet
from hindcast.serving.instruments import LABEL_SETS_MAX, OTHER
from hindcast.serving.materialized import LedgerWatch
from hindcast.serving.metric_file import MetricFile, forget_live_gauges, number_key
from hindcast.serving.metrics import Metrics, WorkerMetrics
from scrapes import ask, scrape
from services import wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ALL_THERE = bytes([1, 1, 1, 1, 1])


LOG = LogCounters(
    written=9,
    synced=4,
    lost=2,
    at_risk=1,
    unsynced=3,
    waiting=1,
    written_bytes=900,
    last_sequence=11,
    alarm=True,
)
CATALOG = Catalog("p", "sha256:1", "0.67.0", {"v": None, "new": None}, {}, {}, {}, {})


@dataclass
class Registry:
    """What `/metrics` asks of a registry's watch."""

    catalog: Catalog = CATALOG
    problem: str = ""
    materialized: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def fleet():
    return Fleet(wanted=2)


@pytest.fixture
def registry():
    return Registry()


@contextlib.contextmanager
def exposing(caplog, address="127.0.0.1:0", **told):
    """Expose metrics; the folder for workers' files, and the URL that the log names."""
    caplog.clear()
    with caplog.at_level("INFO"), exposed(address, **told) as folder:
        (url,) = [line.split("metrics on ")[1] for line in caplog.messages if "metrics on" in line]
        yield folder, url


@pytest.fixture
def ledger(tmp_path):
    """What was read of a ledger that has not changed since: a run of each view that ended and one whose process is gone."""
    watch = LedgerWatch(tmp_path / "runs", project="p")
    last = LastRun(seconds=2.5, rows={"written": 4, "older": 3, "keyless": 2, "quarantined": 1})
    gone = replace(RunProcess.this(), started_seconds=0.0)
    elsewhere = replace(gone, host="another")
    runs = {"succeeded": 7, "failed": 1}
    watch._summary = {
        name: ViewSummary(
            last_success=1_700_000_000.5, fresh_until=time.time() - 60, last=last, runs=runs, running=(gone, elsewhere)
        )
        for name in ("v", "defined no more")
    }
    watch._summary["new"] = ViewSummary(last_success=None, fresh_until=None, last=None, runs={}, running=(elsewhere,))
    return watch


@pytest.fixture
def shown(fleet, registry, ledger, caplog):
    """The folder for workers' files, and a function that scrapes what they hold."""
    with exposing(caplog, fleet=fleet, registry=registry, ledger=ledger) as (folder, url):
        yield folder, lambda: scrape(url)


@contextlib.contextmanager
def counting(folder, slot=0):
    """A worker's metrics, written out at the end."""
    worker = WorkerMetrics(folder, slot=slot)
    try:
        yield worker
        worker.flush()
    finally:
        worker._instruments.close()


def use_all(worker):
    """Let everything happen once that a worker can tell."""
    worker.counted("s", "GetOnlineFeatures", None)
    worker.lookup_asked(rows=3)
    worker.store_waited(0.0003)
    worker.rows_read("v", [bytes([1, 1, 1, 1, 3]), bytes([2, 2, 2, 4, 3])], columns=2, oldest_age_seconds=70.0)
    worker.transformed("odv", "python", 0.01)
    worker.push_taken("source", "online")
    worker.rows_pushed("v", "written", 7)
    worker.call_shed("in_flight")
    worker.call_expired()
    worker.loop_lagged(0.002)
    worker.watch_cost(lambda: 12, limit=100)
    worker.lookup_sampled_out()
    worker.watch_log(lambda: LOG)


def test_a_file_holds_what_prometheus_client_reads(tmp_path):
    """Prometheus's client reads every number that was written, also after the file has grown and was opened again."""
    path, expected = tmp_path / "counter_0.db", {}
    for first in (0, 500):
        file = MetricFile(path)
        for number in range(first, first + 500):
            key = number_key("m", "m_total", {"label": "ä" * (number % 9), "n": str(number)}, "Meaning")
            file.set(file.position("m", key), number)
            file.add(file.position("m", key), 0.5)
            expected[key] = number + 0.5
        file.close()

    assert path.stat().st_size > 1 << 16
    assert expected == {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))}


def test_a_file_goes_on_where_prometheus_client_stopped(tmp_path):
    """A file that Prometheus's own client wrote is gone on with, under the same keys."""
    path = tmp_path / "counter_0.db"
    own = MmapedDict(str(path))
    key = mmap_key("m", "m_total", ["b", "a"], ["2", "1"], "Meaning")
    own.write_value(key, 3.0, 0.0)
    own.close()
    file = MetricFile(path)
    assert key == number_key("m", "m_total", {"a": "1", "b": "2"}, "Meaning")
    assert key in file
    file.add(file.position("m", key), 1)
    file.close()

    assert [(key, 4.0)] == [(key, value) for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))]


def test_a_reader_never_meets_half_a_file(tmp_path):
    """A file has its size when it gets the name that readers look for, also after a maker that was killed."""
    (tmp_path / "counter_0.new").touch()
    MetricFile(tmp_path / "counter_0.db").close()

    assert ["counter_0.db"] == [path.name for path in tmp_path.iterdir()]
    assert [] == list(MmapedDict.read_all_values_from_file(str(tmp_path / "counter_0.db")))


def test_workers_of_two_slots_add_up(shown):
    """Counts of all slots are summed, bucket by bucket."""
    folder, look = shown
    for slot in (0, 1):
        with counting(folder, slot) as worker:
            use_all(worker)
    seen = look()

    assert 2 == seen.value("hindcast_calls_shed_total", reason="in_flight")
    assert 14 == seen.value("hindcast_pushed_rows_total", feature_view="v", outcome="written")
    assert 24 == seen.value("hindcast_in_flight_cost")
    read = "feast_feature_server_online_store_read_duration_seconds"
    assert [0, 2, 2, 2] == [seen.value(f"{read}_bucket", le=bound) for bound in ("0.0002", "0.0003", "0.001", "+Inf")]
    assert 2 == seen.value(f"{read}_count")
    assert pytest.approx(0.0006) == seen.value(f"{read}_sum")


def test_views_are_counted_as_feast_counts_them_and_finer(shown):
    """To Feast a value is present if its row is there; we tell null and stale ones apart."""
    folder, look = shown
    with counting(folder) as worker:
        worker.rows_read("v", [bytes([1, 1, 1, 1, 3]), bytes([2, 2, 2, 4, 3])], columns=2, oldest_age_seconds=70.0)
        worker.rows_read("v", [bytes([3])], columns=5, oldest_age_seconds=None)
    seen, feast = look(), "feast_online_features_status_total"

    assert (8, 7) == tuple(seen.value(feast, feature_view="v", status=status) for status in ("present", "not_found"))
    counts = {"present": 4, "null": 3, "missing": 7, "stale": 1}
    assert counts == {status: seen.value("hindcast_online_values_total", status=status) for status in counts}
    ages = [
        seen.value("hindcast_value_age_seconds_bucket", feature_view="v", le=le) for le in ("60.0", "300.0", "+Inf")
    ]
    assert [0, 1, 1] == ages


def test_what_a_log_counts_grows_by_what_is_new(shown):
    """The totals of a log are written out as they grow, over workers, and its present only of the workers that live."""
    folder, look = shown
    told = [LOG, LOG, replace(LOG, written=15, written_bytes=1500, synced=15, unsynced=0, alarm=False)]
    with counting(folder) as worker, counting(folder, 1) as other:
        other.watch_log(lambda: LOG)
        worker.watch_log(lambda: told[0])
        for _ in range(3):
            worker.flush()
            other.flush()
        first = look()
        del told[:2]
        worker.flush()
        second = look()

    names = ("records", "bytes", "synced", "lost")
    totals = [[seen.value(f"hindcast_lookup_log_{name}_total") for name in names] for seen in (first, second)]
    assert [[18, 1800, 8, 4], [24, 2400, 19, 4]] == totals
    assert [2, 1] == [seen.value("hindcast_lookup_log_alarm") for seen in (first, second)]


def test_the_wait_for_a_sync_is_that_of_the_worker_furthest_behind(shown):
    """While records wait, seconds since the last sync are shown, of all workers the most; else nothing."""
    folder, look = shown
    told = {0: replace(LOG, unsynced=0), 1: LOG}
    with counting(folder) as idle, counting(folder, 1) as behind:
        idle.watch_log(lambda: told[0])
        behind.watch_log(lambda: told[1])
        idle.flush()
        behind.flush()
        began = time.monotonic()

        def seconds():
            behind.flush()
            return look().value("hindcast_lookup_log_unsynced_seconds")

        wait_for(lambda: seconds() > 0.02, what="the wait to grow")
        assert seconds() <= time.monotonic() - began + 0.5
        told[1] = replace(LOG, synced=7, unsynced=0)
        assert 0 == seconds()


def test_a_successor_in_the_slot_counts_on(shown):
    """A worker that takes over a slot adds to what the last one had flushed, and to no less and no more."""
    folder, look = shown
    for _ in range(3):
        worker = WorkerMetrics(folder, slot=0)
        use_all(worker)
        worker.flush()
        worker.flush()
        worker.lookup_asked(rows=1)  # is lost: no flush comes after it
        worker._instruments.close()
    seen = look()

    assert 3 == seen.value("feast_online_features_request_total")
    assert 3 == seen.value("feast_online_features_entity_count_count")
    assert 9 == seen.value("feast_online_features_entity_count_sum")


def test_the_present_of_a_dead_worker_is_forgotten_and_its_counts_are_not(shown):
    """Gauges of a worker that has ended vanish, while what it counted stays."""
    folder, look = shown
    for slot in (11, 1):
        with counting(folder, slot) as worker:
            use_all(worker)
    forget_live_gauges(folder, 11)

    assert 12 == look().value("hindcast_in_flight_cost")
    assert 2 == look().value("hindcast_calls_expired_total")


def test_names_without_bound_share_one_series(shown):
    """Beyond the limit all further views are counted together, and a successor keeps to the same limit."""
    folder, look = shown
    names = [f"view_{number}" for number in range(LABEL_SETS_MAX + 20)]
    for _ in range(2):
        with counting(folder) as worker:
            for name in names:
                worker.rows_pushed(name, "written", 1)
        random.shuffle(names)
    seen = look()

    assert LABEL_SETS_MAX + 1 == len(seen.labels("hindcast_pushed_rows_total", "feature_view"))
    assert 40 == seen.value("hindcast_pushed_rows_total", feature_view=OTHER, outcome=OTHER)
    assert 2 * len(names) == seen.value("hindcast_pushed_rows_total")


def test_a_full_file_system_loses_no_count(shown, monkeypatch, caplog):
    """Where files cannot grow, the log says so once, and everything is written when they can."""
    folder, look = shown

    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with counting(folder) as worker:
        use_all(worker)
        with monkeypatch.context() as patched:
            patched.setattr(os, "posix_fallocate", full)
            worker.flush()
            worker.flush()
        use_all(worker)

    assert 1 == sum("No space left" in record.getMessage() for record in caplog.records)
    assert 2 == look().value("feast_online_features_request_total")
    assert 2 == look().value("feast_online_features_entity_count_count")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.bounds], ids=lambda family: family.name)
def test_buckets_rise(family):
    """The bounds of a histogram rise, and each is met by an observation that is equal to it."""
    assert sorted(set(family.bounds)) == list(family.bounds)


def test_an_observation_is_in_the_first_bucket_that_is_not_below_it(shown):
    """A bucket holds what is less than or equal to its bound, as Prometheus has it."""
    folder, look = shown
    with counting(folder) as worker:
        for bound in AGE_SECONDS:
            worker.rows_read("v", [ALL_THERE], columns=1, oldest_age_seconds=bound)
    seen = look()

    assert list(range(1, len(AGE_SECONDS) + 1)) == [
        seen.value(f"{VALUE_AGE.name}_bucket", le=floatToGoString(bound)) for bound in AGE_SECONDS
    ]


def test_latency_is_told_apart_by_a_tenth_of_a_millisecond():
    """Up to a millisecond a bucket is 0.1 ms wide, and every bound of Feast's is one of ours."""
    feast = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0}
    assert {number / 10_000 for number in range(1, 11)} <= set(LATENCY_SECONDS)
    assert feast <= set(LATENCY_SECONDS)


def test_codes_are_spelled_as_in_go():
    """The label grpc_code has the spelling that dashboards of go-grpc-prometheus ask for."""
    go = (
        "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
        "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"
    )
    assert go.split() == [metrics._go_name(code) for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])]


def test_metrics_that_are_off_leave_a_handler_alone():
    """Without metrics a handler is itself, and everything can be told to no effect."""

    async def handler(request, context):
        return request

    assert handler is Metrics().counted("s", "m", handler)
    use_all(Metrics())


def test_every_metric_is_shown(shown, fleet, registry):
    """A server to which everything has happened shows every metric of the table, and no other."""
    folder, look = shown
    fleet.serves(0, process_id=os.getpid(), catalog_version="sha256:1")
    registry.materialized = {"v": time.time_ns() // 1000 - 5_000_000}
    with counting(folder) as worker:
        use_all(worker)
    seen = look()
    samples = {"": [family.name for family in FAMILIES if family.kind is not Kind.HISTOGRAM]}
    samples |= {
        end: [family.name for family in FAMILIES if family.kind is Kind.HISTOGRAM]
        for end in ("_bucket", "_sum", "_count")
    }

    assert {name + end for end, names in samples.items() for name in names} == seen.names()
    assert pytest.approx(5, abs=3) == seen.value("feast_feature_freshness_seconds", feature_view="v", project="p")
    assert 0 < seen.value("hindcast_worker_resident_memory_bytes", slot="0")


def test_runs_are_shown_by_view_and_outcome(shown):
    """Views that are defined show their last success, freshness, last run and runs by outcome; one without a success has none."""
    _, look = shown
    seen = look()
    assert {"v", "new"} == seen.labels("hindcast_materialize_runs_total", "feature_view")
    counts = {
        (view, outcome): seen.value("hindcast_materialize_runs_total", feature_view=view, outcome=outcome)
        for view in ("v", "new")
        for outcome in ("succeeded", "failed", "interrupted")
    }
    assert {
        ("v", "succeeded"): 7,
        ("v", "failed"): 1,
        ("v", "interrupted"): 1,
        ("new", "succeeded"): 0,
        ("new", "failed"): 0,
        ("new", "interrupted"): 0,
    } == counts
    for name in ("last_success_timestamp_seconds", "freshness_seconds", "duration_seconds", "rows"):
        assert {"v"} == seen.labels(f"hindcast_materialize_{name}", "feature_view")
    assert 1_700_000_000.5 == seen.value("hindcast_materialize_last_success_timestamp_seconds")
    assert pytest.approx(60, abs=5) == seen.value("hindcast_materialize_freshness_seconds")
    assert 2.5 == seen.value("hindcast_materialize_duration_seconds")
    rows = {
        outcome: seen.value("hindcast_materialize_rows", outcome=outcome)
        for outcome in ("written", "older", "keyless", "quarantined")
    }
    assert {"written": 4, "older": 3, "keyless": 2, "quarantined": 1} == rows


def test_every_metric_is_explained():
    """The page of metrics has a row for each, with its labels, and for no other."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", PAGE, re.MULTILINE)
    kinds = {Kind.COUNTER: "counter", Kind.HISTOGRAM: "histogram", Kind.GAUGE: "gauge", Kind.GREATEST: "gauge"}
    explained = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert {family.name: (kinds[family.kind], family.labels) for family in FAMILIES} == explained
    assert len(rows) == len(explained)


def test_openmetrics_is_given_to_those_who_ask(fleet, registry, caplog):
    """A client that accepts OpenMetrics gets it, with its end mark."""
    with exposing(caplog, fleet=fleet, registry=registry) as (_, url):
        _, headers, text = ask(url, accept="application/openmetrics-text; version=1.0.0")

    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "hindcast_workers_wanted 2.0\n" in text


def test_other_paths_are_not_found(fleet, registry, caplog):
    """Metrics are at one path, and nothing is at another."""
    with exposing(caplog, fleet=fleet, registry=registry) as (_, url):
        assert [200, 404, 404] == [ask(url + end)[0] for end in ("", "s", "/../")]


def test_an_address_of_ipv6_is_listened_on(fleet, registry, caplog):
    """An IPv6 host in brackets works, and is logged in brackets."""
    with exposing(caplog, "[::1]:0", fleet=fleet, registry=registry) as (_, url):
        assert url.startswith("http://[::1]:")
        assert 2 == scrape(url).value("hindcast_workers_wanted")


@pytest.mark.parametrize("address", ["9090", "127.0.0.1:x", "127.0.0.1:70000", "192.0.2.1:9090"])
def test_a_wrong_address_is_said_to_be_wrong(fleet, registry, address):
    """An address that is none, or is another machine's, is an error that names the option and the address."""
    with pytest.raises(ServerStartError, match="--metrics-address: .*" + re.escape(address)):
        exposed(address, fleet=fleet, registry=registry).__enter__()


def test_an_address_in_use_is_said_to_be_in_use(fleet, registry):
    """A port that somebody listens on is an error, and leaves no folder behind."""
    before = set(folders())
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ServerStartError, match=f"{address} cannot be listened on"):
            exposed(address, fleet=fleet, registry=registry).__enter__()
    assert before == set(folders())


def folders():
    """The folders of all servers of this machine."""
    return exposition._MEMORY.glob(f"{exposition._PREFIX}*")


def test_a_folder_is_in_memory_and_goes_with_its_server(fleet, registry):
    """The files are on no disk where the system has memory for them, readable for nobody else, and gone at the end."""
    with exposed("127.0.0.1:0", fleet=fleet, registry=registry) as folder:
        assert exposition._MEMORY == folder.parent
        assert 0o700 == folder.stat().st_mode & 0o777
    assert not folder.exists()


def test_a_folder_of_a_killed_server_is_removed_by_the_next(fleet, registry):
    """What a killed server left is removed, and what a living one holds or one has just made is not."""
    abandoned, young = (exposition._MEMORY / f"{exposition._PREFIX}test-{name}" for name in ("abandoned", "young"))
    try:
        for folder in (abandoned, young):
            folder.mkdir()
            (folder / "counter_0.db").touch()
        os.utime(abandoned, (1, 1))
        with exposed("127.0.0.1:0", fleet=fleet, registry=registry) as living:
            os.utime(living, (1, 1))
            with exposed("127.0.0.1:0", fleet=fleet, registry=registry):
                assert [False, True, True] == [folder.exists() for folder in (abandoned, young, living)]
    finally:
        for folder in (abandoned, young):
            shutil.rmtree(folder, ignore_errors=True)
