"""What passes between the supervisor and a worker: settings one way, one word back."""

from dataclasses import dataclass

from hindcast.catalog import Catalog
from hindcast.online.connection import RedisTarget
from hindcast.settings import TlsFiles

READY = b"ready\n"
"""What a worker writes to its standard output when it serves."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the supervisor hands a worker. It can hold a password: it travels by pipe, never by argument."""

    slot: int
    address: str
    catalog: Catalog
    target: RedisTarget
    call_timeout_ms: int
    drain_seconds: float
    tls: TlsFiles | None
