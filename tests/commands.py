"""The `feast` and `hindcast` commands without their import each time, which takes ten times as long as most of what they do: a process
imports them once, and forks a child for each run.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services import wait_for

_END_SECONDS = 120.0


@dataclass
class Run:
    """A running command.

    Attributes:
        code: once it has ended, its exit code; negative for a signal.
        peak_kb: once it has ended, the most memory that it took.
    """

    driver: "CommandDriver"
    process_id: int
    output_path: Path
    errors_path: Path
    code: int | None = None
    peak_kb: int | None = None

    def kill(self) -> int:
        """End it and all that it started at once, as `kill -9` does; gives its exit code, which may be its own."""
        if self.code is not None:
            return self.code
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process_id, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended; negative for a signal."""
        if self.code is None:
            wait_for(lambda: self.has_ended, seconds=_END_SECONDS, what="the end of the run")
            self.code, self.peak_kb = self.driver.end_of(self.process_id)
        return self.code

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        if self.code is not None:
            return True
        return Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    @property
    def last_words(self) -> str:
        """The last line on standard error."""
        lines = self.errors_path.read_text().strip().splitlines()
        return lines[-1].strip() if lines else ""

    def succeed(self) -> None:
        """Wait for it, and fail the test unless it succeeded."""
        assert self.wait() == 0, self.errors_path.read_text()


class CommandDriver:
    """Starts commands that are imported already."""

    def __init__(self, folder: Path) -> None:
        """Args: folder is for what they say."""
        self._folder = folder
        self._runs: list[Run] = []

    def _ask(self, order: Mapping[str, object]) -> list[int]:
        process = _process()
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return [int(number) for number in process.stdout.readline().split()]

    def start(
        self,
        repo: Path,
        *arguments: str,
        nice: int = 0,
        terminal: Path | None = None,
        program: str = "feast",
        env: Mapping[str, str] | None = None,
        whole: bool = True,
    ) -> Run:
        """Start a command in a repo, of `feast` or of `hindcast`; what it says goes into files, or to a terminal.

        Args:
            whole: to the end of its interpreter, which takes longer than most commands.
        """
        files = [self._folder / f"{len(self._runs)}.{name}" for name in ("out", "err")]
        output, errors = (terminal, terminal) if terminal is not None else files
        order = {
            "program": program,
            "run": arguments,
            "repo": str(repo),
            "output": str(output),
            "errors": str(errors),
            "nice": nice,
            "env": {**os.environ, **(env or {})},
            "whole": whole,
        }
        (process_id,) = self._ask(order)
        self._runs.append(Run(self, process_id, output, errors))
        return self._runs[-1]

    def kill_all(self) -> None:
        """End what is left of a test that failed."""
        for run in self._runs:
            run.kill()

    def end_of(self, process_id: int) -> list[int]:
        """Exit code and peak memory of a command that has ended."""
        return self._ask({"wait": process_id})


_AT_END = contextlib.ExitStack()


@functools.cache
def _process() -> "subprocess.Popen[str]":
    """What drivers talk to: one process for all tests of this one, started by the first that needs it."""
    process = subprocess.Popen(
        # Safe path: a repo's `services.py` is not the tests' own.
        [sys.executable, "-P", str(Path(__file__).with_name("command_driver.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a thread that is not there after a fork
    )
    return _AT_END.enter_context(process)


@functools.cache
def _folder() -> Path:
    return Path(_AT_END.enter_context(tempfile.TemporaryDirectory()))


def end_driver() -> None:
    """For the end of the session."""
    _AT_END.close()


def run_command(
    program: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `feast` or `hindcast` to its end, as the installed command would without input; how it ended and what it said."""
    driver = CommandDriver(_folder())
    run = driver.start(Path.cwd() if cwd is None else cwd, *map(str, arguments), program=program, env=env, whole=False)
    try:
        code = run.wait()
    finally:
        run.kill()
    return subprocess.CompletedProcess(arguments, code, run.output_path.read_text(), run.errors_path.read_text())


def feast_command(repo: Path, *arguments: str) -> str:
    """Run `feast` in a repo, which must succeed; its output."""
    done = run_command("feast", *arguments, cwd=repo)
    assert done.returncode == 0, f"feast {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
