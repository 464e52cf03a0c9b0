"""The metrics of a real server: counts that add up over workers, their deaths and their stops, and alarms."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from faults.repos import make_repo, store_rows
from hindcast.catalog import read_repo
from hindcast.materialize.ledger import Ledger
from hindcast.materialize.runs import Outcome
from hindcast.serving.families import FAMILIES
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest
from hindcast.v1.value_pb2 import Value
from integration.crowded_repo import make_crowded_repo
from integration.wrong_bytes import ride_inputs
from ledgers import ended, new_run, record
from scrapes import RUN_WITH, metrics_url, scrape
from services import run_hindcast, wait_for

SERVICE, METHOD = "hindcast.v1.FeatureService", "GetOnlineFeatures"
LOOKUP = f"/{SERVICE}/{METHOD}"
STATUSES = ("present", "null", "missing", "stale")
LOOKUP_BYTES = 100
"""What Redis is sent for a lookup is 102 bytes, and 14 for a PING of each worker now and then."""
SERIES_MAX = 1500
"""Of two workers whose every RPC was called, with a few views. Most are buckets."""


@pytest.fixture
def redis(redis_server):
    """A Redis with the row of driver 1."""
    store_rows(redis_server.connection_string, "driver", [(Value(int64_val=1), {"trips": Value(int64_val=10)})])
    return redis_server


@pytest.fixture
def repo(tmp_path, redis):
    """A repo on that Redis."""
    return make_repo(tmp_path / "repo", redis.connection_string)


@pytest.fixture
def server(repo):
    """A server of two workers with metrics."""
    with run_hindcast(repo, "--workers", "2", "--timeout-ms", "200", *RUN_WITH) as server:
        yield server


def request(service="ride"):
    """A lookup of driver 1."""
    asked = GetOnlineFeaturesRequest(feature_service=service)
    asked.entities["driver_id"].val.add(int64_val=1)
    return asked.SerializeToString()


def call(server, payload=b"", method=LOOKUP, timeout=10.0):
    """Call on a connection of its own, so that calls meet both workers; the code."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options) as channel:
        try:
            channel.unary_unary(method)(payload, timeout=timeout)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def handled(url, **labels):
    """How many lookups have ended."""
    return scrape(url).value("grpc_server_handled_total", grpc_service=SERVICE, grpc_method=METHOD, **labels)


def has_handled(url, number):
    """Wait until that many have ended and were written out."""
    wait_for(lambda: handled(url) >= number, what=f"{number} calls in the metrics")
    assert number == handled(url)


def test_counts_of_both_workers_add_up_to_the_calls(server):
    """Every call is counted once, whichever worker answers it, in each of the metrics of calls."""
    url = metrics_url(server)
    with ThreadPoolExecutor(8) as pool:
        assert {grpc.StatusCode.OK} == set(pool.map(lambda _: call(server, request()), range(200)))
    has_handled(url, 200)
    wait_for(lambda: scrape(url).value("grpc_server_handling_seconds_count", grpc_service=SERVICE) == 200)
    seen = scrape(url)

    labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": METHOD}
    for name in ("grpc_server_started_total", "grpc_server_msg_received_total", "grpc_server_msg_sent_total"):
        assert 200 == seen.value(name, **labels)
    assert 200 == seen.value("grpc_server_handled_total", **labels, grpc_code="OK")
    assert 200 == seen.value("grpc_server_handling_seconds_bucket", **labels, le="+Inf")
    assert 0 < seen.value("grpc_server_handling_seconds_sum", **labels)
    assert 200 == seen.value("feast_feature_server_request_total", endpoint="/get-online-features", status="success")
    assert 200 == seen.value("feast_feature_server_request_latency_seconds_count", endpoint="/get-online-features")
    assert 200 == seen.value("feast_feature_server_online_store_read_duration_seconds_count")
    assert 0 == seen.value("hindcast_in_flight_calls")
    assert 0 < seen.value("hindcast_event_loop_lag_seconds_count")


def test_calls_are_counted_by_how_they_end(server, redis):
    """Each call is counted under the code that its caller got, also where nobody waited for it."""
    url = metrics_url(server)
    expected = {
        "NotFound": call(server, request("nothing")),
        "InvalidArgument": call(server, b"\xff"),
        "OK": call(server, request()),
    }
    redis.pause()
    # The server's deadline: a caller's own is over for the caller first, who then is one that goes.
    expected["DeadlineExceeded"] = call(server, request(), timeout=None)
    with grpc.insecure_channel(server.address) as channel:
        waiting = channel.unary_unary(LOOKUP).future(request(), timeout=30)
        wait_for(lambda: redis.unread_bytes() >= 2 * LOOKUP_BYTES, what="a lookup that waits")
        waiting.cancel()
        # A worker that hears of both at once may take the end of Redis first.
        wait_for(lambda: handled(url, grpc_code="Canceled") == 1, what="the end of a lookup that nobody waits for")
    redis.kill()
    expected["Unavailable"] = call(server, request())
    has_handled(url, 6)

    assert ["NOT_FOUND", "INVALID_ARGUMENT", "OK", "DEADLINE_EXCEEDED", "UNAVAILABLE"] == [
        code.name for code in expected.values()
    ]
    assert {**dict.fromkeys(expected, 1), "Canceled": 1} == {
        code: handled(url, grpc_code=code) for code in (*expected, "Canceled")
    }
    requests = {"endpoint": "/get-online-features"}
    assert 5 == scrape(url).value("feast_feature_server_request_total", **requests, status="error")
    assert 0 == scrape(url).value("hindcast_in_flight_calls")


def test_values_are_counted_by_view_and_status_and_transforms_by_mode(tmp_path, redis):
    """A lookup leaves what it read of each view, how old that was, and what it computed."""
    repo = make_crowded_repo(tmp_path / "repo", redis.connection_string)
    asked = GetOnlineFeaturesRequest()
    asked.feature_list.refs.extend(["driver:trips", "fare:price"])
    asked.entities["driver_id"].val.extend([Value(int64_val=1), Value(int64_val=2), Value()])
    for name, values in ride_inputs().items():
        asked.request_data[name].val.extend(values * 3)
    with run_hindcast(repo, *RUN_WITH) as server:
        url = metrics_url(server)
        assert grpc.StatusCode.OK == call(server, asked.SerializeToString())
        wait_for(lambda: handled(url) == 1, what="the call in the metrics")
        seen = scrape(url)

    counts = {
        status: seen.value("hindcast_online_values_total", feature_view="driver", status=status) for status in STATUSES
    }
    assert {"present": 1, "null": 0, "missing": 2, "stale": 0} == counts
    assert 1 == seen.value("hindcast_value_age_seconds_count", feature_view="driver")
    transform = "feast_feature_server_transformation_duration_seconds_count"
    assert 1 == seen.value(transform, odfv_name="fare", mode="python")
    assert 3 == seen.value("feast_online_features_entity_count_sum")


def test_a_killed_worker_takes_no_count_with_it(server, redis):
    """After kill -9 of every worker, what was written out is still counted, once, and counting goes on."""
    url = metrics_url(server)
    for _ in range(20):
        call(server, request())
    has_handled(url, 20)
    redis.pause()
    with grpc.insecure_channel(server.address) as channel:
        waiting = channel.unary_unary(LOOKUP).future(request(), timeout=30)
        wait_for(lambda: scrape(url).value("hindcast_in_flight_calls") == 1)
        for worker in server.worker_ids():
            os.kill(worker, signal.SIGKILL)
        assert waiting.exception() is not None
        wait_for(lambda: scrape(url).value("hindcast_worker_restarts_total", reason="died") == 2)
    redis.resume()
    wait_for(lambda: scrape(url).value("hindcast_workers") == 2)
    has_handled(url, 20)
    assert 0 == scrape(url).value("hindcast_in_flight_calls")
    assert 21 == scrape(url).value("grpc_server_started_total", grpc_method=METHOD)
    for _ in range(20):
        call(server, request())

    has_handled(url, 40)
    assert {"0", "1"} == scrape(url).labels("hindcast_worker_catalog_info", "slot")


def test_metrics_are_there_while_no_worker_is(server):
    """The address answers while all workers are stopped in their tracks."""
    url = metrics_url(server)
    workers = server.worker_ids()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        assert 2 == scrape(url).value("hindcast_workers_wanted")
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def test_scrapes_under_load_never_fail_and_never_go_back(server):
    """While calls are answered every scrape can be read, and no count is lower than in the scrape before."""
    url = metrics_url(server)
    done = threading.Event()

    def load():
        calls = 0
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            lookup = channel.unary_unary(LOOKUP)
            while not done.is_set():
                lookup(request(), timeout=10)
                calls += 1
        return calls

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load) for _ in range(4)]
        seen = [scrape(url) for _ in range(40)]
        done.set()
        made = sum(future.result() for future in running)

    for before, after in pairwise(seen):
        assert [] == [
            series
            for series, value in before.samples.items()
            if series[0].endswith(("_total", "_bucket", "_count")) and after.samples[series] < value
        ]
    has_handled(url, made)


def test_series_are_few_and_callers_make_none(server):
    """Unknown methods, names that callers make up, and random bytes add no series; all series together are bounded."""
    url = metrics_url(server)
    for service in ("hindcast.v1.FeatureService", "feast.serving.ServingService", "GrpcFeatureServer"):
        for method in ("GetOnlineFeatures", "GetServerInfo", "GetFeastServingInfo", "Push", "WriteToOnlineStore"):
            call(server, request("nothing"), method=f"/{service}/{method}")
    call(server, request())
    # Of these sixteen calls, those of methods that there are; each worker writes its own counts out.
    wait_for(lambda: scrape(url).value("grpc_server_handled_total") == 8)
    wait_for(lambda: scrape(url).value("hindcast_in_flight_calls") == 0)
    before = scrape(url)
    for number in range(50):
        call(server, request(f"made-up-{number}"))
        call(server, request(), method=f"/{SERVICE}/MadeUp{number}")
        call(server, request(), method=f"/made.up.Service{number}/{METHOD}")
    wait_for(lambda: handled(url, grpc_code="NotFound") == 51)

    assert set(before.samples) == set(scrape(url).samples)
    assert len(before.samples) < SERIES_MAX
    assert before.names() <= {family.name + end for family in FAMILIES for end in ("", "_bucket", "_sum", "_count")}


def test_a_torn_registry_raises_the_alarm_until_it_is_whole(server, repo):
    """The alarm is 1 while the registry is not taken, and 0 again when it is mended; the catalog stays."""
    url = metrics_url(server)
    registry = repo / "registry.db"
    whole = registry.read_bytes()
    (version,) = scrape(url).labels("hindcast_catalog_info", "version")
    assert 0 == scrape(url).value("hindcast_registry_problem")
    registry.write_bytes(b"")
    wait_for(lambda: scrape(url).value("hindcast_registry_problem") == 1)
    assert {version} == scrape(url).labels("hindcast_worker_catalog_info", "version")
    registry.write_bytes(whole)
    wait_for(lambda: scrape(url).value("hindcast_registry_problem") == 0)

    assert {version} == scrape(url).labels("hindcast_catalog_info", "version")
    assert 0 == scrape(url).value("hindcast_catalog_reloads_total")


def test_a_new_catalog_is_shown_for_the_server_and_each_worker(server, repo):
    """After a reload the new version is shown alone, by both workers, with a young age, and the reload is counted."""
    from hindcast.shadow.v1.registry_pb2 import Registry  # noqa: PLC0415 - for this test only

    url = metrics_url(server)
    (before,) = scrape(url).labels("hindcast_catalog_info", "version")
    changed = Registry.FromString((repo / "registry.db").read_bytes())
    view = changed.feature_views[0]
    view.spec.features.add(name="fresh", value_type=4)
    view.meta.materialization_intervals.add().end_time.GetCurrentTime()
    (repo / "registry.db").write_bytes(changed.SerializeToString())
    wait_for(lambda: scrape(url).value("hindcast_catalog_reloads_total") == 1)
    wait_for(lambda: before not in scrape(url).labels("hindcast_worker_catalog_info", "version"))
    seen = scrape(url)

    (after,) = seen.labels("hindcast_catalog_info", "version")
    assert {after} == seen.labels("hindcast_worker_catalog_info", "version")
    assert {"0", "1"} == seen.labels("hindcast_worker_catalog_info", "slot")
    assert 10 > seen.value("hindcast_catalog_age_seconds")
    assert {"driver"} == seen.labels("feast_feature_freshness_seconds", "feature_view")
    assert 0 < seen.value("feast_feature_freshness_seconds", project="tiny") < 10


def test_a_drain_is_counted_to_its_end(repo, redis):
    """A call that ends while its worker drains is counted."""
    with run_hindcast(repo, *RUN_WITH) as server:
        url = metrics_url(server)
        (worker,) = server.worker_ids()
        redis.pause()
        with grpc.insecure_channel(server.address) as channel:
            waiting = channel.unary_unary(LOOKUP).future(request(), timeout=30)
            wait_for(lambda: scrape(url).value("hindcast_in_flight_calls") == 1)
            os.kill(worker, signal.SIGTERM)
            redis.resume()
            waiting.exception()
        wait_for(lambda: scrape(url).value("hindcast_worker_restarts_total") == 1)

        has_handled(url, 1)


def ledger_of(repo):
    """The repo's ledger."""
    return Ledger.of_repo(read_repo(repo))


def runs_that(url, outcome):
    """How many runs are shown that ended so."""
    return scrape(url).value("hindcast_materialize_runs_total", outcome=outcome)


def test_runs_are_shown_as_the_ledger_has_them(server, repo):
    """What a run recorded is in the next scrape, runs of a killed process count as interrupted, other projects' not at all."""
    url, ledger = metrics_url(server), ledger_of(repo)
    assert set() == scrape(url).labels("hindcast_materialize_runs_total", "feature_view")
    done = record(ledger, new_run(), rows_written=5, rows_quarantined=2)
    record(Ledger(ledger.path, project="another"), new_run("platform", project="another"))
    wait_for(lambda: runs_that(url, "succeeded") == 1)
    seen = scrape(url)
    assert {"driver"} == seen.labels("hindcast_materialize_runs_total", "feature_view")
    assert pytest.approx(done.ended_at.timestamp()) == seen.value(
        "hindcast_materialize_last_success_timestamp_seconds", feature_view="driver"
    )
    assert 0 < seen.value("hindcast_materialize_freshness_seconds", feature_view="driver") < 60
    assert 2.5 == seen.value("hindcast_materialize_duration_seconds", feature_view="driver")
    assert 5 == seen.value("hindcast_materialize_rows", feature_view="driver", outcome="written")
    assert 2 == seen.value("hindcast_materialize_rows", feature_view="driver", outcome="quarantined")
    running = new_run()
    ledger.begin(running)
    assert 0 == runs_that(url, "interrupted")
    ledger.begin(replace(new_run(), process=replace(running.process, started_seconds=0.0)))
    wait_for(lambda: runs_that(url, "interrupted") == 1)
    ledger.end(ended(running, Outcome.FAILED))
    wait_for(lambda: runs_that(url, "failed") == 1)
    assert 1 == runs_that(url, "succeeded")


def test_a_broken_ledger_is_a_line_in_the_log_and_no_more(server, repo):
    """While the ledger cannot be read its metrics are absent and all else goes on; they are back when it is mended."""
    url, ledger = metrics_url(server), ledger_of(repo)
    record(ledger, new_run())
    wait_for(lambda: runs_that(url, "succeeded") == 1)
    torn = ledger.path / "_delta_log" / f"{99:020d}.json"
    torn.write_text("{")
    wait_for(lambda: runs_that(url, "succeeded") == 0)
    seen = scrape(url)
    assert [] == [name for name in seen.names() if name.startswith("hindcast_materialize")]
    assert 2 == seen.value("hindcast_workers")
    assert grpc.StatusCode.OK == call(server, request())
    told = [line for line in server.output if "there are no metrics of materialization" in line]
    assert 1 == len(told)
    assert f"the run ledger {ledger.path} is damaged" in told[0]
    torn.unlink()
    wait_for(lambda: runs_that(url, "succeeded") == 1)


def test_no_process_of_a_server_loads_a_delta_reader(server, repo):
    """Neither the supervisor, which shows what the ledger holds, nor a worker has deltalake or pyarrow in its memory."""
    url = metrics_url(server)
    record(ledger_of(repo), new_run())
    wait_for(lambda: runs_that(url, "succeeded") == 1)
    for process_id in (server.process.pid, *server.worker_ids()):
        maps = Path(f"/proc/{process_id}/maps").read_text()
        assert "python" in maps
        assert [] == [library for library in ("deltalake", "pyarrow") if library in maps]


def test_an_address_in_use_stops_the_start(server, repo):
    """A metrics address that is taken is an error before any worker starts, with exit code 1."""
    taken = metrics_url(server).split("/")[2]
    with pytest.raises(AssertionError, match=f"--metrics-address: {taken} cannot be listened on"):
        run_hindcast(repo, "--metrics-address", taken).__enter__()


def test_nothing_is_exposed_unless_asked_for(repo):
    """Without the option no worker counts and no port is opened."""
    with run_hindcast(repo) as server:
        assert grpc.StatusCode.OK == call(server, request())
        assert [] == [line for line in server.output if "metrics" in line]
