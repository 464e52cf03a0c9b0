"""Disks for the log of lookups: one whose power can be cut at any call, and one that fails when it is told to."""

import errno
import os
import threading
from collections import deque
from contextlib import contextmanager
from pathlib import Path

from hindcast.lookups.disk import REAL_DISK

PAGE = 64
"""Small, so that small files are torn in as many ways as large ones."""


class PowerCutError(OSError):
    """The machine is off; no call does anything any more."""

    def __init__(self):
        super().__init__(errno.EIO, "the power is cut")


class File:
    """What programs see of a file, what is on the disk of it, and all states that it had since."""

    def __init__(self, synced=b""):
        self.content = bytearray(synced)
        self.synced = bytes(synced)


class MemoryDisk:
    """A disk in memory that promises no more than POSIX does.

    What was written is on the disk once it was synced, and before that any part of it may be. A name is there once its directory
    was synced; before that the names' changes are there up to any of them.

    Args:
        calls_max: after so many calls that change something the power is cut, in the midst of the last one.
    """

    def __init__(self, rng, *, calls_max=None, boot_id=b"boot-one", durable=None):
        self._rng = rng
        self._calls_left = calls_max
        self._boot_id = boot_id
        self._names = {path: File(content) for path, content in (durable or {}).items()}
        self._durable_names = dict(self._names)
        self._pending = deque()
        self._handles = {}
        self._locks = {}
        self._next_handle = 3
        self._lock = threading.RLock()
        self.calls = 0
        self.off = False

    def after_power_is_back(self, *, calls_max=None):
        """The disk as the next start of the kernel finds it."""
        with self._lock:
            names = dict(self._durable_names)
            for _, change in zip(range(self._rng.randint(0, len(self._pending))), self._pending, strict=False):
                change(names)
            durable = {path: self._what_is_left(file) for path, file in names.items()}
            return MemoryDisk(self._rng, calls_max=calls_max, boot_id=self._rng.randbytes(8), durable=durable)

    def after_a_kill(self, *, calls_max=None):
        """The same disk, of whose files no process has any open."""
        with self._lock:
            after = MemoryDisk(self._rng, calls_max=calls_max, boot_id=self._boot_id)
            after._names, after._durable_names, after._pending = self._names, self._durable_names, self._pending
            return after

    def flip(self, path, bit):
        """Damage a file, on the disk and in memory."""
        file = self._names[path]
        file.content[bit // 8] ^= 1 << bit % 8
        file.synced = bytes(file.content)

    def files(self):
        """The paths of all files."""
        return sorted(self._names)

    def boot_id(self):
        """Of this start of the kernel."""
        return self._boot_id

    def make_directory(self, directory):
        """Nothing: directories are synced when they are made, and are not what is tested here."""

    def open(self, path, flags):
        """A path without a suffix is a directory."""
        with self._call():
            if flags & os.O_CREAT:
                if path in self._names and flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, "there is one", str(path))
                if path not in self._names:
                    file = File()
                    self._change(path.parent, lambda names: names.__setitem__(path, file))
                if flags & os.O_TRUNC:
                    del self._names[path].content[:]
            elif path not in self._names and path.suffix:
                raise FileNotFoundError(errno.ENOENT, "there is none", str(path))
            self._next_handle += 1
            self._handles[self._next_handle] = (path, self._names.get(path))
            return self._next_handle

    def lock(self, handle, path):
        """Held until the descriptor is closed."""
        with self._call():
            file = self._handles[handle][1]
            if self._locks.setdefault(id(file), handle) != handle:
                return False
            return self._names.get(path) is file

    def writev(self, handle, parts):
        """Whole, or cut by the power."""
        content = b"".join(parts)
        with self._call(lambda: self._append(handle, content[: self._rng.randint(0, len(content))])):
            self._append(handle, content)
            return len(content)

    def pwrite(self, handle, content, offset):
        """Whole."""
        with self._call():
            there = self._handles[handle][1].content
            there[offset : offset + len(content)] = content
            return len(content)

    def fdatasync(self, handle):
        """The content as it is now, or where the power is cut any part of it."""
        file = self._handles[handle][1]

        def in_part():
            file.synced = self._what_is_left(file)

        with self._call(in_part):
            file.synced = bytes(file.content)

    def fsync(self, handle):
        """The changes of names in this directory."""
        directory = self._handles[handle][0]
        with self._call():
            kept = deque()
            for change in self._pending:
                if change.directory == directory:
                    change(self._durable_names)
                else:
                    kept.append(change)
            self._pending = kept

    def reserve(self, handle, size_bytes):
        """Nothing: what was reserved and not written is not there after a power cut either."""

    def truncate(self, handle, size_bytes):
        """To a shorter length."""
        with self._call():
            del self._handles[handle][1].content[size_bytes:]

    def close(self, handle):
        """Works without power."""
        with self._lock:
            _, file = self._handles.pop(handle)
            if self._locks.get(id(file)) == handle:
                del self._locks[id(file)]

    def read(self, path):
        """What programs see."""
        with self._lock:
            if path not in self._names:
                raise FileNotFoundError(errno.ENOENT, "there is none", str(path))
            return bytes(self._names[path].content)

    def rename(self, source, target):
        """Belongs to the directory of the new name."""

        def move(names):
            if source in names:
                names[target] = names.pop(source)

        with self._call():
            self._change(target.parent, move)

    def unlink(self, path):
        """Pending like other changes of names."""
        with self._call():
            self._change(path.parent, lambda names: names.pop(path, None))

    def names(self, directory):
        """What programs see."""
        with self._lock:
            return sorted(path.name for path in self._names if path.parent == directory)

    def _append(self, handle, content):
        self._handles[handle][1].content += content

    def _change(self, directory, change):
        change(self._names)
        change.directory = directory
        self._pending.append(change)

    @contextmanager
    def _call(self, in_part=lambda: None):
        with self._lock:
            if self.off:
                raise PowerCutError
            self.calls += 1
            if self._calls_left is not None and self.calls > self._calls_left:
                self.off = True
                in_part()
                raise PowerCutError
            yield

    def _what_is_left(self, file):
        """Any page as it was synced or as it was written last, or zeros, or torn; any length between the two."""
        rng, old, new = self._rng, file.synced, bytes(file.content)
        if old == new:
            return old
        size = rng.choice([len(new), len(old), rng.randint(min(len(old), len(new)), max(len(old), len(new)))])
        left = bytearray()
        ordered = rng.random() < 0.5
        cut = rng.randint(0, size)
        for at in range(0, size, PAGE):
            older, newer = old[at : at + PAGE].ljust(PAGE, b"\0"), new[at : at + PAGE].ljust(PAGE, b"\0")
            if ordered:
                left += newer if at + PAGE <= cut else older
            else:
                tear = rng.randint(0, PAGE)
                left += rng.choice([newer, newer, older, newer[:tear] + older[tear:]])
        return bytes(left[:size])


class FailingDisk:
    """The real disk, of which some calls fail while they are told to.

    Attributes:
        failing: errno by the name of a call.
        synced: descriptors and names of files of which a sync failed, to see that none is tried again.
    """

    def __init__(self):
        self.failing = {}
        self.sync_failed = set()
        self.synced_again = set()

    def __getattr__(self, name):
        call = getattr(REAL_DISK, name)

        def perhaps(*arguments):
            if name == "fdatasync":
                self._note_sync(arguments[0])
            if name == "unlink":
                # The next file may get its number.
                self.sync_failed = {known for known in self.sync_failed if known[1] != arguments[0].name}
            if name in self.failing:
                raise OSError(self.failing[name], os.strerror(self.failing[name]))
            return call(*arguments)

        return perhaps

    def _note_sync(self, handle):
        inode = (os.fstat(handle).st_ino, Path(f"/proc/self/fd/{handle}").resolve().name)
        if inode in self.sync_failed:
            self.synced_again.add(inode)
        if "fdatasync" in self.failing:
            self.sync_failed.add(inode)
