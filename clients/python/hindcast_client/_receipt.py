"""Receipts: what a lookup asked and was answered, as the server's log has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1 import lookup_service_pb2 as pb
from hindcast.v1.value_pb2 import Value
from hindcast_client import _frames
from hindcast_client._decoding import decode_column
from hindcast_client._encoding import EPOCH
from hindcast_client._result import STATUSES, FeatureStatus, instant_of

if TYPE_CHECKING:
    import pandas as pd

CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSummary:
    """A lookup in one line.

    Attributes:
        lookup_id: for `get_receipt`.
        request_id: the caller's own; empty if it sent none.
        served_at: when it was answered, or failed, aware UTC.
        feature_service: empty for a list of references.
        feature_refs: what was asked for, where that was a list.
        code: OK for an answer.
        reason: a word for why it failed that does not change; empty for an answer.
        rows: how many were asked for; None for a failure, and where nothing stored was read.
        catalog_version: digest of the definitions in force.
    """

    lookup_id: str
    request_id: str
    tags: Mapping[str, str]
    served_at: datetime
    feature_service: str
    feature_refs: tuple[str, ...]
    code: grpc.StatusCode
    reason: str
    rows: int | None
    catalog_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPage:
    """Some lookups, the newest first.

    Attributes:
        next_page_token: for the next page; empty where this was the last.
        damaged_places: how many places of the log could not be read.
    """

    receipts: tuple[ReceiptSummary, ...]
    next_page_token: str
    damaged_places: int


# Not slotted: cached_property keeps what it decoded in the instance's dict.
@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One lookup, value by value.

    Attributes:
        summary: who asked for what, and how it ended.
        message: why it failed, for people; empty for an answer.
        log_mode: what was done with the record before the answer left.
        names: the features' columns, in the order asked; none for a failure.
        features: per column `view:feature`, or the feature alone where its view is not known any more.
        proto: all of it as it came, the definitions in force among it.
    """

    summary: ReceiptSummary
    message: str
    log_mode: str
    names: tuple[str, ...]
    features: tuple[str, ...]
    proto: pb.Receipt = field(repr=False)

    @property
    def erased_rows(self) -> tuple[int, ...]:
        """Numbers of the rows that were erased, from 0; they have nulls everywhere."""
        return tuple(self.proto.erased_rows)

    @cached_property
    def statuses(self) -> dict[str, list[FeatureStatus]]:
        """Column to n statuses, as they were answered."""
        return {
            column.name: [STATUSES.get(status, FeatureStatus.UNSPECIFIED) for status in column.statuses]
            for column in self.proto.columns
        }

    @cached_property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """Column to n times at which the value was true; None where there was no row, and for on-demand features."""
        return self._of_rows(lambda rows, at: _time(rows.event_timestamps[at]) if rows.found[at] else None)

    @cached_property
    def created_timestamps(self) -> dict[str, list[datetime | None]]:
        """Column to n times at which the value became known; None where its row does not say."""
        return self._of_rows(lambda rows, at: instant_of(rows.created_timestamps[at]))

    @cached_property
    def ages(self) -> dict[str, list[timedelta | None]]:
        """Column to how old each value was when it was served."""
        return {
            name: [None if moment is None else self.summary.served_at - moment for moment in moments]
            for name, moments in self.event_timestamps.items()
        }

    @cached_property
    def run_ids(self) -> dict[str, list[str | None]]:
        """Column to the materialization or push that wrote each value; `hindcast runs show` tells of a materialization."""
        return self._of_rows(lambda rows, at: rows.run_ids[at] or None)

    def to_dict(self) -> dict[str, list[Any]]:
        """Column name to n Python values: what was sent, then the features. A null is None."""
        return {name: decode_column(values, name=name) for name, values in self._columns().items()}

    def to_pandas(self) -> "pd.DataFrame":
        """A DataFrame with the columns of `to_dict`, as `FeatureResult.to_pandas` makes one.

        Raises:
            ImportError: pandas is not installed; names the extra to install.
        """
        return _frames.to_pandas(self._columns())

    def _columns(self) -> dict[str, Sequence[Value]]:
        sent = {**self.proto.request_data, **self.proto.entities}
        columns: dict[str, Sequence[Value]] = {name: sent[name].val for name in sorted(sent)}
        for column in self.proto.columns:
            # A feature can have the name of request data, and then the feature is what one asks a receipt for.
            columns[column.name] = column.values  # noqa: PD011 - a protobuf field
        return columns

    def _of_rows(self, what: Any) -> dict[str, list[Any]]:
        views = [[what(rows, at) for at in range(len(rows.found))] for rows in self.proto.views]
        return {
            column.name: list(views[column.view_index])
            if column.HasField("view_index")
            else [None] * len(column.statuses)
            for column in self.proto.columns
        }


def receipt_request(*, lookup_id: str | None, request_id: str | None) -> pb.GetReceiptRequest:
    """Check the arguments of `get_receipt`.

    Raises:
        ValueError: not exactly one of the two is given.
    """
    if (lookup_id is None) == (request_id is None):
        raise ValueError("give either lookup_id or request_id")
    return pb.GetReceiptRequest(lookup_id=lookup_id, request_id=request_id)


def list_request(
    *,
    since: datetime | None,
    until: datetime | None,
    feature_service: str | None,
    tags: Mapping[str, str] | None,
    codes: Sequence[grpc.StatusCode],
    request_id: str | None,
    page_size: int | None,
    page_token: str | None,
) -> pb.ListReceiptsRequest:
    """The arguments of `list_receipts` as they go out.

    Raises:
        TypeError: a time is none.
    """
    return pb.ListReceiptsRequest(
        since=_timestamp(since, name="since"),
        until=_timestamp(until, name="until"),
        feature_service=feature_service,
        tags=tags,
        codes=[code.value[0] for code in codes],
        request_id=request_id,
        page_size=page_size,
        page_token=page_token,
    )


def read_receipt(response: pb.GetReceiptResponse) -> Receipt:
    """The answer as plain Python."""
    receipt = response.receipt
    return Receipt(
        summary=_summary(receipt.summary),
        message=receipt.message,
        log_mode=receipt.log_mode,
        names=tuple(column.name for column in receipt.columns),
        features=tuple(
            f"{column.view}:{column.feature}" if column.view else column.feature for column in receipt.columns
        ),
        proto=receipt,
    )


def read_page(response: pb.ListReceiptsResponse) -> ReceiptPage:
    """The answer as plain Python."""
    return ReceiptPage(
        receipts=tuple(map(_summary, response.receipts)),
        next_page_token=response.next_page_token,
        damaged_places=response.damaged_places,
    )


def _summary(summary: pb.ReceiptSummary) -> ReceiptSummary:
    return ReceiptSummary(
        lookup_id=summary.lookup_id,
        request_id=summary.request_id,
        tags=dict(summary.tags),
        served_at=_time(summary.served_at),
        feature_service=summary.feature_service,
        feature_refs=tuple(summary.feature_refs),
        code=CODES.get(summary.code, grpc.StatusCode.UNKNOWN),
        reason=summary.reason,
        rows=summary.rows if summary.HasField("rows") else None,
        catalog_version=summary.catalog_version,
    )


def _time(moment: Timestamp) -> datetime:
    return moment.ToDatetime(tzinfo=UTC)


def _timestamp(moment: datetime | None, *, name: str) -> Timestamp | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is of type {type(moment).__qualname__}; give a datetime, a naive one is UTC")
    aware = moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment
    micros = (aware - EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
