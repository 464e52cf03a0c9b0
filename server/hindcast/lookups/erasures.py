"""Which records of a log were touched by an erasure, and by which. Imports pyarrow, deltalake and duckdb."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.record import decode
from hindcast.lookups.served_log import files_sql, rows_of_records


class _OfWriter(msgspec.Struct):
    slot: int
    epoch: int
    first_sequence: int
    last_sequence: int


class _Tombstone(msgspec.Struct):
    writers: list[_OfWriter]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in a log."""

    writer: WriterId
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of records.

    Attributes:
        erased: of which rows were erased, and the numbers of these; None for all.
        dropped: that are in the table no more: they were dropped for their age, or the table is another one.
    """

    erased: Mapping[Place, frozenset[int] | None]
    dropped: frozenset[Place]

    def has_erased(self, place: Place, row: int) -> bool:
        """Whether a row of a record was erased."""
        rows = self.erased.get(place, frozenset())
        return rows is None or row in rows


def fate_of(connection: duckdb.DuckDBPyConnection, log_directory: Path, places: Sequence[Place]) -> Fate:
    """What became of records that were there once; each is read.

    Raises:
        SealError, StoredDataError: the table of all lookups cannot be read.
    """
    files = DeltaLog(TablePlaces(log_directory).of(RECORDS), name=RECORDS).files()
    if not files or not places:
        return Fate(erased={}, dropped=frozenset(places))
    wanted = pa.table(
        {
            "slot": pa.array([place.writer.slot for place in places], pa.int32()),
            "epoch": pa.array([place.writer.epoch for place in places], pa.int64()),
            "sequence": pa.array([place.sequence for place in places], pa.int64()),
        }
    )
    connection.register("__wanted", wanted)
    sql = f"SELECT slot, epoch, sequence, erased, payload FROM {files_sql(files)} SEMI JOIN __wanted USING (slot, epoch, sequence)"  # noqa: S608 - quoted
    try:
        rows = rows_of_records(connection, sql)
    finally:
        connection.unregister("__wanted")
    there: set[Place] = set()
    erased: dict[Place, frozenset[int] | None] = {}
    for slot, epoch, sequence, is_erased, payload in rows:
        place = Place(WriterId(slot, epoch), sequence)
        there.add(place)
        gone = None if is_erased or payload is None else frozenset(decode(payload).erased)
        if gone is None or gone:
            erased[place] = gone
    return Fate(erased=erased, dropped=frozenset(places) - there)


def tombstones_of(log_directory: Path, erased: Iterable[Place]) -> list[str]:
    """The tombstones that may tell of erased records, by their paths in the log's directory; the earliest first."""
    places = list(erased)
    found = []
    for path in sorted((log_directory / "tombstones").glob("*.json")):
        try:
            told = msgspec.json.decode(path.read_bytes(), type=_Tombstone)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue
        ranges = [(WriterId(of.slot, of.epoch), of.first_sequence, of.last_sequence) for of in told.writers]
        if any(
            place.writer == writer and first <= place.sequence <= last
            for place in places
            for writer, first, last in ranges
        ):
            found.append(f"tombstones/{path.name}")
    return found
