"""What was lost, told in `gaps/`: one JSON line for each gap, in files per writer. No personal data."""

import os
from dataclasses import dataclass

import msgspec

from hindcast.lookups.directory import LogDirectory, WriterId
from hindcast.lookups.disk import Disk, sync_directory
from hindcast.lookups.segment import Gap, GapReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GapLine:
    """A gap as it is told.

    Attributes:
        gap: see there; where the reason is SYNC_FAILED the records may be there all the same.
        found_micros: when it was noted.
        rest_bytes: of the file, that are no record.
        kept: the name in `damaged/` of the file as it was found; empty where it was not kept.
    """

    writer: WriterId
    gap: Gap
    found_micros: int
    rest_bytes: int = 0
    kept: str = ""


class _Line(msgspec.Struct):
    slot: int
    epoch: int
    first_sequence: int
    last_sequence: int | None
    reason: str
    since_micros: int
    until_micros: int
    found_micros: int
    rest_bytes: int = 0
    kept: str = ""


_DECODER = msgspec.json.Decoder(_Line)


def line_bytes(line: GapLine) -> bytes:
    """The JSON of a gap, with the end of the line."""
    gap = line.gap
    stored = _Line(
        line.writer.slot,
        line.writer.epoch,
        gap.first_sequence,
        gap.last_sequence,
        gap.reason.name.lower(),
        gap.since_micros,
        gap.until_micros,
        line.found_micros,
        line.rest_bytes,
        line.kept,
    )
    return msgspec.json.encode(stored) + b"\n"


def append_lines(directory: LogDirectory, lines: list[GapLine], *, number: int, disk: Disk) -> None:
    """Tell of gaps of one writer, synced.

    Args:
        number: of the file; another one than at a call that failed, because a second sync of that file would prove nothing.
    Raises:
        OSError: it could not be written; some of it may be there.
    """
    if not lines:
        return
    disk.make_directory(directory.gaps)
    handle = disk.open(directory.gap_lines(lines[0].writer, number), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        # A line of a writer that was killed in its midst must not spoil the next one.
        disk.writev(handle, [b"\n", *map(line_bytes, lines)])
        disk.fdatasync(handle)
    finally:
        disk.close(handle)
    sync_directory(disk, directory.gaps)


def read_lines(directory: LogDirectory, writer: WriterId | None = None, *, disk: Disk) -> list[GapLine]:
    """The gaps that were told of, of one writer or all, each once; torn lines are left out."""
    names = [name for name in disk.names(directory.gaps) if name.startswith(f"{writer}-" if writer else "")]
    told: dict[tuple[WriterId, Gap], GapLine] = {}
    for name in names:
        for text in disk.read(directory.gaps / name).splitlines():
            try:
                stored = _DECODER.decode(text)
                reason = GapReason[stored.reason.upper()]
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
                continue
            gap = Gap(
                first_sequence=stored.first_sequence,
                last_sequence=stored.last_sequence,
                reason=reason,
                since_micros=stored.since_micros,
                until_micros=stored.until_micros,
            )
            line = GapLine(
                writer=WriterId(stored.slot, stored.epoch),
                gap=gap,
                found_micros=stored.found_micros,
                rest_bytes=stored.rest_bytes,
                kept=stored.kept,
            )
            told.setdefault((line.writer, gap), line)
    return list(told.values())
