"""Replays against real servers and files: what was pushed to both stores is the same in both, bit for bit, for every shape of a question."""

import math
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

import pushable
from hindcast.replay import Reason, replay
from hindcast.v1.push_service_pb2 import PUSH_DESTINATION_ONLINE_AND_OFFLINE
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client
from integration.request_rows import FEAST, HINDCAST, feast, hindcast, integer
from integration.test_push import kinds
from services import HINDCAST as PROGRAM
from services import HindcastServer, run_hindcast, run_redis

AT = datetime.now(UTC) - timedelta(hours=1)
NANS = [struct.unpack(">d", bits.to_bytes(8, "big"))[0] for bits in (0x7FF8000000000001, 0xFFF8000000000002)]
RATINGS = [NANS[0], NANS[1], -0.0, 0.0, 5e-324, math.inf, None, 0.1]
BOTH = "online_and_offline"


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


def command(*arguments, exit_code=0):
    """What `hindcast replay …` prints."""
    done = subprocess.run([PROGRAM, "replay", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert exit_code == done.returncode, done.stdout + done.stderr
    return done.stderr if exit_code == 2 else done.stdout


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
