"""Every kept lookup that is wanted, one after the other, whole: of segments and of sealed tables. Imports pyarrow and deltalake.

Segments are read before the tables are looked at, so what is sealed meanwhile is met at least once; who takes lookups takes each by its id.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from hindcast.clock import from_micros
from hindcast.errors import StoredDataError
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Found, Matching, SegmentRecords
from hindcast.lookups.record import decode

_BATCH_ROWS = 512
"""Records are some 10 kB each, and megabytes at most."""


def every_lookup(log_directory: Path, wanted: Matching, *, records: SegmentRecords | None = None) -> Iterator[Found]:
    """The lookups that match, in no order; one that is sealed meanwhile, or whose answer was followed by a failure, more than once.

    Args:
        records: reads the segments, and notes what of them cannot be read.
    Raises:
        StoredDataError: a sealed record, or a file of a table, cannot be read.
    """
    yield from (records or SegmentRecords(log_directory)).every(wanted)
    place = TablePlaces(log_directory).of(RECORDS)
    if place.exists():
        yield from _sealed(place, wanted)


def _sealed(place: Path, wanted: Matching) -> Iterator[Found]:
    files = DeltaLog(place, name=RECORDS).snapshot().files
    if not files:
        return
    instant = pa.timestamp("us", tz="UTC")
    kept = ds.field("payload").is_valid()
    if wanted.since_micros is not None:
        kept &= ds.field("served_at") >= pa.scalar(from_micros(wanted.since_micros), instant)
    if wanted.until_micros is not None:
        kept &= ds.field("served_at") < pa.scalar(from_micros(wanted.until_micros), instant)
    if wanted.service is not None:
        kept &= ds.field("service") == wanted.service_shown
    columns = ["slot", "epoch", "sequence", "payload"]
    try:
        table = ds.dataset([str(file) for file in files], format="parquet")
        for batch in table.to_batches(columns=columns, filter=kept, batch_size=_BATCH_ROWS, use_threads=False):
            for row in batch.to_pylist():
                record = decode(row["payload"])
                if wanted.takes(record):
                    yield Found(WriterId(row["slot"], row["epoch"]), row["sequence"], record)
    except (OSError, pa.ArrowException) as error:
        raise StoredDataError(
            f"the table {place} cannot be read; it may have been compacted at this moment, so try once more"
        ) from error
