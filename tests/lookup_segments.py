"""Segments of lookups that are told apart by their times."""

import os
from collections.abc import Sequence
from pathlib import Path

from hindcast.lookups.directory import OPEN, SEALED
from hindcast.lookups.record import LookupRecord, Rpc
from hindcast.lookups.segment import Gap, SegmentHeader
from segments import segment_file

NOON = 1_795_000_000_000_000
SECOND = 1_000_000


def lookup_id(micros: int, number: int = 0) -> bytes:
    """A UUIDv7 of a time."""
    return (micros // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")


def make_record(micros: int, number: int = 0, **more) -> LookupRecord:
    """A lookup that was served then, a millisecond after it began."""
    usual = {
        "lookup_id": lookup_id(micros - 1000, number),
        "served_at_micros": micros,
        "rpc": Rpc.HINDCAST,
        "request_id": "",
        "tags": {},
        "catalog_version": "sha256:00",
        "service": "ride",
        "refs": [],
        "mode": "batched",
        "code": 5,
        "reason": "UNKNOWN_NAME",
        "message": "",
        "rows": [],
        "computed": {},
        "request": b"",
        "response": b"",
    }
    return LookupRecord(**{**usual, **more})


def write_segment(
    log: Path,
    content: Sequence[LookupRecord | Gap],
    *,
    slot: int = 0,
    first: int = 1,
    created: int = NOON,
    written: int | None = None,
    sealed: bool = False,
) -> Path:
    """Write a segment; its file says it was last written then, or when its last record was served."""
    header = SegmentHeader(
        slot=slot, epoch=NOON, first_sequence=first, created_micros=created, segment_id=os.urandom(16)
    )
    path = segment_file(log, content, header=header, suffix=SEALED if sealed else OPEN)
    served = [one.served_at_micros for one in content if isinstance(one, LookupRecord)]
    set_written(path, max([written or 0, *served]) or created)
    return path


def set_written(path: Path, micros: int) -> None:
    """Let a file say that it was last written then."""
    os.utime(path, ns=(micros * 1000, micros * 1000))


def damage(path: Path, at: int, *, bit: int = 1) -> None:
    """Flip a bit, and leave the file's time as it was."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
