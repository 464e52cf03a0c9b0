"""Wrong requests whose bytes are wrong, what on-demand views refuse, what gRPC answers itself; and what looks wrong and is answered."""

import gzip
from collections.abc import Iterator

import grpc

from hindcast.v1.value_pb2 import Value
from integration.crowded_repo import RIDE_INPUTS
from integration.request_rows import (
    BOTH_OF_FEAST,
    HEALTH,
    INFO,
    MESSAGE_BYTES_MAX,
    ONE,
    ONLY_HINDCAST,
    REFLECTION,
    TRIPS,
    Refusal,
    Row,
    asks,
    bad,
    by_grpc,
    hindcast,
    integer,
    sends,
    text,
    transform_failed,
    value_of,
)


def nested(levels: int) -> bytes:
    """A Value of lists in lists; each takes two of the 100 levels that a parser allows."""
    value = b""
    for _ in range(levels):
        column = b"\x0a" + _length(value) + value
        value = b"\xd2\x02" + _length(column) + column
    return value


def _length(content: bytes) -> bytes:
    small, large = len(content) & 127, len(content) >> 7
    return bytes([small | 128, large]) if large else bytes([small])


DAMAGED_VALUES = {
    "no tag": b"\xff\xff",
    "half a number": b"\x20\x80",
    "a number of 11 bytes": b"\x20" + b"\xff" * 10 + b"\x01",
    "half a text": b"\x12\x05ab",
    "a length of 2 GiB": b"\x12\xff\xff\xff\xff\x07",
    "a text that is not UTF-8": b"\x12\x01\xff",
    "field number 0": b"\x00\x01",
    "an open group": b"\x0b",
    "the end of no group": b"\x0c",
    "wire type 7": b"\x27\x01",
    "lists 60 deep": nested(60),
    "lists as deep as a Value may be alone, and not in an answer": nested(50),
    "an int64 after such lists": nested(50) + b"\x20\x01",
    "groups 200 deep": b"\x0b" * 200 + b"\x0c" * 200,
}


def values() -> Iterator[Row]:
    """Values that cannot be read."""
    damaged = "is not a serialized Value"
    fares = ride_inputs()
    for name, value in DAMAGED_VALUES.items():
        yield asks(
            f"a join key that is {name}",
            bad('entities["driver_id"].val[1]', damaged),
            TRIPS,
            {"driver_id": [integer(1), value]},
            in_docs="bytes that are no Value: cut, not UTF-8, nested too deeply, …",
        )
        yield asks(
            f"a column that nothing needs and that is {name}",
            bad('entities["string_key"].val[0]', damaged),
            TRIPS,
            {**ONE, "string_key": [value]},
            methods=BOTH_OF_FEAST,
            in_docs="the same in a column that Feast's answer would only give back",
        )
        yield asks(
            f"request data that is {name}",
            bad('request_data["distance"].val[0]', damaged),
            ["fare:price"],
            ONE,
            {**fares, "distance": [value]},
            in_docs="the same in request data",
        )


def ride_inputs() -> dict[str, list[Value]]:
    kinds = {number: field.name for number, field in Value.DESCRIPTOR.fields_by_number.items()}
    return {name: [value_of(kinds[kind])] for name, kind in RIDE_INPUTS.items()}


_REQUIRED = "is required by an on-demand view; send one value per row"


def request_data() -> Iterator[Row]:
    """What on-demand views are asked with."""
    fare, ride = ["fare:price"], ride_inputs()
    every = [(f'request_data["{name}"]', _REQUIRED) for name in ride]
    for name in ride:
        given = {other: column for other, column in ride.items() if other != name}
        refusal = bad(f'request_data["{name}"]', _REQUIRED)
        yield asks(f"no {name}", refusal, fare, ONE, given, in_docs="request data is missing")
    yield asks("no request data", bad(*every[0], *every[1:]), fare, in_docs="request data is missing")
    yield asks("no request data of a service", bad(*every[0], *every[1:]), "fares", in_docs="request data is missing")
    yield asks(
        "request data among the entities, on hindcast.v1",
        bad(*every[0], *every[1:]),
        fare,
        {**ONE, **ride},
        methods=ONLY_HINDCAST,
    )
    misspelt = {("distanc" if name == "distance" else name): column for name, column in ride.items()}
    not_needed = "is not needed by these features; leave it out"
    yield asks(
        "request data misspelt",
        bad('request_data["distance"]', _REQUIRED, ('request_data["distanc"]', not_needed)),
        fare,
        ONE,
        misspelt,
        methods=ONLY_HINDCAST,
    )
    for name, features in (("request data that nothing needs", TRIPS), ("more request data than needed", fare)):
        given = ({} if features == TRIPS else ride) | {"weather": [text("wet")]}
        refusal = bad('request_data["weather"]', not_needed)
        yield asks(
            name,
            refusal,
            features,
            ONE,
            given,
            methods=ONLY_HINDCAST,
            in_docs="request data that nothing needs, on hindcast.v1",
        )
    for name, kinds, takes in (
        ("label", ("int64_val", "bytes_val", "bool_val", "string_list_val", "uuid_val"), "STRING"),
        ("seats", ("string_val", "double_val", "bool_val", "unix_timestamp_val", "decimal_val"), "INT64"),
        ("distance", ("string_val", "bool_val", "double_list_val", "json_val"), "DOUBLE"),
        ("shared", ("int64_val", "string_val", "bool_list_val"), "BOOL"),
        ("booked_at", ("int64_val", "string_val", "zoned_timestamp_val"), "UNIX_TIMESTAMP"),
        ("token", ("string_val", "int64_val", "map_val"), "BYTES"),
    ):
        for kind in kinds:
            given_name = kind.removesuffix("_val").upper()
            refusal = bad(f'request_data["{name}"].val[0]', f"is {given_name}, but the on-demand view takes {takes}")
            given = {**ride, name: [value_of(kind)]}
            yield asks(
                f"{given_name} for request data of {takes}",
                refusal,
                fare,
                ONE,
                given,
                in_docs="request data of another type",
            )
    for seconds in (2**62, -(2**62), 253_402_300_800):
        refusal = bad(
            'request_data["booked_at"].val[0]',
            "is no time between the years 1 and 9999, which is all that a function can be given",
        )
        given = {**ride, "booked_at": [Value(unix_timestamp_val=seconds)]}
        yield asks(f"the time {seconds}", refusal, fare, ONE, given, in_docs="request data that is no time")
    in_entities = {
        **ONE,
        **{name: column for name, column in ride.items() if name != "distance"},
        "distance": [text("far")],
    }
    refusal = bad('entities["distance"].val[0]', "is STRING, but the on-demand view takes DOUBLE")
    yield asks("request data of another type among the entities", refusal, fare, in_entities, methods=BOTH_OF_FEAST)
    for rows in (0, 2):
        refusal = bad(
            'request_data["distance"]',
            f'has {rows} values, but entities["driver_id"] has 1; send one value per row in every column',
        )
        given = {**ride, "distance": ride["distance"] * rows}
        yield asks(
            f"{rows} rows of request data",
            refusal,
            fare,
            ONE,
            given,
            in_docs="request data of another length than the entities",
        )
    failed = transform_failed("on-demand view 'fare' failed on these inputs; the server's log has more")
    yield asks(
        "request data that the view's function fails on", failed, fare, ONE, {**ride, "distance": [Value(double_val=0)]}
    )
    for view, message in (
        ("short", "on-demand view 'short' returned 2 rows of 'price' for 1; mend its function"),
        ("silent", "on-demand view 'silent' did not return its feature 'price'; mend its function"),
        ("wordy", "on-demand view 'wordy' returned values of 'price' that are not Float64; mend its function"),
    ):
        yield asks(
            f"an on-demand view that is {view}",
            transform_failed(message),
            [f"{view}:price"],
            in_docs="an on-demand view whose function gives what it must not",
        )


def _not_a(message: str) -> Refusal:
    return bad("request", f"the bytes are not a {message}; check the client's protos")


def messages() -> Iterator[Row]:
    """Bytes that are no request, and requests over their limits."""
    not_a_request = _not_a("hindcast.v1.GetOnlineFeaturesRequest")
    whole = hindcast("ride", ONE)
    for name, request in (
        ("bytes that are no message", b"\xff\xff\xff"),
        ("half a message", whole[:-1]),
        ("a message with a text that is not UTF-8", whole.replace(b"ride", b"ri\xffe")),
        ("a reference that is not UTF-8", hindcast(TRIPS, ONE).replace(b"trips", b"tri\xc3s")),
        ("a join key that is not UTF-8", whole.replace(b"driver_id", b"driver\xed\xa0\x80")),
        ("JSON", b'{"feature_service": "ride"}'),
        ("HTTP", b"GET /features HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a gzip file", gzip.compress(whole, mtime=0)),
        ("a message in a gRPC frame", b"\0\0\0\0" + bytes([len(whole)]) + whole),
        ("zeros", bytes(1_000)),
        ("groups 1,000 deep", b"\x0b" * 1_000 + b"\x0c" * 1_000),
        ("an open group", whole + b"\x0b"),
        ("a length of 2 GiB", b"\x0a\xff\xff\xff\xff\x07"),
        ("a number of 11 bytes", b"\x28" + b"\xff" * 10 + b"\x01"),
        ("a map entry of a wrong type", b"\x1a\x02\x0a\x05"),
    ):
        yield sends(
            name,
            not_a_request,
            request,
            in_docs="bytes that are not the method's message: cut, compressed, JSON, not UTF-8, …",
        )
    nothing = bad("features", "nothing is asked for; name a feature service or `view:feature` references")
    for name, request in (
        ("unknown fields alone", b"\xf8\x07\x01"),
        ("a service as a number", b"\x08\x07"),
        ("another service's message", b"\x4a\x03abc"),
    ):
        yield sends(name, nothing, request, in_docs="nothing is asked for")
    for field in ("request_id", "tags"):
        damaged = hindcast("ride", ONE, **{field: "abcdef" if field == "request_id" else {"abcdef": "x"}}).replace(
            b"abcdef", b"abc\xffef"
        )
        yield sends(
            f"{field} that is not UTF-8",
            not_a_request,
            damaged,
            methods=ONLY_HINDCAST,
            in_docs="bytes that are not the method's message: cut, compressed, JSON, not UTF-8, …",
        )
    long_id = ("request_id", "is longer than 256 bytes; shorten it")
    many_tags = ("tags", "has 33 entries, at most 32 are kept")
    tags = {str(at): "tag" for at in range(33)}
    yield asks("a request_id of 257 bytes", bad(*long_id), "ride", methods=ONLY_HINDCAST, request_id="é" * 128 + "x")
    yield asks("33 tags", bad(*many_tags), "ride", methods=ONLY_HINDCAST, tags=tags)
    yield asks(
        "a long request_id and 33 tags",
        bad(*long_id, many_tags),
        "ride",
        methods=ONLY_HINDCAST,
        request_id="x" * 257,
        tags=tags,
        in_docs="33 tags",
    )


def outside_of_handlers() -> Iterator[Row]:
    """What gRPC answers itself, and the services that come with it."""
    exhausted, unimplemented = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED
    yield sends("a message over 16 MiB", by_grpc(exhausted), bytes(MESSAGE_BYTES_MAX + 1))
    yield sends(
        "a compressed message that is over 16 MiB when unpacked",
        by_grpc(exhausted),
        bytes(4 * MESSAGE_BYTES_MAX),
        gzipped=True,
    )
    yield sends("metadata over 16 KiB", by_grpc(exhausted), b"", metadata=(("x-much", "x" * 17_000),))
    for method in (
        "/nope.Nope/Nope", "/hindcast.v1.FeatureService/Nope", "/hindcast.v1.FeatureService/getonlinefeatures",
        "/hindcast.v2.FeatureService/GetOnlineFeatures", "/feast.serving.ServingService/Push", "/GrpcFeatureServer/GetServerInfo", "/",
    ):  # fmt: skip
        yield sends(
            f"the method {method}", by_grpc(unimplemented), b"", methods=(method,), in_docs="a method that there is not"
        )
    for method, message in (
        ("/GrpcFeatureServer/Push", "PushRequest"),
        ("/GrpcFeatureServer/WriteToOnlineStore", "WriteToOnlineStoreRequest"),
        ("/hindcast.v1.PushService/Push", "hindcast.v1.PushRequest"),
    ):
        yield sends(
            f"bytes that are no message for {method}",
            _not_a(message),
            b"\xff\xff",
            methods=(method,),
            in_docs="the same for a write",
        )
    for method, message in (
        (HEALTH[0], "grpc.health.v1.HealthCheckRequest"),
        (HEALTH[1], "grpc.health.v1.HealthListRequest"),
        (HEALTH[2], "grpc.health.v1.HealthCheckRequest"),
        *((method, "grpc.reflection.v1alpha.ServerReflectionRequest") for method in REFLECTION),
    ):
        in_docs = "the same for health and reflection"
        yield sends(
            f"bytes that are no message for {method}", _not_a(message), b"\xff\xff", methods=(method,), in_docs=in_docs
        )
        yield sends(f"half a message for {method}", _not_a(message), b"\x0a\x05ab", methods=(method,), in_docs=in_docs)
    yield sends(
        "the health of a service that there is not",
        by_grpc(grpc.StatusCode.NOT_FOUND),
        b"\x0a\x04nope",
        methods=HEALTH[:1],
    )


def answered() -> Iterator[Row]:
    """What looks wrong, and is answered."""
    for name, null in (("nothing", Value()), ("null_val", Value(null_val=0))):
        given = {"driver_id": [integer(1), null, integer(2)]}
        yield asks(
            f"a null join key, as {name}",
            None,
            TRIPS,
            given,
            statuses=(1, 3, 1),
            in_docs="a null join key: NOT_FOUND in its row",
        )
    for name, value, status in (
        ("with an unknown field", b"\x20\x01\xf8\x07\x01", 1),
        ("of two kinds, of which the last counts", b"\x12\x01x\x20\x01", 1),
        ("whose number has the wire type of a text, which is an unknown field", b"\x22\x01\x01", 3),
        ("whose number is written in 10 bytes", b"\x20\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00", 1),
    ):
        yield asks(
            f"a join key {name}",
            None,
            TRIPS,
            {"driver_id": [value]},
            statuses=(status,),
            in_docs="a Value with unknown fields, or two kinds of which the last counts",
        )
    yield asks(
        "a key that nobody has",
        None,
        TRIPS,
        {"driver_id": [integer(-(2**63))]},
        statuses=(3,),
        in_docs="a key without a row: NOT_FOUND in its row",
    )
    yield asks(
        "one key many times",
        None,
        TRIPS,
        {"driver_id": [integer(1)] * 5},
        statuses=(1,) * 5,
        in_docs="a key asked for more than once",
    )
    yield asks(
        "no column for a view without entities",
        None,
        ["platform:surge"],
        None,
        statuses=(3,),
        in_docs="no column at all, for views without entities: one row",
    )
    yield asks("a service without features", None, "hollow", None)
    yield asks("colliding names with full_feature_names", None, "clash", full=True, statuses=(3,))
    yield asks("the newest version by name", None, ["driver@latest:trips"], statuses=(1,))
    yield asks(
        "the names of entities, on Feast", None, TRIPS, {"driver": [integer(1)]}, methods=BOTH_OF_FEAST, statuses=(1,)
    )
    extra = {**ONE, "string_key": [text("k")], "weather": [text("wet")]}
    yield asks("columns that nothing needs, on Feast", None, TRIPS, extra, methods=BOTH_OF_FEAST, statuses=(1,))
    yield asks(
        "request data that nothing needs, on Feast",
        None,
        TRIPS,
        ONE,
        {"a": [text("b")]},
        methods=BOTH_OF_FEAST,
        statuses=(1,),
    )
    ride = ride_inputs()
    yield asks(
        "request data among the entities, on Feast",
        None,
        ["fare:price"],
        {**ONE, **ride},
        methods=BOTH_OF_FEAST,
        statuses=(1,),
    )
    for name, distance in (
        ("int64", integer(7)), ("int32", Value(int32_val=7)), ("float", Value(float_val=7)),
        ("infinity", Value(double_val=float("-inf"))),
    ):  # fmt: skip
        given = {**ride, "distance": [distance]}
        yield asks(
            f"{name} for a double of request data",
            None,
            ["fare:price"],
            ONE,
            given,
            statuses=(1,),
            in_docs="any number for a number of request data",
        )
    yield asks("null request data", None, ["fare:price"], ONE, {**ride, "distance": [Value()]}, statuses=(2,))
    yield sends("a service and a list, of which the last counts", None, hindcast("nope") + hindcast(TRIPS, ONE))
    yield sends(
        "the request in two halves",
        None,
        hindcast("ride") + hindcast("ride", ONE),
        in_docs="a field twice, of which the last counts",
    )
    yield sends("a compressed request", None, hindcast("ride", ONE), gzipped=True)
    yield asks(
        "a request_id of 256 bytes and 32 tags",
        None,
        "ride",
        methods=ONLY_HINDCAST,
        request_id="é" * 128,
        tags={str(at): "" for at in range(32)},
    )
    for method in INFO:
        yield sends(
            f"any bytes for {method}",
            None,
            b"\xff\xff",
            methods=(method,),
            in_docs="any bytes for a call that takes nothing",
        )
