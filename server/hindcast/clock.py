"""Time, as an argument. All instants are aware UTC; stored instants are integer microseconds since 1970."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Gives now in microseconds since 1970-01-01T00:00:00Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def system_clock() -> int:
    """Now by the machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 of an instant, exact for every year; a naive one is read as UTC, as Feast does."""
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    return (aware - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC instant that many microseconds after 1970.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=micros)
