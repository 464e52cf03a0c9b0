"""What Hypothesis draws to break a parser: valid requests with bytes changed, and wire messages that nobody would write."""

import os
import struct

from hypothesis import strategies as st

from hindcast.v1.value_pb2 import Value
from integration.request_rows import feast, hindcast, integer, text
from integration.wrong_bytes import DAMAGED_VALUES, nested, ride_inputs

FACTOR = int(os.environ.get("HOSTILE_FACTOR", "1"))
"""How many times the usual number of cases is drawn."""

KEYS = {"driver_id": [integer(1), Value(), integer(2)]}
PAIR = {"driver_id": [integer(1)], "string_key": [text("k")]}

OF_HINDCAST = (
    hindcast("everything", KEYS, request_id="r", tags={"model": "m"}),
    hindcast("pair", {"first_id": [integer(1)], "second_id": [integer(2)]}, full=True),
    hindcast(["driver:trips", "platform:surge"], KEYS, full=True),
    hindcast(["crossing:weight"], PAIR),
    hindcast(["by_bytes:seen"], {"bytes_key": [Value(bytes_val=b"k")]}),
    hindcast(["by_unix_timestamp:seen"], {"unix_timestamp_key": [Value(unix_timestamp_val=7)]}),
    hindcast("fares", {"driver_id": [integer(1)]}, ride_inputs()),
)
"""Valid requests of hindcast.v1; of Feast's services below."""

OF_FEAST = (
    feast("everything", PAIR),
    feast(["driver:trips", "platform:surge"], {"driver": [integer(1), Value()]}, full=True),
    feast(["by_string:seen"], {"string_key": [text("k")]}, {"amount": [integer(1)]}) + b"\x30\x01",
    feast("fares", {"driver_id": [integer(1)]}, ride_inputs()),
)

PIECES = st.sampled_from(
    [
        b"\xff" * 9 + b"\x01",  # the largest number
        b"\xff" * 10 + b"\x01",  # one byte more than a number can have
        b"\x80" * 9 + b"\x00",  # zero in ten bytes
        b"\xff\xff\xff\xff\x07",  # a length of 2 GiB
        b"\x0b\x0c",  # a group
        b"\x0b" * 120,
        b"\x0b" * 120 + b"\x0c" * 120,
        b"\x07",  # wire type 7
        b"\xc3\x28",  # not UTF-8
        b"\xed\xa0\x80",  # half a surrogate
        b"\xf4\x90\x80\x80",  # past the last character
        b"\0",
        *DAMAGED_VALUES.values(),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A request with bytes flipped, cut out, doubled, put in, or taken from another one."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case 3:
                data[at:at] = draw(PIECES)
            case 4:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                other = draw(st.sampled_from(seeds))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


def varint(number: int) -> bytes:
    """A number on the wire."""
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def sized(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


_NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
_DOUBLES = st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1.8e308])
_TEXTS = st.sampled_from(
    [b"driver_id", b"string_key", b"driver:trips", b"everything", b"fares", b"distance", b"driver"]
)


def wire_messages(field_numbers: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Well-formed wire messages, nested, with any type in any field."""

    def field(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        return st.one_of(
            st.builds(lambda n, v: varint(n << 3) + varint(v), field_numbers, _NUMBERS),
            st.builds(lambda n, v: varint(n << 3 | 1) + struct.pack("<d", v), field_numbers, _DOUBLES),
            st.builds(lambda n, v: varint(n << 3 | 5) + struct.pack("<f", v), field_numbers, st.floats(width=32)),
            st.builds(sized, field_numbers, content),
            st.builds(lambda n, v: varint(n << 3 | 3) + v + varint(n << 3 | 4), field_numbers, content),
        )

    leaves = st.binary(max_size=6) | _TEXTS | PIECES
    return st.recursive(leaves, lambda inner: st.lists(field(inner), max_size=4).map(b"".join), max_leaves=12)


REQUESTS = st.lists(
    st.builds(sized, st.integers(1, 8), wire_messages(st.integers(1, 8)))
    | st.builds(lambda n, v: varint(n << 3) + varint(v), st.integers(1, 8), _NUMBERS),
    max_size=6,
).map(b"".join)
"""Messages with the fields of a request and anything in them."""

VALUES = st.one_of(
    wire_messages(st.integers(1, 50)),
    st.sampled_from(sorted(DAMAGED_VALUES.values())),
    st.builds(
        lambda value, more: value + more, wire_messages(st.integers(1, 50)), st.just(integer(1).SerializeToString())
    ),
    st.integers(40, 60).map(nested),
    st.just(integer(1).SerializeToString()),
)
"""Bytes of a Value, or of nothing like it."""
