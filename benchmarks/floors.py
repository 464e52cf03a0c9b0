"""Floors: what a figure must reach to be what was promised. One that is not met is said, and is no failure of the run."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Floor:
    """A promise, and the figure that was measured.

    Attributes:
        at_least: the figure must not be below the limit; else it must be below it.
    """

    name: str
    figure: float
    limit: float
    unit: str
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the figure keeps the promise."""
        return self.figure >= self.limit if self.at_least else self.figure < self.limit

    def __str__(self) -> str:
        asked = "at least" if self.at_least else "under"
        kept = "met" if self.met else "NOT MET"
        return f"{kept:<8}{self.name}: {self.figure:.2f} {self.unit} ({asked} {self.limit:g})"

    def figures(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "name": self.name,
            "figure": self.figure,
            "limit": self.limit,
            "unit": self.unit,
            "at_least": self.at_least,
            "met": self.met,
        }
