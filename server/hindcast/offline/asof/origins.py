"""Where the values of a point-in-time read came from: for each row of the frame the file and row of a source, and its times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hindcast.offline.asof.merge import NONE, Newest
from hindcast.offline.sources.objects import ObjectPin
from hindcast.offline.sources.scan import SourceScan
from hindcast.offline.sources.source import FilePin


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """For each of n rows of a frame the source's row that answered it.

    Attributes:
        pins: of the files that `files` counts.
        files: number of the file in `pins`, -1 for none.
        rows: number of the row in its file, from 0.
        events, created: microseconds; of a row without a created time `hindcast.offline.asof.merge.NO_TIME`.
    """

    pins: Sequence[FilePin | ObjectPin]
    files: np.ndarray
    rows: np.ndarray
    events: np.ndarray
    created: np.ndarray

    @classmethod
    def of(cls, scan: SourceScan, found: Newest) -> "Origins":
        """The origins of what was found in a source."""
        positions = found.positions
        numbers: dict[Path | str, int] = {}
        pins: list[FilePin | ObjectPin] = []
        for group in scan.groups:
            if str(group.file.pin.path) not in numbers:
                numbers[str(group.file.pin.path)] = len(pins)
                pins.append(group.file.pin)
        files: np.ndarray = np.full(len(positions), NONE, np.int32)
        rows: np.ndarray = np.zeros(len(positions), np.int64)
        there = np.flatnonzero(positions >= 0)
        if len(there):
            first = np.array([group.first_position for group in scan.groups], np.int64)
            first_row = np.array([group.first_row for group in scan.groups], np.int64)
            file = np.array([numbers[str(group.file.pin.path)] for group in scan.groups], np.int32)
            at = np.searchsorted(first, positions[there], "right") - 1
            files[there] = file[at]
            rows[there] = positions[there] - first[at] + first_row[at]
        return cls(pins=pins, files=files, rows=rows, events=found.events, created=found.created)
