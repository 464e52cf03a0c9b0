"""What the supervisor knows of its workers, kept for `/metrics`. Told by the supervisor's loop, read by the scrape's threads."""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServingWorker:
    """A worker that serves.

    Attributes:
        taken_at: when it began to answer from its catalog, by the monotonic clock.
    """

    process_id: int
    catalog_version: str
    taken_at: float


@dataclass(slots=True)
class Fleet:
    """The workers of one server.

    Attributes:
        wanted: how many should serve.
        workers: those that do, by slot.
        restarts: how many ended and were replaced, by reason: `died`, or `renewed` where a signal asked for it.
        reloads: how many catalogs were taken from the registry.
        taken_at: when the newest was, by the monotonic clock.
    """

    wanted: int
    workers: dict[int, ServingWorker] = field(default_factory=dict)
    restarts: Counter[str] = field(default_factory=lambda: Counter(died=0))
    reloads: int = 0
    taken_at: float = field(default_factory=time.monotonic)

    def serves(self, slot: int, *, process_id: int, catalog_version: str) -> None:
        """A worker serves, or has taken another catalog."""
        self.workers[slot] = ServingWorker(process_id, catalog_version, time.monotonic())

    def ended(self, slot: int) -> None:
        """A worker serves no more."""
        self.workers.pop(slot, None)

    def reloaded(self) -> None:
        """A catalog was taken from the registry."""
        self.reloads += 1
        self.taken_at = time.monotonic()
