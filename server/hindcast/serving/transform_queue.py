"""Where on-demand views run: in the event loop if they are quick, beside it if they are not."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hindcast.catalog import InputColumn
from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded

if TYPE_CHECKING:
    from hindcast.catalog.transforms import Transformer

_QUICK_SECONDS = 0.002
"""What a function may hold up the other calls of its worker. The way to a thread and back costs 0.1 to 0.2 ms."""

_FORGETS = 0.9
"""How much of the slowest time is still believed after a quicker run."""


class TransformQueue:
    """Runs the on-demand views of one catalog, one after another.

    A view whose runs on as many rows have been quick runs in the loop. Any other runs in the one thread that is kept for this: Python
    code of a function and of the loop take turns there, and what NumPy and pandas do without the interpreter's lock goes
    on beside the loop. A second thread would only make both of its functions slower.
    """

    def __init__(self, transformer: "Transformer") -> None:
        self._transformer = transformer
        # Its thread ends when the queue is no longer used: a new catalog brings a new one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="on-demand")
        # By view and size: rows to the power of two, since a time per row says nothing of what a run costs before its first.
        self._seconds: dict[tuple[str, int], float] = {}

    async def run(
        self, view_name: str, inputs: Mapping[str, InputColumn], rows: int, *, deadline: Deadline
    ) -> dict[str, list[bytes]]:
        """Compute every feature of a view; see `Transformer.run`.

        Raises:
            TransformError: as there.
            DeadlineExceeded: the call's time was up before it began, in which case it is not run, or before it ended, in
                which case its result is thrown away: nothing can stop a function.
        """
        if self._seconds.get((view_name, rows.bit_length()), _QUICK_SECONDS) < _QUICK_SECONDS:
            return self._timed(view_name, inputs, rows, deadline)
        running = asyncio.get_running_loop().run_in_executor(
            self._thread, self._timed, view_name, inputs, rows, deadline
        )
        try:
            return await asyncio.wait_for(running, deadline.remaining_seconds())
        except TimeoutError:
            raise _late(view_name) from None

    def _timed(
        self, view_name: str, inputs: Mapping[str, InputColumn], rows: int, deadline: Deadline
    ) -> dict[str, list[bytes]]:
        if deadline.remaining_seconds() <= 0:
            raise _late(view_name)
        begun = time.perf_counter()
        try:
            return self._transformer.run(view_name, inputs, rows)
        finally:
            size = view_name, rows.bit_length()
            self._seconds[size] = max(time.perf_counter() - begun, self._seconds.get(size, 0.0) * _FORGETS)


def _late(view_name: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"on-demand view {view_name!r} was not computed before the call's deadline; ask for fewer rows or allow more time"
    )
