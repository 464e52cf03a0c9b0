"""On-demand views for tests: made from the text of a function, asked on both sides. Importing this imports Feast."""

from datetime import UTC, datetime, timedelta

from feast import Entity, FeatureView, Field
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.transformation.pandas_transformation import PandasTransformation
from feast.transformation.python_transformation import PythonTransformation
from feast.types import String
from feast.value_type import ValueType

from twins import SOURCE, answered, asked_of_feast, asked_of_hindcast, plain_bytes

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


def view(name, *fields):
    return FeatureView(
        name=name,
        entities=[ACCOUNT],
        ttl=timedelta(0),
        schema=[Field(name="account_id", dtype=String), *(Field(name=field, dtype=dtype) for field, dtype in fields)],
        source=SOURCE,
    )


def on_demand(name, code, *outputs, sources, mode="python", **options):
    """A view from the text of its function.

    Not inferred by Feast: it runs functions on one row of made-up inputs, which hides what others than those give.
    """
    scope = {}
    exec(code, scope)  # noqa: S102 - texts of this file
    function = next(one for one in scope.values() if callable(one))
    transformation = PandasTransformation if mode == "pandas" else PythonTransformation
    made = OnDemandFeatureView(
        name=name,
        sources=list(sources),
        schema=[Field(name=output, dtype=dtype) for output, dtype in outputs],
        mode=mode,
        feature_transformation=transformation(udf=function, udf_string=code),
        **options,
    )
    made.infer_features = lambda *_, **__: None
    return made


def value(kind, content):
    return Value() if content is None else Value(**{kind: content})


def row(account, values):
    return (EntityKey(join_keys=["account_id"], entity_values=[text(account)]), values, AN_HOUR_AGO, None)


def text(content):
    return Value(string_val=content)


def asked(accounts, name="account_id"):
    return {name: [text(account).SerializeToString() for account in accounts]}


def feasts(pair, refs, columns, *, full_names=False):
    """Feast's answer; keys as text, since its SDK takes protobuf only where it knows a type."""
    keys = {name: [Value.FromString(content).string_val for content in contents] for name, contents in columns.items()}
    return answered(pair.plain.get_online_features(refs, keys, full_feature_names=full_names).proto)


def ours(pair, refs, columns, *, full_names=False):
    """Our answer, after both dialects gave the same values."""
    feast, native = pair.lookup(
        asked_of_feast(refs, columns, full_names=full_names), native_question(refs, columns, full_names=full_names)
    )
    given = answered(feast)
    assert {column.name: [plain_bytes(one) for one in column.values] for column in native.columns} == {
        column.name: [content for content, _ in given[column.name]] for column in native.columns
    }
    return given


def native_question(refs, columns, *, full_names):
    """On hindcast.v1 request data has its own place."""
    keys = {name: contents for name, contents in columns.items() if name.endswith("_id")}
    request = asked_of_hindcast(refs, keys, full_names=full_names)
    data = asked_of_hindcast(
        refs, {name: contents for name, contents in columns.items() if name not in keys}, full_names=False
    )
    for name, column in data.entities.items():
        request.request_data[name].CopyFrom(column)
    return request


def decoded(answer, name):
    """A column as numbers or texts, None for a null."""
    values = [Value.FromString(content) for content, _ in answer[name]]
    return [None if one.WhichOneof("val") is None else getattr(one, one.WhichOneof("val")) for one in values]
