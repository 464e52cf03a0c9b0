"""Wrong requests that can be read: names, references, columns and types."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hindcast.catalog import KeyType
from integration.request_rows import (
    BOTH_OF_FEAST,
    FIELD_BYTES_MAX,
    KINDS,
    ONE,
    ONLY_HINDCAST,
    TRIPS,
    Refusal,
    Row,
    asks,
    bad,
    cut,
    hindcast,
    integer,
    sends,
    text,
    unknown,
    value_of,
)

SERVICES = "clash, everything, fares, haunted, hollow, pair, ride, sleeping, stripped"
VIEWS = "by_bytes, by_int32, by_int64, by_string, by_unix_timestamp, crossing, dreaming, driver, driver_week, fare, …"
FEATURES = "city, rating, trips"

LONG = "x" * 5_000
SCRIPTS = {"é": "é", "CJK": "特", "emoji": "🦜", "newline": "\n", "NUL": "\0", "percent": "%", "quote": '"'}


def _unknown_service(name: str, service: str, in_docs: str = "") -> Row:
    return asks(name, unknown("feature service", service, SERVICES), service, in_docs=in_docs)


def _unknown_view(name: str, view: str, in_docs: str = "") -> Row:
    return asks(name, unknown("feature view", view, VIEWS), [f"{view}:trips"], in_docs=in_docs)


def _unknown_feature(name: str, feature: str, in_docs: str = "") -> Row:
    refusal = unknown("feature", f"driver:{feature}", FEATURES)
    return asks(name, refusal, ["driver:city", f"driver:{feature}"], in_docs=in_docs)


def _too_long(name: str, refusal: Refusal, features: str | Sequence[str]) -> Row:
    """The message is cut; that it begins as it must is for the test."""
    return asks(name, replace(refusal, message=None), features, in_docs="a name of 5,000 characters, in any script")


def names() -> Iterator[Row]:
    """Names that the catalog does not have."""
    yield _unknown_service("a feature service that there is not", "nope")
    yield _unknown_service("an empty feature service", "", "a feature service that there is not")
    for name, service in (
        ("a service in capitals", "RIDE"),
        ("a service with a space after it", "ride "),
        ("a service with NUL in it", "ri\0de"),
        ("a service with a newline in it", "ride\n"),
        ("a service in another Unicode form", "ride\u0301"),
        ("a service with its letters reversed by a control character", "\u202eride"),
        ("a view named as a service", "driver"),
        ("a reference named as a service", "driver:trips"),
    ):
        yield _unknown_service(
            name, service, "a service, view or feature spelt otherwise: case, spaces, control characters, Unicode"
        )
    yield asks(
        "a service of a view that is gone",
        unknown("feature view", "ghost", VIEWS),
        "haunted",
        in_docs="a service of a view that is gone",
    )
    yield asks("a service of a feature that is gone", unknown("feature", "driver:gone", FEATURES), "stripped")
    yield _unknown_view("a view that there is not", "nope")
    for name, view in (
        ("a view in capitals", "Driver"),
        ("a view with a space after it", "driver "),
        ("a view with NUL in it", "dri\0ver"),
        ("a view with its project", "tiny/driver"),
        ("a glob", "dr*"),
        ("a path", "../driver"),
        ("an entity", "driver_id"),
    ):
        yield _unknown_view(
            name, view, "a service, view or feature spelt otherwise: case, spaces, control characters, Unicode"
        )
    yield _unknown_view("an alias outside of its service", "first")
    yield _unknown_view("a service named as a view", "ride")
    for version in ("v9", "v0", "nine", "-1", "v" + "9" * 30):
        yield _unknown_view(f"version {version}", f"driver@{version}", "a version of a view that there is not")
    yield _unknown_feature("a feature that there is not", "nope")
    for name, feature in (
        ("a join key asked for as a feature", "driver_id"),
        ("every feature by a glob", "*"),
        ("a feature in capitals", "Trips"),
        ("a feature with a newline after it", "trips\n"),
    ):
        yield _unknown_feature(name, feature, "a feature that there is not")
    yield _unknown_feature("a reference with two colons", "trips:city")
    yield asks(
        "a feature that an on-demand view does not have", unknown("feature", "fare:nope", "price, trips"), ["fare:nope"]
    )
    for script, letter in SCRIPTS.items():
        name = letter * 5_000
        yield _too_long(f"a service of 5,000 times {script}", unknown("feature service", name, SERVICES), name)
    yield _too_long("a view of 5,000 characters", unknown("feature view", LONG, VIEWS), [f"{LONG}:trips"])
    yield _too_long("a feature of 5,000 characters", unknown("feature", f"driver:{LONG}", FEATURES), [f"driver:{LONG}"])


def references() -> Iterator[Row]:
    """References that are not `view:feature`, and lists of them that cannot be answered."""
    for ref in (
        "",
        ":",
        "driver",
        "driver:",
        ":trips",
        "driver__trips",
        "driver\uff1atrips",
        "\0",
        "\n",
        "@v1:trips",
        "@latest:trips",
    ):
        refusal = bad("features[1]", f"{ref!r} is not a reference; write `view:feature`")
        yield asks(
            f"the reference {ref!r}", refusal, ["driver:trips", ref], in_docs="a reference that is not `view:feature`"
        )
    for script, letter in SCRIPTS.items():
        wrong = cut(f"{letter * 1_000!r} is not a reference; write `view:feature`", FIELD_BYTES_MAX)
        name = f"a reference of 5,000 times {script}"
        yield asks(name, bad("features[0]", wrong), [letter * 5_000], in_docs="a reference that is not `view:feature`")
    nothing = bad("features", "nothing is asked for; name a feature service or `view:feature` references")
    yield sends("nothing at all", nothing, b"", in_docs="nothing is asked for")
    yield asks("an empty list", nothing, [], in_docs="nothing is asked for")
    yield sends(
        "entities alone",
        nothing,
        hindcast(TRIPS, ONE).replace(b"\x12\x0e\x0a\x0cdriver:trips", b""),
        in_docs="nothing is asked for",
    )
    hint = "set full_feature_names, or ask for each once"
    collide = bad("features", f"more than one column would be named 'trips'; {hint}")
    for name, features in (
        ("one feature name in two views", ["driver:trips", "driver_week:trips"]),
        ("one feature name in two views of a service", "clash"),
        ("one feature twice", ["driver:trips", "driver:trips"]),
        ("one feature by name and by version", ["driver:trips", "driver@latest:trips"]),
    ):
        yield asks(name, collide, features, in_docs="two columns would have one name")
    twice = bad("features", "more than one column would be named 'driver__trips'; ask for each feature once")
    yield asks("one feature twice by its full name", twice, ["driver:trips"] * 2, full=True)
    yield asks(
        "10,001 references", bad("features", "has 10001 references; ask for at most 10000 at once"), TRIPS * 10_001
    )
    disabled = bad(
        "features",
        "feature view 'asleep' cannot be served: it is disabled; `feast feature-views enable asleep` enables it",
    )
    yield asks("a disabled view", disabled, ["asleep:trips"])
    yield asks("a service of a disabled view", disabled, "sleeping")
    yield asks("an on-demand view that reads a disabled view", disabled, ["dreaming:price"])
    yield asks(
        "a view whose join key has a type that Feast stores no rows for",
        bad(
            "features",
            "feature view 'by_double' cannot be served: Feast stores no online rows for the type of its join key 'gauge_id'",
        ),
        ["by_double:weight"],
    )
    yield asks(
        "a label view",
        bad("features", "feature view 'verdict' cannot be served: it is a label view, which has no online rows"),
        ["verdict:trips"],
    )


_MISSING = "is missing; these features need this join key"
_EXTRA = "is not a join key of these features; leave it out"


def entities() -> Iterator[Row]:
    """Columns that are missing, too many, or of the wrong length."""
    pair = {"driver_id": [integer(1)], "string_key": [text("k")]}
    crossing = ["crossing:weight"]
    yield asks("no join key", bad('entities["driver_id"]', _MISSING), TRIPS, None, in_docs="a join key is missing")
    yield asks(
        "no join key of a service",
        bad('entities["driver_id"]', _MISSING),
        "everything",
        None,
        in_docs="a join key is missing",
    )
    for key in pair:
        given = {name: column for name, column in pair.items() if name != key}
        yield asks(
            f"no {key} of a composite key",
            bad(f'entities["{key}"]', _MISSING),
            crossing,
            given,
            in_docs="a join key is missing",
        )
    yield asks(
        "neither part of a composite key",
        bad('entities["driver_id"]', _MISSING, ('entities["string_key"]', _MISSING)),
        crossing,
        None,
    )
    both = bad('entities["first_id"]', _MISSING, ('entities["second_id"]', _MISSING))
    yield asks("no join key of a mapped view", both, "pair", None, full=True, in_docs="a join key is missing")
    yield asks(
        "the join key of a view whose service maps it to others",
        replace(both, violations=(*both.violations, ('entities["driver_id"]', _EXTRA))),
        "pair",
        full=True,
        methods=ONLY_HINDCAST,
    )
    for misspelt in ("driver_i", "Driver_id", "driver_id ", "driver\0id", ""):
        refusal = bad('entities["driver_id"]', _MISSING)
        given = {misspelt: [integer(1)]}
        yield asks(
            f"a join key spelt {misspelt!r}, on Feast",
            refusal,
            TRIPS,
            given,
            methods=BOTH_OF_FEAST,
            in_docs="a join key is missing",
        )
        extra = (f'entities["{misspelt}"]', _EXTRA)
        refusal = replace(refusal, violations=(*refusal.violations, extra))
        yield asks(
            f"a join key spelt {misspelt!r}",
            refusal,
            TRIPS,
            given,
            methods=ONLY_HINDCAST,
            in_docs="a join key is misspelt",
        )
    yield asks(
        "an entity's name for its join key, on hindcast.v1",
        bad('entities["driver_id"]', _MISSING, ('entities["driver"]', _EXTRA)),
        TRIPS,
        {"driver": [integer(1)]},
        methods=ONLY_HINDCAST,
    )
    yield asks(
        "a join key by its own name and by its entity's, on Feast",
        bad('entities["driver_id"]', "is sent twice, as the join key and by its entity's name; send one of them"),
        TRIPS,
        {**ONE, "driver": [integer(2)]},
        methods=BOTH_OF_FEAST,
    )
    for name, features, given, extras in (
        ("a column that nothing needs", TRIPS, {**ONE, "merchant_id": [integer(1)]}, ["merchant_id"]),
        ("two columns that nothing needs", TRIPS, {**ONE, "a": [integer(1)], "b": [integer(1)]}, ["a", "b"]),
        ("another view's join key", TRIPS, pair, ["string_key"]),
        ("a join key for a view without entities", ["platform:surge"], ONE, ["driver_id"]),
        ("a join key for a service without features", "hollow", ONE, ["driver_id"]),
    ):
        first, *more = [(f'entities["{extra}"]', _EXTRA) for extra in extras]
        yield asks(
            name,
            bad(*first, *more),
            features,
            given,
            methods=ONLY_HINDCAST,
            in_docs="a column that nothing needs, on hindcast.v1",
        )
    for script, letter in SCRIPTS.items():
        yield asks(
            f"a column of 5,000 times {script} that nothing needs",
            bad(cut(f'entities["{letter * 5_000}"]', FIELD_BYTES_MAX), _EXTRA),
            TRIPS,
            {**ONE, letter * 5_000: [integer(1)]},
            methods=ONLY_HINDCAST,
            in_docs="a column that nothing needs, on hindcast.v1",
        )
    for first_rows, rows in ((3, 2), (2, 3), (1, 0), (0, 1), (10_000, 9_999)):
        refusal = bad(
            'entities["string_key"]',
            f'has {rows} values, but entities["driver_id"] has {first_rows}; send one value per row in every column',
        )
        given = {"driver_id": [integer(1)] * first_rows, "string_key": [text("k")] * rows}
        yield asks(f"{first_rows} and {rows} rows", refusal, crossing, given, in_docs="columns of different lengths")
    refusal = bad(
        'entities["string_key"]',
        'has 2 values, but entities["driver_id"] has 1; send one value per row in every column',
    )
    given = {**ONE, "string_key": [text("k")] * 2}
    yield asks(
        "another length of a column that nothing needs",
        refusal,
        TRIPS,
        given,
        methods=BOTH_OF_FEAST,
        in_docs="columns of different lengths",
    )
    yield asks(
        "no rows", bad('entities["driver_id"]', "has no values; ask for at least one row"), TRIPS, {"driver_id": []}
    )
    refusal = bad('entities["driver_id"]', "has 10001 values; ask for at most 10000 rows at once")
    yield asks("10,001 rows", refusal, TRIPS, {"driver_id": [integer(1)] * 10_001})
    refusal = bad('entities["string_key"]', "has 10001 values; ask for at most 10000 rows at once")
    given = {**ONE, "string_key": [text("k")] * 10_001}
    yield asks("10,001 rows of a column that nothing needs", refusal, TRIPS, given, in_docs="10,001 rows")
    given = {f"c{at}": [integer(1)] for at in range(1_001)}
    yield asks("1,001 columns", bad("entities", "has 1001 columns; send at most 1000"), TRIPS, given)
    yield asks(
        "1,001 columns of request data", bad("request_data", "has 1001 columns; send at most 1000"), TRIPS, ONE, given
    )
    given = {f"a column with some name {at}": [integer(1)] for at in range(4_000)}
    refusal = bad("request", "has more than 3000 fields; send at most 1000 columns")
    yield asks(
        "4,000 columns", refusal, TRIPS, given, in_docs="more than 3,000 fields in all, of a message over 64 KiB"
    )


def key_types() -> Iterator[Row]:
    """Every type of join key, with a value of every kind."""
    for declared in KeyType:
        key = declared.name.lower()
        for kind in KINDS:
            fits = kind == f"{key}_val" or (kind, declared) == ("int32_val", KeyType.INT64)
            given_name = kind.removesuffix("_val").upper()
            refusal = bad(f'entities["{key}_key"].val[1]', f"is {given_name}, but the join key is {declared.name}")
            yield asks(
                f"{given_name} for a join key of {declared.name}",
                None if fits else refusal,
                [f"by_{key}:seen"],
                {f"{key}_key": [value_of(f"{key}_val"), value_of(kind)]},
                statuses=(1, 1) if fits else None,
                in_docs="an INT32 for a join key of INT64" if fits else "a value of another type than its join key",
            )
