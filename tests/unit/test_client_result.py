"""What an answer can be read as."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import FeatureStatus, ServerError
from hindcast_client._encoding import encode, encode_column
from hindcast_client._request import Question
from hindcast_client._result import read_result

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PRESENT, NULL, MISSING = FeatureStatus.PRESENT, FeatureStatus.NULL_VALUE, FeatureStatus.NOT_FOUND


def answer(features, *, statuses=None, event_timestamps=None):
    """A response with one view, from which all columns come where its times are given."""
    response = GetOnlineFeaturesResponse(lookup_id="lookup-1", catalog_version="sha256:c")
    response.served_at.FromDatetime(NOON)
    if event_timestamps is not None:
        response.views.add(view="v", event_timestamps=event_timestamps)
    for name, values in features.items():
        encoded = [encode(value) for value in values]
        known = [PRESENT if value.WhichOneof("val") else NULL for value in encoded]
        column = response.columns.add(name=name, values=encoded, statuses=(statuses or {}).get(name, known))
        if event_timestamps is not None:
            column.view_index = 0
    return response


def result(features, *, entities=None, **options):
    entities = {name: encode_column(values, name=name) for name, values in (entities or {}).items()}
    rows = len(next(iter(entities.values()))) if entities else None
    return read_result(Question(None, entities, rows), answer(features, **options))


def test_an_answer_reads_as_plain_python():
    """Entity columns come first as they were sent, then the features in the order asked; a null is None."""
    got = result({"b": [0.5, None], "a": ["x", "y"]}, entities={"id": [2, 1]})
    assert (
        got.lookup_id,
        got.catalog_version,
        got.served_at,
        got.names,
        len(got),
    ) == ("lookup-1", "sha256:c", NOON, ("b", "a"), 2)
    expected = {"id": [2, 1], "b": [0.5, None], "a": ["x", "y"]}
    assert (expected, list(expected)) == (got.to_dict(), list(got.to_dict()))
    expected = [{"id": 2, "b": 0.5, "a": "x"}, {"id": 1, "b": None, "a": "y"}]
    assert expected == got.to_rows()


def test_statuses_come_by_name_and_row():
    """Each value has its status, and one that this client does not know yet reads as UNSPECIFIED."""
    response = answer({"a": [1, None, None]}, statuses={"a": [PRESENT, MISSING, 99]})
    got = read_result(Question(None, {}, 3), response)
    expected = {"a": [PRESENT, MISSING, FeatureStatus.UNSPECIFIED]}
    assert expected == got.statuses


def test_event_timestamps_come_by_feature():
    """Each value says when it was true; None stands for no row, and for features computed on demand."""
    moment = Timestamp()
    moment.FromDatetime(NOON.replace(microsecond=123456))
    response = answer({"a": [1, None]}, event_timestamps=[moment, Timestamp()])
    response.columns.add(name="computed", values=[Value(), Value()], statuses=[NULL, NULL])
    got = read_result(Question(None, {}, 2), response)
    assert {"a": [NOON.replace(microsecond=123456), None], "computed": [None, None]} == got.event_timestamps


@pytest.mark.parametrize(
    "spoil",
    [
        lambda response: response.columns[0].ClearField("values"),
        lambda response: response.columns[0].statuses.append(1),
        lambda response: response.views[0].event_timestamps.add(),
        lambda response: setattr(response.columns[0], "view_index", 7),
    ],
)
def test_an_answer_that_contradicts_itself_is_an_error(spoil):
    """A column whose lengths or view do not fit the rows asked is never handed on."""
    response = answer({"a": [1]}, event_timestamps=[Timestamp(seconds=1)])
    spoil(response)
    with pytest.raises(ServerError, match="contradicts itself: column 'a'") as caught:
        read_result(Question(None, {"id": [Value()]}, 1), response)
    expected = (grpc.StatusCode.INTERNAL, "lookup-1")
    assert expected == (caught.value.code, caught.value.lookup_id)


def test_a_feature_named_as_its_entity_is_not_silently_lost():
    """Two columns of one name are refused with the option that tells them apart."""
    got = result({"id": [1]}, entities={"id": [1]})
    with pytest.raises(ValueError, match="two columns named 'id'; ask with full_feature_names=True"):
        got.to_dict()


def test_numbers_read_as_a_matrix():
    """The features alone make an n x f float64 matrix in the order of the names, NaN for a null."""
    got = result(
        {"i": [np.int32(1), None], "b": [True, False], "f": [np.float32(0.5), 2.0], "none": [None, None]},
        entities={"name": ["x", "y"]},
    )
    matrix = got.to_numpy()
    np.testing.assert_array_equal([[1, 1, 0.5, np.nan], [np.nan, 0, 2, np.nan]], matrix)
    assert np.dtype("float64") == matrix.dtype
    expected = (0, 0)
    assert expected == result({}).to_numpy().shape


def test_a_matrix_of_text_is_refused_by_name():
    """A feature that is no number is named with its kind and row."""
    with pytest.raises(TypeError, match="feature 'city' is string, not a number, in row 1"):
        result({"a": [1, 2], "city": [None, "x"]}).to_numpy()


def test_pandas_keeps_every_digit():
    """Whole numbers with nulls stay whole, times are aware, and a column of nulls is of objects."""
    big = 2**53 + 1
    frame = result(
        {
            "i": [1, 2],
            "n": [big, None],
            "f": [0.5, None],
            "b": [True, None],
            "t": [NOON, None],
            "s": ["x", None],
            "l": [[1], None],
            "none": [None, None],
        },
        entities={"id": [7, 8]},
    ).to_pandas()
    expected = ["int64", "int64", "Int64", "float64", "boolean", "datetime64[us, UTC]", "object", "object", "object"]
    assert expected == [str(dtype) for dtype in frame.dtypes]
    assert (big, pd.Timestamp(NOON), [1]) == (frame["n"][0], frame["t"][0], frame["l"][0])
    assert pd.isna(frame["n"][1])


def wire(kind, *items):
    value = Value()
    if kind.endswith(("_list_val", "_set_val")):
        getattr(value, kind).val.extend(items)
    else:
        setattr(value, kind, *items)
    return value


def zoned():
    value = Value()
    value.zoned_timestamp_val.unix_timestamp = int(NOON.timestamp())
    value.zoned_timestamp_val.zone = "Europe/Berlin"
    return value


def struct(kind="struct_val", **fields):
    value = Value()
    for name, item in fields.items():
        getattr(value, kind).val[name].CopyFrom(encode(item))
    return value


TEXT_ID = "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("value", "arrow_type", "expected"),
    [
        (None, pa.null(), None),
        (np.int32(1), pa.int32(), 1),
        (1, pa.int64(), 1),
        (np.float32(0.5), pa.float32(), 0.5),
        (0.5, pa.float64(), 0.5),
        (True, pa.bool_(), True),
        ("x", pa.string(), "x"),
        (b"x", pa.binary(), b"x"),
        (NOON, pa.timestamp("us", "UTC"), NOON),
        (zoned(), pa.timestamp("us", "UTC"), NOON),
        (UUID(int=1), pa.string(), TEXT_ID),
        (Decimal("1.10"), pa.string(), "1.10"),
        (wire("json_val", '{"a": 1}'), pa.string(), '{"a": 1}'),
        ([1, 2], pa.list_(pa.int64()), [1, 2]),
        (wire("uuid_list_val", TEXT_ID, ""), pa.list_(pa.string()), [TEXT_ID, None]),
        (wire("json_list_val", "1"), pa.list_(pa.string()), ["1"]),
        ({"x"}, pa.list_(pa.string()), ["x"]),
        ([NOON], pa.list_(pa.timestamp("us", "UTC")), [NOON]),
        ([[1], [2, 3]], pa.list_(pa.list_(pa.int64())), [[1], [2, 3]]),
        ({"a": 1, "b": None}, pa.map_(pa.string(), pa.int64()), [("a", 1), ("b", None)]),
        ({"a": 1, "b": "x"}, pa.struct({"a": pa.int64(), "b": pa.string()}), {"a": 1, "b": "x"}),
        ([{"a": 1}], pa.list_(pa.map_(pa.string(), pa.int64())), [[("a", 1)]]),
        (struct(a=1, b=None), pa.struct({"a": pa.int64(), "b": pa.null()}), {"a": 1, "b": None}),
        ({1: "x"}, pa.map_(pa.int64(), pa.string()), [(1, "x")]),
    ],
)
def test_arrow_types_follow_the_wire(value, arrow_type, expected):
    """Every kind of value has its Arrow type, which nulls do not change."""
    table = result({"x": [None, value]}).to_arrow()
    assert (arrow_type, [None, expected]) == (table.schema.field("x").type, table["x"].to_pylist())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([struct(a=Value(int64_val=1)), struct(a=Value(double_val=0.5))], [{"a": 1.0}, {"a": 0.5}]),
        ([Value(int32_val=1), Value(int64_val=2**60)], [1, 2**60]),
        ([Value(int32_val=1), Value(float_val=0.5)], [1.0, 0.5]),
    ],
)
def test_arrow_widens_numbers_without_loss(values, expected):
    """Numbers of several kinds, in a column or under a key, are one Arrow type that holds them all."""
    assert expected == result({"x": values}).to_arrow()["x"].to_pylist()


def test_arrow_refuses_what_it_cannot_type():
    """A column of two kinds, or a time outside of the calendar, is named with the way that can read it."""
    with pytest.raises(TypeError, match="column 'x' mixes int64 and string; take to_dict"):
        result({"x": [1, "a"]}).to_arrow()
    with pytest.raises(ValueError, match="column 'x' cannot be an Arrow array"):
        result({"x": [Value(unix_timestamp_val=2**61)]}).to_arrow()


def test_columns_of_nulls_join_typed_ones():
    """An answer of nothing but nulls can be put under one that has values."""
    joined = pa.concat_tables(
        [result({"x": [None]}).to_arrow(), result({"x": [1]}).to_arrow()], promote_options="permissive"
    )
    assert (pa.int64(), [None, 1]) == (joined.schema.field("x").type, joined["x"].to_pylist())
