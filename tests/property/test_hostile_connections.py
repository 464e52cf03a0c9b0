"""Harm below the handlers: connections that speak no HTTP/2, calls that no client would make, floods, and bodies that unpack to
gigabytes. The server goes on answering, from the workers that it began with.
"""

import contextlib
import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse as FeastResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.repos import make_repo
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from integration.request_rows import FEAST, FEAST_GRPC, HINDCAST, LOOKUPS, hindcast, integer
from property.hostile import FACTOR, OF_FEAST, OF_HINDCAST, REQUESTS, mutated
from property.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    connect,
    exchange,
    frame,
    header_block,
    message,
)
from services import HindcastServer, run_hindcast, run_redis

WORKERS = 2
NO_AGE = ("--max-connection-age-seconds", "3600")
"""A caller takes seconds to compress a bomb. Where its connection's age ends meanwhile, gRPC drops the call unsent: of 8 bombs at an age of 2 s, 4."""
ALLOWED = {"INVALID_ARGUMENT", "NOT_FOUND"}
ASKED = hindcast(["driver:trips"], {"driver_id": [integer(1)]})
HEADERS_OF_CALL = header_block(call_headers(HINDCAST))
CALL = frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL) + frame(DATA, END_STREAM, 1, message(ASKED))
ANSWERED = re.compile(rb"grpc-status\x01(\d)|grpc-status\x02(\d\d)")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[HindcastServer]:
    """A server of two workers, which must be the same two at the end, and must have met no defect."""
    with run_redis() as redis:
        repo = make_repo(tmp_path_factory.mktemp("tiny"), redis.connection_string)
        with run_hindcast(repo, "--workers", str(WORKERS), *NO_AGE) as server:
            began_with = server.worker_ids()
            yield server
            assert began_with == server.worker_ids()
            assert [] == [line for line in server.output if "defect" in line or "Traceback" in line]


@pytest.fixture
def still_answers(server) -> Iterator[None]:
    """After the test, lookups on fresh connections are answered as if nothing had been."""
    yield
    for _ in range(4 * WORKERS):
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer = channel.unary_unary(HINDCAST)(ASKED, timeout=5)
            assert [3] == list(GetOnlineFeaturesResponse.FromString(answer).columns[0].statuses)


@settings(max_examples=100 * FACTOR, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), method=st.sampled_from(LOOKUPS), gzipped=st.booleans())
def test_any_bytes_over_the_wire(server, channel, data, method, gzipped):
    """Any bytes in any method, compressed or not, are answered so that the caller can read it, or refused."""
    request = data.draw(mutated(OF_HINDCAST + OF_FEAST) | REQUESTS | st.binary(max_size=200))
    compression = grpc.Compression.Gzip if gzipped else grpc.Compression.NoCompression
    answer = channel.unary_unary(method).future(request, timeout=5, compression=compression)
    failure = answer.exception()
    assert dict(answer.trailing_metadata())["hindcast-lookup-id"]
    if failure is None:
        (GetOnlineFeaturesResponse if method == HINDCAST else FeastResponse).FromString(answer.result())
    else:
        assert answer.code().name in ALLOWED


@pytest.fixture(scope="module")
def channel(server) -> Iterator[grpc.Channel]:
    """A channel to one of the workers."""
    with grpc.insecure_channel(server.address) as channel:
        yield channel


OPENINGS = {
    "nothing": b"",
    "HTTP/1.1": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
    "half a preface": PREFACE[:10],
    "a wrong preface": PREFACE.replace(b"SM", b"MS"),
    "zeros": bytes(10_000),
    "a megabyte without an end": b"A" * 2**20,
    "no settings": PREFACE + CALL,
    "settings of a wrong length": PREFACE + frame(SETTINGS, 0, 0, b"abc"),
    "a frame over every limit": PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 1, bytes(2**24 - 1)),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.usefixtures("still_answers")
def test_a_wrong_opening(server, opening):
    """Whatever a connection opens with, the server outlives it."""
    for _ in range(10):
        with connect(server.address) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(OPENINGS[opening])


@pytest.mark.parametrize("seed", range(8 * FACTOR))
@pytest.mark.usefixtures("still_answers")
def test_random_frames(server, seed):
    """Frames of any kind, flags, stream and content, after a proper preface, harm nobody."""
    draw = random.Random(seed)
    for _ in range(20):
        frames = [
            frame(
                draw.randrange(12),
                draw.randrange(256),
                draw.choice([0, 1, 2, 3, 2**31 - 1]),
                draw.choice([draw.randbytes(draw.randrange(64)), HEADERS_OF_CALL, message(ASKED)]),
            )
            for _ in range(draw.randrange(1, 20))
        ]
        with connect(server.address) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames))


def calls(count: int, *after: tuple[int, int, bytes]) -> bytes:
    """Many calls begun on one connection, each followed by frames (kind, flags, payload) on its stream."""
    begun = (HEADERS, END_HEADERS, HEADERS_OF_CALL)
    return b"".join(
        frame(kind, flags, stream, payload)
        for stream in range(1, 2 * count, 2)
        for kind, flags, payload in (begun, *after)
    )


ASK, RESET = (DATA, END_STREAM, message(ASKED)), (RST_STREAM, 0, (8).to_bytes(4))
FLOODS = {
    "3,000 calls reset at once": calls(3_000, RESET),
    "3,000 calls asked and reset": calls(3_000, ASK, RESET),
    "3,000 calls never finished": calls(3_000),
    "20,000 pings": frame(PING, 0, 0, bytes(8)) * 20_000,
    "20,000 settings": frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\0") * 20_000,
    "20,000 acknowledgements of nothing": frame(SETTINGS, ACK, 0) * 20_000,
    "windows past their limit": CALL + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 10,
    "20,000 empty data frames": frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL) + frame(DATA, 0, 1) * 20_000,
    "headers continued 5,000 times": frame(HEADERS, 0, 1, HEADERS_OF_CALL)
    + frame(CONTINUATION, 0, 1, header_block({"x": "y" * 100})) * 5_000,
    "an index of no header": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\x0f"),
    "farewells": frame(GOAWAY, 0, 0, bytes(8)) * 1_000,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.usefixtures("still_answers")
def test_floods(server, flood):
    """Many frames of one kind harm nobody, while they last and after."""
    with connect(server.address) as connection, contextlib.suppress(ConnectionError, TimeoutError):
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + FLOODS[flood])


UNFINISHED = {
    "a header": frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL),
    "half a message": frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL) + frame(DATA, 0, 1, message(ASKED)[:-1]),
    "3 of 16,000,000 bytes": frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL)
    + frame(DATA, 0, 1, message(b"abc", length=16_000_000)),
    "a message that ends early": frame(HEADERS, END_HEADERS, 1, HEADERS_OF_CALL)
    + frame(DATA, END_STREAM, 1, message(b"abc", length=100)),
    "no message": frame(HEADERS, END_HEADERS | END_STREAM, 1, HEADERS_OF_CALL),
    "a whole call, whose answer nobody reads": CALL,
}


@pytest.mark.parametrize("sent", UNFINISHED)
@pytest.mark.usefixtures("still_answers")
def test_callers_that_hang_up(server, sent):
    """A hundred connections that stop in the middle and are then dropped harm nobody."""
    with contextlib.ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(connect(server.address)).sendall(PREFACE + frame(SETTINGS, 0, 0) + UNFINISHED[sent])


PLAIN, GZIP = call_headers(HINDCAST), call_headers(HINDCAST, grpc_encoding="gzip")
ODD_CALLS = {
    "text/plain": ({0}, call_headers(HINDCAST, content_type="text/plain"), message(ASKED)),
    "no content type": ({0}, call_headers(HINDCAST, content_type=None), message(ASKED)),
    "JSON of gRPC": ({3}, call_headers(HINDCAST, content_type="application/grpc+json"), message(b"{}")),
    "two messages": ({0}, PLAIN, message(ASKED) * 2),
    "a message longer than 16 MiB": ({8}, PLAIN, message(b"abc", length=2**31)),
    "garbage said to be gzip": ({13}, GZIP, message(b"abc", flag=1)),
    "a cut gzip": ({13}, GZIP, message(gzip.compress(ASKED * 50)[:-9], flag=1)),
    "compressed in no way that was named": ({13}, PLAIN, message(ASKED, flag=1)),
    "compressed in an unknown way": ({12, 13}, call_headers(HINDCAST, grpc_encoding="br"), message(ASKED, flag=1)),
    "a deadline that is no time": ({13}, call_headers(HINDCAST, grpc_timeout="soon"), message(ASKED)),
    "a deadline that has passed": ({0, 4}, call_headers(HINDCAST, grpc_timeout="1n"), message(ASKED)),
}
"""Statuses that gRPC may give, headers, and the message. INTERNAL is its own word for a body that does not unpack."""


@pytest.mark.parametrize("odd", ODD_CALLS)
@pytest.mark.usefixtures("still_answers")
def test_odd_calls(server, odd):
    """A call that breaks gRPC's own rules is ended with a status, and with no word of the machine behind it."""
    allowed, headers, body = ODD_CALLS[odd]
    sent = frame(HEADERS, END_HEADERS, 1, header_block(headers)) + frame(DATA, END_STREAM, 1, body)
    received = exchange(server.address, sent, until=b"grpc-status")
    status = ANSWERED.search(received)
    assert status is not None
    assert int(status[1] or status[2]) in allowed
    assert b"Traceback" not in received
    assert b".py" not in received


@pytest.mark.parametrize("method", [HINDCAST, FEAST, FEAST_GRPC])
@pytest.mark.usefixtures("still_answers")
def test_a_compressed_bomb(server, channel, method):
    """A quarter of a megabyte that unpacks to 256 is refused, and a worker's memory grows by less than four messages of the limit."""
    before = [peak_bytes(process_id) for process_id in server.worker_ids()]
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(bytes(2**28), timeout=60, compression=grpc.Compression.Gzip)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    after = [peak_bytes(process_id) for process_id in server.worker_ids()]
    assert max(late - early for early, late in zip(before, after, strict=True)) < 4 * 16 * 2**20


def peak_bytes(process_id: int) -> int:
    """The most memory that a process has had resident."""
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process_id}/status").read_text(), re.MULTILINE)
    return int(peak) * 1024
