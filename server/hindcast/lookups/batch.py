"""A batch: records of one writer, and the rows that they have for the tables of their feature services. Imports pyarrow."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from hindcast.catalog import Catalog
from hindcast.errors import StoredDataError
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.columns import plain_schema, united
from hindcast.lookups.directory import WriterId
from hindcast.lookups.heads import Common, Entry, row_count
from hindcast.lookups.list_rows import ListRows
from hindcast.lookups.logging_schema import ServiceSchema, service_schema
from hindcast.lookups.places import AD_HOC, RECORDS
from hindcast.lookups.plain import Frames
from hindcast.lookups.record import EARLIEST_MICROS, END_MICROS, ID_BYTES, decode
from hindcast.lookups.record_rows import RecordRows
from hindcast.lookups.service_rows import ServiceRows, read_answer

_DAY_MICROS = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CHUNK_BYTES = 24 << 20
"""Of records whose values are held as they were sent. Each chunk costs some milliseconds, and twice its size until it is an Arrow table."""


class Definitions:
    """The definitions that records were answered from, as they are kept beside the log."""

    def __init__(self, log_directory: Path) -> None:
        self._root = log_directory
        self._catalogs: dict[str, Catalog | None] = {}
        self._schemas: dict[tuple[str, str], ServiceSchema | None] = {}

    def schema(self, version: str, service: str) -> ServiceSchema | None:
        """The schema of a feature service; None for a list of references, and where the catalog is not kept or has no such service."""
        if not service:
            return None
        key = (version, service)
        if self._schemas.get(key) is None:
            catalog = self.catalog(version)
            self._schemas[key] = None if catalog is None else service_schema(catalog, service)
        return self._schemas[key]

    def catalog(self, version: str) -> Catalog | None:
        """The catalog of a version; None where it is not kept, or damaged."""
        if self._catalogs.get(version) is None:
            try:
                self._catalogs[version] = kept_catalog(self._root, version)
            except StoredDataError:
                self._catalogs[version] = None
        return self._catalogs[version]


class Known(Protocol):
    """What a batch needs to know of a table."""

    @property
    def key(self) -> str:
        """What tells it from other tables."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Its columns' types."""

    @property
    def folds_names(self) -> bool:
        """Whether names that differ by capitals only cannot be two columns."""

    @property
    def sealed_through(self) -> Callable[[WriterId, date], int]:
        """The last sequence up to which it has a writer's rows of a day."""


T = TypeVar("T", bound=Known)


class _Rows(Protocol):
    @property
    def rows(self) -> int: ...

    payload_bytes: int

    def take(self) -> pa.Table: ...


R = TypeVar("R", bound=_Rows)


class Batch(Generic[T]):
    """Rows of one writer's records for several tables."""

    def __init__(
        self, writer: WriterId, table_for: Callable[[str, Catalog | None], T], definitions: Definitions
    ) -> None:
        self._writer = writer
        self._table_for = table_for
        self._definitions = definitions
        self._common = Common(writer)
        self._services: dict[tuple[str, str], _Service[T] | None] = {}
        self._by_kind: list[_Service[T] | None] = []
        self._lists = _Target(AD_HOC, lambda: table_for(AD_HOC, None), writer, lambda: ListRows(self._common))
        self._records = _Target(RECORDS, lambda: table_for(RECORDS, None), writer, lambda: RecordRows(self._common))
        self.entity_rows = 0

    def add(self, sequence: int, payload: bytes) -> None:
        """Add a lookup, and what it was answered: in the long form where no definitions are there to tell its columns' types.

        Raises:
            StoredDataError: this is no record, or one of a newer version; nothing was added.
        """
        reader = self._common.reader
        kind = reader.read(payload)
        if kind < 0:
            self._add_decoded(sequence, payload)
            return
        day, rows = reader.served_at_micros // _DAY_MICROS, max(0, reader.stored_rows)
        if reader.has_answer:
            service = self._of_kind(kind)
            answers = None if service is None else service.target.rows_for(day, sequence)
            rows = -1 if answers is None else answers.add_plain(sequence, len(payload))
            if rows < 0:
                self._add_decoded(sequence, payload)
                return
        self.entity_rows += rows
        records = self._records.rows_for(day, sequence)
        if records is not None:
            records.add_plain(sequence, len(payload), entity_rows=rows)

    def add_frames(self, frames: Frames) -> None:
        """As `add`, of all records of a segment."""
        at = 0
        while at < frames.count:
            added = self._add_run(frames, at)
            if not added:
                self.add(frames.first_sequence + at, frames.payload(at))
            at += added or 1

    def take(self) -> list[tuple[T, str, dict[date, pa.Table]]]:
        """The tables that were named, each with its service and its rows of each day; none of what is there already."""
        by_table: dict[str, tuple[T, str, dict[date, list[pa.Table]]]] = {}
        targets: list[_Target[T, Any]] = [one.target for one in self._services.values() if one is not None]
        for target in (*targets, self._lists, self._records):
            if not target.is_used:
                continue
            _, _, days = by_table.setdefault(target.table.key, (target.table, target.name, {}))
            for day, tables in target.take().items():
                days.setdefault(day, []).extend(tables)
        return [(table, service, _by_day(days, table)) for table, service, days in by_table.values()]

    def _add_run(self, frames: Frames, at: int) -> int:
        """Add records that are alike, without coming back here for each; how many, 0 where the first one has to be looked at by `add`."""
        reader, sequence = self._common.reader, frames.first_sequence + at
        kind = reader.read_frame(frames, at)
        service = self._of_kind(kind) if kind >= 0 and reader.has_answer else None
        if service is None:
            return 0
        day = reader.served_at_micros // _DAY_MICROS
        answers, records = service.target.rows_for(day, sequence), self._records.rows_for(day, sequence)
        if answers is None or records is None:
            return 0
        added, rows = answers.add_run(frames, at, records, payload_bytes_max=_CHUNK_BYTES)
        self.entity_rows += rows
        return added

    def _add_decoded(self, sequence: int, payload: bytes) -> None:
        """As `add`, by the messages of the record."""
        entry = Entry(sequence, payload, decode(payload))
        record = entry.record
        if len(record.lookup_id) != ID_BYTES or not EARLIEST_MICROS <= record.served_at_micros < END_MICROS:
            raise StoredDataError(
                "a record of the lookup log is damaged: it has no id of 16 bytes, or is of no year from 1 to 9999"
            )
        day, rows = record.served_at_micros // _DAY_MICROS, row_count(record)
        if record.response:
            service = self._service(record.catalog_version, record.service)
            answer = None if service is None else read_answer(entry, service.schema)
            if service is not None and answer is not None:
                rows = answer.rows
                answers = service.target.rows_for(day, sequence)
                if answers is not None:
                    answers.add(answer)
            else:
                lists = self._lists.rows_for(day, sequence)
                if lists is not None:
                    lists.add(entry)
        self.entity_rows += rows
        records = self._records.rows_for(day, sequence)
        if records is not None:
            records.add(entry, entity_rows=rows)

    def _of_kind(self, kind: int) -> "_Service[T] | None":
        if kind < len(self._by_kind):
            return self._by_kind[kind]
        for one in self._common.kinds()[len(self._by_kind) :]:
            self._by_kind.append(self._service(one.catalog_version, one.service))
        return self._by_kind[kind]

    def _service(self, version: str, name: str) -> "_Service[T] | None":
        key = (version, name)
        if key not in self._services:
            schema, catalog = self._definitions.schema(version, name), self._definitions.catalog(version)
            self._services[key] = None if schema is None else _Service(schema, self._table_for, catalog, self._common)
        return self._services[key]


def _by_day(days: Mapping[date, Sequence[pa.Table]], table: Known) -> dict[date, pa.Table]:
    """The rows of each day in one table, with columns that agree with each other and with those of `table`."""
    known, united_days = dict(table.types), {}
    for day, tables in sorted(days.items()):
        united_days[day] = united(tables, known, folds_names=table.folds_names)
        known |= {field.name: field.type for field in plain_schema(united_days[day].schema)}
    return united_days


class _Target(Generic[T, R]):
    """Rows for one table, of one schema."""

    def __init__(self, name: str, table_for: Callable[[], T], writer: WriterId, begin: Callable[[], R]) -> None:
        self.name = name
        self._table_for = table_for
        self._table: T | None = None
        self._writer = writer
        self._begin = begin
        self._through: dict[int, int] = {}
        self._building: dict[int, R] = {}
        self._built: dict[int, list[pa.Table]] = {}

    @property
    def is_used(self) -> bool:
        """Whether anything was to be put there, also if it was there already."""
        return self._table is not None

    @property
    def table(self) -> T:
        """Where the rows go."""
        if self._table is None:
            self._table = self._table_for()
        return self._table

    def rows_for(self, day: int, sequence: int) -> R | None:
        """What the rows of a record are added to, which was served so many days after 1970; None if the table has them."""
        if day not in self._through:
            self._through[day] = self.table.sealed_through(self._writer, _date_of(day))
        if sequence <= self._through[day]:
            return None
        rows = self._building.get(day)
        if rows is not None and rows.payload_bytes >= _CHUNK_BYTES:
            self._finish(day)
            rows = None
        if rows is None:
            rows = self._building[day] = self._begin()
        return rows

    def take(self) -> dict[date, list[pa.Table]]:
        """What was added, by day."""
        for day in list(self._building):
            self._finish(day)
        built, self._built = self._built, {}
        return {_date_of(day): tables for day, tables in built.items()}

    def _finish(self, day: int) -> None:
        building = self._building.pop(day)
        if building.rows:
            self._built.setdefault(day, []).append(building.take())


class _Service(Generic[T]):
    """A feature service, as one catalog has it."""

    def __init__(
        self,
        schema: ServiceSchema,
        table_for: Callable[[str, Catalog | None], T],
        catalog: Catalog | None,
        common: Common,
    ) -> None:
        self.schema = schema
        self.target = _Target(
            schema.service,
            lambda: table_for(schema.service, catalog),
            common.writer,
            lambda: ServiceRows(schema, common),
        )


@lru_cache(maxsize=64)
def _date_of(day: int) -> date:
    return date.fromordinal(_EPOCH_DAY + day)
