"""Admission: what is in flight is bounded by its cost, and what is over the bound is refused before it begins."""

import asyncio
import time

import pytest

from hindcast.errors import Overloaded
from hindcast.serving.admission import Admission
from hindcast.serving.metrics import Metrics


async def until(condition):
    """Let the loop go on until a condition holds, for a minute at most."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the watch sets no event
            await asyncio.sleep(0.001)


def test_calls_are_taken_on_until_their_cost_is_the_limit():
    """A call that would go over the limit is refused, and taken on once another has left."""
    admission = Admission(in_flight_max=10, lag_max_seconds=1, metrics=Metrics())
    admission.enter(6)
    admission.enter(4)

    with pytest.raises(Overloaded) as refused:
        admission.enter(1)
    admission.leave(4)
    admission.enter(1)

    assert ("in_flight", 7, 2) == (refused.value.limit, admission.in_flight, admission.calls)


def test_a_call_over_the_limit_is_taken_on_alone():
    """The largest call that may be asked can be answered, whatever the limit."""
    admission = Admission(in_flight_max=10, lag_max_seconds=1, metrics=Metrics())

    admission.enter(1_000)

    assert (1_000, 1) == (admission.in_flight, admission.calls)


def is_refused(admission):
    """Whether a call is refused because the loop is late."""
    try:
        admission.enter(1)
    except Overloaded as refused:
        return refused.limit == "lag"
    admission.leave(1)
    return False


def test_a_loop_that_is_late_by_its_work_refuses_calls_until_it_has_caught_up():
    """While the event loop is later than the limit, and its process worked for most of that, every call is refused, and none after."""
    admission = Admission(in_flight_max=10, lag_max_seconds=0.25, metrics=Metrics())
    refused = []
    for lag, worked in ((0.2, 0.2), (0.3, 0.2), (0.4, 0.4), (0.1, 0.1), (0.3, 0.3)):
        admission.looked(lag, worked_seconds=worked)
        refused.append(is_refused(admission))

    assert [False, True, True, False, True] == refused


def test_a_loop_that_was_not_let_run_refuses_calls_when_that_goes_on():
    """A worker that a busy machine lets wait has little to do: no call is refused for one such moment, and all are while there is one after the other."""
    admission = Admission(in_flight_max=10, lag_max_seconds=0.25, metrics=Metrics())
    refused = []
    for lag in (0.3, 0.01, 0.3, 0.3, 0.3, 0.01):
        admission.looked(lag, worked_seconds=0.02)
        refused.append(is_refused(admission))

    assert [False, False, False, True, True, False] == refused


@pytest.mark.parametrize("is_busy", [True, False])
def test_the_loop_is_looked_at_while_it_runs(is_busy):
    """What holds the event loop up is seen as lateness, and told apart by whether it is work."""
    looks = []

    class Seen(Admission):
        def looked(self, lag_seconds, *, worked_seconds):
            looks.append((lag_seconds, worked_seconds))

    async def run():
        admission = Seen(in_flight_max=10, lag_max_seconds=1, metrics=Metrics())
        async with admission.watched():
            await asyncio.sleep(0)  # the watch has begun to wait
            if is_busy:
                ends = time.process_time() + 0.2
                while time.process_time() < ends:
                    pass
            else:
                time.sleep(0.2)  # noqa: ASYNC251 - what a stopped worker does
            looked = len(looks)
            await until(lambda: len(looks) > looked)
        return looks[looked]

    lag, worked = asyncio.run(run())
    assert lag > 0.15
    assert is_busy == (worked > 0.15)
