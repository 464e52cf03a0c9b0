"""Asking the writers of a log to close what they have open, so that all that was answered can be sealed."""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from hindcast.errors import SealError
from hindcast.lookups.directory import OPEN, LogDirectory, SegmentName
from hindcast.lookups.disk import is_locked
from hindcast.lookups.reading import segment_files
from hindcast.lookups.segment import HEADER_BYTES

_LOOK_SECONDS = 0.05
_ASK_SECONDS = 5.0
"""A writer that could not begin its next segment is asked again."""
QUEUED_SECONDS = 0.1
"""Records of `best_effort` wait 20 ms in the memory of their writer, as long as its disk answers."""


def have_closed(log_directory: Path, *, seconds: float) -> int:
    """Have living writers close the segments that they have open at this moment; a worker does within a second.

    One that has no records yet stays open, and is not waited for.

    Args:
        seconds: after which no writer is waited for any more.
    Returns:
        How many segments are open still.
    Raises:
        SealError: nothing can be written to the log's directory.
    """
    directory = LogDirectory(log_directory)
    time.sleep(QUEUED_SECONDS)
    waits = [
        file.name for file in segment_files(directory) if file.name.suffix == OPEN and file.size_bytes > HEADER_BYTES
    ]
    try:
        return len(still_open(directory, waits, seconds=seconds))
    except OSError as error:
        raise SealError(
            f"{error.filename or log_directory} cannot be written ({error.strerror}); check its rights, or read only what is sealed"
        ) from error


def still_open(directory: LogDirectory, names: Iterable[SegmentName], *, seconds: float) -> list[SegmentName]:
    """Ask the writers of some segments to close them, and wait; those that they have open after that time.

    Raises:
        OSError: nothing can be written to the log's directory.
    """
    began = time.monotonic()
    asked, request = 0.0, b""
    waits = list(names)
    try:
        while waits := [name for name in waits if is_locked(directory.segment(name))]:
            now = time.monotonic()
            if now - began > seconds:
                break
            # Another one who asks may have removed it, done with its own.
            if not request or now - asked > _ASK_SECONDS or not directory.closing.exists():
                request = uuid4().hex.encode()
                directory.closing.write_bytes(request)
                asked = now
            time.sleep(_LOOK_SECONDS)
    finally:
        with contextlib.suppress(FileNotFoundError):
            if directory.closing.read_bytes() == request:
                directory.closing.unlink()
    return waits
