"""What callers ask for, as arguments of `hindcast.datasets.TrainingSets`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.clock import from_micros
from hindcast.datasets.sets import OWN_TIME
from hindcast.datasets.splits import KeySplits, Splits, TimeSplits
from hindcast.errors import InvalidArgument
from hindcast.v1 import training_sets_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A build that was asked for, but for its rows.

    Attributes:
        given: how its entity frame or labels are given: `uploaded`, `text` or `all_keys`.
        arguments: of `build` or `from_lookups`, all others.
    """

    name: str
    given: str
    text: str
    arguments: Mapping[str, Any]


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
    arguments = {
        "features": spec.feature_service if features == "feature_service" else list(spec.feature_list.refs),
        "start": _optional_time(keys, "start", "spec.all_keys.start"),
        "end": _optional_time(keys, "end", "spec.all_keys.end"),
        "known_at": _known_at(spec),
        **_kept(spec),
    }
    return Asked(name=spec.name, given=frame, text=spec.text, arguments=arguments)


def asked_of_lookups(spec: pb.LookupSetSpec) -> Asked:
    """What a spec of a set of lookups asks for.

    Raises:
        InvalidArgument: a field is missing, or is not one.
    """
    labels = spec.WhichOneof("labels")
    if not spec.feature_service:
        raise InvalidArgument.at("spec.feature_service", "is not given; name the service whose lookups are the rows")
    if labels is None:
        raise InvalidArgument.at("spec.labels", "are not given; send rows, or name a path or SQL")
    on = spec.WhichOneof("on")
    arguments = {
        "service": spec.feature_service,
        "since": _optional_time(spec, "since", "spec.since"),
        "until": _optional_time(spec, "until", "spec.until"),
        "on": None if on is None else spec.on_id if on == "on_id" else list(spec.on_keys.names),
        "window": _length(spec.window, "spec.window") if spec.HasField("window") else None,
        "label_time": spec.label_time if spec.HasField("label_time") else None,
        "pick": spec.pick if spec.HasField("pick") else None,
        "keep_unlabeled": spec.keep_unlabeled,
        "features": list(spec.feature_list.refs) if spec.HasField("feature_list") else None,
        "fill": spec.fill if spec.HasField("fill") else None,
        "statuses": spec.statuses,
        "ages": spec.ages,
        "seal": spec.seal if spec.HasField("seal") else True,
        **_kept(spec),
    }
    return Asked(name=spec.name, given=labels, text=spec.text, arguments=arguments)


def _kept(spec: pb.TrainingSetSpec | pb.LookupSetSpec) -> Mapping[str, Any]:
    """How a set is built, whatever its rows are of."""
    return {
        "splits": _splits(spec),
        "full_feature_names": spec.full_feature_names,
        "snapshot": spec.snapshot,
        "format": spec.format or "parquet",
        "git": spec.git if spec.HasField("git") else True,
        "threads": threads(spec.threads),
        "register": spec.register if spec.HasField("register") else True,
    }


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


def _splits(spec: pb.TrainingSetSpec | pb.LookupSetSpec) -> Splits | None:
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


def _optional_time(message: Any, name: str, field: str) -> datetime | None:
    return _time(getattr(message, name), field) if message.HasField(name) else None


def _length(given: Duration, field: str) -> timedelta:
    try:
        return given.ToTimedelta()
    except (OverflowError, ValueError) as error:
        raise InvalidArgument.at(field, "is no length of time that can be; give less") from error
