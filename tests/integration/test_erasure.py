"""Erasure: of a person nothing is left in any file of a log, of other people all, and what was erased can be told from what was lost."""

import asyncio
import fcntl
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import grpc
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from faults.repos import make_repo, store_rows
from hindcast.catalog import Field, KeyType, Logging, Projection, Service, View
from hindcast.errors import InvalidArgument, SealError
from hindcast.lookups.closing import have_closed
from hindcast.lookups.directory import OPEN, LogDirectory, WriterId
from hindcast.lookups.erase import erase
from hindcast.lookups.gap_report import gap_report
from hindcast.lookups.ranges import sealed_ranges
from hindcast.lookups.receipt_json import receipt_json
from hindcast.lookups.receipts import by_lookup_id
from hindcast.lookups.record import encode
from hindcast.lookups.sealed import find_sealed
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.sql import query
from hindcast.lookups.writer import LookupLog
from hindcast.settings import LogMode
from hindcast.shadow.v1 import shadow_pb2
from hindcast_client import Client
from integration.request_rows import FEAST, HINDCAST, feast, hindcast, integer
from logged import log_directory
from sealing import INT64, NOON, STRING, keep, make_catalog, make_failure, make_record, value, write_segment
from services import HINDCAST as PROGRAM
from services import run_hindcast, run_redis, wait_for

PERSON = 4_242_424_242


@pytest.fixture
def log(tmp_path):
    """A log's directory, with the usual catalog kept in it."""
    keep(tmp_path / "log", make_catalog())
    return tmp_path / "log"


def answered(drivers, **more):
    """A lookup of drivers; what each was answered tells whose it is."""
    columns = {
        "trips": [10 * driver for driver in drivers],
        "rating": [1.0] * len(drivers),
        "city": [f"of {driver}" for driver in drivers],
    }
    return make_record(drivers, columns, **more)


def traces(*folders: Path) -> list[tuple[str, bytes]]:
    """Where anything of the person stands in a file of these folders, of Parquet in its values."""
    needles = [str(PERSON).encode(), PERSON.to_bytes(8, "little"), value(PERSON), value(10 * PERSON), b"them"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return [(str(path), needle) for path in files for needle in needles if needle in plain_bytes(path)]


def plain_bytes(path) -> bytes:
    """A file's bytes, of Parquet those of its values too."""
    if ".parquet" not in path.name or path.suffix == ".ids":
        return path.read_bytes()
    rows = pq.ParquetFile(path).read()
    return path.read_bytes() + b"".join(
        repr(value).encode()
        + (value if isinstance(value, bytes) else b"")
        + (value.to_bytes(8, "little", signed=True) if type(value) is int else b"")
        for column in rows.columns
        for value in column.to_pylist()
    )


def erase_person(log, **more):
    """Erase the person."""
    return erase(
        log, **{"key": "driver_id", "value": str(PERSON), "repo_root": log.parent, "clock": lambda: NOON, **more}
    )


def receipt_of(log, record):
    """A lookup's receipt, as programs see it."""
    return receipt_json(by_lookup_id(log, UUID(bytes=record.lookup_id)).receipt)


def drivers_of(log) -> list[int]:
    """Whose rows the service has, sealed or not."""
    found = query(log, "SELECT driver_id FROM fraud ORDER BY driver_id", repo_root=log.parent)
    return [driver for (driver,) in found.rows]


def test_a_person_is_erased(log, tmp_path):
    """From tables, destinations, lists and records the person's rows go, in many versions of the definitions; others' rows are all there."""
    logging = Logging(1.0, "file", "logs")
    keep(log, make_catalog({"trips": INT64}, version="sha256:dest", logging=logging))
    others = answered([3, 4])
    records = [
        answered([PERSON, 5], tags={"who": "them"}),
        others,
        make_record([PERSON, 6], {"trips": [1, 2]}, catalog_version="sha256:dest"),
        make_record([PERSON, 7], {"trips": [1, 2]}, service="", refs=["driver:trips"]),
    ]
    write_segment(log, records)
    Sealer(log, repo_root=tmp_path).seal()
    left_by_a_kill = next((tmp_path / "logs").glob("*.parquet"))
    left_by_a_kill.with_name(f".{left_by_a_kill.name}.new").write_bytes(left_by_a_kill.read_bytes())
    write_segment(log, [answered([PERSON, PERSON])], first_sequence=5)
    assert traces(log, tmp_path / "logs")
    erased = erase_person(log)
    again = erase_person(log)

    assert (4, 5, []) == (erased.lookups, erased.entity_rows, erased.left)
    (ranges,) = sealed_ranges(log).values()
    assert (((1, 4),), ((5, 5),)) == (ranges.kept.ranges, ranges.erased.ranges)
    assert (0, 0, None) == (again.lookups, again.entity_rows, again.tombstone)
    assert [3, 4, 5, 6] == drivers_of(log)
    assert [(5, 1)] == query(log, "SELECT count(*), count(*) FILTER (erased) FROM lookups").rows
    assert [(1,)] == query(log, "SELECT count(*) FROM ad_hoc").rows
    assert others == find_sealed(log, others.lookup_id).record
    told = json.loads(erased.tombstone.read_text())
    assert (4, 5, [4]) == (told["lookups"], told["entity_rows"], [writer["lookups"] for writer in told["writers"]])
    assert [] == traces(log, tmp_path / "logs")
    assert gap_report(log)[0].is_whole


def test_of_many_rows_only_the_persons_go(log):
    """Of a lookup of a hundred keys the receipt says which row was erased, and has all others as they were answered."""
    record = answered([*range(1, 43), PERSON, *range(44, 101)])
    write_segment(log, [record])
    Sealer(log).seal()
    before = receipt_of(log, record)
    erased = erase_person(log)
    after = receipt_of(log, record)

    assert (1, 1) == (erased.lookups, erased.entity_rows)
    assert [42] == after["erased_rows"]
    assert [cell for cell in before["features"] if cell["row"] != 42] == after["features"]
    assert [driver for driver in range(1, 101) if driver != 43] == drivers_of(log)
    assert [] == traces(log)


def test_a_person_is_erased_under_each_type_that_the_key_has_had(log):
    """A join key whose type was changed has a column for each type, and a person's rows go by either."""
    newer = make_catalog(version="sha256:two")
    view = replace(newer.views["driver"], join_keys=(Field("driver_id", STRING),))
    keep(log, replace(newer, views={"driver": view}))
    older, newer = answered([1, PERSON]), answered([2, PERSON], catalog_version="sha256:two")
    entities = {"driver_id": shadow_pb2.ValueColumn(val=[value("2"), value(str(PERSON))])}
    request = shadow_pb2.HindcastRequest(feature_service="fraud", entities=entities).SerializeToString()
    write_segment(log, [older, structs.replace(newer, request=request)])
    erased = erase_person(log)

    assert (2, 2) == (erased.lookups, erased.entity_rows)
    assert [(1, None), (None, "2")] == query(
        log, "SELECT driver_id, driver_id__hc_string FROM fraud ORDER BY hc_sequence"
    ).rows
    assert [] == traces(log)


def test_a_segment_that_cannot_be_sealed_is_rewritten(log):
    """Behind a segment that this version cannot read, closed ones are searched where they are; sequences and receipts stay."""
    renamed = write_segment(log, [make_failure()], suffix=OPEN)
    refused = renamed.rename(renamed.with_name(f"{WriterId(0, NOON)}-{0:016x}.open"))
    record, alone = answered([1, PERSON]), answered([PERSON], request_id="a caller's")
    listed = make_record([9, PERSON], {"trips": [1, 2]}, service="", refs=["driver:trips"])
    path = write_segment(log, [answered([7]), record, alone, answered([8]), listed], first_sequence=2)
    erased = erase_person(log)
    report = gap_report(log)[0]

    assert path.exists()
    assert (3, 3) == (erased.lookups, erased.entity_rows)
    assert [f"{refused.name}: it cannot be recovered; `hindcast lookups seal` says why"] == erased.left
    assert [1, 7, 8] == drivers_of(log)
    assert [1] == receipt_of(log, record)["erased_rows"]
    assert by_lookup_id(log, UUID(bytes=alone.lookup_id)).receipt is None
    assert (1, ()) == (report.erased, report.damage)
    assert [] == traces(log)
    refused.unlink()
    Sealer(log).seal()
    assert not path.exists()
    assert [1, 7, 8] == drivers_of(log)
    assert [(0, "1")] == query(log, "SELECT hc_row, hc_text FROM ad_hoc").rows
    assert 1 == gap_report(log)[0].erased


@pytest.mark.parametrize("mode", [LogMode.DURABLE, LogMode.BATCHED, LogMode.BEST_EFFORT])
def test_a_living_writer_closes_what_it_has_open(log, mode):
    """Erasing waits for no minute to pass: a writer is asked, closes its segment, goes on in the next, and is asked no more."""

    async def story():
        writer = LookupLog(log, slot=0, mode=mode, sync_seconds=0.05)
        for record in (answered([1, PERSON]), answered([PERSON])):
            if kept := writer.append(encode(record), mode=mode):
                await kept
        erased = await asyncio.to_thread(erase_person, log, wait_seconds=30.0)
        if kept := writer.append(encode(answered([2])), mode=mode):
            await kept
        await writer.close()
        return erased

    erased = asyncio.run(story())
    (report,) = gap_report(log)
    assert (2, 2, []) == (erased.lookups, erased.entity_rows, erased.left)
    assert [1, 2] == drivers_of(log)
    assert (True, 3) == (report.is_whole, report.last_sequence)
    assert not LogDirectory(log).closing.exists()
    assert [] == traces(log)


def test_a_dead_writers_open_segment_is_recovered_and_searched(log):
    """Nobody holds its lock, so nobody is waited for."""
    write_segment(log, [answered([1, PERSON]), answered([PERSON])], suffix=OPEN)
    erased = erase_person(log, wait_seconds=0)

    assert (2, []) == (erased.lookups, erased.left)
    assert ([1], []) == (drivers_of(log), traces(log))


def test_what_another_process_recovers_meanwhile_is_told(log):
    """Where the segment of a dead writer is taken by another recovery, which has not sealed it by the end, there is something left to search."""
    path = write_segment(log, [answered([PERSON])], suffix=OPEN)
    with path.open("rb+") as other:

        def clock() -> int:
            fcntl.flock(other, fcntl.LOCK_EX)  # the first to ask for the time is the recovery
            return NOON

        erased = erase_person(log, clock=clock, wait_seconds=0)
    again = erase_person(log)

    assert (0, 1) == (erased.lookups, len(erased.left))
    assert ("run this again" in erased.left[0], path.name in erased.left[0]) == (True, True)
    assert (1, [], []) == (again.lookups, again.left, traces(log))


def test_two_who_ask_a_writer_to_close_do_not_take_each_others_word_back(log):
    """The one who is done first leaves what the other one asks, and a word that was removed is given again at the next look."""
    directory = LogDirectory(log)
    path = write_segment(log, [answered([7])], suffix=OPEN)
    with path.open("rb+") as writer, ThreadPoolExecutor() as pool:
        fcntl.flock(writer, fcntl.LOCK_EX)
        asking = pool.submit(have_closed, log, seconds=30.0)
        wait_for(directory.closing.exists, what="somebody who asks")
        directory.closing.unlink()
        wait_for(directory.closing.exists, seconds=4, what="the word that is given again")
        directory.closing.write_bytes(b"of another one")
        fcntl.flock(writer, fcntl.LOCK_UN)
        assert 0 == asking.result(timeout=30)
    assert b"of another one" == directory.closing.read_bytes()


def test_what_a_writer_began_since_is_not_told(log):
    """Segments that were begun after the erasure hold what is for the next one, whether they are closed meanwhile or not."""
    renamed = write_segment(log, [make_failure()], suffix=OPEN)
    refused = renamed.rename(renamed.with_name(f"{WriterId(0, NOON)}-{0:016x}.open"))
    write_segment(log, [answered([PERSON])], first_sequence=2)
    began = []

    def step(name: str) -> None:
        if not began:
            began.append(write_segment(log, [answered([PERSON])], writer=WriterId(1, NOON), suffix=OPEN))
        elif name == "rewrite" and began[0].exists():
            began[0].rename(began[0].with_suffix(".sealed"))

    write_segment(log, [answered([7])], writer=WriterId(2, NOON))
    erased = erase_person(log, step=step)

    assert began[0].with_suffix(".sealed").exists()
    assert [f"{refused.name}: it cannot be recovered; `hindcast lookups seal` says why"] == erased.left


def test_nothing_to_search_is_no_success(log, tmp_path):
    """A directory that is not there, or no log, is an error, and nothing is made in it; an entity's name is its key."""
    write_segment(log, [answered([PERSON])])
    (tmp_path / "no log").mkdir()
    for place in (tmp_path / "elsewhere", tmp_path / "no log"):
        with pytest.raises(SealError, match="there is no log of lookups"):
            erase(place, key="driver_id", value="7")

    assert not (tmp_path / "elsewhere").exists()
    assert [] == [*(tmp_path / "no log").iterdir()]
    assert ([], []) == (erase_person(log, key="driver").left, traces(log))


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        (
            "driver_di",
            str(PERSON),
            "'driver_di' is no join key that the log's or the repo's definitions have; did you mean 'driver_id'",
        ),
        ("driver_id", "abc", "'abc' can be no value of driver_id, which is INT64; write a whole number"),
        ("driver", "", "'' can be no value of driver, which is INT64; write a whole number"),
        ("driver_id", "07", "'07' can be no value of driver_id, which is INT64; write 7"),
        ("driver_id", str(1 << 63), "which is INT64; write a whole number of 64 bits"),
        ("pickup", "1.5", "'1.5' can be no value of pickup, which is INT64; write a whole number"),
        ("token", "a-b", "'a-b' can be no value of token, which is BYTES; write its bytes in base64"),
        ("born", "1999-12-31", "which is UNIX_TIMESTAMP; write a whole number of seconds since 1970"),
    ],
)
def test_nobody_can_have_been_answered_by_what_was_mistyped(log, key, text, said):
    """A key that no definitions have, or a value that none of its types has, is no success with nothing erased; damaged segments stay."""
    projection = Projection("driver", "driver", ("trips",), {"driver_id": "pickup"})
    views = {
        name: View(name, (Field(name, kind),), (), 0, 0, name)
        for name, kind in (("token", KeyType.BYTES), ("born", KeyType.UNIX_TIMESTAMP))
    }
    newer = make_catalog(version="sha256:two")
    services = {"aliased": Service("aliased", (projection,))}
    keep(log, replace(newer, views={**newer.views, **views}, services=services))
    write_segment(log, [answered([7, PERSON])])
    (log / "damaged").mkdir()
    (log / "damaged" / "unreadable").write_bytes(b"?")

    with pytest.raises(InvalidArgument, match="entity: ") as raised:
        erase(log, key=key, value=text, repo_root=log.parent, drops_damaged=True)
    assert said in str(raised.value)
    assert [7, PERSON] == drivers_of(log)
    assert (log / "damaged" / "unreadable").exists()
    assert not (log / "tombstones").exists()


def test_what_was_refused_for_a_mistyped_key_or_value_can_be_erased(log):
    """Requests that were refused for a name or a value are in the log under it, and go; that nothing else can be found is told."""
    for number, (key, sent) in enumerate([("driver_di", PERSON), ("driver_id", "them")], start=1):
        entities = {key: shadow_pb2.ValueColumn(val=[value(sent)])}
        request = shadow_pb2.HindcastRequest(feature_service="fraud", entities=entities).SerializeToString()
        write_segment(log, [structs.replace(make_failure(), request=request)], writer=WriterId(number, NOON))
    by_key, by_value = erase_person(log, key="driver_di"), erase_person(log, value="them")

    assert (1, 1, []) == (by_key.lookups, by_value.lookups, traces(log))
    assert "'driver_di' is no join key" in by_key.left[0]
    assert "'them' can be no value of driver_id" in by_value.left[0]


def test_keys_and_types_of_any_time_can_be_erased(log):
    """A key that only old definitions have, a type that only they give it, or a key that the repo has and nobody was answered by yet is no mistake."""
    older = make_catalog(version="sha256:old")
    view = View("car", (Field("plate", STRING), Field("driver_id", STRING)), (), 0, 0, "car")
    keep(log, replace(older, views={"car": view}, entities={"car": "plate"}))
    repo = make_repo(log.parent / "repo", "127.0.0.1:1")
    write_segment(log, [answered([PERSON])])

    none = [erase(log, key=key, value="x").left for key in ("plate", "car", "driver_id")]
    assert [[], [], []] == none
    assert [] == erase(log, key="int32_key", value="1", repo_root=repo).left
    with pytest.raises(InvalidArgument, match="int32_key, which is INT32; write a whole number of 32 bits"):
        erase(log, key="int32_key", value=str(PERSON), repo_root=repo)


def test_without_all_definitions_nobody_can_say_that_a_key_is_none(log):
    """Where one of them is damaged, what nobody may have been answered by is told beside the rest, and is no error."""
    write_segment(log, [answered([PERSON])])
    (log / "catalogs" / "damaged.json").write_bytes(b"{")

    assert "'driver_di' is no join key" in erase_person(log, key="driver_di").left[0]


class KilledError(BaseException):
    """Ends a process for a test."""


def scattered(at: Path) -> None:
    """A log that has the person in every place: tables, a destination, closed segments of which one cannot be sealed, and `damaged/`."""
    logging = Logging(1.0, "file", "logs")
    keep(at, make_catalog(), make_catalog({"trips": INT64}, version="sha256:dest", logging=logging))
    in_parts = make_record([2, PERSON], {"trips": [1, 2]}, catalog_version="sha256:dest")
    write_segment(at, [answered([1, PERSON]), answered([PERSON]), in_parts])
    Sealer(at, repo_root=at.parent).seal()
    write_segment(at, [answered([3, PERSON])], first_sequence=4)
    renamed = write_segment(at, [make_failure()], writer=WriterId(1, NOON), suffix=OPEN)
    renamed.rename(renamed.with_name(f"{WriterId(1, NOON)}-{0:016x}.open"))
    write_segment(at, [answered([4, PERSON])], writer=WriterId(1, NOON), first_sequence=2)
    (at / "damaged").mkdir()
    aside = write_segment(at, [answered([5, PERSON])], writer=WriterId(2, NOON))
    aside.rename(at / "damaged" / aside.name)


def test_an_erasure_that_was_killed_is_done_by_the_next(tmp_path):
    """Before whatever step it is killed, the next one leaves nothing of the person, and of others all that there was."""
    steps: list[str] = []
    scattered(tmp_path / "whole" / "log")
    erase_person(tmp_path / "whole" / "log", step=steps.append)
    for wanted in dict.fromkeys(steps):
        log = tmp_path / wanted / "log"
        scattered(log)

        def step(name, wanted=wanted):
            if name == wanted:
                raise KilledError

        with pytest.raises(KilledError):
            erase_person(log, step=step)
        erase_person(log)

        assert [1, 2, 3, 4] == drivers_of(log)
        assert [] == traces(log.parent)
        assert [] == [path for path in log.rglob("*") if path.name.endswith((".rewriting", ".new"))]
    assert {"write", "commit", "vacuum", "rename", "rewrite", "remove"} <= set(steps)


def test_a_writer_that_does_not_close_is_an_error(log):
    """While it has a segment open that holds the person, nothing is erased, and it is said what to do; of others nobody waits."""
    write_segment(log, [answered([7])])
    path = write_segment(log, [answered([7])], first_sequence=2, suffix=OPEN)
    with path.open("rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(SealError, match="run it again in a minute"):
            erase(log, key="driver_id", value="7", wait_seconds=0)
        assert erase(log, key="driver_id", value="8", wait_seconds=0).tombstone is None
    assert 2 == erase(log, key="driver_id", value="7", wait_seconds=0).lookups


def test_what_can_be_read_of_damaged_segments_is_erased(log):
    """Records around a damaged place are searched in `damaged/` too; what cannot be read is told, and deleted if that is wanted."""
    path = write_segment(log, [answered([driver, PERSON]) for driver in range(1, 6)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (log / "damaged").mkdir()
    whole = write_segment(log, [answered([9, PERSON])], writer=WriterId(1, NOON))
    whole.rename(log / "damaged" / whole.name)
    erased = erase_person(log)
    kept = {path.name: path.read_bytes() for path in (log / "damaged").iterdir()}
    dropped = erase_person(log, drops_damaged=True)

    assert (5, [f"damaged/{path.name}"]) == (erased.lookups, [left.partition(":")[0] for left in erased.left])
    assert "cannot be read, and may be of anybody; --drop-damaged deletes it" in erased.left[0]
    assert len(kept[path.name]) < len(content)
    assert 2 >= kept[path.name].count(value(PERSON))  # of the damaged one of five
    assert value(PERSON) not in kept[whole.name]
    assert value(9) in kept[whole.name]
    assert ([f"damaged/{path.name}"], []) == (dropped.dropped, dropped.left)
    assert [whole.name] == [path.name for path in (log / "damaged").iterdir()]
    assert [] == traces(log)
    assert [f"damaged/{path.name}"] == json.loads(dropped.tombstone.read_text())["dropped"]


def test_a_person_is_erased_from_a_running_server(tmp_path):
    """A second after its answers the command has them out of every file, other people's receipts are served, and no lookup is missing."""
    with run_redis() as redis:
        store_rows(
            redis.connection_string, "driver", [(integer(n), {"trips": integer(10 * n)}) for n in (1, 2, PERSON)]
        )
        repo = make_repo(tmp_path / "repo", redis.connection_string)
        log = log_directory(repo)
        with run_hindcast(repo, "--workers", "2") as server, grpc.insecure_channel(server.address) as channel:
            ids = []
            for method, request in ((HINDCAST, hindcast), (FEAST, feast)) * 4:
                asked = {"driver_id": [integer(n) for n in (1, PERSON, 2)]}
                _, ended = channel.unary_unary(method).with_call(request(["driver:trips"], asked), timeout=30)
                ids.append(dict(ended.trailing_metadata())["hindcast-lookup-id"])
            done = subprocess.run(
                [
                    *(PROGRAM, "lookups", "erase", "--repo", repo),
                    *("--entity", f"driver_id={PERSON}", "--output", "json", "--wait-seconds", "20"),
                ],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            with Client(server.address) as client:
                served = client.get_receipt(ids[0])
            receipts = [receipt_json(by_lookup_id(log, UUID(one)).receipt) for one in ids]
            reports = gap_report(log)

    told = json.loads(done.stdout)
    assert (8, 8, [], []) == (told["lookups"], told["entity_rows"], told["left"], told["dropped"])
    assert [[1]] * 8 == [receipt["erased_rows"] for receipt in receipts]
    assert (1,) == served.erased_rows
    assert {"driver_id": [1, None, 2], "trips": [10, None, 20]} == served.to_dict()
    assert [[10, 20]] * 8 == [[cell["value"] for cell in receipt["features"]] for receipt in receipts]
    assert [True] == list({report.is_whole for report in reports})
    assert [] == traces(log)
