"""When the client tries again."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast_client import RetryPolicy
from hindcast_client._policy import Attempts, RetryBudget

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
CANCELLED = grpc.StatusCode.CANCELLED


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """Seconds now."""
        return self.now


def attempts(policy, *, budget=None, timeout_seconds=60.0, clock=None, draw=lambda: 1.0):
    return Attempts(
        policy, budget or RetryBudget(policy), timeout_seconds=timeout_seconds, clock=clock or Clock(), draw=draw
    )


def test_waits_grow_to_their_maximum_and_end():
    """Each wait doubles up to the maximum, and the last allowed attempt has none after it."""
    policy = RetryPolicy(attempts_max=5, backoff_initial_seconds=0.1, backoff_max_seconds=0.3, budget_tokens_max=1000)
    call = attempts(policy)
    expected = [0.1, 0.2, 0.3, 0.3, None]
    assert expected == [call.wait_after(UNAVAILABLE) for _ in range(5)]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 3))
def test_jitter_draws_from_the_second_half_of_the_wait(drawn, failures):
    """The wait is half of the back-off and a drawn share of the other half: clients that failed together part, and none hurries."""
    call = attempts(RetryPolicy(backoff_initial_seconds=0.1), draw=lambda: drawn)
    waits = [call.wait_after(UNAVAILABLE) for _ in range(failures)]
    assert pytest.approx(0.1 * 2 ** (failures - 1) * (1 + drawn) / 2) == waits[-1]


def test_only_what_another_attempt_can_change_is_retried():
    """UNAVAILABLE and CANCELLED are retried, every other code is final and costs no token."""
    budget = RetryBudget(RetryPolicy(budget_tokens_max=2.5))
    policy = RetryPolicy()
    retried = {
        code for code in grpc.StatusCode if attempts(policy, budget=RetryBudget(policy)).wait_after(code) is not None
    }
    assert {UNAVAILABLE, CANCELLED} == retried
    for _ in range(100):
        attempts(policy, budget=budget).wait_after(grpc.StatusCode.INVALID_ARGUMENT)
    assert budget.spend()


def test_no_wait_reaches_past_the_deadline():
    """A retry that could only begin after the deadline is not waited for."""
    clock = Clock()
    call = attempts(RetryPolicy(backoff_initial_seconds=0.5), timeout_seconds=1.0, clock=clock)
    assert pytest.approx(0.5) == call.wait_after(UNAVAILABLE)
    clock.now += 0.6
    assert pytest.approx(0.4) == call.seconds_left()
    assert call.wait_after(UNAVAILABLE) is None
    clock.now += 10
    assert pytest.approx(0) == call.seconds_left()


def test_the_budget_stops_retries_at_half_and_successes_restore_it():
    """At half of the tokens no call retries any more, until enough successes have paid them back."""
    policy = RetryPolicy(attempts_max=10, budget_tokens_max=4, budget_refill=0.5)
    budget = RetryBudget(policy)
    first = attempts(policy, budget=budget)
    expected = [True, False]
    assert expected == [first.wait_after(UNAVAILABLE) is not None for _ in range(2)]
    assert attempts(policy, budget=budget).wait_after(UNAVAILABLE) is None
    for _ in range(5):  # 1 token + 5 * 0.5, less the one that the failure below takes
        attempts(policy, budget=budget).succeeded()
    assert attempts(policy, budget=budget).wait_after(UNAVAILABLE) is not None


@given(st.lists(st.booleans(), max_size=60))
def test_the_budget_stays_within_its_bounds(outcomes):
    """Whatever happens, failures never drive the tokens under zero nor successes over full."""
    policy = RetryPolicy(budget_tokens_max=5, budget_refill=0.3)
    budget = RetryBudget(policy)
    for succeeded in outcomes:
        if succeeded:
            budget.refill()
        else:
            budget.spend()
        assert 0 <= budget._tokens <= 5


@pytest.mark.parametrize(
    "options",
    [
        {"attempts_max": 0},
        {"backoff_initial_seconds": -1},
        {"backoff_max_seconds": float("nan")},
        {"backoff_multiplier": 0.5},
        {"budget_tokens_max": -1},
        {"budget_refill": -0.1},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options):
    """A policy names the option that it cannot take."""
    with pytest.raises(ValueError, match=next(iter(options))):
        RetryPolicy(**options)
