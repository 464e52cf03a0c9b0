"""Making training sets again: the same bytes, or the input that changed, and what it did."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from dataset_repo import RATINGS, TRIPS, copied, frame, make_repo, ratings, reapply
from hindcast.datasets import KeySplits, TrainingSets
from hindcast.datasets import environment
from hindcast.errors import UnknownName
from offline_repo import elsewhere, hours, trips, write

SPLITS = KeySplits({"train": 3, "test": 1}, "driver_id", seed=3)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repo with the set `rides@v1`, not to be changed, and its digest."""
    root = tmp_path_factory.mktemp("built") / "repo"
    make_repo(root)
    labels = root / "data/labels.parquet"
    write(labels, TABLE := __import__("pyarrow").Table.from_pandas(frame(), preserve_index=False).replace_schema_metadata())
    assert TABLE.num_rows == 5
    with elsewhere(root):
        made = TrainingSets(root).build("rides", features="rides", entity_frame=labels, splits=SPLITS)
    return root, made.digest


def first(report):
    """The first change of a report, in short."""
    change = report.first_change
    return None if change is None else (change.kind, change.name, change.what, change.has_effect)


def test_a_rebuild_gives_the_same_bytes(built, tmp_path):
    """A rebuild with nothing changed gives the same digest and the same bytes of all files, and reports no change."""
    report = copied(built[0], tmp_path / "repo").rebuild("rides@v1")
    assert (True, True, (), built[1]) == (report.identical, report.files_identical, report.changes, report.digest)


def rewrite_trips(root, rows):
    write(root / "data/trips.parquet", trips(*rows))


def rewrite_ratings(root, rows):
    write(root / "data/ratings.parquet", ratings(*rows))


def relabel(root):
    table = pq.read_table(root / "data/labels.parquet")
    write(root / "data/labels.parquet", table.set_column(2, "amount", [[1.0, 2.0, 3.0, 4.0, 6.0]]))


MUTATIONS = {
    "a value changed": (
        lambda root: rewrite_trips(root, [(1, 0, 11), *TRIPS[1:]]),
        ("source", "data/trips.parquet", "changed", True),
        {"changed value": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row came late": (
        lambda root: rewrite_trips(root, [*TRIPS, (2, 2, 25)]),
        ("source", "data/trips.parquet", "changed", True),
        {"late row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row came late in a part of its own": (
        lambda root: write(root / "data/trips.parquet.parts/1.parquet", trips((2, 2, 25))),
        ("source", "data/trips.parquet.parts/1.parquet", "appended", True),
        {"late row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row was corrected by a part of its own": (
        lambda root: write(root / "data/trips.parquet.parts/1.parquet", trips((2, 1, 25))),
        ("source", "data/trips.parquet.parts/1.parquet", "appended", True),
        {"correction": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a row was removed": (
        lambda root: rewrite_trips(root, [TRIPS[0], *TRIPS[2:]]),
        None,
        {},
        {},
    ),
    "the row that answered was removed": (
        lambda root: rewrite_trips(root, TRIPS[1:]),
        ("source", "data/trips.parquet", "changed", True),
        {"deleted row": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "a correction that was known already": (
        lambda root: rewrite_ratings(root, [*RATINGS, (1, 0, 4.75, 1)]),
        ("source", "data/ratings.parquet", "changed", True),
        {"correction": 1},
        {"rating": 1},
    ),
    "a file was renamed": (
        lambda root: (root / "data/trips.parquet").rename(root / "data/moved.parquet"),
        ("source", "data/trips.parquet", "renamed", None),
        {},
        {},
    ),
    "a file was removed": (
        lambda root: (root / "data/ratings.parquet").unlink(),
        ("source", "data/ratings.parquet", "removed", None),
        {},
        {},
    ),
    "the entity frame": (
        relabel,
        ("entity_frame", "data/labels.parquet", "changed", True),
        {"entity frame": 1},
        {"amount": 1},
    ),
    "a TTL": (
        lambda root: reapply(root, trips_ttl=timedelta(hours=1)),
        ("definition", "trips", "ttl", True),
        {"definition": 2},
        {"trips": 1, "per_trip": 1},
    ),
    "code of an on-demand view": (
        lambda root: reapply(root, edited=True),
        ("transform", "checks", "code", True),
        {"code": 2},
        {"per_trip": 2},
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_changed_input_is_named(built, tmp_path, what):
    """Whichever input is another one, a rebuild names it, and the cells that it changed with the reason."""
    mutate, expected, reasons, columns = MUTATIONS[what]
    sets = copied(built[0], tmp_path / "repo")
    mutate(tmp_path / "repo")
    report = sets.rebuild("rides@v1")
    if expected is None:
        assert (True, ("source", "data/trips.parquet", "changed", False)) == (report.identical, first(report))
        return
    assert (False, expected) == (report.identical, first(report))
    change = report.first_change
    assert (reasons, columns) == (dict(change.reasons), dict(change.columns))
