"""Being the only process that changes something: a lock on a file or a folder, which ends with whoever holds it, however that ends."""

import errno
import fcntl
import time

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
