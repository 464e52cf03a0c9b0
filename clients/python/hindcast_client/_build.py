"""What goes out for a build: its spec, and the entity frame as an Arrow IPC stream in pieces."""

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
        wrong: why the frame could not be read to its end; gRPC tells its own side of it only.
    """

    def __init__(
        self,
        name: str,
        *,
        features: str | Sequence[str],
        entity_frame: Any,
        start: datetime | date | None,
        end: datetime | date | None,
        known_at: datetime | date | str | None,
        splits: Splits | None,
        full_feature_names: bool,
        snapshot: bool,
        threads: int | None,
    ) -> None:
        """Check the arguments.

        Raises:
            ValueError, TypeError: they cannot be sent; says which. Nothing went out.
        """
        self.wrong: Exception | None = None
        self._frame: pa.RecordBatchReader | None = None
        spec = self._spec = pb.TrainingSetSpec(
            name=name, full_feature_names=full_feature_names, snapshot=snapshot, threads=threads or 0
        )
        if isinstance(features, str):
            spec.feature_service = features
        else:
            spec.feature_list.refs.extend(features)
        if entity_frame is not None and (start is not None or end is not None):
            raise ValueError("entity_frame is given, and so are times for all keys; give one of them")
        if entity_frame is None:
            if end is None:
                raise ValueError(
                    "entity_frame is not given; give one, or `end` (and `start`) for all keys between two times"
                )
            spec.all_keys.end.CopyFrom(_timestamp(end, "end"))
            if start is not None:
                spec.all_keys.start.CopyFrom(_timestamp(start, "start"))
        elif isinstance(entity_frame, str | os.PathLike):
            spec.text = os.fspath(entity_frame)
        else:
            spec.uploaded.SetInParent()
            self._frame = _reader(entity_frame)
        if known_at is not None:
            _add_known_at(spec, known_at)
        if splits is not None:
            _add_splits(spec, splits)

    def requests(self) -> Iterator[pb.TrainingSetsBuildRequest]:
        """The messages, once."""
        yield pb.TrainingSetsBuildRequest(spec=self._spec)
        if self._frame is None:
            return
        try:
            for piece in _pieces(self._frame):
                yield pb.TrainingSetsBuildRequest(entity_frame_bytes=piece)
        except Exception as error:
            self.wrong = error
            raise


def _add_known_at(spec: pb.TrainingSetSpec, known_at: datetime | date | str) -> None:
    if not isinstance(known_at, str):
        spec.known_at_time.CopyFrom(_timestamp(known_at, "known_at"))
    elif known_at == OWN_TIME:
        spec.known_at_own = True
    else:
        spec.known_at_column = known_at


def _add_splits(spec: pb.TrainingSetSpec, splits: Splits) -> None:
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


def _reader(given: Any) -> "pa.RecordBatchReader":
    """The rows of a frame, whatever form it has, as a stream."""
    arrow = load("pyarrow")
    if _is_of("pandas", "DataFrame", given):
        given = _pandas_table(given)
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
            f"entity_frame is a {type(given).__name__}; give a pandas or Polars frame, an Arrow table, batch, reader or dataset, an object with "
            "__arrow_c_stream__, a path on the server, or SQL text"
        )
    return arrow.RecordBatchReader.from_stream(given)


def _pandas_table(given: Any) -> "pa.Table":
    arrow = load("pyarrow")
    names = list(given.columns)
    unnamed = next((name for name in names if not isinstance(name, str)), None)
    if unnamed is not None:
        raise ValueError(
            f"entity_frame has a column that is named {unnamed!r}, which is no text; rename it, or leave it out"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"entity_frame has two columns of the name {twice!r}; rename one, or leave it out")
    for name in names:
        if given[name].dtype == object and _mixes_dates(given[name].dropna()):
            # Arrow would take all of them for dates, and say nothing.
            raise ValueError(f"entity_frame has times and dates in the column {name!r}; make all of them times")
    try:
        return arrow.Table.from_pandas(given, preserve_index=False)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"entity_frame has a column whose values are of several kinds, or of none of Arrow's: {error}"
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
