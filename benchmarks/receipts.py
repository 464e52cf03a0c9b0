"""Receipts: what it costs to log every lookup, that a receipt has the values that were served, and how fast lookups are sealed."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset
import receipt_proof
import seal_speed
from dataset import ACCOUNTS
from floors import Floor
from log_cost import BATCHED, CLIENTS, DURABLE, MODES, OFF, Load, ModeCost, cost_of_modes
from servers import Server, hindcast_server
from services import RedisServer, run_redis

POPULATION = replace(ACCOUNTS, count=10_000)
BODIES = 8
SHAPES = {"1x50": (1, 50, 500), "100x50": (100, 50, 150)}
"""Entities, features, and requests a second of the open loop."""

ROUNDS = 24
PROOF_LOOKUPS, PROOF_FEATURES = 10_000, 10

MORE_CPU_PERCENT, MORE_P99_PERCENT = 8.0, 10.0
DURABLE_P50_MORE_MS, DURABLE_P99_MORE_MS = 1.0, 3.0


def run() -> dict[str, Any]:
    """Measure and compare everything, print it, return the figures."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name, run_redis() as redis:
        folder = Path(name)
        feast_repo, repo = dataset.make_repos(folder, feast_redis=redis, packed_redis=redis)
        dataset.load((POPULATION,), feast_repo, feast_redis=redis, packed_redis=redis)
        costs = _costs(folder, repo, redis)
        proof = _proof(folder / "proof", repo, redis)
    sealing, sealing_floors = seal_speed.run()
    floors = [*_floors(costs), *sealing_floors]
    print("\nfloors")
    for floor in floors:
        print(f"  {floor}", flush=True)
    return {
        "rounds": ROUNDS,
        "modes": {shape: {mode: cost.figures() for mode, cost in of.items()} for shape, of in costs.items()},
        "proof": proof,
        "sealing": sealing,
        "floors": [floor.figures() for floor in floors],
    }


@contextlib.contextmanager
def _server(mode: str, log_directory: Path, repo: Path, redis: RedisServer) -> Iterator[Server]:
    """One that seals nothing by itself."""
    options = ("--log-mode", mode, "--log-dir", str(log_directory), "--seal-seconds", "0")
    first = dataset.request(POPULATION, entities=1, features=50, seed=0)
    with hindcast_server(mode, repo, redis, request=first, options=options) as server:
        yield server


def _costs(folder: Path, repo: Path, redis: RedisServer) -> dict[str, dict[str, ModeCost]]:
    print(
        f"\nlogging, one worker for each mode on one Redis, {ROUNDS} rounds of short windows turn about; CPU of the worker in a closed "
        f"loop of {CLIENTS} clients,\nlatency in an open loop; medians, and in brackets what they lie between by 95 %; us\n"
    )
    print(f"{'shape':<7} {'mode':<12} {'CPU':>6}  {'more, %':<24} {'p50':<22} {'p99':<26} {'p99 more, %':<24}")
    costs = {}
    with contextlib.ExitStack() as stack:
        servers = {mode: stack.enter_context(_server(mode, folder / f"log-{mode}", repo, redis)) for mode in MODES}
        for shape, (entities, features, rate) in SHAPES.items():
            bodies = [
                dataset.request(POPULATION, entities=entities, features=features, seed=seed) for seed in range(BODIES)
            ]
            costs[shape] = cost_of_modes(Load(shape, bodies, rate), servers, folder, rounds=ROUNDS)
            for mode, cost in costs[shape].items():
                more = ("", "") if mode == OFF else (cost.more_cpu_percent, cost.p99_more_percent)
                print(
                    f"{shape:<7} {mode:<12} {cost.cpu_us:>6,.0f}  {more[0]!s:<24} {cost.p50_us!s:<22} {cost.p99_us!s:<26} "
                    f"{more[1]!s:<24}",
                    flush=True,
                )
    for shape, of_shape in costs.items():
        cost = of_shape[DURABLE]
        print(
            f"{shape} durable, {CLIENTS} clients in a closed loop: p50 {cost.closed_p50_us} us, p99 {cost.closed_p99_us} us; "
            f"more than off: {cost.closed_p50_more_us} us, {cost.closed_p99_more_us} us"
        )
    return costs


def _proof(log_directory: Path, repo: Path, redis: RedisServer) -> dict[str, int]:
    service, views = POPULATION.services[PROOF_FEATURES]
    requests = [
        dataset.request(POPULATION, entities=receipt_proof.ROWS, features=PROOF_FEATURES, seed=seed)
        for seed in range(200)
    ]
    with _server(BATCHED, log_directory, repo, redis) as server:
        served = receipt_proof.serve(server.address, requests, lookups=PROOF_LOOKUPS)
        in_receipts = receipt_proof.compare_segments(log_directory, served)
    seal_speed.seal(log_directory)
    in_tables = receipt_proof.compare_tables(log_directory, served, service=service, view=views[0])
    rows = PROOF_LOOKUPS * receipt_proof.ROWS
    print(
        f"\n{rows:,} rows were served and kept by their caller: the answers in the segments and in the sealed records are the same "
        f"bytes;\n{in_receipts:,} values of receipts read from segments and {in_tables:,} values read from the tables are the ones served",
        flush=True,
    )
    return {"rows": rows, "values_in_receipts": in_receipts, "values_in_tables": in_tables}


def _floors(costs: Mapping[str, Mapping[str, ModeCost]]) -> list[Floor]:
    floors = []
    for shape, of_shape in costs.items():
        batched = of_shape[BATCHED]
        more = batched.more_cpu_percent.value
        floors.append(Floor(f"CPU of batched over off, {shape}", more, MORE_CPU_PERCENT, "%", at_least=False))
        more = batched.p99_more_percent.value
        floors.append(Floor(f"p99 of batched over off, {shape}", more, MORE_P99_PERCENT, "%", at_least=False))
    durable = costs["1x50"][DURABLE]
    for name, estimate, limit in (
        ("p50", durable.closed_p50_more_us, DURABLE_P50_MORE_MS),
        ("p99", durable.closed_p99_more_us, DURABLE_P99_MORE_MS),
    ):
        floors.append(
            Floor(f"{name} of durable over off, {CLIENTS} clients", estimate.value / 1e3, limit, "ms", at_least=False)
        )
    return floors
