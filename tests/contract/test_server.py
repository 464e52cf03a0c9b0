"""The server on the demo repo: every service and many feature lists, on all three gRPC services, asked through Feast's own
generated stubs and through the client, equal what Feast's SDK gives from Feast's own Redis store for the same data.

differences.md lists where they differ on purpose; the tests named there show both sides.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
import pytest
from feast.errors import FeatureNameCollisionError
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2 import GetFeastServingInfoRequest, GetOnlineFeaturesRequest
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast_client import Client, FeatureStatus
from twins import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT, plain_bytes

MARGIN_SECONDS = 60.0
"""No row that is asked for grows stale within this time: the judge and the server are asked one after the other."""

TYPES = {
    "account_id": ValueType.STRING,
    "payer_account_id": ValueType.STRING,
    "payee_account_id": ValueType.STRING,
    "merchant_id": ValueType.STRING,
    "device_id": ValueType.INT64,
    "amount": ValueType.DOUBLE,
    "card_country": ValueType.STRING,
}
REQUEST_DATA = ("amount", "card_country")
ALL_KEYS = ("account_id", "merchant_id", "device_id")

QUESTIONS = {
    "payment_risk": ("payment_risk", (*ALL_KEYS, *REQUEST_DATA)),
    "transfer_risk": ("transfer_risk", ("payer_account_id", "payee_account_id")),
    "account_screening": ("account_screening", ("account_id", "device_id")),
    "one feature": (["account_profile:country"], ("account_id",)),
    "bytes and times": (
        ["account_profile:document_hash", "account_profile:opened_at", "merchant_stats:onboarded_at"],
        ("account_id", "merchant_id"),
    ),
    "arrays": (
        ["device_signals:certificate_hashes", "device_signals:login_times", "account_activity:hourly_counts"],
        ("account_id", "device_id"),
    ),
    "views in turns": (
        ["account_profile:country", "merchant_stats:category", "account_profile:risk_score", "platform_risk:usd_rate"],
        ("account_id", "merchant_id"),
    ),
    "composite key": (["account_merchant:last_amount", "account_merchant:is_trusted"], ("account_id", "merchant_id")),
    "short-lived": (["account_velocity:amount_10m", "account_velocity:payments_10m"], ("account_id",)),
    "on demand, pandas": (["amount_checks:credit_used"], ("account_id", *REQUEST_DATA)),
    "on demand and its input": (
        ["account_profile:credit_limit", "amount_checks:amount_to_mean"],
        ("account_id", *REQUEST_DATA),
    ),
    "no entity": (["platform_risk:usd_rate", "platform_risk:fraud_rate_24h"], ("account_id",)),
}
PYTHON_MODE = ("route_checks__card_is_foreign", "route_checks__borders_crossed")


@dataclass(frozen=True)
class Cell:
    """What Feast says of one value: its bytes, and when it was true (empty where there is no row, and on demand)."""

    value: bytes
    event_ts: bytes


@pytest.fixture(scope="module")
def rows(demo_repo, judge):
    """Entity rows: live keys, shuffled ones, keys nobody has, repeats; none that is about to grow stale."""
    rng = random.Random(5)
    live = list(demo_repo.live)
    picked = []
    for at in range(120):
        one, other, third = (rng.choice(live) if at > 30 else live[at] for _ in range(3))
        picked.append(
            {
                "account_id": one.account_id if at % 11 else f"unknown-{at}",
                "merchant_id": (other if at % 3 else one).merchant_id if at % 13 else "unknown",
                "device_id": third.device_id if at % 17 else at,
                "payer_account_id": one.account_id,
                "payee_account_id": other.account_id if at % 7 else "unknown",
                "amount": None if at % 19 == 3 else round(rng.uniform(1, 500), 2),
                "card_country": None if at % 23 == 4 else rng.choice(["DE", "FR"]),
            }
        )
    kept = picked + rng.choices(picked, k=20)
    for view in judge.list_feature_views():
        if not view.ttl:
            continue
        keys = [key for key in view.join_keys if key != "__dummy_id"] or ["account_id"]
        answer = judge.get_online_features(
            [f"{view.name}:{view.features[0].name}"], [{key: row[key] for key in keys} for row in kept]
        )
        now = datetime.now(UTC)
        times = answer.proto.results[-1].event_timestamps
        ages = [(now - moment.ToDatetime(tzinfo=UTC)).total_seconds() for moment in times]
        ttl = view.ttl.total_seconds()
        kept = [row for row, age in zip(kept, ages, strict=True) if not ttl - MARGIN_SECONDS < age <= ttl]
    assert len(kept) > 60
    return kept


@pytest.fixture(scope="module")
def ttls(judge):
    """View name, or its alias in a service, to its TTL in seconds."""
    of_view = {view.name: view.ttl.total_seconds() for view in judge.list_feature_views()}
    aliases = {"payer_account": "account_profile", "payee_account": "account_profile"}
    return of_view | {alias: of_view[name] for alias, name in aliases.items()}


@pytest.fixture(scope="module")
def channel(demo_server):
    """A connection to the server."""
    with grpc.insecure_channel(demo_server.address) as opened:
        yield opened


STUBS = {"ServingService": ServingServiceStub, "GrpcFeatureServer": GrpcFeatureServerStub}


def taken(rows, names):
    return {name: [row[name] for row in rows] for name in names}


def column_of(name, values):
    return RepeatedValue(val=python_values_to_proto_values(values, TYPES[name]))


def request_of(features, columns, *, full_names, context=()):
    """A request of Feast's services; `context` names the columns that go into `request_context`."""
    request = GetOnlineFeaturesRequest(full_feature_names=full_names)
    if isinstance(features, str):
        request.feature_service = features
    else:
        request.features.val.extend(features)
    for name, values in columns.items():
        (request.request_context if name in context else request.entities)[name].CopyFrom(column_of(name, values))
    return request


def cells(response):
    """Column name to cells."""
    return {
        name: [
            Cell(plain_bytes(value), plain_bytes(moment))
            for value, moment in zip(vector.values, vector.event_timestamps, strict=True)
        ]
        for name, vector in zip(response.metadata.feature_names.val, response.results, strict=True)
    }


NULL_TIME = Value(unix_timestamp_val=-(2**63)).SerializeToString()
"""What Feast's materialization makes of a null time; Hindcast's makes a null (differences.md)."""


def feasts_cells(response):
    """Column name to cells, as Feast gives them, with a null for its mark of one."""
    return {
        name: [Cell(b"", cell.event_ts) if cell.value == NULL_TIME else cell for cell in column]
        for name, column in cells(response).items()
    }


def asked_of_judge(judge, features, columns, *, full_names):
    service = judge.get_feature_service(features) if isinstance(features, str) else features
    return judge.get_online_features(service, dict(columns), full_feature_names=full_names)


def columns_asked(judge, features):
    """(view's name or alias, feature) of every column of the answer, in order."""
    if not isinstance(features, str):
        return [tuple(ref.split(":")) for ref in features]
    projections = judge.get_feature_service(features).feature_view_projections
    return [(one.name_to_use(), feature.name) for one in projections for feature in one.features]


def is_full(full_names, view, feature):
    return f"{view}__{feature}" if full_names else feature


def stale(cell, ttl):
    """Whether a row is past its view's TTL now; no row of these tests is near it."""
    return bool(ttl and cell.event_ts) and (datetime.now(UTC) - moment_of(cell)).total_seconds() > ttl


def moment_of(cell):
    return Timestamp.FromString(cell.event_ts).ToDatetime(tzinfo=UTC)


NAMES = pytest.mark.parametrize("full_names", [False, True], ids=["short", "full"])
QUESTION = pytest.mark.parametrize("question", QUESTIONS)


def collides(question, full_names):
    return question == "transfer_risk" and not full_names


@QUESTION
@NAMES
@pytest.mark.parametrize("stub", STUBS)
def test_feasts_services_answer_as_feasts_sdk(judge, channel, rows, ttls, question, full_names, stub):
    """Through Feast's own stubs each value, time and column is the one that Feast's SDK gives; statuses say more."""
    features, names = QUESTIONS[question]
    columns = taken(rows, names)
    request = request_of(features, columns, full_names=full_names)
    if collides(question, full_names):
        with pytest.raises(FeatureNameCollisionError):
            asked_of_judge(judge, features, columns, full_names=full_names)
        with pytest.raises(grpc.RpcError) as refused:
            STUBS[stub](channel).GetOnlineFeatures(request, timeout=10)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return
    expected = feasts_cells(asked_of_judge(judge, features, columns, full_names=full_names).proto)
    response = STUBS[stub](channel).GetOnlineFeatures(request, timeout=10)
    answered = cells(response)
    if full_names and question == "payment_risk":
        # Feast loses a python-mode view's columns under full names; their values are the ones under short names.
        assert set(answered) - set(expected) == set(PYTHON_MODE)
        short = feasts_cells(asked_of_judge(judge, features, columns, full_names=False).proto)
        expected |= {name: short[name.removeprefix("route_checks__")] for name in PYTHON_MODE}

    assert answered == expected
    entities = sorted(set(names) - set(REQUEST_DATA))
    asked = columns_asked(judge, features)
    assert list(response.metadata.feature_names.val) == entities + [is_full(full_names, *one) for one in asked]
    statuses = dict(zip(response.metadata.feature_names.val, (r.statuses for r in response.results), strict=True))
    for name in entities:
        assert set(statuses[name]) == {PRESENT}
    for view, feature in asked:
        column = answered[is_full(full_names, view, feature)]
        told = list(statuses[is_full(full_names, view, feature)])
        if view not in ttls:  # on demand
            assert told == [PRESENT] * len(rows)
        else:
            assert told == [status_of(cell, ttls[view]) for cell in column]


def status_of(cell, ttl):
    """The status on Feast's services, by the row's time."""
    if not cell.event_ts:
        return NOT_FOUND
    return OUTSIDE_MAX_AGE if stale(cell, ttl) else PRESENT


@pytest.mark.parametrize(
    ("question", "full_names"),
    # Colliding names are refused, which the test above holds.
    [(question, full) for question in QUESTIONS for full in (False, True) if not collides(question, full)],
)
def test_the_client_answers_as_feasts_sdk(judge, demo_server, rows, ttls, question, full_names):
    """On hindcast.v1 the client's Python values are Feast's, null where the row is stale, with status and time."""
    features, names = QUESTIONS[question]
    needed = [name for name in names if question != "no entity"]
    columns = taken(rows, needed)
    judged = asked_of_judge(judge, features, taken(rows, names), full_names=full_names)
    python, seen = judged.to_dict(), feasts_cells(judged.proto)
    if full_names and question == "payment_risk":
        short = asked_of_judge(judge, features, columns, full_names=False)
        python |= {name: short.to_dict()[name.removeprefix("route_checks__")] for name in PYTHON_MODE}
        seen |= {name: feasts_cells(short.proto)[name.removeprefix("route_checks__")] for name in PYTHON_MODE}
    with Client(demo_server.address) as client:
        result = client.get_online_features(
            features=features,
            entities={name: values for name, values in columns.items() if name not in REQUEST_DATA},
            request_data={name: values for name, values in columns.items() if name in REQUEST_DATA},
            full_feature_names=full_names,
        )
    asked = columns_asked(judge, features)
    assert list(result.names) == [is_full(full_names, *one) for one in asked]
    answer = result.to_dict()
    for view, feature in asked:
        name = is_full(full_names, view, feature)
        cells_of, values, ttl = seen[name], python[name], ttls.get(view)
        if question == "no entity":
            cells_of, values = cells_of[:1], values[:1]
        late = [stale(cell, ttl) for cell in cells_of]
        expected = [None if gone else value for gone, value in zip(late, values, strict=True)]
        assert repr(answer[name]) == repr(expected)
        assert result.statuses[name] == [
            FeatureStatus.OUTSIDE_MAX_AGE
            if gone
            else FeatureStatus.NOT_FOUND
            if ttl is not None and not cell.event_ts
            else FeatureStatus.PRESENT
            if cell.value
            else FeatureStatus.NULL_VALUE
            for gone, cell in zip(late, cells_of, strict=True)
        ]
        assert result.event_timestamps[name] == [moment_of(cell) if cell.event_ts else None for cell in cells_of]


@pytest.mark.parametrize("stub", STUBS)
def test_request_data_may_be_sent_in_its_own_field(channel, rows, stub):
    """`request_context`, which Feast's Python server ignores, and `entities`, where it looks, give the same answer."""
    features, names = QUESTIONS["payment_risk"]
    columns = taken(rows, names)
    ask = STUBS[stub](channel).GetOnlineFeatures
    among, apart = (
        ask(request_of(features, columns, full_names=False, context=context), timeout=10)
        for context in ((), REQUEST_DATA)
    )

    assert cells(among) == cells(apart)


def test_an_entity_column_that_is_not_needed_is_told_back(judge, channel, rows):
    """Every join key of the project that is sent comes back, needed or not, as Feast's SDK does."""
    columns = taken(rows[:3], ["account_id", "merchant_id"])
    features = ["account_profile:country"]
    expected = feasts_cells(asked_of_judge(judge, features, columns, full_names=False).proto)
    response = ServingServiceStub(channel).GetOnlineFeatures(
        request_of(features, columns, full_names=False), timeout=10
    )

    assert cells(response) == expected


def test_an_entitys_name_stands_for_its_join_key(judge, channel, rows):
    """Feast's deprecated way to name a column by its entity still works, and its answer names the join key."""
    values = [row["account_id"] for row in rows[:3]]
    request = GetOnlineFeaturesRequest()
    request.features.val.append("account_profile:country")
    request.entities["account"].CopyFrom(column_of("account_id", values))
    with pytest.warns(UserWarning, match="Using entity name is deprecated"):
        expected = cells(judge.get_online_features(["account_profile:country"], {"account": values}).proto)

    assert cells(ServingServiceStub(channel).GetOnlineFeatures(request, timeout=10)) == expected


def test_a_null_join_key_matches_nothing(channel):
    """A null key is a row without values where Feast fails the whole request."""
    request = GetOnlineFeaturesRequest()
    request.features.val.append("account_profile:country")
    request.entities["account_id"].val.extend([Value(), Value(string_val="1")])
    response = ServingServiceStub(channel).GetOnlineFeatures(request, timeout=10)

    assert list(response.results[1].statuses) == [NOT_FOUND, PRESENT]


def test_the_serving_info_is_feasts_version(channel):
    """Old clients ask which Feast they talk to."""
    info = ServingServiceStub(channel).GetFeastServingInfo(GetFeastServingInfoRequest(), timeout=10)

    assert info.version == "0.67.0"


@QUESTION
def test_any_order_and_repetition_gives_the_same_rows(channel, rows, question):
    """Permuted, repeated and asked one by one, an entity row answers the same."""
    features, names = QUESTIONS[question]
    full_names = question == "transfer_risk"
    rng = random.Random(7)

    def ask(chosen):
        request = request_of(features, taken(chosen, names), full_names=full_names)
        answered = cells(ServingServiceStub(channel).GetOnlineFeatures(request, timeout=10))
        return [tuple((name, column[at]) for name, column in answered.items()) for at in range(len(chosen))]

    at_once = ask(rows)
    order = rng.choices(range(len(rows)), k=2 * len(rows))
    assert ask([rows[at] for at in order]) == [at_once[at] for at in order]
    assert [ask([row])[0] for row in rows[:5]] == at_once[:5]
