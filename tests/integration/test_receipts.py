"""Receipts from a real server, while it goes on: what they say is what callers sent and saw, bit for bit."""

import asyncio
import base64
import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import pushable
from faults.repos import PROJECT, make_repo, store_rows, views
from hindcast.catalog import KeyType
from hindcast.clock import from_micros, system_clock
from hindcast.lookups.directory import LogDirectory
from hindcast.lookups.receipt_json import value_json
from hindcast.online.keys import entity_key_bytes, key_value_bytes, row_key, view_prefix
from hindcast.shadow.v1.shadow_pb2 import (
    FeastMetadata,
    FeastResponse,
    HindcastReceipt,
    HindcastReceiptAnswer,
    HindcastResponse,
    HindcastStreamResponse,
)
from hindcast.v1 import lookup_service_pb2 as pb
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, StreamOnlineFeaturesRequest
from hindcast.v1.push_service_pb2 import PUSH_DESTINATION_ONLINE
from hindcast.v1.value_pb2 import Value
from hindcast_client import AsyncClient, Client, InvalidRequest, NotFound
from hindcast_client._errors import error_of
from integration.crowded_repo import make_crowded_repo
from integration.request_rows import FEAST, HINDCAST, LOOKUPS, feast, hindcast, integer
from integration.test_push import kinds
from integration.wrong_bytes import ride_inputs
from logged import log_directory
from services import HINDCAST as PROGRAM
from services import HindcastServer, run_hindcast, run_redis

STREAM = "/hindcast.v1.FeatureService/StreamOnlineFeatures"
GET = "/hindcast.v1.Lookups/GetReceipt"
ID_KEY = "hindcast-lookup-id"
DIALECTS = (*LOOKUPS, STREAM)
REFS = ["driver:trips", "driver:city", "driver:rating", "platform:surge"]
NANS = tuple(struct.unpack(">d", bits.to_bytes(8, "big"))[0] for bits in (0x7FF8000000000001, 0xFFF8000000000000))
ROWS = {
    1: {"trips": integer(2**63 - 1), "city": Value(string_val="Zürich\n{}"), "rating": Value(double_val=0.1)},
    2: {"trips": integer(-(2**63)), "city": Value(string_val=""), "rating": Value(double_val=-0.0)},
    3: {"trips": Value(), "city": Value(), "rating": Value()},
    4: {"trips": integer(7), "city": Value(string_val="NaN"), "rating": Value(double_val=NANS[0])},
    5: {"trips": integer(2**53), "city": Value(string_val="x"), "rating": Value(double_val=math.inf)},
    6: {"trips": integer(0), "city": Value(string_val="y"), "rating": Value(double_val=5e-324)},
}
DRIVERS = (1, 2, 3, 4, 5, 6, 404, 1)
"""One without a row, and one twice."""


@pytest.fixture(scope="module")
def redis() -> Iterator[object]:
    """A Redis with hard values."""
    with run_redis() as redis:
        store_rows(redis.connection_string, "driver", [(integer(n), row) for n, row in ROWS.items()])
        store_rows(redis.connection_string, "platform", [(None, {"surge": Value(double_val=NANS[1])})])
        yield redis


@pytest.fixture(scope="module")
def repo(tmp_path_factory, redis) -> Path:
    """A repo on that Redis, with on-demand views."""
    return make_crowded_repo(tmp_path_factory.mktemp("receipts") / "repo", redis.connection_string)


@pytest.fixture(scope="module")
def server(repo) -> Iterator[HindcastServer]:
    """A server of two workers: a receipt is asked of one, and is mostly the other's."""
    with run_hindcast(repo, "--workers", "2") as server:
        yield server


@pytest.fixture
def channel(server) -> Iterator[grpc.Channel]:
    """A connection of the test's own."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@pytest.fixture
def client(server) -> Iterator[Client]:
    """A client of the test's own."""
    with Client(server.address) as client:
        yield client


def asked(method, features, drivers=DRIVERS, **more):
    """Asks for drivers, in the words of a method."""
    columns = {"driver_id": [integer(driver) for driver in drivers]}
    if method != STREAM:
        return (hindcast if method == HINDCAST else feast)(features, columns, **more)
    lookup = GetOnlineFeaturesRequest.FromString(hindcast(features, columns, **more))
    return StreamOnlineFeaturesRequest(lookup=lookup).SerializeToString()


def look_up(channel, method, request, **options):
    """The answer, its lookup id, and per column its name, values, and statuses as they went over the wire."""
    if method == STREAM:
        (answer,) = channel.stream_stream(method)(iter([request]), timeout=30, **options)
        message = HindcastResponse.FromString(HindcastStreamResponse.FromString(answer).answer)
    else:
        answer, ended = channel.unary_unary(method).with_call(request, timeout=30, **options)
        if method != HINDCAST:
            vectors = FeastResponse.FromString(answer)
            names = FeastMetadata.FromString(vectors.metadata).feature_names.val
            columns = [(name, list(r.values), list(r.statuses)) for name, r in zip(names, vectors.results, strict=True)]
            return answer, dict(ended.trailing_metadata())[ID_KEY], columns[1:]
        message = HindcastResponse.FromString(answer)
    return answer, message.lookup_id, [(c.name, list(c.values), list(c.statuses)) for c in message.columns]


def get(channel, **wanted):
    """A receipt."""
    request = pb.GetReceiptRequest(include_messages=True, **wanted).SerializeToString()
    return pb.GetReceiptResponse.FromString(channel.unary_unary(GET)(request, timeout=30)).receipt


def sent(channel, lookup_id):
    """The columns of a receipt as they went over the wire: a map that is read and written again can have its entries in another order."""
    request = pb.GetReceiptRequest(lookup_id=lookup_id).SerializeToString()
    answer = HindcastReceiptAnswer.FromString(channel.unary_unary(GET)(request, timeout=30))
    columns = HindcastReceipt.FromString(answer.receipt).columns
    return [(column.name, list(column.values), list(column.statuses)) for column in columns]


def command(*arguments, exit_code=0):
    """What `hindcast …` prints."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert exit_code == done.returncode, done.stderr
    return done.stdout if exit_code in {0, 3} else done.stderr


def served(column):
    """A column of a receipt, its values as bytes."""
    return column.name, [value.SerializeToString() for value in column.values], list(column.statuses)


@pytest.mark.parametrize("features", ["everything", REFS], ids=["service", "references"])
@pytest.mark.parametrize("method", DIALECTS)
def test_a_receipt_is_the_answer_bit_for_bit(channel, method, features):
    """As soon as an answer is there, its receipt has its request and its bytes, and each value and status as they were sent."""
    request = asked(method, features)
    answer, lookup_id, columns = look_up(channel, method, request)
    receipt = get(channel, lookup_id=lookup_id)

    assert (request, answer) == (receipt.request_bytes, receipt.response_bytes)
    assert columns == [served(column) for column in receipt.columns]
    assert REFS == [f"{column.view}:{column.feature}" for column in receipt.columns]
    assert lookup_id == receipt.summary.lookup_id
    assert (0, len(DRIVERS), "batched") == (receipt.summary.code, receipt.summary.rows, receipt.log_mode)
    sent = [value.SerializeToString() for value in receipt.entities["driver_id"].val]
    assert [integer(driver).SerializeToString() for driver in DRIVERS] == sent


@pytest.mark.parametrize("method", DIALECTS)
def test_json_gives_back_the_bits_that_were_served(channel, repo, method):
    """The command's JSON, read back, is every value of the answer: whole numbers, floats with their sign, NaN's bits, text."""
    _, lookup_id, columns = look_up(channel, method, asked(method, "everything"))
    receipt = json.loads(command("receipt", lookup_id, "--repo", repo, "--output", "json"))
    read = {}
    for cell in receipt["features"]:
        read.setdefault(cell["name"], []).append(bits_of(cell))

    assert {name: values for name, values, _ in columns} == read
    assert [len(DRIVERS), lookup_id] == [len(receipt["entity_rows"]), receipt["lookup_id"]]


def bits_of(cell):
    """The serialized Value of a cell of the JSON."""
    if "kind" not in cell:
        return b""
    if "bytes" in cell:
        return base64.b64decode(cell["bytes"])
    value = cell["value"]
    made = {"int64": int, "double": float, "string": str}[cell["kind"]](value)
    return Value(**{f"{cell['kind']}_val": made}).SerializeToString()


@pytest.mark.parametrize("method", LOOKUPS)
def test_each_value_says_the_row_that_it_came_from(channel, redis, method):
    """Event time, created time and run of a value are those of its stored row; without a row there are none."""
    _, lookup_id, _ = look_up(channel, method, asked(method, "everything", (2, 404)))
    receipt = get(channel, lookup_id=lookup_id)
    rows = receipt.views[receipt.columns[0].view_index]
    (join_key,) = views()["driver"].join_keys
    key = entity_key_bytes((join_key.name,), (key_value_bytes(integer(2), KeyType.INT64),))
    with redis.client() as connection:
        header = connection.get(row_key(view_prefix(PROJECT, "driver"), key))[:42]
    event_micros = int.from_bytes(header[:8], "big") - 2**63

    assert [True, False] == list(rows.found)
    assert ["driver", event_micros] == [rows.view, rows.event_timestamps[0].ToMicroseconds()]
    assert [Timestamp(), Timestamp()] == list(rows.created_timestamps)
    assert ["", ""] == list(rows.run_ids)
    assert "platform" == receipt.views[receipt.columns[3].view_index].view


@pytest.fixture(scope="module", params=[pushable.PACKED, pushable.FEAST], ids=["packed", "feast's layout"])
def moving(request, tmp_path_factory) -> Iterator[tuple[Path, HindcastServer, str]]:
    """A repo that can be pushed to, its server, and the kind of its store."""
    with run_redis() as redis:
        root = tmp_path_factory.mktemp("moving") / "repo"
        repo = pushable.make_repo(root, redis.connection_string, store=request.param)
        with run_hindcast(repo) as server:
            yield repo, server, request.param


def test_what_a_push_wrote_says_its_run(moving):
    """A receipt names the push that wrote the row and when the row became known, where the layout keeps them."""
    repo, server, store = moving
    at = datetime.now(UTC) - timedelta(hours=1)
    row = {"driver_id": 50, "trips": 5, "rating": 4.5, "event_ts": at, "created_ts": at + timedelta(minutes=1)}
    times = {"event_timestamp": "event_ts", "created_timestamp": "created_ts"}
    with Client(server.address) as client:
        pushed = client.push(feature_view="driver", rows=[row], join_keys=["driver_id"], **times)
        result = client.get_online_features(features=["driver:trips"], entities={"driver_id": [50]})
        receipt = client.get_receipt(result.lookup_id)
    text = command("receipt", result.lookup_id, "--repo", repo)
    told = result.event_timestamps["trips"]

    assert (told, [result.served_at - told[0]]) == (receipt.event_timestamps["trips"], receipt.ages["trips"])
    is_packed = store == pushable.PACKED
    title, head, line = text.splitlines()[-3:]
    assert ("row 1: driver_id 50", ["feature", "value", "status", "age"]) == (title, head.split()[:4])
    age = f"{receipt.ages['trips'][0] / timedelta(minutes=1):.1f}"
    assert ["driver:trips", "5", "PRESENT", age, "min"] == line.split()[:5]
    assert {"trips": [pushed.run_id if is_packed else None]} == receipt.run_ids
    assert {"trips": [row["created_ts"] if is_packed else None]} == receipt.created_timestamps
    assert is_packed == (pushed.run_id[:13] in text)


def test_every_kind_of_value_is_told_as_it_was_served(moving):
    """Of both layouts and in each dialect, on gRPC and in the command's JSON, a value of any type is the one that was answered."""
    repo, server, _ = moving
    cities = ["first", "second", "null"]
    refs = [f"kinds:{kind}" for kind in pushable.KINDS]
    push = kinds(cities, to=PUSH_DESTINATION_ONLINE)
    columns = {"city_id": [Value(string_val=city) for city in cities]}
    with grpc.insecure_channel(server.address) as channel:
        channel.unary_unary("/hindcast.v1.PushService/Push")(push.SerializeToString(), timeout=30)
        for method, request in ((HINDCAST, hindcast(refs, columns)), (FEAST, feast(refs, columns))):
            _, lookup_id, answered = look_up(channel, method, request)
            assert answered == sent(channel, lookup_id)
            told = json.loads(command("receipt", lookup_id, "--repo", repo, "--output", "json"))["features"]
            for name, values, _ in answered:
                cells = [cell for cell in told if cell["name"] == name]
                assert [value_json(value) for value in values] == [
                    {key: cell[key] for key in ("kind", "value", "bytes") if key in cell} for cell in cells
                ]


def test_an_on_demand_value_says_what_it_was_computed_from(channel, repo):
    """The inputs of an on-demand view are in the receipt with its request data, and its features came from no stored row."""
    inputs = ride_inputs()
    request = hindcast(["fare:price"], {"driver_id": [integer(6)]}, inputs)
    _, lookup_id, columns = look_up(channel, HINDCAST, request)
    receipt = get(channel, lookup_id=lookup_id)

    assert columns == [served(column) for column in receipt.columns]
    assert not receipt.columns[0].HasField("view_index")
    given = {name: list(column.val) for name, column in receipt.computed_from["fare"].columns.items()}
    assert {**inputs, "trips": [integer(0)], "driver_id": [integer(6)]} == given
    assert inputs == {name: list(column.val) for name, column in receipt.request_data.items()}
    assert "computed" in command("receipt", lookup_id, "--repo", repo)


def test_definitions_in_force_are_in_the_receipt(channel):
    """Views, join keys, types and features of what was asked for are those of the catalog that the answer was made from."""
    _, lookup_id, _ = look_up(channel, FEAST, asked(FEAST, "everything"))
    definitions = get(channel, lookup_id=lookup_id).definitions

    assert PROJECT == definitions.project
    assert ["driver", "platform"] == [view.name for view in definitions.views]
    driver = definitions.views[0]
    assert {"trips": "INT64", "city": "STRING", "rating": "DOUBLE"} == dict(driver.fields)
    assert ({"driver_id": "INT64"}, ["trips", "city", "rating"]) == (dict(driver.join_keys), list(driver.features))
    assert not driver.on_demand


def test_aliases_are_told_apart(channel):
    """Two features of one view under two aliases have each the rows of its own key."""
    request = feast("pair", {"first_id": [integer(1)], "second_id": [integer(404)]}, full=True)
    answer, ended = channel.unary_unary(FEAST).with_call(request, timeout=30)
    receipt = get(channel, lookup_id=dict(ended.trailing_metadata())[ID_KEY])

    assert [("first", "trips"), ("second", "trips")] == [(column.view, column.feature) for column in receipt.columns]
    assert [[True], [False]] == [list(receipt.views[column.view_index].found) for column in receipt.columns]
    assert answer == receipt.response_bytes


@pytest.mark.parametrize(
    ("request_bytes", "code", "reason"),
    [
        (asked(HINDCAST, "nope"), 5, "UNKNOWN_NAME"),
        (hindcast("everything"), 3, "INVALID_ARGUMENT"),
        (b"\xff\xff", 3, "INVALID_ARGUMENT"),
    ],
    ids=["unknown service", "no join key", "no message"],
)
def test_a_failure_has_a_receipt(channel, repo, request_bytes, code, reason):
    """The id that an error carries leads to a receipt that says what was sent and what the caller was told."""
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(HINDCAST)(request_bytes, timeout=30)
    lookup_id = error_of(raised.value).lookup_id
    receipt = get(channel, lookup_id=lookup_id)

    assert (code, reason) == (receipt.summary.code, receipt.summary.reason)
    assert (raised.value.details(), request_bytes) == (receipt.message, receipt.request_bytes)
    assert 0 == len(receipt.columns)
    assert not receipt.summary.HasField("rows")
    assert reason in command("receipt", lookup_id, "--repo", repo)
    told = json.loads(command("receipt", lookup_id, "--repo", repo, "--output", "json"))
    assert [code, raised.value.details()] == [told["status"]["number"], told["status"]["message"]]


@pytest.mark.parametrize("method", LOOKUPS)
def test_a_request_id_leads_to_the_newest_of_its_lookups(channel, repo, method):
    """A caller that tried again finds its last attempt; all of them are listed."""
    request_id = str(uuid4())
    ids = [
        look_up(channel, method, asked(method, "ride"), metadata=(("x-request-id", request_id),))[1] for _ in range(3)
    ]

    assert ids[-1] == get(channel, request_id=request_id).summary.lookup_id
    assert ids[-1] in command("receipt", request_id, "--repo", repo)
    listed = json.loads(command("lookups", "ls", "--repo", repo, "--request-id", request_id, "--output", "json"))
    assert ids[::-1] == [lookup["lookup_id"] for lookup in listed]


def test_pages_hold_every_match_once_newest_first(client):
    """Page by page each lookup with a tag comes once, the newest first, while others go on."""
    tag = {"batch": str(uuid4())}
    ids = []
    for at in range(11):
        tags = {**tag, "odd": str(at % 2)}
        result = client.get_online_features(features="ride", entities={"driver_id": [1]}, tags=tags)
        ids.append(result.lookup_id)
    pages, token = [], ""
    while not pages or token:
        page = client.list_receipts(tags=tag, page_size=4, page_token=token or None)
        pages.append([receipt.lookup_id for receipt in page.receipts])
        token = page.next_page_token
        # Newer ones do not move the pages.
        client.get_online_features(features="ride", entities={"driver_id": [1]}, tags=tag)

    assert [ids[:-5:-1], ids[-5:-9:-1], ids[-9::-1]] == pages
    odd = client.list_receipts(tags={**tag, "odd": "1"}).receipts
    assert ids[1::2][::-1] == [receipt.lookup_id for receipt in odd]


def test_lists_are_filtered(client, repo):
    """By time, service and status, over gRPC and on the command line."""
    since = datetime.now(UTC)
    right = client.get_online_features(features="ride", entities={"driver_id": [1]})
    with pytest.raises(InvalidRequest) as raised:
        client.get_online_features(features="ride", entities={"driver_id": ["1"]})
    other = client.get_online_features(features=["driver:trips"], entities={"driver_id": [1, 2]})
    until = datetime.now(UTC)

    def listed(**wanted):
        return [r.lookup_id for r in client.list_receipts(**{"since": since, "until": until, **wanted}).receipts]

    assert [other.lookup_id, raised.value.lookup_id, right.lookup_id] == listed()
    assert [raised.value.lookup_id, right.lookup_id] == listed(feature_service="ride")
    assert [raised.value.lookup_id] == listed(codes=[grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND])
    assert [] == listed(until=since)
    (summary,) = client.list_receipts(since=since, until=until, page_size=1).receipts
    assert (("driver:trips",), 2, grpc.StatusCode.OK) == (summary.feature_refs, summary.rows, summary.code)
    arguments = ("lookups", "ls", "--repo", repo, "--since", since.isoformat(), "--until", until.isoformat())
    failed = command(*arguments, "--status", "failed", "--service", "ride")
    assert [raised.value.lookup_id] == [line.split()[0] for line in failed.splitlines()[1:]]
    text = command(*arguments)
    assert [other.lookup_id, raised.value.lookup_id, right.lookup_id] == [
        line.split()[0] for line in text.splitlines()[1:]
    ]
    assert "INVALID_ARGUMENT" in text


def test_the_client_reads_a_receipt_as_it_read_the_answer(client):
    """Values, statuses and times of a receipt are those of the result that the caller had."""
    result = client.get_online_features(
        features=REFS, entities={"driver_id": [5, 6, None]}, request_id="mine", tags={"model": "fraud"}
    )
    receipt = client.get_receipt(result.lookup_id)

    assert (result.statuses, result.event_timestamps) == (receipt.statuses, receipt.event_timestamps)
    assert repr(result.to_dict()) == repr(receipt.to_dict())
    assert (result.served_at, result.catalog_version) == (receipt.summary.served_at, receipt.summary.catalog_version)
    assert ("mine", {"model": "fraud"}) == (receipt.summary.request_id, receipt.summary.tags)
    assert (result.names, tuple(REFS)) == (receipt.names, receipt.features)


def test_the_asyncio_client_reads_receipts(server):
    """`AsyncClient` has the same two methods."""

    async def ask():
        async with AsyncClient(server.address) as client:
            result = await client.get_online_features(features="ride", entities={"driver_id": [1]}, request_id="loop")
            receipt = await client.get_receipt(request_id="loop")
            page = await client.list_receipts(request_id="loop")
            return result, receipt, page

    result, receipt, page = asyncio.run(ask())

    assert result.lookup_id == receipt.summary.lookup_id == page.receipts[0].lookup_id
    assert result.to_dict() == receipt.to_dict()


def test_an_unknown_id_is_not_found(client, repo):
    """Its error says what to do, on gRPC and on the command line."""
    unknown = str(UUID(bytes=(system_clock() // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + bytes(7)))
    with pytest.raises(NotFound, match="give the lookup id of an answer"):
        client.get_receipt(unknown)
    with pytest.raises(NotFound, match="mode off"):
        client.get_receipt(request_id="nobody's")
    assert "does not exist; give the lookup id" in command("receipt", unknown, "--repo", repo, exit_code=1)


def test_a_running_server_has_nothing_missing(client, repo):
    """The gap report of a log that is written meanwhile is whole, and counts every record."""
    client.get_online_features(features="ride", entities={"driver_id": [1]})
    report = json.loads(command("lookups", "check", "--repo", repo, "--output", "json"))

    assert report["whole"]
    assert [True, True] == [writer["lives"] for writer in report["writers"]]
    assert all(writer["written"] == writer["last_sequence"] for writer in report["writers"])
    assert 0 < sum(writer["written"] for writer in report["writers"])
    assert "none missing" in command("lookups", "check", "--repo", repo)


def test_a_damaged_segment_is_told_and_others_are_read(tmp_path, redis):
    """A flipped byte costs one record: `check` names the segment and exits with 3, every other receipt is still found."""
    repo = make_repo(tmp_path / "repo", redis.connection_string)
    options = ("--max-connection-age-seconds", "0.5")
    ids = []
    for _ in range(2):
        with run_hindcast(repo, *options) as server, Client(server.address) as client:
            ids += [
                client.get_online_features(features="ride", entities={"driver_id": [1]}).lookup_id for _ in range(3)
            ]
            server.stop()
    segments = sorted(LogDirectory(log_directory(repo)).segments.iterdir())
    content = bytearray(segments[0].read_bytes())
    at = content.find(UUID(ids[1]).bytes)
    content[at + 40] ^= 1
    segments[0].write_bytes(content)

    assert "is damaged at byte" in command("lookups", "check", "--repo", repo, exit_code=3)
    report = json.loads(command("lookups", "check", "--repo", repo, "--output", "json", exit_code=3))
    assert [[str(segments[0].name)], []] == [
        [place["segment"] for place in writer["damage"]] for writer in report["writers"]
    ]
    for lookup_id in (ids[0], *ids[2:]):
        assert lookup_id in command("receipt", lookup_id, "--repo", repo)
    assert "cannot; `hindcast lookups check` says which" in command("receipt", ids[1], "--repo", repo, exit_code=1)
    listed = json.loads(command("lookups", "ls", "--repo", repo, "--output", "json"))
    assert [*ids[:2:-1], ids[2], ids[0]] == [lookup["lookup_id"] for lookup in listed]
    with run_hindcast(repo, *options) as server, Client(server.address) as client:
        assert ids[0] == client.get_receipt(ids[0]).summary.lookup_id
        assert 1 == client.list_receipts().damaged_places


def test_a_server_that_logs_nothing_says_so(tmp_path, redis):
    """With `--log-mode off` every receipt is NOT_FOUND, with the option to change, and lists are empty."""
    repo = make_repo(tmp_path / "repo", redis.connection_string)
    with run_hindcast(repo, "--log-mode", "off") as server, Client(server.address) as client:
        result = client.get_online_features(features="ride", entities={"driver_id": [1]})
        with pytest.raises(NotFound, match="without --log-mode off"):
            client.get_receipt(result.lookup_id)
        assert ((), "") == (client.list_receipts().receipts, client.list_receipts().next_page_token)


def test_a_log_without_its_definitions_is_read(channel, repo, tmp_path):
    """Where the catalogs are gone, a receipt has all values and says what is not known; nothing fails."""
    _, lookup_id, columns = look_up(channel, HINDCAST, asked(HINDCAST, "everything", (1,), full=True))
    moved = tmp_path / "log"
    moved.mkdir()
    (moved / "segments").symlink_to(log_directory(repo) / "segments")
    receipt = json.loads(command("receipt", lookup_id, "--log-dir", moved, "--output", "json"))

    assert None is receipt["definitions"]
    assert [("driver", "trips"), ("driver", "city"), ("driver", "rating"), ("platform", "surge")] == [
        (cell["view"], cell["feature"]) for cell in receipt["features"]
    ]
    assert [values for _, values, _ in columns] == [[bits_of(cell)] for cell in receipt["features"]]
    assert "are not kept beside the log" in command("receipt", lookup_id, "--log-dir", moved)


def test_commands_import_nothing_heavy():
    """Help of the commands needs no gRPC, no protobuf and no DuckDB, so that it is there at once."""
    code = "import sys, hindcast.cli.lookups; print([m for m in ('grpc', 'google.protobuf', 'duckdb', 'deltalake', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_served_at_is_the_instant_of_the_record(channel, repo):
    """The command says the instant at which the caller was told that the answer was given."""
    answer, lookup_id, _ = look_up(channel, HINDCAST, asked(HINDCAST, "ride"))
    micros = Timestamp.FromString(HindcastResponse.FromString(answer).served_at).ToMicroseconds()
    receipt = json.loads(command("receipt", lookup_id, "--repo", repo, "--output", "json"))

    assert from_micros(micros) == datetime.fromisoformat(receipt["served_at"])
