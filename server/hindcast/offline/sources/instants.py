"""Times of a source, whatever their Arrow type, as microseconds since 1970 in UTC. Times without a zone are UTC."""

import numpy as np
import pyarrow as pa

from hindcast.errors import SourceError

MICROS_MIN, MICROS_MAX = -(2**63) + 1, 2**63 - 1
_DAY_MICROS = 86_400_000_000
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UTC_MICROS = pa.timestamp("us", tz="UTC")


def check_time_type(kind: pa.DataType, *, column: str, where: str) -> None:
    """Refuse what is no time.

    Raises:
        SourceError: the type is no timestamp and no date.
    """
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return
    raise SourceError(
        f"column {column!r} of {where} is {kind}, which is no time; write it as a timestamp (with a zone, or without one in UTC) "
        "or a date"
    )


def to_micros(array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Microseconds of n times, rounded down, and which of them are there (None: all of them).

    Args:
        array: timestamps of any unit, or dates, which are midnight.
    Returns:
        n int64, any number where the time is null, and n bools. Times outside of what 64 bits hold are the nearest that they do.
    """
    kind = array.type
    valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    stored = array.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    numbers = (stored.fill_null(0) if valid is not None else stored).to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Rounded down, before 1970 as well; a cast of Arrow's rounds towards 1970.
        return numbers // 1_000, valid
    factor = _DAY_MICROS if pa.types.is_date32(kind) else _PER_UNIT["ms" if pa.types.is_date64(kind) else kind.unit]
    bound = MICROS_MAX // factor
    if factor == 1 and numbers.min(initial=0) >= -bound:
        return numbers, valid
    return np.clip(numbers.astype(np.int64, copy=False), -bound, bound) * factor, valid


def as_instants(array: pa.Array) -> pa.Array:
    """Times as `timestamp[us, tz=UTC]`, rounded down; nulls stay."""
    micros, valid = to_micros(array)
    return pa.array(micros, mask=None if valid is None else ~valid).cast(_UTC_MICROS)


def cut_to(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times as timestamps of another type: what is finer than its unit is cut off (rounded down), and a time without a zone is UTC.

    Args:
        array: timestamps.
        kind: a timestamp type.
    Raises:
        pa.ArrowInvalid: a time is outside of what the type holds.
    """
    if array.type.unit == kind.unit:
        return array.cast(kind)
    factor = _UNITS[array.type.unit] // _UNITS[kind.unit]
    if not factor:
        return array.cast(kind)
    numbers = array.cast(pa.int64())
    cut = numbers.fill_null(0).to_numpy(zero_copy_only=False) // factor
    mask = None if array.null_count == 0 else array.is_null().to_numpy(zero_copy_only=False)
    return pa.array(cut, mask=mask).cast(kind)
