"""One materialization in a process of its own, and what its Redis took meanwhile."""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from apart import started
from services import RedisServer

_SCRIPT = Path(__file__).resolve().with_name("materializing.py")


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
    arguments = (repo, view, start.isoformat(), end.isoformat())
    with started(_SCRIPT, *arguments, what=f"the engine of {repo.name}", log_path=repo / "engine.log") as engine:
        redis_before = _redis_cpu_seconds(redis)
        report = engine.work(limit_seconds=limit_seconds)
    if report is None:
        return None
    return Run(redis_cpu_seconds=_redis_cpu_seconds(redis) - redis_before, **report)


def _redis_cpu_seconds(redis: RedisServer) -> float:
    with contextlib.closing(redis.client()) as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
