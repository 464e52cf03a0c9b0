"""Finding one lookup in the table of all lookups. Imports pyarrow, and no deltalake."""

import re
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.record import LookupRecord, decode
from hindcast.lookups.table_files import TableFile, table_files
from hindcast.settings import LogMode

_LATE_MICROS = 600_000_000
"""A lookup is served after its id was made: at its deadline at the latest, and clocks are set back now and then."""
_TRIES = 5
"""A file that is gone was compacted away, dropped or rewritten; the table has others then."""
_BOUNDS = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4})-([0-9a-f]{8}-[0-9a-f]{4})-\d{4,5}-.*")
_TIME_DIGITS = 13


class SealedRecord(NamedTuple):
    """A record, and where it stood in the log."""

    writer: WriterId
    sequence: int
    record: LookupRecord


def find_sealed(log_directory: Path, lookup_id: bytes) -> SealedRecord | None:
    """The record of a lookup, by the 16 bytes of its id; None where no sealed one has it, or it was erased.

    Only files whose lookups were served about the id's time are looked into, and of these only those whose ids go around it.

    Raises:
        StoredDataError: a file, or the table's log, cannot be read.
    """
    text = str(UUID(bytes=lookup_id))
    table = TablePlaces(log_directory).of(RECORDS)
    for _ in range(_TRIES - 1):
        try:
            return _last_in(table_files(table), text)
        except FileNotFoundError:
            continue
    try:
        return _last_in(table_files(table), text)
    except FileNotFoundError as error:
        raise _unreadable(table) from error


def _last_in(files: list[TableFile], lookup_id: str) -> SealedRecord | None:
    """The last record of a lookup.

    Raises:
        FileNotFoundError: a file is gone.
        StoredDataError: a file cannot be read.
    """
    last = None
    for path in sorted(file.path for file in files if _may_have(file, lookup_id)):
        try:
            found = _find_in(path, lookup_id)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path) from error
        if found is not None and (last is None or found.sequence > last.sequence):
            last = found
        # Only an answer that could not be made durable has a second record, the failure, which can be in a later file.
        if found is not None and (found.record.code or found.record.mode != LogMode.DURABLE):
            break
    return last


def _unreadable(path: Path) -> StoredDataError:
    return StoredDataError(f"{path} cannot be read; restore it from a copy")


def _may_have(file: TableFile, lookup_id: str) -> bool:
    begun_micros = int(lookup_id[:8] + lookup_id[9:13], 16) * 1000
    if file.last_micros is not None and file.last_micros < begun_micros - _LATE_MICROS:
        return False
    if file.first_micros is not None and file.first_micros > begun_micros + _LATE_MICROS:
        return False
    bounds = _BOUNDS.fullmatch(file.path.name)
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
