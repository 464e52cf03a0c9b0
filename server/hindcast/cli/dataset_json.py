"""What `hindcast dataset` prints for machines."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hindcast.datasets import Rebuild, TrainingSet


def set_json(one: "TrainingSet") -> dict[str, Any]:
    """A training set, without its manifest."""
    manifest = one.manifest
    lookups = manifest.lookups
    return {
        "name": one.name,
        "version": one.version,
        "ref": one.ref,
        "id": one.id,
        "logical_digest": one.digest,
        "rows": one.rows,
        "delta_version": manifest.delta_version,
        "columns": [column.name for column in manifest.columns],
        "features": list(manifest.features),
        "known_at": asdict(manifest.known_at),
        "splits": one.splits,
        "leaks": {leak.view: leak.rows for leak in manifest.leaks},
        "git": None if manifest.git is None else asdict(manifest.git),
        "path": str(one.path),
        "lookups": None if lookups is None else asdict(lookups),
    }


def rebuild_json(report: "Rebuild", one: "TrainingSet") -> dict[str, Any]:
    """What came of making a set again."""
    first = report.first_change
    return {
        "ref": report.ref,
        "id": report.id,
        "version": one.version,
        "identical": report.identical,
        "files_identical": report.files_identical,
        "logical_digest": report.digest,
        "expected_digest": report.expected,
        "rows": report.rows,
        "path": str(one.path),
        "as_recorded": report.as_recorded,
        "first_change": None if first is None else asdict(first),
        "changes": [asdict(change) for change in report.changes],
        "trouble": report.trouble,
    }
