"""A sealer in a process of its own that is killed before a step: `python sealing_driver.py LOG REPO STEP [compact]`.

STEP is the number of the step before which it kills itself; a number that is never reached lets it end. With `compact`, tables are
compacted again and again instead, until the process is killed or told to stop by its standard input's end.
"""

import os
import select
import signal
import sys
from pathlib import Path

from hindcast.errors import SealError
from hindcast.lookups import tables
from hindcast.lookups.places import TablePlaces
from hindcast.lookups.sealer import Sealer, all_tables

# Few files, so that every pass has some to compact.
tables._FILES_MAX = 2  # noqa: SLF001 - what takes a day of files otherwise
tables._CHECKPOINT_VERSIONS = 5  # noqa: SLF001


def main(log: Path, repo: Path, kill_at: int, *, compacts: bool) -> None:
    """Seal, or compact, until the step."""
    steps = 0

    def step(_name: str) -> None:
        nonlocal steps
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    if not compacts:
        Sealer(log, repo_root=repo, step=step, batch_bytes=2_000).seal()
        return
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            with tables.sealing_lock(log, seconds=5):
                for table in all_tables(TablePlaces(log), step=step):
                    table.compact()
        except SealError as error:
            sys.exit(f"compaction failed: {error}: {error.__cause__!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), compacts=sys.argv[4:] == ["compact"])
