"""Point-in-time reads: for each row of an entity frame, what each view said of its keys at the row's own time.

The meaning is docs/semantics.md's. The plan (docs/decisions/0023-as-of-plan.md): `joinkeys` numbers the frame's keys, `narrow` has DuckDB
sort the source's rows of those keys, `merge` finds for each row of the frame the newest that it may see, and `wide` fetches the values
of the rows that were found, and of no others.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from hindcast.errors import InvalidArgument
from hindcast.offline.asof.answer import Answer, Part
from hindcast.offline.asof.joinkeys import KeyIds, source_keys
from hindcast.offline.asof.merge import Asked, Newest, newest
from hindcast.offline.asof.narrow import Narrow, sorted_rows, touched_groups
from hindcast.offline.asof.origins import Origins
from hindcast.offline.connection import open_duckdb, side_by_side
from hindcast.offline.frames.frame import EntityFrame, as_of_micros, frame_micros
from hindcast.offline.sources.instants import MICROS_MAX, MICROS_MIN
from hindcast.offline.sources.pruning import pruned, pruned_files
from hindcast.offline.sources.scan import SourceScan, scan_source
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOfView:
    """What is asked of one view.

    Attributes:
        name: what messages call it.
        keys: column of the source -> column of the frame, which several can share; empty for a view without entities.
        fields: column of the answer -> column of the source.
        created_column: None where the source has none.
        ttl_micros: 0 for none.
    """

    name: str
    source: SourceFiles | DeltaTable
    keys: Mapping[str, str]
    fields: Mapping[str, str]
    event_column: str
    created_column: str | None
    ttl_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a read may take of the machine.

    Attributes:
        memory_bytes: at most about so many are held, the frame's own columns and what the caller keeps of the answer not counted.
        threads: DuckDB's; None for one per core.
        spill_dir: for what does not fit; nothing is left there.
    """

    memory_bytes: int
    threads: int | None
    spill_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOfQuery:
    """A point-in-time read.

    Attributes:
        known_at: rows created later are not seen: microseconds, or the frame's column that has a time for each row (null: no bound for
            that row); None: all are seen.
        keeps_origins: whether the result says where each value came from: 16 bytes more for each row and view, and the positions stay.
    """

    frame: EntityFrame
    views: Sequence[AsOfView]
    known_at: int | str | None
    limits: Limits
    keeps_origins: bool = False


@dataclass(frozen=True, slots=True)
class Leaks:
    """Rows of a frame that take a value which was not known yet at the time they ask about: created after it.

    Attributes:
        found: rows that have a value at all.
        rows: those of them that leak; 0 for a source without a created column, which cannot tell.
        worst_micros: by how much at most.
    """

    found: int
    rows: int
    worst_micros: int


class AsOfResult:
    """The answer, while its `with` block lasts.

    Attributes:
        schema: the frame's columns as they are, then each view's fields in the source's own types (a dictionary's entries stand for it).
        leaks: view -> what it leaks.
        origins: view -> where each row's values came from; empty unless that was asked for.
    """

    def __init__(self, answer: Answer, found: Mapping[str, Newest], origins: Mapping[str, Origins]) -> None:
        self._answer = answer
        self.schema = answer.schema
        self.origins = origins
        self.leaks = {
            name: Leaks(int(np.count_nonzero(one.positions >= 0)), one.leaks, one.worst_leak_micros)
            for name, one in found.items()
        }

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The n rows of the frame in its order, `rows` at a time.

        Raises:
            SourceError: a file changed since it was pinned, or is damaged.
            StoreUnavailable: the disk did not take what does not fit into memory.
        """
        return self._answer.batches(rows)


@contextmanager
def read_as_of(query: AsOfQuery) -> Iterator[AsOfResult]:
    """Find the row of each view that each row of the frame sees; when this returns they are found, and values are read by `batches`.

    Raises:
        InvalidArgument: a column of the frame is missing, of the wrong type, or named as a field of the answer.
        SourceError: a source cannot be read as it is; or the memory limit is too small.
        StoreUnavailable: the disk did not take what was spilled.
    """
    _check_names(query)
    limits = query.limits
    with ExitStack() as stack:
        # Half for DuckDB's sort; the rest holds what is asked and found, and then the values.
        connection = stack.enter_context(
            open_duckdb(memory_limit_bytes=limits.memory_bytes // 2, threads=limits.threads, spill_dir=limits.spill_dir)
        )
        question = Question(query)
        scans = [question.scan(view) for view in query.views]
        tasks = [partial(question.newest, view, scan) for view, scan in zip(query.views, scans, strict=True)]
        threads = limits.threads or os.cpu_count() or 1
        newest_rows = side_by_side(tasks, connection, sizes=[scan.rows for scan in scans], threads=threads)
        found = {view.name: one for view, one in zip(query.views, newest_rows, strict=True)}
        parts = [
            Part(scan, view.fields, one.positions)
            for view, scan, one in zip(query.views, scans, newest_rows, strict=True)
        ]
        question.forget()
        answer = Answer(
            query.frame,
            parts,
            connection,
            memory_bytes=limits.memory_bytes // 2,
            threads=threads,
            spill_dir=limits.spill_dir,
        )
        origins = (
            {view.name: Origins.of(scan, found[view.name]) for view, scan in zip(query.views, scans, strict=True)}
            if query.keeps_origins
            else {}
        )
        yield AsOfResult(answer, found, origins)


class Question:
    """The frame's part of a read: its times, and its keys as numbers, once for all views that join on the same columns."""

    def __init__(self, query: AsOfQuery) -> None:
        self._frame = query.frame
        self._keeps_times = query.keeps_origins
        self._as_of, self._is_dated = as_of_micros(query.frame)
        self._known_at = query.known_at if isinstance(query.known_at, int) else None
        self._known_per_row = self._known(query.known_at) if isinstance(query.known_at, str) else None
        self._keys: dict[tuple[str, ...], KeyIds] = {}
        self._asked: dict[tuple[str, ...], Asked] = {}
        # Once, before threads ask: views that join on the same columns share it.
        for view in query.views:
            self._sorted(tuple(view.keys.values()))

    def forget(self) -> None:
        """Let go of what finding rows needed."""
        self._keys.clear()
        self._asked.clear()

    def newest(self, view: AsOfView, scan: SourceScan, connection: duckdb.DuckDBPyConnection) -> Newest:
        """The row of a view that each row sees."""
        asked = self._sorted(tuple(view.keys.values()))
        narrow = self.narrow(view, scan)
        return newest(
            asked,
            sorted_rows(narrow, connection),
            rows=self._frame.rows,
            ttl_micros=view.ttl_micros,
            keeps_times=self._keeps_times,
        )

    def scan(self, view: AsOfView) -> SourceScan:
        """The footers of a view's files; of a Delta table those that its log does not rule out."""
        source = files_of(view.source)
        if source.schema is not None and source.files:
            keys, times = self._wanted(view)
            # One is kept, so that types are checked in any case.
            source = replace(source, files=pruned_files(source, keys=keys, times=times).files or source.files[:1])
        values = list(dict.fromkeys([*view.keys, *view.fields.values()]))
        features = set(view.fields.values()).difference(view.keys)
        return scan_source(
            source, values=values, event=view.event_column, created=view.created_column, features=features
        )

    def narrow(self, view: AsOfView, scan: SourceScan) -> Narrow:
        """What is read of a view's source."""
        earliest, latest = self._bounds(view)
        keys, times = self._wanted(view)
        asks = len(self._sorted(tuple(view.keys.values())).rows) > 0
        groups = touched_groups(pruned(scan, keys=keys, times=times), *times[view.event_column]) if asks else []
        return Narrow(
            scan=scan,
            groups=groups,
            keys=list(view.keys),
            wanted=source_keys(self._keys[tuple(view.keys.values())].distinct, keys=view.keys, kinds=scan.types),
            earliest=earliest,
            latest=latest,
            event=view.event_column,
            created=view.created_column,
            known_at=self._known_at,
        )

    def _wanted(self, view: AsOfView) -> tuple[Mapping[str, pa.ChunkedArray], Mapping[str, tuple[int, int]]]:
        """Which keys are asked about, and the first and last time of any: by the source's columns."""
        earliest, latest = self._bounds(view)
        distinct = self._keys[tuple(view.keys.values())].distinct
        keys = {column: distinct.column(at) for at, column in enumerate(view.keys)}
        ends = int(earliest.min(initial=MICROS_MAX)), int(latest.max(initial=MICROS_MIN))
        return keys, {view.event_column: ends}

    def _bounds(self, view: AsOfView) -> tuple[np.ndarray, np.ndarray]:
        """Between which times a row of each key can be seen: k of each; of a key that nobody asks about, none."""
        asked = self._sorted(tuple(view.keys.values()))
        count = self._keys[tuple(view.keys.values())].distinct.num_rows if view.keys else 1
        latest: np.ndarray = np.full(count, MICROS_MIN, np.int64)
        earliest: np.ndarray = np.full(count, MICROS_MAX if view.ttl_micros else MICROS_MIN, np.int64)
        np.maximum.at(latest, asked.ids, asked.as_of)
        if view.ttl_micros:
            oldest = np.maximum(asked.as_of, MICROS_MIN + view.ttl_micros) - view.ttl_micros
            np.minimum.at(earliest, asked.ids, oldest)
        return earliest, latest

    def _known(self, column: str) -> np.ndarray:
        """What each row may have known; everything where it says nothing."""
        micros, is_known = frame_micros(self._frame, column)
        known: np.ndarray = micros if is_known is None else np.where(is_known, micros, MICROS_MAX)
        return known

    def _sorted(self, names: tuple[str, ...]) -> Asked:
        if names not in self._asked:
            if names:
                # Two keys can be one column of the frame.
                columns = self._frame.columns(list(dict.fromkeys(names)))
                self._keys[names] = KeyIds.of(columns.select(list(names)))
            else:
                self._keys[names] = KeyIds(np.zeros(self._frame.rows, np.int32), pa.table({}))
            self._asked[names] = Asked.of(
                self._keys[names].ids, self._as_of, is_dated=self._is_dated, known_at=self._known_per_row
            )
        return self._asked[names]


def _check_names(query: AsOfQuery) -> None:
    names = query.frame.schema.names
    there = ", ".join(map(repr, names))
    for name in (name for view in query.views for name in view.keys.values()):
        if name not in names:
            raise InvalidArgument.at(name, f"is no column of the entity frame, which has {there}")
    if isinstance(query.known_at, str) and query.known_at not in names:
        raise InvalidArgument.at(
            "known_at",
            f"is {query.known_at!r}, which is no time and no column of the entity frame, which has {there}; write a time such as "
            "2026-11-01T12:00:00, or one of them",
        )
    seen = set(names)
    for view in query.views:
        for field in view.fields:
            if field in seen:
                where = "a column of the entity frame" if field in names else "another feature of this read"
                raise InvalidArgument.at(
                    field,
                    f"of {view.name!r} has the name of {where}; ask with full_feature_names=True, give the view an alias, or "
                    "rename the column",
                )
            seen.add(field)
