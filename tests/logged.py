"""What a server has logged of its lookups, read from its segment files while it goes on."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from hindcast.lookups.record import LookupRecord, decode
from hindcast.lookups.segment import Gap, scan
from services import wait_for


def log_directory(repo: Path) -> Path:
    """Where a server of this repo logs if it is told nothing else."""
    return repo / ".hindcast" / "lookups"


def records(directory: Path) -> list[LookupRecord]:
    """All records in segment files, open ones too."""
    found = []
    for path in sorted((directory / "segments").glob("*")):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # it has just been sealed, under another name
            content = path.with_suffix(".sealed").read_bytes()
        found += [decode(record.payload) for record in scan(content).records]
    return found


def gaps(directory: Path) -> list[Gap]:
    """The gaps that the segment files tell of."""
    return [gap for path in (directory / "segments").glob("*") for gap in scan(path.read_bytes()).gaps]


def record_id(record: LookupRecord) -> str:
    """A lookup's id as callers see it."""
    return str(UUID(bytes=record.lookup_id))


def record_of(directory: Path, lookup_id: str) -> LookupRecord:
    """The one record of a lookup, which is there as soon as its answer is."""
    (record,) = [record for record in records(directory) if record.lookup_id == UUID(lookup_id).bytes]
    return record


def wait_for_record(directory: Path, wanted: Callable[[LookupRecord], object]) -> LookupRecord:
    """The one record that is wanted, of a lookup whose caller did not wait for its end."""
    wait_for(lambda: any(map(wanted, records(directory))), what="the record")
    (record,) = filter(wanted, records(directory))
    return record
