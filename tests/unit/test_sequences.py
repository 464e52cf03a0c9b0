"""Sets of sequences are sets of numbers, kept as ranges."""

from hypothesis import given
from hypothesis import strategies as st

from hindcast.lookups.sequences import Sequences

RANGES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=8)


def numbers(ranges) -> set[int]:
    """What is in one of the ranges."""
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES)
def test_a_set_has_what_its_ranges_have(ranges):
    """Whatever overlaps, follows or is empty, each number is there once, in as few ranges as can be."""
    found = Sequences.of(ranges)

    assert numbers(ranges) == numbers(found.ranges)
    assert len(numbers(ranges)) == len(found)
    assert all(last + 1 < first for (_, last), (first, _) in zip(found.ranges, found.ranges[1:], strict=False))
    assert [number in numbers(ranges) for number in range(32)] == [number in found for number in range(32)]


@given(RANGES, RANGES)
def test_sets_are_added_and_taken_away(one, other):
    """As sets of numbers are, and in the form that a set has."""
    assert Sequences.of((*one, *other)) == Sequences.of(one) | Sequences.of(other)
    left = Sequences.of(one) - Sequences.of(other)
    assert numbers(one) - numbers(other) == numbers(left.ranges)
    assert Sequences.of(left.ranges) == left
