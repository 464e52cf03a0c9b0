"""The sealer killed before each of its steps, with compaction running and killed too: every lookup is in its tables once."""

import contextlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from faults.cycles import CYCLES
from hindcast.catalog import Logging, Projection, Service
from hindcast.lookups.directory import WriterId
from hindcast.lookups.record import LookupRecord
from hindcast.lookups.sealed import find_sealed
from hindcast.lookups.sql import query
from sealing import DAY, INT64, NOON, keep, make_catalog, make_failure, make_record, write_segment

STEPS = (
    *("create", "add columns", "write", "commit", "sync", "rename", "remove"),
    *("compact", "compacted", "vacuum", "checkpoint", "exchange", "exchanged"),
)
ROUNDS = 1 if CYCLES <= 2 else 2 * CYCLES
"""Of a kill at each step of the sealer, and one of compaction beside most: 40 by `make faults`, which are 520 kills of the sealer."""

ATTEMPTS_MAX = 6

WRITERS = (WriterId(0, NOON), WriterId(1, NOON + 1))


class Driver:
    """A process that begins sealers and compactions without their imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sealing_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self, log: Path, *, step: str = "", occurrence: int = 0, compacts: bool = False) -> None:
        """Begin one, once the one before has ended; one that compacts, ends."""
        job = {"log": str(log), "repo": str(log.parent), "step": step, "occurrence": occurrence, "compacts": compacts}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    def ended(self) -> bool:
        """Wait until one has ended; whether it was killed. Nothing that fails is let pass."""
        said = json.loads(self._process.stdout.readline())
        assert "" == said["failure"]
        return said["killed"]

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@contextlib.contextmanager
def run_driver() -> Iterator[Driver]:
    """A driver that is ended."""
    driver = Driver()
    try:
        yield driver
    finally:
        driver.close()


class Log:
    """A log that is written to while it is sealed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: list[LookupRecord] = []
        self._next = dict.fromkeys(WRITERS, 1)
        self._version = 0

    def write(self) -> None:
        """A segment of each writer, from definitions that have a feature more than the ones before."""
        self._version += 1
        version = f"sha256:{self._version}"
        features = {"trips": INT64} | {f"f{number}": INT64 for number in range(self._version)}
        catalog = make_catalog(features, version=version)
        projections = (Projection("driver", "driver", tuple(features)),)
        logged = Service("logged", projections, Logging(1.0, "file", "logs"))
        keep(self.directory, replace(catalog, services={"fraud": Service("fraud", projections), "logged": logged}))
        for writer in WRITERS:
            records = []
            for at, service in enumerate(("fraud", "logged", "", "fraud", "logged")):
                number = len(self.records) + at
                columns = {name: [number, None] for name in (features if service else ("trips",))}
                records.append(
                    make_record(
                        [number, number],
                        columns,
                        service=service,
                        refs=() if service else ("driver:trips",),
                        catalog_version=version,
                        served_at_micros=NOON + (at % 2) * DAY,
                    )
                )
            records.append(make_failure())
            write_segment(self.directory, records, writer=writer, first_sequence=self._next[writer])
            self._next[writer] += len(records)
            self.records += records

    def problems(self) -> list[str]:
        """What is missing, there more than once, or there and was never logged; nothing, if all is well."""
        return [
            *differences("lookups", ids(self.records), delta_ids(self.directory / "tables" / "_records", "lookup_id")),
            *differences("fraud", of(self.records, "fraud", 2), delta_ids(self.directory / "tables" / "fraud")),
            *differences("references", of(self.records, "", 2), delta_ids(self.directory / "tables" / "_ad_hoc")),
            *differences("parts", of(self.records, "logged", 2), part_ids(self.directory.parent / "logs")),
        ]


def ids(records: list[LookupRecord]) -> Counter[str]:
    """The ids of lookups, each once."""
    return Counter(record.lookup_id.hex() for record in records)


def of(records: list[LookupRecord], service: str, times: int) -> Counter[str]:
    """The ids of the lookups of a service that were answered, for each of their rows."""
    found = ids([record for record in records if record.service == service and not record.code])
    return Counter({key: count * times for key, count in found.items()})


def delta_ids(table: Path, column: str = "hc_lookup_id") -> Counter[str]:
    """The ids in a Delta table, for each row."""
    found = QueryBuilder().register("t", DeltaTable(table)).execute(f"SELECT {column} FROM t").read_all()  # noqa: S608 - ours
    return Counter(one.replace("-", "") for one in pa.table(found).column(0).to_pylist())


def part_ids(folder: Path) -> Counter[str]:
    """The ids in a folder as Feast reads it."""
    return Counter(one.replace("-", "") for one in pq.read_table(folder).column("hc_lookup_id").to_pylist())


def differences(what: str, expected: Counter[str], found: Counter[str]) -> list[str]:
    """What two counts of ids differ in."""
    missing, more = expected - found, found - expected
    return [f"{what}: {len(missing)} missing, {len(more)} too many"] if missing or more else []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_sealer_that_is_killed_loses_and_repeats_nothing(tmp_path, round_number):
    """Killed before each of its steps while new segments come and tables are compacted, it has everything in the tables once in the end."""
    log = Log(tmp_path / "log")
    choose = random.Random(round_number)
    with run_driver() as sealing, run_driver() as compacting:
        for step in STEPS:
            log.write()
            compacting.begin(log.directory, compacts=True, step=choose.choice(STEPS), occurrence=choose.randrange(30))
            sealing.begin(log.directory, step=step, occurrence=choose.randrange(3))
            was_killed = sealing.ended()
            compacting.begin(log.directory)
            compacting.ended()
            compacting.ended()
            for _ in range(ATTEMPTS_MAX):
                if was_killed:
                    break
                # The other one was quicker, or there were not so many of the step.
                log.write()
                sealing.begin(log.directory, step=step)
                was_killed = sealing.ended()
            assert was_killed, step
        log.write()
        sealing.begin(log.directory)
        assert not sealing.ended()

    assert [] == log.problems()
    assert [] == list((log.directory / "segments").iterdir())
    some = choose.sample(log.records, 5)
    assert some == [find_sealed(log.directory, record.lookup_id).record for record in some]
    assert [(len(log.records),)] == query(log.directory, "SELECT count(*) FROM lookups").rows


def test_two_sealers_at_once_are_exact(tmp_path):
    """A server's sealer and one by hand, beside one that compacts, seal segments that go on coming once each, whoever takes which."""
    log = Log(tmp_path / "log")
    with run_driver() as one, run_driver() as other, run_driver() as compacting:
        for _ in range(4):
            log.write()
            compacting.begin(log.directory, compacts=True)
            one.begin(log.directory)
            other.begin(log.directory)
            log.write()
            assert [False, False] == [one.ended(), other.ended()]
            compacting.begin(log.directory)
            assert [False, False] == [compacting.ended(), compacting.ended()]
        one.begin(log.directory)
        assert not one.ended()

    assert [] == log.problems()
    assert [] == list((log.directory / "segments").iterdir())


def test_what_a_sealer_looks_for_is_seen(tmp_path):
    """A table with a row twice, or without one, is one that the test above would find."""
    log = Log(tmp_path / "log")
    log.write()
    with run_driver() as sealing:
        sealing.begin(log.directory)
        assert not sealing.ended()
    assert [] == log.problems()
    lost = log.records.pop()
    assert ["lookups: 0 missing, 1 too many"] == log.problems()
    log.records += [lost, make_failure()]
    assert ["lookups: 1 missing, 0 too many"] == log.problems()
