"""A real server's receipts before and after they are sealed, and what it does with the log of workers that were killed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import psutil
import pytest

from faults.repos import make_repo, store_rows
from hindcast.lookups.directory import OPEN, LogDirectory, SegmentName
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.segment import HEADER_BYTES
from hindcast.v1 import lookup_service_pb2 as pb
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client, HindcastError, NotFound, ReceiptSummary
from logged import log_directory
from services import HINDCAST as PROGRAM
from services import HindcastServer, run_hindcast, run_redis, wait_for


@pytest.fixture(scope="module")
def redis_address() -> Iterator[str]:
    """A Redis with drivers 1 to 3."""
    with run_redis() as redis:
        rows = [(Value(int64_val=n), {"trips": Value(int64_val=n * 10)}) for n in range(1, 4)]
        store_rows(redis.connection_string, "driver", rows)
        yield redis.connection_string


@dataclass(frozen=True)
class Told:
    """What a caller knows of a lookup of its own.

    Attributes:
        served_at: None for a failure, which does not say.
    """

    lookup_id: str
    request_id: str
    tags: dict[str, str]
    service: str
    refs: tuple[str, ...]
    code: grpc.StatusCode
    rows: int | None
    served_at: datetime | None


def look_up(address: str, number: int) -> Told:
    """Ask a worker for something, on a connection of its own, and write down what was said."""
    features = "ride" if number % 3 else ["driver:trips"]
    drivers = [n % 5 for n in range(number % 4 + 1)]
    request_id = ("", f"order-{number}", "again")[number % 3]
    tags = {"model": f"m{number % 2}", "batch": "one"} if number % 4 else {}
    refs = () if isinstance(features, str) else tuple(features)
    told = (request_id, tags, "" if refs else "ride", refs)
    with Client(address) as client:
        entities = {"driver_id": drivers if number % 7 else ["no number"]}
        try:
            result = client.get_online_features(
                features=features, entities=entities, request_id=request_id or None, tags=tags
            )
        except HindcastError as error:
            return Told(error.lookup_id, *told, grpc.StatusCode.INVALID_ARGUMENT, None, None)
        return Told(result.lookup_id, *told, grpc.StatusCode.OK, len(drivers), result.served_at)


def summary_told(summary: ReceiptSummary, ledger: dict[str, Told]) -> Told:
    """A line of a list, as its caller would have written it down."""
    known = ledger[summary.lookup_id]
    return Told(
        summary.lookup_id,
        summary.request_id or "",
        dict(summary.tags),
        summary.feature_service or "",
        summary.feature_refs,
        summary.code,
        summary.rows,
        None if known.served_at is None else summary.served_at,
    )


def listed(address: str, **wanted: object) -> list[ReceiptSummary]:
    """All pages of a list, each from whichever worker takes the connection."""
    found, token = [], None
    while True:
        with Client(address) as client:
            page = client.list_receipts(page_size=7, page_token=token, **wanted)
        found += page.receipts
        token = page.next_page_token
        if not token:
            return found


QUESTIONS = (
    ({}, lambda told: True),
    ({"feature_service": "ride"}, lambda told: told.service == "ride"),
    ({"tags": {"batch": "one", "model": "m1"}}, lambda told: told.tags.get("model") == "m1"),
    ({"codes": [grpc.StatusCode.INVALID_ARGUMENT]}, lambda told: told.code is not grpc.StatusCode.OK),
    ({"request_id": "again"}, lambda told: told.request_id == "again"),
    ({"request_id": "order-4"}, lambda told: told.request_id == "order-4"),
    ({"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(2001, 1, 1, tzinfo=UTC)}, lambda told: False),
)


def receipts(address: str, ledger: list[Told]) -> list[pb.Receipt]:
    """The receipts of some lookups as they go over the wire, by lookup id and by request id."""
    asked = [pb.GetReceiptRequest(lookup_id=told.lookup_id, include_messages=True) for told in ledger[::5]]
    asked += [pb.GetReceiptRequest(request_id=word, include_messages=True) for word in ("again", "order-4")]
    with grpc.insecure_channel(address) as channel:
        get = channel.unary_unary("/hindcast.v1.Lookups/GetReceipt")
        return [pb.GetReceiptResponse.FromString(get(one.SerializeToString(), timeout=30)).receipt for one in asked]


def command(*arguments: object) -> str:
    """What `hindcast …` prints."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_lists_and_receipts_stay_as_they_were_when_they_are_sealed(tmp_path, redis_address):
    """Over gRPC and on the command line every list is the callers' ledger, of all workers at once, from open segments and then from tables alike."""
    repo = make_repo(tmp_path / "repo", redis_address)
    with run_hindcast(repo, "--workers", "2", "--seal-seconds", "0") as server:
        ledger = [look_up(server.address, number) for number in range(1, 33)]
        of_segments = [listed(server.address, **wanted) for wanted, _ in QUESTIONS]
        receipts_of_segments = receipts(server.address, ledger)
    by_id = {told.lookup_id: told for told in ledger}
    text = command("lookups", "ls", "--repo", repo, "--limit", "100")
    Sealer(log_directory(repo), repo_root=repo).seal()
    with run_hindcast(repo, "--workers", "2") as server:
        of_tables = [listed(server.address, **wanted) for wanted, _ in QUESTIONS]
        receipts_of_tables = receipts(server.address, ledger)
        with Client(server.address) as client, pytest.raises(NotFound):
            client.get_receipt(request_id="nobody's")
        (sealer,) = sealers(server)
        wait_for(lambda: sealer.nice() > psutil.Process(server.process.pid).nice(), what="a lower priority")
        new = look_up(server.address, 4)
        assert new.lookup_id == listed(server.address, request_id="order-4")[0].lookup_id

    for (_, matches), found in zip(QUESTIONS, of_segments, strict=True):
        assert [told for told in ledger[::-1] if matches(told)] == [summary_told(one, by_id) for one in found]
    assert of_segments == of_tables
    assert receipts_of_segments == receipts_of_tables
    until = (of_tables[0][0].served_at + timedelta(microseconds=1)).isoformat()
    assert text == command("lookups", "ls", "--repo", repo, "--until", until, "--limit", "100")
    assert json.loads(command("receipt", "order-4", "--repo", repo, "--output", "json"))["lookup_id"] == new.lookup_id


def sealers(server: HindcastServer) -> list[psutil.Process]:
    """The sealing processes of a server."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "hindcast.lookups.sealing_process" in child.cmdline()]


def open_segments(log: Path) -> set[str]:
    """The names of open segments, without the suffix."""
    names = [SegmentName.parse(path.name) for path in LogDirectory(log).segments.iterdir()]
    return {str(name).removesuffix(OPEN) for name in names if name is not None and name.suffix == OPEN}


def check(repo: Path) -> list[dict]:
    """The writers of a report that says that nothing is missing."""
    report = json.loads(command("lookups", "check", "--repo", repo, "--output", "json"))
    assert report["whole"]
    return report["writers"]


def test_what_a_killed_worker_left_open_is_closed_without_a_sealer(tmp_path, redis_address):
    """After SIGKILL of a worker, and of a whole server, the next one closes its segments; no lookup that was answered is lost."""
    repo = make_repo(tmp_path / "repo", redis_address)
    log = log_directory(repo)
    ledger: list[Told] = []

    def ask_until(segments: int, address: str) -> None:
        def one_more() -> bool:
            ledger.append(look_up(address, len(ledger) + 1))
            sizes = [LogDirectory(log).segments.joinpath(name + OPEN).stat().st_size for name in open_segments(log)]
            return segments == sum(size > HEADER_BYTES for size in sizes)

        wait_for(one_more, what=f"{segments} workers to have written")

    with run_hindcast(repo, "--workers", "2", "--seal-seconds", "0") as server:
        ask_until(2, server.address)
        before = open_segments(log)
        first = server.worker_ids()[0]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: 1 == len(before & open_segments(log)), what="the dead worker's segment to be closed")
        (closed,) = before - open_segments(log)
        assert LogDirectory(log).segments.joinpath(f"{closed}.sealed").exists()
        assert {True, False} == {writer["lives"] for writer in check(repo)}
        wait_for(lambda: len(server.worker_ids()) == 2 and first not in server.worker_ids(), what="another worker")
        ask_until(2, server.address)
        left = open_segments(log)
        for worker in server.worker_ids():
            # Stopped, it cannot close its log when the supervisor is gone.
            os.kill(worker, signal.SIGSTOP)
        workers = server.worker_ids()
        server.process.kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    with run_hindcast(repo, "--workers", "1", "--seal-seconds", "0") as server:
        wait_for(lambda: not left & open_segments(log), what="what the killed server left to be closed")
        writers = check(repo)
        found = listed(server.address)
        assert [] == sealers(server)

    assert [told.lookup_id for told in ledger[::-1]] == [summary.lookup_id for summary in found]
    assert (len(ledger), 0) == tuple(sum(writer[name] for writer in writers) for name in ("written", "lost"))
    assert any("whose worker died, is closed (whole, records:" in line for line in server.output)
