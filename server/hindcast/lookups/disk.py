"""The few calls of the operating system that the log makes, as an argument, so that a test can cut its power."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hindcast import durable
from hindcast.file_lock import is_at

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE."""

_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
"""Python's own `posix_fallocate` has no flags, and makes the file longer."""

if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Disk(Protocol):
    """Files and directories. All of it raises OSError where the system does, and nothing is tried again here."""

    def boot_id(self) -> bytes:
        """8 bytes that differ from one start of the kernel to the next; zeros where that is not known."""

    def make_directory(self, directory: Path) -> None:
        """Make a directory and what is missing above it, synced."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor of a file."""

    def lock(self, handle: int, path: Path) -> bool:
        """Take the file's lock, which goes with the descriptor or its process; false if another one has it or `path` is not this file."""

    def writev(self, handle: int, parts: Sequence[bytes | memoryview], /) -> int:
        """Append; how many bytes were written, which can be fewer than all."""

    def pwrite(self, handle: int, content: bytes, offset: int, /) -> int:
        """Write at an offset."""

    def fdatasync(self, handle: int, /) -> None:
        """Wait until the file's content and length are on the disk. Never to be called again on a file where it failed."""

    def reserve(self, handle: int, size_bytes: int, /) -> None:
        """Give a file room on the disk up to a size, and leave its length as it is."""

    def truncate(self, handle: int, size_bytes: int, /) -> None:
        """Cut a file, and give the room behind its end back."""

    def close(self, handle: int, /) -> None:
        """Give a descriptor back."""

    def read(self, path: Path) -> bytes:
        """A file's content."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, in one step."""

    def unlink(self, path: Path) -> None:
        """Remove a file."""

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, sorted; none where there is no such directory."""

    def fsync(self, handle: int, /) -> None:
        """Wait until a directory's names are on the disk."""


class RealDisk:
    """The operating system's own."""

    writev = staticmethod(os.writev)
    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    truncate = staticmethod(os.ftruncate)
    close = staticmethod(os.close)

    def reserve(self, handle: int, size_bytes: int, /) -> None:
        """By Linux's fallocate; other systems have none, and file systems that cannot do it say so."""
        if _fallocate is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if _fallocate(handle, _KEEP_SIZE, 0, size_bytes) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def boot_id(self) -> bytes:
        """From Linux's /proc."""
        try:
            return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").strip().replace("-", ""))[:8]
        except (OSError, ValueError):
            return bytes(8)

    def make_directory(self, directory: Path) -> None:
        """See `durable`."""
        durable.make_directory(directory)

    def open(self, path: Path, flags: int) -> int:
        """For the owner alone: lookups are about people."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def lock(self, handle: int, path: Path) -> bool:
        """By flock, which a killed process gives back."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        return is_at(handle, path)

    def read(self, path: Path) -> bytes:
        """Whole."""
        return path.read_bytes()

    def rename(self, source: Path, target: Path) -> None:
        """In the place of a file that has the name."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """It must be there."""
        path.unlink()

    def names(self, directory: Path) -> list[str]:
        """Sorted."""
        try:
            return sorted(path.name for path in directory.iterdir())
        except FileNotFoundError:
            return []


REAL_DISK: Disk = RealDisk()


def is_locked(path: Path) -> bool:
    """Whether a living writer, or a recovery, has a file that is there. A shared lock is taken for a moment to find out."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def sync_directory(disk: Disk, directory: Path) -> None:
    """Open a directory, and wait until its names are on the disk.

    Raises:
        OSError: it is not there, or its disk failed to take it.
    """
    handle = disk.open(directory, os.O_RDONLY)
    try:
        disk.fsync(handle)
    finally:
        disk.close(handle)


def write_all(disk: Disk, handle: int, content: bytes | memoryview) -> None:
    """Append all of it, in as many writes as that takes.

    Raises:
        OSError: some of it may be there.
    """
    done = 0
    while done < len(content):
        put = disk.writev(handle, (content[done:],))
        if put == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        done += put
