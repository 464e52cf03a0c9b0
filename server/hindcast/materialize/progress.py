"""How a run is shown while it goes on: a bar on a terminal, a line from time to time elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from hindcast.materialize.runs import Run

_LINE_SECONDS = 10.0
"""Often enough for whoever watches a log, seldom enough for the log."""


class Progress(Protocol):
    """One run's, as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def advance(self, rows: int) -> None:
        """So many more rows are on their way."""


class Bar:
    """A bar with rows a second and the time left."""

    def __init__(self, view: str, total: int, *, make_bar: Callable[[int], Any]) -> None:
        """Args: make_bar gives a tqdm bar of a length, such as Feast's."""
        self._bar = make_bar(total)
        self._bar.set_description(view)
        self._bar.unit = " rows"
        self._bar.unit_scale = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, rows: int) -> None:
        """See `Progress.advance`."""
        self._bar.update(rows)


class Lines:
    """A line every ten seconds; a run that takes less says nothing until its summary."""

    def __init__(
        self, view: str, total: int, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._view = view
        self._total = total
        self._out = out or sys.stdout
        self._clock = clock
        self._rows = 0
        self._began = self._said = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left to do."""

    def advance(self, rows: int) -> None:
        """See `Progress.advance`."""
        self._rows += rows
        now = self._clock()
        if now - self._said < _LINE_SECONDS:
            return
        self._said = now
        rate = self._rows / (now - self._began)
        left = (self._total - self._rows) / rate
        print(
            f"{self._view}: {self._rows:,} of {self._total:,} rows, {rate:,.0f} a second, {left:,.0f} s left",
            file=self._out,
            flush=True,
        )


def summary(run: Run) -> str:
    """A run that has ended, in a line."""
    took = (run.ended_at - run.began_at).total_seconds() if run.ended_at else 0.0
    parts = [f"{run.rows_written:,} rows written"]
    if run.rows_unchanged:
        parts.append(f"{run.rows_unchanged:,} unchanged")
    if run.rows_older:
        parts.append(f"{run.rows_older:,} older than what is stored")
    if run.rows_null_key:
        parts.append(f"{run.rows_null_key:,} skipped for a null join key")
    if run.rows_quarantined:
        parts.append(f"{run.rows_quarantined:,} dated too far ahead, kept in {run.quarantine}")
    keys = run.rows_written + run.rows_unchanged + run.rows_older
    rate = f", {keys / took:,.0f} keys a second" if took else ""
    return f"{run.view}: {', '.join(parts)}; read {run.rows_read:,} in {took:.1f} s{rate}; run {run.run_id}"
