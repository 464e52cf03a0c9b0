"""DuckDB's part: of the candidates, the position of the newest row of each key, in a table on the connection."""

from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from hindcast.errors import SourceError
from hindcast.offline.connection import batches_table, duckdb_errors, streamed
from hindcast.offline.winners.candidates import Candidates, Counts
from hindcast.offline.winners.order import Packing

_POSITIONS = 65_536
"""Read at once."""
_KEY_BYTES = 320
"""Of DuckDB's limit, for each key of one pass: it held 160 for a whole number, and a hash table doubles while it grows."""
_PASSES_MAX = 4_096
_UNCOUNTED_TIMES = 4
"""Keys of so many times the limit, if each row had its own, are not counted (30 ms for 1,000,000 rows): few sources have one row a key,
and where one has, DuckDB spills what does not fit."""


def find_newest(candidates: Candidates, connection: duckdb.DuckDBPyConnection, *, limit_bytes: int) -> Counts:
    """Make the table `winners`: the `position` of the newest candidate of each key.

    Each pass over the candidates takes a part of the keys, as many as fit into the limit.

    Raises:
        SourceError: a file is damaged, or the limit is too small for any part.
        StoreUnavailable: the disk did not take what was spilled.
    """
    keys = [f"k{at}" for at in range(len(candidates.keys))]
    with duckdb_errors():
        connection.execute("CREATE TEMP TABLE winners (position BIGINT)")
        passes = _passes(candidates, connection, keys, limit_bytes=limit_bytes)
    parts = [(number, passes) for number in range(passes)]
    counts = Counts()
    while parts:
        number, of = parts.pop()
        counts = Counts()
        try:
            _run(
                connection,
                _insertion(candidates.packing, keys, number, of),
                candidates.schema,
                candidates.batches(counts),
            )
        except duckdb.OutOfMemoryException as error:
            # Keys longer than most. This part becomes two; those before it are done.
            if not keys or of >= _PASSES_MAX:
                raise SourceError(
                    f"the join keys do not fit into {limit_bytes} bytes of memory; raise the engine's memory limit"
                ) from error
            parts += [(number, 2 * of), (number + of, 2 * of)]
    return counts


def count_newest(connection: duckdb.DuckDBPyConnection) -> int:
    """How many there are in `winners`."""
    with duckdb_errors():
        found = connection.execute("SELECT count(*) FROM winners").fetchone()
    return found[0] if found else 0


def newest_positions(connection: duckdb.DuckDBPyConnection) -> Iterator[np.ndarray]:
    """The positions in `winners`, ascending, some at a time."""
    with duckdb_errors():
        found = connection.execute("SELECT position FROM winners ORDER BY position")
        for some in streamed(found.fetch_record_batch(_POSITIONS)):
            yield some.column(0).to_numpy()


def _passes(
    candidates: Candidates, connection: duckdb.DuckDBPyConnection, keys: Sequence[str], *, limit_bytes: int
) -> int:
    """In how many parts the keys fit into memory; they are counted, nearly, where rows alone do not tell."""
    rows = sum(group.rows for group in candidates.groups)
    if not keys or rows * _KEY_BYTES <= _UNCOUNTED_TIMES * limit_bytes:
        return 1
    statement = f"SELECT approx_count_distinct(hash({', '.join(keys)})) FROM candidates"  # noqa: S608 - names of ours
    (distinct,) = _run(connection, statement, candidates.key_schema, candidates.key_batches())[0]
    return min(max(-(-distinct * _KEY_BYTES // limit_bytes), 1), _PASSES_MAX)


def _insertion(packing: Packing | None, keys: Sequence[str], number: int, of: int) -> str:
    # Not the position out of max(o): DuckDB casts a decimal to a whole number in 0.4 us, more than all the rest takes.
    newest = "arg_max(p, o)" if packing is not None else "arg_max(p, {'e': e, 'c': c, 'p': p})"
    part = f"WHERE hash({', '.join(keys)}) % {of} = {number}" if of > 1 else ""
    grouping = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    return f"INSERT INTO winners SELECT {newest} FROM candidates {part} {grouping}"  # noqa: S608 - names of ours


def _run(
    connection: duckdb.DuckDBPyConnection, statement: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> list[tuple[int, ...]]:
    """A statement over batches, which it sees as the table `candidates`."""
    with batches_table(connection, "candidates", schema, batches):
        return list(connection.execute(statement).fetchall())
