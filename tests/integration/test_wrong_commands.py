"""Every command of `hindcast`, typed wrong: what is told, the exit code, and never a traceback."""

import json
import shutil
from datetime import datetime

import pyarrow as pa
import pytest
from click.testing import CliRunner

from dataset_repo import frame, make_repo
from faults.repos import make_repo as make_served_repo
from hindcast.cli import options
from hindcast.cli.main import cli
from hindcast.datasets import TrainingSets
from logged import log_directory
from offline_repo import write
from sealing import NOON, keep, make_catalog, make_failure, make_record, write_segment

COLUMNS = {"trips": [10, 20], "rating": [0.5, 1.0], "city": ["a", "b"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders with a repo of training sets and a log (`sets`), one that is served from a Redis that is not there (`served`), and others."""
    root = tmp_path_factory.mktemp("wrong")
    make_repo(root / "sets")
    write(root / "sets/labels.parquet", pa.Table.from_pandas(frame(), preserve_index=False))
    log = log_directory(root / "sets")
    keep(log, make_catalog())
    write_segment(log, [make_record([1, 2], COLUMNS, served_at_micros=NOON), make_failure()])
    make_served_repo(root / "served", "127.0.0.1:1")
    (root / "empty").mkdir()
    (root / "file").write_text("not a key, not SQL, no folder")
    TrainingSets(root / "sets").build(
        "fraud", features=["trips:trips"], entity_frame=str(root / "sets/labels.parquet"), register=False, git=False
    )
    return root


@pytest.fixture
def run(place, monkeypatch):
    """Run a command in the repo of training sets; where a word has `@`, that is the place of all repos."""
    monkeypatch.chdir(place / "sets")

    def run(*words):
        done = CliRunner().invoke(cli, [word.replace("@/", f"{place}/") for word in words])
        assert isinstance(done.exception, SystemExit | None)
        assert "Traceback" not in done.output
        assert "defect" not in done.output
        return done

    return run


BUILD = ("dataset", "build", "x", "--features", "rides", "--entities", "labels.parquet")
LOOKUPS = ("dataset", "from-lookups", "x", "--service", "fraud", "--labels", "labels.parquet")
SERVED = ("--repo", "@/served")
NO_REPO = "empty is not a Feast repo: it has no feature_store.yaml"
BAD = [
    (("datset",), "No such command 'datset'"),
    (("dataset", "shwo", "x"), "No such command 'shwo'"),
    ((*BUILD, "--snapshto"), "No such option"),
    (("dataset", "build", "x", "--features", "ride", "--end", "2026-03-01"), "did you mean 'rides'?"),
    (("dataset", "build", "x", "--features", "trip:trips", "--end", "2026-03-01"), "feature view 'trip' does not exist; did you mean 'trips'?"),
    (("dataset", "build", "x", "--features", "trips:trip", "--end", "2026-03-01"), "feature 'trips:trip' does not exist; did you mean 'trips:trips'?"),
    (("dataset", "build", "x", "--features", "checks:per_trp", "--end", "2026-03-01"), "did you mean 'checks:per_trip'?"),
    (("dataset", "build", "x", "--features", "trips:", "--end", "2026-03-01"), "--features: have 'trips:', which is not view:feature"),
    (("dataset", "build", "x", "--features", "rides"), "give --entities, or --end"),
    (("dataset", "build", "a/b", "--features", "rides", "--end", "2026-03-01"), "NAME: is 'a/b'"),
    (("dataset", "build", "x", "--features", "rides", "--start", "2026-03-02", "--end", "2026-03-01"), "--start is after --end"),
    (("dataset", "build", "x", "--features", "rides", "--end", "0001-01-01T00:00+05:00"), "is no time"),
    (("dataset", "build", "x", "--features", "rides", "--entities", "none.parquet"), "--entities: is the path 'none.parquet'"),
    (("dataset", "build", "x", "--features", "rides", "--entities", "SELEC"), "--entities: is no SQL"),
    ((*BUILD, "--end", "2026-03-01"), "give one of them"),
    ((*BUILD, "--known-at", "2026-13-01"), "--known-at: is '2026-13-01', which is no time and no column of the entity frame, which has 'driver_id'"),
    ((*BUILD, "--known-at", "owm"), "--known-at: is 'owm', which is no time and no column"),
    ((*BUILD, "--known-at", "driver_id"), "has times in the column 'driver_id', but it is int64"),
    ((*BUILD, "--known-at", ""), "--known-at: is empty"),
    ((*BUILD, "--split-at", "train=never"), "--split-at train=never: a split ends at a time"),
    ((*BUILD, "--split", "train=nan", "--split-by", "driver_id"), "--split train=nan: a share is a whole number"),
    ((*BUILD, "--split", "train=-1", "--split-by", "driver_id"), "no whole number of parts"),
    ((*BUILD, "--split", "train=1", "--split-by", "nope"), "hash the column 'nope'"),
    ((*BUILD, "--split", "train=1"), "give both"),
    ((*BUILD, "--seed", "7"), "--seed goes with --split"),
    ((*BUILD, "--sign", "none.pem"), "none.pem cannot be read"),
    ((*BUILD, "--sign", "@/file"), "is no private key"),
    ((*BUILD, "--threads", "0"), "not in the range"),
    ((*BUILD, "--threads", "99999999999999999999"), "not in the range"),
    ((*BUILD, "--dir", "@/file"), "is a file"),
    ((*BUILD, "--repo", "@/empty"), NO_REPO),
    (("dataset", "ls", "--repo", "@/none"), "none is not a directory"),
    (("dataset", "ls", "--repo", "~nobody-of-that-name"), "'~nobody-of-that-name' cannot be looked into"),
    (("dataset", "ls", "--repo", "x" * 300), "cannot be looked into"),
    (("dataset", "ls", "--dir", "~nobody-of-that-name"), "--dir: is '~nobody-of-that-name', which is no path here"),
    (("dataset", "ls", "--output", "yaml"), "is not one of 'text', 'json'"),
    (("dataset", "show", ""), "it is empty"),
    (("dataset", "verify", "fraud", "--key", "@/file"), "is no public key"),
    (("dataset", "rm", "fraud"), "REF: 'fraud' names no version"),
    (("dataset", "diff", "fraud"), "Missing argument 'AFTER'"),
    (("dataset", "definitions", "--features", "rides", "--to", "@/empty"), "is a directory"),
    (("dataset", "dvc", "fraud", "--file", "@/empty"), "is a directory"),
    (("dataset", "dvc", "fraud", "--file", "@/dvc.yaml", "--out", ""), "--out: is empty"),
    (("dataset", "dvc", "fraud", "--file", "@/dvc.yaml", "--stage", "a b/"), "--stage: is 'a b/'"),
    (("dataset", "serve", "--timeout-seconds", "nan"), "'nan' is no number"),
    (("dataset", "serve", "--frame-max-mb", "99999999999999999999"), "not in the range"),
    (("dataset", "serve", *SERVED), "offline_store.type is 'dask'"),
    ((*LOOKUPS, "--on", "nope"), "--on: names the keys nope"),
    ((*LOOKUPS, "--on", "driver_id", "--window", "-5d"), "is before the lookup"),
    ((*LOOKUPS, "--on", "driver_id", "--window", "nand"), "is no length"),
    ((*LOOKUPS, "--since", "99999999999999999999d"), "is no time"),
    ((*LOOKUPS, "--since", "2026-12-01", "--until", "2026-11-01"), "--since is not before --until"),
    ((*LOOKUPS, "--log-dir", "@/none"), "does not exist"),
    (("dataset", "from-lookups", "x", "--service", "nope", "--labels", "labels.parquet"), "--service: 'nope' has no lookups"),
    (("receipt", ""), "it is empty"),
    (("receipt", "x", "--rows", "-1"), "not in the range"),
    (("receipt", "x", "--repo", "@/empty"), NO_REPO),
    (("receipt", "x", "--log-dir", "@/none"), "does not exist"),
    (("receipt", "order-\udcff"), "is no UTF-8"),
    (("lookups", "ls", "--repo", "@/empty"), NO_REPO),
    (("lookups", "ls", "--status", "nope"), "'nope' is no status"),
    (("lookups", "ls", "--tag", "x"), "is not NAME=VALUE"),
    (("lookups", "ls", "--since", "0001-01-01T00:00+05:00"), "is no time"),
    (("lookups", "ls", "--since", "2026-12-01", "--until", "2026-11-01"), "--since is not before --until"),
    (("lookups", "check", "--repo", "@/empty"), NO_REPO),
    (("lookups", "check", "--log-dir", "@/file"), "is a file"),
    (("lookups", "check", "--log-dir", "@/empty"), "is no log of lookups; give the --log-dir of `hindcast serve`"),
    (("lookups", "sql", "DROP VIEW lookups"), "is not one SELECT"),
    (("lookups", "sql", "SELECT nope FROM lookups"), '"nope" not found'),
    (("lookups", "sql", "SELECT 1", "--repo", "@/empty"), NO_REPO),
    (("lookups", "ls", "--service", "frod"), "feature service 'frod' does not exist; did you mean 'fraud'?"),
    (("lookups", "erase", "--entity", "x"), "is not KEY=VALUE"),
    (("lookups", "erase", "--entity", "driver_di=9"), "--entity: 'driver_di' is no join key that the log's or the repo's definitions have; did you mean 'driver_id'"),
    (("lookups", "erase", "--entity", "driver_id=abc"), "--entity: 'abc' can be no value of driver_id, which is INT64; write a whole number"),
    (("lookups", "erase", "--entity", "driver_id=9", "--wait-seconds", "nan"), "'nan' is no number"),
    (("lookups", "erase", "--entity", "driver_id=9", "--wait-seconds", "inf"), "not in the range"),
    (("lookups", "seal", "--follow", "1e300"), "not in the range"),
    (("lookups", "seal", "--keep-days", "99999999999999"), "not in the range"),
    (("lookups", "seal", "--repo", "@/empty"), NO_REPO),
    (("runs", "show", ""), "it is empty"),
    (("runs", "ls", "--repo", "@/file"), "file is not a directory"),
    (("generations",), "Hindcast serves from Redis"),
    (("generations", "--view", "drivr", *SERVED), "did you mean 'driver' or 'driver_week'?"),
    (("materialize", *SERVED), "take one of --replace"),
    (("materialize", "--replace", "drivr", *SERVED), "did you mean 'driver' or 'driver_week'?"),
    (("materialize", "--replace", "driver", "--start", "soon", *SERVED), "'soon' is no time"),
    (("materialize", "--replace", "driver", "--keep-old-seconds", "99999999999999", *SERVED), "not in the range"),
    (("migrate", "--view", "drivr", *SERVED), "did you mean 'driver' or 'driver_week'?"),
    (("migrate", "--future-seconds", "99999999999999", *SERVED), "not in the range"),
    (("replay",), "give the ID of a lookup"),
    (("replay", ""), "it is empty"),
    (("replay", "nope"), "receipt 'nope' does not exist"),
    (("replay", "nope", "--repo", "@/empty"), NO_REPO),
    (("replay", "--service", "nope"), "feature service 'nope' does not exist; there are fraud"),
    (("replay", "--service", "rides"), "nothing was compared: there are no such lookups of 'rides'"),
    (("replay", "--since", "2026-12-01", "--until", "2026-11-01"), "--since is not before --until"),
    (("redis", "status", "--repo", "@/empty"), NO_REPO),
    (("serve", "--seal-seconds", "nan", *SERVED), "'nan' is no number"),
    (("serve", "--drain-seconds", "inf", *SERVED), "not in the range"),
    (("serve", "--timeout-ms", "99999999999999999999", *SERVED), "not in the range"),
    (("serve", "--log-dir", "@/file", *SERVED), "is a file"),
    (("serve", "--training-sets-address", "127.0.0.1:0", *SERVED), "offline_store.type is 'dask'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"), BAD, ids=[" ".join(words).encode("ascii", "replace").decode() for words, _ in BAD]
)
def test_what_is_typed_wrong_is_bad_usage(run, words, said):
    """It is told in words that say what was meant or what to write, with exit code 2, and nothing is printed for machines."""
    done = run(*words)
    assert (2, "", True) == (done.exit_code, done.stdout, said in done.stderr), done.stderr


NONE = [
    (("dataset", "show", "frod"), "training set 'frod' does not exist; did you mean 'fraud'?"),
    (("dataset", "show", "fraud@1"), "did you mean 'fraud@v1'?"),
    (("dataset", "rebuild", "frod"), "did you mean 'fraud'?"),
    (("dataset", "verify", "frod"), "did you mean 'fraud'?"),
    (("dataset", "diff", "fraud", "frod"), "did you mean 'fraud'?"),
    (("dataset", "register", "frod"), "did you mean 'fraud'?"),
    (("dataset", "rm", "fraud@v9"), "did you mean 'fraud@v1'?"),
    (("dataset", "dvc", "frod"), "did you mean 'fraud'?"),
    (("receipt", "nope"), "receipt 'nope' does not exist"),
    (("runs", "show", "nope"), "run 'nope' does not exist"),
    (("migrate", *SERVED), "does not answer"),
    (("serve", *SERVED), "does not answer"),
    (("dataset", "definitions", "--features", "rides", "--to", "@/file/x"), "cannot be written"),
    ((*BUILD, "--no-register", "--dir", "/proc/none"), "did not take the training set"),
]


@pytest.mark.parametrize(("words", "said"), NONE, ids=[" ".join(words) for words, _ in NONE])
def test_what_is_not_there_or_fails_is_a_line(run, words, said):
    """That nothing of a name was kept, or that something did not work, is one line and exit code 1."""
    done = run(*words)
    assert (1, "", 1, True) == (done.exit_code, done.stdout, done.stderr.count("\n"), said in done.stderr), done.stderr


def test_an_empty_place_is_named(run, place):
    """A list of sets says where it looked, which may be elsewhere than somebody thought."""
    done = run("dataset", "ls", "--dir", "@/empty")
    assert (0, f"no training sets in {place}/empty yet; `hindcast dataset build` makes one\n") == (
        done.exit_code,
        done.stdout,
    )


def test_an_absurd_time_in_a_manifest_is_damage(run, place, tmp_path):
    """A manifest with a time that no calendar has is damaged; nothing overflows, and what is said names the file."""
    shutil.copytree(place / "sets/.hindcast/datasets", tmp_path / "sets")
    manifest = tmp_path / "sets/fraud/v1/manifest.json"
    content = json.loads(manifest.read_text())
    for micros in (10**18, 10**30):
        content["known_at"]["micros"] = micros
        manifest.write_text(json.dumps(content))
        for command in (("show", "fraud"), ("ls",), ("verify", "fraud"), ("rebuild", "fraud")):
            done = run("dataset", *command, "--dir", str(tmp_path / "sets"))
            assert (1, f"hindcast: {manifest} is no manifest of a training set, or damaged; build the set anew\n") == (
                done.exit_code,
                done.stderr,
            )


def test_numbers_that_are_none_are_valid_json(run):
    """What a query answers is JSON that every parser reads, also where a double is no number."""
    query = "SELECT 'nan'::DOUBLE AS x, ['-inf'::DOUBLE] AS y, 1.5::DOUBLE AS z"
    done = run("lookups", "sql", query, "--output", "json")

    def refuse(constant):
        raise AssertionError(constant)

    assert [{"x": "NaN", "y": ["-Infinity"], "z": 1.5}] == json.loads(done.stdout, parse_constant=refuse)


@pytest.mark.usefixtures("run")
def test_a_terminal_that_has_no_such_letters():
    """Where the output's encoding lacks a letter it is written as an escape."""
    done = CliRunner(charset="latin-1").invoke(cli, ["lookups", "sql", "SELECT 'K\u00f6ln \u2713' AS city"])
    assert (0, "K\u00f6ln \\u2713") == (done.exit_code, done.stdout.splitlines()[1])


def test_instants():
    """A time without a zone is UTC, and one that is outside the years in UTC is none."""
    assert datetime.fromisoformat("2026-11-01T12:00:00+00:00") == options.instant("2026-11-01T14:00:00+02:00")
    assert datetime.fromisoformat("2026-11-01T12:00:00+00:00") == options.instant("2026-11-01T12:00:00")
    for text in ("9999-12-31T23:00:00-05:00", "2026-02-30", ""):
        with pytest.raises(ValueError, match=r"."):
            options.instant(text)


def _leaves(command, words=()):
    """All commands, with their words."""
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from _leaves(one, (*words, name))
        else:
            yield (*words, name), one


def test_every_command_is_tried_here():
    """A command that is added gets a wrong call in these tables, but for those of the embedded Redis that take a repo and nothing else."""
    tried = {words[: len(leaf)] for leaf, _ in _leaves(cli) for words, _ in [*BAD, *NONE]}
    assert {("redis", "start"), ("redis", "stop")} == {leaf for leaf, _ in _leaves(cli)} - tried


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_every_number_has_two_ends(kind):
    """No option takes a number of any size: each has a least and a greatest, but seeds and counts, which only Python keeps."""
    free = {"seed", "rows_max", "limit", "sample", "in_flight_max_values", "waiting_max", "share"}
    open_ended = [
        (leaf, parameter.name)
        for leaf, command in _leaves(cli)
        for parameter in command.params
        if kind in parameter.type.name and (getattr(parameter.type, "min", None) is None or parameter.type.max is None)
        if parameter.name not in free
    ]
    assert [] == open_ended
