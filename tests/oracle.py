"""Point in time by brute force: docs/semantics.md, section "Point in time", read aloud in lists and dicts.

The judge of `hindcast.offline.asof.reading`. It shares no code with the plan, and imports nothing that could share some: no NumPy, no Arrow, no
DuckDB. Times are whole nanoseconds since 1970 in UTC, as fine as any source has them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Key = tuple[Any, ...]
"""One value per join key, None for a null; () of a view without entities."""


@dataclass(frozen=True)
class SourceRow:
    """A row of a source.

    Attributes:
        created_nanos: None where it is null, and in all rows of a source that has no such column.
    """

    key: Key
    event_nanos: int | None
    created_nanos: int | None = None


@dataclass(frozen=True)
class EntityRow:
    """What a row of the entity frame asks of one view.

    Attributes:
        known_at_nanos: None for no cut-off.
    """

    key: Key
    as_of_nanos: int | None
    known_at_nanos: int | None = None


@dataclass(frozen=True)
class Leaks:
    """Values that were taken before they were known: by how many entity rows, and the longest time that one was ahead."""

    rows: int = 0
    worst_micros: int = 0


def winners(rows: Sequence[SourceRow], asked: Sequence[EntityRow], *, ttl_micros: int = 0) -> list[int | None]:
    """For each row of the frame, in its order and with its repeats, which row of the source answers.

    Args:
        rows: the whole source in the order of its positions: see `source_order`.
    Returns:
        Places in `rows`; None where no row answers.
    """
    histories: dict[Key, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        histories[row.key].append(position)
    found = []
    for one in asked:
        candidates = [at for at in histories.get(one.key, []) if is_candidate(rows[at], one, ttl_micros)]
        # Of rows that are equal in both times the later position.
        found.append(max(candidates, key=lambda at: (*order(rows[at]), at), default=None))
    return found


def is_candidate(row: SourceRow, asked: EntityRow, ttl_micros: int) -> bool:
    """Whether a row may answer. Every edge is closed."""
    event, created = micros(row.event_nanos), micros(row.created_nanos)
    as_of, known_at = micros(asked.as_of_nanos), micros(asked.known_at_nanos)
    if event is None or as_of is None:
        return False
    if row.key != asked.key or any(is_null(value) for value in asked.key):
        return False
    if event > as_of:
        return False
    if ttl_micros > 0 and event < as_of - ttl_micros:
        return False
    return known_at is None or created is None or created <= known_at


def order(row: SourceRow) -> tuple[int, int, int]:
    """What candidates are compared by: event time, then created time, null before all others."""
    event, created = micros(row.event_nanos), micros(row.created_nanos)
    assert event is not None
    return (event, 0, 0) if created is None else (event, 1, created)


def micros(nanos: int | None) -> int | None:
    """A time in microseconds, rounded down, before 1970 too."""
    return None if nanos is None else nanos // 1000


def is_null(value: Any) -> bool:
    """Whether a key's value is null: NaN is one, which is how pandas writes a null in a floating column."""
    return value is None or value != value  # noqa: PLR0124


def leaks(rows: Sequence[SourceRow], asked: Sequence[EntityRow], *, ttl_micros: int = 0) -> Leaks:
    """How many rows of the frame take a value that was created after their own time, and the longest such delay."""
    delays = []
    for one, position in zip(asked, winners(rows, asked, ttl_micros=ttl_micros), strict=True):
        if position is None:
            continue
        created, as_of = micros(rows[position].created_nanos), micros(one.as_of_nanos)
        assert as_of is not None
        if created is not None and created > as_of:
            delays.append(created - as_of)
    return Leaks(len(delays), max(delays, default=0))


def source_order(paths: Sequence[tuple[str, ...]], *, parts_of: str | None = None) -> list[tuple[str, ...]]:
    """Files of a source in the order of their rows: by path, folder by folder; the parts of a file after it.

    Args:
        paths: each as its folders and its name, below the source's directory or beside its file.
        parts_of: the name of the source's file, where the source is one file.
    """
    return sorted(paths, key=lambda path: (path != (parts_of,), path))
