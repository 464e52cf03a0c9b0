"""What the server and a process that works for it say to each other: messages in MessagePack, each behind its length in four bytes."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hindcast import errors
from hindcast.datasets.progress import Progress
from hindcast.errors import FieldViolation, HindcastError, InvalidArgument, Overloaded, UnknownName

_LENGTH = struct.Struct(">I")
_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Work that is wanted.

    Attributes:
        rpc: of `hindcast.v1.TrainingSets`, that asks for it; empty: the work that was ordered before is not wanted any more.
        request_bytes: of the RPC, and of one that takes rows its spec.
        rows: the file of those that were sent; empty where none were.
    """

    rpc: str
    request_bytes: bytes = b""
    rows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of the tree, or a defect.

    Attributes:
        kind: the name of its class; empty for a defect, of which the process that met it has logged what it is.
        name: of what is unknown, or the limit that was met.
        what: is unknown.
    """

    kind: str
    message: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    what: str = ""
    name: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What to say of an error."""
        if not isinstance(error, HindcastError):
            return cls(kind="")
        plain = cls(kind=type(error).__name__, message=str(error))
        if isinstance(error, InvalidArgument):
            return replace(plain, violations=tuple((one.field, one.description) for one in error.violations))
        if isinstance(error, UnknownName):
            return replace(plain, what=error.kind, name=error.name)
        return replace(plain, name=error.limit) if isinstance(error, Overloaded) else plain

    def error(self) -> Exception:
        """The error again."""
        kind = getattr(errors, self.kind, None)
        if kind is InvalidArgument:
            return InvalidArgument([FieldViolation(*violation) for violation in self.violations])
        if kind is UnknownName:
            unknown = UnknownName(self.what, self.name)
            unknown.args = (self.message,)
            return unknown
        if kind is Overloaded:
            return Overloaded(self.name, self.message)
        return Defect() if kind is None else kind(self.message)


class Defect(Exception):
    """A defect of Hindcast, in a process that worked for the server; its log has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a process says: that it is ready for the first order, how far it is, or what came of an order.

    Attributes:
        answer: the bytes of the RPC's last response.
        was_unwanted: it ended because nobody wanted it any more.
    """

    is_ready: bool = False
    progress: Progress | None = None
    answer: bytes | None = None
    failure: Failure | None = None
    was_unwanted: bool = False

    @property
    def is_last(self) -> bool:
        """Whether it is done with its order."""
        return self.answer is not None or self.failure is not None or self.was_unwanted


def encoded(message: Order | Said) -> bytes:
    """A message as it is written to a pipe."""
    content = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(content)) + content


class Messages:
    """Messages as they come out of a pipe."""

    def __init__(self, descriptor: int, kind: type[Any]) -> None:
        """Args: descriptor: of the pipe, which stays the caller's."""
        self._descriptor = descriptor
        self._kind = kind
        self._buffer = bytearray()

    def read(self) -> bool:
        """Take what is there, and wait if that is nothing; False once there will be no more."""
        some = os.read(self._descriptor, _READ_BYTES)
        self._buffer += some
        return bool(some)

    def whole(self) -> Iterator[Any]:
        """Those that have come as a whole.

        Raises:
            msgspec.DecodeError: it is none.
        """
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            content = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield msgspec.msgpack.decode(content, type=self._kind)
