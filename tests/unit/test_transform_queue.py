"""Where on-demand views run, with a transformer that does as it is told."""

import asyncio
import threading

import pytest

from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, TransformError
from hindcast.serving.transform_queue import TransformQueue


class Told:
    """Stands in for `Transformer`: notes the thread of each run, and waits for what a view's name is given to wait for."""

    def __init__(self):
        self.threads = []
        self.waits = {}
        self.begun = threading.Event()

    def run(self, view_name, inputs, rows):
        """Note the thread, and do as the view's name says."""
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        if view_name in self.waits:
            assert self.waits[view_name].wait(10)
        if view_name == "broken":
            raise TransformError("on-demand view 'broken' failed")
        return {"f": [b""] * rows}


def is_loop(name):
    return name == threading.main_thread().name


def test_a_view_runs_in_the_loop_once_it_was_quick():
    """A run of unknown cost is kept from the loop, each size of its own; a quick one is repeated in the loop."""
    told = Told()

    async def ask():
        queue = TransformQueue(told)
        for rows in (1, 1, 1000, 1000):
            assert {"f": [b""] * rows} == await queue.run("quick", {}, rows, deadline=Deadline(5))

    asyncio.run(ask())
    assert [False, True, False, True] == [is_loop(name) for name in told.threads]


def test_a_slow_view_does_not_hold_up_the_loop():
    """While a function runs, the loop goes on, and one call's function waits for another's."""
    told = Told()
    told.waits["slow"] = threading.Event()

    async def ask():
        queue = TransformQueue(told)
        slow = asyncio.create_task(queue.run("slow", {}, 1, deadline=Deadline(5)))
        behind = asyncio.create_task(queue.run("behind", {}, 1, deadline=Deadline(5)))
        assert await asyncio.to_thread(told.begun.wait, 10)
        assert 1 == len(told.threads)
        told.waits["slow"].set()
        assert [{"f": [b""]}] * 2 == await asyncio.gather(slow, behind)

    asyncio.run(ask())
    assert [False, False] == [is_loop(name) for name in told.threads]


def test_a_view_that_was_slow_is_kept_from_the_loop():
    """A quick run after a slow one is not believed at once."""
    told = Told()
    told.waits["slow"] = threading.Event()

    async def ask():
        queue = TransformQueue(told)
        asyncio.get_running_loop().call_later(0.05, told.waits["slow"].set)
        for _ in range(3):
            await queue.run("slow", {}, 1, deadline=Deadline(5))

    asyncio.run(ask())
    assert [False] * 3 == [is_loop(name) for name in told.threads]


@pytest.mark.parametrize("was_quick", [False, True])
def test_no_function_is_run_after_the_deadline(was_quick):
    """A call that is late already does no work, in the loop or beside it."""
    told = Told()

    async def ask():
        queue = TransformQueue(told)
        if was_quick:
            await queue.run("view", {}, 1, deadline=Deadline(5))
            told.threads.clear()
        with pytest.raises(DeadlineExceeded, match="on-demand view 'view' was not computed before the call's deadline"):
            await queue.run("view", {}, 1, deadline=Deadline(0))

    asyncio.run(ask())
    assert [] == told.threads


def test_a_call_is_not_kept_waiting_past_its_deadline():
    """A function that does not come back ends its own call in time, and those behind it, whose work is not done."""
    told = Told()
    told.waits["slow"] = threading.Event()

    async def ask():
        queue = TransformQueue(told)
        late = await asyncio.gather(
            *(queue.run(name, {}, 1, deadline=Deadline(0.05)) for name in ("slow", "behind")), return_exceptions=True
        )
        assert [DeadlineExceeded] * 2 == [type(error) for error in late]
        told.waits["slow"].set()
        assert {"f": [b""]} == await queue.run("next", {}, 1, deadline=Deadline(5))

    asyncio.run(ask())
    assert 2 == len(told.threads)


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_function_raises_reaches_the_call(times):
    """A failure is the caller's in the loop and beside it, and counts as a run."""

    async def ask():
        queue = TransformQueue(Told())
        for _ in range(times):
            with pytest.raises(TransformError, match="'broken' failed"):
                await queue.run("broken", {}, 1, deadline=Deadline(5))

    asyncio.run(ask())
