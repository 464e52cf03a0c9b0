"""Bytes that were made to do harm: whatever comes in, what goes out is an answer that callers can read, or an error of the table.

The handlers are called in process, so that tens of thousands of cases take seconds; `HOSTILE_FACTOR=100` draws a hundred times as
many. `test_hostile_connections.py` does the same below the handlers, on real connections.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import grpc
import pytest
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse as FeastResponse
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faults.repos import PROJECT, store_rows
from hindcast.catalog import load_catalog, read_repo
from hindcast.clock import system_clock
from hindcast.online.connection import parse_target
from hindcast.online.layouts import LAYOUTS, LayoutName
from hindcast.online.reader import RedisReader
from hindcast.serving.calls import CALL_METADATA, Handler
from hindcast.serving.handlers import Handlers
from hindcast.serving.worker import _transformer
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from integration.crowded_repo import make_crowded_repo
from integration.request_rows import feast, hindcast, integer
from lookups import DecodedLog, make_lookup, make_recorder
from property.hostile import FACTOR, OF_FEAST, OF_HINDCAST, REQUESTS, VALUES, mutated, sized, varint

CPU_SECONDS_MAX = 2.0
"""Of one case. A request of 16 MiB that is refused late costs more; the usual case costs a thousandth."""

SEEDS = {"hindcast.v1": OF_HINDCAST, "Feast": OF_FEAST}
ALLOWED = {
    ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ("NOT_FOUND", "UNKNOWN_NAME"),
    ("FAILED_PRECONDITION", "TRANSFORM_FAILED"),
}
"""Codes and reasons that a request alone can bring about."""

DRAWN = settings(max_examples=250 * FACTOR, deadline=None)


class Aborted(Exception):
    """A call that the handler ended with an error."""

    def __init__(self, code: grpc.StatusCode, message: str, trailing: tuple[tuple[str, str | bytes], ...]) -> None:
        super().__init__(message)
        self.code = code
        self.trailing = dict(trailing)


METADATA = (("x-request-id", "r-1"), ("hindcast-tag-model", "é"), ("hindcast-tag-bytes-bin", b"\xff"))
"""What a proxy adds, and tags of both kinds."""


class Context:
    """As much of a call's context as a handler uses."""

    def __init__(self) -> None:
        self.trailing: dict[str, str | bytes] = {}

    def time_remaining(self) -> float:
        """A deadline that no case reaches."""
        return 60.0

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """Keep it for the test."""
        self.trailing = dict(metadata)

    async def abort(self, code: grpc.StatusCode, message: str, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """End the call."""
        raise Aborted(code, message, metadata)


async def called(handler: Handler, request: bytes, context: Context) -> bytes:
    """Call a handler as gRPC does."""
    CALL_METADATA.set(METADATA)
    return await handler(request, context)


@dataclass(frozen=True)
class Server:
    """The handlers of a worker, what they log, and the loop that they run in."""

    handlers: Handlers
    log: DecodedLog
    loop: asyncio.Runner

    def check(self, dialect: str, request: bytes) -> bool:
        """Call a handler with some bytes and judge what comes out; whether it was an answer."""
        handler = (
            self.handlers.hindcast_online_features if dialect == "hindcast.v1" else self.handlers.feast_online_features
        )
        context = Context()
        began = time.process_time()
        try:
            answer = self.loop.run(called(handler, request, context))
        except Aborted as error:
            check_error(error)
            answer = None
        assert time.process_time() - began < CPU_SECONDS_MAX
        (record,) = self.log.records
        self.log.records.clear()
        assert (request, answer or b"", answer is None) == (record.request, record.response, record.code > 0)
        assert record.tags == {"model": "é"} or dialect == "hindcast.v1"
        if answer is not None:
            assert context.trailing["hindcast-lookup-id"]
            (check_hindcast if dialect == "hindcast.v1" else check_feast)(answer)
        return answer is not None


def check_error(error: Aborted) -> None:
    """An error is one that a request alone can bring about, whole, and of one mind."""
    status = status_pb2.Status.FromString(error.trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (error.code.name, info.reason) in ALLOWED, str(error)
    assert (error.code.value[0], str(error)) == (status.code, status.message)
    assert error.trailing["hindcast-lookup-id"]
    assert "Traceback" not in str(error)
    assert "DecodeError" not in str(error)


def check_hindcast(answer: bytes) -> None:
    """A client can read an answer of hindcast.v1, and its columns are of one length."""
    response = GetOnlineFeaturesResponse.FromString(answer)
    lengths = {len(column.values) for column in response.columns} | {
        len(column.statuses) for column in response.columns
    }
    assert len(lengths | {len(view.event_timestamps) for view in response.views}) <= 1


def check_feast(answer: bytes) -> None:
    """Feast's own message can read an answer on Feast's services, and its columns are of one length, and named."""
    response = FeastResponse.FromString(answer)
    assert len(response.metadata.feature_names.val) == len(response.results)
    assert len({len(part) for v in response.results for part in (v.values, v.statuses, v.event_timestamps)}) <= 1


@pytest.fixture(scope="module")
def server(shared_redis, tmp_path_factory) -> Iterator[Server]:
    """The handlers over a real Redis with two rows."""
    for number in (1, 2):
        store_rows(shared_redis.connection_string, "driver", [(integer(number), {"trips": integer(10 * number)})])
    root = make_crowded_repo(tmp_path_factory.mktemp("crowded"), shared_redis.connection_string)
    catalog = load_catalog(read_repo(root))
    reader = RedisReader(parse_target(shared_redis.connection_string))
    layout = LAYOUTS[LayoutName.PACKED](reader, project=PROJECT)
    lookup = make_lookup(catalog, layout, transformer=_transformer(catalog, root))
    with asyncio.Runner() as loop:
        log = DecodedLog()
        handlers = Handlers(lookup=lookup, recorder=make_recorder(log), clock=system_clock, call_timeout_ms=60_000)
        yield Server(handlers, log, loop)
        loop.run(reader.close())


@pytest.mark.parametrize("dialect", SEEDS)
def test_the_seeds_are_answered(server, dialect):
    """The requests that are broken below are whole before."""
    assert [True] * len(SEEDS[dialect]) == [server.check(dialect, seed) for seed in SEEDS[dialect]]


@pytest.mark.parametrize("dialect", SEEDS)
def test_every_truncation(server, dialect):
    """A request cut at any byte is answered or refused."""
    for seed in SEEDS[dialect]:
        for length in range(len(seed)):
            server.check(dialect, seed[:length])


@pytest.mark.parametrize("dialect", SEEDS)
def test_every_flipped_bit(server, dialect):
    """A request with any one bit flipped is answered or refused."""
    for seed in SEEDS[dialect]:
        for at in range(8 * len(seed)):
            flipped = bytearray(seed)
            flipped[at // 8] ^= 1 << at % 8
            server.check(dialect, bytes(flipped))


@pytest.mark.parametrize("dialect", SEEDS)
def test_every_byte_by_another(server, dialect):
    """A request with any byte replaced by one that ends, opens or lengthens something is answered or refused."""
    for seed in SEEDS[dialect]:
        for at in range(len(seed)):
            for byte in (0x00, 0x0B, 0x0C, 0x7F, 0x80, 0xFF):
                server.check(dialect, seed[:at] + bytes([byte]) + seed[at + 1 :])


@DRAWN
@given(data=st.data(), dialect=st.sampled_from(sorted(SEEDS)))
def test_mutated_requests(server, data, dialect):
    """A request that was changed in several places is answered or refused."""
    server.check(dialect, data.draw(mutated(SEEDS[dialect])))


@DRAWN
@given(request_bytes=REQUESTS | st.binary(max_size=200), dialect=st.sampled_from(sorted(SEEDS)))
def test_made_up_requests(server, request_bytes, dialect):
    """Any bytes, and any fields with anything in them, are answered or refused."""
    server.check(dialect, request_bytes)


@DRAWN
@given(values=st.lists(VALUES, min_size=1, max_size=3), needed=st.booleans())
@example(values=[integer(1).SerializeToString()], needed=True)
def test_an_answer_can_be_read_whatever_the_entity_values_hold(server, values, needed):
    """Feast's answers give entity values back as they came, and Feast's own message can read every one of them."""
    column = {"driver_id": values} if needed else {"driver_id": [integer(1)] * len(values), "string_key": values}
    server.check("Feast", feast(["driver:trips"], column))
    server.check("hindcast.v1", hindcast(["driver:trips"], column))


@DRAWN
@given(value=VALUES, name=st.sampled_from(["label", "seats", "distance", "shared", "booked_at", "token"]))
def test_request_data_of_any_bytes(server, value, name):
    """Whatever request data holds, a view's function sees what it declared, or nothing."""
    for dialect, seed, field in (("hindcast.v1", OF_HINDCAST[-1], 4), ("Feast", OF_FEAST[-1], 5)):
        entry = sized(1, name.encode()) + sized(2, sized(1, value))
        server.check(dialect, seed + sized(field, entry))


def entries(field: int, count: int, value: bytes) -> bytes:
    """A map of many entries."""
    return b"".join(sized(field, sized(1, f"{at:x}".encode()) + sized(2, value)) for at in range(count))


def in_list(value: bytes, times: int) -> bytes:
    """A Value that is a list of one value many times."""
    return sized(42, sized(1, value) * times)


ONE_KEY = sized(3, sized(1, b"driver_id") + sized(2, sized(1, b"\x20\x01")))
LARGE: dict[str, Callable[[], bytes]] = {
    "100,000 columns": lambda: entries(3, 100_000, sized(1, b"\x20\x01")),
    "100,000 columns of request data": lambda: entries(4, 100_000, b""),
    "100,000 columns of request context": lambda: entries(5, 100_000, b""),
    "100,000 tags": lambda: ONE_KEY + entries(7, 100_000, b"tag"),
    "1,000,000 columns": lambda: entries(3, 100_000, b"") * 10,
    "3,000,000 references": lambda: sized(2, sized(1, b"d:t") * 3_000_000),
    "1,000,000 references of one feature": lambda: sized(2, sized(1, b"driver:trips") * 1_000_000),
    "8,000,000 empty values": lambda: sized(3, sized(1, b"driver_id") + sized(2, sized(1, b"") * 8_000_000)),
    "10,000 null keys": lambda: sized(3, sized(1, b"driver_id") + sized(2, sized(1, b"") * 10_000)),
    "800 columns of 10,000 rows": lambda: entries(3, 800, sized(1, b"") * 10_000),
    "a list of 2,000,000 values": lambda: sized(
        3, sized(1, b"string_key") + sized(2, sized(1, in_list(b"\x38\x01", 2_000_000)))
    ),
    "a map of 100,000 entries": lambda: sized(
        3, sized(1, b"string_key") + sized(2, sized(1, sized(20, entries(1, 100_000, b"\x38\x01"))))
    ),
    "a service of 15 MB": lambda: sized(1, b"x" * 15_000_000),
    "a reference of 15 MB of NUL": lambda: sized(2, sized(1, bytes(15_000_000))),
    "a column named by 15 MB": lambda: sized(3, sized(1, b"x" * 15_000_000)),
    "15 MB of an unknown field": lambda: sized(1000, bytes(15_000_000)),
    "5,000,000 unknown numbers": lambda: (varint(1000 << 3) + b"\x01") * 5_000_000,
    "5,000,000 groups": lambda: b"\x0b\x0c" * 5_000_000,
    "groups 5,000,000 deep": lambda: b"\x0b" * 5_000_000,
    "one service 3,000,000 times": lambda: sized(1, b"ride") * 2_500_000,
}


@cache
def made(what: str) -> bytes:
    """A large request, made once for both dialects."""
    return LARGE[what]()


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("dialect", SEEDS)
def test_large_requests_are_settled_soon(server, dialect, what):
    """A request of up to 16 MiB, whatever it repeats, is answered or refused within its CPU time."""
    request = made(what)
    assert len(request) <= 16 * 2**20
    asked = hindcast(["driver:trips"]) if dialect == "hindcast.v1" else feast(["driver:trips"])
    server.check(dialect, request)
    server.check(dialect, asked + ONE_KEY + request[: 16 * 2**20 - 100])
