"""Receipts: a record read for people and programs, value by value, with the row that each value came from.

In come a record and the catalog that it names, out goes a `Receipt`; `receipt_json` says how one looks to programs, `receipt_text` to people.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.catalog import Catalog, OnDemandView, Projection, View, version_name
from hindcast.errors import StoredDataError, UnknownName
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.listing import DamagedTable, newest_lookups
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Damage, Found, Matching, SegmentRecords, Tick
from hindcast.lookups.record import LookupRecord, RowHeader, Rpc, row_headers
from hindcast.shadow.v1 import shadow_pb2

_NO_RUN = bytes(16)
_VERSION = re.compile("[vV]0*([0-9]+)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that the caller sent: n serialized Values."""

    name: str
    values: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A column of the answer.

    Attributes:
        name: in the answer.
        view: the view's name, its alias in the service, or an on-demand view; empty where the definitions of that time are not
            kept and the answer does not say.
        feature: its name in the view.
        values: n serialized Values as they were sent; b"" is a null.
        statuses: n numbers of FeatureStatus.
        rows: position in `Receipt.views` of the rows that it came from; None for an on-demand feature.
    """

    name: str
    view: str
    feature: str
    values: Sequence[bytes]
    statuses: Sequence[int]
    rows: int | None


@dataclass(frozen=True, slots=True)
class ViewRows:
    """What the stored rows of a view said of themselves; None where there was no row."""

    view: str
    headers: Sequence[RowHeader | None]


# Not slotted: cached_property keeps what it made in the instance's dict.
@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One lookup: what was asked, what was answered, from which rows, under which definitions.

    Attributes:
        found: the record, and where it stands.
        full_feature_names: whether columns were to be called `view__feature`.
        entities, request_data: as the caller sent them.
        views: the stored rows that were read, one entry per view.
        columns: of the answer, in order; none for a failure.
        catalog: the definitions in force; None where they are not kept, as `missing` says.
    """

    found: Found
    full_feature_names: bool
    entities: Sequence[Column]
    request_data: Sequence[Column]
    views: Sequence[ViewRows]
    columns: Sequence[Answered]
    catalog: Catalog | None
    missing: str = ""

    @property
    def record(self) -> LookupRecord:
        """The record."""
        return self.found.record

    @property
    def lookup_id(self) -> str:
        """The UUIDv7, as text."""
        return str(UUID(bytes=self.record.lookup_id))

    @cached_property
    def entity_rows(self) -> int:
        """How many rows were asked for; for a failure, as many as the longest column sent."""
        if self.columns:
            return len(self.columns[0].values)
        return max((len(column.values) for column in (*self.entities, *self.request_data)), default=0)

    @cached_property
    def erased(self) -> frozenset[int]:
        """The rows that were erased."""
        return frozenset(self.record.erased)

    def row(self, column: Answered, row: int) -> RowHeader | None:
        """The stored row that a value came from; None where there was none, and for an on-demand feature."""
        if column.rows is None:
            return None
        headers = self.views[column.rows].headers
        return headers[row] if row < len(headers) else None

    def projections(self) -> list[tuple[Projection, View | OnDemandView | None]]:
        """What was asked for by the definitions in force, in order; none where they are not kept or do not have it."""
        return [] if self.catalog is None else _projections(self.record, self.catalog)


@dataclass(frozen=True, slots=True)
class Search:
    """How a search went.

    Attributes:
        receipt: None where there is none.
        damage: what could not be read, and may have been it.
    """

    receipt: Receipt | None
    damage: Sequence[Damage | DamagedTable]

    def or_fail(self, wanted: str) -> Receipt:
        """The receipt.

        Raises:
            UnknownName: there is none.
            StoredDataError: there is none, and a part of the log that may have had it cannot be read.
        """
        if self.receipt is not None:
            return self.receipt
        if self.damage:
            raise StoredDataError(
                f"no receipt {wanted[:200]!r} in what can be read of the log, and {len(self.damage)} part(s) of it cannot; "
                "`hindcast lookups check` says which"
            )
        raise UnknownName(
            "receipt",
            wanted,
            "give the lookup id of an answer or the request id that its caller sent, to the server (or the --log-dir) that "
            "answered; lookups of mode off and those left out of a sample leave none",
        )


def by_lookup_id(log_directory: Path, lookup_id: UUID, *, tick: Tick = lambda: None) -> Search:
    """The receipt of a lookup.

    Raises:
        StoredDataError: its record cannot be read as what it says it is.
    """
    found, damage = _found(log_directory, lookup_id, tick)
    return Search(None if found is None else read_receipt(log_directory, found), damage)


def _found(log_directory: Path, lookup_id: UUID, tick: Tick) -> tuple[Found | None, Sequence[Damage]]:
    """A lookup's record, in segments or else in the table; and what of the segments cannot be read."""
    records = SegmentRecords(log_directory, tick=tick)
    found = records.by_lookup_id(lookup_id.bytes)
    if found is None and TablePlaces(log_directory).of(RECORDS).exists():
        found = _sealed(log_directory, lookup_id)
    return found, records.damage


def _sealed(log_directory: Path, lookup_id: UUID) -> Found | None:
    from hindcast.lookups.sealed import find_sealed  # noqa: PLC0415 - pyarrow, which a server without tables never loads

    sealed = find_sealed(log_directory, lookup_id.bytes)
    return None if sealed is None else Found(sealed.writer, sealed.sequence, sealed.record)


def by_request_id(log_directory: Path, request_id: str, *, tick: Tick = lambda: None) -> Search:
    """The receipt of the newest lookup whose caller gave it this id; each attempt of a caller that tries again has one.

    Raises:
        StoredDataError: its record cannot be read as what it says it is.
    """
    listed = newest_lookups(log_directory, Matching(request_id=request_id), limit=1, tick=tick)
    for summary in listed.summaries:
        found, damage = _found(log_directory, UUID(bytes=summary.lookup_id), tick)
        if found is not None:
            return Search(read_receipt(log_directory, found), damage)
    return Search(None, listed.damage)


def by_either_id(log_directory: Path, text: str, *, tick: Tick = lambda: None) -> Search:
    """The receipt of a lookup by its id, or else of the newest whose caller gave it that: a caller's own id can look like one of ours.

    Raises:
        StoredDataError: its record cannot be read as what it says it is.
    """
    lookup_id = as_lookup_id(text)
    if lookup_id is not None:
        search = by_lookup_id(log_directory, lookup_id, tick=tick)
        if search.receipt is not None:
            return search
    return by_request_id(log_directory, text, tick=tick)


def as_lookup_id(text: str) -> UUID | None:
    """The id, where the text can be one of a lookup: a UUID of version 7."""
    try:
        known = UUID(text)
    except ValueError:
        return None
    return known if known.version == 7 else None


def read_receipt(log_directory: Path, found: Found) -> Receipt:
    """The receipt of a record, with the definitions that the log's directory keeps for it.

    Raises:
        StoredDataError: the request or the answer in it is not of its kind.
    """
    catalog, missing = None, ""
    try:
        catalog = kept_catalog(log_directory, found.record.catalog_version)
        if catalog is None:
            missing = "the definitions of that time are not kept beside the log; copy its catalogs folder along with it"
    except StoredDataError as error:
        missing = str(error)
    return receipt_of(found, catalog, missing=missing)


def receipt_of(found: Found, catalog: Catalog | None, *, missing: str = "") -> Receipt:
    """The receipt of a record, wherever that is from.

    Args:
        catalog: the definitions that it was answered from; None where they are not known, and `missing` says why.
    Raises:
        StoredDataError: the request or the answer in it is not of its kind.
    """
    try:
        return _receipt(found, catalog, missing)
    except (DecodeError, IndexError) as error:
        raise StoredDataError(
            f"the record of lookup {UUID(bytes=found.record.lookup_id)} holds messages that cannot be read; "
            "it was written by another version of Hindcast"
        ) from error


def _receipt(found: Found, catalog: Catalog | None, missing: str) -> Receipt:
    record = found.record
    asked = _asked(record, catalog)
    views = [ViewRows(rows.view, row_headers(rows)) for rows in record.rows]
    full, entities, request_data = _request(record)
    if not record.response:
        columns: list[Answered] = []
    elif record.rpc is Rpc.FEAST:
        columns = _feast_columns(record, asked, views, [column.name for column in entities])
    else:
        columns = _hindcast_columns(record, asked)
    return Receipt(
        found=found,
        full_feature_names=full,
        entities=entities,
        request_data=request_data,
        views=views,
        columns=columns,
        catalog=catalog,
        missing=missing,
    )


def _request(record: LookupRecord) -> tuple[bool, list[Column], list[Column]]:
    """Whether full names were asked for, and the columns sent; nothing of a request that was refused because it is none."""
    try:
        if record.rpc is Rpc.FEAST:
            feast = shadow_pb2.FeastRequest.FromString(record.request)
            return feast.full_feature_names, _columns(feast.entities), _columns(feast.request_context)
        request = record.request
        if record.rpc is Rpc.STREAM:
            request = shadow_pb2.HindcastStreamRequest.FromString(request).lookup
        message = shadow_pb2.HindcastRequest.FromString(request)
    except DecodeError:
        if record.code:
            return False, [], []
        raise
    return message.full_feature_names, _columns(message.entities), _columns(message.request_data)


def _columns(sent: Mapping[str, shadow_pb2.ValueColumn]) -> list[Column]:
    return [Column(name, list(column.val)) for name, column in sorted(sent.items())]  # a map on the wire has no order


def _hindcast_columns(record: LookupRecord, asked: Sequence[tuple[str, str]]) -> list[Answered]:
    response = record.response
    if record.rpc is Rpc.STREAM:
        response = shadow_pb2.HindcastStreamResponse.FromString(response).answer
    message = shadow_pb2.HindcastResponse.FromString(response)
    if len(asked) != len(message.columns):
        # Without the definitions the answer tells the view of a stored feature.
        asked = [
            _parted(column.name, message.views[column.view_index].view if column.HasField("view_index") else "")
            for column in message.columns
        ]
    return [
        Answered(
            name=column.name,
            view=view,
            feature=feature,
            values=list(column.values),
            statuses=column.statuses,
            rows=column.view_index if column.HasField("view_index") else None,
        )
        for column, (view, feature) in zip(message.columns, asked, strict=True)
    ]


def _feast_columns(
    record: LookupRecord, asked: Sequence[tuple[str, str]], views: Sequence[ViewRows], sent: Sequence[str]
) -> list[Answered]:
    """The features' columns; those of entities, which stand first, are the request's own."""
    message = shadow_pb2.FeastResponse.FromString(record.response)
    names = shadow_pb2.FeastMetadata.FromString(message.metadata).feature_names.val
    if asked:
        first = len(names) - len(asked)
    else:
        first = next((at for at, name in enumerate(names) if name not in sent), len(names))
        asked = [_parted(name, "") for name in names[first:]]
    return [
        Answered(
            name=name,
            view=view,
            feature=feature,
            values=list(result.values),
            statuses=result.statuses,
            rows=_rows_of(view, result, views),
        )
        for name, result, (view, feature) in zip(names[first:], message.results[first:], asked, strict=True)
    ]


def _rows_of(view: str, result: shadow_pb2.FeastVector, views: Sequence[ViewRows]) -> int | None:
    """Position of the rows that a column came from.

    A view is there twice where an on-demand view reads it by other join keys than the service; then times tell the two apart.
    """
    named = [at for at, rows in enumerate(views) if rows.view == view]
    if len(named) > 1:
        times = [Timestamp.FromString(moment).ToMicroseconds() for moment in result.event_timestamps]
        for at in named:
            if times == [0 if row is None else row.event_micros for row in views[at].headers]:
                return at
    return named[0] if named else None


def _parted(name: str, view: str) -> tuple[str, str]:
    """View and feature of a column's name."""
    prefix = f"{view}__"
    return (view, name.removeprefix(prefix)) if view and name.startswith(prefix) else (view, name)


def _asked(record: LookupRecord, catalog: Catalog | None) -> list[tuple[str, str]]:
    """View and feature of each column that was asked for, in order; none where only a catalog that is not kept would know."""
    if record.refs:
        return [_by_reference(ref) for ref in record.refs]
    if catalog is None or not record.service:
        return []
    return [
        (projection.name, feature) for projection, _ in _projections(record, catalog) for feature in projection.features
    ]


def _projections(record: LookupRecord, catalog: Catalog) -> list[tuple[Projection, View | OnDemandView | None]]:
    if record.service:
        service = catalog.services.get(record.service)
        projections = () if service is None else service.projections
    else:
        by_view: dict[str, list[str]] = {}
        for view, feature in map(_by_reference, record.refs):
            by_view.setdefault(view, []).append(feature)
        projections = tuple(Projection(view, view, tuple(features)) for view, features in by_view.items())
    return [
        (projection, catalog.views.get(projection.view) or catalog.on_demand_views.get(projection.view))
        for projection in projections
    ]


def _by_reference(ref: str) -> tuple[str, str]:
    """As serving reads one: `view@latest` is the view, and `view@V02` the view under its version 2."""
    name, _, feature = ref.partition(":")
    view, _, version = name.partition("@")
    number = _VERSION.fullmatch(version)
    return (version_name(view, number[1]) if number else view), feature


def run_id_of(row: RowHeader | None) -> str:
    """The materialization or push that wrote a row; empty where the row does not say."""
    if row is None or row.run_id is None or row.run_id == _NO_RUN:
        return ""
    return str(UUID(bytes=row.run_id))
