"""Random changes of the inputs of one set: whatever was changed is named, with the cells that differ."""

import os
import random
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_repo import copied, definitions, frame, ratings, reapply
from hindcast.datasets import TrainingSets, environment
from imported_code import make_repo as make_importing_repo
from offline_repo import hours, offline_repo, trips, write

DRIVERS, PARTS, ROWS = 40, 3, 400
MUTATIONS = int(os.environ.get("HINDCAST_MUTATIONS", "24"))
"""`HINDCAST_MUTATIONS=200` draws two hundred."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repo with a source of several parts, and a set of 300 rows."""
    root = tmp_path_factory.mktemp("mutated") / "repo"
    chance = random.Random(11)
    for part in range(PARTS):
        rows = [(chance.randrange(DRIVERS), chance.randrange(1_000) / 10, chance.randrange(1, 99)) for _ in range(ROWS)]
        write(root / f"data/trips.parquet/{part}.parquet", trips(*rows))
    rated = [(chance.randrange(DRIVERS), chance.randrange(1_000) / 10, chance.random()) for _ in range(ROWS)]
    write(root / "data/ratings.parquet", ratings(*((*row, row[1] + chance.random()) for row in rated)))
    labels = {
        "driver_id": pa.array([chance.randrange(DRIVERS) for _ in range(300)]),
        "event_timestamp": [hours(chance.randrange(1_000) / 10) for _ in range(300)],
        "amount": [chance.random() for _ in range(300)],
    }
    write(root / "data/labels.parquet", pa.table(labels))
    with offline_repo(root) as store:
        store.apply(definitions())
    TrainingSets(root).build("rides", features="rides", entity_frame=root / "data/labels.parquet")
    return root


@pytest.fixture(scope="module")
def importing(tmp_path_factory):
    """A repo whose functions import modules of the repo, and a set of it."""
    root = tmp_path_factory.mktemp("importing") / "repo"
    make_importing_repo(root)
    TrainingSets(root).build("rides", features="scaled", entity_frame=frame())
    return root


def change_value(root, chance, _patch):
    """Another number of trips in one row of a part."""
    path = root / f"data/trips.parquet/{chance.randrange(PARTS)}.parquet"
    table = pq.read_table(path)
    values = table["trips"].to_numpy().copy()
    values[chance.randrange(ROWS)] += 1_000
    write(path, table.set_column(2, "trips", pa.array(values)))
    return "source", str(path.relative_to(root)), "changed"


def add_late_row(root, chance, _patch):
    """A part more, with one row."""
    path = root / "data/trips.parquet/late.parquet"
    write(path, trips((chance.randrange(DRIVERS), chance.randrange(1_000) / 10, 5_000)))
    return "source", str(path.relative_to(root)), "appended"


def remove_row(root, chance, _patch):
    """A row less in a part."""
    path = root / f"data/trips.parquet/{chance.randrange(PARTS)}.parquet"
    table = pq.read_table(path)
    write(path, table.take(pa.array(np.delete(np.arange(ROWS), chance.randrange(ROWS)))))
    return "source", str(path.relative_to(root)), "changed"


def rename_file(root, chance, _patch):
    """A part under another name, which may come elsewhere in the order."""
    path = root / f"data/trips.parquet/{chance.randrange(PARTS)}.parquet"
    path.rename(path.with_name(f"{chance.choice('0z')}-moved.parquet"))
    return "source", str(path.relative_to(root)), "renamed"


def change_ttl(root, chance, _patch):
    """Another TTL."""
    reapply(root, trips_ttl=timedelta(hours=chance.choice([1, 2, 3, 4])))
    return "definition", "trips", "ttl"


def edit_code(root, _chance, _patch):
    """Another function."""
    reapply(root, edited=True)
    return "transform", "checks", "code"


def edit_module(root, chance, _patch):
    """A module that a function imports, near or far, with another number or a comment, or gone."""
    path = root / chance.choice(["amounts.py", "scales/linear.py"])
    if chance.randrange(3) == 0:
        path.unlink()
        return "module", str(path.relative_to(root)), "removed"
    edited = path.read_text().replace("FACTOR = 2", f"FACTOR = {chance.randrange(100, 999)}")
    path.write_text(f"{edited}# {chance.random()}\n")
    return "module", str(path.relative_to(root)), "changed"


def fake_library(_root, chance, patch):
    """Another version of a library."""
    name, real = chance.choice(["duckdb", "pyarrow", "numpy"]), environment.version
    patch.setattr(environment, "version", lambda asked: "0.0" if asked == name else real(asked))
    return "library", name, "version"


KINDS = (change_value, add_late_row, remove_row, rename_file, change_ttl, edit_code, edit_module, fake_library)


@pytest.mark.parametrize("seed", range(MUTATIONS))
def test_whatever_was_changed_is_named(built, importing, tmp_path, seed, monkeypatch):
    """One random change is the first that a rebuild names, and it has an effect exactly where the digest is another one, which it explains to the cell."""
    mutate = KINDS[seed % len(KINDS)]
    sets = copied(importing if mutate is edit_module else built, tmp_path / "repo")
    expected = mutate(tmp_path / "repo", random.Random(seed), monkeypatch)
    report = sets.rebuild("rides@v1")
    change = report.first_change
    assert expected == (change.kind, change.name, change.what)
    # Of what is gone nobody knows the effect.
    assert (1, report.identical) == (len(report.changes), change.has_effect is False)
    assert (report.identical or change.has_effect is None) == (not sum(change.columns.values()))
