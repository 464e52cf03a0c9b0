"""What goes out for a build: its spec, and the entity frame or the labels as an Arrow IPC stream in pieces."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client._frames import load

if TYPE_CHECKING:
    import pyarrow as pa

OWN_TIME = "own"
_IDS = ("lookup_id", "request_id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE_BYTES = 2**20
"""Of a frame, in one message: a fourth of what gRPC takes unless told otherwise."""


@dataclass(frozen=True, slots=True)
class TimeSplits:
    """Splits by the time that each row asks about. A row without a time is in none.

    Attributes:
        ends: name -> the time at which the split ends, which is the first of the next; None for the last one. Ascending. A time is a
            datetime (without a zone: UTC) or a date (its midnight).
    """

    ends: Mapping[str, datetime | date | None]


@dataclass(frozen=True, slots=True)
class KeySplits:
    """Splits by a hash of some columns: all rows of one key are in one split.

    Attributes:
        parts: name -> share, in whole parts of the sum of all: `{"train": 80, "test": 20}`.
        by: the columns of the entity frame; one of them or several.
        seed: another one deals the keys out anew.
    """

    parts: Mapping[str, int]
    by: str | Sequence[str]
    seed: int = field(default=0, kw_only=True)


Splits = TimeSplits | KeySplits


class Order:
    """A build as it goes out.

    Attributes:
        wrong: why the rows could not be read to their end; gRPC tells its own side of it only.
    """

    def __init__(self, spec: Any, rows: "pa.RecordBatchReader | None", request: Any, field: str) -> None:
        """A build of a spec.

        Args:
            rows: what is sent after it; None for nothing.
            request: the message that both go out in, rows in pieces in `field`.
        """
        self.wrong: Exception | None = None
        self._spec, self._rows, self._request, self._field = spec, rows, request, field

    def requests(self) -> Iterator[Any]:
        """The messages, once."""
        yield self._request(spec=self._spec)
        if self._rows is None:
            return
        try:
            for piece in _pieces(self._rows):
                yield self._request(**{self._field: piece})
        except Exception as error:
            self.wrong = error
            raise


def frame_order(
    name: str,
    *,
    features: str | Sequence[str],
    entity_frame: Any,
    start: datetime | date | None,
    end: datetime | date | None,
    known_at: datetime | date | str | None,
    **kept: Any,
) -> Order:
    """The build of an entity frame.

    Args:
        kept: see `_add_kept`.
    Raises:
        ValueError, TypeError: the arguments cannot be sent; says which. Nothing went out.
    """
    spec = pb.TrainingSetSpec(name=name)
    _add_kept(spec, **kept)
    if isinstance(features, str):
        spec.feature_service = features
    else:
        spec.feature_list.refs.extend(features)
    if entity_frame is not None and (start is not None or end is not None):
        raise ValueError("entity_frame is given, and so are times for all keys; give one of them")
    rows = None
    if entity_frame is None:
        if end is None:
            raise ValueError(
                "entity_frame is not given; give one, or `end` (and `start`) for all keys between two times"
            )
        spec.all_keys.end.CopyFrom(_timestamp(end, "end"))
        if start is not None:
            spec.all_keys.start.CopyFrom(_timestamp(start, "start"))
    else:
        rows = _add_rows(spec, entity_frame, "entity_frame")
    if known_at is not None:
        _add_known_at(spec, known_at)
    return Order(spec, rows, pb.TrainingSetsBuildRequest, "entity_frame_bytes")


def lookups_order(
    name: str,
    *,
    service: str,
    labels: Any,
    since: datetime | date | None,
    until: datetime | date | None,
    on: str | Sequence[str] | None,
    window: timedelta | None,
    label_time: str | None,
    pick: str | None,
    keep_unlabeled: bool,
    features: Sequence[str] | None,
    fill: str | None,
    statuses: bool,
    ages: bool,
    seal: bool,
    **kept: Any,
) -> Order:
    """The build of a set of lookups.

    Args:
        kept: see `_add_kept`.
    Raises:
        ValueError, TypeError: the arguments cannot be sent; says which. Nothing went out.
    """
    spec = pb.LookupSetSpec(
        name=name,
        feature_service=service,
        label_time=label_time,
        pick=pick,
        keep_unlabeled=keep_unlabeled,
        fill=fill,
        statuses=statuses,
        ages=ages,
        seal=seal,
    )
    _add_kept(spec, **kept)
    if labels is None:
        raise ValueError("labels are not given; give a data frame, Arrow data, a path on the server or SQL text")
    rows = _add_rows(spec, labels, "labels")
    for argument, given in (("since", since), ("until", until)):
        if given is not None:
            getattr(spec, argument).CopyFrom(_timestamp(given, argument))
    if isinstance(on, str) and on in _IDS:
        spec.on_id = on
    elif on is not None:
        spec.on_keys.names.extend([on] if isinstance(on, str) else on)
    if window is not None:
        spec.window.FromTimedelta(window)
    if features is not None:
        spec.feature_list.SetInParent()
        spec.feature_list.refs.extend(features)
    return Order(spec, rows, pb.TrainingSetsFromLookupsRequest, "labels_bytes")


def _add_kept(
    spec: pb.TrainingSetSpec | pb.LookupSetSpec,
    *,
    splits: Splits | None,
    full_feature_names: bool,
    snapshot: bool,
    format: str,  # noqa: A002 - the option's name
    git: bool,
    threads: int | None,
    register: bool,
) -> None:
    """How a set is built, whatever its rows are of."""
    spec.full_feature_names, spec.snapshot, spec.threads = full_feature_names, snapshot, threads or 0
    spec.format, spec.git, spec.register = format, git, register
    if splits is not None:
        _add_splits(spec, splits)


def _add_rows(spec: pb.TrainingSetSpec | pb.LookupSetSpec, given: Any, argument: str) -> "pa.RecordBatchReader | None":
    """Say what the rows are; those that are sent are given back."""
    if isinstance(given, str | os.PathLike):
        spec.text = os.fspath(given)
        return None
    spec.uploaded.SetInParent()
    return _reader(given, argument)


def _add_known_at(spec: pb.TrainingSetSpec, known_at: datetime | date | str) -> None:
    if not isinstance(known_at, str):
        spec.known_at_time.CopyFrom(_timestamp(known_at, "known_at"))
    elif known_at == OWN_TIME:
        spec.known_at_own = True
    else:
        spec.known_at_column = known_at


def _add_splits(spec: pb.TrainingSetSpec | pb.LookupSetSpec, splits: Splits) -> None:
    if isinstance(splits, TimeSplits):
        spec.time_splits.SetInParent()
        for name, end in splits.ends.items():
            split = spec.time_splits.splits.add(name=name)
            if end is not None:
                split.end.CopyFrom(_timestamp(end, "splits"))
        return
    if not isinstance(splits, KeySplits):
        raise TypeError(f"splits are a {type(splits).__name__}; give TimeSplits or KeySplits of hindcast_client")
    spec.key_splits.SetInParent()
    for name, parts in splits.parts.items():
        if isinstance(parts, bool) or not isinstance(parts, int) or parts < 0:
            raise ValueError(f"splits: {name!r} has the share {parts!r}; give whole parts, such as 80 and 20")
        spec.key_splits.splits.add(name=name, parts=parts)
    spec.key_splits.by.extend([splits.by] if isinstance(splits.by, str) else splits.by)
    spec.key_splits.seed = splits.seed


def _timestamp(given: datetime | date, argument: str) -> Timestamp:
    """A time, cut down to microseconds; without a zone it is UTC, and a date is midnight."""
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time(), UTC)
    # pandas' NaT is a datetime, and unlike itself.
    if not isinstance(given, datetime) or given != given:  # noqa: PLR0124
        raise TypeError(f"{argument} is {given!r}; give a datetime (without a zone it is UTC) or a date")
    aware = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromMicroseconds((aware - _EPOCH) // timedelta(microseconds=1))
    return stamp


def _reader(given: Any, argument: str) -> "pa.RecordBatchReader":
    """The rows of a frame, whatever form it has, as a stream.

    Args:
        argument: what the caller gave it as.
    """
    arrow = load("pyarrow")
    if _is_of("pandas", "DataFrame", given):
        given = _pandas_table(given, argument)
    elif _is_of("polars", "LazyFrame", given):
        given = given.collect().to_arrow()
    elif _is_of("polars", "DataFrame", given):
        given = given.to_arrow()
    elif _is_of("pyarrow.dataset", "Dataset", given):
        given = given.scanner().to_reader()
    elif isinstance(given, arrow.RecordBatch):
        given = arrow.Table.from_batches([given])
    if isinstance(given, arrow.RecordBatchReader):
        return given
    if not hasattr(given, "__arrow_c_stream__"):
        raise TypeError(
            f"{argument} is a {type(given).__name__}; give a pandas or Polars frame, an Arrow table, batch, reader or dataset, an object with "
            "__arrow_c_stream__, a path on the server, or SQL text"
        )
    return arrow.RecordBatchReader.from_stream(given)


def _pandas_table(given: Any, argument: str) -> "pa.Table":
    arrow = load("pyarrow")
    names = list(given.columns)
    unnamed = next((name for name in names if not isinstance(name, str)), None)
    if unnamed is not None:
        raise ValueError(
            f"{argument} has a column that is named {unnamed!r}, which is no text; rename it, or leave it out"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{argument} has two columns of the name {twice!r}; rename one, or leave it out")
    for name in names:
        if given[name].dtype == object and _mixes_dates(given[name].dropna()):
            # Arrow would take all of them for dates, and say nothing.
            raise ValueError(f"{argument} has times and dates in the column {name!r}; make all of them times")
    try:
        return arrow.Table.from_pandas(given, preserve_index=False)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{argument} has a column whose values are of several kinds, or of none of Arrow's: {error}"
        ) from error


def _mixes_dates(values: Iterable[Any]) -> bool:
    kinds = set(map(type, values))
    return any(issubclass(kind, datetime) for kind in kinds) and any(
        issubclass(kind, date) and not issubclass(kind, datetime) for kind in kinds
    )


def _pieces(reader: "pa.RecordBatchReader") -> Iterator[bytes]:
    arrow = load("pyarrow")
    sink = _Sink()
    with arrow.ipc.new_stream(arrow.PythonFile(sink, "w"), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield from sink.pieces()
    yield from sink.pieces()


class _Sink:
    """A file that is written, and read in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.closed = False

    def write(self, content: bytes) -> int:
        self._buffer += memoryview(content)
        return len(content)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def pieces(self) -> Iterator[bytes]:
        """What was written and not yet taken."""
        for begin in range(0, len(self._buffer), _PIECE_BYTES):
            yield bytes(self._buffer[begin : begin + _PIECE_BYTES])
        self._buffer.clear()


def _is_of(module: str, name: str, given: Any) -> bool:
    """Whether it is of a class whose module nobody need have: what is not imported has no instances."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(given, kind)
