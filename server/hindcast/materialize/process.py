"""Which process a run is, so that one that works can be told from one that was killed."""

import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

_SAME_START_SECONDS = 1.0
"""Starts are known to 10 ms; within a second no process id comes round again."""


class Liveness(StrEnum):
    """What can be known here of a process."""

    LIVES = "lives"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It is another host's, or another container's, whose processes cannot be seen from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess:
    """One process, over all hosts and reboots.

    Attributes:
        host: the host's name.
        boot: which start of the kernel it belongs to, and which set of process ids (a container has one of its own).
        process_id: within that set.
        started_seconds: when it started, in seconds after the kernel did. Not a time of day: the clock can be set meanwhile.
    """

    host: str
    boot: str
    process_id: int
    started_seconds: float

    @classmethod
    def this(cls) -> "RunProcess":
        """The process that asks."""
        process = psutil.Process()
        return cls(
            host=socket.gethostname(), boot=_boot(), process_id=process.pid, started_seconds=_started_seconds(process)
        )

    @property
    def liveness(self) -> Liveness:
        """Whether it lives, as far as that can be seen from this process."""
        boot, process_ids = _boot().split("/")
        its_boot, _, its_process_ids = self.boot.partition("/")
        if self.host != socket.gethostname() or (its_boot == boot and its_process_ids != process_ids):
            return Liveness.UNKNOWN
        if its_boot != boot:
            return Liveness.GONE  # this host has been started again since
        try:
            process = psutil.Process(self.process_id)
            lives = (
                process.status() != psutil.STATUS_ZOMBIE
                and abs(_started_seconds(process) - self.started_seconds) < _SAME_START_SECONDS
            )
        except psutil.NoSuchProcess:
            return Liveness.GONE
        return Liveness.LIVES if lives else Liveness.GONE


def _started_seconds(process: psutil.Process) -> float:
    # psutil has added the kernel's own start by the clock as it is now; taken off again, it does not depend on the clock.
    return round(float(process.create_time() - psutil.boot_time()), 2)


def _boot() -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id}/{Path('/proc/self/ns/pid').stat().st_ino}"
