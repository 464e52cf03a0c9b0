"""The log of lookups, pinned byte for byte: a change of a format must be meant, and shows as a diff of lookups.txt.

Segments outlive a deployment, so a change here needs a new format number and a reader of the old one.
"""

from pathlib import Path

from hindcast.lookups.directory import LogDirectory, SegmentName, WriterId
from hindcast.lookups.gaps import GapLine, line_bytes
from hindcast.lookups.marks import Mark, mark_bytes, read_marks
from hindcast.lookups.request_ids import index_bytes
from hindcast.lookups.segment import (
    Footer,
    Gap,
    GapReason,
    RecoveryMode,
    SegmentHeader,
    footer_bytes,
    frame,
    gap_bytes,
    header_bytes,
    scan,
)

PINNED = Path(__file__).with_name("lookups.txt")

HEADER = SegmentHeader(
    slot=3,
    epoch=1_767_225_600_000_000,
    first_sequence=41,
    created_micros=1_767_225_600_123_456,
    segment_id=bytes(range(16)),
    boot_id=bytes(range(0xF0, 0xF8)),
)
GAP = Gap(
    first_sequence=43,
    last_sequence=45,
    reason=GapReason.WRITE_FAILED,
    since_micros=1_767_225_601_000_000,
    until_micros=1_767_225_602_000_000,
)
FOOTER = Footer(last_sequence=46, records=3, size_bytes=161, gaps=True)
MARK = Mark(first_sequence=41, synced_end=88, written_sequence=42, due_sequence=45, at_micros=1_767_225_602_500_000)
WRITER = WriterId(3, HEADER.epoch)
OPEN_GAP = Gap(first_sequence=47, last_sequence=None, reason=GapReason.TORN, until_micros=1_767_225_602_500_000)
LINE = GapLine(writer=WRITER, gap=OPEN_GAP, found_micros=1_767_225_700_000_000, rest_bytes=12, kept="")
SEGMENT = {
    "header": header_bytes(HEADER),
    "record 41, payload in two parts": b"".join(frame(41, [b"requ", b"est"], seed=HEADER.seed)),
    "record 42, without payload": b"".join(frame(42, [], seed=HEADER.seed)),
    "gap 43 to 45": gap_bytes(GAP, seed=HEADER.seed),
    "record 46": b"".join(frame(46, [b"\x00"], seed=HEADER.seed)),
    "footer": footer_bytes(FOOTER, seed=HEADER.seed),
}
FORMATS = {
    **SEGMENT,
    "mark": mark_bytes(MARK),
    "line of gaps": line_bytes(LINE),
    "index of request ids": index_bytes([b"order-2", b"", b"order-1"], file_bytes=4096),
    "name of the open segment": str(SegmentName(WRITER, 41)).encode(),
    "name of the marks": LogDirectory(Path()).marks(WRITER).name.encode(),
    "name of the gaps": LogDirectory(Path()).gap_lines(WRITER, 0).name.encode(),
}


def test_the_formats_are_as_pinned():
    """Every stored form has the bytes that lookups.txt says."""
    lines = [f"{name}: {content.hex()}" for name, content in FORMATS.items()]

    assert PINNED.read_text(encoding="utf-8").splitlines() == lines


def test_pinned_bytes_are_read():
    """What an earlier build of this format wrote reads as what was meant."""
    pinned = dict(line.rsplit(": ", 1) for line in PINNED.read_text(encoding="utf-8").splitlines())
    found = scan(bytes.fromhex("".join(pinned[name] for name in SEGMENT)), sealed=True, mode=RecoveryMode.STRICT)

    assert (HEADER, [GAP], FOOTER) == (found.header, found.gaps, found.footer)
    assert [(41, b"request"), (42, b""), (46, b"\x00")] == found.records
    assert [MARK] == read_marks(bytes.fromhex(pinned["mark"]))
