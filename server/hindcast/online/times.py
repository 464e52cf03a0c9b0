"""Event times as answers say them: serialized google.protobuf.Timestamps."""

from functools import lru_cache

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.errors import StoredDataError
from hindcast.online.row_format import DAMAGED

_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_800_000_000

EPOCH = b"\x08\x00"
"""1970-01-01T00:00:00Z, as a Timestamp that says its zero."""


def timestamp_bytes(micros: int) -> bytes:
    """A serialized google.protobuf.Timestamp; never empty, so that 1970 can be told from no time at all.

    Raises:
        OverflowError: outside the years 1 to 9999, which are what one can say.
    """
    if not _EARLIEST <= micros < _LATEST:
        raise OverflowError("a time outside the years 1 to 9999")
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString() or EPOCH


@lru_cache(maxsize=4096)
def timestamp_micros(time: bytes) -> int:
    """Microseconds since 1970 of a serialized google.protobuf.Timestamp, rounded down.

    Raises:
        StoredDataError: it is not one.
    """
    try:
        parsed = Timestamp.FromString(time)
    except DecodeError as error:
        raise StoredDataError(DAMAGED) from error
    return parsed.seconds * 1_000_000 + parsed.nanos // 1000
