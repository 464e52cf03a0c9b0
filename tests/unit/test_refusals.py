"""Callers who are refused while they send: how long the server hears them out."""

import asyncio
import time

import pytest

from hindcast.clock import Deadline
from hindcast.datasets_server import refusals
from hindcast.datasets_server.refusals import Refusals


@pytest.fixture(autouse=True)
def _shorter(monkeypatch):
    """Bounds that a test can wait for."""
    monkeypatch.setattr(refusals, "_SECONDS", 0.2)
    monkeypatch.setattr(refusals, "_SILENT_SECONDS", 0.1)


async def pieces(sent, *, size, count):
    """What a caller sends; `sent` has it."""
    for _ in range(count):
        await asyncio.sleep(0)
        sent.append(size)
        yield bytes(size)


def heard(sent, requests, *, deadline=60.0):
    """How many pieces of a caller's were taken, and how long that took."""
    began = time.monotonic()
    asyncio.run(Refusals().hear_out(requests, Deadline(deadline)))
    return len(sent), time.monotonic() - began


def test_a_caller_who_is_at_the_end_soon_is_heard_out():
    """All pieces are taken, and the end is not waited for any longer."""
    sent: list[int] = []
    assert 40 == heard(sent, pieces(sent, size=2**20, count=40))[0]


def test_a_caller_who_goes_on_sending_is_not_heard_out():
    """Neither one of large pieces, beyond so many bytes, nor one of empty ones, beyond so long, nor one whose deadline has passed."""
    large: list[int] = []
    empty: list[int] = []
    late: list[int] = []

    assert 64 == heard(large, pieces(large, size=4 * 2**20, count=1000))[0]
    assert 5 > heard(empty, pieces(empty, size=0, count=10**9))[1]
    assert 1 >= heard(late, pieces(late, size=0, count=10**9), deadline=0.0)[0]


def test_a_caller_who_sends_nothing_is_not_waited_for():
    """It is told after a moment, whether or not it will send more."""
    sent: list[int] = []

    async def silent():
        sent.append(0)
        await asyncio.Event().wait()
        yield b""

    count, seconds = heard(sent, silent())
    assert (1, True) == (count, seconds < 5)


def test_only_so_many_are_heard_out_at_once():
    """One more is told at once, and when they are done the next is heard."""

    async def story():
        free = asyncio.Event()
        taken = []

        async def waiting():
            await free.wait()
            taken.append(1)
            yield b""

        ours = Refusals()
        busy = [asyncio.create_task(ours.hear_out(waiting(), Deadline(60))) for _ in range(refusals._AT_ONCE_MAX)]
        await asyncio.sleep(0)
        refused: list[int] = []
        await ours.hear_out(pieces(refused, size=1, count=3), Deadline(60))
        free.set()
        await asyncio.gather(*busy)
        later: list[int] = []
        await ours.hear_out(pieces(later, size=1, count=3), Deadline(60))
        return len(taken), len(refused), len(later)

    assert (refusals._AT_ONCE_MAX, 0, 3) == asyncio.run(story())
