"""When to try again: pure decisions, no network and no sleeping.

gRPC could retry by itself, by its service config. It is not asked to: since 1.72 a back-off of a few milliseconds can
leave a call hanging (https://github.com/grpc/grpc/issues/41036; seen here with grpcio 1.85.1 and a 1 ms back-off: 3 of 8
calls hung until the deadline), and it sleeps into a deadline that it cannot meet
(https://github.com/grpc/grpc/issues/39622).
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

# A lookup only reads, and a push sent again under its run id stores the same rows once, so the server having seen either is
# no reason against asking again. CANCELLED is what a server says
# to the calls in flight when it stops.
RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how fast to try again after UNAVAILABLE or a CANCELLED that is not our own.

    The wait before retry n is drawn evenly from a half to all of `backoff_initial_seconds * backoff_multiplier ** (n - 1)`, at
    most `backoff_max_seconds`. Never less than the half, because gRPC does not connect anew within 0.1 s of a connection that
    was refused: with waits from 0, all retries could lie before that. Every attempt and wait lies within the call's one deadline.

    The budget keeps a fleet of clients from doubling the load of a server in trouble, as gRFC A6 has it: each retryable
    failure takes one token, each success gives `budget_refill` back, and at half of the tokens or less nothing is
    retried. A client has one budget over all of its calls.

    Attributes:
        attempts_max: the first attempt included; 1 never retries.
        budget_tokens_max: tokens of a full budget.
    """

    attempts_max: int = 4
    backoff_initial_seconds: float = 0.05
    backoff_multiplier: float = 2.0
    backoff_max_seconds: float = 1.0
    budget_tokens_max: float = 10.0
    budget_refill: float = 0.1

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise ValueError(f"attempts_max is {self.attempts_max}; 1 means one attempt and no retry")
        for name in ("backoff_initial_seconds", "backoff_max_seconds", "budget_tokens_max", "budget_refill"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it cannot be negative")
        if not self.backoff_multiplier >= 1:
            raise ValueError(f"backoff_multiplier is {self.backoff_multiplier}; under 1 the waits would shrink")


class RetryBudget:
    """The tokens of one client. Safe to share between threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = policy.budget_tokens_max
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one token for a failure; say whether what is left allows a retry."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens > self._policy.budget_tokens_max / 2

    def refill(self) -> None:
        """Give back what a success earns."""
        with self._lock:
            self._tokens = min(self._policy.budget_tokens_max, self._tokens + self._policy.budget_refill)


class Attempts:
    """The attempts of one call. The caller owns the network and the sleeping:

    try with `seconds_left()` as the timeout, then say `succeeded()`, or ask `wait_after(code)` and sleep that long.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._clock = clock
        self._draw = draw
        self._deadline = clock() + timeout_seconds
        self._failed = 0

    def seconds_left(self) -> float:
        """Time to the deadline; never under zero."""
        return max(0.0, self._deadline - self._clock())

    def succeeded(self) -> None:
        """The last attempt was answered."""
        self._budget.refill()

    def wait_after(self, code: grpc.StatusCode) -> float | None:
        """The last attempt failed with `code`.

        Returns:
            seconds to wait before the next attempt; None when the failure is final.
        """
        if code not in RETRYABLE:
            return None
        self._failed += 1
        allowed = self._budget.spend()
        if not allowed or self._failed >= self._policy.attempts_max:
            return None
        grown = self._policy.backoff_initial_seconds * self._policy.backoff_multiplier ** (self._failed - 1)
        wait_seconds = min(grown, self._policy.backoff_max_seconds) * (1 + self._draw()) / 2
        return wait_seconds if wait_seconds < self.seconds_left() else None
