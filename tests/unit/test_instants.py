"""Times between units: what is finer than a unit is cut off, before 1970 too."""

import pyarrow as pa
import pytest

from hindcast.offline.sources.instants import cut_to


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", [-1, 0, None, 1]), ("ms", [-1, 0, None, 1_999]), ("us", [-1, 0, None, 1_999_999])]
)
def test_finer_digits_are_cut_off(unit, expected):
    """Nanoseconds become the unit's number that is not later, and nulls stay."""
    times = pa.array([-1, 1, None, 1_999_999_999], pa.timestamp("ns"))

    assert expected == cut_to(times, pa.timestamp(unit, "UTC")).cast(pa.int64()).to_pylist()


def test_a_coarser_time_is_the_same_instant():
    """Seconds as nanoseconds lose nothing, and the zone is the target's."""
    found = cut_to(pa.array([-1, None], pa.timestamp("s")), pa.timestamp("ns", "Europe/Berlin"))

    assert ([-1_000_000_000, None], "Europe/Berlin") == (found.cast(pa.int64()).to_pylist(), found.type.tz)
    with pytest.raises(pa.ArrowInvalid):
        cut_to(pa.array([2**40], pa.timestamp("s")), pa.timestamp("ns"))
