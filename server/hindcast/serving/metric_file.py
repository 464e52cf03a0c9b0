"""The files that carry a worker's counts to the supervisor: prometheus_client's multiprocess format, read by its
`MultiProcessCollector`, one file per kind of metric and worker slot.

They are written here, and not by prometheus_client's own classes, for four reasons. Those name a file by process id, so that
files grow with every restart. They take the folder from an environment variable, which Feast's own metrics would follow
into it. They lock and look up a key per observation. And they grow a file by truncation, so that a full file system is met
by a write into the map, which ends the process (SIGBUS); here it is met by `posix_fallocate`, which raises.
"""

import json
import mmap
import os
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_FIRST_BYTES = 1 << 16
_USED = struct.Struct("i")
_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("d")
_VALUE_AND_TIME = struct.Struct("dd")
_HEADER_BYTES = 8


class MetricFile:
    """Named numbers in one file, which a later process can go on with.

    The format (prometheus_client/mmap_dict.py): how many bytes are used, as a 4-byte integer, and 4 bytes of padding; then per
    number its key's length in 4 bytes, the key padded with spaces so that what follows stands at a multiple of 8, the number and
    a time, both doubles. A number is written in place and an entry counts only once `used` covers it, so a process that is
    killed at any instruction leaves a whole file.
    """

    def __init__(self, path: Path) -> None:
        """Open a file, or make it.

        Raises:
            OSError: it cannot be made here.
        """
        # A reader must never meet the file before it has its size: it is made under a name that no reader looks for.
        made = path if path.exists() else path.with_suffix(".new")
        self._file = made.open("r+b" if made.exists() else "x+b")
        try:
            self._bytes = max(_FIRST_BYTES, os.fstat(self._file.fileno()).st_size)
            os.posix_fallocate(self._file.fileno(), 0, self._bytes)
            made.rename(path)
            self._map = mmap.mmap(self._file.fileno(), self._bytes)
        except OSError:
            self._file.close()
            raise
        self._used: int = max(_HEADER_BYTES, _USED.unpack_from(self._map)[0])
        self._positions: dict[str, int] = {}
        self._entries: Counter[str] = Counter()
        at: int = _HEADER_BYTES
        while at < self._used:
            (length,) = _LENGTH.unpack_from(self._map, at)
            key = self._map[at + _LENGTH.size : at + _LENGTH.size + length].decode()
            at += _padded_bytes(length)
            self._remember(json.loads(key)[0], key, at)
            at += _VALUE_AND_TIME.size

    def __contains__(self, key: str) -> bool:
        return key in self._positions

    def entries_of(self, metric: str) -> int:
        """How many numbers the file holds of one metric."""
        return self._entries[metric]

    def position(self, metric: str, key: str) -> int:
        """Where the number of a key stands; a new one begins at 0.

        Args:
            metric: whose number it is, as the key says.
        Raises:
            OSError: the file system is full. Nothing has changed.
        """
        known = self._positions.get(key)
        if known is not None:
            return known
        encoded = key.encode()
        start, value_at = self._used, self._used + _padded_bytes(len(encoded))
        end = value_at + _VALUE_AND_TIME.size
        if end > self._bytes:
            grown = max(2 * self._bytes, end)
            os.posix_fallocate(self._file.fileno(), 0, grown)
            self._map.close()
            self._map = mmap.mmap(self._file.fileno(), grown)
            self._bytes = grown
        padded = encoded.ljust(value_at - start - _LENGTH.size)
        self._map[start:end] = _LENGTH.pack(len(encoded)) + padded + _VALUE_AND_TIME.pack(0.0, 0.0)
        self._used = end
        self._map[: _USED.size] = _USED.pack(end)
        self._remember(metric, key, value_at)
        return value_at

    def add(self, position: int, amount: float) -> None:
        """Add to the number at a position."""
        self.set(position, _VALUE.unpack_from(self._map, position)[0] + amount)

    def set(self, position: int, value: float) -> None:
        """Replace the number at a position."""
        # By slice: struct.pack_into writes zeros first, which a reader can see.
        self._map[position : position + _VALUE.size] = _VALUE.pack(value)

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        self._map.close()
        self._file.close()

    def _remember(self, metric: str, key: str, position: int) -> None:
        self._positions[key] = position
        self._entries[metric] += 1


def _padded_bytes(length: int) -> int:
    """Bytes of a key's length, the key and its padding, which is 1 to 8 spaces."""
    return _LENGTH.size + length + 8 - (length + _LENGTH.size) % 8


def number_key(metric: str, name: str, labels: Mapping[str, str], meaning: str) -> str:
    """The key of one number: its metric, its own name (`…_bucket`), its labels, and the metric's help text."""
    return json.dumps([metric, name, labels, meaning], sort_keys=True)


def forget_live_gauges(folder: Path, slot: int) -> None:
    """Take away what a worker said of its present, which it has none of any more; its counts stay."""
    for path in folder.glob(f"gauge_live*_{slot}.db"):
        path.unlink(missing_ok=True)
