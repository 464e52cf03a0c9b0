"""The hot path: where the time of one lookup goes inside a worker, by function, without gRPC.

A question is read, looked up in a real Redis, and its answer made into bytes, one at a time, in this process. CPU per lookup is
measured without the profiler; the profiler then says which functions it is spent in, as shares of the whole, since it makes
every call dearer (a function of many small calls looks dearer than it is). What the whole worker needs beyond this
is gRPC's, whose empty RPC the claim `serving` measures.
"""

import contextlib
import cProfile
import pstats
import re
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

import dataset
from dataset import ACCOUNTS, MERCHANTS
from hindcast.catalog import Catalog, load_catalog, read_repo
from hindcast.clock import Deadline
from hindcast.online.connection import parse_target
from hindcast.online.layouts import LAYOUTS, LayoutName
from hindcast.online.reader import RedisReader
from hindcast.serving.answer import feast_bytes
from hindcast.serving.question import read_feast
from lookups import make_lookup
from services import RedisServer, run_redis

_FEW_ACCOUNTS, _FEW_MERCHANTS = replace(ACCOUNTS, count=1_000), replace(MERCHANTS, count=200)
SHAPES = (
    (_FEW_ACCOUNTS, 1, 10),
    (_FEW_ACCOUNTS, 1, 50),
    (_FEW_ACCOUNTS, 10, 50),
    (_FEW_ACCOUNTS, 100, 50),
    (_FEW_MERCHANTS, 100, 250),
)
REQUESTS = 16
"""Distinct requests of a shape, in turn."""

CPU_SECONDS = 0.4
FUNCTIONS = 6
"""How many functions are printed; the figures have all that take a hundredth."""

_SMALLEST_SHARE = 0.01
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU of one function without those that it calls, in us per lookup."""

    function: str
    calls: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One shape on one layout: CPU in us per lookup, as a whole and by part."""

    cpu_us: float
    read_us: float
    answer_us: float
    write_us: float
    functions: Sequence[Spent]


class InProcess:
    """The handler of `GetOnlineFeatures` in Feast's dialect, in this process, without gRPC around it."""

    def __init__(self, catalog: Catalog, layout: LayoutName, redis: RedisServer) -> None:
        self._reader = RedisReader(parse_target(redis.connection_string))
        found_in = LAYOUTS[layout](self._reader, project=catalog.project)
        self._lookup = make_lookup(catalog, found_in)
        self.parts_seconds = [0.0, 0.0]

    async def answer(self, request: bytes) -> bytes:
        """One lookup; adds what reading the question and writing the answer took to `parts_seconds`."""
        began = time.process_time()
        question = read_feast(request, self._lookup.renamed)
        read = time.process_time()
        answer = await self._lookup.answer(question, deadline=Deadline(10.0))
        answered = time.process_time()
        answer_bytes = feast_bytes(question, answer, join_keys=self._lookup.join_keys)
        self.parts_seconds[0] += read - began
        self.parts_seconds[1] += time.process_time() - answered
        return answer_bytes

    async def close(self) -> None:
        """Close the connection."""
        await self._reader.close()


def run() -> dict[str, Any]:
    """Profile every shape on both layouts, print the tables, return the figures."""
    warnings.simplefilter("ignore")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as folder, contextlib.ExitStack() as stack:
        feast_redis, packed_redis = stack.enter_context(run_redis()), stack.enter_context(run_redis())
        repo, _ = dataset.make_repos(Path(folder), feast_redis=feast_redis, packed_redis=packed_redis)
        dataset.load((_FEW_ACCOUNTS, _FEW_MERCHANTS), repo, feast_redis=feast_redis, packed_redis=packed_redis)
        catalog = load_catalog(read_repo(repo))
        for layout, redis in ((LayoutName.PACKED, packed_redis), (LayoutName.FEAST, feast_redis)):
            figures[layout.value] = {}
            for population, entities, features in SHAPES:
                requests = [
                    dataset.request(population, entities=entities, features=features, seed=seed)
                    for seed in range(REQUESTS)
                ]
                profile = uvloop.run(_profile(catalog, layout, redis, requests))
                _print(f"{entities}x{features}", layout, profile)
                figures[layout.value][f"{entities}x{features}"] = asdict(profile)
    return figures


async def _profile(catalog: Catalog, layout: LayoutName, redis: RedisServer, requests: Sequence[bytes]) -> Profile:
    handler = InProcess(catalog, layout, redis)

    async def ask(lookups: int) -> None:
        for at in range(lookups):
            await handler.answer(requests[at % len(requests)])

    try:
        await ask(2 * len(requests))
        began = time.process_time()
        await ask(len(requests))
        lookups = max(len(requests), int(CPU_SECONDS / (time.process_time() - began) * len(requests)))
        handler.parts_seconds = [0.0, 0.0]
        began = time.process_time()
        await ask(lookups)
        cpu_us = (time.process_time() - began) / lookups * 1e6
        read_us, write_us = (seconds / lookups * 1e6 for seconds in handler.parts_seconds)
        profiler = cProfile.Profile(time.process_time)
        profiler.enable()
        await ask(lookups)
        profiler.disable()
    finally:
        await handler.close()
    return Profile(cpu_us, read_us, cpu_us - read_us - write_us, write_us, _spent(profiler, lookups, cpu_us))


def _spent(profiler: cProfile.Profile, lookups: int, cpu_us: float) -> list[Spent]:
    """What each function takes, the dearest first."""
    seen = {
        _named(where): (calls, seconds)
        for where, (_, calls, seconds, _, _) in pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    }
    total = sum(seconds for _, seconds in seen.values())
    functions = [Spent(name, calls / lookups, seconds / total * cpu_us) for name, (calls, seconds) in seen.items()]
    functions.sort(key=lambda spent: spent.cpu_us, reverse=True)
    return [spent for spent in functions if spent.cpu_us >= _SMALLEST_SHARE * cpu_us]


def _named(where: tuple[str, int, str]) -> str:
    """A function as a reader knows it: its file within its package, or what C code calls itself."""
    path, line, name = where
    if path == "~":
        return _ADDRESS.sub("", name.strip("<>"))
    parts = Path(path).parts
    return f"{'/'.join(parts[-2:])}:{line} {name}"


def _print(shape: str, layout: LayoutName, profile: Profile) -> None:
    print(
        f"\nhot path, {shape} on the layout `{layout.value}`: {profile.cpu_us:,.0f} us of CPU a lookup "
        f"(read the question {profile.read_us:,.0f}, look up {profile.answer_us:,.0f}, write the answer {profile.write_us:,.0f})"
    )
    for spent in profile.functions[:FUNCTIONS]:
        print(f"  {spent.cpu_us:>8,.1f} us {spent.calls:>8,.1f} calls  {spent.function}", flush=True)
