"""The proof of a migration: every row that Feast wrote against its packed row, and the packed rows that Feast did not write."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from hindcast.catalog import View
from hindcast.clock import Clock
from hindcast.online.codec import unpack_row
from hindcast.online.feast_rows import FeastRows, SourceRow
from hindcast.online.keys import entity_key_text
from hindcast.online.migration_report import Difference, RowsDigest
from hindcast.online.packed_rows import PackedRows, TargetRow
from hindcast.online.rows import Row, ViewWriter
from hindcast.online.writer import RowWrite

_DIFFERENCES_KEPT = 10

Progress = Callable[[str, float, int], None]
"""Told now and then: the phase, how much of it is done (0 to 1, an estimate), and rows so far."""


class Verdict(Enum):
    """What a packed row is to the row that Feast wrote; a difference's value says why."""

    EQUAL = "equal"
    NEWER = "newer"
    MISSING = "it has no packed row"
    OLDER = "its packed row is older"
    OTHER = "its packed row has the same event time and other values"
    UNREADABLE = "its packed row cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The two sides of a migration.

    Attributes:
        views, writers: by the name that a view's rows are stored under.
        latest_micros: rows of a later event time are dated too far ahead to be copied.
    """

    views: Mapping[str, View]
    source: FeastRows
    target: PackedRows
    writers: Mapping[str, ViewWriter]
    latest_micros: int
    clock: Clock

    def write_of(self, name: str, row: SourceRow, event_micros: int) -> RowWrite | None:
        """What copies a row; None if the packed store would let it go at once, past its TTL and grace."""
        now_ms = self.clock() // 1000
        (write,) = self.writers[name].writes([Row(row.entity_key, event_micros, None, row.values)])
        limits = [write.expires_at_ms] if write.expires_at_ms else []
        if row.expires_in_ms is not None:
            limits.append(now_ms + row.expires_in_ms)
        expires_at_ms = min(limits, default=0)
        if expires_at_ms and expires_at_ms <= now_ms:
            return None
        return RowWrite(write.key, write.packed, expires_at_ms)


def judge(row: SourceRow, packed: TargetRow | None) -> Verdict:
    """Compare event time and values; a null is a null however it is stored."""
    if packed is None:
        return Verdict.MISSING
    if packed.event_micros is None or row.event_micros is None:
        return Verdict.UNREADABLE
    if packed.event_micros != row.event_micros:
        return Verdict.NEWER if packed.event_micros > row.event_micros else Verdict.OLDER
    if packed.values == row.values:
        return Verdict.EQUAL
    return Verdict.OTHER if unpack_row(packed.packed).created_micros is None else Verdict.NEWER


class Proof:
    """Compares the two sides.

    Attributes:
        counts: by stored name, the numbers of a `ViewReport`.
        source_digests, target_digests: by stored name, over the rows of either side; what is only in the target is left out.
        differences: the first ten.
        keys, unclaimed: as in `MigrationReport`.
    """

    def __init__(self, sides: Sides, *, progress: Progress) -> None:
        self._sides = sides
        self._progress = progress
        self._digested: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in sides.views}
        self.source_digests = {name: RowsDigest() for name in sides.views}
        self.target_digests = {name: RowsDigest() for name in sides.views}
        self.differences: list[Difference] = []
        self.keys = self.unclaimed = 0

    def run(self) -> None:
        """Compare every row of the source with its packed row, then look for packed rows that the source does not have.

        What changed while it was looked at is looked at again before it counts as a difference.

        Raises:
            StoreUnavailable: as `RedisSweep`.
        """
        rows_so_far = 0
        for batch in self._sides.source.batches():
            self.keys += batch.keys
            self.unclaimed += batch.unclaimed
            for name, rows in batch.rows.items():
                found = self._sides.target.read(self._sides.views[name], [row.entity_key for row in rows])
                for row, packed in zip(rows, found, strict=True):
                    self._take(name, row, packed)
                rows_so_far += len(rows)
            self._progress("comparing", batch.share, rows_so_far)
        # As many rows of the same digest are the same rows: then there is none to look up in the source.
        if self._sum_target(looked_up=False) != self._digested or not self._digests_agree():
            self._sum_target(looked_up=True)

    def _take(self, name: str, row: SourceRow, packed: TargetRow | None) -> None:
        """Count one row of the source."""
        view, counts = self._sides.views[name], self.counts[name]
        verdict = judge(row, packed)
        if verdict not in {Verdict.EQUAL, Verdict.NEWER}:
            again = self._sides.source.row(view, row.entity_key)
            if again is None:
                return
            row, (packed,) = again, self._sides.target.read(view, [row.entity_key])
            verdict = judge(row, packed)
        counts["rows"] += 1
        if row.event_micros is None:
            counts["damaged"] += 1
            self._differs(name, row, "its event time in the source cannot be read")
            return
        if verdict is Verdict.NEWER:
            counts["newer"] += 1
        elif verdict is not Verdict.EQUAL:
            if row.event_micros > self._sides.latest_micros:
                counts["dated_ahead"] += 1
                self._differs(name, row, "it is dated too far ahead to be copied")
            elif verdict is Verdict.MISSING and self._sides.write_of(name, row, row.event_micros) is None:
                counts["expired"] += 1
                return
            else:
                counts["missing" if verdict is Verdict.MISSING else "differing"] += 1
                self._differs(name, row, verdict.value)
        self._digested[name] += 1
        self.source_digests[name].add(name, row.entity_key, row.event_micros, row.values)

    def _differs(self, name: str, row: SourceRow, reason: str) -> None:
        if len(self.differences) < _DIFFERENCES_KEPT:
            view = self._sides.views[name]
            key = entity_key_text(row.entity_key) if view.join_keys else "the one row of a view without entities"
            self.differences.append(Difference(view.name, key, reason))

    def _sum_target(self, *, looked_up: bool) -> Counter[str]:
        """Digest the packed rows, if looked up only those that the source has; gives how many, by stored name."""
        counts: Counter[str] = Counter()
        self.target_digests = {name: RowsDigest() for name in self._sides.views}
        for batch in self._sides.target.batches():
            for name, rows in batch.rows.items():
                present = [True] * len(rows)
                if looked_up:
                    present = self._sides.source.present([(name, entity_key) for entity_key, _ in rows])
                    self.counts[name]["only_in_target"] += present.count(False)
                digest = self.target_digests[name]
                for (entity_key, row), is_present in zip(rows, present, strict=True):
                    if is_present:
                        digest.add(name, entity_key, row.event_micros, row.values)
                counts[name] += present.count(True)
            self._progress(
                "looking up what is only in the target" if looked_up else "adding up", batch.share, counts.total()
            )
        return counts

    def _digests_agree(self) -> bool:
        return all(str(digest) == str(self.target_digests[name]) for name, digest in self.source_digests.items())
