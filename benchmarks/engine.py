"""One materialization in a process of its own, which imports everything, says so, and begins when it is told to.

So the time is that of `store.materialize` alone, and the memory that of the whole process, Feast's import included.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from failure import BenchmarkFailed

from services import RedisServer

_PROCESS = Path(__file__).with_name("materializing.py")
_READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a materialization took.

    Attributes:
        cpu_seconds: of its process, all threads and children.
        redis_cpu_seconds: of its Redis meanwhile.
        before_mb: the most resident memory of its process before it began, with everything imported.
        peak_mb: the same, after it ended.
    """

    seconds: float
    cpu_seconds: float
    redis_cpu_seconds: float
    before_mb: float
    peak_mb: float


def materialize(
    repo: Path, view: str, *, start: datetime, end: datetime, redis: RedisServer, limit_seconds: float
) -> Run | None:
    """Materialize a view; None when it is not done within the limit, and ended by force.

    Raises:
        BenchmarkFailed: it failed.
    """
    log_path = repo / "engine.log"
    command = [sys.executable, str(_PROCESS), str(repo), view, start.isoformat(), end.isoformat()]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            start_new_session=True,  # so that what it starts ends with it
        )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        ready, _ = _line(process, seconds=_READY_SECONDS)
        if ready != "ready":
            raise BenchmarkFailed(f"the engine of {repo.name} did not start:\n{log_path.read_text()[-2000:]}")
        redis_before = _redis_cpu_seconds(redis)
        process.stdin.write("go\n")
        process.stdin.flush()
        report, in_time = _line(process, seconds=limit_seconds)
    if not in_time:
        return None
    if not report:
        raise BenchmarkFailed(f"the engine of {repo.name} failed:\n{log_path.read_text()[-2000:]}")
    return Run(redis_cpu_seconds=_redis_cpu_seconds(redis) - redis_before, **json.loads(report))


def _line(process: subprocess.Popen[str], *, seconds: float) -> tuple[str, bool]:
    """The next line that a process prints, and whether it came in time; if not, the process and its children are killed."""
    assert process.stdout is not None
    late = threading.Event()

    def kill() -> None:
        late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        return process.stdout.readline().strip(), not late.is_set()
    finally:
        timer.cancel()


def _redis_cpu_seconds(redis: RedisServer) -> float:
    with contextlib.closing(redis.client()) as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
