"""Lookups without a server: what a worker makes of its settings, with nothing refused for being too much."""

from collections.abc import Sequence
from typing import Any

from hindcast.catalog import Catalog
from hindcast.clock import system_clock
from hindcast.lookups.record import LookupRecord, decode
from hindcast.online.layouts import Layout
from hindcast.serving.admission import Admission
from hindcast.serving.lookup import Lookup
from hindcast.serving.metrics import Metrics
from hindcast.serving.recorder import Recorder
from hindcast.serving.tracing import Traces
from hindcast.settings import LogMode, StaleValues

UNBOUNDED = 10**12


def make_lookup(catalog: Catalog, layout: Layout, **settings: Any) -> Lookup:
    """A lookup on a catalog and a layout; settings replace the usual ones."""
    usual = {
        "transformer": None,
        "admission": Admission(in_flight_max=UNBOUNDED, lag_max_seconds=UNBOUNDED, metrics=Metrics()),
        "clock": system_clock,
        "stale_values": StaleValues.BY_DIALECT,
        "metrics": Metrics(),
        "traces": Traces(),
    }
    return Lookup(catalog=catalog, layout=layout, **{**usual, **settings})


class DecodedLog:
    """A log in memory, which reads each record back at once.

    Attributes:
        records: what was appended.
    """

    def __init__(self) -> None:
        self.records: list[LookupRecord] = []

    def check(self, _mode: LogMode) -> None:
        """It can always be written."""

    def append(self, parts: Sequence[bytes], *, mode: LogMode) -> None:
        """Keep a record."""
        self.records.append(decode(b"".join(parts)))


def make_recorder(log: DecodedLog, **settings: Any) -> Recorder:
    """A recorder into a log in memory."""
    usual = {"mode": LogMode.BATCHED, "modes": {}, "clock": system_clock, "metrics": Metrics()}
    return Recorder(log, **{**usual, **settings})
