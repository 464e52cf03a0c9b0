"""What the reader asks of Redis, as it goes over the wire, and what a reply to it means."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis

from hindcast.online.codec import HashRow, command_words, commands_for, picked


class HashFields:
    """Fields that are wanted of many hashes, and how they are best read.

    Redis looks for each field of an HMGET from the start of a hash of up to 512 fields: 250 fields cost it ten times what the
    whole hash does.

    Attributes:
        names: at least one.
        whole: whether to read all of a hash, and to pick.
    """

    __slots__ = ("_hmget", "_order", "_positions", "names", "whole")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = names
        self.whole = len(names) >= _WHOLE_FIELDS_MIN
        self._hmget = b"*%d\r\n$5\r\nHMGET" % (len(names) + 2), command_words(names) + b"\r\n"
        self._order: list[bytes] = []
        self._positions: list[int | None] = []

    def asked_of(self, keys: Sequence[bytes], *, whole: bool) -> bytes:
        """The commands that read them of some hashes, one a hash."""
        before, after = _HGETALL if whole else self._hmget
        return commands_for(before, keys, after)

    def found(self, reply: Any, *, whole: bool) -> Any:
        """Their values in a reply: all of a hash, which comes as names and values in turns, or only them. Any other reply as it is."""
        if not isinstance(reply, list):
            return reply
        if whole:
            return self._picked(reply) if len(reply) % 2 == 0 else reply
        return HashRow(reply) if len(reply) == len(self.names) else reply

    def _picked(self, whole: list[bytes]) -> HashRow | None:
        if not whole:
            return HashRow([None] * len(self.names))
        found = picked(whole, self._order, self._positions)
        if found is None:
            # Hashes of one view were mostly written alike, so that this is done once.
            self._order = whole[::2]
            at = {name: position for position, name in enumerate(self._order)}
            self._positions = [at.get(name) for name in self.names]
            if len(self._order) > _WHOLE_FIELDS_TIMES_MAX * len(self.names):
                self.whole = False
            found = picked(whole, self._order, self._positions)
        return found


_HGETALL = b"*2\r\n$7\r\nHGETALL", b"\r\n"

_WHOLE_FIELDS_MIN = 128
"""Below it HMGET costs the server less than to receive every field's name, and Redis little more."""

_WHOLE_FIELDS_TIMES_MAX = 2
"""A hash with more fields than this, for each that is wanted, is not read whole again."""


class Command(NamedTuple):
    """MGET of some keys, which has one reply, or the wanted fields of each key's hash, which has one a key.

    On a Cluster all keys are of one slot.
    """

    keys: Sequence[bytes]
    fields: HashFields | None = None
    whole: bool = False

    def packed(self) -> bytes:
        """As it goes over the wire."""
        if self.fields is None:
            return b"*%d\r\n$4\r\nMGET%b\r\n" % (len(self.keys) + 1, command_words(self.keys))
        return self.fields.asked_of(self.keys, whole=self.whole)

    @property
    def replies(self) -> int:
        """How many replies it has."""
        return 1 if self.fields is None else len(self.keys)

    def taken(self, reply: Any) -> Any:
        """What a reply is kept as when it comes in: of a hash the wanted values, as one object."""
        return reply if self.fields is None else self.fields.found(reply, whole=self.whole)

    def fits(self, replies: Sequence[Any]) -> bool:
        """Whether these, taken, are replies to it: an entry per key, a row, or an error."""
        if self.fields is not None:
            return set(map(type, replies)) <= {HashRow, hiredis.ReplyError}
        (reply,) = replies
        return isinstance(reply, hiredis.ReplyError) or (isinstance(reply, list) and len(reply) == len(self.keys))
