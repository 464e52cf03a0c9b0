"""What a migration has to say at its end: numbers per view, digests, and the first rows that differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec

_DIGEST_BYTES = 32
DIGESTS = 1 << 8 * _DIGEST_BYTES
"""How many digests there are; they are added modulo this."""

_encode = msgspec.msgpack.Encoder().encode


class Mode(StrEnum):
    """What a migration does: copy and prove, only say what it would copy, or only prove."""

    MIGRATE = "migrate"
    DRY_RUN = "dry-run"
    VERIFY_ONLY = "verify-only"


@dataclass(slots=True)
class RowsDigest:
    """A digest of a set of rows, whatever their order: the sum of each row's SHA-256, modulo 2^256.

    A row is hashed as the msgpack array `[stored view name, entity key, event time in microseconds, [value or nil, …]]`,
    values serialized, in the order of the view's features.
    """

    number: int = 0

    def add(
        self, stored_name: str, entity_key: bytes, event_micros: int | None, values: Sequence[bytes | None] | None
    ) -> None:
        """Add one row."""
        row = sha256(_encode((stored_name, entity_key, event_micros, values))).digest()
        self.number = (self.number + int.from_bytes(row, "big")) % DIGESTS

    def __str__(self) -> str:
        return f"sha256-sum:{self.number:0{2 * _DIGEST_BYTES}x}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not proven equal: whose, and why."""

    view: str
    entity_key: str
    reason: str


COUNTS = (
    "rows",
    "copied",
    "already_there",
    "newer",
    "expired",
    "dated_ahead",
    "damaged",
    "missing",
    "differing",
    "only_in_target",
)
"""The numbers of a view; docs/migration.md says what each counts."""

_IN_THE_WAY = ("dated_ahead", "damaged", "missing", "differing")
"""Numbers that must be zero for the two sides to be equal."""

_ALWAYS_SHOWN = 3
"""Columns that the text shows even where they are zero: rows, copied, already there."""


@dataclass(frozen=True, slots=True)
class ViewReport:
    """One view: its numbers by the names of `COUNTS`, and its digests, None in a dry run."""

    view: str
    counts: Mapping[str, int]
    source_digest: str | None
    target_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """The outcome of one run.

    Attributes:
        source, target: the addresses, without credentials.
        run_id: what the rows of this run carry; None if nothing was written.
        keys: hashes of the project in the source that hold rows of these views.
        unclaimed: hashes of the project that fit no view: of views that are gone, or whose join key changed its type.
        refused: stored name -> why its rows cannot be told apart in the source.
        left_out: view -> why it has no rows to copy.
        differences: the first ten.
    """

    project: str
    mode: Mode
    source: str
    target: str
    run_id: str | None
    keys: int
    unclaimed: int
    views: Sequence[ViewReport]
    source_digest: str | None
    target_digest: str | None
    refused: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    copy_seconds: float = 0.0
    verify_seconds: float = 0.0

    @property
    def totals(self) -> Counter[str]:
        """The sum of all views, by number."""
        return Counter({name: sum(view.counts[name] for view in self.views) for name in COUNTS})

    @property
    def equal(self) -> bool:
        """Whether every row of the source is proven to be in the target; of a dry run: whether nothing stands in the way."""
        return not self.refused and not any(self.totals[name] for name in _IN_THE_WAY)

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        views = [
            {"view": of.view, **of.counts, "source_digest": of.source_digest, "target_digest": of.target_digest}
            for of in self.views
        ]
        return {**asdict(self), "views": views, "totals": dict(self.totals), "equal": self.equal}

    def to_text(self) -> str:
        """For people."""
        return "\n".join([*self._head(), "", *self._table(), "", *self._notes(), self._verdict()])

    def _head(self) -> list[str]:
        return [f"project {self.project}: Feast's rows on {self.source}, packed rows on {self.target} ({self.mode})"]

    def _table(self) -> list[str]:
        totals = self.totals
        shown = [*COUNTS[:_ALWAYS_SHOWN], *(name for name in COUNTS[_ALWAYS_SHOWN:] if totals[name])]
        if self.mode is Mode.VERIFY_ONLY:
            shown = [name for name in shown if name not in {"copied", "already_there"}]
        titles = ["would copy" if name == "copied" and self.mode is Mode.DRY_RUN else name for name in shown]
        lines = [["view", *(title.replace("_", " ") for title in titles)]]
        lines += [[view.view, *(f"{view.counts[name]:,}" for name in shown)] for view in self.views]
        lines.append(["total", *(f"{totals[name]:,}" for name in shown)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]

    def _notes(self) -> list[str]:
        totals, notes = self.totals, []
        notes += [f"refused: {name}: {reason}" for name, reason in self.refused.items()]
        notes += [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        if self.unclaimed:
            notes.append(
                f"{self.unclaimed:,} keys of the project fit no view (of views that are gone, or a join key's type was changed)"
            )
        if totals["expired"]:
            notes.append("expired rows are past TTL and grace: the packed store answers NOT_FOUND for them")
        if totals["dated_ahead"]:
            notes.append(
                "rows dated ahead are not copied: they would win against every correction until then. Correct them, wait, "
                "or take them with --future-seconds"
            )
        notes += [f"differs: {of.view}: {of.entity_key}: {of.reason}" for of in self.differences]
        if self.source_digest is not None:
            notes += [f"digest of the source  {self.source_digest}", f"digest of the target  {self.target_digest}"]
        if self.mode is not Mode.DRY_RUN:
            notes.append(f"{self.copy_seconds:.1f} s to copy, {self.verify_seconds:.1f} s to prove")
        return notes

    def _verdict(self) -> str:
        rows, newer = self.totals["rows"], self.totals["newer"]
        if self.mode is Mode.DRY_RUN:
            return "nothing was written" if self.equal else "nothing was written; not all of it could be copied"
        if not self.equal:
            return "NOT equal"
        return f"equal, row by row: {rows - newer:,} rows" + (
            f"; {newer:,} more are newer in the target" if newer else ""
        )
