"""Erasure: a person's rows leave sealed tables, and with them the records of the lookups that asked for the person.

Whatever is closed is sealed first, and a segment that a living writer has open is waited for: so nothing has to be taken out of
segments, and the rows of other people stay. A lookup's row in the table of all lookups stays too, with its sequence and counts and
without its record, so that what was logged can be told from what was lost.
"""

import base64
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError

from hindcast.clock import Clock, system_clock
from hindcast.durable import make_directory, sync
from hindcast.errors import SealError, StoredDataError
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.directory import OPEN, LogDirectory, SegmentName
from hindcast.lookups.places import AD_HOC, RECORDS, TablePlaces
from hindcast.lookups.record import decode
from hindcast.lookups.request_ids import keep_indexes
from hindcast.lookups.rows import plain_value, sent
from hindcast.lookups.sealer import Sealer, all_tables, segment_names
from hindcast.lookups.segment import RecoveryMode, scan
from hindcast.lookups.tables import Step, no_step, sealing_lock

_LOOK_SECONDS = 1.0


class _OfWriter(msgspec.Struct):
    """What was erased of one writer's lookups."""

    slot: int
    epoch: int
    first_sequence: int
    last_sequence: int
    first_served_micros: int
    last_served_micros: int
    lookups: int = 0


class _Tombstone(msgspec.Struct):
    """What an erasure leaves: counts, and where they were. Nothing that says whose rows they were."""

    erased_at_micros: int
    lookups: int
    entity_rows: int
    writers: list[_OfWriter]


@dataclass(slots=True)
class Erased:
    """What was erased.

    Attributes:
        lookups: whose records are gone.
        entity_rows: rows of feature services, and values of lists of references.
        left: segments that could not be searched, and why.
        tombstone: what was written of it; None where nothing was erased.
    """

    lookups: int = 0
    entity_rows: int = 0
    left: list[str] = field(default_factory=list)
    tombstone: Path | None = None


def erase(
    log_directory: Path,
    *,
    key: str,
    value: str,
    repo_root: Path | None = None,
    wait_seconds: float = 90.0,
    clock: Clock = system_clock,
    step: Step = no_step,
) -> Erased:
    """Erase all rows that were asked for with this value of a join key, under its aliases and its entity's name too.

    Killed on the way it leaves less or nothing to do for the next one, whose tombstone tells of what that one erased.

    Args:
        value: as text; of bytes, base64.
        wait_seconds: for writers to close the segments that have such rows, which they do after a minute.
    Raises:
        SealError: a table cannot be read or written, or open segments had such rows for too long; run it again then.
    """
    places = TablePlaces(log_directory)
    person = _Person(_names_of(log_directory, key), value)
    erased = Erased()
    deadline = time.monotonic() + wait_seconds
    while True:
        sealing = Sealer(log_directory, repo_root=repo_root, clock=clock, step=step).seal()
        waiting = [
            name
            for name in segment_names(LogDirectory(log_directory))
            if name.suffix == OPEN and person.is_in(log_directory, name)
        ]
        if not waiting:
            break
        if time.monotonic() > deadline:
            raise SealError(
                f"{len(waiting)} open segments have rows to erase, and their writers have not closed them (the first is {waiting[0]}); "
                "nothing was erased yet, so run it again in a minute"
            )
        time.sleep(min(_LOOK_SECONDS, wait_seconds))
    damaged = LogDirectory(log_directory).damaged
    erased.left = [*sealing.left, *(f"damaged/{path.name}" for path in sorted(damaged.glob("*")))]
    with sealing_lock(log_directory):
        for table in all_tables(places, step=step):
            if table.key != str(places.of(RECORDS)):
                change = person.without_values if table.key == str(places.of(AD_HOC)) else person.without_rows
                erased.entity_rows += table.rewrite(change)
        # Last: it says where the others have something, to whoever begins again after a kill.
        for table in all_tables(places, step=step)[:1]:
            erased.lookups = table.rewrite(person.without_records)
        keep_indexes(log_directory)
        if erased.lookups or erased.entity_rows:
            erased.tombstone = _write_tombstone(log_directory, erased, person, clock())
    return erased


def _names_of(log_directory: Path, key: str) -> frozenset[str]:
    """What callers may have called a join key in any of the definitions that are kept."""
    names = {key}
    for path in sorted((log_directory / "catalogs").glob("*.json")):
        with contextlib.suppress(StoredDataError):
            catalog = kept_catalog(log_directory, path.stem)
            if catalog is None:
                continue
            names |= {entity for entity, join_key in catalog.entities.items() if join_key == key}
            services = (projection for service in catalog.services.values() for projection in service.projections)
            sources = (projection for view in catalog.on_demand_views.values() for projection in view.sources)
            names |= {projection.join_keys[key] for projection in (*services, *sources) if key in projection.join_keys}
    return frozenset(names)


class _Person:
    """Whose rows are to be erased, and what was found of them."""

    def __init__(self, names: frozenset[str], value: str) -> None:
        self._names = names
        self._value = value
        self.writers: dict[tuple[int, int], _OfWriter] = {}

    def is_in(self, log_directory: Path, name: SegmentName) -> bool:
        """Whether a segment has a record that asked for the person."""
        try:
            found = scan(LogDirectory(log_directory).segment(name).read_bytes(), mode=RecoveryMode.SALVAGE)
        except FileNotFoundError:
            return True  # it has just been closed, and is looked at when it is sealed
        except StoredDataError:
            return False
        return any(self._is_asked_for(record.payload) for record in found.records)

    def without_rows(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Rows of a feature service without the person's."""
        mask: Any = None
        for name in sorted(self._names & set(rows.column_names)):
            matches = _equals(rows.column(name), self._value)
            mask = matches if mask is None else pc.or_(mask, matches)
        return _without(rows, mask)

    def without_values(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Values of lists of references without the person's."""
        keys = rows.column("hc_keys").combine_chunks().dictionary_encode()
        hits = pa.array([self._is_in_keys(text) for text in keys.dictionary.to_pylist()], pa.bool_())
        return _without(rows, pc.take(hits, keys.indices))

    def without_records(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Lookups without the records of those that asked for the person."""
        payloads = rows.column("payload").to_pylist()
        hits = [payload is not None and self._is_asked_for(payload) for payload in payloads]
        if not any(hits):
            return rows, 0
        for row in rows.select(["slot", "epoch", "sequence", "served_at"]).filter(pa.array(hits)).to_pylist():
            self._count(row)
        hit = pa.array(hits)
        rows = _cleared(rows, hit, {"payload": None, "request_id": "", "tags": "{}", "message": ""})
        at = rows.column_names.index("erased")
        return rows.set_column(at, "erased", pc.or_(rows.column("erased"), hit)), sum(hits)

    def _is_asked_for(self, payload: bytes) -> bool:
        try:
            columns = sent(decode(payload))
        except (DecodeError, StoredDataError):
            return False
        return any(
            _text(plain_value(value)) == self._value
            for name in self._names & columns.keys()
            for value in set(columns[name])
        )

    def _is_in_keys(self, text: str) -> bool:
        keys = msgspec.json.decode(text)
        return any(_text(keys[name]) == self._value for name in self._names & keys.keys())

    def _count(self, row: dict[str, Any]) -> None:
        served = round(row["served_at"].timestamp() * 1_000_000)
        sequence = row["sequence"]
        writer = self.writers.setdefault(
            (row["slot"], row["epoch"]), _OfWriter(row["slot"], row["epoch"], sequence, sequence, served, served)
        )
        writer.lookups += 1
        writer.first_sequence, writer.last_sequence = (
            min(writer.first_sequence, sequence),
            max(writer.last_sequence, sequence),
        )
        writer.first_served_micros = min(writer.first_served_micros, served)
        writer.last_served_micros = max(writer.last_served_micros, served)


def _equals(column: pa.ChunkedArray, value: str) -> pa.ChunkedArray:
    """Which values of a column look like this as text; none where a null is."""
    kind = column.type
    if pa.types.is_binary(kind):
        matches = pa.chunked_array([[_text(plain) == value for plain in map(_base64, column.to_pylist())]], pa.bool_())
    elif pa.types.is_timestamp(kind):
        seconds = pc.divide(column.cast(pa.int64()), 1_000_000)
        matches = pc.equal(seconds.cast(pa.string()), value)
    else:
        matches = pc.equal(column.cast(pa.string()), value)
    return pc.fill_null(matches, False)


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _text(plain: object) -> str | None:
    if plain is None:
        return None
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _without(rows: pa.Table, mask: Any) -> tuple[pa.Table, int]:
    """Rows without those of a mask, and the other rows of their lookups without what the caller told of the lookup."""
    count = 0 if mask is None else int(pc.sum(mask).as_py() or 0)
    if not count:
        return rows, 0
    lookups = pc.unique(rows.column("hc_lookup_id").filter(mask))
    rest = rows.filter(pc.invert(mask))
    of_them = pc.is_in(rest.column("hc_lookup_id"), value_set=lookups)
    return _cleared(rest, of_them, {"hc_request_id": "", "hc_tags": "{}"}), count


def _cleared(rows: pa.Table, mask: Any, gone: Mapping[str, str | None]) -> pa.Table:
    for name, content in gone.items():
        at = rows.column_names.index(name)
        column = pc.if_else(mask, pa.scalar(content, rows.schema.field(name).type), rows.column(name))
        rows = rows.set_column(at, name, column)
    return rows


def _write_tombstone(log_directory: Path, erased: Erased, person: _Person, now_micros: int) -> Path:
    folder = log_directory / "tombstones"
    make_directory(folder)
    path = folder / f"{now_micros:016x}-{uuid4().hex[:8]}.json"
    tombstone = _Tombstone(now_micros, erased.lookups, erased.entity_rows, list(person.writers.values()))
    written = path.with_suffix(f".{os.getpid()}.new")
    written.write_bytes(msgspec.json.encode(tombstone))
    sync(written)
    written.replace(path)
    sync(folder)
    return path
