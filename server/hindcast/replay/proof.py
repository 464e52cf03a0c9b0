"""Many kept lookups, asked again as of their own times: the proof that what was served equals the offline truth."""

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hindcast.catalog import Catalog, read_repo
from hindcast.errors import InvalidArgument
from hindcast.lookups.every import every_lookup
from hindcast.lookups.reading import Found, Matching, SegmentRecords
from hindcast.lookups.receipts import Receipt, read_receipt
from hindcast.replay.comparison import Compared, Comparison
from hindcast.replay.history import History
from hindcast.replay.lookup import present_catalog
from hindcast.replay.offline import OfflineStore
from hindcast.replay.questions import Asked, asked_of
from hindcast.replay.result import Proof, Reason, ViewCount
from hindcast.settings import log_directory_of

_ROWS_MAX = 100_000
"""Entity rows asked for by one read. Some 200 bytes each of answers, twice; a million rows of 50 features took 3 s and 2 GB as a training set."""
_DIFFERING_MAX = 100

Progress = Callable[[int, int], None]
"""Told how many lookups have been compared, and of how many."""


def prove(
    repo_root: Path,
    *,
    log_directory: Path | None = None,
    service: str | None = None,
    since_micros: int | None = None,
    until_micros: int | None = None,
    sample: int | None = None,
    progress: Progress = lambda _compared, _all: None,
) -> Proof:
    """Compare every value that lookups were answered with to the offline store as of their own times, by what was known then.

    Args:
        repo_root, log_directory: see `replay`.
        service: only lookups of this feature service; empty: of lists of references; None: all.
        since_micros, until_micros: of served_at; the first counts, the second does not.
        sample: so many lookups, drawn by a hash of their ids: the same ones each time, and each as likely as any other. None: all.
    Raises:
        RepoError: it is no Feast repo.
        SourceError: a source changed while it was read; one that cannot be read at all is the verdict of its values.
        StoredDataError: a sealed record cannot be read.
        StoreUnavailable: the disk did not take what was spilled.
    """
    repo = read_repo(repo_root)
    directory = log_directory or log_directory_of(repo_root)
    wanted = Matching(since_micros=since_micros, until_micros=until_micros, service=service)
    records = SegmentRecords(directory)
    drawn, answered, failed = _drawn(every_lookup(directory, wanted, records=records), sample)
    present, _ = present_catalog(repo)
    store, history = OfflineStore(repo, present), History(repo, directory)
    comparison, tally = Comparison(store, history), _Tally()
    waiting: list[Asked] = []
    done = rows = 0
    for number, found in enumerate(drawn, start=1):
        receipt = read_receipt(directory, found)
        asked = tally.asked(receipt, present)
        if asked is not None:
            waiting.append(asked)
            rows += asked.rows
        if rows >= _ROWS_MAX or number == len(drawn):
            for compared in comparison.compare(waiting, with_equal=False):
                tally.add(compared)
                done += 1
                progress(done, len(drawn))
            waiting, rows = [], 0
    return tally.proof(
        of_all=answered,
        passed_over=failed,
        notes=[*store.notes, *history.notes],
        unreadable=[str(place) for place in records.damage],
    )


def _drawn(lookups: Iterator[Found], sample: int | None) -> tuple[list[Found], int, int]:
    """The lookups to compare, the oldest first; how many were answered at all, and how many failed."""
    last: dict[bytes, tuple[int, int]] = {}
    kept: dict[bytes, Found] = {}
    heap: list[tuple[int, bytes]] = []
    for found in lookups:
        lookup_id = found.record.lookup_id
        # Of two records of one lookup the later is what its caller saw.
        if lookup_id in last and last[lookup_id][0] >= found.sequence:
            continue
        is_new = lookup_id not in last
        last[lookup_id] = (found.sequence, found.record.code)
        if found.record.code:
            kept.pop(lookup_id, None)
            continue
        if not is_new and lookup_id not in kept:
            continue
        kept[lookup_id] = found
        if sample is not None and is_new:
            heapq.heappush(heap, (-_draw(lookup_id), lookup_id))
            if len(heap) > sample:
                kept.pop(heapq.heappop(heap)[1], None)
    failed = sum(1 for _, code in last.values() if code)
    return sorted(kept.values(), key=lambda found: found.record.served_at_micros), len(last) - failed, failed


def _draw(lookup_id: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(lookup_id, digest_size=8).digest(), "big")


@dataclass(slots=True)
class _Tally:
    """What was compared so far."""

    lookups: int = 0
    rows: int = 0
    differing: list[str] = field(default_factory=list)
    differing_lookups: int = 0
    counts: dict[tuple[str, Reason], int] = field(default_factory=dict)
    examples: dict[tuple[str, Reason], tuple[str, str]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def asked(self, receipt: Receipt, present: Catalog | None) -> Asked | None:
        """A lookup to be asked again; None where it cannot be, which is counted."""
        try:
            asked = asked_of(receipt, present)
        except InvalidArgument as error:
            self._differs(receipt)
            self.lookups += 1
            self.rows += receipt.entity_rows
            for column in receipt.columns:
                self._count(column.view, Reason.NO_ANSWER, receipt, str(error), values=receipt.entity_rows)
            return None
        if asked.note:
            self.notes[asked.note] = None
        return asked

    def add(self, compared: Compared) -> None:
        """Count a lookup."""
        receipt = compared.asked.receipt
        self.lookups += 1
        self.rows += compared.asked.rows
        for view, values in compared.equal.items():
            if values:
                key = (view, Reason.EQUAL)
                self.counts[key] = self.counts.get(key, 0) + values
        for cell in compared.cells:
            self._count(cell.view, cell.verdict.reason, receipt, cell.verdict.detail)
        if compared.cells:
            self._differs(receipt)

    def proof(self, *, of_all: int, passed_over: int, notes: list[str], unreadable: list[str]) -> Proof:
        """The end of it."""
        order = {reason: at for at, reason in enumerate(Reason)}
        counts = [
            ViewCount(
                view=view,
                reason=reason,
                values=values,
                example=self.examples.get((view, reason), ("", ""))[0],
                detail=self.examples.get((view, reason), ("", ""))[1],
            )
            for (view, reason), values in sorted(self.counts.items(), key=lambda item: (item[0][0], order[item[0][1]]))
        ]
        return Proof(
            lookups=self.lookups,
            rows=self.rows,
            values=sum(count.values for count in counts),
            differing=self.differing,
            differing_lookups=self.differing_lookups,
            passed_over=passed_over,
            of_all=of_all,
            counts=counts,
            notes=[*self.notes, *notes],
            unreadable=unreadable,
        )

    def _count(self, view: str, reason: Reason, receipt: Receipt, detail: str, *, values: int = 1) -> None:
        self.counts[view, reason] = self.counts.get((view, reason), 0) + values
        self.examples.setdefault((view, reason), (receipt.lookup_id, detail))

    def _differs(self, receipt: Receipt) -> None:
        self.differing_lookups += 1
        if len(self.differing) < _DIFFERING_MAX:
            self.differing.append(receipt.lookup_id)
