"""What `push` sends for the rows that callers have, and what it refuses before any network."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hindcast.v1.push_service_pb2 import PushResponse
from hindcast.v1.push_service_pb2 import ViewWrites as Counts
from hindcast.v1.value_pb2 import Value
from hindcast_client import PushResult, ViewWrites
from hindcast_client._push import push_request, read_push_result

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
COLUMNS = {
    "driver_id": [1, None],
    "trips": [3, None],
    "city": ["ulm", "bonn"],
    "event_ts": [NOON, NOON],
    "created_ts": [NOON, NOON],
}
ROWS = [{name: values[at] for name, values in COLUMNS.items()} for at in range(2)]
FRAME = pd.DataFrame(COLUMNS).astype({"driver_id": "Int64", "trips": "Int64"})


def made(rows, **options):
    """The request for some rows."""
    arguments = {"push_source": "trips_push", "feature_view": None, "created_timestamp": "created_ts", "to": "online"}
    return push_request(rows=rows, join_keys=["driver_id"], event_timestamp="event_ts", **{**arguments, **options})


@pytest.mark.parametrize("rows", [COLUMNS, ROWS, FRAME, pa.table(COLUMNS)], ids=["columns", "rows", "pandas", "arrow"])
def test_every_form_of_rows_is_the_same_push(rows):
    """Columns, rows, a DataFrame and an Arrow table of the same data make one message, but for its run id."""
    request = made(rows)

    assert [Value(int32_val=1), Value()] == list(request.entities["driver_id"].val)
    assert [Value(int64_val=3), Value()] == list(request.features["trips"].val)
    assert [Value(string_val="ulm"), Value(string_val="bonn")] == list(request.features["city"].val)
    assert {"trips", "city"} == set(request.features)
    for times in (request.event_timestamps, request.created_timestamps):
        assert [NOON, NOON] == [moment.ToDatetime(tzinfo=UTC) for moment in times]
    assert 7 == UUID(request.run_id).version
    assert made(rows).run_id != request.run_id


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5))),
        np.datetime64("2026-03-01T12:00:00.123456789"),
        pd.Timestamp("2026-03-01T12:00:00.123456789Z"),
    ],
    ids=["aware", "naive", "zoned", "numpy", "pandas"],
)
def test_instants_keep_microseconds(moment):
    """An event time of any kind is the same instant to the microsecond; a naive one is UTC, finer digits are cut off."""
    (sent,) = made([{"driver_id": 1, "event_ts": moment, "created_ts": NOON}]).event_timestamps

    assert NOON == sent.ToDatetime(tzinfo=UTC)


def test_times_before_1970_are_sent():
    """An instant before 1970 has whole seconds below it and a positive rest, as a Timestamp wants."""
    (sent,) = made(
        [{"driver_id": 1, "event_ts": datetime(1969, 12, 31, 23, 59, 59, 5, UTC), "created_ts": NOON}]
    ).event_timestamps

    assert (-1, 5000) == (sent.seconds, sent.nanos)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"feature_view": "trips"}, ValueError, "give either push_source or feature_view"),
        ({"push_source": None}, ValueError, "give either push_source or feature_view"),
        ({"to": "nowhere"}, ValueError, "to is 'nowhere'"),
        ({"rows": [{"driver_id": 1}]}, ValueError, "rows has no column 'event_ts'"),
        ({"rows": [{**ROWS[0], "event_ts": None}]}, TypeError, r"rows\['event_ts'\], row 0: None is no instant"),
        ({"rows": [{**ROWS[0], "event_ts": np.datetime64("NaT")}]}, TypeError, "is no instant"),
        ({"rows": [{**ROWS[0], "trips": object()}]}, TypeError, r"rows\['trips'\], row 0"),
        ({"rows": 5}, TypeError, "rows is"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_any_network(options, error, told):
    """Wrong arguments fail at once, and say which argument, column and row."""
    rows = options.pop("rows", COLUMNS)
    with pytest.raises(error, match=told):
        made(rows, **options)


def test_a_join_key_alone_is_no_list():
    """`join_keys="driver_id"` is refused, rather than taken for a list of letters."""
    with pytest.raises(TypeError, match="give a list"):
        push_request(
            push_source="s",
            feature_view=None,
            rows=COLUMNS,
            join_keys="driver_id",
            event_timestamp="event_ts",
            created_timestamp=None,
            to="online",
        )


def test_the_answer_is_plain_python():
    """The counts come back per view."""
    response = PushResponse(
        run_id="r",
        catalog_version="c",
        rows=10,
        rows_appended=7,
        views=[Counts(view="v", rows_written=4, rows_older=3, rows_ahead=2, rows_keyless=1)],
    )

    assert PushResult(
        run_id="r",
        catalog_version="c",
        rows=10,
        views={"v": ViewWrites(written=4, older=3, ahead=2, keyless=1)},
        rows_appended=7,
    ) == read_push_result(response)
