"""The interval of times that rows must lie in."""

from dataclasses import dataclass

from hindcast.offline.sources.scan import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Which rows count, in microseconds; all ends are closed."""

    start_micros: int
    end_micros: int
    future_after_micros: int

    def touches(self, span: Span) -> bool:
        """Whether rows of these times can be in it."""
        if span.least is None or span.greatest is None:
            return span.least is None
        return span.least <= self.last_micros and span.greatest >= self.start_micros

    def is_exceeded_by(self, span: Span) -> bool:
        """Whether rows of these times can be dated ahead."""
        return span.greatest is None or span.greatest > self.future_after_micros

    @property
    def last_micros(self) -> int:
        """The last time in it that is not ahead."""
        return min(self.end_micros, self.future_after_micros)
