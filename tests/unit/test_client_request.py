"""What leaves the client, and what never does."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindcast.v1.value_pb2 import Value
from hindcast_client._decoding import decode
from hindcast_client._request import ask


def question(*, features="service", entities=None, request_data=None, full_feature_names=False, **options):
    return ask(
        features=features,
        entities={"id": [1]} if entities is None else entities,
        request_data=request_data,
        full_feature_names=full_feature_names,
        request_id=options.pop("request_id", None),
        tags=options.pop("tags", None),
    )


def sent(entities):
    """The entity columns as they would go out: name to (kind, value) pairs."""
    columns = question(entities=entities).message.entities
    return {name: [(value.WhichOneof("val"), decode(value)) for value in columns[name].val] for name in columns}


keys = st.one_of(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.lists(st.none() | st.text(max_size=5)))


@given(st.data(), st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True), st.integers(1, 5))
def test_rows_and_columns_ask_the_same(data, names, rows):
    """The same table as a dict of columns and as a list of dicts makes one and the same request."""
    columns = {name: data.draw(keys.map(lambda column: (column + [None] * rows)[:rows])) for name in names}
    as_rows = [{name: columns[name][row] for name in names} for row in range(rows)]
    assert question(entities=columns).message == question(entities=as_rows).message
    assert names == list(question(entities=as_rows).entities)


@pytest.mark.parametrize(
    "entities",
    [
        {"id": [1, None], "name": ["a", "b"]},
        {"id": (1, None), "name": np.array(["a", "b"])},
        {"id": pd.Series([1, None], index=[7, 7], dtype="Int64"), "name": pd.Series(["a", "b"], dtype="category")},
        pd.DataFrame({"id": pd.array([1, None], dtype="Int64"), "name": ["a", "b"]}, index=[3, 3]),
        {"id": pa.array([1, None]), "name": pa.chunked_array([["a"], ["b"]])},
        pa.table({"id": [1, None], "name": ["a", "b"]}),
        pa.record_batch({"id": [1, None], "name": ["a", "b"]}),
        [{"id": 1, "name": "a"}, {"name": "b", "id": None}],
        ({"id": Value(int64_val=1), "name": "a"}, {"id": Value(), "name": "b"}),
    ],
    ids=lambda entities: type(entities).__module__,
)
def test_every_form_of_a_table_asks_the_same(entities):
    """Lists, tuples, NumPy, pandas, Arrow and Values of equal content make one and the same request."""
    expected = {"id": [("int32_val", 1), (None, None)], "name": [("string_val", "a"), ("string_val", "b")]}
    assert expected == sent(entities)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array([1, 2], dtype=np.int32), [("int32_val", 1), ("int32_val", 2)]),
        (pd.Series([1, 2], dtype="int32"), [("int32_val", 1), ("int32_val", 2)]),
        (pa.array([1, None], type=pa.int32()), [("int32_val", 1), (None, None)]),
        (pa.array([0.5], type=pa.float32()), [("float_val", 0.5)]),
        (pa.array([[0.5], []], type=pa.list_(pa.float32())), [("float_list_val", [0.5]), ("float_list_val", [])]),
        (np.array([[1, 2]], dtype=np.int32), [("int32_list_val", [1, 2])]),
        (pd.Series([0.5, None]), [("double_val", 0.5), (None, None)]),
        (
            pd.Series(pd.to_datetime(["2024-05-01", None])),
            [("unix_timestamp_val", datetime(2024, 5, 1, tzinfo=UTC)), (None, None)],
        ),
        (
            pa.array([datetime(2024, 5, 1, tzinfo=UTC)], type=pa.timestamp("us", "Europe/Berlin")),
            [("unix_timestamp_val", datetime(2024, 5, 1, tzinfo=UTC))],
        ),
        (range(2), [("int32_val", 0), ("int32_val", 1)]),
        ([1, 2**31], [("int64_val", 1), ("int64_val", 2**31)]),
    ],
)
def test_a_typed_column_keeps_its_type(column, expected):
    """A column's own width goes out, and what its library calls missing goes out as a null."""
    assert {"x": expected} == sent({"x": column})


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"entities": {"a": [1], "b": [1, 2]}}, ValueError, "columns of entities differ in length: 'a' 1, 'b' 2"),
        ({"entities": [{"a": 1}, {"b": 1}]}, ValueError, "entities, row 1 lacks 'a'; adds 'b'; give every row"),
        ({"entities": [{"a": 1}, 7]}, TypeError, "entities, row 1 is an int"),
        (
            {"entities": {"a": 1}},
            TypeError,
            r"entities\['a'\] is an int; give one value per row in a list, such as \[1",
        ),
        ({"entities": {"a": "xyz"}}, TypeError, r"entities\['a'\] is a str"),
        ({"entities": {"a": np.array(1)}}, TypeError, r"entities\['a'\] is a single value"),
        ({"entities": {1: [1]}}, TypeError, "entities has a column named 1"),
        ({"entities": "a"}, TypeError, "entities is a str; give a dict of columns"),
        ({"entities": pd.DataFrame([[1, 2]], columns=["a", "a"])}, ValueError, "entities has two columns named 'a'"),
        ({"entities": {"a": [1, object()]}}, TypeError, r"entities\['a'\], row 1: object is no feature type"),
        ({"request_data": {"id": [1]}}, ValueError, "'id' is in entities and in request_data"),
        ({"request_data": {"x": [1, 2]}}, ValueError, "entities has 1 rows and request_data 2"),
        ({"features": "view:feature"}, ValueError, r"for a reference give a list, \['view:feature'\]"),
        ({"features": ""}, ValueError, "features is empty"),
        ({"features": []}, ValueError, "features is empty"),
        ({"features": 7}, TypeError, "features is of type int"),
        ({"features": ["feature"]}, ValueError, r"features\[0\] is 'feature'; a reference is 'view:feature'"),
        ({"features": ["v:a", "v:"]}, ValueError, r"features\[1\] is 'v:'"),
        ({"features": ["v:a:b"]}, ValueError, r"features\[0\] is 'v:a:b'"),
        ({"features": ["v:a", 7]}, TypeError, r"features\[1\] is of type int"),
        ({"features": ["v:a", "v:a"]}, ValueError, r"features\[1\] asks for 'a' twice"),
        ({"features": ["v:a", "w:a"]}, ValueError, "of 'v' and of 'w'; .* full_feature_names=True"),
        ({"request_id": "ä" * 129}, ValueError, "request_id is 258 bytes; 256 at most"),
        ({"tags": {str(n): "" for n in range(33)}}, ValueError, "there are 33 tags"),
        ({"tags": {"version": 3}}, TypeError, "tag 'version' is 3"),
    ],
)
def test_a_request_that_cannot_be_right_is_refused(arguments, error, told):
    """Bad arguments fail before any network, with what was wrong, where, and what to give instead."""
    with pytest.raises(error, match=told):
        question(**arguments)


def test_whole_numbers_fit_a_join_key_of_either_width():
    """A join key's numbers go out as int32 where all of them fit, because a server widens a key and never narrows one."""
    expected = [("int32_val", -(2**31)), ("int32_val", 2**31 - 1)]
    assert expected == sent({"id": [-(2**31), 2**31 - 1]})["id"]
    assert [("int64_val", 2**31)] == sent({"id": [2**31]})["id"]


def test_full_names_tell_equal_features_of_two_views_apart():
    """The same feature of two views may be asked for when columns carry the view's name."""
    message = question(features=["v:a", "w:a"], full_feature_names=True).message
    expected = ["v:a", "w:a"]
    assert expected == list(message.feature_list.refs)
    assert message.full_feature_names


def test_everything_asked_is_in_the_message():
    """Request data, the request id and the tags go out beside the entities; a column of no rows does too."""
    message = question(request_data={"x": [0.5]}, request_id="r-1", tags={"model": "m"}).message
    expected = ("service", "r-1", {"model": "m"}, 0.5)
    actual = (
        message.feature_service,
        message.request_id,
        dict(message.tags),
        message.request_data["x"].val[0].double_val,
    )
    assert expected == actual
    expected = ["id"]
    assert expected == list(question(entities={"id": []}).message.entities)
