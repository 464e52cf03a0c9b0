"""Admission: what is in flight is bounded by its cost, and what is over the bound is refused before it begins."""

import asyncio
import time

import pytest

from hindcast.errors import Overloaded
from hindcast.serving.admission import Admission
from hindcast.serving.metrics import Metrics


async def until(condition):
    """Let the loop go on until a condition holds, for 5 s at most."""
    async with asyncio.timeout(5):
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


def test_a_late_loop_refuses_calls_until_it_has_caught_up():
    """While the event loop is later than the limit every call is refused, and none after."""

    async def run():
        admission = Admission(in_flight_max=10, lag_max_seconds=0.05, metrics=Metrics())
        async with admission.watched():
            await asyncio.sleep(0)  # the watch has begun to wait
            time.sleep(0.2)  # noqa: ASYNC251 - what a busy worker does
            await until(lambda: admission.lag_seconds)
            with pytest.raises(Overloaded) as refused:
                admission.enter(1)
            await until(lambda: admission.lag_seconds < 0.05)
            admission.enter(1)
        return refused.value.limit

    assert asyncio.run(run()) == "lag"
