"""As of then: what the offline store says of kept lookups, each at its own time and by what was known then, in one read for all of them.

Imports duckdb and pyarrow, and Feast only for what needs it: on-demand views, types that `online.encode` does not know, and sources that
only Feast's definitions can reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from hindcast.catalog import BatchSource, Catalog, Repo
from hindcast.errors import InvalidArgument, SourceError
from hindcast.lookups.gather import gather
from hindcast.offline.asof.reading import AsOfQuery, AsOfView, Limits, read_as_of
from hindcast.offline.frames.frame import entity_frame
from hindcast.offline.sources.instants import to_micros
from hindcast.offline.sources.scan import source_schema
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of, find_source
from hindcast.online.encode import encode_column
from hindcast.online.keys import sorted_names
from hindcast.replay.questions import Asked, source_of
from hindcast.serving.plan import Read
from hindcast.settings import state_dir

_MEMORY_MB = 2_048
"""As `AsOfOfflineStoreConfig.memory_limit_mb`."""
_BATCH_ROWS = 65_536
_AS_OF, _KNOWN_AT = "as_of", "known_at"
_INSTANT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class RowAt:
    """A row of the offline store. Times in microseconds since 1970; created is None where the row does not say."""

    event_micros: int
    created_micros: int | None


@dataclass(slots=True)
class ReadRows:
    """What the offline store has of one view for n rows.

    Attributes:
        values: per feature n serialized Values, b"" for a null and for no row.
        rows: n; None where no row counts.
        stale: n; where no row counts, the newest that is past the TTL.
        nans: per feature the rows that hold a NaN: a row's place -> the serialized Value. Materialized, a NaN is a null, as it is in
            `values`; pushed, it stays one.
        problem: why there is nothing; empty if there is.
        problems: feature -> why its values cannot be told.
    """

    values: list[list[bytes]]
    rows: list[RowAt | None]
    stale: list[RowAt | None]
    nans: list[dict[int, bytes]]
    problem: str
    problems: dict[str, str]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A row of a lookup about which more is asked: whether the offline store has the row that was served."""

    at: int
    served: RowAt


class OfflineStore:
    """The sources of a repo, each pinned once.

    Attributes:
        notes: what could not be read as the definitions say, each once.
        repo_root: where relative paths begin.
    """

    def __init__(self, repo: Repo, present: Catalog | None) -> None:
        self.notes: dict[str, None] = {}
        self.repo_root = repo.root
        self._present = present
        self._pinned: dict[tuple[str, str], SourceFiles | DeltaTable] = {}
        settings = repo.offline_store
        self._options = {str(name): str(value) for name, value in (settings.get("storage_options") or {}).items()}
        self.limits = Limits(
            memory_bytes=int(settings.get("memory_limit_mb") or _MEMORY_MB) * 2**20,
            threads=settings.get("threads"),
            spill_dir=state_dir(repo.root) / "spill",
        )

    def source(self, view: str, catalog: Catalog) -> tuple[BatchSource, SourceFiles | DeltaTable]:
        """Where the rows of a view come from, as it is now.

        A source that is not there any more is looked for where the definitions of now have it.

        Raises:
            SourceError: the view has none, or it cannot be read.
        """
        source = source_of(catalog, view)
        if source is None:
            raise SourceError(f"{view!r} has no batch source, so that nothing offline can be compared")
        try:
            return source, self._files(source, view)
        except SourceError:
            moved = None if self._present is None else source_of(self._present, view)
            if moved is None or moved == source:
                raise
            files = self._files(moved, view)
            self.notes[
                f"the source of {view!r} at that time cannot be read any more; read from {moved.name!r}, its source of now"
            ] = None
            return moved, files

    def _files(self, source: BatchSource, view: str) -> SourceFiles | DeltaTable:
        key = (source.path or view, source.file_format)
        if key not in self._pinned:
            self._pinned[key] = self._found(source, view)
        return self._pinned[key]

    def _found(self, source: BatchSource, view: str) -> SourceFiles | DeltaTable:
        if source.file_format and "://" not in source.path:
            return find_source(source.path, source.file_format, repo_root=self.repo_root)
        try:
            if source.file_format:
                return find_source(
                    source.path, source.file_format, repo_root=self.repo_root, storage_options=self._options
                )
        except SourceError:
            # Credentials and endpoints of a source are in Feast's definition only.
            if not self._is_present(source, view):
                raise
        if not self._is_present(source, view):
            raise SourceError(
                f"the source {source.name!r} of {view!r} is no file, and is not among the definitions of now any more"
            )
        from hindcast.offline.plugin.pinned_views import pinned_source_of  # noqa: PLC0415 - Feast, for these only

        return pinned_source_of(self.repo_root, view.partition("@")[0])

    def _is_present(self, source: BatchSource, view: str) -> bool:
        return self._present is not None and source_of(self._present, view) == source


class Then:
    """Lookups that mean the same, asked as of their own times."""

    def __init__(self, lookups: Sequence[Asked], store: OfflineStore) -> None:
        """Ask; that reads the sources.

        Args:
            lookups: at least one, all of one `Asked.meaning`.
        Raises:
            StoreUnavailable: the disk did not take what was spilled.
        """
        self.lookups = lookups
        self.starts = [0, *np.cumsum([asked.rows for asked in lookups]).tolist()]
        self._store = store
        first = lookups[0]
        self._plan, self._catalog = first.plan, first.catalog
        self._keys = {
            f"k{at}": gather([value for asked in lookups for value in asked.columns[key.name]], int(key.key_type))
            for at, key in enumerate(self._plan.keys)
        }
        served = [asked.receipt.record.served_at_micros for asked in lookups]
        self._served: np.ndarray = np.repeat(np.array(served, np.int64), [asked.rows for asked in lookups])
        self.reads = self._read_all()
        self._find_stale()

    def spans(self) -> Sequence[tuple[int, int]]:
        """Where the rows of each lookup begin and end among all."""
        return list(pairwise(self.starts))

    def known(self, read: int, doubts: Sequence[Doubt]) -> list[bool]:
        """Of rows that were served, whether the source of a read has them now: a row of the same key and the same two times."""
        if not doubts or self.reads[read].problem:
            return [False] * len(doubts)
        at = np.array([doubt.at for doubt in doubts], np.int64)
        times = pa.array([doubt.served.event_micros for doubt in doubts], pa.int64()).cast(_INSTANT)
        created = pa.array([doubt.served.created_micros for doubt in doubts], pa.int64()).cast(_INSTANT)
        # Of the rows of that event time the newest that was known when this one was: itself, if it is there.
        found = self._again(read, at, times, created)
        return [
            row is not None
            and row.event_micros == doubt.served.event_micros
            and (row.created_micros == doubt.served.created_micros or doubt.served.created_micros is None)
            for row, doubt in zip(found, doubts, strict=True)
        ]

    def _read_all(self) -> list[ReadRows]:
        views: dict[int, AsOfView] = {}
        problems: dict[int, str] = {}
        for at, read in enumerate(self._plan.reads):
            try:
                views[at] = self._view(at, read, ttl_micros=read.view.ttl_micros)
            except SourceError as error:
                problems[at] = str(error)
        try:
            answer = self._answer(list(views.values()), self._frame(None))
        except (SourceError, InvalidArgument):
            # One of them cannot be read; the others can.
            answer = None
        return [
            self._nothing(read, problems[at]) if at in problems else self._rows(at, read, views[at], answer)
            for at, read in enumerate(self._plan.reads)
        ]

    def _rows(self, at: int, read: Read, view: AsOfView, answer: pa.Table | None) -> ReadRows:
        if answer is None:
            try:
                answer = self._answer([view], self._frame(None))
            except (SourceError, InvalidArgument) as error:
                return self._nothing(read, str(error))
        types = {field.name: field.value_type for field in read.view.fields}
        values: list[list[bytes]] = []
        nans: list[dict[int, bytes]] = []
        problems: dict[str, str] = {}
        for number, feature in enumerate(read.rows_of.features):
            column = _whole(answer, f"v{at}_{number}")
            nans.append(_nans(column, types[feature]))
            try:
                encoded = encode_column(column, types[feature], column=feature, unusual=_by_feast)
                values.append([value or b"" for value in encoded.to_pylist()])
            except InvalidArgument as error:
                problems[feature] = str(error)
                values.append([b""] * len(self._served))
        rows = _row_times(answer, at, has_created=view.created_column is not None)
        return ReadRows(values, rows, [None] * len(rows), nans, "", problems)

    def _nothing(self, read: Read, problem: str) -> ReadRows:
        rows = len(self._served)
        features = read.rows_of.features
        return ReadRows(
            [[b""] * rows for _ in features], [None] * rows, [None] * rows, [{} for _ in features], problem, {}
        )

    def _find_stale(self) -> None:
        """Tell rows past their TTL from rows that are missing."""
        for at, (read, rows) in enumerate(zip(self._plan.reads, self.reads, strict=True)):
            if not read.view.ttl_micros or rows.problem:
                continue
            missing = np.array([number for number, row in enumerate(rows.rows) if row is None], np.int64)
            if not len(missing):
                continue
            served = pa.array(self._served[missing]).cast(_INSTANT)
            for number, row in zip(missing.tolist(), self._again(at, missing, served, served), strict=True):
                rows.stale[number] = row

    def _again(self, read: int, at: np.ndarray, as_of: pa.Array, known_at: pa.Array) -> list[RowAt | None]:
        """The newest row of some keys at other times, however old."""
        view = replace(self._view(read, self._plan.reads[read], ttl_micros=0), fields={})
        view = replace(view, fields=_time_fields(read, view.event_column, view.created_column))
        frame = self._frame(at).append_column(_AS_OF, as_of).append_column(_KNOWN_AT, known_at)
        return _row_times(self._answer([view], frame), read, has_created=view.created_column is not None)

    def _view(self, at: int, read: Read, *, ttl_micros: int) -> AsOfView:
        source, files = self._store.source(read.view.name, self._catalog)
        stored = set(source_schema(files_of(files)).names)
        columns = {field: column for column, field in source.field_mapping.items() if column in stored}
        created = source.created_timestamp_column
        event = columns.get(source.timestamp_field, source.timestamp_field)
        created_column = columns.get(created, created) if created else None
        places = self._plan.entities[read.entity].keys
        fields = {f"v{at}_{number}": columns.get(name, name) for number, name in enumerate(read.rows_of.features)}
        return AsOfView(
            name=read.view.name,
            source=files,
            keys={
                columns.get(name, name): f"k{place}"
                for name, place in zip(sorted_names(read.view.join_keys), places, strict=True)
            },
            fields=fields | _time_fields(at, event, created_column),
            event_column=event,
            created_column=created_column,
            ttl_micros=ttl_micros,
        )

    def _frame(self, at: np.ndarray | None) -> pa.Table:
        """The keys of all rows at the times of their answers; of some rows without the times."""
        if at is None:
            served = pa.array(self._served).cast(_INSTANT)
            return pa.table({**self._keys, _AS_OF: served, _KNOWN_AT: served})
        taken = pa.array(at)
        # A table of no columns has no rows.
        return pa.table({"row": taken, **{name: column.take(taken) for name, column in self._keys.items()}})

    def _answer(self, views: Sequence[AsOfView], table: pa.Table) -> pa.Table:
        limits = self._store.limits
        with entity_frame(
            table,
            as_of=_AS_OF,
            spill_dir=limits.spill_dir,
            repo_root=self._store.repo_root,
            memory_bytes=limits.memory_bytes,
            threads=limits.threads,
        ) as frame:
            query = AsOfQuery(frame=frame, views=views, known_at=_KNOWN_AT, limits=limits)
            with read_as_of(query) as result:
                return pa.Table.from_batches(list(result.batches(_BATCH_ROWS)), schema=result.schema)


def _time_fields(at: int, event: str, created: str | None) -> dict[str, str]:
    return {f"e{at}": event} | ({} if created is None else {f"c{at}": created})


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _nans(column: pa.Array, value_type: int) -> dict[int, bytes]:
    """The rows of a column of numbers that hold a NaN of its type, with its bits."""
    if value_type not in _NAN_TAGS or not pa.types.is_floating(column.type):
        return {}
    tag, kind = _NAN_TAGS[value_type]
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(np.isnan(numbers))
    return {int(place): tag + numbers[place].astype(kind).tobytes() for place in places}


_NAN_TAGS = {5: (b"\x29", "<f8"), 6: (b"\x35", "<f4")}
"""Of double_val and float_val: the field's tag, and how its number is written."""


def _row_times(answer: pa.Table, at: int, *, has_created: bool) -> list[RowAt | None]:
    events = _micros(_whole(answer, f"e{at}"))
    created = _micros(_whole(answer, f"c{at}")) if has_created else [None] * len(events)
    return [None if event is None else RowAt(event, known) for event, known in zip(events, created, strict=True)]


def _micros(column: pa.Array) -> list[int | None]:
    if pa.types.is_null(column.type):
        return [None] * len(column)
    micros, valid = to_micros(column)
    numbers: list[int | None] = micros.tolist()
    return (
        numbers
        if valid is None
        else [number if is_there else None for number, is_there in zip(numbers, valid, strict=True)]
    )


def _by_feast(array: pa.Array, value_type: int) -> Sequence[bytes | None]:
    from hindcast.materialize.plugin import by_feast  # noqa: PLC0415 - Feast, for types that are rare

    encoded: Sequence[bytes | None] = by_feast(array, value_type)
    return encoded
