"""Changes records of a segment in their places, under their sequences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hindcast.lookups.segment.format import (
    Gap,
    GapReason,
    Placed,
    Record,
    SegmentHeader,
    footer_bytes,
    frame,
    gap_bytes,
    read_header,
)
from hindcast.lookups.segment.scan import Reading


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A segment of which records were changed.

    Attributes:
        content: the file as it is to be; None where no record was changed.
        unread: the places (begin, end) that are no records and no footer, and were left as they are; not those of zeros alone.
    """

    content: bytes | None
    unread: list[tuple[int, int]]


def rewritten(data: bytes, change: Callable[[Record], bytes | None]) -> Rewritten:
    """Change records of a segment in their places, under their sequences; behind damaged places too.

    Args:
        change: gives the payload that a record is to have, the same object where it stays, and None where it is to be erased: then a
            gap record stands for it.
    Raises:
        StoredDataError: the segment is of another format.
    """
    header = read_header(data)
    if header is None:
        return Rewritten(None, _with_content(data, [(0, len(data))]))
    reading = _Noting(data, header)
    reading.run()
    footer = reading.footer
    unread = reading.salvage() if footer is None else [(reading.offset, len(data))]
    content: list[bytes] = []
    at = erased = 0
    for begin, end, record in reading.places:
        payload = change(record)
        if payload is record.payload:
            continue
        content.append(data[at:begin])
        if payload is None:
            gap = Gap(first_sequence=record.sequence, last_sequence=record.sequence, reason=GapReason.ERASED)
            content.append(gap_bytes(gap, seed=header.seed))
            erased += 1
        else:
            content += frame(record.sequence, (payload,), seed=header.seed)
        at = end
    if not content:
        return Rewritten(None, _with_content(data, unread))
    if footer is None:
        content.append(data[at:])
    else:
        content.append(data[at : reading.data_end])
        footer = replace(
            footer,
            records=footer.records - erased,
            size_bytes=sum(map(len, content)),
            gaps=footer.gaps or erased > 0,
        )
        content += (footer_bytes(footer, seed=header.seed), data[reading.offset :])
    return Rewritten(b"".join(content), _with_content(data, unread))


def _with_content(data: bytes, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(begin, end) for begin, end in places if data.count(0, begin, end) < end - begin]


class _Noting(Reading):
    """A reading that notes where each record stands."""

    def __init__(self, data: bytes, header: SegmentHeader) -> None:
        super().__init__(data, header)
        self.places: list[tuple[int, int, Record]] = []

    def take(self, found: Placed) -> None:
        """See `Reading`."""
        if isinstance(found.content, Record):
            self.places.append((found.begin, found.end, found.content))
        super().take(found)
