"""The demo's training sets on Spark and on DuckDB, row by row."""

import math
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from conftest import ROOT
from spark.conftest import END
from spark.stores import QUIET, cells_by_row

pytestmark = QUIET

SERVICES = ["payment_risk", "transfer_risk", "account_screening"]
MICRO = pd.Timedelta(microseconds=1)


@pytest.fixture(scope="module")
def frame(demo):
    """The demo's labels, and rows that they lack: duplicates, nulls, lives that end, late rows, and payers with payees."""
    data = demo.root / "data"
    labels = pd.read_parquet(data / "labels.parquet").astype({"device_id": "Int64"})
    velocity = pd.read_parquet(data / "account_velocity.parquet").head(20)
    profile = pd.read_parquet(data / "account_profile.parquet")
    late = profile[profile["created_ts"] - profile["event_ts"] > pd.Timedelta(hours=2)]
    odd = [
        labels.head(25),
        labels.head(3).assign(account_id=None),
        labels.head(3).assign(merchant_id=None),
        labels.head(3).assign(device_id=pd.array([None] * 3, dtype="Int64")),
        # account_velocity lives for ten minutes: its first and last microsecond, and those beside them.
        *(
            velocity[["account_id"]].assign(event_timestamp=velocity["event_ts"] + past)
            for past in (pd.Timedelta(0), -MICRO, pd.Timedelta(minutes=10), pd.Timedelta(minutes=10) + MICRO)
        ),
        late[["account_id"]].assign(event_timestamp=late["event_ts"]),
    ]
    rest = {"merchant_id": "1", "device_id": 1, "amount": 1.0, "card_country": "DE", "is_fraud": False}
    filled = [labels, *(rows if "amount" in rows else rows.assign(**rest) for rows in odd)]
    whole = pd.concat(filled, ignore_index=True).astype({"device_id": "Int64"})
    return whole.assign(
        payer_account_id=whole["account_id"],
        payee_account_id=whole["account_id"].to_numpy()[::-1],
        row=range(len(whole)),
    )


@pytest.fixture(scope="module")
def results(demo, frame):
    """Asks each store once for each service."""
    answers = {}

    def ask(service, store, **options):
        key = (service, store, *options)
        if key not in answers:
            feast = getattr(demo, store)
            job = feast.get_historical_features(
                frame.copy(),
                feast.get_feature_service(service),
                full_feature_names=service == "transfer_risk",
                **options,
            )
            answers[key] = job.to_df()
        return answers[key]

    return ask


@pytest.mark.parametrize("service", SERVICES)
def test_every_cell_is_equal(results, frame, service):
    """Each row of the entity frame has the same cells on Spark as on DuckDB, on-demand features included."""
    duckdb, spark = results(service, "duckdb"), results(service, "spark")
    assert list(duckdb.columns) == list(spark.columns)
    assert len(frame) == len(duckdb)
    expected, actual = cells_by_row(duckdb), cells_by_row(spark)
    assert list(range(len(frame))) == sorted(actual)
    assert [] == [(row, expected[row], actual[row]) for row in expected if expected[row].keys() != actual[row].keys()]


@pytest.mark.parametrize("service", SERVICES)
def test_a_winner_that_is_stored_twice_is_two_rows(demo, results, frame, service):
    """On Spark a row comes once for each source row that is equal to its winner in key and both times, and for each combination of those over the views."""
    expected = winners(demo, frame, service)
    actual = Counter(int(row) for row in results(service, "spark")["row"])
    assert expected == actual
    assert len(frame) < actual.total()
    assert len(frame) == len(results(service, "duckdb"))


def test_values_known_later_are_left_out_alike(results):
    """`filter_by_created_timestamp` leaves the same values on both."""
    duckdb, spark = (
        cells_by_row(results("transfer_risk", store, filter_by_created_timestamp=True)) for store in ("duckdb", "spark")
    )
    assert {row: cells.keys() for row, cells in duckdb.items()} == {row: cells.keys() for row, cells in spark.items()}
    assert duckdb != cells_by_row(results("transfer_risk", "duckdb"))


def test_rows_come_in_no_order(results):
    """Spark gives rows back in another order than the entity frame's."""
    rows = list(results("account_screening", "spark")["row"])
    assert sorted(rows) != rows


def test_times_have_no_zone(results):
    """Times come back from Spark as UTC without saying so."""
    found = results("account_screening", "spark")[["event_timestamp", "opened_at"]].dtypes
    assert [True, True] == [dtype == "datetime64[ns]" for dtype in found]
    assert str(results("account_screening", "duckdb")["event_timestamp"].dtype).endswith("UTC]")


def test_materialization_reads_the_same_rows(demo):
    """`feast materialize` under the Spark store brings online what a point-in-time read of its end gives, views without entities too."""
    views = ["account_profile", "platform_risk"]
    demo.spark.materialize(END - pd.Timedelta(days=40), END, feature_views=views)
    keys = [{"account_id": str(number)} for number in range(1, 20)]
    features = ["account_profile:country", "account_profile:lifetime_payments", "platform_risk:usd_rate"]
    online = demo.spark.get_online_features(features, keys).to_dict()
    asked = pd.DataFrame(keys).assign(event_timestamp=pd.Timestamp(END), row=range(len(keys)))
    offline = demo.duckdb.get_historical_features(asked, features).to_df()
    served = pd.DataFrame({name: online[name] for name in offline.columns if name in online})
    names = [feature.split(":")[1] for feature in features]
    assert cells_by_row(offline[["row", *names]]) == cells_by_row(served[names].assign(row=range(len(keys))))


@pytest.mark.parametrize(("copies", "exit_code"), [(1, 0), (2, 3)])
def test_a_user_can_compare_too(demo, frame, results, tmp_path, copies, exit_code):
    """`same-on-spark` finds rows that come once to be the same, and rows that come twice not to be, by their number alone."""
    counts = Counter(results("transfer_risk", "spark")["row"])
    asked = frame[[counts[row] == copies for row in frame["row"]]].drop(columns="row").head(10)
    asked.to_parquet(tmp_path / "entities.parquet")
    script = ROOT / "deploy" / "ci" / "same-on-spark"
    done = subprocess.run(
        [sys.executable, script, demo.root, "transfer_risk", tmp_path / "entities.parquet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exit_code == done.returncode
    assert f"10 rows asked, 10 from DuckDB, {10 * copies} from Spark" in done.stdout
    assert "differs in" not in done.stdout


def winners(demo, frame, service):
    """For each row of the frame how many combinations of equal source rows it has, over the service's views: found by looking at every row."""
    store = demo.duckdb
    copies = Counter(dict.fromkeys(range(len(frame)), 1))
    for projection in store.get_feature_service(service).feature_view_projections:
        if projection.name in {"amount_checks", "route_checks"}:
            continue
        view = store.get_feature_view(projection.name)
        source = pd.read_parquet(demo.root / view.batch_source.path)
        keys = [key.name for key in view.entity_columns if key.name != "__dummy_id"]
        times = {}
        for key, event, created in zip(
            _tuples(source, keys), _utc(source["event_ts"]), _utc(source["created_ts"]), strict=True
        ):
            times.setdefault(key, []).append((event, created))
        asked = _tuples(frame, [projection.join_key_map.get(key, key) for key in keys])
        life = view.ttl or pd.Timedelta.max
        for row, (key, as_of) in enumerate(zip(asked, frame["event_timestamp"], strict=True)):
            candidates = [each for each in times.get(key, []) if pd.Timedelta(0) <= as_of - each[0] <= life]
            copies[row] *= candidates.count(max(candidates)) if candidates else 1
    assert math.prod(copies.values()) > 1
    return copies


def _tuples(table, names):
    return list(zip(*(table[name] for name in names), strict=True)) if names else [()] * len(table)


def _utc(times):
    return times.dt.tz_localize("UTC") if times.dt.tz is None else times
