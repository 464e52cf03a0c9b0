"""The manifest of a training set: everything that it was made of, and the digests that prove it was made again.

It is canonical JSON (keys sorted, UTF-8, no spaces, whole numbers and text only), and the SHA-256 of its bytes is the set's id. It says
neither when nor where nor under which version number a set was built, so that two builds of the same are the same. docs/formats.md has it
field by field.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec

from hindcast.clock import from_micros
from hindcast.datasets.definitions import Definitions
from hindcast.datasets.statistics import ColumnStatistics
from hindcast.errors import DatasetError

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file as it was.

    Attributes:
        path: of a source's file as `SourceRecord` says; of the set's own relative to its directory.
        sha256: of its bytes, 64 hex digits; empty for an object of a store, which has a tag instead.
        tag: the object's version or ETag; empty for a file, and where the store does not tell.
    """

    path: str
    bytes: int
    sha256: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """A source as it was read.

    Attributes:
        name, path: Feast's name, and the path as the repo writes it; of a database followed by `:` and the table.
        views: that are read from it.
        version: of a Delta table; None for others.
        files: in the order that decides between rows of equal times; paths relative to the repo where they are in it.
    """

    name: str
    path: str
    views: tuple[str, ...]
    version: int | None = None
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """The entity frame.

    Attributes:
        form: what the caller gave: `path`, `sql`, `rows` (a data frame, or Arrow data) or `keys` (all keys between two times); `lookups` where
            the rows are those of a log.
        text: the path as it was found, or the SQL; for `keys` the two times in ISO 8601 with a slash between; for `lookups` the service; empty
            for rows.
        is_kept: whether `files` are the set's own; otherwise they are the caller's, and pinned.
        columns: of the frame, which are the first of the set.
        as_of: the column with the time that each row asks about.
        digest: logical, of the frame alone.
    """

    form: str
    text: str = ""
    is_kept: bool
    files: tuple[FileRecord, ...]
    columns: tuple[str, ...]
    as_of: str
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAt:
    """What could be known.

    Attributes:
        kind: `time` (one for all rows), `column` (one for each row, of the frame) or `own` (each row's own time).
        micros: of `time`, since 1970; None for others.
        column: of `column`; empty for others.
    """

    kind: str
    micros: int | None = None
    column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitsRecord:
    """How rows are dealt out; the column `__split` says it of each row.

    Attributes:
        kind: `time` or `key`.
        names: of the splits, in their order.
        ends: of `time`: where each split but the last ends, in microseconds since 1970; that instant is in the next one.
        parts: of `key`: the share of each split, in whole parts of their sum.
        keys: of `key`: the columns of the frame that are hashed.
        seed: of `key`.
        rows: in each split.
    """

    kind: str
    names: tuple[str, ...]
    ends: tuple[int, ...] = ()
    parts: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    seed: int = 0
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column, and its Arrow type as text."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakRecord:
    """Rows that take a value of a view which was created after their own time: what the model will not see when it serves."""

    view: str
    found: int
    rows: int
    worst_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRecord:
    """The repo's place in Git.

    Attributes:
        commit: 40 or 64 hex digits.
        is_dirty: whether files of the repo differ from it, new ones among them.
        changed: the first of them, sorted.
    """

    commit: str
    is_dirty: bool
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRecord:
    """A module of the repo that functions of on-demand views reach by their imports.

    Attributes:
        path: of its file; relative to the repo.
        sha256: of the file, 64 hex digits.
        views: the on-demand views whose functions reach it, sorted.
    """

    path: str
    sha256: str
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """A row group of the Parquet parts, and its logical digest."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """What is kept beside the rows.

    Attributes:
        origins: for each row and view the source's row that answered it.
        snapshots: view -> the rows of its source that answered, as a source of their own; empty unless they were asked for.
    """

    origins: tuple[FileRecord, ...]
    snapshots: Mapping[str, FileRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterRecord:
    """How far the records of one writer of a log count: `<slot>-<epoch>`, and the last sequence."""

    writer: str
    last_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTableRecord:
    """A table of a log, and its Delta version; None of a folder of Parquet parts."""

    path: str
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRecord:
    """Definitions that some of a log's rows were answered from.

    Attributes:
        version: their digest.
        sample_rate: the share of the service's lookups that was logged under them, as text.
    """

    version: str
    rows: int
    sample_rate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRecord:
    """Records of a log that are missing, of any service, and may have been served in the time of a set.

    Attributes:
        lookups: how many; None where nobody knows.
        reason: the word of a gap report.
    """

    writer: str
    first_sequence: int
    lookups: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A log of lookups as it was read.

    Attributes:
        path: of its directory; relative to the repo where it is in it.
        tables: of all lookups, and of the service.
        writers: whose records count, and how far; others do not.
        catalogs: oldest first.
        answered, failed, erased: lookups of the service in the time of the set.
        rows: that were answered to them, and are in the tables.
        unsealed: lookups that were in no table yet and were not read.
        modes: log mode -> lookups.
    """

    path: str
    tables: tuple[LogTableRecord, ...]
    writers: tuple[WriterRecord, ...]
    catalogs: tuple[CatalogRecord, ...]
    answered: int
    failed: int
    erased: int
    rows: int
    unsealed: int
    modes: Mapping[str, int]
    losses: tuple[LossRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsRecord:
    """Labels that were joined to lookups.

    Attributes:
        frame: what the caller gave; its `as_of` is the column with the labels' times, or empty.
        on: `lookup_id`, `request_id` or `key`.
        columns: of the labels that hold the id, or the keys.
        row: their column with the number of the row in its lookup; empty where a label is for all rows of its lookup.
        window_micros: for `key`: how long after its lookup a label may be.
        pick: `first` or `last`, of several labels for one row.
        used, superseded, unknown, without_key: labels that were taken, lost to another one, fit no lookup, and have a null in their key.
        unlabeled: rows of lookups without a label.
        open_windows: rows of lookups, for `key`, whose window ends after the latest of all labels: more may come.
    """

    frame: FrameRecord
    on: str
    columns: tuple[str, ...]
    row: str
    window_micros: int | None
    pick: str
    keeps_unlabeled: bool
    used: int
    superseded: int
    unknown: int
    without_key: int
    unlabeled: int
    open_windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRecord:
    """A feature of a set of lookups.

    Attributes:
        column: of the set.
        view: its name in the service, or its alias.
        served, filled, lacking: rows that have what was served, that were filled, and that were answered without it and have a null.
    """

    column: str
    view: str
    feature: str
    served: int
    filled: int
    lacking: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupsRecord:
    """What a set was made of that is made of lookups.

    Attributes:
        since_micros, until_micros: of served_at; the first counts (None: all), the second does not.
        asked: `view:feature` each; empty for the features of the service.
        fill: `point-in-time`, or empty.
        has_statuses, has_ages: whether columns for them were asked for.
        places: files with the place in the log and the label of each row.
    """

    service: str
    since_micros: int | None
    until_micros: int
    log: LogRecord
    labels: LabelsRecord
    asked: tuple[str, ...]
    features: tuple[ServedRecord, ...]
    fill: str
    has_statuses: bool
    has_ages: bool
    places: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A training set. Digests are written `sha256:` and 64 hex digits, but for those of files.

    Attributes:
        definition_digests: view or on-demand view -> SHA-256 of its definition; `code_digests` of the functions' source text.
        modules: that functions of on-demand views reach, by path; None of a set that was built when they were not pinned.
        libraries: name -> version, of what took part.
        digest: logical, of all rows and columns.
        delta_version: of the Delta table that `files` are; None where they are none.
        statistics: of each column.
        lookups: of a set that was made of a log of lookups; None for others.
    """

    format: int = FORMAT
    name: str
    features: tuple[str, ...]
    known_at: KnownAt
    splits: SplitsRecord | None
    frame: FrameRecord
    sources: tuple[SourceRecord, ...]
    definitions: Definitions
    definitions_digest: str
    definition_digests: Mapping[str, str]
    code_digests: Mapping[str, str]
    modules: tuple[ModuleRecord, ...] | None = None
    git: GitRecord | None
    libraries: Mapping[str, str]
    columns: tuple[Column, ...]
    rows: int
    digest: str
    groups: tuple[GroupRecord, ...]
    files: tuple[FileRecord, ...]
    delta_version: int | None = None
    evidence: EvidenceRecord
    leaks: tuple[LeakRecord, ...]
    statistics: tuple[ColumnStatistics, ...]
    lookups: LookupsRecord | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of the frame that say what a row asks about: the keys of all views, and the time; of lookups id and row."""
        if self.lookups is not None:
            return ("lookup_id", "lookup_row")
        keys = dict.fromkeys(key.column for view in self.definitions.views for key in view.keys)
        return (*(key for key in keys if key in self.frame.columns), self.frame.as_of)

    def own_files(self) -> Iterator[FileRecord]:
        """The files in the directory of the set, but for the manifest and the signature."""
        yield from self.files
        if self.frame.is_kept:
            yield from self.frame.files
        yield from self.evidence.origins
        yield from self.evidence.snapshots.values()
        if self.lookups is not None:
            yield from self.lookups.places
            if self.lookups.labels.frame.is_kept:
                yield from self.lookups.labels.frame.files

    def encoded(self) -> bytes:
        """The canonical JSON."""
        return msgspec.json.encode(self, order="sorted")


def decoded(manifest_bytes: bytes, *, where: str) -> Manifest:
    """A manifest from its bytes.

    Args:
        where: it was read; for messages.
    Raises:
        DatasetError: it is none, or of a format that this version does not know.
    """
    damaged = DatasetError(f"{where} is no manifest of a training set, or damaged; build the set anew")
    try:
        head = msgspec.json.decode(manifest_bytes)
        if isinstance(head, dict) and isinstance(head.get("format"), int) and head["format"] > FORMAT:
            raise DatasetError(
                f"{where} has format {head['format']}, and this version of hindcast reads up to {FORMAT}; install a newer one"
            )
        manifest = msgspec.json.decode(manifest_bytes, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged from error
    if (
        not manifest.files
        or any(_is_elsewhere(file.path) for file in manifest.own_files())
        or not all(map(_is_instant, _instants(manifest)))
    ):
        raise damaged
    return manifest


def _instants(manifest: Manifest) -> Iterator[int | None]:
    """All times in it, in microseconds since 1970."""
    yield manifest.known_at.micros
    if manifest.splits is not None:
        yield from manifest.splits.ends
    if manifest.lookups is not None:
        yield manifest.lookups.since_micros
        yield manifest.lookups.until_micros


def _is_instant(micros: int | None) -> bool:
    """Whether it is none, or in the years 1 to 9999."""
    try:
        return micros is None or bool(from_micros(micros))
    except OverflowError:
        return False


def is_canonical(manifest_bytes: bytes) -> bool:
    """Whether the bytes of a manifest are as it was written, and not as an editor left it."""
    return msgspec.json.encode(msgspec.json.decode(manifest_bytes), order="sorted") == manifest_bytes


def _is_elsewhere(path: str) -> bool:
    """Whether a path of a set's own file leads out of its directory."""
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts


def id_of(manifest_bytes: bytes) -> str:
    """The id of the set that a manifest is of."""
    return f"sha256:{hashlib.sha256(manifest_bytes).hexdigest()}"
