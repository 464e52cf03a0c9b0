"""Where the files of a log stand, and what they are called (docs/formats.md).

    segments/<slot>-<epoch>-<first sequence>.open | .sealed
    synced/<slot>-<epoch>.synced
    gaps/<slot>-<epoch>-<number>.jsonl
    damaged/                        segments of which not all could be read, as they were found
    close                           there while writers are to close what they have open

Slots have four decimal digits (five above 9999), all other numbers 16 hexadecimal ones.
"""

import re
from dataclasses import dataclass
from pathlib import Path

OPEN = ".open"
SEALED = ".sealed"
_NAME = re.compile(r"(?P<slot>\d{4,5})-(?P<epoch>[0-9a-f]{16})(?:-(?P<sequence>[0-9a-f]{16}))?(?P<suffix>\.[a-z]+)")


@dataclass(frozen=True, slots=True, order=True)
class WriterId:
    """Who wrote: a worker's slot, and when its log began."""

    slot: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.slot:04d}-{self.epoch:016x}"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """What a segment's file is called; names sort by writer and then by sequence."""

    writer: WriterId
    first_sequence: int
    suffix: str = OPEN

    def __str__(self) -> str:
        return f"{self.writer}-{self.first_sequence:016x}{self.suffix}"

    @classmethod
    def parse(cls, name: str) -> "SegmentName | None":
        """The parts of a file's name; None where it is none of a segment."""
        match = _NAME.fullmatch(name)
        if match is None or match["sequence"] is None or match["suffix"] not in {OPEN, SEALED}:
            return None
        writer = WriterId(int(match["slot"]), int(match["epoch"], 16))
        return cls(writer, int(match["sequence"], 16), match["suffix"])


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """The paths of a log."""

    root: Path

    @property
    def segments(self) -> Path:
        """Where segments are, open and sealed."""
        return self.root / "segments"

    @property
    def synced(self) -> Path:
        """Where writers leave their marks."""
        return self.root / "synced"

    @property
    def gaps(self) -> Path:
        """Where it is told what was lost."""
        return self.root / "gaps"

    @property
    def damaged(self) -> Path:
        """Where segments are kept that could not be read to their end."""
        return self.root / "damaged"

    @property
    def closing(self) -> Path:
        """Asks writers to close their open segments, once for each content."""
        return self.root / "close"

    def segment(self, name: SegmentName) -> Path:
        """The file of a segment."""
        return self.segments / str(name)

    def marks(self, writer: WriterId) -> Path:
        """The file of a writer's marks."""
        return self.synced / f"{writer}.synced"

    def gap_lines(self, writer: WriterId, number: int) -> Path:
        """A file that tells what a writer lost; the number is of the one who tells, and another one after a failure."""
        return self.gaps / f"{writer}-{number:016x}.jsonl"


def marks_writer(name: str) -> WriterId | None:
    """Whose marks a file of `synced/` holds; None where it is no such file."""
    match = _NAME.fullmatch(name)
    if match is None or match["sequence"] is not None or match["suffix"] != ".synced":
        return None
    return WriterId(int(match["slot"]), int(match["epoch"], 16))
