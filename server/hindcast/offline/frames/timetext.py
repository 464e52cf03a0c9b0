"""Times that are written out, in ISO 8601, as microseconds since 1970 in UTC."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import InvalidArgument
from hindcast.offline.sources.instants import to_micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SHOWN = 60
"""Characters of a text that is no time, in the message."""


def text_micros(texts: pa.Array, *, column: str, first_row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Times out of text; one without a zone is UTC, one without a time of day is midnight, and digits after the sixth are cut off.

    Args:
        texts: n of them; large or not.
        column, first_row: for the message.
    Returns:
        n int64, any number where there is no text, and n bools, or None: all are there.
    Raises:
        InvalidArgument: one is no time.
    """
    for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        # Arrow takes 0.2 us a text, but only where all have a zone or none has, and none has a seventh digit.
        try:
            return to_micros(texts.cast(kind))
        except pa.ArrowInvalid:
            continue
    coded = texts.dictionary_encode()
    entries = coded.dictionary.to_pylist()
    times: list[int] = []
    for number, text in enumerate(entries):
        try:
            times.append(micros_of(datetime.fromisoformat(text)))
        except ValueError as error:
            row = first_row + int(pc.index(coded.indices, number).as_py())
            raise no_time(text, column=column, row=row) from error
    return to_micros(pa.array(times, pa.int64()).take(coded.indices).cast(pa.timestamp("us")))


def micros_of(time: date) -> int:
    """Microseconds of a time, or of a date's midnight; without a zone it is UTC."""
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return (aware - _EPOCH) // _MICROSECOND


def no_time(text: str, *, column: str, row: int) -> InvalidArgument:
    """The error for a text that is none."""
    return InvalidArgument.at(
        "entity_df",
        f"has {text[:_SHOWN]!r} in column {column!r}, row {row}, which is no time; write times in ISO 8601, as in 2026-01-31T12:00:00Z",
    )
