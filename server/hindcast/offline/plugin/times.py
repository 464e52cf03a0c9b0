"""Times as callers give them."""

from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import pandas as pd

from hindcast.clock import to_micros
from hindcast.errors import InvalidArgument


def given_micros(argument: str, given: Any) -> int:
    """Microseconds since 1970 of a time, cut down to them; without a zone it is UTC, and a date is midnight.

    Args:
        argument: what a message calls it.
        given: a datetime, pandas' or NumPy's form of one, or a date.
    Raises:
        InvalidArgument: it is none of these, or no time at all (NaT).
    """
    if isinstance(given, np.datetime64) and not np.isnat(given):
        return int(given.astype("datetime64[us]").astype(np.int64))
    if given is not pd.NaT and not isinstance(given, np.datetime64):
        if isinstance(given, pd.Timestamp):
            naive = given if given.tzinfo is None else given.tz_convert("UTC").tz_localize(None)
            return int(naive.to_datetime64().astype("datetime64[us]").astype(np.int64))
        if isinstance(given, datetime):
            return to_micros(given)
        if isinstance(given, date):
            return to_micros(datetime.combine(given, time(), UTC))
    said = repr(given) if isinstance(given, str) else "no time (NaT)" if _is_nat(given) else f"a {type(given).__name__}"
    raise InvalidArgument.at(argument, f"is {said[:100]}; give a datetime (without a zone it is UTC) or a date")


def is_iso(text: str) -> bool:
    """Whether a text is a time in ISO 8601."""
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def _is_nat(given: Any) -> bool:
    return given is pd.NaT or isinstance(given, np.datetime64)
