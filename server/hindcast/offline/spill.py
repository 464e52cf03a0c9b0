"""Directories for what does not fit into memory."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hindcast.errors import StoreUnavailable
from hindcast.file_lock import locked_folder

_SUFFIX = ".spill"
"""Of all names given here, so that nothing else is ever swept."""


@contextmanager
def spill_directory(spill_dir: Path, *, prefix: str) -> Iterator[Path]:
    """A directory of its own in `spill_dir`, which is made if it is not there; at the end it is removed with all that is in it.

    What killed processes left in `spill_dir` is removed first. A directory belongs to a living process as long as somebody holds its lock,
    which the kernel lets go of however a process ends.

    Raises:
        StoreUnavailable: it cannot be made.
    """
    try:
        spill_dir.mkdir(parents=True, exist_ok=True)
        sweep(spill_dir)
        spilled, lock = _made(spill_dir, prefix)
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {str(spill_dir)!r} for what does not fit into memory cannot be used; check its rights and its disk"
        ) from error
    try:
        yield spilled
    finally:
        shutil.rmtree(spilled, ignore_errors=True)
        os.close(lock)


def _made(spill_dir: Path, prefix: str) -> tuple[Path, int]:
    """A new directory, and the descriptor that holds its lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=spill_dir))
        lock = locked_folder(made)
        # Another process can sweep it before it is locked; then it is gone, and the next one is tried.
        if lock is not None:
            return made, lock


def sweep(spill_dir: Path) -> None:
    """Remove what killed processes left in a directory.

    Raises:
        OSError: the directory cannot be read.
    """
    for left in spill_dir.glob(f"*{_SUFFIX}"):
        # It is locked by the process that uses it, or another one was quicker, or it is not ours to remove.
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
