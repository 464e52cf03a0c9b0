"""Lists of lookups, newest first, over segments and sealed tables alike, while records are sealed from the one into the other.

A lookup stands in the order of `Position`, which does not change when it is sealed, so pages go on where the last one ended wherever
the records are by then. Segments are read before it is looked which files the table has: what is gone from the one is in the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Damage, Matching, Page, Position, SegmentRecords, Summary, Tick


@dataclass(frozen=True, slots=True)
class DamagedTable:
    """A file of the table of all lookups, or its log, that cannot be read."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path} cannot be read; restore it from a copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What was found.

    Attributes:
        summaries: newest first.
        damage: what could not be read.
    """

    summaries: Sequence[Summary]
    damage: Sequence[Damage | DamagedTable]


def newest_lookups(
    log_directory: Path,
    wanted: Matching,
    *,
    limit: int,
    before: Position | None = None,
    tick: Tick = lambda: None,
) -> Listed:
    """The newest lookups that match. Those whose record was erased are no more.

    Args:
        limit: how many at most, at least one.
        before: only lookups that stand before it; a page begins where the last one ended.
    """
    page = Page(wanted, limit=limit, before=before)
    segments = SegmentRecords(log_directory, tick=tick)
    segments.offer_to(page)
    damage: list[Damage | DamagedTable] = [*segments.damage]
    if TablePlaces(log_directory).of(RECORDS).exists():
        from hindcast.lookups.sealed_lists import offer_sealed  # noqa: PLC0415 - pyarrow, which a log without tables never loads

        damage += map(DamagedTable, offer_sealed(log_directory, page, tick=tick))
    return Listed(summaries=page.newest_first(), damage=damage)
