"""Pushes: a request to write, of either dialect, read from its bytes into rows that fit the catalog.

Everything that can be wrong with a request is found here, before anything is stored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.catalog import BatchSource, Catalog, KeyType, View
from hindcast.errors import FieldViolation, InvalidArgument, NotWritable, UnknownName
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_bytes, key_value_bytes
from hindcast.serving.fitting import fit, from_text, instant_of
from hindcast.serving.messages import message_of
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import push_service_pb2
from hindcast.v1.value_pb2 import Value

ROWS_MAX = 10_000
"""Rows in one push, as many as one lookup can ask for. More are cheaper as several requests of a stream."""

_VIOLATIONS_MAX = 20
"""Nobody reads more of them, and a column of 10,000 wrong values would make 10,000."""

_FEAST_DESTINATIONS = {"online": (True, False), "offline": (False, True), "online_and_offline": (True, True)}
_DESTINATIONS: Mapping[int, tuple[bool, bool]] = {
    push_service_pb2.PUSH_DESTINATION_ONLINE: (True, False),
    push_service_pb2.PUSH_DESTINATION_OFFLINE: (False, True),
    push_service_pb2.PUSH_DESTINATION_ONLINE_AND_OFFLINE: (True, True),
}
_YEARS = range(-62_135_596_800, 253_402_300_800)
"""Seconds of the years 1 to 9999: what a Timestamp can say."""

_TEXT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One pushed column: where the caller sent it, and n serialized Values, None for a null."""

    field: str
    values: Sequence[bytes | None]
    is_one_value: bool = False

    def at(self, row: int) -> str:
        """Path of one row's value; in Feast's dialect a column is one value, and its path is the value's."""
        return self.field if self.is_one_value else f"{self.field}.val[{row}]"


@dataclass(frozen=True, slots=True)
class ViewRows:
    """The n rows of a push as rows of one view.

    Attributes:
        entity_keys: None where a join key is null.
        columns: by name, the view's join keys and features, of their declared types.
    """

    view: View
    entity_keys: Sequence[bytes | None]
    columns: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Push:
    """n rows, and where they are to be written.

    Attributes:
        source: the batch source that all the views share.
        views: at least one.
        created_micros: None where the caller leaves it to the server.
        extra: columns that no view has, but a source's files may; in Feast's dialect only.
        run_id: None where the caller gave none.
        content: the request's own bytes.
        push_source: the push source that was named; None where a view was.
    """

    catalog: Catalog
    source: BatchSource
    views: Sequence[ViewRows]
    event_micros: Sequence[int]
    created_micros: Sequence[int] | None
    extra: Mapping[str, Column]
    online: bool
    offline: bool
    run_id: UUID | None
    content: bytes
    push_source: str | None = None

    @property
    def mode(self) -> str:
        """Where it goes, in Feast's word."""
        return {(True, False): "online", (False, True): "offline"}.get(
            (self.online, self.offline), "online_and_offline"
        )


def read_feast_push(request: bytes, catalog: Catalog) -> Push:
    """A `PushRequest` of Feast's GrpcFeatureServer: one row for all views of a push source.

    Raises:
        InvalidArgument: the bytes are not one, or a field is wrong.
        UnknownName: there is no such push source.
        NotWritable: one of its views cannot be written to.
    """
    message = message_of(shadow_pb2.FeastPush, request, name="PushRequest")
    views = _fed_by(message.stream_feature_view, catalog)
    if message.to not in _FEAST_DESTINATIONS:
        raise InvalidArgument.at("to", "is none of 'online', 'offline' and 'online_and_offline'")
    push = _feast_row(message, views, catalog, request, *_FEAST_DESTINATIONS[message.to])
    return replace(push, push_source=message.stream_feature_view)


def read_feast_write(request: bytes, catalog: Catalog) -> Push:
    """A `WriteToOnlineStoreRequest` of the same service: one row of one view.

    Raises:
        InvalidArgument, UnknownName, NotWritable: as `read_feast_push`.
    """
    message = message_of(shadow_pb2.FeastWrite, request, name="WriteToOnlineStoreRequest")
    return _feast_row(message, [_view(message.feature_view_name, catalog)], catalog, request, *(True, False))


def read_push(request: bytes, catalog: Catalog) -> Push:
    """A `hindcast.v1.PushRequest`.

    Raises:
        InvalidArgument, UnknownName, NotWritable: as `read_feast_push`.
    """
    message = message_of(shadow_pb2.HindcastPush, request, name="hindcast.v1.PushRequest")
    target = message.WhichOneof("target")
    if target is None:
        raise InvalidArgument.at("target", "is missing; name a push_source or a feature_view")
    if message.destination not in _DESTINATIONS:
        raise InvalidArgument.at("destination", "is missing or unknown; say online, offline, or online and offline")
    is_of_source = target == "push_source"
    views = _fed_by(message.push_source, catalog) if is_of_source else [_view(message.feature_view, catalog)]
    source = _source(views, catalog)
    violations = _Violations()
    _check_shape(message, source, views, violations)
    violations.stop()
    event_micros = [
        _micros(time, f"event_timestamps[{at}]", violations) for at, time in enumerate(message.event_timestamps)
    ]
    created_micros = [
        _micros(time, f"created_timestamps[{at}]", violations) for at, time in enumerate(message.created_timestamps)
    ]
    sent = {
        name: Column(f'{field}["{name}"]', column.val)
        for field, columns in (("entities", message.entities), ("features", message.features))
        for name, column in columns.items()
    }
    run_id = _run_id(message.run_id, violations)
    view_rows = [_view_rows(view, sent, len(event_micros), violations, widens_keys_only=True) for view in views]
    violations.stop()
    online, offline = _DESTINATIONS[message.destination]
    return Push(
        catalog=catalog,
        source=source,
        views=view_rows,
        event_micros=event_micros,
        created_micros=created_micros or None,
        extra={},
        online=online,
        offline=offline,
        run_id=run_id,
        content=request,
        push_source=message.push_source if is_of_source else None,
    )


class _Violations:
    """What is wrong with a request, up to as much as a caller reads."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Note one; stops reading when there are enough."""
        self._found.append(FieldViolation(field, description))
        if len(self._found) == _VIOLATIONS_MAX:
            self.stop()

    def stop(self) -> None:
        """Raises InvalidArgument if there is any."""
        if self._found:
            raise InvalidArgument(self._found)


def _fed_by(push_source: str, catalog: Catalog) -> list[View]:
    """The views that a push source feeds, all of which must take rows."""
    names = catalog.push_sources.get(push_source)
    if names is None:
        known = ", ".join(sorted(catalog.push_sources)[:10])
        raise UnknownName("push source", push_source, f"the project has {known or 'none'}")
    return [_view(name, catalog) for name in names]


def _view(name: str, catalog: Catalog) -> View:
    view = catalog.views.get(name)
    if view is not None and name in catalog.sources:
        return view
    if name in catalog.unservable:
        raise NotWritable(f"feature view {name!r} cannot be written to: {catalog.unservable[name]}")
    if view is not None or name in catalog.on_demand_views:
        # Feast runs an on-demand view's function over what is written to it, and such a view has no times of its own.
        raise NotWritable(f"feature view {name!r} has no batch source; write to the views that it is computed from")
    raise UnknownName("feature view", name, f"the project has {', '.join(sorted(catalog.sources)[:10]) or 'none'}")


def _source(views: Sequence[View], catalog: Catalog) -> BatchSource:
    sources = [catalog.sources[view.name] for view in views]
    if any(source != sources[0] for source in sources):
        raise NotWritable(
            f"the views {', '.join(view.name for view in views)} have one push source with several batch sources; make it one "
            "batch source, and run `feast apply`"
        )
    return sources[0]


def _check_shape(
    message: shadow_pb2.HindcastPush, source: BatchSource, views: Iterable[View], violations: _Violations
) -> None:
    """As many values in every column as there are times, and no column that nothing takes."""
    rows = len(message.event_timestamps)
    if not rows:
        violations.add("event_timestamps", "is empty; push at least one row, and say when each was true")
    if rows > ROWS_MAX:
        violations.add("event_timestamps", f"has {rows} rows; push at most {ROWS_MAX} at once, or use PushStream")
    keys = {key.name for view in views for key in view.join_keys}
    features = {feature.name for view in views for feature in view.fields}
    for field, columns, known, what in (
        ("entities", message.entities, keys, "join key"),
        ("features", message.features, features, "feature"),
    ):
        for name, column in columns.items():
            if name not in known:
                violations.add(f'{field}["{name}"]', f"is not a {what} of these views; leave it out")
            elif rows and len(column.val) != rows:
                violations.add(
                    f'{field}["{name}"]', f"has {len(column.val)} values for {rows} event_timestamps; send one per row"
                )
        for name in sorted(known - columns.keys()):
            violations.add(f'{field}["{name}"]', f"is missing; a row has every {what}, and nulls where unknown")
    created = len(message.created_timestamps)
    if created and not source.created_timestamp_column:
        violations.add("created_timestamps", "the views' source has no created timestamp column; leave them out")
    elif created and created != rows:
        violations.add(
            "created_timestamps", f"has {created} times for {rows} event_timestamps; send one per row, or none"
        )


def _feast_row(
    message: "shadow_pb2.FeastPush | shadow_pb2.FeastWrite",
    views: Sequence[View],
    catalog: Catalog,
    request: bytes,
    online: bool,  # noqa: FBT001 - a pair, passed on as one
    offline: bool,  # noqa: FBT001
) -> Push:
    """The one row of either of Feast's requests, whose columns go by the source's names or by the view's, as at Feast."""
    if message.features and message.typed_features:
        raise InvalidArgument.at("typed_features", "is set together with features; send one of the two")
    part = "typed_features" if message.typed_features else "features"
    row: Mapping[str, Any] = message.typed_features or message.features
    source = _source(views, catalog)
    types = {field.name: field.value_type for view in views for field in (*view.join_keys, *view.fields)}
    time_names = {source.timestamp_field, source.created_timestamp_column} - {""}
    violations = _Violations()
    sent: dict[str, Column] = {}
    times: dict[str, int] = {}
    for written, content in row.items():
        name, field = source.field_mapping.get(written, written), f'{part}["{written}"]'
        if name in sent or name in times:
            violations.add(field, f"is column {name!r} under its other name; send it once")
        if name in time_names:
            times[name] = _noted(_instant, content, field, violations) or 0
        if name in types or name not in time_names:
            value = _noted(_value_of(types.get(name, _TEXT)), content, field, violations)
            sent[name] = Column(field, [value], is_one_value=True)
    if source.timestamp_field not in times:
        violations.add(f'{part}["{source.timestamp_field}"]', "is missing; it says when the row was true")
    for name in sorted(types.keys() - sent.keys()):
        violations.add(f'{part}["{name}"]', "is missing; a row has every join key and feature of its views")
    violations.stop()
    view_rows = [_view_rows(view, sent, 1, violations, widens_keys_only=False) for view in views]
    violations.stop()
    created = times.get(source.created_timestamp_column)
    return Push(
        catalog=catalog,
        source=source,
        views=view_rows,
        event_micros=[times[source.timestamp_field]],
        created_micros=None if created is None else [created],
        extra={name: column for name, column in sent.items() if name not in types},
        online=online,
        offline=offline,
        run_id=None,
        content=request,
    )


def _value_of(value_type: int) -> Callable[[str | bytes], bytes | None]:
    """Reads what Feast's dialect has for a value: text, or a serialized Value as it is."""
    return lambda content: from_text(content, value_type) if isinstance(content, str) else content


def _instant(content: str | bytes) -> int:
    """Microseconds since 1970 of a time in Feast's dialect.

    An int64 is nanoseconds, which is how pandas, and so Feast, reads one; Feast reads a unix_timestamp's seconds so too,
    and lands in 1970.
    """
    if isinstance(content, str):
        return instant_of(content)
    try:
        value = Value.FromString(content)
    except DecodeError as error:
        raise ValueError("is not a serialized Value") from error
    kind = value.WhichOneof("val")
    if kind == "string_val":
        return instant_of(value.string_val)
    if kind == "int64_val":
        return value.int64_val // 1000
    seconds = {
        "unix_timestamp_val": value.unix_timestamp_val,
        "zoned_timestamp_val": value.zoned_timestamp_val.unix_timestamp,
    }
    if kind not in seconds:
        raise ValueError("is no time; send unix_timestamp_val, or an ISO 8601 time as string_val")
    if seconds[kind] not in _YEARS:
        raise ValueError("is outside the years 1 to 9999")
    return seconds[kind] * 1_000_000


_C = TypeVar("_C")
_R = TypeVar("_R")


def _noted(read: Callable[[_C], _R], content: _C, field: str, violations: _Violations) -> _R | None:
    """What `read` makes of some content; None where it raises ValueError, which is noted."""
    try:
        return read(content)
    except ValueError as error:
        violations.add(field, str(error))
        return None


def _view_rows(
    view: View, sent: Mapping[str, Column], rows: int, violations: _Violations, *, widens_keys_only: bool
) -> ViewRows:
    """The columns of one view, each value as its field's type.

    Args:
        sent: every column that the view needs is there.
        widens_keys_only: whether a join key must be of its declared type as in a lookup, or only fit it, as at Feast.
    """
    columns: dict[str, Column] = {}
    parts: list[list[bytes | None]] = []
    for key in view.join_keys:
        column = sent[key.name]
        if widens_keys_only:
            parts.append(_key_parts(column, KeyType(key.value_type), violations))
            violations.stop()
        columns[key.name] = _fitted(column, key.value_type, violations)
        if not widens_keys_only:
            violations.stop()
            parts.append(_key_parts(columns[key.name], KeyType(key.value_type), violations))
    for feature in view.fields:
        columns[feature.name] = _fitted(sent[feature.name], feature.value_type, violations)
    if not parts:
        return ViewRows(view, [ENTITYLESS_KEY] * rows, columns)
    names = tuple(key.name for key in view.join_keys)
    keys = [None if None in row else entity_key_bytes(names, row) for row in zip(*parts, strict=True)]
    return ViewRows(view, keys, columns)


def _fitted(column: Column, value_type: int, violations: _Violations) -> Column:
    values: list[bytes | None] = []
    for at, value in enumerate(column.values):
        try:
            values.append(None if value is None else fit(value, value_type))
        except ValueError as error:
            violations.add(column.at(at), str(error))
    return Column(column.field, values, column.is_one_value)


def _key_parts(column: Column, key_type: KeyType, violations: _Violations) -> list[bytes | None]:
    parts: list[bytes | None] = []
    for at, value in enumerate(column.values):
        try:
            parts.append(None if value is None else key_value_bytes(Value.FromString(value), key_type))
        except (DecodeError, TypeError) as error:
            wrong = str(error) if isinstance(error, TypeError) else "is not a serialized Value"
            violations.add(column.at(at), wrong)
    return parts


def _micros(time: Timestamp, field: str, violations: _Violations) -> int:
    if time.seconds not in _YEARS or not 0 <= time.nanos < 1_000_000_000:
        violations.add(field, "is no time of the years 1 to 9999")
    return time.seconds * 1_000_000 + time.nanos // 1000


def _run_id(text: str, violations: _Violations) -> UUID | None:
    if not text:
        return None
    try:
        run_id = UUID(text)
    except ValueError:
        run_id = UUID(int=0)
    if run_id.version != 7 or str(run_id) != text:
        violations.add("run_id", "is not a UUID of version 7 in lower case with dashes; leave it out, and one is made")
    return run_id
