"""The recorder, over a real log: one lookup leaves one record, or it is told why it left none."""

import asyncio

import grpc
import pytest

from hindcast.clock import system_clock
from hindcast.errors import LookupTooLarge, UnknownName
from hindcast.lookups.record import Rpc, decode
from hindcast.lookups.segment import scan
from hindcast.lookups.writer import LookupLog
from hindcast.serving.calls import NOBODY
from hindcast.serving.metrics import Metrics
from hindcast.serving.recorder import Recorder
from hindcast.serving.status import failure_of
from hindcast.settings import LogMode

REQUEST = b"a request"


def recorded(tmp_path, story, **options):
    """What a story of one lookup gives, the records that it left, and the log's counters."""

    async def run():
        log = LookupLog(tmp_path, slot=0, **options)
        recorder = Recorder(log, mode=options["mode"], modes={}, clock=system_clock, metrics=Metrics())
        told = await story(recorder.begin(Rpc.HINDCAST, REQUEST, "sha256:c", NOBODY))
        await log.close()
        return told, log.counters

    told, counters = asyncio.run(run())
    paths = sorted((tmp_path / "segments").iterdir())
    return told, [decode(record.payload) for path in paths for record in scan(path.read_bytes()).records], counters


@pytest.mark.parametrize("mode", [LogMode.DURABLE, LogMode.BATCHED, LogMode.BEST_EFFORT])
def test_a_lookup_that_is_too_large_for_the_log_leaves_a_failure(tmp_path, mode):
    """Where its answer was refused for its size, the failure that its caller is told is kept with the request."""

    async def story(recording):
        return await recording.failed(LookupTooLarge("too large"), call="a call")

    told, (record,), counters = recorded(tmp_path, story, mode=mode)

    failure = failure_of(told, call="a call")
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "LOOKUP_TOO_LARGE", "too large") == failure
    assert (8, "LOOKUP_TOO_LARGE", "too large", REQUEST) == (record.code, record.reason, record.message, record.request)
    assert 0 == counters.lost


@pytest.mark.parametrize(
    ("mode", "told", "lost"), [(LogMode.DURABLE, LookupTooLarge, 0), (LogMode.BATCHED, UnknownName, 1)]
)
def test_a_request_that_is_too_large_for_the_log_is_told_or_counted(tmp_path, mode, told, lost):
    """A failure whose request alone is too large is refused as that where it must be durable, and else told as it is and counted as lost."""

    async def story(recording):
        return await recording.failed(UnknownName("feature service", "nope"), call="a call")

    error, records, counters = recorded(tmp_path, story, mode=mode, record_bytes_max=10)

    assert (told, [], lost) == (type(error), records, counters.lost)
