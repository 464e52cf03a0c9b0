"""A table or view of a DuckDB database file, as a source: DuckDB exports it as one Parquet file, once per state of the database.

So its rows have positions, row groups with statistics and columns that can be fetched late, like those of any other file.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb.sqltypes import VARCHAR, DuckDBPyType

from hindcast.durable import make_directory, sync
from hindcast.errors import SourceError, StoreUnavailable
from hindcast.offline.connection import as_interrupts, open_duckdb
from hindcast.offline.sources.source import FilePin, SourceFile, SourceFiles
from hindcast.offline.spill import spill_directory
from hindcast.quoting import quoted_name, quoted_text

_TYPES = frozenset(
    {"boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint", "float"}
    | {"double", "decimal", "varchar", "enum", "blob", "date", "time", "timestamp with time zone"}
    | {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"}
)
"""Those that come out of Parquet as they are. DuckDB writes the others too: HUGEINT as doubles, BIT as text, INTERVAL as bytes."""

_NESTED = frozenset({"list", "struct", "map"})

_TAKEN = frozenset({"memory", "system", "temp"})
"""Names of databases that every DuckDB has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTable:
    """A table or view of a database file.

    Attributes:
        path: of the file, absolute.
        table: `name`, of the schema `main`, or `schema.name`; in any case of letters.
        shown: the path as the repo writes it.
    """

    path: Path
    table: str
    shown: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.table} of {self.shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """What an export may take.

    Attributes:
        memory_bytes: DuckDB's memory limit, about.
        threads: DuckDB's; None for one per core.
        state: the repo's state directory, for exports and what is spilled.
    """

    memory_bytes: int
    threads: int | None
    state: Path


def database_schema(source: DatabaseTable, *, limits: ExportLimits) -> pa.Schema:
    """The columns of a table and their types, as `exported` has them; no row is read.

    Raises:
        SourceError: as `exported`.
    """
    with spill_directory(limits.state / "spill", prefix="export-") as aside:
        with _opened(source, aside, limits) as (connection, query):
            _copy(connection, f"{query} LIMIT 0", aside / "columns.parquet", source)
        return pq.read_schema(aside / "columns.parquet").remove_metadata()


def exported(source: DatabaseTable, *, limits: ExportLimits) -> SourceFiles:
    """A table as it is now, as one Parquet file of the state directory; written if there is none yet of this state of the database.

    While it is written, no other process can open the database for writing. Exports of older states are removed.

    Raises:
        SourceError: there is no such database, or no such table in it; it is open for writing; a view of it cannot be run, or reads
            something else than the database; or a column has a type that Parquet cannot hold.
        StoreUnavailable: the disk did not take the rows.
    """
    known = hashlib.sha256(f"{source.path}\0{source.table}".encode()).hexdigest()[:16]
    folder = limits.state / "exports" / f"{quote(f'{source.path.stem}.{source.table}', safe='')[:80]}-{known}"
    try:
        pin = _pin_of_export(folder, source)
        if pin is None:
            make_directory(folder)
            with _turn(folder):
                pin = _pin_of_export(folder, source) or _export(folder, source, limits)
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {str(folder)!r} did not take the rows of {source.name!r}; check its rights and the space on its disk"
        ) from error
    pin = replace(pin, stands_for=f"{source.shown}:{source.table}")
    return SourceFiles(name=source.name, files=(SourceFile(pin),))


def _pin_of_export(folder: Path, source: DatabaseTable) -> FilePin | None:
    """The export of the database as it is now, if there is one."""
    try:
        return FilePin.of(folder / _export_name(source))
    except FileNotFoundError:
        return None


def _export(folder: Path, source: DatabaseTable, limits: ExportLimits) -> FilePin:
    with spill_directory(limits.state / "spill", prefix="export-") as aside:
        written = aside / "rows.parquet"
        with _opened(source, aside, limits) as (connection, query):
            # As long as it is open here nobody writes to it.
            place = folder / _export_name(source)
            _copy(connection, query, written, source)
        written.chmod(stat.S_IMODE(source.path.stat().st_mode))
        sync(written)
        written.rename(place)
    sync(folder)
    for other in folder.iterdir():
        if other != place:
            other.unlink()
    return FilePin.of(place)


def _export_name(source: DatabaseTable) -> str:
    """Differs for every state of the database, and of its write-ahead log, which a writer that was killed leaves beside it."""
    try:
        if not source.path.is_file():
            raise SourceError(
                f"the database {source.shown!r} does not exist; check the path of the DuckDBSource, or write it first"
            )
        pins = [FilePin.of(source.path)]
    except OSError as error:
        raise SourceError(f"the database {source.shown!r} may not be read; check its rights") from error
    with suppress(FileNotFoundError):
        pins.append(FilePin.of(source.path.with_name(f"{source.path.name}.wal")))
    return f"{hashlib.sha256(repr(pins).encode()).hexdigest()[:32]}.parquet"


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Waits for who writes into a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _opened(
    source: DatabaseTable, aside: Path, limits: ExportLimits
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A DuckDB that has the database open for reading, and the query of the table's rows. It reaches nothing but the database and `aside`."""
    _export_name(source)  # says so where there is no database
    with open_duckdb(memory_limit_bytes=limits.memory_bytes, threads=limits.threads, spill_dir=aside) as connection:
        # Not by a name of our own: the SQL of a view may say the database's.
        catalog = source.path.stem if source.path.stem.lower() not in _TAKEN else "database"
        _attach(connection, source, catalog)
        for setting in (
            "preserve_insertion_order = true",
            # The machine's own zone would decide what a date is.
            "TimeZone = 'UTC'",
            "python_enable_replacements = false",
            f"allowed_directories = [{quoted_text(str(aside))}]",
            # A view of files would change without the database: the export would be an old one.
            "enable_external_access = false",
        ):
            connection.execute(f"SET {setting}")
        relation = _relation(connection, source, catalog)
        yield connection, _query(connection, source, relation)


def _attach(connection: duckdb.DuckDBPyConnection, source: DatabaseTable, catalog: str) -> None:
    try:
        connection.execute(f"ATTACH {quoted_text(str(source.path))} AS {quoted_name(catalog)} (TYPE duckdb, READ_ONLY)")
    except duckdb.Error as error:
        is_here = isinstance(error, duckdb.BinderException)
        if is_here or "Could not set lock" in str(error):
            raise SourceError(
                f"the database {source.shown!r} is open for writing in {'this' if is_here else 'another'} process; close it there and "
                "run again, or name a copy of it as the path of the DuckDBSource"
            ) from error
        raise SourceError(
            f"{source.shown!r} is no database that DuckDB {duckdb.__version__} can read: of another format or version, damaged, or "
            "encrypted; check the path of the DuckDBSource, or write it anew"
        ) from error


def _relation(connection: duckdb.DuckDBPyConnection, source: DatabaseTable, catalog: str) -> str:
    """The table's name in SQL; all three parts of it, since a schema may be called like the database."""
    there = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 "
        "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    names = [(name if schema == "main" else f"{schema}.{name}", schema, name) for schema, name in there]
    asked = source.table.lower()
    found = [(schema, name) for shown, schema, name in names if asked in {shown.lower(), f"{schema}.{name}".lower()}]
    if len(found) > 1:
        raise SourceError(
            f"the database {source.shown!r} has two tables that {source.table!r} can mean; make a view of another name of the right one"
        )
    if not found:
        known = ", ".join(repr(shown) for shown, _, _ in names[:_SHOWN]) or "none"
        raise SourceError(
            f"the database {source.shown!r} has no table or view {source.table!r}, only {known}{', …' if len(names) > _SHOWN else ''}; "
            "check the table of the DuckDBSource"
        )
    return ".".join(map(quoted_name, (catalog, *found[0])))


_SHOWN = 20
"""Names of tables in a message."""


def _query(connection: duckdb.DuckDBPyConnection, source: DatabaseTable, relation: str) -> str:
    """What gives the table's rows in types that come out of Parquet as they are.

    UUIDs become text, as DuckDB gives them to Arrow. Arrays of a fixed length become lists: DuckDB 1.4 writes a null among them so that
    nobody else can read the file.
    """
    with _failures(source):
        rows = connection.sql(f"FROM {relation}")
    casts = []
    for column, kind in zip(rows.columns, rows.types, strict=True):
        form = _kept_as(kind)
        if not _is_kept(form):
            raise SourceError(
                f"column {column!r} of {source.name!r} is {kind}, which Parquet cannot hold; name a view of the table that leaves it out, "
                "or casts it"
            )
        if form != kind:
            casts.append(f"CAST({quoted_name(column)} AS {form}) AS {quoted_name(column)}")
    replaced = f" REPLACE ({', '.join(casts)})" if casts else ""
    return f"SELECT *{replaced} FROM {relation}"  # noqa: S608 - quoted by `_name`, or DuckDB's own word for a type


def _kept_as(kind: DuckDBPyType) -> DuckDBPyType:
    if kind.id == "uuid":
        return VARCHAR
    return duckdb.list_type(_inner(kind)[0]) if kind.id == "array" else kind


def _is_kept(kind: DuckDBPyType) -> bool:
    if kind.id in _NESTED:
        return all(map(_is_kept, _inner(kind)))
    return kind.id in _TYPES


def _inner(kind: DuckDBPyType) -> Sequence[DuckDBPyType]:
    """The types of what a nested one is made of; the length of an array is among its children too."""
    return [child for _, child in kind.children if isinstance(child, DuckDBPyType)]


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path, source: DatabaseTable) -> None:
    with _failures(source):
        connection.execute(f"COPY ({query}) TO {quoted_text(str(path))} (FORMAT parquet)")


@contextmanager
def _failures(source: DatabaseTable) -> Iterator[None]:
    """Turns what DuckDB raises into our own words, and what it makes of a Ctrl-C into that again."""
    try:
        with as_interrupts():
            yield
    except duckdb.PermissionException as error:
        raise SourceError(
            f"the view {source.name!r} reads what is not in its database, whose changes would not be seen; make a table of it, or make the "
            "files a FileSource"
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise SourceError(
            f"{source.name!r} does not fit into memory; raise offline_store.memory_limit_mb, or make a table of the view"
        ) from error
    except duckdb.IOException as error:
        raise StoreUnavailable(
            f"the rows of {source.name!r} could not be written to the state directory; check its rights and the space on its disk"
        ) from error
    except duckdb.Error as error:
        raise SourceError(
            f"{source.name!r} cannot be read: DuckDB has a {type(error).__name__} for it; try it in DuckDB itself, and mend the view"
        ) from error
