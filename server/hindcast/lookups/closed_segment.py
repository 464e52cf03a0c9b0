"""Reads closed segments into batches of rows. Imports pyarrow."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hindcast.lookups.batch import Batch
from hindcast.lookups.directory import SegmentName
from hindcast.lookups.plain import Frames
from hindcast.lookups.segment import (
    FOOTER_BYTES,
    HEADER_BYTES,
    Gap,
    GapReason,
    RecoveryMode,
    State,
    read_footer,
    read_header,
    scan,
)


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """What a closed segment was found to hold.

    Attributes:
        is_whole: whether nothing of it is damaged.
        last_sequence: of the last record or gap; one less than the first of the segment where it has none, 0 where its header is damaged.
        gaps: what it says is missing.
    """

    name: SegmentName
    is_whole: bool
    records: int
    last_sequence: int
    gaps: Sequence[Gap]

    def missing(self, names: Sequence[SegmentName]) -> Sequence[Gap]:
        """What it says is missing, and where it is damaged what may be missing at its end.

        Args:
            names: the segments of its writer.
        """
        if self.is_whole:
            return self.gaps
        first = self.last_sequence + 1 if self.last_sequence else self.name.first_sequence
        following = next((other.first_sequence for other in names if other > self.name), None)
        if following is not None and following <= first:
            return self.gaps
        last = None if following is None else following - 1
        return [*self.gaps, Gap(first_sequence=first, last_sequence=last, reason=GapReason.DAMAGED)]


def read_closed(path: Path, name: SegmentName, batch: Batch[Any]) -> ClosedSegment:
    """Add the records of a closed segment to a batch, those behind damaged places too.

    Raises:
        StoredDataError: the segment is of a newer format, or a record of a newer version; some may have been added by then.
        OSError: it cannot be read.
    """
    content = _mapped(path)
    return _read_whole(content, name, batch) or _read_any(content, name, batch)


def _read_whole(content: bytes, name: SegmentName, batch: Batch[Any]) -> ClosedSegment | None:
    """Add the records where there is nothing but them between header and footer; None for any other segment, and nothing was added."""
    header = read_header(content)
    if header is None:
        return None
    frames = Frames(content, seed=header.seed, first_sequence=header.first_sequence, begin=HEADER_BYTES)
    footer = read_footer(bytes(content[frames.end : frames.end + FOOTER_BYTES + 1]), seed=header.seed)
    last_sequence = header.first_sequence + frames.count - 1
    read = (last_sequence, frames.count, frames.end)
    if footer is None or (footer.last_sequence, footer.records, footer.size_bytes) != read:
        return None
    batch.add_frames(frames)
    return ClosedSegment(name, is_whole=True, records=frames.count, last_sequence=last_sequence, gaps=())


def _read_any(content: bytes, name: SegmentName, batch: Batch[Any]) -> ClosedSegment:
    found = scan(content, sealed=True, mode=RecoveryMode.SALVAGE)
    closed = ClosedSegment(
        name,
        is_whole=found.state is State.WHOLE,
        records=len(found.records),
        last_sequence=found.last_sequence,
        gaps=found.gaps,
    )
    records = found.records[::-1]
    del found
    while records:
        # Given up one by one: a full segment and its rows are large enough.
        batch.add(*records.pop())
    return closed


def _mapped(path: Path) -> bytes:
    """A closed segment's content, without memory of its own: nobody shortens the file while this process has the lock.

    It is unmapped when the rows are gone that have records of it.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b""
        return cast("bytes", mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
