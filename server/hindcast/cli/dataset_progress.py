"""A bar for each phase of a long build or rebuild, on a terminal; nothing where there is none."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from hindcast.datasets.progress import Progress


class PhaseBars:
    """To be given as `on_progress`, within a `with` block, after which the terminal has no bar.

    A phase that begins again, as of a rebuild of several tables, gets a new one.
    """

    def __init__(self, *, out: TextIO | None = None) -> None:
        """Args: out: the terminal; None for standard error."""
        self._out = out or sys.stderr
        self._is_shown = self._out.isatty()
        self._bar: Any = None
        self._phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, progress: "Progress") -> None:
        """Show how far it is."""
        if not self._is_shown:
            return
        if self._bar is None or progress.phase != self._phase or progress.done < self._bar.n:
            self._close()
            self._bar = self._opened(progress)
        self._bar.total = progress.total or None
        self._bar.update(progress.done - self._bar.n)

    def _opened(self, progress: "Progress") -> Any:
        from tqdm import tqdm  # noqa: PLC0415 - what `feast materialize` shows runs by; few commands need it

        self._phase = progress.phase
        return tqdm(
            total=progress.total or None,
            desc=f"{progress.phase:<8}",
            unit=" rows",
            unit_scale=True,
            file=self._out,
            leave=False,
            dynamic_ncols=True,
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
