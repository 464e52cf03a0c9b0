"""What a run is, and where the records of a repo's runs are. Needs neither Feast, pyarrow nor deltalake."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from hindcast.catalog.repo import FileRegistry, Repo
from hindcast.materialize.process import RunProcess
from hindcast.settings import state_dir

STAGES = ("read", "encode", "pack", "write")


class Kind(StrEnum):
    """What a run does to its view's rows online."""

    MATERIALIZE = "materialize"
    """Adds an interval's newest rows."""
    REPLACE = "replace"
    """Builds all rows anew, then takes them at once."""
    ROLLBACK = "rollback"
    """Takes the rows from before a replacement again."""


class Outcome(StrEnum):
    """How a run ended, or that it has not."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """It began, and its process ended without a word. Never stored: found out whenever runs are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that a run read: a file with its digest, an object of a store with its tag, or a Delta table with its version.

    Attributes:
        path: absolute, or an address.
        bytes: size of the file or object; 0 for a table.
        sha256: of the file's content, 64 hex digits; empty for an object and a table.
        mtime_ns, inode: as they were when the digest was taken; a file in which they and the size are the same is not read
            for its digest again.
        delta_version: of a table; None for a file.
        tag: the object's version or ETag in its store; empty for a file and a table, and where the store does not tell.
    """

    path: str
    bytes: int = 0
    sha256: str = ""
    mtime_ns: int = 0
    inode: int = 0
    delta_version: int | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: what it was asked, and once it has ended what came of it.

    Attributes:
        run_id: a UUIDv7 as text; each online row that the run wrote carries it.
        project, view: Feast's names. One registry, and so one ledger, can hold several projects.
        start, end: the interval of event times, both ends in it; None where the run has no such end.
        began_at, ended_at: by the clock of the run's host.
        error: why it failed, in Hindcast's words; empty if it did not.
        rows_read: candidates in the interval.
        rows_written: winners that the run stored.
        rows_unchanged: winners that were stored already, the same but for their run id, which names who wrote them.
        rows_older: winners for which the store has a newer row.
        rows_null_key: rows without a whole key, skipped.
        rows_quarantined: rows dated too far ahead, which are in the file `quarantine`.
        definitions: digest of the definitions (`catalog_version`).
        seconds: time by stage (`STAGES`); they overlap, so their sum can exceed the run's duration.
        process: who runs it; whoever makes the record is.
        note: what a reader should know; only in runs that were read.
    """

    run_id: str
    project: str
    view: str
    kind: Kind = Kind.MATERIALIZE
    start: datetime | None
    end: datetime | None
    began_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome = Outcome.RUNNING
    error: str = ""
    sources: tuple[Source, ...] = ()
    rows_read: int = 0
    rows_written: int = 0
    rows_unchanged: int = 0
    rows_older: int = 0
    rows_null_key: int = 0
    rows_quarantined: int = 0
    quarantine: str = ""
    definitions: str = ""
    hindcast_version: str = field(default_factory=lambda: version("hindcast"))
    feast_version: str = field(default_factory=lambda: version("feast"))
    seconds: Mapping[str, float] = field(default_factory=dict)
    process: RunProcess = field(default_factory=RunProcess.this)
    note: str = ""


def ledger_path(repo: Repo) -> Path:
    """The folder of the ledger's table: `runs` beside the registry file; in the state directory for other registries."""
    registry = repo.registry
    return (registry.path.parent if isinstance(registry, FileRegistry) else state_dir(repo.root)) / "runs"
