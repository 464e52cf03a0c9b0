"""Training sets here and through a server are one thing: the same scenarios on `hindcast.datasets` and on `hindcast_client`, over a real port."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import FeatureStore

import hindcast.datasets
import hindcast_client
from dataset_repo import RATINGS, TRIPS, frame, make_repo, ratings
from hindcast.catalog import Field as CatalogField
from hindcast.catalog import Projection, Service, View
from hindcast.clock import to_micros
from hindcast.datasets.registration import NotRegistered
from hindcast.errors import InvalidArgument, UnknownName
from hindcast.lookups.record import StoredRows
from hindcast.lookups.sealer import Sealer
from logged import log_directory, record_id
from offline_repo import hours, trips, write
from sealing import INT64, header, keep, make_catalog, make_record, write_segment
from services import run_training_sets, wait_for
from twins import close

FEATURES = ["trips:trips", "ratings:rating"]
LATER = hours(24 * 365)


@dataclass(frozen=True)
class Form:
    """One of the two."""

    name: str
    sets: Any
    module: Any
    invalid: type[Exception]
    unknown: type[Exception]

    def named(self, name: str) -> str:
        """A name of a set that the other form does not use."""
        return f"{self.name}-{name}"


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo with labels in a file that callers may name; tests give their sets names of their own."""
    root = tmp_path_factory.mktemp("sets") / "repo"
    make_repo(root)
    write(root / "labels/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    return root


@pytest.fixture(scope="module")
def lookups(repo):
    """Four lookups of the service `rides` in the sealed log of the repo, which were answered without ratings, and labels of them in a file."""
    log = log_directory(repo)
    view = View("trips", (CatalogField("driver_id", INT64),), (CatalogField("trips", INT64),), 0, 0, "trips")
    service = Service("rides", (Projection("trips", "trips", ("trips",)),), None)
    keep(log, replace(make_catalog(), views={"trips": view}, services={"rides": service}))
    records = [
        make_record(
            [driver],
            {"trips": [10 * driver]},
            served_at_micros=to_micros(hours(at)),
            service="rides",
            rows=[StoredRows("trips", header(to_micros(hours(at)) - 1))],
        )
        for driver, at in ((1, 1), (2, 3), (1, 4), (4, 6))
    ]
    write_segment(log, records)
    # Not all builds seal, and any of them can come first.
    Sealer(log, repo_root=repo).seal()
    write(repo / "labels/late.parquet", late_labels(7))
    return [record_id(one) for one in records]


def late_labels(last: int) -> pa.Table:
    """Labels of drivers, with times after some of their lookups."""
    at = pa.array([hours(2), hours(5), hours(5)], pa.timestamp("us", "UTC"))
    return pa.table({"driver_id": [1, 1, 2], "at": at, "label": [5, 6, last]})


@pytest.fixture(scope="module")
def server(repo):
    """A server of its training sets."""
    with run_training_sets(repo, "--entities-dir", str(repo / "labels")) as server:
        yield server


@pytest.fixture(scope="module")
def both(repo, server):
    """Both forms, over the same sets."""
    local = Form("local", hindcast.datasets.TrainingSets(repo), hindcast.datasets, InvalidArgument, UnknownName)
    with hindcast_client.TrainingSets(server.address) as sets:
        remote = Form("remote", sets, hindcast_client, hindcast_client.InvalidRequest, hindcast_client.NotFound)
        yield {"local": local, "remote": remote}


@pytest.fixture(params=["local", "remote"])
def form(both, request):
    """One of them."""
    return both[request.param]


def arrow() -> pa.Table:
    return pa.Table.from_pandas(frame(), preserve_index=False).replace_schema_metadata()


FRAMES: dict[str, Callable[[], Any]] = {
    "pandas": frame,
    "arrow": arrow,
    "batch": lambda: arrow().to_batches()[0],
    "batches": lambda: arrow().to_reader(max_chunksize=2),
    "polars": lambda: pl.from_arrow(arrow()),
    "lazy polars": lambda: pl.from_arrow(arrow()).lazy(),
    "duckdb": lambda: duckdb.from_arrow(arrow()),
    "path": lambda: "labels/labels.parquet",
    "sql": lambda: "SELECT * FROM 'labels/labels.parquet'",
}


@pytest.mark.parametrize("given", FRAMES)
def test_every_form_of_an_entity_frame_gives_the_same_set(both, given, monkeypatch, repo):
    """Whatever form an entity frame has, local and remote builds of it have one id, and so one manifest and one logical digest."""
    monkeypatch.chdir(repo)
    ids = {
        form.sets.build(
            f"frame-{given.replace(' ', '-')}", features=FEATURES, entity_frame=FRAMES[given](), known_at=LATER
        ).id
        for form in both.values()
    }
    assert 1 == len(ids)


def test_a_set_says_of_itself_what_the_other_form_says(both, form):
    """A set that one form built is found by the other with the same attributes, manifest and rows."""
    made = form.sets.build(
        form.named("said"),
        features="rides",
        entity_frame=frame(),
        known_at=LATER,
        full_feature_names=True,
        snapshot=True,
    )
    found = [one.sets.get(made.ref) for one in both.values()]
    said = [
        (
            one.name,
            one.version,
            one.ref,
            one.id,
            one.digest,
            one.rows,
            one.splits,
            one.schema,
            [(column.name, column.kind, column.nulls, column.quantiles) for column in one.statistics],
            [column.type for column in one.manifest.columns],
            dict(one.manifest.libraries),
            one.manifest.definitions.views[0].keys[0].column,
            one.manifest.frame.form,
            one.to_arrow(),
        )
        for one in (made, *found)
    ]
    assert said[0] == said[1] == said[2]


def test_all_keys_between_two_times(both):
    """All keys between two times are the same rows from here and from elsewhere."""
    found = [
        form.sets.build(
            form.named("keys"), features=["trips:trips"], start=date(2020, 1, 1), end=hours(1), known_at=LATER
        )
        for form in both.values()
    ]
    assert [10, None, 20] == found[0].to_arrow()["trips"].to_pylist() == found[1].to_arrow()["trips"].to_pylist()
    assert found[0].digest == found[1].digest


@pytest.mark.parametrize(
    ("known_at", "rating", "leaking"), [(hours(4), 3.5, 0), (hours(5), 3.0, 1), ("seen", 3.0, 1), ("own", 3.5, 0)]
)
def test_known_at_has_every_form(form, known_at, rating, leaking):
    """A time, a column of times and each row's own time decide what is seen."""
    made = form.sets.build(
        form.named("known"), features=["ratings:rating"], entity_frame=frame().assign(seen=hours(5)), known_at=known_at
    )
    assert (rating, leaking) == (made.to_arrow()["rating"].to_pylist()[1], made.manifest.leaks[0].rows)


def test_splits_are_dealt_and_read_alike(both):
    """Splits by key and by time have the same rows in both forms, by split, by column, shuffled and in batches."""
    told = []
    for form in both.values():
        by_key = form.sets.build(
            "by-key",
            features=FEATURES,
            entity_frame=frame(),
            known_at=LATER,
            splits=form.module.KeySplits({"train": 60, "test": 40}, by="driver_id", seed=3),
        )
        by_time = form.sets.build(
            "by-time",
            features=FEATURES,
            entity_frame=frame(),
            known_at=LATER,
            splits=form.module.TimeSplits({"train": hours(2), "test": None}),
        )
        told.append(
            (
                by_key.id,
                by_key.splits,
                by_key.to_pandas(split="train").to_dict("list"),
                by_time.id,
                by_time.splits,
                by_time.to_polars(split="test", columns=["driver_id", "rating"]).to_dict(as_series=False),
                by_time.to_arrow(shuffle_seed=7)["driver_id"].to_pylist(),
                [batch.to_pydict() for batch in by_time.batches(2)],
                by_time.to_arrow(columns=[]).num_columns,
            )
        )
    assert json.dumps(told[0], default=str) == json.dumps(told[1], default=str)
    assert {"train": 2, "test": 3} == told[0][4]
    assert [2, 2, 1] == [len(batch["driver_id"]) for batch in told[0][7]]


def test_a_frame_and_rows_of_more_than_a_message(both):
    """Frames and rows of 30 MB go through in pieces, and have one digest and the same order on both sides."""
    rows = 400_000
    large = pa.table(
        {
            "driver_id": pa.array(np.arange(rows) % 5, pa.int64()),
            "event_timestamp": pa.array([hours(3)] * rows, pa.timestamp("us", "UTC")),
            "text": pa.array([f"{number:060d}" for number in range(rows)]),
        }
    )
    made = [
        form.sets.build(form.named("large"), features=["trips:trips"], entity_frame=large, known_at=LATER)
        for form in both.values()
    ]
    assert large["text"].combine_chunks().equals(made[1].to_arrow(columns=["text"])["text"].combine_chunks())
    assert made[0].digest == made[1].digest


def test_sets_are_listed_found_and_removed(form):
    """Versions are listed by name and number, a name finds the newest and the beginning of an id its set, and a removed one is gone."""
    name = form.named("listed")
    made = [form.sets.build(name, features=FEATURES, entity_frame=frame(), known_at=hours(at)) for at in (3, 4, 5)]
    form.sets.remove(f"{name}@v2")
    assert [f"{name}@v1", f"{name}@v3"] == [one.ref for one in form.sets.list() if one.name == name]
    assert [made[2].id, made[0].id] == [form.sets.get(ref).id for ref in (name, made[0].id[:20])]
    with pytest.raises(form.unknown, match=f"did you mean '{name}@v3' or '{name}@v1'"):
        form.sets.get(f"{name}@v2")


def test_a_rebuild_is_identical(form):
    """A set that nothing has changed is made again with the same digest and the same bytes, which is verified as well."""
    made = form.sets.build(form.named("again"), features="rides", entity_frame=frame(), known_at=LATER)
    report = form.sets.rebuild(made.ref)
    assert (True, True, made.digest, 5, None) == (
        report.identical,
        report.files_identical,
        report.digest,
        report.rows,
        report.first_change,
    )
    assert form.sets.verify(made.ref).intact


def test_a_changed_source_is_named_alike(both, form, repo):
    """A value that was changed is the first change of a rebuild, with its cells and their reasons, and local and remote reports are equal."""
    made = form.sets.build(form.named("changed"), features="rides", entity_frame=frame(), known_at=LATER)
    try:
        write(repo / "data/trips.parquet", trips((1, 0, 11), *TRIPS[1:]))
        reports = [one.sets.rebuild(made.ref) for one in both.values()]
    finally:
        write(repo / "data/trips.parquet", trips(*TRIPS))
    first = reports[1].first_change
    assert ("source", "data/trips.parquet", {"per_trip": 1, "trips": 1}) == (first.kind, first.name, first.columns)
    assert (10, 11) == tuple(
        int(text) for cell in first.cells if cell.column == "trips" for text in (cell.before, cell.after)
    )
    assert asdict(reports[0]) == asdict(reports[1])


def test_two_sets_differ_alike(both, form, repo):
    """A diff has the same rows, cells, reasons and inputs in both forms."""
    name = form.named("differ")
    form.sets.build(name, features=FEATURES, entity_frame=frame(), known_at=hours(24))
    try:
        write(repo / "data/ratings.parquet", ratings(*RATINGS, (3, 0, 2.5, 1)))
        form.sets.build(name, features=[FEATURES[1]], entity_frame=frame()[1:], known_at=hours(24))
    finally:
        write(repo / "data/ratings.parquet", ratings(*RATINGS))
    found = [one.sets.diff(f"{name}@v1", f"{name}@v2") for one in both.values()]
    assert asdict(found[0]) == asdict(found[1])
    assert (False, 5, 4, ("trips",)) == (
        found[1].identical,
        found[1].rows_before,
        found[1].rows_after,
        found[1].dropped,
    )
    assert {"late row": 1} == found[1].columns[0].reasons


BAD: dict[str, dict[str, Any]] = {
    "a service that is not there": {"features": "walks", "entity_frame": frame()},
    "a view that is not there": {"features": ["walks:steps"], "entity_frame": frame()},
    "a name that is none": {"name": "../up", "features": FEATURES, "entity_frame": frame()},
    "features of one name": {"features": ["trips:trips", "trips:trips"], "entity_frame": frame()},
    "a frame without a key": {"features": FEATURES, "entity_frame": frame().drop(columns="driver_id")},
    "a frame without times": {"features": FEATURES, "entity_frame": frame().drop(columns="event_timestamp")},
    "a frame with keys of text": {"features": FEATURES, "entity_frame": frame().assign(driver_id="one")},
    "SQL that is none": {"features": FEATURES, "entity_frame": "SELECT FROM WHERE"},
    "a format that is none": {"features": FEATURES, "entity_frame": frame(), "format": "orc"},
    "a known_at column that is not there": {"features": FEATURES, "entity_frame": frame(), "known_at": "seen"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_build_is_refused_in_the_same_words(both, what):
    """What cannot be built is refused with the same kind of error, field and message, and nothing is left of it."""
    said = []
    for form in both.values():
        name = form.named("bad")
        try:
            form.sets.build(**{"name": name, **BAD[what]})
        except form.invalid as error:
            said.append([(one.field, one.description) for one in error.violations])
        except form.unknown as error:
            said.append([(getattr(error, "message", None) or str(error), "")])
        assert [] == [one for one in form.sets.list() if one.name == name]
    assert said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize("call", ["get", "rebuild", "verify", "remove", "split", "column"])
def test_what_is_not_there_is_unknown(form, call):
    """A set, a split or a column that there is not is unknown, in whichever call."""
    made = form.sets.build(form.named("unknown"), features=FEATURES, entity_frame=frame())
    ask = {
        "split": lambda: made.to_arrow(split="train"),
        "column": lambda: made.batches(columns=["fare"]),
    }.get(call, lambda: getattr(form.sets, call)("nowhere@v1"))
    with pytest.raises(form.unknown, match="does not exist"):
        ask()


def test_progress_is_told(form):
    """A build tells its phases in their order, with the rows of the set, and a rebuild tells too."""
    told: list[Any] = []
    made = form.sets.build(
        form.named("told"), features=FEATURES, entity_frame=frame(), known_at=LATER, on_progress=told.append
    )
    assert ["frame", "read", "write", "evidence"] == list(dict.fromkeys(one.phase for one in told))
    assert (5, 5) == (told[-1].done, told[-1].total)
    again: list[Any] = []
    form.sets.rebuild(made.ref, on_progress=again.append)
    assert ["read", "write"] == list(dict.fromkeys(one.phase for one in again))


def test_a_callback_that_raises_ends_the_build(form, repo):
    """A build whose callback raises ends with that, nothing of it is visible, and nothing of it stays."""

    def enough(progress: Any) -> None:
        raise KeyError(progress.phase)

    name = form.named("ended")
    # So many rows that a busy server hears that its caller has left before the last is written.
    many = pd.concat([frame()] * 40_000, ignore_index=True)
    with pytest.raises(KeyError):
        form.sets.build(name, features=FEATURES, entity_frame=many, on_progress=enough)
    assert [] == [one for one in form.sets.list() if one.name == name]
    place = repo / ".hindcast/datasets" / name
    wait_for(lambda: not place.exists() or not list(place.iterdir()), what="an empty directory")


def test_a_signature_is_verified_alike(both, tmp_path):
    """A set that was signed here is verified by the key of whom one trusts, and not by another one, from both sides."""
    for name in ("ours", "theirs"):
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / name], check=True, env=os.environ
        )
        subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / name, "-pubout", "-out", tmp_path / f"{name}.pub"], check=True
        )
    made = both["local"].sets.build("signed", features=FEATURES, entity_frame=frame(), sign=tmp_path / "ours")
    found = [
        [form.sets.verify(made.ref, key=tmp_path / f"{name}.pub") for name in ("ours", "theirs")]
        for form in both.values()
    ]
    assert [[asdict(one) for one in found[0]], [True, False]] == [
        [asdict(one) for one in found[1]],
        [one.intact for one in found[1]],
    ]


LATE: dict[str, Any] = {"service": "rides", "until": hours(24), "on": ["driver_id"], "window": timedelta(hours=3)}
OF_LOOKUPS: dict[str, Callable[[Form, list[str]], dict[str, Any]]] = {
    "rows by id": lambda _, ids: {
        "service": "rides",
        "until": hours(24),
        "labels": pa.table({"lookup_id": ids, "label": range(4)}),
        "splits": None,
    },
    "SQL by key, with all columns": lambda form, _: {
        **LATE,
        "labels": "SELECT * FROM 'labels/late.parquet'",
        "since": hours(1),
        "label_time": "at",
        "pick": "last",
        "keep_unlabeled": True,
        "statuses": True,
        "ages": True,
        "full_feature_names": True,
        "splits": form.module.TimeSplits({"train": hours(4), "test": None}),
        "git": False,
    },
    "a path by key, filled": lambda form, _: {
        **LATE,
        "on": "driver_id",
        "labels": "labels/late.parquet",
        "features": FEATURES,
        "fill": "point-in-time",
        "snapshot": True,
        "splits": form.module.KeySplits({"train": 1, "test": 1}, by="driver_id", seed=1),
        "format": "delta",
        "seal": False,
        "register": False,
        "threads": 1,
    },
}


@pytest.mark.parametrize("what", OF_LOOKUPS)
def test_sets_of_lookups_are_the_same(both, lookups, what):
    """Whatever is asked of lookups and however labels are given, local and remote sets have one id, and so one logical digest, and the same rows."""
    made = [
        form.sets.from_lookups(f"of-{what.partition(' ')[0].lower()}", **OF_LOOKUPS[what](form, lookups))
        for form in both.values()
    ]
    rows = {"rows by id": 4, "SQL by key, with all columns": 4, "a path by key, filled": 3}
    assert (rows[what], made[0].id, made[0].to_arrow()) == (made[1].rows, made[1].id, made[1].to_arrow())


def test_a_set_of_lookups_from_a_loop(both, server, repo, lookups, monkeypatch):
    """The asyncio client builds the set of lookups that the others build, and tells its phases."""
    monkeypatch.chdir(repo)
    asked = {**LATE, "labels": "labels/late.parquet"}
    told: list[Any] = []

    async def build() -> str:
        async with hindcast_client.AsyncTrainingSets(server.address) as sets:
            made = await sets.from_lookups("loop", **asked, on_progress=told.append)
            return made.id

    ids = {asyncio.run(build()), *(form.sets.from_lookups("loop", **asked).id for form in both.values())}
    assert (1, ["frame", "read", "write", "evidence"]) == (len(ids), list(dict.fromkeys(one.phase for one in told)))


def test_changed_labels_are_named_alike(both, form, repo, lookups):
    """A label that was changed in its file is the first change of a rebuild of a set of lookups, and local and remote reports are equal."""
    made = form.sets.from_lookups(form.named("relabeled"), **LATE, labels="labels/late.parquet")
    try:
        write(repo / "labels/late.parquet", late_labels(8))
        reports = [one.sets.rebuild(made.ref) for one in both.values()]
    finally:
        write(repo / "labels/late.parquet", late_labels(7))
    first = reports[1].first_change
    assert ("labels", "labels/late.parquet", {"label": 1}) == (first.kind, first.name, first.columns)
    assert asdict(reports[0]) == asdict(reports[1])


BAD_LOOKUPS: dict[str, dict[str, Any]] = {
    "a pick that is none": {"pick": "best"},
    "a fill that is none": {"fill": "later"},
    "keys without a window": {"window": None},
    "keys that labels have not": {"on": ["fare"]},
    "a feature that is none": {"features": ["trips"]},
    "times in the wrong order": {"since": hours(48)},
    "a format that is none": {"format": "orc"},
    "a name that is none": {"name": "../up"},
}


@pytest.mark.parametrize("what", BAD_LOOKUPS)
def test_a_bad_set_of_lookups_is_refused_in_the_same_words(both, lookups, what):
    """What cannot be built of lookups is refused with the same field and message, and nothing is left of it."""
    said = []
    for form in both.values():
        asked = {"name": form.named("bad"), "labels": late_labels(7), **LATE, **BAD_LOOKUPS[what]}
        with pytest.raises(form.invalid) as caught:
            form.sets.from_lookups(**asked)
        said.append([(one.field, one.description) for one in caught.value.violations])
        assert [] == [one for one in form.sets.list() if one.name == asked["name"]]
    assert said[0]
    assert said[0] == said[1]


def test_how_a_set_is_kept_is_asked_for_alike(both, repo):
    """A set is a Delta table, without a commit and in Feast's registry or not, as it is asked for, from here and from elsewhere."""
    asked = {"features": FEATURES, "entity_frame": frame(), "known_at": LATER}
    subprocess.run(["git", "init", "--quiet", repo], check=True)
    commit = ["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "--quiet", "--allow-empty", "-m", "A"]
    subprocess.run(["git", "-C", repo, *commit], check=True)
    try:
        kept = [form.sets.build("kept", **asked, format="delta", git=False, register=False) for form in both.values()]
        usual = [form.sets.build("usual", **asked) for form in both.values()]
    finally:
        shutil.rmtree(repo / ".git")
    with closing_store(repo) as store:
        listed = {one.name for one in store.list_saved_datasets()}
    assert (1, 1, 1) == tuple(
        len(set(found))
        for found in ([one.id for one in kept], [one.id for one in usual], [one.digest for one in kept + usual])
    )
    assert [(0, None, False, None, True, True)] * 2 == [
        (
            one.manifest.delta_version,
            one.manifest.git,
            one.ref in listed,
            other.manifest.delta_version,
            other.manifest.git is not None,
            other.ref in listed,
        )
        for one, other in zip(kept, usual, strict=True)
    ]


@contextlib.contextmanager
def closing_store(repo: Path) -> Iterator[FeatureStore]:
    """Feast's store of a repo."""
    store = FeatureStore(repo_path=str(repo))
    try:
        yield store
    finally:
        close(store)


@pytest.mark.parametrize("what", ["build", "from_lookups"])
def test_a_registry_that_has_another_of_the_name_is_told_alike(both, repo, lookups, tmp_path, what):
    """A set that Feast's registry does not take is built, and whoever asked for it is warned, in the same words from elsewhere."""
    asked = {
        "build": {"features": FEATURES, "entity_frame": frame(), "known_at": LATER},
        "from_lookups": {**LATE, "labels": late_labels(7)},
    }[what]
    name = f"taken-{what.partition('_')[0]}"
    other = hindcast.datasets.TrainingSets(repo, tmp_path)
    for _ in both:
        getattr(other, what)(name, **asked)
    said = []
    for form, kind in zip(both.values(), (NotRegistered, hindcast_client.NotRegistered), strict=True):
        with pytest.warns(kind, match="of another place, which stays") as warned:
            made = getattr(form.sets, what)(name, **asked)
        said.append((str(warned[0].message).replace(made.ref, ""), warned[0].filename, made.rows > 0))
    assert said[0] == said[1]
    assert __file__ == said[1][1]


def test_an_entry_that_stays_after_a_removal_is_told_alike(both, repo):
    """Where the registry cannot be had, a set is removed all the same, and whoever asked for it is warned with what to run."""
    said = []
    for form, kind in zip(both.values(), (NotRegistered, hindcast_client.NotRegistered), strict=True):
        made = form.sets.build(form.named("entry"), features=FEATURES, entity_frame=frame())
        (repo / "feature_store.yaml").rename(repo / "away.yaml")
        try:
            with pytest.warns(kind, match=f"`feast delete {made.ref}`") as warned:
                form.sets.remove(made.ref)
        finally:
            (repo / "away.yaml").rename(repo / "feature_store.yaml")
        said.append((str(repo) in str(warned[0].message), [one for one in form.sets.list() if one.ref == made.ref]))
    assert [(True, []), (False, [])] == said
