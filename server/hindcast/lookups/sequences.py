"""Sets of a writer's sequences, kept as ranges: what is where is proven by adding and taking away."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sequences:
    """A set of sequences.

    Attributes:
        ranges: first and last of each run, in order, with a hole at least between two.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "Sequences":
        """The set of all that is in one of these ranges, which may overlap; one that ends before it begins has nothing."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if last < first:
                continue
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], last))
            else:
                joined.append((first, last))
        return cls(tuple(joined))

    def __len__(self) -> int:
        """How many there are."""
        return sum(last - first + 1 for first, last in self.ranges)

    def __contains__(self, sequence: int) -> bool:
        """Whether one is there."""
        return any(first <= sequence <= last for first, last in self.ranges)

    def __or__(self, other: "Sequences") -> "Sequences":
        """Those in one of the two."""
        return Sequences.of((*self.ranges, *other.ranges))

    def __sub__(self, other: "Sequences") -> "Sequences":
        """Those that are not in the other."""
        return Sequences(tuple(self._without(other)))

    def _without(self, other: "Sequences") -> Iterator[tuple[int, int]]:
        taken = iter(other.ranges)
        away = next(taken, None)
        for begin, last in self.ranges:
            first = begin
            while away is not None and away[1] < first:
                away = next(taken, None)
            while away is not None and away[0] <= last:
                if first < away[0]:
                    yield first, away[0] - 1
                first = away[1] + 1
                if first > last:
                    break
                away = next(taken, None)
            if first <= last:
                yield first, last
