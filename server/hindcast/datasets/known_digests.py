"""Digests of files that were hashed before, so that a build need not read sources again that nobody has touched (docs/decisions/0036-known-digests.md).

A file is taken for the one that was hashed by what Git's index goes by: device, inode, size, and the times of its last change in nanoseconds, of which one
(`ctime`) cannot be set by programs. As there, a digest is not kept of a file that was changed so shortly before that another change might leave the same times.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from hindcast.clock import system_clock
from hindcast.durable import make_directory
from hindcast.errors import SourceError

FILE = "source-digests"
FILES_MAX = 16_384
"""Files whose digests are kept, those used last: some 3 MB."""
SETTLED_SECONDS = 60
"""A file that was changed later than this before it was hashed may change again without a trace. Clocks of file systems step by milliseconds, but what is
written through a memory map gets new times only once Linux has put the page to the disk, which it does after 30 s."""

_LOCAL = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems of this machine's kernel, and so with its clock. Elsewhere times come from another clock, or from a cache."""
_HEAD = b"hindcast source digests 1 "
_BLOCK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FileState:
    """What is known of a file's content without reading it; times in nanoseconds."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """That of a file as it is now.

        Raises:
            OSError: it is not there.
        """
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class KnownDigests:
    """Digests of a build's sources: those that are known, and those that have to be found out. Threads may share it."""

    def __init__(
        self,
        path: Path,
        *,
        is_trusted: bool = True,
        clock: Callable[[], int] = system_clock,
        read: Callable[[Path], str] = read_sha256,
    ) -> None:
        """What a file has; nothing where it is not there, damaged or of another format, which costs time and nothing else.

        Args:
            path: need not be there.
            is_trusted: whether what is known is gone by; otherwise all files are read, and what is found out is kept.
            clock: microseconds since 1970.
            read: gives the SHA-256 of a file's bytes.
        """
        self._path = path
        self._is_trusted = is_trusted
        self._clock = clock
        self._read = read
        self._known = _kept(path)
        self._mounts = Mounts.read()
        self._lock = Lock()
        self._used: dict[FileState, str] = {}
        self._found: dict[FileState, str] = {}
        self._asked: dict[Path, tuple[FileState, str]] = {}

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file's bytes, 64 hex digits.

        Raises:
            OSError: it cannot be read.
        """
        state = FileState.of(path)
        digest = self._known.get(state) if self._is_trusted and self._mounts.is_local(path) else None
        began = self._clock()
        if digest is None:
            digest = self._read(path)
            is_settled = max(state.mtime_ns, state.ctime_ns) // 1000 + SETTLED_SECONDS * 1_000_000 <= began
            if is_settled and self._mounts.is_local(path) and FileState.of(path) == state:
                with self._lock:
                    self._found[state] = digest
        with self._lock:
            self._used[state] = digest
            self._asked[path] = state, digest
        return digest

    def check(self) -> None:
        """Refuse files that are other ones by now than they were when their digests were asked for. One that only has other times is read again.

        Raises:
            SourceError: one is, or it is gone.
        """
        for path, (state, digest) in self._asked.items():
            try:
                is_same = FileState.of(path) == state or self._read(path) == digest
            except OSError:
                is_same = False
            if not is_same:
                raise SourceError(f"{str(path)!r} changed while it was read; run again, when nobody writes to it")

    def keep(self) -> None:
        """Keep what was found out for the next builds. What another build keeps at this moment may be lost, and a disk that takes nothing is no error."""
        if not self._found:
            return
        now = _kept(self._path)
        kept = {state: digest for state, digest in now.items() if state not in self._used}
        kept |= {state: digest for state, digest in self._used.items() if state in now}
        kept |= self._found
        with suppress(OSError):
            _write(self._path, dict(list(kept.items())[-FILES_MAX:]))


@dataclass(frozen=True, slots=True)
class Mounts:
    """File systems that are mounted here.

    Attributes:
        local: where one is mounted, with a slash at the end -> whether it has this machine's clock.
    """

    local: Mapping[str, bool]

    @classmethod
    def read(cls, table: Path = Path("/proc/self/mountinfo")) -> "Mounts":
        """Those that Linux names; none on other systems."""
        local: dict[str, bool] = {}
        with suppress(OSError):
            for line in table.read_text(errors="surrogateescape").splitlines():
                before, _, after = line.partition(" - ")
                # A blank in a path is \040 there.
                place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
                local[place.rstrip("/") + "/"] = after.split()[0] in _LOCAL
        return cls(local)

    def is_local(self, path: Path | str) -> bool:
        """Whether a file is on a file system of this machine; False where that is not known."""
        place = os.path.realpath(path)
        nearest = max((root for root in self.local if place.startswith(root)), key=len, default="")
        return self.local.get(nearest, False)


def _kept(path: Path) -> dict[FileState, str]:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        if head != _HEAD + hashlib.sha256(body).hexdigest().encode():
            return {}
        return {FileState(*numbers): digest for *numbers, digest in json.loads(body)}
    except (OSError, ValueError, TypeError):
        return {}


def _write(path: Path, digests: dict[FileState, str]) -> None:
    rows: list[Any] = [[*astuple(state), digest] for state, digest in digests.items()]
    body = json.dumps(rows, separators=(",", ":")).encode()
    make_directory(path.parent)
    written = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        # Not synced: a torn file is not the one that its first line has the digest of.
        written.write_bytes(_HEAD + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
