"""Building training sets, and loading, listing, verifying, comparing and removing them."""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import run_command
from dataset_repo import TRIPS, copied, frame, make_repo
from hindcast.cli.dataset_text import diff_text, show_text
from hindcast.clock import system_clock, to_micros
from hindcast.datasets import KeySplits, TimeSplits, TrainingSets
from hindcast.datasets.known_digests import KnownDigests
from hindcast.errors import DatasetError, InvalidArgument, Overloaded, RepoError, UnknownName
from offline_repo import elsewhere, hours, trips, write

FEATURES = ["trips:trips", "ratings:rating"]
LATER = hours(24 * 365)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo with labels in a file; tests give their sets names of their own."""
    root = tmp_path_factory.mktemp("sets") / "repo"
    make_repo(root)
    write(root / "data/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    return root


@pytest.fixture
def sets(repo):
    """Its training sets."""
    return TrainingSets(repo)


def arrow():
    return pa.Table.from_pandas(frame(), preserve_index=False).replace_schema_metadata()


FORMS = {
    "pandas": frame,
    "arrow": arrow,
    "batches": lambda: arrow().to_reader(max_chunksize=2),
    "polars": lambda: pl.from_arrow(arrow()),
    "lazy polars": lambda: pl.from_arrow(arrow()).lazy(),
    "duckdb": lambda: duckdb.from_arrow(arrow()),
    "path": lambda: "data/labels.parquet",
    "sql": lambda: "SELECT * FROM 'data/labels.parquet'",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_entity_frame_gives_the_same_rows(sets, form):
    """Whatever form the entity frame has, its columns come first as they are, then the features, and a rebuild is identical."""
    made = sets.build(f"form-{form.replace(' ', '-')}", features=FEATURES, entity_frame=FORMS[form](), known_at=LATER)
    expected = {
        **arrow().to_pydict(),
        "trips": [10, 20, None, None, None],
        "rating": [4.5, 3.0, None, 4.0, None],
    }
    found = made.to_arrow().to_pydict()
    found["event_timestamp"] = expected["event_timestamp"] if len(found["event_timestamp"]) == 5 else None
    assert (expected, True) == (found, sets.rebuild(made.ref).identical)


def test_all_keys_between_two_times_are_kept_with_the_set(sets):
    """Without an entity frame the set has each key at each time of a row, and the frame is kept, so that later rows do not change it."""
    made = sets.build("all-keys", features=["trips:trips"], end=hours(1), known_at=LATER)
    assert {"driver_id": [1, 3, 2], "trips": [10, None, 20]} == made.to_arrow(
        columns=["driver_id", "trips"]
    ).to_pydict()
    assert ("keys", True) == (made.manifest.frame.form, made.manifest.frame.is_kept)


def test_known_at_decides_which_rows_are_seen(sets):
    """A set sees what was known by its time, by each row's column, or by each row's own time, which leaves no leak."""
    ratings = {
        name: sets.build(f"known-{number}", features=["ratings:rating"], entity_frame=given, known_at=known_at)
        for number, (name, given, known_at) in enumerate(
            [
                ("time", frame(), hours(4)),
                ("later", frame(), hours(5)),
                ("column", frame().assign(seen=hours(5)), "seen"),
                ("own", frame(), "own"),
            ]
        )
    }
    found = {
        name: (made.to_arrow()["rating"].to_pylist()[1], made.manifest.leaks[0].rows) for name, made in ratings.items()
    }
    assert {"time": (3.5, 0), "later": (3.0, 1), "column": (3.0, 1), "own": (3.5, 0)} == found


def test_now_is_written_down(repo):
    """Without `known_at` a set sees what is known now, by the clock, and its manifest says when that was."""
    made = TrainingSets(repo, clock=lambda: to_micros(hours(4))).build(
        "now", features=["ratings:rating"], entity_frame=frame()
    )
    assert (to_micros(hours(4)), 3.5) == (made.manifest.known_at.micros, made.to_arrow()["rating"].to_pylist()[1])


def test_two_builds_of_the_same_are_one_set_under_two_numbers(sets):
    """Two builds of the same have the same id and the same bytes, and each has a number of its own."""
    one, two = (sets.build("twice", features=FEATURES, entity_frame=frame(), known_at=LATER, threads=n) for n in (1, 3))
    assert (one.id, one.digest, [1, 2]) == (two.id, two.digest, [one.version, two.version])
    assert one.manifest.files == two.manifest.files
    assert two.ref == sets.get(one.id[:20]).ref


def test_builders_at_once_get_numbers_of_their_own(repo):
    """Four builders of one name at once get the versions 1 to 4, each whole."""
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda _: TrainingSets(repo).build("race", features=FEATURES, entity_frame=frame()), range(4))
        )
    assert [1, 2, 3, 4] == sorted(one.version for one in made)
    assert {True} == {TrainingSets(repo).verify(one.ref).intact for one in made}


def test_a_removed_number_is_not_given_again(sets):
    """After the newest version was removed, the next build takes the next number, and the removed one is unknown."""
    for _ in range(2):
        sets.build("removed", features=FEATURES, entity_frame=frame())
    sets.remove("removed@v2")
    with pytest.raises(UnknownName, match="removed@v1"):
        sets.get("removed@v2")
    assert ("removed@v3", ["removed@v1", "removed@v3"]) == (
        sets.build("removed", features=FEATURES, entity_frame=frame()).ref,
        [one.ref for one in sets.list() if one.name == "removed"],
    )


KILLED = """
import os, signal, sys
from hindcast.datasets import TrainingSets
from hindcast.datasets import build, store
module, name = {"rows": (build, "write_rows"), "evidence": (build, "write_origins"), "manifest": (store, "sync")}[sys.argv[2]]
real = getattr(module, name)
def dying(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, dying)
TrainingSets(sys.argv[1]).build("killed", features=["trips:trips"], entity_frame="data/labels.parquet")
"""


@pytest.mark.parametrize("step", ["rows", "evidence", "manifest"])
def test_a_killed_build_leaves_nothing_visible(repo, tmp_path, step):
    """A build that is killed after any of its steps leaves no set, and the next build of the name removes what it left."""
    sets = copied(repo, tmp_path / "repo")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, tmp_path / "repo", step], check=False, cwd=tmp_path / "repo"
    )
    left = [path.name for path in (sets.directory / "killed").iterdir()]
    found = [one.ref for one in sets.list() if one.name == "killed"]
    made = sets.build("killed", features=FEATURES, entity_frame=frame())
    after = [path.name for path in (sets.directory / "killed").iterdir()]
    assert (-signal.SIGKILL, 1, [], "killed@v1", ["v1"]) == (done.returncode, len(left), found, made.ref, after)


def test_splits_by_time_end_where_the_next_begins(sets):
    """A row at the time where a split ends is in the next one, and a split is loaded by its name without the column of splits."""
    made = sets.build(
        "by-time",
        features=FEATURES,
        entity_frame=frame(),
        splits=TimeSplits({"train": hours(2), "validation": hours(9), "test": None}),
    )
    assert {"train": 2, "validation": 2, "test": 1} == made.splits
    assert {"driver_id": [2, 4]} == made.to_arrow(split="validation", columns=["driver_id"]).to_pydict()
    assert "__split" not in made.to_arrow(split="test").column_names
    assert ["train", "validation", "train", "test", "validation"] == made.to_arrow()["__split"].to_pylist()


def test_splits_by_key_keep_a_key_together(sets):
    """All rows of a key are in one split, of about the share asked for, and another seed deals them out anew."""
    many = pa.table({"driver_id": [n % 1_000 for n in range(3_000)], "event_timestamp": [hours(1)] * 3_000})
    made = [
        sets.build(
            f"by-key-{seed}",
            features=["trips:trips"],
            entity_frame=many,
            splits=KeySplits({"train": 80, "test": 20}, "driver_id", seed=seed),
        )
        for seed in (1, 2)
    ]
    by_key = made[0].to_pandas().groupby("driver_id")["__split"].nunique()
    assert {1} == set(by_key)
    assert 0.75 < made[0].splits["train"] / 3_000 < 0.85
    assert made[0].to_arrow()["__split"] != made[1].to_arrow()["__split"]


def test_rows_come_in_every_form(sets):
    """The rows are the same as Arrow, pandas, Polars and batches of any size, and a shuffle by a seed is the same each time."""
    made = sets.build("forms", features=FEATURES, entity_frame=frame(), known_at=LATER)
    table = made.to_arrow()
    assert table.equals(pa.Table.from_batches(list(made.batches(2))))
    assert table.to_pandas().equals(made.to_pandas())
    assert table["trips"].to_pylist() == made.to_polars()["trips"].to_list()
    assert [2, 2, 1] == [batch.num_rows for batch in made.batches(2)]
    shuffled = made.to_arrow(columns=["driver_id"], shuffle_seed=7)["driver_id"].to_pylist()
    assert (shuffled, [1, 1, 2, 3, 4]) == (
        made.to_arrow(columns=["driver_id"], shuffle_seed=7)["driver_id"].to_pylist(),
        sorted(shuffled),
    )


def test_verify_names_the_file_that_was_changed(repo, tmp_path):
    """A set whose file was changed is not intact, and the file and the row group are named."""
    sets = copied(repo, tmp_path / "repo")
    made = sets.build("rides", features=FEATURES, entity_frame=frame())
    path = made.path / made.manifest.files[0].path
    table = pq.read_table(path)
    assert () == sets.verify("rides").problems
    write(path, table.set_column(4, "trips", pa.array([10, 21, None, None, None], pa.int64())))
    assert (
        "data/part-00000.parquet has other bytes than its manifest says",
        "the rows from 0 on, in row group 0, are other ones",
    ) == sets.verify("rides").problems


def edited(change):
    """A change of the manifest of a set in a directory, written as a build writes it."""

    def change_manifest(path):
        said = json.loads((path / "manifest.json").read_bytes())
        change(said)
        (path / "manifest.json").write_bytes(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())

    return change_manifest


TAMPERED = {
    "a file that nobody listed": (
        lambda path: (path / "data/part-00001.parquet").write_bytes(b""),
        "data/part-00001.parquet is no file of the set",
    ),
    "the size of a file": (
        edited(lambda said: said["files"][0].update(bytes=1)),
        "data/part-00000.parquet has other bytes than its manifest says",
    ),
    "the number of rows": (
        edited(lambda said: said.update(rows=7)),
        "rows are 7 in the manifest, and there are 5",
    ),
    "the columns": (
        edited(lambda said: said["columns"][0].update(type="int32")),
        "columns are other ones in the manifest than those of the rows",
    ),
    "the rows of splits": (
        edited(lambda said: said["splits"].update(rows=[5, 5])),
        "splits have other numbers of rows in the manifest than there are",
    ),
    "a line end": (
        lambda path: (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes() + b"\n"),
        "manifest.json is not written as a build writes it: it was edited",
    ),
    "a signature without an end": (
        lambda path: (path / "signature.json").write_bytes(b"[" * 100_000),
        "signature.json is damaged, of another manifest, or not by the key that was given",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_verify_says_what_was_changed(sets, tmp_path, what):
    """What was changed beside the rows is found too, and said."""
    change, said = TAMPERED[what]
    splits = KeySplits({"train": 1, "test": 1}, "driver_id")
    made = sets.build(f"changed-{list(TAMPERED).index(what)}", features=FEATURES, entity_frame=frame(), splits=splits)
    change(made.path)
    assert (said,) == sets.verify(made.ref).problems


def test_a_set_is_the_frame_of_another_one(sets):
    """A column of splits that a frame brings is a column as any other of a set without splits, which is intact and is made again."""
    first = sets.build(
        "first", features=FEATURES, entity_frame=frame(), splits=KeySplits({"a": 1, "b": 1}, "driver_id")
    )
    again = first.to_arrow().drop(["trips", "rating"])
    second = sets.build("second", features=FEATURES, entity_frame=again)
    assert "__split" in second.schema.names
    assert ((), True) == (sets.verify("second").problems, sets.rebuild("second").identical)


@pytest.mark.parametrize(
    "change",
    [
        edited(lambda said: said.update(files=[])),
        edited(lambda said: said["files"][0].update(path="../../other/v1/data/part-00000.parquet")),
        edited(lambda said: said["frame"]["files"][0].update(path="/etc/hostname")),
        lambda path: (path / "manifest.json").write_bytes(b"[" * 100_000),
        lambda path: (path / "manifest.json").write_bytes(b'{"format":1,"name":"\xf3"}'),
    ],
)
def test_a_manifest_that_no_build_writes_is_refused(repo, tmp_path, change):
    """A manifest without files, with files elsewhere, without an end or with bytes that are no text is damaged, and nothing is read of it."""
    sets = TrainingSets(repo, tmp_path / "sets")
    change(sets.build("odd", features=FEATURES, entity_frame=frame(), register=False).path)
    with pytest.raises(DatasetError, match="is no manifest of a training set"):
        sets.get("odd")


def test_a_name_with_a_dot_is_not_taken_for_another_column(sets):
    """A column `amount.x` that stands before a column `amount` is neither loaded nor compared in its place."""
    dotted = frame().rename(columns={"is_late": "amount.x"})[["driver_id", "event_timestamp", "amount.x", "amount"]]
    first = sets.build("dotted", features=FEATURES, entity_frame=dotted)
    second = sets.build("dotted", features=FEATURES, entity_frame=dotted.assign(amount=[9.0, 2.0, 3.0, 4.0, 5.0]))
    assert [1.0, 2.0, 3.0, 4.0, 5.0] == first.to_arrow(columns=["amount"]).column("amount").to_pylist()
    assert [("amount", 1)] == [(one.column, one.rows) for one in sets.diff(first.ref, second.ref).columns]


def test_a_signed_set_is_proven_by_the_key(sets, tmp_path):
    """A set that was signed is intact for the public key, and not for another one, nor is one without a signature."""
    keys = [tmp_path / name for name in ("a.pem", "b.pem")]
    for key in keys:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        public = ["openssl", "pkey", "-in", key, "-pubout", "-out", key.with_suffix(".pub")]
        subprocess.run(public, check=True, capture_output=True)
    given = {"features": FEATURES, "entity_frame": frame()}
    signed, plain = sets.build("signed", sign=keys[0], **given), sets.build("signed", **given)
    found = [
        sets.verify(one.ref, key=key).problems
        for one, key in ((signed, None), (signed, keys[0].with_suffix(".pub")), (plain, None))
    ]
    assert [(), (), ()] == found
    assert ("not by the key" in sets.verify(signed.ref, key=keys[1].with_suffix(".pub")).problems[0]) is True
    assert ("the set is not signed",) == sets.verify(plain.ref, key=keys[0].with_suffix(".pub")).problems


def test_diff_tells_rows_cells_and_columns(repo, tmp_path):
    """The difference of two sets has the rows that only one has, the cells that differ with the reason, and the columns."""
    sets = copied(repo, tmp_path / "repo")
    sets.build("rides", features=FEATURES, entity_frame=frame(), known_at=LATER)
    write(tmp_path / "repo/data/trips.parquet", trips((1, 0, 11), *TRIPS[1:], (2, 2, 25)))
    other = frame().iloc[[3, 1, 0]].reset_index(drop=True)
    sets.build("rides", features=[*FEATURES, "ratings:rating"][:1], entity_frame=other, known_at=LATER)
    found = sets.diff("rides@v1", "rides@v2")
    assert (5, 3, 3, ("rating",)) == (found.rows_before, found.rows_after, found.rows_both, found.dropped)
    assert ["3", "4"] == [row["driver_id"] for row in found.only_before]
    assert [("trips", 2, {"changed value": 1, "late row": 1})] == [
        (column.column, column.rows, dict(column.reasons)) for column in found.columns
    ]
    assert True is sets.diff("rides@v1", "rides@v1").identical


def test_diff_says_what_was_asked_otherwise(sets):
    """Where two sets differ because another time was known, that is the reason, and no row of a source is called deleted."""
    given = {"features": ["ratings:rating"], "entity_frame": frame()}
    before, after = (sets.build("asked", known_at=known_at, **given) for known_at in (hours(5), "own"))
    found = sets.diff(before.ref, after.ref)
    assert [("rating", {"known at": 1})] == [(column.column, dict(column.reasons)) for column in found.columns]
    assert [("known_at", hours(5).isoformat(), "own")] == [(one.kind, one.before, one.after) for one in found.inputs]
    text = diff_text(found)
    assert f"what could be known {hours(5).isoformat()} → own" in text
    assert "ratings: 1 of 3 rows take a value that was created after their time, 2.0 h at worst" in show_text(before)


def test_no_estimate_is_shown_of_more_values_than_rows(sets):
    """The estimated number of different values is shown as the number of rows that have one, where it is greater."""
    made = sets.build("estimated", features=["ratings:rating"], entity_frame=frame(), known_at=LATER)
    (*others, rating) = made.manifest.statistics
    guessed = dataclasses.replace(rating, rows=4, nulls=1, distinct=5, distinct_is_exact=False)
    manifest = dataclasses.replace(made.manifest, statistics=[*others, guessed])
    shown = show_text(dataclasses.replace(made, stored=dataclasses.replace(made.stored, manifest=manifest)))
    (line,) = [line for line in shown.splitlines() if line.startswith("  rating ")]
    assert ["25%", "~3"] == line.split()[3:5]


def test_diff_says_what_a_column_let_be_known(sets):
    """Where the frame's own column says what was known, and says another time, that is the reason of a cell, and no row came late."""
    frames = [frame().assign(known=[hours(known)] * 5) for known in (4, 5)]
    before, after = (
        sets.build("known", features=["ratings:rating"], entity_frame=given, known_at="known") for given in frames
    )
    found = {one.column: (one.rows, dict(one.reasons)) for one in sets.diff(before.ref, after.ref).columns}
    assert {"known": (5, {"entity frame": 5}), "rating": (1, {"known at": 1})} == found


def test_the_repo_in_git_is_written_down(repo, tmp_path):
    """A set says the commit of its repo and whether files differ from it; our own state does not count."""
    sets = copied(repo, tmp_path / "repo")
    root = tmp_path / "repo"
    (root / ".gitignore").write_text("data\n*.db\n")

    def git(*arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        done = subprocess.run(["git", "-C", root, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".gitignore", "feature_store.yaml")
    git("commit", "--quiet", "-m", "Begin")
    clean = sets.build("git", features=FEATURES, entity_frame=frame()).manifest.git
    (root / "views.py").touch()
    dirty = sets.build("git", features=FEATURES, entity_frame=frame()).manifest.git
    assert (git("rev-parse", "HEAD"), False, ()) == (clean.commit, clean.is_dirty, clean.changed)
    assert (clean.commit, True, ("views.py",)) == (dirty.commit, dirty.is_dirty, dirty.changed)


WRONG = {
    "no threads": ({"threads": 0}, InvalidArgument),
    "a name with a slash": ({"name": "a/b"}, InvalidArgument),
    "a name that would be hidden": ({"name": ".a"}, InvalidArgument),
    "no entity frame": ({"entity_frame": None}, InvalidArgument),
    "an entity frame and times": ({"end": hours(1)}, InvalidArgument),
    "an unknown service": ({"features": "nothing"}, UnknownName),
    "an unknown view": ({"features": ["nothing:trips"]}, UnknownName),
    "a column that is not there": ({"known_at": "nothing"}, InvalidArgument),
    "a frame without the keys": ({"entity_frame": frame()[["event_timestamp"]]}, InvalidArgument),
    "a frame without what the on-demand view needs": (
        {"features": "rides", "entity_frame": frame().drop(columns="amount")},
        InvalidArgument,
    ),
    "splits of nothing": ({"splits": KeySplits({}, "driver_id")}, InvalidArgument),
    "splits by a column that is not there": ({"splits": KeySplits({"all": 1}, "nothing")}, InvalidArgument),
    "splits that end before they begin": (
        {"splits": TimeSplits({"a": hours(2), "b": hours(1), "c": None})},
        InvalidArgument,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_built_is_refused(sets, what):
    """What cannot be built is refused in our own words, and leaves no set."""
    changed, error = WRONG[what]
    before = [one.ref for one in sets.list()]
    with pytest.raises(error):
        sets.build(**{"name": "wrong", "features": FEATURES, "entity_frame": frame(), **changed})
    assert before == [one.ref for one in sets.list()]


def test_only_builds_go_by_known_digests(repo, tmp_path):
    """A build takes a digest that is known of a file that nobody touched; one that hashes its sources does not, and neither does a rebuild."""
    sets = copied(repo, tmp_path / "repo")
    path = tmp_path / "repo/data/trips.parquet"
    wrong = "f" * 64
    known = KnownDigests(
        tmp_path / "repo/.hindcast/source-digests", clock=lambda: system_clock() + 600_000_000, read=lambda _: wrong
    )
    known.sha256(path)
    known.keep()
    asked = {"features": ["trips:trips"], "entity_frame": frame(), "known_at": LATER}
    built = [sets.build("known", **asked), sets.build("known", **asked, hash_sources=True)]
    told = [made.manifest.sources[0].files[0].sha256 for made in built]
    assert [wrong, hashlib.sha256(path.read_bytes()).hexdigest()] == told
    reports = [sets.rebuild(made.ref) for made in built]
    found = [(report.identical, [change.name for change in report.changes]) for report in reports]
    assert [(True, ["data/trips.parquet"]), (True, [])] == found
    assert ["source-digests"] == [file.name for file in (tmp_path / "repo/.hindcast").iterdir() if file.is_file()]


def test_what_is_not_there_is_said(sets, tmp_path):
    """A set, a split and a column that are not there, a repo that is none and a damaged manifest are errors of the tree."""
    made = sets.build("there", features=FEATURES, entity_frame=frame())
    for ref in ("nothing", "there@v9", "there@1", "sha256:00000000", "../there"):
        with pytest.raises(UnknownName):
            sets.get(ref)
    with pytest.raises(UnknownName, match="no splits"):
        made.to_arrow(split="train")
    with pytest.raises(UnknownName, match="driver_id"):
        made.to_arrow(columns=["nothing"])
    with pytest.raises(RepoError):
        TrainingSets(tmp_path).build("x", features=FEATURES, entity_frame=frame())
    sets_of_mine = copied(sets.directory.parents[1], tmp_path / "repo")
    (sets_of_mine.get("there").path / "manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match="no manifest"):
        sets_of_mine.get("there")


def test_the_command_line_builds_lists_shows_and_removes(repo, tmp_path):
    """Every command of `hindcast dataset` does its part, and says it in JSON too."""
    copied(repo, tmp_path / "repo")

    def run(*arguments):
        with elsewhere(tmp_path):
            done = run_command("hindcast", "dataset", *arguments, "--repo", "repo")
        return done.returncode, done.stdout

    split = ["--split", "train=3", "--split", "test=1", "--split-by", "driver_id"]
    code, text = run(
        "build", "cli", "--features", "rides", "--entities", "data/labels.parquet", *split, "--output", "json"
    )
    made = json.loads(text)
    assert (0, "cli@v1", 5) == (code, made["ref"], made["rows"])
    assert {"id", "version", "logical_digest", "rows", "path"} <= made.keys()
    code, text = run(
        "build", "cli", "--features", "trips:trips", "--features", "ratings:rating", "--end", "2026-03-01T13:00:00"
    )
    assert (0, True) == (code, text.startswith("✓ built cli@v2: 3 rows, 4 columns"))
    listed = [one["ref"] for one in json.loads(run("ls", "--output", "json")[1])]
    assert ["cli@v1", "cli@v2"] == [ref for ref in listed if ref.startswith("cli@")]
    assert "trips:trips" in run("show", "cli@v2")[1]
    assert (0, True) == (run("verify", "cli@v1")[0], "identical" in run("rebuild", "cli@v1")[1])
    code, text = run("diff", "cli@v1", "cli@v2")
    assert (3, True) == (code, "columns gone" in text)
    assert (0, 1, 2) == (run("rm", "cli@v2")[0], run("show", "cli@v2")[0], run("show", "cli@v1", "--nonsense")[0])
    assert 2 == run("build", "cli", "--features", "rides", "--end", "never")[0]


@pytest.mark.parametrize("phase", ["read", "write", "evidence"])
@pytest.mark.parametrize(
    "missing", [MemoryError(), pa.ArrowMemoryError("malloc"), RuntimeError("can't start new thread")]
)
def test_a_build_without_memory_says_what_to_do_and_leaves_nothing(sets, phase, missing):
    """Where the process may have no more, wherever that is met, the error names the setting, and no version is begun."""

    def meet(progress):
        if progress.phase == phase:
            raise missing

    with pytest.raises(Overloaded, match="lower memory_limit_mb in the offline_store block"):
        sets.build("starved", features=["trips:trips"], entity_frame=frame(), on_progress=meet, register=False)
    assert [] == list((sets.directory / "starved").iterdir())
