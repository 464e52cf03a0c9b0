"""Being the only process that changes something: a lock on a file or a folder, which ends with whoever holds it, however that ends."""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

_LOOK_SECONDS = 0.01
"""flock has no time-out of its own, so it is tried again and again."""


def locked_within(handle: int, *, seconds: float) -> bool:
    """Lock an open file or folder for its handle alone, until that is closed.

    Returns:
        Whether it is locked; False where another process holds it for longer than `seconds`.
    Raises:
        OSError: its file system has no locks.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
        else:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)


def locked_folder(folder: Path) -> int | None:
    """The descriptor of a folder, once no other process has the folder locked; closing it gives the lock back.

    Where the file system has no such locks (NFS) nobody waits, and nobody is waited for.

    Returns:
        None where the folder is gone, or is another one by now: whoever had the lock may have removed it.
    Raises:
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if is_at(handle, folder):
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file or folder still has this path: it can have been removed, or replaced, before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
