"""On-demand views over every kind of value: what a function is handed and gives back is what Feast's SDK makes of it."""

import pyarrow as pa
import pytest
from feast import Field, RequestSource
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.type_map import feast_value_type_to_python_type

from hindcast.errors import TransformError
from hindcast_client._encoding import encode_column
from kinds import KINDS
from on_demand_views import ACCOUNT, asked, feasts, on_demand, ours, row, view
from services import run_redis
from twins import answered, plain_bytes, twins

NOT_IN_PANDAS = [kind for kind in KINDS if kind.name in ("map_list_val", "scalar_map_val", "zoned_timestamp_val")]
NOT_IN_PANDAS += [kind for kind in KINDS if kind.name.startswith("json")]
"""Kinds that Feast cannot hand to pandas, or take back from it."""
IN_PANDAS = [kind for kind in KINDS if kind not in NOT_IN_PANDAS]


def echo(name, kinds, source, **options):
    """A view that gives each of these kinds back, under its name and an o."""
    if options.get("mode") == "pandas":
        code = "def same(inputs):\n    return inputs.rename(columns=lambda name: name + 'o')\n"
    else:
        code = "def same(inputs):\n    return {name + 'o': values for name, values in inputs.items()}\n"
    return on_demand(name, code, *((f"{kind.name}o", kind.dtype) for kind in kinds), sources=[source], **options)


@pytest.fixture(scope="module")
def echoes(tmp_path_factory):
    """A view with every kind, and on-demand views of each mode that give them back, one from the request."""
    stored = view("stored", *((kind.name, kind.dtype) for kind in KINDS))
    fields = [Field(name=kind.name, dtype=kind.dtype) for kind in KINDS]
    made = [
        echo("python", KINDS, stored),
        echo("singleton", KINDS, stored, singleton=True),
        echo(
            "pandas", IN_PANDAS, view("pandas stored", *((kind.name, kind.dtype) for kind in IN_PANDAS)), mode="pandas"
        ),
        *(
            echo(f"pandas {kind.name}", [kind], view(f"{kind.name} stored", (kind.name, kind.dtype)), mode="pandas")
            for kind in NOT_IN_PANDAS
        ),
        *(
            echo(f"sent {field.name}", [kind], RequestSource(name=f"{field.name} sent", schema=[field]))
            for kind, field in zip(KINDS, fields, strict=True)
        ),
    ]
    views = [stored, view("pandas stored", *((kind.name, kind.dtype) for kind in IN_PANDAS))]
    views += [view(f"{kind.name} stored", (kind.name, kind.dtype)) for kind in NOT_IN_PANDAS]
    with run_redis() as redis, twins(tmp_path_factory.mktemp("kinds"), redis) as pair:
        pair.apply([ACCOUNT, *views, *made])
        protos = {kind.name: kind.protos() for kind in KINDS}
        for one in views:
            names = [feature.name for feature in one.features]
            pair.write(one.name, [row(str(at), {name: protos[name][at] for name in names}) for at in range(3)])
        yield pair


@pytest.mark.parametrize("accounts", [["0", "1"], ["0", "2"], ["2", "nobody"]], ids=" ".join)
@pytest.mark.parametrize(("mode", "kinds"), [("python", KINDS), ("pandas", IN_PANDAS)])
def test_every_kind_goes_through_a_function(echoes, mode, kinds, accounts):
    """Values and nulls of each kind that a function gives back are the ones that Feast makes of them."""
    refs = [f"{mode}:{kind.name}o" for kind in kinds]

    assert feasts(echoes, refs, asked(accounts)) == ours(echoes, refs, asked(accounts))


@pytest.mark.parametrize("kind", NOT_IN_PANDAS, ids=lambda kind: kind.name)
def test_a_kind_that_feast_cannot_hand_to_pandas_is_an_error(echoes, kind):
    """What Feast cannot convert for pandas, or take back, fails here too, and says so."""
    refs = [f"pandas {kind.name}:{kind.name}o"]
    with pytest.raises((TypeError, pa.ArrowException)):
        feasts(echoes, refs, asked(["0", "1"]))
    with pytest.raises(TransformError, match=f"on-demand view 'pandas {kind.name}'"):
        ours(echoes, refs, asked(["0", "1"]))


def test_a_singleton_takes_and_gives_every_kind(echoes):
    """A singleton sees a row's value and gives one, lists included, which Feast takes for a column unless in a list."""
    accounts = asked(["0", "1", "2", "nobody"])
    singleton, python = (
        ours(echoes, [f"{mode}:{kind.name}o" for kind in KINDS], accounts) for mode in ("singleton", "python")
    )

    assert python == singleton
    scalar = [f"singleton:{kind.name}o" for kind in KINDS if not kind.name.endswith(("list_val", "set_val"))]
    theirs = feasts(echoes, scalar, asked(["0"]))
    assert {name: column[:1] for name, column in theirs.items()} == {name: singleton[name][:1] for name in theirs}


NOT_INFERRED = {"list_val", "set_val"}
"""Kinds that Feast's SDK cannot tell of Python values; a caller of ours may send them."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_request_data_of_every_kind_reaches_the_function(echoes, kind):
    """What a caller sends as Python values is what the function sees through either client."""
    refs, name = [f"sent {kind.name}:{kind.name}o"], f"{kind.name}o"
    sent = [*kind.values, None]
    answer = ours(echoes, refs, {kind.name: [plain_bytes(one) for one in encode_column(sent, name="sent")]})[name]
    if kind.name in NOT_INFERRED:
        with pytest.raises(ValueError, match="recursion is not allowed"):
            echoes.plain.get_online_features(refs, {kind.name: sent})
        assert [plain_bytes(content) for content in kind.protos()] == [content for content, _ in answer]
        return

    theirs = answered(echoes.plain.get_online_features(refs, {kind.name: sent}).proto)[name]
    # A set has no order.
    assert list(map(python, answer_of(theirs))) == list(map(python, answer_of(answer)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_request_data_as_protobuf_reaches_the_function(echoes, kind):
    """Values of the declared kind reach the function and come back; Feast's gRPC server hands them on, and its SDK fails."""
    refs, name = [f"sent {kind.name}:{kind.name}o"], f"{kind.name}o"
    protos = kind.protos()
    with pytest.raises(ValueError, match="cannot be converted into Feast value type"):
        echoes.plain.get_online_features(refs, {kind.name: RepeatedValue(val=protos)})
    answer = ours(echoes, refs, {kind.name: [plain_bytes(content) for content in protos]})[name]

    # JSON is written anew, and a set has no order.
    assert [type(content) for content in map(python, protos)] == [
        type(content) for content in map(python, answer_of(answer))
    ]
    assert list(map(python, protos)) == list(map(python, answer_of(answer)))


def answer_of(column):
    return [Value.FromString(content) for content, _ in column]


def python(content):
    return feast_value_type_to_python_type(content)
