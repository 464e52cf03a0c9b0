"""What a point-in-time read would read and hold, said before it runs. The footers of the files and the frame's keys and times are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hindcast.offline.asof.narrow import Narrow
from hindcast.offline.asof.reading import AsOfQuery, AsOfView, Question
from hindcast.offline.asof.wide import row_bytes
from hindcast.offline.sources.scan import RowGroup, SourceScan, open_file
from hindcast.offline.sources.source import files_of

_NARROW_ROW_BYTES = 64
"""What DuckDB holds for a row that it sorts: id, two times and a position, as key and as payload."""
_ASKED_ROW_BYTES = 150
"""Of a row of the frame while rows are found: id, order, time, and what was found for it so far."""
_FOUND_ROW_BYTES = 25
"""Of a row of the frame for each view: where its row is in the source, among those that are fetched, and in the fetched table."""
_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReading:
    """What is read for one view.

    Attributes:
        view: its name.
        source: its path, as the repo writes it.
        files, files_read: of the source, and those of them that can hold rows of the times asked about.
        rows, rows_read: the same for rows; of a Delta table those of the files that its log does not rule out. Those read are read
            narrow: keys and times.
        narrow_bytes: of the files' columns that find the rows.
        rows_fetched_max: at most so many rows' values are fetched.
        wide_bytes_max: of the files' columns that hold the values; fewer are read where the rows lie in few row groups.
    """

    view: str
    source: str
    files: int
    files_read: int
    rows: int
    rows_read: int
    narrow_bytes: int
    rows_fetched_max: int
    wide_bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a read would take; its text is for people.

    Attributes:
        frame_rows: rows in and rows out.
        peak_bytes: about what is held at most besides the libraries themselves, a caller's own frame and what a caller keeps of the answer.
        spills: whether some of it is expected not to fit under `memory_bytes`, and goes to disk.
    """

    frame_rows: int
    views: Sequence[ViewReading]
    memory_bytes: int
    peak_bytes: int
    spills: bool

    def __str__(self) -> str:
        """A table, one line for a view."""
        heads = ("view", "files", "rows looked at", "keys and times", "rows fetched", "values", "source")
        lines = [
            (
                one.view,
                f"{one.files_read:,} of {one.files:,}",
                f"{one.rows_read:,} of {one.rows:,}",
                _size(one.narrow_bytes),
                f"up to {one.rows_fetched_max:,}",
                f"up to {_size(one.wide_bytes_max)}",
                one.source,
            )
            for one in self.views
        ]
        widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (heads, *lines)
        ]
        spilled = "; what does not fit is spilled" if self.spills else ""
        held = f"{self.frame_rows:,} rows; about {_size(self.peak_bytes)} of memory at most, of {_size(self.memory_bytes)} allowed{spilled}"
        return "\n".join([*table, held])


def explain(query: AsOfQuery) -> Explanation:
    """What `read_as_of` of the same query would do.

    Raises:
        InvalidArgument, SourceError: as `read_as_of`, for what footers and the frame show.
    """
    question = Question(query)
    views = []
    sorted_bytes = 0
    value_bytes = 0.0
    row_width = 0.0
    for view in query.views:
        scan = question.scan(view)
        narrow = question.narrow(view, scan)
        reading = _reading(view, scan, narrow, rows=query.frame.rows)
        widths = sum(row_bytes(scan, list(dict.fromkeys(view.fields.values()))))
        views.append(reading)
        sorted_bytes = max(sorted_bytes, reading.rows_read * _NARROW_ROW_BYTES)
        value_bytes += reading.rows_fetched_max * widths
        row_width += widths
    half = query.limits.memory_bytes // 2
    rows = query.frame.rows
    found_bytes = rows * _FOUND_ROW_BYTES * len(views)
    finding = rows * _ASKED_ROW_BYTES + min(sorted_bytes, half)
    fetching = int(min(value_bytes, half) + min(rows, _BATCH_ROWS) * row_width)
    return Explanation(
        frame_rows=rows,
        views=views,
        memory_bytes=query.limits.memory_bytes,
        peak_bytes=found_bytes + max(finding, fetching),
        spills=sorted_bytes > half or value_bytes > half,
    )


def _reading(view: AsOfView, scan: SourceScan, narrow: Narrow, *, rows: int) -> ViewReading:
    times = [view.event_column] if view.created_column is None else [view.event_column, view.created_column]
    rows_read = sum(group.rows for group in narrow.groups)
    asks = bool(np.any(narrow.latest >= narrow.earliest))
    return ViewReading(
        view=view.name,
        source=scan.source.name,
        files=len(files_of(view.source).files),
        files_read=len({id(group.file) for group in narrow.groups}),
        rows=scan.rows,
        rows_read=rows_read,
        narrow_bytes=_stored_bytes(narrow.groups, [*view.keys, *times]),
        rows_fetched_max=min(rows, rows_read) if asks else 0,
        wide_bytes_max=_stored_bytes(narrow.groups, list(view.fields.values())),
    )


def _stored_bytes(groups: Sequence[RowGroup], columns: Sequence[str]) -> int:
    """Of some columns in the files, as they are compressed there."""
    total = 0
    numbers: dict[int, list[RowGroup]] = {}
    for group in groups:
        numbers.setdefault(id(group.file), []).append(group)
    for of_file in numbers.values():
        with open_file(of_file[0].file.pin) as parquet:
            for group in of_file:
                meta = parquet.metadata.row_group(group.number)
                for at in range(meta.num_columns):
                    path = meta.column(at).path_in_schema
                    if any(path == column or path.startswith(f"{column}.") for column in columns):
                        total += meta.column(at).total_compressed_size
    return total


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1_000
    raise AssertionError
