"""What a worker counts with: plain Python numbers that hold what has not been written out yet.

An observation on the hot path is an addition; nothing of prometheus_client is in it, nor even imported in a worker.
A flush adds what has come up to the worker's files and begins again at nothing, so a worker that takes over a slot goes on
where the last one stopped, and what a kill -9 loses is what came after the last flush.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hindcast.serving.families import Family, Kind
from hindcast.serving.metric_file import MetricFile, number_key

logger = logging.getLogger(__name__)

LABEL_SETS_MAX = 1000
"""Of one metric. Names of views are as many as a registry has, and a slot's file remembers those that were renamed."""

OTHER = "_other"
"""The labels of everything beyond that."""

_COUNTERS_A_STEP = 32

Series = tuple[Family, tuple[str, ...]]
"""A metric, and a value per label of it."""


class Counter:
    """Something that grows.

    Attributes:
        amount: what has not been written out yet; add to it.
    """

    __slots__ = ("amount", "series")

    def __init__(self, series: Sequence[Series]) -> None:
        self.amount: float = 0
        self.series = series


class Histogram:
    """Observations by size; the buckets hold what has not been written out yet."""

    __slots__ = ("_bounds", "counts", "series", "total")

    def __init__(self, series: Sequence[Series]) -> None:
        """Args: series are written alike, and have the same bounds."""
        self.series = series
        self.total: float = 0
        self._bounds = series[0][0].bounds
        self.counts = [0] * (len(self._bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation: in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Instruments:
    """All counters, histograms and gauges of one worker, and its files. For the worker's own thread."""

    def __init__(self, folder: Path, *, slot: int) -> None:
        """Args: folder is where the supervisor looks; no other live process has this slot."""
        self._paths = {kind: folder / f"{kind}_{slot}.db" for kind in Kind}
        self._files: dict[Kind, MetricFile] = {}
        self._positions: dict[Series, list[int]] = {}
        self._counters: dict[tuple[Series, ...], Counter] = {}
        self._histograms: dict[tuple[Series, ...], Histogram] = {}
        self._gauges: list[tuple[Series, Callable[[], float]]] = []
        self._totals: list[tuple[Counter, Callable[[], float], float]] = []
        self._failed = False

    def counter(self, *series: Series) -> Counter:
        """The counter behind one or more series, which all say the same."""
        counter = self._counters.get(series)
        if counter is None:
            counter = self._counters[series] = Counter(series)
        return counter

    def histogram(self, *series: Series) -> Histogram:
        """The histogram behind one or more series, which all say the same."""
        histogram = self._histograms.get(series)
        if histogram is None:
            histogram = self._histograms[series] = Histogram(series)
        return histogram

    def gauge(self, family: Family, read: Callable[[], float]) -> None:
        """Ask for a number at every flush."""
        self._gauges.append(((family, ()), read))

    def total(self, family: Family, read: Callable[[], float]) -> None:
        """Ask at every flush for a number that grows from 0, and count how much it has grown."""
        self._totals.append((self.counter((family, ())), read, 0.0))

    def flush(self) -> Iterator[None]:
        """Write out what has come up since the last time, a few instruments per step: a worker answers calls between steps.

        Where that fails, it is kept for the next time; calls go on.
        """
        for at, (counter, read, seen) in enumerate(self._totals):
            total = read()
            counter.amount += total - seen
            self._totals[at] = counter, read, total
        try:
            for at, counter in enumerate(list(self._counters.values())):
                self._write_counter(counter)
                if at % _COUNTERS_A_STEP == 0:
                    yield
            for histogram in list(self._histograms.values()):
                if self._write_histogram(histogram):
                    yield
            for (family, labels), read in self._gauges:
                (position,) = self._at(family, labels)
                self._file(family).set(position, read())
        except OSError as error:
            if not self._failed:
                logger.error("metrics cannot be written out: %s", error.strerror)  # noqa: TRY400 - the reason says it all
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._positions.clear()

    def _write_counter(self, counter: Counter) -> None:
        # One that nobody has touched is shown as well, at 0: a rate needs a point to grow from.
        if not counter.amount and counter.series[0] in self._positions:
            return
        # All places first: where one cannot be made, nothing has been added to any.
        places = [(self._file(family), self._at(family, labels)) for family, labels in counter.series]
        for file, (position,) in places:
            file.add(position, counter.amount)
        counter.amount = 0

    def _write_histogram(self, histogram: Histogram) -> bool:
        if not any(histogram.counts) and histogram.series[0] in self._positions:
            return False
        places = [(self._file(family), self._at(family, labels)) for family, labels in histogram.series]
        for file, (total_at, *bucket_at) in places:
            for position, count in zip(bucket_at, histogram.counts, strict=True):
                if count:
                    file.add(position, count)
            file.add(total_at, histogram.total)
        histogram.counts = [0] * len(histogram.counts)
        histogram.total = 0
        return True

    def _file(self, family: Family) -> MetricFile:
        file = self._files.get(family.kind)
        if file is None:
            file = self._files[family.kind] = MetricFile(self._paths[family.kind])
        return file

    def _at(self, family: Family, labels: tuple[str, ...]) -> list[int]:
        """Where the numbers of one series stand: a histogram's sum and then its buckets, or the one number."""
        known = self._positions.get((family, labels))
        if known is not None:
            return known
        file = self._file(family)
        keys = _keys(family, labels)
        if keys[0] not in file and file.entries_of(family.metric) >= LABEL_SETS_MAX * len(keys):
            keys = _keys(family, (OTHER,) * len(labels))
        positions = self._positions[family, labels] = [file.position(family.metric, key) for key in keys]
        return positions


def _keys(family: Family, labels: tuple[str, ...]) -> list[str]:
    named = dict(zip(family.labels, labels, strict=True))
    if family.kind is not Kind.HISTOGRAM:
        return [number_key(family.metric, family.name, named, family.meaning)]
    bounds = [*map(str, family.bounds), "+Inf"]
    return [
        number_key(family.metric, f"{family.name}_sum", named, family.meaning),
        *(
            number_key(family.metric, f"{family.name}_bucket", {**named, "le": bound}, family.meaning)
            for bound in bounds
        ),
    ]
