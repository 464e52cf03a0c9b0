"""What passes between the supervisor and a worker, a line each: settings and then catalogs one way, a word back for each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hindcast.catalog import Catalog
from hindcast.online.connection import RedisTarget
from hindcast.online.layouts import LayoutName
from hindcast.serving.ingest import WriteSettings
from hindcast.settings import WorkerOptions

READY = b"ready\n"
"""What a worker writes to its standard output when it serves."""

TAKEN = b"taken\n"
"""What it writes when calls are answered from a new catalog."""

REFUSED = b"refused\n"
"""What it writes when a new catalog cannot be served here, and the last one goes on."""

LINE_BYTES_MAX = 256 * 2**20
"""A catalog of 10,000 views is some 10 MB."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the supervisor hands a worker. It can hold a password: it travels by pipe, never by argument.

    Attributes:
        slot: a number below twice the number of workers that no other living worker of this server has. A worker's
            successor overlaps with it and has another one; numbers come back once their worker has ended.
        metrics_folder: where the worker writes what it counts; None if it counts nothing.
        log_directory: where it logs lookups; None if it logs none.
    """

    slot: int
    address: str
    catalog: Catalog
    target: RedisTarget
    layout: LayoutName
    writes: WriteSettings
    options: WorkerOptions
    metrics_folder: Path | None = None
    log_directory: Path | None = None

    def to_line(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self, enc_hook=str) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "WorkerSettings":
        """What `to_line` wrote.

        Raises:
            msgspec.DecodeError: it is not that.
        """
        return msgspec.json.decode(line, type=cls, dec_hook=_made)


def _made(kind: type, written: Any) -> Any:
    """A value of a type that JSON does not have, which is a path."""
    return kind(written)


def catalog_to_line(catalog: Catalog) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(catalog) + b"\n"


def catalog_from_line(line: bytes) -> Catalog:
    """What `catalog_to_line` wrote."""
    return msgspec.json.decode(line, type=Catalog)
