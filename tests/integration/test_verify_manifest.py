"""Whatever field of a manifest is edited, `verify` names it, or the documentation says that only the id or a signature proves it."""

import json
import subprocess
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureService

from dataset_repo import RATINGS, TRIPS, copied, definitions, frame, ratings
from hindcast.catalog import Field as CatalogField
from hindcast.catalog import Projection, Service, View
from hindcast.clock import to_micros
from hindcast.datasets import KeySplits, TimeSplits, TrainingSets
from hindcast.datasets.store import SetStore
from hindcast.datasets.verify import verify
from hindcast.lookups.record import StoredRows
from hindcast.lookups.segment import Gap, GapReason
from imported_code import make_repo as make_importing_repo
from logged import log_directory, record_id
from manifest_edits import edits, encoded, unproven
from offline_repo import hours, offline_repo, trips, write
from sealing import DOUBLE, INT64, header, keep, make_catalog, make_record, write_segment

SECOND = 1_000_000
LATER = hours(24 * 365)
TRIPS_VIEW = ("trips", (CatalogField("trips", INT64),))
RATINGS_VIEW = ("ratings", (CatalogField("rating", DOUBLE),))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The sets of a repo in Git that has a file which Git does not know."""
    root = tmp_path_factory.mktemp("edited")
    write(root / "made/data/trips.parquet/0.parquet", trips(*TRIPS))
    write(root / "made/data/trips.parquet/1.parquet", trips((99, 0, 1)))
    write(root / "made/data/ratings.parquet", ratings(*RATINGS))
    with offline_repo(root / "made") as store:
        objects = definitions()
        store.apply([*objects, FeatureService(name="late", features=objects[3:5])])
    table = pa.Table.from_pandas(frame().assign(seen=hours(5)), preserve_index=False)
    write(root / "made/data/more/0.parquet", table)
    write(root / "made/data/more/1.parquet", table)
    for command in (["init", "--quiet"], ["add", "feature_store.yaml"], ["commit", "--quiet", "-m", "x"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", "-C", root / "made", *who, *command], check=True)
    return copied(root / "made", root / "repo")


def of_rows(sets):
    """A set of rows of the caller, with splits by key, a snapshot, a Delta table and an on-demand view."""
    rows = pd.concat([frame(), *(frame().assign(driver_id=frame().driver_id + 4 * more) for more in range(1, 10))])
    splits = KeySplits({"train": 1, "test": 1}, by="driver_id", seed=3)
    return sets.build(
        "rows", features="rides", entity_frame=rows, splits=splits, snapshot=True, format="delta", known_at=LATER
    )


def of_path(sets):
    """A set of a file, with splits by time and a time for each row up to which it may know."""
    return sets.build(
        "path",
        features=["trips:trips", "ratings:rating"],
        entity_frame="data/more",
        splits=TimeSplits({"train": hours(2), "test": None}),
        known_at="seen",
        full_feature_names=True,
    )


def of_keys(sets):
    """A set of all keys, which knows what was known at each row's own time."""
    return sets.build("keys", features=["ratings:rating"], end=hours(3), known_at="own")


def late(driver, hour, columns, version):
    """A lookup of `late`, so many hours after noon."""
    views = {"trips": "trips", "rating": "ratings"}
    at = to_micros(hours(hour))
    stored = [StoredRows(views[name], header(at - SECOND)) for name in columns]
    answers = {name: [one] for name, one in columns.items()}
    return make_record([driver], answers, served_at_micros=at, service="late", catalog_version=version, rows=stored)


def catalog(version, *views):
    """Definitions of `late` over some views."""
    made = {name: View(name, (CatalogField("driver_id", INT64),), fields, 0, 0, name) for name, fields in views}
    service = Service("late", tuple(Projection(name, name, tuple(one.name for one in some)) for name, some in views))
    return replace(make_catalog(version=version), views=made, services={"late": service})


def log_of(sets):
    """Lookups from before and after a feature came to the service."""
    log = log_directory(sets.directory.parents[1])
    keep(log, catalog("sha256:old", TRIPS_VIEW), catalog("sha256:new", TRIPS_VIEW, RATINGS_VIEW))
    records = [
        late(1, 1, {"trips": 777}, "sha256:old"),
        late(2, 6, {"trips": None}, "sha256:old"),
        late(1, 7, {"trips": 12, "rating": None}, "sha256:new"),
    ]
    gap = Gap(first_sequence=3, last_sequence=3, reason=GapReason.OVERFLOW)
    write_segment(log, [*records[:2], gap, records[2]])
    return records


def of_lookups(sets):
    """Two sets of lookups: filled with labels by id, and as they are with labels by key in a window."""
    records = log_of(sets)
    given = {"service": "late", "until": LATER}
    by_id = pa.table({"lookup_id": list(map(record_id, records)), "label": [1, 2, 3]})
    filled = sets.from_lookups("filled", labels=by_id, fill="point-in-time", statuses=True, since=hours(0), **given)
    by_key = pa.table(
        {
            "driver_id": pa.array([1, 1, None, 9], pa.int64()),
            "at": pa.array([hours(1), hours(7), hours(7), hours(7)], pa.timestamp("us", "UTC")),
            "label": [1, 2, 3, 4],
        }
    )
    given |= {"on": "driver_id", "window": timedelta(hours=1), "keep_unlabeled": True, "ages": True}
    return filled, sets.from_lookups("served", labels=by_key, **given)


def of_code(root):
    """A set of functions that import modules of the repo."""
    make_importing_repo(root)
    return TrainingSets(root).build("code", features=["by_text:inside"], entity_frame=frame())


@pytest.fixture(scope="module")
def verdicts(sets, tmp_path_factory):
    """Name of each set -> the edits of its manifest, each with what `verify` says of it."""
    importing = of_code(tmp_path_factory.mktemp("importing") / "repo")
    found = {}
    for made in (of_rows(sets), of_path(sets), of_keys(sets), *of_lookups(sets), importing):
        store = SetStore(made.path.parents[1])
        place = made.path / "manifest.json"
        whole = place.read_bytes()
        assert () == verify(store.find(made.ref)).problems
        found[made.name] = []
        # Each statistic of each kind of column is edited in the first set; there are so many that once is enough.
        but = frozenset({"statistics"} if len(found) > 1 else ())
        for edit in edits(json.loads(whole), but=but):
            place.write_bytes(encoded(edit.said))
            found[made.name].append((edit, verify(store.find(made.ref)).problems))
        place.write_bytes(whole)
    return found


@pytest.mark.parametrize("name", ["rows", "path", "keys", "filled", "served", "code"])
def test_an_edited_field_is_named(verdicts, name):
    """What `verify` says of an edited manifest begins with the field, or with one around it, or the file that it is of."""
    unnamed = [
        (edit.path, problems)
        for edit, problems in verdicts[name]
        if problems and not any(map(edit.is_named_by, problems))
    ]
    assert [] == unnamed


def test_what_is_not_noticed_is_what_the_documentation_says(verdicts):
    """The fields that can be edited without `verify` noticing are those which docs/formats.md says only the id or a signature proves."""
    unnoticed = {edit.pattern for some in verdicts.values() for edit, problems in some if not problems}
    assert unproven() == unnoticed
