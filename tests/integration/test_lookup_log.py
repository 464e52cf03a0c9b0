"""The log of lookups of a real server: every way a lookup can end leaves a record that equals what its caller sent and saw."""

import contextlib
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from faults.repos import PROJECT, make_repo, registry, store_rows, views
from hindcast.catalog import KeyType, Logging, load_catalog, read_repo
from hindcast.clock import system_clock
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.record import Rpc, row_headers
from hindcast.online.keys import entity_key_bytes, key_value_bytes, row_key, view_prefix
from hindcast.shadow.v1 import registry_pb2 as pb
from hindcast.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
    StreamOnlineFeaturesRequest,
    StreamOnlineFeaturesResponse,
)
from hindcast.v1.value_pb2 import Value
from integration.crowded_repo import make_crowded_repo
from integration.request_rows import FEAST, FEAST_GRPC, HINDCAST, INFO, LOOKUPS, feast, hindcast, integer
from integration.wrong_bytes import ride_inputs
from integration.wrong_requests import ROWS
from logged import gaps, log_directory, record_id, record_of, records, wait_for_record
from scrapes import RUN_WITH, metrics_url, scrape
from services import HINDCAST as PROGRAM
from services import HindcastServer, RedisServer, run_hindcast, run_redis, wait_for

STREAM = "/hindcast.v1.FeatureService/StreamOnlineFeatures"
ID_KEY = "hindcast-lookup-id"
DRIVERS = 20
LOOKUP_BYTES = 100
"""What Redis is sent for a lookup of the service `ride` is 102 bytes, and 14 for a PING now and then."""
BY_METHOD = {HINDCAST: hindcast, FEAST: feast, FEAST_GRPC: feast}
RPCS = {HINDCAST: Rpc.HINDCAST, FEAST: Rpc.FEAST, FEAST_GRPC: Rpc.FEAST}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis in which driver n has n trips, and the platform a surge."""
    with run_redis() as redis:
        store_rows(
            redis.connection_string, "driver", [(integer(n), {"trips": integer(n)}) for n in range(1, DRIVERS + 1)]
        )
        store_rows(redis.connection_string, "platform", [(None, {"surge": Value(double_val=1.5)})])
        yield redis


@pytest.fixture(scope="module")
def repo(tmp_path_factory, redis) -> Path:
    """A repo with one of everything that can be asked for, on that Redis."""
    return make_crowded_repo(tmp_path_factory.mktemp("logged") / "repo", redis.connection_string)


@pytest.fixture(scope="module")
def server(repo) -> Iterator[HindcastServer]:
    """A server that no test harms."""
    # Its tests read segments, for longer than it may take until they are sealed.
    with run_hindcast(repo, "--seal-seconds", "0") as server:
        yield server


@pytest.fixture
def log(repo, server) -> Path:
    """Where that server logs."""
    return log_directory(repo)


@pytest.fixture
def small_repo(tmp_path, redis) -> Path:
    """A repo of the test's own, without on-demand views."""
    return make_repo(tmp_path / "repo", redis.connection_string)


def call(server: HindcastServer, method: str, request: bytes, **options) -> tuple[bytes, str]:
    """The answer of a unary call, and the id of its lookup."""
    with grpc.insecure_channel(server.address) as channel:
        answer, ended = channel.unary_unary(method).with_call(request, timeout=30, **options)
        return answer, dict(ended.trailing_metadata())[ID_KEY]


def fail(server: HindcastServer, method: str, request: bytes, **options) -> grpc.RpcError:
    """How a unary call fails."""
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(method)(request, **{"timeout": 30, **options})
    return error.value


def ask(method: str, features="everything", drivers=(1,), **more) -> bytes:
    """Asks for drivers, in the words of a method."""
    return BY_METHOD[method](features, {"driver_id": [integer(driver) for driver in drivers]}, **more)


def stored_header(redis: RedisServer, driver: int) -> bytes:
    """The header of a driver's row as Redis has it, without its flag of nulls."""
    (join_key,) = views()["driver"].join_keys
    key = entity_key_bytes((join_key.name,), (key_value_bytes(integer(driver), KeyType.INT64),))
    with redis.client() as client:
        stored = client.get(row_key(view_prefix(PROJECT, "driver"), key))
    return stored[:17] + b"\0" + stored[18:42]


@pytest.mark.parametrize("method", LOOKUPS)
def test_an_answer_leaves_its_record_before_it_leaves(server, log, repo, redis, method):
    """The record holds the bytes that were sent and received, when it was answered, from which definitions and which stored rows."""
    request = ask(method, drivers=(2, 999, 1, 2))
    began = system_clock()
    answer, lookup_id = call(server, method, request)
    record = record_of(log, lookup_id)

    assert (request, answer, RPCS[method]) == (record.request, record.response, record.rpc)
    assert began <= record.served_at_micros <= system_clock()
    assert (0, "", "", "batched") == (record.code, record.reason, record.message, record.mode)
    assert ("everything", []) == (record.service, record.refs)
    assert load_catalog(read_repo(repo)).version == record.catalog_version
    of_driver, of_platform = record.rows
    assert ("driver", "platform") == (of_driver.view, of_platform.view)
    two, one = stored_header(redis, 2), stored_header(redis, 1)
    assert two + bytes(42) + one + two == of_driver.headers
    assert [bytes(16)] * 4 == [header.run_id for header in row_headers(of_platform)]


@pytest.mark.parametrize("method", LOOKUPS)
def test_an_answer_of_many_rows_is_recorded_bit_for_bit(server, log, method):
    """An answer whose repetitions the log leaves out reads as it was sent, with missing rows and repeated ones too."""
    answer, lookup_id = call(server, method, ask(method, drivers=[*range(1, DRIVERS + 5), 1, 2] * 10))

    assert answer == record_of(log, lookup_id).response


def test_an_answer_of_our_own_says_the_instant_that_its_record_says(server, log):
    """`served_at` and the lookup's id are the same in the answer and in its record."""
    answer, lookup_id = call(server, HINDCAST, ask(HINDCAST))
    said = GetOnlineFeaturesResponse.FromString(answer)

    assert lookup_id == said.lookup_id
    assert said.served_at.ToMicroseconds() == record_of(log, lookup_id).served_at_micros


@pytest.mark.parametrize("method", LOOKUPS)
def test_references_are_recorded_as_they_were_asked_for(server, log, method):
    """A lookup of references has no service in its record, but the references in order."""
    refs = ["platform:surge", "driver:trips"]
    record = record_of(log, call(server, method, ask(method, refs))[1])

    assert ("", refs, ["platform", "driver"]) == (record.service, record.refs, [rows.view for rows in record.rows])


def test_an_alias_is_what_rows_are_recorded_under(server, log, redis):
    """Rows read for two aliases of one view are two entries, each with the rows of its own key."""
    request = feast("pair", {"first_id": [integer(1)], "second_id": [integer(2)]}, full=True)
    record = record_of(log, call(server, FEAST, request)[1])

    assert [("first", stored_header(redis, 1)), ("second", stored_header(redis, 2))] == [tuple(r) for r in record.rows]


def of_lookups():
    """The rows of the table of wrong requests that reach a lookup and fail."""
    for rows in ROWS.values():
        for row in rows:
            for method, request in row.calls:
                if method in LOOKUPS and row.refusal is not None and row.refusal.reason:
                    yield row, method, request


def test_every_wrong_request_leaves_its_record(server, log):
    """Whatever is wrong with a request, its record holds its bytes, and the code, the reason and the message that its caller saw."""
    seen = {}
    for row, method, request in of_lookups():
        error = fail(server, method, request, metadata=row.metadata)
        seen[dict(error.trailing_metadata())[ID_KEY]] = (
            request,
            RPCS[method],
            error.code().value[0],
            row.refusal.reason,
            error.details(),
        )
    recorded = {
        record_id(record): (record.request, record.rpc, record.code, record.reason, record.message)
        for record in records(log)
    }

    assert len(seen) > 300
    assert seen == {lookup_id: recorded[lookup_id] for lookup_id in seen}


def test_each_message_of_a_stream_leaves_its_record(server, log):
    """A streamed lookup has a record of its own with the messages as they went over the stream; a failure's has what its caller was told."""
    asked = [
        StreamOnlineFeaturesRequest(lookup=GetOnlineFeaturesRequest.FromString(ask(HINDCAST, drivers=(driver,))))
        for driver in (1, 2, 3)
    ]
    asked[1].lookup.feature_service = "nope"
    sent = [message.SerializeToString() for message in asked] + [b"\xff\xff"]
    with grpc.insecure_channel(server.address) as channel:
        answers = list(channel.stream_stream(STREAM)(iter(sent), timeout=30))
    for request, answer in zip(sent, answers, strict=True):
        said = StreamOnlineFeaturesResponse.FromString(answer)
        record = record_of(log, said.answer.lookup_id or said.failure.lookup_id)

        assert (request, Rpc.STREAM) == (record.request, record.rpc)
        failure = said.failure
        assert (failure.code, failure.reason, failure.message) == (record.code, record.reason, record.message)
        assert (b"" if failure.code else answer) == record.response
        assert said.answer.served_at.ToMicroseconds() in {0, record.served_at_micros}


def test_what_an_on_demand_view_was_given_is_recorded(server, log):
    """The inputs of its function, from the store and from the caller, are in the record value by value."""
    inputs = ride_inputs()
    answer, lookup_id = call(server, HINDCAST, hindcast(["fare:price"], {"driver_id": [integer(3)]}, inputs))
    record = record_of(log, lookup_id)

    assert answer == record.response
    wanted = {name: [value.SerializeToString() for value in column] for name, column in inputs.items()}
    wanted |= {name: [integer(3).SerializeToString()] for name in ("driver_id", "trips")}
    assert {"fare": wanted} == record.computed


@pytest.mark.parametrize(("view", "distance"), [("fare", 0.0), ("short", None), ("silent", None), ("wordy", None)])
def test_what_a_failing_on_demand_view_was_given_is_recorded(server, log, view, distance):
    """Where its function raises, or gives what it must not, the failure's record has the same inputs as an answer's."""
    inputs = {} if distance is None else {**ride_inputs(), "distance": [Value(double_val=distance)]}
    error = fail(server, HINDCAST, hindcast([f"{view}:price"], {"driver_id": [integer(3)]}, inputs))
    record = record_of(log, dict(error.trailing_metadata())[ID_KEY])

    assert ("TRANSFORM_FAILED", error.details(), b"") == (record.reason, record.message, record.response)
    wanted = {name: [value.SerializeToString() for value in column] for name, column in inputs.items()}
    wanted |= {name: [integer(3).SerializeToString()] for name in ("driver_id", "trips")}
    assert {view: wanted} == record.computed


METADATA = (
    ("x-request-id", "from-the-proxy"),
    ("hindcast-tag-model", "fraud"),
    ("hindcast-tag-model-version", "7"),
    ("hindcast-tag-skipped-bin", b"\xff"),
)


@pytest.mark.parametrize("method", LOOKUPS)
def test_request_id_and_tags_come_from_metadata(server, log, method):
    """On every service `x-request-id` and `hindcast-tag-<name>` are kept."""
    record = record_of(log, call(server, method, ask(method), metadata=METADATA)[1])

    assert ("from-the-proxy", {"model": "fraud", "model-version": "7"}) == (record.request_id, record.tags)


def test_calls_at_once_keep_their_own_metadata(server, log):
    """Of calls that wait side by side in one worker, each has its own request id, and one that says none has none."""
    with grpc.insecure_channel(server.address) as channel:
        look_up = channel.unary_unary(HINDCAST)
        said = {
            name: look_up.future(ask(HINDCAST), timeout=30, metadata=(("x-request-id", name),) if name else None)
            for name in ["", *(f"call-{number}" for number in range(64))]
        }
        kept = {name: record_of(log, dict(one.trailing_metadata())[ID_KEY]).request_id for name, one in said.items()}
    assert {name: name for name in said} == kept


def test_fields_of_a_request_come_before_metadata(server, log):
    """Where a request of our own says its id and tags, those are kept; of each that it does not say, the metadata's."""
    both = record_of(log, call(server, HINDCAST, ask(HINDCAST, request_id="r", tags={"a": "b"}), metadata=METADATA)[1])
    one = record_of(log, call(server, HINDCAST, ask(HINDCAST, request_id="r"), metadata=METADATA)[1])

    assert ("r", {"a": "b"}) == (both.request_id, both.tags)
    assert ("r", {"model": "fraud", "model-version": "7"}) == (one.request_id, one.tags)


def test_metadata_of_a_stream_holds_for_all_its_messages(server, log):
    """Each lookup of a stream has the request id and the tags of the stream's metadata."""
    message = StreamOnlineFeaturesRequest(lookup=GetOnlineFeaturesRequest.FromString(ask(HINDCAST)))
    with grpc.insecure_channel(server.address) as channel:
        sent = [message.SerializeToString()] * 2
        answers = list(channel.stream_stream(STREAM)(iter(sent), timeout=30, metadata=METADATA))
    kept = [record_of(log, StreamOnlineFeaturesResponse.FromString(answer).answer.lookup_id) for answer in answers]
    assert [("from-the-proxy", "fraud")] * 2 == [(record.request_id, record.tags["model"]) for record in kept]


def test_what_is_no_lookup_leaves_no_record(server, log):
    """Server information is no lookup, and neither is a push."""
    before = len(records(log))
    with grpc.insecure_channel(server.address) as channel:
        for method in INFO:
            channel.unary_unary(method)(b"", timeout=30)
        with contextlib.suppress(grpc.RpcError):
            channel.unary_unary("/GrpcFeatureServer/Push")(b"", timeout=30)
        call(server, HINDCAST, ask(HINDCAST))

    assert before + 1 == len(records(log))


def begun(redis: RedisServer, lookups: int) -> None:
    """Wait until so many lookups of the service wait for a Redis that does not answer, by what it was sent."""
    # The server gives a silent connection up after a second, so nothing is waited for by the clock.
    wait_for(lambda: redis.unread_bytes() >= lookups * LOOKUP_BYTES, what="the lookups")


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may pause, with driver 1."""
    with run_redis() as redis:
        store_rows(redis.connection_string, "driver", [(integer(1), {"trips": integer(1)})])
        yield redis


def test_calls_that_redis_does_not_answer_leave_their_records(tmp_path, own_redis):
    """A lookup whose deadline comes, one whose caller goes, and one of a stream that is dropped are in the log with how they ended."""
    repo = make_repo(tmp_path / "repo", own_redis.connection_string)
    log = log_directory(repo)
    by_tag = {"late": "DEADLINE_EXCEEDED", "gone": "CANCELLED", "dropped": "CANCELLED"}
    # The deadline that comes is the server's: a caller's own is over for the caller first, who then is one that goes.
    with run_hindcast(repo, "--timeout-ms", "300") as server, grpc.insecure_channel(server.address) as channel:
        call(server, HINDCAST, ask(HINDCAST, "ride"))
        own_redis.pause()
        try:
            error = fail(server, HINDCAST, ask(HINDCAST, "ride", tags={"end": "late"}), timeout=None)
        finally:
            own_redis.resume()
        call(server, HINDCAST, ask(HINDCAST, "ride"))
        own_redis.pause()
        try:
            gone = channel.unary_unary(HINDCAST).future(ask(HINDCAST, "ride", tags={"end": "gone"}), timeout=30)
            message = ask(HINDCAST, "ride", tags={"end": "dropped"})
            request = StreamOnlineFeaturesRequest(
                lookup=GetOnlineFeaturesRequest.FromString(message), timeout=Duration(seconds=30)
            )
            dropped = channel.stream_stream(STREAM)(iter([request.SerializeToString()]))
            begun(own_redis, 2)
            gone.cancel()
            dropped.cancel()
            ended = {tag: wait_for_record(log, lambda record, tag=tag: record.tags.get("end") == tag) for tag in by_tag}
        finally:
            own_redis.resume()

    assert grpc.StatusCode.DEADLINE_EXCEEDED == error.code()
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    assert by_tag == {tag: codes[record.code] for tag, record in ended.items()}
    assert [("ride", b"")] * 3 == [(record.service, record.response) for record in ended.values()]


def test_calls_that_a_hurried_stop_cuts_off_leave_their_records(tmp_path, own_redis):
    """A second signal cancels what still runs, and its record says so, in a segment that is sealed."""
    repo = make_repo(tmp_path / "repo", own_redis.connection_string)
    with run_hindcast(repo) as server, grpc.insecure_channel(server.address) as channel:
        call(server, HINDCAST, ask(HINDCAST, "ride"))
        own_redis.pause()
        try:
            cut_off = [channel.unary_unary(HINDCAST).future(ask(HINDCAST, "ride"), timeout=30) for _ in range(10)]
            begun(own_redis, len(cut_off))
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: any("served until they have gone" in line for line in server.output))
            assert 0 == server.stop()
            assert all(call.exception(30) is not None for call in cut_off)
        finally:
            own_redis.resume()

    log = log_directory(repo)
    assert {".sealed"} == {path.suffix for path in (log / "segments").iterdir()}
    assert [0, *[1] * 10] == sorted(record.code for record in records(log))


def test_a_store_that_is_away_is_recorded(tmp_path, own_redis):
    """A lookup that fails because Redis is gone has UNAVAILABLE and its reason in the log."""
    repo = make_repo(tmp_path / "repo", own_redis.connection_string)
    with run_hindcast(repo) as server:
        call(server, HINDCAST, ask(HINDCAST, "ride"))
        own_redis.kill()
        error = fail(server, FEAST, ask(FEAST, "ride"))
        record = record_of(log_directory(repo), dict(error.trailing_metadata())[ID_KEY])

    assert grpc.StatusCode.UNAVAILABLE == error.code()
    assert (14, "STORE_UNAVAILABLE", error.details()) == (record.code, record.reason, record.message)


def test_a_server_that_stops_has_sealed_its_log(small_repo):
    """After a stop all segments are sealed, and every answer is in them."""
    log = log_directory(small_repo)
    with run_hindcast(small_repo, "--workers", "2", "--max-connection-age-seconds", "0.5") as server:
        answers = [call(server, HINDCAST, ask(HINDCAST, "ride")) for _ in range(20)]
        server.stop()

    assert {".sealed"} == {path.suffix for path in (log / "segments").iterdir()}
    assert sorted(answer for answer, _ in answers) == sorted(record.response for record in records(log))


def set_sampling(repo: Path, service: str, rate: float) -> None:
    """Let a service's lookups be sampled, as `feast apply` does."""
    changed = registry()
    (of_service,) = [one for one in changed.feature_services if one.spec.name == service]
    of_service.spec.logging_config.CopyFrom(
        pb.LoggingConfig(sample_rate=rate, file_destination=pb.LogFiles(path="logs", partition_by=["day"]))
    )
    (repo / "registry.db").write_bytes(changed.SerializeToString())


def test_a_sample_keeps_whole_histories(small_repo):
    """Of a sampled service some drivers leave every record and others none, alone and beside others; misses and failures always do."""
    set_sampling(small_repo, "ride", 0.4)
    log = log_directory(small_repo)
    drivers = range(1, DRIVERS + 1)
    with run_hindcast(small_repo, *RUN_WITH) as server:
        asked = [(driver, call(server, FEAST, ask(FEAST, "ride", (driver,)))[1]) for driver in (*drivers, *drivers)]
        kept = {record_id(record) for record in records(log)}
        histories = {driver: [lookup_id in kept for of, lookup_id in asked if of == driver] for driver in drivers}
        sampled = [driver for driver in drivers if histories[driver][0]]
        left_out = [driver for driver in drivers if not histories[driver][0]]
        beside = call(server, HINDCAST, ask(HINDCAST, "ride", (left_out[0], sampled[0])))[1]
        missing = call(server, HINDCAST, ask(HINDCAST, "ride", (left_out[0], 999)))[1]
        whole = call(server, HINDCAST, ask(HINDCAST, ["driver:trips"], (left_out[0],)))[1]
        wrong = fail(server, FEAST, ask(FEAST, "ride", ()))
        sampled_out = "hindcast_lookup_log_sampled_out_total"
        wait_for(lambda: scrape(metrics_url(server)).value(sampled_out) >= 2 * len(left_out), what="the whole count")

        assert all(len(set(history)) == 1 for history in histories.values())
        assert 0 < len(sampled) < DRIVERS
        later = {record_id(record) for record in records(log)}
        assert {beside, missing, whole, dict(wrong.trailing_metadata())[ID_KEY]} == later - kept
        assert 2 * len(left_out) == scrape(metrics_url(server)).value(sampled_out)


def test_a_service_without_keys_is_sampled_by_lookup(small_repo):
    """Where there is no key to have a history, a share of the lookups is kept, neither all nor none of them."""
    changed = registry()
    columns = [pb.FeatureSpec(name="surge")]
    changed.feature_services.add(
        spec=pb.FeatureServiceSpec(
            name="surges",
            project=PROJECT,
            features=[pb.FeatureViewProjection(feature_view_name="platform", feature_columns=columns)],
            logging_config=pb.LoggingConfig(sample_rate=0.5, file_destination=pb.LogFiles(path="logs")),
        )
    )
    (small_repo / "registry.db").write_bytes(changed.SerializeToString())
    with run_hindcast(small_repo) as server:
        for _ in range(40):
            call(server, HINDCAST, hindcast("surges"))

    assert 0 < len(records(log_directory(small_repo))) < 40


def test_a_feature_service_has_its_own_mode(small_repo, tmp_path):
    """`--log-mode-for` sets the mode of one service, `off` leaves no record, and `--log-dir` says where the others are."""
    log = tmp_path / "elsewhere"
    modes = ("--log-mode", "best_effort", "--log-mode-for", "ride=off", "--log-mode-for", "pair=durable")
    with run_hindcast(small_repo, "--log-dir", str(log), *modes) as server:
        call(server, FEAST, ask(FEAST, "ride"))
        fail(server, FEAST, ask(FEAST, "ride", ()))
        pair = call(server, FEAST, feast("pair", {"first_id": [integer(1)], "second_id": [integer(2)]}, full=True))[1]
        assert "durable" == record_of(log, pair).mode
        other = call(server, FEAST, ask(FEAST, "everything"))[1]
        record = wait_for_record(log, lambda record: record_id(record) == other)
        assert "best_effort" == record.mode

    assert {"pair", "everything"} == {record.service for record in records(log)}
    assert not log_directory(small_repo).exists()


def test_a_server_that_logs_nothing_makes_no_files(small_repo):
    """With `--log-mode off` there is no directory, and answers have their ids all the same."""
    with run_hindcast(small_repo, "--log-mode", "off") as server:
        answer, lookup_id = call(server, HINDCAST, ask(HINDCAST, "ride"))

    assert lookup_id == GetOnlineFeaturesResponse.FromString(answer).lookup_id
    assert not log_directory(small_repo).exists()


def test_a_mode_for_a_service_that_is_not_there_is_said(small_repo):
    """A name that no feature service has does not stop the server, and its log says so."""
    with run_hindcast(small_repo, "--log-mode-for", "rides=durable") as server:
        assert any("no feature service 'rides'" in line for line in server.output)


@pytest.mark.parametrize("given", ["ride", "ride=safe", "=off"])
def test_a_mode_that_there_is_not_is_bad_usage(small_repo, given):
    """What is not SERVICE=MODE ends the command with exit code 2, and the modes that there are."""
    told = subprocess.run(
        [PROGRAM, "serve", "--repo", small_repo, "--log-mode-for", given], capture_output=True, text=True, check=False
    )

    assert 2 == told.returncode
    assert f"{given!r} is not SERVICE=MODE; a mode is one of durable, batched, best_effort, off" in told.stderr


@contextlib.contextmanager
def no_room(server: HindcastServer) -> Iterator[None]:
    """No file of the server's workers can grow, as on a full disk, until the block ends."""
    for worker in server.worker_ids():
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    yield
    for worker in server.worker_ids():
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_durable_lookups_are_refused_while_the_log_cannot_be_written(small_repo, redis):
    """They end with UNAVAILABLE and its reason, without a word to Redis, until the log can be written again; other lookups are answered."""
    log = log_directory(small_repo)
    modes = ("--log-mode-for", "ride=durable")

    def commands():
        with redis.client() as client:
            return client.info("commandstats")["cmdstat_mget"]["calls"]

    def is_answered():
        with grpc.insecure_channel(server.address) as channel:
            try:
                channel.unary_unary(HINDCAST)(ask(HINDCAST, "ride"), timeout=30)
            except grpc.RpcError:
                return False
            return True

    with run_hindcast(small_repo, *modes, *RUN_WITH) as server:
        before = call(server, HINDCAST, ask(HINDCAST, "ride"))[1]
        with no_room(server):
            first = fail(server, HINDCAST, ask(HINDCAST, "ride"))
            asked = commands()
            refused = [fail(server, method, ask(method, "ride")) for method in LOOKUPS]
            assert asked == commands()
            call(server, HINDCAST, ask(HINDCAST, "everything"))
            watch = server.stopwatch()
            wait_for(lambda: scrape(metrics_url(server)).value("hindcast_lookup_log_alarm") == 1)
            assert watch.seconds < 1.0
            wait_for(lambda: scrape(metrics_url(server)).value("hindcast_lookup_log_lost_total") > 0)
        watch = server.stopwatch()
        wait_for(is_answered)
        assert watch.seconds < 2.0
        after = call(server, HINDCAST, ask(HINDCAST, "ride"))[1]
        wait_for(lambda: scrape(metrics_url(server)).value("hindcast_lookup_log_alarm") == 0)

        assert {grpc.StatusCode.UNAVAILABLE} == {error.code() for error in (first, *refused)}
        assert all("cannot be written" in error.details() for error in refused)
        assert {before, after} <= {record_id(record) for record in records(log)}


def test_what_was_not_logged_is_a_gap(small_repo):
    """Batched lookups go on while the log cannot be written, and the log says afterwards how many it does not have."""
    log = log_directory(small_repo)
    with run_hindcast(small_repo) as server:
        with no_room(server):
            for _ in range(5):
                call(server, HINDCAST, ask(HINDCAST, "ride"))
            watch = server.stopwatch()
            wait_for(lambda: any("cannot be written" in line for line in server.output))
            assert watch.seconds < 1.0
        watch = server.stopwatch()
        wait_for(lambda: any("is written again" in line for line in server.output))
        assert watch.seconds < 2.0
        last = call(server, HINDCAST, ask(HINDCAST, "ride"))[1]
        record_of(log, last)

    missing = sum(gap.last_sequence - gap.first_sequence + 1 for gap in gaps(log))
    assert 6 == missing + len(records(log))
    assert 5 == missing


def test_definitions_are_kept_before_they_are_answered_from(small_repo):
    """The catalog that a record names can be read from the log's directory, after a change of the registry too."""
    log = log_directory(small_repo)
    with run_hindcast(small_repo) as server:
        first = record_of(log, call(server, HINDCAST, ask(HINDCAST, "ride"))[1]).catalog_version
        set_sampling(small_repo, "everything", 1.0)

        def latest():
            return record_of(log, call(server, HINDCAST, ask(HINDCAST, "ride"))[1]).catalog_version

        wait_for(lambda: kept_catalog(log, latest()) is not None and latest() != first)
        second = latest()

    assert load_catalog(read_repo(small_repo)) == kept_catalog(log, second)
    assert first == kept_catalog(log, first).version
    assert Logging(1.0, "file", "logs", ("day",)) == kept_catalog(log, second).services["everything"].logging


def test_a_log_directory_that_cannot_be_used_keeps_a_server_from_starting(small_repo, tmp_path):
    """The command ends with exit code 1 and says which directory, and what to do."""
    (tmp_path / "file").touch()
    told = subprocess.run(
        [PROGRAM, "serve", "--repo", small_repo, "--address", "127.0.0.1:0", "--log-dir", tmp_path / "file" / "log"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == told.returncode
    assert (
        f"lookups cannot be logged in {tmp_path / 'file' / 'log'} (File exists: {tmp_path / 'file'}). Give --log-dir"
        in told.stderr
    )
