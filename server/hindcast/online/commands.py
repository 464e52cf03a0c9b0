"""What the reader asks of Redis, as it goes over the wire, and what a reply to it means."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hindcast.online.codec import command_words


class HashFields:
    """Fields that are wanted of many hashes, and how they are best read.

    Redis looks for each field of an HMGET from the start of a hash of up to 512 fields: 250 fields cost it ten times what the
    whole hash does.

    Attributes:
        names: at least one.
        words: the same, as they stand in a command.
        whole: whether to read all of a hash, and to pick.
    """

    __slots__ = ("_order", "_positions", "names", "whole", "words")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = names
        self.words = command_words(names)
        self.whole = len(names) >= _WHOLE_FIELDS_MIN
        self._order: list[bytes] = []
        self._positions: list[int | None] = []

    def picked(self, whole: Sequence[bytes]) -> list[bytes | None]:
        """The fields out of a whole hash, which comes as names and values in turns."""
        if not whole:
            return [None] * len(self.names)
        names, values = whole[::2], whole[1::2]
        if names != self._order:
            # Hashes of one view were mostly written alike, so that this is done once.
            at = {name: position for position, name in enumerate(names)}
            self._order, self._positions = list(names), [at.get(name) for name in self.names]
            if len(names) > _WHOLE_FIELDS_TIMES_MAX * len(self.names):
                self.whole = False
        return [None if position is None else values[position] for position in self._positions]


_WHOLE_FIELDS_MIN = 128
"""Below it HMGET costs the server less than to receive every field's name, and Redis little more."""

_WHOLE_FIELDS_TIMES_MAX = 2
"""A hash with more fields than this, for each that is wanted, is not read whole again."""


class Command(NamedTuple):
    """MGET of keys in one slot (on a Cluster), or the wanted fields of one key's hash."""

    keys: Sequence[bytes]
    fields: HashFields | None = None
    whole: bool = False

    def packed(self) -> bytes:
        """As it goes over the wire."""
        if self.fields is None:
            return b"*%d\r\n$4\r\nMGET%b\r\n" % (len(self.keys) + 1, command_words(self.keys))
        (key,) = self.keys
        if self.whole:
            return b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
        return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b%b\r\n" % (len(self.fields.names) + 2, len(key), key, self.fields.words)

    def entries(self, reply: Any) -> list[bytes | None] | None:
        """One entry per key or field; None if the reply is not one to this command."""
        if not isinstance(reply, list):
            return None
        if self.whole and self.fields is not None:
            return None if len(reply) % 2 else self.fields.picked(reply)
        return reply if len(reply) == len(self.keys if self.fields is None else self.fields.names) else None
