"""The RPCs of `hindcast.v1.TrainingSets`, and what both clients of it share."""

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client._errors import ServerError
from hindcast_client._manifest import Record, id_of, read_manifest
from hindcast_client._reports import NotRegistered, OnProgress, read_progress

TIMEOUT_SECONDS = 3_600.0
"""A build takes minutes, and may wait for others."""
PAGE_SIZE = 100


class SetMethods:
    """The RPCs as callables of one channel, sync or aio as the channel is."""

    def __init__(self, channel: Any) -> None:
        def unary(method: str, answer: Any) -> Any:
            return channel.unary_unary(
                f"/hindcast.v1.TrainingSets/{method}",
                request_serializer=_serialized,
                response_deserializer=answer.FromString,
            )

        def stream(method: str, answer: Any) -> Any:
            return channel.unary_stream(
                f"/hindcast.v1.TrainingSets/{method}",
                request_serializer=_serialized,
                response_deserializer=answer.FromString,
            )

        def both(method: str, answer: Any) -> Any:
            return channel.stream_stream(
                f"/hindcast.v1.TrainingSets/{method}",
                request_serializer=_serialized,
                response_deserializer=answer.FromString,
            )

        self.build = both("Build", pb.TrainingSetsBuildResponse)
        self.from_lookups = both("FromLookups", pb.TrainingSetsFromLookupsResponse)
        self.get = unary("Get", pb.TrainingSetsGetResponse)
        self.list = unary("List", pb.TrainingSetsListResponse)
        self.rebuild = stream("Rebuild", pb.TrainingSetsRebuildResponse)
        self.verify = unary("Verify", pb.TrainingSetsVerifyResponse)
        self.diff = unary("Diff", pb.TrainingSetsDiffResponse)
        self.read = stream("Read", pb.TrainingSetsReadResponse)
        self.remove = unary("Remove", pb.TrainingSetsRemoveResponse)


def _serialized(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]


class Described:
    """A version of a training set, without its rows. Nothing of it ever changes.

    Attributes:
        name: its name.
        version: its number, from 1.
        id: `sha256:` and 64 hex digits: of its manifest, and so of all that it was made of.
        manifest_json: its manifest, byte for byte; its SHA-256 is the id.
    """

    def __init__(self, message: pb.TrainingSet) -> None:
        """Take what the server said.

        Raises:
            ServerError: the manifest is not the one that the id names.
        """
        if id_of(message.manifest_json) != message.id:
            raise ServerError(
                f"the manifest of {message.name}@v{message.version} is not the one that its id names",
                code=grpc.StatusCode.DATA_LOSS,
            )
        self.name = message.name
        self.version = message.version
        self.id = message.id
        self.manifest_json = message.manifest_json

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ref!r}, {self.rows} rows, {self.id})"

    @property
    def ref(self) -> str:
        """`name@vN`."""
        return f"{self.name}@v{self.version}"

    @cached_property
    def manifest(self) -> Record:
        """What it was made of."""
        return read_manifest(self.manifest_json)

    @property
    def digest(self) -> str:
        """The logical digest of its rows."""
        return str(self.manifest.digest)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.manifest.rows)

    @property
    def splits(self) -> dict[str, int]:
        """Split -> rows; empty without splits."""
        splits = self.manifest.splits
        return {} if splits is None else dict(zip(splits.names, splits.rows, strict=True))

    @property
    def statistics(self) -> tuple[Record, ...]:
        """What each column holds."""
        return tuple(self.manifest.statistics)


def told(step: Any, on_progress: OnProgress | None) -> Any:
    """What came of a build or a rebuild; None while it goes on, which is told."""
    if step.WhichOneof("step") != "progress":
        return step
    if on_progress is not None:
        on_progress(read_progress(step.progress))
    return None


def warn_if_unregistered(answer: Any) -> None:
    """Warn whoever called a method that calls this, if Feast's registry has of a set not what it should."""
    if answer.not_registered:
        warnings.warn(answer.not_registered, NotRegistered, stacklevel=3)


def broken_off() -> ServerError:
    """The error for a call that ends well and without what it was made for."""
    return ServerError("the server ended the call without a result", code=grpc.StatusCode.INTERNAL)


def key_bytes(key: Path | str | None) -> bytes:
    """The content of a public key's file; empty for none."""
    return b"" if key is None else Path(key).read_bytes()
