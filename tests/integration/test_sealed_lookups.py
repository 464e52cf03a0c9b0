"""Sealed lookups: closed segments become tables, which hold what was answered, and are found and queried."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from types import SimpleNamespace
from uuid import UUID

import grpc
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from commands import run_command
from delta_tables import asked_while_cleaned_up
from faults.repos import store_rows
from hindcast.catalog import Logging, Projection, Service
from hindcast.clock import from_micros
from hindcast.errors import InvalidArgument, SealError
from hindcast.lookups import delta_log, parquet, parts_folder
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import OPEN, LogDirectory, WriterId
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.erase import erase
from hindcast.lookups.gap_report import gap_report
from hindcast.lookups.gaps import read_lines
from hindcast.lookups.parts_folder import PartsFolder
from hindcast.lookups.places import digest
from hindcast.lookups.ranges import sealed_ranges
from hindcast.lookups.receipts import by_lookup_id
from hindcast.lookups.record import Rpc, encode
from hindcast.lookups.sealed import find_sealed
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.segment import Gap, GapReason
from hindcast.lookups.sql import query
from hindcast.lookups.tables import sealing_lock
from hindcast.shadow.v1.shadow_pb2 import FeastResponse, HindcastResponse
from hindcast.v1.value_pb2 import Value
from integration.crowded_repo import make_crowded_repo
from integration.request_rows import FEAST, feast, hindcast, integer
from integration.request_rows import HINDCAST as HINDCAST_METHOD
from logged import log_directory, records
from sealing import (
    DAY,
    DOUBLE,
    INT64,
    NOON,
    RUN_ID,
    STRING,
    keep,
    make_catalog,
    make_failure,
    make_record,
    write_segment,
)
from services import run_hindcast, run_redis, wait_for


@pytest.fixture
def log(tmp_path):
    """A log's directory, with the usual catalog kept in it."""
    keep(tmp_path / "log", make_catalog())
    return tmp_path / "log"


COLUMNS = {"trips": [7, None], "rating": [4.5, -0.0], "city": ["Köln", None]}


def rows_of(table) -> list[dict]:
    """All rows of a Delta table, in the order of the log."""
    found = QueryBuilder().register("t", DeltaTable(table)).execute("SELECT * FROM t").read_all()
    rows = pa.table(found).to_pylist()
    return sorted(rows, key=lambda row: (row.get("hc_sequence", row.get("sequence")), row.get("hc_row", 0)))


@pytest.mark.parametrize("rpc", list(Rpc))
def test_a_service_s_answers_are_rows_in_feast_s_logging_schema(log, rpc):
    """Each entity row of an answer is a row with its keys, and each feature's value, event time and status, in any dialect."""
    record = make_record([1, 2], COLUMNS, rpc=rpc, tags={"model": "m"}, request_id="r-1")
    write_segment(log, [record], first_sequence=5)
    done = Sealer(log).seal()
    first, second = rows_of(log / "tables" / "fraud")

    assert (1, 1, 2, []) == (done.segments, done.records, done.entity_rows, done.left)
    assert (1, 7, 4.5, "Köln") == tuple(
        first[name] for name in ("driver_id", "driver__trips", "driver__rating", "driver__city")
    )
    assert (None, "-0.0", None) == (second["driver__trips"], str(second["driver__rating"]), second["driver__city"])
    assert (1, 2) == (first["driver__trips__status"], second["driver__trips__status"])
    assert from_micros(NOON - 1_000_000) == first["driver__trips__timestamp"]
    assert (from_micros(NOON), date(2026, 11, 1)) == (first["__log_timestamp"], first["__log_date"])
    assert str(UUID(bytes=record.lookup_id)) == first["__request_id"] == first["hc_lookup_id"]
    assert (0, 1) == (first["hc_row"], second["hc_row"])
    assert ("r-1", '{"model":"m"}', "sha256:one", "batched") == tuple(
        first[name] for name in ("hc_request_id", "hc_tags", "hc_catalog_version", "hc_mode")
    )
    assert (1.0, None, str(UUID(bytes=RUN_ID))) == tuple(
        first[f"hc_driver__{name}"] for name in ("age_seconds", "created_ts", "run_id")
    )
    assert (0, NOON, 5) == tuple(first[name] for name in ("hc_slot", "hc_epoch", "hc_sequence"))


def test_a_sealed_segment_is_gone_and_its_records_are_found(log):
    """After sealing no segment is left, and each lookup is found by its id as it was logged, failed ones too."""
    records = [make_record([1], {"trips": [1], "rating": [1.0], "city": ["a"]}), make_failure()]
    write_segment(log, records)
    Sealer(log).seal()

    assert [] == list((log / "segments").iterdir())
    assert records == [find_sealed(log, record.lookup_id).record for record in records]
    assert (WriterId(0, NOON), 2) == find_sealed(log, records[1].lookup_id)[:2]
    assert find_sealed(log, make_failure().lookup_id) is None


def test_sealing_again_changes_nothing(log):
    """What is sealed once more, as after a kill before its segment was removed, is there once."""
    path = write_segment(log, [make_record([1, 2], COLUMNS), make_failure()])
    content = path.read_bytes()
    Sealer(log).seal()
    path.write_bytes(content)
    Sealer(log).seal()

    assert 2 == len(rows_of(log / "tables" / "fraud"))
    assert 2 == len(rows_of(log / "tables" / "_records"))
    assert [] == list((log / "segments").iterdir())


def test_a_segment_waits_for_an_open_one_before_it(log):
    """A closed segment stays while an earlier one of its writer cannot be read, and says so; other writers' go on."""
    write_segment(log, [make_failure()], first_sequence=1, suffix=OPEN).rename(
        log / "segments" / f"{WriterId(0, NOON)}-{9:016x}.open"
    )
    write_segment(log, [make_failure()], first_sequence=10)
    write_segment(log, [make_failure()], writer=WriterId(1, NOON))
    done = Sealer(log).seal()

    assert 1 == done.segments
    assert 2 == len(done.left)
    assert ["waits for an earlier segment"] == [
        what for what in ["waits for an earlier segment"] if what in done.left[1]
    ]
    assert 1 == len(rows_of(log / "tables" / "_records"))


def test_a_segment_of_a_newer_version_stays(log):
    """What is before a segment that this version cannot read is sealed; it and those behind it stay as they are, and it is said why."""
    write_segment(log, [make_failure()])
    of_a_newer_format = bytearray(b"".join(encode(make_failure())))
    of_a_newer_format[3] += 1
    newer = write_segment(log, [make_failure(), bytes(of_a_newer_format)], first_sequence=2)
    last = write_segment(log, [make_failure()], first_sequence=4)
    contents = newer.read_bytes(), last.read_bytes()
    done = Sealer(log).seal()

    assert (1, 1, 1) == (done.segments, done.records, len(done.left))
    assert done.left[0].startswith(f"{newer.name}: a record of the lookup log cannot be read")
    assert [1] == [row["sequence"] for row in rows_of(log / "tables" / "_records")]
    assert contents == (newer.read_bytes(), last.read_bytes())


def test_a_log_entry_that_a_power_cut_left_empty_is_made_anew(log):
    """An append whose entry in Delta's log is empty was never synced, so its segments are still there, and are sealed again."""
    path = write_segment(log, [make_failure()])
    Sealer(log).seal()
    kept = write_segment(log, [make_failure()], first_sequence=2)
    content = kept.read_bytes()
    Sealer(log).seal()
    kept.write_bytes(content)
    newest = max((log / "tables" / "_records" / "_delta_log").glob("*.json"))
    newest.write_bytes(b"")
    Sealer(log).seal()

    assert [1, 2] == [row["sequence"] for row in rows_of(log / "tables" / "_records")]
    assert newest.stat().st_size
    assert not path.exists()


def test_a_column_that_is_new_is_added(log):
    """Logs of before and after a feature was added are in one table, each read by its own definitions; the older ones have a null."""
    keep(log, make_catalog({"trips": INT64, "score": DOUBLE}, version="sha256:two"))
    write_segment(log, [make_record([1], {"trips": [1], "rating": [1.5], "city": ["a"]})])
    Sealer(log).seal()
    newer = make_record([2], {"trips": [2], "score": [2.5]}, catalog_version="sha256:two")
    write_segment(log, [newer], first_sequence=2)
    Sealer(log).seal()
    older, newer = rows_of(log / "tables" / "fraud")

    assert (1.5, None) == (older["driver__rating"], older["driver__score"])
    assert (None, 2.5) == (newer["driver__rating"], newer["driver__score"])


def test_a_feature_whose_type_has_changed_has_a_column_of_its_own(log):
    """Values of a feature's new type go to a column that is named by it, and those of the old type stay as they are."""
    keep(log, make_catalog({"trips": STRING}, version="sha256:two"))
    one = make_record([1], {"trips": [1], "rating": [1.5], "city": ["a"]})
    two = make_record([2], {"trips": ["many"]}, catalog_version="sha256:two")
    write_segment(log, [one, two])
    write_segment(log, [two], first_sequence=3)
    Sealer(log, batch_bytes=1).seal()
    rows = rows_of(log / "tables" / "fraud")

    assert [(1, None), (None, "many"), (None, "many")] == [
        (row["driver__trips"], row["driver__trips__hc_string"]) for row in rows
    ]


def test_a_feature_whose_type_has_changed_has_one_column_in_all_parts(log, tmp_path, monkeypatch):
    """In a destination a new type has the same column in each part, so that the parts of that day can become one."""
    monkeypatch.setattr(parts_folder, "FILES_MAX", 3)
    for version, kind in (("sha256:two", INT64), ("sha256:three", STRING)):
        keep(log, make_catalog({"trips": kind}, version=version, logging=Logging(1.0, "file", "logs")))
    one, many = (("sha256:two", 1), ("sha256:three", "many"))
    sealing = Sealer(log, repo_root=tmp_path)
    for sequence, (version, trips) in enumerate([one, many, many, one, many], start=1):
        write_segment(log, [make_record([1], {"trips": [trips]}, catalog_version=version)], first_sequence=sequence)
        sealing.seal()

    assert 1 == len(list((tmp_path / "logs").glob("*.parquet")))
    assert [(1, None), (None, "many"), (None, "many"), (1, None), (None, "many")] == query(
        log, "SELECT driver__trips, driver__trips__hc_string FROM fraud ORDER BY hc_sequence", repo_root=tmp_path
    ).rows


def test_names_that_differ_by_capitals_only_have_a_column_each(log):
    """Of one service at once, and where a feature is called otherwise later: Delta tells no such names apart, and the others are sealed."""
    keep(log, make_catalog({"Trips": INT64, "trips": INT64}, version="sha256:two"))
    keep(log, make_catalog({"TRIPS": INT64}, version="sha256:three"))
    write_segment(
        log,
        [
            make_record([1], {"Trips": [1], "trips": [2]}, catalog_version="sha256:two"),
            make_record([1], {"TRIPS": [3]}, catalog_version="sha256:three"),
        ],
    )
    Sealer(log, batch_bytes=1).seal()
    columns = ["driver__Trips"]
    columns += [f"driver__{name}__hc_{digest(f'driver__{name}')}" for name in ("trips", "TRIPS")]

    assert [(1, 2, None), (None, None, 3)] == [
        tuple(row[name] for name in columns) for row in rows_of(log / "tables" / "fraud")
    ]


def test_references_are_in_the_long_table(log):
    """A list of references leaves a row per value, with its text, its serialized Value, its keys, status and event time."""
    refs = ["driver:trips", "driver:city"]
    record = make_record([1, 2], {"trips": [7, None], "city": ["a", "b"]}, service="", refs=refs)
    write_segment(log, [record])
    Sealer(log).seal()
    rows = rows_of(log / "tables" / "_ad_hoc")

    assert [
        ("driver:trips", 0, "7"),
        ("driver:trips", 1, None),
        ("driver:city", 0, "a"),
        ("driver:city", 1, "b"),
    ] == sorted(
        ((row["hc_feature"], row["hc_row"], row["hc_text"]) for row in rows),
        key=lambda row: (refs.index(row[0]), row[1]),
    )
    assert {'{"driver_id":1}', '{"driver_id":2}'} == {row["hc_keys"] for row in rows}
    assert {from_micros(NOON - 1_000_000)} == {row["hc_event_ts"] for row in rows}
    assert not (log / "tables" / "fraud").exists()


def test_a_service_without_its_definitions_is_in_the_long_table(log):
    """Where the catalog that a record names is not kept, its values are in the long table under their names in the answer."""
    write_segment(log, [make_record([1], {"trips": [7]}, catalog_version="sha256:lost", rpc=Rpc.FEAST)])
    Sealer(log).seal()
    (row,) = rows_of(log / "tables" / "_ad_hoc")

    assert ("fraud", "trips", "7") == (row["hc_service"], row["hc_feature"], row["hc_text"])


def test_a_gap_is_told_before_its_segment_is_gone(log):
    """What a segment says of lost records is in `gaps/` once the segment is sealed."""
    gap = Gap(first_sequence=2, last_sequence=2, reason=GapReason.OVERFLOW)
    write_segment(log, [make_failure(), gap, make_failure()])
    Sealer(log).seal()

    (told,) = (log / "gaps").iterdir()
    assert 1 == told.read_text().count("overflow")


def test_the_gap_report_counts_what_is_sealed(log):
    """Sealed records are written and synced, a gap that their segment told of is lost, and nothing else is."""
    gap = Gap(first_sequence=2, last_sequence=2, reason=GapReason.OVERFLOW)
    write_segment(log, [make_failure(), gap, make_failure()])
    Sealer(log).seal()

    (report,) = gap_report(log)
    assert (2, 2, 1, 1, 3) == (report.written, report.synced, report.lost, report.first_sequence, report.last_sequence)
    assert ["overflow"] == [part.reason for part in report.missing]


def test_a_sealed_lookup_has_its_receipt(log):
    """A receipt is found by its lookup id in a segment and, after that is sealed, in the table, and is the same."""
    record = make_record([1], {"trips": [1], "rating": [1.0], "city": ["a"]})
    write_segment(log, [record])
    lookup_id = UUID(bytes=record.lookup_id)
    before = by_lookup_id(log, lookup_id).receipt
    Sealer(log).seal()

    assert before is not None
    assert before == by_lookup_id(log, lookup_id).receipt


def test_days_are_partitions(log):
    """Lookups of two days are in two folders of each table, and are found in both."""
    records = [make_failure(served_at_micros=NOON), make_failure(served_at_micros=NOON + DAY)]
    write_segment(log, records)
    Sealer(log).seal()

    folders = {path.name for path in (log / "tables" / "_records").iterdir()} - {"_delta_log"}
    assert {"__log_date=2026-11-01", "__log_date=2026-11-02"} == folders
    assert records == [find_sealed(log, record.lookup_id).record for record in records]


def test_one_sealer_at_a_time(log):
    """Who cannot have the lock in time says so, and has changed nothing."""
    write_segment(log, [make_failure()])
    with sealing_lock(log), pytest.raises(SealError, match="another process"):
        Sealer(log).seal(lock_seconds=0)

    assert [] == list((log / "tables").iterdir() if (log / "tables").exists() else [])


def test_tables_are_their_owner_s_alone(log):
    """Nobody but the server's user can look into the folder of the tables."""
    write_segment(log, [make_failure()])
    Sealer(log).seal()

    assert 0o700 == (log / "tables").stat().st_mode & 0o777


def test_queries_see_all_lookups_once_sealed_or_not(log):
    """A query's views hold what is in tables, in closed segments and in open ones, each lookup once, and a service's rows with their lookup."""
    answer = {"trips": [1], "rating": [1.0], "city": ["a"]}
    before = write_segment(log, [make_record([1], answer), make_failure()])
    content = before.read_bytes()
    Sealer(log).seal()
    before.write_bytes(content)
    write_segment(log, [make_record([2], answer)], first_sequence=3)
    write_segment(log, [make_record([3], answer)], first_sequence=4, suffix=OPEN)

    counted = query(log, "SELECT status, count(*), sum(entity_rows) FROM lookups GROUP BY status ORDER BY status")
    joined = query(log, "SELECT driver_id, driver__trips FROM fraud JOIN lookups USING (lookup_id) ORDER BY driver_id")
    assert [("NOT_FOUND", 1, 0), ("OK", 3, 3)] == counted.rows
    assert (["driver_id", "driver__trips"], [(1, 1), (2, 1), (3, 1)]) == (joined.columns, joined.rows)
    assert [(date(2026, 11, 1), datetime(2026, 11, 1, 12, tzinfo=UTC))] == query(
        log, 'SELECT DISTINCT __log_date, __log_timestamp FROM "fraud"'
    ).rows


def test_an_empty_log_can_be_queried(tmp_path):
    """Where nothing was logged, there are no lookups."""
    assert [(0,)] == query(tmp_path / "log", "SELECT count(*) FROM lookups").rows


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW lookups",
        "SELECT 1; SELECT 2",
        "COPY lookups TO 'x.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "nonsense",
        "",
    ],
)
def test_a_query_can_only_read_lookups(log, sql):
    """Anything but one SELECT over the views is refused."""
    with pytest.raises(InvalidArgument, match="SQL"):
        query(log, sql)


def test_a_view_that_there_is_not_is_told_from_those_that_there_are(tmp_path, log):
    """A service that was never asked for has no view, and the error names the views; one of another kind has DuckDB's words alone."""
    with pytest.raises(
        InvalidArgument, match='payments does not exist! There are "lookups"; a feature service is there'
    ):
        query(tmp_path / "nothing", "SELECT * FROM payments")
    with pytest.raises(InvalidArgument, match="name nothing does not exist!") as caught:
        query(log, "SELECT nothing(1)")
    assert "There are" not in str(caught.value)


def test_a_service_may_have_any_name(log):
    """Services that are called as our own views, by characters that no folder has, or alike but for capitals, each have a table and a view."""
    catalog = make_catalog({"trips": INT64}, version="sha256:odd")
    projection = (Projection("driver", "driver", ("trips",)),)
    names = ["lookups", "ad_hoc", "Fraud", "fraud", "a/b %=1", "ü", "_records"]
    keep(log, dataclasses.replace(catalog, services={name: Service(name, projection) for name in names}))
    write_segment(
        log,
        [
            make_record([at], {"trips": [at]}, service=name, catalog_version="sha256:odd")
            for at, name in enumerate(names)
        ],
    )

    def rows() -> list:
        views = ["lookups (service)", "ad_hoc (service)", "a/b %=1", "ü", "_records", "Fraud", "fraud (service)"]
        return [query(log, f'SELECT count(*), any_value(driver_id) FROM "{view}"').rows[0] for view in views]  # noqa: S608 - names of ours

    unsealed = rows()
    Sealer(log).seal()
    assert [(1, 0), (1, 1), (1, 4), (1, 5), (1, 6), (1, 2), (1, 3)] == unsealed == rows()


def test_a_destination_gets_parquet_parts(log, tmp_path):
    """A service that logs to a folder has its rows in Parquet parts there, once, though they are sealed twice and in other batches."""
    logging = Logging(1.0, "file", "logs/fraud")
    keep(log, make_catalog({"trips": INT64}, version="sha256:dest", logging=logging))
    records = [
        make_record([at], {"trips": [at]}, catalog_version="sha256:dest", served_at_micros=NOON + at * DAY // 2)
        for at in range(4)
    ]
    path = write_segment(log, records)
    content = path.read_bytes()
    Sealer(log, repo_root=tmp_path).seal()
    path.write_bytes(content)
    later = make_record([9], {"trips": [9]}, catalog_version="sha256:dest", served_at_micros=NOON)
    write_segment(log, [later], first_sequence=5)
    Sealer(log, repo_root=tmp_path).seal()

    assert [0, 1, 2, 3, 9] == sorted(pq.read_table(tmp_path / "logs" / "fraud").column("driver__trips").to_pylist())
    assert not (log / "tables" / "fraud").exists()
    assert [(5,)] == query(log, "SELECT count(*) FROM fraud", repo_root=tmp_path).rows


def test_old_days_are_dropped(log, tmp_path):
    """Of a kept day more than `keep_days` before today nothing is left in any table, and what is newer stays."""
    logging = Logging(1.0, "file", "logs")
    keep(log, make_catalog({"trips": INT64}, version="sha256:dest", logging=logging))
    days = [NOON - 2 * DAY, NOON - DAY, NOON]
    answer = {"trips": [1], "rating": [1.0], "city": ["a"]}
    records = [make_record([1], answer, served_at_micros=day) for day in days]
    records += [make_record([1], {"trips": [1]}, catalog_version="sha256:dest", served_at_micros=day) for day in days]
    write_segment(log, records)
    Sealer(log, repo_root=tmp_path, keep_days=1, clock=lambda: NOON + DAY // 4).seal()

    assert [(4, date(2026, 10, 31))] == query(log, "SELECT count(*), min(served_at)::DATE FROM lookups").rows
    assert [(4, date(2026, 10, 31))] == query(
        log, "SELECT count(*), min(__log_date) FROM fraud", repo_root=tmp_path
    ).rows
    assert 2 == pq.read_table(tmp_path / "logs").num_rows
    (ranges,) = sealed_ranges(log).values()
    assert ((1, 1), (4, 4)) == ranges.dropped.ranges
    assert ((2, 3), (5, 6)) == ranges.kept.ranges
    (report,) = gap_report(log)
    assert (True, 4, 2, 0, 6) == (report.is_whole, report.sealed, report.dropped, report.lost, report.last_sequence)


def test_a_table_of_which_all_was_dropped_goes_on(log):
    """After every day was dropped, what comes is sealed as before."""
    write_segment(log, [make_failure(served_at_micros=NOON)])
    Sealer(log, keep_days=1, clock=lambda: NOON + 9 * DAY).seal()
    assert [(0,)] == query(log, "SELECT count(*) FROM lookups").rows
    write_segment(log, [make_failure(served_at_micros=NOON + 9 * DAY)], first_sequence=2)
    Sealer(log, keep_days=1, clock=lambda: NOON + 9 * DAY).seal()

    assert [(1,)] == query(log, "SELECT count(*) FROM lookups").rows


def test_what_was_dropped_leaves_the_disk_though_nothing_comes_any_more(log, monkeypatch):
    """The files of dropped days stay for as long as is promised to queries, and are gone by a later pass that has nothing else to do."""
    write_segment(log, [make_record([1], {"trips": [1], "rating": [1.0], "city": ["a"]})])
    Sealer(log, keep_days=1, clock=lambda: NOON + 9 * DAY).seal()
    assert 2 == len(list(log.glob("tables/*/*/*.parquet")))
    monkeypatch.setattr(delta_log, "RETENTION_HOURS", 0)
    Sealer(log, keep_days=1, clock=lambda: NOON + 9 * DAY).seal()

    assert [] == list(log.glob("tables/*/*/*.parquet"))


def test_a_log_may_be_anywhere(tmp_path):
    """A directory with characters that an address would write otherwise has its tables sealed, queried and erased from."""
    log = tmp_path / "a b=ü#?" / "log"
    log.parent.mkdir()
    keep(log, make_catalog())
    record = make_record([1, 2], COLUMNS)
    for sequence in (1, 2):
        write_segment(log, [record], first_sequence=sequence)
        Sealer(log).seal()

    assert record == find_sealed(log, record.lookup_id).record
    assert [(4,)] == query(log, "SELECT count(*) FROM fraud").rows
    assert (2, 2) == (
        erase(log, key="driver_id", value="1").lookups,
        query(log, "SELECT count(*) FROM fraud").rows[0][0],
    )


@pytest.mark.parametrize("at", ["middle", "end", "header"])
def test_what_can_be_read_of_a_damaged_segment_is_sealed(log, at):
    """Records around a damaged place are sealed, the file is kept in `damaged/`, and it is told which may be missing."""
    path = write_segment(log, [make_failure() for _ in range(5)])
    write_segment(log, [make_failure()], first_sequence=6)
    content = bytearray(path.read_bytes())
    content[{"middle": len(content) // 2, "end": -200, "header": 20}[at]] ^= 1
    path.write_bytes(content)
    Sealer(log).seal()
    sequences = [row["sequence"] for row in rows_of(log / "tables" / "_records")]
    gaps = [line.gap for line in read_lines(LogDirectory(log), disk=REAL_DISK)]

    assert {"middle": [1, 2, 4, 5, 6], "end": [1, 2, 3, 4, 6], "header": [6]}[at] == sequences
    assert {"middle": (3, 3), "end": (5, 5), "header": (1, 5)}[at] == (gaps[0].first_sequence, gaps[0].last_sequence)
    assert [path.name] == [kept.name for kept in (log / "damaged").iterdir()]
    assert [] == list((log / "segments").iterdir())


def test_a_table_that_is_read_while_its_log_is_cleaned_up(log):
    """Who asks while entries of a table's log are removed, a day after they were made, is told of all files."""
    numbers = iter(range(1, 100))

    def seal_one() -> None:
        number = next(numbers)
        write_segment(log, [make_failure(served_at_micros=NOON + number)], first_sequence=number)
        Sealer(log).seal()

    seal_one()
    table = DeltaLog(log / "tables" / "_records")
    answers = asked_while_cleaned_up(table.path, lambda: len(table.snapshot().files), seal_one, times=15)
    assert min(answers) > 0


def test_parts_that_are_compacted_while_they_are_read(log, tmp_path, monkeypatch):
    """A part that is gone since it was listed is in another one, and no lookup is there twice or not at all."""
    keep(log, make_catalog({"trips": INT64}, version="sha256:dest", logging=Logging(1.0, "file", "logs")))
    monkeypatch.setattr(parts_folder, "FILES_MAX", 2)
    for at in range(6):
        record = make_record([at], {"trips": [at]}, catalog_version="sha256:dest", served_at_micros=NOON + at)
        write_segment(log, [record], first_sequence=at + 1)
        left = iter([False])
        Sealer(log, repo_root=tmp_path, stopping=lambda left=left: next(left, True)).seal()  # which does not compact
    folder = CompactedBeside(tmp_path / "logs", service="fraud")
    snapshot = folder.snapshot()

    assert [6] == [pq.read_metadata(file).num_rows for file in snapshot.files]
    assert "driver__trips" in snapshot.types


class CompactedBeside(PartsFolder):
    """A folder that another process compacts after it was listed for the first time."""

    compactions = 0

    def _parts(self):
        listed = super()._parts()
        if not self.compactions:
            self.compactions += 1
            PartsFolder(self.path, service="fraud").compact()
        return listed


def test_small_files_become_one(log, tmp_path, monkeypatch):
    """A day with too many small files is compacted: few files, the same rows, no part that others put there lost, each lookup found."""
    for module in (delta_log, parts_folder):
        monkeypatch.setattr(module, "FILES_MAX", 3)
    monkeypatch.setattr(parquet, "_RECORD_GROUP_ROWS", 2)
    logging = Logging(1.0, "file", "logs")
    keep(log, make_catalog({"trips": INT64}, version="sha256:dest", logging=logging))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "theirs.parquet").write_bytes(b"theirs")
    records = [
        make_record([at], {"trips": [at]}, catalog_version=version, served_at_micros=NOON + at)
        for at, version in enumerate(["sha256:dest"] * 10)
    ]
    sealing = Sealer(log, repo_root=tmp_path)
    for at, record in enumerate(records):
        write_segment(log, [record], first_sequence=at + 1)
        sealing.seal()

    assert b"theirs" == (tmp_path / "logs" / "theirs.parquet").read_bytes()
    assert 5 >= len(list((tmp_path / "logs").iterdir()))
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [(at,) for at in range(10)] == query(
        log, "SELECT driver__trips FROM fraud ORDER BY 1", repo_root=tmp_path
    ).rows
    assert 4 >= len(DeltaTable(log / "tables" / "_records").file_uris())
    assert records == [find_sealed(log, record.lookup_id).record for record in records]
    groups = [pq.read_metadata(path).num_row_groups for path in DeltaLog(log / "tables" / "_records").files()]
    assert max(groups) > 1


def test_feast_retrieves_what_a_service_logged(tmp_path, monkeypatch):
    """Feast's own retrieval of a feature service's logs gives the rows of its destination between two times, by its own schema."""
    from feast import Entity, FeatureService, FeatureStore, FeatureView, FileSource, RepoConfig, ValueType  # noqa: PLC0415
    from feast import Field as FeastField  # noqa: PLC0415
    from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig  # noqa: PLC0415
    from feast.infra.offline_stores.file_source import FileLoggingDestination  # noqa: PLC0415
    from feast.types import Float64, Int64, String  # noqa: PLC0415

    (tmp_path / "source.parquet").touch()
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="driver",
        entities=[driver],
        schema=[
            FeastField(name="driver_id", dtype=Int64),
            FeastField(name="trips", dtype=Int64),
            FeastField(name="rating", dtype=Float64),
            FeastField(name="city", dtype=String),
        ],
        source=FileSource(path="source.parquet", timestamp_field="event_timestamp"),
    )
    service = FeatureService(
        name="fraud",
        features=[view],
        logging_config=LoggingConfig(destination=FileLoggingDestination(path="logs/fraud")),
    )
    store = FeatureStore(
        config=RepoConfig(
            project="sealed",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            offline_store={"type": "hindcast.offline.plugin.AsOfOfflineStore"},
            entity_key_serialization_version=3,
            repo_path=tmp_path,
        )
    )
    store.apply([driver, view, service])
    log = tmp_path / "log"
    keep(log, make_catalog(logging=Logging(1.0, "file", "logs/fraud")))
    days = [NOON, NOON + DAY, NOON + 2 * DAY]
    write_segment(log, [make_record([1, 2], COLUMNS, served_at_micros=day) for day in days])
    Sealer(log, repo_root=tmp_path).seal()
    schema = FeatureServiceLoggingSource(service, "sealed").get_schema(store.registry)
    job = store._get_provider().retrieve_feature_service_logs(
        feature_service=service,
        start_date=from_micros(NOON + 1),
        end_date=from_micros(NOON + 2 * DAY - 1),
        config=store.config,
        registry=store.registry,
    )
    rows = job.to_arrow()

    assert set(schema.names) <= set(rows.column_names)
    assert [1, 2] == rows.column("driver_id").to_pylist()
    assert [7, None] == rows.column("driver__trips").to_pylist()
    assert ["Köln", None] == rows.column("driver__city").to_pylist()
    written = pq.read_table(tmp_path / "logs" / "fraud").schema
    assert [] == [
        name
        for name in schema.names
        if not pa.types.is_timestamp(schema.field(name).type) and schema.field(name).type != written.field(name).type
    ]

    # What Feast itself logs there is beside it, also once our parts are one, and Feast's check of logs reads both.
    by_feast = {name: [None] for name in schema.names} | {"driver_id": [9], "__request_id": ["by Feast"]}
    by_feast |= {"__log_timestamp": [from_micros(NOON + DAY)], "__log_date": [from_micros(NOON + DAY).date()]}
    store.write_logged_features(pa.table(by_feast, schema), service)
    monkeypatch.setattr(parts_folder, "FILES_MAX", 0)
    for at in range(3):
        write_segment(
            log, [make_record([3 + at], {"trips": [1], "rating": [1.0], "city": ["a"]})], first_sequence=10 + at
        )
        Sealer(log, repo_root=tmp_path).seal()
    seen = []

    def note(frame):
        seen.extend(sorted(frame["driver_id"]))
        return SimpleNamespace(is_success=True)

    reference = SimpleNamespace(profile=SimpleNamespace(validate=note))
    with pytest.warns(RuntimeWarning, match="experimental"):
        store.validate_logged_features(
            service, from_micros(NOON), from_micros(NOON + 2 * DAY - 1), reference, cache_profile=False
        )

    assert [1, 1, 2, 2, 3, 4, 5, 9] == seen


def test_sealing_loads_no_pandas(log):
    """A process that seals answers and failures has pyarrow and not pandas, which costs it 60 MB."""
    answer = {"trips": [1], "rating": [1.0], "city": ["a"]}
    write_segment(log, [make_record([1], answer), make_failure()])
    code = (
        "import sys; from pathlib import Path; from hindcast.lookups.sealer import Sealer; "
        f"done = Sealer(Path({str(log)!r})).seal(); print(done.records, sorted({{'pandas', 'pyarrow'}} & {{*sys.modules}}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "2 ['pyarrow']" == ran.stdout.strip()


def run_cli(*arguments) -> subprocess.CompletedProcess:
    """A command of `hindcast lookups`."""
    return run_command("hindcast", "lookups", *arguments)


def test_the_commands_seal_query_and_erase(log, tmp_path):
    """`seal`, `sql` and `erase` do what they say, for people and for machines, and refuse in one line."""
    write_segment(log, [make_record([1, 2], COLUMNS), make_failure()])
    where = ("--repo", tmp_path, "--log-dir", log)
    sealed = run_cli("seal", *where)
    select = "SELECT driver_id, driver__city, __log_timestamp AS at FROM fraud ORDER BY 1"
    as_text, as_json, as_csv = (run_cli("sql", select, *where, "--output", kind) for kind in ("text", "json", "csv"))
    refused = run_cli("sql", "DROP VIEW lookups", *where)
    erased = run_cli("erase", "--entity", "driver_id=1", *where, "--output", "json")

    assert "sealed: segments 1, lookups 2, entity rows 2\n" == sealed.stdout
    assert [
        "driver_id  driver__city  at",
        "        1  Köln          2026-11-01T12:00:00+00:00",
    ] == as_text.stdout.splitlines()[:2]
    assert [
        {"driver_id": 1, "driver__city": "Köln", "at": "2026-11-01T12:00:00+00:00"},
        {"driver_id": 2, "driver__city": None, "at": "2026-11-01T12:00:00+00:00"},
    ] == json.loads(as_json.stdout)
    assert (
        "driver_id,driver__city,at\n1,Köln,2026-11-01T12:00:00+00:00\n2,,2026-11-01T12:00:00+00:00\n" == as_csv.stdout
    )
    assert (2, 1, True) == (refused.returncode, len(refused.stderr.splitlines()), "not one SELECT" in refused.stderr)
    assert (2, 1) == tuple(json.loads(erased.stdout)[name] for name in ("lookups", "entity_rows"))


def test_a_server_seals_what_its_workers_close(demo_repo, tmp_path):
    """Beside its workers a server seals closed segments, starts another sealer when one dies, and leaves none behind when it stops."""
    log = tmp_path / "log"
    sealed = "sealed: segments 1, lookups 1, entity rows 0"
    write_segment(log, [make_failure()])
    with run_hindcast(demo_repo.root, "--log-dir", str(log), "--seal-seconds", "0.2") as server:
        wait_for(lambda: any(sealed in line for line in server.output), what="the segment to be sealed")
        (first,) = sealers(server)
        first.kill()
        second = write_segment(log, [make_failure()], first_sequence=2)
        wait_for(lambda: not second.exists(), what="the segment to be sealed by another sealer")
        (another,) = sealers(server)
        output = list(server.output)

    assert any("the sealer ended with code -9" in line for line in output)
    assert first.pid != another.pid
    assert not another.is_running()
    assert [(2,)] == query(log, "SELECT count(*) FROM lookups").rows


def sealers(server) -> list[psutil.Process]:
    """The sealing processes of a server."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "hindcast.lookups.sealing_process" in child.cmdline()]


def test_what_a_server_answered_is_in_its_tables(tmp_path):
    """Of each lookup of a real server, by services with aliases and on-demand views or by references, every cell is in a table as it was answered."""
    with run_redis() as redis:
        store_rows(redis.connection_string, "driver", [(integer(n), {"trips": integer(n)}) for n in range(1, 4)])
        store_rows(redis.connection_string, "platform", [(None, {"surge": Value(double_val=1.5)})])
        repo = make_crowded_repo(tmp_path / "repo", redis.connection_string)
        drivers = {"driver_id": [integer(2), integer(999), integer(1)]}
        pair = {"first_id": [integer(1)], "second_id": [integer(2)]}
        asked = [
            ("everything", drivers),
            ("pair", pair),
            (["driver:trips", "platform:surge"], drivers),
            ("nope", drivers),
        ]
        with run_hindcast(repo, "--seal-seconds", "0") as server, grpc.insecure_channel(server.address) as channel:
            for method, words in ((HINDCAST_METHOD, hindcast), (FEAST, feast)):
                for features, entities in asked:
                    with contextlib.suppress(grpc.RpcError):
                        channel.unary_unary(method)(words(features, entities, full=True), timeout=30)
    log = log_directory(repo)
    logged = records(log)
    Sealer(log, repo_root=repo).seal()

    assert 8 == len(logged)
    assert logged == [find_sealed(log, record.lookup_id).record for record in logged]
    for service, key in (("everything", "driver_id"), ("pair", "first_id")):
        table = rows_of(log / "tables" / service)
        for record in (record for record in logged if record.service == service):
            rows = [row for row in table if row["hc_lookup_id"] == str(UUID(bytes=record.lookup_id))]
            assert [value.int64_val for value in (drivers | pair)[key]] == [row[key] for row in rows]
            for name, values, statuses in cells(record):
                assert values == [row[name] for row in rows]
                assert statuses == [row[f"{name}__status"] for row in rows]
    assert ["2", None, "1", "1.5", "1.5", "1.5"] * 2 == [
        row["hc_text"] for row in in_answer_order(rows_of(log / "tables" / "_ad_hoc"))
    ]
    assert [("NOT_FOUND", 2)] == query(
        log, "SELECT status, count(*) FROM lookups WHERE service = 'nope' GROUP BY ALL"
    ).rows


def in_answer_order(rows: list[dict]) -> list[dict]:
    """Rows of the long table as the answer had them."""
    return sorted(rows, key=lambda row: (row["hc_sequence"], row["hc_feature"] != "driver:trips", row["hc_row"]))


def cells(record) -> list[tuple[str, list, list[int]]]:
    """The columns of an answer by their names in the log, as Python has the values."""
    names = {
        "everything": ["driver__trips", "driver__city", "driver__rating", "platform__surge"],
        "pair": ["first__trips", "second__trips"],
    }[record.service]
    if record.rpc is Rpc.FEAST:
        vectors = FeastResponse.FromString(record.response).results[-len(names) :]
    else:
        vectors = HindcastResponse.FromString(record.response).columns
    return [
        (name, [python(Value.FromString(one)) for one in vector.values], list(vector.statuses))
        for name, vector in zip(names, vectors, strict=True)
    ]


def python(value: Value) -> object:
    """A value as Python has it."""
    kind = value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)
