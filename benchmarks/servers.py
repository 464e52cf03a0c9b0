"""The servers that are compared, one worker each, and the CPU time of each one's whole process tree."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from failure import BenchmarkFailed
from load import ask
from services import FEAST, HINDCAST, RedisServer, held_port, run_hindcast, wait_for

FEAST_METHOD = "/GrpcFeatureServer/GetOnlineFeatures"
EMPTY_METHOD = "/feast.serving.ServingService/GetFeastServingInfo"

_CONNECT_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Server:
    """A running feature server.

    Attributes:
        name: as tables call it.
        processes: it and all its children, as they were when it could answer.
        redis: where its rows are.
    """

    name: str
    address: str
    processes: tuple[psutil.Process, ...]
    redis: RedisServer

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used so far.

        Raises:
            BenchmarkFailed: one of them has ended.
        """
        return sum(_cpu_seconds(process) for process in self.processes)

    def worker_cpu_seconds(self) -> float:
        """CPU time that its worker has used so far, exact to the microsecond: all its threads, user and system.

        Raises:
            BenchmarkFailed: it has not one worker.
        """
        workers = [process for process in self.processes if _is_worker(process)]
        if len(workers) != 1:
            raise BenchmarkFailed(f"{self.name} has {len(workers)} workers and should have one")
        # The kernel's number of the clock of another process (clock_getcpuclockid): what it is made of is a part of its interface.
        return time.clock_gettime(~workers[0].pid << 3 | 2)

    def redis_cpu_seconds(self) -> float:
        """CPU time that its Redis has used so far, in Redis's own words, which are exact to the microsecond."""
        with self.redis.client() as client:
            used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def worker_rss_bytes(self) -> int:
        """Resident memory of its largest process, which is a worker."""
        return max(int(process.memory_info().rss) for process in self.processes)


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess as error:
        raise BenchmarkFailed(f"process {process.pid} of a server ended while it was measured") from error
    return float(times.user + times.system)


def _is_worker(process: psutil.Process) -> bool:
    return "hindcast.serving.worker" in " ".join(process.cmdline())


def _tree(process_id: int) -> tuple[psutil.Process, ...]:
    root = psutil.Process(process_id)
    return (root, *root.children(recursive=True))


@contextlib.contextmanager
def feast_server(name: str, repo: Path, redis: RedisServer, *, request: bytes) -> Iterator[Server]:
    """Run `feast listen`, with the options that it has by default."""
    log_path = repo / "feast-listen.log"
    with held_port() as port, log_path.open("wb") as log:
        address = f"127.0.0.1:{port}"
        process = subprocess.Popen(
            [FEAST, "listen", "--address", address],
            cwd=repo,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        try:
            wait_for(lambda: process.poll() is not None or _listens(address), seconds=120, what="feast listen")
            if process.poll() is not None:
                raise BenchmarkFailed(f"feast listen ended:\n{log_path.read_text()[-2000:]}")
            ask(address, FEAST_METHOD, request)
            yield Server(name, address, _tree(process.pid), redis)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def hindcast_server(
    name: str, repo: Path, redis: RedisServer, *, request: bytes, options: Sequence[str] = ("--log-mode", "off")
) -> Iterator[Server]:
    """Run `hindcast serve` with one worker. h2load does not connect anew when it is told to, so that it is not told.

    Args:
        options: of the log: Feast's server keeps no record of what it answers, and is compared at the same work.
    """
    with run_hindcast(repo, "--workers", "1", "--max-connection-age-seconds", "3600", *options) as server:
        ask(server.address, FEAST_METHOD, request)
        yield Server(name, server.address, _tree(server.process.pid), redis)


def first_answer_seconds(repo: Path, *, request: bytes) -> float:
    """From starting `hindcast serve` to its first answer; the server is ended again."""
    with held_port() as port:
        address = f"127.0.0.1:{port}"
        # Feast's server keeps no record of what it answers; the two are compared at the same work.
        command = [
            str(HINDCAST),
            "serve",
            "--repo",
            str(repo),
            "--address",
            address,
            "--workers",
            "1",
            "--log-mode",
            "off",
        ]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not _listens(address):
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise BenchmarkFailed(f"{' '.join(command)} does not come up; run it by hand to see why")
                time.sleep(_CONNECT_SECONDS)
            ask(address, FEAST_METHOD, request)
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(30)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
