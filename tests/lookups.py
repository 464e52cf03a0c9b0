"""Lookups without a server: what a worker makes of its settings, with nothing refused for being too much."""

from typing import Any

from hindcast.catalog import Catalog
from hindcast.clock import system_clock
from hindcast.online.layouts import Layout
from hindcast.serving.admission import Admission
from hindcast.serving.lookup import Lookup
from hindcast.serving.metrics import Metrics
from hindcast.serving.tracing import Traces
from hindcast.settings import StaleValues

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
