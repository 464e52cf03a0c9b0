"""The answer to a question: values, statuses and times, decoded when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value
from hindcast_client import _frames
from hindcast_client._decoding import decode_column
from hindcast_client._errors import ServerError
from hindcast_client._request import Question

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


class FeatureStatus(IntEnum):
    """What is known about one value. A status newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = 0
    PRESENT = 1
    """The row was found and holds a value."""
    NULL_VALUE = 2
    """The row was found and holds a null, or was written before the feature existed."""
    NOT_FOUND = 3
    """There is no row for this entity, or a join key is null."""
    OUTSIDE_MAX_AGE = 4
    """The row is older than the view's TTL."""


STATUSES = {int(status): status for status in FeatureStatus}


# Not slotted: cached_property keeps what it decoded in the instance's dict.
@dataclass(frozen=True, kw_only=True)
class FeatureResult:
    """n rows of features, in the order asked, duplicates kept.

    Attributes:
        lookup_id: id of the receipt; `hindcast receipt ID` shows what was asked and answered.
        catalog_version: digest of the definitions that the answer was made from.
        served_at: when the answer was given, aware UTC.
        names: the features' columns, in the order asked.
    """

    lookup_id: str
    catalog_version: str
    served_at: datetime
    names: tuple[str, ...]
    _rows: int = field(repr=False)
    _entities: dict[str, list[Value]] = field(repr=False)
    _response: GetOnlineFeaturesResponse = field(repr=False)

    def __len__(self) -> int:
        """How many rows."""
        return self._rows

    @cached_property
    def statuses(self) -> dict[str, list[FeatureStatus]]:
        """Feature name to n statuses."""
        return {
            column.name: [STATUSES.get(status, FeatureStatus.UNSPECIFIED) for status in column.statuses]
            for column in self._response.columns
        }

    @cached_property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """Feature name to n times at which the value was true, aware UTC.

        None where the store has no row, and for every row of an on-demand feature, which is made from several.
        """
        views = [[instant_of(moment) for moment in view.event_timestamps] for view in self._response.views]
        return {
            column.name: list(views[column.view_index]) if column.HasField("view_index") else [None] * self._rows
            for column in self._response.columns
        }

    def to_dict(self) -> dict[str, list[Any]]:
        """Column name to n Python values: the entity columns as sent, then the features. A null is None."""
        return {name: decode_column(values, name=name) for name, values in self._columns().items()}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per row, with the columns of `to_dict`."""
        columns = self.to_dict()
        rows: list[dict[str, Any]] = [{} for _ in range(self._rows)]
        for name, values in columns.items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        return rows

    def to_pandas(self) -> "pd.DataFrame":
        """A DataFrame with the columns of `to_dict`.

        Numbers and booleans keep their width; with nulls, whole numbers become `Int32` or `Int64` and booleans
        `boolean`, so that no digit is lost. Times are `datetime64[us, UTC]`. Everything else is `object`.

        Raises:
            ImportError: pandas is not installed; names the extra to install.
        """
        return _frames.to_pandas(self._columns())

    def to_arrow(self) -> "pa.Table":
        """An Arrow table with the columns of `to_dict`, typed by what the server sent.

        Times are `timestamp[us, UTC]`; sets are lists; JSON, UUIDs and decimals are text, as in Feast's own mapping;
        a column of nothing but nulls has Arrow's `null` type, which joins every other when tables are concatenated.

        Raises:
            ImportError: pyarrow is not installed; names the extra to install.
            TypeError: a column mixes kinds that no Arrow type holds; names it.
        """
        return _frames.to_arrow(self._columns())

    def to_numpy(self) -> "np.ndarray":
        """The features as an n x f float64 matrix, in the order of `names`. A null is NaN, a boolean 0 or 1.

        Whole numbers over 2**53 are rounded; `to_arrow` keeps them.

        Raises:
            ImportError: NumPy is not installed; names the extra to install.
            TypeError: a feature is not a number; names it and its kind.
        """
        return _frames.to_numpy(self._features(), rows=self._rows)

    def _columns(self) -> dict[str, Sequence[Value]]:
        columns: dict[str, Sequence[Value]] = dict(self._entities)
        for name, values in self._features():
            if name in columns:
                raise ValueError(f"the answer has two columns named {name!r}; ask with full_feature_names=True")
            columns[name] = values
        return columns

    def _features(self) -> list[tuple[str, Sequence[Value]]]:
        return [(column.name, column.values) for column in self._response.columns]  # noqa: PD011 - a protobuf field


def read_result(question: Question, response: GetOnlineFeaturesResponse) -> FeatureResult:
    """The answer to a question.

    Raises:
        ServerError: the answer contradicts itself or the question, in its number of rows or its views.
    """
    rows = question.rows
    for column in response.columns:
        if rows is None:
            rows = len(column.values)
        told = {len(column.values), len(column.statuses)}
        if column.HasField("view_index"):
            if column.view_index >= len(response.views):
                raise _contradiction(
                    response, f"column {column.name!r} names view {column.view_index}, which is not there"
                )
            told.add(len(response.views[column.view_index].event_timestamps))
        if told != {rows}:
            raise _contradiction(response, f"column {column.name!r} has {sorted(told)} entries for {rows} rows")
    return FeatureResult(
        lookup_id=response.lookup_id,
        catalog_version=response.catalog_version,
        served_at=response.served_at.ToDatetime(tzinfo=UTC),
        names=tuple(column.name for column in response.columns),
        _rows=rows or 0,
        _entities=question.entities,
        _response=response,
    )


def _contradiction(response: GetOnlineFeaturesResponse, what: str) -> ServerError:
    return ServerError(
        f"the answer contradicts itself: {what}", code=grpc.StatusCode.INTERNAL, lookup_id=response.lookup_id
    )


def instant_of(moment: Timestamp) -> datetime | None:
    """Aware UTC with microseconds; None for the epoch, which says that there is no row."""
    return moment.ToDatetime(tzinfo=UTC) if moment.seconds or moment.nanos else None
