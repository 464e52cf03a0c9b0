"""Which files make up a Delta table of sealed lookups now, read off the table's own log.

Without deltalake, which takes 70 MB and a dozen threads that no serving process should have; pyarrow is loaded where there is a
checkpoint. It reads what the sealer writes, and no other table: partitioned by `__log_date`, without deletion vectors.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from hindcast.clock import to_micros
from hindcast.errors import StoredDataError

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_ENTRY = re.compile(r"(\d{20})\.json")
_TRIES = 5
"""A log may be cleaned up while it is read: once in some hours, when its checkpoint is there already."""
_MILLISECOND = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """One Parquet file of a table.

    Attributes:
        first_micros, last_micros: no row was served before the one or after the other; None where the log does not say.
    """

    path: Path
    first_micros: int | None
    last_micros: int | None


def table_files(table: Path) -> list[TableFile]:
    """The files of a table as it is now; none where there is no table.

    Raises:
        StoredDataError: its log cannot be read.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            added = _added(table / "_delta_log")
            return [_file_of(table, name, stats) for name, stats in added.items()]
        except FileNotFoundError as error:
            if attempt == _TRIES:
                raise _unreadable(table) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            # pyarrow's errors and msgspec's are ValueErrors.
            raise _unreadable(table) from error
    raise AssertionError  # the last attempt has raised


def _unreadable(table: Path) -> StoredDataError:
    return StoredDataError(f"the log of the table {table} cannot be read; restore it from a copy")


def _added(log: Path) -> dict[str, str | None]:
    """The paths that were added and not removed since, each with its statistics."""
    try:
        names = sorted(path.name for path in log.iterdir())
    except FileNotFoundError:
        return {}
    checkpoint = max((match[0] for match in map(_CHECKPOINT.fullmatch, names) if match), default=None)
    files = {} if checkpoint is None else dict(_of_checkpoint(log / checkpoint))
    first = 0 if checkpoint is None else int(checkpoint[:20]) + 1
    entries = [name for name in names if _ENTRY.fullmatch(name) and int(name[:20]) >= first]
    if [int(name[:20]) for name in entries] != list(range(first, first + len(entries))):
        # They were removed while the folder was listed, and their checkpoint is not in the list.
        raise FileNotFoundError(str(log))
    for name in entries:
        content = (log / name).read_bytes()
        if not content and name == entries[-1]:
            break  # a power cut; its segments are still there (tables.py)
        for line in content.splitlines():
            action: Mapping[str, Any] = msgspec.json.decode(line)
            if "add" in action:
                files[action["add"]["path"]] = action["add"].get("stats")
            elif "remove" in action:
                files.pop(action["remove"]["path"], None)
    return files


def _of_checkpoint(path: Path) -> Iterator[tuple[str, str | None]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - of which a young table has no need

    with pq.ParquetFile(path) as file:
        added = file.read(columns=["add.path", "add.stats"]).column("add")
    for row in added.to_pylist():
        if row is not None and row["path"] is not None:
            yield row["path"], row["stats"]


def _file_of(table: Path, name: str, stats: str | None) -> TableFile:
    told: Mapping[str, Any] = msgspec.json.decode(stats) if stats else {}
    first, last = (told.get(bound, {}).get("served_at") for bound in ("minValues", "maxValues"))
    return TableFile(
        path=table / unquote(name),
        first_micros=None if first is None else to_micros(datetime.fromisoformat(first)),
        # Delta's bounds of times are cut off after the milliseconds.
        last_micros=None if last is None else to_micros(datetime.fromisoformat(last)) + _MILLISECOND - 1,
    )
