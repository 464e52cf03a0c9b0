"""Finding one lookup in the table of all lookups. Imports pyarrow, and no deltalake: it reads the table's files as they are.

That is right for one lookup: a file that was compacted away, or never committed, has true records all the same.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import WriterId
from hindcast.lookups.logging_schema import LOG_DATE
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.record import LookupRecord, decode

_LATE = timedelta(minutes=10)
"""A lookup is served after its id was made: at its deadline at the latest, and clocks are set back now and then."""
_BOUNDS = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4})-([0-9a-f]{8}-[0-9a-f]{4})-\d{4,5}-.*")
_TIME_DIGITS = 13


class SealedRecord(NamedTuple):
    """A record, and where it stood in the log."""

    writer: WriterId
    sequence: int
    record: LookupRecord


def find_sealed(log_directory: Path, lookup_id: bytes) -> LookupRecord | None:
    """The record of a lookup, by the 16 bytes of its id; None where no sealed one has it, or it was erased.

    Only files of the id's day are looked into, and of these only those whose ids go around its time.

    Raises:
        StoredDataError: a file cannot be read.
    """
    found = find_sealed_record(log_directory, lookup_id)
    return None if found is None else found.record


def find_sealed_record(log_directory: Path, lookup_id: bytes) -> SealedRecord | None:
    """As `find_sealed`, with the place in the log."""
    text = str(UUID(bytes=lookup_id))
    for path in _likely_files(TablePlaces(log_directory).of(RECORDS), text):
        try:
            found = _find_in(path, text)
        except FileNotFoundError:
            continue  # compacted away; the file with its rows is among the others, or was made since
        except (OSError, pa.ArrowException) as error:
            raise StoredDataError(f"{path} cannot be read; restore it from a copy") from error
        if found is not None:
            return found
    return None


def _likely_files(table: Path, lookup_id: str) -> Iterator[Path]:
    begun = datetime.fromtimestamp(int(lookup_id[:8] + lookup_id[9:13], 16) / 1000, UTC)
    for day in sorted({(begun + shift).date() for shift in (-_LATE, timedelta(), _LATE)}):
        # Twice: while a day's files are compacted, the new one can be missed.
        seen: set[Path] = set()
        for _ in range(2):
            paths: list[Path] = []
            with contextlib.suppress(FileNotFoundError):
                paths = sorted((table / f"{LOG_DATE}={day.isoformat()}").iterdir())
            new = [path for path in paths if path.suffix == ".parquet" and path not in seen]
            seen.update(new)
            yield from (path for path in new if _may_have(path.name, lookup_id))


def _may_have(name: str, lookup_id: str) -> bool:
    bounds = _BOUNDS.fullmatch(name)
    return bounds is None or bounds[1] <= lookup_id[:_TIME_DIGITS] <= bounds[2]


def _find_in(path: Path, lookup_id: str) -> SealedRecord | None:
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("lookup_id")
        for number in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(number).column(column).statistics
            if statistics is not None and statistics.has_min_max and not statistics.min <= lookup_id <= statistics.max:
                continue
            ids = file.read_row_group(number, columns=["lookup_id"]).column(0).to_pylist()
            if lookup_id not in ids:
                continue
            # Of two records the later is what its caller saw: an answer that could not be made durable, and then the failure.
            at = len(ids) - 1 - ids[::-1].index(lookup_id)
            rows = (
                file.read_row_group(number, columns=["slot", "epoch", "sequence", "payload"]).slice(at, 1).to_pylist()
            )
            payload = rows[0]["payload"]
            if payload is None:
                return None
            return SealedRecord(WriterId(rows[0]["slot"], rows[0]["epoch"]), rows[0]["sequence"], decode(payload))
    return None
