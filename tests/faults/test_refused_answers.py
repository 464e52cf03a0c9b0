"""An answer that was to be durable and could not be synced never left: its lookup has one record, the failure that its caller was told."""

import asyncio
import errno
from uuid import UUID

import pytest

from faults.disks import FailingDisk
from hindcast.clock import system_clock
from hindcast.errors import LogUnavailable
from hindcast.lookups.gap_report import Missing, gap_report
from hindcast.lookups.listing import newest_lookups
from hindcast.lookups.reading import Matching
from hindcast.lookups.receipts import by_lookup_id
from hindcast.lookups.record import Rpc, encode
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.sql import query
from hindcast.lookups.writer import LookupLog
from hindcast.serving.calls import NOBODY
from hindcast.serving.metrics import Metrics
from hindcast.serving.recorder import Recorder
from hindcast.settings import LogMode
from sealing import keep, make_catalog, make_record

COLUMNS = {"trips": [7], "rating": [4.5], "city": ["a"]}


@pytest.fixture
def log(tmp_path):
    """A log's directory, with the usual catalog kept in it."""
    keep(tmp_path / "log", make_catalog())
    return tmp_path / "log"


def listed(log) -> list[tuple[bytes, int]]:
    """Which lookups a list has, and how they ended."""
    found = newest_lookups(log, Matching(), limit=9)
    assert [] == found.damage
    return sorted((one.lookup_id, one.code) for one in found.summaries)


def rows(log, select) -> list:
    """What a query gives."""
    return query(log, select, repo_root=log.parent).rows


def test_a_refused_answer_has_one_record(log):
    """Before its segment is recovered and after, sealed and not, readers see the failure alone, and what was answered beside it; the gap is told."""
    disk = FailingDisk()
    told = []

    def mended(message):
        told.append(message)
        disk.failing = {}

    async def story():
        writer = LookupLog(log, slot=0, mode=LogMode.DURABLE, disk=disk, sync_seconds=60, on_alarm=mended)
        recorder = Recorder(writer, mode=LogMode.DURABLE, modes={}, clock=system_clock, metrics=Metrics())
        recording = recorder.begin(Rpc.HINDCAST, make_record([1], COLUMNS).request, "sha256:one", NOBODY)
        refused = UUID(recording.lookup_id)
        kept = make_record([2], COLUMNS, mode="durable", served_at_micros=system_clock())
        beside = make_record([3], COLUMNS, served_at_micros=system_clock())
        answer = make_record([1], COLUMNS, mode="durable", lookup_id=refused.bytes, served_at_micros=system_clock())
        await writer.append(encode(kept), mode=LogMode.DURABLE)
        disk.failing = {"fdatasync": errno.EIO}
        writer.append(encode(beside), mode=LogMode.BATCHED)
        with pytest.raises(LogUnavailable) as error:
            await writer.append(encode(answer), mode=LogMode.DURABLE)
        await recording.failed(error.value, call="a call")
        wanted = sorted([(refused.bytes, 14), (kept.lookup_id, 0), (beside.lookup_id, 0)])
        unrecovered = (
            listed(log),
            rows(log, "SELECT status FROM lookups ORDER BY 1"),
            rows(log, "SELECT driver_id FROM fraud ORDER BY 1"),
        )
        receipt = by_lookup_id(log, refused).receipt
        await writer.close()
        return refused, wanted, unrecovered, receipt.record.code

    refused, wanted, unrecovered, code = asyncio.run(story())
    statuses, drivers = [("OK",), ("OK",), ("UNAVAILABLE",)], [(2,), (3,)]
    assert (wanted, statuses, drivers) == unrecovered
    assert 14 == code == by_lookup_id(log, refused).receipt.record.code
    assert "cannot be synced (EIO)" in told[0]
    assert told[-1] is None
    assert wanted == listed(log)
    Sealer(log).seal()
    (report,) = gap_report(log)

    assert (statuses, drivers) == (
        rows(log, "SELECT status FROM lookups ORDER BY 1"),
        rows(log, "SELECT driver_id FROM fraud ORDER BY 1"),
    )
    assert 14 == by_lookup_id(log, refused).receipt.record.code
    assert ((Missing(3, 3, "sync_failed"),), 3, 1, 4) == (
        report.missing,
        report.sealed,
        report.lost,
        report.last_sequence,
    )
