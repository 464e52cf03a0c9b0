"""What one piece of work takes of the process that does it; for processes of `apart.py`, so nothing but the standard library."""

import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Done = TypeVar("Done")


def measured(work: Callable[[], Done]) -> tuple[Done, dict[str, float]]:
    """Do it, once the garbage that imports left is collected: whose share of that a piece of work bears would be chance.

    Returns:
        What it returned, and: wall and CPU seconds, the CPU of all threads and children; the most resident memory of the process
        before it and after it, MB.
    """
    gc.collect()
    before_mb, cpu_before, began = _peak_mb(), _cpu_seconds(), time.perf_counter()
    done = work()
    seconds = time.perf_counter() - began
    return done, {
        "seconds": seconds,
        "cpu_seconds": _cpu_seconds() - cpu_before,
        "before_mb": before_mb,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    (peak,) = (
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(peak) * 1024 / 1e6


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)
