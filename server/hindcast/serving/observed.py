"""Steps of a lookup with their metrics and spans, for a worker that has any: without, the hot path has no trace of them."""

from collections.abc import Sequence
from time import perf_counter

from hindcast.clock import Deadline
from hindcast.online.codec import Cells
from hindcast.online.layouts import Layout, RowsOf
from hindcast.serving.metrics import Metrics
from hindcast.serving.tracing import Traces


class ObservedLayout:
    """A layout whose reads are timed."""

    def __init__(self, layout: Layout, *, metrics: Metrics, traces: Traces) -> None:
        self._layout = layout
        self._metrics = metrics
        self._traces = traces

    async def find(self, asked: Sequence[tuple[RowsOf, Sequence[bytes | None]]], *, deadline: Deadline) -> list[Cells]:
        """See `Layout.find`."""
        start = perf_counter()
        try:
            with self._traces.span("store read"):
                return await self._layout.find(asked, deadline=deadline)
        finally:
            self._metrics.store_waited(perf_counter() - start)
