"""Settings that more than one room reads. Feast's own `feature_store.yaml` stays the source for stores and registry."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

_PORT_MAX = 65_535
STATE_DIR_VARIABLE = "HINDCAST_STATE_DIR"


def state_dir(repo_root: Path) -> Path:
    """Where Hindcast keeps what belongs to one repo (its embedded Redis, log of lookups, training sets): `.hindcast` in it.

    The environment variable HINDCAST_STATE_DIR names another place, for repos on a read-only disk; each repo has a
    folder of its own there, named by a digest of its path.
    """
    root = repo_root.expanduser().resolve()
    override = os.environ.get(STATE_DIR_VARIABLE)
    if not override:
        return root / ".hindcast"
    return Path(override).expanduser().resolve() / hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def log_directory_of(repo_root: Path) -> Path:
    """Where a repo's lookups are logged unless another place is named."""
    return state_dir(repo_root) / "lookups"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is not that; the message says what to write.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _PORT_MAX:
        raise ValueError(f"{address!r} is not an address; write HOST:PORT, for example 127.0.0.1:50051")
    return host, int(port)


class StaleValues(StrEnum):
    """What is answered where a row is past its view's TTL; it is flagged OUTSIDE_MAX_AGE in any case."""

    BY_DIALECT = "dialect"
    """Null on `hindcast.v1`, the value on Feast's services."""
    KEEP = "keep"
    """The value, on all services."""
    NULL = "null"
    """Null, on all services."""


class LogMode(StrEnum):
    """What is done with a lookup's record before its answer leaves, and so what can be lost of it."""

    DURABLE = "durable"
    """Synced to the disk; neither a killed process nor a power cut loses an answered lookup. Without a log none is answered."""
    BATCHED = "batched"
    """Written to its file; a killed process loses nothing, a power cut the last second at most, and it is reported."""
    BEST_EFFORT = "best_effort"
    """Queued in bounded memory; what is lost is counted and marked as a gap."""
    OFF = "off"
    """Nothing is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of a server that speaks TLS; with a client CA, callers must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What each worker of `hindcast serve` was told.

    Attributes:
        call_timeout_ms: the deadline of a call that brings none.
        max_connection_age_seconds: after about this long a caller is told to connect anew. A stopping worker needs it to
            part from its callers, so it bounds how long that takes.
        drain_seconds: how long a stopping worker then lets calls finish that still run.
        in_flight_max_values: work that one worker takes on at once, in values; a call counts as 2,000 besides.
        queue_max_ms: while a worker is this late with its work, it refuses calls.
        stale_values: what is answered past a view's TTL.
        traces: whether calls leave OpenTelemetry traces.
        log_mode: of lookups' records.
        log_modes: feature service -> the mode of its lookups, where that is another one.
    """

    tls: TlsFiles | None = None
    call_timeout_ms: int = 5_000
    max_connection_age_seconds: float = 15.0
    drain_seconds: float = 10.0
    in_flight_max_values: int = 1_000_000
    queue_max_ms: int = 250
    stale_values: StaleValues = StaleValues.BY_DIALECT
    traces: bool = False
    log_mode: LogMode = LogMode.BATCHED
    log_modes: Mapping[str, LogMode] = field(default_factory=dict)

    @property
    def logs(self) -> bool:
        """Whether any lookup leaves a record."""
        return any(mode is not LogMode.OFF for mode in (self.log_mode, *self.log_modes.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetsSettings:
    """What a server of training sets was told.

    Attributes:
        repo_root: absolute.
        directory: where the sets are; None for `datasets` in the state directory.
        entity_directories: absolute, each: where files are that callers may name as entity frames, beside the repo's sources.
        call_timeout_seconds: the deadline of a call that brings none.
        waiting_max: builds that wait for the one that runs; more are refused.
        frame_max_bytes: of an entity frame that is sent, or that SQL answers.
        patience_seconds: for a caller to send the next piece of a frame, or to take the next of a set.
    """

    repo_root: Path
    address: str
    directory: Path | None = None
    entity_directories: tuple[Path, ...] = ()
    tls: TlsFiles | None = None
    call_timeout_seconds: float = 3_600.0
    waiting_max: int = 8
    frame_max_bytes: int = 8 * 2**30
    patience_seconds: float = 60.0

    def to_line(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self, enc_hook=str) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "TrainingSetsSettings":
        """What `to_line` wrote.

        Raises:
            msgspec.DecodeError: it is not that.
        """
        return msgspec.json.decode(line, type=cls, dec_hook=lambda kind, written: kind(written))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What `hindcast serve` was told.

    Attributes:
        address: HOST:PORT; port 0 takes a free one.
        workers: serving processes that share the port.
        metrics_address: HOST:PORT of `/metrics`; None for no metrics.
        log_directory: for lookups' records; None for `lookups` in the state directory.
        seal_seconds: how often closed segments go into tables; 0 for never.
        keep_days: how many days of sealed lookups stay; None for all.
        training_sets_address: HOST:PORT of the server of training sets; None for none.
    """

    repo_root: Path
    address: str = "127.0.0.1:50051"
    workers: int = 1
    metrics_address: str | None = None
    log_directory: Path | None = None
    seal_seconds: float = 60.0
    keep_days: int | None = None
    training_sets_address: str | None = None
    worker: WorkerOptions = WorkerOptions()
