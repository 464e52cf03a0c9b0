"""Hand-made segments of the log of lookups."""

import random

from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName, WriterId
from hindcast.lookups.record import encode
from hindcast.lookups.segment import (
    Footer,
    Gap,
    SegmentHeader,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
)

HEADER = SegmentHeader(
    slot=3,
    epoch=1_767_225_600_000_000,
    first_sequence=7,
    created_micros=1_767_225_600_123_456,
    segment_id=bytes(range(16)),
    boot_id=bytes(range(8)),
)


def segment_of(contents, *, header=HEADER, sealed=False):
    """A segment of payloads, records and gaps, in order, and where each of them ends."""
    data = header_bytes(header)
    ends, sequence, records, gaps = [], header.first_sequence, 0, 0
    for content in contents:
        if isinstance(content, Gap):
            data += gap_bytes(content, seed=header.seed)
            sequence = content.last_sequence + 1
            gaps += 1
        else:
            parts = [content] if isinstance(content, bytes) else encode(content)
            data += b"".join(frame(sequence, parts, seed=header.seed))
            sequence += 1
            records += 1
        ends.append(len(data))
    if sealed:
        footer = Footer(last_sequence=sequence - 1, records=records, size_bytes=len(data), gaps=gaps > 0)
        data += footer_bytes(footer, seed=header.seed)
    return data, ends


def segment_file(log, contents, *, header, suffix):
    """Write such a segment into a log, where its writer would have it, sealed if its suffix says so."""
    directory = LogDirectory(log)
    directory.segments.mkdir(parents=True, exist_ok=True)
    name = SegmentName(WriterId(header.slot, header.epoch), header.first_sequence, suffix)
    path = directory.segment(name)
    path.write_bytes(segment_of(contents, header=header, sealed=suffix == SEALED)[0])
    return path


def payloads(count, *, seed=1, bytes_max=60):
    """Payloads of all lengths, none among them, some of zeros."""
    rng = random.Random(seed)
    return [rng.randbytes(rng.randint(0, bytes_max)) if rng.random() < 0.9 else bytes(20) for _ in range(count)]
