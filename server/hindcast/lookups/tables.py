"""The tables that sealed lookups are in, whatever they are made of: Delta (`delta_log`), or Parquet parts where Feast is to read them
(`parts_folder`). Imports pyarrow.

Both are partitioned by the day of `__log_date`, in UTC, and both know up to which sequence they have a writer's records, so that what
is appended again after a kill is there once. One process at a time may change them: whoever holds `sealing_lock`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hindcast.durable import make_directory
from hindcast.errors import SealError
from hindcast.file_lock import locked_within
from hindcast.lookups.directory import WriterId

SMALL_BYTES = 32 << 20
"""A file of less is one of those that are made one, if there are many."""
FILES_MAX = 20
"""Small files of one day before they become one."""
_LOCK_SECONDS = 60.0


@contextlib.contextmanager
def sealing_lock(log_directory: Path, *, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Be the only one who changes the tables of a log.

    Raises:
        SealError: another process does for longer than `seconds`, or the lock cannot be made.
    """
    path = log_directory / "sealing.lock"
    try:
        make_directory(log_directory)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SealError(f"{path} cannot be opened ({error.strerror}); check the rights of its folder") from error
    try:
        try:
            is_ours = locked_within(handle, seconds=seconds)
        except OSError as error:
            raise SealError(f"{path} cannot be locked ({error.strerror}); its disk must have flock") from error
        if not is_ours:
            raise SealError(f"another process seals the lookups of {log_directory}; try again when it is done")
        yield
    finally:
        os.close(handle)


class Step(Protocol):
    """Told before each step that a kill could come before; tests are killed there."""

    def __call__(self, step: str, /) -> None:
        """A step is about to be done."""


def no_step(_step: str, /) -> None:
    """Go on."""


class Change(Protocol):
    """What is done to the rows of each file."""

    def __call__(self, rows: pa.Table, /) -> tuple[pa.Table, int]:
        """The rows as they are to be, and how many were changed; the same rows where that is none."""


class SealedTable(Protocol):
    """Where the rows of one kind go."""

    @property
    def key(self) -> str:
        """What tells it from other tables."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Its columns' types; empty where there is no table yet."""

    @property
    def folds_names(self) -> bool:
        """Whether names that differ by capitals only cannot be two columns."""

    def look_anew(self) -> None:
        """Forget what is known of its content: another process may have changed it."""

    def sealed_through(self, writer: WriterId, day: date) -> int:
        """The last sequence up to which the table has all rows of a writer and a day; 0 if none."""

    def append(self, writer: WriterId, days: Mapping[date, pa.Table], *, last_sequence: int) -> None:
        """Append rows of records up to a sequence, synced when it returns; after a kill, all of a day's rows or none are there.

        A column has the type that `types` has, or a name that is not there (`united`).

        Raises:
            SealError: the disk or the folder's rights do not let it.
        """

    def sync(self) -> None:
        """Make what is there survive a power cut, also what a process wrote that was killed before it did so."""

    def files(self) -> list[Path]:
        """The Parquet files that make up the table now."""

    def snapshot(self) -> "Snapshot":
        """The table as it is now, for a reader."""

    def compact(self) -> None:
        """Make few files of many."""

    def drop_before(self, first_kept: date) -> int:
        """Remove whole days; how many rows that were."""

    def rewrite(self, change: "Change") -> int:
        """Write those files anew whose rows a change changes, and remove the old ones; how many rows it said to have changed.

        A table shows all of it or nothing; in a folder each part is replaced by itself.
        """


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one moment.

    Attributes:
        key: see `SealedTable`.
        service: whose rows it has.
        files: its Parquet files.
        types, sealed_through, folds_names: see `SealedTable`.
        version: of a Delta table; None of a folder, and where there is no table yet.
    """

    key: str
    service: str
    files: Sequence[Path]
    types: Mapping[str, pa.DataType]
    sealed_through: Callable[[WriterId, date], int]
    folds_names: bool = True
    version: int | None = None
