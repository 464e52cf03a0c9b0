"""On-demand views: through the server's core they give what Feast's SDK gives on the same rows, in each mode and of every kind;
where Feast fails or is wrong, both sides are shown.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from feast import Entity, Field
from feast.aggregation import Aggregation
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.types.Value_pb2 import Value
from feast.transformation.substrait_transformation import SubstraitTransformation
from feast.types import Array, Bool, Float32, Float64, Int64, String
from feast.value_type import ValueType

from hindcast.errors import InvalidArgument, TransformError
from hindcast_client import Client, DeadlineExceeded
from on_demand_views import ACCOUNT, AN_HOUR_AGO, asked, decoded, feasts, on_demand, ours, row, value, view
from services import run_hindcast, run_redis, wait_for
from twins import twins

ACCOUNT_ID = Entity(name="account_id", join_keys=["account_id"], value_type=ValueType.STRING)
ROWS = 1000
"""Accounts "0" to "999": `visits` is the number, null for every tenth; `score` a fraction, null for every seventh."""


PROFILE = view("profile", ("visits", Int64), ("score", Float64), ("is_new", Bool), ("city", String))
OTHER = view("other", ("visits", Int64), ("more", Int64))


def of_profile(name, code, *outputs, **options):
    return on_demand(name, code, *outputs, sources=[PROFILE], **options)


def rows_of(name):
    """Rows of `profile` or `other` for all accounts."""
    for at in range(ROWS):
        values = {"visits": at, "more": 2 * at, "score": at / 8, "is_new": at % 2 == 0, "city": f"é{at % 5}"}
        if at % 10 == 3:
            values["visits"] = None
        if at % 7 == 2:
            values["score"] = None
        kinds = {"visits": "int64_val", "more": "int64_val", "score": "double_val", "is_new": "bool_val"}
        fields = ("visits", "more") if name == "other" else ("visits", "score", "is_new", "city")
        yield row(str(at), {f: value(kinds.get(f, "string_val"), values[f]) for f in fields})


OUTPUTS = (("x", Float64), ("y", Int64), ("z", String), ("ok", Bool), ("v", Array(Float32)))
PYTHON = """
def computed(inputs):
    rows = list(zip(inputs["visits"], inputs["score"], inputs["is_new"], inputs["city"]))
    return {
        "x": [None if score is None else score * 2 for _, score, _, _ in rows],
        "y": [None if visits is None else visits + 1 for visits, _, _, _ in rows],
        "z": [None if city is None else city + "!" for _, _, _, city in rows],
        "ok": [None if is_new is None else not is_new for _, _, is_new, _ in rows],
        "v": [[float(visits or 0), 0.5] for visits, _, _, _ in rows],
    }
"""
SINGLETON = """
def computed(inputs):
    visits, score, is_new, city = (inputs[name] for name in ("visits", "score", "is_new", "city"))
    return {
        "x": None if score is None else score * 2,
        "y": None if visits is None else visits + 1,
        "z": None if city is None else city + "!",
        "ok": None if is_new is None else not is_new,
        "v": [[float(visits or 0), 0.5]],
    }
"""
PANDAS = """
def computed(inputs):
    import pandas as pd
    frame = pd.DataFrame()
    frame["x"] = inputs["score"] * 2
    frame["y"] = inputs["visits"] + 1
    frame["z"] = inputs["city"] + "!"
    frame["ok"] = inputs["is_new"].map({True: False, False: True})
    frame["v"] = [[visits if visits == visits else 0.0, 0.5] for visits in inputs["visits"]]
    return frame
"""
MODES = {
    "python": of_profile("python", PYTHON, *OUTPUTS),
    "pandas": of_profile("pandas", PANDAS, *OUTPUTS, mode="pandas"),
    "singleton": of_profile("singleton", SINGLETON, *OUTPUTS, singleton=True),
}
ALIASED = on_demand("aliased", PYTHON, ("y", Int64), sources=[PROFILE.with_name("p")])
MAPPED = on_demand(
    "mapped",
    "def mapped(inputs):\n    return {'y': inputs['visits']}\n",
    ("y", Int64),
    sources=[PROFILE.with_join_key_map({"account_id": "payer_id"})],
)
BOTH = on_demand(
    "both",
    """
def both(inputs):
    return {"y": [
        None if a is None or b is None else a * 10_000 + b
        for a, b in zip(inputs["profile__visits"], inputs["other__visits"])
    ]}
""",
    ("y", Int64),
    sources=[PROFILE, OTHER],
)
SEES = of_profile(
    "sees",
    "def sees(inputs):\n    return {'names': [sorted(inputs)] * len(inputs['visits'])}\n",
    ("names", Array(String)),
)
ABSOLUTE = of_profile(
    "absolute",
    "def absolute(inputs):\n    return inputs[['score']].abs().rename(columns={'score': 'y'})\n",
    ("y", Float64),
    mode="pandas",
)
STORED = of_profile(
    "stored",
    "def stored(inputs):\n    return {'y': [visits + 1 for visits in inputs['visits']]}\n",
    ("account_id", String),
    ("y", Int64),
    entities=[ACCOUNT],
    write_to_online_store=True,
)
AGGREGATED = OnDemandFeatureView(
    name="aggregated",
    sources=[PROFILE],
    entities=[ACCOUNT_ID],
    schema=[Field(name="account_id", dtype=String), Field(name="sum_visits", dtype=Int64)],
    aggregations=[Aggregation(column="visits", function="sum")],
    mode="python",
)


def bad(name, body, *, dtype=Int64, **options):
    return of_profile(name, f"def bad(inputs):\n    {body}\n", ("y", dtype), **options)


ANSWERS = {
    "numpy": (bad("numpy", "import numpy as np; return {'y': np.arange(len(inputs['visits']))}"), [0, 1, 2]),
    "tuple": (bad("tuple", "return {'y': tuple(range(len(inputs['visits'])))}"), [0, 1, 2]),
    "numpy values": (bad("numpy values", "import numpy as np; return {'y': [np.int64(7)] * 3}"), [7, 7, 7]),
    "whole floats": (bad("whole floats", "return {'y': [1.0, None, 2.0]}"), [1, None, 2]),
    "nan": (bad("nan", "return {'y': [float('nan'), 0.5, None]}", dtype=Float64), [None, 0.5, None]),
    "ints for floats": (bad("ints for floats", "return {'y': [1, 2, 3]}", dtype=Float64), [1.0, 2.0, 3.0]),
    "none": (bad("none", "return {'y': [None] * 3}"), [None] * 3),
    "more columns": (bad("more columns", "return {'y': [1, 2, 3], 'nobody': object()}"), [1, 2, 3]),
}
"""What a function gives for three rows, and what is answered."""

FAILURES = {
    "short": (bad("short", "return {'y': [1]}"), "returned 1 rows of 'y' for 3; mend its function"),
    "long": (bad("long", "return {'y': [1] * 4}"), "returned 4 rows of 'y' for 3; mend its function"),
    "scalar": (bad("scalar", "return {'y': 1}"), "returned 1 rows of 'y' for 3; mend its function"),
    "missing": (bad("missing", "return {'x': [1, 2, 3]}"), "did not return its feature 'y'; mend its function"),
    "missing in a row": (
        bad("missing in a row", "return {'y': 1} if inputs['visits'] else {}", singleton=True),
        "did not return its feature 'y'; mend its function",
    ),
    "nothing": (bad("nothing", "return None"), r"failed on these inputs; the server's log has more"),
    "raises": (bad("raises", "raise ValueError('secret')"), r"failed on these inputs"),
    "another type": (bad("another type", "return {'y': ['a', 'b', 'c']}"), "returned values of 'y' that are not Int64"),
    "too large": (bad("too large", "return {'y': [2**63] * 3}"), "returned values of 'y' that are not Int64"),
    "short frame": (
        bad("short frame", "return inputs[['visits']].rename(columns={'visits': 'y'}).head(2)", mode="pandas"),
        "returned 2 rows of 'y' for 3; mend its function",
    ),
}
"""What is wrong with a function, and what is said."""

# As JSON, since the package that makes plans of ibis expressions does not work with the ibis that Feast installs.
_VISITS = {"value": {"selection": {"directReference": {"structField": {"field": 0}}, "rootReference": {}}}}
_NULLABLE = {"i64": {"nullability": "NULLABILITY_NULLABLE"}}
_PLAN = {
    "extensionUris": [
        {
            "extensionUriAnchor": 1,
            "uri": "https://github.com/substrait-io/substrait/blob/main/extensions/functions_arithmetic.yaml",
        }
    ],
    "extensions": [{"extensionFunction": {"extensionUriReference": 1, "functionAnchor": 1, "name": "add"}}],
    "relations": [
        {
            "root": {
                "names": ["visits", "y"],
                "input": {
                    "project": {
                        "input": {
                            "read": {
                                "baseSchema": {
                                    "names": ["visits"],
                                    "struct": {"types": [_NULLABLE], "nullability": "NULLABILITY_REQUIRED"},
                                },
                                "namedTable": {"names": ["t"]},
                            }
                        },
                        "expressions": [
                            {
                                "scalarFunction": {
                                    "functionReference": 1,
                                    "outputType": _NULLABLE,
                                    "arguments": [_VISITS, _VISITS],
                                }
                            }
                        ],
                    }
                },
            }
        }
    ],
}


def substrait():
    plan = pa._substrait._parse_json_plan(json.dumps(_PLAN).encode()).to_pybytes()
    made = OnDemandFeatureView(
        name="substrait",
        sources=[PROFILE],
        schema=[Field(name="y", dtype=Int64)],
        mode="substrait",
        feature_transformation=SubstraitTransformation(substrait_plan=plan, udf=lambda table: table),
    )
    made.infer_features = lambda *_, **__: None
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A repo with all of the views above, and rows."""
    with run_redis() as redis, twins(tmp_path_factory.mktemp("on_demand"), redis) as pair:
        views = [*MODES.values(), ALIASED, MAPPED, BOTH, SEES, ABSOLUTE, STORED, AGGREGATED, substrait()]
        views += [one for one, _ in (*ANSWERS.values(), *FAILURES.values())]
        pair.apply([ACCOUNT, ACCOUNT_ID, PROFILE, OTHER, *views])
        for name in ("profile", "other"):
            pair.write(name, list(rows_of(name)))
        yield pair


MANY = [str(at) for at in range(ROWS)] + ["nobody", "7", "7"]


@pytest.mark.parametrize("name", ["python", "pandas"])
def test_many_rows_are_computed_as_feast_computes_them(filled, name):
    """A thousand rows with nulls, unknown and repeated entities give Feast's values, whichever the mode."""
    refs = [f"{name}:{output}" for output, _ in OUTPUTS]
    answer = ours(filled, refs, asked(MANY))

    assert feasts(filled, refs, asked(MANY)) == answer
    assert [None if at % 10 == 3 else at + 1 for at in range(ROWS)] == decoded(answer, "y")[:ROWS]


def test_a_singleton_is_computed_for_each_row(filled):
    """A singleton's function runs once a row and gives what Feast gives for each row alone; Feast runs the first only."""
    refs = [f"singleton:{output}" for output, _ in OUTPUTS]
    answer = ours(filled, refs, asked(MANY))

    for at in (0, 3, 9, 13, ROWS):
        alone = feasts(filled, refs, asked([MANY[at]]))
        assert {name: column[:1] for name, column in alone.items()} == {
            name: [column[at]] for name, column in answer.items()
        }
    assert 1 == len(feasts(filled, refs, asked(MANY))["y"])
    assert [None if at % 10 == 3 else at + 1 for at in range(ROWS)] == decoded(answer, "y")[:ROWS]


def test_a_substrait_plan_is_run_as_feast_runs_it(filled):
    """A view in substrait mode gives Feast's values, and nulls where no entity has a row."""
    for accounts in (MANY, ["nobody"]):
        assert feasts(filled, ["substrait:y"], asked(accounts)) == ours(filled, ["substrait:y"], asked(accounts))


def test_rows_of_nothing_but_nulls_are_computed(filled):
    """Where no entity has a row, a pandas function sees nulls of the type that it sees beside rows; at Feast objects."""
    for accounts in (["7", "nobody"], ["2", "7"]):
        assert feasts(filled, ["absolute:y"], asked(accounts)) == ours(filled, ["absolute:y"], asked(accounts))
    with pytest.raises(TypeError, match="bad operand type for abs"):
        feasts(filled, ["absolute:y"], asked(["nobody"]))

    assert [None, None] == decoded(ours(filled, ["absolute:y"], asked(["nobody", "nobody"])), "y")


def test_an_aliased_source_is_read(filled):
    """A source with another name is read by its own rows; Feast looks for it under the name that it no longer has."""
    with pytest.raises(KeyError):
        feasts(filled, ["aliased:y"], asked(["5"]))

    assert [6] == decoded(ours(filled, ["aliased:y"], asked(["5"])), "y")


def test_a_source_with_a_join_key_map_reads_the_mapped_column(filled):
    """The source's rows are those of the mapped column, beside the same view by its own key too, where Feast mixes them."""
    columns = asked(["1", "nobody"], "payer_id")
    assert feasts(filled, ["mapped:y"], columns) == ours(filled, ["mapped:y"], columns)

    columns |= asked(["5", "6"])
    refs = ["mapped:y", "profile:visits"]
    mixed, answer = feasts(filled, refs, columns), ours(filled, refs, columns)
    assert decoded(mixed, "y") == decoded(mixed, "visits")
    assert ([1, None], [5, 6]) == (decoded(answer, "y"), decoded(answer, "visits"))


def test_sources_with_one_feature_name_are_told_apart(filled):
    """A function reads features of one name by their views' names, as at Feast."""
    refs = ["both:y", "other:more"]
    answer = ours(filled, refs, asked(["5", "13", "nobody"]))

    assert feasts(filled, refs, asked(["5", "13", "nobody"])) == answer
    assert [50_005, None, None] == decoded(answer, "y")


def test_an_input_is_told_from_a_requested_feature_of_its_name(filled):
    """A function sees its own view's feature where another view's of that name is asked for; Feast takes it away."""
    refs = ["other:visits", "python:y"]
    with pytest.raises(KeyError):
        feasts(filled, refs, asked(["5"]))

    answer = ours(filled, refs, asked(["5"]))
    assert ([5], [6]) == (decoded(answer, "visits"), decoded(answer, "y"))


def test_a_function_sees_what_it_declared(filled):
    """Join keys, and its source's features under both names; Feast adds a column for each view's time."""
    refs = ["sees:names", "other:more"]
    expected = ["account_id", *(f"{p}{f.name}" for p in ("", "profile__") for f in PROFILE.features)]
    answer, theirs = (decoded(one(filled, refs, asked(["5"])), "names") for one in (ours, feasts))

    assert [sorted(expected)] == [sorted(names.val) for names in answer]
    assert [sorted([*expected, "_ts:other", "_ts:profile"])] == [sorted(names.val) for names in theirs]


def test_results_that_are_stored_are_read(filled):
    """What Feast computes when it is written is answered as a stored view's values, with the time of writing."""
    import pandas as pd  # noqa: PLC0415 - as in the SDK's own example

    times = [AN_HOUR_AGO] * 2
    frame = pd.DataFrame({"account_id": ["1", "2"], "visits": [5, 6], "event_timestamp": times, "created": times})
    for store in (filled.packed, filled.plain):
        store.write_to_online_store("stored", df=frame.copy())
    answer = ours(filled, ["stored:y"], asked(["1", "2", "nobody"]))

    assert (
        [6, 7, None] == decoded(answer, "y") == decoded(feasts(filled, ["stored:y"], asked(["1", "2", "nobody"])), "y")
    )
    assert [True, True, False] == [bool(moment) for _, moment in answer["y"]]


def test_aggregations_are_refused(filled):
    """Feast answers a view of aggregations without its column; here the request is refused."""
    assert {"account_id"} == feasts(filled, ["aggregated:sum_visits"], asked(["1", "2"])).keys()

    with pytest.raises(InvalidArgument, match="computes the aggregations of an on-demand view offline only"):
        ours(filled, ["aggregated:sum_visits"], asked(["1", "2"]))


def test_feast_defines_no_view_on_top_of_another():
    """An on-demand view cannot be the source of one, so there is nothing to serve."""
    with pytest.raises(Exception, match='argument "sources"'):
        on_demand("on top", PYTHON, *OUTPUTS, sources=[MODES["python"]])


def test_full_names_keep_the_columns_and_their_types(filled):
    """Under full names Feast loses the columns of python mode, and types those of pandas mode by their look."""
    columns = asked(["5", "13"])
    assert {"account_id"} == feasts(filled, ["python:y"], columns, full_names=True).keys()
    theirs = feasts(filled, ["pandas:y"], columns, full_names=True)["pandas__y"]
    assert ["double_val", None] == [Value.FromString(content).WhichOneof("val") for content, _ in theirs]

    for mode in ("python", "pandas"):
        answer = ours(filled, [f"{mode}:y"], columns, full_names=True)
        assert [value("int64_val", 6), Value()] == [Value.FromString(c) for c, _ in answer[f"{mode}__y"]]


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_function_may_give(filled, name):
    """NumPy's arrays and numbers, whole floats, NaN and None are values and nulls, as Feast reads them in a list."""
    _, expected = ANSWERS[name]

    assert expected == decoded(ours(filled, [f"{name}:y"], asked(["0", "1", "2"])), "y")
    if name not in ("numpy", "tuple"):  # which Feast takes for the value of one row
        assert expected == decoded(feasts(filled, [f"{name}:y"], asked(["0", "1", "2"])), "y")


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_function_gets_wrong_is_said(filled, name):
    """A function that fails, or gives another number of rows or type, fails the request in words of ours and not its own."""
    _, told = FAILURES[name]
    with pytest.raises(TransformError, match=f"on-demand view '{name}' {told}") as failed:
        ours(filled, [f"{name}:y"], asked(["0", "1", "2"]))

    assert "secret" not in str(failed.value)


WAITS = """
def waits(inputs):
    import os, time
    open({path!r} + ".begun", "w").close()
    until = time.monotonic() + 30
    while not os.path.exists({path!r}) and time.monotonic() < until:
        pass
    return {{"y": inputs["visits"]}}
"""


def test_a_function_that_computes_long_holds_up_no_other_call(shared_redis, tmp_path):
    """While a function computes, the worker answers other lookups, and a lookup whose function waits ends at its deadline."""
    released = tmp_path / "released"
    waits = of_profile("waits", WAITS.format(path=str(released)), ("y", Int64))
    quick = of_profile("quick", "def quick(inputs):\n    return {'y': inputs['visits']}\n", ("y", Int64))
    keys = {"account_id": ["5"]}
    with twins(tmp_path, shared_redis) as pair:
        pair.apply([ACCOUNT, PROFILE, waits, quick])
        pair.write("profile", [row("5", {"visits": Value(int64_val=5)})])
        with run_hindcast(tmp_path) as server, Client(server.address) as client, ThreadPoolExecutor(1) as thread:
            slow = thread.submit(client.get_online_features, features=["waits:y"], entities=keys, timeout_seconds=30)
            wait_for(released.with_suffix(".begun").exists, what="the function to begin")
            for _ in range(20):
                answer = client.get_online_features(features=["profile:visits"], entities=keys)
                assert [5] == answer.to_dict()["visits"]
            with pytest.raises(DeadlineExceeded):
                client.get_online_features(features=["quick:y"], entities=keys, timeout_seconds=0.3)
            assert not slow.done()
            released.touch()
            assert [5] == slow.result().to_dict()["y"]
            assert [5] == client.get_online_features(features=["quick:y"], entities=keys).to_dict()["y"]
