"""What a packed row looks like (docs/formats.md), and what is said of bytes that are none.

    offset  bytes  content
    0       8      event_ts, microseconds since 1970, big-endian with the sign bit flipped
    8       8      created_ts, the same; all zero where it is null, so that null sorts first
    16      1      format version, 2
    17      1      1 if some value is a null, else 0
    18      8      schema id
    26      16     run id
    42      …      msgpack array: event_ts as a serialized google.protobuf.Timestamp, as it goes into answers, and then a
                   serialized `feast.types.Value`, or nil for a null, per field of the schema

The first 16 bytes compare as unsigned bytes like the total order `(event_ts, created_ts)`, by which the newest-wins script
decides; among equal times it may look at how the run id ends.
"""

import struct

HEADER = struct.Struct(">QQBB8s16s")
HEADER_BYTES = HEADER.size
FORMAT = 2
SIGN = 1 << 63

SAYS_NULL = b"\x98\x01\x00"
"""A Value with `null_val` set, which some writers send; it is stored as the null that it is, like one with nothing set."""

NULLS = frozenset({b"", SAYS_NULL})

DAMAGED = "a stored row is damaged; materialize its view again"
WRONG_LENGTH = "a stored row has another number of values than its schema has fields; materialize its view again"
"""What a reader says of a row that was damaged so that it still unpacks."""


def other_format(number: int) -> str:
    """What is said of a row of a format that this version does not know."""
    return f"a stored row has format {number}, this version reads {FORMAT}; materialize its view again"
