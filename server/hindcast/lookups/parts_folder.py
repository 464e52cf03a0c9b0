"""Sealed lookups as Parquet parts in a folder, where Feast is to read them. Imports pyarrow."""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hindcast.durable import exchange, make_directory, sync
from hindcast.errors import SealError
from hindcast.lookups.columns import dated
from hindcast.lookups.directory import WriterId
from hindcast.lookups.parquet import write_parquet
from hindcast.lookups.places import digest
from hindcast.lookups.tables import FILES_MAX, SMALL_BYTES, Change, Snapshot, Step, no_step

_UNFINISHED = ".new"
_TRIES = 5
"""A part that is gone was compacted away, dropped or removed by its owner; there are others then."""
_PART = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)-(?P<slot>\d{4,5})-(?P<epoch>[0-9a-f]{16})-(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})-(?P<service>[0-9a-f]{8})\.parquet"
)


class PartsFolder:
    """A folder of Parquet parts, which Feast's own file source reads as they are: no part is there that does not count.

    A part's name says whose records it has, of which day, and from which sequence to which. It appears with all of its rows, by one
    rename. There are no folders for days: pyarrow, and so Feast, passes over names that begin with `__log_date`.
    """

    folds_names = False
    """Feast asks for its columns by their exact names."""

    def __init__(self, path: Path, *, service: str, step: Step = no_step) -> None:
        self.path = path
        self._name = service
        self._service = digest(service)
        self._step = step
        self._schemas: dict[_Part, pa.Schema] = {}

    @property
    def key(self) -> str:
        """See `SealedTable`."""
        return f"{self.path}:{self._service}"

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """See `SealedTable`; those of all parts, of which each has some."""
        return self._types_of(self._parts())

    def look_anew(self) -> None:
        """See `SealedTable`; nothing that can change is kept."""

    def sealed_through(self, writer: WriterId, day: date) -> int:
        """See `SealedTable`."""
        return _last_of(self._parts(), writer, day)

    def append(self, writer: WriterId, days: Mapping[date, pa.Table], *, last_sequence: int) -> None:
        """See `SealedTable`."""
        try:
            make_directory(self.path)
            for day, rows in days.items():
                part = _Part(day, writer, pc.min(rows.column("hc_sequence")).as_py(), last_sequence, self._service)
                self._step("write")
                _place(dated(rows, day), self.path / str(part), step=self._step)
            self._step("sync")
            sync(self.path)
        except OSError as error:
            raise SealError(
                f"{self.path} cannot be written ({error.strerror}); check the rights of the folder and the space on its disk. The "
                "lookups stay in their segments"
            ) from error

    def sync(self) -> None:
        """See `SealedTable`."""
        if self.path.is_dir():
            sync(self.path)

    def files(self) -> list[Path]:
        """See `SealedTable`."""
        return [self.path / str(part) for part in self._parts()]

    def snapshot(self) -> Snapshot:
        """See `SealedTable`."""
        parts, types = self._parts_and_types()
        files = [self.path / str(part) for part in parts]
        return Snapshot(
            self.key,
            self._name,
            files,
            types,
            lambda writer, day: _last_of(parts, writer, day),
            self.folds_names,
        )

    def compact(self) -> None:
        """See `SealedTable`. The folder is exchanged for one with fewer parts, so that no reader sees a row twice."""
        self._remove_aside()
        small: dict[date, list[_Part]] = {}
        for part in self._parts():
            with contextlib.suppress(FileNotFoundError):
                if (self.path / str(part)).stat().st_size < SMALL_BYTES:
                    small.setdefault(part.day, []).append(part)
        crowded = {
            day: parts for day, parts in small.items() if len(parts) > FILES_MAX + len({part.writer for part in parts})
        }
        if crowded:
            self._compact(crowded)

    def drop_before(self, first_kept: date) -> int:
        """See `SealedTable`. What others have written there stays."""
        dropped = 0
        for part in self._parts():
            if part.day < first_kept:
                path = self.path / str(part)
                dropped += pq.read_metadata(path).num_rows
                self._step("drop")
                path.unlink()
        if dropped:
            sync(self.path)
        return dropped

    def rewrite(self, change: Change) -> int:
        """See `SealedTable`. A part stays, without rows too: its name says what was sealed."""
        self._remove_unfinished()
        changed = 0
        for path in self.files():
            with pq.ParquetFile(path) as file:
                rows, count = change(file.read())
            if count:
                changed += count
                _place(rows, path, step=self._step)
        if changed:
            sync(self.path)
        return changed

    def _compact(self, crowded: Mapping[date, Sequence["_Part"]]) -> None:
        aside = self._aside
        aside.mkdir()
        merged = {str(part) for parts in crowded.values() for part in parts}
        known = {path.name for path in self.path.iterdir()}
        for name in known - merged:
            if not name.startswith(".") and (self.path / name).is_file():
                os.link(self.path / name, aside / name)
        for day, parts in crowded.items():
            for writer in sorted({part.writer for part in parts}):
                of_writer = sorted((part for part in parts if part.writer == writer), key=lambda part: part.first)
                tables = [pq.read_table(self.path / str(part), partitioning=None) for part in of_writer]
                into = _Part(day, writer, of_writer[0].first, of_writer[-1].last, self._service)
                write_parquet(pa.concat_tables(tables, promote_options="default"), aside / str(into))
                sync(aside / str(into))
        sync(aside)
        self._step("exchange")
        exchange(self.path, aside)
        sync(self.path.parent)
        self._step("exchanged")
        for path in aside.iterdir():
            # Folders, and what others have put there in this moment.
            if path.name not in known or path.is_dir():
                path.rename(self.path / path.name)
        self._remove_aside()

    def _remove_aside(self) -> None:
        if self._aside.exists():
            # Killed between the exchange and the end: what others had put there is not in the folder yet.
            for path in self._aside.iterdir():
                if path.is_dir() or (_Part.parse(path.name) is None and not (self.path / path.name).exists()):
                    path.rename(self.path / path.name)
            shutil.rmtree(self._aside)

    def _remove_unfinished(self) -> None:
        """Remove what a process was writing when it was killed: nobody reads it, and it has rows all the same."""
        self._remove_aside()
        for path in self.path.glob(f".*{_UNFINISHED}"):
            part = _Part.parse(path.name.removeprefix(".").removesuffix(_UNFINISHED))
            if part is not None and part.service == self._service:
                path.unlink()

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f".{self.path.name}-{self._service}.compacting")

    def _parts(self) -> list["_Part"]:
        try:
            names = sorted(path.name for path in self.path.iterdir())
        except FileNotFoundError:
            return []
        parts = [_Part.parse(name) for name in names]
        return [part for part in parts if part is not None and part.service == self._service]

    def _parts_and_types(self) -> tuple[list["_Part"], Mapping[str, pa.DataType]]:
        for _ in range(_TRIES - 1):
            parts = self._parts()
            with contextlib.suppress(FileNotFoundError):
                return parts, self._types_of(parts)
        parts = self._parts()
        return parts, self._types_of(parts)

    def _types_of(self, parts: Sequence["_Part"]) -> Mapping[str, pa.DataType]:
        # A part that is there does not change its columns.
        self._schemas = {part: self._schemas.get(part) or pq.read_schema(self.path / str(part)) for part in parts}
        return {field.name: field.type for schema in self._schemas.values() for field in schema}


def _last_of(parts: Sequence["_Part"], writer: WriterId, day: date) -> int:
    return max((part.last for part in parts if part.writer == writer and part.day == day), default=0)


@dataclass(frozen=True, slots=True)
class _Part:
    """What the name of a part says."""

    day: date
    writer: WriterId
    first: int
    last: int
    service: str

    def __str__(self) -> str:
        return f"{self.day.isoformat()}-{self.writer}-{self.first:016x}-{self.last:016x}-{self.service}.parquet"

    @classmethod
    def parse(cls, name: str) -> "_Part | None":
        match = _PART.fullmatch(name)
        if match is None:
            return None
        writer = WriterId(int(match["slot"]), int(match["epoch"], 16))
        first, last = (int(match[word], 16) for word in ("first", "last"))
        return cls(date.fromisoformat(match["day"]), writer, first, last, match["service"])


def _place(rows: pa.Table, path: Path, *, step: Step) -> None:
    """Put a file where it belongs, synced, in one step."""
    aside = path.with_name(f".{path.name}{_UNFINISHED}")
    write_parquet(rows, aside)
    sync(aside)
    step("rename")
    aside.replace(path)
