"""Calls that read the log in a worker: how many there are at once, and when they end."""

import asyncio
import threading

import pytest

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, Overloaded
from hindcast.serving.receipts import _WAITING_MAX, Receipts, _Patience


def test_only_so_many_calls_read_or_wait(tmp_path):
    """One more is refused at once, and when they are done the next is taken."""
    free = threading.Event()

    def wait(_request, _directory, _patience):
        free.wait(10)
        return b"read"

    async def call_many():
        receipts = Receipts(tmp_path, call_timeout_ms=1000)

        def call():
            return asyncio.create_task(receipts._in_thread(wait, b"", _Patience(Deadline(10))))

        taken = [call() for _ in range(_WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="try again later"):
            await call()
        free.set()
        return [*await asyncio.gather(*taken), await call()]

    assert [b"read"] * (_WAITING_MAX + 1) == asyncio.run(call_many())


def test_reading_ends_with_its_caller(tmp_path):
    """A call that is cancelled, or whose time is up, stops reading at the next block."""
    began, told = threading.Event(), []

    def read(_request, _directory, patience):
        began.set()
        try:
            while True:
                patience.tick()
        except DeadlineExceeded as error:
            told.append(str(error))
            raise

    async def cancel():
        receipts = Receipts(tmp_path, call_timeout_ms=1000)
        gone = asyncio.create_task(receipts._in_thread(read, b"", _Patience(Deadline(60))))
        await asyncio.to_thread(began.wait, 10)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(DeadlineExceeded):
            await receipts._in_thread(read, b"", _Patience(Deadline(0)))

    asyncio.run(cancel())

    assert 2 == len(told)
