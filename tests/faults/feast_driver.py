"""The `feast` and `hindcast` commands without their 6 s of import each time: this process imports once, and forks a child per command.

On standard input: `{"program": "feast", "run": [arguments], "repo": folder, "output": path, "errors": path, "nice": 0}`, answered by the child's process id,
or `{"wait": process id}`, answered by its exit code once it has ended, and the most memory that it took, in kB. A child leads a process group of its own, and does
what the installed command does, to the end of its interpreter.
"""

import json
import os
import sys

import duckdb
from feast.cli.cli import cli as feast_cli

# What a run imports on its way.
from hindcast.cli.main import cli as hindcast_cli

PROGRAMS = {"feast": feast_cli, "hindcast": hindcast_cli}


def _become(order: dict) -> None:
    os.setpgid(0, 0)
    os.nice(order["nice"])
    os.chdir(order["repo"])
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = [order["program"], *order["run"]]


def main() -> None:
    """Serve orders until standard input ends."""
    # Importing it opens a database with a thread of its own, which a child does not have, and waits for at its end.
    duckdb.default_connection().close()
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "run" in order:
            child = os.fork()
            if child == 0:
                _become(order)
                PROGRAMS[order["program"]](order["run"], prog_name=order["program"])
            print(child, flush=True)
        else:
            _, status, usage = os.wait4(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)


if __name__ == "__main__":
    main()
