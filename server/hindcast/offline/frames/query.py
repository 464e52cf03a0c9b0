"""Entity frames as SQL text, which a DuckDB of their own answers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from hindcast.errors import InvalidArgument
from hindcast.offline.connection import as_interrupts, streamed
from hindcast.offline.frames.bounds import bounded, bounded_memory, check_shape
from hindcast.offline.frames.held import READ_ROWS, SpooledRows
from hindcast.quoting import quoted_text

_ADVICE = (
    (
        duckdb.PermissionException,
        "is SQL that reads something else than callers may: the repo's file sources, and the directories that the server was told of",
    ),
    (
        duckdb.ParserException,
        "is no SQL that DuckDB can parse; for a file give a path that ends in .parquet, or a directory that exists",
    ),
    (
        duckdb.BinderException,
        "is SQL that names a column that is not there, or applies something to a type that it does not fit",
    ),
    (
        duckdb.CatalogException,
        "is SQL that names a table or function that is not there; it sees files, as in SELECT * FROM 'labels.parquet', and nothing else",
    ),
    (
        duckdb.OutOfMemoryException,
        "is SQL that needs more memory than it may have; raise the memory limit, or write the frame to a Parquet file first",
    ),
    (
        duckdb.IOException,
        "is SQL that reads a file that is not there or cannot be read, or the disk is full; relative paths begin at {repo_root}",
    ),
    (
        duckdb.ConversionException,
        "is SQL that casts a value to a type that it does not fit; TRY_CAST makes such a value null",
    ),
    (duckdb.Error, "is SQL that failed while it ran; run it in DuckDB by itself"),
)
"""What to do about a failure, by its kind. DuckDB's own words are the cause of the error, not part of it."""


_LOOK_SECONDS = 0.2
_SPARE_BYTES = 2**30
"""For what DuckDB does not count: the rows that it answers, as Arrow has them. 8,192 texts of 400 kB made a process of 11 GB under a memory limit of 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfinedQuery:
    """SQL text of somebody who may read some files of this machine, and no others.

    Attributes:
        files, directories: that it may read, each as an absolute path; those in the repo may be named from there.
        bytes_max: of its rows, as Arrow has them.
        look: called from another thread, five times a second while the query runs; what it raises ends the query.
    """

    text: str
    files: Sequence[Path]
    directories: Sequence[Path]
    bytes_max: int
    look: Callable[[], None]

    def confine(self, connection: duckdb.DuckDBPyConnection, *, repo_root: Path) -> None:
        """Let a connection read these files and nothing else, for as long as it is open."""
        # DuckDB compares a relative path with what is allowed before it looks for the file, and the absolute one after that.
        for setting, paths in (("allowed_paths", self.files), ("allowed_directories", self.directories)):
            within = [
                path.relative_to(repo_root) for path in paths if path.is_relative_to(repo_root) and path != repo_root
            ]
            listed = ", ".join(quoted_text(str(path)) for path in (*paths, *within))
            connection.execute(f"SET {setting} = [{listed}]")
        # What a sort or a join sets aside would fill the disk.
        connection.execute(f"SET max_temp_directory_size = '{self.bytes_max}B'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")


def spooled_query(
    query: str | ConfinedQuery, *, spilled: Path, repo_root: Path, memory_bytes: int, threads: int | None
) -> SpooledRows:
    """What a query answers, in its order, set aside in the directory `spilled`.

    The query may read files, relative paths from the repo, and nothing else: it is one SELECT, and sees no tables and no variables. Its session is in UTC.

    Raises:
        InvalidArgument: it is no such query, or it failed.
        StoreUnavailable: the disk did not take the rows.
    """
    with _connection(spilled, repo_root=repo_root, memory_bytes=memory_bytes, threads=threads) as connection:
        if isinstance(query, ConfinedQuery):
            query.confine(connection, repo_root=repo_root.absolute())
        with _failures(repo_root):
            statements = connection.extract_statements(query if isinstance(query, str) else query.text)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise InvalidArgument.at(
                "entity_df", "is SQL, but not one SELECT; an entity frame is what a single query answers"
            )
        with ExitStack() as stack:
            if isinstance(query, ConfinedQuery):
                stack.enter_context(bounded_memory(memory_bytes + _SPARE_BYTES))
                stack.enter_context(_looked_after(connection, query.look))
            with _failures(repo_root):
                reader = connection.execute(statements[0]).fetch_record_batch(READ_ROWS)
            batches = _read(reader, repo_root)
            if isinstance(query, ConfinedQuery):
                check_shape(reader.schema)
                batches = bounded(batches, query.bytes_max, what="the SQL answers")
            return _spooled(reader.schema, batches, spilled)


def _spooled(schema: pa.Schema, batches: Iterator[pa.RecordBatch], spilled: Path) -> SpooledRows:
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument.at(
            "entity_df", f"is SQL that answers two columns of the name {twice!r}; rename one with AS"
        )
    return SpooledRows.of(batches, schema.remove_metadata(), spilled / "rows.arrow")


@contextmanager
def _looked_after(connection: duckdb.DuckDBPyConnection, look: Callable[[], None]) -> Iterator[None]:
    """Ends what the connection runs when `look` raises, and raises that: a query may run for hours before its first row, and then answer no end of them."""
    done = threading.Event()
    raised: list[Exception] = []

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            try:
                look()
            except Exception as error:  # noqa: BLE001 - raised again below
                raised.append(error)
                # Again and again: an interrupt that comes between two steps of the query is forgotten.
                while not done.wait(0.1):
                    connection.interrupt()

    thread = threading.Thread(target=watch, name="hindcast-query", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if raised:
            raise raised[0] from error
        raise
    finally:
        done.set()
        thread.join()


@contextmanager
def _connection(
    spilled: Path, *, repo_root: Path, memory_bytes: int, threads: int | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_bytes}B",
        "temp_directory": str(spilled / "sql"),
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        options["threads"] = threads
    with duckdb.connect(":memory:", config=options) as connection:
        # The machine's own zone would decide what a date is.
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET file_search_path = {quoted_text(str(repo_root.absolute()))}")
        yield connection


def _read(reader: pa.RecordBatchReader, repo_root: Path) -> Iterator[pa.RecordBatch]:
    with _failures(repo_root):
        yield from streamed(reader)


@contextmanager
def _failures(repo_root: Path) -> Iterator[None]:
    try:
        with as_interrupts():
            yield
    except duckdb.Error as error:
        advice = next(advice for kind, advice in _ADVICE if isinstance(error, kind))
        raise InvalidArgument.at("entity_df", advice.format(repo_root=repr(str(repo_root)))) from error
