"""Queries over all lookups, sealed or not: DuckDB over the tables' files and the segments. Imports duckdb, pyarrow, deltalake.

Nothing is locked. Segments are opened first, then the tables are looked at, and of a segment's records those are left out that its
table has by then; so a record that is sealed meanwhile counts once.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from hindcast.catalog import Catalog
from hindcast.errors import InvalidArgument, SealError, StoredDataError
from hindcast.lookups.batch import Batch, Definitions
from hindcast.lookups.columns import dated
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import OPEN, SEALED, LogDirectory, SegmentName
from hindcast.lookups.disk import REAL_DISK
from hindcast.lookups.logging_schema import LOG_DATE
from hindcast.lookups.parts_folder import PartsFolder
from hindcast.lookups.places import AD_HOC, RECORDS, TablePlaces, destination_of
from hindcast.lookups.refused import Refused
from hindcast.lookups.sealer import all_tables, segment_names
from hindcast.lookups.segment import Record, RecoveryMode, scan
from hindcast.lookups.tables import Snapshot
from hindcast.quoting import quoted_name, quoted_text

_TRIES = 5
"""Files may be compacted away, dropped or rewritten while a query begins; there are others then."""
LOOKUPS, LISTS = "lookups", "ad_hoc"
_COLUMNS = (
    *("lookup_id", "request_id", "served_at", "service", "refs", "status", "reason", "message", "entity_rows"),
    *("catalog_version", "tags", "rpc", "mode", "slot", "epoch", "sequence", "erased"),
)
_EMPTY_LOOKUPS = pa.schema(
    [
        *((name, pa.string()) for name in ("lookup_id", "request_id", "service", "status", "reason", "message")),
        *((name, pa.string()) for name in ("catalog_version", "tags", "rpc", "mode")),
        ("served_at", pa.timestamp("us", tz="UTC")),
        ("refs", pa.list_(pa.string())),
        ("entity_rows", pa.int32()),
        ("slot", pa.int32()),
        ("epoch", pa.int64()),
        ("sequence", pa.int64()),
        ("erased", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave.

    Attributes:
        columns: their names.
        rows: of Python's own values.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def query(log_directory: Path, sql: str, *, repo_root: Path | None = None) -> Answer:
    """Run one SELECT over the view `lookups`, a view per feature service, and `ad_hoc`.

    The query can read nothing else of this machine, and change nothing.

    Args:
        repo_root: what relative destinations of feature services begin at.
    Raises:
        InvalidArgument: the query is no single SELECT, or DuckDB refuses it.
        SealError: the log cannot be read.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(SealError):
            return _answer(log_directory, sql, repo_root)
    return _answer(log_directory, sql, repo_root)


def _answer(log_directory: Path, sql: str, repo_root: Path | None) -> Answer:
    connection = duckdb.connect(config={"threads": 2, "autoinstall_known_extensions": False})
    with contextlib.closing(connection):
        connection.execute("SET TimeZone = 'UTC'")
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise InvalidArgument.at("SQL", _first_lines(error)) from error
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise InvalidArgument.at("SQL", "is not one SELECT; nothing else can be run over the log of lookups")
        try:
            sources = _sources(log_directory, repo_root)
            views = _define(connection, sources)
        except (OSError, duckdb.Error) as error:
            raise _gone(log_directory) from error
        try:
            cursor = connection.execute(statements[0])
            return Answer([column[0] for column in cursor.description or ()], cursor.fetchall())
        except duckdb.Error as error:
            if not all(file.exists() for source in sources for file in source.files):
                raise _gone(log_directory) from error
            raise InvalidArgument.at("SQL", _first_lines(error, views)) from error


def _gone(log_directory: Path) -> SealError:
    return SealError(
        f"the lookups of {log_directory} cannot be read; they may have been compacted at this moment, so try once more"
    )


def _first_lines(error: duckdb.Error, views: Sequence[str] = ()) -> str:
    lines = str(error).strip().split("\n\n")[0]
    if not isinstance(error, duckdb.CatalogException) or " Table with name " not in lines:
        return lines
    # What DuckDB asks about instead is a table of its own.
    there = ", ".join(map(quoted_name, views))
    return f"{lines.partition(chr(10))[0]} There are {there}; a feature service is there, and so is ad_hoc, from its first lookup on"


def _define(connection: duckdb.DuckDBPyConnection, sources: Sequence["_Source"]) -> Sequence[str]:
    """Make the views, and shut everything else out; the views' names."""
    views: dict[str, list[str]] = {}
    paths: list[str] = []
    for at, source in enumerate(sources):
        selects = views.setdefault(_view_name(source.service, views), [])
        if source.files:
            listed = ", ".join(quoted_text(str(path)) for path in source.files)
            paths += map(str, source.files)
            options = "union_by_name = true, hive_partitioning = false"
            if source.files[0].parent.name.startswith(f"{LOG_DATE}="):
                options = f"union_by_name = true, hive_partitioning = true, hive_types = {{'{LOG_DATE}': DATE}}"
            selects.append(f"SELECT * FROM read_parquet([{listed}], {options})")  # noqa: S608 - quoted
        for number, rows in enumerate(source.rows):
            connection.register(f"__rows_{at}_{number}", rows)
            selects.append(f"SELECT * FROM __rows_{at}_{number}")  # noqa: S608 - numbers
    connection.register("__no_rows", _EMPTY_LOOKUPS.empty_table())
    records = " UNION ALL BY NAME ".join(["SELECT * FROM __no_rows", *views.pop(RECORDS, [])])
    columns = ", ".join(_COLUMNS)
    connection.execute(f'CREATE VIEW "{LOOKUPS}" AS SELECT {columns} FROM ({records})')  # noqa: S608 - names of ours
    if paths:
        connection.execute(f"SET allowed_paths = [{', '.join(map(quoted_text, paths))}]")
    connection.execute("SET enable_external_access = false")
    for name, selects in views.items():
        if selects:
            union = " UNION ALL BY NAME ".join(selects)
            connection.execute(
                f"CREATE VIEW {quoted_name(name)} AS SELECT hc_lookup_id AS lookup_id, * FROM ({union})"  # noqa: S608 - quoted
            )
    connection.execute("SET lock_configuration = true")
    return [LOOKUPS, *(name for name, selects in views.items() if selects)]


def _view_name(service: str, taken: Mapping[str, object]) -> str:
    """A service's own name; where that is one of ours, or differs from another one by capitals only, with a word behind it."""
    name = {AD_HOC: LISTS, RECORDS: RECORDS}.get(service, service)
    others = {other.casefold() for other in taken if other != name} | ({LOOKUPS, LISTS} if name == service else set())
    while name.casefold() in others:
        name += " (service)"
    return name


@dataclass(slots=True)
class _Source:
    """What is known of one table: its files, and rows that it does not have yet."""

    service: str
    files: Sequence[Path]
    rows: list[pa.Table]


def _sources(log_directory: Path, repo_root: Path | None) -> list[_Source]:
    places = TablePlaces(log_directory)
    with contextlib.ExitStack() as opened:
        segments = [
            (name, file)
            for name in segment_names(LogDirectory(log_directory))
            if (file := _opened(LogDirectory(log_directory), name, opened)) is not None
        ]
        snapshots = {table.key: table.snapshot() for table in all_tables(places)}

        def snapshot_for(service: str, catalog: Catalog | None) -> Snapshot:
            logged = catalog.services[service].logging if catalog is not None and service in catalog.services else None
            place = destination_of(logged, repo_root=repo_root)
            if place is not None:
                table: PartsFolder | DeltaLog = PartsFolder(place, service=service)
            else:
                table = DeltaLog(places.of(service), name=service)
            # One that is not there had no rows of what was opened before.
            empty = Snapshot(table.key, service, (), {}, lambda _writer, _day: 0, table.folds_names)
            return snapshots.setdefault(table.key, empty)

        rows: dict[str, list[pa.Table]] = {}
        definitions = Definitions(log_directory)
        refused = Refused.told(LogDirectory(log_directory), disk=REAL_DISK)
        for name, file in segments:
            batch = Batch(name.writer, snapshot_for, definitions)
            for record in _records(name, file):
                with contextlib.suppress(StoredDataError):
                    if not refused.has_payload(name.writer, record.sequence, record.payload):
                        batch.add(record.sequence, record.payload)
            for snapshot, _, days in batch.take():
                for day, of_day in days.items():
                    # The records themselves are no part of any view, and in a form that DuckDB does not filter.
                    shown = of_day.drop_columns("payload") if snapshot.service == RECORDS else of_day
                    rows.setdefault(snapshot.key, []).append(dated(shown, day))
    return [
        _Source(snapshot.service, snapshot.files, rows.get(snapshot.key, []))
        for snapshot in sorted(snapshots.values(), key=lambda snapshot: snapshot.service)
    ]


def _opened(directory: LogDirectory, name: SegmentName, stack: contextlib.ExitStack) -> BinaryIO | None:
    """A segment's file; None if it was sealed into tables in between."""
    for suffix in (name.suffix, SEALED if name.suffix == OPEN else OPEN):
        with contextlib.suppress(FileNotFoundError):
            path = directory.segment(SegmentName(name.writer, name.first_sequence, suffix))
            return stack.enter_context(path.open("rb"))
    return None


def _records(name: SegmentName, file: BinaryIO) -> Sequence[Record]:
    try:
        return scan(file.read(), sealed=name.suffix == SEALED, mode=RecoveryMode.SALVAGE).records
    except StoredDataError:
        return []  # of a newer version
