"""What the manifest of a set of lookups says of its log, labels and features, held against the rows and the places that are kept with them.

A problem begins with the field, as the manifest's JSON has it. Needs no Feast.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.canonical import Hasher
from hindcast.datasets.coherence import frame_contradictions
from hindcast.datasets.label_join import FIRST, KEY, LAST, LOOKUP_ID, REQUEST_ID
from hindcast.datasets.manifest import LabelsRecord, LookupsRecord, Manifest, ServedRecord
from hindcast.datasets.parts import Part, read_parts, read_table
from hindcast.datasets.served_rows import AGE, FILLED, ORIGIN, PLACES, SERVED, SERVED_AT, STATUS
from hindcast.datasets.splits import COLUMN
from hindcast.datasets.store import StoredSet
from hindcast.errors import DatasetError
from hindcast.lookups.directory import WriterId
from hindcast.offline.sources.instants import to_micros


def lookup_problems(stored: StoredSet, record: LookupsRecord) -> Iterator[str]:
    """What the rows and places of a set of lookups contradict; each problem begins with the field.

    Args:
        stored: whose rows are those of its manifest.
        record: the manifest's.
    """
    manifest = stored.manifest
    if (manifest.frame.form, manifest.frame.text, manifest.frame.as_of) != ("lookups", record.service, SERVED_AT):
        yield f"lookups.service or frame.form or frame.text or frame.as_of were edited: they are not those of lookups of {record.service!r}"
    if manifest.features != (record.asked or (record.service,)):
        yield "features are not lookups.asked, nor the service in lookups.service"
    if not record.places:
        yield "lookups.places are none"
        return
    names = {column.name for column in manifest.columns}
    try:
        yield from _wrong_range(stored, record)
        yield from _wrong_features(stored, record, names)
        yield from _wrong_columns(record, manifest, names)
        places = read_table(stored.path, record.places, columns=list(PLACES))
    except (DatasetError, KeyError, pa.ArrowException):
        yield "lookups.features or lookups.places name what cannot be read"
        return
    if places.num_rows != manifest.rows:
        yield f"lookups.places have {places.num_rows:,} rows, and there are {manifest.rows:,}"
        return
    yield from _wrong_log(stored, record, places)
    yield from _wrong_labels(record, places.column("label"), manifest.rows)
    yield from _wrong_join(record, names)
    yield from _wrong_label_frame(stored, record.labels)


def _wrong_range(stored: StoredSet, record: LookupsRecord) -> Iterator[str]:
    times = read_table(stored.path, stored.manifest.files, columns=[SERVED_AT]).column(0).combine_chunks()
    micros, _ = to_micros(times)
    if not len(micros):
        return
    if record.since_micros is not None and micros.min() < record.since_micros:
        yield f"lookups.since_micros is {record.since_micros}, and a row was served before it"
    if micros.max() >= record.until_micros:
        yield f"lookups.until_micros is {record.until_micros}, and a row was served at that time or later"


def _wrong_features(stored: StoredSet, record: LookupsRecord, names: set[str]) -> Iterator[str]:
    manifest = stored.manifest
    for at, one in enumerate(record.features):
        where = f"lookups.features[{at}]"
        full = f"{one.view}__{one.feature}"
        if one.column != (full if manifest.definitions.full_feature_names else one.feature) or one.column not in names:
            yield f"{where} is not the feature of the column {one.column!r}"
            continue
        yield from _wrong_cells(stored, one, names, where=where)
        if one.served + one.filled + one.lacking != manifest.rows:
            yield f"{where}.served or {where}.filled or {where}.lacking were edited: together they are not the {manifest.rows:,} rows"


def _wrong_cells(stored: StoredSet, one: ServedRecord, names: set[str], *, where: str) -> Iterator[str]:
    """Counts of a feature's cells that its columns contradict."""
    served, filled = _origins_of(stored, one, names)
    if served is None:
        if one.filled:
            yield f"{where}.filled is {one.filled:,}, and the rows have no column {one.column}{ORIGIN}"
        cells = read_table(stored.path, stored.manifest.files, columns=[one.column]).column(0)
        if one.lacking > cells.null_count:
            yield f"{where}.lacking is {one.lacking:,}, and {cells.null_count:,} rows have a null"
    else:
        for name, said, found in (("served", one.served, served), ("filled", one.filled, filled)):
            if said != found:
                yield f"{where}.{name} is {said:,}, and by the column {one.column}{ORIGIN} {found:,}"


def _wrong_columns(record: LookupsRecord, manifest: Manifest, names: set[str]) -> Iterator[str]:
    first = len(manifest.frame.columns)
    columns = [column.name for column in manifest.columns][first : first + len(record.features) + 1]
    known = {COLUMN, *(f"{one.column}{mark}" for one in record.features for mark in (STATUS, ORIGIN))}
    known |= {f"{one.view}{AGE}" for one in record.features}
    is_more = any(name not in known for name in columns[len(record.features) :])
    if is_more or columns[: len(record.features)] != [one.column for one in record.features]:
        yield "lookups.features are not the features that the rows have"
    is_filled = any(one.filled or f"{one.column}{ORIGIN}" in names for one in record.features)
    if record.fill not in {"", "point-in-time"} or (is_filled and not record.fill):
        yield f"lookups.fill is {record.fill!r}, which does not go with cells that were filled"
    if record.fill and any(one.lacking for one in record.features):
        yield "lookups.fill or lookups.features were edited: nothing is lacking where cells are filled"
    if record.features and record.has_statuses is not any(f"{one.column}{STATUS}" in names for one in record.features):
        yield f"lookups.has_statuses is {record.has_statuses}, which the columns are not"
    aged = [f"{one.view}{AGE}" in names for one in record.features if one.served]
    if aged and (record.has_ages is not any(aged) or any(aged) is not all(aged)):
        yield "lookups.has_ages or lookups.features were edited: the columns with ages are others"


def _origins_of(stored: StoredSet, one: ServedRecord, names: set[str]) -> tuple[int | None, int]:
    """Cells of a feature that were served and that were filled; None where no column says it."""
    column = f"{one.column}{ORIGIN}"
    if column not in names:
        return None, 0
    marks = [table.column(0) for table in read_parts(stored.path, stored.manifest.files, columns=[column])]
    served, filled = (sum(pc.sum(pc.equal(some, word)).as_py() or 0 for some in marks) for word in (SERVED, FILLED))
    return served, filled


def _wrong_log(stored: StoredSet, record: LookupsRecord, places: pa.Table) -> Iterator[str]:
    log = record.log
    last = {one.writer: one.last_sequence for one in log.writers}
    if len(last) != len(log.writers):
        yield "lookups.log.writers have one twice"
    grouped = places.group_by(["slot", "epoch"]).aggregate([("sequence", "max")])
    for row in grouped.to_pylist():
        writer = str(WriterId(row["slot"], row["epoch"]))
        if writer not in last:
            yield f"lookups.log.writers lack {writer}, of which there are rows"
        elif row["sequence_max"] > last[writer]:
            yield f"lookups.log.writers say that {writer} counts up to {last[writer]:,}, and a row is of sequence {row['sequence_max']:,}"
    ids = read_table(stored.path, stored.manifest.files, columns=[LOOKUP_ID]).column(0)
    if (distinct := pc.count_distinct(ids).as_py()) > log.answered:
        yield f"lookups.log.answered is {log.answered:,}, and the rows are of {distinct:,} lookups"
    if sum(one.rows for one in log.catalogs) != log.rows:
        yield "lookups.log.rows or lookups.log.catalogs were edited: the ones are not the rows of the others together"
    if sum(log.modes.values()) < log.answered + log.failed + log.erased:
        yield "lookups.log.modes or lookups.log.answered or lookups.log.failed or lookups.log.erased were edited: the modes are fewer lookups"


def _wrong_labels(record: LookupsRecord, position: pa.ChunkedArray, rows: int) -> Iterator[str]:
    labels, at = record.labels, "lookups.labels"
    taken: np.ndarray = position.drop_null().to_numpy()
    used = len(np.unique(taken))
    if labels.used != used:
        yield f"{at}.used is {labels.used:,}, and the rows have {used:,} labels"
    if taken.max(initial=-1) >= labels.frame.rows:
        yield f"{at}.frame.rows is {labels.frame.rows:,}, and a row has label {int(taken.max()) + 1:,}"
    rest = labels.frame.rows - labels.without_key - labels.unknown - used
    if labels.superseded != rest:
        yield f"{at}.superseded or {at}.unknown or {at}.without_key or {at}.frame.rows were edited: {rest:,} labels are left, and not {labels.superseded:,}"
    if labels.unlabeled != record.log.rows - len(taken):
        yield f"{at}.unlabeled is {labels.unlabeled:,}, and {record.log.rows - len(taken):,} of lookups.log.rows have no label"
    if rows != (record.log.rows if labels.keeps_unlabeled else len(taken)):
        yield f"{at}.keeps_unlabeled is {labels.keeps_unlabeled}, and {rows:,} of {record.log.rows:,} rows are in the set"


def _wrong_join(record: LookupsRecord, names: set[str]) -> Iterator[str]:
    """How labels were joined, where that cannot be."""
    labels, at = record.labels, "lookups.labels"
    if (labels.window_micros is None) is (labels.on == KEY) or labels.on not in {KEY, LOOKUP_ID, REQUEST_ID}:
        yield f"{at}.on or {at}.window_micros were edited: labels by {labels.on} have another window"
    is_bare = labels.on == KEY and not labels.frame.as_of
    if (
        is_bare
        or not labels.columns
        or len(set(labels.columns)) != len(labels.columns)
        or (labels.on != KEY and labels.columns[1:])
    ):
        yield f"{at}.columns or {at}.frame.as_of are not such that labels are joined by {labels.on}"
    if labels.on == REQUEST_ID and REQUEST_ID not in names:
        yield f"{at}.on is {labels.on!r}, and the rows have no request ids"
    if labels.pick not in {FIRST, LAST}:
        yield f"{at}.pick is {labels.pick!r}, which is no word for it"
    limit = labels.unlabeled if labels.on == KEY else 0
    if not 0 <= labels.open_windows <= limit:
        yield f"{at}.open_windows is {labels.open_windows:,}, of {limit:,} rows that can have one"
    for name, used_columns in (
        ("columns", labels.columns),
        ("row", (labels.row,) if labels.row else ()),
        ("frame.as_of", (labels.frame.as_of,) if labels.frame.as_of else ()),
    ):
        if any(column not in labels.frame.columns for column in used_columns):
            yield f"{at}.{name} is {', '.join(used_columns)}, which {at}.frame.columns do not have"


def _wrong_label_frame(stored: StoredSet, labels: LabelsRecord) -> Iterator[str]:
    frame, at = labels.frame, "lookups.labels.frame"
    yield from frame_contradictions(frame, at=at)
    if not frame.is_kept or not frame.files:
        return
    try:
        with Part(stored.path / frame.files[0].path) as part:
            schema = part.schema.remove_metadata()
        hasher = Hasher(schema)
        rows = 0
        for table in read_parts(stored.path, frame.files):
            rows += table.num_rows
            for batch in table.to_batches():
                hasher.update(batch.replace_schema_metadata())
    except (DatasetError, pa.ArrowException):
        # What is wrong with its files is said already.
        return
    if tuple(schema.names) != frame.columns:
        yield f"{at}.columns are not those of the labels that are kept"
    if rows != frame.rows:
        yield f"{at}.rows is {frame.rows:,}, and {rows:,} labels are kept"
    if f"sha256:{hasher.finish().root.hex()}" != frame.digest:
        yield f"{at}.digest is not that of the labels that are kept"
