"""Time, as an argument. All instants are aware UTC; stored instants are integer microseconds since 1970."""

import os
import time
import uuid
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


def uuid7(now_micros: int, random_bytes: Callable[[int], bytes] = os.urandom) -> uuid.UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random bits; later ones sort later."""
    return uuid.UUID(uuid7_text(now_micros, random_bytes))


def uuid7_text(now_micros: int, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """What `uuid7` gives, as text. Every lookup has one, and to make a `uuid.UUID` first costs four times as much."""
    time_hex = f"{now_micros // 1000 & (1 << 48) - 1:012x}"
    tail = random_bytes(10).hex()
    return f"{time_hex[:8]}-{time_hex[8:]}-7{tail[:3]}-{_VARIANTS[tail[3]]}{tail[4:7]}-{tail[7:19]}"


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The bits 10, and the lower two of a random digit."""


class Deadline:
    """When a call's time is up, by the monotonic clock."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        """Args: seconds from now; zero or less is already up."""
        self._at = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        """Seconds left; zero or less when it is up."""
        return self._at - time.monotonic()
