"""DuckDB as this room uses it: a connection of its own under a memory limit, Arrow batches as a table, failures in our own words."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from hindcast.errors import SourceError, StoreUnavailable
from hindcast.offline.spill import spill_directory

T = TypeVar("T")

_STREAMED = (
    ("Out of Memory Error", duckdb.OutOfMemoryException),
    ("IO Error", duckdb.IOException),
    ("Conversion Error", duckdb.ConversionException),
)
"""How DuckDB's words begin, in an error that has lost its kind."""


@contextmanager
def open_duckdb(
    *, memory_limit_bytes: int, threads: int | None, spill_dir: Path
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, closed at the end; what it spilled is removed then.

    Raises:
        StoreUnavailable: the directory for what is spilled cannot be made.
    """
    with spill_directory(spill_dir, prefix="duckdb-") as spilled:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit_bytes}B",
            "temp_directory": str(spilled),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if threads is not None:
            options["threads"] = threads
        with duckdb.connect(":memory:", config=options) as connection:
            yield connection


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Turns what DuckDB makes of a Ctrl-C into that again."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


@contextmanager
def duckdb_errors() -> Iterator[None]:
    """Turns a failure of DuckDB into our own words, and what it makes of a Ctrl-C into that again.

    Raises:
        SourceError: what it was to do does not fit into memory.
        StoreUnavailable: the disk did not take what was spilled.
    """
    try:
        with as_interrupts():
            yield
    except duckdb.OutOfMemoryException as error:
        raise SourceError(
            "the rows' keys and times do not fit into memory; raise the memory limit, or give the process more if it may have less than that"
        ) from error
    except duckdb.IOException as error:
        raise StoreUnavailable("the disk did not take what does not fit into memory; check the space on it") from error


@contextmanager
def batches_table(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> Iterator[None]:
    """Batches as a table of the one statement in the block. What the batches raise is raised, not what DuckDB makes of it.

    Raises:
        duckdb.OutOfMemoryException: the statement did not fit into memory.
        StoreUnavailable: the disk did not take what was spilled.
    """
    failures: list[BaseException] = []

    def noted() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except (Exception, KeyboardInterrupt) as error:
            failures.append(error)
            raise

    connection.register(name, pa.RecordBatchReader.from_batches(schema, noted()))
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if failures:
            raise failures[0] from None
        if isinstance(error, duckdb.OutOfMemoryException):
            raise
        with duckdb_errors():
            raise
    finally:
        connection.unregister(name)


def side_by_side(
    tasks: Sequence[Callable[[duckdb.DuckDBPyConnection], T]],
    connection: duckdb.DuckDBPyConnection,
    *,
    sizes: Sequence[float],
    threads: int,
) -> list[T]:
    """Run tasks, `threads` at a time, each on a connection of its own to the same DuckDB, under the same memory limit.

    Args:
        sizes: of the tasks, in any unit: the largest begin first, so that none of them is left to run alone.
    Returns:
        What they return, in their order.
    Raises:
        What one of them raises, once none runs any more; a Ctrl-C ends them too.
    """
    if threads == 1 or len(tasks) == 1:
        return [task(connection) for task in tasks]
    cursors = [connection.cursor() for _ in tasks]
    pool = ThreadPoolExecutor(threads)
    try:
        largest_first = sorted(range(len(tasks)), key=lambda at: -sizes[at])
        running = {at: pool.submit(tasks[at], cursors[at]) for at in largest_first}
        return [running[at].result() for at in range(len(tasks))]
    except BaseException:
        for cursor in cursors:
            cursor.interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for cursor in cursors:
            cursor.close()


def streamed(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of an answer of DuckDB's.

    Raises:
        duckdb.Error: it failed on the way, by its kind; Arrow's reader has an OSError for all kinds.
    """
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except OSError as error:
            said = str(error)
            raise next((kind for first, kind in _STREAMED if said.startswith(first)), duckdb.Error)(said) from error
        yield batch
