"""What `/metrics` says of materialization: the run ledger's summary, read by a child process when the ledger has changed.

Not in the supervisor itself: a Delta reader takes 70 MB and a dozen threads and would keep them, while a child gives all of it
back after 0.2 s; and whatever a damaged ledger does to the reader, it does not do it to the process that keeps the workers.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

import msgspec

from hindcast.materialize.process import Liveness
from hindcast.materialize.summary import ViewSummary
from hindcast.serving import families
from hindcast.serving.families import Family

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 1.0
"""For a summary that is just being made. A scrape never waits longer; it then shows the one before."""

_READ_SECONDS = 30.0
_AGAIN_SECONDS = 60.0
"""After a failure; sooner if the ledger changes."""

Samples = Iterable[tuple[Family, list[tuple[tuple[str, ...], float]]]]


class LedgerWatch:
    """Shows a ledger's summary, and has it made anew when the ledger has changed. Costs nothing until it is asked."""

    def __init__(self, table: Path, *, project: str) -> None:
        """Args: table: the folder of the ledger's table; it need not be there yet."""
        self._table = table
        self._project = project
        self._lock = threading.Lock()
        self._seen: object = None
        self._read_at = 0.0
        self._reading: threading.Thread | None = None
        self._summary: Mapping[str, ViewSummary] = {}
        self._problem = ""

    def samples(self, views: Container[str]) -> Samples:
        """Every metric with its labels and values, as far as they are known now.

        Args:
            views: those to show; of others, which are defined no more, the ledger knows too.
        """
        summaries = {view: summary for view, summary in self._newest().items() if view in views}
        successes = {view: summary.last_success for view, summary in summaries.items()}
        fresh = {view: summary.fresh_until for view, summary in summaries.items()}
        last = {view: summary.last for view, summary in summaries.items() if summary.last is not None}
        yield families.RUN_SUCCESS, [((view,), at) for view, at in successes.items() if at is not None]
        yield families.RUN_FRESHNESS, [((view,), time.time() - end) for view, end in fresh.items() if end is not None]
        yield families.RUN_SECONDS, [((view,), run.seconds) for view, run in last.items()]
        yield (
            families.RUN_ROWS,
            [((view, outcome), rows) for view, run in last.items() for outcome, rows in run.rows.items()],
        )
        yield (
            families.RUNS,
            [
                ((view, outcome), runs)
                for view, summary in summaries.items()
                for outcome, runs in _ended(summary).items()
            ],
        )

    def _newest(self) -> Mapping[str, ViewSummary]:
        with self._lock:
            state = self._state()
            is_due = state != self._seen or (self._problem and time.monotonic() - self._read_at > _AGAIN_SECONDS)
            if self._reading is None and is_due:
                self._seen, self._read_at = state, time.monotonic()
                self._reading = threading.Thread(target=self._read, name="ledger", daemon=True)
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(_WAIT_SECONDS)
        return self._summary

    def _state(self) -> object:
        """What differs when the ledger has a new version; None without a ledger."""
        try:
            return max(path.name for path in (self._table / "_delta_log").glob("*.json"))
        except (OSError, ValueError):
            return None

    def _read(self) -> None:
        try:
            problem, summary = ("", {}) if self._seen is None else self._summarized()
            if problem and problem != self._problem:
                logger.warning("there are no metrics of materialization: %s", problem)
            self._summary, self._problem = summary, problem
        finally:
            self._reading = None

    def _summarized(self) -> tuple[str, dict[str, ViewSummary]]:
        """Why there is no summary, or an empty text; the summary."""
        command = [sys.executable, "-P", "-m", "hindcast.materialize.summarize", str(self._table), self._project]
        try:
            child = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_READ_SECONDS,
                start_new_session=True,  # a Ctrl-C is for the server, which may still be asked
            )
            if child.returncode == 0:
                return "", msgspec.json.decode(child.stdout, type=dict[str, ViewSummary])
            words = child.stderr.decode(errors="replace").strip().splitlines()
            # More than one line is a traceback: a defect, not what is wrong with the ledger.
            return words[0] if len(words) == 1 else f"the run ledger's reader ended with code {child.returncode}", {}
        except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
            return f"the run ledger {self._table} was not read ({type(error).__name__})", {}


def _ended(summary: ViewSummary) -> Mapping[str, int]:
    """How many runs ended how. One whose process is gone was interrupted, though it wrote nothing of it."""
    interrupted = sum(process.liveness is Liveness.GONE for process in summary.running)
    return {"succeeded": 0, "failed": 0, **summary.runs, "interrupted": interrupted}
