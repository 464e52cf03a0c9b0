"""A push: rows to write, checked, as the message that goes out; and the answer as plain Python."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1.push_service_pb2 import (
    PUSH_DESTINATION_OFFLINE,
    PUSH_DESTINATION_ONLINE,
    PUSH_DESTINATION_ONLINE_AND_OFFLINE,
    PushRequest,
    PushResponse,
)
from hindcast_client._columns import Table, columns_of
from hindcast_client._encoding import EPOCH, encode_column, narrow

Destination = Literal["online", "offline", "online_and_offline"]

_DESTINATIONS = {
    "online": PUSH_DESTINATION_ONLINE,
    "offline": PUSH_DESTINATION_OFFLINE,
    "online_and_offline": PUSH_DESTINATION_ONLINE_AND_OFFLINE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewWrites:
    """What became of the pushed rows in one view.

    Attributes:
        written: written online.
        older: not written online, because what is stored there is newer.
        ahead: refused, because they are dated too far ahead of the server's clock; stored nowhere.
        keyless: refused, because a join key is null; stored nowhere.
    """

    written: int
    older: int
    ahead: int
    keyless: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What is stored.

    Attributes:
        run_id: id of this push; each stored row carries it.
        catalog_version: digest of the definitions that the rows were written by.
        rows: how many rows were sent.
        views: by name, each view that the rows are of.
        rows_appended: rows that the batch source got; 0 where they went online only.
    """

    run_id: str
    catalog_version: str
    rows: int
    views: Mapping[str, ViewWrites]
    rows_appended: int


def push_request(
    *,
    push_source: str | None,
    feature_view: str | None,
    rows: Table,
    join_keys: Sequence[str],
    event_timestamp: str,
    created_timestamp: str | None,
    to: Destination,
) -> PushRequest:
    """Check the arguments of `push` and encode them, under a run id of their own.

    Raises:
        ValueError, TypeError: says which argument, column and row, and what to give instead.
    """
    if (push_source is None) == (feature_view is None):
        raise ValueError("give either push_source or feature_view: one of them says which views the rows are of")
    if to not in _DESTINATIONS:
        raise ValueError(f"to is {to!r}; give one of {', '.join(map(repr, _DESTINATIONS))}")
    if isinstance(join_keys, str):
        raise TypeError(f"join_keys is a str; give a list, [{join_keys!r}]")
    columns = columns_of(rows, name="rows")
    times = [name for name in (event_timestamp, created_timestamp) if name is not None]
    missing = [name for name in (*join_keys, *times) if name not in columns]
    if missing:
        raise ValueError(f"rows has no column {missing[0]!r}; it has {', '.join(map(repr, columns)) or 'none'}")
    request = PushRequest(
        push_source=push_source, feature_view=feature_view, destination=_DESTINATIONS[to], run_id=str(_run_id())
    )
    for name, values in columns.items():
        if name in join_keys:
            request.entities[name].val.extend(narrow(encode_column(values, name=f"rows[{name!r}]")))
        elif name not in times:
            request.features[name].val.extend(encode_column(values, name=f"rows[{name!r}]"))
    request.event_timestamps.extend(_instants(columns[event_timestamp], name=event_timestamp))
    if created_timestamp is not None:
        request.created_timestamps.extend(_instants(columns[created_timestamp], name=created_timestamp))
    return request


def read_push_result(response: PushResponse) -> PushResult:
    """The answer as plain Python."""
    return PushResult(
        run_id=response.run_id,
        catalog_version=response.catalog_version,
        rows=response.rows,
        views={
            view.view: ViewWrites(
                written=view.rows_written, older=view.rows_older, ahead=view.rows_ahead, keyless=view.rows_keyless
            )
            for view in response.views
        },
        rows_appended=response.rows_appended,
    )


def _instants(values: Sequence[Any], *, name: str) -> list[Timestamp]:
    made = []
    for row, value in enumerate(values):
        try:
            seconds, micros = divmod(_micros(value), 1_000_000)
        except TypeError as error:
            raise TypeError(f"rows[{name!r}], row {row}: {error}") from None
        made.append(Timestamp(seconds=seconds, nanos=micros * 1000))
    return made


def _micros(value: Any) -> int:
    """Microseconds since 1970, finer digits cut off; a naive datetime is read as UTC."""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.utcoffset() is None else value
        return (aware.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
    if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
        micros = int(value.astype("datetime64[us]").astype("int64"))
        if micros != -(2**63):
            return micros
    raise TypeError(f"{value!r} is no instant; give a datetime for every row, such as datetime(2024, 5, 1, tzinfo=UTC)")


def _run_id() -> UUID:
    """A UUID of version 7 (RFC 9562). A retry sends it again, so that the server stores the rows once."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
