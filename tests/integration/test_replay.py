"""Replays against real servers and files: what was pushed to both stores is the same in both, bit for bit, for every shape of a question."""

import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

import pushable
from hindcast.lookups.erase import erase
from hindcast.replay import Reason, prove, replay
from hindcast.settings import log_directory_of
from hindcast.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    StreamOnlineFeaturesRequest,
    StreamOnlineFeaturesResponse,
)
from hindcast.v1.push_service_pb2 import PUSH_DESTINATION_ONLINE_AND_OFFLINE
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client
from integration.request_rows import FEAST, HINDCAST, feast, hindcast, integer
from integration.test_push import kinds
from services import HindcastServer, run_hindcast, run_redis

AT = datetime.now(UTC) - timedelta(hours=1)
NANS = [struct.unpack(">d", bits.to_bytes(8, "big"))[0] for bits in (0x7FF8000000000001, 0xFFF8000000000002)]
RATINGS = [NANS[0], NANS[1], -0.0, 0.0, 5e-324, math.inf, None, 0.1]
BOTH = "online_and_offline"
STREAM = "/hindcast.v1.FeatureService/StreamOnlineFeatures"


@pytest.fixture(scope="module", params=[pushable.PACKED, pushable.FEAST], ids=["packed", "feast's layout"])
def pushed(request, tmp_path_factory) -> Iterator[tuple[Path, HindcastServer]]:
    """A repo and its server, with rows that were pushed to both stores."""
    with run_redis() as redis:
        repo = pushable.make_repo(
            tmp_path_factory.mktemp("pushed") / "repo", redis.connection_string, store=request.param
        )
        with run_hindcast(repo) as server, Client(server.address) as client:
            with grpc.insecure_channel(server.address) as channel:
                push = kinds(["first", "second", "null"], to=PUSH_DESTINATION_ONLINE_AND_OFFLINE)
                channel.unary_unary("/hindcast.v1.PushService/Push")(push.SerializeToString(), timeout=30)
            rows = [
                {
                    "driver_id": 10 + number,
                    "city_id": "ä",
                    "trips": 2**63 - 1 - number,
                    "rating": rating,
                    "fares": number,
                }
                for number, rating in enumerate(RATINGS)
            ]
            client.push(
                push_source="driver_push",
                rows=[{**row, "at": AT + timedelta(microseconds=1)} for row in rows],
                join_keys=["driver_id", "city_id"],
                event_timestamp="at",
                to=BOTH,
            )
            client.push(
                push_source="all_push", rows=[{"surge": -0.0, "at": AT}], join_keys=[], event_timestamp="at", to=BOTH
            )
            yield repo, server


def look_up(server, method, request):
    """The id of a lookup."""
    with grpc.insecure_channel(server.address) as channel:
        _, ended = channel.unary_unary(method).with_call(request, timeout=30)
    return dict(ended.trailing_metadata())["hindcast-lookup-id"]


def verdicts(found):
    """Verdicts by column, each once; now's too."""
    told = {}
    for cell in found.cells:
        told.setdefault(cell.name, set()).add((cell.verdict.reason, cell.now_verdict and cell.now_verdict.reason))
    return told


QUESTIONS = {
    "lists, sets, text, times and nulls": (
        [f"kinds:{kind}" for kind in pushable.KINDS],
        {"city_id": [Value(string_val=city) for city in ("first", "second", "null", "nobody")]},
    ),
    "NaN, zero's sign, a mapped field": (
        ["driver:rating", "driver:trips"],
        {"driver_id": [integer(9 + n) for n in range(len(RATINGS) + 2)]},
    ),
    "a composite key": (
        ["driver_city:fares"],
        {"driver_id": [integer(10), integer(11)], "city_id": [Value(string_val="ä"), Value(string_val="a\u0308")]},
    ),
    "no entity": (["platform:surge"], {}),
    "a null key": (["driver:trips"], {"driver_id": [Value(), integer(10)]}),
}


@pytest.mark.parametrize("method", [HINDCAST, FEAST])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_what_is_in_both_stores_is_equal_bit_for_bit(pushed, method, question):
    """Every value that was pushed to both stores is the same as of then and as of now, its bits, its nulls and its missing rows."""
    repo, server = pushed
    request = (hindcast if method == HINDCAST else feast)(*question)
    found = replay(repo, look_up(server, method, request))
    told = {(reason, now) for pairs in verdicts(found).values() for reason, now in pairs}

    wrong = [(c.name, c.row, c.served, c.then, c.verdict, c.now_verdict) for c in found.cells if not c.verdict.is_equal]
    assert [] == wrong
    assert {(Reason.EQUAL, Reason.EQUAL)} == told
    assert found.is_equal


def test_rows_that_were_erased_are_left_out(pushed):
    """Of a lookup that lost a person's row the others are compared, and nothing is said of that one."""
    repo, server = pushed
    lookup = look_up(
        server, HINDCAST, hindcast(["driver:trips"], {"driver_id": [integer(10), integer(99), integer(11)]})
    )
    erase(log_directory_of(repo), key="driver_id", value="99")
    found = replay(repo, lookup)

    assert [0, 2] == [cell.row for cell in found.cells]
    assert frozenset({1}) == found.receipt.erased
    assert found.is_equal


def test_a_lookup_of_a_stream_is_replayed(pushed):
    """A message of a stream is asked again as a call of its own, in process and by the server."""
    repo, server = pushed
    question = GetOnlineFeaturesRequest.FromString(
        hindcast(["driver:rating"], {"driver_id": [integer(10), integer(9)]})
    )
    request = StreamOnlineFeaturesRequest(lookup=question).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        (answer,) = channel.stream_stream(STREAM)(iter([request]), timeout=30)
    lookup = StreamOnlineFeaturesResponse.FromString(answer).answer.lookup_id

    for found in (replay(repo, lookup), replay(repo, lookup, server=server.address)):
        assert {"rating": {(Reason.EQUAL, Reason.EQUAL)}} == verdicts(found)


@pytest.mark.parametrize("method", [HINDCAST, FEAST])
def test_a_server_says_now_what_the_store_says(pushed, method):
    """Asked over gRPC, each value of now is that of the store itself, with the event time of its row."""
    repo, server = pushed
    request = (hindcast if method == HINDCAST else feast)(*QUESTIONS["NaN, zero's sign, a mapped field"])
    lookup = look_up(server, method, request)
    by_process, by_server = (replay(repo, lookup, server=address).cells for address in (None, server.address))

    assert [(c.now.value, c.now.status, c.now.event_micros) for c in by_process] == [
        (c.now.value, c.now.status, c.now.event_micros) for c in by_server
    ]
    assert {True} == {cell.now_verdict.is_equal for cell in by_server}


def test_another_nan_is_told(pushed):
    """A NaN whose bits are not those of the offline store is no equal value, and the verdict says that only bits differ."""
    repo, server = pushed
    with Client(server.address) as client:
        row = {"driver_id": 90, "trips": 1, "at": AT, "created": AT}
        for rating, to in ((NANS[0], "offline"), (NANS[1], "online")):
            client.push(
                push_source=None,
                feature_view="driver",
                rows=[{**row, "rating": rating}],
                join_keys=["driver_id"],
                event_timestamp="at",
                created_timestamp="created",
                to=to,
            )
    (cell,) = replay(repo, look_up(server, HINDCAST, hindcast(["driver:rating"], {"driver_id": [integer(90)]}))).cells

    assert Reason.FLOAT_BITS is cell.verdict.reason
    assert cell.served.value != cell.then.value


def test_a_proof_of_everything_pushed(pushed):
    """All lookups of lists of references at once, of many meanings, are compared, whatever their dialect."""
    repo, server = pushed
    first = look_up(server, HINDCAST, hindcast(*QUESTIONS["no entity"]))
    since = replay(repo, first, asks_now=False).receipt.record.served_at_micros
    for question in ("a null key", "a composite key", "no entity"):
        look_up(server, FEAST, feast(*QUESTIONS[question]))
    proof = prove(repo, since_micros=since)

    assert (4, 6, True, ()) == (proof.lookups, proof.rows, proof.is_equal, tuple(proof.notes))
    assert {"driver": 2, "driver_city": 2, "platform": 2} == {
        count.view: asdict(count)["values"] for count in proof.counts
    }


def test_the_command_imports_nothing_heavy():
    """Help of `hindcast replay` needs no gRPC, no DuckDB and no Feast, so that it is there at once."""
    code = "import sys, hindcast.cli.replay; print([m for m in ('grpc', 'google.protobuf', 'duckdb', 'pyarrow', 'feast') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
