"""What callers ask for, as arguments of `hindcast.datasets.TrainingSets`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.clock import from_micros
from hindcast.datasets.sets import OWN_TIME
from hindcast.datasets.splits import KeySplits, Splits, TimeSplits
from hindcast.errors import InvalidArgument
from hindcast.v1 import training_sets_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A build that was asked for, but for its entity frame.

    Attributes:
        frame: `uploaded`, `text` or `all_keys`.
    """

    name: str
    features: str | Sequence[str]
    frame: str
    text: str
    start: datetime | None
    end: datetime | None
    known_at: datetime | str | None
    splits: Splits | None
    full_feature_names: bool
    snapshot: bool
    threads: int | None


def asked(spec: pb.TrainingSetSpec) -> Asked:
    """What a spec asks for.

    Raises:
        InvalidArgument: a field is missing, or two contradict each other.
    """
    features = spec.WhichOneof("features")
    frame = spec.WhichOneof("entity_frame")
    if features is None:
        raise InvalidArgument.at("spec.features", "are not given; name a feature service, or a list of view:feature")
    if frame is None:
        raise InvalidArgument.at(
            "spec.entity_frame", "is not given; send rows, name a path or SQL, or give `all_keys` between two times"
        )
    keys = spec.all_keys
    if frame == "all_keys" and not keys.HasField("end"):
        raise InvalidArgument.at("spec.all_keys.end", "is not given; say up to when")
    return Asked(
        name=spec.name,
        features=spec.feature_service if features == "feature_service" else list(spec.feature_list.refs),
        frame=frame,
        text=spec.text,
        start=_time(keys.start, "spec.all_keys.start") if keys.HasField("start") else None,
        end=_time(keys.end, "spec.all_keys.end") if keys.HasField("end") else None,
        known_at=_known_at(spec),
        splits=_splits(spec),
        full_feature_names=spec.full_feature_names,
        snapshot=spec.snapshot,
        threads=threads(spec.threads),
    )


def threads(given: int) -> int | None:
    """Threads that a caller may have: no more than there are cores."""
    return min(given, os.cpu_count() or 1) if given else None


def _known_at(spec: pb.TrainingSetSpec) -> datetime | str | None:
    kind = spec.WhichOneof("known_at")
    if kind == "known_at_time":
        return _time(spec.known_at_time, "spec.known_at_time")
    if kind == "known_at_column":
        return spec.known_at_column
    return OWN_TIME if kind == "known_at_own" and spec.known_at_own else None


def _splits(spec: pb.TrainingSetSpec) -> Splits | None:
    kind = spec.WhichOneof("splits")
    if kind is None:
        return None
    if kind == "time_splits":
        given: Any = spec.time_splits.splits
        _check_names([split.name for split in given])
        return TimeSplits(
            {split.name: _time(split.end, "spec.time_splits") if split.HasField("end") else None for split in given}
        )
    given = spec.key_splits.splits
    _check_names([split.name for split in given])
    return KeySplits({split.name: split.parts for split in given}, list(spec.key_splits.by), seed=spec.key_splits.seed)


def _check_names(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument.at("splits", f"have two of the name {twice!r}; give each a name of its own")


def _time(given: Timestamp, field: str) -> datetime:
    try:
        return from_micros(given.ToMicroseconds()).astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise InvalidArgument.at(field, "is no time between the years 1 and 9999") from error
