"""Making files survive a power cut: what was written is synced, and so is the directory that names it.

It stands on the lowest layer because rooms that may not import each other write files that must last: parts of a source and
rows in quarantine (offline), the run ledger (materialize). It needs neither pyarrow nor deltalake.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote


def make_directory(directory: Path) -> None:
    """Make a directory that survives a power cut, and what is missing above it.

    Raises:
        OSError: it cannot be made here.
    """
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync(directory.parent)


def sync(path: Path) -> None:
    """Sync a file's content, or a directory's entries, to its disk.

    Raises:
        OSError: it is not there, or its disk failed to take it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_delta_table(table: Path, *, since: int = 0) -> int:
    """Make what a Delta table gained since its last checkpoint survive a power cut.

    delta-rs does not sync on a local disk, and a version is readable only with all versions before it. So the log's entries
    and the files that they add are synced, those of other writers too, who may have been killed before they did.

    Args:
        table: the table's folder, on this machine.
        since: a version up to which the caller has synced the table; to sync again what is synced costs 0.1 to 0.5 ms a file.
    Returns:
        The newest version, up to which all is synced now.
    Raises:
        OSError: the disk failed to take something. The table may hold the commit all the same.
    """
    log = table / "_delta_log"
    versions = {path: int(path.name[:20]) for path in log.iterdir() if path.name[:20].isdecimal()}
    newest = max(versions.values())
    checkpoint = max((version for path, version in versions.items() if path.suffix == ".parquet"), default=0)
    # A table that has fewer versions than it had is another one.
    first = max(checkpoint, since if since <= newest else 0)
    entries = [path for path, version in versions.items() if version >= first]
    added = {file for entry in entries if entry.suffix == ".json" for file in _added(entry)}
    for file in (*added, *entries, log / "_last_checkpoint"):
        # A file can have been compacted away since, by this writer or another one.
        if file.exists():
            sync(file)
    # Of a partitioned table the folders between a file and the table's own as well.
    inner = {folder for file in added for folder in file.relative_to(table).parents}
    for folder in (*(table / folder for folder in inner if (table / folder).exists()), log, table):
        sync(folder)
    return newest


def _added(entry: Path) -> Iterator[Path]:
    for line in entry.read_bytes().splitlines():
        added = json.loads(line).get("add")
        if added is not None:
            yield entry.parent.parent / unquote(added["path"])
