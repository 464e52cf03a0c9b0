"""Seal the closed segments of a log, once, on one core; a script of `apart.py`. Its arguments are the log's directory and the repo."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from hindcast.lookups.sealer import Sealer
from usage import measured


def main() -> None:
    """Wait for a line, seal, and print what was done and what it took."""
    log_directory, repo = map(Path, sys.argv[1:])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sealer = Sealer(log_directory, repo_root=repo)
    print("ready", flush=True)
    sys.stdin.readline()
    done, used = measured(sealer.seal)
    print(json.dumps({**used, **asdict(done)}), flush=True)


if __name__ == "__main__":
    main()
