"""The table of all lookups, read for a page of a list. Imports pyarrow, and no deltalake.

The log of the table says when the lookups of each file were served, the file's footer the same of each group of rows. They are read
newest first, one group at a time, until nothing that is left can be on the page; of a group first what decides, then the rest of the
rows that will be on it. The records themselves are not read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.rpc import code_pb2

from hindcast.errors import StoredDataError
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Matching, Page, Position, Summary, Tick
from hindcast.lookups.record import Rpc
from hindcast.lookups.record_rows import status_name
from hindcast.lookups.request_ids import rows_with
from hindcast.lookups.table_files import TableFile, table_files

_TRIES = 5
"""A file that is gone was compacted away, dropped or rewritten; the table has others then."""
_DECIDING = ["lookup_id", "served_at", "erased"]
_TOLD = [
    *("rpc", "request_id", "tags", "service", "refs", "mode", "status", "reason", "catalog_version", "stored_rows"),
    *("slot", "epoch", "sequence"),
]


def offer_sealed(log_directory: Path, page: Page, *, tick: Tick) -> list[Path]:
    """Offer a page all of the table that may belong on it.

    Args:
        tick: called for each group that is read.
    Returns:
        What cannot be read; the rest was.
    """
    table = TablePlaces(log_directory).of(RECORDS)
    reading = _Reading(log_directory, page, tick)
    for attempt in range(1, _TRIES + 1):
        try:
            files = table_files(table)
        except StoredDataError:
            return [table / "_delta_log"]
        if reading.all_of(files, is_last=attempt == _TRIES):
            break
    return reading.damaged


class _Group(NamedTuple):
    """A group of rows of a file, and when they were served; None where its statistics are missing.

    Attributes:
        rows: those in it that can match; None for all.
    """

    number: int
    first_micros: int | None
    last_micros: int | None
    rows: list[int] | None


class _Reading:
    """One way through the table for one page.

    Attributes:
        damaged: files that cannot be read.
    """

    def __init__(self, log_directory: Path, page: Page, tick: Tick) -> None:
        self.damaged: list[Path] = []
        self._log_directory, self._page, self._tick = log_directory, page, tick
        self._done: set[Path] = set()
        self._equals = _equals(page.wanted)

    def all_of(self, files: list[TableFile], *, is_last: bool) -> bool:
        """Read what matters of a table's files; false where one of them is gone, and the table may have others by now.

        Args:
            is_last: what is gone counts as damaged, and the rest is read.
        """
        for file in sorted(files, key=lambda file: _newest_last(file.last_micros), reverse=True):
            if file.path in self._done or not self._page.may_hold_any(file.first_micros, file.last_micros):
                continue
            self._tick()
            try:
                self._file(file.path)
            except FileNotFoundError:
                if not is_last:
                    return False
                self.damaged.append(file.path)
            except (OSError, ValueError, pa.ArrowException):
                self.damaged.append(file.path)
            self._done.add(file.path)
        return True

    def _file(self, path: Path) -> None:
        rows = None
        request_id = self._page.wanted.request_id
        if request_id:
            rows = rows_with(self._log_directory, path, request_id)
            if rows is not None and not rows:
                return
        with pq.ParquetFile(path) as file:
            groups = sorted(self._groups(file, rows), key=lambda group: _newest_last(group.last_micros), reverse=True)
            for group in groups:
                if self._page.may_hold_any(group.first_micros, group.last_micros):
                    self._tick()
                    self._group(file, group)

    def _groups(self, file: pq.ParquetFile, rows: Sequence[int] | None) -> Iterator[_Group]:
        """Those that can have a row that matches."""
        names = file.schema_arrow.names
        begins = 0
        for number in range(file.metadata.num_row_groups):
            metadata = file.metadata.row_group(number)
            ends = begins + metadata.num_rows
            of_group = None if rows is None else sorted(row - begins for row in rows if begins <= row < ends)
            begins = ends
            if of_group is not None and not of_group:
                continue

            def bounds(name: str, metadata: pq.RowGroupMetaData = metadata) -> tuple[Any, Any] | None:
                statistics = metadata.column(names.index(name)).statistics
                return None if statistics is None or not statistics.has_min_max else (statistics.min, statistics.max)

            if all(
                (found := bounds(name)) is None or found[0] <= value <= found[1] for name, value in self._equals.items()
            ):
                served = metadata.column(names.index("served_at")).statistics
                has_bounds = served is not None and served.has_min_max
                first, last = (served.min_raw, served.max_raw) if has_bounds else (None, None)
                yield _Group(number, first, last, of_group)

    def _group(self, file: pq.ParquetFile, group: _Group) -> None:
        wanted = self._page.wanted
        filters = [*self._equals, *(["status"] if wanted.codes else []), *(["tags"] if wanted.tags else [])]
        deciding = file.read_row_group(group.number, columns=[*_DECIDING, *filters], use_threads=False)
        if group.rows is not None:
            deciding = deciding.take(group.rows)
        mask = pc.invert(deciding.column("erased"))
        for name, value in self._equals.items():
            mask = pc.and_(mask, pc.equal(deciding.column(name), value))
        if wanted.codes:
            names = pa.array(sorted(map(status_name, wanted.codes)), pa.string())
            mask = pc.and_(mask, pc.is_in(deciding.column("status"), value_set=names))
        found = pc.indices_nonzero(mask)
        if not len(found):
            return
        rows = deciding.select(["lookup_id", "served_at", *(["tags"] if wanted.tags else [])]).take(found)
        ids, served = rows.column(0).to_pylist(), rows.column(1).cast(pa.int64()).to_pylist()
        places = found.to_pylist() if group.rows is None else [group.rows[at] for at in found.to_pylist()]
        near: dict[Position, int] = {}
        tags = rows.column(2).to_pylist() if wanted.tags else [""] * len(ids)
        for lookup_id, micros, text, place in zip(ids, served, tags, places, strict=True):
            position = Position(micros, UUID(lookup_id).bytes)
            if self._page.may_hold(position) and _has_tags(text, wanted.tags):
                near[position] = place
        newest = dict(sorted(near.items(), reverse=True)[: self._page.limit])
        if newest:
            told = file.read_row_group(group.number, columns=_TOLD, use_threads=False)
            rows_told = told.take(list(newest.values())).to_pylist()
            for position, row in zip(newest, rows_told, strict=True):
                self._page.put(_summary(position, row))


def _newest_last(micros: int | None) -> float:
    """To sort by; what says nothing of its time may be the newest."""
    return float("inf") if micros is None else micros


def _equals(wanted: Matching) -> dict[str, str]:
    equals = {"request_id": wanted.request_id, "service": wanted.service_shown}
    return {name: value for name, value in equals.items() if value is not None}


def _has_tags(text: str, wanted: Mapping[str, str]) -> bool:
    return not wanted or wanted.items() <= json.loads(text).items()


def _summary(position: Position, row: Mapping[str, Any]) -> Summary:
    return Summary(
        lookup_id=position.lookup_id,
        served_at_micros=position.served_at_micros,
        rpc=Rpc(row["rpc"]),
        request_id=row["request_id"],
        tags=json.loads(row["tags"]),
        service=row["service"],
        refs=tuple(row["refs"]),
        mode=row["mode"],
        code=_code(row["status"]),
        reason=row["reason"],
        catalog_version=row["catalog_version"],
        entity_rows=row["stored_rows"],
        writer=WriterId(row["slot"], row["epoch"]),
        sequence=row["sequence"],
    )


def _code(status: str) -> int:
    """What `status_name` was made of."""
    numbers = code_pb2.Code.DESCRIPTOR.values_by_name
    return int(numbers[status].number) if status in numbers else int(status)
