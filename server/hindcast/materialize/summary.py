"""What is shown of the ledger as metrics. Plain data: whoever shows it loads no Delta reader."""

from collections.abc import Mapping
from dataclasses import dataclass

from hindcast.materialize.process import RunProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The newest run of a view that has ended.

    Attributes:
        seconds: from its beginning to its end.
        rows: how many by outcome: `written`, `unchanged`, `older`, `keyless`, `quarantined`.
    """

    seconds: float
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSummary:
    """The runs of one view.

    Attributes:
        last_success: when the newest run that succeeded ended, in seconds since 1970.
        fresh_until: the end of the newest interval that is in the store, in seconds since 1970.
        runs: how many ended, by how.
        running: the processes of those that have not; one that is gone was interrupted.
    """

    last_success: float | None
    fresh_until: float | None
    last: LastRun | None
    runs: Mapping[str, int]
    running: tuple[RunProcess, ...]
