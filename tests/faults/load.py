"""Callers who ask all the time and write down what became of each call, and the oracle that judges it."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from faults.repos import store_rows
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesRequest, GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client, HindcastError
from services import RedisServer, wait_for

METHOD = "/hindcast.v1.FeatureService/GetOnlineFeatures"
DRIVERS = range(1, 201)
ASKED = range(1, 221)
"""Some drivers that are asked for have no row."""

LATE_SECONDS = 1.4
"""How much later than its deadline a call may end, on a machine that is busy with the test itself. The shortest deadline is 0.5 s, and a call
that overlooked it would end after 2, when Redis is not waited for any more."""

_PACE_SECONDS = 0.005
"""Between two calls of a caller, so that the callers leave the server some of a small machine."""


def trips_of(driver: int) -> int | None:
    """The oracle: what a right answer has for a driver."""
    return driver * 7 + 3 if driver in DRIVERS else None


def city_of(driver: int) -> str | None:
    """The oracle: what a right answer has for a driver."""
    return f"city {driver}" if driver in DRIVERS else None


def fill(redis: RedisServer) -> None:
    """Store a row of each driver."""
    store_rows(
        redis.connection_string,
        "driver",
        [
            (Value(int64_val=at), {"trips": Value(int64_val=trips_of(at)), "city": Value(string_val=city_of(at))})
            for at in DRIVERS
        ],
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its caller saw it, times by the monotonic clock.

    Attributes:
        seconds: the deadline, the caller's own or, where it brings none, the server's.
        code: None if it was answered.
    """

    caller: int
    sent_at: float
    ended_at: float
    seconds: float
    asked: tuple[int, ...]
    code: grpc.StatusCode | None
    details: str
    trips: tuple[int | None, ...]
    cities: tuple[str | None, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether it was answered with anything but the rows that were asked for, in order."""
        right = tuple(map(trips_of, self.asked)), tuple(map(city_of, self.asked))
        return self.code is None and right != (self.trips, self.cities)

    @property
    def is_late(self) -> bool:
        """Whether it ended after its deadline."""
        return self.ended_at - self.sent_at > self.seconds + LATE_SECONDS

    @property
    def is_without_connection(self) -> bool:
        """Whether it failed because nobody could be connected to: it was never sent."""
        return self.code is grpc.StatusCode.UNAVAILABLE and self.details.startswith(
            "failed to connect to all addresses"
        )


Answer = tuple[tuple[int | None, ...], tuple[str | None, ...]]
Ask = Callable[[tuple[int, ...]], Answer]


@dataclass
class Load:
    """Callers at work.

    Attributes:
        calls: what has ended so far.
    """

    calls: list[Call] = field(default_factory=list)
    callers: list[threading.Thread] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> list[Call]:
        """Calls that were not answered."""
        return [call for call in self.calls if call.code is not None]

    def judge(self) -> None:
        """No value may be wrong, and no call may end after its deadline, whatever has happened."""
        assert [] == [call for call in self.calls if call.is_wrong]
        assert [] == [call for call in self.calls if call.is_late]

    def is_good_since(self, instant: float, *, times: int = 5) -> bool:
        """Whether every caller had that many calls in a row answered, all sent after an instant."""
        last: dict[int, list[Call]] = {at: [] for at in range(len(self.callers))}
        for call in reversed(self.calls):
            if len(last[call.caller]) < times:
                last[call.caller].append(call)
        return all(
            len(calls) == times and all(call.code is None and call.sent_at > instant for call in calls)
            for calls in last.values()
        )

    def wait_until_good(self, *, seconds: float = 60.0) -> float:
        """Wait until every caller is answered again and again; the seconds that took."""
        begin = time.monotonic()
        wait_for(lambda: self.is_good_since(begin), seconds=seconds, what="good answers for every caller")
        return time.monotonic() - begin

    def has_ended(self) -> bool:
        """Whether every caller has given up by itself."""
        return not any(caller.is_alive() for caller in self.callers)


@contextlib.contextmanager
def raw_load(
    address: str,
    *,
    callers: int = 6,
    credentials: grpc.ChannelCredentials | None = None,
    server_seconds: float | None = None,
    until_refused: bool = False,
) -> Iterator[Load]:
    """Callers with nothing but gRPC: a connection each, no retry, no setting.

    Args:
        server_seconds: the server's own deadline, for callers that bring none.
        until_refused: a caller stops by itself when nobody listens any more.
    """

    @contextlib.contextmanager
    def connect() -> Iterator[Ask]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        with channel:
            call = channel.unary_unary(METHOD)
            timeout = None if server_seconds else 5.0
            yield lambda drivers: _read(call(_request(drivers), timeout=timeout))

    with _load([connect] * callers, seconds=server_seconds or 5.0, until_refused=until_refused) as load:
        yield load


@contextlib.contextmanager
def client_load(address: str, *, callers: int = 3, seconds: float = 5.0) -> Iterator[Load]:
    """Callers with our client and its defaults."""

    @contextlib.contextmanager
    def connect() -> Iterator[Ask]:
        with Client(address, timeout_seconds=seconds) as client:
            yield lambda drivers: _columns(
                client.get_online_features(
                    features=["driver:trips", "driver:city"], entities={"driver_id": list(drivers)}
                ).to_dict()
            )

    with _load([connect] * callers, seconds=seconds, until_refused=False) as load:
        yield load


@contextlib.contextmanager
def _load(
    connects: Sequence[Callable[[], contextlib.AbstractContextManager[Ask]]], *, seconds: float, until_refused: bool
) -> Iterator[Load]:
    load = Load()

    def work(caller: int) -> None:
        chance = random.Random(caller)
        with connects[caller]() as ask:
            while not load.stopping.wait(_PACE_SECONDS):
                call = _one(ask, tuple(chance.choices(ASKED, k=chance.randint(1, 5))), caller, seconds)
                load.calls.append(call)
                if until_refused and call.is_without_connection:
                    return

    load.callers = [threading.Thread(target=work, args=(caller,), daemon=True) for caller in range(len(connects))]
    for caller in load.callers:
        caller.start()
    try:
        load.wait_until_good()
        yield load
    finally:
        load.stopping.set()
        for caller in load.callers:
            caller.join(seconds + 5)
    assert load.has_ended(), "a call hangs"


def _one(ask: Ask, asked: tuple[int, ...], caller: int, seconds: float) -> Call:
    sent_at = time.monotonic()
    code, details, answer = None, "", ((), ())
    try:
        answer = ask(asked)
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
    except HindcastError as error:
        code, details = error.code, str(error)
    return Call(caller, sent_at, time.monotonic(), seconds, asked, code, details, *answer)


def _request(drivers: tuple[int, ...]) -> bytes:
    message = GetOnlineFeaturesRequest(feature_service="ride")
    for driver in drivers:
        message.entities["driver_id"].val.add(int64_val=driver)
    return message.SerializeToString()


def _read(answer: bytes) -> Answer:
    columns = {column.name: column.values for column in GetOnlineFeaturesResponse.FromString(answer).columns}
    return _columns(
        {
            name: [
                getattr(value, value.WhichOneof("val")) if value.WhichOneof("val") else None for value in columns[name]
            ]
            for name in ("trips", "city")
        }
    )


def _columns(columns: dict[str, list[Any]]) -> Answer:
    return tuple(columns["trips"]), tuple(columns["city"])
