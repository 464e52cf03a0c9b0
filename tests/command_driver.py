"""The `feast` and `hindcast` commands without their 6 s of import each time: this process imports once, and forks a child per command.

On standard input: `{"program": "feast", "run": [arguments], "repo": folder, "env": {name: value}, "output": path, "errors": path, "nice": 0, "whole": true}`,
answered by the child's process id, or `{"wait": process id}`, answered by its exit code once it has ended, and the most memory that it took, in kB. A child leads
a process group of its own, and does what the installed command does; the whole of it to the end of its interpreter.
"""

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import duckdb
from feast.cli.cli import cli

# What commands import on their way.
import hindcast.materialize.plugin
import hindcast.offline.plugin
import hindcast.online.plugin  # noqa: F401
from hindcast.cli.main import main as run_hindcast

PROGRAMS = {"feast": cli, "hindcast": run_hindcast}


def _become(order: dict) -> None:
    os.setpgid(0, 0)
    os.nice(order["nice"])
    os.chdir(order["repo"])
    os.environ.clear()
    os.environ.update(order["env"])
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = [order["program"], *order["run"]]


def _run(program: Callable[[], None], *, whole: bool) -> NoReturn:
    code: int | None = None
    try:
        program()
    except SystemExit as end:
        code = end.code
        if whole:
            raise
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking an interpreter with all of Feast apart takes longer than most commands.
    os._exit(code or 0)


def main() -> None:
    """Serve orders until standard input ends."""
    # Importing it opens a database with a thread of its own, which a child does not have, and waits for at its end.
    duckdb.default_connection().close()
    gc.freeze()  # or a child's first collection copies all that was imported
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "run" in order:
            child = os.fork()
            if child == 0:
                _become(order)
                _run(PROGRAMS[order["program"]], whole=order["whole"])
            print(child, flush=True)
        else:
            _, status, usage = os.wait4(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)


if __name__ == "__main__":
    main()
