"""Event times as answers say them: serialized google.protobuf.Timestamps."""

from functools import lru_cache

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.errors import StoredDataError
from hindcast.online.row_format import DAMAGED

EARLIEST_MICROS, END_MICROS = -62_135_596_800_000_000, 253_402_300_800_000_000
"""The years 1 to 9999, which are what a google.protobuf.Timestamp can say; the end is the first time after them."""

EPOCH = b"\x08\x00"
"""1970-01-01T00:00:00Z, as a Timestamp that says its zero."""


def timestamp_bytes(micros: int) -> bytes:
    """A serialized google.protobuf.Timestamp; never empty, so that 1970 can be told from no time at all.

    Raises:
        OverflowError: outside the years 1 to 9999, which are what one can say.
    """
    if not EARLIEST_MICROS <= micros < END_MICROS:
        raise OverflowError("a time outside the years 1 to 9999")
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString() or EPOCH


@lru_cache(maxsize=4096)
def timestamp_micros(time: bytes) -> int:
    """Microseconds since 1970 of a serialized google.protobuf.Timestamp, rounded down.

    Raises:
        StoredDataError: it is not one, or outside the years 1 to 9999.
    """
    try:
        parsed = Timestamp.FromString(time)
    except DecodeError as error:
        raise StoredDataError(DAMAGED) from error
    micros = parsed.seconds * 1_000_000 + parsed.nanos // 1000
    if not EARLIEST_MICROS <= micros < END_MICROS:
        raise StoredDataError(DAMAGED)
    return micros
