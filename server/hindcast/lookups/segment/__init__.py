"""Segments, the files of the log (docs/formats.md): bytes come in and go out, and no file is opened here.

`format` is what a segment is made of, `scan` reads one that is all in memory and says how it ends, and `rewriting` changes records of one.
"""

from hindcast.lookups.segment.format import (
    FOOTER_BYTES,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES,
    Footer,
    Gap,
    GapReason,
    Head,
    Record,
    SegmentHeader,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
    is_intact,
    read_footer,
    read_gap,
    read_head,
    read_header,
)
from hindcast.lookups.segment.rewriting import Rewritten, rewritten
from hindcast.lookups.segment.scan import RecoveryMode, Scan, State, scan

__all__ = [
    "FOOTER_BYTES",
    "HEADER_BYTES",
    "PAYLOAD_BYTES_MAX",
    "RECORD_BYTES",
    "Footer",
    "Gap",
    "GapReason",
    "Head",
    "Record",
    "RecoveryMode",
    "Rewritten",
    "Scan",
    "SegmentHeader",
    "State",
    "footer_bytes",
    "frame",
    "gap_bytes",
    "header_bytes",
    "is_intact",
    "read_footer",
    "read_gap",
    "read_head",
    "read_header",
    "rewritten",
    "scan",
]
