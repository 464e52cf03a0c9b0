"""The demo's data: the same bytes every time, and every oddity it promises really in it."""
# what is expected comes first

import hashlib
import importlib.util
import subprocess
import sys
import unicodedata
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parents[2] / "demo" / "generate.py"
END = datetime(2026, 3, 29, 12, 34, tzinfo=UTC)
SIZE = {"accounts": 200, "days": 8, "end": END}
KEYS = {
    "account_profile": ["account_id"],
    "account_activity": ["account_id"],
    "account_velocity": ["account_id"],
    "merchant_stats": ["merchant_id"],
    "account_merchant": ["account_id", "merchant_id"],
    "device_signals": ["device_id"],
    "platform_risk": [],
}
# How long a row of the table usually takes from being true to being known, at most.
USUAL_DELAY = {
    "account_profile": timedelta(minutes=5),
    "account_activity": timedelta(hours=1),
    "account_velocity": timedelta(seconds=3),
    "merchant_stats": timedelta(hours=6),
    "account_merchant": timedelta(minutes=1),
    "device_signals": timedelta(seconds=30),
    "platform_risk": timedelta(minutes=10),
}


def load_generate():
    spec = importlib.util.spec_from_file_location("demo_generate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = load_generate().generate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    repo_dir = tmp_path_factory.mktemp("repo")
    report = generate(repo_dir, **SIZE)
    tables = {name: pq.read_table(repo_dir / "data" / f"{name}.parquet") for name in KEYS}
    labels = pq.read_table(repo_dir / "data" / "labels.parquet")
    return report, tables, labels


def digests(repo_dir):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (repo_dir / "data").iterdir()}


def by_fact(name, table):
    """The rows of each fact, which is a key and an event time; a row is its text, so that lists and NaN compare."""
    facts = defaultdict(list)
    for row in table.to_pylist():
        facts[(*(row[key] for key in KEYS[name]), row["event_ts"])].append((row["created_ts"], repr(row)))
    return facts


def test_same_seed_and_end_give_same_bytes(tmp_path, world):
    """The same seed and end give byte-identical files."""
    generate(tmp_path / "one", **SIZE)
    generate(tmp_path / "two", **SIZE)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert {*KEYS, "labels"} == {Path(name).stem for name in digests(tmp_path / "one")}


def test_other_seed_gives_other_bytes(tmp_path):
    """Another seed changes every file."""
    generate(tmp_path / "one", **SIZE, seed=1)
    generate(tmp_path / "two", **SIZE, seed=2)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert [] == [name for name in one if one[name] == two[name]]


def test_end_is_an_instant(tmp_path):
    """The same instant written in another time zone gives the same bytes."""
    generate(tmp_path / "one", **SIZE)
    generate(
        tmp_path / "two", **SIZE | {"end": END.astimezone(datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)}
    )
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_importing_it_is_light():
    """Importing the generator imports neither feast nor pandas."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import generate; print({{'feast', 'pandas'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert "set()\n" == done.stdout


def test_command_line_says_what_it_wrote(tmp_path):
    """The command line writes the same files as the function and lists them."""
    generate(tmp_path / "function", **SIZE)
    options = ["--repo", str(tmp_path / "command"), "--accounts", "200", "--days", "8", "--end", END.isoformat()]
    done = subprocess.run([sys.executable, SCRIPT, *options], check=True, capture_output=True, text=True, timeout=60)
    assert digests(tmp_path / "function") == digests(tmp_path / "command")
    assert [] == [name for name in [*KEYS, "labels"] if name not in done.stdout]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"accounts": 39}, "accounts"), ({"days": 1}, "days"), ({"end": datetime(2026, 1, 1)}, "end")],  # noqa: DTZ001
)
def test_argument_out_of_range_is_refused(tmp_path, wrong, named):
    """An argument out of range is refused by its name, and nothing is written."""
    with pytest.raises(ValueError, match=f"^{named} "):
        generate(tmp_path, **SIZE | wrong)
    assert [] == list(tmp_path.iterdir())


def test_smallest_world_has_every_oddity(tmp_path):
    """The smallest allowed world has late rows and duplicates in every table and the whole entity frame."""
    report = generate(tmp_path, accounts=40, days=2, end=END)
    assert [] == [table.name for table in report.tables if not (table.late and table.duplicates)]
    assert 2_000 == report.labels


def test_nothing_is_later_than_the_end(world):
    """No event and no arrival is later than the end, and no row is known before it is true."""
    _, tables, _ = world
    for name, table in tables.items():
        created, event = (table[column].cast(pa.timestamp("us", "UTC")) for column in ("created_ts", "event_ts"))
        assert pc.max(created).as_py() <= END, name
        assert pc.all(pc.less_equal(event, created)).as_py(), name


def test_rows_stand_in_order_of_arrival(world):
    """Each file holds its rows in the order they arrived in."""
    _, tables, _ = world
    for name, table in tables.items():
        created = table["created_ts"].to_pylist()
        assert sorted(created) == created, name


@pytest.mark.parametrize("name", KEYS)
def test_late_rows(world, name):
    """Every table has rows that became known hours after their usual delay, at least as many as reported."""
    report, tables, _ = world
    reported = next(table.late for table in report.tables if table.name == name)
    delays = pc.subtract(tables[name]["created_ts"], tables[name]["event_ts"]).to_pylist()
    late = sum(delay >= timedelta(hours=2) and delay > USUAL_DELAY[name] for delay in delays)
    assert 0 < reported <= late


@pytest.mark.parametrize("name", KEYS)
def test_corrections_and_duplicates(world, name):
    """Rows of one fact are corrections with created times of their own, or exact copies, as many as reported; never a tie."""
    report, tables, _ = world
    reported = next(table for table in report.tables if table.name == name)
    facts = by_fact(name, tables[name])
    corrections = sum(len({created for created, _ in rows}) - 1 for rows in facts.values())
    duplicates = sum(len(rows) - len(set(rows)) for rows in facts.values())
    ties = [rows for rows in facts.values() if len(set(rows)) != len({created for created, _ in rows})]
    assert (reported.corrections, reported.duplicates, []) == (corrections, duplicates, ties)
    assert duplicates > 0
    assert (corrections > 0) == (name != "device_signals")


@pytest.mark.parametrize("name", KEYS)
def test_nulls(world, name):
    """Every feature column has nulls and values; keys and times have no null."""
    _, tables, _ = world
    always = {*KEYS[name], "event_ts", "created_ts"}
    for column in tables[name].column_names:
        some_null = 0 < tables[name][column].null_count < tables[name].num_rows
        assert (column not in always) == some_null, column


def test_unicode_keys_and_values(world):
    """Keys and values leave ASCII, and two accounts differ in their Unicode form only."""
    _, tables, _ = world
    accounts = set(tables["account_profile"]["account_id"].to_pylist())
    folded = {unicodedata.normalize("NFC", account) for account in accounts}
    assert len(accounts) - 1 == len(folded)
    for table, column in [
        ("account_profile", "account_id"),
        ("merchant_stats", "merchant_id"),
        ("account_profile", "display_name"),
        ("merchant_stats", "category"),
    ]:
        assert any(value and not value.isascii() for value in tables[table][column].to_pylist()), column


def test_one_source_has_no_time_zones(world):
    """The merchants' export has naive timestamp columns, and it alone."""
    _, tables, _ = world
    for column in ("event_ts", "created_ts"):
        naive = [name for name, table in tables.items() if table.schema.field(column).type.tz is None]
        assert ["merchant_stats"] == naive


def test_keys_that_run_together(world):
    """Two pairs that read "123" when joined have histories of their own, and differ."""
    report, tables, _ = world
    histories = defaultdict(set)
    for row in tables["account_merchant"].to_pylist():
        if row["account_id"] + row["merchant_id"] == "123":
            histories[row["account_id"], row["merchant_id"]].add(row["last_amount"])
    assert {("1", "23"), ("12", "3")} <= set(histories)
    assert set() == histories["1", "23"] & histories["12", "3"] - {None}
    assert [("1", "23"), ("12", "3")] == [(live.account_id, live.merchant_id) for live in report.live[:2]]


def test_device_ids_need_all_their_bits(world):
    """Most device ids change when they pass through a float."""
    _, tables, _ = world
    ids = set(tables["device_signals"]["device_id"].to_pylist())
    assert len(ids) * 0.9 < sum(int(float(device)) != device for device in ids)


def test_lists_may_be_empty_or_null_but_hold_no_null(world):
    """Of every list type some values are empty and some null, and no value holds a null."""
    _, tables, _ = world
    lists = [(c, t[c]) for t in tables.values() for c in t.column_names if pa.types.is_list(t.schema.field(c).type)]
    assert {"double", "string", "int32", "float", "int64", "binary", "bool", "timestamp[us, tz=UTC]"} == {
        str(column.type.value_type) for _, column in lists
    }
    for name, column in lists:
        values = column.to_pylist()
        assert None in values, name
        assert all(None not in value for value in values if value is not None), name
    assert {
        "recent_amounts",
        "recent_countries",
        "account_hashes",
        "certificate_hashes",
        "check_results",
        "login_times",
    } == {name for name, column in lists if [] in column.to_pylist()}


def test_labels_are_an_entity_frame(world):
    """The labels are 2,000 past payments with keys, request data and outcome, a few of them of nobody known."""
    _, tables, labels = world
    assert [
        "event_timestamp",
        "account_id",
        "merchant_id",
        "device_id",
        "amount",
        "card_country",
        "is_fraud",
    ] == labels.column_names
    assert 2_000 == labels.num_rows
    assert pc.max(labels["event_timestamp"]).as_py() < END
    assert pc.min(labels["event_timestamp"]).as_py() < END - timedelta(days=7)
    for column, table in [
        ("account_id", "account_profile"),
        ("merchant_id", "merchant_stats"),
        ("device_id", "device_signals"),
    ]:
        strangers = set(labels[column].to_pylist()) - set(tables[table][column].to_pylist())
        assert 4 == len(strangers), column


def test_labels_follow_from_the_features(world):
    """Fraud is rare, and at least twice as common among the riskier half of accounts as among the other half."""
    report, tables, labels = world
    profiles = tables["account_profile"].to_pylist()
    score = {row["account_id"]: row["risk_score"] for row in profiles if row["risk_score"] is not None}
    rows = sorted(
        (score[row["account_id"]], row["is_fraud"]) for row in labels.to_pylist() if row["account_id"] in score
    )
    half = len(rows) // 2
    safer, riskier = (sum(fraud for _, fraud in part) for part in (rows[:half], rows[half:]))
    assert 0.02 < report.frauds / report.labels < 0.2
    assert 2 * safer < riskier
