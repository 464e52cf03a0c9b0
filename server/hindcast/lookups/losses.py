"""What is missing in a log that may have been served within a time range. Imports pyarrow, deltalake and duckdb."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hindcast.errors import StoredDataError
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.gap_report import gap_report
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.served_log import Range, files_sql, rows_of_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Records that are not there, of any service: which one they were of nobody knows.

    Attributes:
        lookups: how many; None where nobody knows how far it goes.
        reason: as a gap report has it: `overflow` of `best_effort`, `killed`, …
    """

    writer: WriterId
    first_sequence: int
    lookups: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Life:
    """Sequences of a writer: the last one served before the range, those within it, the first one served behind it."""

    before: int | None
    first: int | None
    last: int | None
    behind: int | None

    def bounds(self) -> tuple[int, int | None]:
        """What lies between may have been served in the range."""
        before = self.before or 0
        low = before if self.first is None else min(before, self.first - 1)
        if self.behind is None:
            return low, None
        return low, self.behind if self.last is None else max(self.behind, self.last + 1)


def losses(connection: duckdb.DuckDBPyConnection, log_directory: Path, during: Range) -> Sequence[Loss]:
    """Gaps of the log between records that were served before a range, in it and behind it; at its edges perhaps more than was in it.

    Args:
        connection: whose time zone is UTC.
    Raises:
        SealError, StoredDataError: the log cannot be read.
    """
    lives = _lives(connection, DeltaLog(TablePlaces(log_directory).of(RECORDS), name=RECORDS).files(), during)
    found: list[Loss] = []
    try:
        reports = gap_report(log_directory)
    except OSError as error:
        raise StoredDataError(f"the log {log_directory} cannot be read ({error.strerror}); check its rights") from error
    for report in reports:
        life = lives.get(report.writer)
        if life is None or (life.first is None and life.behind is None):
            continue  # it wrote nothing then, as far as anybody knows
        low, high = life.bounds()
        for part in report.missing:
            first = max(part.first_sequence, low + 1)
            ends = [end for end in (part.last_sequence, None if high is None else high - 1) if end is not None]
            last = min(ends) if ends else None
            if last is None or first <= last:
                found.append(
                    Loss(
                        writer=report.writer,
                        first_sequence=first,
                        lookups=None if last is None else last - first + 1,
                        reason=part.reason,
                    )
                )
    return found


def _lives(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], during: Range) -> Mapping[WriterId, _Life]:
    if not files:
        return {}
    sql = (
        "SELECT slot, epoch, max(sequence) FILTER (is_before), min(sequence) FILTER (is_within), max(sequence) FILTER (is_within), "  # noqa: S608 - quoted
        "min(sequence) FILTER (is_behind) FROM (SELECT slot, epoch, sequence, "
        f"{during.sql('served_at')} AS is_within, {during.is_before_sql('served_at')} AS is_before, NOT is_within AND NOT is_before AS is_behind "
        f"FROM {files_sql(files)}) GROUP BY slot, epoch"
    )
    return {WriterId(slot, epoch): _Life(*bounds) for slot, epoch, *bounds in rows_of_records(connection, sql)}
