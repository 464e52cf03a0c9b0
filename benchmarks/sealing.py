"""Seal the closed segments of a log, once, on one core; a script of `apart.py`. Its argument is the log's directory."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from hindcast.lookups.sealer import Sealer
from usage import measured


def main() -> None:
    """Wait for a line, seal, and print what was done and what it took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sealer = Sealer(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    done, used = measured(sealer.seal)
    print(json.dumps({**used, **asdict(done)}), flush=True)


if __name__ == "__main__":
    main()
