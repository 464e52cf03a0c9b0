"""A process of its own for a piece of work: it imports everything, says so, begins when it is told to, and reports.

So the time is that of the work alone, and the memory that of the whole process, its imports included. The script says `ready` on standard
output, reads a line, works, and prints a line of JSON.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failure import BenchmarkFailed

_READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Apart:
    """A process that has said that it is ready."""

    what: str
    log_path: Path
    process: subprocess.Popen[str]

    def work(self, *, limit_seconds: float) -> dict[str, Any] | None:
        """Let it begin; its report, or None when it is not done within the limit, and ended by force.

        Raises:
            BenchmarkFailed: it failed.
        """
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        report, in_time = _line(self.process, seconds=limit_seconds)
        if not in_time:
            return None
        if not report:
            raise BenchmarkFailed(f"{self.what} failed:\n{self.log_path.read_text()[-2000:]}")
        done: dict[str, Any] = json.loads(report)
        return done


@contextlib.contextmanager
def started(
    script: Path, *arguments: str | Path, what: str, log_path: Path, env: Mapping[str, str] | None = None
) -> Iterator[Apart]:
    """Start a script of this folder and wait until it is ready; at the end, until it has ended.

    Args:
        env: what it has in its environment besides, or instead of, ours.
    Raises:
        BenchmarkFailed: it did not start.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=log_path.parent,  # DuckDB spills into the working directory, and leaves that there when it is killed
            env={**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})},
            start_new_session=True,  # so that what it starts ends with it
        )
    with process:
        ready, _ = _line(process, seconds=_READY_SECONDS)
        if ready != "ready":
            raise BenchmarkFailed(f"{what} did not start:\n{log_path.read_text()[-2000:]}")
        yield Apart(what, log_path, process)


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
