"""Bad requests on a real server: the exact code, message, reason and field, by both dialects, and nothing of a vendor's."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.repos import make_repo, store_rows
from hindcast.shadow.v1.shadow_pb2 import FeastMetadata, FeastRequest, FeastResponse, HindcastRequest
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from services import RedisServer, run_hindcast, run_redis

HINDCAST = "/hindcast.v1.FeatureService/GetOnlineFeatures"
FEAST = "/feast.serving.ServingService/GetOnlineFeatures"
FEAST_GRPC = "/GrpcFeatureServer/GetOnlineFeatures"
METHODS = (HINDCAST, FEAST, FEAST_GRPC)
CANARY = "c4n4ry-in-the-cage"
BAD, UNKNOWN_NAME = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
METADATA_BYTES_MAX = 8192
"""Beyond this gRPC may refuse the metadata of an answer, and with it the error."""


@dataclass(frozen=True)
class Failure:
    """How a call failed: status, the reason of its ErrorInfo, and what BadRequest says of which field."""

    code: grpc.StatusCode
    message: str
    reason: str
    violations: tuple[tuple[str, str], ...] = ()


def bad(field: str, description: str) -> Failure:
    """One wrong field."""
    return Failure(BAD, f"{field}: {description}", "INVALID_ARGUMENT", ((field, description),))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis with the rows of drivers 1 and 2, and one row per type of join key."""
    with run_redis() as server:
        for number in (1, 2):
            store_rows(server.connection_string, "driver", [(integer(number), {"trips": integer(10 * number)})])
        for kind, value in KEYS.items():
            store_rows(server.connection_string, f"by_{kind}", [(value, {"seen": integer(1)})])
        with contextlib.closing(server.client()) as client:
            client.execute_command("ACL", "SETUSER", "keeper", "on", f">{CANARY}", "+@all", "~*")
        yield server


@pytest.fixture(scope="module")
def channel(redis, tmp_path_factory) -> Iterator[grpc.Channel]:
    """A channel to a server on that Redis, whose password must not be seen anywhere."""
    options = f",username=keeper,password={CANARY}"
    repo = make_repo(tmp_path_factory.mktemp("tiny"), redis.connection_string + options)
    with run_hindcast(repo) as server:
        with grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel:
            yield channel
        assert "Traceback" not in "\n".join(server.output)
        assert CANARY not in "\n".join(server.output)


def call(channel: grpc.Channel, method: str, request: bytes, *, seconds: float = 10.0) -> bytes | Failure:
    """The answer's bytes, or how the call failed; either carries a lookup id."""
    try:
        answer, done = channel.unary_unary(method).with_call(request, timeout=seconds)
    except grpc.RpcError as error:
        return failure_of(error.code(), error.details(), error.trailing_metadata())
    assert dict(done.trailing_metadata())["hindcast-lookup-id"]
    return answer


def failure_of(code: grpc.StatusCode, message: str, trailing: tuple[tuple[str, str | bytes], ...]) -> Failure:
    """A failure with its details, which must agree with the status and stay within what gRPC carries."""
    sizes = [len(key) + len(value) * 4 // 3 + 32 for key, value in trailing]
    assert sum(sizes) + len(quote(message)) < METADATA_BYTES_MAX
    metadata = dict(trailing)
    assert metadata["hindcast-lookup-id"]
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (code.value[0], message) == (status.code, status.message)
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad_request)
    assert "hindcast" == info.domain
    violations = tuple((violation.field, violation.description) for violation in bad_request.field_violations)
    return Failure(code, message, info.reason, violations)


def integer(number: int) -> Value:
    """An int64."""
    return Value(int64_val=number)


Columns = dict[str, list[Value]]


def hindcast(
    features: str | list[str],
    entities: Columns | None = None,
    *,
    request_data: Columns | None = None,
    full: bool = False,
    **more: object,
) -> bytes:
    """A request of hindcast.v1."""
    message = HindcastRequest(full_feature_names=full, **more)
    if isinstance(features, str):
        message.feature_service = features
    else:
        message.feature_list.val.extend(features)
        message.feature_list.SetInParent()
    _fill(message.entities, entities)
    _fill(message.request_data, request_data)
    return message.SerializeToString()


def feast(
    features: str | list[str],
    entities: Columns | None = None,
    *,
    request_data: Columns | None = None,
    full: bool = False,
) -> bytes:
    """A request of Feast's services."""
    message = FeastRequest(full_feature_names=full)
    if isinstance(features, str):
        message.feature_service = features
    else:
        message.features.val.extend(features)
        message.features.SetInParent()
    _fill(message.entities, entities)
    _fill(message.request_context, request_data)
    return message.SerializeToString()


def _fill(columns: object, values: Columns | None) -> None:
    for name, column in (values or {}).items():
        columns[name].val.extend(value if isinstance(value, bytes) else value.SerializeToString() for value in column)


def every(channel: grpc.Channel, *arguments: object, **options: object) -> Failure:
    """The one failure of a request by every dialect."""
    failures = {call(channel, HINDCAST, hindcast(*arguments, **options))}
    failures |= {call(channel, method, feast(*arguments, **options)) for method in (FEAST, FEAST_GRPC)}
    (failure,) = failures
    assert isinstance(failure, Failure)
    return failure


ONE = {"driver_id": [integer(1)]}
TRIPS = ["driver:trips"]
KNOWN_VIEWS = "by_bytes, by_int32, by_int64, by_string, by_unix_timestamp, driver, driver_week, platform"


def test_unknown_feature_service(channel):
    """A feature service that there is not is NOT_FOUND, with those that there are."""
    assert (
        Failure(
            UNKNOWN_NAME,
            "feature service 'nope' does not exist; there are clash, everything, pair, ride",
            "UNKNOWN_NAME",
        )
    ) == every(channel, "nope", ONE)


def test_unknown_view(channel):
    """A view that there is not is NOT_FOUND, with those that there are."""
    assert (
        Failure(UNKNOWN_NAME, f"feature view 'nope' does not exist; there are {KNOWN_VIEWS}", "UNKNOWN_NAME")
    ) == every(channel, ["nope:trips"], ONE)


def test_unknown_feature(channel):
    """A feature that a view does not have is NOT_FOUND, with those that it has."""
    assert (
        Failure(UNKNOWN_NAME, "feature 'driver:nope' does not exist; there are city, rating, trips", "UNKNOWN_NAME")
    ) == every(channel, ["driver:trips", "driver:nope"], ONE)


def test_view_that_cannot_be_served(channel):
    """A disabled view is refused with the command that enables it."""
    description = (
        "feature view 'asleep' cannot be served: it is disabled; `feast feature-views enable asleep` enables it"
    )
    assert bad("features", description) == every(channel, ["asleep:trips"], ONE)


@pytest.mark.parametrize("ref", ["", ":", "driver", "driver:", ":trips", "driver__trips"])
def test_malformed_reference(channel, ref):
    """A reference that is not `view:feature` is named by its position."""
    description = f"{ref!r} is not a reference; write `view:feature`"
    assert bad("features[1]", description) == every(channel, ["driver:trips", ref], ONE)


def test_empty_request(channel):
    """A request for nothing, as an empty message is one, is refused by what is missing."""
    expected = bad("features", "nothing is asked for; name a feature service or `view:feature` references")
    assert {expected} == {call(channel, method, b"") for method in METHODS}
    assert expected == every(channel, [], ONE)


def test_missing_join_key(channel):
    """A join key that is needed and not sent is named."""
    description = "is missing; these features need this join key"
    assert bad('entities["driver_id"]', description) == every(channel, TRIPS)
    assert bad('entities["driver_id"]', description) == every(channel, "everything")


def test_every_missing_join_key_is_named(channel):
    """All that is missing is named at once."""
    failure = every(channel, "pair", full=True)
    assert ['entities["first_id"]', 'entities["second_id"]'] == [field for field, _ in failure.violations]


def test_extra_column(channel):
    """A column that no feature needs is refused by hindcast.v1 and ignored by Feast's services."""
    entities = {**ONE, "merchant_id": [integer(1)]}
    expected = bad('entities["merchant_id"]', "is not a join key of these features; leave it out")
    assert expected == call(channel, HINDCAST, hindcast(TRIPS, entities))
    for method in (FEAST, FEAST_GRPC):
        assert isinstance(call(channel, method, feast(TRIPS, entities)), bytes)


def test_extra_request_data(channel):
    """Request data that no feature needs is refused by hindcast.v1 and ignored by Feast's services."""
    data = {"amount": [integer(1)]}
    expected = bad('request_data["amount"]', "is not needed by these features; leave it out")
    assert expected == call(channel, HINDCAST, hindcast(TRIPS, ONE, request_data=data))
    for method in (FEAST, FEAST_GRPC):
        assert isinstance(call(channel, method, feast(TRIPS, ONE, request_data=data)), bytes)


@pytest.mark.parametrize("null", [Value(), Value(null_val=0)])
def test_null_join_key_matches_nothing(channel, null):
    """A null join key is no error: its row is NOT_FOUND, and its neighbours are answered."""
    answer = call(channel, HINDCAST, hindcast(TRIPS, {"driver_id": [integer(1), null, integer(2)]}))
    assert isinstance(answer, bytes)
    (column,) = GetOnlineFeaturesResponse.FromString(answer).columns
    assert [1, 3, 1] == list(column.statuses)
    assert [integer(10), Value(), integer(20)] == list(column.values)
    assert isinstance(call(channel, FEAST, feast(TRIPS, {"driver_id": [null]})), bytes)


def test_unequal_columns(channel):
    """Columns of different lengths are refused by the one that differs."""
    entities = {"first_id": [integer(1)] * 3, "second_id": [integer(1)] * 2}
    failure = every(channel, "pair", entities, full=True)
    assert (BAD, "INVALID_ARGUMENT") == (failure.code, failure.reason)
    # A map on the wire has no order: either column can be the first.
    assert failure.violations[0] in {
        (
            'entities["second_id"]',
            'has 2 values, but entities["first_id"] has 3; send one value per row in every column',
        ),
        (
            'entities["first_id"]',
            'has 3 values, but entities["second_id"] has 2; send one value per row in every column',
        ),
    }


def test_no_rows(channel):
    """A column without a value asks for nothing and is refused."""
    assert bad('entities["driver_id"]', "has no values; ask for at least one row") == every(
        channel, TRIPS, {"driver_id": []}
    )


KEYS = {
    "bytes": Value(bytes_val=b"k"),
    "string": Value(string_val="k"),
    "int32": Value(int32_val=7),
    "int64": Value(int64_val=7),
    "unix_timestamp": Value(unix_timestamp_val=7),
}
WRONG = {
    **KEYS,
    "double": Value(double_val=7.0),
    "float": Value(float_val=7.0),
    "bool": Value(bool_val=True),
}
WRONG["int64_list"] = Value()
WRONG["int64_list"].int64_list_val.val.append(7)
WRONG["map"] = Value()
WRONG["map"].map_val.SetInParent()


@pytest.mark.parametrize("declared", KEYS)
@pytest.mark.parametrize("given_kind", WRONG)
def test_key_types(channel, declared, given_kind):
    """A join key of its own type finds its row, an int32 is widened to an int64, and every other type is refused by name."""
    entities = {f"{declared}_key": [KEYS[declared], WRONG[given_kind]]}
    request = hindcast([f"by_{declared}:seen"], entities)
    if given_kind == declared or (declared, given_kind) == ("int64", "int32"):
        answer = call(channel, HINDCAST, request)
        assert isinstance(answer, bytes)
        (column,) = GetOnlineFeaturesResponse.FromString(answer).columns
        assert [1, 1] == list(column.statuses)
    else:
        description = f"is {given_kind.upper()}, but the join key is {declared.upper()}"
        assert bad(f'entities["{declared}_key"].val[1]', description) == every(
            channel, [f"by_{declared}:seen"], entities
        )


def test_damaged_value(channel):
    """A key that is no Value is refused by its position."""
    entities = {"driver_id": [integer(1), b"\xff\xff"]}
    assert bad('entities["driver_id"].val[1]', "is not a serialized Value") == every(channel, TRIPS, entities)


def test_damaged_value_that_would_only_be_echoed(channel):
    """A damaged column that Feast's answer would give back is refused, since nobody could read that answer."""
    entities = {**ONE, "string_key": [b"\xff\xff"]}
    expected = bad('entities["string_key"].val[0]', "is not a serialized Value")
    assert expected == call(channel, FEAST, feast(TRIPS, entities))


def test_most_rows(channel):
    """10,000 rows are answered, each by its key."""
    numbers = random.Random(3).choices([1, 2, 3], k=10_000)
    answer = call(channel, HINDCAST, hindcast(TRIPS, {"driver_id": [integer(number) for number in numbers]}))
    assert isinstance(answer, bytes)
    (column,) = GetOnlineFeaturesResponse.FromString(answer).columns
    assert [{1: 10, 2: 20, 3: 0}[number] for number in numbers] == [value.int64_val for value in column.values]
    assert [{1: 1, 2: 1, 3: 3}[number] for number in numbers] == list(column.statuses)


def test_one_row_too_many(channel):
    """10,001 rows are refused, and say how many are taken."""
    assert bad('entities["driver_id"]', "has 10001 values; ask for at most 10000 rows at once") == every(
        channel, TRIPS, {"driver_id": [integer(1)] * 10_001}
    )


def test_colliding_names(channel):
    """Two columns of one name are refused, with the way out."""
    hint = "set full_feature_names, or ask for each once"
    expected = bad("features", f"more than one column would be named 'trips'; {hint}")
    assert expected == every(channel, ["driver:trips", "driver_week:trips"], ONE)
    assert expected == every(channel, "clash", ONE)
    assert isinstance(call(channel, HINDCAST, hindcast("clash", ONE, full=True)), bytes)


def test_feature_asked_for_twice(channel):
    """A feature that is named twice is refused even by its full name."""
    expected = bad("features", "more than one column would be named 'driver__trips'; ask for each feature once")
    assert expected == every(channel, ["driver:trips", "driver:trips"], ONE, full=True)


def test_request_id(channel):
    """256 bytes of request id are taken, by the byte and not the letter, and one more is refused."""
    assert isinstance(call(channel, HINDCAST, hindcast(TRIPS, ONE, request_id="é" * 128)), bytes)
    expected = bad("request_id", "is longer than 256 bytes; shorten it")
    assert expected == call(channel, HINDCAST, hindcast(TRIPS, ONE, request_id="é" * 128 + "x"))


def test_tags(channel):
    """32 tags are taken, and one more is refused."""
    tags = {str(at): "tag" for at in range(33)}
    expected = bad("tags", "has 33 entries, at most 32 are kept")
    assert expected == call(channel, HINDCAST, hindcast(TRIPS, ONE, tags=tags))
    tags.popitem()
    assert isinstance(call(channel, HINDCAST, hindcast(TRIPS, ONE, tags=tags)), bytes)


@pytest.mark.parametrize("letter", ["x", "é", "特", "🦜", "\n", "\x00", "%", '"'])
def test_error_that_repeats_a_long_name_arrives(channel, letter):
    """An error about a name of any length and script stays within what gRPC carries, and keeps its code and reason."""
    name = letter * 5000
    requests = [
        (UNKNOWN_NAME, "UNKNOWN_NAME", hindcast(name, ONE)),
        (BAD, "INVALID_ARGUMENT", hindcast([name], ONE)),
        (BAD, "INVALID_ARGUMENT", hindcast(TRIPS, {name + str(at): [integer(1)] for at in range(30)})),
    ]
    for code, reason, request in requests:
        failure = call(channel, HINDCAST, request)
        assert isinstance(failure, Failure)
        assert (code, reason) == (failure.code, failure.reason)
        assert bool(failure.violations) == (code is BAD)


def test_many_wrong_columns_are_named_up_to_a_limit(channel):
    """Of more wrong fields than an error can carry, the first ones are named."""
    failure = call(channel, HINDCAST, hindcast(TRIPS, {**ONE, **{f"c{at}": [integer(1)] for at in range(200)}}))
    assert isinstance(failure, Failure)
    assert 10 <= len(failure.violations) <= 20
    assert {"is not a join key of these features; leave it out"} == {text for _, text in failure.violations}


def test_not_a_message(channel):
    """Bytes that are no message are said to be none, by the message's name."""
    garbage = b"\xff\xff\xff"
    description = "the bytes are not a {}; check the client's protos"
    expected = bad("request", description.format("hindcast.v1.GetOnlineFeaturesRequest"))
    assert expected == call(channel, HINDCAST, garbage)
    expected = bad("request", description.format("feast.serving.GetOnlineFeaturesRequest"))
    assert {expected} == {call(channel, method, garbage) for method in (FEAST, FEAST_GRPC)}


def test_text_that_is_not_utf8(channel):
    """A name that is not UTF-8 makes the bytes no message."""
    request = hindcast("ride", ONE).replace(b"ride", b"ri\xffe")
    failure = call(channel, HINDCAST, request)
    assert isinstance(failure, Failure)
    assert (("request", "the bytes are not a hindcast.v1.GetOnlineFeaturesRequest; check the client's protos"),) == (
        failure.violations
    )


SEEDS = (
    hindcast("everything", {"driver_id": [integer(1), integer(2), Value()]}, request_id="r", tags={"model": "m"}),
    hindcast(["driver:trips", "platform:surge"], ONE, full=True),
    feast("everything", {"driver_id": [integer(1)], "string_key": [Value(string_val="k")]}),
    feast(["by_string:seen"], {"string_key": [Value(string_val="k")]}, request_data={"amount": [integer(1)]}),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with bytes flipped, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 16))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(request_bytes=st.one_of(st.binary(max_size=200), mutated()), method=st.sampled_from(METHODS))
def test_any_bytes_are_answered_or_refused(channel, request_bytes, method):
    """Whatever the bytes, the answer can be read or the request is refused, soon, and never as a defect of the server."""
    outcome = call(channel, method, request_bytes, seconds=5.0)
    if isinstance(outcome, Failure):
        assert (outcome.code, outcome.reason) in {(BAD, "INVALID_ARGUMENT"), (UNKNOWN_NAME, "UNKNOWN_NAME")}
    elif method == HINDCAST:
        GetOnlineFeaturesResponse.FromString(outcome)
    else:
        assert values_of(outcome) is not None


def values_of(answer: bytes) -> list[Value]:
    """Every value of a Feast answer, read as far as a Feast client reads it."""
    try:
        response = FeastResponse.FromString(answer)
        FeastMetadata.FromString(response.metadata)
        return [Value.FromString(value) for vector in response.results for value in vector.values]
    except DecodeError as error:
        raise AssertionError("an answer cannot be read") from error


def test_service_info_ignores_its_request(channel):
    """The calls that take nothing answer to any bytes."""
    for method in ("/feast.serving.ServingService/GetFeastServingInfo", "/hindcast.v1.FeatureService/GetServerInfo"):
        assert channel.unary_unary(method)(b"\xff\xff", timeout=10)


PAYMENT = ["amount_checks:amount_to_mean"]
AMOUNT = {"amount": [Value(double_val=10.0)], "card_country": [Value(string_val="NZ")]}
ACCOUNT = {"account_id": [Value(string_val="nobody")]}


@pytest.fixture(scope="module")
def demo(demo_server) -> Iterator[grpc.Channel]:
    """A channel to the demo, which has on-demand views."""
    with grpc.insecure_channel(demo_server.address) as channel:
        yield channel


def test_missing_request_data(demo):
    """Request data that an on-demand view needs and that is not sent is named, by each dialect's own field."""
    description = "is required by an on-demand view; send one value per row"
    for method, request, field in (
        (HINDCAST, hindcast(PAYMENT, ACCOUNT, request_data={"card_country": AMOUNT["card_country"]}), "request_data"),
        (FEAST, feast(PAYMENT, ACCOUNT, request_data={"card_country": AMOUNT["card_country"]}), "request_context"),
    ):
        assert bad(f'{field}["amount"]', description) == call(demo, method, request)


@pytest.mark.parametrize(
    ("wrong", "description"),
    [
        (Value(string_val="much"), "is STRING, but the on-demand view takes DOUBLE"),
        (Value(bool_val=True), "is BOOL, but the on-demand view takes DOUBLE"),
        (b"\xff", "is not a serialized Value"),
    ],
)
def test_wrong_request_data(demo, wrong, description):
    """Request data of a wrong type is refused by its field and row, before any function sees it."""
    data = {"amount": [*AMOUNT["amount"], wrong], "card_country": AMOUNT["card_country"] * 2}
    request = hindcast(PAYMENT, {"account_id": ACCOUNT["account_id"] * 2}, request_data=data)
    assert bad('request_data["amount"].val[1]', description) == call(demo, HINDCAST, request)


@pytest.mark.parametrize("amount", [Value(int64_val=7), Value(int32_val=7), Value(float_val=7), Value()])
def test_request_data_of_a_kindred_type(demo, amount):
    """Any number, or a null, is taken where a function declared a double."""
    data = {**AMOUNT, "amount": [amount]}
    assert isinstance(call(demo, HINDCAST, hindcast(PAYMENT, ACCOUNT, request_data=data)), bytes)


def test_unequal_request_data(demo):
    """Request data of another length than the entities is refused."""
    failure = call(demo, HINDCAST, hindcast(PAYMENT, ACCOUNT, request_data={**AMOUNT, "amount": AMOUNT["amount"] * 2}))
    assert isinstance(failure, Failure)
    assert (
        (
            'request_data["amount"]',
            'has 2 values, but entities["account_id"] has 1; send one value per row in every column',
        ),
    ) == failure.violations
