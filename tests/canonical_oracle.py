"""The logical digest as docs/formats.md says it, one value at a time in plain Python: what the real one is compared with.

A column is its canonical type and its raw values: None for a null, a whole number for the bits of a value of one width, True or False, text,
bytes, a list, a list of pairs for a map, a tuple for a struct.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fixed:
    """Values of one width, in bytes."""

    text: str
    width: int


@dataclass(frozen=True)
class Plain:
    """`null`, `bool`, `text` or `bytes`."""

    text: str


@dataclass(frozen=True)
class ListOf:
    """`list(T)`."""

    inner: Any

    @property
    def text(self):
        """As the schema has it."""
        return f"list({self.inner.text})"


@dataclass(frozen=True)
class ListOfSize:
    """`list[N](T)`."""

    size: int
    inner: Any

    @property
    def text(self):
        """As the schema has it."""
        return f"list[{self.size}]({self.inner.text})"


@dataclass(frozen=True)
class MapOf:
    """`map(K,V)`."""

    key: Any
    value: Any

    @property
    def text(self):
        """As the schema has it."""
        return f"map({self.key.text},{self.value.text})"


@dataclass(frozen=True)
class StructOf:
    """`struct("A" T,"B" U)`."""

    fields: tuple[tuple[str, Any], ...]

    @property
    def text(self):
        """As the schema has it."""
        return "struct(" + ",".join(f"{quoted(name)} {kind.text}" for name, kind in self.fields) + ")"


@dataclass(frozen=True)
class Extension:
    """`extension("NAME",T)`."""

    name: str
    storage: Any

    @property
    def text(self):
        """As the schema has it."""
        return f"extension({quoted(self.name)},{self.storage.text})"


def quoted(name):
    """A name in double quotes."""
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
    return '"' + "".join(short.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in name) + '"'


def bits(flags):
    """Flags, eight to a byte."""
    packed = bytearray((len(flags) + 7) // 8)
    for place, flag in enumerate(flags):
        packed[place // 8] |= flag << place % 8
    return bytes(packed)


def column_bytes(kind, values):  # noqa: PLR0911 - one line a kind
    """The canonical bytes of a column."""
    if isinstance(kind, Extension):
        return column_bytes(kind.storage, values)
    if kind.text == "null":
        return b""
    there = [value for value in values if value is not None]
    out = b"\0" if len(there) == len(values) else b"\1" + bits([value is not None for value in values])
    lengths = b"".join(struct.pack("<I", 0 if value is None else length_of(value)) for value in values)
    if isinstance(kind, Fixed):
        return out + b"".join((value or 0).to_bytes(kind.width, "little") for value in values)
    if isinstance(kind, ListOf):
        return out + lengths + column_bytes(kind.inner, [one for value in there for one in value])
    if isinstance(kind, ListOfSize):
        return out + column_bytes(kind.inner, [one for value in there for one in value])
    if isinstance(kind, MapOf):
        pairs = [pair for value in there for pair in value]
        keys, items = [key for key, _ in pairs], [item for _, item in pairs]
        return out + lengths + column_bytes(kind.key, keys) + column_bytes(kind.value, items)
    if isinstance(kind, StructOf):
        fields = enumerate(kind.fields)
        return out + b"".join(column_bytes(inner, [value[at] for value in there]) for at, (_, inner) in fields)
    if kind.text == "bool":
        return out + bits([bool(value) for value in values])
    return out + lengths + b"".join(raw(value) for value in there)


def raw(value):
    """Text as UTF-8, bytes as they are."""
    return value.encode() if isinstance(value, str) else value


def length_of(value):
    """The length of text in bytes, of a list in values."""
    return 0 if isinstance(value, int | bool) else len(raw(value))


def sha256(content):
    """The digest of bytes."""
    return hashlib.sha256(content).digest()


def tree(leaves):
    """The root over digests."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return sha256(b"\1" + tree(leaves[:left]) + tree(leaves[left:]))


def block_digests(columns, rows):
    """The digests of a table's blocks.

    Args:
        columns: name, kind and values of each.
    """
    digests = []
    for start in range(0, rows, 1_024):
        stop = min(rows, start + 1_024)
        content = b"\0" + struct.pack("<I", stop - start)
        for _, kind, values in columns:
            content += column_bytes(kind, values[start:stop])
        digests.append(sha256(content))
    return digests


def table_digest(columns, rows):
    """The digest of a table."""
    schema = "\n".join(f"{quoted(name)} {kind.text}" for name, kind, _ in columns)
    root = tree(block_digests(columns, rows))
    return sha256(b"\2" + struct.pack("<IQ", 1, rows) + sha256(schema.encode()) + root)
