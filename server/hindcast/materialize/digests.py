"""SHA-256 of the files that a run read, taken again only where a file has changed."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from hindcast.errors import LedgerError
from hindcast.materialize.runs import Source

_TRIES = 3
_BLOCK_BYTES = 2**20
_INODE_MAX = (1 << 63) - 1


def digest_files(
    paths: Iterable[Path], *, known: Mapping[str, Source], is_stopped: Callable[[], bool] = lambda: False
) -> tuple[Source, ...]:
    """Each file with its size and digest, in the order given.

    A file is read in blocks: memory does not grow with it. One whose path, size, time of change (to the nanosecond) and inode
    are those of a known source is not read: reading 1 GB takes a second or more, and most runs find most files as they were.

    Args:
        known: by path, what is known already (`Ledger.sources`).
        is_stopped: asked between blocks; once it is true, nothing more is read.
    Raises:
        LedgerError: a file is gone, cannot be read, or changes while it is read; or it was stopped.
    """
    return tuple(_digest(path.absolute(), known, is_stopped) for path in paths)


def _digest(path: Path, known: Mapping[str, Source], is_stopped: Callable[[], bool]) -> Source:
    before = known.get(str(path))
    try:
        with path.open("rb") as file:
            now = _source(path, os.fstat(file.fileno()))
            if before is not None and before.sha256 and now == _without_digest(before):
                return before
            for _ in range(_TRIES):
                file.seek(0)
                sha256 = _sha256(file, is_stopped)
                read, now = now, _source(path, os.fstat(file.fileno()))
                if read == now:
                    return _source(path, os.fstat(file.fileno()), sha256=sha256)
    except OSError as error:
        raise LedgerError(f"{path} cannot be read for its digest; check that it is there, and its rights") from error
    raise LedgerError(f"{path} changes while it is read; run again when its writer is done")


def _sha256(file: BinaryIO, is_stopped: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        if is_stopped():
            raise LedgerError("the run ended before its sources were digested")
        digest.update(block)
    return digest.hexdigest()


def _source(path: Path, stat: os.stat_result, *, sha256: str = "") -> Source:
    # An inode can be an unsigned number of 64 bits, and the ledger's are signed.
    return Source(
        path=str(path), bytes=stat.st_size, sha256=sha256, mtime_ns=stat.st_mtime_ns, inode=stat.st_ino & _INODE_MAX
    )


def _without_digest(source: Source) -> Source:
    return Source(path=source.path, bytes=source.bytes, mtime_ns=source.mtime_ns, inode=source.inode)
