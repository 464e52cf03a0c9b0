"""What a log's tables have of one feature service over a time range, cut off at one moment. Imports pyarrow, deltalake and duckdb.

The cut is a sequence for each writer: up to there the table of all lookups has its records, and so has the service's, which is written
first. Tables are compacted, and files that were are gone after a day, so that a version of a table cannot be read again for ever; but of rows
that were not erased or dropped it is known for ever which were in it, by their writers and sequences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from hindcast.clock import from_micros
from hindcast.errors import InvalidArgument, StoredDataError
from hindcast.lookups.batch import Definitions
from hindcast.lookups.columns import column_of, plain_type, same_type
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.gather import arrow_type
from hindcast.lookups.logging_schema import LOG_DATE, LOG_TIMESTAMP, FeatureColumn, ServiceSchema
from hindcast.lookups.parts_folder import PartsFolder
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import SHOWN_MAX
from hindcast.lookups.tables import SealedTable, Snapshot
from hindcast.quoting import quoted_name, quoted_text

_SQL_TYPES: Mapping[pa.DataType, str] = {
    pa.binary(): "BLOB",
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}
_WIDER: Mapping[frozenset[pa.DataType], pa.DataType] = {
    frozenset({pa.int32(), pa.int64()}): pa.int64(),
    frozenset({pa.float32(), pa.float64()}): pa.float64(),
    frozenset({pa.int32(), pa.float64()}): pa.float64(),
    frozenset({pa.int32(), pa.float32()}): pa.float64(),
    frozenset({pa.int32(), pa.float32(), pa.float64()}): pa.float64(),
}
"""Types that hold every value of several."""
HEADS = ("served_at", "lookup_id", "lookup_row", "slot", "epoch", "sequence", "request_id")
"""The first columns of `ServedLog.rows_sql`."""
_FAILED_WITHIN_MICROS = 3_600_000_000
"""A failure that stands behind an answer is served when the call ends: at its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """When lookups were served.

    Attributes:
        since_micros: the first that counts; None for all.
        until_micros: the first that does not.
    """

    since_micros: int | None
    until_micros: int

    def sql(self, column: str, *, more_micros: int = 0) -> str:
        """A condition on a column of instants."""
        last = f"{column} < {_instant(self.until_micros + more_micros)}"
        return last if self.since_micros is None else f"{column} >= {_instant(self.since_micros)} AND {last}"

    def is_before_sql(self, column: str) -> str:
        """The condition for what was served before."""
        return "false" if self.since_micros is None else f"{column} < {_instant(self.since_micros)}"

    def has_day(self, day: str, *, more_micros: int = 0) -> bool:
        """Whether any of it is in a day, written as the folders of tables are called."""
        first = "" if self.since_micros is None else _day(self.since_micros)
        return first <= day <= _day(self.until_micros + more_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogued:
    """Rows that were answered from one catalog.

    Attributes:
        schema: of the service in it.
        sample_rate: the share of the service's lookups that was logged, by keys; lookups with a miss were logged all the same.
    """

    version: str
    schema: ServiceSchema
    sample_rate: float
    rows: int
    first_micros: int
    last_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTable:
    """A table of the log as it was read.

    Attributes:
        version: of a Delta table; None of a folder of parts.
        files: those that may have rows of the range.
        types: of all its columns.
    """

    path: Path
    version: int | None
    files: tuple[Path, ...]
    types: Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Lookups of the service in the range, by what became of them.

    Attributes:
        answered, failed, erased: lookups.
        modes: log mode -> lookups.
    """

    answered: int
    failed: int
    erased: int
    modes: Mapping[str, int]


class ServedLog:
    """What a service served.

    Attributes:
        through: writer -> the last sequence that counts; of other writers nothing does.
        tables: the service's own.
        records: that of all lookups.
        catalogs: of the rows, by when they were last in force; the newest last.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        log_directory: Path,
        service: str,
        during: Range,
        *,
        through: Mapping[WriterId, int] | None = None,
        versions: Sequence[str] | None = None,
    ) -> None:
        """Look at the tables as they are now.

        Args:
            connection: whose time zone is UTC; a table `__through` is made in it.
            through, versions: the cut of an earlier look, and the catalogs that it found, the newest last; None for all that is sealed now.
        Raises:
            SealError: a table cannot be read.
            StoredDataError: a file of one is gone.
        """
        self.service, self.during = service, during
        self._connection = connection
        places = TablePlaces(log_directory)
        # First: what this one has, the service's tables have.
        records = DeltaLog(places.of(RECORDS), name=RECORDS).snapshot()
        self.records = _table(places.of(RECORDS), records, during, more_micros=_FAILED_WITHIN_MICROS)
        found: list[tuple[Path, SealedTable]] = [(places.of(service), DeltaLog(places.of(service), name=service))]
        found += [
            (Path(one.path), PartsFolder(Path(one.path), service=service))
            for one in places.destinations()
            if one.service == service
        ]
        tables = [_table(path, table.snapshot(), during) for path, table in found]
        self.tables = tuple(table for table in tables if table.types)
        self.through = self._cut(records) if through is None else dict(through)
        self._keep_cut()
        self.catalogs = self._catalogs(Definitions(log_directory), versions)
        self._columns = {id(table): self._names(table) for table in self.tables}

    def _cut(self, records: Snapshot) -> dict[WriterId, int]:
        if not self.records.files:
            return {}
        sql = (
            f"SELECT DISTINCT slot, epoch FROM {files_sql(self.records.files)} "  # noqa: S608 - quoted
            f"WHERE service = {quoted_text(self.service[:SHOWN_MAX])} AND {self.during.sql('served_at')} ORDER BY slot, epoch"
        )
        writers = [WriterId(slot, epoch) for slot, epoch in self._read(sql)]
        return {writer: records.sealed_through(writer, date.min) for writer in writers}

    def _keep_cut(self) -> None:
        self._connection.execute("CREATE OR REPLACE TEMP TABLE __through (slot INTEGER, epoch BIGINT, last BIGINT)")
        if self.through:
            cut = [(writer.slot, writer.epoch, last) for writer, last in self.through.items()]
            self._connection.executemany("INSERT INTO __through VALUES (?, ?, ?)", cut)

    def _catalogs(self, definitions: Definitions, versions: Sequence[str] | None) -> tuple[Catalogued, ...]:
        by_version: dict[str, tuple[int, int, int]] = {}
        for table in self.tables:
            if not table.files:
                continue
            sql = (
                "SELECT hc_catalog_version, count(*), "  # noqa: S608 - quoted
                f"epoch_us(min({LOG_TIMESTAMP})), epoch_us(max({LOG_TIMESTAMP})) "
                f"FROM {files_sql(table.files)} JOIN __through ON {_CUT} "
                f"WHERE {self.during.sql(LOG_TIMESTAMP)} GROUP BY 1"
            )
            for version, rows, first, last in self._read(sql):
                old = by_version.get(version, (0, first, last))
                by_version[version] = (old[0] + rows, min(old[1], first), max(old[2], last))
        if versions is None:
            versions = sorted(by_version, key=lambda version: (by_version[version][2], version))
        found = []
        for version in versions:
            # Of one that was found before all rows may be gone.
            rows, first, last = by_version.get(version, (0, self.during.until_micros, self.during.until_micros))
            schema, catalog = definitions.schema(version, self.service), definitions.catalog(version)
            if schema is None or catalog is None:
                raise StoredDataError(
                    f"the definitions {version} that the log's rows of {self.service!r} were answered from are not kept beside it any more; "
                    "restore the folder catalogs of the log"
                )
            logging = catalog.services[self.service].logging
            found.append(
                Catalogued(
                    version=version,
                    schema=schema,
                    sample_rate=1.0 if logging is None else logging.sample_rate,
                    rows=rows,
                    first_micros=first,
                    last_micros=last,
                )
            )
        return tuple(found)

    def counts(self) -> Counts:
        """Lookups of the service in the range."""
        answered = failed = erased = 0
        modes: dict[str, int] = {}
        if self.records.files:
            of_service = f"{self._records_sql()} AND {self.during.sql('served_at')}"
            sql = f"SELECT mode, status = 'OK', erased, count(*) FROM {of_service} GROUP BY 1, 2, 3 ORDER BY 1"  # noqa: S608 - quoted
            for mode, is_answer, is_erased, count in self._read(sql):
                modes[mode] = modes.get(mode, 0) + count
                erased += count if is_erased else 0
                answered += count if is_answer and not is_erased else 0
                failed += 0 if is_answer or is_erased else count
            # An answer that was refused has a record of each kind.
            sql = f"SELECT count(*) FROM {of_service} AND status = 'OK' AND lookup_id IN ({self._failures_sql()})"  # noqa: S608 - quoted
            ((refused,),) = self._read(sql)
            answered -= refused
        return Counts(answered=answered, failed=failed, erased=erased, modes=modes)

    @property
    def features(self) -> tuple[FeatureColumn, ...]:
        """Those that the rows have: the newest definitions' in their order, then those that only older ones had."""
        found: dict[str, FeatureColumn] = {}
        for one in reversed(self.catalogs):
            for feature in one.schema.features:
                found.setdefault(feature.name, feature)
        return tuple(found.values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Join keys and request data that callers sent, the newest definitions' first."""
        return tuple(dict.fromkeys(name for one in reversed(self.catalogs) for name in one.schema.inputs))

    def lacks(self, name: str) -> bool:
        """Whether any of the rows was answered without a feature."""
        return any(all(feature.name != name for feature in one.schema.features) for one in self.catalogs)

    def type_of(self, name: str) -> pa.DataType:
        """The type of an input, or of a feature by its column's name: what it was in all of the range.

        Raises:
            InvalidArgument: it was of several, and none of them holds the values of all.
        """
        kinds: dict[pa.DataType, str] = {}
        for one in self.catalogs:
            types = {feature.name: feature.value_type for feature in one.schema.features} | dict(one.schema.inputs)
            if name in types:
                kinds.setdefault(arrow_type(types[name]), one.version)
        if len(kinds) == 1:
            return next(iter(kinds))
        wider = _WIDER.get(frozenset(kinds))
        if wider is None:
            said = ", then ".join(
                f"{kind} from {from_micros(self._first(version)):%Y-%m-%d %H:%M}" for kind, version in kinds.items()
            )
            raise InvalidArgument.at(
                name,
                f"was {said} in this time, and a column has one type; give --since or --until between the two, or features without it",
            )
        return wider

    def _first(self, version: str) -> int:
        return next(one.first_micros for one in self.catalogs if one.version == version)

    def rows_sql(self, columns: Mapping[str, tuple[str, pa.DataType]]) -> str:
        """A query for the rows of the range that were answered, in no order: `HEADS`, and then the columns.

        Args:
            columns: what each is to be called -> its name in the log, and its type; null where a table lacks it.
        """
        selects = []
        for table in self.tables:
            if table.files:
                picked = "".join(
                    f", {self._value(table, name, kind)} AS {quoted_name(called)}"
                    for called, (name, kind) in columns.items()
                )
                selects.append(
                    f"SELECT {LOG_TIMESTAMP} AS served_at, hc_lookup_id AS lookup_id, hc_row AS lookup_row, hc_slot AS slot, "  # noqa: S608 - quoted
                    f"hc_epoch AS epoch, hc_sequence AS sequence, hc_request_id AS request_id{picked} "
                    f"FROM {files_sql(table.files)} JOIN __through ON {_CUT} WHERE {self.during.sql(LOG_TIMESTAMP)}"
                )
        if not selects:
            nulls = "".join(
                f", NULL::{sql_type(kind)} AS {quoted_name(called)}" for called, (_, kind) in columns.items()
            )
            return (
                "SELECT NULL::TIMESTAMPTZ AS served_at, '' AS lookup_id, 0 AS lookup_row, 0 AS slot, 0::BIGINT AS epoch, "
                f"0::BIGINT AS sequence, '' AS request_id{nulls} WHERE false"
            )
        return f"SELECT * FROM ({' UNION ALL '.join(selects)}) served {self._refused()}"  # noqa: S608 - quoted

    def _refused(self) -> str:
        """An answer that could not be made durable did not reach its caller, who was told the failure that stands behind it."""
        return f"ANTI JOIN ({self._failures_sql()}) USING (lookup_id)" if self.records.files else ""

    def _failures_sql(self) -> str:
        during = self.during.sql("served_at", more_micros=_FAILED_WITHIN_MICROS)
        return f"SELECT lookup_id FROM {self._records_sql()} AND status <> 'OK' AND {during}"  # noqa: S608 - quoted

    def _records_sql(self) -> str:
        cut = "r.slot = t.slot AND r.epoch = t.epoch AND r.sequence <= t.last"
        return f"{files_sql(self.records.files)} r JOIN __through t ON {cut} WHERE service = {quoted_text(self.service[:SHOWN_MAX])}"

    def _names(self, table: LogTable) -> frozenset[str]:
        """The columns that are in the files of the range; one that came later is in none of them."""
        if not table.files:
            return frozenset()
        return frozenset(name for name, *_ in self._read(f"DESCRIBE SELECT * FROM {files_sql(table.files)}"))  # noqa: S608 - quoted

    def _value(self, table: LogTable, name: str, kind: pa.DataType) -> str:
        """The column of a name, whatever it is called in a table: a type that changed has a column of its own."""
        exact = {feature.name for feature in self.features} | set(self.inputs)
        there = [
            column
            for column in table.types
            if column in self._columns[id(table)]
            and (column == name or (column_of(column) == name and column not in exact))
        ]
        values = [
            quoted_name(column)
            if same_type(table.types[column], kind)
            else f"CAST({quoted_name(column)} AS {sql_type(kind)})"
            for column in there
            if same_type(table.types[column], kind) or kind in _WIDER.values()
        ]
        if not values:
            return f"NULL::{sql_type(kind)}"
        return values[0] if len(values) == 1 else f"COALESCE({', '.join(values)})"

    def _read(self, sql: str) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._connection.execute(sql).fetchall()
        except duckdb.IOException as error:
            raise StoredDataError(
                f"the lookups of {self.service!r} cannot be read; they may have been compacted at this moment, so try once more"
            ) from error


_CUT = "hc_slot = __through.slot AND hc_epoch = __through.epoch AND hc_sequence <= __through.last"


def _table(path: Path, snapshot: Snapshot, during: Range, *, more_micros: int = 0) -> LogTable:
    files = tuple(sorted(file for file in snapshot.files if during.has_day(_day_of(file), more_micros=more_micros)))
    types = {name: plain_type(kind) for name, kind in snapshot.types.items()}
    return LogTable(path=path, version=snapshot.version, files=files, types=types)


def _day_of(file: Path) -> str:
    """The day of a table's file: its folder says it, or in a folder of parts its name."""
    name, equals, day = file.parent.name.partition("=")
    return day if equals and name == LOG_DATE else file.name[: len("2026-11-01")]


def _day(micros: int) -> str:
    return from_micros(micros).date().isoformat()


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's word for a type of the log's columns."""
    return f"{sql_type(kind.value_type)}[]" if pa.types.is_list(kind) else _SQL_TYPES[kind]


def _instant(micros: int) -> str:
    return f"TIMESTAMPTZ '{from_micros(micros).isoformat()}'"


def rows_of_records(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple]:  # type: ignore[type-arg]
    """What a query over the files of the table of all lookups answers.

    Raises:
        StoredDataError: one of them is not there any more.
    """
    try:
        return connection.execute(sql).fetchall()
    except duckdb.IOException as error:
        raise StoredDataError(
            "the table of all lookups cannot be read; it may have been compacted at this moment, so try once more"
        ) from error


def files_sql(files: Sequence[Path]) -> str:
    """Rows of Parquet files, by the names of their columns, as a part of a query."""
    listed = ", ".join(quoted_text(str(path)) for path in files)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
