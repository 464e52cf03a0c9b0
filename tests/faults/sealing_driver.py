"""Seals and compacts in processes that are killed before a step, each forked from this one, which has all imports and has used none.

A line of JSON on its standard input begins one: `log`, `repo`, `compacts`, and before which step it kills itself: `step`, its name, and
`occurrence`, 0 for the first. It answers with a line: whether it was killed, and what it said if it failed. One that compacts does so
again and again, until the next line comes.
"""

import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from hindcast.lookups import delta_log, parts_folder
from hindcast.lookups.places import TablePlaces
from hindcast.lookups.sealer import Sealer, all_tables
from hindcast.lookups.tables import sealing_lock


def run(job: dict) -> None:
    """Do one job, in a process of its own."""
    # So that every pass has something to compact, which takes a day of files otherwise.
    delta_log.FILES_MAX = parts_folder.FILES_MAX = 1
    delta_log._CHECKPOINT_VERSIONS = 5
    log, left = Path(job["log"]), job["occurrence"]

    def step(name: str) -> None:
        nonlocal left
        if name == job["step"]:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    if not job["compacts"]:
        Sealer(log, repo_root=Path(job["repo"]), step=step, batch_bytes=4_000).seal()
        return
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        with sealing_lock(log, seconds=30):
            for table in all_tables(TablePlaces(log), step=step):
                table.compact()


def main() -> None:
    """Answer one line after the other."""
    for line in iter(sys.stdin.buffer.raw.readline, b""):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                run(json.loads(line))
            except BaseException:  # noqa: BLE001 - whatever it is, the test is told
                os.write(write, traceback.format_exc().encode()[-4_000:])
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as said:
            failure = said.read().decode()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status), "failure": failure}), flush=True)


if __name__ == "__main__":
    main()
