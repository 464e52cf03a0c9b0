"""Every row of the table of wrong requests on a real server of two workers: code, reason, fields and resource are exactly those of
the table, the same from both, and nothing of a vendor's or of the machine's leaves with them.
"""

import contextlib
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from faults.repos import store_rows
from hindcast.serving.status import _BUG, _CODES
from hindcast.shadow.v1.shadow_pb2 import FeastResponse
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse, GetServerInfoResponse
from integration.crowded_repo import make_crowded_repo
from integration.request_rows import (
    FIELD_BYTES_MAX,
    HEALTH,
    HINDCAST,
    INFO,
    LOOKUPS,
    REFLECTION,
    Refusal,
    Row,
    hindcast,
    integer,
    value_of,
)
from integration.wrong_requests import ROWS
from services import RedisServer, run_hindcast, run_redis

DOC = Path(__file__).parents[2] / "docs" / "errors.md"
CANARY = "c4n4ry-in-the-cage"
WORKERS = 2
METADATA_BYTES_MAX = 8192
"""Beyond this gRPC may refuse the metadata of an answer, and with it the error."""

LEAK = re.compile(
    rf"Traceback|File \"|\.py\b|site-packages|\w(?:Error|Exception)\b|\bat 0x|127\.0\.0\.1|redis|{CANARY}|/tmp/|<class",
    re.IGNORECASE,
)
"""What no caller may read: our files, exceptions, addresses, the store behind us."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis with a password, the rows of drivers 1 and 2, and one row per type of join key."""
    with run_redis() as server:
        for number in (1, 2):
            store_rows(server.connection_string, "driver", [(integer(number), {"trips": integer(10 * number)})])
        for kind in ("bytes", "string", "int32", "int64", "unix_timestamp"):
            store_rows(server.connection_string, f"by_{kind}", [(value_of(f"{kind}_val"), {"seen": integer(1)})])
        with contextlib.closing(server.client()) as client:
            client.execute_command("ACL", "SETUSER", "keeper", "on", f">{CANARY}", "+@all", "~*")
        yield server


@pytest.fixture(scope="module")
def channels(redis, tmp_path_factory) -> Iterator[tuple[grpc.Channel, ...]]:
    """A channel to each worker of a server on that Redis; at the end all of its workers are the ones it began with."""
    login = f",username=keeper,password={CANARY}"
    repo = make_crowded_repo(tmp_path_factory.mktemp("crowded"), redis.connection_string + login)
    # A connection that ends by its age is opened anew, to any worker, and a message too large to be sent again is lost with it.
    options = ("--workers", str(WORKERS), "--max-connection-age-seconds", "3600")
    with run_hindcast(repo, *options) as server, contextlib.ExitStack() as opened:
        began_with = server.worker_ids()
        yield tuple(_channel_to_each_worker(server.address, opened).values())
        assert began_with == server.worker_ids()
        assert [] == [line for line in server.output if "defect" in line or "cygrpc" in line or CANARY in line]


def _channel_to_each_worker(address: str, opened: contextlib.ExitStack) -> dict[bytes, grpc.Channel]:
    """Channels by when their worker started: the kernel deals connections out, so more are opened until it has dealt all."""
    channels: dict[bytes, grpc.Channel] = {}
    for _ in range(200):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 64 * 2**10)]
        channel = opened.enter_context(grpc.insecure_channel(address, options))
        info = GetServerInfoResponse.FromString(channel.unary_unary(INFO[0])(b"", timeout=10))
        channels.setdefault(info.started_at.SerializeToString(), channel)
        if len(channels) == WORKERS:
            return channels
    raise AssertionError("one worker alone answers")


def call(channel: grpc.Channel, method: str, request: bytes, row: Row) -> tuple[bytes, grpc.Call] | grpc.RpcError:
    """The last message that a method of any kind answers, or how the call failed."""
    options = {"timeout": 30.0, "metadata": row.metadata}
    if row.gzipped:
        options["compression"] = grpc.Compression.Gzip
    try:
        if method in REFLECTION:
            return list(channel.stream_stream(method)(iter([request]), **options))[-1], None
        if method == HEALTH[2]:
            return next(channel.unary_stream(method)(request, **options)), None
        return channel.unary_unary(method).with_call(request, **options)
    except grpc.RpcError as error:
        return error


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What a failed call says; its details must agree with its status, and stay within what gRPC carries."""
    trailing = error.trailing_metadata()
    sizes = [len(key) + len(value) * 4 // 3 + 32 for key, value in trailing]
    assert sum(sizes) + len(quote(error.details())) < METADATA_BYTES_MAX
    metadata = dict(trailing)
    if "grpc-status-details-bin" not in metadata:
        return Refusal(error.code(), message=error.details())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (error.code().value[0], error.details()) == (status.code, status.message)
    info = detail(status, error_details_pb2.ErrorInfo())
    assert "hindcast" == info.domain
    wrong = detail(status, error_details_pb2.BadRequest()).field_violations
    resource = detail(status, error_details_pb2.ResourceInfo())
    return Refusal(
        error.code(),
        info.reason,
        error.details(),
        tuple((violation.field, violation.description) for violation in wrong),
        (resource.resource_type, resource.resource_name) if resource.resource_type else None,
    )


def detail(status: status_pb2.Status, kind: Message) -> Message:
    """A status's one detail of a kind; empty where it has none."""
    found = [packed for packed in status.details if packed.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1
    for packed in found:
        packed.Unpack(kind)
    return kind


CASES = [pytest.param(row, id=f"{group}: {row.name!a}") for group, rows in ROWS.items() for row in rows]


@pytest.mark.parametrize("row", CASES)
def test_wrong_request(channels, row):
    """Every worker answers a row as the table says."""
    for channel in channels:
        for method, request in row.calls:
            outcome = call(channel, method, request, row)
            expected = row.refusal_by(method)
            if expected is None:
                assert not isinstance(outcome, grpc.RpcError), outcome
                check_answer(row, method, *outcome)
            else:
                assert isinstance(outcome, grpc.RpcError), outcome
                check_refusal(method, expected, outcome)


def check_refusal(method: str, expected: Refusal, error: grpc.RpcError) -> None:
    """Hold a failed call to its row, and to what all errors are."""
    refusal = refusal_of(error)
    assert (expected.code, expected.reason, expected.resource) == (refusal.code, refusal.reason, refusal.resource)
    assert sorted(expected.violations) == sorted(refusal.violations)
    if expected.message is not None:
        assert expected.message == refusal.message
    elif expected.violations and len(refusal.message) < FIELD_BYTES_MAX:
        assert "; ".join(f"{field}: {wrong}" for field, wrong in refusal.violations) == refusal.message
    metadata = dict(error.trailing_metadata())
    assert (method in LOOKUPS and bool(expected.reason)) == ("hindcast-lookup-id" in metadata)
    said = [refusal.message, *(str(value) for value in metadata.values()), *map(str, refusal.violations)]
    assert [] == [text for text in said if LEAK.search(text)]


def check_answer(row: Row, method: str, answer: bytes, done: grpc.Call | None) -> None:
    """Hold an answer to its row: it can be read, and its last column has the statuses."""
    if method not in LOOKUPS:
        return
    assert dict(done.trailing_metadata())["hindcast-lookup-id"]
    if method == HINDCAST:
        columns = GetOnlineFeaturesResponse.FromString(answer).columns
        statuses = columns[-1].statuses if columns else None
    else:
        results = FeastResponse.FromString(answer).results
        statuses = results[-1].statuses if results else None
        # Feast's dialect says PRESENT of a null.
        statuses = statuses and [2 if status == 1 and 2 in (row.statuses or ()) else status for status in statuses]
    if row.statuses is not None:
        assert row.statuses == tuple(statuses)


def test_most_rows(channels):
    """10,000 rows are answered, each by its key."""
    numbers = random.Random(3).choices([1, 2, 3], k=10_000)
    request = hindcast(["driver:trips"], {"driver_id": [integer(number) for number in numbers]})
    (column,) = GetOnlineFeaturesResponse.FromString(channels[0].unary_unary(HINDCAST)(request, timeout=30)).columns
    assert [{1: 10, 2: 20, 3: 0}[number] for number in numbers] == [value.int64_val for value in column.values]
    assert [{1: 1, 2: 1, 3: 3}[number] for number in numbers] == list(column.statuses)


def test_many_wrong_columns_are_named_up_to_a_limit(channels):
    """Of more wrong fields than an error can carry, the first ones are named."""
    request = hindcast(["driver:trips"], {f"c{at}": [integer(1)] for at in range(200)})
    with pytest.raises(grpc.RpcError) as caught:
        channels[0].unary_unary(HINDCAST)(request, timeout=10)
    assert 10 <= len(refusal_of(caught.value).violations) <= 20


def test_the_table_is_as_long_as_it_should_be():
    """There are at least 120 rows, no two of one name."""
    names = [row.name for rows in ROWS.values() for row in rows]
    assert len(set(names)) == len(names) >= 120


def documented(heading: str) -> list[tuple[str, ...]]:
    """The rows of the tables under a heading of docs/errors.md, without their head."""
    (section,) = [part for part in DOC.read_text().split("\n## ") if part.startswith(heading)]
    tables = re.findall(r"^\| --- .*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [
        tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for table in tables for line in table.splitlines()
    ]


def test_every_reason_is_documented():
    """The page of errors has the reasons that the server gives, with their codes, and no other."""
    given = {(f"`{reason}`", f"`{code.name}`") for code, reason in (*_CODES.values(), _BUG)}
    assert given == {cells[:2] for cells in documented("Reasons")}


def test_every_wrong_request_is_documented():
    """The tables of wrong requests on the page of errors are the rows that the server is held to, in their order."""
    assert [line for rows in ROWS.values() for line in lines_of(rows)] == documented("Wrong requests")


def lines_of(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """One line per kind of row: what is asked, code, reason, and where the error points."""
    kinds: dict[str, list[Refusal | None]] = {}
    for row in rows:
        kinds.setdefault(row.in_docs, []).append(row.refusal)
    lines = []
    for kind, refusals in kinds.items():
        ((code, reason),) = {(refusal.code.name, refusal.reason) if refusal else ("OK", "") for refusal in refusals}
        places = dict.fromkeys(place for refusal in refusals if refusal for place in places_of(refusal))
        lines.append((kind, f"`{code}`", f"`{reason}`" if reason else "-", ", ".join(places) or "-"))
    return lines


def places_of(refusal: Refusal) -> Iterator[str]:
    """Fields, with the names and positions of the row taken out, and the type of a resource."""
    for field, _ in refusal.violations:
        named = re.sub(r'\[".*?("\]|…$)', '["…"]', field, flags=re.DOTALL)
        yield "`" + re.sub(r"\[\d+\]", "[i]", named) + "`"
    if refusal.resource:
        yield refusal.resource[0]
